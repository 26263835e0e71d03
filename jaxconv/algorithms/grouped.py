"""A grouped convolution as dense ones, one for several groups that stand side by side. For CPUs.

Groups of few channels are merged until a block of them has `WIDTH` channels, its kernel block-diagonal:

    w'[i, (g,c), (h,k)] = w[i,c,(g,k)] · [g = h]

which multiplies some zeros, but makes products that a CPU's library is fast at; the diagonal blocks of the dense kernel
gradient are the grouped one. (An infinity or a NaN in one channel therefore becomes a NaN in the other channels of its
block, as it does in XLA:CPU's own grouped convolution.)

Why not lax's own form: XLA:CPU's grouped kernel gradient is a loop nest. Figures in experiments/README.md.
"""

import jax.numpy as jnp
from jax import lax

# Channels, on the narrower side, that a block of merged groups is to have, and that more groups are merged up to so as
# to have no more than WRITTEN_OUT blocks; more blocks are a loop.
WIDTH, WIDEST = 16, 32
WRITTEN_OUT = 8


def conv(x, w, window, groups, precision, dtype, dense):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]."""
    merged = _merged(w.shape[-2], w.shape[-1] // groups, groups)
    return _over_blocks(
        lambda x, w: dense(x, _block_diagonal(w, merged), window, 1, precision, dtype), groups // merged, x, w
    )


def input_grad(dy, w, window, groups, precision, dtype, dense):
    """(2) dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]."""
    merged = _merged(w.shape[-2], w.shape[-1] // groups, groups)
    return _over_blocks(
        lambda dy, w: dense(dy, _block_diagonal(w, merged), window, 1, precision, dtype), groups // merged, dy, w
    )


def kernel_grad(x, dy, window, groups, precision, dtype, dense):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    merged = _merged(x.shape[-1] // groups, dy.shape[-1] // groups, groups)
    return _over_blocks(
        lambda x, dy: _diagonal(dense(x, dy, window, 1, precision, dtype), merged), groups // merged, x, dy
    )


def _merged(inputs, outputs, groups):
    """How many groups make a block."""
    wide = {n: n * min(inputs, outputs) for n in range(1, groups + 1) if groups % n == 0}
    enough = [n for n in wide if wide[n] >= WIDTH and (groups // n <= WRITTEN_OUT or wide[n] >= WIDEST)]
    return enough[0] if enough else groups


def _over_blocks(function, count, a, b):
    """function(a, b) for `count` equal parts of both arrays' last axes, put together again."""
    if count <= WRITTEN_OUT:
        parts = zip(*(jnp.split(z, count, axis=-1) for z in (a, b)), strict=True)
        return jnp.concatenate([function(*pair) for pair in parts], -1)
    a, b = (jnp.moveaxis(z.reshape(*z.shape[:-1], count, -1), -2, 0) for z in (a, b))
    y = jnp.moveaxis(lax.map(lambda pair: function(*pair), (a, b)), 0, -2)
    return y.reshape(*y.shape[:-2], -1)


def _block_diagonal(w, merged):
    """(*R, C/G, G'·K/G) with G' merged groups as the dense kernel (*R, G'·C/G, G'·K/G)."""
    *kernel, inputs, outputs = w.shape
    ndim = len(kernel)
    shape = (*kernel, merged, inputs, merged, outputs // merged)
    w = w.reshape(*kernel, inputs, merged, outputs // merged)
    w = lax.broadcast_in_dim(w, shape, (*range(ndim), ndim + 1, ndim + 2, ndim + 3))
    own = lax.broadcast_in_dim(jnp.eye(merged, dtype=bool), shape, (ndim, ndim + 2))
    return jnp.where(own, w, 0).reshape(*kernel, merged * inputs, outputs)


def _diagonal(dw, merged):
    """The other way round: the diagonal blocks of the dense kernel gradient."""
    *kernel, inputs, outputs = dw.shape
    dw = dw.reshape(*kernel, merged, inputs // merged, merged, outputs // merged)
    blocks = [dw[..., g, :, g, :] for g in range(merged)]
    return jnp.stack(blocks, -2).reshape(*kernel, inputs // merged, outputs)
