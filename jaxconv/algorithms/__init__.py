"""How each contraction is computed: one module is one algorithm, and this file is where one is chosen.

Every algorithm takes x as (N, *spatial, C), w as (*kernel, C/groups, K), dy as (N, *output, K) and a
`geometry.Window`. The convolution algorithms have the functions `conv`, `input_grad` and `kernel_grad`, or those of
them that they are for:

    reference   sums over taps, transcribed from the formulas: the oracle of the tests, and the one for any dimension
    xla         lax convolutions with the adjoint paddings: what the hardware's library is made for
    cpu         the choice among the following on a CPU, by geometry:
    depthwise   elementwise multiply-adds over shifted views, for one input channel per group
    grouped     dense convolutions of several groups at once, for other groups
    products    a matrix product, for windows with one tap
    im2col      matrix products over all taps side by side, a block of positions at a time
    few         kernel gradients in the same way, for few channels on one side
    canonical   kernel gradients as xla's, with the axes in the order of the CPU's library
    col2im      input gradients with a stride, or of few channels: a matrix product, its rows added up where they meet
    phases      the same as a convolution to every phase of the stride at once

and the pooling algorithms `extremum`, `soft_maximum`, `window_sum`, and the `_grad` of each:

    reference   as above
    taps        elementwise over shifted views; the backward of max pooling works from a byte per output
    adaptive    the same for windows of unequal size: `adaptive_sum`, `adaptive_extremum` and its `_grad`
    gathers     the sums, `extremum_value` and `extremum_grad` from gathered pixels, for few taps on a CPU

Windows laid out as rows, and the adjoint, are `patches` and `fold`, of the module patches.

On a CPU, most of them are computed `apart`: in a call of their own, so that what they need in between takes memory only
while they run.

The padding kinds that repeat the input's values are the same for all of them: `border` makes the longer input before,
and the adjoint of that after. It is here, so that no rule and no algorithm knows of it.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import varying_alike
from jaxconv._layout import divided, is_uniform
from jaxconv.algorithms import adaptive, border, cpu, gathers, reference, taps, xla
from jaxconv.algorithms import patches as patches_
from jaxconv.algorithms.apart import made_apart, made_apart_on_cpu
from jaxconv.algorithms.blocks import in_parts
from jaxconv.algorithms.dtypes import accumulator, tap_dtype

__all__ = [
    "adaptive_extremum",
    "adaptive_extremum_grad",
    "adaptive_extremum_value",
    "adaptive_sum",
    "conv",
    "extremum",
    "extremum_grad",
    "extremum_value",
    "fold",
    "input_grad",
    "kernel_grad",
    "patches",
    "soft_maximum",
    "soft_maximum_grad",
    "window_sum",
    "window_sum_grad",
]


def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k], as an array of this dtype."""
    if not (x.size and w.size):  # a sum over nothing
        return _zeros((x.shape[0], *window.output_size, w.shape[-1]), dtype, x, w)
    return _contract("conv", border.extend(x, window.borders), w, window, groups, precision, dtype)


def input_grad(dy, w, window, groups, precision, dtype):
    """(2) dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k], as an array of this dtype."""
    shape = (dy.shape[0], *window.own_size, w.shape[-2] * groups)
    if not (dy.size and w.size and 0 not in shape):
        return _zeros(shape, dtype, dy, w)
    if not window.borders:
        return _contract("input_grad", dy, w, window, groups, precision, dtype)
    dx = _contract("input_grad", dy, w, window, groups, precision, accumulator(dtype))
    return border.reduce(dx, window.borders).astype(dtype)


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k], as an array of this dtype."""
    if not (x.size and dy.size):
        return _zeros((*window.window_size, x.shape[-1] // max(1, groups), dy.shape[-1]), dtype, x, dy)
    return _contract("kernel_grad", border.extend(x, window.borders), dy, window, groups, precision, dtype)


def _zeros(shape, dtype, *like):
    """Zeros that vary over the mesh axes that these arrays vary over."""
    return varying_alike(jnp.zeros(shape, dtype), *like)[0]


def _contract(*arguments):
    """The choice, traced once for a rule's primal and its forward rule, which JAX traces after one another."""
    # They differ in this: no mesh, and an empty one.
    with jax.sharding.use_abstract_mesh(jax.sharding.get_abstract_mesh()):
        return _chosen(*arguments)


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5, 6), inline=True)
def _chosen(form, a, b, window, groups, precision, dtype):
    """Platform -> algorithm, per form. On GPUs and TPUs, unmeasured, the library's own convolutions."""

    def computed_by(module):
        return lambda a, b: getattr(module, form)(a, b, window, groups, precision, dtype)

    # cuDNN and the TPU have no convolution over more than three spatial axes.
    other = xla if window.ndim <= 3 else reference
    if other is xla and cpu.algorithm(form, a, b, window, groups) is getattr(xla, form):
        # For every platform: inside the choice, XLA:CPU would not see that the derivative of a convolution is one that
        # its library has, once its axes are transposed.
        return computed_by(xla)(a, b)
    return lax.platform_dependent(a, b, cpu=computed_by(cpu), default=computed_by(other))


def _pooled(computed_by, window, *arrays, cut=False):
    """The choice for pooling: gathered pixels on CPUs, where they suit the window; shifted views elsewhere."""
    by_taps = computed_by(taps)
    if cut:
        by_taps = lambda x: in_parts(computed_by(taps), x, window)  # noqa: E731
    # An empty array has no pixel to gather.
    if 0 in arrays[0].shape or not gathers.suits(window, arrays[0].shape[-1]):
        return by_taps(*arrays)
    # Apart, as XLA does not fuse gathers with what reads them more than once: every term would be an array instead.
    by_gathers = functools.partial(made_apart, computed_by(gathers))
    return lax.platform_dependent(*arrays, cpu=by_gathers, default=by_taps)


def extremum(x, window, largest):
    """y[n,p,c] = max_i x[n, s·p + d·i − l, c] (or min), and the first tap, in row-major order, that attains it."""
    if 0 in window.output_size:
        shape = (x.shape[0], *window.output_size, x.shape[-1])
        return _zeros(shape, x.dtype, x), _zeros(shape, tap_dtype(window), x)
    x = border.extend(x, window.borders)
    # Apart, or XLA:CPU makes the taps when the backward pass comes to them, and keeps x until then.
    return made_apart_on_cpu(lambda x: in_parts(lambda x: taps.extremum(x, window, largest), x, window), x)


def extremum_value(x, window, largest):
    """The y of `extremum` alone, for when no gradient is wanted."""
    if 0 in window.output_size:
        return extremum(x, window, largest)[0]
    x = border.extend(x, window.borders)
    return _pooled(lambda module: lambda x: module.extremum_value(x, window, largest), window, x, cut=True)


def extremum_grad(dy, tap, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] · [tap[n,p,c] = i]."""
    if not dy.size:
        return _zeros((dy.shape[0], *window.own_size, dy.shape[-1]), dy.dtype, dy)
    computed_by = lambda module: lambda dy, tap: module.extremum_grad(dy, tap, window)  # noqa: E731
    return _reduced(lambda dy: _pooled(computed_by, window, dy, tap), dy, window)


def soft_maximum(x, window, share, padding, least):
    """m[n,p,c] = max_i x[n,u,c] at u = s·p + d·i − l; r[n,p,c] = sum_i share(x[n,u,c], m[n,p,c]) but for the largest.

    share(a, b) is an elementwise function for a <= b, 1 where they are equal. The padding's value and smaller ones than
    least have a share of 0 in every other element; where there is nothing else, m is least and r is −1.
    """
    if 0 in window.output_size:
        zeros = _zeros((x.shape[0], *window.output_size, x.shape[-1]), x.dtype, x)
        return zeros, zeros
    return taps.soft_maximum(border.extend(x, window.borders), window, share, padding, least)


def soft_maximum_grad(dy, x, y, window, weight, padding, absent):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} weight(x[n,u,c], y[n,p,c]) · dy[n,p,c].

    weight is elementwise, and 0 where x is the padding's value or y is `absent`, as it is of windows that do not exist.
    """
    if not dy.size:
        return _zeros((dy.shape[0], *window.own_size, dy.shape[-1]), dy.dtype, dy)
    x = border.extend(x, window.borders)
    return _reduced(lambda dy: taps.soft_maximum_grad(dy, x, y, window, weight, padding, absent), dy, window)


def window_sum(x, window, m=None):
    """y[n,p,c] = (1/m[p]) · sum_i x[n, s·p + d·i − l, c], m of all positions; 1 where it is None."""
    if not x.size:
        return _zeros((x.shape[0], *window.output_size, x.shape[-1]), x.dtype, x)

    def computed_by(module):
        return lambda x: divided(module.window_sum(x, window), m).astype(x.dtype)

    return _pooled(computed_by, window, border.extend(x, window.borders), cut=True)


def window_sum_grad(dy, window, m=None):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] / m[p]."""
    if not dy.size:
        return _zeros((dy.shape[0], *window.own_size, dy.shape[-1]), dy.dtype, dy)

    def computed_by(module):
        # One number for all windows divides the sum: nothing to make before it.
        if is_uniform(m):
            return lambda dy: divided(module.window_sum_grad(dy, window), m).astype(dy.dtype)
        wide = accumulator(dy.dtype)
        return lambda dy: module.window_sum_grad(divided(dy.astype(wide), m), window).astype(dy.dtype)

    return _reduced(lambda dy: _pooled(computed_by, window, dy), dy, window)


def patches(x, window):
    """rows[n, p, i, c] = x[n, s·p + d·i − l, c], every tap of every window, as (N, *output, R, C)."""
    if not x.size:
        return _zeros((x.shape[0], *window.output_size, window.tap_count, x.shape[-1]), x.dtype, x)
    return patches_.patches(border.extend(x, window.borders), window)


def fold(rows, window):
    """x[n,u,c] = sum_{p,i : s·p + d·i − l = u} rows[n, p, i, c], the adjoint of patches."""
    if not rows.size:
        return _zeros((rows.shape[0], *window.own_size, rows.shape[-1]), rows.dtype, rows)
    x = patches_.fold(rows.astype(accumulator(rows.dtype)), window)
    return border.reduce(x, window.borders).astype(rows.dtype)


def _reduced(gradient, dy, window):
    """The gradient of the window's input, brought back through the borders; the ends are added before it is rounded."""
    if not window.borders:
        return gradient(dy)
    return border.reduce(gradient(dy.astype(accumulator(dy.dtype))), window.borders).astype(dy.dtype)


def adaptive_sum(x, window):
    """y[n,p,c] = sum_{u in window p} x[n,u,c], for an `AdaptiveWindow`; its adjoint is that of window.transposed."""
    if not x.size:
        return _zeros((x.shape[0], *window.output_size, x.shape[-1]), x.dtype, x)
    return adaptive.adaptive_sum(x, window)


def adaptive_extremum(x, window, largest):
    """y[n,p,c] = max_{u in window p} x[n,u,c] (or min), and the first tap, in row-major order, that attains it."""
    if not x.size:
        shape = (x.shape[0], *window.output_size, x.shape[-1])
        return _zeros(shape, x.dtype, x), _zeros(shape, tap_dtype(window), x)
    return adaptive.adaptive_extremum(x, window, largest)


def adaptive_extremum_value(x, window, largest):
    """The y of `adaptive_extremum` alone, for when no gradient is wanted."""
    if not x.size:
        return _zeros((x.shape[0], *window.output_size, x.shape[-1]), x.dtype, x)
    return adaptive.adaptive_extremum_value(x, window, largest)


def adaptive_extremum_grad(dy, tap, window):
    """dx[n,u,c] = sum_{p : u in window p} dy[n,p,c] · [tap[n,p,c] is at u]."""
    if not dy.size:
        return _zeros((dy.shape[0], *window.input_size, dy.shape[-1]), dy.dtype, dy)
    return adaptive.adaptive_extremum_grad(dy, tap, window)
