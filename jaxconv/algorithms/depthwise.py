"""Depthwise convolution as elementwise multiply-adds over shifted views. For CPUs.

With one input channel per group and M outputs per channel, no form has a long sum over channels, so there is no matrix
product to be had: every tap is one product of a shifted view, elementwise.

    conv           y[n,p,c,m]  = sum_i x[n, s·p + d·i − l, c] · w[i,c,m]
    input_grad     dx[n,u,c]   = sum_{p,i,m : s·p + d·i − l = u} dy[n,p,c,m] · w[i,c,m]
    kernel_grad    dw[i,c,m]   = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,c,m]

The first two are one fused pass each (dx with a stride as in periods.py); the views of windows of a few taps are
gathered (gathers.py), others are slices of a padded copy. The third goes over blocks of x and dy that
fit into a core's cache and keeps one sum per tap, of the size of a block: elementwise adds again, where a reduction per
tap would read all of x and dy once for each. The sums over the positions of a block come last, which also makes all
sums short: they are more accurate than one after the other.

Why not lax's own form: XLA:CPU runs a depthwise convolution one channel at a time, and its kernel gradient as a loop
nest. Figures in experiments/README.md.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms import gathers
from jaxconv.algorithms.apart import apart
from jaxconv.algorithms.blocks import blocks, flat_zeros, loop, zeros
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.algorithms.periods import from_periods, over_period, shift_views, shifts
from jaxconv.algorithms.views import at, fold, in_groups, over_taps, plus, tap_views

# Terms written out in one pass over the output; more make several passes.
TERMS = 64
# Sums kept at once by the kernel gradient, and the bytes of each.
SUMS = 16
BLOCK = 1 << 17
# Blocks whose products are added to the sums in one pass, which reads and writes those once for all of them.
TOGETHER = 2


def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,c,m] = sum_i x[n, s·p + d·i − l, c] · w[i,c,m]."""
    del precision  # there is no matrix product
    w = w.reshape(*window.window_size, groups, -1).astype(accumulator(w.dtype, dtype))
    kernels = w.shape[-1]
    if kernels == 1 and gathers.suits(window, groups):
        return _gathered_conv(x, w.reshape(-1, groups), window, list(window.taps()), dtype)
    view = tap_views(x, window, 0)

    def add(y, tap):
        x = view(tap).astype(w.dtype)
        if kernels == 1:
            return y + x * _spread(at(w, tap)[:, 0], y.shape)
        return y + _spread(x, y.shape, range(x.ndim)) * _spread(at(w, tap), y.shape)

    shape = (x.shape[0], *window.output_size, groups)
    y = _sum_over_taps(add, jnp.zeros(shape if kernels == 1 else (*shape, kernels), w.dtype), window)
    return y.reshape(*shape[:-1], groups * kernels).astype(dtype)


@apart
def _gathered_conv(x, w, window, taps, dtype):
    """y[n,p,c] = sum_j x[n, s·p + d·i − l, c] · w[j,c] with i = taps[j]."""
    terms = [
        lax.mul(
            lax.convert_element_type(term, w.dtype),
            _spread(lax.slice_in_dim(w, i, i + 1), term.shape, (0, term.ndim - 1)),
        )
        for i, term in enumerate(gathers.what_taps_read(x, window, taps))
    ]
    return functools.reduce(lax.add, terms).astype(dtype)


def input_grad(dy, w, window, groups, precision, dtype):
    """(2) dx[n,u,c] = sum_{p,i,m : s·p + d·i − l = u} dy[n,p,c,m] · w[i,c,m]."""
    spatial = range(window.ndim)
    if set(window.strides) == {1} and dy.shape[-1] == groups and gathers.suits(window.input_grad_window, groups):
        # The taps reversed, not w: what is read by other tables of the same sizes is often the same program as the
        # forward's, which XLA then compiles once, and nothing else is compiled.
        w = w.reshape(-1, groups).astype(accumulator(w.dtype, dtype))
        over_dy = window.input_grad_window
        return _gathered_conv(dy, w, over_dy, list(over_dy.taps())[::-1], dtype)
    del precision
    w = w.reshape(*window.window_size, groups, -1).astype(accumulator(w.dtype, dtype))
    # One array per m, so that every array has c innermost.
    dys = [dy] if w.shape[-1] == 1 else [dy.reshape(*dy.shape[:-1], groups, -1)[..., m] for m in range(w.shape[-1])]
    if set(window.strides) == {1}:  # (1) with w reversed: a single tap per term, and rows of taps if there are many
        w = lax.rev(w, spatial)
        views = [tap_views(a, window.input_grad_window, 0) for a in dys]

        def add(dx, tap):
            for m, view in enumerate(views):
                dx = dx + view(tap).astype(w.dtype) * _spread(at(w, tap)[:, m], dx.shape)
            return dx

        dx = jnp.zeros((dy.shape[0], *window.input_size, groups), w.dtype)
        return _sum_over_taps(add, dx, window).astype(dtype)

    moves, taps_at, shape = shifts((*dy.shape[:-1], groups), window)
    views = [shift_views(a, window, shape) for a in dys]
    exists = jnp.asarray(taps_at != window.tap_count)
    # The kernel by (m, r) in place of i, per axis: zeros where d·i = r + s·m has no solution.
    counts = [-(-extent // s) for extent, s in zip(window.extent, window.strides, strict=True)]
    gaps = [
        (0, count * s - extent, d - 1)
        for count, s, extent, d in zip(counts, window.strides, window.extent, window.dilation, strict=True)
    ]
    w = lax.pad(w, jnp.zeros((), w.dtype), [*gaps, (0, 0, 0), (0, 0, 0)])
    w = w.reshape(*(n for pair in zip(counts, window.strides, strict=True) for n in pair), groups, -1)
    w = w.transpose(*(2 * a for a in spatial), *(2 * a + 1 for a in spatial), -2, -1)
    positions = (*range(2, len(shape) - 1, 2), len(shape) - 1)

    def add_shift(dx, number, shift):
        here = at(w, shift)
        for m, view in enumerate(views):
            term = view(shift).astype(w.dtype) * lax.broadcast_in_dim(here[..., m], shape, positions)
            if not (taps_at != window.tap_count).all():  # otherwise an infinite dy would meet a zero of the table
                term = jnp.where(over_period(exists[number], shape), term, 0)
            dx = dx + term
        return dx

    return from_periods(fold(add_shift, jnp.zeros(shape, w.dtype), moves), window).astype(dtype)


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,m] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,c,m]."""
    del precision
    # From one axis, or XLA chooses another layout for an axis of size 1, and copies.
    return _kernel_grad(x, dy, window, groups, dtype).reshape(*window.window_size, 1, dy.shape[-1])


@apart
def _kernel_grad(x, dy, window, groups, dtype):
    """The same as one axis."""
    wide = accumulator(x.dtype, dtype)
    kernels = dy.shape[-1] // groups
    if kernels > 1:
        dy = dy.reshape(*dy.shape[:-1], groups, kernels)
    bytes_per_position = jnp.dtype(wide).itemsize * math.prod(dy.shape[window.ndim + 1 :])
    all_blocks = blocks(window, x.shape[0], bytes_per_position, BLOCK)
    # Not in a loop of one turn: XLA leaves nothing of that, and makes an array of every product.
    together = TOGETHER if all_blocks.count % TOGETHER == 0 and all_blocks.count > TOGETHER else 1
    dy = dy.reshape(-1, *dy.shape[window.ndim + 1 :])

    def sums(start, offsets):
        """The sum of every one of the taps start + offset, over blocks first, then over a block's positions."""
        rows = all_blocks.rows(x, start, offsets)

        # The sums are of this shape, not of one axis, as their terms are made in it.
        shape = (all_blocks.positions, len(offsets), *dy.shape[1:])

        def term(number):
            taps = rows(number).astype(wide).reshape(*shape[:2], groups)
            dy_block = all_blocks.once(all_blocks.of(dy, number), number).astype(wide)
            return lax.mul(_spread(taps, shape, (0, 1, 2)), _spread(dy_block, shape, (0, *range(2, len(shape)))))

        def add(number, totals):
            first = lax.mul(number, np.int32(together))
            return functools.reduce(lax.add, (term(first + np.int32(n)) for n in range(together)), totals)

        # In a loop over the taps, zeros behind a barrier would be an array more, made before it.
        made = zeros if window.tap_count <= SUMS else flat_zeros
        return loop(add, made(shape, wide, x, dy).reshape(shape), all_blocks.count // together).sum(0)

    dw = over_taps(sums, window, SUMS)
    return dw.reshape(-1).astype(dtype)


def _sum_over_taps(add, total, window):
    """total with add(total, tap) for every tap: at most TERMS of them in one pass."""
    for starts, offsets in in_groups(window.window_size, TERMS):

        def add_group(total, _, start, offsets=offsets):
            for offset in offsets:
                total = add(total, plus(start, offset))
            return total

        total = fold(add_group, total, starts, unrolled=1)
    return total


def _spread(a, shape, axes=None):
    """a spread over an array of this shape, as its last axes or the given ones."""
    return lax.broadcast_in_dim(a, shape, range(len(shape) - a.ndim, len(shape)) if axes is None else axes)
