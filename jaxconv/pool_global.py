"""Global pooling: the maximum, the minimum, the sum, the average or a soft maximum over all spatial positions.

In every channel c, with u over all P positions: the pooling of one window as large as the input.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import float_arrays
from jaxconv._layout import from_plain, to_plain
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.geometry import DataFormat, Layout, layout_of

__all__ = ["global_avg_pool", "global_max_pool"]


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


# --- global_sum_pool and global_avg_pool ---


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
