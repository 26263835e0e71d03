"""Losses, under their optax names: one value per example, nothing averaged; the fused gradient softmax − target."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import float_arrays, integer_array, varying_alike
from jaxconv._rows import Axis, checked_axis, probabilities, row_normaliser

__all__ = ["softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels"]


# --- softmax_cross_entropy ---


def _soft_primal(axis: Axis, logits, labels):
    return _soft_fwd(axis, logits, labels)[0]


_soft = jax.custom_vjp(_soft_primal, nondiff_argnums=(0,))


def _soft_fwd(axis: Axis, logits, labels):
    largest, total = row_normaliser(logits, axis)
    labels_ = labels.astype(total.dtype)
    mass = jnp.sum(labels_, axis, keepdims=True)
    # L = sum_j t_j·(log sum_i exp(z_i) − z_j). 0·log 0 is 0: a class ruled out on both sides costs nothing.
    products = jnp.where(labels_ == 0, 0, labels_ * (logits.astype(total.dtype) - largest))
    loss = jnp.squeeze(mass * jnp.log(total), axis) - jnp.sum(products, axis)
    return loss.astype(logits.dtype), (logits, labels, largest, total, mass)


def _soft_bwd(axis: Axis, saved, dloss):
    # L = −sum_j t_j·log p_j, log p_j = z_j − log sum_i exp(z_i), dlog p_j/dz_i = [i = j] − p_i:
    #   dz_i = (p_i·sum_j t_j − t_i)·dL        softmax − target when the t_j sum to 1
    #   dt_i = −log p_i · dL
    logits, labels, largest, total, mass = saved
    dloss = jnp.expand_dims(dloss.astype(total.dtype), axis)
    dlogits = (probabilities(logits, largest, total, mass) - labels.astype(total.dtype)) * dloss
    # The largest logit first: log(total) + largest would lose the digits of a small loss.
    dlabels = (jnp.log(total) - (logits.astype(total.dtype) - largest)) * dloss
    return dlogits.astype(logits.dtype), dlabels.astype(labels.dtype)


_soft.defvjp(_soft_fwd, _soft_bwd)
_soft_jit = jax.jit(_soft, static_argnums=0)


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, axis: int = -1) -> jax.Array:
    """Cross-entropy between target probabilities and the softmax of logits.

    Formula, with z the logits, t the targets and p = softmax(z) along the axis:
        L = −sum_j t_j·log p_j = sum_j t_j·(log(sum_i exp(z_i)) − z_j)
    Gradient:
        dz_i = (p_i·sum_j t_j − t_i)·dL, which is (p − t)·dL for targets that sum to 1
        dt_i = −log p_i · dL

    0·log 0 counts as 0. Nothing is averaged: take the mean of the result yourself.

    Args:
        logits: z, (*batch, C), of any sign.
        labels: t, of the shape and dtype of the logits; usually non-negative and of sum 1 along the axis.
        axis: the axis of the classes.

    Returns:
        L, (*batch), of the logits' dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that differ, axis out of range. TypeError: arguments that are not floating arrays of one
            dtype.

    Saved for the backward: the logits and labels themselves, and three numbers per row.

    Reference: `optax.losses.softmax_cross_entropy`; C. Bishop, Pattern recognition and machine learning (2006),
    section 4.3.4.

    Example:
        >>> logits, labels = jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 0.0]])
        >>> jax.grad(lambda z: softmax_cross_entropy(z, labels).sum())(logits).tolist()
        [[-0.5, 0.5]]
    """
    logits, labels = float_arrays(logits=logits, labels=labels)
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels: got shape {labels.shape}, expected {logits.shape}, that of the logits: one probability per "
            "class; for integer labels use softmax_cross_entropy_with_integer_labels"
        )
    return _soft_jit(_class_axis(axis, logits.shape), logits, labels)


# --- softmax_cross_entropy_with_integer_labels ---


def _hard_primal(axis: Axis, logits, labels):
    return _hard_fwd(axis, logits, labels)[0]


_hard = jax.custom_vjp(_hard_primal, nondiff_argnums=(0,))


def _hard_fwd(axis: Axis, logits, labels):
    largest, total = row_normaliser(logits, axis)
    target = jnp.expand_dims(labels, axis)
    chosen = jnp.take_along_axis(logits, target, axis[0], mode="clip").astype(total.dtype)
    loss = jnp.where(_is_class(axis, logits.shape, target), jnp.log(total) - (chosen - largest), jnp.nan)
    return jnp.squeeze(loss, axis).astype(logits.dtype), (logits, labels, largest, total)


def _hard_bwd(axis: Axis, saved, dloss):
    # L = log sum_i exp(z_i) − z_t:   dz_i = (p_i − [i = t])·dL
    logits, labels, largest, total = saved
    target = jnp.expand_dims(labels, axis)
    dloss = jnp.expand_dims(dloss.astype(total.dtype), axis)
    # NaN for a label that is no class, unless its loss is not used (masked by `where`): then 0, not NaN.
    dloss = jnp.where(_is_class(axis, logits.shape, target) | (dloss == 0), dloss, jnp.nan)
    is_target = lax.broadcasted_iota(labels.dtype, logits.shape, axis[0]) == target
    dlogits = (probabilities(logits, largest, total) - is_target.astype(total.dtype)) * dloss
    return dlogits.astype(logits.dtype), None


def _is_class(axis: Axis, shape, target):
    return (target >= 0) & (target < shape[axis[0]])


_hard.defvjp(_hard_fwd, _hard_bwd)
_hard_jit = jax.jit(_hard, static_argnums=0)


def softmax_cross_entropy_with_integer_labels(logits: jax.Array, labels: jax.Array, axis: int = -1) -> jax.Array:
    """Cross-entropy between the class of each example and the softmax of logits.

    Formula, with z the logits, t the class and p = softmax(z) along the axis:
        L = −log p_t = log(sum_i exp(z_i)) − z_t
    Gradient:
        dz_i = (p_i − [i = t])·dL

    A label outside [0, C) gives a NaN loss and NaN gradients for its example, so that it cannot pass unseen; leave such
    an example out with `jnp.where(labels >= 0, loss, 0)` and its gradients are 0. Nothing is averaged: take the mean of
    the result yourself.

    Args:
        logits: z, (*batch, C), of any sign.
        labels: t, (*batch), integers.
        axis: the axis of the classes in the logits.

    Returns:
        L, (*batch), of the logits' dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit, axis out of range. TypeError: logits that are not floating, labels that are
            not integers.

    Saved for the backward: the logits and labels themselves, and two numbers per row.

    Reference: `optax.losses.softmax_cross_entropy_with_integer_labels`; C. Bishop, Pattern recognition and machine
    learning (2006), section 4.3.4.

    Example:
        >>> logits, labels = jnp.array([[0.0, 0.0]]), jnp.array([0])
        >>> jax.grad(lambda z: softmax_cross_entropy_with_integer_labels(z, labels).sum())(logits).tolist()
        [[-0.5, 0.5]]
    """
    (logits,) = float_arrays(logits=logits)
    labels = integer_array("labels", labels)
    axes = _class_axis(axis, logits.shape)
    expected = tuple(size for number, size in enumerate(logits.shape) if number not in axes)
    if labels.shape != expected:
        raise ValueError(
            f"labels: got shape {labels.shape}, expected {expected}: one class per example, for logits of shape "
            f"{logits.shape} with the classes along axis {axis}"
        )
    if jnp.iinfo(labels.dtype).bits < 32:  # an int8 could not be compared with more than 127 classes
        labels = labels.astype(jnp.int32)
    return _hard_jit(axes, *varying_alike(logits, labels))


def _class_axis(axis: int, shape) -> Axis:
    axes = checked_axis(axis, shape)
    if len(axes) != 1:
        raise ValueError(f"axis: got {axis!r}, expected one axis: that of the classes")
    return axes
