"""Elementwise sums over gathered pixels, one gather per tap: pooling, and depthwise convolution (depthwise.py).

For CPUs, and windows of a few taps.

Which pixel a tap of a window reads is the sum of a number per axis, from small tables; the backward asks which windows
a pixel is in (periods.py has the derivation), at most ceil(R/s) per axis. All taps are terms of one fused pass, whose
inner loop is over the channels of a pixel, and padding is a condition instead of a padded copy of x or dy: no
temporaries.

The forward of max pooling with its winner is not here: it needs every element twice, and XLA then no longer fuses the
gathers. Figures in experiments/README.md.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.blocks import pixel_terms, rows_of
from jaxconv.algorithms.dtypes import accumulator, tap_dtype
from jaxconv.algorithms.periods import reaching, steps

# Terms of a sum, and channels, from which on a slice is one loop of the processor.
TERMS, CHANNELS = 16, 4


def suits(window, channels):
    """Whether these are for the window: few terms, some channels, and images whose pixels int32 counts."""
    pixels = max(math.prod(window.output_size), math.prod(window.input_size))
    return window.tap_count <= TERMS and channels >= CHANNELS and pixels < 2**31 // window.ndim


def what_taps_read(x, window, taps, fill=0.0):
    """For every one of these taps i, x[n, s·p + d·i − l, c] as (N, *output, C), or `fill` where that is padding."""
    places = [np.arange(size, dtype=np.int32) for size in window.output_size]
    of_axes = pixel_terms(window, places, (0,) * window.ndim, taps)
    return map(reader(x, window.output_size, fill), zip(*(terms.T for terms in of_axes), strict=True))


def window_sum(x, window):
    """y[n,p,c] = sum_i x[n, s·p + d·i − l, c], of the accumulator's dtype."""
    wide = accumulator(x.dtype)
    terms = (term.astype(wide) for term in what_taps_read(x, window, list(window.taps())))
    return functools.reduce(lax.add, terms)


def window_sum_grad(dy, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c], of the accumulator's dtype."""
    wide = accumulator(dy.dtype)
    read = reader(dy, window.input_size, 0)
    return functools.reduce(lax.add, (read(row).astype(wide) for row, _ in _read_by(window)))


def extremum_value(x, window, largest):
    """y[n,p,c] = max_i x[n, s·p + d·i − l, c] (or min)."""
    pick, fill = (lax.max, -jnp.inf) if largest else (lax.min, jnp.inf)
    return functools.reduce(pick, what_taps_read(x, window, list(window.taps()), fill))


def extremum_grad(dy, tap, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] · [tap[n,p,c] = i]."""
    wide, terms = accumulator(dy.dtype), []
    shape = (dy.shape[0], *window.input_size, dy.shape[-1])
    # With indices of their own: XLA would make an array of those that two gathers have in common.
    read_dy, read_tap = reader(dy, window.input_size, 0), reader(tap, window.input_size, 0, np.uint32)
    zeros, number = lax.full(shape, 0, dy.dtype), tap_dtype(window)
    for row, taps in _read_by(window):
        # Where there is no such window, another one is read, and its winner is no tap at all: no second condition.
        row = [np.maximum(term, 0) for term in row]
        own = spread([term.astype(number) for term in taps], shape)
        terms.append(lax.select(lax.eq(read_tap(row), own), read_dy(row), zeros).astype(wide))
    return functools.reduce(lax.add, terms).astype(dy.dtype)


def reader(a, sizes, fill, dtype: type[np.integer] = np.int32):
    """A function from a term per axis to a's pixels of the numbers that they sum to, as (N, *sizes, C).

    `fill` where a term is negative. dtype is that of the indices.
    """
    images, *spatial, channels = a.shape
    shape = (images, *sizes, channels)
    # Of one channel, without that axis: XLA would make a copy of such an array with another layout.
    row = (channels,) if channels > 1 else ()
    a = lax.reshape(a, (*((images,) if images > 1 else ()), math.prod(spatial), *row))
    fills = lax.full((images, *sizes, *row), fill, a.dtype)
    # In every image by itself, so that a batch divided among devices by jit stays where it is.
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(len(sizes) + 1,)[: len(row)],
        collapsed_slice_dims=(1,),
        start_index_map=(1,),
        operand_batching_dims=(0,),
        start_indices_batching_dims=(0,),
    )

    shared = {}

    def along(axis, term, shape):
        """term along an axis of an array of this shape; tables that several pixels have in common are one operation."""
        if not isinstance(term, np.ndarray):
            return lax.broadcast_in_dim(term, shape, (axis,))
        key = axis, shape, term.dtype, term.tobytes()
        if key not in shared:
            shared[key] = lax.broadcast_in_dim(term, shape, (axis,))
        return shared[key]

    def read(terms):
        is_table = [isinstance(term, np.ndarray) for term in terms]  # or is computed by the program
        inside = [term >= 0 for term in terms]
        terms = [(np if k else jnp).maximum(t, 0).astype(dtype) for t, k in zip(terms, is_table, strict=True)]
        index = functools.reduce(lax.add, (along(axis, t, (*shape[:-1], 1)) for axis, t in enumerate(terms, 1)))
        if images == 1:  # less to compile
            gathered = rows_of(a, index)
        else:
            gathered = lax.gather(a, index, numbers, (1, 1, *row), mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)
        for axis, (at, k) in enumerate(zip(inside, is_table, strict=True), 1):
            if not k or not at.all():
                gathered = lax.select(along(axis, at, gathered.shape), gathered, fills)
        return lax.reshape(gathered, shape)

    return read


def spread(terms, shape):
    """The sum of a term per spatial axis, a number for each of its places, as an array of this shape."""
    return functools.reduce(lax.add, (lax.broadcast_in_dim(term, shape, (axis,)) for axis, term in enumerate(terms, 1)))


def _read_by(window):
    """For every shift m (periods.py), of every pixel: the window that reads it, and the tap that does, a term per axis.

    Where there is none, a negative term, and one of tap_count.
    """
    step_p, step_i = steps(window.output_size), steps(window.window_size)

    def terms(axis, p, i):
        exists = (i >= 0) & (p >= 0) & (p < window.output_size[axis])
        row = np.where(exists, p * step_p[axis], -1).astype(np.int32)
        return row, np.where(exists, i * step_i[axis], window.tap_count)

    return [tuple(zip(*shift, strict=True)) for shift in reaching(window, window.input_size, terms)]
