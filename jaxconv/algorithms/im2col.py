"""The convolution and its gradients as matrix products over all taps side by side, a block of positions at a time.

With X the (positions x taps·C) matrix of what the windows of a block read,

    y  = X · w                 [m x R·C] · [R·C x K] -> [m x K], block by block; dx with stride 1 in the same way
    dW = sum dYᵀ · X           [K x m] · [m x R·C] -> [K x R·C], over all blocks

X is made by one gather (blocks.py). A large batch at once loses: X is R times as large as x, and memory costs more than
the arithmetic. In dW a product that sums over both leading axes runs at half the speed of one over neighbouring axes,
so dY is transposed. For CPUs and groups = 1, any number of axes. Figures in experiments/README.md.
"""

import math

import jax.numpy as jnp
from jax import lax

from jaxconv.algorithms.apart import apart, made_apart
from jaxconv.algorithms.blocks import blocks, one_block_or_several
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.algorithms.views import over_taps

# Bytes of X.
BLOCK = 5 << 20
# Taps side by side at most in a kernel gradient; more make several passes.
TAPS = 64


@apart
def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]."""
    assert groups == 1
    return _convolution(x, w.reshape(-1, w.shape[-1]), 0, window, list(window.taps()), precision, dtype)


@apart
def input_grad(dy, w, window, groups, precision, dtype):
    """(2), with stride 1: dx[n,u,c] = sum_{p,i,k : p + d·i − l = u} w[i,c,k] · dy[n,p,k]."""
    assert groups == 1
    # The taps are reversed where they are read, and w is (C, R·K): moving rows of K is all that is done to it. XLA:CPU
    # takes longer to turn a large kernel's channels around than for the product.
    channels, outputs = w.shape[-2:]
    w = jnp.moveaxis(w.reshape(-1, channels, outputs), 1, 0).reshape(channels, -1)
    window = window.input_grad_window
    return _convolution(dy, lax.optimization_barrier(w), 1, window, list(window.taps())[::-1], precision, dtype)


def _convolution(x, w, axis, window, taps, precision, dtype):
    """x, with these taps of a window side by side, times w, summed over this axis of w."""
    wide, k = accumulator(dtype), w.shape[1 - axis]
    bytes_per_position = window.tap_count * x.shape[-1] * jnp.dtype(wide).itemsize
    all_blocks = one_block_or_several(window, x.shape[0], window.ndim, bytes_per_position, BLOCK)
    w, rows = w.astype(wide), all_blocks.rows(x, (0,) * window.ndim, taps)

    def product(number):
        x_block = made_apart(lambda number: rows(number).astype(wide), number).reshape(all_blocks.positions, -1)
        return _dot(x_block, w, axis, precision, wide).astype(dtype)

    y = all_blocks.made(product, (x.shape[0] * math.prod(window.output_size), k), dtype, x, w)
    return y.reshape(x.shape[0], *window.output_size, k)


@apart
def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    assert groups == 1
    (channels, k), wide = (x.shape[-1], dy.shape[-1]), accumulator(dtype)
    bytes_per_position = min(window.tap_count, TAPS) * channels * jnp.dtype(wide).itemsize
    all_blocks = blocks(window, x.shape[0], bytes_per_position, BLOCK)
    dy = dy.reshape(-1, k)

    def sums(start, offsets):
        """The gradient for the taps start + offset, with axes (taps, c, k)."""
        rows, columns = all_blocks.rows(x, start, offsets), len(offsets) * channels

        def product(number):
            # Narrow dtypes are widened here, in the cache: the product would do it in arrays of its own.
            dy_block = all_blocks.once(all_blocks.of(dy, number), number).astype(wide)
            x_block = made_apart(lambda number: rows(number).astype(wide), number).reshape(all_blocks.positions, -1)
            dy_block = lax.optimization_barrier(dy_block.T)
            return _dot(dy_block, x_block, 0, precision, wide)

        dw = all_blocks.total(product, (k, columns), wide, x, dy)
        return dw.T.reshape(len(offsets), channels, k)

    return over_taps(sums, window, TAPS).astype(dtype)


def _dot(a, b, axis, precision, dtype):
    """The product of two matrices, summed over this axis of b."""
    contracted = (((1,), (axis,)), ((), ()))
    return lax.dot_general(a, b, contracted, precision=precision, preferred_element_type=dtype)
