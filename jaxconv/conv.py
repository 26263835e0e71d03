"""Convolution and its two gradients: one trilinear form, three public ops, each the derivative of the other two.

Per spatial axis, with stride s, kernel dilation d and low padding l (with groups, c runs inside k's group):

    T(x, w, dy) = sum_{n,p,i,c,k} x[n, s·p + d·i − l, c] · w[i,c,k] · dy[n,p,k]

T is linear in each argument, so its partial derivatives are the whole story:

    (1) conv              y[n,p,k]  = dT/d dy = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]
    (2) conv_input_grad   dx[n,u,c] = dT/dx   = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]
    (3) conv_kernel_grad  dw[i,c,k] = dT/dw   = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]

and the derivative of any of the three with respect to one of its arguments is another of the three; `conv_transpose` is
(2) with the input size worked out, and a bias. An input position outside [0, N) counts as zero. Where (2) and (3) come
from: in (1), x[n,u,c] meets w[i,c,k] in the y[n,p,k] with s·p + d·i − l = u and in no other; multiply by dy[n,p,k] and
sum over what u, or i, does not fix.

(2) is a convolution of dy, dilated by s, with w reversed; (3) is one of x with dy, dilated by s, as the kernel. Their
paddings are `geometry.Window.input_grad_padding` and `.kernel_grad_padding`; how they are computed is up to
`jaxconv.algorithms`.
"""

from collections.abc import Sequence
from typing import Any

import jax

from jaxconv._arguments import float_arrays, result_dtype
from jaxconv._forms import Call, bias_grad, conv_form, input_grad_form, kernel_grad_form, plus_bias
from jaxconv.geometry import (
    PYTORCH_KERNEL,
    DataFormat,
    Layout,
    Padding,
    Window,
    check_channels,
    check_groups,
    conv_window,
    kernel_spatial_ndim,
    layout_of,
    per_axis,
    spatial_ndim_of,
    transpose_window,
)

__all__ = ["conv", "conv_input_grad", "conv_kernel_grad", "conv_transpose"]


# --- (1) conv ---


def _conv_primal(call: Call, x, w, b):
    return plus_bias(call, conv_form(call, x, w, call.dtype), b)


_conv = jax.custom_vjp(_conv_primal, nondiff_argnums=(0,))


def _conv_fwd(call: Call, x, w, b):
    return _conv_primal(call, x, w, b), (x, w, None if b is None else ())  # of b, only whether there is one


def _conv_bwd(call: Call, saved, dy):
    # L depends on y[n,p,k] = T's coefficient of dy, plus b[k]:
    #   dx[n,u,c] = dT/dx                     (2)
    #   dw[i,c,k] = dT/dw                     (3)
    #   db[k]     = sum_{n,p} dy[n,p,k]
    x, w, bias = saved
    db = None if bias is None else bias_grad(call, dy, x.dtype)
    dy = dy.astype(x.dtype)  # with a wider preferred_element_type: the products stay in the operands' dtype
    return input_grad_form(call, dy, w, x.dtype), kernel_grad_form(call, x, dy, w.dtype), db


_conv.defvjp(_conv_fwd, _conv_bwd)
_conv_jit = jax.jit(_conv, static_argnums=0)


def conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip_kernel: bool = False,
    data_format: DataFormat = "channels_last",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """Convolution (cross-correlation) over one spatial axis or more.

    Formula, per spatial axis, with stride s, dilation d and low padding l, x counting as zero outside its bounds:

        y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k] + b[k]
        output size O = (N + l + h − d(R−1) − 1)//s + 1
    Gradient:
        dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]
        dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]
        db[k]     = sum_{n,p} dy[n,p,k]

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        w: (*kernel, C/groups, K), whatever the data format; w.ndim − 2 is the number of spatial axes.
        b: (K,), or None.
        strides: s, an int for all spatial axes or one per axis.
        padding: "VALID" (none), "SAME" (output size ceil(N/s), the odd element high), "SAME_LOWER" (the odd element
            low), "FULL" (d(R−1) on both sides), "CAUSAL" (d(R−1), all of it low), an int for both sides, or a sequence
            with one of these or a (low, high) pair per spatial axis. Negative padding crops. "CIRCULAR", "REFLECT",
            "SYMMETRIC" and "REPLICATE" (also per axis) pad with x's own values as in `pad`, (d(R−1)//2, the rest) of
            them whatever the stride, so that the output size is ceil(N/s); the rule has the adjoint of that.
        dilation: d, the spacing of the kernel's taps: an int for all spatial axes or one per axis.
        groups: channels c of x and k of y meet only within the same one of this many equal groups; C makes the
            convolution depthwise.
        flip_kernel: True reverses w on every spatial axis: the true convolution of signal processing.
        data_format: "channels_last" or "channels_first", for x and y.
        precision: as in `jax.lax.conv_general_dilated`, also used by the gradients.
        preferred_element_type: the dtype of y, and of the sum; not narrower than that of x.

    Returns:
        y, (*batch, *output, K) or (*batch, K, *output), of x's dtype or preferred_element_type. Sums of bfloat16 and
        float16 are made in float32.

    Raises:
        ValueError: sizes that do not fit (channels, groups, kernel larger than the padded input), an option out of
            range. TypeError: arguments that are not floating arrays of one dtype.

    Saved for the backward: x and w themselves; nothing is copied. With a wider preferred_element_type, dy is
    rounded to x's dtype before it is multiplied.

    Reference: I. Goodfellow, Y. Bengio, A. Courville, Deep Learning (2016), section 9.5; V. Dumoulin, F. Visin,
    A guide to convolution arithmetic for deep learning, arXiv:1603.07285.

    Example:
        >>> x = jnp.ones((2, 28, 28, 1))
        >>> w = jnp.ones((3, 3, 1, 8))
        >>> conv(x, w, jnp.zeros(8), strides=2, padding="SAME").shape
        (2, 14, 14, 8)
    """
    x, w, b = float_arrays(x=x, w=w, b=b)
    layout = layout_of("x", x.shape, kernel_spatial_ndim(w.shape), data_format)
    _, input_size, _ = layout.split(x.shape)
    groups = check_channels(layout, x.shape, w.shape, groups)
    if b is not None and b.shape != w.shape[-1:]:
        hint = f"; give {PYTORCH_KERNEL}" if b.shape == w.shape[:1] else ""
        raise ValueError(
            f"b: got shape {b.shape}, expected ({w.shape[-1]},), one per output channel of w {w.shape}{hint}"
        )
    window = conv_window(input_size, w.shape[:-2], strides=strides, padding=padding, dilation=dilation, name="w")
    dtype = result_dtype(preferred_element_type, x.dtype)
    return _conv_jit(Call(window, groups, flip_kernel, layout, precision, dtype), x, w, b)


# --- (2) conv_input_grad ---


def _conv_input_grad_primal(call: Call, dy, w):
    return input_grad_form(call, dy, w, call.dtype)


_conv_input_grad = jax.custom_vjp(_conv_input_grad_primal, nondiff_argnums=(0,))


def _conv_input_grad_fwd(call: Call, dy, w):
    return _conv_input_grad_primal(call, dy, w), (dy, w)


def _conv_input_grad_bwd(call: Call, saved, ddx):
    # L depends on dx = dT/dx; its cotangent ddx takes the place of x in T:
    #   ddy[n,p,k] = dT(ddx, w, dy)/d dy      (1)
    #   dw[i,c,k]  = dT(ddx, w, dy)/dw        (3)
    dy, w = saved
    ddx = ddx.astype(dy.dtype)
    return conv_form(call, ddx, w, dy.dtype), kernel_grad_form(call, ddx, dy, w.dtype)


_conv_input_grad.defvjp(_conv_input_grad_fwd, _conv_input_grad_bwd)
_conv_input_grad_jit = jax.jit(_conv_input_grad, static_argnums=0)


def conv_input_grad(
    dy: jax.Array,
    w: jax.Array,
    input_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip_kernel: bool = False,
    data_format: DataFormat = "channels_last",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """The gradient of `conv` with respect to its input, as an op of its own.

    Formula, per spatial axis, with stride s, dilation d and low padding l of the forward convolution:

        dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]
    Gradient, with ddx the cotangent of dx:
        ddy[n,p,k] = sum_{i,c} ddx[n, s·p + d·i − l, c] · w[i,c,k]
        dw[i,c,k]  = sum_{n,p} ddx[n, s·p + d·i − l, c] · dy[n,p,k]

    Args:
        dy: (*batch, *output, K), the cotangent of the convolution's output; (*batch, K, *output) for "channels_first".
        w: (*kernel, C/groups, K), the forward's kernel.
        input_size: the spatial sizes of the forward's input: an int for all axes or one per axis. The output size does
            not determine it when strides are above 1.
        strides: as in `conv`, like all that follow; the options are the forward's.
        padding: as in `conv`.
        dilation: as in `conv`.
        groups: as in `conv`.
        flip_kernel: as in `conv`.
        data_format: as in `conv`, for dy and dx.
        precision: as in `conv`.
        preferred_element_type: the dtype of dx.

    Returns:
        dx, (*batch, *input_size, C) or (*batch, C, *input_size).

    Raises:
        ValueError: dy's sizes are not those of the convolution's output, and as in `conv`. TypeError: as in `conv`.

    Saved for the backward: dy and w themselves.

    Reference: I. Goodfellow, Y. Bengio, A. Courville, Deep Learning (2016), section 9.5.

    Example:
        >>> dy = jnp.ones((2, 14, 14, 8))
        >>> w = jnp.ones((3, 3, 1, 8))
        >>> conv_input_grad(dy, w, 28, strides=2, padding="SAME").shape
        (2, 28, 28, 1)
    """
    dy, w = float_arrays(dy=dy, w=w)
    ndim = kernel_spatial_ndim(w.shape)
    layout = layout_of("dy", dy.shape, ndim, data_format)
    groups = check_groups(groups, output=w.shape[-1])
    window = conv_window(
        per_axis("input_size", input_size, ndim, minimum=0),
        w.shape[:-2],
        strides=strides,
        padding=padding,
        dilation=dilation,
        name="w",
    )
    _check_cotangent(layout, dy.shape, window, w.shape[-1])
    dtype = result_dtype(preferred_element_type, dy.dtype)
    return _conv_input_grad_jit(Call(window, groups, flip_kernel, layout, precision, dtype), dy, w)


# --- (3) conv_kernel_grad ---


def _conv_kernel_grad_primal(call: Call, x, dy):
    return kernel_grad_form(call, x, dy, call.dtype)


_conv_kernel_grad = jax.custom_vjp(_conv_kernel_grad_primal, nondiff_argnums=(0,))


def _conv_kernel_grad_fwd(call: Call, x, dy):
    return _conv_kernel_grad_primal(call, x, dy), (x, dy)


def _conv_kernel_grad_bwd(call: Call, saved, ddw):
    # L depends on dw = dT/dw; its cotangent ddw takes the place of w in T:
    #   dx[n,u,c]  = dT(x, ddw, dy)/dx        (2)
    #   ddy[n,p,k] = dT(x, ddw, dy)/d dy      (1)
    x, dy = saved
    ddw = ddw.astype(x.dtype)
    return input_grad_form(call, dy, ddw, x.dtype), conv_form(call, x, ddw, dy.dtype)


_conv_kernel_grad.defvjp(_conv_kernel_grad_fwd, _conv_kernel_grad_bwd)
_conv_kernel_grad_jit = jax.jit(_conv_kernel_grad, static_argnums=0)


def conv_kernel_grad(
    x: jax.Array,
    dy: jax.Array,
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip_kernel: bool = False,
    data_format: DataFormat = "channels_last",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """The gradient of `conv` with respect to its kernel, as an op of its own.

    Formula, per spatial axis, with stride s, dilation d and low padding l of the forward convolution:

        dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]
    Gradient, with ddw the cotangent of dw:
        dx[n,u,c]  = sum_{p,i,k : s·p + d·i − l = u} ddw[i,c,k] · dy[n,p,k]
        ddy[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · ddw[i,c,k]

    Args:
        x: (*batch, *spatial, C), the forward's input; (*batch, C, *spatial) for "channels_first".
        dy: (*batch, *output, K), the cotangent of the convolution's output; (*batch, K, *output) for "channels_first".
        kernel_size: the spatial sizes of the kernel, one per spatial axis; an int stands for all axes of x but the
            first (batch) and the channels. The sizes of x and dy do not determine it when strides are above 1.
        strides: as in `conv`, like all that follow; the options are the forward's.
        padding: as in `conv`.
        dilation: as in `conv`.
        groups: as in `conv`.
        flip_kernel: as in `conv`.
        data_format: as in `conv`, for x and dy.
        precision: as in `conv`.
        preferred_element_type: the dtype of dw.

    Returns:
        dw, (*kernel_size, C/groups, K).

    Raises:
        ValueError: dy's sizes are not those of the convolution's output, and as in `conv`. TypeError: as in `conv`.

    Saved for the backward: x and dy themselves.

    Reference: I. Goodfellow, Y. Bengio, A. Courville, Deep Learning (2016), section 9.5.

    Example:
        >>> x = jnp.ones((2, 28, 28, 1))
        >>> dy = jnp.ones((2, 14, 14, 8))
        >>> conv_kernel_grad(x, dy, (3, 3), strides=2, padding="SAME").shape
        (3, 3, 1, 8)
    """
    x, dy = float_arrays(x=x, dy=dy)
    ndim = spatial_ndim_of("kernel_size", kernel_size, x.ndim)
    layout = layout_of("x", x.shape, ndim, data_format)
    layout_of("dy", dy.shape, ndim, data_format)
    batch, input_size, channels = layout.split(x.shape)
    dy_batch, _, outputs = layout.split(dy.shape)
    groups = check_groups(groups, input=channels, output=outputs)
    window = conv_window(input_size, kernel_size, strides=strides, padding=padding, dilation=dilation)
    _check_cotangent(layout, dy.shape, window, outputs)
    if batch != dy_batch:
        raise ValueError(f"dy: got batch axes {dy_batch} in shape {dy.shape}, expected {batch}, those of x {x.shape}")
    dtype = result_dtype(preferred_element_type, x.dtype)
    return _conv_kernel_grad_jit(Call(window, groups, flip_kernel, layout, precision, dtype), x, dy)


# --- conv_transpose ---


def _conv_transpose_primal(call: Call, x, w, b):
    return plus_bias(call, input_grad_form(call, x, w, call.dtype), b)


_conv_transpose = jax.custom_vjp(_conv_transpose_primal, nondiff_argnums=(0,))


def _conv_transpose_fwd(call: Call, x, w, b):
    return _conv_transpose_primal(call, x, w, b), (x, w, None if b is None else ())


def _conv_transpose_bwd(call: Call, saved, dy):
    # y is what T(·, w, x) multiplies its first argument by; x stands in the third. dy takes the first's place:
    #   dx[n,p,k] = dT(dy, w, x)/dx           (1)
    #   dw[i,c,k] = dT(dy, w, x)/dw           (3)
    #   db[c]     = sum_{n,u} dy[n,u,c]
    x, w, bias = saved
    db = None if bias is None else bias_grad(call, dy, x.dtype)
    dy = dy.astype(x.dtype)
    return conv_form(call, dy, w, x.dtype), kernel_grad_form(call, dy, x, w.dtype), db


_conv_transpose.defvjp(_conv_transpose_fwd, _conv_transpose_bwd)
_conv_transpose_jit = jax.jit(_conv_transpose, static_argnums=0)


def conv_transpose(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip_kernel: bool = False,
    data_format: DataFormat = "channels_last",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """Transposed convolution: the exact adjoint of `conv` with the same kernel and options, plus a bias.

    <conv(a, w), x> = <a, conv_transpose(x, w)> for every a of the output's shape: each element of x adds a copy of the
    kernel to the output, s positions apart.

    Formula, per spatial axis, with stride s, dilation d and low padding l of that convolution:

        y[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · x[n,p,k] + b[c]
        output size N = s(O−1) + d(R−1) + 1 − l − h + output_padding, with O the size of x
    Gradient:
        dx[n,p,k] = sum_{i,c} dy[n, s·p + d·i − l, c] · w[i,c,k]
        dw[i,c,k] = sum_{n,p} dy[n, s·p + d·i − l, c] · x[n,p,k]
        db[c]     = sum_{n,u} dy[n,u,c]

    The same thing elsewhere, with flip(w) reversed on every spatial axis, swap(w) with its last two axes exchanged, and
    w1 the kernel of a call with groups=1. lax wants s, d and its dimension_numbers, ("NHWC", "HWIO", "NHWC") in two
    dimensions, as tuples:

        ours                                    theirs
        conv_transpose(x, w, strides=s,         torch.nn.functional.conv_transpose2d(x, w.permute(3, 2, 0, 1), stride=s,
          padding=l, output_padding=o,            padding=l, output_padding=o, dilation=d, groups=g), (N, C, H, W), one
          dilation=d, groups=g)                   group; torch's kernel is (C_in, C_out/g, *kernel)
        conv_transpose(x, w1, strides=s,        flax.linen.ConvTranspose(transpose_kernel=True, strides=s, padding=P),
          padding=P), P "SAME" or "VALID"         its kernel is w; with transpose_kernel=False it is flip(swap(w))
        conv_transpose(x, w1, strides=s,        jax.lax.conv_transpose(x, w, s, P, transpose_kernel=True); with
          padding=P), P "SAME" or "VALID"         transpose_kernel=False the kernel is flip(swap(w)); "VALID" windows
                                                  smaller than s: output_padding = s − d(R−1) − 1 here
        conv_transpose(x, w1, strides=s,        jax.lax.conv_general_dilated(x, flip(swap(w)), (1,), [(d(R−1) − l,
          padding=(l, h), output_padding=o)       d(R−1) − h + o)], lhs_dilation=s, rhs_dilation=d)

    Args:
        x: (*batch, *spatial, K), with no, one or many batch axes; (*batch, K, *spatial) for "channels_first".
        w: (*kernel, C/groups, K), the kernel of the convolution that this is the adjoint of: C channels out, K in.
        b: (C,), or None.
        strides: s, how far apart the copies of the kernel are: an int for all spatial axes or one per axis.
        padding: that of the convolution: it takes away from the output. As in `conv`.
        output_padding: which of the s sizes that the convolution takes to x's is the output's: an int for all spatial
            axes or one per axis. From 0 to s − 1, counted from the smallest; for "SAME", "SAME_LOWER" and the kinds
            that repeat values, where the output is s times as large as x, from 1 − s to 0. So x of size 4 and a window
            of 3 with stride 2 make 9 or, with output_padding=1, 10 ("VALID"); 8 or, with −1, 7 ("SAME").
        dilation: as in `conv`.
        groups: as in `conv`.
        flip_kernel: as in `conv`.
        data_format: "channels_last" or "channels_first", for x and y.
        precision: as in `conv`.
        preferred_element_type: the dtype of y, and of the sum; not narrower than that of x.

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype or preferred_element_type. Sums of bfloat16 and
        float16 are made in float32.

    Raises:
        ValueError: sizes that do not fit, output_padding out of range, nothing left of the output. TypeError: arguments
            that are not floating arrays of one dtype.

    Saved for the backward: x and w themselves; nothing is copied.

    Reference: M. Zeiler, D. Krishnan, G. Taylor, R. Fergus, Deconvolutional networks, CVPR 2010; V. Dumoulin, F. Visin,
    A guide to convolution arithmetic for deep learning, arXiv:1603.07285, chapter 4.

    Example:
        >>> x = jnp.ones((2, 7, 7, 8))
        >>> w = jnp.ones((4, 4, 3, 8))
        >>> conv_transpose(x, w, strides=2, padding=1).shape
        (2, 14, 14, 3)
    """
    x, w, b = float_arrays(x=x, w=w, b=b)
    layout = layout_of("x", x.shape, kernel_spatial_ndim(w.shape), data_format)
    _, size, channels = layout.split(x.shape)
    groups = check_groups(groups, input=channels, output=w.shape[-1])
    if channels != w.shape[-1]:
        raise ValueError(
            f"w: got shape {w.shape}, expected (*kernel, C/groups, {channels}): its last axis is contracted with the "
            f"{channels} channels of x; it is the kernel of the convolution that this is the adjoint of"
            + (
                "; if w is (*kernel, in, out), as lax's and Flax's transposed convolutions have it by default, give "
                "jnp.swapaxes(w, -1, -2) and flip_kernel=True"
                if groups == 1 and channels == w.shape[-2]
                else ""
            )
        )
    outputs = w.shape[-2] * groups
    if b is not None and b.shape != (outputs,):
        raise ValueError(f"b: got shape {b.shape}, expected ({outputs},), one per output channel")
    window = transpose_window(
        size,
        w.shape[:-2],
        strides=strides,
        padding=padding,
        dilation=dilation,
        output_padding=output_padding,
        name="w",
    )
    dtype = result_dtype(preferred_element_type, x.dtype)
    return _conv_transpose_jit(Call(window, groups, flip_kernel, layout, precision, dtype), x, w, b)


def _check_cotangent(layout: Layout, shape, window: Window, outputs: int) -> None:
    batch, spatial, channels = layout.split(shape)
    if spatial != window.output_size or channels != outputs:
        raise ValueError(
            f"dy: got shape {tuple(shape)}, expected {layout.join(batch, window.output_size, outputs)}: the output of "
            f"the convolution of an input of spatial size {window.input_size} with a kernel of size "
            f"{window.window_size} under these options"
        )
