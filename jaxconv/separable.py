"""Depthwise and depthwise-separable convolution: every channel its own kernels, then a product over the channels.

Per spatial axis, with stride s, kernel dilation d, low padding l and M kernels per channel:

    depthwise   z[n,p,c,m] = sum_i x[n, s·p + d·i − l, c] · w[i,c,m]
    separable   y[n,p,k]   = sum_{c,m} z[n,p,c,m] · v[c,m,k]

The first is `conv` with as many groups as channels, its kernel (*kernel, 1, C·M) being w with two axes merged; its rule
is conv's (derived at the top of conv.py). The second puts a matrix product behind it.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import float_arrays, result_dtype
from jaxconv._forms import Call, bias_grad, conv_form, input_grad_form, kernel_grad_form, plus_bias
from jaxconv.geometry import DataFormat, Padding, conv_window, kernel_spatial_ndim, layout_of

__all__ = ["depthwise_conv", "separable_conv"]


def _merged(w):
    """(*kernel, C, M) as the kernel of a grouped convolution, (*kernel, 1, C·M)."""
    return w.reshape(*w.shape[:-2], 1, w.shape[-2] * w.shape[-1])


# --- depthwise_conv ---


def _depthwise_conv_primal(call: Call, x, w, b):
    return plus_bias(call, conv_form(call, x, _merged(w), call.dtype), b)


_depthwise_conv = jax.custom_vjp(_depthwise_conv_primal, nondiff_argnums=(0,))


def _depthwise_conv_fwd(call: Call, x, w, b):
    return _depthwise_conv_primal(call, x, w, b), (x, w, None if b is None else ())


def _depthwise_conv_bwd(call: Call, saved, dy):
    # Only channel c reads its own M kernels, so that no sum goes over channels:
    #   dx[n,u,c] = sum_{p,i,m : s·p + d·i − l = u} w[i,c,m] · dy[n,p,c,m]
    #   dw[i,c,m] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,c,m]
    #   db[c,m]   = sum_{n,p} dy[n,p,c,m]
    x, w, bias = saved
    db = None if bias is None else bias_grad(call, dy, x.dtype)
    dy = dy.astype(x.dtype)  # with a wider preferred_element_type: the products stay in the operands' dtype
    dx = input_grad_form(call, dy, _merged(w), x.dtype)
    return dx, kernel_grad_form(call, x, dy, w.dtype).reshape(w.shape), db


_depthwise_conv.defvjp(_depthwise_conv_fwd, _depthwise_conv_bwd)
_depthwise_conv_jit = jax.jit(_depthwise_conv, static_argnums=0)


def depthwise_conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    flip_kernel: bool = False,
    data_format: DataFormat = "channels_last",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """Depthwise convolution: every channel is convolved with M kernels of its own.

    Formula, per spatial axis, with stride s, dilation d and low padding l; y[n,p,c,m] stands in channel c·M + m:

        y[n,p,c,m] = sum_i x[n, s·p + d·i − l, c] · w[i,c,m] + b[c,m]
    Gradient:
        dx[n,u,c] = sum_{p,i,m : s·p + d·i − l = u} w[i,c,m] · dy[n,p,c,m]
        dw[i,c,m] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,c,m]
        db[c,m]   = sum_{n,p} dy[n,p,c,m]

    It is `conv` with groups=C and the kernel w.reshape(*kernel, 1, C·M).

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        w: (*kernel, C, M).
        b: (C·M,), or None.
        strides: s, as in `conv`, like all that follow.
        padding: as in `conv`.
        dilation: as in `conv`.
        flip_kernel: as in `conv`.
        data_format: as in `conv`.
        precision: as in `conv`.
        preferred_element_type: as in `conv`.

    Returns:
        y, (*batch, *output, C·M) or (*batch, C·M, *output), of x's dtype or preferred_element_type.

    Raises:
        ValueError, TypeError: as in `conv`.

    Saved for the backward: x and w themselves; nothing is copied.

    Reference: L. Sifre, S. Mallat, Rigid-motion scattering for texture classification, arXiv:1403.1687; F. Chollet,
    Xception: deep learning with depthwise separable convolutions, arXiv:1610.02357.

    Example:
        >>> depthwise_conv(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 2)), padding="SAME").shape
        (2, 8, 8, 6)
    """
    x, w, b = float_arrays(x=x, w=w, b=b)
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    call = _prepare(x, w, options, flip_kernel, data_format, precision, preferred_element_type)
    _check_bias(b, w.shape[-2] * w.shape[-1])
    return _depthwise_conv_jit(call, x, w, b)


# --- separable_conv ---


def _separable_conv_primal(call: Call, x, w, v, b):
    return _separable_conv_fwd(call, x, w, v, b)[0]


_separable_conv = jax.custom_vjp(_separable_conv_primal, nondiff_argnums=(0,))


def _separable_conv_fwd(call: Call, x, w, v, b):
    z = conv_form(call, x, _merged(w), x.dtype)
    y = _over_channels(call, z, v, contracted=0, dtype=call.dtype)
    return plus_bias(call, y, b), (x, w, v, z, None if b is None else ())


def _separable_conv_bwd(call: Call, saved, dy):
    # y[n,p,k] = sum_j z[n,p,j]·v[j,k] + b[k], j = (c, m), and z = depthwise(x, w):
    #   dz[n,p,j] = sum_k dy[n,p,k]·v[j,k]
    #   dv[j,k]   = sum_{n,p} z[n,p,j]·dy[n,p,k]
    #   dx and dw as in depthwise_conv, from dz
    x, w, v, z, bias = saved
    db = None if bias is None else bias_grad(call, dy, x.dtype)
    dy = dy.astype(x.dtype)
    dz = _over_channels(call, dy, v, contracted=1, dtype=x.dtype)
    axis = call.layout.channel_axis(dy.ndim)
    others = [a for a in range(dy.ndim) if a != axis]
    # [N·P x C·M]ᵀ · [N·P x K] -> [C·M x K]
    dv = lax.dot_general(z, dy, ((others, others), ((), ())), call.precision, v.dtype)
    dx = input_grad_form(call, dz, _merged(w), x.dtype)
    return dx, kernel_grad_form(call, x, dz, w.dtype).reshape(w.shape), dv, db


def _over_channels(call: Call, a, v, contracted: int, dtype):
    """The channels of a contracted with one axis of v, whose other axis takes their place."""
    axis = call.layout.channel_axis(a.ndim)
    y = lax.dot_general(a, v, (((axis,), (contracted,)), ((), ())), call.precision, dtype)  # [.. x J] · [J x K]
    return jnp.moveaxis(y, -1, axis)


_separable_conv.defvjp(_separable_conv_fwd, _separable_conv_bwd)
_separable_conv_jit = jax.jit(_separable_conv, static_argnums=0)


def separable_conv(
    x: jax.Array,
    w: jax.Array,
    v: jax.Array,
    b: jax.Array | None = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    flip_kernel: bool = False,
    data_format: DataFormat = "channels_last",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """Depthwise-separable convolution: `depthwise_conv`, then a product over the channels (a 1x1 convolution).

    Formula, per spatial axis, with stride s, dilation d and low padding l:

        z[n,p,c,m] = sum_i x[n, s·p + d·i − l, c] · w[i,c,m]
        y[n,p,k] = sum_{c,m} z[n,p,c,m] · v[c·M + m, k] + b[k]
    Gradient:
        dz[n,p,c,m]   = sum_k dy[n,p,k] · v[c·M + m, k]
        dv[c·M + m,k] = sum_{n,p} z[n,p,c,m] · dy[n,p,k]
        dx[n,u,c] = sum_{p,i,m : s·p + d·i − l = u} w[i,c,m] · dz[n,p,c,m]
        dw[i,c,m] = sum_{n,p} x[n, s·p + d·i − l, c] · dz[n,p,c,m]
        db[k]     = sum_{n,p} dy[n,p,k]

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        w: (*kernel, C, M), the depthwise kernels.
        v: (C·M, K), the pointwise kernel.
        b: (K,), or None.
        strides: s, of the depthwise part; as in `conv`, like all that follow.
        padding: as in `conv`.
        dilation: as in `conv`.
        flip_kernel: as in `conv`.
        data_format: as in `conv`.
        precision: as in `conv`.
        preferred_element_type: the dtype of y, and of the sum over the channels; not narrower than that of x.

    Returns:
        y, (*batch, *output, K) or (*batch, K, *output), of x's dtype or preferred_element_type; z is of x's dtype.

    Raises:
        ValueError: shapes that do not fit, and as in `conv`. TypeError: as in `conv`.

    Saved for the backward: x, w and v themselves, and z.

    Reference: F. Chollet, Xception: deep learning with depthwise separable convolutions, arXiv:1610.02357.

    Example:
        >>> separable_conv(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 1)), jnp.ones((3, 16)), padding="SAME").shape
        (2, 8, 8, 16)
    """
    x, w, v, b = float_arrays(x=x, w=w, v=v, b=b)
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    call = _prepare(x, w, options, flip_kernel, data_format, precision, preferred_element_type)
    if v.ndim != 2 or v.shape[0] != w.shape[-2] * w.shape[-1]:
        raise ValueError(
            f"v: got shape {v.shape}, expected (C·M, K) with C·M = {w.shape[-2]}·{w.shape[-1]}, for w {w.shape}"
        )
    _check_bias(b, v.shape[-1])
    return _separable_conv_jit(call, x, w, v, b)


def _check_bias(b, outputs: int) -> None:
    if b is not None and b.shape != (outputs,):
        raise ValueError(f"b: got shape {b.shape}, expected ({outputs},), one per output channel")


def _prepare(x, w, options, flip_kernel, data_format, precision, preferred_element_type) -> Call:
    layout = layout_of("x", x.shape, kernel_spatial_ndim(w.shape), data_format)
    _, input_size, channels = layout.split(x.shape)
    if w.shape[-2] != channels:
        raise ValueError(
            f"w: got shape {w.shape}, expected (*kernel, C, M) with C = {channels}, the channels of x {x.shape}"
        )
    window = conv_window(input_size, w.shape[:-2], name="w", **options)
    dtype = result_dtype(preferred_element_type, x.dtype)
    return Call(window, channels, flip_kernel, layout, precision, dtype)
