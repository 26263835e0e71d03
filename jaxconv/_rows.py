"""What softmax, log_softmax and the cross-entropies share: a row's normaliser, and axes checked."""

import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxconv.algorithms.dtypes import accumulator

Axis = tuple[int, ...]


def row_normaliser(x, axis: Axis):
    """The maximum m of every row along axis, and sum_j exp(x_j − m), both with the axis kept, in at least float32."""
    x = x.astype(accumulator(x.dtype))
    largest = lax.stop_gradient(jnp.max(x, axis, keepdims=True, initial=-jnp.inf))
    return largest, jnp.sum(jnp.exp(x - largest), axis, keepdims=True)


def probabilities(x, largest, total, factor: Any = 1.0):
    """factor · softmax(x), from x and its row_normaliser, for a factor that is one number per row."""
    return jnp.exp(x.astype(total.dtype) - largest) * (factor / total)


def checked_axis(axis: int | Sequence[int], shape: tuple[int, ...], name: str = "axis") -> Axis:
    """An axis or several as a sorted tuple of axes counted from the front; name is the argument's, for messages."""
    given = axis
    try:
        axes = (operator.index(axis),) if not isinstance(axis, Sequence) else tuple(map(operator.index, axis))
    except TypeError:
        raise TypeError(f"{name}: got {given!r}, expected an int or a tuple of ints") from None
    ndim = len(shape)
    if not axes or any(not -ndim <= a < ndim for a in axes) or len({a % ndim for a in axes}) < len(axes):
        raise ValueError(
            f"{name}: got {given!r} for shape {shape}, expected distinct axes between {-ndim} and {ndim - 1}"
        )
    return tuple(sorted(a % ndim for a in axes))
