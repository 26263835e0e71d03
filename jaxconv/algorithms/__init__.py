"""How each contraction is computed: one module is one algorithm, and this file is where one is chosen.

Every algorithm takes x as (N, *spatial, C), w as (*kernel, C/groups, K), dy as (N, *output, K) and a
`geometry.Window`. The convolution algorithms have the functions `conv`, `input_grad` and `kernel_grad`:

    reference   sums over taps, transcribed from the formulas: the oracle of the tests, and the one for any dimension
    xla         lax convolutions with the adjoint paddings: what the hardware's library is made for
    rows        the kernel gradient alone, as one matrix product per row of taps: for CPUs
    canonical   the kernel gradient alone, as xla's with its axes in the order of the CPU's library: for CPUs, 1-D

and the pooling algorithms `extremum`, `extremum_grad`, `window_sum` and `window_sum_grad`:

    reference   as above
    taps        elementwise over shifted views; the backward of max pooling works from a byte per output
"""

import jax.numpy as jnp
from jax import lax

from jaxconv.algorithms import canonical, reference, rows, taps, xla

__all__ = [
    "conv",
    "extremum",
    "extremum_grad",
    "extremum_value",
    "input_grad",
    "kernel_grad",
    "window_sum",
    "window_sum_grad",
]


def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k], as an array of this dtype."""
    if not (x.size and w.size):  # a sum over nothing
        return jnp.zeros((x.shape[0], *window.output_size, w.shape[-1]), dtype)
    return _contract("conv", x, w, window, groups, precision, dtype)


def input_grad(dy, w, window, groups, precision, dtype):
    """(2) dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k], as an array of this dtype."""
    shape = (dy.shape[0], *window.input_size, w.shape[-2] * groups)
    if not (dy.size and w.size and 0 not in shape):
        return jnp.zeros(shape, dtype)
    return _contract("input_grad", dy, w, window, groups, precision, dtype)


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k], as an array of this dtype."""
    if not (x.size and dy.size):
        return jnp.zeros((*window.window_size, x.shape[-1] // groups, dy.shape[-1]), dtype)
    return _contract("kernel_grad", x, dy, window, groups, precision, dtype)


def _contract(form, a, b, window, groups, precision, dtype):
    """The choice: platform -> algorithm, per form."""

    def computed_by(module):
        return lambda a, b: getattr(module, form)(a, b, window, groups, precision, dtype)

    cpu = xla
    if form == "kernel_grad":
        cpu = canonical if window.ndim == 1 and groups == 1 else rows
    # cuDNN and the TPU have no convolution over more than three spatial axes.
    other = xla if window.ndim <= 3 else reference
    if cpu is other:
        return computed_by(cpu)(a, b)
    return lax.platform_dependent(a, b, cpu=computed_by(cpu), default=computed_by(other))


extremum = taps.extremum
extremum_value = taps.extremum_value
extremum_grad = taps.extremum_grad
window_sum = taps.window_sum
window_sum_grad = taps.window_sum_grad
