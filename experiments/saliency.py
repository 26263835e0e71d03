"""Claim: erasing the fifth of a digit's ink that integrated gradients or occlusion call most important takes the net's
probability of its class below 0.5, the fifth that plain saliency or Grad-CAM choose takes it at least 0.05 lower than a
fifth at random; and integrated gradients sum to the rise of the logit within 5 %.

The backward pass says what in an image made the net decide as it did. Four readings of it, for the class c that the net
chose and its logit f_c, on real digits:

    saliency                |d f_c / d x|
    integrated gradients    x · mean of d f_c / d x along the line from black to x; they sum to f_c(x) − f_c(black)
    occlusion               how much f_c falls when a 6x6 square is blacked out: forward passes alone, to compare with
    Grad-CAM                relu(sum_k a_k · A_k), A the last feature maps, a_k the mean of d f_c / d A_k

The test of all four: erase the pixels of the digit's ink that a map calls most important, and see how far the
probability of c falls, beside erasing as many pixels of ink at random.

    python -m experiments.saliency
"""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.claim import Result, at_least, command, spread
from experiments.data import load
from experiments.figures import plt, save
from experiments.learning import accuracy, fit
from jaxconv import relu, softmax
from jaxconv.layers import conv_layer, dense_layer, global_avg_pool_layer, max_pool_layer, relu_layer, serial

# A head that averages over all positions: the mean gradient of Grad-CAM is then what the head does with a map.
FEATURES = serial(
    conv_layer(16, 3, padding="SAME"),
    relu_layer,
    max_pool_layer(2),
    conv_layer(32, 3, padding="SAME"),
    relu_layer,
    max_pool_layer(2),
    conv_layer(64, 3, padding="SAME"),
    relu_layer,
)
HEAD = serial(global_avg_pool_layer, dense_layer(10))
NET = serial(FEATURES, HEAD)

METHODS = ("saliency", "integrated gradients", "occlusion", "Grad-CAM")
FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
# What the claim is about: this share of the ink erased.
ERASED = 0.2


@dataclasses.dataclass(frozen=True)
class Settings:
    """Explain the decisions of a small net on real digits, and test the explanations."""

    seeds: int = 3
    """How many nets, each from other initial parameters."""
    epochs: int = 8
    """Passes over the training digits."""
    images: int = 64
    """Test digits that are explained, of those the net gets right."""
    path: int = 64
    """Points on the line from black to the image, for integrated gradients."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


def logits_of(params, x, labels):
    """f_c(x) of every image (N, 28, 28, 1), c its label."""
    return jnp.take_along_axis(NET.apply(params, x), labels[:, None], 1)[:, 0]


def gradient(params, x, labels):
    """d f_c / d x of every image: each logit depends on its own image alone."""
    return jax.grad(lambda x: logits_of(params, x, labels).sum())(x)


@jax.jit
def saliency(params, x, labels):
    """|d f_c / d x|, (N, 28, 28)."""
    return jnp.abs(gradient(params, x, labels))[..., 0]


@functools.partial(jax.jit, static_argnames="path")
def integrated_gradients(params, x, labels, path):
    """x · the mean of d f_c / d x at the middles of `path` equal parts of the line from black to x, (N, 28, 28)."""
    middles = (jnp.arange(path, dtype=x.dtype) + 0.5) / path
    total, _ = jax.lax.scan(
        lambda total, t: (total + gradient(params, t * x, labels), None), jnp.zeros_like(x), middles
    )
    return (x * total / path)[..., 0]


@functools.partial(jax.jit, static_argnames=("size", "step"))
def occlusion(params, x, labels, size=6, step=2):
    """The fall of f_c when the square around every other pixel is black, repeated to (N, 28, 28)."""
    height, width = (n // step for n in x.shape[1:3])
    rows, columns = jnp.arange(x.shape[1]), jnp.arange(x.shape[2])

    def fall(position):
        top, left = (step * place + step // 2 - size // 2 for place in (position // width, position % width))
        inside = ((rows >= top) & (rows < top + size))[:, None] & ((columns >= left) & (columns < left + size))[None]
        return before - logits_of(params, jnp.where(inside[..., None], 0, x), labels)

    before = logits_of(params, x, labels)
    falls = jax.lax.map(fall, jnp.arange(height * width)).T.reshape(-1, height, width)
    return falls.repeat(step, 1).repeat(step, 2)


@jax.jit
def grad_cam(params, x, labels):
    """relu(sum_k a_k · A_k) of the last feature maps, each of their pixels repeated to the size of the image."""
    of_features, of_head = params
    maps = FEATURES.apply(of_features, x)

    def head(maps):
        return jnp.take_along_axis(HEAD.apply(of_head, maps), labels[:, None], 1).sum()

    weights = jax.grad(head)(maps).mean((1, 2), keepdims=True)
    cam = relu((weights * maps).sum(-1))
    return cam.repeat(x.shape[1] // maps.shape[1], 1).repeat(x.shape[2] // maps.shape[2], 2)


@jax.jit
def probability_after(params, x, labels, scores, fraction):
    """The probability of each image's class after this share of its ink is black, the highest scores first."""
    ink = x[..., 0].reshape(len(x), -1) > 0.25
    scores = jnp.where(ink, scores.reshape(ink.shape), -jnp.inf)
    rank = scores.argsort(1, descending=True).argsort(1)
    erased = rank.astype(x.dtype) < jnp.round(fraction * ink.astype(x.dtype).sum(1, keepdims=True))
    x = jnp.where(erased.reshape(x.shape), 0, x)
    return jnp.take_along_axis(softmax(NET.apply(params, x)), labels[:, None], 1)[:, 0]


def run(settings: Settings, folder: Path) -> Result:
    """The experiment."""
    at_least(settings, seeds=1, epochs=1, images=1, path=1)
    data = load("mnist5k")
    accuracies, incomplete, explained = [], [], []
    curves: dict[str, list[list[float]]] = {name: [] for name in (*METHODS, "at random")}
    shown = None
    for seed in range(settings.seeds):
        params, _, _ = fit(
            NET, data.train_images, data.train_labels, epochs=settings.epochs, learning_rate=1e-2, seed=seed
        )
        accuracies.append(accuracy(NET, params, data.test_images, data.test_labels))
        guesses = np.asarray(NET.apply(params, data.test_images).argmax(-1))
        right = np.random.default_rng(seed).permutation(np.nonzero(guesses == data.test_labels)[0])[: settings.images]
        x, labels = jnp.asarray(data.test_images[right]), jnp.asarray(data.test_labels[right])
        explained.append(len(right))
        maps = {
            "saliency": saliency(params, x, labels),
            "integrated gradients": integrated_gradients(params, x, labels, settings.path),
            "occlusion": occlusion(params, x, labels),
            "Grad-CAM": grad_cam(params, x, labels),
        }
        rise = logits_of(params, x, labels) - logits_of(params, jnp.zeros_like(x), labels)
        error = jnp.abs(maps["integrated gradients"].sum((1, 2)) - rise)
        incomplete.append(float(error.max() / jnp.abs(rise).mean()))
        for name in curves:
            scores = maps[name] if name in maps else jax.random.uniform(jax.random.key(seed), x.shape[:-1])
            curves[name].append(
                [float(probability_after(params, x, labels, scores, fraction).mean()) for fraction in FRACTIONS]
            )
        if shown is None:
            shown = np.asarray(x), np.asarray(labels), {name: np.asarray(value) for name, value in maps.items()}
    assert shown is not None
    draw_maps(*shown, folder / "maps.png")
    draw_curves({name: np.array(values) for name, values in curves.items()}, folder / "erasing.png")
    at = FRACTIONS.index(ERASED)
    left = {name: [values[at] for values in curves[name]] for name in curves}
    holds = (
        max(incomplete) < 0.05
        and max(left["integrated gradients"] + left["occlusion"]) < 0.5
        and all(
            left[name][seed] < left["at random"][seed] - 0.05
            for name in ("saliency", "Grad-CAM")
            for seed in range(settings.seeds)
        )
    )
    return Result(
        holds=holds,
        numbers={
            **{f"probability of the class, {ERASED:.0%} of the ink erased: {name}": left[name] for name in curves},
            "the same before": [values[0] for values in curves["saliency"]],
            "integrated gradients: worst error of a sum, over the mean rise of the logit": incomplete,
            "test accuracy": accuracies,
            "digits explained": explained,
        },
        figures={
            "maps.png": "What made the net see each digit. Red counts for the class, blue against it; but saliency "
            "shows only how much, not which way, and Grad-CAM only what counts for it.",
            "erasing.png": "The probability of the class as ink is erased, most important first (mean and standard "
            "deviation over the seeds)",
        },
        seeds=settings.seeds,
    )


def draw_maps(x: np.ndarray, labels: np.ndarray, maps: dict[str, np.ndarray], path: Path) -> None:
    """One row per digit 0, 2, 3, 5, 8 (or of whatever there is), one column per method."""
    digits = [d for d in (0, 2, 3, 5, 8) if (labels == d).any()] or [int(labels[0])]
    figure, grid = plt.subplots(
        len(digits), 1 + len(maps), figsize=(8, 1.75 * len(digits) + 0.4), squeeze=False, layout="constrained"
    )
    titles = {"integrated gradients": "integrated\ngradients"}
    for first, row, digit in zip((True, *(False,) * len(digits)), grid, digits, strict=False):
        number = int(np.nonzero(labels == digit)[0][0])
        row[0].imshow(x[number, ..., 0], cmap="gray_r")
        row[0].set_ylabel(f"“{digit}”", rotation=0, labelpad=14, va="center", fontsize=15)
        for axes, (name, values) in zip(row[1:], maps.items(), strict=True):
            most = np.abs(values[number]).max() or 1
            axes.imshow(values[number], cmap="RdBu_r", vmin=-most, vmax=most)
            axes.contour(x[number, ..., 0], levels=[0.5], colors="black", linewidths=0.7)
            if first:
                axes.set_title(titles.get(name, name), fontsize=13)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    save(figure, path)


def draw_curves(curves: dict[str, np.ndarray], path: Path) -> None:
    """The mean over seeds, with its standard deviation."""
    figure, axes = plt.subplots(figsize=(7, 4.6), layout="constrained")
    for name, values in curves.items():
        random = name == "at random"
        axes.errorbar(
            100 * np.array(FRACTIONS),
            values.mean(0),
            spread(values),
            color="black" if random else None,
            linestyle="--" if random else "-",
            marker="o",
            capsize=3,
            label=name,
        )
    axes.set_xlabel("ink erased, %", fontsize=13)
    axes.set_ylabel("probability of the class", fontsize=13)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=12)
    save(figure, path)


if __name__ == "__main__":
    sys.exit(command(Settings, run))
