"""Pooling: the maximum, the minimum, the sum or the average of every window, channel by channel.

Tap i of the window at output position p reads x at u = s·p + d·i − l (stride s, dilation d, low padding l), per spatial
axis. An extremum hands its cotangent to the one tap that won; a sum hands it to every tap:

    max, min    y[n,p,c]  = x[n, s·p + d·t − l, c], t = t[n,p,c] the winning tap
                dx[n,u,c] = sum_{p : s·p + d·t[n,p,c] − l = u} dy[n,p,c]
    sum         y[n,p,c]  = sum_i x[n, s·p + d·i − l, c]
                dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c]
    average     the sum divided by m[p], a constant; dx the same of dy[n,p,c]/m[p]
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv import algorithms
from jaxconv._arguments import float_arrays
from jaxconv._layout import from_plain, to_plain
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.geometry import DataFormat, Layout, Padding, Window, layout_of, pool_window, spatial_ndim_of

__all__ = ["avg_pool", "global_avg_pool", "global_max_pool", "max_pool", "min_pool", "sum_pool"]


@dataclasses.dataclass(frozen=True)
class _Call:
    """All that is static about a call; what jit and custom_vjp specialise on."""

    window: Window
    layout: Layout


# --- max_pool and min_pool ---


def _extremum_primal(largest: bool, call: _Call, x):
    y = algorithms.extremum_value(to_plain(call.layout, x), call.window, largest)
    return from_plain(call.layout, x.shape, y)


_extremum = jax.custom_vjp(_extremum_primal, nondiff_argnums=(0, 1))


def _extremum_fwd(largest: bool, call: _Call, x):
    y, tap = algorithms.extremum(to_plain(call.layout, x), call.window, largest)
    return from_plain(call.layout, x.shape, y), tap


def _extremum_bwd(largest: bool, call: _Call, tap, dy):
    # y[n,p,c] = x[n,u,c] at u = s·p + d·t − l, t = tap[n,p,c], so
    #   dx[n,u,c] = sum_{p : s·p + d·tap[n,p,c] − l = u} dy[n,p,c]
    dx = algorithms.extremum_grad(to_plain(call.layout, dy), tap, call.window)
    return (from_plain(call.layout, dy.shape, dx),)


_extremum.defvjp(_extremum_fwd, _extremum_bwd)
_extremum_jit = jax.jit(_extremum, static_argnums=(0, 1))


def max_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Max pooling: the largest element of every window, channel by channel.

    Formula, per spatial axis, with stride s, dilation d and low padding l:

        y[n,p,c] = max_i x[n, s·p + d·i − l, c]
        output size O = (N + l + h − d(R−1) − 1)//s + 1
    Gradient, with t[n,p,c] the tap i that attains the maximum:
        dx[n,u,c] = sum_{p : s·p + d·t[n,p,c] − l = u} dy[n,p,c]

    Ties: the first tap in row-major order gets the whole cotangent, as in jax.grad of `lax.reduce_window`. Padding
    never wins a tie; a window that lies wholly in the padding gives −inf and no gradient. NaN: the first NaN of a
    window is its maximum and gets its cotangent. ±0 are equal, and which of them y is may differ with the gradient.

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        window: R, one size per spatial axis. An int stands for every axis of x but the first (batch) and the channels.
        strides: s, an int for all spatial axes or one per axis; None means the window's own size.
        padding: "VALID", "SAME", "SAME_LOWER", an int, or one of these or a (low, high) pair per axis, as in `conv`;
            the padding counts as −inf.
        dilation: d, the spacing of the window's taps: an int for all spatial axes or one per axis.
        ceil_mode: round the output size up, so that the last window may hang over the end of the padded input (as long
            as it starts inside the input or its low padding). Not together with a negative high padding.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype.

    Raises:
        ValueError: an option out of range, a window larger than the padded input. TypeError: x is not a floating array.

    Saved for the backward: t, one byte per element of y (two from 256 taps on, four from 65,536). Not x.

    Reference: M. Ranzato, F. Huang, Y.-L. Boureau, Y. LeCun, Unsupervised learning of invariant feature hierarchies
    with applications to object recognition, CVPR 2007.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> max_pool(x, 2)[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
        >>> jax.grad(lambda x: max_pool(x, 2).sum())(x)[0, :, :, 0].tolist()
        [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
    """
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _extremum_jit(True, call, x)


def min_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Min pooling: the smallest element of every window, channel by channel.

    Formula, per spatial axis, with stride s, dilation d and low padding l:

        y[n,p,c] = min_i x[n, s·p + d·i − l, c]
    Gradient, with t[n,p,c] the tap i that attains the minimum:
        dx[n,u,c] = sum_{p : s·p + d·t[n,p,c] − l = u} dy[n,p,c]

    Ties, padding (+inf here) and NaN are as in `max_pool`.

    Args:
        x: (*batch, *spatial, C), as in `max_pool`.
        window: as in `max_pool`, like all that follow.
        strides: as in `max_pool`.
        padding: as in `max_pool`; the padding counts as +inf.
        dilation: as in `max_pool`.
        ceil_mode: as in `max_pool`.
        data_format: as in `max_pool`.

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype.

    Raises:
        ValueError, TypeError: as in `max_pool`.

    Saved for the backward: t, one byte per element of y (two from 256 taps on, four from 65,536). Not x.

    Reference: the max pooling of −x, negated.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> min_pool(x, 2)[0, :, :, 0].tolist()
        [[0.0, 2.0], [8.0, 10.0]]
    """
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _extremum_jit(False, call, x)


# --- sum_pool and avg_pool ---


# What a sum is divided by: nothing, the number of taps on the input or its padding, the number of taps on the input.
Divisor = Literal["one", "padded", "input"]


def _divided(divisor: Divisor, call: _Call, a):
    """a[n,p,c] / m[p]; a window without any element to count has a sum of 0, and 0/1 stands for its average."""
    if divisor == "one":
        return a
    counts = [call.window.counts(axis, divisor == "padded") for axis in range(call.window.ndim)]
    # Known while tracing, and separable: m[p] is the product over the axes.
    count = np.maximum(functools.reduce(np.multiply.outer, counts), 1).astype(a.dtype)
    return a / lax.broadcast_in_dim(jnp.asarray(count), a.shape, range(1, a.ndim - 1))


def _sum_primal(divisor: Divisor, call: _Call, x):
    x_ = to_plain(call.layout, x).astype(accumulator(x.dtype))
    y = _divided(divisor, call, algorithms.window_sum(x_, call.window))
    return from_plain(call.layout, x.shape, y).astype(x.dtype)


_sum = jax.custom_vjp(_sum_primal, nondiff_argnums=(0, 1))


def _sum_fwd(divisor: Divisor, call: _Call, x):
    return _sum_primal(divisor, call, x), ()


def _sum_bwd(divisor: Divisor, call: _Call, saved, dy):
    # Every x[n,u,c] enters y[n,p,c] with the factor 1/m[p] once for each tap i that reads it, so
    #   dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] / m[p]
    del saved
    dy_ = to_plain(call.layout, dy).astype(accumulator(dy.dtype))
    dx = algorithms.window_sum_grad(_divided(divisor, call, dy_), call.window)
    return (from_plain(call.layout, dy.shape, dx).astype(dy.dtype),)


_sum.defvjp(_sum_fwd, _sum_bwd)
_sum_jit = jax.jit(_sum, static_argnums=(0, 1))


def sum_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Sum pooling: the sum of every window, channel by channel.

    Formula, per spatial axis, with stride s, dilation d and low padding l:

        y[n,p,c] = sum_i x[n, s·p + d·i − l, c]
    Gradient:
        dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c]

    Args:
        x: (*batch, *spatial, C), as in `max_pool`.
        window: as in `max_pool`, like all that follow.
        strides: as in `max_pool`.
        padding: as in `max_pool`; the padding counts as 0.
        dilation: as in `max_pool`.
        ceil_mode: as in `max_pool`.
        data_format: as in `max_pool`.

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype; bfloat16 and float16 are summed in float32.

    Raises:
        ValueError, TypeError: as in `max_pool`.

    Saved for the backward: nothing; the op is linear.

    Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    Proc. IEEE 1998 (its subsampling layers).

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> sum_pool(x, 2)[0, :, :, 0].tolist()
        [[10.0, 18.0], [42.0, 50.0]]
    """
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _sum_jit("one", call, x)


def avg_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Average pooling: the mean of every window, channel by channel.

    Formula, per spatial axis, with stride s, dilation d and low padding l:

        y[n,p,c] = (1/m[p]) · sum_i x[n, s·p + d·i − l, c]
        m[p] = the number of taps of window p that read the input or its padding (count_include_pad=True: the whole
               window, except where ceil_mode makes it hang over the padding's end), or the input alone (False)
    Gradient:
        dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] / m[p]

    Where m[p] would be 0 (a window that holds nothing to count) y is 0 and there is no gradient, instead of 0/0.

    Args:
        x: (*batch, *spatial, C), as in `max_pool`.
        window: as in `max_pool`, like all that follow.
        strides: as in `max_pool`.
        padding: as in `max_pool`; the padding counts as 0.
        dilation: as in `max_pool`.
        ceil_mode: as in `max_pool`.
        count_include_pad: whether the padding counts in m.
        data_format: as in `max_pool`.

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype; bfloat16 and float16 are summed in float32.

    Raises:
        ValueError, TypeError: as in `max_pool`.

    Saved for the backward: nothing; the op is linear and m is known while tracing.

    Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    Proc. IEEE 1998 (its subsampling layers).

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> avg_pool(x, 2)[0, :, :, 0].tolist()
        [[2.5, 4.5], [10.5, 12.5]]
        >>> avg_pool(x, 2, padding=1, count_include_pad=False)[0, 0, :, 0].tolist()
        [0.0, 1.5, 3.0]
    """
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _sum_jit("padded" if count_include_pad else "input", call, x)


def _prepare(x, window, strides, padding, dilation, ceil_mode, data_format) -> tuple[jax.Array, _Call]:
    (x,) = float_arrays(x=x)
    layout = layout_of("x", x.shape, spatial_ndim_of("window", window, x.ndim), data_format)
    _, input_size, _ = layout.split(x.shape)
    sliding = pool_window(
        input_size, window, strides=strides, padding=padding, dilation=dilation, ceil_mode=bool(ceil_mode)
    )
    return x, _Call(sliding, layout)


# --- global_max_pool and global_avg_pool ---


@dataclasses.dataclass(frozen=True)
class _GlobalCall:
    layout: Layout
    input_shape: tuple[int, ...]
    keepdims: bool

    @property
    def flat_shape(self) -> tuple[int, int, int]:
        """(N, P, C), with P spatial positions."""
        batch, spatial, channels = self.layout.split(self.input_shape)
        return math.prod(batch), math.prod(spatial), channels

    @property
    def output_shape(self) -> tuple[int, ...]:
        batch, spatial, channels = self.layout.split(self.input_shape)
        return self.layout.join(batch, (1,) * len(spatial) * self.keepdims, channels)

    def restored(self, flat):
        """(N, P, C) as an array of the input's shape."""
        batch, spatial, channels = self.layout.split(self.input_shape)
        return from_plain(self.layout, self.input_shape, flat.reshape(math.prod(batch), *spatial, channels))


def _global_max_primal(call: _GlobalCall, x):
    flat = to_plain(call.layout, x).reshape(call.flat_shape)
    return jnp.max(flat, axis=1).reshape(call.output_shape)


_global_max = jax.custom_vjp(_global_max_primal, nondiff_argnums=(0,))


def _global_max_fwd(call: _GlobalCall, x):
    flat = to_plain(call.layout, x).reshape(call.flat_shape)
    winner = jnp.argmax(flat, axis=1)  # the first NaN, or else the first maximum
    y = jnp.max(jnp.where(_won(call, winner), flat, -jnp.inf), axis=1)
    return y.reshape(call.output_shape), winner.astype(jnp.int32)


def _global_max_bwd(call: _GlobalCall, winner, dy):
    # y[n,c] = x[n,t,c] at the winning position t = t[n,c], so
    #   dx[n,u,c] = dy[n,c] · [u = t[n,c]]
    dy = jnp.expand_dims(dy.reshape(winner.shape), 1)
    return (call.restored(jnp.where(_won(call, winner), dy, 0)),)


def _won(call: _GlobalCall, winner):
    """[u = t[n,c]] as an array over (n, u, c)."""
    return lax.broadcasted_iota(winner.dtype, call.flat_shape, 1) == jnp.expand_dims(winner, 1)


_global_max.defvjp(_global_max_fwd, _global_max_bwd)
_global_max_jit = jax.jit(_global_max, static_argnums=0)


def global_max_pool(
    x: jax.Array,
    *,
    spatial_ndim: int | None = None,
    keepdims: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """The largest element of every channel over all spatial positions.

    Formula, with u over all spatial positions:

        y[n,c] = max_u x[n,u,c]
    Gradient, with t[n,c] the first position, in row-major order, that attains the maximum:
        dx[n,u,c] = dy[n,c] · [u = t[n,c]]

    Ties and NaN are as in `max_pool`: the first one gets the whole cotangent (jax.grad of `jnp.max` would share it).

    Args:
        x: (*batch, *spatial, C); (*batch, C, *spatial) for "channels_first".
        spatial_ndim: how many spatial axes x has; None means all but the first (batch) and the channels.
        keepdims: keep the spatial axes, with size 1.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, (*batch, C), or with keepdims (*batch, 1, ..., 1, C) or (*batch, C, 1, ..., 1).

    Raises:
        ValueError: too few axes, or no spatial position at all. TypeError: x is not a floating array.

    Saved for the backward: t, four bytes per element of y. Not x.

    Reference: M. Oquab, L. Bottou, I. Laptev, J. Sivic, Is object localization for free?, CVPR 2015.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> global_max_pool(x).tolist()
        [[15.0]]
    """
    x, call = _prepare_global(x, spatial_ndim, keepdims, data_format)
    if call.flat_shape[1] == 0:
        raise ValueError(f"x: got shape {x.shape} without any spatial position, expected at least one to maximise over")
    return _global_max_jit(call, x)


def _global_avg_primal(call: _GlobalCall, x):
    flat = to_plain(call.layout, x).reshape(call.flat_shape)
    total = jnp.sum(flat.astype(accumulator(x.dtype)), axis=1)
    return (total / max(1, call.flat_shape[1])).astype(x.dtype).reshape(call.output_shape)


_global_avg = jax.custom_vjp(_global_avg_primal, nondiff_argnums=(0,))


def _global_avg_fwd(call: _GlobalCall, x):
    return _global_avg_primal(call, x), ()


def _global_avg_bwd(call: _GlobalCall, saved, dy):
    # Every x[n,u,c] enters y[n,c] once, with the factor 1/P, so
    #   dx[n,u,c] = dy[n,c] / P
    del saved
    n, positions, channels = call.flat_shape
    dx = dy.reshape(n, 1, channels).astype(accumulator(dy.dtype)) / max(1, positions)
    return (call.restored(jnp.broadcast_to(dx.astype(dy.dtype), call.flat_shape)),)


_global_avg.defvjp(_global_avg_fwd, _global_avg_bwd)
_global_avg_jit = jax.jit(_global_avg, static_argnums=0)


def global_avg_pool(
    x: jax.Array,
    *,
    spatial_ndim: int | None = None,
    keepdims: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """The mean of every channel over all spatial positions.

    Formula, with u over the P spatial positions:

        y[n,c] = (1/P) · sum_u x[n,u,c]
    Gradient:
        dx[n,u,c] = dy[n,c] / P

    Args:
        x: (*batch, *spatial, C); (*batch, C, *spatial) for "channels_first".
        spatial_ndim: how many spatial axes x has; None means all but the first (batch) and the channels.
        keepdims: keep the spatial axes, with size 1.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, (*batch, C), or with keepdims (*batch, 1, ..., 1, C) or (*batch, C, 1, ..., 1); 0 where P is 0.

    Raises:
        ValueError: too few axes. TypeError: x is not a floating array.

    Saved for the backward: nothing; the op is linear.

    Reference: M. Lin, Q. Chen, S. Yan, Network in network, arXiv:1312.4400.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> global_avg_pool(x).tolist()
        [[7.5]]
    """
    x, call = _prepare_global(x, spatial_ndim, keepdims, data_format)
    return _global_avg_jit(call, x)


def _prepare_global(x, spatial_ndim, keepdims, data_format) -> tuple[jax.Array, _GlobalCall]:
    (x,) = float_arrays(x=x)
    if spatial_ndim is None:
        spatial_ndim = x.ndim - 2
    if isinstance(spatial_ndim, bool) or not isinstance(spatial_ndim, int) or spatial_ndim < 1:
        raise ValueError(
            f"spatial_ndim: got {spatial_ndim!r} for x of shape {x.shape}, expected an int, at least 1 (None means "
            "x.ndim − 2: without a batch axis name it)"
        )
    return x, _GlobalCall(layout_of("x", x.shape, spatial_ndim, data_format), x.shape, bool(keepdims))
