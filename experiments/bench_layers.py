"""Claim: on a CPU, value and gradients by our rules are many times faster than by jax.grad of lax, and near PyTorch's.

Each layer is verified first (one example, value and gradients against lax in float64), then timed: ours, lax with
autodiff, and PyTorch where it is installed (channels last, its own autograd), round by round in one process. "all" is
the value and every gradient in one jitted call; fwd, dx and dw are one of them alone. What counts are the ratios of the
medians; the geometric means leave out the guards, layers that XLA and PyTorch are both good at already.

A layer's floor is the longer of its arithmetic at the rate of the machine's matrix product and its arrays at the
machine's rate of copying, both measured in the same run; "of limit" is that floor over our time.

XLA takes the memory of every result afresh from the system, and mapping it, 4 kB at a time, can take longer than
computing it. In huge pages it does not: GLIBC_TUNABLES=glibc.malloc.hugetlb=1 in the environment (Linux, glibc 2.35).

    python -m experiments.bench_layers --output runs/bench
    python -m experiments.bench_layers --only depthwise --family
    python -m experiments.bench_layers --compile
"""

import dataclasses
import functools
import importlib.util
import itertools
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

import jaxconv
from jaxconv.verification.cases import Case, all_cases

PARTS = {"fwd": (), "dx": (0,), "dw": (1,)}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Time our layers against jax.grad of plain lax and against PyTorch, side by side."""

    rounds: int = 12
    """Timings per part and side; the median counts. A side that takes long has at least three, a short part ten times
    as many."""
    only: str = ""
    """Run the layers whose name contains this."""
    family: bool = False
    """Further sizes, windows, groups and dtypes of the same ops, in place of the table's layers."""
    others: bool = False
    """The other ops (activations, norms, losses) against autodiff, in place of the table's layers."""
    compile: bool = False
    """Time the tracing and compiling of the value and all gradients of every layer, and nothing else."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write bench_layers.json, .md (the README's table) and .png (its chart) there."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with its options, and what of it is timed."""

    name: str
    op: Literal["conv", "transposed", "max_pool", "avg_pool"]
    x: tuple[int, ...]  # (N, *spatial, C)
    window: tuple[int, ...]
    features: int = 0  # 0 for pooling
    strides: int = 1
    dilation: int = 1
    groups: int = 1
    padding: Any = "SAME"  # or pairs
    parts: tuple[str, ...] = ("all",)
    guard: bool = False
    dtype: str = "float32"
    per_example: bool = False  # the kernel gradient of every example: vmap of grad

    @property
    def ndim(self) -> int:
        """How many spatial axes."""
        return len(self.window)

    @property
    def w(self) -> tuple[int, ...] | None:
        """The kernel's shape, None for pooling."""
        return (*self.window, self.x[-1] // self.groups, self.features) if self.features else None

    def shapes(self, batch: int | None = None) -> list[tuple[int, ...]]:
        """Of x, w (if there is one) and the cotangent."""
        x = (batch or self.x[0], *self.x[1:])
        shapes = [x] if self.w is None else [x, self.w]
        structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        return [*shapes, jax.eval_shape(self.plain, *structs).shape]

    def _general(self, function: Callable) -> Callable:
        """conv_general_dilated with this layer's arguments, lax's or ours."""
        spatial = "DHW"[-self.ndim :]
        options = {
            "window_strides": (1 if self.op == "transposed" else self.strides,) * self.ndim,
            "padding": self.padding,
            "rhs_dilation": (self.dilation,) * self.ndim,
            "feature_group_count": self.groups,
            "dimension_numbers": (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        }
        if self.op == "transposed":
            options["lhs_dilation"] = (self.strides,) * self.ndim
        return lambda x, w: function(x, w, **options)

    @property
    def ours(self) -> Callable:
        """The layer by this library."""
        if self.op == "transposed":
            return self._general(jaxconv.conv_general_dilated)
        options = {"strides": self.strides, "padding": self.padding, "dilation": self.dilation}
        if self.op == "conv":
            return functools.partial(jaxconv.conv, groups=self.groups, **options)
        if self.op == "max_pool":
            return lambda x: jaxconv.max_pool(x, self.window, **options)
        return lambda x: jaxconv.avg_pool(x, self.window, count_include_pad=False, **options)

    @property
    def plain(self) -> Callable:
        """The layer in plain lax."""
        if self.op in ("conv", "transposed"):
            return self._general(lax.conv_general_dilated)
        window, strides = (1, *self.window, 1), (1, *(self.strides,) * self.ndim, 1)
        reduce = functools.partial(
            lax.reduce_window, window_dimensions=window, window_strides=strides, padding=self.padding
        )
        if self.op == "max_pool":
            return lambda x: reduce(x, -jnp.inf, lax.max)
        # The divisor of one example and channel: XLA takes 20 seconds to fold that of a whole batch.
        ones = jnp.ones((1, *self.x[1:-1], 1), self.dtype)
        return lambda x: reduce(x, 0.0, lax.add) / reduce(ones.astype(x.dtype), 0.0, lax.add)

    def part(self, function: Callable, part: str) -> Callable:
        """What is timed of a function of x and w: called with x, w (if there is one) and the cotangent."""
        count = 1 if self.w is None else 2

        def timed(*arguments):
            *inputs, dy = arguments
            if self.per_example:
                one = lambda x, dy: jax.vjp(lambda w: function(x[None], w), inputs[1])[1](dy[None])[0]  # noqa: E731
                return jax.vmap(one)(inputs[0], dy)
            if part == "fwd":
                return function(*inputs)
            argnums = PARTS.get(part, tuple(range(count)))

            def of_some(*some):
                operands = list(inputs)
                for argnum, value in zip(argnums, some, strict=True):
                    operands[argnum] = value
                return function(*operands)

            y, vjp = jax.vjp(of_some, *(inputs[argnum] for argnum in argnums))
            return (y, *vjp(dy)) if part == "all" else vjp(dy)

        return timed

    def limits(self, part: str) -> tuple[float, float]:
        """Floating point operations and bytes that this part cannot do without."""
        *inputs, y = self.shapes()
        times = {"fwd": 1, "dx": 1, "dw": 1}.get(part, 3 if self.features else 2)
        over = self.x if self.op == "transposed" else y
        products = math.prod(over[:-1]) * math.prod(self.window) * (self.x[-1] * self.features / self.groups or y[-1])
        moved = math.prod(self.x) + math.prod(y)
        itemsize = jnp.dtype(self.dtype).itemsize
        return (2 if self.features else 1) * products * times, itemsize * moved * (2 if part == "all" else 1)


STEM = {"window": (3, 3), "strides": 2}
LAYERS = [
    Layer("max pool, ResNet stem", "max_pool", (16, 112, 112, 64), **STEM),
    Layer("max pool, VGG", "max_pool", (128, 32, 32, 64), (2, 2), strides=2),
    Layer("grouped, ResNeXt", "conv", (8, 56, 56, 128), (3, 3), 128, groups=32, parts=("dw", "dx", "all")),
    Layer("depthwise, MobileNet", "conv", (1, 124, 124, 256), (3, 3), 256, groups=256, parts=("fwd", "all")),
    Layer("depthwise 1-D", "conv", (8, 1024, 512), (5,), 512, groups=512),
    Layer(
        "transposed, DCGAN",
        "transposed",
        (32, 16, 16, 256),
        (4, 4),
        128,
        strides=2,
        padding=((2, 2), (2, 2)),
        parts=("dw", "all"),
    ),
    Layer(
        "transposed 3-D",
        "transposed",
        (1, 64, 64, 32, 64),
        (3, 3, 3),
        1,
        strides=2,
        padding=((1, 2),) * 3,
        parts=("dw",),
    ),
    Layer("3-D", "conv", (2, 16, 32, 32, 32), (3, 3, 3), 64),
    Layer("CIFAR body", "conv", (64, 32, 32, 64), (3, 3), 64, parts=("dw", "all")),
    Layer("downsample", "conv", (16, 56, 56, 64), (3, 3), 128, strides=2, parts=("dx", "all")),
    Layer("average pool, overlapping", "avg_pool", (16, 56, 56, 128), **STEM),
    Layer("pointwise", "conv", (16, 28, 28, 256), (1, 1), 256),
    Layer("guard: pointwise", "conv", (16, 14, 14, 512), (1, 1), 512, parts=("fwd", "all"), guard=True),
    Layer("guard: plain", "conv", (64, 32, 32, 64), (3, 3), 64, parts=("fwd",), guard=True),
    Layer("guard: tiny", "conv", (1, 28, 28, 1), (4, 4), 3, padding="VALID", parts=("fwd", "all"), guard=True),
]
FAMILY = [
    Layer("LeNet first", "conv", (64, 28, 28, 1), (5, 5), 32),
    Layer("ResNet stem", "conv", (8, 112, 112, 3), (7, 7), 64, strides=2),
    Layer("wide and small", "conv", (16, 7, 7, 512), (3, 3), 512),
    Layer("dilated", "conv", (8, 28, 28, 64), (3, 3), 64, dilation=2),
    Layer("dilated, stride 2", "conv", (8, 28, 28, 64), (3, 3), 64, strides=2, dilation=2),
    Layer("5x5, stride 2", "conv", (16, 28, 28, 32), (5, 5), 64, strides=2),
    Layer("pointwise, stride 2", "conv", (16, 28, 28, 128), (1, 1), 256, strides=2),
    Layer("patches", "conv", (8, 96, 96, 3), (16, 16), 192, strides=16),
    Layer("three groups", "conv", (8, 28, 28, 96), (3, 3), 96, groups=3),
    Layer("grouped, stride 2", "conv", (8, 28, 28, 128), (3, 3), 256, groups=32, strides=2),
    Layer("depthwise, stride 2", "conv", (8, 56, 56, 96), (3, 3), 96, groups=96, strides=2),
    Layer("depthwise, multiplier 2", "conv", (4, 28, 28, 64), (3, 3), 128, groups=64),
    Layer("depthwise, small images", "conv", (16, 7, 7, 384), (3, 3), 384, groups=384),
    Layer("depthwise 7x7", "conv", (8, 28, 28, 96), (7, 7), 96, groups=96),
    Layer("depthwise 31x31", "conv", (1, 32, 32, 64), (31, 31), 64, groups=64),
    Layer("depthwise 3-D", "conv", (2, 8, 16, 16, 32), (3, 3, 3), 32, groups=32),
    Layer("1-D", "conv", (8, 1024, 64), (5,), 64),
    Layer("1-D, stride 2", "conv", (8, 1024, 64), (4,), 64, strides=2),
    Layer("3-D, stride 2", "conv", (2, 16, 16, 16, 16), (3, 3, 3), 32, strides=2),
    Layer("transposed, 3x3", "transposed", (8, 14, 14, 64), (3, 3), 64, strides=2, padding=((1, 2), (1, 2))),
    Layer("float64", "conv", (8, 28, 28, 32), (3, 3), 32, dtype="float64"),
    Layer("float64, depthwise", "conv", (2, 28, 28, 64), (3, 3), 64, groups=64, dtype="float64"),
    Layer("bfloat16", "conv", (8, 28, 28, 32), (3, 3), 32, dtype="bfloat16"),
    Layer("bfloat16, depthwise", "conv", (2, 28, 28, 64), (3, 3), 64, groups=64, dtype="bfloat16"),
    Layer("bfloat16, max pool", "max_pool", (16, 32, 32, 64), (2, 2), strides=2, dtype="bfloat16"),
    Layer("per example", "conv", (32, 28, 28, 16), (3, 3), 32, parts=("dw",), per_example=True),
    Layer("per example, depthwise", "conv", (16, 28, 28, 64), (3, 3), 64, groups=64, parts=("dw",), per_example=True),
    Layer("max pool, stride 1", "max_pool", (32, 28, 28, 32), (3, 3)),
    Layer("max pool 3-D", "max_pool", (2, 16, 16, 16, 32), (2, 2, 2), strides=2),
    Layer("average pool 7x7", "avg_pool", (8, 28, 28, 64), (7, 7)),
]


def torch_part(layer: Layer, part: str, arrays: list[np.ndarray]) -> Callable | None:
    """The same part by PyTorch, or None where it has no such layer."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]

    if layer.per_example:
        return None
    layouts = {2: torch.channels_last, 3: torch.channels_last_3d}.get(layer.ndim)
    dtype = getattr(torch, layer.dtype)

    def data(array):
        order = (0, array.ndim - 1, *range(1, array.ndim - 1))
        tensor = torch.tensor(np.ascontiguousarray(array.transpose(order))).to(dtype)
        return tensor if layouts is None else tensor.contiguous(memory_format=layouts)

    def kernel(array):
        first, second = (-2, -1) if layer.op == "transposed" else (-1, -2)
        array = np.moveaxis(array, (first, second), (0, 1))
        if layer.op == "transposed":  # PyTorch's is the adjoint of a convolution, lax's is one of a dilated input
            array = np.flip(array, tuple(range(2, array.ndim)))
        tensor = torch.tensor(np.ascontiguousarray(array)).to(dtype)
        return tensor if layouts is None else tensor.contiguous(memory_format=layouts)

    # PyTorch pads alike on both sides; for SAME with a stride that is as much work, though not the same result.
    reach = [layer.dilation * (r - 1) for r in layer.window]
    pad = [0] * layer.ndim if layer.padding == "VALID" else [e // 2 for e in reach]
    name = f"conv{'_transpose' if layer.op == 'transposed' else ''}{layer.ndim}d"
    if layer.op == "transposed":
        pairs: Any = layer.padding
        pad = [e - low for e, (low, _) in zip(reach, pairs, strict=True)]
        more = [high - low for low, high in pairs]
        call = functools.partial(
            getattr(functional, name), stride=layer.strides, padding=pad, output_padding=more, groups=layer.groups
        )
    elif layer.op == "conv":
        call = functools.partial(
            getattr(functional, name), stride=layer.strides, padding=pad, dilation=layer.dilation, groups=layer.groups
        )
    else:
        pad = [(r - 1) // 2 for r in layer.window]
        options = {} if layer.op == "max_pool" else {"count_include_pad": False}
        call = functools.partial(
            getattr(functional, f"{layer.op}{layer.ndim}d"),
            kernel_size=layer.window,
            stride=layer.strides,
            padding=pad,
            **options,
        )
    inputs = [data(arrays[0]), *map(kernel, arrays[1:-1])]
    with torch.no_grad():
        y = call(*inputs)
    dy = data(arrays[-1])
    if y.shape != dy.shape:  # such as an even window: one more position than SAME
        dy = torch.ones_like(y)
    if part == "fwd":

        def forward():
            with torch.no_grad():
                return call(*inputs)

        return forward
    wanted = [inputs[argnum] for argnum in PARTS.get(part, range(len(inputs)))]
    for tensor in wanted:
        tensor.requires_grad_(True)
    if part == "all":
        return lambda: torch.autograd.grad(call(*inputs), wanted, dy)
    y = call(*inputs)
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)


def verify(layer: Layer) -> float:
    """The largest error of ours against lax, relative to the largest element, both in float64, on one example."""
    rng = np.random.default_rng(0)
    arguments = [jnp.asarray(rng.standard_normal(shape)) for shape in layer.shapes(batch=1)]
    layer = dataclasses.replace(layer, per_example=False)
    ours, plain = (jax.jit(layer.part(f, "all"))(*arguments) for f in (layer.ours, layer.plain))
    errors = jax.tree.map(lambda a, b: jnp.abs(a - b).max() / jnp.abs(b).max(), ours, plain)
    return float(max(jax.tree.leaves(errors)))


# Below the first, in seconds, a time differs by a tenth from one call to the next; so long a side runs before a timing.
SHORT, WARM = 2e-3, 1e-2


def medians(calls: dict[str, Callable], rounds: int, seconds: float = 8) -> dict[str, float]:
    """Median seconds of every call, in rounds of all; a slow one leaves the rounds after `seconds`, but has three.

    Where the fastest takes less than `SHORT` seconds there are ten times as many rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    # One that comes after PyTorch finds its caches and cores in another state. In these rounds, of three sides, each
    # comes after each of the others equally often, from one round to the next as well: 123 132 321 213 231 312.
    orders = list(itertools.permutations(calls.items()))
    if len(orders) == 6:
        orders = [orders[index] for index in (0, 1, 5, 2, 3, 4)]
    for number in range(10 * rounds + 1):
        if number > rounds and min(map(np.median, times.values())) > SHORT:
            break
        for name, call in orders[number % len(orders)]:
            if number > 3 and sum(times[name]) > seconds:
                continue
            # As in a program that does nothing else: the other sides' threads have come to rest, its own are awake.
            warm = time.perf_counter()
            while number and time.perf_counter() - warm < WARM:
                jax.block_until_ready(call())
            started = time.perf_counter()
            jax.block_until_ready(call())
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    return {name: float(np.median(values)) for name, values in times.items()}


def compiled(function: Callable, arguments: list, side: str, result: dict, times: int = 3) -> Callable:
    """The compiled function; its peak temporary bytes and median seconds of tracing and compiling are noted."""
    seconds = []
    for _ in range(times):
        jax.clear_caches()  # so that nothing traced before is used again
        started = time.perf_counter()
        call = jax.jit(function).lower(*arguments).compile()
        seconds.append(time.perf_counter() - started)
    memory = call.memory_analysis()
    result[f"{side}_compile_s"] = float(np.median(seconds))
    result[f"{side}_temporary_bytes"] = memory.temp_size_in_bytes if memory else 0
    return call


def time_part(layer: Layer, part: str, rounds: int) -> dict:
    """Median seconds, compile seconds and peak temporary bytes of each side."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in layer.shapes()]
    arguments = [jnp.asarray(array, layer.dtype) for array in arrays]
    calls: dict[str, Callable] = {}
    result: dict = {"name": layer.name, "part": part, "guard": layer.guard}
    for side in ("ours", "lax"):
        function = layer.part(layer.ours if side == "ours" else layer.plain, part)
        calls[side] = functools.partial(compiled(function, arguments, side, result), *arguments)
    if importlib.util.find_spec("torch") and (call := torch_part(layer, part, arrays)):
        calls["torch"] = call
    found = medians(calls, rounds)
    result |= {f"{side}_s": seconds for side, seconds in found.items()}
    result["lax_ratio"] = found["lax"] / found["ours"]
    if "torch" in found:
        result["torch_ratio"] = found["torch"] / found["ours"]
    result["flop"], result["bytes"] = layer.limits(part)
    return result


def time_compilation(layer: Layer, rounds: int) -> dict:
    """Median seconds to trace and compile the value and all gradients, and their temporary bytes, of each side."""
    turns: list[dict] = [{} for _ in range(rounds)]
    with jax.enable_x64(layer.dtype == "float64"):
        arguments = [jnp.zeros(shape, layer.dtype) for shape in layer.shapes()]
        for turn in turns:
            for side, function in (("ours", layer.ours), ("lax", layer.plain)):
                compiled(layer.part(function, "all"), arguments, side, turn, times=1)
    result = {key: float(np.median([turn[key] for turn in turns])) for key in turns[0]}
    return {"name": layer.name, **result, "ratio": result["ours_compile_s"] / result["lax_compile_s"]}


def compilation_table(results: list[dict]) -> Table:
    """What is printed of time_compilation."""
    names = ("ours s", "lax s", "ours/lax", "temp MB", "lax")
    table = Table("value and gradients", *[Column(name, justify="right") for name in names])
    for r in results:
        seconds = [f"{r[f'{side}_compile_s']:.3f}" for side in ("ours", "lax")]
        megabytes = [f"{r[f'{side}_temporary_bytes'] / 1e6:.1f}" for side in ("ours", "lax")]
        table.add_row(r["name"], *seconds, f"{r['ratio']:.2f}", *megabytes)
    return table


def tunables() -> str:
    """What the C library was told of its memory, if anything."""
    return f", GLIBC_TUNABLES={os.environ['GLIBC_TUNABLES']}" if "GLIBC_TUNABLES" in os.environ else ""


def machine_limits() -> dict[str, float]:
    """The machine's rates, floating point operations and bytes copied per second: the best of a few."""
    a = jnp.ones((2048, 2048), jnp.float32)
    x = jnp.ones(2**24, jnp.float32)
    product, copied = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1, donate_argnums=0)
    rates = {"flop_per_s": 0.0, "bytes_per_s": 0.0}
    jax.block_until_ready((product(a, a), copied(jnp.ones_like(x))))
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(product(a, a))
        rates["flop_per_s"] = max(rates["flop_per_s"], 2 * 2048**3 / (time.perf_counter() - started))
        started = time.perf_counter()
        x = jax.block_until_ready(copied(x))
        rates["bytes_per_s"] = max(rates["bytes_per_s"], 2 * x.nbytes / (time.perf_counter() - started))
    return rates


def other_layers(only: str) -> list[Case]:
    """The cases of the ops without a window that have larger shapes for timing."""
    ops = ("conv", "conv_transpose", "depthwise_conv", "max_pool", "avg_pool", "min_pool", "sum_pool")
    return [case for case in all_cases() if case.timing and case.op not in ops and only in f"{case.op}, {case.name}"]


def time_other(case: Case, rounds: int) -> dict:
    """An op of the cases: the value and the gradients of all arguments."""
    rng = np.random.default_rng(0)
    shapes = case.timing or case.shapes
    y = jax.eval_shape(case.function, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    arguments = [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in (*shapes, y.shape)]

    def everything(function, *arguments):
        y, vjp = jax.vjp(function, *arguments[:-1])
        return y, vjp(arguments[-1])

    result: dict = {"name": f"{case.op}, {case.name}", "part": "all", "guard": False}
    calls = {}
    for side, function in (("ours", case.function), ("lax", case.reference)):
        calls[side] = functools.partial(
            compiled(functools.partial(everything, function), arguments, side, result), *arguments
        )
    found = medians(calls, rounds)
    return (
        result
        | {f"{side}_s": seconds for side, seconds in found.items()}
        | {
            "lax_ratio": found["lax"] / found["ours"],
            "flop": 0,
            "bytes": 4 * sum(map(math.prod, shapes)) * 2,
        }
    )


def geometric_mean(values) -> float:
    """Of positive numbers; NaN of none."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def markdown(results: list[dict]) -> str:
    """The README's table: times, ratios, temporaries and compile time."""
    lines = [
        "| layer | timed | ours ms | lax ms | torch ms | lax/ours | torch/ours | temp MB | lax | compile s | lax |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        cells = [f"{1e3 * r[f'{side}_s']:.2f}" if f"{side}_s" in r else "" for side in ("ours", "lax", "torch")]
        cells += [f"{r[key]:.2f}" if key in r else "" for key in ("lax_ratio", "torch_ratio")]
        cells += [f"{r[f'{side}_temporary_bytes'] / 1e6:.0f}" for side in ("ours", "lax")]
        cells += [f"{r[f'{side}_compile_s']:.2f}" for side in ("ours", "lax")]
        lines.append(f"| {r['name']} | {r['part']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def table_of(results: list[dict], limits: dict[str, float]) -> Table:
    """One row per timed part."""
    names = ["ours ms", "lax ms", "torch ms", "lax/ours", "torch/ours"]
    names += ["compile s", "lax", "temp MB", "lax", "GFLOP/s", "of limit"]
    table = Table("layer", "part", *(Column(name, justify="right") for name in names))
    for r in results:
        floor = max(r["flop"] / limits["flop_per_s"], r["bytes"] / limits["bytes_per_s"])
        cells = [f"{1e3 * r[f'{side}_s']:.2f}" if f"{side}_s" in r else "" for side in ("ours", "lax", "torch")]
        cells += [f"{r[key]:.2f}" if key in r else "" for key in ("lax_ratio", "torch_ratio")]
        cells += [f"{r[f'{side}_compile_s']:.2f}" for side in ("ours", "lax")]
        cells += [f"{r[f'{side}_temporary_bytes'] / 1e6:.1f}" for side in ("ours", "lax")]
        cells += [f"{r['flop'] / r['ours_s'] / 1e9:.0f}" if r["flop"] else "", f"{100 * floor / r['ours_s']:.0f} %"]
        table.add_row(r["name"], r["part"], *cells)
    return table


def main() -> int:
    """The command; returns its exit status."""
    settings = tyro.cli(Settings, prog="python -m experiments.bench_layers", description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 180)
    layers = [layer for layer in (FAMILY if settings.family else LAYERS) if settings.only in layer.name]
    others = settings.others and not settings.compile
    cases = other_layers(settings.only) if others else []
    if others:
        layers = []
    if not (layers or cases) or settings.rounds < 1:
        print(
            f"error: only, rounds: got {settings.only!r}, {settings.rounds}; expected part of a name, at least 1",
            file=sys.stderr,
        )
        return 2
    if settings.compile:
        found = [
            time_compilation(layer, settings.rounds)
            for layer in track(layers, "compiling", console=console, transient=True)
        ]
        console.print(compilation_table(found))
        return 0
    limits = machine_limits()
    results = [time_other(case, settings.rounds) for case in track(cases, "timing", console=console, transient=True)]
    for layer in track(layers, "timing", console=console, transient=True):
        with jax.enable_x64(True):
            error = verify(layer)
        if not error < 1e-12:
            print(f"error: {layer.name}: relative error {error:.1e} against lax in float64", file=sys.stderr)
            return 1
        with jax.enable_x64(layer.dtype == "float64"):
            results += [time_part(layer, part, settings.rounds) for part in layer.parts]
    console.print(table_of(results, limits))
    counted = [r for r in results if not r["guard"]]
    means = {
        "lax": geometric_mean(r["lax_ratio"] for r in counted),
        "torch": geometric_mean(r["torch_ratio"] for r in counted if "torch_ratio" in r),
    }
    torch = ""
    if any("torch_ratio" in r for r in results):
        import torch as torch_module  # pyright: ignore[reportMissingImports]

        torch = f", torch {torch_module.__version__.split('+')[0]}"
    where = f"{os.cpu_count()} cores, {jax.devices()[0].device_kind}, Python {platform.python_version()}"
    where += f", jax {jax.__version__}{torch}{tunables()}"
    console.print(
        f"geometric means of {len(counted)}, without guards: lax/ours {means['lax']:.2f}, torch/ours "
        f"{means['torch']:.2f}\nmachine: {limits['flop_per_s'] / 1e9:.0f} GFLOP/s in a matrix product, "
        f"{limits['bytes_per_s'] / 1e9:.1f} GB/s copied ({where})",
        soft_wrap=True,
    )
    if settings.output is not None:
        from experiments import figures

        settings.output.mkdir(parents=True, exist_ok=True)
        record = {"machine": where, "limits": limits, "geometric_means": means, "results": results}
        (settings.output / "bench_layers.json").write_text(json.dumps(record, indent=2) + "\n")
        (settings.output / "bench_layers.md").write_text(markdown(results))
        figures.speeds(results, where, settings.output / "bench_layers.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
