"""Normalisation: every element less the mean of its set, divided by the set's standard deviation.

The ops differ in which elements make a set: those of a channel (batch), of an example (layer), of a group of channels
of an example (group), of one channel of an example (instance). One rule serves them all. With i and j over the N
elements of a set, and γ and β the scale and the bias of an element:

    μ = (1/N)·sum_j x_j    v = (1/N)·sum_j (x_j − μ)²    r = 1/sqrt(v + ε)    x̂_i = (x_i − μ)·r    y_i = γ_i·x̂_i + β_i

    dμ/dx_i = 1/N
    dv/dx_i = (2/N)·(x_i − μ)               (the term with dμ vanishes: the deviations sum to 0)
    dr/dx_i = −(1/2)·r³·dv/dx_i = −r²·x̂_i/N
    dx̂_j/dx_i = ([i = j] − 1/N)·r − x̂_j·x̂_i·r/N

so that with dŷ_j = γ_j·dy_j, and sums over the set,

    dx_i = r·(dŷ_i − (1/N)·sum_j dŷ_j − x̂_i·(1/N)·sum_j dŷ_j·x̂_j)
    dγ   = sum of dy·x̂, dβ = sum of dy, over all elements that the γ or β belongs to

Variants. Without the mean (RMS norm): μ = 0, and the second term goes. With mean and variance among the results, added:
(1/N)·dμ + (2/N)·(x_i − μ)·dv. With statistics over some elements only (a mask m): 1/N becomes m_i/sum_j m_j. With a
mean and a variance that are given: dx_i = r·dŷ_i, dμ = −r·sum_j dŷ_j, dv = −(1/2)·r²·sum_j dŷ_j·x̂_j.

What is saved is x, not x̂: x is often alive anyway, and keeps all its digits where x̂ would be rounded to a narrow dtype.
With it, the rough mean, the rest of the mean and r: three numbers per set.
"""

import dataclasses
import functools
import math
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import float_arrays, mask_array, number, varying_alike
from jaxconv._rows import checked_axis
from jaxconv.algorithms.apart import made_apart_on_cpu
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.geometry import DataFormat, Layout, check_groups, check_spatial_ndim, layout_of

__all__ = [
    "batch_norm",
    "batch_norm_inference",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
    "standardize",
]

Axes = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Call:
    """All that is static about a normalisation."""

    shape: tuple[int, ...]  # of x, its axes split so that a set has all elements
    axes: Axes  # along these,
    parameter_axes: Axes  # and scale and bias have a value for each element along these
    epsilon: float
    centred: bool = True  # whether the mean is subtracted
    statistics: bool = False  # whether mean and variance are results, too
    axis_name: tuple[Hashable, ...] = ()  # axes of a mesh or of vmap that sets extend over
    devices: int = 1  # the product of their sizes

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return tuple(size if axis in self.parameter_axes else 1 for axis, size in enumerate(self.shape))

    @property
    def alike(self) -> Axes:
        """The axes of a set along which scale and bias are the same."""
        return tuple(axis for axis in self.axes if axis not in self.parameter_axes)

    def parameter(self, a):
        """scale or bias, broadcastable against x."""
        return None if a is None else a.reshape(self.parameter_shape)


# --- every normalisation by statistics of x ---


def _norm_primal(call: _Call, x, where, scale, bias):
    return _norm_fwd(call, x, where, scale, bias)[0]


_norm = jax.custom_vjp(_norm_primal, nondiff_argnums=(0,))


def _norm_fwd(call: _Call, x, where, scale, bias):
    x_ = x.astype(accumulator(x.dtype))
    count = _count(call, x_, where)
    rough = None
    if call.centred:
        # A sum of numbers far from 0 is off by some eps of them, and every deviation with it: a constant would not be
        # constant. So what a rough mean leaves is averaged once more. No derivative: no result depends on `rough`.
        rough = lax.stop_gradient(_over_devices(call, _sum(call, x_, where) / count))
        x_ = x_ - rough
    parts = _sum(call, x_, where) / count if call.centred else None, _sum(call, x_ * x_, where) / count
    rest, variance = _moments(*_over_devices(call, parts))
    r = lax.rsqrt(variance + call.epsilon)
    y = _less(x_, rest) * r
    y = y if scale is None else y * scale.astype(y.dtype)
    y = y if bias is None else y + bias.astype(y.dtype)
    # The parts, not the sums over all devices, are results: the caller's psum is differentiated by JAX, which knows
    # whether a sum is one number or one per device.
    results = y.astype(x.dtype), (rough, parts) if call.statistics else None
    return results, (x, where, scale, None if bias is None else (), rough, rest, r)


def _norm_bwd(call: _Call, saved, cotangents):
    gradients = functools.partial(_gradients, call)
    if call.axis_name:  # the sums over devices stay in the program itself
        return gradients(saved, cotangents)
    return made_apart_on_cpu(gradients, saved, cotangents)


def _gradients(call: _Call, saved, cotangents):
    # With e = x − μ, x̂ = e·r, sums over the set, and N (or sum_j m_j) its number of elements:
    #   dx_i = r·(dŷ_i − (m_i/N)·sum_j dŷ_j − (m_i/N)·x̂_i·sum_j dŷ_j·x̂_j)        dŷ_j = γ_j·dy_j
    #   dγ   = sum dy·x̂
    #   dβ   = sum dy
    # and if the statistics are results, a = sum_j (x_j − ρ)/N, b = sum_j (x_j − ρ)²/N on this device, ρ the rough mean:
    #   dx_i += (1/N)·da + (2/N)·(x_i − ρ)·db
    x, where, scale, bias, rough, rest, r = saved
    dy, dstatistics = cotangents
    dy = dy.astype(r.dtype)
    count = _count(call, x, where)
    less_rough = _less(x.astype(r.dtype), rough)
    normal = _less(less_rough, rest) * r  # x̂

    # The elements of a set that share a γ are summed once, for dγ and for dx.
    sums, products = (_in_two_steps(call, jnp.sum(a, call.alike, keepdims=True)) for a in (dy, dy * normal))
    dscale = None if scale is None else _sum_to(call.parameter_shape, products).astype(scale.dtype)
    dbias = None if bias is None else _sum_to(call.parameter_shape, sums).astype(x.dtype)

    gamma = None if scale is None else scale.astype(r.dtype)
    totals = [jnp.sum(_times(a, gamma), call.axes, keepdims=True) for a in (sums, products)]
    through_mean, through_r = (total / count for total in _over_devices(call, totals))
    through = normal * through_r
    through = through + through_mean if call.centred else through
    through = through if where is None else jnp.where(where, through, 0)
    dx = (_times(dy, gamma) - through) * r
    if dstatistics is not None:
        _, (da, db) = dstatistics  # nothing depends on the rough mean
        dx = dx + (da + 2 * less_rough * db) / count
    return dx.astype(x.dtype), None, dscale, dbias


def _sum(call: _Call, a, where):
    """The sum over each set, as far as it is on this device."""
    a = a if where is None else jnp.where(where, a, 0)
    return jnp.sum(_in_two_steps(call, jnp.sum(a, call.alike, keepdims=True)), call.axes, keepdims=True)


def _in_two_steps(call: _Call, a):
    """A sum over some axes of a set, made before that over the others where these are no neighbours.

    In group_norm, channels last, one sum over positions and the group's channels takes XLA on a CPU 3 times as long.
    """
    split = call.alike not in ((), call.axes) and call.axes[-1] - call.axes[0] >= len(call.axes)
    return lax.optimization_barrier(a) if split else a


def _over_devices(call: _Call, parts):
    return lax.psum(parts, call.axis_name) if call.axis_name else parts


def _count(call: _Call, x, where):
    """The number of elements of each set. 1 where there are none, so that their mean is 0; with a mask 0: it is NaN."""
    if where is not None:
        return _sum(call, jnp.ones(call.shape, accumulator(x.dtype)), where)
    return max(1, call.devices * math.prod(call.shape[axis] for axis in call.axes))


def _moments(mean, mean_square):
    """The mean and the variance, from the mean and the mean square; None stands for a mean that is not subtracted."""
    if mean is None:
        return None, mean_square
    variance = mean_square - mean * mean
    return mean, jnp.where(variance < 0, 0, variance)  # a constant's may round below 0; NaN stays


def _less(a, b):
    return a if b is None else a - b


def _times(a, b):
    return a if b is None else a * b


def _sum_to(shape, a):
    """The sum over the axes along which `shape` has size 1."""
    return jnp.sum(a, [axis for axis, size in enumerate(shape) if size == 1], keepdims=True)


_norm.defvjp(_norm_fwd, _norm_bwd)


# --- batch_norm ---


@functools.partial(jax.jit, static_argnums=(0, 1))
def _batch_norm_jit(call: _Call, dtype, x, scale, bias):
    """y, and mean and variance in this dtype."""
    y, statistics = _norm(call, x, None, call.parameter(scale), call.parameter(bias))
    rough, parts = statistics
    mean, variance = _moments(*_over_devices(call, parts))
    flat = [a.reshape(a.size).astype(dtype) for a in (lax.stop_gradient(rough) + mean, variance)]
    return y, *flat


def batch_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
    axis_name: Hashable | tuple[Hashable, ...] | None = None,
    spatial_ndim: int | None = None,
    data_format: DataFormat = "channels_last",
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch normalisation, as in training: every channel by its mean and variance over everything else.

    Formula, n over the M elements of a channel (all batch axes, positions, and devices along axis_name):
        mean[c] = (1/M)·sum_n x[n,c]
        var[c] = (1/M)·sum_n (x[n,c] − mean[c])²
        y[n,c] = scale[c]·x̂[n,c] + bias[c],  x̂[n,c] = (x[n,c] − mean[c])·r[c],  r[c] = 1/sqrt(var[c] + epsilon)
    Gradient, n and m over the same elements:
        dx[n,c] = r[c]·scale[c]·(dy[n,c] − (1/M)·sum_m dy[m,c] − x̂[n,c]·(1/M)·sum_m dy[m,c]·x̂[m,c])
                  + (1/M)·dmean[c] + (2/M)·(x[n,c] − mean[c])·dvar[c]
        dscale[c] = sum_n dy[n,c]·x̂[n,c]
        dbias[c] = sum_n dy[n,c]

    var is the biased variance, divided by M. For the running variance of inference, which is usually the unbiased one,
    take var·M/(M − 1); keep running averages in float32. The mean is made twice, the second time of what the first
    leaves, so that channels far from 0 keep their digits, and a constant channel gives y = bias.

    NaN or ±inf in a channel make all of it NaN, and no other. One element per channel (M = 1) gives y = bias and dx =
    0; none gives mean = var = 0.

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        scale: (C,), or None for 1.
        bias: (C,), or None for 0.
        epsilon: added to the variance; a Python number, at least 0. With 0, a constant channel gives NaN.
        axis_name: the axis, or axes, of `jax.shard_map`, `jax.vmap` or `jax.pmap` over which the batch is spread, so
            that the statistics are those of the whole batch; None: those of x.
        spatial_ndim: how many spatial axes x has; None means all but the first (batch) and the channels. It matters to
            "channels_first" alone, where it says which axis has the channels.
        data_format: "channels_last" or "channels_first".

    Returns:
        (y, mean, var): y of x's shape, mean and var (C,), all of x's dtype and differentiable; bfloat16 and float16 are
        computed in float32.

    Raises:
        ValueError: shapes that do not fit, an unknown axis_name. TypeError: arguments that are not floating arrays of
            one dtype, an epsilon that is not a Python number.

    Saved for the backward: x and scale themselves, and three numbers per channel.

    Reference: S. Ioffe, C. Szegedy, Batch normalization, ICML 2015, arXiv:1502.03167; over devices as in `flax.linen.
    BatchNorm`. The second sum: T. Chan, G. Golub, R. LeVeque, Algorithms for computing the sample variance, 1983.

    Example:
        >>> y, mean, var = batch_norm(jnp.array([[1.0, 5.0], [3.0, 5.0]]), epsilon=0.01)
        >>> mean.tolist(), var.tolist()
        ([2.0, 5.0], [1.0, 0.0])
        >>> y.round(2).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    call, x, scale, bias = _prepare_batch(x, scale, bias, epsilon, axis_name, spatial_ndim, data_format)
    return _batch_norm_jit(call, x.dtype, x, scale, bias)


def batch_norm_wide(x, scale, bias, *, epsilon: float, axis_name) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`batch_norm`, with mean and var as they are computed, in at least float32: for running averages.

    In float16 a variance from 65,520 on would be infinite, and so would its average be from then on.
    """
    call, x, scale, bias = _prepare_batch(x, scale, bias, epsilon, axis_name, None, "channels_last")
    return _batch_norm_jit(call, accumulator(x.dtype), x, scale, bias)


def _prepare_batch(x, scale, bias, epsilon, axis_name, spatial_ndim, data_format):
    x, scale, bias = float_arrays(x=x, scale=scale, bias=bias)
    channel = _channel_axis(x, spatial_ndim, data_format)
    _check_shapes((x.shape[channel],), x.shape, "one per channel", scale=scale, bias=bias)
    others = tuple(axis for axis in range(x.ndim) if axis != channel)
    names, devices = _mapped(axis_name)
    call = _Call(x.shape, others, (channel,), _epsilon(epsilon), statistics=True, axis_name=names, devices=devices)
    return call, x, scale, bias


# --- normalisation by a mean and a variance that are given ---


def _given_primal(epsilon: float, x, mean, variance, scale, bias):
    e, r = _deviation(epsilon, x, mean, variance)
    y = _times(e * r, None if scale is None else scale.astype(r.dtype))
    return (y if bias is None else y + bias.astype(y.dtype)).astype(x.dtype)


def _deviation(epsilon: float, x, mean, variance):
    """x − μ and r."""
    acc = accumulator(x.dtype)
    return x.astype(acc) - mean.astype(acc), lax.rsqrt(variance.astype(acc) + epsilon)


_given = jax.custom_vjp(_given_primal, nondiff_argnums=(0,))


def _given_fwd(epsilon: float, x, mean, variance, scale, bias):
    y = _given_primal(epsilon, x, mean, variance, scale, bias)
    return y, (x, mean, variance, scale, None if bias is None else ())


def _given_bwd(epsilon: float, saved, dy):
    # With x̂ = (x − μ)·r and dr/dv = −(1/2)·r³, sums over all elements that μ, v, γ and β belong to:
    #   dx = γ·r·dy
    #   dμ = −γ·r·sum dy
    #   dv = −(1/2)·γ·r²·sum dy·x̂
    #   dγ = sum dy·x̂
    #   dβ = sum dy
    x, mean, variance, scale, bias = saved
    e, r = _deviation(epsilon, x, mean, variance)
    dy = dy.astype(r.dtype)
    slope = _times(r, None if scale is None else scale.astype(r.dtype))
    sums, products = _sum_to(mean.shape, dy), _sum_to(mean.shape, dy * (e * r))
    dx, dmean, dvariance = slope * dy, -slope * sums, -0.5 * slope * r * products
    dscale, dbias = None if scale is None else products.astype(x.dtype), None if bias is None else sums.astype(x.dtype)
    return dx.astype(x.dtype), dmean.astype(x.dtype), dvariance.astype(x.dtype), dscale, dbias


_given.defvjp(_given_fwd, _given_bwd)


# --- batch_norm_inference ---


@functools.partial(jax.jit, static_argnums=(0, 1))
def _inference_jit(epsilon: float, channel: int, x, *of_channels):
    shape = tuple(size if axis == channel else 1 for axis, size in enumerate(x.shape))
    return _given(epsilon, x, *(None if a is None else a.reshape(shape) for a in of_channels))


def batch_norm_inference(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
    spatial_ndim: int | None = None,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Batch normalisation, as in inference: every channel by a mean and a variance that are given.

    Formula, n over all elements of a channel:
        y[n,c] = scale[c]·x̂[n,c] + bias[c],  x̂[n,c] = (x[n,c] − mean[c])·r[c],  r[c] = 1/sqrt(var[c] + epsilon)
    Gradient:
        dx[n,c] = r[c]·scale[c]·dy[n,c]
        dmean[c] = −r[c]·scale[c]·sum_n dy[n,c]
        dvar[c] = −(1/2)·r[c]²·scale[c]·sum_n dy[n,c]·x̂[n,c]
        dscale[c] = sum_n dy[n,c]·x̂[n,c]
        dbias[c] = sum_n dy[n,c]

    NaN stays where it is. var + epsilon below 0 gives NaN.

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        mean: (C,).
        var: (C,), not negative.
        scale: (C,), or None for 1.
        bias: (C,), or None for 0.
        epsilon: added to the variance; a Python number, at least 0.
        spatial_ndim: as in `batch_norm`.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit. TypeError: arguments that are not floating arrays of one dtype, an epsilon
            that is not a Python number.

    Saved for the backward: the arguments themselves, without bias; nothing is copied.

    Reference: S. Ioffe, C. Szegedy, Batch normalization, ICML 2015, arXiv:1502.03167, section 3.1.

    Example:
        >>> batch_norm_inference(jnp.array([[1.0], [3.0]]), jnp.array([2.0]), jnp.array([0.25]), epsilon=0).tolist()
        [[-2.0], [2.0]]
    """
    x, mean, var, scale, bias = float_arrays(x=x, mean=mean, var=var, scale=scale, bias=bias)
    channel = _channel_axis(x, spatial_ndim, data_format)
    _check_shapes((x.shape[channel],), x.shape, "one per channel", mean=mean, var=var, scale=scale, bias=bias)
    return _inference_jit(_epsilon(epsilon), channel, x, mean, var, scale, bias)


# --- layer_norm, rms_norm, group_norm, instance_norm ---


@functools.partial(jax.jit, static_argnums=0)
def _norm_jit(call: _Call, x, where, scale, bias):
    y, _ = _norm(call, x.reshape(call.shape), where, call.parameter(scale), call.parameter(bias))
    return y.reshape(x.shape)


def layer_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-5,
) -> jax.Array:
    """Layer normalisation: every example by the mean and the variance of its own elements.

    Formula, i and j over the N elements along the axis, or axes:
        mean = (1/N)·sum_j x_j
        var = (1/N)·sum_j (x_j − mean)²
        y_i = scale_i·x̂_i + bias_i,  x̂_i = (x_i − mean)·r,  r = 1/sqrt(var + epsilon)
    Gradient, with g_j = scale_j·dy_j, and n over all examples:
        dx_i = r·(g_i − (1/N)·sum_j g_j − x̂_i·(1/N)·sum_j g_j·x̂_j)
        dscale_i = sum_n dy[n,i]·x̂[n,i]
        dbias_i = sum_n dy[n,i]

    NaN or ±inf in an example make all of it NaN, and no other. Examples far from 0 keep their digits, and a constant
    one gives y = bias, as in `batch_norm`.

    Args:
        x: any shape with at least one axis.
        scale: of the shape of the normalised axes, in the order that they have in x; or None for 1.
        bias: of the same shape; or None for 0.
        axis: the axis, or axes, that are normalised together. For (*batch, *spatial, C), −1 normalises every position
            by itself, and all axes but the batch every example.
        epsilon: added to the variance; a Python number, at least 0. With 0, a constant example gives NaN.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit, axis out of range or repeated. TypeError: arguments that are not floating
            arrays of one dtype, an epsilon that is not a Python number.

    Saved for the backward: x and scale themselves, and three numbers per example.

    Reference: J. Ba, J. Kiros, G. Hinton, Layer normalization, arXiv:1607.06450.

    Example:
        >>> layer_norm(jnp.array([[1.0, 3.0], [10.0, 30.0]]), epsilon=0).tolist()
        [[-1.0, 1.0], [-1.0, 1.0]]
    """
    x, scale, bias = float_arrays(x=x, scale=scale, bias=bias)
    axes = checked_axis(axis, x.shape)
    _check_shapes(_sizes(x, axes), x.shape, "that of the normalised axes", scale=scale, bias=bias)
    return _norm_jit(_Call(x.shape, axes, axes, _epsilon(epsilon)), x, None, scale, bias)


def rms_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    *,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-6,
) -> jax.Array:
    """Root mean square normalisation: layer normalisation without the mean.

    Formula, i and j over the N elements along the axis, or axes:
        y_i = scale_i·x̂_i,  x̂_i = x_i·r,  r = 1/sqrt((1/N)·sum_j x_j² + epsilon)
    Gradient, with g_j = scale_j·dy_j, and n over all examples:
        dx_i = r·(g_i − x̂_i·(1/N)·sum_j g_j·x̂_j)
        dscale_i = sum_n dy[n,i]·x̂[n,i]

    NaN in an example makes all of it NaN, and no other. With ±inf, finite elements become 0 and infinite ones NaN.

    Args:
        x: any shape with at least one axis.
        scale: of the shape of the normalised axes, in the order that they have in x; or None for 1.
        axis: the axis, or axes, that are normalised together.
        epsilon: added to the mean square; a Python number, at least 0. With 0, an example of zeros gives NaN.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError, TypeError: as in `layer_norm`.

    Saved for the backward: x and scale themselves, and one number per example.

    Reference: B. Zhang, R. Sennrich, Root mean square layer normalization, NeurIPS 2019, arXiv:1910.07467.

    Example:
        >>> rms_norm(jnp.array([[1.0, -1.0], [7.0, 7.0]]), epsilon=0).tolist()
        [[1.0, -1.0], [1.0, 1.0]]
    """
    x, scale = float_arrays(x=x, scale=scale)
    axes = checked_axis(axis, x.shape)
    _check_shapes(_sizes(x, axes), x.shape, "that of the normalised axes", scale=scale)
    return _norm_jit(_Call(x.shape, axes, axes, _epsilon(epsilon), centred=False), x, None, scale, None)


def group_norm(
    x: jax.Array,
    groups: int,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
    spatial_ndim: int | None = None,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Group normalisation: every group of channels of every example by its own mean and variance.

    Formula, u and t over the P positions, k over the K = C/groups channels of c's group:
        mean[n,c] = (1/(P·K))·sum_{u,k} x[n,u,k]
        var[n,c] = (1/(P·K))·sum_{u,k} (x[n,u,k] − mean[n,c])²
        y[n,u,c] = scale[c]·x̂[n,u,c] + bias[c],  x̂[n,u,c] = (x[n,u,c] − mean[n,c])·r[n,c],  r = 1/sqrt(var + epsilon)
    Gradient, with g[n,u,c] = scale[c]·dy[n,u,c]:
        dx[n,u,c] = r[n,c]·(g[n,u,c] − (1/(P·K))·sum_{t,k} g[n,t,k] − x̂[n,u,c]·(1/(P·K))·sum_{t,k} g[n,t,k]·x̂[n,t,k])
        dscale[c] = sum_{n,u} dy[n,u,c]·x̂[n,u,c]
        dbias[c] = sum_{n,u} dy[n,u,c]

    The first K channels are the first group. NaN or ±inf make their group of their example NaN, and no other. Groups
    far from 0 keep their digits, and a constant one gives y = bias, as in `batch_norm`.

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        groups: the number of groups, a divisor of C. 1 normalises every example as a whole, C is `instance_norm`.
        scale: (C,), or None for 1.
        bias: (C,), or None for 0.
        epsilon: added to the variance; a Python number, at least 0. With 0, a constant group gives NaN.
        spatial_ndim: how many spatial axes x has; None means all but the first (batch) and the channels.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit, groups that do not divide C. TypeError: arguments that are not floating
            arrays of one dtype, an epsilon that is not a Python number.

    Saved for the backward: x and scale themselves, and three numbers per group and example.

    Reference: Y. Wu, K. He, Group normalization, ECCV 2018, arXiv:1803.08494.

    Example:
        >>> group_norm(jnp.array([[[1.0, 3.0, 10.0, 30.0]]]), 2, epsilon=0).tolist()
        [[[-1.0, 1.0, -1.0, 1.0]]]
    """
    return _by_groups(x, groups, scale, bias, epsilon, spatial_ndim, data_format)


def instance_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
    spatial_ndim: int | None = None,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Instance normalisation: every channel of every example by its own mean and variance.

    Formula, u and t over the P positions:
        mean[n,c] = (1/P)·sum_u x[n,u,c]
        var[n,c] = (1/P)·sum_u (x[n,u,c] − mean[n,c])²
        y[n,u,c] = scale[c]·x̂[n,u,c] + bias[c],  x̂[n,u,c] = (x[n,u,c] − mean[n,c])·r[n,c],  r = 1/sqrt(var + epsilon)
    Gradient:
        dx[n,u,c] = r[n,c]·scale[c]·(dy[n,u,c] − (1/P)·sum_t dy[n,t,c] − x̂[n,u,c]·(1/P)·sum_t dy[n,t,c]·x̂[n,t,c])
        dscale[c] = sum_{n,u} dy[n,u,c]·x̂[n,u,c]
        dbias[c] = sum_{n,u} dy[n,u,c]

    `group_norm` with one channel per group. One position (P = 1) gives y = bias and dx = 0.

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        scale: (C,), or None for 1.
        bias: (C,), or None for 0.
        epsilon: added to the variance; a Python number, at least 0. With 0, a constant channel gives NaN.
        spatial_ndim: how many spatial axes x has; None means all but the first (batch) and the channels.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError, TypeError: as in `group_norm`.

    Saved for the backward: x and scale themselves, and three numbers per channel and example.

    Reference: D. Ulyanov, A. Vedaldi, V. Lempitsky, Instance normalization, arXiv:1607.08022.

    Example:
        >>> instance_norm(jnp.array([[[1.0, 10.0], [3.0, 30.0]]]), epsilon=0).tolist()
        [[[-1.0, -1.0], [1.0, 1.0]]]
    """
    return _by_groups(x, None, scale, bias, epsilon, spatial_ndim, data_format)


def _by_groups(x, groups, scale, bias, epsilon, spatial_ndim, data_format):
    """Groups of channels; None for one channel per group."""
    x, scale, bias = float_arrays(x=x, scale=scale, bias=bias)
    layout = _layout(x, spatial_ndim, data_format)
    channel = layout.channel_axis(x.ndim)
    channels = x.shape[channel]
    groups = max(1, channels) if groups is None else check_groups(groups, input=channels)
    _check_shapes((channels,), x.shape, "one per channel", scale=scale, bias=bias)
    shape = (*x.shape[:channel], groups, channels // groups, *x.shape[channel + 1 :])
    # The channels' axis has become two: of the groups, and of the channels within one.
    first = x.ndim - 1 - layout.spatial_ndim if layout.channels_first else channel - layout.spatial_ndim
    axes = tuple(axis for axis in range(first, len(shape)) if axis != channel)
    return _norm_jit(_Call(shape, axes, (channel, channel + 1), _epsilon(epsilon)), x, None, scale, bias)


# --- standardize ---


_given_jit = jax.jit(_given, static_argnums=0)


def standardize(
    x: jax.Array,
    axis: int | Sequence[int] | None = -1,
    mean: jax.Array | None = None,
    variance: jax.Array | None = None,
    epsilon: float = 1e-5,
    where: jax.Array | None = None,
) -> jax.Array:
    """The elements along an axis less their mean, divided by their standard deviation.

    Formula, i and j over the elements along the axis, or axes, m_j = 1 where `where` is true, else 0, M = sum_j m_j:
        mean = (1/M)·sum_j m_j·x_j
        variance = (1/M)·sum_j m_j·(x_j − mean)²
        y_i = (x_i − mean)·r,  r = 1/sqrt(variance + epsilon)
    Gradient:
        dx_i = r·(dy_i − (m_i/M)·sum_j dy_j − y_i·(m_i/M)·sum_j dy_j·y_j)
    or, with a mean and a variance that are given:
        dx_i = r·dy_i
        dmean = −r·sum_j dy_j
        dvariance = −(1/2)·r²·sum_j dy_j·y_j

    Elements that `where` leaves out have no part in the mean and the variance, but are standardized by them. Where it
    leaves out all, y is NaN, as in `jax.nn.standardize`.

    Args:
        x: any shape.
        axis: the axis, or axes; None for all.
        mean: of x's shape with size 1 along the axes; or None. Together with variance.
        variance: of the same shape; or None.
        epsilon: added to the variance; a Python number, at least 0.
        where: booleans, of a shape that broadcasts to x's: the elements to take the mean and the variance of; None for
            all. Not together with a mean and a variance that are given.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit, axis out of range or repeated, a mean without a variance or the other way
            round. TypeError: arguments that are not floating arrays of one dtype, or where not an array of booleans.

    Saved for the backward: x, and where, mean and variance if they are given; else three numbers per set.

    Reference: `jax.nn.standardize`, with its algorithm="stable"; its default loses the digits of a small variance.

    Example:
        >>> standardize(jnp.array([1.0, 3.0]), epsilon=0).tolist()
        [-1.0, 1.0]
    """
    (given,) = float_arrays(x=x)
    axes = tuple(range(given.ndim)) if axis is None else checked_axis(axis, given.shape)
    epsilon = _epsilon(epsilon)
    if (mean is None) != (variance is None):
        raise ValueError(
            f"mean, variance: got {'a variance' if mean is None else 'a mean'} alone, expected both or neither: take "
            "the other one of x with jnp.mean or jnp.var, and keepdims=True"
        )
    if mean is None:
        x, where = varying_alike(given, mask_array(where, given.shape, "x"))
        return _norm_jit(_Call(x.shape, axes, (), epsilon), x, where, None, None)
    if where is not None:
        raise ValueError("where: got a mask beside a mean and a variance, expected None: it would change nothing")
    x, mean, variance = float_arrays(x=x, mean=mean, variance=variance)
    shape = tuple(1 if number in axes else size for number, size in enumerate(x.shape))
    _check_shapes(shape, x.shape, f"with size 1 along axis {axis}", mean=mean, variance=variance)
    return _given_jit(epsilon, x, mean, variance, None, None)


# --- arguments ---


def _sizes(x, axes: Axes) -> tuple[int, ...]:
    return tuple(x.shape[axis] for axis in axes)


def _channel_axis(x, spatial_ndim: int | None, data_format: DataFormat) -> int:
    if spatial_ndim is None and data_format == "channels_last":
        spatial_ndim = 0  # whichever: the channels are the last axis
    return _layout(x, spatial_ndim, data_format).channel_axis(x.ndim)


def _layout(x, spatial_ndim: int | None, data_format: DataFormat) -> Layout:
    spatial_ndim = check_spatial_ndim(spatial_ndim, x.shape, minimum=0)
    return layout_of("x", x.shape, spatial_ndim, data_format)


def _check_shapes(expected: tuple[int, ...], shape, what: str, **named) -> None:
    for name, a in named.items():
        if a is not None and a.shape != expected:
            raise ValueError(f"{name}: got shape {a.shape}, expected {expected}, {what}, for x of shape {shape}")


def _epsilon(epsilon: float) -> float:
    return number("epsilon", epsilon, 0, hint=": it is added to a variance")


def _mapped(axis_name) -> tuple[tuple[Hashable, ...], int]:
    """The names of the mapped axes, and the product of their sizes."""
    names = () if axis_name is None else tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    try:
        return names, math.prod(map(lax.axis_size, names))
    except NameError:
        raise ValueError(
            f"axis_name: got {axis_name!r}, expected axes that are mapped over here: call this inside jax.shard_map "
            "over a mesh that has them, or inside jax.vmap(..., axis_name=...)"
        ) from None
