"""Claim: on CIFAR-10, after 4 passes over 10,000 of its images, INPUT-CONV-RELU-POOL-FC names at least 48 % of the
10,000 test images; with batch norm and a second block, and 41 % fewer parameters, it names at least 52 %, and at least
1 point more than the first net with every seed.

The first net is that of the notes on convolutional nets, 32x32x3 -> 32x32x12 -> 16x16x12 -> 10. The second has two
blocks of convolution, batch norm, ReLU and pooling, to 16x16x12 and 8x8x24, before its dense layer. Both see the same
images, normalised per channel and mirrored at random. With all 50,000 images and more passes both get further: the
third command.

The images come through the `datasets` library: from the hub, or from a folder of parquet files such as the hub's. The
claim is from a copy whose images were compressed as JPEG; the hub's are lossless.

    python -m experiments.cifar10
    python -m experiments.cifar10 --data-dir DIR
    python -m experiments.cifar10 --images 50000 --epochs 8 --seeds 1
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments import figures
from experiments.claim import Result, UsageError, at_least, command, spread
from experiments.data import CIFAR10_CLASSES, DataSet, cifar10
from experiments.figures import plt
from experiments.learning import fit
from jaxconv import batch_norm_inference
from jaxconv.layers import (
    Layer,
    batch_norm_layer,
    conv_layer,
    dense_layer,
    flatten_layer,
    max_pool_layer,
    relu_layer,
    serial,
    summary,
)
from jaxconv.nets import notes_net
from jaxconv.training import TrainState, evaluate

NOTES, DEEPER = "CONV-RELU-POOL-FC", "batch norm, two blocks"
LEAST = {NOTES: 0.48, DEEPER: 0.52}
GAIN = 0.01
COLOURS = {NOTES: "tab:blue", DEEPER: "tab:orange"}
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Settings:
    """Train the net of the notes, and a deeper one, on CIFAR-10."""

    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """A folder with train-*.parquet and test-*.parquet as in the hub's repository; by default the hub itself."""
    images: int = 10_000
    """How many of the 50,000 training images to use: a random choice, always the same."""
    epochs: int = 4
    """Passes over the training images."""
    seeds: int = 3
    """Initial parameters, order and mirroring follow from each."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


def deeper_net(classes: int = 10) -> Layer:
    """INPUT-[CONV-BATCHNORM-RELU-POOL]x2-FC, with 12 and 24 features."""
    blocks = [
        layer
        for features in (12, 24)
        for layer in (
            conv_layer(features, 3, padding="SAME", use_bias=False),  # batch norm has one
            batch_norm_layer(),
            relu_layer,
            max_pool_layer(2),
        )
    ]
    return serial(*blocks, flatten_layer, dense_layer(classes))


def normalise_layer(images: np.ndarray) -> Layer:
    """Every channel minus its mean over these images (some 5,000 of them), over its standard deviation."""
    some = images[:: max(1, len(images) // 5000)].astype(np.float32)
    mean, var = some.mean((0, 1, 2)), some.var((0, 1, 2))

    def apply(params: Any, x: jax.Array) -> jax.Array:
        del params
        return batch_norm_inference(x.astype(jnp.float32), jnp.asarray(mean), jnp.asarray(var))

    return Layer("normalise", lambda key, input_shape, dtype=jnp.float32: (), apply)


def mirrored(key: jax.Array, images: jax.Array) -> jax.Array:
    """Every image left to right, or not, at random."""
    return jnp.where(jax.random.bernoulli(key, shape=(len(images), 1, 1, 1)), images[:, :, ::-1], images)


@dataclasses.dataclass
class Trained:
    """What one net did, one entry per seed: accuracy after every epoch, parameters, and labels of the test images."""

    net: Layer
    test: list[list[float]] = dataclasses.field(default_factory=list)
    train: list[list[float]] = dataclasses.field(default_factory=list)
    params: list[Any] = dataclasses.field(default_factory=list)
    labels: list[np.ndarray] = dataclasses.field(default_factory=list)

    @property
    def accuracy(self) -> list[float]:
        """On the test images, after the last epoch."""
        return [curve[-1] for curve in self.test]


def trained(net: Layer, data: DataSet, settings: Settings) -> Trained:
    """The net, trained anew with every seed."""
    net = serial(normalise_layer(data.train_images), net)

    @jax.jit
    def predict(variables, images):
        return {"label": net.apply(variables[0], images, *variables[1:]).argmax(-1)}

    result = Trained(net)
    for seed in range(settings.seeds):
        result.test.append([])

        def report(epoch: int, metrics: dict[str, float], state: TrainState, seed: int = seed) -> None:
            del metrics
            variables = (state.params, state.net_state) if net.stateful else (state.params,)
            labels = evaluate(predict, variables, data.test_images, batch_size=500)["label"]
            result.test[seed].append(float((labels == data.test_labels).mean()))
            if epoch == settings.epochs:
                result.labels.append(labels)

        params, _, history = fit(
            net, data.train_images, data.train_labels, epochs=settings.epochs, batch_size=BATCH, seed=seed,
            augment=mirrored, report=report,
        )  # fmt: skip
        result.train.append(history["accuracy"].tolist())
        result.params.append(jax.device_get(params))
    return result


# --- figures ---


def draw_curves(results: dict[str, Trained], path: Path) -> None:
    """Test and training accuracy of both nets after every epoch."""
    figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
    for name, result in results.items():
        test, train = np.array(result.test), np.array(result.train)
        epochs = np.arange(1, test.shape[1] + 1)
        label = f"{name}, test: {100 * test[:, -1].mean():.1f} %"
        axes.errorbar(
            epochs, test.mean(0), spread(test), color=COLOURS[name], marker="o", capsize=5, linewidth=2.5, label=label
        )
        axes.plot(epochs, train.mean(0), "--", color=COLOURS[name], linewidth=1.5)
    axes.plot([], [], "--", color="gray", label="in training")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("epoch", fontsize=15)
    axes.set_ylabel("accuracy", fontsize=15)
    axes.tick_params(labelsize=14)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=14, loc="lower right")
    seeds = len(result.test)
    axes.set_title(f"CIFAR-10 (mean ± standard deviation of {seeds} seed{'s' * (seeds > 1)})", fontsize=16)
    figures.save(figure, path)


def draw_filters(layers: Layer, params: Any, image: np.ndarray, path: Path) -> None:
    """The twelve filters of the first layer as colours, gray is 0, and what each and its ReLU make of an image.

    Args:
        layers: normalisation and a net that begins with a convolution and a ReLU.
        params: those of `layers`.
        image: (32, 32, 3), uint8.
        path: where the figure goes.
    """
    normalise, net = layers.layers
    convolution, relu = net.layers[:2]
    x = normalise.apply((), jnp.asarray(image[None]))
    seen = np.asarray(relu.apply((), convolution.apply(params[1][0], x)))[0]
    kernels = params[1][0]["w"].transpose(3, 0, 1, 2)
    figure = plt.figure(figsize=(8, 8.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.5, 4))  # pyright: ignore[reportGeneralTypeIssues]
    axes = above.subplots()
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    above.suptitle("A test image, and the 12 filters of the first layer with their maps of it", fontsize=16)
    grid = below.subplots(4, 6)
    for number, kernel in enumerate(kernels):
        row, column = divmod(number, 6)
        grid[2 * row, column].imshow(0.5 + 0.5 * kernel / np.abs(kernel).max())
        grid[2 * row + 1, column].imshow(seen[..., number], cmap="gray", vmin=0, vmax=max(seen.max() / 2, 1e-6))
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    figures.save(figure, path)


def draw_confusion(result: Trained, truth: np.ndarray, path: Path) -> None:
    """How the images of every class were named, in the mean over the seeds."""
    counts = np.zeros((10, 10))
    for labels in result.labels:
        np.add.at(counts, (truth, labels), 1)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(8, 8), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 50 else "black"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=14)
    axes.set_xticks(range(10), CIFAR10_CLASSES, rotation=50, ha="right", rotation_mode="anchor", fontsize=14)
    axes.set_yticks(range(10), CIFAR10_CLASSES, fontsize=14)
    axes.set_xlabel("named by the net", fontsize=15)
    axes.set_ylabel("what it is", fontsize=15)
    axes.set_title(f"{DEEPER}: of 100 images of a class", fontsize=16)
    figures.save(figure, path)


def draw_samples(images: np.ndarray, truth: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Test images drawn at random, with what the net named them."""
    chosen = np.random.default_rng(0).permutation(len(truth))[:15]
    figure, grid = plt.subplots(3, 5, figsize=(8, 6.4), layout="constrained")
    for axes, number in zip(grid.flat, chosen, strict=False):
        right = labels[number] == truth[number]
        axes.imshow(images[number])
        axes.set_title(CIFAR10_CLASSES[labels[number]], color="#107020" if right else "#c01010", fontsize=14, pad=4)
        if not right:
            axes.set_xlabel(f"is: {CIFAR10_CLASSES[truth[number]]}", fontsize=13)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    figure.suptitle("Test images drawn at random, and their names by the deeper net", fontsize=16)
    figures.save(figure, path)


# --- the experiment ---


def check(settings: Settings) -> None:
    """Raises UsageError for the first setting that cannot be."""
    at_least(settings, images=BATCH, epochs=1, seeds=1)


def run(settings: Settings, folder: Path) -> Result:
    """The whole experiment."""
    check(settings)
    data = cifar10(settings.data_dir, settings.images)
    if len(data.train_labels) < BATCH:
        raise UsageError(f"data: got {len(data.train_labels)} training images, expected at least {BATCH}, one batch")
    nets = {NOTES: notes_net(), DEEPER: deeper_net()}
    results = {name: trained(net, data, settings) for name, net in nets.items()}
    counted = {name: summary(net, data.image_shape) for name, net in nets.items()}
    gains = [deeper - notes for notes, deeper in zip(results[NOTES].accuracy, results[DEEPER].accuracy, strict=True)]
    holds = (
        all(min(results[name].accuracy) >= least for name, least in LEAST.items())
        and min(gains) >= GAIN
        and counted[DEEPER].parameters < counted[NOTES].parameters
    )
    draw_curves(results, folder / "curves.png")
    notes = results[NOTES]
    draw_filters(notes.net, notes.params[0], data.test_images[0], folder / "filters.png")
    draw_confusion(results[DEEPER], data.test_labels, folder / "confusion.png")
    draw_samples(data.test_images, data.test_labels, results[DEEPER].labels[0], folder / "samples.png")
    return Result(
        holds=holds,
        numbers={
            "notes_accuracy": results[NOTES].accuracy,
            "deeper_accuracy": results[DEEPER].accuracy,
            "gain": gains,
            "notes_parameters": counted[NOTES].parameters,
            "deeper_parameters": counted[DEEPER].parameters,
            "train_images": len(data.train_labels),
            "test_images": len(data.test_labels),
        },
        figures={
            "curves.png": "Test accuracy of both nets after every epoch",
            "filters.png": "The filters of CONV-RELU-POOL-FC as colours, trained from random ones, and what they see",
            "confusion.png": "What the deeper net takes every class for",
            "samples.png": "Test images drawn at random, named by the deeper net: green is right, red is wrong",
        },
        text="\n\n".join(f"{name}\n{table}" for name, table in counted.items()),
        seeds=settings.seeds,
    )


if __name__ == "__main__":
    sys.exit(command(Settings, run))
