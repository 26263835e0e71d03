"""Claim: on a CPU, whole training steps are several times faster with our ops than with Flax as it comes.

Every net is one Flax module that is handed its convolutions, pooling and batch normalisation: lax's and Flax's own, or
ours. A step is the loss, all gradients and an update by momentum, jitted, its state donated. PyTorch, where it is
installed, has the same net in channels-last. All sides go round by round in one process; what counts are the ratios of
the medians. The first losses of both Flax nets must agree.

    python -m experiments.bench_nets --output runs/bench
"""

# pyright: reportCallIssue=false
# Flax makes its modules dataclasses, which pyright does not see where Flax is not installed.

import dataclasses
import functools
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import linen as nn  # pyright: ignore[reportMissingImports]
from jax import lax
from rich.console import Console
from rich.table import Column, Table

import jaxconv
from experiments.bench_layers import geometric_mean, medians, tunables


@dataclasses.dataclass(frozen=True)
class Settings:
    """Time training steps with our ops against Flax's and PyTorch's, side by side."""

    rounds: int = 12
    """Steps per net and side; the median counts."""
    only: str = ""
    """Run the nets whose name contains this."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write bench_nets.json there."""


@dataclasses.dataclass(frozen=True)
class Ops:
    """What a net is made of."""

    conv: Callable
    conv_transpose: Callable
    max_pool: Callable
    batch_norm: Callable


class BatchNorm(nn.Module):
    """Flax's `BatchNorm`, in training, by our op."""

    @nn.compact
    def __call__(self, x):
        """(..., C), of the same shape."""
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        scale, bias = self.param("scale", nn.initializers.ones, shape), self.param("bias", nn.initializers.zeros, shape)
        y, *found = jaxconv.batch_norm(x, scale, bias)
        if not self.is_initializing():
            for average, value in zip((mean, var), found, strict=True):
                average.value = 0.99 * average.value + 0.01 * value
        return y


FLAX = Ops(
    lax.conv_general_dilated,
    lambda x, w: lax.conv_transpose(x, w, (2, 2), "SAME", transpose_kernel=True),
    lambda x: nn.max_pool(x, (2, 2), (2, 2)),
    functools.partial(nn.BatchNorm, use_running_average=False),
)
OURS = Ops(
    jaxconv.conv_general_dilated,
    lambda x, w: jaxconv.conv_transpose(x, w, strides=2, padding="SAME"),
    lambda x: jaxconv.max_pool(x, 2),
    BatchNorm,
)


class Convolution(nn.Module):
    """A convolution without a bias, batch normalisation, and an activation."""

    ops: Ops
    features: int
    size: int = 3
    strides: int = 1
    groups: int = 1
    activation: Callable = nn.relu

    @nn.compact
    def __call__(self, x):
        """(N, h, w, C) to (N, h', w', features)."""
        x = nn.Conv(
            self.features,
            (self.size, self.size),
            self.strides,
            feature_group_count=self.groups,
            use_bias=False,
            conv_general_dilated=self.ops.conv,
        )(x)
        return self.activation(self.ops.batch_norm()(x))


class MNISTNet(nn.Module):
    """Two convolutions with pooling, two dense layers."""

    ops: Ops

    @nn.compact
    def __call__(self, x):
        """(N, 28, 28, 1) to (N, 10)."""
        for features in (32, 64):
            x = nn.relu(nn.Conv(features, (3, 3), conv_general_dilated=self.ops.conv)(x))
            x = self.ops.max_pool(x)
        x = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


class ResNet18(nn.Module):
    """ResNet-18 with the stem for CIFAR."""

    ops: Ops

    @nn.compact
    def __call__(self, x):
        """(N, 32, 32, 3) to (N, 10)."""
        conv = functools.partial(Convolution, self.ops)
        x = conv(64)(x)
        for stage, features in enumerate((64, 128, 256, 512)):
            for block in range(2):
                strides = 2 if stage and not block else 1
                y = conv(features, strides=strides)(x)
                y = conv(features, activation=lambda y: y)(y)
                if x.shape != y.shape:
                    x = conv(features, 1, strides, activation=lambda y: y)(x)
                x = nn.relu(x + y)
        return nn.Dense(10)(x.mean((1, 2)))


MOBILE = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2(nn.Module):
    """MobileNetV2 with strides for CIFAR."""

    ops: Ops

    @nn.compact
    def __call__(self, x):
        """(N, 32, 32, 3) to (N, 10)."""
        conv = functools.partial(Convolution, self.ops, activation=nn.relu6)
        x = conv(32)(x)
        for expansion, features, count, strides in MOBILE:
            for number in range(count):
                y = conv(expansion * x.shape[-1], 1)(x) if expansion > 1 else x
                y = conv(y.shape[-1], 3, strides if not number else 1, y.shape[-1])(y)
                y = conv(features, 1, activation=lambda y: y)(y)
                x = x + y if x.shape == y.shape else y
        x = conv(1280, 1)(x)
        return nn.Dense(10)(x.mean((1, 2)))


class Generator(nn.Module):
    """The DCGAN generator of 64x64 images."""

    ops: Ops

    @nn.compact
    def __call__(self, z):
        """(N, 100) to (N, 64, 64, 3)."""
        x = nn.Dense(4 * 4 * 512)(z).reshape(-1, 4, 4, 512)
        x = nn.relu(self.ops.batch_norm()(x))
        for number, features in enumerate((256, 128, 64, 3)):
            shape = (4, 4, features, x.shape[-1])
            w = self.param(f"w{number}", nn.initializers.normal(0.02), shape)
            x = self.ops.conv_transpose(x, w)
            x = nn.relu(self.ops.batch_norm()(x)) if features > 3 else jnp.tanh(x)
        return x


def torch_nets() -> dict[str, Callable]:
    """The same nets in PyTorch, by name; each a function that makes one."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn as tnn  # pyright: ignore[reportMissingImports]

    def conv(inputs, features, size=3, strides=1, groups=1, activation: Any = tnn.ReLU):
        layers = [
            tnn.Conv2d(inputs, features, size, strides, size // 2, groups=groups, bias=False),
            tnn.BatchNorm2d(features),
        ]
        return tnn.Sequential(*layers, *([activation()] if activation else []))

    class Residual(tnn.Module):
        def __init__(self, inner, shortcut=None, activation=None):
            super().__init__()
            self.inner, self.shortcut, self.activation = inner, shortcut or tnn.Identity(), activation or tnn.Identity()

        def forward(self, x):
            return self.activation(self.inner(x) + self.shortcut(x))

    def mnist():
        layers = []
        for inputs, features in ((1, 32), (32, 64)):
            layers += [tnn.Conv2d(inputs, features, 3, padding=1), tnn.ReLU(), tnn.MaxPool2d(2)]
        return tnn.Sequential(*layers, tnn.Flatten(), tnn.Linear(7 * 7 * 64, 128), tnn.ReLU(), tnn.Linear(128, 10))

    def resnet18():
        layers: list[Any] = [conv(3, 64)]
        inputs = 64
        for stage, features in enumerate((64, 128, 256, 512)):
            for block in range(2):
                strides = 2 if stage and not block else 1
                inner = tnn.Sequential(
                    conv(inputs, features, strides=strides), conv(features, features, activation=None)
                )
                same = inputs == features and strides == 1
                shortcut = None if same else conv(inputs, features, 1, strides, activation=None)
                layers.append(Residual(inner, shortcut, tnn.ReLU()))
                inputs = features
        return tnn.Sequential(*layers, tnn.AdaptiveAvgPool2d(1), tnn.Flatten(), tnn.Linear(512, 10))

    def mobilenet():
        mobile = functools.partial(conv, activation=tnn.ReLU6)
        layers: list[Any] = [mobile(3, 32)]
        inputs = 32
        for expansion, features, count, strides in MOBILE:
            for number in range(count):
                wide, step = expansion * inputs, strides if not number else 1
                parts = [mobile(inputs, wide, 1)] if expansion > 1 else []
                parts += [mobile(wide, wide, 3, step, wide), conv(wide, features, 1, activation=None)]
                inner = tnn.Sequential(*parts)
                layers.append(Residual(inner) if inputs == features and step == 1 else inner)
                inputs = features
        layers += [mobile(inputs, 1280, 1), tnn.AdaptiveAvgPool2d(1), tnn.Flatten(), tnn.Linear(1280, 10)]
        return tnn.Sequential(*layers)

    def generator():
        layers: list[Any] = [tnn.Linear(100, 4 * 4 * 512), tnn.Unflatten(1, (512, 4, 4)), tnn.BatchNorm2d(512)]
        layers.append(tnn.ReLU())
        inputs = 512
        for features in (256, 128, 64, 3):
            layers.append(tnn.ConvTranspose2d(inputs, features, 4, 2, 1, bias=False))
            layers += [tnn.BatchNorm2d(features), tnn.ReLU()] if features > 3 else [tnn.Tanh()]
            inputs = features
        return tnn.Sequential(*layers)

    del torch
    return {"MNIST convnet": mnist, "ResNet-18": resnet18, "MobileNetV2": mobilenet, "DCGAN generator": generator}


# The module, and the shape of a batch; the generator is trained towards given images, the others on labels.
NETS: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "MNIST convnet": (MNISTNet, (128, 28, 28, 1)),
    "ResNet-18": (ResNet18, (16, 32, 32, 3)),
    "MobileNetV2": (MobileNetV2, (16, 32, 32, 3)),
    "DCGAN generator": (Generator, (32, 100)),
}


def flax_step(net: nn.Module, x: jax.Array, target: jax.Array) -> tuple[Callable[[], jax.Array], dict[str, float]]:
    """A call that takes one training step and returns the loss, and what compiling it took."""
    optimizer = optax.sgd(1e-3, momentum=0.9)
    variables = jax.jit(net.init)(jax.random.key(0), x)
    params, stats = variables["params"], variables.get("batch_stats", {})

    def loss_of(params, stats):
        y, changed = net.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])
        if target.ndim == 1:
            loss = optax.softmax_cross_entropy_with_integer_labels(y, target).mean()
        else:
            loss = ((y - target) ** 2).mean()
        return loss, changed.get("batch_stats", {})

    def step(params, stats, moments):
        (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params, stats)
        updates, moments = optimizer.update(gradients, moments)
        return optax.apply_updates(params, updates), stats, moments, loss

    state = [params, stats, optimizer.init(params)]
    started = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*state).compile()
    costs = {"compile_s": time.perf_counter() - started}
    memory = compiled.memory_analysis()
    costs["temporary_bytes"] = memory.temp_size_in_bytes if memory else 0

    def call():
        *state[:], loss = compiled(*state)
        return loss

    return call, costs


def torch_step(make: Callable, x: np.ndarray, target: np.ndarray) -> Callable[[], Any]:
    """The same in PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    def data(array):
        tensor = torch.tensor(array.transpose(0, 3, 1, 2) if array.ndim == 4 else array)
        return tensor.contiguous(memory_format=torch.channels_last) if array.ndim == 4 else tensor

    net = make().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)
    inputs, wanted = data(x), data(target)
    if target.ndim == 1:
        wanted = wanted.long()

    def call():
        optimizer.zero_grad()
        y = net(inputs)
        loss = torch.nn.functional.cross_entropy(y, wanted) if target.ndim == 1 else ((y - wanted) ** 2).mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return call


def time_net(name: str, rounds: int) -> dict:
    """Median seconds per step of each side."""
    module, shape = NETS[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(0, 10, shape[0]).astype(np.int32)
    target = labels if len(shape) == 4 else np.tanh(rng.standard_normal((shape[0], 64, 64, 3))).astype(np.float32)
    result: dict = {"name": name, "batch": shape[0]}
    calls, losses = {}, {}
    for side, ops in (("ours", OURS), ("flax", FLAX)):
        calls[side], costs = flax_step(module(ops), jnp.asarray(x), jnp.asarray(target))
        result |= {f"{side}_{key}": value for key, value in costs.items()}
        losses[side] = [float(calls[side]()) for _ in range(2)]
    if not np.allclose(losses["ours"], losses["flax"], rtol=1e-3):
        raise ValueError(f"{name}: the first losses are {losses['ours']} with our ops, {losses['flax']} with Flax's")
    if importlib.util.find_spec("torch"):
        calls["torch"] = torch_step(torch_nets()[name], x, target)
    found = medians(calls, rounds, seconds=60)
    result |= {f"{side}_s": seconds for side, seconds in found.items()}
    result["flax_ratio"] = found["flax"] / found["ours"]
    if "torch" in found:
        result["torch_ratio"] = found["torch"] / found["ours"]
    return result


def main() -> int:
    """The command; returns its exit status."""
    settings = tyro.cli(Settings, prog="python -m experiments.bench_nets", description=__doc__)
    names = [name for name in NETS if settings.only in name]
    if not names or settings.rounds < 1:
        print(
            f"error: only, rounds: got {settings.only!r}, {settings.rounds}; expected part of one of "
            f"{', '.join(NETS)}, and at least 1",
            file=sys.stderr,
        )
        return 2
    console = Console(width=None if sys.stdout.isatty() else 150)
    results = []
    for name in names:
        results.append(time_net(name, settings.rounds))
        console.print(f"{name}: {1e3 * results[-1]['ours_s']:.0f} ms a step", style="dim")
    columns = (
        "batch",
        "ours ms",
        "Flax ms",
        "torch ms",
        "Flax/ours",
        "torch/ours",
        "compile s",
        "Flax",
        "temp MB",
        "Flax",
    )
    table = Table("training step", *(Column(name, justify="right") for name in columns))
    for r in results:
        cells = [str(r["batch"])]
        cells += [f"{1e3 * r[f'{side}_s']:.1f}" if f"{side}_s" in r else "" for side in ("ours", "flax", "torch")]
        cells += [f"{r[key]:.2f}" if key in r else "" for key in ("flax_ratio", "torch_ratio")]
        cells += [f"{r[f'{side}_compile_s']:.1f}" for side in ("ours", "flax")]
        cells += [f"{r[f'{side}_temporary_bytes'] / 1e6:.0f}" for side in ("ours", "flax")]
        table.add_row(r["name"], *cells)
    console.print(table)
    means = {
        side: geometric_mean(r[f"{side}_ratio"] for r in results if f"{side}_ratio" in r) for side in ("flax", "torch")
    }
    where = f"{os.cpu_count()} cores, {jax.devices()[0].device_kind}, Python {platform.python_version()}"
    where += f", jax {jax.__version__}{tunables()}"
    console.print(
        f"geometric means: Flax/ours {means['flax']:.2f}, torch/ours {means['torch']:.2f} ({where})", soft_wrap=True
    )
    if settings.output is not None:
        settings.output.mkdir(parents=True, exist_ok=True)
        record = {"machine": where, "geometric_means": means, "results": results}
        (settings.output / "bench_nets.json").write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
