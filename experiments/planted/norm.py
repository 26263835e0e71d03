"""Wrong versions of the normalisations."""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from experiments.planted.mutation import Mutation, Point, gradient, instead
from jaxconv.algorithms.dtypes import accumulator

# The rule of all but batch_norm_inference is one; its results are those of x, the mask, scale and bias.


def _called(**changes) -> Callable:
    """The rule's backward with other static options."""
    return lambda right: lambda call, *rest: right(dataclasses.replace(call, **changes), *rest)


def _count(call) -> int:
    return math.prod(call.shape[axis] for axis in call.axes)


def _scaled(a, saved):
    scale = saved[2]
    return a if scale is None else a * scale.astype(a.dtype)


def _with_variance_constant(dx, saved, cotangents, call):
    """Without −x̂·mean(dŷ·x̂)·r."""
    x, _, _, _, rough, rest, r = saved
    normal = (x - rough - rest) * r
    products = jnp.sum(_scaled(cotangents[0], saved) * normal, call.axes, keepdims=True)
    return dx + normal * products / _count(call) * r


def _all_constant(dx, saved, cotangents, call):
    return (_scaled(cotangents[0], saved) * saved[-1]).astype(dx.dtype)


def _of_variance(change: Callable) -> Callable:
    """The backward with the cotangent of the variance changed: change(dv, call)."""

    def wrong(right):
        def backward(call, saved, cotangents):
            dy, (rough, (da, db)) = cotangents
            return right(call, saved, (dy, (rough, (da, change(db, call)))))

        return backward

    return wrong


def _scale_behind(right):
    """The scale multiplied by the whole of dx: right where a set has one scale, as in batch_norm."""

    def backward(call, saved, cotangents):
        unscaled = right(call, (*saved[:2], None, *saved[3:]), cotangents)[0]
        return _scaled(unscaled, saved), *right(call, saved, cotangents)[1:]

    return backward


def _scale_forgotten(right):
    def backward(call, saved, cotangents):
        return right(call, (*saved[:2], None, *saved[3:]), cotangents)[0], *right(call, saved, cotangents)[1:]

    return backward


def _of_first_example(right):
    return lambda shape, a: right(shape, a[:1])


def _shared_by_the_group(dscale, saved, cotangents, call):
    return jnp.broadcast_to(jnp.mean(dscale, call.parameter_axes[1], keepdims=True), dscale.shape)


def _of_batch_too(right):
    return lambda call, *rest: right(dataclasses.replace(call, axes=(0, *call.axes)), *rest)


def _one_pass(call, x, where, scale, bias):
    """The variance as E[x²] − E[x]²."""
    x_ = x.astype(accumulator(x.dtype))
    mean = jnp.sum(x_, call.axes, keepdims=True) / _count(call)
    square = jnp.sum(x_ * x_, call.axes, keepdims=True) / _count(call)
    r = lax.rsqrt(jnp.maximum(square - mean * mean, 0) + call.epsilon)
    y = (x_ - mean) * r
    y = y if scale is None else y * scale.astype(y.dtype)
    y = y if bias is None else y + bias.astype(y.dtype)
    return (y.astype(x.dtype), None), (x, where, scale, None if bias is None else (), jnp.zeros_like(mean), mean, r)


def _as_in_training(dx, saved, dy, epsilon):
    """dx as if mean and variance were the batch's own."""
    x, mean, variance, scale, _ = saved
    r = lax.rsqrt(variance + epsilon)
    normal = (x - mean) * r
    axes = [axis for axis, size in enumerate(mean.shape) if size == 1]
    average = lambda a: jnp.mean(a, axes, keepdims=True)  # noqa: E731
    return (dy - average(dy) - normal * average(dy * normal)) * r * (1 if scale is None else scale)


def _mask_forgotten(right):
    return lambda call, saved, cotangents: right(call, (saved[0], None, *saved[2:]), cotangents)


_BATCH = Point("with mean and variance", "float64")
_IMAGES = Point("images", "float64")
_LAST = Point("last axis", "float64")

MUTATIONS = (
    Mutation("batch_norm without the mean's term", "batch_norm", _BATCH, {"norm:_norm_bwd": _called(centred=False)}),
    Mutation(
        "batch_norm without the variance's term",
        "batch_norm",
        _BATCH,
        {"norm:_norm_bwd": gradient(0, _with_variance_constant)},
    ),
    Mutation(
        "batch_norm with mean and variance held constant",
        "batch_norm",
        _BATCH,
        {"norm:_norm_bwd": gradient(0, _all_constant)},
        elsewhere=True,  # CrypTen#143
    ),
    Mutation(
        "the cotangent of the batch's variance ignored",
        "batch_norm",
        _BATCH,
        {"norm:_norm_bwd": _of_variance(lambda db, call: jnp.zeros_like(db))},
    ),
    Mutation(
        "the batch's variance divided by N − 1 in the gradient",
        "batch_norm",
        _BATCH,
        {"norm:_norm_bwd": _of_variance(lambda db, call: db * _count(call) / (_count(call) - 1))},
    ),
    Mutation(
        "batch_norm_inference with the gradient of training",
        "batch_norm_inference",
        _IMAGES,
        {"norm:_given_bwd": gradient(0, _as_in_training)},
        elsewhere=True,  # pytorch#586, pytorch/xla#913
    ),
    Mutation(
        "batch_norm_inference's dvariance without the 1/2",
        "batch_norm_inference",
        _IMAGES,
        {"norm:_given_bwd": gradient(2, lambda dvariance, saved, dy, epsilon: 2 * dvariance)},
    ),
    Mutation(
        "layer_norm's scale and bias of the first example alone",
        "layer_norm",
        _LAST,
        {"norm:_sum_to": _of_first_example},
    ),
    Mutation("layer_norm's scale outside the means", "layer_norm", _LAST, {"norm:_norm_bwd": _scale_behind}),
    Mutation(
        "layer_norm's variance as E[x²] − E[x]²",
        "layer_norm",
        Point("long sums, far from 0", "float64"),
        {"norm:_norm_fwd": instead(_one_pass)},
        elsewhere=True,  # pytorch#40302
    ),
    Mutation(
        "group_norm's scale gradient shared by the group",
        "group_norm",
        _IMAGES,
        {"norm:_norm_bwd": gradient(2, _shared_by_the_group)},
    ),
    Mutation("instance_norm's means over the batch, too", "instance_norm", _IMAGES, {"norm:_norm_bwd": _of_batch_too}),
    Mutation("rms_norm with layer_norm's gradient", "rms_norm", _LAST, {"norm:_norm_bwd": _called(centred=True)}),
    Mutation("rms_norm's scale forgotten in dx", "rms_norm", _LAST, {"norm:_norm_bwd": _scale_forgotten}),
    Mutation(
        "standardize's mask forgotten in the gradient",
        "standardize",
        Point("some elements only", "float64"),
        {"norm:_norm_bwd": _mask_forgotten},
    ),
)
