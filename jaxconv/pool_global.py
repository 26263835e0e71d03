"""Global pooling: the maximum, the minimum, the sum, the average or a soft maximum over all spatial positions.

In every channel c, with u over all P positions: the pooling of one window as large as the input.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import flag, float_arrays, varying_alike
from jaxconv._layout import from_plain, to_plain
from jaxconv._soft_maximum import (
    checked_exponent,
    checked_sharpness,
    lp_least,
    lp_share,
    lp_value,
    lp_weight,
    lse_least,
    lse_share,
    lse_value,
)
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.geometry import DataFormat, Layout, check_spatial_ndim, layout_of

__all__ = [
    "global_avg_pool",
    "global_logsumexp_pool",
    "global_lp_pool",
    "global_max_pool",
    "global_min_pool",
    "global_sum_pool",
]


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


# --- global_max_pool and global_min_pool ---


def _global_extremum_primal(largest: bool, call: _GlobalCall, x):
    flat = to_plain(call.layout, x).reshape(call.flat_shape)
    return (jnp.max if largest else jnp.min)(flat, axis=1).reshape(call.output_shape)


_global_extremum = jax.custom_vjp(_global_extremum_primal, nondiff_argnums=(0, 1))


def _global_extremum_fwd(largest: bool, call: _GlobalCall, x):
    flat = to_plain(call.layout, x).reshape(call.flat_shape)
    # The first NaN, or else the first extremum.
    winner = (jnp.argmax if largest else jnp.argmin)(flat, axis=1).astype(jnp.int32)
    return _winning(call, flat, winner).reshape(call.output_shape), winner


def _global_extremum_bwd(largest: bool, call: _GlobalCall, winner, dy):
    # y[n,c] = x[n,t,c] at the winning position t = t[n,c], so
    #   dx[n,u,c] = dy[n,c] · [u = t[n,c]]
    dy = jnp.expand_dims(dy.reshape(winner.shape), 1)
    return (call.restored(jnp.where(_won(call, winner), dy, 0)),)


def _won(call: _GlobalCall, winner):
    """[u = t[n,c]] as an array over (n, u, c)."""
    return lax.broadcasted_iota(winner.dtype, call.flat_shape, 1) == jnp.expand_dims(winner, 1)


def _winning(call: _GlobalCall, flat, winner):
    """x[n,t,c] at the winning position."""
    return jnp.max(jnp.where(_won(call, winner), flat, -jnp.inf), axis=1)


_global_extremum.defvjp(_global_extremum_fwd, _global_extremum_bwd)
_global_extremum_jit = jax.jit(_global_extremum, static_argnums=(0, 1))


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
    return _global_extremum_jit(True, _not_empty(call), x)


def global_min_pool(
    x: jax.Array,
    *,
    spatial_ndim: int | None = None,
    keepdims: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """The smallest element of every channel over all spatial positions.

    Formula, with u over all spatial positions:

        y[n,c] = min_u x[n,u,c]
    Gradient, with t[n,c] the first position, in row-major order, that attains the minimum:
        dx[n,u,c] = dy[n,c] · [u = t[n,c]]

    Ties and NaN are as in `global_max_pool`.

    Args:
        x: (*batch, *spatial, C); (*batch, C, *spatial) for "channels_first".
        spatial_ndim: as in `global_max_pool`, like all that follow.
        keepdims: as in `global_max_pool`.
        data_format: as in `global_max_pool`.

    Returns:
        y, (*batch, C), or with keepdims (*batch, 1, ..., 1, C) or (*batch, C, 1, ..., 1).

    Raises:
        ValueError, TypeError: as in `global_max_pool`.

    Saved for the backward: t, four bytes per element of y. Not x.

    Reference: the global max pooling of −x, negated.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> global_min_pool(x).tolist()
        [[0.0]]
    """
    x, call = _prepare_global(x, spatial_ndim, keepdims, data_format)
    return _global_extremum_jit(False, _not_empty(call), x)


def _not_empty(call: _GlobalCall) -> _GlobalCall:
    if call.flat_shape[1] == 0:
        raise ValueError(
            f"x: got shape {call.input_shape} without any spatial position, expected at least one: of none there is no "
            "extremum"
        )
    return call


# --- global_sum_pool and global_avg_pool ---


def _global_sum_primal(divisor: int, call: _GlobalCall, x):
    flat = to_plain(call.layout, x).reshape(call.flat_shape)
    total = jnp.sum(flat.astype(accumulator(x.dtype)), axis=1)
    return (total / divisor).astype(x.dtype).reshape(call.output_shape)


_global_sum = jax.custom_vjp(_global_sum_primal, nondiff_argnums=(0, 1))


def _global_sum_fwd(divisor: int, call: _GlobalCall, x):
    return _global_sum_primal(divisor, call, x), ()


def _global_sum_bwd(divisor: int, call: _GlobalCall, saved, dy):
    # Every x[n,u,c] enters y[n,c] once, with the factor 1/m, so
    #   dx[n,u,c] = dy[n,c] / m
    del saved
    n, _, channels = call.flat_shape
    dx = dy.reshape(n, 1, channels).astype(accumulator(dy.dtype)) / divisor
    return (call.restored(jnp.broadcast_to(dx.astype(dy.dtype), call.flat_shape)),)


_global_sum.defvjp(_global_sum_fwd, _global_sum_bwd)
_global_sum_jit = jax.jit(_global_sum, static_argnums=(0, 1))


def global_sum_pool(
    x: jax.Array,
    *,
    spatial_ndim: int | None = None,
    keepdims: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """The sum of every channel over all spatial positions.

    Formula, with u over all spatial positions:

        y[n,c] = sum_u x[n,u,c]
    Gradient:
        dx[n,u,c] = dy[n,c]

    Args:
        x: (*batch, *spatial, C); (*batch, C, *spatial) for "channels_first".
        spatial_ndim: as in `global_max_pool`, like all that follow.
        keepdims: as in `global_max_pool`.
        data_format: as in `global_max_pool`.

    Returns:
        y, (*batch, C), or with keepdims (*batch, 1, ..., 1, C) or (*batch, C, 1, ..., 1); bfloat16 and float16 are
        summed in float32.

    Raises:
        ValueError: too few axes. TypeError: x is not a floating array.

    Saved for the backward: nothing; the op is linear.

    Reference: K. Xu, W. Hu, J. Leskovec, S. Jegelka, How powerful are graph neural networks?, ICLR 2019 (its readout).

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> global_sum_pool(x).tolist()
        [[120.0]]
    """
    x, call = _prepare_global(x, spatial_ndim, keepdims, data_format)
    return _global_sum_jit(1, call, x)


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
    return _global_sum_jit(max(1, call.flat_shape[1]), call, x)


# --- global_lp_pool ---


def _global_lp_primal(p: float, call: _GlobalCall, x):
    return _global_lp_fwd(p, call, x)[0]


_global_lp = jax.custom_vjp(_global_lp_primal, nondiff_argnums=(0, 1))


def _global_lp_fwd(p: float, call: _GlobalCall, x):
    size = jnp.abs(to_plain(call.layout, x).astype(accumulator(x.dtype))).reshape(call.flat_shape)
    y = lp_value(p, *_soft_maximum(call, size, lp_share(p), lp_least(size.dtype)))
    return y.astype(x.dtype).reshape(call.output_shape), (x, y)


def _global_lp_bwd(p: float, call: _GlobalCall, saved, dy):
    # y[n,c]^e = sum_u |x[n,u,c]|^e, so e·y^(e−1)·dy/dx = e·|x|^(e−1)·sign(x), and
    #   dx[n,u,c] = sign(x[n,u,c]) · (|x[n,u,c]| / y[n,c])^(e−1) · dy[n,c]
    x, y = saved
    a, c, weight = lp_weight(p, to_plain(call.layout, x).reshape(call.flat_shape).astype(y.dtype), y)
    dx = weight(a, jnp.expand_dims(c, 1)) * jnp.expand_dims(dy.reshape(y.shape).astype(y.dtype), 1)
    return (call.restored(dx.astype(dy.dtype)),)


def _soft_maximum(call: _GlobalCall, flat, share, least):
    """m[n,c] = max_u x[n,u,c], and r[n,c] = sum_u share(x[n,u,c], m[n,c]) but for the largest; see _soft_maximum.py."""
    n, positions, channels = call.flat_shape
    if positions == 0:
        nothing = jnp.full((n, channels), least, flat.dtype), jnp.full((n, channels), -1, flat.dtype)
        return tuple(varying_alike(*nothing, flat)[:2])
    winner = jnp.argmax(flat, axis=1)
    largest = _winning(call, flat, winner)
    m = jnp.maximum(largest, least)
    others = jnp.where(_won(call, winner), 0, share(flat, jnp.expand_dims(m, 1)))
    return m, jnp.sum(others, axis=1) + (share(largest, m) - 1)


_global_lp.defvjp(_global_lp_fwd, _global_lp_bwd)
_global_lp_jit = jax.jit(_global_lp, static_argnums=(0, 1))


def global_lp_pool(
    x: jax.Array,
    p: float,
    *,
    spatial_ndim: int | None = None,
    keepdims: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """The p-norm of every channel over all spatial positions.

    Formula, with u over all spatial positions; e is the argument p:

        y[n,c] = (sum_u |x[n,u,c]|^e)^(1/e)
    Gradient:
        dx[n,u,c] = sign(x[n,u,c]) · (|x[n,u,c]| / y[n,c])^(e−1) · dy[n,c]

    Zeros, infinities, NaN and the range of the powers are as in `lp_pool`.

    Args:
        x: (*batch, *spatial, C); (*batch, C, *spatial) for "channels_first".
        p: e, a Python number, at least 1. For the limit p = inf take `global_max_pool` of `jnp.abs(x)`.
        spatial_ndim: as in `global_max_pool`, like all that follow.
        keepdims: as in `global_max_pool`.
        data_format: as in `global_max_pool`.

    Returns:
        y, (*batch, C), or with keepdims (*batch, 1, ..., 1, C) or (*batch, C, 1, ..., 1); bfloat16 and float16 are
        computed in float32. 0 where there is no position.

    Raises:
        ValueError: p below 1 or infinite, too few axes. TypeError: p is not a Python number, x not a floating array.

    Saved for the backward: x and y, y in at least float32 (for float32 and float64 the result itself).

    Reference: F. Radenović, G. Tolias, O. Chum, Fine-tuning CNN image retrieval with no human annotation, TPAMI 2019
    (with the mean in place of the sum: generalised mean pooling).

    Example:
        >>> x = jnp.array([3.0, -4.0]).reshape(1, 2, 1)
        >>> global_lp_pool(x, 2).tolist()
        [[5.0]]
    """
    p = checked_exponent(p)
    x, call = _prepare_global(x, spatial_ndim, keepdims, data_format)
    return _global_lp_jit(p, call, x)


# --- global_logsumexp_pool ---


def _global_logsumexp_primal(t: float, call: _GlobalCall, x):
    return _global_logsumexp_fwd(t, call, x)[0]


_global_logsumexp = jax.custom_vjp(_global_logsumexp_primal, nondiff_argnums=(0, 1))


def _global_logsumexp_fwd(t: float, call: _GlobalCall, x):
    flat = to_plain(call.layout, x).reshape(call.flat_shape).astype(accumulator(x.dtype))
    m, r = _soft_maximum(call, flat, lse_share(t), lse_least(flat.dtype))
    return lse_value(t, m, r).astype(x.dtype).reshape(call.output_shape), (x, m, r)


def _global_logsumexp_bwd(t: float, call: _GlobalCall, saved, dy):
    # exp(t·y) = sum_u exp(t·x), so exp(t·y)·dy/dx = exp(t·x), and
    #   dx[n,u,c] = exp(t·(x[n,u,c] − y[n,c])) · dy[n,c]
    # with exp(t·(x − y)) = exp(t·(x − m)) / (1 + r): m is exact, but y is rounded, and t·y may be large.
    x, m, r = saved
    dy_ = dy.reshape(m.shape).astype(m.dtype) / jnp.where(r == -1, 1, 1 + r)
    flat = to_plain(call.layout, x).reshape(call.flat_shape).astype(m.dtype)
    dx = lse_share(t)(flat, jnp.expand_dims(m, 1)) * jnp.expand_dims(dy_, 1)
    return (call.restored(dx.astype(dy.dtype)),)


_global_logsumexp.defvjp(_global_logsumexp_fwd, _global_logsumexp_bwd)
_global_logsumexp_jit = jax.jit(_global_logsumexp, static_argnums=(0, 1))


def global_logsumexp_pool(
    x: jax.Array,
    *,
    sharpness: float = 1.0,
    spatial_ndim: int | None = None,
    keepdims: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """A smooth maximum of every channel over all spatial positions.

    Formula, with u over all spatial positions and t the sharpness:

        y[n,c] = (1/t) · log sum_u exp(t·x[n,u,c])
    Gradient, the softmax weight of every position:
        dx[n,u,c] = exp(t·(x[n,u,c] − y[n,c])) · dy[n,c]

    With the mean in place of the sum, as Pinheiro and Collobert have it, y is less by log(P)/t, with P positions.
    Infinities, NaN and accuracy are as in `logsumexp_pool`.

    Args:
        x: (*batch, *spatial, C); (*batch, C, *spatial) for "channels_first".
        sharpness: t, a Python number above 0; its inverse is often called the temperature.
        spatial_ndim: as in `global_max_pool`, like all that follow.
        keepdims: as in `global_max_pool`.
        data_format: as in `global_max_pool`.

    Returns:
        y, (*batch, C), or with keepdims (*batch, 1, ..., 1, C) or (*batch, C, 1, ..., 1); bfloat16 and float16 are
        computed in float32. −inf where there is no position.

    Raises:
        ValueError: sharpness not above 0 or infinite, too few axes. TypeError: sharpness is not a Python number, x not
            a floating array.

    Saved for the backward: x, and two numbers per element of y in at least float32: the largest element, and the sum of
    exp(t·(x − largest)) over the others.

    Reference: P. Pinheiro, R. Collobert, From image-level to pixel-level labeling with convolutional networks, CVPR
    2015.

    Example:
        >>> x = jnp.array([0.0, 0.0, -1e9]).reshape(1, 3, 1)
        >>> global_logsumexp_pool(x).round(4).tolist()
        [[0.6930999755859375]]
    """
    t = checked_sharpness(sharpness)
    x, call = _prepare_global(x, spatial_ndim, keepdims, data_format)
    return _global_logsumexp_jit(t, call, x)


def _prepare_global(x, spatial_ndim, keepdims, data_format) -> tuple[jax.Array, _GlobalCall]:
    (x,) = float_arrays(x=x)
    spatial_ndim = check_spatial_ndim(spatial_ndim, x.shape, minimum=1)
    return x, _GlobalCall(layout_of("x", x.shape, spatial_ndim, data_format), x.shape, flag("keepdims", keepdims))
