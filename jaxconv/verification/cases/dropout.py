"""Cases of dropout and drop_path, each with a fixed key."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, column, inf, nan
from jaxconv.verification.checks import Edge

SEED = 3


def _plain_dropout(x, rate, shared=()):
    shape = [1 if axis in shared else size for axis, size in enumerate(x.shape)]
    return jnp.where(jax.random.bernoulli(jax.random.key(SEED), 1 - rate, shape), x / (1 - rate), 0)


def cases() -> list[Case]:
    """The cases of this module's ops."""
    key = jax.random.key
    return [
        Case(
            "dropout",
            "elements",
            lambda x: jaxconv.dropout(key(SEED), x, 0.3),
            lambda x: _plain_dropout(x, 0.3),
            ((4, 6),),
            thorough=True,
            quick=True,
            timing=((128, 3136),),
        ),
        Case(
            "dropout",
            "whole channels, an old key",
            lambda x: jaxconv.dropout(jax.random.PRNGKey(SEED), x, 0.7, broadcast_axes=(1, 2)),
            lambda x: _plain_dropout(x, 0.7, (1, 2)),
            ((2, 3, 2, 4),),
        ),
        Case(
            "drop_path",
            "examples",
            lambda x: jaxconv.drop_path(key(SEED), x, 0.4),
            lambda x: _plain_dropout(x, 0.4, (1, 2)),
            ((6, 2, 3),),
            thorough=True,
            quick=True,
        ),
    ]


def _edges(op) -> tuple[Edge, ...]:
    def dropped(rate: float):
        return lambda x: op(jax.random.key(SEED), x, rate)

    return (
        Edge(
            "rate 0 is the identity",
            dropped(0),
            (column(nan, inf, -0.0, 2),),
            column(nan, inf, 0, 2),
            (np.ones((1, 4, 1)),),
        ),  # fmt: skip
        Edge(
            "rate 1 gives 0, of NaN and inf too",
            dropped(1),
            (column(nan, -inf, 0, 2),),
            column(0, 0, 0, 0),
            (column(0, 0, 0, 0),),
        ),  # fmt: skip
        Edge("no example", dropped(0.5), (np.zeros((0, 2)),), np.zeros((0, 2)), (np.zeros((0, 2)),)),
        Edge("no element", dropped(0.5), (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    )


EDGES: dict[str, tuple[Edge, ...]] = {"dropout": _edges(jaxconv.dropout), "drop_path": _edges(jaxconv.drop_path)}
