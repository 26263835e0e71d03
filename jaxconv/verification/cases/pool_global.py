"""Cases of the global poolings."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, Shape, column, distinct, inf, nan
from jaxconv.verification.checks import Edge


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
            inputs=distinct,
            thorough=name == "every option",
            quick=name == "every option",
            timing=((64, *shape[1:]),) if name == "ResNet head" else None,
        )
        for kind, op in (("max", jaxconv.global_max_pool), ("avg", jaxconv.global_avg_pool))
        for name, shape, options in _GLOBAL_POOLS
    ]


def cases() -> list[Case]:
    """The cases of this module's ops."""
    return _global_cases()


EDGES: dict[str, tuple[Edge, ...]] = {
    "global_max_pool": (
        Edge(
            "a tie: the first position gets all",
            jaxconv.global_max_pool,
            (column(1, 3, 3),),
            np.asarray([[3.0]]),
            (column(0, 1, 0),),
        ),
        Edge("a tie of ±0", jaxconv.global_max_pool, (column(-0.0, 0.0),), np.asarray([[0.0]]), (column(1, 0),)),
        Edge(
            "the first NaN wins",
            jaxconv.global_max_pool,
            (column(1, nan, nan, 2),),
            np.asarray([[nan]]),
            (column(0, 1, 0, 0),),
        ),
        Edge("−inf everywhere", jaxconv.global_max_pool, (column(-inf, -inf),), np.asarray([[-inf]]), (column(1, 0),)),
        Edge(
            "an empty batch",
            lambda x: jaxconv.global_max_pool(x[:0]),
            (column(1, 2),),
            np.zeros((0, 1)),
            (column(0, 0),),
        ),
    ),
    "global_avg_pool": (
        Edge("NaN stays", jaxconv.global_avg_pool, (column(1, nan),), np.asarray([[nan]]), (column(0.5, 0.5),)),
        Edge(
            "no position: 0, not 0/0",
            lambda x: jaxconv.global_avg_pool(x[:, :0]),
            (column(1, 2),),
            np.zeros((1, 1)),
            (column(0, 0),),
        ),
        Edge(
            "an empty batch",
            lambda x: jaxconv.global_avg_pool(x[:0]),
            (column(1, 2),),
            np.zeros((0, 1)),
            (column(0, 0),),
        ),
    ),
}
