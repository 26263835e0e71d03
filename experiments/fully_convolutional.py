"""Claim: a digit classifier with its dense layers turned into convolutions gives in one pass over a 280x280 canvas what
it gives at each of the 4,096 windows (to the bit where sums are exact), with a tenth of the FLOPs; so over 93 % of the
held-out digits are found, and over 93 % of the boxes are right.

A dense layer behind a flattening of (4, 4, 16) is a convolution with a kernel of just that size: the same weights in
another shape. On one window it gives one position, the classifier's logits; on a larger input it gives a map, one
position for every window, 4 pixels apart (two poolings by 2), and overlapping windows share the work of the layers
before. In float32 the two may differ by rounding: 4·(1 + √n) eps of the largest logit are allowed, n = 400 the longest
sum. With weights of -1, 0 and 1 on ones and zeros no sum is rounded, and no difference is allowed.

The classifier has an 11th class, background: windows of canvases of training digits that are blank, off-centre or
between digits. On canvases of test digits a box is drawn where a digit is likelier than background and no window less
than 20 pixels away is surer (non-maximum suppression: digits do not overlap, so their own windows are at least 28
pixels apart). A box is right if the digit is, and if its intersection with the digit's own window is at least half of
their union.

    python -m experiments.fully_convolutional
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.patches import Rectangle

from experiments import figures
from experiments.claim import Result, UsageError, at_least, command, spread
from experiments.data import load
from experiments.figures import plt
from experiments.learning import accuracy, fit
from jaxconv import log_softmax, logsumexp, max_pool
from jaxconv.layers import Layer, conv_layer, dense_layer, flatten_layer, max_pool_layer, relu_layer, serial, summary
from jaxconv.training import evaluate
from jaxconv.verification.tolerance import allowed_units, reduction_length

WINDOW, STRIDE, HIDDEN, BACKGROUND = 28, 4, 64, 10
SUPPRESSED = 20
"""Of two windows less than this many pixels apart, both ways, only the surer one is a box."""
OFF_CENTRE = 7
"""A window at least this many pixels beside every digit is background; up to `CENTRED` beside one, it is that digit."""
CENTRED = 2
LEAST_CANVAS = -(-(WINDOW + 2 * OFF_CENTRE - 1) // STRIDE) * STRIDE
"""There is background beside a digit in the middle: more windows along an axis than the 2 · `OFF_CENTRE` − 1 of it."""
TEST_DIGITS = 1000
FOUND, RIGHT, LESS_WORK = 0.93, 0.93, 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """Find digits on a canvas with a classifier whose dense layers are convolutions."""

    canvas: int = 280
    """Height and width of a canvas, in pixels."""
    digits: int = 25
    """How many digits are on a canvas."""
    crops: int = 2
    """Of each training digit so many windows, and as many of background."""
    epochs: int = 5
    """Passes over the windows in training."""
    seeds: int = 3
    """Initial parameters, the places of all digits and the order in training follow from each."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


def features() -> tuple[Layer, ...]:
    """What both nets begin with: (28, 28, 1) -> (4, 4, 16), without padding, so that no window sees its own edge."""
    return (
        conv_layer(16, 5),
        relu_layer,
        max_pool_layer(2),
        conv_layer(16, 5),
        relu_layer,
        max_pool_layer(2),
    )


def classifier() -> Layer:
    """One window -> the logits of ten digits and background."""
    return serial(serial(*features()), flatten_layer, dense_layer(HIDDEN), relu_layer, dense_layer(11))


def convolutional() -> Layer:
    """The same with convolutions in place of the dense layers: any canvas -> a map of logits."""
    return serial(serial(*features()), conv_layer(HIDDEN, 4), relu_layer, conv_layer(11, 1))


NET, SLIDING = classifier(), convolutional()


def as_convolutions(params: Any) -> Any:
    """The classifier's params as those of `convolutional`.

    flatten puts (h, w, c) at (h·W + w)·C + c, so that a dense weight (H·W·C, K) is a kernel (H, W, C, K), row-major.
    """
    before, _, first, _, second = params
    (_, _, _, last, _, _) = before
    kernels = [
        {"w": layer["w"].reshape(*size, channels, -1), "b": layer["b"]}
        for layer, size, channels in ((first, (4, 4), last["w"].shape[-1]), (second, (1, 1), first["w"].shape[-1]))
    ]
    return before, kernels[0], (), kernels[1]


PASS, WINDOWS = "one pass", "all windows"


def work_by_part(size: int) -> dict[str, dict[str, int]]:
    """FLOPs for a canvas, in one pass and by the classifier at every window, by part of the net."""
    one = [row.flops for row in summary(SLIDING, (size, size, 1)).rows if row.flops]
    window = [row.flops for row in summary(NET, (WINDOW, WINDOW, 1)).rows if row.flops]
    count = ((size - WINDOW) // STRIDE + 1) ** 2
    parts = {"first convolution": slice(0, 3), "second convolution": slice(3, 6), "dense layers": slice(6, None)}
    return {
        PASS: {name: sum(one[part]) for name, part in parts.items()},
        WINDOWS: {name: count * sum(window[part]) for name, part in parts.items()},
    }


# --- canvases ---


class Canvas(NamedTuple):
    """Digits on a canvas, and the upper left corners of their cells."""

    image: np.ndarray
    corners: np.ndarray
    labels: np.ndarray


def scattered(rng: np.random.Generator, images: np.ndarray, labels: np.ndarray, size: int) -> Canvas:
    """These digits at random places, whose cells do not overlap."""
    span = size - WINDOW + 1
    while True:
        free, corners = np.ones((span, span), bool), []
        while len(corners) < len(images) and free.any():
            row, column = divmod(int(rng.choice(np.flatnonzero(free))), span)
            free[max(0, row - WINDOW + 1) : row + WINDOW, max(0, column - WINDOW + 1) : column + WINDOW] = False
            corners.append((row, column))
        if len(corners) == len(images):
            break
    canvas = np.zeros((size, size, 1), np.float32)
    for (row, column), image in zip(corners, images, strict=True):
        canvas[row : row + WINDOW, column : column + WINDOW] = image
    return Canvas(canvas, np.array(corners), labels)


def canvases(rng: np.random.Generator, images: np.ndarray, labels: np.ndarray, settings: Settings) -> list[Canvas]:
    """Canvases on which every digit stands once, but for the few that do not fill the last."""
    order = rng.permutation(len(labels))
    groups = order[: len(order) - len(order) % settings.digits].reshape(-1, settings.digits)
    return [scattered(rng, images[group], labels[group], settings.canvas) for group in groups]


def windows_of(canvas: np.ndarray) -> np.ndarray:
    """(H, W, 1) -> all its windows, 1 pixel apart, (rows, columns, 28, 28, 1)."""
    return np.lib.stride_tricks.sliding_window_view(canvas[..., 0], (WINDOW, WINDOW))[..., None]


def crops(rng: np.random.Generator, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """One window centred on each digit, by up to `CENTRED` pixels, and as many of background."""
    windows = windows_of(canvas.image)
    span = len(windows)
    shifts = rng.integers(-CENTRED, CENTRED, canvas.corners.shape, endpoint=True)
    centred = np.clip(canvas.corners + shifts, 0, span - 1)
    beside = np.ones((span, span), bool)
    for row, column in canvas.corners:
        beside[
            max(0, row - OFF_CENTRE + 1) : row + OFF_CENTRE, max(0, column - OFF_CENTRE + 1) : column + OFF_CENTRE
        ] = False
    others = rng.choice(np.argwhere(beside), len(centred))
    images = windows[tuple(np.concatenate([centred, others]).T)]
    return images, np.concatenate([canvas.labels, np.full(len(others), BACKGROUND)]).astype(np.int32)


# --- equality ---


@jax.jit
def of_windows(params: Any, x: jax.Array) -> dict[str, jax.Array]:
    """The classifier's logits."""
    return {"logits": NET.apply(params, x)}


@jax.jit
def of_canvas(kernels: Any, canvas: jax.Array) -> jax.Array:
    """(H, W, 1) -> the map of logits, (rows, columns, 11), in one pass."""
    return SLIDING.apply(kernels, canvas[None])[0]


def differences(params: Any, canvas: np.ndarray) -> tuple[float, float]:
    """How far one pass over the canvas is from the classifier at every window: largest difference, largest logit."""
    windows = windows_of(canvas)[::STRIDE, ::STRIDE]
    one_pass = np.asarray(of_canvas(as_convolutions(params), canvas))
    each = evaluate(of_windows, params, windows.reshape(-1, *windows.shape[2:]), batch_size=512)["logits"]
    return float(np.abs(one_pass - each.reshape(one_pass.shape)).max()), float(np.abs(each).max())


def integer_params(rng: np.random.Generator, params: Any) -> Any:
    """As many weights of -1, 0 and 1, most of them 0: all sums over ones and zeros are exact in float32."""
    return jax.tree.map(
        lambda leaf: rng.choice([-1.0, 0.0, 1.0], leaf.shape, p=[1 / 8, 3 / 4, 1 / 8]).astype("f4"), params
    )


def exact_on_integers(rng: np.random.Generator, params: Any, canvas: np.ndarray) -> bool:
    """Whether both nets agree to the bit on integers, whose sums are then exact in any order."""
    canvas = np.round(canvas)
    params = integer_params(rng, params)
    _, most = differences(jax.tree.map(np.abs, params), canvas)
    assert most < 2**24, "a partial sum may be rounded"
    difference, largest = differences(params, canvas)
    return difference == 0 and largest > 0


# --- detection ---


class Boxes(NamedTuple):
    """What was found on a canvas: corners of boxes, their digits, and how sure it is."""

    corners: np.ndarray
    digits: np.ndarray
    log_odds: np.ndarray


@jax.jit
def peaks(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(rows, columns, 11) -> the log-odds of a digit against background, and where none near is higher."""
    # Probabilities would all round to 1 around a digit, and tie.
    log_odds = jnp.asarray(logsumexp(logits[..., :BACKGROUND], axis=-1)) - logits[..., BACKGROUND]
    near = 2 * (SUPPRESSED // STRIDE) - 1
    return log_odds, log_odds == max_pool(log_odds[None, ..., None], near, strides=1, padding="SAME")[0, ..., 0]


def detect(logits: np.ndarray, least: float = 0.0) -> Boxes:
    """The boxes of a map of logits: where the log-odds are at least `least`, and none near are higher."""
    log_odds, highest = map(np.asarray, peaks(logits))
    chosen = np.nonzero(highest & (log_odds > least))
    return Boxes(STRIDE * np.stack(chosen, -1), logits[chosen][:, :BACKGROUND].argmax(-1), log_odds[chosen])


def matched(boxes: Boxes, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes are right, and which digits are found; no two boxes are near enough for the same digit."""
    apart = np.abs(boxes.corners[:, None] - canvas.corners)
    common = np.clip(WINDOW - apart, 0, None).prod(-1)
    same_place = common / (2 * WINDOW**2 - common) >= 0.5
    right = same_place & (boxes.digits[:, None] == canvas.labels)
    return right.any(1), right.any(0)


def curve(found: list[tuple[Boxes, Canvas]]) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall as more and more boxes are taken, the surest first."""
    right = np.concatenate([matched(boxes, canvas)[0] for boxes, canvas in found])
    surest = np.argsort(-np.concatenate([boxes.log_odds for boxes, _ in found]))
    hits = right[surest].cumsum()
    return hits / np.arange(1, len(hits) + 1), hits / sum(len(canvas.labels) for _, canvas in found)


# --- figures ---


def draw_detections(canvas: Canvas, logits: np.ndarray, title: str, path: Path) -> None:
    """The canvas with its boxes, and a map for every digit."""
    boxes = detect(logits)
    right, found = matched(boxes, canvas)
    colours = {"right": "#22dd44", "wrong": "#ff4040", "missed": "#ffa000"}
    figure = plt.figure(figsize=(8, 12.8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(8, 4.6))  # pyright: ignore[reportGeneralTypeIssues]
    axes = above.subplots()
    size = len(canvas.image)
    axes.imshow(canvas.image[..., 0], cmap="gray", extent=(0, size, size, 0))
    drawn = [(corner, "missed", "") for corner in canvas.corners[~found]]
    drawn += [
        (corner, "right" if good else "wrong", str(digit))
        for corner, digit, good in zip(boxes.corners, boxes.digits, right, strict=True)
    ]
    for (row, column), kind, text in drawn:
        more = 3 if kind == "missed" else 0  # beside the box of another digit that may be there
        place, width = (column - more, row - more), WINDOW + 2 * more
        axes.add_patch(Rectangle(place, width, width, fill=False, edgecolor=colours[kind], linewidth=2.5))
        axes.text(column + 1.5, row + 7.5, text, color=colours[kind], fontsize=14, fontweight="bold")
    kinds = [kind for _, kind, _ in drawn]
    for kind, colour in colours.items():
        axes.plot([], [], color=colour, linewidth=3, label=f"{kind}: {kinds.count(kind)}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, fontsize=16, frameon=False)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=17)

    grid = below.subplots(2, 5)
    half = (WINDOW - STRIDE) / 2
    extent = (half, size - half, size - half, half)
    decades = np.asarray(log_softmax(jnp.asarray(logits))) / np.log(10)
    for digit, axes in enumerate(grid.flat):
        shown = axes.imshow(decades[..., digit], cmap="magma", vmin=-6, vmax=0, extent=extent)
        rows, columns = canvas.corners[canvas.labels == digit].T + WINDOW / 2
        axes.plot(
            columns, rows, "o", markersize=14, markerfacecolor="none", markeredgecolor="#40d0ff", markeredgewidth=1.5
        )
        axes.set(xticks=[], yticks=[], xlim=(0, size), ylim=(size, 0), facecolor="black")
        axes.set_title(f"{digit}", fontsize=16, pad=3)
    bar = below.colorbar(shown, ax=grid, location="bottom", shrink=0.8, aspect=40, ticks=[-6, -4, -2, 0])
    bar.ax.set_xticklabels(["1e-6", "1e-4", "0.01", "1"], fontsize=14)
    below.suptitle("Probability of each digit, by one pass (circles: where it is)", fontsize=17)
    figures.save(figure, path)


def draw_work(
    work: dict[str, dict[str, int]], curves: list[tuple[np.ndarray, np.ndarray]], chosen: tuple, path: Path
) -> None:
    """FLOPs by layer, and precision over recall."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 8.4), layout="constrained", height_ratios=(2.4, 5))
    left = np.zeros(len(work))
    names = list(work)
    for layer in next(iter(work.values())):
        values = np.array([work[name][layer] / 1e9 for name in names])
        top.barh(names, values, left=left, label=layer)
        left += values
    for row, total in enumerate(left):
        top.text(total + 0.01 * left.max(), row, f"{total:.2f}", va="center", fontsize=14)
    top.set_xlim(0, 1.13 * left.max())
    top.invert_yaxis()
    top.tick_params(labelsize=14)
    top.set_xlabel("GFLOP per canvas", fontsize=14)
    top.legend(fontsize=13, loc="upper right")
    top.set_title(f"All windows at once: {left[1] / left[0]:.1f} times less work", fontsize=16)

    for seed, (precision, recall) in enumerate(curves):
        bottom.plot(recall, precision, linewidth=2, label=f"seed {seed}")
    precision, recall = (np.array(values) for values in chosen)
    bottom.errorbar(
        recall.mean(), precision.mean(), xerr=spread(recall), yerr=spread(precision),
        fmt="ko", capsize=5, markersize=7, label="likelier a digit than not\n(mean ± standard deviation)",
    )  # fmt: skip
    bottom.set(xlim=(0.8, 1.003), ylim=(0.8, 1.003))
    bottom.set_xlabel("recall: share of the digits found", fontsize=14)
    bottom.set_ylabel("precision: share of the boxes right", fontsize=14)
    bottom.tick_params(labelsize=13)
    bottom.grid(alpha=0.3)
    bottom.legend(fontsize=13, loc="lower left")
    bottom.set_title("Held-out digits on canvases", fontsize=16)
    figures.save(figure, path)


# --- the experiment ---


def check(settings: Settings) -> None:
    """Raises UsageError for the first setting that cannot be."""
    at_least(settings, digits=1, crops=1, epochs=1, seeds=1)
    if settings.canvas < LEAST_CANVAS or settings.canvas % STRIDE:
        raise UsageError(
            f"canvas: got {settings.canvas}, expected a multiple of {STRIDE} that is at least {LEAST_CANVAS}"
        )
    if settings.digits > TEST_DIGITS:
        raise UsageError(
            f"digits: got {settings.digits}, expected at most {TEST_DIGITS}: there are no more to test with"
        )
    # Beyond 2/5 of the area, random places soon leave no room.
    most = max(1, 2 * settings.canvas**2 // (5 * WINDOW**2))
    if settings.digits > most:
        raise UsageError(
            f"digits: got {settings.digits} for a canvas of {settings.canvas}, expected at most {most}: "
            "pass fewer, or a larger --canvas"
        )


def run(settings: Settings, folder: Path) -> Result:
    """The whole experiment."""
    check(settings)
    data = load("mnist5k")
    numbers: dict[str, Any] = {
        name: []
        for name in ("precision", "recall", "window_accuracy", "worst_eps", "worst_eps_single", "exact_on_integers")
    }
    curves, shown, found, allowed = [], None, np.zeros(0), 0.0
    for seed in range(settings.seeds):
        rng = np.random.default_rng(seed)
        pairs = [
            crops(rng, canvas)
            for _ in range(settings.crops)
            for canvas in canvases(rng, data.train_images, data.train_labels, settings)
        ]
        images, labels = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
        params, _, _ = fit(NET, images, labels, epochs=settings.epochs, seed=seed)
        tests = canvases(rng, data.test_images, data.test_labels, settings)
        kernels = as_convolutions(params)
        maps = [np.asarray(of_canvas(kernels, canvas.image)) for canvas in tests]

        allowed = allowed_units(np.float32, reduction_length(NET.apply, params, data.test_images[:1]))
        eps = float(np.finfo(np.float32).eps)
        for name, image in (("worst_eps_single", data.test_images[0]), ("worst_eps", tests[0].image)):
            difference, largest = differences(params, image)
            numbers[name].append(difference / (eps * largest))
        numbers["exact_on_integers"].append(int(exact_on_integers(rng, params, tests[0].image)))

        hits = [matched(detect(logits), canvas) for logits, canvas in zip(maps, tests, strict=True)]
        right, found = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        numbers["precision"].append(float(right.mean()) if len(right) else 0.0)
        numbers["recall"].append(float(found.mean()))
        numbers["window_accuracy"].append(accuracy(NET, params, data.test_images, data.test_labels))
        curves.append(
            curve([(detect(logits, np.log(0.01)), canvas) for logits, canvas in zip(maps, tests, strict=True)])
        )
        if shown is None:
            mistakes = [(~r).sum() + (~f).sum() for r, f in hits]
            number = int(np.argmax(mistakes))
            title = f"One pass over {settings.digits} digits;\nof {len(tests)} canvases the one with most mistakes"
            shown = (tests[number], maps[number], title)

    assert shown is not None
    work = work_by_part(settings.canvas)
    totals = {name: sum(parts.values()) for name, parts in work.items()}
    less = totals[WINDOWS] / totals[PASS]
    draw_detections(*shown, folder / "detections.png")
    draw_work(work, curves, (numbers["precision"], numbers["recall"]), folder / "work.png")
    holds = (
        min(numbers["precision"]) >= RIGHT
        and min(numbers["recall"]) >= FOUND
        and all(numbers["exact_on_integers"])
        and max(numbers["worst_eps"] + numbers["worst_eps_single"]) <= allowed
        and less >= LESS_WORK
    )
    numbers |= {
        "allowed_eps": allowed,
        "windows": ((settings.canvas - WINDOW) // STRIDE + 1) ** 2,
        "flops_of_one_pass": totals[PASS],
        "flops_of_all_windows": totals[WINDOWS],
        "times_less_work": less,
        "digits_per_seed": len(found),
    }
    return Result(
        holds=holds,
        numbers=numbers,
        figures={
            "detections.png": "A canvas of held-out digits with the boxes found in one pass, and the net's ten maps; a "
            "digit taken for another is a wrong box, and missed",
            "work.png": "The work of one pass and of all windows, and the precision and recall of the boxes",
        },
        text=f"{summary(NET, (WINDOW, WINDOW, 1))}\n\n{summary(SLIDING, (settings.canvas, settings.canvas, 1))}",
        seeds=settings.seeds,
    )


if __name__ == "__main__":
    sys.exit(command(Settings, run))
