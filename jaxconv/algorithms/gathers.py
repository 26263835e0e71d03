"""Elementwise sums over gathered pixels, one gather per tap: pooling, and depthwise convolution (depthwise.py).

For CPUs, and windows of a few taps.

Which pixel a tap of a window reads is a table, made before the program runs; the backward asks which windows a pixel
is in (periods.py has the derivation), at most ceil(R/s) per axis. All taps are terms of one fused pass, whose inner
loop is over the channels of a pixel, and padding is a condition instead of a padded copy of x or dy: no temporaries.

The forward of max pooling with its winner is not here: it needs every element twice, and XLA then no longer fuses the
gathers. Figures in experiments/README.md.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.blocks import CONSTANT, all_pixels_read, rows_of
from jaxconv.algorithms.dtypes import accumulator, tap_dtype
from jaxconv.algorithms.periods import shifts

# Terms of a sum, and channels, from which on a slice is one loop of the processor.
TERMS, CHANNELS = 16, 4


def suits(window, channels):
    """Whether these are for the window: few terms, some channels, and tables that are no burden to the program."""
    positions = max(math.prod(window.output_size), math.prod(window.input_size))
    return window.tap_count <= TERMS and channels >= CHANNELS and 4 * window.tap_count * positions <= CONSTANT


def what_taps_read(x, window, fill=0.0):
    """For every tap i, x[n, s·p + d·i − l, c] as (N, positions, C), or `fill` where that is padding."""
    rows = all_pixels_read(window, 1, (0,) * window.ndim, list(window.taps())).T
    return map(reader(x, len(rows[0]), fill), rows)


def window_sum(x, window):
    """y[n,p,c] = sum_i x[n, s·p + d·i − l, c], of the accumulator's dtype."""
    wide = accumulator(x.dtype)
    terms = (term.astype(wide) for term in what_taps_read(x, window))
    return functools.reduce(lax.add, terms).reshape(x.shape[0], *window.output_size, x.shape[-1])


def window_sum_grad(dy, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c], of the accumulator's dtype."""
    wide = accumulator(dy.dtype)
    read = reader(dy, math.prod(window.input_size), 0)
    terms = (read(row).astype(wide) for row, _ in _read_by(window))
    return functools.reduce(lax.add, terms).reshape(dy.shape[0], *window.input_size, dy.shape[-1])


def extremum_value(x, window, largest):
    """y[n,p,c] = max_i x[n, s·p + d·i − l, c] (or min)."""
    pick, fill = (lax.max, -jnp.inf) if largest else (lax.min, jnp.inf)
    return functools.reduce(pick, what_taps_read(x, window, fill)).reshape(x.shape[0], *window.output_size, x.shape[-1])


def extremum_grad(dy, tap, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] · [tap[n,p,c] = i]."""
    wide, terms = accumulator(dy.dtype), []
    shape = (dy.shape[0], math.prod(window.input_size), dy.shape[-1])
    # With indices of their own: XLA would make an array of those that two gathers have in common.
    read_dy, read_tap = reader(dy, shape[1], 0), reader(tap, shape[1], 0, np.uint32)
    zeros = lax.full(shape, 0, dy.dtype)
    for row, taps in _read_by(window):
        # Where there is no such window, another one is read, and its winner is no tap at all: no second condition.
        row = np.maximum(row, 0)
        own = lax.broadcast_in_dim(taps.astype(tap_dtype(window)), shape, (1,))
        terms.append(lax.select(lax.eq(read_tap(row), own), read_dy(row), zeros).astype(wide))
    return functools.reduce(lax.add, terms).astype(dy.dtype).reshape(dy.shape[0], *window.input_size, dy.shape[-1])


def reader(a, count, fill, dtype: type[np.integer] = np.int32):
    """A function from a row, the numbers of so many pixels, to a[:, row] as (N, count, C).

    Where a number is negative, fill. dtype is that of the indices.
    """
    images, *spatial, channels = a.shape
    pixels = (math.prod(spatial), channels)
    a = lax.reshape(a, pixels if images == 1 else (images, *pixels))
    fills = lax.full((images, count, channels), fill, a.dtype)
    # In every image by itself, so that a batch divided among devices by jit stays where it is.
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(2,),
        collapsed_slice_dims=(1,),
        start_index_map=(1,),
        operand_batching_dims=(0,),
        start_indices_batching_dims=(0,),
    )

    def read(row):
        is_table = isinstance(row, np.ndarray)
        is_padded = not is_table or (row < 0).any()  # of one that the program computes it is not known
        index = (np.maximum(row, 0) if is_table else lax.max(row, lax.full_like(row, 0))).astype(dtype)
        if images == 1:  # less to trace and compile
            gathered = rows_of(a, index.reshape(1, count, 1))
        else:
            index = lax.broadcast_in_dim(index, (images, count, 1), (1,))
            gathered = lax.gather(a, index, numbers, (1, 1, channels), mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)
        if not is_padded:
            return gathered
        return lax.select(lax.broadcast_in_dim(row >= 0, gathered.shape, (1,)), gathered, fills)

    return read


def _read_by(window):
    """Pairs of rows: for every pixel a window that reads it, or −1, and the tap that does, or tap_count."""
    moves, taps_at, _ = shifts((1, *window.output_size, 1), window)
    u = np.indices(window.input_size).reshape(window.ndim, -1)
    v = u + np.asarray([low for low, _ in window.padding]).reshape(-1, 1)
    stride = np.asarray(window.strides).reshape(-1, 1)
    size = np.asarray(window.output_size).reshape(-1, 1)
    for move, table in zip(moves, taps_at, strict=True):
        p = v // stride - np.asarray(move).reshape(-1, 1)
        tap = table[tuple(v % stride)]
        exists = ((p >= 0) & (p < size)).all(0) & (tap < window.tap_count)
        row = np.ravel_multi_index(tuple(np.where(exists, p, 0)), window.output_size)
        yield np.where(exists, row, -1).astype(np.int32), np.where(exists, tap, window.tap_count)
