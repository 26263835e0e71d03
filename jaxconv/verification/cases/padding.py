"""Cases of the padding op."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxconv
from jaxconv.verification.cases.case import Case, Shape, column, inf, nan
from jaxconv.verification.cases.conv import NUMPY_MODES
from jaxconv.verification.checks import Edge


def _plain_pad(x, pads, mode, data_format="channels_last"):
    offset = x.ndim - len(pads) - (data_format == "channels_last")
    for axis, ((low, high), kind) in enumerate(zip(pads, mode, strict=True)):
        if kind == "ZERO":
            config = [(0, 0, 0)] * x.ndim
            config[offset + axis] = (low, high, 0)
            x = lax.pad(x, jnp.zeros((), x.dtype), config)
        else:
            widths = [(0, 0)] * x.ndim
            widths[offset + axis] = (low, high)
            x = jnp.pad(x, widths, NUMPY_MODES[kind])
    return x


_PADS: list[tuple[str, Shape, dict[str, Any]]] = [
    (
        "circular and reflected, channels first",
        (2, 3, 4, 5),
        {"pads": ((1, 4), (3, 2)), "mode": ("CIRCULAR", "REFLECT"), "data_format": "channels_first"},
    ),
    (
        "symmetric, replicated, zeros",
        (3, 2, 4, 2),
        {"pads": ((3, 2), (0, 3), (2, -1)), "mode": ("SYMMETRIC", "REPLICATE", "ZERO")},
    ),
    ("as far as the values go", (1, 3, 2), {"pads": ((2, 2),), "mode": ("REFLECT",)}),
]


def cases() -> list[Case]:
    """The cases of this module's ops."""
    return [
        Case(
            "pad",
            name,
            functools.partial(lambda x, **options: jaxconv.pad(x, **options), **options),
            functools.partial(_plain_pad, **options),
            (shape,),
            thorough=number == 0,
            quick=number == 0,
        )
        for number, (name, shape, options) in enumerate(_PADS)
    ]


EDGES: dict[str, tuple[Edge, ...]] = {
    "pad": (
        Edge(
            "NaN is repeated like any value",
            lambda x: jaxconv.pad(x, 1, "REPLICATE"),
            (column(nan, 1, inf),),
            column(nan, nan, 1, inf, inf),
            (column(2, 1, 2),),
        ),
        Edge("nothing to pad", lambda x: jaxconv.pad(x, 0, "REFLECT"), (column(1, 2),), column(1, 2), (column(1, 1),)),
        Edge(
            "cropped away", lambda x: jaxconv.pad(x, ((-1, -1),)), (column(1, 2),), np.zeros((1, 0, 1)), (column(0, 0),)
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.pad(x[:0], 1, "CIRCULAR"),
            (column(1, 2),),
            np.zeros((0, 4, 1)),
            (column(0, 0),),
        ),
        Edge(
            "one element, replicated and wrapped",
            lambda x: jaxconv.pad(x, 1, "REPLICATE") + jaxconv.pad(x, 1, "CIRCULAR"),
            (column(3),),
            column(6, 6, 6),
            (column(6),),
        ),
    ),
}
