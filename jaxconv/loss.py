"""Losses, under their optax names: one value per example or element, nothing averaged.

The gradients are differences (softmax − target, sigmoid − target) that vanish as a net becomes certain. They are
written so that nothing cancels: what is left of them has all its digits.
"""

import dataclasses
import math
import numbers
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import (
    bool_array,
    broadcasts,
    float_arrays,
    integer_array,
    mask_array,
    number,
    varying_alike,
)
from jaxconv._layout import along, summed_to
from jaxconv._rows import Axis, checked_axis, row_rest
from jaxconv.algorithms.dtypes import accumulator

__all__ = [
    "absolute_error",
    "huber_loss",
    "l2_loss",
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "squared_error",
]


@dataclasses.dataclass(frozen=True)
class _Call:
    axis: Axis  # of the classes
    label_smoothing: float = 0.0
    ignore_index: int | None = None


# --- softmax_cross_entropy ---


def _soft_primal(call: _Call, logits, labels, where, class_weights):
    return _soft_fwd(call, logits, labels, where, class_weights)[0]


_soft = jax.custom_vjp(_soft_primal, nondiff_argnums=(0,))


def _soft_fwd(call: _Call, logits, labels, where, class_weights):
    rows = _Rows(call, logits, labels, where)
    largest, rest = row_rest(rows.covered, call.axis)
    t = rows.weights(class_weights) * rows.smoothed()
    mass = jnp.sum(t, call.axis, keepdims=True)
    # −log p_j = log(sum_i exp(z_i − m)) − (z_j − m): two terms, neither negative.
    below = jnp.sum(_product(t, rows.shifted(largest)), call.axis, keepdims=True)
    loss = jnp.squeeze(rows.nan_if_no_class(_product(mass, jnp.log1p(rest)) - below), call.axis)
    return loss.astype(logits.dtype), (logits, labels, where, class_weights, largest, rest, mass)


def _soft_bwd(call: _Call, saved, dloss):
    # L = −sum_j t_j·log p_j, t_j = w_j·s_j, s_j = (1−ε)·labels_j + ε/C; log p_j = z_j − log sum_i exp(z_i),
    # dlog p_j/dz_i = [i = j] − p_i:
    #   dz_i      = (p_i·sum_j t_j − t_i)·dL = (p_i·(sum_j t_j − t_i) − t_i·(1 − p_i))·dL
    #   dlabels_i = −(1−ε)·w_i·log p_i · dL
    #   dw_i      = −sum_n s_ni·log p_ni · dL_n      n over all examples
    # The second form of dz does not cancel where the targets are 0 and 1. With e_i = exp(z_i − m), m the largest
    # logit, and sum_i e_i = 1 + rest:      p_i = e_i/(1 + rest),      1 − p_i = (rest + (1 − e_i))/(1 + rest).
    logits, labels, where, class_weights, largest, rest, mass = saved
    rows = _Rows(call, logits, labels, where)
    weights, s = rows.weights(class_weights), rows.smoothed()
    dloss = rows.cotangent(dloss.astype(rest.dtype))

    e, t = jnp.exp(rows.covered - largest), weights * s
    dlogits = (e * (mass - t) - t * (rest + (1 - e))) * (dloss / (1 + rest))
    costs = jnp.log1p(rest) - rows.shifted(largest)  # −log p
    dlabels = dweights = None
    if rows.is_target is None:
        dlabels = _kept(rows.mask, _product((1 - call.label_smoothing) * weights, costs) * dloss).astype(labels.dtype)
    if class_weights is not None:
        dweights = jnp.sum(_product(s, costs) * dloss, rows.batch_axes).astype(class_weights.dtype)
    return _kept(rows.used, dlogits).astype(logits.dtype), dlabels, None, dweights


class _Rows:
    """The logits and labels of a cross-entropy with what is masked taken out, so that it cannot spread.

    Not what is computed is masked but what goes in: 0 times the derivative of an infinity would be NaN. Labels are
    probabilities or integers; z and all results are of the dtype of the sums, with the axis of the classes kept.
    """

    def __init__(self, call: _Call, logits, labels, where):
        self.call, self.labels = call, labels
        self.z = logits.astype(accumulator(logits.dtype))
        self.batch_axes = tuple(axis for axis in range(logits.ndim) if axis not in call.axis)
        self.mask = None if where is None else where.reshape(_with_class_axis(call.axis, where.shape, logits.ndim))
        self.is_target: Any = None
        if jnp.issubdtype(labels.dtype, jnp.integer):
            self.target = jnp.expand_dims(labels, call.axis)
            self.is_target = lax.broadcasted_iota(labels.dtype, logits.shape, call.axis[0]) == self.target
            if call.ignore_index is not None:
                self.mask = _both(self.mask, self.target != call.ignore_index)
        # The examples that have any class left, and the logits that are read: the label's, as in optax, even if masked.
        self.any_class: Any = None if self.mask is None else jnp.any(self.mask, call.axis, keepdims=True)
        self.used = self.mask
        if self.mask is not None and self.is_target is not None:
            self.used = self.mask | (self.is_target & self.any_class)

    @property
    def covered(self):
        """z, −inf at masked classes; 0 in rows that are wholly masked, where −inf would give NaN."""
        return self.z if self.mask is None else jnp.where(self.mask, self.z, jnp.where(self.any_class, -jnp.inf, 0))

    def weights(self, class_weights):
        """w, one per logit, or 1."""
        if class_weights is None:
            return 1.0
        return _kept(self.used, along(class_weights.astype(self.z.dtype), self.call.axis[0], self.z.shape))

    def smoothed(self):
        """s = (1−ε)·labels + ε/C, C the number of the classes that are not masked."""
        if self.is_target is None:
            s = _kept(self.mask, self.labels.astype(self.z.dtype))
        else:
            s = _kept(self.used, self.is_target.astype(self.z.dtype))
        if not self.call.label_smoothing:
            return s
        one = jnp.ones((), self.z.dtype)
        each = jnp.broadcast_to(one if self.mask is None else self.mask.astype(one.dtype), self.z.shape)
        share = self.call.label_smoothing / jnp.maximum(jnp.sum(each, self.call.axis, keepdims=True), 1)
        return (1 - self.call.label_smoothing) * s + share * each

    def shifted(self, largest):
        """z − m. Summed up as z − (m + log(...)), digits would be lost."""
        return _kept(self.used, self.z) - largest

    def is_class(self):
        """Whether each label is a class, or its example does not count."""
        known = (self.target >= 0) & (self.target < self.z.shape[self.call.axis[0]])
        return known if self.any_class is None else known | ~self.any_class

    def nan_if_no_class(self, loss):
        """NaN for a label that is no class."""
        return loss if self.is_target is None else jnp.where(self.is_class(), loss, jnp.nan)

    def cotangent(self, dloss):
        """dL with the axis kept, 0 for examples that do not count, NaN for a label that is no class."""
        dloss = _kept(self.any_class, jnp.expand_dims(dloss, self.call.axis))
        # A loss that is not used, as it is masked afterwards by jnp.where: 0, not NaN.
        return dloss if self.is_target is None else jnp.where(self.is_class() | (dloss == 0), dloss, jnp.nan)


def _with_class_axis(axis: Axis, shape, ndim: int):
    """The shape of a mask of examples or of classes, with as many axes as the logits."""
    return shape if len(shape) == ndim else (*shape[: axis[0]], 1, *shape[axis[0] :])


def _both(a, b):
    return b if a is None else a & b


def _kept(mask, a):
    """a, 0 where masked."""
    return a if mask is None else jnp.where(mask, a, 0)


def _product(a, b):
    """a·b, with 0·inf = 0: what is not wanted and ruled out costs nothing. A product of its own where b is finite."""
    return a * jnp.where((a == 0) & jnp.isinf(b), 0, b)


_soft.defvjp(_soft_fwd, _soft_bwd)
_soft_jit = jax.jit(_soft, static_argnums=0)


def softmax_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    axis: int = -1,
    where: jax.Array | None = None,
    *,
    class_weights: jax.Array | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Cross-entropy between target probabilities and the softmax of logits.

    Formula, with z the logits, p = softmax(z) along the axis, w the class weights and ε the label smoothing:
        L = −sum_j t_j·log p_j = sum_j t_j·(log(sum_i exp(z_i)) − z_j)
        t_j = w_j·((1−ε)·labels_j + ε/C)
    Gradient:
        dz_i = (p_i·sum_j t_j − t_i)·dL, which is (p − t)·dL for targets that sum to 1
        dlabels_i = −(1−ε)·w_i·log p_i · dL
        dw_i = −sum_n t_ni/w_i · log p_ni · dL_n, n over all examples

    0·log 0 counts as 0. Loss and gradient keep their digits as p comes close to labels of 0 and 1 (p − t itself would
    be 0 in float32 once the other classes are 17 below). Weights and smoothing are those of PyTorch's cross_entropy
    with probabilities as its target; they need not sum to anything. Nothing is averaged: PyTorch's mean is the mean of
    the result, whatever the weights; with examples masked, `loss.sum() / where.sum()`.

    Args:
        logits: z, (*batch, C), of any sign.
        labels: the targets, of the shape and dtype of the logits; usually non-negative and of sum 1 along the axis.
        axis: the axis of the classes.
        where: booleans, False for what is left out; None for nothing. Of shape (*batch): whole examples, whose loss
            is 0. With as many axes as the logits, broadcast to them: single classes of each example, which the softmax
            and the sum do without (with ε, C is the number of the others), as in optax. What is left out has gradient
            0, also where it is NaN or infinite.
        class_weights: w, (C,), of the logits' dtype, or None for ones.
        label_smoothing: ε, a Python number from 0 to 1.

    Returns:
        L, (*batch), of the logits' dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit, axis out of range, a smoothing outside of [0, 1]. TypeError: arguments that
            are not floating arrays of one dtype, where that is not boolean, a smoothing that is no Python number.

    Saved for the backward: the arguments themselves, and three numbers per row.

    Reference: `optax.losses.softmax_cross_entropy`; C. Bishop, Pattern recognition and machine learning (2006),
    section 4.3.4; label smoothing: C. Szegedy et al., Rethinking the inception architecture, CVPR 2016, section 7.

    Example:
        >>> logits, labels = jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 0.0]])
        >>> jax.grad(lambda z: softmax_cross_entropy(z, labels).sum())(logits).tolist()
        [[-0.5, 0.5]]
    """
    logits, labels, class_weights = float_arrays(logits=logits, labels=labels, class_weights=class_weights)
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels: got shape {labels.shape}, expected {logits.shape}, that of the logits: one probability per "
            "class; for integer labels use softmax_cross_entropy_with_integer_labels"
        )
    call = _Call(_class_axis(axis, logits.shape), number("label_smoothing", label_smoothing, 0, 1))
    where = _checked_class_mask(where, call.axis, logits.shape)
    _check_class_weights(class_weights, call.axis, logits.shape)
    return _soft_jit(call, *varying_alike(logits, labels, where, class_weights))


# --- softmax_cross_entropy_with_integer_labels ---


def _hard_primal(call: _Call, logits, labels, where, class_weights):
    return _hard_fwd(call, logits, labels, where, class_weights)[0]


_hard = jax.custom_vjp(_hard_primal, nondiff_argnums=(0,))


def _hard_fwd(call: _Call, logits, labels, where, class_weights):
    rows = _Rows(call, logits, labels, where)
    largest = lax.stop_gradient(jnp.max(rows.covered, call.axis, keepdims=True, initial=-jnp.inf))
    # sum_i exp(z_i − m) = others + e_t, its two parts apart. e_t − 1 is exactly 0 where the label's logit is the
    # largest; where it is not, others is at least 1. So log1p keeps what others adds to a 1.
    others = jnp.sum(jnp.where(rows.is_target, 0, jnp.exp(rows.covered - largest)), call.axis, keepdims=True)
    rest = others + (jnp.exp(_chosen(call, rows.covered, rows.target) - largest) - 1)
    z_t = _kept(rows.any_class, _chosen(call, rows.z, rows.target))
    cost = jnp.log1p(rest) - (z_t - largest)
    loss = _kept(rows.any_class, rows.nan_if_no_class(_label_weights(class_weights, rows.target, cost.dtype) * cost))
    saved = logits, labels, where, class_weights, largest, others, rest, None if class_weights is None else cost
    return jnp.squeeze(loss, call.axis).astype(logits.dtype), saved


def _hard_bwd(call: _Call, saved, dloss):
    # L = w_t·(log sum_i exp(z_i) − z_t), t the label:
    #   dz_i = w_t·(p_i − [i = t])·dL,     p_t − 1 = −sum_(i≠t) p_i
    #   dw_j = −sum_n [t_n = j]·log p_nt · dL_n      n over all examples
    # With e_i = exp(z_i − m), m the largest logit:   p_i = e_i/(others + e_t),   p_t − 1 = −others/(others + e_t).
    logits, labels, where, class_weights, largest, others, rest, cost = saved
    rows = _Rows(call, logits, labels, where)
    dloss = rows.cotangent(dloss.astype(rest.dtype))
    factor = _kept(rows.any_class, _label_weights(class_weights, rows.target, rest.dtype) * dloss / (1 + rest))
    dlogits = jnp.where(rows.is_target, -others, jnp.exp(rows.covered - largest)) * factor
    dweights = None
    if class_weights is not None:
        # A label that is no class has a NaN cotangent: for the weights of all classes.
        counted = jnp.where(rows.is_target | ~rows.is_class(), cost * dloss, 0)
        dweights = jnp.sum(counted, rows.batch_axes).astype(class_weights.dtype)
    return _kept(rows.used, dlogits).astype(logits.dtype), None, None, dweights


def _chosen(call: _Call, z, target):
    return jnp.take_along_axis(z, target, call.axis[0], mode="clip")


def _label_weights(class_weights, target, dtype):
    """w_t, one per row, or 1."""
    return 1.0 if class_weights is None else jnp.take(class_weights, target, mode="clip").astype(dtype)


_hard.defvjp(_hard_fwd, _hard_bwd)
_hard_jit = jax.jit(_hard, static_argnums=0)


def softmax_cross_entropy_with_integer_labels(
    logits: jax.Array,
    labels: jax.Array,
    axis: int = -1,
    where: jax.Array | None = None,
    *,
    class_weights: jax.Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Cross-entropy between the class of each example and the softmax of logits.

    Formula, with z the logits, t the label, p = softmax(z) along the axis, w the class weights, ε the label smoothing:
        L = −(1−ε)·w_t·log p_t − ε/C·sum_j w_j·log p_j
        log p_j = z_j − log(sum_i exp(z_i))
    Gradient:
        dz_i = ((1−ε)·w_t·(p_i − [i = t]) + ε/C·(p_i·sum_j w_j − w_i))·dL, which is (p_i − [i = t])·dL without options
        dw_j = −sum_n ((1−ε)·[t_n = j] + ε/C)·log p_nj · dL_n, n over all examples

    Loss and gradient keep their digits as p_t comes close to 1 (p_t − 1 itself would be 0 in float32 once the other
    classes are 17 below). A label outside [0, C) gives a NaN loss and NaN gradients for its example, so that it cannot
    pass unseen, unless it is the ignore_index or masked by `where`; or leave its example out with
    `jnp.where(labels >= 0, loss, 0)`, and its gradients are 0, too. Weights, smoothing and ignore_index are those of
    PyTorch's cross_entropy. Nothing is averaged. PyTorch's mean is the sum over the examples that count, divided by
    the sum of their labels' weights, also with smoothing:
    `loss.sum() / jnp.where(labels != ignore_index, class_weights[labels], 0).sum()`.

    Args:
        logits: z, (*batch, C), of any sign.
        labels: t, (*batch), integers.
        axis: the axis of the classes in the logits.
        where: booleans, False for what is left out; None for nothing. Of shape (*batch): whole examples, whose loss
            is 0. With as many axes as the logits, broadcast to them: single classes of each example, which sum_i and
            sum_j do without (C is the number of the others). The label's own logit, z_t, is read even then, as in
            optax: see to it that it is not left out. What else is left out has gradient 0, also where it is NaN or
            infinite.
        class_weights: w, (C,), of the logits' dtype, or None for ones.
        ignore_index: examples with this label have loss 0 and gradient 0; a Python integer, a class or not, or None.
        label_smoothing: ε, a Python number from 0 to 1.

    Returns:
        L, (*batch), of the logits' dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit, axis out of range, a smoothing outside of [0, 1]. TypeError: logits and
            weights that are not floating arrays of one dtype, labels that are not integers, where that is not boolean,
            an ignore_index or a smoothing that is no Python number.

    Saved for the backward: the arguments themselves, and three numbers per row; with class_weights four.

    Reference: `optax.losses.softmax_cross_entropy_with_integer_labels`; C. Bishop, Pattern recognition and machine
    learning (2006), section 4.3.4; label smoothing: C. Szegedy et al., Rethinking the inception architecture, CVPR
    2016, section 7.

    Example:
        >>> logits, labels = jnp.array([[0.0, 0.0]]), jnp.array([0])
        >>> jax.grad(lambda z: softmax_cross_entropy_with_integer_labels(z, labels).sum())(logits).tolist()
        [[-0.5, 0.5]]
    """
    logits, class_weights = float_arrays(logits=logits, class_weights=class_weights)
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
    smoothing = number("label_smoothing", label_smoothing, 0, 1)
    call = _Call(axes, smoothing, _checked_ignore_index(ignore_index, labels.dtype))
    where = _checked_class_mask(where, axes, logits.shape)
    _check_class_weights(class_weights, axes, logits.shape)
    rule = _soft_jit if smoothing else _hard_jit  # smoothed, every class is wanted, not the label's alone
    return rule(call, *varying_alike(logits, labels, where, class_weights))


def _class_axis(axis: int, shape) -> Axis:
    axes = checked_axis(axis, shape)
    if len(axes) != 1:
        raise ValueError(f"axis: got {axis!r}, expected one axis: that of the classes")
    return axes


def _checked_ignore_index(ignore_index, dtype) -> int | None:
    if ignore_index is None:
        return None
    try:
        index = operator.index(ignore_index)
    except TypeError:
        raise TypeError(
            f"ignore_index: got a {type(ignore_index).__name__}, expected a Python integer or None"
        ) from None
    # What the labels' dtype has no room for, none of them is.
    return index if jnp.iinfo(dtype).min <= index <= jnp.iinfo(dtype).max else None


def _checked_class_mask(where, axes: Axis, shape):
    if where is None:
        return None
    where = bool_array("where", where)
    batch = tuple(size for number, size in enumerate(shape) if number not in axes)
    of_classes = where.ndim == len(shape) and all(a in (1, b) for a, b in zip(where.shape, shape, strict=True))
    if where.shape != batch and not of_classes:
        raise ValueError(
            f"where: got shape {where.shape}, expected {batch}, one per example, or {shape}, one per logit"
        )
    return where


def _check_class_weights(class_weights, axes: Axis, shape) -> None:
    if class_weights is not None and class_weights.shape != (shape[axes[0]],):
        raise ValueError(
            f"class_weights: got shape {class_weights.shape}, expected ({shape[axes[0]]},): one per class, for logits "
            f"of shape {shape}"
        )


# --- sigmoid_binary_cross_entropy ---


def _binary_primal(logits, labels, pos_weight, where):
    return _binary_fwd(logits, labels, pos_weight, where)[0]


_binary = jax.custom_vjp(_binary_primal)


def _binary_fwd(logits, labels, pos_weight, where):
    z, t, weight = _binary_covered(logits, labels, pos_weight, where)
    positive, negative, log_sum, _ = _sides(z)
    # L = P·t·(−log sigmoid(z)) + (1−t)·(−log sigmoid(−z)),     −log sigmoid(−z) = max(z, 0) + log(1 + exp(−|z|))
    loss = _kept(where, _product(weight * t, negative + log_sum) + _product(1 - t, positive + log_sum))
    return loss.astype(logits.dtype), (logits, labels, pos_weight, where)


def _binary_bwd(saved, dloss):
    # d(−log sigmoid(z))/dz = −sigmoid(−z):
    #   dz = ((1−t)·sigmoid(z) − P·t·sigmoid(−z))·dL      sigmoid(z) − t where P is 1, without its cancellation
    #   dt = (P·(−log sigmoid(z)) + log sigmoid(−z))·dL = (P·max(−z, 0) − max(z, 0) + (P−1)·log(1 + exp(−|z|)))·dL
    #   dP = sum t·(−log sigmoid(z))·dL      over the logits that share a P
    # With e = exp(−|z|):   sigmoid(|z|) = 1/(1+e),   sigmoid(−|z|) = e/(1+e).
    logits, labels, pos_weight, where = saved
    z, t, weight = _binary_covered(logits, labels, pos_weight, where)
    positive, negative, log_sum, e = _sides(z)
    dloss = _kept(where, dloss.astype(z.dtype))
    sigmoid, opposite = jnp.where(z >= 0, 1, e) / (1 + e), jnp.where(z >= 0, e, 1) / (1 + e)
    dlogits = ((1 - t) * sigmoid - weight * t * opposite) * dloss
    dlabels = dweight = None
    if jnp.issubdtype(labels.dtype, jnp.floating):
        dlabels = ((_product(weight, negative) - positive + (weight - 1) * log_sum) * dloss).astype(labels.dtype)
    if pos_weight is not None:
        dweight = summed_to(_product(t, negative + log_sum) * dloss, pos_weight.shape).astype(pos_weight.dtype)
    return dlogits.astype(logits.dtype), dlabels, dweight, None


def _binary_covered(logits, labels, pos_weight, where):
    """z, t and P (1 if there is none) in the dtype of the sums, as large as the logits, 0 where masked."""
    dtype = accumulator(logits.dtype)
    weight = 1.0
    if pos_weight is not None:
        weight = _kept(where, jnp.broadcast_to(pos_weight.astype(dtype), logits.shape))
    return _kept(where, logits.astype(dtype)), _kept(where, labels.astype(dtype)), weight


def _sides(z):
    """max(z, 0), max(−z, 0), log(1 + exp(−|z|)) and exp(−|z|).

    One formula for z >= 0 and another for z < 0, each of them smooth: at 0 the derivative of |z| would be taken to be
    0, and second derivatives with it.
    """
    e = jnp.exp(jnp.where(z >= 0, -z, z))
    return jnp.where(z >= 0, z, 0), jnp.where(z >= 0, 0, -z), jnp.log1p(e), e


_binary.defvjp(_binary_fwd, _binary_bwd)
_binary_jit = jax.jit(_binary)


def sigmoid_binary_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    pos_weight: jax.Array | float | None = None,
    where: jax.Array | None = None,
) -> jax.Array:
    """Cross-entropy between probabilities and the sigmoid of logits, element by element.

    Formula, with z the logits, t the labels and P the weight of positives:
        L = −P·t·log(sigmoid(z)) − (1−t)·log(1 − sigmoid(z))
    Gradient:
        dz = ((1−t)·sigmoid(z) − P·t·sigmoid(−z))·dL, which is (sigmoid(z) − t)·dL without P
        dt = (log(1 − sigmoid(z)) − P·log(sigmoid(z)))·dL, which is −z·dL without P
        dP = −sum t·log(sigmoid(z))·dL, over the elements that share a P

    0·log 0 counts as 0. Loss and gradients are accurate for all z: for labels of 0 and 1 nothing cancels. Nothing is
    averaged: PyTorch's mean (of binary_cross_entropy_with_logits, whose pos_weight this is) is the mean of the result,
    whatever the weights; with elements masked, `loss.sum() / where.sum()`.

    Args:
        logits: z, any shape, of any sign.
        labels: t, of the logits' shape; 0 and 1 or any probabilities, of the logits' dtype, or integers or booleans.
        pos_weight: P, of the logits' dtype, of a shape that broadcasts to theirs ((C,) for one per class), a Python
            number, or None for 1.
        where: booleans, of a shape that broadcasts to the logits'. Where False, the loss is 0, and so are all gradients
            from there, also if logits or labels are NaN or infinite.

    Returns:
        L, of the logits' shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit. TypeError: arguments that are not floating arrays of one dtype (labels: nor
            integers nor booleans), where that is not boolean.

    Saved for the backward: the arguments themselves.

    Reference: `optax.losses.sigmoid_binary_cross_entropy`; C. Bishop, Pattern recognition and machine learning (2006),
    section 4.3.2.

    Example:
        >>> logits, labels = jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0])
        >>> jax.grad(lambda z: sigmoid_binary_cross_entropy(z, labels, pos_weight=3.0).sum())(logits).tolist()
        [-1.5, 0.5]
    """
    if isinstance(pos_weight, numbers.Real):
        (logits,) = float_arrays(logits=logits)
        pos_weight = jnp.asarray(float(pos_weight), logits.dtype)
    if hasattr(labels, "dtype") and labels.dtype.kind in "biu":  # constants, without a gradient
        labels = jnp.asarray(labels)
        logits, pos_weight = float_arrays(logits=logits, pos_weight=pos_weight)
    else:
        logits, labels, pos_weight = float_arrays(logits=logits, labels=labels, pos_weight=pos_weight)
    if labels.shape != logits.shape:
        raise ValueError(f"labels: got shape {labels.shape}, expected {logits.shape}, that of the logits")
    if pos_weight is not None and not broadcasts(pos_weight.shape, logits.shape):
        raise ValueError(
            f"pos_weight: got shape {pos_weight.shape}, expected one that broadcasts to {logits.shape}, that of the "
            "logits: (C,) for one per class, the last axis"
        )
    where = mask_array(where, logits.shape, "the logits")
    return _binary_jit(*varying_alike(logits, labels, pos_weight, where))


# --- squared_error, l2_loss ---


def _squared_primal(factor: float, predictions, targets, where):
    return _squared_fwd(factor, predictions, targets, where)[0]


_squared = jax.custom_vjp(_squared_primal, nondiff_argnums=(0,))


def _squared_fwd(factor: float, predictions, targets, where):
    e = _error(predictions, targets, where)
    return (factor * (e * e)).astype(predictions.dtype), (e.astype(predictions.dtype), _given(targets), where)


def _squared_bwd(factor: float, saved, dloss):
    # L = f·e², e = y − t:   dy = 2·f·e·dL,   dt = −dy
    e, has_targets, where = saved
    slope = 2 * factor * e.astype(accumulator(e.dtype))
    return _to_both(slope, has_targets, where, dloss)


def _error(predictions, targets, where):
    """e = predictions − targets, in the dtype of the sums; 0 where masked, so that what is there does not matter."""
    e = predictions.astype(accumulator(predictions.dtype))
    return _kept(where, e if targets is None else e - targets.astype(e.dtype))


def _given(targets):
    """Of the targets, only whether there are any: a leaf-less value for the saved ones."""
    return None if targets is None else ()


def _to_both(slope, has_targets, where, dloss):
    """The gradients of predictions, targets and mask, for the slope of the loss over the error."""
    de = _kept(where, slope * dloss.astype(slope.dtype)).astype(dloss.dtype)
    return de, None if has_targets is None else -de, None


_squared.defvjp(_squared_fwd, _squared_bwd)
_squared_jit = jax.jit(_squared, static_argnums=0)


def squared_error(
    predictions: jax.Array, targets: jax.Array | None = None, *, where: jax.Array | None = None
) -> jax.Array:
    """Squared error, element by element.

    Formula:
        L = (predictions − targets)²
    Gradient:
        dpredictions = 2·(predictions − targets)·dL
        dtargets = −dpredictions

    Nothing is averaged; with elements masked, the mean is `loss.sum() / where.sum()`.

    Args:
        predictions: any shape.
        targets: of the shape and dtype of the predictions, or None for zeros.
        where: booleans, of a shape that broadcasts to the predictions'. Where False, loss and gradients are 0, also if
            there is a NaN or an infinity.

    Returns:
        L, of the predictions' shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit. TypeError: arguments that are not floating arrays of one dtype, where that
            is not boolean.

    Saved for the backward: predictions − targets, one array of the predictions' dtype. In float16 it is infinite where
    they are more than 65,504 apart, whatever dL; so is L there, from 256 on.

    Reference: `optax.losses.squared_error`; C. Bishop, Pattern recognition and machine learning (2006), section 3.1.

    Example:
        >>> jax.value_and_grad(squared_error)(jnp.array(3.0), jnp.array(1.0))
        (Array(4., dtype=float32), Array(4., dtype=float32))
    """
    return _squared_jit(1.0, *_checked_errors(predictions, targets, where))


def l2_loss(predictions: jax.Array, targets: jax.Array | None = None, *, where: jax.Array | None = None) -> jax.Array:
    """Half the squared error, element by element.

    Formula:
        L = 1/2·(predictions − targets)²
    Gradient:
        dpredictions = (predictions − targets)·dL
        dtargets = −dpredictions

    Nothing is averaged; with elements masked, the mean is `loss.sum() / where.sum()`.

    Args:
        predictions: any shape.
        targets: of the shape and dtype of the predictions, or None for zeros.
        where: booleans, of a shape that broadcasts to the predictions'. Where False, loss and gradients are 0, also if
            there is a NaN or an infinity.

    Returns:
        L, of the predictions' shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit. TypeError: arguments that are not floating arrays of one dtype, where that
            is not boolean.

    Saved for the backward: predictions − targets, one array of the predictions' dtype. In float16 it is infinite where
    they are more than 65,504 apart, whatever dL; so is L there, from 256 on.

    Reference: `optax.losses.l2_loss`; C. Bishop, Pattern recognition and machine learning (2006), section 3.1.

    Example:
        >>> jax.value_and_grad(l2_loss)(jnp.array(3.0), jnp.array(1.0))
        (Array(2., dtype=float32), Array(2., dtype=float32))
    """
    return _squared_jit(0.5, *_checked_errors(predictions, targets, where))


def _checked_errors(predictions, targets, where):
    predictions, targets = float_arrays(predictions=predictions, targets=targets)
    if targets is not None and targets.shape != predictions.shape:
        raise ValueError(
            f"targets: got shape {targets.shape}, expected {predictions.shape}, that of the predictions: nothing is "
            "broadcast, use jnp.broadcast_to or reshape"
        )
    return varying_alike(predictions, targets, mask_array(where, predictions.shape, "the predictions"))


# --- absolute_error ---


def _absolute_primal(predictions, targets, where):
    return jnp.abs(_error(predictions, targets, where)).astype(predictions.dtype)


_absolute = jax.custom_vjp(_absolute_primal)


def _absolute_fwd(predictions, targets, where):
    e = _error(predictions, targets, where)
    sign = (e > 0).astype(jnp.int8) - (e < 0).astype(jnp.int8)
    return _absolute_primal(predictions, targets, where), (sign, _given(targets), where)


def _absolute_bwd(saved, dloss):
    # L = |e|, e = y − t:   dy = sign(e)·dL,   dt = −dy
    sign, has_targets, where = saved
    return _to_both(sign.astype(dloss.dtype), has_targets, where, dloss)


_absolute.defvjp(_absolute_fwd, _absolute_bwd)
_absolute_jit = jax.jit(_absolute)


def absolute_error(
    predictions: jax.Array, targets: jax.Array | None = None, *, where: jax.Array | None = None
) -> jax.Array:
    """Absolute error, element by element.

    Formula:
        L = |predictions − targets|
    Gradient:
        dpredictions = sign(predictions − targets)·dL
        dtargets = −dpredictions

    At the kink, where they are equal, the gradient is 0, as that of `jnp.abs`. NaN stays NaN, with gradient 0. Nothing
    is averaged; with elements masked, the mean is `loss.sum() / where.sum()`. optax has no such loss; this one is named
    after its squared_error. PyTorch calls its mean l1_loss.

    Args:
        predictions: any shape.
        targets: of the shape and dtype of the predictions, or None for zeros.
        where: booleans, of a shape that broadcasts to the predictions'. Where False, loss and gradients are 0, also if
            there is a NaN or an infinity.

    Returns:
        L, of the predictions' shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit. TypeError: arguments that are not floating arrays of one dtype, where that
            is not boolean.

    Saved for the backward: the sign, one byte per element.

    Reference: S. Boyd, L. Vandenberghe, Convex optimization (2004), section 6.1.

    Example:
        >>> jax.value_and_grad(absolute_error)(jnp.array(1.0), jnp.array(3.0))
        (Array(2., dtype=float32), Array(-1., dtype=float32))
    """
    return _absolute_jit(*_checked_errors(predictions, targets, where))


# --- huber_loss ---


def _huber_primal(delta: float, predictions, targets, where):
    return _huber_fwd(delta, predictions, targets, where)[0]


_huber = jax.custom_vjp(_huber_primal, nondiff_argnums=(0,))


def _huber_fwd(delta: float, predictions, targets, where):
    e = _error(predictions, targets, where)
    size = jnp.abs(e)
    loss = jnp.where(size <= delta, 0.5 * (e * e), delta * (size - 0.5 * delta))
    slope = jnp.where(size <= delta, e, delta * jnp.sign(e))
    return loss.astype(predictions.dtype), (slope.astype(predictions.dtype), _given(targets), where)


def _huber_bwd(delta: float, saved, dloss):
    # L = e²/2 where |e| <= δ, else δ·(|e| − δ/2), e = y − t:   dy = min(max(e, −δ), δ)·dL,   dt = −dy
    del delta
    slope, has_targets, where = saved
    return _to_both(slope.astype(accumulator(slope.dtype)), has_targets, where, dloss)


_huber.defvjp(_huber_fwd, _huber_bwd)
_huber_jit = jax.jit(_huber, static_argnums=0)


def huber_loss(
    predictions: jax.Array,
    targets: jax.Array | None = None,
    delta: float = 1.0,
    *,
    where: jax.Array | None = None,
) -> jax.Array:
    """Huber loss: half the squared error near 0, linear beyond delta.

    Formula, with e = predictions − targets and δ the delta:
        L = e²/2 where |e| <= δ, else δ·(|e| − δ/2)
    Gradient:
        dpredictions = min(max(e, −δ), δ)·dL
        dtargets = −dpredictions

    The two pieces meet with one slope; the second derivative at |e| = δ is that of the inner one. NaN stays NaN, and
    so does its gradient. Nothing is averaged; with elements masked, the mean is `loss.sum() / where.sum()`. PyTorch's
    smooth_l1_loss is the mean of `huber_loss(..., delta=beta) / beta`.

    Args:
        predictions: any shape.
        targets: of the shape and dtype of the predictions, or None for zeros.
        delta: δ, a positive Python number.
        where: booleans, of a shape that broadcasts to the predictions'. Where False, loss and gradients are 0, also if
            there is a NaN or an infinity.

    Returns:
        L, of the predictions' shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that do not fit, a delta that is not positive and finite. TypeError: arguments that are not
            floating arrays of one dtype, where that is not boolean, a delta that is no Python number.

    Saved for the backward: min(max(e, −δ), δ), one array of the predictions' dtype.

    Reference: `optax.losses.huber_loss`; P. Huber, Robust estimation of a location parameter, Annals of Mathematical
    Statistics 1964.

    Example:
        >>> jax.grad(lambda y: huber_loss(y).sum())(jnp.array([-3.0, 0.5])).tolist()
        [-1.0, 0.5]
    """
    if not 0 < (bound := number("delta", delta)) < math.inf:
        raise ValueError(f"delta: got {delta}, expected a positive, finite number; without a bound it is l2_loss")
    return _huber_jit(bound, *_checked_errors(predictions, targets, where))
