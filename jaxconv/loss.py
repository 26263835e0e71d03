"""Losses, under their optax names: one value per example or element, nothing averaged.

The gradients are differences (softmax − target, sigmoid − target) that vanish as a net becomes certain. They are
written so that nothing cancels: what is left of them has all its digits.
"""

import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import bool_array, float_arrays, integer_array, varying_alike
from jaxconv._layout import along
from jaxconv._rows import Axis, checked_axis, row_rest
from jaxconv.algorithms.dtypes import accumulator

__all__ = [
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
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
    weights, s = rows.weights(class_weights), rows.smoothed()
    loss = jnp.sum(_product(weights * s, rows.costs(largest, rest)), call.axis, keepdims=True)
    mass = jnp.sum(weights * s, call.axis, keepdims=True)
    loss = jnp.squeeze(rows.nan_if_no_class(loss), call.axis)
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
    costs = rows.costs(largest, rest)
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

    def costs(self, largest, rest):
        """−log p_j for every class. The largest logit first: log(1 + rest) + largest would lose digits."""
        return jnp.log1p(rest) - (_kept(self.used, self.z) - largest)

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
    call = _Call(_class_axis(axis, logits.shape), _checked_smoothing(label_smoothing))
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
    smoothing = _checked_smoothing(label_smoothing)
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


def _checked_smoothing(label_smoothing) -> float:
    if isinstance(label_smoothing, bool) or not isinstance(label_smoothing, (int, float)):
        raise TypeError(
            f"label_smoothing: got a {type(label_smoothing).__name__}, expected a Python number: it is a constant of "
            "the op and has no gradient"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: got {label_smoothing}, expected a number from 0 to 1")
    return float(label_smoothing)


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
