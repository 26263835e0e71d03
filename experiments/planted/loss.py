"""Wrong versions of softmax and what goes with it, and of the losses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from experiments.planted.mutation import (
    EDGE,
    EVERY,
    ROWS,
    Mutation,
    Point,
    cotangent,
    gradient,
    instead,
    narrow_sum,
)
from jaxconv._rows import probabilities


def _narrow_normaliser(x, axis, mask=None):
    largest = jnp.max(x, axis, keepdims=True)
    return largest, jnp.expand_dims(narrow_sum(jnp.exp(x - largest), axis[0]), axis)


def _soft_bwd(call, saved, dloss, *, mass=None, normaliser=1.0):
    """The rule of softmax_cross_entropy, with the parts that can be forgotten as options."""
    logits, labels, _, _, largest, rest, right_mass = saved
    total = 1 + rest
    dloss = jnp.expand_dims(dloss, call.axis).astype(total.dtype)
    p = probabilities(logits, largest, total, right_mass if mass is None else mass)
    dlogits = (p - labels.astype(total.dtype)) * dloss
    dlabels = (jnp.log(total) * normaliser + largest - logits.astype(total.dtype)) * dloss
    return dlogits.astype(logits.dtype), dlabels.astype(labels.dtype), None, None


def _hard_unguarded(call, saved, dloss):
    logits, labels, _, _, largest, _, rest, _ = saved
    axis, total = call.axis, 1 + rest
    target = jnp.clip(jnp.expand_dims(labels, axis), 0, logits.shape[axis[0]] - 1)
    is_target = lax.broadcasted_iota(labels.dtype, logits.shape, axis[0]) == target
    dlogits = probabilities(logits, largest, total) - is_target.astype(total.dtype)
    return (dlogits * jnp.expand_dims(dloss, axis).astype(total.dtype)).astype(logits.dtype), None, None, None


# --- masks ---


def _multiplied(mask, a):
    """What a mask leaves out multiplied by 0, which a NaN survives."""
    if mask is None:
        return a
    # Where XLA sees that it is a mask, it makes a selection of it.
    return a * lax.optimization_barrier(jnp.broadcast_to(mask, a.shape).astype(a.dtype))


def _log_softmax_masked_late(axis, saved, dy):
    """exp of what is left out, too: it may overflow, as it may be above the maximum of the rest."""
    x, largest, total, mask = saved
    dy_ = _multiplied(mask, dy.astype(total.dtype))
    p = probabilities(x, largest, total, jnp.sum(dy_, axis, keepdims=True))
    return _multiplied(mask, dy_ - p).astype(x.dtype), None


def _share_masked_late(right):
    def backward(axis, keepdims, signed, saved, cotangents):
        a, b, mask, largest, total = saved
        if b is not None:
            return right(axis, keepdims, signed, saved, cotangents)
        dy = cotangents[0] if keepdims else jnp.expand_dims(cotangents[0], axis)
        share = jnp.exp(a.astype(total.dtype) - largest) * (dy.astype(total.dtype) / total)
        return _multiplied(mask, share).astype(a.dtype), None, None

    return backward


def _factors_forgotten(right):
    def backward(axis, keepdims, signed, saved, cotangents):
        a, _, *rest = saved
        da = right(axis, keepdims, signed, (a, None, *rest), cotangents)[0]
        return da, *right(axis, keepdims, signed, saved, cotangents)[1:]

    return backward


# --- cross-entropies ---


def _saved_without(*numbers):
    """A backward rule whose dlogits are made as if these saved arguments were None."""

    def wrong(right):
        def backward(*args):
            *static, saved, dloss = args
            fewer = tuple(None if n in numbers else a for n, a in enumerate(saved))
            return right(*static, fewer, dloss)[0], *right(*args)[1:]

        return backward

    return wrong


def _called(**changes):
    """The rule's backward with other static options."""
    return lambda right: lambda call, *rest: right(dataclasses.replace(call, **changes), *rest)


def _ignored_smoothed(dlogits, saved, dloss, call):
    """The uniform part of smoothed labels counted for examples that are ignored."""
    logits, labels = saved[:2]
    if call.ignore_index is None or not call.label_smoothing:
        return dlogits
    (axis,) = call.axis
    ignored = jnp.expand_dims((labels == call.ignore_index) * dloss, axis)
    return dlogits + call.label_smoothing * (jax.nn.softmax(logits, axis) - 1 / logits.shape[axis]) * ignored


def _mask_multiplied(right):
    def backward(call, saved, dloss):
        logits, labels, where, *rest = saved
        dlogits, *others = right(call, (logits, labels, None, *rest), dloss)
        if where is not None and where.ndim < logits.ndim:
            where = jnp.expand_dims(where, call.axis)
        return _multiplied(where, dlogits), *others

    return backward


# --- element by element ---


def _weight_of_all(right):
    """1 + (P − 1)·t as the weight of the whole loss: the same for labels of 0 and 1 alone."""

    def backward(saved, dloss):
        logits, labels, weight, where = saved
        plain = right((logits, labels, None, where), dloss)[0]
        return plain if weight is None else plain * (1 + (weight - 1) * labels), *right(saved, dloss)[1:]

    return backward


def _difference(dlogits, saved, dloss):
    """sigmoid(z) − t, which cancels."""
    logits, labels, weight, _ = saved
    return dlogits if weight is not None else (lax.logistic(logits) - labels) * dloss


def _sign_of_zero(dlogits, saved, dloss):
    """From max(z, 0) − z·t + log(1 + exp(−|z|)), both of whose kinks have derivative 0 at 0."""
    logits, labels, _, _ = saved
    return jnp.where(logits == 0, -labels * dloss, dlogits)


def _unmasked_error(right):
    def fwd(factor, predictions, targets, where):
        e = predictions if targets is None else predictions - targets
        return right(factor, predictions, targets, where)[0], (e, None if targets is None else (), where)

    return fwd


def _times_mask(slope, has_targets, where, dloss):
    de = _multiplied(where, slope * dloss.astype(slope.dtype)).astype(dloss.dtype)
    return de, None if has_targets is None else -de, None


def _huber_slope(slope):
    """The forward rule of huber_loss that saves slope(delta, e) for the backward."""

    def wrong(right):
        def fwd(delta, predictions, targets, where):
            loss, (_, *rest) = right(delta, predictions, targets, where)
            e = predictions if targets is None else predictions - targets
            return loss, (slope(delta, e), *rest)

        return fwd

    return wrong


def _sign_without_zero(right):
    def fwd(predictions, targets, where):
        loss, (_, *rest) = right(predictions, targets, where)
        e = predictions if targets is None else predictions - targets
        return loss, (jnp.where(e >= 0, 1, -1).astype(jnp.int8), *rest)

    return fwd


_HARD = "softmax_cross_entropy_with_integer_labels"
_BINARY = "sigmoid_binary_cross_entropy"


MUTATIONS = (
    # Softmax and its like.
    Mutation(
        "softmax without the sum",
        "softmax",
        ROWS,
        {"softmax:_softmax_bwd": instead(lambda axis, saved, dy: (saved[0] * dy, None))},
    ),
    Mutation(
        "softmax's sum in the narrow dtype",
        "softmax",
        Point("1,000 classes alike", "bfloat16"),
        {"softmax:row_normaliser": instead(_narrow_normaliser)},
    ),
    Mutation(
        "log_softmax not multiplied by the sum of dy",
        "log_softmax",
        ROWS,
        {
            "softmax:_log_softmax_bwd": instead(
                lambda axis, saved, dy: (dy - probabilities(*saved[:3]).astype(dy.dtype), None)
            )
        },
    ),
    Mutation(
        "log_softmax's exp of what the mask leaves out",
        "log_softmax",
        EDGE,
        {"softmax:_log_softmax_bwd": instead(_log_softmax_masked_late)},
        elsewhere=True,  # jax#17117
    ),
    Mutation("a mask that leaks in logsumexp", "logsumexp", EDGE, {"softmax:_logsumexp_bwd": _share_masked_late}),
    Mutation(
        "logsumexp's factors forgotten in da",
        "logsumexp",
        Point("with factors of either sign", "float64"),
        {"softmax:_logsumexp_bwd": _factors_forgotten},
    ),
    Mutation(
        "gumbel_softmax not divided by the temperature",
        "gumbel_softmax",
        ROWS,
        {"softmax:_gumbel_softmax_bwd": gradient(0, lambda dx, saved, dy, axis, hard: dx * saved[1].astype(dx.dtype))},
    ),
    # Cross-entropies.
    Mutation(
        "softmax - target without the cotangent",
        "softmax_cross_entropy",
        ROWS,
        {"loss:_soft_bwd": cotangent(lambda dloss, saved: jnp.ones_like(dloss))},
    ),
    Mutation(
        "labels taken to sum to 1",
        "softmax_cross_entropy",
        ROWS,
        {"loss:_soft_bwd": instead(functools.partial(_soft_bwd, mass=1.0))},
    ),
    Mutation(
        "dlabels without log p's normaliser",
        "softmax_cross_entropy",
        ROWS,
        {"loss:_soft_bwd": instead(functools.partial(_soft_bwd, normaliser=0.0))},
    ),
    Mutation(
        "gradient of a mean over the batch",
        "softmax_cross_entropy_with_integer_labels",
        ROWS,
        {"loss:_hard_bwd": cotangent(lambda dloss, saved: dloss / max(1, dloss.size))},
    ),
    Mutation(
        "a label that is no class clipped",
        "softmax_cross_entropy_with_integer_labels",
        EDGE,
        {"loss:_hard_bwd": instead(_hard_unguarded)},
    ),
    Mutation(
        "label smoothing forgotten in the gradient",
        "softmax_cross_entropy",
        EVERY,
        {"loss:_soft_bwd": _called(label_smoothing=0.0)},
    ),
    Mutation(
        "class weights forgotten in the gradient",
        _HARD,
        Point("every option but smoothing", "float64"),
        {"loss:_hard_bwd": _saved_without(3)},
    ),
    Mutation(
        "ignore_index forgotten in the gradient",
        _HARD,
        Point("every option but smoothing", "float64"),
        {"loss:_hard_bwd": _called(ignore_index=None)},
    ),
    Mutation(
        "ignored examples smoothed",
        _HARD,
        EVERY,
        {"loss:_soft_bwd": gradient(0, _ignored_smoothed)},
        elsewhere=True,  # pytorch#73205
    ),
    Mutation(
        "a class that is left out multiplied by 0",
        "softmax_cross_entropy",
        EDGE,
        {"loss:_soft_bwd": _mask_multiplied},
    ),
    # Losses, element by element.
    Mutation("pos_weight forgotten in the gradient", _BINARY, EVERY, {"loss:_binary_bwd": _saved_without(2)}),
    Mutation(
        "pos_weight of the whole loss",
        _BINARY,
        EVERY,
        {"loss:_binary_bwd": _weight_of_all},
        elsewhere=True,  # aprender#2204
    ),
    Mutation(
        "sigmoid(z) − t, which cancels",
        _BINARY,
        Point("whole range", "float64"),
        {"loss:_binary_bwd": gradient(0, _difference)},
    ),
    Mutation(
        "binary cross-entropy's gradient −t at 0",
        _BINARY,
        EDGE,
        {"loss:_binary_bwd": gradient(0, _sign_of_zero)},
        elsewhere=True,  # pytorch#2298
    ),
    Mutation(
        "an element that is left out multiplied by 0",
        "squared_error",
        EDGE,
        {"loss:_squared_fwd": _unmasked_error, "loss:_to_both": instead(_times_mask)},
        elsewhere=True,  # pytorch#121416
    ),
    Mutation(
        "the targets' gradient not negated",
        "squared_error",
        EVERY,
        {"loss:_squared_bwd": gradient(1, lambda dt, saved, dloss, factor: -dt)},
    ),
    Mutation(
        "half the squared error with the gradient of the whole",
        "l2_loss",
        EVERY,
        {"loss:_squared_bwd": lambda right: lambda factor, *rest: right(1.0, *rest)},
    ),
    Mutation("absolute error's gradient 1 at 0", "absolute_error", EDGE, {"loss:_absolute_fwd": _sign_without_zero}),
    Mutation(
        "huber_loss with delta compared to the signed error",
        "huber_loss",
        EVERY,
        {"loss:_huber_fwd": _huber_slope(lambda delta, e: jnp.minimum(e, delta))},
        elsewhere=True,  # attorch#13
    ),
    Mutation(
        "huber_loss's slope ±1 beyond delta",
        "huber_loss",
        EVERY,
        {"loss:_huber_fwd": _huber_slope(lambda delta, e: jnp.where(jnp.abs(e) <= delta, e, jnp.sign(e)))},
    ),
    Mutation(
        "huber_loss's gradient without the cotangent",
        "huber_loss",
        EVERY,
        {"loss:_huber_bwd": cotangent(lambda dloss, saved: jnp.ones_like(dloss))},
        elsewhere=True,  # chainer#1175
    ),
)
