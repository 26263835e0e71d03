"""Plain lax convolutions with the adjoint paddings of `Window`. The default: what the hardware's library is made for.

With the trilinear form T(x, w, dy) of conv.py each gradient is a convolution again:

    conv           x                    , kernel w,            stride s, kernel dilation d, padding (l, h)
    input_grad     dy dilated by s      , kernel w reversed,   stride 1, kernel dilation d, Window.input_grad_padding
    kernel_grad    x, N as its channels , kernel dy,           stride d, kernel dilation s, Window.kernel_grad_padding

XLA is never handed a negative padding: it is made a crop first (`without_crop`), nor a dilation of an axis of size 1,
which means nothing (`_spacing`): XLA:CPU aborts the process for some combinations of negative padding, dilation and an
axis of size 1. Nor is it handed what it takes for another convolution (`_is_misread`), nor what would become such a
one (`_convolution`).
"""

import math

import jax.numpy as jnp
from jax import lax


def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]."""
    x, padding = without_crop(x, window.padding)
    dilation = _spacing(window.window_size, window.dilation)
    return _convolution(x, w, window.strides, padding, (1,) * window.ndim, dilation, groups, precision, dtype)


def input_grad(dy, w, window, groups, precision, dtype):
    """(2) dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]."""
    spatial = tuple(range(window.ndim))
    # w reversed and turned around inside each group: (*R, C/G, G·K/G) -> (*R, K/G, G·C/G).
    per_group, outputs = w.shape[-2:]
    w = lax.rev(w, spatial).reshape(*window.window_size, per_group, groups, outputs // groups)
    w = w.transpose(*spatial, -1, -2, -3).reshape(*window.window_size, outputs // groups, groups * per_group)
    dy, padding, strides = _dilated_without_crop(dy, window.input_grad_padding, window.strides)
    strides = _spacing(dy.shape[1:-1], strides)
    dilation = _spacing(window.window_size, window.dilation)
    if groups == 1 and _is_misread(dy.shape[1:-1], window.window_size, strides, dilation, padding):
        dy, padding, strides = _dilated(dy, padding, strides)
    return _convolution(dy, w, (1,) * window.ndim, padding, strides, dilation, groups, precision, dtype)


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    x, padding = without_crop(x, window.kernel_grad_padding)
    # x with C as the batch and N as the channels, dy as a kernel (N in, K out), dw comes out as (C/G, *R, K).
    x_spec, _, _ = dimension_numbers(window.ndim)
    first, last, *spatial = x_spec
    swapped = (last, first, *spatial)
    dw_spec = (window.ndim, window.ndim + 1, *range(window.ndim))
    return lax.conv_general_dilated(
        x,
        dy,
        window.dilation,
        padding,
        rhs_dilation=_spacing(dy.shape[1:-1], window.strides),
        dimension_numbers=lax.ConvDimensionNumbers(swapped, swapped, dw_spec),
        batch_group_count=groups,
        precision=precision,
        preferred_element_type=dtype,
    )


def _is_misread(sizes, window_size, strides, dilation, padding):
    """Whether XLA aborts the process at this convolution of dilated dy, stride 1 and no groups.

    XLA exchanges a kernel with more taps than the input has pixels for that input (SwapConvolutionOperandsIfBeneficial,
    conv_operand_swapper.cc), and leaves out axes where the two have as many elements. For such it takes every axis of
    R taps, stride R − 1, a dilation R of the input and no padding, here of two taps and dilation 2, however long the
    input is there: the shapes no longer match.
    """
    axes = list(zip(sizes, window_size, strides, dilation, padding, strict=True))
    pairs = [(r, s, d, *pads) == (2, 2, 1, 0, 0) for _, r, s, d, pads in axes]
    if all(n == 2 for (n, *_), pair in zip(axes, pairs, strict=True) if pair):
        return False
    others = [(n, r) for (n, r, *_), pair in zip(axes, pairs, strict=True) if not pair]
    return math.prod(r for _, r in others) > math.prod(n for n, _ in others)


def _convolution(a, w, strides, padding, lhs_dilation, rhs_dilation, groups, precision, dtype):
    """The convolution, kept apart from a padding of a, or of the derivative of its result, that it may not take up.

    XLA merges zeros between the elements of a, such as the gradient of a strided slice has, into the convolution that
    reads a. With an axis of R taps and stride R − 1, and no dilation or padding of its own, that gives a convolution
    which it may misread (`_is_misread`). The derivative of the result is read in that way where a is dilated by R − 1
    and padded by R − 1 on both sides.
    """
    axes = list(zip(w.shape[:-2], strides, lhs_dilation, rhs_dilation, padding, strict=True))
    reads = any(r > 1 and (s, b, d, *pads) == (r - 1, 1, 1, 0, 0) for r, s, b, d, pads in axes)
    is_read = any(r > 1 and (s, b, d, *pads) == (1, r - 1, 1, r - 1, r - 1) for r, s, b, d, pads in axes)
    y = lax.conv_general_dilated(
        lax.optimization_barrier(a) if reads and groups == 1 else a,
        w,
        strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers(len(strides)),
        feature_group_count=groups,
        precision=precision,
        preferred_element_type=dtype,
    )
    return lax.optimization_barrier(y) if is_read and groups == 1 else y


def _spacing(sizes, dilation):
    """The dilation, 1 on axes of size 1."""
    return tuple(d if size > 1 else 1 for size, d in zip(sizes, dilation, strict=True))


def dimension_numbers(ndim):
    """(N, *spatial, C) inputs and outputs, (*spatial, C, K) kernels, for any number of spatial axes."""
    data = (0, ndim + 1, *range(1, ndim + 1))
    return lax.ConvDimensionNumbers(data, (ndim + 1, ndim, *range(ndim)), data)


def without_crop(a, padding):
    """(a', padding'): the same padded array with no padding below 0."""
    a, padding, _ = _dilated_without_crop(a, padding, (1,) * len(padding))
    return a, padding


def _dilated_without_crop(a, padding, dilation):
    """(a', padding', dilation'): the same dilated and padded array with no padding below 0.

    Element j of an axis dilated by s stands at position s·j, so the first −l positions hold the first ceil(−l/s)
    elements: those are sliced off, and what is left of the last gap stays as padding.
    """
    if all(low >= 0 and high >= 0 for low, high in padding):
        return a, padding, dilation
    drops = [tuple(max(0, -(pad // s)) for pad in pads) for pads, s in zip(padding, dilation, strict=True)]
    sizes = a.shape[1:-1]
    if any(low + high >= size for (low, high), size in zip(drops, sizes, strict=True)):
        # More is cropped than the array has, and padding makes up for it: rare enough to build the array.
        return _dilated(a, padding, dilation)
    a = lax.slice(
        a,
        (0, *(low for low, _ in drops), 0),
        (a.shape[0], *(size - high for (_, high), size in zip(drops, sizes, strict=True)), a.shape[-1]),
    )
    padding = tuple(
        (low + s * drop_low, high + s * drop_high)
        for (low, high), (drop_low, drop_high), s in zip(padding, drops, dilation, strict=True)
    )
    return a, padding, dilation


def _dilated(a, padding, dilation):
    """(a', padding', dilation'): the dilated and padded array itself, with no padding and dilation left."""
    config = [(low, high, s - 1) for (low, high), s in zip(padding, dilation, strict=True)]
    a = lax.pad(a, jnp.zeros((), a.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    # Behind a barrier, as XLA would take the padding into the convolution again.
    a = lax.optimization_barrier(a)
    return a, ((0, 0),) * len(padding), (1,) * len(padding)
