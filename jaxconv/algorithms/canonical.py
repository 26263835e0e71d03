"""The kernel gradient as one lax convolution with its axes in the order that XLA:CPU's library takes.

The convolution is that of `xla.kernel_grad`, x's batch as its channels, but transposed by hand to (batch, spatial,
channels) and (spatial, in, out). Left to XLA, that reordering does not happen inside a while loop, and the convolution
runs ten times slower there; elsewhere it is as fast as XLA's own. For CPUs, where rows.py does not win. Figures in
experiments/README.md.
"""

from jax import lax

from jaxconv.algorithms import xla


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    spatial = range(1, window.ndim + 1)
    x, padding = xla.without_crop(x, window.kernel_grad_padding)
    dw = lax.conv_general_dilated(
        x.transpose(window.ndim + 1, *spatial, 0),  # (C, *input, N)
        dy.transpose(*spatial, 0, window.ndim + 1),  # (*output, N, K)
        window.dilation,
        padding,
        rhs_dilation=window.strides,
        dimension_numbers=xla.dimension_numbers(window.ndim),
        batch_group_count=groups,  # correct for any, though chosen for 1 alone
        precision=precision,
        preferred_element_type=dtype,
    )
    return dw.transpose(*spatial, 0, window.ndim + 1)  # (C/G, *kernel, K) -> (*kernel, C/G, K)
