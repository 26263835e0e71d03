"""Wrong versions of dense, flatten and dropout."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planted.mutation import EDGE, Mutation, Point, gradient, held_constant, instead, narrow_sum, row_by_row
from jaxconv.verification.suite import SECOND

_BIASED = "bias, two batch axes"
_LONG = "a sum over 16,384 positive rows"
_ELEMENTS = Point("elements", "float64")


def _fortran(dx):
    return dx.reshape(-1).reshape(dx.shape[::-1]).transpose()


def _dw_row_by_row(dtype=None) -> Callable:
    """[C x N] · [N x K] as a sum over rows, one after the other, in this dtype, or the operands'."""

    def change(dw, saved, dy, call):
        x, rows = saved[0], math.prod(dy.shape[:-1])
        x_, dy_ = x.reshape(rows, -1, 1), dy.reshape(rows, 1, dy.shape[-1])
        return row_by_row(x_.astype(dtype or x.dtype), dy_.astype(dtype or x.dtype)).astype(dw.dtype)

    return change


def _drawn_again(right):
    def backward(keep, kept, dy):
        return right(keep, jax.random.bernoulli(jax.random.key(1), keep, kept.shape), dy)

    return backward


def _where_output_is_zero(right):
    """The mask from whether the output differs from the input: an input of 0 counts as kept."""
    return lambda keep, kept, x: (right(keep, kept, x)[0], kept | (x == 0))


MUTATIONS = (
    # dense, flatten
    Mutation(
        "dw transposed when square",
        "dense",
        Point("square", "float64"),
        {"linear:_dense_bwd": gradient(1, lambda dw, saved, dy, call: dw.T if dw.shape[0] == dw.shape[1] else dw)},
    ),
    Mutation(
        "dense bias summed over the first batch axis alone",
        "dense",
        Point(_BIASED, "float64"),
        {
            "linear:_dense_bwd": gradient(
                2,
                lambda db, saved, dy, call: db if db is None or dy.ndim < 3 else jnp.sum(dy[:, 0], range(dy.ndim - 2)),
            )
        },
    ),
    Mutation(
        "dense held constant in x: wrong only in second derivatives",
        "dense",
        Point(_BIASED, SECOND),
        {
            "linear:_dense_bwd": lambda right: (
                lambda call, saved, dy: right(call, (held_constant(saved[0]), *saved[1:]), dy)
            )
        },
    ),
    Mutation(
        "bias summed in float16",
        "dense",
        Point(_LONG, "float16"),
        {
            "linear:_dense_bwd": gradient(
                2, lambda db, saved, dy, call: None if db is None else narrow_sum(dy.reshape(-1, dy.shape[-1]), 0)
            )
        },
    ),
    Mutation(
        "dw carried in bfloat16 over a long sum",
        "dense",
        Point(_LONG, "bfloat16"),
        {"linear:_dense_bwd": gradient(1, _dw_row_by_row())},
        elsewhere=True,
    ),
    Mutation(
        "dw carried in float32 over a long sum",
        "dense",
        Point(_LONG, "float32"),
        {"linear:_dense_bwd": gradient(1, _dw_row_by_row())},
        elsewhere=True,
    ),
    Mutation(
        "dw of float64 carried in float32",
        "dense",
        Point(_BIASED, "float64"),
        {"linear:_dense_bwd": gradient(1, _dw_row_by_row(np.float32))},
        elsewhere=True,
    ),
    Mutation(
        "operands not made to vary alike in shard_map",
        "dense",
        Point(_BIASED, "shard_map"),
        {"_arguments:varying_alike": instead(lambda *arrays: list(arrays))},
        raises=True,
    ),
    Mutation(
        "flatten's backward in column-major order",
        "flatten",
        Point("image", "float64"),
        {"linear:_flatten_bwd": gradient(0, lambda dx, saved, dy, shape, batch_ndim: _fortran(dx))},
    ),
    # dropout, drop_path
    Mutation(
        "dropout's gradient not divided by 1 − rate",
        "dropout",
        _ELEMENTS,
        {"dropout:_masked_bwd": lambda right: lambda keep, kept, dy: right(1.0, kept, dy)},
    ),
    Mutation(
        "dropout drawn again in the backward",
        "dropout",
        _ELEMENTS,
        {"dropout:_masked_bwd": _drawn_again},
        elsewhere=True,  # pytorch#190717, guided-diffusion#167
    ),
    Mutation(
        "dropout: a 0 that is dropped has a gradient",
        "dropout",
        EDGE,
        {"dropout:_masked_fwd": _where_output_is_zero},
        elsewhere=True,  # kaldi#3890
    ),
    Mutation(
        "drop_path: a dropped example has a gradient",
        "drop_path",
        Point("examples", "float64"),
        {"dropout:_masked_bwd": lambda right: lambda keep, kept, dy: right(keep, jnp.ones_like(kept), dy)},
    ),
)
