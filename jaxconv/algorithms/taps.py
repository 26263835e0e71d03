"""Pooling as elementwise sums and selections over shifted views, one view per tap. The default on every platform.

Forward, tap i of all windows at once is one strided slice of the padded input. Backward, with the padded position
v = u + l written v = s·q + r (0 <= r < s), tap i of window p reaches v when s·p + d·i = s·q + r: with p = q − m that is

    d·i = r + s·m          0 <= m < M = ceil((d(R−1) + 1)/s)

so dx is a sum over the M shifts m of dy[q − m], spread over the s positions r, where tap i = (r + s·m)/d exists. All s
positions of a period are made at once, by broadcasting, and dx is written once: no scatter and no dilated array. For
windows that do not overlap M is 1 and dx is a single selection.

Figures, against XLA's select_and_scatter, are in experiments/README.md.
"""

import itertools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.dtypes import accumulator, tap_dtype
from jaxconv.algorithms.views import fold, sliced, tap_views
from jaxconv.geometry import Window


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
    dy_at, tap_at = (_shift_views(a, window, shape) for a in (dy, tap))
    table = jnp.asarray(taps_at, tap_dtype(window))

    def add(dx, number, shift):
        won = tap_at(shift) == _over_period(table[number], shape)
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
    dy_at, y_at = _shift_views(dy, window, shape), _shift_views(y, window, shape, absent)
    table = jnp.asarray(taps_at, tap_dtype(window))
    x = _in_periods(_where_read(x, window, padding), window, shape, padding)

    def add(dx, number, shift):
        exists = _over_period(table[number], shape) != window.tap_count
        return dx + jnp.where(exists, weight(jnp.where(exists, x, padding), y_at(shift)) * dy_at(shift), 0)

    return from_periods(fold(add, jnp.zeros(shape, dy.dtype), moves), window)


def window_sum(x, window):
    """y[n,p,c] = sum_i x[n, s·p + d·i − l, c], one axis after the other: R1 + R2 terms instead of R1·R2."""
    y = x.astype(accumulator(x.dtype))
    for axis_window in _one_axis_each(window):
        y = _sum(y, axis_window)
    return y.astype(x.dtype)


def window_sum_grad(dy, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c], one axis after the other."""
    dx = dy.astype(accumulator(dy.dtype))
    for axis_window in reversed(_one_axis_each(window)):
        dx = _sum_grad(dx, axis_window)
    return dx.astype(dy.dtype)


def _sum(x, window):
    view = tap_views(x, window, 0)
    first, *others = window.taps()
    return fold(lambda y, _, tap: y + view(tap), view(first), others)


def _sum_grad(dy, window):
    moves, taps_at, shape = shifts(dy.shape, window)
    dy_at = _shift_views(dy, window, shape)
    table = jnp.asarray(taps_at, tap_dtype(window))

    def add(dx, number, shift):
        return dx + jnp.where(_over_period(table[number], shape) != window.tap_count, dy_at(shift), 0)

    return from_periods(fold(add, jnp.zeros(shape, dy.dtype), moves), window)


def shifts(dy_shape, window):
    """The shifts m, the tap that each makes reach each position of a period, and the shape of dx in periods.

    Returns the list of m, one int per axis; an array (shift, *strides) of tap numbers, tap_count where there is no tap;
    and the shape (N, Q, s, Q, s, ..., C) of dx split into Q periods of s positions per axis.
    """
    counts, reached = [], []
    for s, d, extent in zip(window.strides, window.dilation, window.extent, strict=True):
        count = -(-extent // s)
        offset = np.arange(count * s).reshape(count, s)  # r + s·m
        valid = (offset % d == 0) & (offset < extent)
        counts.append(count)
        reached.append(np.where(valid, offset // d, -1))
    moves, taps_at = [], []
    for shift in itertools.product(*map(range, counts)):
        number = np.zeros((), int)
        exists = np.ones((), bool)
        for m, table, size in zip(shift, reached, window.window_size, strict=True):
            number = np.add.outer(number * size, table[m])
            exists = np.logical_and.outer(exists, table[m] >= 0)
        if exists.any():
            moves.append(shift)
            taps_at.append(np.where(exists, number, window.tap_count))
    periods = [
        max(1, min(o + count - 1, -(-(n + low) // s)))  # as far as the windows reach, or the input
        for n, o, s, (low, _), count in zip(
            window.input_size, window.output_size, window.strides, window.padding, counts, strict=True
        )
    ]
    split = itertools.chain.from_iterable(zip(periods, window.strides, strict=True))
    return moves, np.stack(taps_at), (dy_shape[0], *split, dy_shape[-1])


def _shift_views(a, window, shape, fill=0):
    """A function from a shift m to a[n, q − m, c] for every period q, repeated over the positions of the period."""
    periods = shape[1:-1:2]
    most = [-(-extent // s) - 1 for extent, s in zip(window.extent, window.strides, strict=True)]
    config = [(m, q - o, 0) for m, q, o in zip(most, periods, window.output_size, strict=True)]
    # Padded once, as in tap_views; the taps of what is padded do not matter, its dy is 0.
    a = lax.pad(a, jnp.asarray(fill, a.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    axes = [0, *range(1, len(shape) - 1, 2), len(shape) - 1]

    def view(shift):
        starts = [m_most - m for m_most, m in zip(most, shift, strict=True)]
        return lax.broadcast_in_dim(sliced(a, starts, periods, (1,) * window.ndim), shape, axes)

    return view


def _over_period(table, shape):
    """A (*strides) table at every period of an array of this shape."""
    return lax.broadcast_in_dim(table, shape, range(2, len(shape) - 1, 2))


def from_periods(dx, window):
    """(N, Q, s, Q, s, ..., C) as (N, *input, C): position v = s·q + r of the padded input is position v − l of x."""
    dx = dx.reshape(dx.shape[0], *map(math.prod, zip(dx.shape[1:-1:2], dx.shape[2:-1:2], strict=True)), dx.shape[-1])
    config = [
        (-low, n + low - size, 0)
        for n, (low, _), size in zip(window.input_size, window.padding, dx.shape[1:-1], strict=True)
    ]
    return lax.pad(dx, jnp.zeros((), dx.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def _in_periods(x, window, shape, fill):
    """The other way round: (N, *input, C) in the shape (N, Q, s, Q, s, ..., C), with fill around it."""
    sizes = map(math.prod, zip(shape[1:-1:2], shape[2:-1:2], strict=True))
    config = [
        (low, size - n - low, 0) for n, (low, _), size in zip(window.input_size, window.padding, sizes, strict=True)
    ]
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0), *config, (0, 0, 0)]).reshape(shape)


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
