"""Claim: in a dense net of 16 layers (Glorot's initial weights for sigmoid, He's for ReLU), the backpropagated error is
a million times smaller at the first layer than at the last hidden one through sigmoids, and less than ten times smaller
through ReLUs; on 4,000 real digits the sigmoid net stays at chance (below 15 %), the ReLU net gets above 85 % right.

The error is dL/dz, z the input of the activation: the chain rule takes it from layer to layer by a product with the
weights and one with the slope of the activation, so its size over depth is what the activation does to the gradient.
Measured for every layer at initialisation and after training, with the share of the units that are flat: those whose
slope is below a tenth of the largest one. Nets with tanh and GELU, and with sigmoid and tanh from weights four times as
large, show what is due to the slope (a sigmoid's is 1/4 at most) and what to saturation. All are trained alike, by
Adam; biases begin at zero, weights are uniform.

    python -m experiments.vanishing
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax
from jax.nn import initializers
from matplotlib.axes import Axes

from experiments.claim import Result, UsageError, at_least, command
from experiments.data import load
from experiments.figures import plt, range_bars, save
from experiments.learning import accuracy, fit
from jaxconv import softmax_cross_entropy_with_integer_labels
from jaxconv.layers import (
    Layer,
    dense_layer,
    flatten_layer,
    gelu_layer,
    relu_layer,
    serial,
    sigmoid_layer,
    tanh_layer,
)

MEASURED = 1000
"""Training images over which errors and slopes are measured."""
FLAT = 0.1
"""A unit is flat where the activation's slope is below this share of its largest."""
SHRINKS, KEEPS = 1e-6, 0.1
"""The error at the first layer over that at the last hidden one: below for sigmoid, above for ReLU."""
DEEPEST = 28
"""Layers. Beyond, the squares of the errors at the first of them are too small for float32, through sigmoids."""
CHANCE, LEARNED = 0.15, 0.85
"""Test accuracy: below for sigmoid, above for ReLU."""


class Kind(NamedTuple):
    """An activation, how the weights before it begin, and how it is drawn."""

    activation: Layer
    w_init: Any
    initial: str
    color: str
    marker: str


_glorot, _he = initializers.glorot_uniform(), initializers.he_uniform()
_large = initializers.variance_scaling(16.0, "fan_avg", "uniform")  # a standard deviation four times Glorot's

KINDS = {
    "sigmoid": Kind(sigmoid_layer, _glorot, "Glorot", "tab:red", "o"),
    "sigmoid, large weights": Kind(sigmoid_layer, _large, "4 times Glorot's", "lightcoral", "v"),
    "tanh": Kind(tanh_layer, _glorot, "Glorot", "tab:purple", "s"),
    "tanh, large weights": Kind(tanh_layer, _large, "4 times Glorot's", "plum", "^"),
    "ReLU": Kind(relu_layer, _he, "He", "tab:blue", "D"),
    "GELU": Kind(gelu_layer(), _he, "He", "tab:green", "P"),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Measure the backpropagated error per layer of deep nets that differ in their activation, and train them."""

    data: str = "mnist5k"
    """Which digits: mnist5k (5,000 of MNIST, 28x28) or digits (1,797 of UCI, 8x8)."""
    nets: tuple[str, ...] = tuple(KINDS)
    """Which nets, by activation; sigmoid and ReLU, which the claim is about, must be among them."""
    depth: int = 16
    """Dense layers of each net, the last of them the ten outputs; 3 to 28."""
    width: int = 64
    """Units of each hidden layer."""
    epochs: int = 8
    """Passes over the training images."""
    seeds: int = 3
    """Initial weights and orders of the images, from seed 0 on."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""


class Measurement(NamedTuple):
    """What one net shows; per hidden layer, the first of them at the pixels.

    Args:
        errors: (2, layers), at initialisation and after training: the root mean square over the images of |dL/dz|.
        flat: (2, layers), the share of the units, over the images, that are flat.
        largest_slope: of the activation, over all units, images and layers.
        learning: training accuracy of every epoch.
        test_accuracy: after training.
    """

    errors: np.ndarray
    flat: np.ndarray
    largest_slope: float
    learning: np.ndarray
    test_accuracy: float

    @property
    def ratio(self) -> float:
        """The error at the first layer over that at the last hidden one, at initialisation."""
        return float(self.errors[0, 0] / self.errors[0, -1])


def stack(layer: Layer, count: int) -> Layer:
    """The layer `count` times, one after the other, in a scan: it is compiled once, whatever the depth."""

    def init(key, input_shape, dtype=jnp.float32):
        return jax.vmap(lambda key: layer.init(key, input_shape, dtype))(jax.random.split(key, count))

    def apply(params, x):
        return lax.scan(lambda x, of_one: (layer.apply(of_one, x), None), x, params)[0]

    return Layer(f"{count} times {layer.name}", init, apply)


def make_net(kind: Kind, depth: int, width: int, classes: int) -> Layer:
    """Flattening, a dense layer, `depth` − 2 times the activation and a dense layer, and both of them once more."""
    hidden = dense_layer(width, w_init=kind.w_init)
    return serial(
        flatten_layer,
        hidden,
        stack(serial(kind.activation, hidden), depth - 2),
        kind.activation,
        dense_layer(classes, w_init=_glorot),
    )


def slopes(activation: Layer, z: jax.Array) -> jax.Array:
    """The derivative of the activation at z, by its backward rule."""
    _, backward = jax.vjp(lambda z: activation.apply((), z), z)
    return backward(jnp.ones_like(z))[0]


def errors_and_slopes(kind: Kind, net: Layer, params: Any, images: jax.Array, labels: jax.Array):
    """|dL/dz| of every image in every hidden layer, (layers, N), and the slopes there, (layers, N, units).

    L is the loss of one image. dL/dz is the gradient with respect to a zero that is added to z.
    """
    flatten_, first, stacked, activation, last = net.layers
    block = serial(kind.activation, first)

    def loss(zeros):
        z = first.apply(params[1], flatten_.apply(params[0], images)) + zeros[0]

        def step(z, layer):
            of_one, zero = layer
            z = block.apply(of_one, z) + zero
            return z, z

        z_last, zs = lax.scan(step, z, (params[2], zeros[1:]))
        logits = last.apply(params[4], activation.apply(params[3], z_last))
        values = softmax_cross_entropy_with_integer_labels(logits, labels)
        return values.sum(), jnp.concatenate([z[None], zs])

    depth, width = len(jax.tree.leaves(params[2])[0]) + 1, params[1]["b"].size
    errors, z = jax.grad(loss, has_aux=True)(jnp.zeros((depth, len(labels), width), images.dtype))
    return jnp.sqrt((errors**2).sum(-1)), slopes(kind.activation, z)


def measure(kind: Kind, settings: Settings, data) -> list[Measurement]:
    """What the nets of this kind show, one per seed."""
    net = make_net(kind, settings.depth, settings.width, data.classes)
    images, labels = jnp.asarray(data.train_images[:MEASURED]), jnp.asarray(data.train_labels[:MEASURED])
    init = jax.jit(net.init, static_argnums=1)
    largest = float(slopes(kind.activation, jnp.linspace(-6, 6, 2401, dtype=jnp.float32)).max())

    @jax.jit
    def per_layer(params):
        errors, slope = errors_and_slopes(kind, net, params, images, labels)
        flat = abs(slope) < FLAT * largest
        return jnp.sqrt((errors**2).mean(-1)), flat.mean((1, 2)), slope.max()

    found = []
    for seed in range(settings.seeds):
        init_key, _ = jax.random.split(jax.random.key(seed))  # as fit does
        before = init(init_key, data.image_shape)
        after, _, history = fit(
            net,
            data.train_images,
            data.train_labels,
            epochs=settings.epochs,
            learning_rate=1e-3,
            seed=seed,
        )
        errors, flat, slope = (np.stack(pair) for pair in zip(per_layer(before), per_layer(after), strict=True))
        tested = accuracy(net, after, data.test_images, data.test_labels)
        found.append(Measurement(errors, flat, float(slope.max()), history["accuracy"], tested))
    return found


def check(settings: Settings) -> None:
    """Raises UsageError for the first setting that cannot be."""
    at_least(settings, depth=3, width=1, epochs=1, seeds=1)
    if settings.depth > DEEPEST:
        raise UsageError(
            f"depth: got {settings.depth}, expected at most {DEEPEST}: smaller errors have no square in float32"
        )
    for name in settings.nets:
        if name not in KINDS:
            raise UsageError(f"nets: got {name!r}, expected some of {'; '.join(KINDS)}")
    for name in ("sigmoid", "ReLU"):
        if name not in settings.nets:
            raise UsageError(f"nets: got no {name}, expected sigmoid and ReLU among them: the claim is about these")


def run(settings: Settings, folder: Path) -> Result:
    """The whole experiment; its figures go into the folder."""
    check(settings)
    data = load(settings.data)
    found = {name: measure(KINDS[name], settings, data) for name in settings.nets}

    draw_errors(found, folder / "errors.png")
    draw_saturation(found, folder / "saturation.png")
    draw_learning(found, folder / "learning.png")
    numbers: dict[str, Any] = {}
    rows: list[Sequence[Any]] = [["net", "initial weights", "error, first over last", "flat units", "test accuracy"]]
    for name, of_seeds in found.items():
        ratios, accuracies = [m.ratio for m in of_seeds], [m.test_accuracy for m in of_seeds]
        flat = [float(m.flat[0].mean()) for m in of_seeds]
        numbers |= {f"{name}: error ratio": ratios, f"{name}: test accuracy": accuracies, f"{name}: flat units": flat}
        mean = f"{np.exp(np.mean(np.log(ratios))):.1e}"
        rows.append([name, KINDS[name].initial, mean, f"{np.mean(flat):.0%}", f"{np.mean(accuracies):.1%}"])
    steepest = max(m.largest_slope for m in found["sigmoid"])
    numbers["sigmoid: largest slope of any unit"] = steepest
    return Result(
        holds=(
            all(m.ratio < SHRINKS and m.test_accuracy < CHANCE for m in found["sigmoid"])
            and all(m.ratio > KEEPS and m.test_accuracy > LEARNED for m in found["ReLU"])
            and steepest <= 0.25 * (1 + float(np.finfo(np.float32).eps))  # as computed: one rounding more
        ),
        numbers=numbers,
        figures={
            "errors.png": "The backpropagated error over depth, before and after training: mean and range over seeds",
            "saturation.png": "The slopes of the activations, and the share of flat units in every layer",
            "learning.png": "Training accuracy: mean and range over seeds",
        },
        tables={"At initialisation, and what was learned": rows},
        seeds=settings.seeds,
        remark=remark(found),
    )


def remark(found: dict[str, list[Measurement]]) -> str:
    """Whether it was saturation, by the share of flat units at initialisation."""

    def shown(name: str) -> str:
        flat = np.mean([m.flat[0].mean() for m in found[name]])
        ratio = np.exp(np.mean([np.log(m.ratio) for m in found[name]]))
        tested = np.mean([m.test_accuracy for m in found[name]])
        return f"{name}: {flat:.0%} of the units flat, an error ratio of {ratio:.2g}, {tested:.0%} right"

    text = (
        f"What vanishes at Glorot's weights vanishes by slopes of 1/4 at best, not by saturation ({shown('sigmoid')})."
    )
    large = [name for name in found if KINDS[name].w_init is _large]
    if large:
        text += f" From weights four times as large, {'; '.join(map(shown, large))}."
    return text


def draw_errors(found: dict[str, list[Measurement]], path: Path) -> None:
    """The error at every layer relative to that at the last hidden one, on a log axis."""
    figure, panels = plt.subplots(2, 1, figsize=(6, 8.4), layout="constrained", sharex=True)
    for number, (axes, title) in enumerate(zip(panels, ("at initialisation", "after training"), strict=True)):
        for name, of_seeds in found.items():
            errors = np.stack([m.errors[number] for m in of_seeds])
            _spread(axes, name, errors / errors[:, -1:], geometric=True)
        axes.set(yscale="log", title=f"Backpropagated error, {title}", ylabel="|∂L/∂z|, relative to the last layer's")
        axes.axhline(1, color="black", linewidth=0.8)
        ratio = np.exp(np.mean([np.log(m.errors[number, 0] / m.errors[number, -1]) for m in found["sigmoid"]]))
        axes.annotate(
            f"{1 / ratio:,.0f} times smaller",
            (1, ratio),
            xytext=(12, -4),
            textcoords="offset points",
            color=KINDS["sigmoid"].color,
            fontsize=12,
        )
    panels[-1].set_xlabel("layer (the pixels are left of 1)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save(figure, path)


def draw_saturation(found: dict[str, list[Measurement]], path: Path) -> None:
    """What slopes there are, and how many units are on the flat parts."""
    figure, panels = plt.subplots(3, 1, figsize=(6, 10.5), layout="constrained")
    z = np.linspace(-6, 6, 601, dtype=np.float32)
    for name in found:
        if "," not in name:
            slope = np.asarray(slopes(KINDS[name].activation, jnp.asarray(z)))
            panels[0].plot(z, slope, color=KINDS[name].color, linewidth=2)
    panels[0].axhline(0.25, color="tab:red", linestyle=":")
    panels[0].annotate("1/4", (5.9, 0.27), color="tab:red", ha="right", fontsize=12)
    panels[0].set(title="Slope of the activation: a sigmoid's is 1/4 at best", xlabel="z", ylabel="slope φ′(z)")
    panels[0].grid(alpha=0.3)
    for number, title in enumerate(("at initialisation", "after training")):
        axes = panels[number + 1]
        for name, of_seeds in found.items():
            _spread(axes, name, 100 * np.stack([m.flat[number] for m in of_seeds]))
        axes.set(title=f"Flat units, {title}", xlabel="layer", ylabel="units with φ′ < max φ′/10, %", ylim=(-4, 104))
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save(figure, path)


def draw_learning(found: dict[str, list[Measurement]], path: Path) -> None:
    """Training accuracy over the epochs."""
    figure, axes = plt.subplots(figsize=(6, 5.6), layout="constrained")
    for name, of_seeds in found.items():
        tested = np.mean([m.test_accuracy for m in of_seeds])
        _spread(axes, name, 100 * np.stack([m.learning for m in of_seeds]), label=f"{name} ({100 * tested:.0f} % test)")
    axes.axhline(10, color="black", linestyle=":", label="chance")
    axes.set(title="What a deep net learns", xlabel="epoch", ylabel="training accuracy, %", ylim=(0, 103))
    figure.legend(loc="outside lower center", ncols=2)
    save(figure, path)


def _spread(axes: Axes, name: str, values: np.ndarray, *, label: str = "", geometric: bool = False) -> None:
    """The mean of (seeds, positions) as a line with marks, from the lowest to the highest as bars."""
    mean = np.exp(np.log(values).mean(0)) if geometric else values.mean(0)
    bars, kind = range_bars(values, mean), KINDS[name]
    positions = np.arange(1, values.shape[1] + 1)
    axes.errorbar(
        positions, mean, bars, color=kind.color, marker=kind.marker, markersize=5, capsize=3, label=label or name
    )
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(command(Settings, run))
