"""The kernel gradient for inputs of few channels, or of one image, as matrix products over all taps, in blocks of rows.

As in im2col.py, but with few channels its rows are short and slow to gather. Here X is made transposed, (R·C x m), with
output positions next to each other: on the innermost axis position v = u + l of x is split into v = s·b + a, so that
the whole row of output positions reads, for tap j with d·j = s·o + a, the phase a of x from o on, without a gap. One
gather makes X, whose slices are those rows,

    dW = sum Xᵀ · dY           [R·C x m] · [m x K] -> [R·C x K], over all blocks

and nothing is transposed but x itself, which is small. For CPUs, groups = 1 and two axes or more. Figures in
experiments/README.md.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.apart import apart, made_apart
from jaxconv.algorithms.blocks import one_block_or_several
from jaxconv.algorithms.dtypes import accumulator

# Channels up to which this is the faster form, bytes of X, and how many elements x in phases may always have.
CHANNELS = 12
BLOCK = 2 << 20
MARGIN = 1 << 16


def suits(x, window):
    """Whether x has few channels or is one image, and in phases is not many times as large, nor more than int32 counts.

    One image may be one of many under vmap, and rows of positions are gathered for all of them at once. By itself it
    takes as long as in im2col.py.
    """
    s, reach = window.strides[-1], window.dilation[-1] * (window.window_size[-1] - 1)
    length = window.output_size[-1] + reach // s
    in_phases = math.prod(x.shape[:-2]) * s * length * x.shape[-1]
    is_image = x.shape[0] == 1 and window.ndim == 2 and set(window.strides) == {1}
    return (x.shape[-1] <= CHANNELS or is_image) and in_phases < min(2**31, 4 * x.size + MARGIN)


def kernel_grad_of_few_outputs(x, dy, window, groups, precision, dtype):
    """(3) with stride 1, where dy has the few channels: it takes x's place.

    dw[i,c,k] = sum_{n,u} dy[n, u − d·i + l, k] · x[n,u,c], which is the kernel gradient of a convolution of dy, its
    taps reversed, at d(R−1) − l low padding.
    """
    dw = kernel_grad(dy, x, window.input_grad_window, groups, precision, dtype)
    return jnp.swapaxes(lax.rev(dw, range(window.ndim)), -1, -2)


@apart
def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    assert groups == 1
    (channels, k), wide = (x.shape[-1], dy.shape[-1]), accumulator(dtype)
    row = window.output_size[-1]
    x, starts = _phases(x, window)
    fields = (field.name for field in dataclasses.fields(window) if field.name != "borders")
    outer = dataclasses.replace(window, borders=(), **{name: getattr(window, name)[:-1] for name in fields})
    bytes_per_row = window.tap_count * channels * row * jnp.dtype(wide).itemsize
    all_blocks = one_block_or_several(outer, dy.shape[0], window.ndim, bytes_per_row, BLOCK)
    reads = all_blocks.reads((0,) * outer.ndim, list(outer.taps()))
    dy = dy.reshape(-1, row, k)

    def lines(number):
        """What the taps read in a block, as (taps of the outer axes, taps of the innermost, C, rows, positions)."""
        index = lax.transpose(reads(number), (1, 0))
        zeros = lax.full_like(index, 0)
        line = lax.max(index, zeros) + all_blocks.pixel(number)
        channel = np.arange(channels, dtype=np.int32)[:, None] * (x.shape[1] * x.shape[2])
        first = channel + starts[:, None, None]  # (taps of the innermost axis, C, 1)
        shape = (line.shape[0], *first.shape[:2], line.shape[1])
        at = lax.add(
            lax.broadcast_in_dim(line * np.int32(x.shape[2]), shape, (0, 3)),
            lax.broadcast_in_dim(first, shape, (1, 2, 3)),
        )
        gathered = lax.gather(
            x.reshape(-1),
            at.reshape(-1, 1),
            lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,)),
            slice_sizes=(row,),
            mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        ).reshape(*shape, row)
        if any(pad > 0 for pads in outer.padding for pad in pads):
            inside = lax.broadcast_in_dim(lax.ge(index, zeros), gathered.shape, (0, 3))
            gathered = lax.select(inside, gathered, lax.full_like(gathered, 0))
        return gathered.astype(wide)

    def product(number):
        dy_block = all_blocks.once(all_blocks.of(dy, number), number).reshape(-1, k).astype(wide)
        rows = made_apart(lines, number).reshape(-1, dy_block.shape[0])
        contracted = (((1,), (0,)), ((), ()))
        return lax.dot_general(rows, dy_block, contracted, precision=precision, preferred_element_type=wide)

    dw = all_blocks.total(product, (window.tap_count * channels, k), wide, x, dy)
    return dw.reshape(*window.window_size, channels, k).astype(dtype)


def _phases(x, window):
    """x as (C, lines, s·L), a line one row of x in its s phases of L positions, and where in it every tap starts."""
    (low, _), s, d = window.padding[-1], window.strides[-1], window.dilation[-1]
    reach = d * np.arange(window.window_size[-1])
    length = window.output_size[-1] + int(reach[-1]) // s
    *outer, n, channels = x.shape
    config = [(0, 0, 0)] * len(outer) + [(low, s * length - n - low, 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), config).reshape(-1, length, s, channels)
    return x.transpose(3, 0, 2, 1).reshape(channels, -1, s * length), (reach % s * length + reach // s).astype(np.int32)
