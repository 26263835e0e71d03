"""The choice on a CPU: for every form of the convolution and every geometry, which algorithm has it.

XLA:CPU hands plain one- and two-dimensional convolutions, and matrix products, to a fast library; what it makes of the
rest (groups, a kernel as large as the input, dilated inputs, three axes) is a loop nest. So:

    one tap                        products    a matrix product, no copies
    one input channel per group    depthwise   elementwise multiply-adds, for few outputs each
    other groups                   grouped     dense convolutions, several groups at once
    conv in 2-D, 3-D and more      im2col      a matrix product over all taps side by side, a block at a time
      few outputs, stride 1        col2im      a matrix product with all taps, whose rows are added up where they meet
      in 1-D, or small             xla         what its library is for; also large images in 2-D: of many channels, of
                                               one channel to some 48, with jaxlib 0.11 to 16 and more
    input_grad with stride 1       as conv     it is a convolution of dy with the reversed w
    input_grad with a stride       col2im      as above
      few outputs, large windows   phases      a convolution of dy to all phases of the stride; dilated ones xla's
    kernel_grad                    im2col
      of few channels, one image   few         the same from rows of positions, not of channels
      narrow, small, or in 1-D     canonical   a convolution
    some 2**30 elements            xla         the others count in int32

Where XLA's convolution is the faster one it is so by half, seldom by more; elsewhere it is up to 60 times slower, as
where a kernel is larger than the image or one side has one channel. The measured factors are in experiments/README.md.
"""

import functools
import math

import jaxlib.version

from jaxconv.algorithms import canonical, col2im, depthwise, few, grouped, im2col, phases, products, xla

# Positions from which on an image is large.
IMAGE = 196
# Terms up to which col2im adds up the rows of its product: with stride 1, with a stride, and without another way.
TURNED, STRIDED, DILATED = 49, 16, 64
# Whether XLA has the convolutions that came with jaxlib 0.11: in two dimensions at the speed of a matrix product.
HAS_FAST_CONVOLUTIONS = tuple(map(int, jaxlib.version.__version__.split(".")[:2])) >= (0, 11)


def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]."""
    return _of_conv(x, w, window, groups)(x, w, window, groups, precision, dtype)


def input_grad(dy, w, window, groups, precision, dtype):
    """(2) dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]."""
    return _of_input_grad(dy, w, window, groups)(dy, w, window, groups, precision, dtype)


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    return _of_kernel_grad(x, dy, window, groups)(x, dy, window, groups, precision, dtype)


def algorithm(form, a, b, window, groups):
    """The function that has the form, "conv", "input_grad" or "kernel_grad", of arrays like these."""
    choose = {"conv": _of_conv, "input_grad": _of_input_grad, "kernel_grad": _of_kernel_grad}[form]
    return choose(a, b, window, groups)


def _of_conv(x, w, window, groups):
    if _is_vast(window, x.size, w.size, x.shape[0] * math.prod(window.output_size) * w.shape[-1]):
        return xla.conv
    if groups > 1:
        if _is_depthwise(w.shape[-2], w.shape[-1], groups):
            return depthwise.conv
        return functools.partial(grouped.conv, dense=conv)
    if window.tap_count == 1:
        return products.conv
    if window.ndim > 2 or _is_im2cols(x, w.shape[-2], w.shape[-1], w, window.output_size):
        return col2im.conv if _is_of_few(w.shape[-1], w.shape[-2], window) else im2col.conv
    return xla.conv


def _of_input_grad(dy, w, window, groups):
    if _is_vast(window, dy.size, w.size, dy.shape[0] * math.prod(window.input_size) * w.shape[-2] * groups):
        return xla.input_grad
    if groups > 1:
        if _is_depthwise(w.shape[-2], w.shape[-1], groups):
            return depthwise.input_grad
        return functools.partial(grouped.input_grad, dense=input_grad)
    if window.tap_count == 1:
        return products.input_grad
    if set(window.strides) == {1}:
        if window.ndim > 2 or _is_im2cols(dy, w.shape[-1], w.shape[-2], w, window.input_size):
            return col2im.input_grad if _is_of_few(w.shape[-2], w.shape[-1], window) else im2col.input_grad
        return xla.input_grad
    if _is_col2ims(dy, w, window):
        return col2im.input_grad
    if set(window.dilation) == {1}:
        return functools.partial(phases.input_grad, dense=conv)
    return xla.input_grad


def _of_kernel_grad(x, dy, window, groups):
    if _is_vast(window, x.size, dy.size, window.tap_count * x.shape[-1] // groups * dy.shape[-1]):
        return xla.kernel_grad
    if groups > 1:
        if _is_depthwise(x.shape[-1] // groups, dy.shape[-1], groups):
            return depthwise.kernel_grad
        return functools.partial(grouped.kernel_grad, dense=kernel_grad)
    if window.tap_count == 1:
        return products.kernel_grad
    # The convolution wins where the matrix product would be narrow, and where there is so little to do that starting it
    # is what counts.
    is_narrow = dy.shape[-1] < 32 and x.shape[-1] * dy.shape[-1] < 256 and set(window.strides) == {1}
    is_small = dy.size * window.tap_count * x.shape[-1] < 2**18
    is_of_few = window.ndim > 1 and not is_small and _is_of_few(dy.shape[-1], x.shape[-1], window)
    if is_of_few and few.suits(dy, window.input_grad_window):
        return few.kernel_grad_of_few_outputs
    if window.ndim == 1 or window.ndim == 2 and (is_narrow or is_small):
        return canonical.kernel_grad
    return few.kernel_grad if few.suits(x, window) else im2col.kernel_grad


def _is_vast(window, *sizes):
    """Whether int32, in which these algorithms count pixels and elements, is too small for arrays of these sizes."""
    return max(sizes) >= 2**31 // window.ndim  # blocks.py adds a term per axis


def _is_depthwise(inputs, outputs, groups):
    """Whether a group has one input channel, and so few outputs that each can be a term of its own."""
    return inputs == 1 and outputs <= 8 * groups


def _is_im2cols(a, inputs, results, w, positions):
    """Whether im2col is faster for this two-dimensional convolution of a with w, and worth the time to compile.

    From and to so many channels, at these positions.
    """
    count = math.prod(positions)
    if len(positions) != 2 or a.shape[0] * count * w.size < 2**20:
        return False
    if HAS_FAST_CONVOLUTIONS:
        is_xlas = results >= 16
    else:
        is_xlas = min(inputs, results) >= 96 or inputs == 1 and 32 <= results <= 64
    return not (is_xlas and count >= IMAGE)


def _is_of_few(few, many, window):
    """Whether so few channels meet so many that it is less to add up what every tap makes than to gather what it reads.

    With stride 1: the algorithms for that are of convolutions that can be turned around.
    """
    # Rows of col2im's product, that int32 must count.
    positions = max(math.prod(window.output_size), math.prod(window.input_size))
    is_counted = positions * window.tap_count < 2**31 // window.ndim
    return set(window.strides) == {1} and 4 * few <= many and window.tap_count <= TURNED and is_counted


def _is_col2ims(dy, w, window):
    """Whether there are few terms to add up, each of them a sum that is longer work than to write and read it."""
    (channels, outputs), terms = w.shape[-2:], col2im.terms(window)
    # Rows of its product, and elements of dx, in whole parts, that int32 must count.
    rows = math.prod(window.output_size) * window.tap_count
    if max(rows, 2 * dy.shape[0] * math.prod(window.input_size) * channels) >= 2**31 // window.ndim:
        return False
    if set(window.dilation) != {1}:  # phases is not for these
        return terms <= DILATED
    return terms <= STRIDED and (outputs >= 32 or outputs > channels)
