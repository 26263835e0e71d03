"""The adjoint of a strided read without a scatter: positions in periods of one stride, reached by shifts.

With the padded position v = u + l written v = s·q + r (0 <= r < s), tap i of window p reaches v when
s·p + d·i = s·q + r: with p = q − m that is

    d·i = r + s·m          0 <= m < M = ceil((d(R−1) + 1)/s)

so a sum over taps that put something at v is a sum over the M shifts m of a[q − m], spread over the s positions r,
where tap i = (r + s·m)/d exists. All s positions of a period are made at once, by broadcasting.
"""

import itertools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.views import sliced


def windows_of(window, axis, v):
    """Of these padded positions v on an axis, for every m: p = q − m, and the tap of it that reaches v, or −1."""
    s, d, extent = window.strides[axis], window.dilation[axis], window.extent[axis]
    m = np.arange(-(-extent // s))[:, None]
    offset = v % s + s * m
    return v // s - m, np.where((offset % d == 0) & (offset < extent), offset // d, -1)


def reaching(window, sizes, terms):
    """For every shift that reaches one of these many places per axis: terms(axis, p, i) of every axis.

    p and i are those of `windows_of`, at all places of the axis; the first array of the terms is negative where the
    shift does not reach. Where none reaches any, the first shift.
    """
    of_axes = []
    for axis, (n, (low, _)) in enumerate(zip(sizes, window.padding, strict=True)):
        of_axes.append([terms(axis, p, i) for p, i in zip(*windows_of(window, axis, np.arange(n) + low), strict=True)])
    found = [shift for shift in itertools.product(*of_axes) if all((first >= 0).any() for first, *_ in shift)]
    return found or [tuple(axis_terms[0] for axis_terms in of_axes)]


def steps(sizes):
    """What a place on each axis adds to the number of an element, in row-major order."""
    return [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]


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


def shift_views(a, window, shape, fill=0):
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


def over_period(table, shape):
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


def in_periods(x, window, shape, fill):
    """The other way round: (N, *input, C) in the shape (N, Q, s, Q, s, ..., C), with fill around it."""
    sizes = map(math.prod, zip(shape[1:-1:2], shape[2:-1:2], strict=True))
    config = [
        (low, size - n - low, 0) for n, (low, _), size in zip(window.input_size, window.padding, sizes, strict=True)
    ]
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0), *config, (0, 0, 0)]).reshape(shape)
