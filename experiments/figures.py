"""The figures of the experiments, drawn with matplotlib without a display."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

__all__ = ["cells", "curves", "filters", "mistakes", "plt", "range_bars", "save", "speeds"]


def curves(records: list[dict], path: Path) -> None:
    """Loss and accuracy over the epochs, training and test."""
    epochs = [record["epoch"] for record in records]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, quantity in ((left, "loss"), (right, "accuracy")):
        for name, style in (("train", "--"), ("test", "-")):
            values = [record[f"{name}_{quantity}"] for record in records]
            axes.plot(epochs, values, style, marker="o", markersize=3, label=f"{name} ({values[-1]:.4f} at the end)")
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    left.set_yscale("log")
    figure.suptitle("Training (with random shifts) and test")
    save(figure, path)


def filters(w: np.ndarray, path: Path) -> None:
    """The filters of a first layer, a kernel (R, R, C, K); the mean over C, red positive and blue negative."""
    images = w.mean(2).transpose(2, 0, 1)
    most = np.abs(images).max()
    figure, grid = _grid(len(images), columns=8, title=f"The {len(images)} learned filters of the first layer")
    for axes, image in zip(grid, images, strict=False):
        shown = axes.imshow(image, cmap="RdBu_r", vmin=-most, vmax=most)
    figure.colorbar(shown, ax=grid, shrink=0.7, label="weight")
    save(figure, path)


def mistakes(images: np.ndarray, labels: np.ndarray, predicted: np.ndarray, path: Path, most: int = 40) -> None:
    """The test images that the net got wrong, at most so many, each with its label and what the net took it for."""
    (wrong,) = np.nonzero(labels != predicted)
    shown = wrong[:most]
    title = f"{len(wrong)} mistakes among {len(labels)} test images (label → prediction)"
    if len(shown) < len(wrong):
        title += f", the first {len(shown)}"
    figure, grid = _grid(len(shown), columns=8, title=title)
    for axes, number in zip(grid, shown, strict=False):
        axes.imshow(images[number, :, :, 0], cmap="gray_r")
        axes.set_title(f"{labels[number]} → {predicted[number]}", fontsize=10)
    save(figure, path)


def speeds(results: list[dict], where: str, path: Path) -> None:
    """How many times faster than autodiff of lax every timed part is, and PyTorch beside it; log scale, 1 is a line."""
    names = [f"{r['name']}, {r['part']}" for r in results]
    rows = np.arange(len(results))
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(results) + 1.6), layout="constrained")
    ours = [r["lax_ratio"] for r in results]
    axes.barh(rows - 0.2, ours, 0.38, color="tab:blue", label="jaxconv")
    torch = [r["lax_s"] / r["torch_s"] if "torch_s" in r else np.nan for r in results]
    if not np.isnan(torch).all():
        axes.barh(rows + 0.2, torch, 0.38, color="tab:orange", label="PyTorch")
    for row, value in zip(rows, ours, strict=True):
        axes.text(value * 1.05, row - 0.2, f"{value:.1f}", va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", yticks=rows, yticklabels=names, xlabel="times as fast as jax.grad of lax (log scale)")
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")
    axes.set_title(where, fontsize=9)
    save(figure, path)


def cells(
    axes: Axes,
    values: np.ndarray,
    title: str = "",
    colours: np.ndarray | None = None,
    *,
    corner: tuple[float, float] = (0, 0),
    size: float = 14,
) -> None:
    """A matrix with its numbers in cells of side 1, white or of these colours, down and to the right of its corner.

    The corner is (x, y). How much of it all is seen is set by the caller's limits.
    """
    left, top = corner
    for row, column in np.ndindex(*values.shape):
        colour = "white" if colours is None else str(colours[row, column])
        x, y = left + column, top + row
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="0.35", linewidth=1))
        ink = "white" if np.dot(to_rgb(colour), (0.3, 0.59, 0.11)) < 0.5 else "black"
        text = f"{values[row, column]:g}".replace("-", "\N{MINUS SIGN}")
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=ink, size=size)
    axes.text(left + values.shape[1] / 2, top - 0.2, title, ha="center", va="bottom", size=size)
    axes.set_aspect("equal")
    axes.axis("off")


def range_bars(values: np.ndarray, mean: np.ndarray | None = None) -> np.ndarray:
    """Error bars (2, points) from the lowest to the highest of values (seeds, points), about their mean."""
    if mean is None:
        mean = values.mean(0)
    # A mean may leave the range by a rounding error, and bars have no negative length.
    return np.maximum(0, [mean - values.min(0), values.max(0) - mean])


def _grid(count: int, columns: int, title: str) -> tuple[Figure, list[Axes]]:
    """At least `count` axes without ticks, in rows; those not needed are hidden."""
    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    figure, grid = plt.subplots(
        rows, columns, figsize=(max(6.0, 1.1 * columns), 1.25 * rows + 0.8), squeeze=False, layout="constrained"
    )
    for number, axes in enumerate(grid.flat):
        axes.set(xticks=[], yticks=[])
        axes.set_visible(number < count)
    figure.suptitle(title)
    return figure, list(grid.flat)


def save(figure: Figure, path: Path) -> None:
    """Writes the figure, and forgets it."""
    figure.savefig(path, dpi=150)
    plt.close(figure)
