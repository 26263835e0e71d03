"""Claim: of the algorithms for a two-dimensional convolution on a CPU, the one chosen is near the fastest everywhere.

Draws geometries (batch, image, channels, kernel, stride, dilation, padding) at random, and for one of the three forms
of each times every algorithm that is for it, the fastest of four calls counting: how much longer do the one that
`jaxconv/algorithms/cpu.py` chooses, and XLA's own convolution, take than the fastest of all?

    python -m experiments.bench_choice --seconds 600
"""

import dataclasses
import functools
import math
import os
import platform
import random
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Column, Table

from experiments.bench_layers import geometric_mean
from jaxconv.algorithms import canonical, col2im, cpu, few, im2col, phases, xla
from jaxconv.geometry import Window, conv_window

FORMS = ("conv", "input_grad", "kernel_grad")
# Calls of a geometry, the first of which does not count, and the seconds from which on an algorithm is called twice.
CALLS, SLOW = 5, 0.2


@dataclasses.dataclass(frozen=True)
class Settings:
    """Time the algorithm chosen for random convolutions against the others that could have been."""

    seconds: float = 300
    """How long to draw geometries."""
    seed: int = 0
    """Of the draws."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """A form of a random convolution."""

    form: str
    batch: int
    channels: int
    features: int
    window: Window

    @property
    def products(self) -> int:
        """How many numbers are multiplied."""
        return self.batch * math.prod(self.window.output_size) * self.window.tap_count * self.channels * self.features

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the form's two arrays."""
        x = (self.batch, *self.window.input_size, self.channels)
        w = (*self.window.window_size, self.channels, self.features)
        dy = (self.batch, *self.window.output_size, self.features)
        return {"conv": (x, w), "input_grad": (dy, w), "kernel_grad": (x, dy)}[self.form]


def draw(rng: random.Random) -> Draw:
    """A form and a geometry of 2^18 to 2^31 products, of arrays of at most 64 MB."""
    while True:
        size = rng.choice([1, 2, 3, 4, 5, 7, 8, 14, 16, 28, 32, 56])
        kernel = rng.choice([2, 3, 3, 3, 3, 4, 5, 5, 7])
        strides, padding = rng.choice([1, 1, 1, 2, 2, 3]), rng.choice(["SAME", "SAME", "VALID"])
        dilation = rng.choice([1] * 9 + [2])
        channels, features = (rng.choice([1, 3, 8, 16, 32, 64, 96, 128, 256, 512]) for _ in range(2))
        try:
            window = conv_window((size, size), kernel, strides=strides, dilation=dilation, padding=padding)
        except ValueError:  # larger than the image
            continue
        one = Draw(rng.choice(FORMS), rng.choice([1, 2, 8, 16, 32, 64, 128]), channels, features, window)
        if 2**18 <= one.products <= 2**31 and max(map(math.prod, one.shapes)) <= 2**24:
            return one


def algorithms_for(one: Draw) -> dict[str, Any]:
    """Functions of the form's two arrays, by name; "chosen" is what is chosen among them."""
    options = (one.window, 1, None, jnp.float32)
    modules: dict[str, Any] = {"chosen": cpu, "xla": xla}
    if one.form != "input_grad" or set(one.window.strides) == {1}:
        modules["im2col"] = im2col
    if one.form == "kernel_grad":
        modules["canonical"] = canonical
        if few.suits(jax.ShapeDtypeStruct(one.shapes[0], jnp.float32), one.window):
            modules["few"] = few
    found = {
        name: lambda a, b, form=getattr(module, one.form): form(a, b, *options) for name, module in modules.items()
    }
    if one.form != "kernel_grad" and set(one.window.strides) == {1} and col2im.terms(one.window) <= cpu.TURNED:
        found["col2im"] = lambda a, b, form=getattr(col2im, one.form): form(a, b, *options)
    is_exchanged = one.form == "kernel_grad" and set(one.window.strides) == {1}
    if is_exchanged and few.suits(jax.ShapeDtypeStruct(one.shapes[1], jnp.float32), one.window.input_grad_window):
        found["few outputs"] = lambda a, b, form=few.kernel_grad_of_few_outputs: form(a, b, *options)
    is_strided = one.form == "input_grad" and set(one.window.strides) != {1}
    if is_strided and col2im.terms(one.window) <= cpu.DILATED:
        found["col2im"] = lambda a, b, form=col2im.input_grad: form(a, b, *options)
    if is_strided and set(one.window.dilation) == {1}:
        for name, dense in (("phases by xla", xla.conv), ("phases by im2col", im2col.conv)):
            found[name] = lambda a, b, form=dense: phases.input_grad(a, b, *options, form)
    return found


def seconds_of(one: Draw) -> dict[str, float]:
    """What a call of every algorithm takes."""
    generator = np.random.default_rng(0)
    arrays = [jnp.asarray(generator.standard_normal(shape), jnp.float32) for shape in one.shapes]
    calls = {
        name: functools.partial(jax.jit(function).lower(*arrays).compile(), *arrays)
        for name, function in algorithms_for(one).items()
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(CALLS):
        for name, call in calls.items():
            if len(times[name]) < 2 or times[name][-1] < SLOW:
                started = time.perf_counter()
                jax.block_until_ready(call())
                times[name].append(time.perf_counter() - started)
    return {name: min(values[1:]) for name, values in times.items()}


def main() -> int:
    """The command; returns its exit status."""
    settings = tyro.cli(Settings, prog="python -m experiments.bench_choice", description=__doc__)
    rng, end = random.Random(settings.seed), time.perf_counter() + settings.seconds
    factors: dict[tuple[str, str], list[tuple[float, Draw]]] = {
        (form, who): [] for form in FORMS for who in ("chosen", "xla")
    }
    while time.perf_counter() < end or not all(factors.values()):
        one = draw(rng)
        seconds = seconds_of(one)
        for who in ("chosen", "xla"):
            factors[one.form, who].append((seconds[who] / min(seconds.values()), one))
    columns = ("draws", "geometric mean", "95 % below", "largest")
    table = Table("time over the fastest's", *(Column(name, justify="right") for name in columns), "of")
    for (form, who), values in factors.items():
        ratios = [factor for factor, _ in values]
        largest, one = max(values, key=lambda pair: pair[0])
        w = one.window
        what = f"{one.batch} x {w.input_size}, {one.channels} to {one.features}, {w.window_size}, {w.strides}"
        numbers = f"{geometric_mean(ratios):.2f}", f"{np.quantile(ratios, 0.95):.2f}", f"{largest:.1f}"
        table.add_row(f"{form}, {who}", str(len(values)), *numbers, what)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table)
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, jax {jax.__version__}, seed {settings.seed}"
    console.print(where, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
