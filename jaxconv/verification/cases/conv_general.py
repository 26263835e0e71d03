"""Cases of the convolution with lax's arguments."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxconv
from jaxconv.verification.cases.case import Case, Shape, inf
from jaxconv.verification.checks import Edge


def plain_conv_general(x, w, window_strides, padding, lhs_dilation=None, dimension_numbers=None, **options):
    """lax's own, with the padding made first: the gradient of lax's ends the process for some negative paddings."""
    if not isinstance(padding, str):
        axes, _, _ = lax.conv_dimension_numbers(x.shape, w.shape, dimension_numbers)
        config = [(0, 0, 0)] * x.ndim
        for axis, (low, high), a in zip(axes[2:], padding, lhs_dilation or (1,) * len(padding), strict=True):
            config[axis] = (low, high, a - 1)
        x = lax.pad(x, jnp.zeros((), x.dtype), config)
        padding = [(0, 0)] * len(padding)
    return lax.conv_general_dilated(x, w, window_strides, padding, dimension_numbers=dimension_numbers, **options)


_GENERAL: list[tuple[str, Shape, Shape, dict[str, Any]]] = [
    (
        "every option",
        (4, 5, 2, 4),
        (2, 3, 6, 2),
        {
            "window_strides": (2, 3),
            "padding": ((-1, 2), (3, -2)),
            "lhs_dilation": (3, 2),
            "rhs_dilation": (1, 2),
            "dimension_numbers": ("CHNW", "IHOW", "WNHC"),
            "feature_group_count": 2,
        },
    ),
    (
        "transposed, groups",
        (2, 4, 4, 3),
        (6, 2, 3, 2),
        {
            "window_strides": (1, 1),
            "padding": ((1, 2), (0, -1)),
            "lhs_dilation": (2, 3),
            "rhs_dilation": (2, 1),
            "feature_group_count": 2,
        },
    ),
    (
        "batch groups",
        (6, 5, 4, 2),
        (3, 2, 2, 6),
        {
            "window_strides": (2, 1),
            "padding": "SAME",
            "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
            "batch_group_count": 3,
        },
    ),
    ("no spatial axes", (3, 4), (6, 2), {"window_strides": (), "padding": (), "feature_group_count": 2}),
    (
        "size-1 window, cropped and dilated",
        (2, 3, 5, 4),
        (4, 3, 1, 2),
        {"window_strides": (1, 1), "padding": ((-1, -1), (1, -2)), "lhs_dilation": (2, 1)},
    ),
    (
        "1-D, default axes",
        (2, 3, 9),
        (4, 3, 3),
        {"window_strides": (2,), "padding": ((1, 0),), "rhs_dilation": (2,)},
    ),
]


def cases() -> list[Case]:
    """The cases of this module's ops."""
    return [
        Case(
            "conv_general_dilated",
            name,
            functools.partial(lambda x, w, **options: jaxconv.conv_general_dilated(x, w, **options), **options),
            functools.partial(plain_conv_general, **options),
            (x, w),
            thorough=name == "every option",
            quick=name == "every option",
        )
        for name, x, w, options in _GENERAL
    ]


def _general(x, w):
    return jaxconv.conv_general_dilated(x, w, (1,), "VALID")


_TWO = np.asarray([2.0, 3.0]).reshape(1, 1, 2)


def _row(*values: float) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(1, 1, -1)


EDGES: dict[str, tuple[Edge, ...]] = {
    "conv_general_dilated": (
        Edge(
            "an empty batch",
            lambda x, w: _general(x[:0], w),
            (_row(1, 2), _TWO),
            np.zeros((0, 1, 1)),
            (_row(0, 0), 0 * _TWO),
        ),
        Edge(
            "an empty axis",
            lambda x, w: _general(x[..., :0], w),
            (_row(1, 2), _TWO),
            np.zeros((1, 1, 0)),
            (_row(0, 0), 0 * _TWO),
        ),
        Edge(
            "no input channels: a sum over nothing",
            lambda x, w: _general(x[:, :0], w[:, :0]),
            (_row(1, 2, 3), _TWO),
            _row(0, 0),
            (_row(0, 0, 0), 0 * _TWO),
        ),
        Edge("inf in x", _general, (_row(inf, 1, 1), _TWO), _row(inf, 5), (_row(2, 5, 3), _row(inf, 2))),
    ),
}
