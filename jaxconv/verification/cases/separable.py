"""Cases of the depthwise and separable convolutions."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, Shape, column
from jaxconv.verification.cases.conv import plain_conv
from jaxconv.verification.checks import Edge


def _plain_depthwise(x, w, b=None, **options):
    first = options.get("data_format") == "channels_first"
    y = plain_conv(x, w.reshape(*w.shape[:-2], 1, -1), groups=w.shape[-2], **options)
    if b is None:
        return y
    return y + jnp.broadcast_to(b.reshape(-1, *(1,) * (w.ndim - 2)) if first else b, y.shape)


def _plain_separable(x, w, v, b=None, **options):
    pointwise = v.reshape(*(1,) * (w.ndim - 2), *v.shape)
    first = options.get("data_format") == "channels_first"
    data_format = options.get("data_format", "channels_last")
    y = plain_conv(_plain_depthwise(x, w, **options), pointwise, data_format=data_format)
    if b is None:
        return y
    return y + jnp.broadcast_to(b.reshape(-1, *(1,) * (w.ndim - 2)) if first else b, y.shape)


_EVERYTHING = {
    "strides": (2, 3),
    "padding": ((2, 1), (0, 3)),
    "dilation": (2, 1),
    "flip_kernel": True,
    "data_format": "channels_first",
}
_DEPTHWISE: list[tuple[str, Shape, Shape, dict[str, Any], Shape | None]] = [
    ("every option", (2, 3, 7, 6), (3, 2, 3, 2), _EVERYTHING, None),
    ("one kernel per channel", (2, 6, 5, 4), (3, 3, 4, 1), {"padding": "SAME"}, None),
    ("circular", (2, 6, 3), (4, 3, 2), {"padding": "CIRCULAR"}, None),
    ("3-D", (1, 4, 3, 4, 2), (2, 3, 2, 2, 1), {"padding": 1}, None),
    ("MobileNet", (1, 28, 28, 64), (3, 3, 64, 1), {"padding": "SAME"}, (1, 124, 124, 256)),
    ("1-D, sequence", (1, 64, 64), (5, 64, 1), {"padding": "SAME"}, (8, 1024, 512)),
]


def cases() -> list[Case]:
    """The cases of this module's ops."""
    cases = []
    for name, x, w, options, timed in _DEPTHWISE:
        op = functools.partial(jaxconv.depthwise_conv, **options)
        cases.append(
            Case(
                "depthwise_conv",
                name,
                lambda *a, op=op: op(*a),
                functools.partial(_plain_depthwise, **options),
                (x, w) if timed else (x, w, (w[-2] * w[-1],)),
                thorough=name == "every option",
                quick=name == "every option",
                timing=(timed, (*w[:-2], timed[-1], w[-1])) if timed else None,
            )
        )
    for name, x, w, options in (
        ("every option", (2, 3, 7, 6), (3, 2, 3, 2), _EVERYTHING),
        ("SAME, channels last", (2, 5, 6, 3), (3, 3, 3, 1), {"padding": "SAME"}),
        ("1-D, causal", (2, 9, 3), (4, 3, 2), {"padding": "CAUSAL", "strides": 2}),
    ):
        op = functools.partial(jaxconv.separable_conv, **options)
        cases.append(
            Case(
                "separable_conv",
                name,
                lambda *a, op=op: op(*a),
                functools.partial(_plain_separable, **options),
                (x, w, (w[-2] * w[-1], 4), (4,)),
                thorough=name == "every option",
                quick=name == "every option",
            )
        )
    return cases


_TWO = np.asarray([2.0, 3.0]).reshape(2, 1, 1)

EDGES: dict[str, tuple[Edge, ...]] = {
    "depthwise_conv": (
        Edge(
            "an empty batch: dw and db are 0",
            lambda x, w, b: jaxconv.depthwise_conv(x[:0], w, b),
            (column(1, 2, 3), _TWO, np.ones(1)),
            np.zeros((0, 2, 1)),
            (column(0, 0, 0), 0 * _TWO, np.zeros(1)),
        ),
        Edge(
            "no channels",
            lambda x, w: jaxconv.depthwise_conv(x[..., :0], w[:, :0]),
            (column(1, 2, 3), _TWO),
            np.zeros((1, 2, 0)),
            (column(0, 0, 0), 0 * _TWO),
        ),
    ),
    "separable_conv": (
        Edge(
            "an empty batch",
            lambda x, w, v: jaxconv.separable_conv(x[:0], w, v),
            (column(1, 2, 3), _TWO, np.ones((1, 2))),
            np.zeros((0, 2, 2)),
            (column(0, 0, 0), 0 * _TWO, np.zeros((1, 2))),
        ),
        Edge(
            "an empty axis",
            lambda x, w, v: jaxconv.separable_conv(x[:, :0], w, v),
            (column(1, 2, 3), _TWO, np.ones((1, 2))),
            np.zeros((1, 0, 2)),
            (column(0, 0, 0), 0 * _TWO, np.zeros((1, 2))),
        ),
    ),
}
