"""Claim: convolution commutes with every translation to the bit, and not with rotation or scaling: learned filters
answer a digit turned by 20° or enlarged by half more than 20 % differently than by the turned or enlarged map. Max
pooling lets more values stay exactly as they are under a shift by one pixel the larger its window, and all of them
where that is the whole image.

Images and filters are whole numbers, so that float32 holds every sum exactly and "to the bit" is a comparison by ==:
every circular shift with CIRCULAR padding, and without padding wherever both images have been seen. Rotations,
scalings and shifts by half a pixel interpolate between pixels, the image and its maps alike; a filter of 1x1, which
commutes with all of them, shows that this is not what differs. How much invariance the pooling gives is also measured
against the distance to another digit.

    python -m experiments.translation
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.axes import Axes
from scipy import ndimage

from experiments import figures
from experiments.claim import Result, UsageError, at_least, command, plus_minus
from experiments.data import DataSet, load
from experiments.figures import plt
from experiments.learning import fit
from jaxconv import conv, global_max_pool, max_pool, pad, relu
from jaxconv.layers import Layer, conv_layer, dense_layer, flatten_layer, max_pool_layer, relu_layer, serial

MARGIN = 14  # zeros around a digit, so that nothing leaves the image: 56x56
RIM = 10  # a digit of MNIST fits into 20x20 pixels
SHIFTS = (1, 2, 3, 4, 6, 8)
WINDOWS = (1, 2, 4, 8)
STRIDES = (1, 2, 4)  # of a window of 4
TURN, SCALE, CLEAR = 20, 1.5, 0.2  # what the claim says of rotation and scale


@dataclasses.dataclass(frozen=True)
class Settings:
    """Measure the equivariance of convolution and the invariance of pooling, on digits and with learned filters."""

    images: int = 64
    """Test digits to measure on, 4 to 1,000."""
    filters: int = 8
    """5x5 filters that are learned."""
    epochs: int = 3
    """Passes over the training images to learn them."""
    seeds: int = 3
    """How many seeds; the filters follow from each."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
    """A motion of the plane about the middle of the image: x -> matrix · x + shift."""

    kind: str
    label: str
    matrix: np.ndarray
    shift: np.ndarray

    @property
    def distance(self) -> float:
        """How many pixels it moves what is 10 pixels beside the middle."""
        rim = np.array([0.0, RIM])
        return float(np.linalg.norm(self.matrix @ rim + self.shift - rim))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The images (N, H, W, C) moved, with linear interpolation; zeros come in."""
        back = np.linalg.inv(self.matrix)
        middle = (np.array(images.shape[1:3]) - 1) / 2
        start = middle - back @ (middle + self.shift)
        moved = np.zeros_like(images)
        for n, channel in np.ndindex(images.shape[0], images.shape[-1]):
            plane = images[n, :, :, channel]
            moved[n, :, :, channel] = ndimage.affine_transform(plane, back, start.tolist(), order=1)
        return moved


def shifted(pixels: float) -> Motion:
    """To the right."""
    return Motion("shifted", f"{pixels:g} px", np.eye(2), np.array([0.0, pixels]))


def turned(degrees: float) -> Motion:
    """Anticlockwise."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return Motion("turned", f"{degrees:g}°", np.array([[cos, -sin], [sin, cos]]), np.zeros(2))


def scaled(factor: float) -> Motion:
    """Larger or smaller."""
    return Motion("enlarged" if factor > 1 else "shrunk", f"×{factor:g}", factor * np.eye(2), np.zeros(2))


MOTIONS = (
    *map(shifted, (0.5, 1, 2, 4, 6.5, 10)),
    *map(turned, (5, 10, TURN, 45, 60)),
    *map(scaled, (1.1, 1.25, SCALE)),
    *map(scaled, (0.9, 0.75, 0.5)),
)


def run(settings: Settings, folder: Path) -> Result:
    """Learns filters, measures and draws."""
    check(settings)
    data = load("mnist5k")
    digits = np.round(data.test_images[: settings.images] * 255)
    canvas = np.asarray(pad(jnp.asarray(digits), MARGIN))
    kernels = [learned(data, seed, settings) for seed in range(settings.seeds)]

    compared, unequal = np.sum([unequal_values(digits[:5], w) for w in kernels], axis=0)
    errors = {motion: np.array([error(motion, canvas, w) for w in kernels]) for motion in MOTIONS}
    point = np.full((1, 1, 1, 1), 3, np.float32)
    control = max(error(motion, canvas, point) for motion in MOTIONS)
    windows = {f"{r}x{r}": pooled(r) for r in WINDOWS} | {"whole image": global_max_pool}
    strides = {f"4x4, stride {s}": pooled(4, s) for s in STRIDES}
    moved = {name: np.array([after_shifts(canvas, w, pool) for w in kernels]) for name, pool in windows.items()}
    strided = {name: np.array([after_shifts(canvas, w, pool) for w in kernels]) for name, pool in strides.items()}
    draw_example(canvas, kernels[0], folder / "equivariance.png")
    draw_errors(errors, folder / "errors.png")
    draw_invariance(moved, folder / "invariance.png")

    translation = max(float(e.max()) for motion, e in errors.items() if motion.kind == "shifted")
    turn, scale = (
        next(e for motion, e in errors.items() if motion.label == label) for label in (f"{TURN}°", f"×{SCALE}")
    )
    kept = {name: values[:, 0, 0] for name, values in moved.items()}  # by a shift of one pixel
    more = all((after > before).all() for before, after in itertools.pairwise(kept.values()))
    return Result(
        holds=int(unequal) == 0
        and translation < 1e-6
        and control < 1e-6
        and min(turn.min(), scale.min()) > CLEAR
        and more
        and bool((kept["whole image"] == 1).all()),
        numbers={
            "values compared by ==": int(compared),
            "values that differ": int(unequal),
            "largest difference when shifted, halves of pixels too": translation,
            "largest difference of a 1x1 filter, any motion": control,
            f"difference when turned by {TURN}°": turn.tolist(),
            f"difference when enlarged by {SCALE}": scale.tolist(),
        }
        | {f"unchanged by 1 px after pooling {name}": values.tolist() for name, values in kept.items()}
        | {f"1 px as a part of another digit's distance, {name}": v[:, 1, 0].tolist() for name, v in moved.items()},
        figures={
            "equivariance.png": "Shifted, the map is the same map, shifted. Turned or enlarged, it is another one.",
            "errors.png": "The difference between the map of the moved image and the moved map: mean and range of the "
            "seeds.",
            "invariance.png": "Max pooling of learned features: how many values a shift leaves as they are, and how "
            "far the digit is from itself, shifted. Mean and range of the seeds.",
        },
        tables={
            "Difference between the map of the moved image and the moved map": [
                ("motion", "difference, %"),
                *((f"{motion.kind} {motion.label}", plus_minus(100 * e)) for motion, e in errors.items()),
            ],
            "Max pooling after a shift by one pixel": [
                ("window", "values unchanged, %", "distance, % of that to another digit"),
                *(
                    (name, plus_minus(100 * values[:, 0, 0]), plus_minus(100 * values[:, 1, 0]))
                    for name, values in (moved | strided).items()
                ),
            ],
        },
        seeds=settings.seeds,
        remark=remark(moved, strided),
    )


def remark(moved: dict[str, np.ndarray], strided: dict[str, np.ndarray]) -> str:
    """What was measured of pooling, beside what is often said of it."""
    kept = {name: values[:, 0, 0].mean() for name, values in (moved | strided).items()}
    apart = {name: values[:, 1, 0].mean() for name, values in moved.items()}
    smallest = next((name for name in moved if kept[name] > 0.5), "none")
    shares = ", ".join(f"{100 * kept[name]:.0f}" for name in strided)
    text = (
        f"The smallest window that lets most values stay as they are: {smallest}. With strides of "
        f"{', '.join(map(str, STRIDES))}, windows of 4x4 let {shares} % stay. Pooling also shortens the distance to "
        f"other digits: as a part of that, a shift by one pixel is {100 * apart['1x1']:.0f} % without pooling and "
        f"{100 * apart['8x8']:.0f} % with 8x8"
    )
    pixels = farther_from(moved)
    return text + (f", and from {pixels} pixels on it is more than 100 % with both." if pixels else ".")


def farther_from(moved: dict[str, np.ndarray]) -> int | None:
    """The least shift from which on a digit is farther from itself than from another, without pooling and with 8x8."""
    nearest = np.min([moved[name][:, 1].mean(0) for name in ("1x1", "8x8")], axis=0)
    farther = [bool((nearest[number:] > 1).all()) for number in range(len(SHIFTS))]
    return SHIFTS[farther.index(True)] if any(farther) else None


@functools.cache  # one for all seeds, so that it is compiled once
def make_net(filters: int) -> Layer:
    """A layer of 5x5 filters and what it takes to learn them."""
    return serial(
        conv_layer(filters, 5, padding="SAME", use_bias=False),
        relu_layer,
        max_pool_layer(4),
        flatten_layer,
        dense_layer(10),
    )


def learned(data: DataSet, seed: int, settings: Settings) -> np.ndarray:
    """The first layer's kernel (5, 5, 1, filters) of a small net, in whole numbers up to 127."""
    net = make_net(settings.filters)
    params, _, _ = fit(net, data.train_images, data.train_labels, epochs=settings.epochs, seed=seed)
    w = np.asarray(params[0]["w"])
    return np.round(w / np.abs(w).max() * 127)


def maps(images: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The feature maps of images (N, H, W, 1), as large as these; before any activation."""
    return np.asarray(conv(jnp.asarray(images), jnp.asarray(w), padding="SAME"))


def unequal_values(images: np.ndarray, w: np.ndarray) -> tuple[int, int]:
    """How many values of conv(shift(x)) and shift(conv(x)) are compared, over all circular shifts, and how many differ.

    And without padding, over shifts up to 8 pixels down and to the right, where the windows see the same pixels.
    """
    x, kernel = jnp.asarray(images), jnp.asarray(w)
    y = conv(x, kernel, padding="CIRCULAR")
    height, width = images.shape[1:3]

    def rolled(a: jax.Array, row: jax.Array) -> jax.Array:
        return jax.vmap(lambda column: jnp.roll(a, jnp.stack([row, column]), (1, 2)))(jnp.arange(width))

    @jax.jit
    def differing(row: jax.Array) -> jax.Array:
        return (conv(rolled(x, row), kernel, padding="CIRCULAR") != rolled(y, row)).sum()

    compared = height * width * y.size
    unequal = sum(int(differing(jnp.array(row))) for row in range(height))
    valid = np.asarray(conv(x, kernel))
    for s in range(1, 9):
        moved = np.asarray(conv(pad(x, ((s, -s), (s, -s))), kernel))
        compared += valid[:, s:, s:].size
        unequal += int((moved[:, s:, s:] != valid[:, :-s, :-s]).sum())
    return compared, unequal


def error(motion: Motion, images: np.ndarray, w: np.ndarray) -> float:
    """How far conv(T(x)) is from T(conv(x)), relative to the latter: the mean over the images."""
    apart, whole = maps(motion(images), w), motion(maps(images, w))
    return float(np.mean(norms(apart - whole) / norms(whole)))


def norms(a: np.ndarray) -> np.ndarray:
    """The Euclidean norm of each example."""
    return np.linalg.norm(a.reshape(len(a), -1), axis=1)


def pooled(window: int, strides: int | None = None) -> Callable[[jax.Array], jax.Array]:
    """Max pooling; by default windows lie side by side."""
    return lambda x: max_pool(x, window, strides=strides)


def features(images: jax.Array, w: np.ndarray, pool: Callable[[jax.Array], jax.Array]) -> np.ndarray:
    """Convolution, ReLU, pooling."""
    return np.asarray(pool(relu(conv(images, jnp.asarray(w), padding="SAME"))))


def after_shifts(
    images: np.ndarray, w: np.ndarray, pool: Callable[[jax.Array], jax.Array]
) -> tuple[list[float], list[float]]:
    """What a shift does to the features of a digit, for every one of SHIFTS.

    The share of the values that stay exactly as they are, of those that are not 0 before and after. And the distance to
    the features before, over the mean distance to those of other digits.
    """
    x = jnp.asarray(images)
    y = features(x, w, pool)
    others = np.mean([norms(y - np.roll(y, n, 0)).mean() for n in range(1, min(len(y), 20))])
    moved = [features(pad(x, ((0, 0), (s, -s))), w, pool) for s in SHIFTS]
    unchanged = [float((a == y)[(a != 0) | (y != 0)].mean()) for a in moved]
    return unchanged, [float(norms(a - y).mean() / others) for a in moved]


def draw_example(images: np.ndarray, w: np.ndarray, path: Path) -> None:
    """A digit moved, turned and enlarged: the map of the new image, the new image's map, their difference."""
    digit, kernel = images[3:4], w[..., np.argmax(np.abs(w).sum((0, 1, 2)))][..., None]
    motions = {"shifted": shifted(6), "turned 45°": turned(45), "enlarged ×1.5": scaled(1.5)}
    most = np.abs(maps(digit, kernel)).max()
    figure, grid = plt.subplots(3, 4, figsize=(9, 7.4), layout="constrained")
    for row, (name, motion) in zip(grid, motions.items(), strict=True):
        panels = (motion(digit), maps(motion(digit), kernel), motion(maps(digit, kernel)))
        for axes, panel in zip(row, (*panels, panels[1] - panels[2]), strict=True):
            colours = {"cmap": "gray_r"} if axes is row[0] else {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
            axes.imshow(panel[0, 8:-8, 8:-8, 0], **colours)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, fontsize=17)
        row[3].set_xlabel(f"{100 * error(motion, digit, kernel):.0f} %", fontsize=17)
    titles = ("digit, moved", "its map", "map, moved", "difference")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=17)
    figures.save(figure, path)


def draw_errors(errors: dict[Motion, np.ndarray], path: Path) -> None:
    """The error of every kind of motion against how far it moves the rim of a digit."""
    figure, axes = plt.subplots(figsize=(7, 5.4), layout="constrained")
    colours = {"turned": "tab:red", "enlarged": "tab:purple", "shrunk": "tab:orange", "shifted": "tab:blue"}
    for kind, colour in colours.items():
        of_kind = {motion: e for motion, e in errors.items() if motion.kind == kind}
        range_over_seeds(axes, [m.distance for m in of_kind], 100 * np.stack(list(of_kind.values()), 1), kind, colour)
        below = kind == "enlarged"
        for motion, values in of_kind.items():
            if motion.distance > 1.5:  # where there is room
                axes.annotate(
                    motion.label,
                    (motion.distance, 100 * values.mean()),
                    (9 if below else -9, -16 if below else 9),
                    textcoords="offset points",
                    ha="left" if below else "right",
                    fontsize=13,
                    color=colour,
                )
    axes.set_xlabel(f"how far it moves a point {RIM} px from the middle, px", fontsize=14)
    axes.set_ylabel("difference of the maps, %", fontsize=14)
    axes.set_title("Convolution follows a shift exactly,\nbut no rotation and no change of scale", fontsize=15)
    axes.margins(y=0.1)
    finish(axes)
    figures.save(figure, path)


def draw_invariance(moved: dict[str, np.ndarray], path: Path) -> None:
    """For every window what stays as it is after a shift, and the distance to the features before it."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 9.4), layout="constrained", sharex=True)
    shades = plt.get_cmap("viridis")
    for number, (name, values) in enumerate(moved.items()):
        colour, label = shades(0.92 * number / (len(moved) - 1)), "no pooling" if name == "1x1" else name
        range_over_seeds(upper, SHIFTS, 100 * values[:, 0], label, colour)
        range_over_seeds(lower, SHIFTS, values[:, 1], label, colour)
    upper.set_ylabel("values exactly as before, %", fontsize=14)
    upper.set_title("After max pooling over larger windows,\nmore values survive a shift", fontsize=15)
    lower.axhline(1, color="black", linestyle="--", linewidth=1.5)
    lower.annotate("another digit", (SHIFTS[-1], 1), (0, -17), textcoords="offset points", ha="right", fontsize=13)
    lower.set_ylabel("distance / distance to another digit", fontsize=14)
    lower.set_xlabel("shift, px", fontsize=14)
    pixels = farther_from(moved)
    title = "but only the whole image is invariant"
    lower.set_title(title + (f":\na digit moved by {pixels} px is farther than another" if pixels else ""), fontsize=15)
    finish(upper, loc="upper right", bbox_to_anchor=(1, 0.93))
    finish(lower, loc="upper left")
    figures.save(figure, path)


def range_over_seeds(axes: Axes, x: Sequence[float], values: np.ndarray, name: str, colour: Any) -> None:
    """Mean, lowest and highest of values (seeds, points)."""
    bars = figures.range_bars(values)
    axes.errorbar(x, values.mean(0), bars, marker="o", markersize=6, capsize=4, linewidth=2, color=colour, label=name)


def finish(axes: Axes, **legend: Any) -> None:
    """A grid, a legend, and numbers that can be read."""
    axes.tick_params(labelsize=13)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=13, **legend)


def check(settings: Settings) -> None:
    """Raises UsageError for the first setting that cannot be."""
    if not 4 <= settings.images <= 1000:
        raise UsageError(f"images: got {settings.images}, expected 4 to 1000")
    at_least(settings, filters=1, epochs=1, seeds=1)


if __name__ == "__main__":
    sys.exit(command(Settings, run))
