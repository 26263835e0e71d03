"""What the softmax family and the cross-entropies share: a row's normaliser, and axes checked."""

import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxconv.algorithms.dtypes import accumulator

Axis = tuple[int, ...]


def row_normaliser(x, axis: Axis, mask=None):
    """The maximum m of every row along axis, and sum_j exp(x_j − m), both with the axis kept, in at least float32.

    With a mask, of x's shape, over the entries that it selects; 0 and 1 for a row that has none.
    """
    x = x.astype(accumulator(x.dtype))
    x = x if mask is None else jnp.where(mask, x, -jnp.inf)
    largest = lax.stop_gradient(jnp.max(x, axis, keepdims=True, initial=-jnp.inf))
    if mask is None:
        return largest, jnp.sum(jnp.exp(x - largest), axis, keepdims=True)
    some = jnp.any(mask, axis, keepdims=True)
    largest = jnp.where(some, largest, 0)
    return largest, jnp.where(some, jnp.sum(jnp.exp(x - largest), axis, keepdims=True), 1)


def row_rest(x, axis: Axis):
    """The maximum m of every row along axis, and sum_j exp(x_j − m) − 1, the sum without its largest term, axis kept.

    Where one entry is far above the others, the sum rounds to 1, and what is left of it after the 1 is lost: the loss
    of a class that is all but certain, and its gradient.
    """
    largest = lax.stop_gradient(jnp.max(x, axis, keepdims=True, initial=-jnp.inf))
    e = jnp.exp(x - largest)
    # A largest entry's term, exp(0) − 1, is exactly 0; of several, all but one are put back. Not a constant 0, whose
    # derivative would be 0, too: rules are differentiated again.
    is_largest = x == largest
    beside = jnp.sum(jnp.where(is_largest, e - 1, e), axis, keepdims=True)
    return largest, beside + (jnp.sum(is_largest.astype(x.dtype), axis, keepdims=True) - 1)


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
