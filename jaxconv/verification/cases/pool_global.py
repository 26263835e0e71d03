"""Cases of the global poolings."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, Shape, column, distinct, inf, nan, times
from jaxconv.verification.checks import Edge


def plain_global(kind, x, spatial_ndim=None, keepdims=False, data_format="channels_last", p=2, sharpness=1.0):
    """The pooling by jnp's reductions."""
    ndim = x.ndim - 2 if spatial_ndim is None else spatial_ndim
    axes = (
        tuple(range(x.ndim - ndim, x.ndim))
        if data_format == "channels_first"
        else tuple(range(x.ndim - 1 - ndim, x.ndim - 1))
    )
    if kind in ("avg", "sum"):
        return (jnp.mean if kind == "avg" else jnp.sum)(x, axes, keepdims=keepdims)
    if kind == "lp":
        return jnp.sum(jnp.abs(x) ** p, axes, keepdims=keepdims) ** (1 / p)
    if kind == "logsumexp":
        return jax.nn.logsumexp(sharpness * x, axes, keepdims=keepdims) / sharpness
    # The first of equal elements wins; jnp.max would share the gradient.
    moved = jnp.moveaxis(x, axes, range(-ndim, 0)).reshape(*(x.shape[a] for a in range(x.ndim) if a not in axes), -1)
    winner = (jnp.argmax if kind == "max" else jnp.argmin)(moved, -1)
    y = jnp.take_along_axis(moved, winner[..., None], -1)[..., 0]
    return jnp.expand_dims(y, axes) if keepdims else y


_ALL_KINDS = ("max", "min", "sum", "avg", "lp", "logsumexp")
_EVERY: dict[str, Any] = {"spatial_ndim": 2, "keepdims": True, "data_format": "channels_first"}

# Name, shape, options, kinds. Of the kinds that have parameters every case has others.
_POOLS: list[tuple[str, Shape, dict[str, Any], tuple[str, ...]]] = [
    ("every option", (2, 3, 4, 5), _EVERY, _ALL_KINDS),
    ("2-D", (2, 5, 4, 3), {}, ("max", "avg")),
    ("1-D, no batch axis", (9, 4), {"spatial_ndim": 1}, ("max", "avg")),
    ("3-D", (2, 3, 2, 4, 2), {}, ("max", "avg")),
    ("long sums", (1, 64, 64, 2), {}, ("max", "avg", "lp", "logsumexp")),
    ("ResNet head", (2, 7, 7, 512), {}, ("max", "avg")),
]
_PARAMETERS: dict[tuple[str, str], dict[str, Any]] = {
    ("lp", "every option"): {"p": 3},
    ("lp", "long sums"): {"p": 1.5},
    ("logsumexp", "every option"): {"sharpness": 2.5},
}


def cases() -> list[Case]:
    """The cases of this module's ops."""
    found = []
    for kind in _ALL_KINDS:
        for name, shape, options, kinds in _POOLS:
            if kind not in kinds:
                continue
            given = options | _PARAMETERS.get((kind, name), {})
            found.append(
                Case(
                    f"global_{kind}_pool",
                    name,
                    functools.partial(_call, getattr(jaxconv, f"global_{kind}_pool"), given),
                    functools.partial(_call, functools.partial(plain_global, kind), given),
                    (shape,),
                    inputs=times(1.0) if kind in ("lp", "logsumexp") else distinct,
                    thorough=name == "every option",
                    quick=name == "every option",
                    timing=((64, *shape[1:]),) if name == "ResNet head" else None,
                )
            )
    return found


def _call(op, options, x):
    return op(x, **options)


def _extremum_edges(op: Callable, sign: int) -> tuple[Edge, ...]:
    """Of global_max_pool (sign 1) and global_min_pool (sign −1), whose every example is the other's negated."""

    def edge(convention, x, y, dx):
        return Edge(convention, op, (sign * column(*x),), sign * np.asarray([[y]]), (column(*dx),))

    return (
        edge("a tie: the first position gets all", (1.0, 3.0, 3.0), 3.0, (0, 1, 0)),
        edge("a tie of ±0", (-0.0, 0.0), 0.0, (1, 0)),
        edge("the first NaN wins", (1, nan, nan, 2), nan, (0, 1, 0, 0)),
        edge("infinity everywhere", (-inf, -inf), -inf, (1, 0)),
        _empty_batch(op, 2),
    )


def _empty_batch(op: Callable, positions: int) -> Edge:
    zeros = column(*[0.0] * positions)
    return Edge("an empty batch", lambda x: op(x[:0]), (zeros,), np.zeros((0, 1)), (zeros,))


def _lp_edge(convention, p, x, y, dx) -> Edge:
    op = functools.partial(jaxconv.global_lp_pool, p=p)
    return Edge(convention, op, (column(*x),), np.asarray([[y]], np.float64), (column(*dx),))


def _lse_edge(convention, x, y, dx) -> Edge:
    return Edge(convention, jaxconv.global_logsumexp_pool, (column(*x),), np.asarray([[y]], np.float64), (column(*dx),))


EDGES: dict[str, tuple[Edge, ...]] = {
    "global_max_pool": _extremum_edges(jaxconv.global_max_pool, 1),
    "global_min_pool": _extremum_edges(jaxconv.global_min_pool, -1),
    "global_sum_pool": (
        Edge("NaN stays", jaxconv.global_sum_pool, (column(1, nan),), np.asarray([[nan]]), (column(1, 1),)),
        Edge(
            "no position",
            lambda x: jaxconv.global_sum_pool(x[:, :0]),
            (column(1, 2),),
            np.zeros((1, 1)),
            (column(0, 0),),
        ),
        _empty_batch(jaxconv.global_sum_pool, 2),
    ),
    "global_lp_pool": (
        _lp_edge("zeros: no gradient", 2, (0, 0, 0), 0, (0, 0, 0)),
        _lp_edge("0 among others: no gradient there", 1.5, (0, -3), 3, (0, -1)),
        _lp_edge("powers beyond the range", 1000, (-(2**15), 1), 2**15, (-1, 0)),
        _lp_edge("an infinite element has all", 3, (-inf, 5), inf, (-1, 0)),
        _lp_edge("NaN", 3, (nan, 5), nan, (nan, nan)),
        Edge(
            "no position",
            lambda x: jaxconv.global_lp_pool(x[:, :0], 2),
            (column(1, 2),),
            np.zeros((1, 1)),
            (column(0, 0),),
        ),
        _empty_batch(functools.partial(jaxconv.global_lp_pool, p=2), 2),
    ),
    "global_logsumexp_pool": (
        _lse_edge("a tie shares", (1, 1), 1 + math.log(2), (0.5, 0.5)),
        _lse_edge("exponentials beyond the range", (2**15, -(2**15)), 2**15, (1, 0)),
        _lse_edge("+inf shares with +inf", (inf, 3, inf), inf, (0.5, 0, 0.5)),
        _lse_edge("−inf takes no part", (-inf, 3), 3, (0, 1)),
        _lse_edge("−inf everywhere: no gradient", (-inf, -inf), -inf, (0, 0)),
        _lse_edge("NaN", (nan, 5), nan, (nan, nan)),
        Edge(
            "no position",
            lambda x: jaxconv.global_logsumexp_pool(x[:, :0]),
            (column(1, 2),),
            np.asarray([[-inf]]),
            (column(0, 0),),
        ),
        _empty_batch(jaxconv.global_logsumexp_pool, 2),
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
