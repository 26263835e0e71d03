"""Pooling as elementwise sums and selections over shifted views, one view per tap. The default on every platform.

Forward, tap i of all windows at once is one strided slice of the padded input. Backward, dx is a sum over shifts of dy
(derived in periods.py), and written once: no scatter and no dilated array. For windows that do not overlap it is a
single selection.

Figures, against XLA's select_and_scatter, are in experiments/README.md.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.dtypes import accumulator, tap_dtype
from jaxconv.algorithms.periods import from_periods, in_periods, over_period, shift_views, shifts
from jaxconv.algorithms.views import fold, tap_views
from jaxconv.geometry import Window

# Up to this many taps a sum over a window is one pass over all axes.
ONE_PASS = 16


def extremum(x, window, largest):
    """y[n,p,c] = max_i x[n, s·p + d·i − l, c] (or min), and the first tap, in row-major order, that attains it."""
    fill = -jnp.inf if largest else jnp.inf
    dtype = tap_dtype(window)
    view = tap_views(x, window, fill)

    def update(best, number, tap):
        y, winner = best
        candidate = view(tap)
        better = candidate > y if largest else candidate < y
        better |= jnp.isnan(candidate) & ~jnp.isnan(y)  # a NaN is the extremum of its window: the first one stays
        return jnp.where(better, candidate, y), jnp.where(better, jnp.asarray(number).astype(dtype), winner)

    # Start from the padding's value at the first tap that reads the input, so that no tap on the padding ever wins.
    first = np.zeros((), int)
    for axis, size in enumerate(window.window_size):
        first = np.add.outer(first * size, window.first_inside(axis))
    y = jnp.full((x.shape[0], *window.output_size, x.shape[-1]), fill, x.dtype)
    winner = lax.broadcast_in_dim(jnp.asarray(first.astype(dtype)), y.shape, range(1, window.ndim + 1))
    return fold(update, (y, winner), list(window.taps()))


def extremum_value(x, window, largest):
    """The y of `extremum` alone, for when no gradient is wanted."""
    view = tap_views(x, window, -jnp.inf if largest else jnp.inf)
    pick = lax.max if largest else lax.min
    first, *others = window.taps()
    return fold(lambda y, _, tap: pick(y, view(tap)), view(first), others)


def extremum_grad(dy, tap, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] · [tap[n,p,c] = i]."""
    moves, taps_at, shape = shifts(dy.shape, window)
    dy_at, tap_at = (shift_views(a, window, shape) for a in (dy, tap))
    table = jnp.asarray(taps_at, tap_dtype(window))

    def add(dx, number, shift):
        won = tap_at(shift) == over_period(table[number], shape)
        return dx + jnp.where(won, dy_at(shift), 0).astype(dx.dtype)

    return from_periods(fold(add, jnp.zeros(shape, accumulator(dy.dtype)), moves), window).astype(dy.dtype)


def soft_maximum(x, window, share, padding, least):
    """m[n,p,c] = max_i x[n,u,c] at u = s·p + d·i − l; r[n,p,c] = sum_i share(x[n,u,c], m[n,p,c]) but for the largest.

    One pass: whenever a larger element comes, what was summed so far is made a share of that one.
    """
    view = tap_views(x, window, padding)

    def update(sums, _, tap):
        m, r = sums
        candidate = view(tap)
        larger = candidate > m
        low, high = jnp.where(larger, m, candidate), jnp.where(larger, candidate, m)
        return high, jnp.where(larger, 0, r) + share(low, high) * jnp.where(larger, 1 + r, 1)

    shape = (x.shape[0], *window.output_size, x.shape[-1])
    return fold(update, (jnp.full(shape, least, x.dtype), jnp.full(shape, -1, x.dtype)), list(window.taps()))


def soft_maximum_grad(dy, x, y, window, weight, padding, absent):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} weight(x[n,u,c], y[n,p,c]) · dy[n,p,c]."""
    moves, taps_at, shape = shifts(dy.shape, window)
    dy_at, y_at = shift_views(dy, window, shape), shift_views(y, window, shape, absent)
    table = jnp.asarray(taps_at, tap_dtype(window))
    x = in_periods(_where_read(x, window, padding), window, shape, padding)

    def add(dx, number, shift):
        exists = over_period(table[number], shape) != window.tap_count
        return dx + jnp.where(exists, weight(jnp.where(exists, x, padding), y_at(shift)) * dy_at(shift), 0)

    return from_periods(fold(add, jnp.zeros(shape, dy.dtype), moves), window)


def window_sum(x, window):
    """y[n,p,c] = sum_i x[n, s·p + d·i − l, c], of the accumulator's dtype.

    In large windows one axis after the other: R1 + R2 terms, not R1·R2.
    """
    y = x.astype(accumulator(x.dtype))
    # What lies between two axes costs as much memory as x: a few more terms cost less.
    for axis_window in [window] if window.tap_count <= ONE_PASS else _one_axis_each(window):
        y = _sum(y, axis_window)
    return y


def window_sum_grad(dy, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c], of the accumulator's dtype; one axis after the other."""
    dx = dy.astype(accumulator(dy.dtype))
    for axis_window in [window] if window.tap_count <= ONE_PASS else reversed(_one_axis_each(window)):
        dx = _sum_grad(dx, axis_window)
    return dx


def _sum(x, window):
    view = tap_views(x, window, 0)
    first, *others = window.taps()
    return fold(lambda y, _, tap: y + view(tap), view(first), others)


def _sum_grad(dy, window):
    moves, taps_at, shape = shifts(dy.shape, window)
    dy_at = shift_views(dy, window, shape)
    table = jnp.asarray(taps_at, tap_dtype(window))

    def add(dx, number, shift):
        return dx + jnp.where(over_period(table[number], shape) != window.tap_count, dy_at(shift), 0)

    return from_periods(fold(add, jnp.zeros(shape, dy.dtype), moves), window)


def _where_read(x, window, fill):
    """x, with fill where no window reads it: a NaN there must not matter."""
    for axis, (n, o, r, s, d, (low, _)) in enumerate(
        zip(
            window.input_size,
            window.output_size,
            window.window_size,
            window.strides,
            window.dilation,
            window.padding,
            strict=True,
        )
    ):
        read = np.isin(np.arange(n), np.add.outer(s * np.arange(o), d * np.arange(r)) - low)
        if not read.all():
            x = jnp.where(lax.broadcast_in_dim(jnp.asarray(read), x.shape, (axis + 1,)), x, fill)
    return x


def _one_axis_each(window):
    """The window as a sequence of windows that slide over one axis each."""
    windows = []
    sizes = list(window.input_size)
    ones, zeros = (1,) * window.ndim, ((0, 0),) * window.ndim
    for axis in range(window.ndim):
        pick = lambda values, rest, axis=axis: (*rest[:axis], values[axis], *rest[axis + 1 :])  # noqa: E731
        windows.append(
            Window(
                tuple(sizes),
                pick(window.window_size, ones),
                pick(window.strides, ones),
                pick(window.dilation, ones),
                pick(window.padding, zeros),
                (0,) * window.ndim,
            )
        )
        sizes[axis] = window.output_size[axis]
    return windows
