"""Claim: five patterns of 3x5x5, taken out of a photograph, are found again by cross-correlation, bias and sigmoid: of
500, in 100 choices of five, at least 99 % answer loudest at their very places. Gradient descent learns five back from
nothing but the maps of their responses: to a cosine similarity above 0.999, and their biases to within 0.05.

The search is Z_k[i,j] = sum_{c,a,b} X[c, i+a, j+b] · w_k[c,a,b] + b_k and Y = sigmoid(Z); in this library's order of
axes, one kernel (5, 5, 3, 5). X is the photograph at half size, whitened: neighbouring pixels and colours of a
photograph go together so much that what is bright enough answers any pattern, and a linear filter takes that away. The
places are drawn among the hundredth of them with the highest contrast. w_k is the patch that stands there, made to have
mean 0 and to answer itself with 8; b_k = −4 puts the middle of the sigmoid half way.

    python -m experiments.patterns
    python -m experiments.patterns --photograph flower
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from matplotlib.patches import Rectangle

from experiments import figures
from experiments.claim import Result, at_least, command
from experiments.data import photograph
from experiments.figures import plt
from jaxconv import avg_pool, conv, conv_patches, max_pool, sigmoid, sigmoid_binary_cross_entropy
from jaxconv.training import make_multi_step, make_train_step, new_state, train

SIZE = 5
PATTERNS = 5
ANSWER = 8.0
"""What a pattern answers itself with, before the bias of minus half of it."""
APART = 16
"""At least so many pixels between two places, along one axis or the other."""
CROP = 48
"""The learner sees one such square of the picture per step."""
NEEDED = {"cosine": 0.999, "bias": 0.05}
COLOURS = ("tab:red", "tab:orange", "tab:green", "tab:blue", "tab:purple")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Search a photograph for five patterns, and learn them back from their responses."""

    photograph: str = "china"
    """Which of scikit-learn's photographs: china (a palace) or flower."""
    searches: int = 100
    """How many choices of five patterns are searched for."""
    seeds: int = 3
    """How many of these choices are learned, each from another random start."""
    steps: int = 600
    """Steps of gradient descent."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


class Picture(NamedTuple):
    """What is searched."""

    photo: np.ndarray
    """(H, W, 3), in [0, 1], to be looked at."""
    x: np.ndarray
    """(H, W, 3), whitened."""


class Patterns(NamedTuple):
    """Five patterns, and where they were taken from."""

    places: np.ndarray
    """(5, 2): row and column of their upper left corners."""
    w: jax.Array
    """(5, 5, 3, 5)."""
    b: jax.Array
    """(5,)."""


class Learned(NamedTuple):
    """What one run of gradient descent did, step by step."""

    w: np.ndarray
    """(steps + 1, 5, 5, 3, 5): at the start and after every step."""
    b: np.ndarray
    """(steps + 1, 5)."""
    error: np.ndarray
    """(steps,): the root mean square error of the responses to the step's crop."""

    def cosines(self, patterns: Patterns) -> np.ndarray:
        """(steps + 1, 5): the cosine similarity of every pattern with the true one."""
        ours, true = self.w.reshape(len(self.w), -1, PATTERNS), np.asarray(patterns.w).reshape(-1, PATTERNS)
        return (ours * true).sum(1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(true, axis=0))


# --- The picture and its patterns ---


def whitening_filter(x: jax.Array, variance: float = 1e-5) -> jax.Array:
    """A kernel (5, 5, 3, 3) after which neighbouring pixels and the three colours are all but uncorrelated.

    It is the middle of the symmetric C^(−½), C the covariance of the picture's patches plus so much variance of noise.
    """
    patches = np.asarray(conv_patches(x, (SIZE, SIZE), strides=2)).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(patches.reshape(-1, patches.shape[-1]).T))
    whitening = (vectors / np.sqrt(values + variance)) @ vectors.T
    middle = SIZE * SIZE // 2 * 3
    return jnp.asarray(whitening[:, middle : middle + 3].reshape(SIZE, SIZE, 3, 3), x.dtype)


def picture(name: str) -> Picture:
    """The photograph at half size, and whitened; cut to where the whitening filter fits."""
    photo = avg_pool(jnp.asarray(photograph(name)), (2, 2))
    x = conv(photo, whitening_filter(photo))
    cut = SIZE // 2
    return Picture(np.asarray(photo)[cut:-cut, cut:-cut], np.asarray(x - x.mean((0, 1), keepdims=True)))


def patches_of(x: np.ndarray) -> np.ndarray:
    """All patches of mean 0, (H − 4, W − 4, 75)."""
    patches = np.asarray(conv_patches(jnp.asarray(x), (SIZE, SIZE)))
    return patches - patches.mean(-1, keepdims=True)


def choose(patches: np.ndarray, seed: int) -> np.ndarray:
    """Five places, (5, 2), at random among the hundredth of highest contrast, and apart from each other."""
    contrast = np.linalg.norm(patches, axis=-1)
    candidates = np.argwhere(contrast > np.quantile(contrast, 0.99))
    places: list[np.ndarray] = []
    for place in np.random.default_rng(seed).permutation(candidates):
        if all(np.abs(place - other).max() >= APART for other in places):
            places.append(place)
        if len(places) == PATTERNS:
            break
    return np.array(places)


def patterns_at(patches: np.ndarray, places: np.ndarray) -> Patterns:
    """The patches at these places as kernels that answer themselves with ANSWER, and their biases."""
    taken = patches[places[:, 0], places[:, 1]]
    w = ANSWER * taken / (taken**2).sum(-1, keepdims=True)
    b = np.full(PATTERNS, -ANSWER / 2, np.float32)
    return Patterns(places, jnp.asarray(w.T.reshape(SIZE, SIZE, 3, PATTERNS)), jnp.asarray(b))


# --- Search ---


@jax.jit
def search(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """Y = sigmoid(Z), (H − 4, W − 4, 5)."""
    return sigmoid(conv(x, w, b))


def found_at(responses: np.ndarray) -> np.ndarray:
    """(5, 2): where each pattern is answered most; −1 where that is more than one place."""
    peaks = responses.max((0, 1))
    at = [np.argwhere(responses[..., k] == peak) for k, peak in enumerate(peaks)]
    return np.array([places[0] if len(places) == 1 else (-1, -1) for places in at])


# --- Learning ---


def response_loss(params, batch, key):
    """Cross-entropy between responses that are known and the learner's, with what the figures need beside it."""
    del key
    x, y = batch
    z = conv(x, *params)
    error = jnp.sqrt(((sigmoid(z) - y) ** 2).mean())
    return sigmoid_binary_cross_entropy(z, y).mean(), {"w": params[0], "b": params[1], "error": error}


def learner(steps: int):
    """(optimizer, multi_step): Adam with a rate that falls to zero as a cosine."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, steps))
    return optimizer, make_multi_step(make_train_step(response_loss, optimizer))


def learn(x: np.ndarray, responses: np.ndarray, steps: int, seed: int, optimizer, multi_step) -> Learned:
    """Patterns and biases from a picture and its responses alone, from a random start."""
    corners = np.random.default_rng(seed).integers(0, np.array(x.shape[:2]) - CROP + 1, (steps, 2))
    out = CROP - SIZE + 1
    crops = np.stack([x[i : i + CROP, j : j + CROP] for i, j in corners])
    answers = np.stack([responses[i : i + out, j : j + out] for i, j in corners])
    w = 0.05 * jax.random.normal(jax.random.key(seed), (SIZE, SIZE, 3, PATTERNS), x.dtype)
    state = new_state((w, jnp.zeros(PATTERNS, x.dtype)), optimizer, jax.random.key(seed))
    state, history = train(multi_step, state, [(crops, answers)])
    last_w, last_b = map(np.asarray, state.params)
    return Learned(np.append(history["w"], last_w[None], 0), np.append(history["b"], last_b[None], 0), history["error"])


def check(settings: Settings) -> None:
    """Raises UsageError for the first setting that cannot be."""
    at_least(settings, seeds=1, searches=settings.seeds, steps=10)


def run(settings: Settings, folder: Path) -> Result:
    """Searches for every choice of patterns, learns some of them back, draws."""
    check(settings)
    photo, x = picture(settings.photograph)
    patches, raw_patches = patches_of(x), patches_of(photo)
    chosen = [patterns_at(patches, choose(patches, seed)) for seed in range(settings.searches)]
    answered = [np.asarray(search(x, patterns.w, patterns.b)) for patterns in chosen]
    away = [np.abs(found_at(y) - patterns.places).max(-1) for y, patterns in zip(answered, chosen, strict=True)]
    found = [int((distances == 0).sum()) for distances in away]
    raw = [patterns_at(raw_patches, patterns.places) for patterns in chosen]
    raw_found = [int((found_at(np.asarray(search(photo, *one[1:]))) == one.places).all(-1).sum()) for one in raw]

    optimizer, multi_step = learner(settings.steps)
    learned = [learn(x, answered[seed], settings.steps, seed, optimizer, multi_step) for seed in range(settings.seeds)]
    cosines = [one.cosines(patterns) for one, patterns in zip(learned, chosen, strict=False)]
    biases = [np.abs(one.b[-1] - patterns.b) for one, patterns in zip(learned, chosen, strict=False)]

    draw_search(photo, chosen[0], answered[0], folder / "search.png")
    draw_learned(learned[0].w, chosen[0], cosines[0], folder / "learned.png")
    draw_curves(learned, cosines, folder / "curves.png")
    return Result(
        holds=sum(found) >= 0.99 * PATTERNS * settings.searches
        and min(cosine[-1].min() for cosine in cosines) > NEEDED["cosine"]
        and max(bias.max() for bias in biases) < NEEDED["bias"],
        numbers={
            "patterns searched for": PATTERNS * settings.searches,
            "found at their very place": sum(found),
            "furthest from its place, px": int(np.max(away)),
            "places that answer with more than 0.5, per pattern": [
                float((y > 0.5).sum((0, 1)).mean()) for y in answered
            ],
            "found in the photograph that is not whitened": sum(raw_found),
            "steps of learning": settings.steps,
            "cosine similarity at the start, worst of five": [float(cosine[0].min()) for cosine in cosines],
            "cosine similarity learned, worst of five": [float(cosine[-1].min()) for cosine in cosines],
            "error of the bias (−4), worst of five": [float(bias.max()) for bias in biases],
            "error of the responses (root mean square), first step": [float(one.error[0]) for one in learned],
            "error of the responses, last step": [float(one.error[-1]) for one in learned],
        },
        figures={
            "search.png": "Five patterns, and where a photograph answers each: most at its own place (dots enlarged)",
            "learned.png": "The five patterns while they are learned from their responses, and the true ones below",
            "curves.png": "How far the learned patterns and their responses are from the true ones, for every seed",
        },
        seeds=settings.seeds,
        remark=f"Without the whitening {sum(raw_found)} of {PATTERNS * settings.searches} patterns are found: others "
        "answer louder than the pattern itself. The loudest answer tells the place; more than 0.5 is answered "
        "elsewhere, too.",
    )


# --- Drawn ---


def as_colours(w: np.ndarray) -> np.ndarray:
    """A pattern (5, 5, 3) as a picture: 0 is grey."""
    return 0.5 + 0.5 * w / np.abs(w).max()


def draw_search(photo: np.ndarray, patterns: Patterns, responses: np.ndarray, path: Path) -> None:
    """The photograph with the places, and the response of every pattern with the pattern in a corner."""
    figure, grid = plt.subplots(3, 2, figsize=(7, 7.3), layout="constrained")
    shown, *maps = grid.flat
    shown.imshow(photo, interpolation="nearest")
    shown.set_title("five patterns of 5x5 pixels", fontsize=13)
    for number, (colour, (row, column)) in enumerate(zip(COLOURS, patterns.places, strict=True), 1):
        shown.add_patch(
            Rectangle((column - 6, row - 6), SIZE + 12, SIZE + 12, fill=False, edgecolor=colour, linewidth=2.5)
        )
        shown.text(column + 14, row + 2, f"{number}", color="white", fontsize=14, weight="bold", va="center")
    for k, (axes, colour, (row, column)) in enumerate(zip(maps, COLOURS, patterns.places, strict=True)):
        y = responses[..., k]
        dots = np.asarray(max_pool(jnp.asarray(y)[..., None], (3, 3), strides=1, padding="SAME")[..., 0])
        axes.imshow(dots, cmap="Greys", vmin=0.1, vmax=1, interpolation="nearest")
        axes.plot(column, row, "o", markersize=17, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=2.5)
        elsewhere = np.delete(y.ravel(), np.ravel_multi_index((row, column), y.shape)).max()
        axes.set_title(f"{k + 1}: {y[row, column]:.2f} here, elsewhere ≤ {elsewhere:.2f}", fontsize=13)
        corner = axes.inset_axes((0.8, 0.68, 0.19, 0.3))
        corner.imshow(as_colours(np.asarray(patterns.w[..., k])), interpolation="nearest")
        corner.set(xticks=[], yticks=[])
        for side in corner.spines.values():
            side.set(color=colour, linewidth=2.5)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    figures.save(figure, path)


def draw_learned(w: np.ndarray, patterns: Patterns, cosines: np.ndarray, path: Path) -> None:
    """The five patterns at some steps of the learning, and the true ones."""
    last = len(w) - 1
    steps = sorted({0, last // 24, last // 12, last // 6, last})
    figure, grid = plt.subplots(len(steps) + 1, PATTERNS, figsize=(8, 1.66 * len(steps) + 2.1), layout="constrained")
    for row, step in zip(grid, steps, strict=False):
        row[0].set_ylabel("start" if step == 0 else f"step {step}", fontsize=15)
        for k, axes in enumerate(row):
            axes.imshow(as_colours(w[step, ..., k]), interpolation="nearest")
            axes.set_title(f"{cosines[step, k]:.3f}".replace("-", "−"), fontsize=14)
    grid[-1, 0].set_ylabel("true", fontsize=15)
    for axes, k in zip(grid[-1], range(PATTERNS), strict=True):
        axes.imshow(as_colours(np.asarray(patterns.w[..., k])), interpolation="nearest")
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    figure.suptitle("Learned from their responses alone\n(above each: cosine with the true one)", fontsize=16)
    figures.save(figure, path)


def draw_curves(learned: list[Learned], cosines: list[np.ndarray], path: Path) -> None:
    """The errors over the steps, a line per seed."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 7.6), sharex=True, layout="constrained")
    for seed, (one, cosine) in enumerate(zip(learned, cosines, strict=True)):
        top.plot(one.error, label=f"seed {seed}", linewidth=1.2)
        # In float32 the cosine of what is equal may miss 1 by some 1e-7.
        bottom.plot(np.maximum(1 - cosine.min(-1), 1e-7), label=f"seed {seed}", linewidth=2)
    bottom.axhline(1 - NEEDED["cosine"], color="0.4", linestyle="--", label="claimed")
    top.set_title("error of the responses, root mean square", fontsize=16)
    bottom.set_title("1 − cosine similarity, worst of the five patterns", fontsize=16)
    bottom.set_xlabel("step of gradient descent", fontsize=15)
    for axes in (top, bottom):
        axes.set_yscale("log")
        axes.tick_params(labelsize=13)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=13)
    figures.save(figure, path)


if __name__ == "__main__":
    sys.exit(command(Settings, run))
