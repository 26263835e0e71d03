"""Convolution and its kernel gradient as matrix products over all taps side by side, a block of positions at a time.

With X the (positions x taps·C) matrix of what the windows of a block read:

    conv           Y  = X · W              [m x R·C] · [R·C x K] -> [m x K]
    kernel_grad    dW = sum X^T · dY       [R·C x m] · [m x K] -> [R·C x K], over all blocks

X for a whole batch at once loses: it is R times as large as x. For CPUs and groups = 1. Figures in experiments/README.md.
"""

import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import varying_alike
from jaxconv.algorithms.blocks import blocks
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.algorithms.views import padded

# Bytes of X.
BLOCK = 1 << 22


def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]."""
    assert groups == 1
    all_blocks, matrix = _matrix(x, window)
    k = w.shape[-1]
    w = w.reshape(-1, k)

    def put(y, number):
        product = lax.dot_general(
            matrix(number).reshape(-1, w.shape[0]), w, (((1,), (0,)), ((), ())), precision=precision, preferred_element_type=dtype
        )
        return all_blocks.put(y, product.reshape(all_blocks.images, *all_blocks.positions, k), number), None

    y = varying_alike(jnp.zeros((x.shape[0], *window.output_size, k), dtype), x, w)[0]
    return lax.scan(put, y, all_blocks.numbers)[0]


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    assert groups == 1
    all_blocks, matrix = _matrix(x, window)
    wide = accumulator(dtype)

    def add(dw, number):
        pair = [all_blocks.once(a, number) for a in (matrix(number), all_blocks.output(dy, number))]
        x_rows, dy_rows = (a.reshape(-1, a.shape[-1]) for a in pair)
        # The smaller one transposed as an array of its own: a product over both leading axes runs at half the speed.
        dy_columns = lax.optimization_barrier(dy_rows.T)
        product = lax.dot_general(
            dy_columns, x_rows, (((1,), (0,)), ((), ())), precision=precision, preferred_element_type=wide
        )
        return dw + product, None

    dw = jnp.zeros((dy.shape[-1], window.tap_count * x.shape[-1]), wide)
    dw, _ = lax.scan(add, varying_alike(dw, x, dy)[0], all_blocks.numbers)
    return dw.T.reshape(*window.window_size, x.shape[-1], dy.shape[-1]).astype(dtype)


def _matrix(x, window):
    """The blocks, and a function from a block's number to its matrix X."""
    all_blocks = blocks(window, x.shape[0], window.tap_count * x.shape[-1] * x.dtype.itemsize, BLOCK)
    x = padded(x, window, 0)

    def matrix(number):
        block = all_blocks.input(x, number)
        views = [all_blocks.tap(block, tap, (0,) * window.ndim) for tap in window.taps()]
        return jnp.concatenate(views, -1)

    return all_blocks, matrix
