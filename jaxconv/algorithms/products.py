"""A convolution whose windows have one tap, as a plain matrix product.

    conv           Y  = X · W           [N·O x C] · [C x K] -> [N·O x K]
    input_grad     dX = dY · W^T        [N·O x K] · [K x C] -> [N·O x C]
    kernel_grad    dW = X^T · dY        [C x N·O] · [N·O x K] -> [C x K]

X are the elements of x that the windows read: with stride 1 and no padding x itself, and nothing is copied. For CPUs
and groups = 1. Figures in experiments/README.md.
"""

import jax.numpy as jnp
from jax import lax

from jaxconv.algorithms.apart import apart
from jaxconv.algorithms.views import tap_views

# Channels, of x or of dy, up to which dW is a product over the leading axis of two matrices. Over several axes, XLA:CPU
# transposes X first: that makes a wide product faster, and takes longer than a narrow one.
NARROW = 64


def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,k] = sum_c x[n, s·p − l, c] · w[c,k]."""
    assert groups == 1 == window.tap_count
    w = w.reshape(w.shape[-2:])
    return _product(_read(x, window), w, ((-1,), (0,)), precision, dtype)


def input_grad(dy, w, window, groups, precision, dtype):
    """(2) dx[n,u,c] = sum_{p,k : s·p − l = u} w[c,k] · dy[n,p,k]."""
    assert groups == 1 == window.tap_count
    dx = _product(dy, w.reshape(w.shape[-2:]), ((-1,), (1,)), precision, dtype)
    config = [
        (-low, n + low - s * (o - 1) - 1, s - 1)
        for n, o, s, (low, _) in zip(window.input_size, window.output_size, window.strides, window.padding, strict=True)
    ]
    return lax.pad(dx, jnp.zeros((), dtype), [(0, 0, 0), *config, (0, 0, 0)])


@apart
def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[c,k] = sum_{n,p} x[n, s·p − l, c] · dy[n,p,k]."""
    assert groups == 1 == window.tap_count
    x = _read(x, window)
    if min(x.shape[-1], dy.shape[-1]) <= NARROW:
        x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    positions = range(x.ndim - 1)
    dw = _product(x, dy, (positions, positions), precision, dtype)
    return dw.reshape(*window.window_size, *dw.shape)


def _read(x, window):
    return tap_views(x, window, 0)((0,) * window.ndim)


def _product(a, b, axes, precision, dtype):
    of_a, of_b = (tuple(axis % z.ndim for axis in of) for of, z in zip(axes, (a, b), strict=True))
    return lax.dot_general(a, b, ((of_a, of_b), ((), ())), precision=precision, preferred_element_type=dtype)
