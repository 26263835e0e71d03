"""Cases of the convolution and its gradients."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxconv
from jaxconv.verification.cases.case import Case, Shape, column, inf, nan
from jaxconv.verification.checks import Edge


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
    x, padding = with_named_padding(x, w.shape[:ndim], padding, dilation)
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


NUMPY_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect", "SYMMETRIC": "symmetric", "REPLICATE": "edge"}


def with_named_padding(x, kernel, padding, dilation=1):
    """x (N, *spatial, C), padded by jnp.pad where the padding has a name that lax does not know, and what is left."""
    ndim = len(kernel)
    kinds: list[Any] = [padding] * ndim if isinstance(padding, (str, int)) else list(padding)
    if not any(kind in ("FULL", "CAUSAL", *NUMPY_MODES) for kind in kinds):
        return x, padding
    for axis, (kind, r, d) in enumerate(zip(kinds, kernel, _each(dilation, ndim), strict=True)):
        total = d * (r - 1)
        if isinstance(kind, str):
            low = total // 2 if kind in NUMPY_MODES else total
            high = 0 if kind == "CAUSAL" else total - low if kind in NUMPY_MODES else total
            pads = [(0, 0)] * x.ndim
            pads[axis + 1] = (low, high)
            x = jnp.pad(x, pads, NUMPY_MODES.get(kind, "constant"))
            kinds[axis] = (0, 0)
        elif isinstance(kind, int):
            kinds[axis] = (kind, kind)
    return x, kinds


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
    _Conv(
        "1-D, causal padding, stride 2",
        (2, 17, 3),
        (4,),
        5,
        {"strides": 2, "padding": ((6, 0),), "dilation": 2},
        thorough=True,  # channels last, where "every option" has them first
        all_ops=False,
    ),
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
    _Conv(
        "circular and reflected, stride 2",
        (2, 7, 8, 2),
        (4, 3),
        3,
        {"padding": ("CIRCULAR", "REFLECT"), "strides": 2, "dilation": (1, 2)},
        bias=True,
        quick=True,
    ),
    _Conv(
        "symmetric and replicated",
        (2, 2, 6, 7),
        (5, 4),
        3,
        {"padding": ("SYMMETRIC", "REPLICATE"), "strides": (1, 3), "data_format": "channels_first"},
    ),
    _Conv("FULL and CAUSAL", (2, 5, 6, 2), (3, 4), 3, {"padding": ("FULL", "CAUSAL"), "strides": 2}, all_ops=False),
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


# --- conv_transpose ---


@dataclasses.dataclass(frozen=True)
class _Transposed:
    """A transposed convolution: the adjoint, by JAX, of the plain convolution of an output of this size."""

    name: str
    x: Shape
    kernel: Shape
    features: int  # of the output
    output: Shape
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    bias: bool = False
    thorough: bool = False
    quick: bool = False
    timed: Shape | None = None

    def case(self) -> Case:
        options = dict(self.options)
        forward = {key: value for key, value in options.items() if key != "output_padding"}
        first = options.get("data_format") == "channels_first"
        ndim = len(self.kernel)
        groups = options.get("groups", 1)

        def shape(x: Shape) -> tuple[Shape, ...]:
            inputs = x[-ndim - 1] if first else x[-1]
            w = (*self.kernel, self.features // groups, inputs)
            return (x, w, (self.features,)) if self.bias else (x, w)

        def plain(x, w, b=None):
            batch = x.shape[: x.ndim - ndim - 1]
            # The timed layers double the size; the others say how large the output is.
            size = self.output if x.shape == self.x else tuple(2 * n for n in x.shape[-ndim - 1 : -1])
            channels = (self.features, *size) if first else (*size, self.features)
            y = jax.vjp(lambda a: plain_conv(a, w, **forward), jnp.zeros((*batch, *channels), x.dtype))[1](x)[0]
            if b is None:
                return y
            return y + jnp.broadcast_to(b.reshape(-1, *(1,) * ndim) if first else b, y.shape)

        op = functools.partial(jaxconv.conv_transpose, **options)
        timing = shape(self.timed) if self.timed else None
        return Case(
            "conv_transpose",
            self.name,
            lambda *a: op(*a),
            plain,
            shape(self.x),
            thorough=self.thorough,
            quick=self.quick,
            timing=timing,
        )


_TRANSPOSED = [
    _Transposed(
        "every option",
        (2, 6, 4, 3),
        (3, 2),
        4,
        (9, 7),
        {**_EVERYTHING, "output_padding": (1, 2)},
        bias=True,
        thorough=True,
        quick=True,
    ),
    _Transposed("plain", (2, 4, 3, 3), (3, 2), 2, (6, 4), bias=True),
    _Transposed("SAME, stride 2", (2, 3, 4, 3), (3, 3), 2, (6, 8), {"strides": 2, "padding": "SAME"}),
    _Transposed("circular, stride 2", (2, 3, 4, 3), (4, 3), 2, (6, 8), {"strides": 2, "padding": "CIRCULAR"}),
    _Transposed("stride beyond the window", (1, 3, 3, 2), (2, 1), 3, (13, 8), {"strides": (5, 3), "output_padding": 1}),
    _Transposed("FULL", (2, 9, 3), (4,), 2, (6,), {"padding": "FULL"}),
    _Transposed("depthwise", (1, 4, 3, 3), (3, 3), 3, (7, 5), {"strides": 2, "padding": 1, "groups": 3}),
    _Transposed("3-D", (1, 2, 3, 2, 4), (2, 3, 2), 2, (4, 7, 4), {"strides": 2}),
    _Transposed(
        "DCGAN",
        (1, 8, 8, 64),
        (4, 4),
        32,
        (16, 16),
        {"strides": 2, "padding": "SAME"},
        timed=(32, 16, 16, 256),
    ),
]


def cases() -> list[Case]:
    """The cases of this module's ops."""
    return [case for conv in _CONVS for case in conv.cases()] + [transposed.case() for transposed in _TRANSPOSED]


def _conv(x, w):
    return jaxconv.conv(x, w)


_TWO = np.asarray([2.0, 3.0]).reshape(2, 1, 1)
EDGES: dict[str, tuple[Edge, ...]] = {
    "conv": (
        Edge(
            "an empty batch: dw and db are 0",
            lambda x, w, b: jaxconv.conv(x[:0], w, b),
            (column(1, 2, 3), _TWO, np.ones(1)),
            np.zeros((0, 2, 1)),
            (column(0, 0, 0), 0 * _TWO, np.zeros(1)),
        ),
        Edge(
            "no input channels: a sum over nothing",
            lambda x, w, b: jaxconv.conv(x[..., :0], w[:, :0], b),
            (column(1, 2, 3), _TWO, np.ones(1)),
            column(1, 1),
            (column(0, 0, 0), 0 * _TWO, np.full(1, 2.0)),
        ),
        Edge(
            "no output channels",
            lambda x, w: jaxconv.conv(x, w[..., :0]),
            (column(1, 2, 3), _TWO),
            np.zeros((1, 2, 0)),
            (column(0, 0, 0), 0 * _TWO),
        ),
        Edge(
            "an empty axis",
            lambda x, w: jaxconv.conv(x[:, :0], w),
            (column(1, 2, 3), _TWO),
            np.zeros((1, 0, 1)),
            (column(0, 0, 0), 0 * _TWO),
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
            (column(inf, 1, 1), _TWO),
            column(inf, 5),
            (column(2, 5, 3), np.asarray([inf, 2.0]).reshape(2, 1, 1)),
        ),
    ),
    "conv_input_grad": (
        Edge(
            "an empty batch",
            lambda dy, w: jaxconv.conv_input_grad(dy[:0], w, 3),
            (column(1, 2), _TWO),
            np.zeros((0, 3, 1)),
            (column(0, 0), 0 * _TWO),
        ),
        Edge(
            "inf in dy",
            lambda dy, w: jaxconv.conv_input_grad(dy, w, 3),
            (column(inf, 1), _TWO),
            column(inf, inf, 3),
            (column(5, 5), np.asarray([inf, inf]).reshape(2, 1, 1)),
        ),
        Edge(
            "positions that no window reads",
            lambda dy, w: jaxconv.conv_input_grad(dy, w, 6, strides=3),
            (column(1, 1), _TWO),
            column(2, 3, 0, 2, 3, 0),
            (column(5, 5), _TWO * 0 + 2),
        ),
    ),
    "conv_transpose": (
        Edge(
            "an empty batch: dw and db are 0",
            lambda x, w, b: jaxconv.conv_transpose(x[:0], w, b),
            (column(1, 2), _TWO, np.ones(1)),
            np.zeros((0, 3, 1)),
            (column(0, 0), 0 * _TWO, np.zeros(1)),
        ),
        Edge(
            "positions that no window reads",
            lambda x, w: jaxconv.conv_transpose(x, w, strides=3, output_padding=1),
            (column(1, 1), _TWO),
            column(2, 3, 0, 2, 3, 0),
            (column(5, 5), _TWO * 0 + 2),
        ),
        Edge(
            "inf in x",
            lambda x, w: jaxconv.conv_transpose(x, w),
            (column(inf, 1), _TWO),
            column(inf, inf, 3),
            (column(5, 5), np.asarray([inf, inf]).reshape(2, 1, 1)),
        ),
        Edge(
            "an empty axis",
            lambda x, w: jaxconv.conv_transpose(x[:, :0], w),
            (column(1, 2), _TWO),
            np.zeros((1, 0, 1)),
            (column(0, 0), 0 * _TWO),
        ),
    ),
    "conv_kernel_grad": (
        Edge(
            "an empty batch: a sum over nothing",
            lambda x, dy: jaxconv.conv_kernel_grad(x[:0], dy[:0], (2,)),
            (column(1, 2, 3), column(1, 2)),
            0 * _TWO,
            (column(0, 0, 0), column(0, 0)),
        ),
        Edge(
            "NaN in x",
            lambda x, dy: jaxconv.conv_kernel_grad(x, dy, (2,)),
            (column(nan, 2, 3), column(1, 2)),
            np.asarray([nan, 8.0]).reshape(2, 1, 1),
            (column(1, 3, 2), column(nan, 5)),
        ),
    ),
}
