"""Pooling over `geometry.AdaptiveWindow`, as sums and selections over one view per tap.

The windows differ in size by up to two positions. View i has position i of every window: rows gathered along an axis,
or a strided slice where all windows are equal. What a shorter window lacks is left out. The backward is of the same
kind, without a scatter: the windows that read a position are adaptive windows again, from the output to the input.
"""

import itertools

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.dtypes import accumulator, tap_dtype
from jaxconv.algorithms.views import fold, sliced


def adaptive_sum(x, window):
    """y[n,p,c] = sum_{u in window p} x[n,u,c], one axis after the other."""
    y = x.astype(accumulator(x.dtype))
    for axis in range(window.ndim):
        y = _sum(y, window, axis)
    return y.astype(x.dtype)


def _sum(x, window, axis):
    def add(y, _, tap):
        return y + _where_any(_exists(window, axis, *tap), _view(x, window, axis, *tap), 0, axis)

    return fold(add, jnp.zeros(_pooled_shape(x.shape, window, axis), x.dtype), _taps(window, axis))


def adaptive_extremum_value(x, window, largest):
    """The y of `adaptive_extremum` alone."""
    y = x
    for axis in range(window.ndim):
        y = _extremum(y, window, axis, largest)
    return y


def _extremum(x, window, axis, largest):
    pick, fill = (lax.max, -jnp.inf) if largest else (lax.min, jnp.inf)

    def update(y, _, tap):
        return pick(y, _where_any(_exists(window, axis, *tap), _view(x, window, axis, *tap), fill, axis))

    return fold(update, _view(x, window, axis, 0), _taps(window, axis)[1:])


def adaptive_extremum(x, window, largest):
    """y[n,p,c] = max_{u in window p} x[n,u,c] (or min), and the first tap, in row-major order, that attains it."""
    tap_type = tap_dtype(window)
    winner = jnp.zeros(x.shape, tap_type)
    below = 1  # how many taps there are over the axes that are done
    # The last axis first: among equals, the first row comes before the first column.
    for axis in reversed(range(window.ndim)):

        def update(best, _, tap, x=x, winner=winner, below=below, axis=axis):
            y, number = best
            candidate = _view(x, window, axis, *tap)
            better = candidate > y if largest else candidate < y
            better |= jnp.isnan(candidate) & ~jnp.isnan(y)  # a NaN is the extremum of its window: the first one stays
            better = _where_any(_exists(window, axis, *tap), better, False, axis)
            candidate_number = _view(winner, window, axis, *tap) + jnp.asarray(tap[0] * below).astype(tap_type)
            return jnp.where(better, candidate, y), jnp.where(better, candidate_number, number)

        first = _view(x, window, axis, 0), _view(winner, window, axis, 0)
        x, winner = fold(update, first, _taps(window, axis)[1:])
        below *= window.window_size[axis]
    return x, winner


def adaptive_extremum_grad(dy, winner, window):
    """dx[n,u,c] = sum_{p : u in window p} dy[n,p,c] · [winner[n,p,c] = the tap of window p at u]."""
    windows = window.transposed
    shape = (dy.shape[0], *window.input_size, dy.shape[-1])

    def add(dx, _, shift):
        dy_at, winner_at = dy, winner
        tap, exists = jnp.zeros(window.input_size, jnp.int32), jnp.ones(window.input_size, bool)
        for axis, m in enumerate(shift):
            dy_at, winner_at = _view(dy_at, windows, axis, m), _view(winner_at, windows, axis, m)
            p = _positions(windows, axis, m)
            tap_along = jnp.arange(window.input_size[axis], dtype=jnp.int32) - _vector(window.starts(axis))[p]
            tap = tap * window.window_size[axis] + lax.broadcast_in_dim(tap_along, tap.shape, (axis,))
            along = _exists(windows, axis, m)
            exists = exists if along is None else exists & lax.broadcast_in_dim(along, tap.shape, (axis,))
        tap, exists = (lax.broadcast_in_dim(a, shape, range(1, len(shape) - 1)) for a in (tap, exists))
        won = (winner_at.astype(jnp.int32) == tap) & exists
        return dx + jnp.where(won, dy_at, 0).astype(dx.dtype)

    shifts = list(itertools.product(*map(range, windows.window_size)))
    return fold(add, jnp.zeros(shape, accumulator(dy.dtype)), shifts).astype(dy.dtype)


def _taps(window, axis):
    return [(i,) for i in range(window.window_size[axis])]


def _view(x, window, axis, i):
    """Position i of every window along an axis: [..., N, ...] -> [..., O, ...]; any element where it has none."""
    n, o = window.input_size[axis], window.output_size[axis]
    if n % o:
        return jnp.take(x, _positions(window, axis, i), axis + 1, mode="clip")
    sizes = x.shape[1:-1]
    starts, strides = [0] * len(sizes), [1] * len(sizes)
    starts[axis], strides[axis] = i, n // o
    return sliced(x, starts, [*sizes[:axis], n - n // o + 1, *sizes[axis + 1 :]], strides)


def _positions(window, axis, i):
    """Position i of every window, or its last where it has none."""
    return jnp.minimum(_vector(window.starts(axis)) + i, _vector(window.ends(axis)) - 1)


def _exists(window, axis, i):
    """Whether each window has a position i; None if all have."""
    if isinstance(i, int) and i < min(window.counts(axis)):
        return None
    return _vector(window.counts(axis)) > i


def _where_any(exists, values, fill, axis):
    if exists is None:
        return values
    return jnp.where(lax.broadcast_in_dim(exists, values.shape, (axis + 1,)), values, fill)


def _vector(values):
    return jnp.asarray(np.asarray(values, np.int32))


def _pooled_shape(shape, window, axis):
    return (*shape[: axis + 1], window.output_size[axis], *shape[axis + 2 :])
