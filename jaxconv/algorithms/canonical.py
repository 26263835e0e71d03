"""The kernel gradient as lax convolutions with their axes in the order of XLA:CPU's library.

The convolution is that of `xla.kernel_grad`, x's batch as its channels, but transposed by hand to (batch, spatial,
channels) and (spatial, in, out). Left to XLA, that reordering does not happen inside a while loop, and the convolution
runs ten times slower there; elsewhere it is as fast as XLA's own. From some 30,000 terms per sum on it runs at a
fraction of its speed, so the batch is split. For CPUs and groups = 1, where im2col.py does not win. Figures in
experiments/README.md.
"""

import math

import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import varying_alike
from jaxconv.algorithms import xla
from jaxconv.algorithms.apart import apart
from jaxconv.algorithms.dtypes import accumulator

# Terms in one sum.
TERMS = 26_000


@apart
def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    assert groups == 1
    spatial = range(1, window.ndim + 1)
    x, padding = xla.without_crop(x, window.kernel_grad_padding)
    fit = TERMS // math.prod(window.output_size)
    images = max((n for n in range(1, min(x.shape[0], fit) + 1) if x.shape[0] % n == 0), default=x.shape[0])
    if 4 * images < min(x.shape[0], fit):  # few divisors
        images = x.shape[0]

    def part(x, dy):
        return lax.conv_general_dilated(
            x.transpose(window.ndim + 1, *spatial, 0),  # (C, *input, N)
            dy.transpose(*spatial, 0, window.ndim + 1),  # (*output, N, K)
            window.dilation,
            padding,
            rhs_dilation=window.strides,
            dimension_numbers=xla.dimension_numbers(window.ndim),
            precision=precision,
            preferred_element_type=accumulator(dtype),
        )

    if images == x.shape[0]:
        dw = part(x, dy)
    else:
        parts = [a.reshape(-1, images, *a.shape[1:]) for a in (x, dy)]
        zeros = jnp.zeros((x.shape[-1], *window.window_size, dy.shape[-1]), accumulator(dtype))
        zeros = varying_alike(zeros, x, dy)[0]
        dw, _ = lax.scan(lambda dw, pair: (dw + part(*pair), None), zeros, tuple(parts))
    return dw.transpose(*spatial, 0, window.ndim + 1).astype(dtype)  # (C, *kernel, K) -> (*kernel, C, K)
