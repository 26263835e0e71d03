"""Claim: sixteen 4x4 filters shared over all of an image make a net of 27,296 parameters where a fully connected one
has 79,400, and it is right about more of 1,000 real digits with every seed.

First the counts, each beside the number that is expected: the two nets above, without biases; two dense layers with
81.6 million parameters, and convolutions in their place; the output sizes of some windows. They take no computation but
that of shapes, in `jaxconv.layers.summary` and `output_shape`. Then both nets, narrower and wider, learn 4,000 digits
of MNIST and are tested on 1,000 others.

    python -m experiments.parameters
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from experiments import figures
from experiments.claim import Result, UsageError, at_least, command, plus_minus
from experiments.data import DataSet, load
from experiments.figures import plt
from experiments.learning import accuracy, fit
from jaxconv.layers import (
    Layer,
    conv_layer,
    dense_layer,
    flatten_layer,
    max_pool_layer,
    output_shape,
    relu_layer,
    serial,
    summary,
)

IMAGE = (28, 28, 1)
HIDDEN, FILTERS = 100, 16  # of the two nets that the claim is about


@dataclasses.dataclass(frozen=True)
class Settings:
    """Count the parameters of fully connected and of convolutional nets, and see what accuracy they buy."""

    hidden: tuple[int, ...] = (12, 50, 100, 400)
    """Hidden units of the fully connected nets; 100 must be one."""
    filters: tuple[int, ...] = (1, 4, 16, 32)
    """Filters of the convolutional nets; 16 must be one."""
    epochs: int = 10
    """Passes over the training images."""
    learning_rate: float = 5e-3
    """The learning rate of Adam at its largest, the same for all nets."""
    seeds: int = 5
    """How many seeds; initial parameters and the order of the images follow from each."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


def dense_net(hidden: int) -> Layer:
    """Every pixel connected to every hidden unit; no biases."""
    return serial(flatten_layer, dense_layer(hidden, use_bias=False), relu_layer, dense_layer(10, use_bias=False))


def shared_net(filters: int) -> Layer:
    """4x4 filters that slide over the image two pixels at a time; no biases."""
    return serial(filters_layer(filters), relu_layer, flatten_layer, dense_layer(10, use_bias=False))


def filters_layer(filters: int) -> Layer:
    """The convolution of `shared_net`."""
    return conv_layer(filters, 4, strides=2, use_bias=False)


class Count(NamedTuple):
    """A net, the shape of an example before it, and how many parameters it is expected to have."""

    name: str
    net: Layer
    input_shape: tuple[int, ...]
    expected: int


class Size(NamedTuple):
    """A window on a square input, and the size that is expected after it."""

    name: str
    input_size: int
    window: int
    strides: int
    padding: int
    expected: int


MAPS = (7, 7, 386)  # 18,914 numbers
COUNTS = {
    "Nets for 28x28 digits, without biases": (
        Count("784 to 100 to 10, fully connected", dense_net(HIDDEN), IMAGE, 79_400),
        Count("sixteen 4x4 filters, stride 2, and 10 outputs", shared_net(FILTERS), IMAGE, 27_296),
        Count("  of which the filters", filters_layer(FILTERS), IMAGE, 256),
        Count("  of which 13x13x16 to 10", dense_layer(10, use_bias=False), (13 * 13 * 16,), 27_040),
    ),
    "Dense layers, and convolutions in their place": (
        Count("dense, 18,914 to 4,096", serial(flatten_layer, dense_layer(4096)), MAPS, 77_475_840),
        Count("dense, 4,096 to 1,000", dense_layer(1000), (4096,), 4_097_000),
        Count("7x7 convolution, 386 to 386, no bias", conv_layer(386, 7, use_bias=False), MAPS, 7_300_804),
        Count("1x1 convolution, 386 to 4,096, no bias", conv_layer(4096, 1, use_bias=False), (1, 1, 386), 1_581_056),
        Count("1x1 convolution, 4,096 to 1,000, no bias", conv_layer(1000, 1, use_bias=False), (1, 1, 4096), 4_096_000),
        # The convolution that computes the same as the dense layer has as many: going through 386 is what saves.
        Count("7x7 convolution, 386 to 4,096", conv_layer(4096, 7), MAPS, 77_475_840),
    ),
}
SIZES = (
    Size("5x5, window 3x3", 5, 3, 1, 0, 3),
    Size("5x5 padded to 7x7, window 3x3", 5, 3, 1, 1, 5),
    Size("5x5, window 3x3, stride 2", 5, 3, 2, 0, 2),
    Size("32x32, window 6x6", 32, 6, 1, 0, 27),
    Size("28x28, window 4x4, stride 2", 28, 4, 2, 0, 13),
)


def run(settings: Settings, folder: Path) -> Result:
    """Counts, trains and draws."""
    check(settings)
    tables = {title: counted(counts) for title, counts in COUNTS.items()} | {"Output sizes": sized()}
    wrong = [row for table in tables.values() for row in table[1:] if any(found != row[1] for found in row[2:])]
    data = load("mnist5k")
    dense = trained(dense_net, settings.hidden, data, settings)
    shared = trained(shared_net, settings.filters, data, settings)
    tables["Accuracy on 1,000 digits, and parameters"] = [
        ("net", "parameters", "accuracy, %"),
        *((f"{width} hidden units", count, plus_minus(values)) for width, (count, values) in dense.items()),
        *((f"{width} filters", count, plus_minus(values)) for width, (count, values) in shared.items()),
    ]
    gain = shared[FILTERS][1] - dense[HIDDEN][1]
    draw_counts(folder / "counts.png")
    draw_accuracy(dense, shared, folder / "accuracy.png")
    return Result(
        holds=not wrong and bool(gain.min() > 0),
        numbers={
            "numbers counted": sum(len(row) - 2 for table in list(tables.values())[:-1] for row in table[1:]),
            "not as expected": len(wrong),
            "parameters, fully connected": dense[HIDDEN][0],
            "parameters, convolution": shared[FILTERS][0],
            "accuracy, fully connected, %": dense[HIDDEN][1].tolist(),
            "accuracy, convolution, %": shared[FILTERS][1].tolist(),
            "gain in points": gain.tolist(),
        },
        figures={
            "accuracy.png": "Accuracy against parameters, mean and range of the seeds. The numbers are filters and "
            "hidden units; the circles are the two nets of the claim.",
            "counts.png": "What it takes to connect an image to 2,704 units: every pixel, or 4x4 of them, or 4x4 of "
            "them with the same weights everywhere.",
        },
        tables=tables,
        text=f"{summary(dense_net(HIDDEN), IMAGE)}\n\n{summary(shared_net(FILTERS), IMAGE)}",
        seeds=settings.seeds,
        remark="The seeds vary the initial parameters and the order of the images; the test digits are always the same "
        "1,000, so one accuracy has a standard error of 0.7 points that the spread over the seeds does not show.",
    )


def counted(counts: tuple[Count, ...]) -> list[Sequence[Any]]:
    """A table of the parameters expected and counted."""
    rows = [(count.name, count.expected, summary(count.net, count.input_shape).parameters) for count in counts]
    return [("net", "expected", "counted"), *rows]


def sized() -> list[Sequence[Any]]:
    """A table of the output sizes expected and found, of a convolution and of a pooling."""
    rows = []
    for size in SIZES:
        shape = (size.input_size, size.input_size, 1)
        conv = conv_layer(1, size.window, strides=size.strides, padding=size.padding)
        pool = max_pool_layer(size.window, strides=size.strides, padding=size.padding)
        rows.append((size.name, size.expected, output_shape(conv, shape)[0], output_shape(pool, shape)[0]))
    return [("input and window", "expected", "convolution", "pooling"), *rows]


def trained(
    make_net: Callable[[int], Layer], widths: tuple[int, ...], data: DataSet, settings: Settings
) -> dict[int, tuple[int, np.ndarray]]:
    """For every width the parameters of the net, and its accuracy after training in %, one per seed."""
    found = {}
    for width in widths:
        net, values = make_net(width), []
        for seed in range(settings.seeds):
            params, _, _ = fit(
                net,
                data.train_images,
                data.train_labels,
                epochs=settings.epochs,
                learning_rate=settings.learning_rate,
                seed=seed,
            )
            values.append(100 * accuracy(net, params, data.test_images, data.test_labels))
        found[width] = summary(net, IMAGE).parameters, np.array(values)
    return found


def draw_accuracy(dense: dict, shared: dict, path: Path) -> None:
    """Accuracy against parameters: mean, and lowest and highest of the seeds."""
    figure, axes = plt.subplots(figsize=(7, 5.2), layout="constrained")
    for found, marked, name, below, colour in (
        (shared, FILTERS, "4x4 filters, shared over the image", False, "tab:blue"),
        (dense, HIDDEN, "fully connected hidden units", True, "tab:orange"),
    ):
        counts = [count for count, _ in found.values()]
        values = np.stack([values for _, values in found.values()], 1)
        means, bars = values.mean(0), figures.range_bars(values)
        axes.errorbar(counts, means, bars, color=colour, marker="o", markersize=8, capsize=4, linewidth=2, label=name)
        for width, count, mean in zip(found, counts, means, strict=True):
            offset = (9, -18) if below else (-9, 10)
            axes.annotate(
                f"{width}",
                (count, mean),
                offset,
                textcoords="offset points",
                ha="left" if below else "right",
                fontsize=13,
                color=colour,
                weight="bold" if width == marked else "normal",
            )
        count, values = found[marked]
        axes.plot(count, values.mean(), "o", markersize=17, markerfacecolor="none", color=colour, markeredgewidth=2)
    axes.set_xscale("log")
    axes.set_xlim(1_000, 600_000)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("parameters (log scale)", fontsize=14)
    axes.set_ylabel("right on 1,000 digits, %", fontsize=14)
    axes.tick_params(labelsize=13)
    axes.grid(alpha=0.3)
    axes.margins(y=0.12)
    axes.legend(loc="lower right", fontsize=13)
    axes.set_title("Sharing weights: more accuracy for fewer parameters", fontsize=15)
    figures.save(figure, path)


def draw_counts(path: Path) -> None:
    """What it takes to connect the image to the 13x13x16 units after the filters."""
    units = output_shape(serial(filters_layer(FILTERS), flatten_layer), IMAGE)[0]
    filters = summary(filters_layer(FILTERS), IMAGE).parameters
    counts = {
        "every pixel\nto every unit": summary(
            serial(flatten_layer, dense_layer(units, use_bias=False)), IMAGE
        ).parameters,
        "4x4 pixels\nto every unit": filters // FILTERS * units,
        "4x4 pixels,\nthe same weights\neverywhere": filters,
    }
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    bars = axes.barh(list(counts), list(counts.values()), color=["tab:orange", "tab:gray", "tab:blue"])
    axes.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=5, fontsize=15)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(10, 5e7)
    axes.set_xlabel("weights (log scale)", fontsize=14)
    axes.tick_params(labelsize=14)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"From a 28x28 image to {units:,} units", fontsize=15)
    figures.save(figure, path)


def check(settings: Settings) -> None:
    """Raises UsageError for the first setting that cannot be."""
    for name, needed in (("hidden", HIDDEN), ("filters", FILTERS)):
        widths = getattr(settings, name)
        if needed not in widths or min(widths) < 1:
            raise UsageError(f"{name}: got {widths}, expected numbers of at least 1, and {needed} among them")
    at_least(settings, epochs=1, seeds=1)
    if not 0 < settings.learning_rate < float("inf"):
        raise UsageError(f"learning_rate: got {settings.learning_rate}, expected a positive number")


if __name__ == "__main__":
    sys.exit(command(Settings, run))
