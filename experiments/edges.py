"""Claim: the filter [1, −1] and its vertical and diagonal kin give, at every position of a photograph, the exact step
in brightness with its sign: positive where the first of the two pixels is the brighter one in cross-correlation,
negative there in true convolution; of an asymmetric kernel the two differ in more than the sign, and the true one is
`numpy.convolve` to the bit.

A network's convolution is a cross-correlation, y[p] = sum_i x[p + i] · w[i]; signal processing's reverses the kernel,
s(t) = sum_a x(a) · w(t − a), which `flip_kernel` does. That [1, −1] is "large and negative where the left pixel is
bright and the right one dark", as one reads, is true of the second. Brightness is made of whole numbers and halvings,
so that float32 holds every sum exactly, and all comparisons are for equality.

    python -m experiments.edges
    python -m experiments.edges --photograph flower
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import jax.numpy as jnp
import numpy as np
import tyro

from experiments import figures
from experiments.claim import Result, UsageError, command
from experiments.data import photograph
from experiments.figures import plt
from jaxconv import avg_pool, conv

FILTERS = {
    "horizontal": np.array([[1, -1]], np.float32),
    "vertical": np.array([[1], [-1]], np.float32),
    "diagonal": np.array([[1, 0], [0, -1]], np.float32),
    "antidiagonal": np.array([[0, 1], [-1, 0]], np.float32),
}
ECHO = np.array([[4, 2, 1]], np.float32)
STRONG = 32  # grey levels of 255


@dataclasses.dataclass(frozen=True)
class Settings:
    """Edge filters on a photograph, as cross-correlation and as true convolution."""

    photograph: str = "china"
    """Which of scikit-learn's photographs: china (a palace) or flower."""
    shrink: int = 4
    """Every square of so many pixels a side is averaged into one: a power of two."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


class Edges(NamedTuple):
    """What one filter found in one picture."""

    response: np.ndarray
    """By cross-correlation."""
    true_response: np.ndarray
    """By true convolution."""
    step: np.ndarray
    """The pixel under the filter's 1 minus the pixel under its −1."""


def grey(name: str, shrink: int) -> np.ndarray:
    """The photograph in grey levels from 0 to 255, (H, W): whole numbers divided by a power of two."""
    picture = jnp.round(jnp.asarray(photograph(name)) * 255)
    weights = jnp.array([0.25, 0.5, 0.25], picture.dtype).reshape(1, 1, 3, 1)
    return np.asarray(avg_pool(conv(picture, weights), (shrink, shrink))[..., 0])


def responses(x: np.ndarray, w: np.ndarray, *, flip_kernel: bool = False) -> np.ndarray:
    """The picture (H, W) under one filter (R, S)."""
    y = conv(jnp.asarray(x)[..., None], jnp.asarray(w)[..., None, None], flip_kernel=flip_kernel)
    return np.asarray(y[..., 0])


def edges(x: np.ndarray, w: np.ndarray) -> Edges:
    """One filter with a 1 and a −1, on a picture (H, W), and the steps by subtraction alone."""
    height, width = np.array(x.shape) - w.shape + 1
    (first, second) = (np.argwhere(w == weight)[0] for weight in (1, -1))
    pixels = (x[row : row + height, column : column + width] for row, column in (first, second))
    return Edges(responses(x, w), responses(x, w, flip_kernel=True), np.subtract(*pixels))


def all_at_once(x: np.ndarray) -> np.ndarray:
    """The picture (H, W) under the four filters as the channels of one convolution, (H − 1, W − 1, 4)."""
    kernels = [np.pad(w, [(0, 2 - size) for size in w.shape]) for w in FILTERS.values()]
    return np.asarray(conv(jnp.asarray(x)[..., None], jnp.asarray(np.stack(kernels, -1)[:, :, None])))


def rows_like_numpy(x: np.ndarray, w: np.ndarray) -> int:
    """How many rows of the picture, as signals, true convolution takes to what `numpy.convolve` does, to the bit."""
    signals, kernel = jnp.asarray(x)[..., None], jnp.asarray(w.ravel())[:, None, None]
    ours = np.asarray(conv(signals, kernel, padding="FULL", flip_kernel=True))[..., 0]
    return sum(
        np.array_equal(row, np.convolve(signal, w.ravel())) for row, signal in zip(ours, x.astype(float), strict=True)
    )


def square() -> np.ndarray:
    """A bright square on a dark ground: every one of its sides is an edge of a known height."""
    x = np.zeros((6, 6), np.float32)
    x[2:4, 2:4] = 9
    return x


def run(settings: Settings, folder: Path) -> Result:
    """Filters the photograph, compares with subtraction and with numpy.convolve, draws."""
    if settings.shrink < 1 or settings.shrink > 32 or settings.shrink & (settings.shrink - 1):
        raise UsageError(f"shrink: got {settings.shrink}, expected a power of two from 1 to 32")
    x = grey(settings.photograph, settings.shrink)
    found = {name: edges(x, w) for name, w in FILTERS.items()}
    exact = [np.array_equal(e.response, e.step) and np.array_equal(e.true_response, -e.step) for e in found.values()]
    wrong = sum(int((np.sign(e.response) != np.sign(e.step)).sum()) for e in found.values())
    wrong_true = sum(int((np.sign(e.true_response) != -np.sign(e.step)).sum()) for e in found.values())
    together = all_at_once(x)
    channels = [together[..., k] for k in range(len(FILTERS))]
    alone = [e.response[: together.shape[0], : together.shape[1]] for e in found.values()]

    echo, true_echo = responses(x, ECHO), responses(x, ECHO, flip_kernel=True)
    differing = {sign: float(np.mean(true_echo != sign * echo)) for sign in (1, -1)}
    like_numpy = {name: rows_like_numpy(x, w) for name, w in {"edge": FILTERS["horizontal"], "echo": ECHO}.items()}

    draw_edges(x, together, folder / "edges.png")
    draw_square(folder / "signs.png")
    draw_echo(folder / "convolution.png")
    rows: list[Sequence] = [
        ("filter", "positions", f"strong edges (≥ {STRONG} levels)", "positive", "negative", "largest step")
    ]
    for name, e in found.items():
        strong = e.response[np.abs(e.step) >= STRONG]
        rows.append((name, e.step.size, strong.size, (strong > 0).sum(), (strong < 0).sum(), np.abs(e.step).max()))
    return Result(
        holds=all(exact)
        and wrong == wrong_true == 0
        and all(map(np.array_equal, channels, alone))
        and min(differing.values()) > 0.5
        and set(like_numpy.values()) == {len(x)},
        numbers={
            "positions, of all four filters": sum(e.step.size for e in found.values()),
            "wrong signs of cross-correlation": wrong,
            "wrong signs of true convolution": wrong_true,
            "filters equal to subtraction to the bit": sum(exact),
            "rows of the photograph": len(x),
            "rows where [1, −1] equals numpy.convolve to the bit": like_numpy["edge"],
            "rows where [4, 2, 1] equals numpy.convolve to the bit": like_numpy["echo"],
            "positions where [4, 2, 1] differs from cross-correlation, %": 100 * differing[1],
            "that difference, root mean square, in grey levels": float(np.sqrt(np.mean((true_echo - echo) ** 2))),
        },
        figures={
            "edges.png": "Four filters on the photograph: red where the first pixel is the brighter one",
            "signs.png": "The same filters on a bright square: every number is a difference of two pixels",
            "convolution.png": "An echo: true convolution lets it follow, cross-correlation lets it go before",
        },
        tables={"Strong edges": rows},
    )


def draw_edges(x: np.ndarray, y: np.ndarray, path: Path) -> None:
    """The picture, the strength of its edges, and the response of every filter."""
    figure, grid = plt.subplots(3, 2, figsize=(7, 7.85), layout="constrained")
    photo, strength, *rest = grid.flat
    photo.imshow(x, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    photo.set_title("the photograph", fontsize=14)
    strength.imshow(np.abs(y).max(-1), cmap="gray_r", vmin=0, vmax=100, interpolation="nearest")
    strength.set_title("its edges, the four together", fontsize=14)
    titles = ("horizontal  [1, −1]", "vertical  [1; −1]", "diagonal  [1, 0; 0, −1]", "antidiagonal  [0, 1; −1, 0]")
    for axes, title, response in zip(rest, titles, np.moveaxis(y, -1, 0), strict=True):
        shown = axes.imshow(response, cmap="RdBu_r", vmin=-64, vmax=64, interpolation="nearest")
        axes.set_title(title, fontsize=14)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    bar = figure.colorbar(shown, ax=grid, location="bottom", shrink=0.75, aspect=40, pad=0.015, extend="both")
    bar.set_label("response, grey levels: red where the pixel under the 1 is the brighter one", fontsize=12)
    bar.ax.tick_params(labelsize=12)
    figures.save(figure, path)


def draw_square(path: Path) -> None:
    """A bright square, and what every filter makes of it, in numbers."""
    x = square()
    shades = np.where(x > 0, "white", "0.45")
    panels = [("a bright square", x, shades)]
    for title, name, flip in (
        ("[1, −1]", "horizontal", False),
        ("true convolution\nwith [1, −1]", "horizontal", True),
        ("[1; −1]", "vertical", False),
        ("[1, 0; 0, −1]", "diagonal", False),
        ("[0, 1; −1, 0]", "antidiagonal", False),
    ):
        y = responses(x, FILTERS[name], flip_kernel=flip)
        panels.append((title, y, np.select([y > 0, y < 0], ["#e58267", "#6bacd1"], "white")))
    figure, grid = plt.subplots(2, 3, figsize=(9, 6.8), layout="constrained")
    for axes, (title, values, colours) in zip(grid.flat, panels, strict=True):
        figures.cells(axes, values, title, colours, size=16)
        height, width = values.shape  # all panels show 6.1 cells, so that a cell has one size
        axes.set(xlim=(width / 2 - 3.05, width / 2 + 3.05), ylim=(height / 2 + 3.05, height / 2 - 4.1))
    figure.suptitle("Which sign an edge has: red +, blue −", fontsize=17)
    figures.save(figure, path)


def draw_echo(path: Path) -> None:
    """Three claps and their echoes: by true convolution, numpy.convolve and cross-correlation."""
    signal = np.zeros(24, np.float32)
    signal[[3, 11, 13]] = 1, 1, 0.5
    w = ECHO / 4
    x, kernel = jnp.asarray(signal)[:, None], jnp.asarray(w.ravel())[:, None, None]
    true, cross = (conv(x, kernel, padding="FULL", flip_kernel=flip)[:, 0] for flip in (True, False))
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(8, 7.4), sharex=True, sharey=True, layout="constrained")
    top.bar(np.arange(24), signal, color="0.3")
    top.set_title("x: three claps;  w = [1, ½, ¼]", fontsize=16)
    middle.bar(np.arange(26), true, color="tab:blue", label="jaxconv, flip_kernel=True")
    middle.plot(np.convolve(signal, w.ravel()), "o", color="black", markersize=6, label="numpy.convolve")
    middle.set_title("true convolution: the echo follows the clap", fontsize=16)
    middle.legend(fontsize=13, loc="upper right")
    # Each output is drawn at the time that meets w[0]: x[p] in true convolution, x[p − 2] in cross-correlation.
    bottom.bar(np.arange(26) - 2, cross, color="tab:orange", label="jaxconv")
    bottom.set_title("cross-correlation: the echo goes before it", fontsize=16)
    bottom.legend(fontsize=13, loc="upper right")
    bottom.set_xlabel("t", fontsize=15)
    for axes in (top, middle, bottom):
        axes.tick_params(labelsize=13)
        axes.grid(axis="y", alpha=0.3)
        axes.set(xlim=(-0.7, 25.7), ylim=(0, 1.35))
    figures.save(figure, path)


if __name__ == "__main__":
    sys.exit(command(Settings, run))
