"""The kernel gradient as matrix products over all taps side by side, a block of positions at a time.

With X the (positions x taps·C) matrix of what the windows of a block read,

    dW = sum X^T · dY          [R·C x m] · [m x K] -> [R·C x K], over all blocks

A whole batch at once loses: it is R times as large as x, and memory costs more than the arithmetic. A product that sums
over both leading axes runs at half the speed of one over neighbouring axes, so one of the two is transposed: dY as a
rule, but with few channels X^T is made as it is, with positions, not channels, next to each other. For CPUs and
groups = 1. Figures in experiments/README.md.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import varying_alike
from jaxconv.algorithms.blocks import blocks
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.algorithms.views import over_taps

# Up to this many channels X is made transposed.
FEW = 4
# Taps side by side at most; more make several passes.
TAPS = 64
# Bytes of X, and of X made transposed.
BLOCK, BLOCK_FEW = 1 << 22, 1 << 20


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    assert groups == 1
    (channels, k), wide = (x.shape[-1], dy.shape[-1]), accumulator(dtype)
    few = channels <= FEW
    bytes_per_position = min(window.tap_count, TAPS) * channels * jnp.dtype(wide).itemsize
    all_blocks = blocks(window, x.shape[0], bytes_per_position, BLOCK_FEW if few else BLOCK)
    x = all_blocks.prepared(x)
    if few:
        x = jnp.moveaxis(x, -1, 0)[..., None]  # a batch of inputs with one channel each

    def sums(start, offsets):
        """The gradient for the taps start + offset, with axes (taps, c, k)."""

        def taps_of(x, number):
            # Narrow dtypes are widened here, in the cache: the product would do it at every tap, in arrays of its own.
            block = all_blocks.input(x, number).astype(wide)
            return [all_blocks.once(all_blocks.tap(block, start, offset), number) for offset in offsets]

        def product(number):
            dy_rows = all_blocks.once(all_blocks.output(dy, number), number).reshape(-1, k).astype(wide)
            if few:
                views = jax.vmap(lambda x: taps_of(x, number))(x)
                a, b = jnp.stack(views).reshape(columns, -1), dy_rows
            else:
                a, b = lax.optimization_barrier(dy_rows.T), jnp.concatenate(taps_of(x, number), -1)
                b = b.reshape(-1, columns)
            return lax.dot_general(a, b, (((1,), (0,)), ((), ())), precision=precision, preferred_element_type=wide)

        columns = len(offsets) * channels
        if all_blocks.count == 1:
            dw = product(0)
        else:
            zeros = varying_alike(jnp.zeros((columns, k) if few else (k, columns), wide), x, dy)[0]
            dw, _ = lax.scan(lambda dw, number: (dw + product(number), None), zeros, all_blocks.numbers)
        return (dw if few else dw.T).reshape(len(offsets), channels, k)

    return over_taps(sums, window, TAPS).astype(dtype)
