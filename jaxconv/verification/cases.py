"""The named cases: for every public op the geometries worth testing, from edge cases to real layers.

The tests, the command and the benchmarks all take their cases from here. A case has our op and the same thing in plain
lax, for JAX to differentiate; the shapes of the floating arguments, and larger ones of the same layer for timing. The
special points of every op (ties, kinks, ±0, ±inf, NaN, empty axes), with what its docstring promises there, are
`EDGES`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxconv
from jaxconv.geometry import pool_window
from jaxconv.verification.checks import Edge

__all__ = ["EDGES", "Case", "all_cases"]

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Case:
    """An op with options, its reference, and where to check it.

    `truth`, where it is not None, is the same function with a gradient that is accurate where the reference's is not.
    `thorough` cases are small, and go through second derivatives and all transformations too; `quick` ones make up the
    short run. `timing` has the shapes of the same layer as the benchmarks use it.
    """

    op: str
    name: str
    function: Callable
    reference: Callable
    shapes: tuple[Shape, ...]
    inputs: Callable[[np.random.Generator, Shape], np.ndarray] = lambda rng, shape: rng.standard_normal(shape)
    thorough: bool = False
    quick: bool = False
    timing: tuple[Shape, ...] | None = None
    truth: Callable | None = None
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16", "float16")

    def arguments(self, seed: int = 0) -> list[np.ndarray]:
        """The floating arguments, in float64."""
        rng = np.random.default_rng(seed)
        return [self.inputs(rng, shape) for shape in self.shapes]


# --- convolution ---


def plain_conv(
    x, w, *, strides=1, padding: Any = "VALID", dilation=1, groups=1, flip_kernel=False, data_format="channels_last"
):
    """The convolution by lax alone: what one would write without this library."""
    ndim = w.ndim - 2
    nb = x.ndim - ndim - 1
    if data_format == "channels_first":
        x = jnp.moveaxis(x, nb, -1)
    batch = x.shape[:nb]
    x = x.reshape(math.prod(batch), *x.shape[nb:])
    if flip_kernel:
        w = jnp.flip(w, range(ndim))
    if not isinstance(padding, str):
        pairs = [(padding, padding)] * ndim if isinstance(padding, int) else [tuple(p) for p in padding]
        # Explicitly: the gradient of lax's convolution aborts XLA:CPU for some negative paddings.
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pairs), (0, 0, 0)])
        padding = "VALID"
    data = (0, ndim + 1, *range(1, ndim + 1))
    y = lax.conv_general_dilated(
        x,
        w,
        _each(strides, ndim),
        padding,
        rhs_dilation=_each(dilation, ndim),
        dimension_numbers=lax.ConvDimensionNumbers(data, (ndim + 1, ndim, *range(ndim)), data),
        feature_group_count=groups,
    )
    y = y.reshape(*batch, *y.shape[1:])
    return jnp.moveaxis(y, -1, nb) if data_format == "channels_first" else y


def _each(value, ndim) -> tuple[int, ...]:
    return (value,) * ndim if isinstance(value, int) else tuple(value)


@dataclasses.dataclass(frozen=True)
class _Conv:
    """A convolution, from which a case of each of the three ops is made."""

    name: str
    x: Shape
    kernel: Shape
    features: int
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    bias: bool = False
    thorough: bool = False
    quick: bool = False
    timed: Shape | None = None  # x as the benchmarks have it
    all_ops: bool = True

    def cases(self) -> list[Case]:
        first = self.options.get("data_format") == "channels_first"
        ndim, options = len(self.kernel), self.options
        channels = self.x[-ndim - 1] if first else self.x[-1]
        spatial = self.x[-ndim:] if first else self.x[-ndim - 1 : -1]
        w = (*self.kernel, channels // options.get("groups", 1), self.features)

        def plain(x, w, b=None):
            y = plain_conv(x, w, **options)
            if b is None:
                return y
            return y + jnp.broadcast_to(b.reshape(-1, *(1,) * ndim) if first else b, y.shape)

        y = jax.eval_shape(plain, jax.ShapeDtypeStruct(self.x, jnp.float32), jax.ShapeDtypeStruct(w, jnp.float32)).shape

        def input_grad(dy, w):
            x = jnp.zeros((*dy.shape[: len(dy.shape) - ndim - 1], *self.x[-ndim - 1 :]), dy.dtype)
            return jax.vjp(lambda x: plain(x, w), x)[1](dy)[0]

        def kernel_grad(x, dy):
            return jax.vjp(lambda w: plain(x, w), jnp.zeros(w, x.dtype))[1](dy)[0]

        conv = functools.partial(jaxconv.conv, **options)
        made = functools.partial(Case, thorough=self.thorough, quick=self.quick)
        shapes = (self.x, w, (self.features,)) if self.bias else (self.x, w)
        timing = (self.timed, (*w[:-2], self.timed[-1] // options.get("groups", 1), w[-1])) if self.timed else None
        cases = [made("conv", self.name, lambda *a: conv(*a), plain, shapes, timing=timing)]
        if self.all_ops:
            grad = functools.partial(jaxconv.conv_input_grad, input_size=spatial, **options)
            of_kernel = functools.partial(jaxconv.conv_kernel_grad, kernel_size=self.kernel, **options)
            cases.append(made("conv_input_grad", self.name, lambda dy, w: grad(dy, w), input_grad, (y, w)))
            cases.append(made("conv_kernel_grad", self.name, lambda x, dy: of_kernel(x, dy), kernel_grad, (self.x, y)))
        return cases


# No option at its default, nothing alike on two axes: the case that finds most bugs.
_EVERYTHING = {
    "strides": (2, 3),
    "padding": ((2, 1), (0, 3)),
    "dilation": (2, 1),
    "groups": 2,
    "flip_kernel": True,
    "data_format": "channels_first",
}

_CONVS = [
    _Conv("every option", (2, 4, 7, 6), (3, 2), 6, _EVERYTHING, bias=True, thorough=True, quick=True),
    _Conv("plain", (2, 6, 5, 3), (3, 2), 4, bias=True, all_ops=False),
    _Conv("SAME, stride 2", (2, 7, 6, 3), (3, 3), 4, {"strides": 2, "padding": "SAME"}, all_ops=False),
    _Conv("SAME_LOWER, dilated", (2, 7, 8, 2), (3, 2), 3, {"dilation": (1, 3), "padding": "SAME_LOWER"}, all_ops=False),
    _Conv("cropped", (2, 9, 8, 2), (2, 3), 3, {"padding": ((-1, 2), (1, -2)), "strides": (2, 1)}, quick=True),
    _Conv("stride beyond the window", (2, 11, 9, 2), (2, 1), 3, {"strides": (5, 3), "padding": ((1, 0), (0, 0))}),
    _Conv(
        "groups and stride",
        (2, 9, 7, 6),
        (3, 3),
        9,
        {"groups": 3, "strides": 2, "padding": 1},
        bias=True,
    ),
    _Conv("depthwise, multiplier 2", (2, 7, 6, 3), (3, 2), 6, {"groups": 3, "padding": "SAME"}, all_ops=False),
    _Conv(
        "depthwise, dilated, stride 2",
        (1, 12, 11, 4),
        (3, 3),
        4,
        {"groups": 4, "dilation": 2, "strides": 2, "padding": 2},
    ),
    _Conv("pointwise", (2, 4, 5, 6), (1, 1), 7, bias=True),
    _Conv("pointwise, stride 2", (2, 7, 6, 4), (1, 1), 3, {"strides": 2}, all_ops=False),
    _Conv("window as large as the input", (3, 4, 5, 2), (4, 5), 3, all_ops=False),
    _Conv("large window", (1, 15, 14, 2), (11, 9), 2, {"padding": "SAME"}, all_ops=False),
    _Conv("no batch axis", (6, 7, 2), (3, 3), 3, {"padding": 1}, bias=True, all_ops=False),
    _Conv("three batch axes", (2, 1, 2, 5, 4, 2), (2, 2), 3, all_ops=False),
    _Conv("1-D, causal padding", (2, 17, 3), (4,), 5, {"padding": ((6, 0),), "dilation": 2}, all_ops=False),
    _Conv(
        "1-D, channels first",
        (2, 3, 13),
        (5,),
        4,
        {"strides": 2, "padding": "SAME", "data_format": "channels_first"},
        bias=True,
    ),
    _Conv(
        "3-D",
        (1, 5, 4, 6, 2),
        (2, 3, 2),
        4,
        {"strides": (1, 2, 1), "padding": "SAME", "groups": 2},
        bias=True,
    ),
    _Conv("4-D", (1, 4, 3, 4, 3, 2), (2, 2, 1, 2), 2, {"padding": ((1, 0), (0, 0), (0, 1), (1, 1))}, all_ops=False),
    _Conv("size-1 axes", (1, 1, 1, 1), (1, 1), 1, bias=True),
    _Conv("one channel in, long sums", (64, 28, 28, 1), (3, 3), 8, {"padding": "SAME"}, bias=True, all_ops=False),
    _Conv("65,537 examples", (65_537, 2, 1), (2,), 1, all_ops=False),
    # Real layers.
    _Conv("MNIST first", (2, 28, 28, 1), (3, 3), 32, {"padding": "SAME"}, timed=(64, 28, 28, 1), all_ops=False),
    _Conv("MNIST second", (2, 14, 14, 32), (3, 3), 64, {"padding": "SAME"}, timed=(64, 14, 14, 32), all_ops=False),
    _Conv("CIFAR body", (1, 32, 32, 64), (3, 3), 64, {"padding": "SAME"}, timed=(64, 32, 32, 64), all_ops=False),
    _Conv(
        "downsample",
        (1, 28, 28, 64),
        (3, 3),
        128,
        {"padding": "SAME", "strides": 2},
        timed=(16, 56, 56, 64),
        all_ops=False,
    ),
    _Conv(
        "ResNet stem",
        (1, 56, 56, 3),
        (7, 7),
        64,
        {"padding": "SAME", "strides": 2},
        timed=(8, 112, 112, 3),
        all_ops=False,
    ),
    _Conv("bottleneck, pointwise", (1, 28, 28, 256), (1, 1), 256, timed=(16, 28, 28, 256), all_ops=False),
    _Conv(
        "ResNeXt, grouped",
        (1, 14, 14, 128),
        (3, 3),
        128,
        {"padding": "SAME", "groups": 32},
        timed=(8, 28, 28, 128),
        all_ops=False,
    ),
    _Conv(
        "MobileNet, depthwise",
        (1, 28, 28, 128),
        (3, 3),
        128,
        {"padding": "SAME", "groups": 128},
        timed=(2, 62, 62, 256),
        all_ops=False,
    ),
    _Conv("1-D, sequence", (2, 512, 64), (5,), 64, {"padding": "SAME"}, timed=(8, 1024, 64), all_ops=False),
    _Conv(
        "3-D, volume", (1, 8, 16, 16, 16), (3, 3, 3), 32, {"padding": "SAME"}, timed=(2, 8, 16, 16, 16), all_ops=False
    ),
    _Conv("tiny", (1, 28, 28, 1), (4, 4), 3, timed=(1, 28, 28, 1), all_ops=False),
]


# --- pooling ---


def plain_pool(kind, x, window, *, count_include_pad=True, data_format="channels_last", **options):
    """The pooling by lax alone; windows with dilation are slices, as lax.reduce_window has no gradient for them."""
    ndim = x.ndim - 2 if isinstance(window, int) else len(window)
    nb = x.ndim - ndim - 1
    if data_format == "channels_first":
        x = jnp.moveaxis(x, nb, -1)
    batch = x.shape[:nb]
    x = x.reshape(math.prod(batch), *x.shape[nb:])
    sliding = pool_window(x.shape[1:-1], window, **options)
    reducer, identity = {"max": (lax.max, -jnp.inf), "min": (lax.min, jnp.inf)}.get(kind, (lax.add, 0.0))
    sizes, strides = (1, *sliding.window_size, 1), (1, *sliding.strides, 1)
    pads = [(0, 0), *sliding.padding, (0, 0)]
    padded_size = [n + low + high for n, (low, high) in zip(sliding.input_size, sliding.padding, strict=True)]
    plain = set(sliding.dilation) == {1}
    if plain and min(map(min, pads)) >= 0:
        y = lax.reduce_window(x, identity, reducer, sizes, strides, pads)
    else:
        # The gradient of lax.reduce_window refuses a negative padding: it is made explicit.
        padded = lax.pad(x, jnp.asarray(identity, x.dtype), [(low, high, 0) for low, high in pads])
        extremum = reducer if kind in ("max", "min") else None
        if plain:
            y = lax.reduce_window(padded, identity, reducer, sizes, strides, "VALID")
        else:
            y = _reduced_slices(padded, sliding, extremum)
    if kind == "avg":
        # How many positions each window counts: the same sum over an indicator.
        inside = np.zeros(padded_size)
        low_high = [
            (low if not count_include_pad else min(low, 0), low + n if not count_include_pad else low + n + high - over)
            for n, (low, high), over in zip(sliding.input_size, sliding.padding, sliding.overhang, strict=True)
        ]
        inside[tuple(slice(max(0, low), max(0, high)) for low, high in low_high)] = 1
        counts = np.zeros(sliding.output_size)
        for tap in sliding.taps():
            counts += inside[_tap_slices(sliding, tap)]
        y = y / jnp.asarray(np.maximum(counts, 1), y.dtype)[None, ..., None]
    y = y.reshape(*batch, *y.shape[1:])
    return jnp.moveaxis(y, -1, nb) if data_format == "channels_first" else y


def _tap_slices(sliding, tap):
    starts = [d * i for d, i in zip(sliding.dilation, tap, strict=True)]
    return tuple(
        slice(a, a + s * (o - 1) + 1, s) for a, s, o in zip(starts, sliding.strides, sliding.output_size, strict=True)
    )


def _reduced_slices(padded, sliding, reducer):
    views = jnp.stack([padded[(slice(None), *_tap_slices(sliding, tap))] for tap in sliding.taps()])
    if reducer is None:
        return jnp.sum(views, 0)
    # The first of equal elements wins, as in lax.reduce_window; jnp.max would share the gradient among them.
    winner = jnp.argmax(views, 0) if reducer is lax.max else jnp.argmin(views, 0)
    return jnp.take_along_axis(views, winner[None], 0)[0]


_ALL_KINDS = ("max", "min", "sum", "avg")


def _distinct(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal values; for small arrays, their ranks, so that no two round to the same number in bfloat16."""
    values = rng.standard_normal(shape)
    if values.size > 256:
        return values
    return (np.argsort(np.argsort(values, axis=None)).reshape(shape) - values.size // 2) / 64


def _ascending(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """The last tap of every window wins."""
    return np.arange(math.prod(shape)).reshape(shape) / 64


@dataclasses.dataclass(frozen=True)
class _Pool:
    """A pooling, from which a case of each kind is made."""

    name: str
    x: Shape
    window: int | Shape
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    kinds: tuple[str, ...] = ("max", "avg")
    thorough: bool = False
    quick: bool = False
    timed: Shape | None = None
    # Distinct in every dtype, as far as it can hold: ties are a matter of EDGES.
    inputs: Callable = _distinct

    def cases(self) -> list[Case]:
        cases = []
        for kind in self.kinds:
            options = (
                self.options if kind == "avg" else {k: v for k, v in self.options.items() if k != "count_include_pad"}
            )
            op = functools.partial(getattr(jaxconv, f"{kind}_pool"), window=self.window, **options)
            plain = functools.partial(plain_pool, kind, window=self.window, **options)
            timing = (self.timed,) if self.timed else None
            cases.append(
                Case(
                    f"{kind}_pool",
                    self.name,
                    lambda x, op=op: op(x),
                    lambda x, plain=plain: plain(x),
                    (self.x,),
                    inputs=self.inputs,
                    thorough=self.thorough,
                    quick=self.quick,
                    timing=timing,
                )
            )
        return cases


_POOL_EVERYTHING = {
    "strides": (3, 1),
    "padding": ((1, 2), (0, 1)),
    "dilation": (1, 2),
    "ceil_mode": True,
    "count_include_pad": False,
    "data_format": "channels_first",
}

_POOLS = [
    _Pool("every option", (2, 2, 8, 7), (3, 2), _POOL_EVERYTHING, thorough=True, quick=True, kinds=_ALL_KINDS),
    _Pool("2x2", (2, 6, 4, 3), 2),
    _Pool("rest left over", (2, 7, 5, 2), 2),
    _Pool(
        "overlapping, SAME",
        (1, 9, 7, 2),
        3,
        {"strides": 2, "padding": "SAME", "count_include_pad": False},
        quick=True,
        kinds=_ALL_KINDS,
    ),
    _Pool("stride 1", (1, 6, 7, 2), (3, 2), {"strides": 1, "padding": "SAME_LOWER"}, kinds=_ALL_KINDS),
    _Pool("gaps between windows", (1, 11, 9, 2), (2, 3), {"strides": (4, 5), "padding": ((1, 0), (0, 2))}),
    _Pool("cropped", (1, 9, 8, 2), (2, 3), {"strides": (2, 1), "padding": ((-1, 1), (1, -2))}, kinds=_ALL_KINDS),
    _Pool("padding counts", (1, 5, 6, 2), 3, {"strides": 2, "padding": 1, "count_include_pad": True}, kinds=("avg",)),
    _Pool("hanging over the end", (1, 6, 7, 2), 4, {"strides": 3, "padding": 1, "ceil_mode": True}),
    _Pool("window as large as the input", (2, 5, 4, 2), (5, 4)),
    _Pool("49 taps", (1, 9, 10, 2), 7, {"strides": 2, "padding": 3}, kinds=_ALL_KINDS),
    _Pool("289 taps", (1, 18, 17, 1), 17, {"strides": 1}, kinds=("max",), inputs=_ascending),
    _Pool("1-D", (2, 15, 3), (4,), {"strides": 3, "padding": ((2, 1),)}),
    _Pool("3-D", (1, 5, 4, 6, 2), (2, 3, 2), {"strides": (1, 2, 2), "padding": "SAME"}),
    _Pool("no batch axis", (6, 5, 2), (2, 2)),
    _Pool("size-1 axes", (1, 1, 1, 1), 1, kinds=_ALL_KINDS),
    # Real layers.
    _Pool("VGG", (2, 32, 32, 64), 2, kinds=("max", "avg"), timed=(128, 32, 32, 64)),
    _Pool(
        "ResNet stem", (1, 56, 56, 64), 3, {"strides": 2, "padding": "SAME"}, kinds=("max",), timed=(16, 112, 112, 64)
    ),
    _Pool("Inception", (1, 28, 28, 32), 3, {"strides": 1, "padding": "SAME"}, kinds=("max",), timed=(32, 28, 28, 32)),
    _Pool(
        "ResNet-D",
        (1, 28, 28, 128),
        3,
        {"strides": 2, "padding": "SAME", "count_include_pad": False},
        kinds=("avg",),
        timed=(16, 56, 56, 128),
    ),
]


def _plain_global(kind, x, spatial_ndim=None, keepdims=False, data_format="channels_last"):
    ndim = x.ndim - 2 if spatial_ndim is None else spatial_ndim
    axes = (
        tuple(range(x.ndim - ndim, x.ndim))
        if data_format == "channels_first"
        else tuple(range(x.ndim - 1 - ndim, x.ndim - 1))
    )
    if kind == "avg":
        return jnp.mean(x, axes, keepdims=keepdims)
    # The first of equal elements wins; jnp.max would share the gradient.
    moved = jnp.moveaxis(x, axes, range(-ndim, 0)).reshape(*(x.shape[a] for a in range(x.ndim) if a not in axes), -1)
    y = jnp.take_along_axis(moved, jnp.argmax(moved, -1)[..., None], -1)[..., 0]
    return jnp.expand_dims(y, axes) if keepdims else y


_GLOBAL_POOLS: list[tuple[str, Shape, dict[str, Any]]] = [
    ("every option", (2, 3, 4, 5), {"spatial_ndim": 2, "keepdims": True, "data_format": "channels_first"}),
    ("2-D", (2, 5, 4, 3), {}),
    ("1-D, no batch axis", (9, 4), {"spatial_ndim": 1}),
    ("3-D", (2, 3, 2, 4, 2), {}),
    ("long sums", (1, 64, 64, 2), {}),
    ("ResNet head", (2, 7, 7, 512), {}),
]


def _global_cases() -> list[Case]:
    return [
        Case(
            f"global_{kind}_pool",
            name,
            lambda x, op=op, options=options: op(x, **options),
            lambda x, kind=kind, options=options: _plain_global(kind, x, **options),
            (shape,),
            inputs=_distinct,
            thorough=name == "every option",
            quick=name == "every option",
            timing=((64, *shape[1:]),) if name == "ResNet head" else None,
        )
        for kind, op in (("max", jaxconv.global_max_pool), ("avg", jaxconv.global_avg_pool))
        for name, shape, options in _GLOBAL_POOLS
    ]


# --- activations ---


def _wide(most: float) -> Callable:
    """Over the whole range up to ±most, without 0, where some activations have their kink."""

    def inputs(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        size = math.prod(shape)
        return rng.permutation(np.linspace(-most, most, size + 1 - size % 2)[:size]).reshape(shape) + most / (4 * size)

    return inputs


def _times(factor: float) -> Callable:
    return lambda rng, shape: factor * rng.standard_normal(shape)


@jax.custom_jvp
def exact_sigmoid(x):
    """1/(1 + exp(−x)) for the truth: JAX's derivative of lax.logistic, y·(1 − y), is 0 where y rounds to 1."""
    return lax.logistic(x)


@exact_sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return exact_sigmoid(x), exact_sigmoid(x) * exact_sigmoid(-x) * t


@jax.custom_jvp
def exact_tanh(x):
    """tanh(x) for the truth: JAX's derivative, 1 − y², is 0 where y rounds to ±1."""
    return lax.tanh(x)


@exact_tanh.defjvp
def _tanh_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return exact_tanh(x), 4 * exact_sigmoid(2 * x) * exact_sigmoid(-2 * x) * t


def _activation_cases() -> list[Case]:
    low = ("bfloat16", "float16")
    cases = []
    for name, ours, plain in (
        ("relu", jaxconv.relu, jax.nn.relu),
        ("leaky_relu", lambda x: jaxconv.leaky_relu(x, 0.3), lambda x: jax.nn.leaky_relu(x, 0.3)),
        ("sigmoid", jaxconv.sigmoid, jax.nn.sigmoid),
        ("tanh", jaxconv.tanh, jnp.tanh),
    ):
        truth = {"sigmoid": exact_sigmoid, "tanh": exact_tanh}.get(name)
        made = functools.partial(Case, name, function=lambda x, ours=ours: ours(x), reference=plain, truth=truth)
        cases += [
            made("normal inputs", shapes=((3, 5),), inputs=_times(2.0), thorough=True, quick=True),
            made("no axis", shapes=((),)),
            made("feature map", shapes=((2, 28, 28, 32),), timing=((64, 28, 28, 32),)),
        ]
        wide = made("whole range", shapes=((401,),))
        cases += [
            dataclasses.replace(
                wide, inputs=_wide(80.0 if name == "sigmoid" else 40.0), dtypes=("float64", "float32"), quick=True
            ),
            # float16 has no numbers below 6e-8: exp(-12) is 6e-6.
            dataclasses.replace(
                wide,
                name="whole range of float16",
                quick=True,
                inputs=_wide(12.0 if name == "sigmoid" else 6.0),
                dtypes=low,
            ),
        ]
    for name in ("softmax", "log_softmax"):
        ours, plain = getattr(jaxconv, name), getattr(jax.nn, name)
        for case, shape, axis, factor, thorough in (
            ("rows", (3, 5), -1, 2.0, True),
            ("leading axis", (4, 3, 2), 0, 2.0, False),
            ("two axes", (3, 2, 4), (0, -1), 2.0, False),
            ("one class", (4, 1), -1, 1.0, False),
            ("one row, no batch axis", (7,), 0, 1.0, False),
            ("far apart", (6, 5), -1, 6.0, False),
            ("ImageNet classes", (4, 1000), -1, 1.0, False),
        ):
            cases.append(
                Case(
                    name,
                    case,
                    lambda x, ours=ours, axis=axis: ours(x, axis),
                    lambda x, plain=plain, axis=axis: plain(x, axis),
                    (shape,),
                    inputs=_times(factor),
                    thorough=thorough,
                    quick=thorough,
                    timing=((512, 1000),) if shape == (4, 1000) else None,
                )
            )
    return cases


# --- dense, flatten, losses ---


def _plain_dense(x, w, b=None):
    y = jnp.dot(x, w)
    return y if b is None else y + jnp.broadcast_to(b, y.shape)


def _linear_cases() -> list[Case]:
    cases = [
        Case(
            "dense",
            name,
            lambda *a: jaxconv.dense(*a),
            _plain_dense,
            shapes,
            thorough=thorough,
            quick=thorough,
            timing=timing,
        )
        for name, shapes, thorough, timing in (
            ("bias, two batch axes", ((2, 3, 4), (4, 5), (5,)), True, None),
            ("no bias", ((6, 4), (4, 3)), False, None),
            ("no batch axis", ((4,), (4, 3), (3,)), False, None),
            ("one output", ((5, 7), (7, 1), (1,)), False, None),
            ("square", ((3, 4), (4, 4)), False, None),
            ("long sums", ((4, 4096), (4096, 3), (3,)), False, None),
            ("long batch", ((4096, 3), (3, 4), (4,)), False, None),
            ("LeNet head", ((8, 3136), (3136, 128)), False, ((128, 3136), (3136, 128))),
        )
    ]
    for name, shape, batch_ndim, thorough in (
        ("image", (2, 3, 4, 2), 1, True),
        ("two batch axes", (2, 3, 4, 2), 2, False),
        ("no batch axis", (3, 4), 0, False),
        ("nothing to flatten", (3,), 1, False),
    ):
        cases.append(
            Case(
                "flatten",
                name,
                lambda x, batch_ndim=batch_ndim: jaxconv.flatten(x, batch_ndim=batch_ndim),
                lambda x, batch_ndim=batch_ndim: x.reshape(*x.shape[:batch_ndim], -1),
                (shape,),
                thorough=thorough,
                quick=thorough,
            )
        )
    return cases


def _positive(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return np.abs(rng.standard_normal(shape)) + 0.1


def _labels(logits, axis: int):
    """A class for every row, the same for the same shape."""
    shape = np.delete(logits.shape, axis)
    return jnp.asarray(np.arange(math.prod(shape)).reshape(shape) * 7 % logits.shape[axis], jnp.int32)


def _plain_hard(z, axis=-1):
    labels = jnp.expand_dims(_labels(z, axis), axis)
    return -jnp.squeeze(jnp.take_along_axis(jax.nn.log_softmax(z, axis), labels, axis), axis)


def _loss_cases() -> list[Case]:
    cases = []
    for name, shape, axis, factor, thorough in (
        ("rows", (4, 3), -1, 1.0, True),
        ("dense prediction, channels first", (2, 3, 4, 2), 1, 1.0, False),
        ("one row, no batch axis", (5,), 0, 1.0, False),
        ("one class", (3, 1), -1, 1.0, False),
        ("far apart", (6, 5), -1, 6.0, False),
        ("ImageNet classes", (4, 1000), -1, 1.0, False),
    ):
        made = functools.partial(Case, thorough=thorough, quick=thorough)
        timing = (512, 1000) if shape == (4, 1000) else None
        cases.append(
            made(
                "softmax_cross_entropy_with_integer_labels",
                name,
                lambda z, axis=axis: jaxconv.softmax_cross_entropy_with_integer_labels(z, _labels(z, axis), axis),
                lambda z, axis=axis: _plain_hard(z, axis),
                (shape,),
                inputs=_times(factor),
                timing=(timing,) if timing else None,
            )
        )
        cases.append(
            made(
                "softmax_cross_entropy",
                name,
                lambda z, t, axis=axis: jaxconv.softmax_cross_entropy(z, t, axis),
                lambda z, t, axis=axis: -jnp.sum(t * jax.nn.log_softmax(z, axis), axis),
                (shape, shape),
                # Targets are positive, and need not sum to 1.
                inputs=lambda rng, shape, factor=factor: factor * _positive(rng, shape),
                timing=(timing, timing) if timing else None,
            )
        )
    return cases


@functools.cache
def all_cases() -> tuple[Case, ...]:
    """Every case of every op, an op's cases one after the other."""
    cases = [case for conv in _CONVS for case in conv.cases()]
    cases += [case for pool in _POOLS for case in pool.cases()]
    cases += [*_global_cases(), *_activation_cases(), *_linear_cases(), *_loss_cases()]
    # The narrow dtypes take one path through every op: the quick cases are made in both, and of the others every second
    # in one of them.
    turns = itertools.cycle((("bfloat16",), (), ("float16",), ()))
    narrow = [("bfloat16", "float16") if case.quick else next(turns) for case in cases]
    wide = ("float64", "float32")
    cases = [
        dataclasses.replace(case, dtypes=tuple(d for d in case.dtypes if d in (*wide, *few)))
        for case, few in zip(cases, narrow, strict=True)
    ]
    return tuple(sorted((case for case in cases if case.dtypes), key=lambda case: case.op))


# --- special points ---


def _column(*values: float) -> np.ndarray:
    """One example with one channel: (1, positions, 1)."""
    return np.asarray(values, np.float64).reshape(1, -1, 1)


inf, nan = math.inf, math.nan


def _pool_edges(op: Callable, sign: int) -> tuple[Edge, ...]:
    """Of max_pool (sign 1) and min_pool (sign −1), whose every example is the other's negated."""
    pool = lambda **options: lambda x: op(x, 2, **{"strides": 2, **options})  # noqa: E731

    def edge(convention, function, x, y, dx, dy=1.0):
        return Edge(convention, function, (sign * _column(*x),), sign * _column(*y), (_column(*dx),), dy)

    return (
        edge("a tie: the first tap gets all", pool(), (1, 1, 0, 0), (1, 0), (1, 0, 1, 0)),
        edge("a tie of ±0", pool(), (0.0, -0.0, -0.0, 0.0), (0, 0), (1, 0, 1, 0)),
        edge("overlapping windows add up", pool(strides=1), (1, 3, 2), (3, 3), (0, 2, 0)),
        edge("padding never wins a tie", pool(padding=((1, 1),)), (-inf, 0, 1, -inf), (-inf, 1, -inf), (1, 0, 1, 1)),
        edge("a window wholly in the padding", pool(padding=((2, 0),)), (1, 2), (-inf, 2), (0, 1)),
        edge("NaN is the extremum of its window", pool(), (1, nan, 2, 1), (nan, 2), (0, 1, 1, 0)),
        edge("the first NaN gets the gradient", pool(), (nan, nan, 1, 2), (nan, 2), (1, 0, 0, 1)),
        edge("infinities are ordinary", pool(), (inf, 1, -inf, 3), (inf, 3), (1, 0, 0, 1)),
        edge("nothing to pool in the batch", lambda x: op(x[:0], 2), (1, 2), (), (0, 0))._replace(
            y=np.zeros((0, 1, 1))
        ),
        edge("one position", lambda x: op(x, 1), (5,), (5,), (1,)),
        edge("a position that no window reads", pool(strides=3), (1, 2, 9, 4, 3), (2, 4), (0, 1, 0, 1, 0)),
    )


def _sum_edges(op: Callable, share: float) -> tuple[Edge, ...]:
    """Of sum_pool (share 1) and avg_pool (share 1/2), with windows of two."""
    return (
        Edge(
            "NaN and inf stay",
            lambda x: op(x, 2),
            (_column(nan, 1, inf, 1),),
            _column(nan, inf),
            (_column(*[share] * 4),),
        ),
        Edge("inf − inf is NaN", lambda x: op(x, 2), (_column(inf, -inf),), _column(nan), (_column(share, share),)),
        Edge("an empty batch", lambda x: op(x[:0], 2), (_column(1, 2),), np.zeros((0, 1, 1)), (_column(0, 0),)),
        Edge("an empty axis", lambda x: op(x[:, :0], 2), (_column(1, 2),), np.zeros((1, 0, 1)), (_column(0, 0),)),
    )


def _conv(x, w):
    return jaxconv.conv(x, w)


_TWO = np.asarray([2.0, 3.0]).reshape(2, 1, 1)

EDGES: dict[str, tuple[Edge, ...]] = {
    "conv": (
        Edge(
            "an empty batch: dw and db are 0",
            lambda x, w, b: jaxconv.conv(x[:0], w, b),
            (_column(1, 2, 3), _TWO, np.ones(1)),
            np.zeros((0, 2, 1)),
            (_column(0, 0, 0), 0 * _TWO, np.zeros(1)),
        ),
        Edge(
            "no input channels: a sum over nothing",
            lambda x, w, b: jaxconv.conv(x[..., :0], w[:, :0], b),
            (_column(1, 2, 3), _TWO, np.ones(1)),
            _column(1, 1),
            (_column(0, 0, 0), 0 * _TWO, np.full(1, 2.0)),
        ),
        Edge(
            "no output channels",
            lambda x, w: jaxconv.conv(x, w[..., :0]),
            (_column(1, 2, 3), _TWO),
            np.zeros((1, 2, 0)),
            (_column(0, 0, 0), 0 * _TWO),
        ),
        Edge(
            "an empty axis",
            lambda x, w: jaxconv.conv(x[:, :0], w),
            (_column(1, 2, 3), _TWO),
            np.zeros((1, 0, 1)),
            (_column(0, 0, 0), 0 * _TWO),
        ),
        Edge(
            "NaN in one example stays there",
            _conv,
            (np.stack([[[nan], [1.0]], [[1.0], [1.0]]]), _TWO),
            np.asarray([nan, 5.0]).reshape(2, 1, 1),
            (np.stack([[[2.0], [3.0]]] * 2), np.asarray([nan, 2.0]).reshape(2, 1, 1)),
        ),
        Edge(
            "inf in x",
            _conv,
            (_column(inf, 1, 1), _TWO),
            _column(inf, 5),
            (_column(2, 5, 3), np.asarray([inf, 2.0]).reshape(2, 1, 1)),
        ),
    ),
    "conv_input_grad": (
        Edge(
            "an empty batch",
            lambda dy, w: jaxconv.conv_input_grad(dy[:0], w, 3),
            (_column(1, 2), _TWO),
            np.zeros((0, 3, 1)),
            (_column(0, 0), 0 * _TWO),
        ),
        Edge(
            "inf in dy",
            lambda dy, w: jaxconv.conv_input_grad(dy, w, 3),
            (_column(inf, 1), _TWO),
            _column(inf, inf, 3),
            (_column(5, 5), np.asarray([inf, inf]).reshape(2, 1, 1)),
        ),
        Edge(
            "positions that no window reads",
            lambda dy, w: jaxconv.conv_input_grad(dy, w, 6, strides=3),
            (_column(1, 1), _TWO),
            _column(2, 3, 0, 2, 3, 0),
            (_column(5, 5), _TWO * 0 + 2),
        ),
    ),
    "conv_kernel_grad": (
        Edge(
            "an empty batch: a sum over nothing",
            lambda x, dy: jaxconv.conv_kernel_grad(x[:0], dy[:0], (2,)),
            (_column(1, 2, 3), _column(1, 2)),
            0 * _TWO,
            (_column(0, 0, 0), _column(0, 0)),
        ),
        Edge(
            "NaN in x",
            lambda x, dy: jaxconv.conv_kernel_grad(x, dy, (2,)),
            (_column(nan, 2, 3), _column(1, 2)),
            np.asarray([nan, 8.0]).reshape(2, 1, 1),
            (_column(1, 3, 2), _column(nan, 5)),
        ),
    ),
    "max_pool": _pool_edges(jaxconv.max_pool, 1),
    "min_pool": _pool_edges(jaxconv.min_pool, -1),
    "sum_pool": (
        *_sum_edges(jaxconv.sum_pool, 1.0),
        Edge(
            "a window wholly in the padding",
            lambda x: jaxconv.sum_pool(x, 2, padding=((2, 0),)),
            (_column(1, 2),),
            _column(0, 3),
            (_column(1, 1),),
        ),
    ),
    "avg_pool": (
        *_sum_edges(jaxconv.avg_pool, 0.5),
        Edge(
            "a window wholly in the padding: 0, not 0/0",
            lambda x: jaxconv.avg_pool(x, 2, padding=((2, 0),), count_include_pad=False),
            (_column(1, 2),),
            _column(0, 1.5),
            (_column(0.5, 0.5),),
        ),
        Edge(
            "the padding counts",
            lambda x: jaxconv.avg_pool(x, 2, padding=((1, 1),)),
            (_column(1, 2),),
            _column(0.5, 1),
            (_column(0.5, 0.5),),
        ),
        Edge(
            "the padding does not count",
            lambda x: jaxconv.avg_pool(x, 2, padding=((1, 1),), count_include_pad=False),
            (_column(1, 2),),
            _column(1, 2),
            (_column(1, 1),),
        ),
    ),
    "global_max_pool": (
        Edge(
            "a tie: the first position gets all",
            jaxconv.global_max_pool,
            (_column(1, 3, 3),),
            np.asarray([[3.0]]),
            (_column(0, 1, 0),),
        ),
        Edge("a tie of ±0", jaxconv.global_max_pool, (_column(-0.0, 0.0),), np.asarray([[0.0]]), (_column(1, 0),)),
        Edge(
            "the first NaN wins",
            jaxconv.global_max_pool,
            (_column(1, nan, nan, 2),),
            np.asarray([[nan]]),
            (_column(0, 1, 0, 0),),
        ),
        Edge(
            "−inf everywhere", jaxconv.global_max_pool, (_column(-inf, -inf),), np.asarray([[-inf]]), (_column(1, 0),)
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.global_max_pool(x[:0]),
            (_column(1, 2),),
            np.zeros((0, 1)),
            (_column(0, 0),),
        ),
    ),
    "global_avg_pool": (
        Edge("NaN stays", jaxconv.global_avg_pool, (_column(1, nan),), np.asarray([[nan]]), (_column(0.5, 0.5),)),
        Edge(
            "no position: 0, not 0/0",
            lambda x: jaxconv.global_avg_pool(x[:, :0]),
            (_column(1, 2),),
            np.zeros((1, 1)),
            (_column(0, 0),),
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.global_avg_pool(x[:0]),
            (_column(1, 2),),
            np.zeros((0, 1)),
            (_column(0, 0),),
        ),
    ),
    "relu": (
        Edge(
            "the kink: 0 at ±0",
            jaxconv.relu,
            (np.asarray([0.0, -0.0, 1.0, -1.0]),),
            np.asarray([0.0, 0, 1, 0]),
            (np.asarray([0.0, 0, 1, 0]),),
        ),
        Edge(
            "NaN stays NaN, with gradient 0",
            jaxconv.relu,
            (np.asarray([nan, inf, -inf]),),
            np.asarray([nan, inf, 0]),
            (np.asarray([0.0, 1, 0]),),
        ),
        Edge("an empty axis", jaxconv.relu, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "leaky_relu": (
        Edge(
            "the kink: 1 at ±0",
            lambda x: jaxconv.leaky_relu(x, 0.5),
            (np.asarray([0.0, -0.0, 1.0, -1.0]),),
            np.asarray([0.0, 0, 1, -0.5]),
            (np.asarray([1.0, 1, 1, 0.5]),),
        ),
        Edge(
            "NaN stays NaN, with gradient a",
            lambda x: jaxconv.leaky_relu(x, 0.5),
            (np.asarray([nan, inf, -inf]),),
            np.asarray([nan, inf, -inf]),
            (np.asarray([0.5, 1, 0.5]),),
        ),
        Edge("an empty axis", jaxconv.leaky_relu, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "sigmoid": (
        Edge(
            "0 and the infinities",
            jaxconv.sigmoid,
            (np.asarray([0.0, -0.0, inf, -inf]),),
            np.asarray([0.5, 0.5, 1, 0]),
            (np.asarray([0.25, 0.25, 0, 0]),),
        ),
        Edge("NaN stays", jaxconv.sigmoid, (np.asarray([nan]),), np.asarray([nan]), (np.asarray([nan]),)),
        Edge("an empty axis", jaxconv.sigmoid, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "tanh": (
        Edge(
            "0 and the infinities",
            jaxconv.tanh,
            (np.asarray([0.0, -0.0, inf, -inf]),),
            np.asarray([0.0, 0, 1, -1]),
            (np.asarray([1.0, 1, 0, 0]),),
        ),
        Edge("NaN stays", jaxconv.tanh, (np.asarray([nan]),), np.asarray([nan]), (np.asarray([nan]),)),
        Edge("an empty axis", jaxconv.tanh, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "softmax": (
        Edge("equal entries", jaxconv.softmax, (np.zeros(4),), np.full(4, 0.25), (np.zeros(4),)),
        Edge(
            "−inf is 0",
            jaxconv.softmax,
            (np.asarray([0.0, -inf, 0.0]),),
            np.asarray([0.5, 0, 0.5]),
            (np.asarray([-0.25, 0, 0.25]),),
            np.asarray([0.0, 1.0, 1.0]),
        ),
        Edge(
            "nothing but −inf: NaN",
            jaxconv.softmax,
            (np.asarray([-inf, -inf]),),
            np.asarray([nan, nan]),
            (np.asarray([nan, nan]),),
        ),
        Edge(
            "+inf: NaN", jaxconv.softmax, (np.asarray([0.0, inf]),), np.asarray([nan, nan]), (np.asarray([nan, nan]),)
        ),
        Edge("no row", jaxconv.softmax, (np.zeros((0, 3)),), np.zeros((0, 3)), (np.zeros((0, 3)),)),
        Edge("no class", jaxconv.softmax, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "log_softmax": (
        Edge(
            "−inf stays, with p = 0",
            jaxconv.log_softmax,
            (np.asarray([0.0, -inf, 0.0]),),
            np.asarray([-math.log(2), -inf, -math.log(2)]),
            (np.asarray([0.5, 0, -0.5]),),
            np.asarray([1.0, 0.0, 0.0]),
        ),
        Edge(
            "a huge entry",
            jaxconv.log_softmax,
            (np.asarray([30000.0, 0.0]),),
            np.asarray([0.0, -30000.0]),
            (np.asarray([-1.0, 1.0]),),
        ),
        Edge("no row", jaxconv.log_softmax, (np.zeros((0, 3)),), np.zeros((0, 3)), (np.zeros((0, 3)),)),
        Edge("no class", jaxconv.log_softmax, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "dense": (
        Edge(
            "an empty batch: dw and db are 0",
            jaxconv.dense,
            (np.zeros((0, 2)), np.ones((2, 1)), np.ones(1)),
            np.zeros((0, 1)),
            (np.zeros((0, 2)), np.zeros((2, 1)), np.zeros(1)),
        ),
        Edge(
            "nothing to sum",
            jaxconv.dense,
            (np.zeros((2, 0)), np.zeros((0, 1)), np.ones(1)),
            np.ones((2, 1)),
            (np.zeros((2, 0)), np.zeros((0, 1)), np.full(1, 2.0)),
        ),
        Edge(
            "NaN in one row stays there",
            jaxconv.dense,
            (np.asarray([[nan], [1.0]]), np.asarray([[2.0]])),
            np.asarray([[nan], [2.0]]),
            (np.asarray([[2.0], [2.0]]), np.asarray([[nan]])),
        ),
    ),
    "flatten": (
        Edge(
            "NaN and inf stay",
            jaxconv.flatten,
            (np.asarray([[[nan], [inf], [-0.0]]]),),
            np.asarray([[nan, inf, 0.0]]),
            (np.ones((1, 3, 1)),),
        ),
        Edge("an empty batch", jaxconv.flatten, (np.zeros((0, 2, 3)),), np.zeros((0, 6)), (np.zeros((0, 2, 3)),)),
    ),
    "softmax_cross_entropy": (
        Edge(
            "a class ruled out on both sides costs nothing",
            jaxconv.softmax_cross_entropy,
            (np.asarray([[0.0, -inf, 0.0]]), np.asarray([[1.0, 0.0, 0.0]])),
            np.asarray([math.log(2)]),
            (np.asarray([[-0.5, 0, 0.5]]), None),
        ),
        Edge(
            "a class ruled out that is wanted: inf",
            jaxconv.softmax_cross_entropy,
            (np.asarray([[0.0, -inf]]), np.asarray([[0.0, 1.0]])),
            np.asarray([inf]),
            None,
        ),
        Edge(
            "logits far apart",
            jaxconv.softmax_cross_entropy,
            (np.asarray([[30000.0, 0.0]]), np.asarray([[0.0, 1.0]])),
            np.asarray([30000.0]),
            (np.asarray([[1.0, -1.0]]), np.asarray([[0.0, 30000.0]])),
        ),
        Edge(
            "no row",
            jaxconv.softmax_cross_entropy,
            (np.zeros((0, 3)), np.zeros((0, 3))),
            np.zeros(0),
            (np.zeros((0, 3)), np.zeros((0, 3))),
        ),
    ),
    "softmax_cross_entropy_with_integer_labels": (
        Edge(
            "a label that is no class: NaN",
            jaxconv.softmax_cross_entropy_with_integer_labels,
            (np.zeros((2, 2)), np.asarray([0, 2])),
            np.asarray([math.log(2), nan]),
            (np.asarray([[-0.5, 0.5], [nan, nan]]),),
        ),
        Edge(
            "a label masked afterwards: 0",
            lambda z, t: jnp.where(t < 2, jaxconv.softmax_cross_entropy_with_integer_labels(z, t), 0),
            (np.zeros((2, 2)), np.asarray([0, 2])),
            np.asarray([math.log(2), 0]),
            (np.asarray([[-0.5, 0.5], [0.0, 0.0]]),),
        ),
        Edge(
            "logits far apart",
            jaxconv.softmax_cross_entropy_with_integer_labels,
            (np.asarray([[30000.0, 0.0]]), np.asarray([1])),
            np.asarray([30000.0]),
            (np.asarray([[1.0, -1.0]]),),
        ),
        Edge(
            "no row",
            jaxconv.softmax_cross_entropy_with_integer_labels,
            (np.zeros((0, 3)), np.zeros(0, np.int32)),
            np.zeros(0),
            (np.zeros((0, 3)),),
        ),
    ),
}
