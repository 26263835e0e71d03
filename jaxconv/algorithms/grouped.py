"""A grouped convolution as dense ones, one for several groups that stand side by side, in a loop. For CPUs.

Groups of few channels are merged until a block of them has `WIDTH` channels, its kernel block-diagonal:

    w'[i, (g,c), (h,k)] = w[i,c,(g,k)] · [g = h]

which multiplies some zeros, but makes products that a CPU's library is fast at; the diagonal blocks of the dense kernel
gradient are the grouped one. (An infinity or a NaN in one channel therefore becomes a NaN in the other channels of its
block, as it does in XLA:CPU's own grouped convolution.)

Why not lax's own form: XLA:CPU's grouped kernel gradient is a loop nest. Figures in experiments/README.md.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.apart import apart
from jaxconv.algorithms.blocks import loop, zeros

# Channels, on the narrower side, that a block of merged groups has at least.
WIDTH = 16


@apart
def conv(x, w, window, groups, precision, dtype, dense):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]."""
    merged = _merged(w.shape[-2], w.shape[-1] // groups, groups)
    return _over_blocks(
        lambda x, w: dense(x, _block_diagonal(w, merged), window, 1, precision, dtype),
        groups // merged,
        (x.shape[0], *window.output_size, w.shape[-1]),
        dtype,
        x,
        w,
    )


@apart
def input_grad(dy, w, window, groups, precision, dtype, dense):
    """(2) dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]."""
    merged = _merged(w.shape[-2], w.shape[-1] // groups, groups)
    return _over_blocks(
        lambda dy, w: dense(dy, _block_diagonal(w, merged), window, 1, precision, dtype),
        groups // merged,
        (dy.shape[0], *window.input_size, w.shape[-2] * groups),
        dtype,
        dy,
        w,
    )


@apart
def kernel_grad(x, dy, window, groups, precision, dtype, dense):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    merged = _merged(x.shape[-1] // groups, dy.shape[-1] // groups, groups)
    return _over_blocks(
        lambda x, dy: _diagonal(dense(x, dy, window, 1, precision, dtype), merged),
        groups // merged,
        (*window.window_size, x.shape[-1] // groups, dy.shape[-1]),
        dtype,
        x,
        dy,
    )


def _merged(inputs, outputs, groups):
    """How many groups make a block."""
    return min(
        (n for n in range(1, groups + 1) if groups % n == 0 and n * min(inputs, outputs) >= WIDTH), default=groups
    )


def _over_blocks(function, count, shape, dtype, a, b):
    """function(a, b), of this shape and dtype, for `count` equal parts of all last axes: one part at a time.

    Written out side by side, they take as long, but four times as much memory and time to compile.
    """
    if count == 1:
        return function(a, b)

    def starts(z, number):
        return (*[np.int32(0)] * (z.ndim - 1), lax.mul(number, np.int32(z.shape[-1] // count)))

    def part(z, number):
        sizes = (*z.shape[:-1], z.shape[-1] // count)
        return lax.dynamic_slice(z, starts(z, number), sizes, allow_negative_indices=False)

    def put(number, y):
        block = function(part(a, number), part(b, number))
        return lax.dynamic_update_slice(y, block, starts(y, number), allow_negative_indices=False)

    return loop(put, zeros(shape, dtype, a, b), count)


def _block_diagonal(w, merged):
    """(*R, C/G, G'·K/G) with G' merged groups as the dense kernel (*R, G'·C/G, G'·K/G)."""
    *kernel, inputs, outputs = w.shape
    ndim = len(kernel)
    shape = (*kernel, merged, inputs, merged, outputs // merged)
    w = w.reshape(*kernel, inputs, merged, outputs // merged)
    w = lax.broadcast_in_dim(w, shape, (*range(ndim), ndim + 1, ndim + 2, ndim + 3))
    own = lax.broadcast_in_dim(np.eye(merged, dtype=bool), shape, (ndim, ndim + 2))
    return lax.select(own, w, lax.full_like(w, 0)).reshape(*kernel, merged * inputs, outputs)


def _diagonal(dw, merged):
    """The other way round: the diagonal blocks of the dense kernel gradient."""
    *kernel, inputs, outputs = dw.shape
    dw = dw.reshape(*kernel, merged, inputs // merged, merged, outputs // merged)
    blocks = [dw[..., g, :, g, :] for g in range(merged)]
    return jnp.stack(blocks, -2).reshape(*kernel, inputs // merged, outputs)
