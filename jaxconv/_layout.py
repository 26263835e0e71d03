"""Arrays between the user's layout and the plain one, (N, *spatial, C), that the algorithms work in."""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.geometry import Layout


def to_plain(layout: Layout, a):
    """An array in the user's layout as (N, *spatial, C)."""
    batch, spatial, channels = layout.split(a.shape)
    if layout.channels_first:
        a = jnp.moveaxis(a, len(batch), -1)
    return a.reshape(math.prod(batch), *spatial, channels)


def from_plain(layout: Layout, shape, a):
    """(N, *spatial, C) in the user's layout, with the batch axes of an array of this shape."""
    batch, _, _ = layout.split(shape)
    a = a.reshape(*batch, *a.shape[1:])
    return jnp.moveaxis(a, -1, len(batch)) if layout.channels_first else a


def along(b, axis: int, shape):
    """A vector along one axis of an array of this shape."""
    return lax.broadcast_in_dim(b, shape, (axis % len(shape),))


def summed_to(a, shape):
    """The sum of a over the axes along which an array of this shape was repeated to have a's: the adjoint of that."""
    extra = a.ndim - len(shape)
    repeated = [extra + axis for axis, size in enumerate(shape) if size == 1]
    return jnp.sum(a, (*range(extra), *repeated)).reshape(shape)


def product_of(counts: Sequence[Sequence[int]]) -> np.ndarray:
    """m[p] for every position p: the product of a count per axis, where 0 counts as 1."""
    return np.maximum(functools.reduce(np.multiply.outer, counts), 1)


def divided(a, m: np.ndarray | None):
    """a[n,p,c] / m[p], or a where m is None. Where all of m are equal, a may be of any shape."""
    if m is None:
        return a
    if is_uniform(m):
        return lax.div(a, lax.full_like(a, m.flat[0]))
    return lax.div(a, lax.broadcast_in_dim(jnp.asarray(m, a.dtype), a.shape, range(1, a.ndim - 1)))


def is_uniform(m: np.ndarray | None) -> bool:
    """Whether all that `divided` divides by is one number."""
    return m is None or m.size > 0 and bool((m == m.flat[0]).all())
