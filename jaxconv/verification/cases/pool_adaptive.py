"""Cases of the adaptive poolings."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, Shape, column, distinct, inf, nan
from jaxconv.verification.checks import Edge


def plain_adaptive(kind, x, output_size, data_format="channels_last"):
    """The pooling as a slice of the input per window."""
    ndim = x.ndim - 2 if isinstance(output_size, int) else len(output_size)
    if data_format == "channels_first":
        x = jnp.moveaxis(x, -ndim - 1, -1)
    batch, input_size = x.shape[: -ndim - 1], x.shape[-ndim - 1 : -1]
    sizes = (output_size,) * ndim if isinstance(output_size, int) else output_size
    sizes = [n if o is None else o for n, o in zip(input_size, sizes, strict=True)]
    along = [
        [slice(int(np.floor(p * n / o)), int(np.ceil((p + 1) * n / o))) for p in range(o)]
        for n, o in zip(input_size, sizes, strict=True)
    ]
    parts = []
    for window in itertools.product(*along):
        flat = x[(..., *window, slice(None))].reshape(*batch, -1, x.shape[-1])
        # The first of equal elements wins; jnp.max would share the gradient.
        at = jnp.expand_dims(jnp.argmax(flat, -2), -2)
        parts.append(jnp.mean(flat, -2) if kind == "avg" else jnp.squeeze(jnp.take_along_axis(flat, at, -2), -2))
    y = jnp.stack(parts, -2).reshape(*batch, *sizes, x.shape[-1])
    return jnp.moveaxis(y, -1, -ndim - 1) if data_format == "channels_first" else y


_POOLS: list[tuple[str, Shape, Any, dict[str, Any]]] = [
    ("every option", (2, 2, 7, 5), (3, None), {"data_format": "channels_first"}),
    ("overlapping windows", (1, 7, 8, 2), (5, 3), {}),
    ("equal windows", (2, 6, 8, 2), (3, 2), {}),
    ("more outputs than inputs", (1, 3, 2, 2), (7, 4), {}),
    ("1-D, long windows", (1, 107, 2), 2, {}),
    ("3-D, no batch axis", (3, 4, 5, 2), (2, 3, 1), {}),
]


def cases() -> list[Case]:
    """The cases of this module's ops."""
    return [
        Case(
            f"adaptive_{kind}_pool",
            name,
            lambda x, op=op, size=size, options=options: op(x, size, **options),
            lambda x, kind=kind, size=size, options=options: plain_adaptive(kind, x, size, **options),
            (shape,),
            inputs=distinct,
            thorough=name == "every option",
            quick=name == "every option",
        )
        for kind, op in (("max", jaxconv.adaptive_max_pool), ("avg", jaxconv.adaptive_avg_pool))
        for name, shape, size, options in _POOLS
    ]


def _edge(op, convention, x, size, y, dx, dy=1.0) -> Edge:
    return Edge(convention, lambda x: op(x, (size,)), (column(*x),), column(*y), (column(*dx),), dy)


def _max_edge(*args) -> Edge:
    return _edge(jaxconv.adaptive_max_pool, *args)


def _avg_edge(*args) -> Edge:
    return _edge(jaxconv.adaptive_avg_pool, *args)


EDGES: dict[str, tuple[Edge, ...]] = {
    "adaptive_max_pool": (
        _max_edge("a tie: the first position gets all", (1, 1, 0, 2, 2), 2, (1, 2), (1, 0, 0, 1, 0)),
        _max_edge("a shared position counts twice", (1, 0, 5, 4, 3), 2, (5, 5), (0, 0, 2, 0, 0)),
        _max_edge("a tie of ±0", (-0.0, 0.0, 0.0, -0.0), 2, (0, 0), (1, 0, 1, 0)),
        _max_edge("the first NaN wins", (1, nan, nan, 2, 3), 2, (nan, nan), (0, 1, 1, 0, 0)),
        _max_edge("−inf everywhere: the first position", (-inf,) * 5, 2, (-inf, -inf), (1, 0, 1, 0, 0)),
        _max_edge("repeated positions", (1, 2), 5, (1, 1, 2, 2, 2), (2, 3)),
        Edge(
            "a tie of rows and columns: row-major",
            lambda x: jaxconv.adaptive_max_pool(x, 1),
            (np.asarray([[0.0, 1.0], [1.0, 1.0]]).reshape(1, 2, 2, 1),),
            np.ones((1, 1, 1, 1)),
            (np.asarray([[0.0, 1.0], [0.0, 0.0]]).reshape(1, 2, 2, 1),),
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.adaptive_max_pool(x[:0], 2),
            (column(1, 2, 3),),
            np.zeros((0, 2, 1)),
            (column(0, 0, 0),),
        ),
    ),
    "adaptive_avg_pool": (
        _avg_edge("a shared position counts twice", (1, 2, 6, 2, 1), 2, (3, 3), (1 / 3, 1 / 3, 2 / 3, 1 / 3, 1 / 3)),
        _avg_edge("NaN and inf stay in their windows", (nan, 1, 2, 3, inf, 1), 3, (nan, 2.5, inf), (0.5,) * 6),
        _avg_edge("repeated positions", (1, 3), 3, (1, 2, 3), (1.5, 1.5)),
        Edge(
            "no position: 0, not 0/0",
            lambda x: jaxconv.adaptive_avg_pool(x[:, :0], 2),
            (column(1, 2),),
            np.zeros((1, 2, 1)),
            (column(0, 0),),
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.adaptive_avg_pool(x[:0], 2),
            (column(1, 2, 3),),
            np.zeros((0, 2, 1)),
            (column(0, 0, 0),),
        ),
    ),
}
