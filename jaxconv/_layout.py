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


def divided(a, counts: Sequence[Sequence[int]]):
    """a[n,p,c] / m[p], with m the product of a count per axis, known while tracing; 0 counts as 1."""
    m = np.maximum(functools.reduce(np.multiply.outer, counts), 1).astype(a.dtype)
    return a / lax.broadcast_in_dim(jnp.asarray(m), a.shape, range(1, a.ndim - 1))
