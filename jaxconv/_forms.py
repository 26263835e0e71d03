"""The three forms of the convolution (derived at the top of conv.py), on arrays in the user's layout, and the bias.

Undecorated, so that every rule made of them can be differentiated again.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxconv import algorithms
from jaxconv._arguments import flag, hashable
from jaxconv._layout import along, from_plain, to_plain
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.geometry import Layout, Window


@dataclasses.dataclass(frozen=True)
class Call:
    """All that is static about a call; what jit and custom_vjp specialise on."""

    window: Window
    groups: int
    flip_kernel: bool
    layout: Layout
    precision: Any
    dtype: Any  # of the result

    def __post_init__(self) -> None:
        object.__setattr__(self, "flip_kernel", flag("flip_kernel", self.flip_kernel))
        object.__setattr__(self, "precision", hashable(self.precision))


def conv_form(call: Call, x, w, dtype):
    """(1) y = dT/d dy."""
    x_, w_ = to_plain(call.layout, x), _oriented(call, w)
    y = algorithms.conv(x_, w_, call.window, call.groups, call.precision, dtype)
    return from_plain(call.layout, x.shape, y)


def input_grad_form(call: Call, dy, w, dtype):
    """(2) dx = dT/dx."""
    dy_, w_ = to_plain(call.layout, dy), _oriented(call, w)
    dx = algorithms.input_grad(dy_, w_, call.window, call.groups, call.precision, dtype)
    return from_plain(call.layout, dy.shape, dx)


def kernel_grad_form(call: Call, x, dy, dtype):
    """(3) dw = dT/dw."""
    x_, dy_ = to_plain(call.layout, x), to_plain(call.layout, dy)
    dw = algorithms.kernel_grad(x_, dy_, call.window, call.groups, call.precision, dtype)
    return _oriented(call, dw)


def _oriented(call: Call, w):
    """The kernel, reversed on every spatial axis if flip_kernel is set; its own inverse."""
    return lax.rev(w, range(call.window.ndim)) if call.flip_kernel else w


def plus_bias(call: Call, y, b):
    """y[n,p,k] + b[k], b None for no bias."""
    return y if b is None else y + along(b.astype(y.dtype), call.layout.channel_axis(y.ndim), y.shape)


def bias_grad(call: Call, dy, dtype):
    """db[k] = sum_{n,p} dy[n,p,k]."""
    others = [axis for axis in range(dy.ndim) if axis != call.layout.channel_axis(dy.ndim)]
    return jnp.sum(dy.astype(accumulator(dy.dtype)), axis=others).astype(dtype)
