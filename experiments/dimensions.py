"""Claim: one net, with not a line that names the number of axes, learns digits read as sequences (above 85 % right),
digits as images (above 88 %) and the direction of motion of digits in videos (above 95 % of eight directions). Time is
what it looks at: played backwards, videos get the opposite direction; a single frame leaves it at chance (12.5 %); and
from shuffled frames it tells the axis of the motion at best, while which way along it stays a coin's toss.

Sequences are the rows of an image, one after the other, with its columns as channels: (14, 14). Images are (14, 14, 1).
Videos are (8, 16, 16, 1): a digit moves by one pixel per frame, straight or diagonally, and comes in again on the other
side where it leaves. It starts anywhere, so every single frame is as likely in one direction as in any other; and a
video with its frames shuffled is as likely in one direction as in the opposite one. Both controls are trained anew.
Convolutions have kernels of 3, and pooling has windows of 2, along each axis that there is.

    python -m experiments.dimensions
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from experiments.claim import Result, UsageError, at_least, command
from experiments.data import load
from experiments.figures import plt, range_bars, save
from experiments.learning import fit
from jaxconv import avg_pool
from jaxconv.layers import (
    Layer,
    conv_layer,
    dense_layer,
    global_max_pool_layer,
    max_pool_layer,
    relu_layer,
    serial,
    summary,
)

FRAMES = 8
"""Of a video."""
DIRECTIONS = np.array([(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)])
"""Rows and columns per frame; the opposite of a direction is four further on."""
ARROWS = "→↘↓↙←↖↑↗"

SEQUENCES, IMAGES, VIDEOS = "sequences", "images", "videos"
SINGLE, SHUFFLED = "single frames", "shuffled videos"
LEAST = {SEQUENCES: 0.85, IMAGES: 0.88, VIDEOS: 0.95}
"""Test accuracy of what is learned: above."""
COLORS = {
    SEQUENCES: "tab:orange",
    IMAGES: "tab:green",
    VIDEOS: "tab:blue",
    SHUFFLED: "tab:purple",
    SINGLE: "tab:red",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Train one net on sequences, on images and on videos, and two controls of the videos."""

    images: int = 4000
    """Training images, 4,000 at most: each is a sequence too."""
    videos: int = 1280
    """Training videos; a third as many again to test."""
    size: int = 16
    """Height and width of the videos; their digits are 8x8."""
    epochs: int = 8
    """Passes over the sequences and over the images."""
    video_epochs: int = 4
    """Passes over the videos."""
    seeds: int = 3
    """Initial weights, orders and videos, from seed 0 on."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


class Examples(NamedTuple):
    """What a net is trained on and tested with."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


class Measurement(NamedTuple):
    """What one net learned.

    Args:
        learning: training accuracy of every epoch.
        confusion: (classes, classes), how many test examples of the class of a row were taken for that of a column.
        backwards: the same with the test examples reversed along their first axis.
    """

    learning: np.ndarray
    confusion: np.ndarray
    backwards: np.ndarray


@functools.cache  # one for all seeds, so that it is compiled once
def make_net(classes: int) -> Layer:
    """The net, for any number of spatial axes: 3 is 3, 3x3 or 3x3x3, and 2 is 2, 2x2 or 2x2x2."""
    return serial(
        conv_layer(8, 3, padding="SAME"),
        relu_layer,
        max_pool_layer(2),
        conv_layer(32, 3, padding="SAME"),
        relu_layer,
        global_max_pool_layer,
        dense_layer(classes),
    )


def make_videos(digits: np.ndarray, count: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Videos (count, FRAMES, size, size, 1) of these images (N, h, w, 1) on the move, and their directions."""
    labels = rng.integers(len(DIRECTIONS), size=count).astype(np.int32)
    starts = rng.integers(size, size=(count, 2))
    still = np.zeros((count, size, size, 1), digits.dtype)
    still[:, : digits.shape[1], : digits.shape[2]] = digits[rng.permutation(count) % len(digits)]
    frames = []
    for t in range(FRAMES):
        corners = starts + t * DIRECTIONS[labels]
        rows, columns = ((np.arange(size) - corners[:, axis, None]) % size for axis in (0, 1))
        frames.append(still[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]])
    return np.stack(frames, 1), labels


def shuffled(videos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every video with its frames in an order of its own."""
    orders = rng.permuted(np.tile(np.arange(FRAMES), (len(videos), 1)), axis=1)
    return videos[np.arange(len(videos))[:, None], orders]


def make_examples(settings: Settings, seed: int) -> dict[str, Examples]:
    """The examples of every net."""
    large, small = load("mnist5k"), load("digits")
    halved = jax.jit(lambda images: avg_pool(images, 2))
    train, test = np.asarray(halved(large.train_images[: settings.images])), np.asarray(halved(large.test_images))
    labels = large.train_labels[: settings.images], large.test_labels

    rng = np.random.default_rng(seed)
    videos, directions = make_videos(small.train_images, settings.videos, settings.size, rng)
    test_videos, test_directions = make_videos(small.test_images, settings.videos // 3, settings.size, rng)

    def of_videos(change) -> Examples:
        return Examples(change(videos), directions, change(test_videos), test_directions)

    return {
        # The rows of an image become positions of a sequence, its columns channels.
        SEQUENCES: Examples(train[..., 0], labels[0], test[..., 0], labels[1]),
        IMAGES: Examples(train, labels[0], test, labels[1]),
        VIDEOS: of_videos(lambda videos: videos),
        SHUFFLED: of_videos(lambda videos: shuffled(videos, rng)),
        SINGLE: of_videos(lambda videos: videos[:, FRAMES // 2]),
    }


def measure(examples: Examples, epochs: int, seed: int) -> Measurement:
    """Trains the net on these examples and tests it."""
    classes = int(examples.train_labels.max()) + 1
    net = make_net(classes)
    params, _, history = fit(net, examples.train, examples.train_labels, epochs=epochs, learning_rate=5e-3, seed=seed)
    apply = jax.jit(net.apply)

    def confusion(test: np.ndarray) -> np.ndarray:
        counts = np.zeros((classes, classes), int)
        np.add.at(counts, (examples.test_labels, np.asarray(apply(params, test)).argmax(-1)), 1)
        return counts

    return Measurement(history["accuracy"], confusion(examples.test), confusion(examples.test[:, ::-1]))


def right(confusion: np.ndarray, turned: int = 0) -> float:
    """The share of the examples taken for the class that many further on than their own."""
    labels = np.arange(len(confusion))
    return float(confusion[labels, (labels + turned) % len(labels)].sum() / confusion.sum())


def check(settings: Settings) -> None:
    """Raises UsageError for the first setting that cannot be."""
    at_least(settings, images=64, videos=64, size=8, epochs=1, video_epochs=1, seeds=1)
    if settings.images > 4000:
        raise UsageError(f"images: got {settings.images}, expected at most 4000: there are no more")


def run(settings: Settings, folder: Path) -> Result:
    """The whole experiment; its figures go into the folder."""
    check(settings)
    found: dict[str, list[Measurement]] = {name: [] for name in COLORS}
    shapes = {}
    for seed in range(settings.seeds):
        examples = make_examples(settings, seed)
        for name, of_name in examples.items():
            epochs = settings.epochs if name in (SEQUENCES, IMAGES) else settings.video_epochs
            found[name].append(measure(of_name, epochs, seed))
            shapes[name] = of_name.train.shape[1:]
        if seed == 0:
            draw_inputs(examples, folder / "inputs.png")
    draw_learning(found, folder / "learning.png")
    draw_confusions(found, folder / "confusions.png")

    numbers: dict[str, Any] = {
        f"{name}: test accuracy": [right(m.confusion) for m in of_name] for name, of_name in found.items()
    }
    half_turn = len(DIRECTIONS) // 2
    opposite = [right(m.backwards, half_turn) for m in found[VIDEOS]]
    axis = [right(m.confusion) + right(m.confusion, half_turn) for m in found[SHUFFLED]]
    way = [right(m.confusion) / of_axis for m, of_axis in zip(found[SHUFFLED], axis, strict=True)]
    numbers |= {
        "videos played backwards: the opposite direction": opposite,
        "shuffled videos: the right axis": axis,
        "shuffled videos: the right way, of those": way,
    }
    # A share of 426 test videos has a standard deviation of 0.016 about 1/8 and of 0.024 about 1/2.
    chance, toss = 1 / len(DIRECTIONS), 0.5
    rows: list[Sequence[Any]] = [["input", "shape", "parameters", "test accuracy"]]
    for name in found:
        layers = summary(make_net(len(found[name][0].confusion)), shapes[name])
        tested = np.mean(numbers[f"{name}: test accuracy"])
        rows.append([name, "×".join(map(str, shapes[name])), layers.parameters, f"{tested:.1%}"])
    return Result(
        holds=(
            all(min(numbers[f"{name}: test accuracy"]) > least for name, least in LEAST.items())
            and min(opposite) > LEAST[VIDEOS]
            and max(numbers[f"{SINGLE}: test accuracy"]) < chance + 0.075
            and all(abs(share - toss) < 0.1 for share in way)
        ),
        numbers=numbers,
        figures={
            "inputs.png": "What the net is given: sequences, images and videos",
            "learning.png": "Training accuracy: mean and range over seeds",
            "confusions.png": "Which direction was taken for which, on test videos of all seeds",
        },
        tables={"One net": rows},
        text="\n\n".join(
            f"{name}, {'×'.join(map(str, shapes[name]))}\n{summary(make_net(10), shapes[name])}"
            for name in (SEQUENCES, IMAGES)
        )
        + f"\n\n{VIDEOS}, {'×'.join(map(str, shapes[VIDEOS]))}\n{summary(make_net(len(DIRECTIONS)), shapes[VIDEOS])}",
        seeds=settings.seeds,
        remark=(
            "Sequences and images show the digit; videos the direction, which no single frame shows. With frames "
            "shuffled a half is the best there can be, and more of the training videos than that is learned by heart."
        ),
    )


def draw_inputs(examples: dict[str, Examples], path: Path) -> None:
    """Four digits as sequences and as images, and three videos as film strips."""
    figure = plt.figure(figsize=(6, 7.8), layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=[2.5, 1.8, 3.0])
    top, middle, bottom = parts

    top.suptitle("1-D: the rows of a digit as steps in time, its columns as channels")
    middle.suptitle("2-D: the digit")
    for label, above, below in zip((2, 3, 5, 7), top.subplots(1, 4), middle.subplots(1, 4), strict=True):
        number = int(np.argmax(examples[IMAGES].test_labels == label))
        sequence, image = (examples[name].test[number] for name in (SEQUENCES, IMAGES))
        for channel, values in enumerate(sequence.T):
            base = len(sequence) - channel
            above.fill_between(np.arange(len(values)), base, base + 1.4 * values, color="white", zorder=channel)
            above.plot(base + 1.4 * values, color=COLORS[SEQUENCES], linewidth=1.3, zorder=channel)
        above.set(xlabel="time", yticks=[], xticks=[])
        below.imshow(image[..., 0], cmap="gray_r")
        below.set(xticks=[], yticks=[])
        if label == 2:
            above.set_ylabel("channels")

    bottom.suptitle("3-D: a digit on the move, one frame after the other")
    videos, directions = examples[VIDEOS].test, examples[VIDEOS].test_labels
    # Those that come near an edge least are read most easily.
    at_edges = videos[:, :, [0, -1]].sum((1, 2, 3, 4)) + videos[:, :, :, [0, -1]].sum((1, 2, 3, 4))
    for label, strip in zip((0, 3, 6), bottom.subplots(3, FRAMES), strict=True):
        number = int(np.argmin(np.where(directions == label, at_edges, np.inf)))
        for axes, frame in zip(strip, videos[number], strict=True):
            axes.imshow(frame[..., 0], cmap="gray_r", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        strip[0].set_ylabel(ARROWS[label], rotation=0, fontsize=22, color=COLORS[VIDEOS], labelpad=16)
        strip[0].yaxis.label.set_verticalalignment("center")
    save(figure, path)


def draw_learning(found: dict[str, list[Measurement]], path: Path) -> None:
    """Training accuracy over the epochs, of the three that learn and the two controls."""
    figure, axes = plt.subplots(figsize=(6, 5.8), layout="constrained")
    for name, of_name in found.items():
        values = 100 * np.stack([m.learning for m in of_name])
        epochs = np.arange(1, values.shape[1] + 1)
        tested = 100 * np.mean([right(m.confusion) for m in of_name])
        style = "--" if name in (SHUFFLED, SINGLE) else "-"
        label = f"{name}: {tested:.0f} % in test"
        bars = range_bars(values)
        axes.errorbar(epochs, values.mean(0), bars, fmt=style, marker="o", color=COLORS[name], capsize=3, label=label)
    axes.axhline(100 / len(DIRECTIONS), color="black", linestyle=":", label="chance of videos: 12.5 %")
    axes.set(title="The same net learns in one, two and three dimensions", xlabel="epoch", ylim=(0, 103))
    axes.set_ylabel("training accuracy, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    save(figure, path)


def draw_confusions(found: dict[str, list[Measurement]], path: Path) -> None:
    """Which direction was taken for which: in order, backwards, shuffled, a single frame."""
    figure, panels = plt.subplots(2, 2, figsize=(6, 6.6), layout="constrained")
    cases = {
        "in order": [m.confusion for m in found[VIDEOS]],
        "played backwards": [m.backwards for m in found[VIDEOS]],
        "frames shuffled": [m.confusion for m in found[SHUFFLED]],
        "a single frame": [m.confusion for m in found[SINGLE]],
    }
    for axes, (title, confusions) in zip(panels.flat, cases.items(), strict=True):
        counts = np.sum(confusions, 0)
        shares = 100 * counts / np.maximum(1, counts.sum(1, keepdims=True))
        shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axes.set_title(title, fontsize=13)
        axes.set_xticks(range(len(ARROWS)), ARROWS, fontsize=14)
        axes.set_yticks(range(len(ARROWS)), ARROWS, fontsize=14)
        axes.tick_params(length=0)
    for axes in panels[:, 0]:
        axes.set_ylabel("moved")
    for axes in panels[1]:
        axes.set_xlabel("taken for")
    figure.colorbar(shown, ax=panels, location="bottom", shrink=0.6, label="test videos of that direction, %")
    figure.suptitle("Which way did the digit move?")
    save(figure, path)


if __name__ == "__main__":
    sys.exit(command(Settings, run))
