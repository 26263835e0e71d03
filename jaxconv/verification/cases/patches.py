"""Cases of the patches and the block ops."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, Shape, column, inf, nan
from jaxconv.verification.cases.conv import plain_conv
from jaxconv.verification.checks import Edge


def _plain_patches(x, kernel_size, **options):
    """A convolution with one kernel per tap and channel, which has a single 1."""
    ndim = len(kernel_size)
    channels = x.shape[x.ndim - ndim - 1 if options.get("data_format") == "channels_first" else -1]
    size = int(np.prod(kernel_size)) * channels
    w = jnp.asarray(np.eye(size).reshape(*kernel_size, channels, size), x.dtype)
    return plain_conv(x, w, **options)


_PATCHES: list[tuple[str, Shape, dict[str, Any]]] = [
    (
        "every option",
        (2, 2, 7, 6),
        {
            "kernel_size": (3, 2),
            "strides": (2, 3),
            "padding": ((2, 1), (-1, 3)),
            "dilation": (2, 1),
            "data_format": "channels_first",
        },
    ),
    ("overlapping, SAME", (2, 5, 6, 2), {"kernel_size": (3, 3), "padding": "SAME"}),
    (
        "circular and symmetric, stride 2",
        (1, 5, 6, 2),
        {"kernel_size": (3, 2), "strides": 2, "padding": ("CIRCULAR", "SYMMETRIC")},
    ),
    ("gaps between windows", (1, 11, 2), {"kernel_size": (2,), "strides": 4, "padding": ((1, 0),)}),
]


def _plain_to_depth(x, b):
    n, h, w, c = x.shape
    return jnp.concatenate([x[:, i :: b[0], j :: b[1]] for i in range(b[0]) for j in range(b[1])], axis=-1)


def cases() -> list[Case]:
    """The cases of this module's ops."""
    cases = []
    for number, (name, shape, options) in enumerate(_PATCHES):
        first = number == 0
        plain = functools.partial(_plain_patches, **options)
        op = functools.partial(jaxconv.conv_patches, **options)
        cases.append(Case("conv_patches", name, lambda x, op=op: op(x), plain, (shape,), thorough=first, quick=first))
        ndim = len(options["kernel_size"])
        size = shape[-ndim:] if first else shape[-ndim - 1 : -1]
        y = jax.eval_shape(plain, jax.ShapeDtypeStruct(shape, jnp.float32)).shape

        def adjoint(y, plain=plain, shape=shape):
            x = jnp.zeros((*y.shape[:1], *shape[1:]), y.dtype)
            return jax.vjp(plain, x)[1](y)[0]

        op = functools.partial(jaxconv.fold, output_size=size, **options)
        cases.append(Case("fold", name, lambda y, op=op: op(y), adjoint, (y,), thorough=first, quick=first))
    for name, shape, block in (("two axes", (2, 4, 6, 3), (2, 3)), ("one block", (2, 2, 2, 1), (2, 2))):
        first = name == "two axes"
        n, h, w, c = shape
        deep = (n, h // block[0], w // block[1], c * block[0] * block[1])
        plain = functools.partial(_plain_to_depth, b=block)

        def back(y, plain=plain, shape=shape):
            return jax.vjp(plain, jnp.zeros((*y.shape[:1], *shape[1:]), y.dtype))[1](y)[0]

        for op, forward, start in (("space_to_depth", plain, shape), ("depth_to_space", back, deep)):
            ours = functools.partial(getattr(jaxconv, op), block_size=block)
            cases.append(Case(op, name, lambda x, ours=ours: ours(x), forward, (start,), thorough=first, quick=first))
    return cases


_square = np.asarray([1.0, nan, inf, -0.0])

EDGES: dict[str, tuple[Edge, ...]] = {
    "conv_patches": (
        Edge(
            "NaN stays in its windows",
            lambda x: jaxconv.conv_patches(x, 2),
            (column(nan, 1, 2),),
            np.asarray([[[nan, 1], [1, 2]]]),
            (column(1, 2, 1),),
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.conv_patches(x[:0], 2),
            (column(1, 2),),
            np.zeros((0, 1, 2)),
            (column(0, 0),),
        ),
        Edge(
            "an empty axis",
            lambda x: jaxconv.conv_patches(x[:, :0], 2),
            (column(1, 2),),
            np.zeros((1, 0, 2)),
            (column(0, 0),),
        ),
    ),
    "fold": (
        Edge(
            "inf − inf where patches overlap",
            lambda x: jaxconv.fold(x, 3, 2),
            (np.asarray([[[1, inf], [-inf, 2]]]),),
            column(1, nan, 2),
            (np.ones((1, 2, 2)),),
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.fold(x[:0], 2, 2),
            (np.ones((1, 1, 2)),),
            np.zeros((0, 2, 1)),
            (np.zeros((1, 1, 2)),),
        ),
        Edge(
            "positions that no patch holds",
            lambda x: jaxconv.fold(x, 5, 2, strides=3),
            (np.ones((1, 2, 2)),),
            column(1, 1, 0, 1, 1),
            (np.ones((1, 2, 2)),),
        ),
    ),
    "space_to_depth": (
        Edge(
            "every value moves as it is",
            lambda x: jaxconv.space_to_depth(x, 2),
            (_square.reshape(1, 2, 2, 1),),
            _square.reshape(1, 1, 1, 4),
            (np.ones((1, 2, 2, 1)),),
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.space_to_depth(x[:0], 2),
            (column(1, 2),),
            np.zeros((0, 1, 2)),
            (column(0, 0),),
        ),
    ),
    "depth_to_space": (
        Edge(
            "every value moves as it is",
            lambda x: jaxconv.depth_to_space(x, 2),
            (_square.reshape(1, 1, 1, 4),),
            _square.reshape(1, 2, 2, 1),
            (np.ones((1, 1, 1, 4)),),
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.depth_to_space(x[:0], 1),
            (column(1, 2),),
            np.zeros((0, 2, 1)),
            (column(0, 0),),
        ),
    ),
}
