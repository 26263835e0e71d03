"""Softmax and what goes with it: ops along one or several axes, which may leave entries out (`where`)."""

import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxconv._arguments import broadcasts, flag, float_arrays, mask_array, varying_alike
from jaxconv._layout import summed_to
from jaxconv._rows import Axis, checked_axis, probabilities, row_normaliser
from jaxconv.algorithms.dtypes import accumulator

__all__ = ["gumbel_softmax", "log_softmax", "logmeanexp", "logsumexp", "softmax", "softmin"]


# --- what they share: axes and masks ---


def _axes(axis: int | Sequence[int] | None, shape) -> Axis:
    return tuple(range(len(shape))) if axis is None else checked_axis(axis, shape)


def _full(mask, shape) -> Any:
    return None if mask is None else jnp.broadcast_to(mask, shape)


def _selected(mask, a, otherwise):
    """a where the mask is True."""
    return a if mask is None else jnp.where(mask, a, otherwise)


# --- softmax ---


def _softmax_primal(axis: Axis, x, mask):
    y = probabilities(_selected(mask, x, -jnp.inf), *row_normaliser(x, axis, _full(mask, x.shape)))
    return _selected(mask, y, 0).astype(x.dtype)


_softmax = jax.custom_vjp(_softmax_primal, nondiff_argnums=(0,))


def _softmax_fwd(axis: Axis, x, mask):
    y = _softmax_primal(axis, x, mask)
    return y, (y, mask)


def _softmax_bwd(axis: Axis, saved, dy):
    # dy_j/dx_i = y_j·([i = j] − y_i):   dx_i = y_i·(dy_i − sum_j dy_j·y_j)
    y, mask = saved
    acc = accumulator(y.dtype)
    dx = _times_less_mean(axis, y.astype(acc), _selected(mask, dy.astype(acc), 0))
    return _selected(mask, dx, 0).astype(y.dtype), None


def _times_less_mean(axis: Axis, y, dy):
    """y_i·(dy_i − sum_j dy_j·y_j), for y of sum 1.

    Where y_i is all but 1, the sum is all but dy_i, and its rounding error may be more than what they differ by. So the
    mean of what is left, which is 0 but for rounding errors, is subtracted, too.
    """
    rest = dy - jnp.sum(dy * y, axis, keepdims=True)
    return y * (rest - jnp.sum(rest * y, axis, keepdims=True))


_softmax.defvjp(_softmax_fwd, _softmax_bwd)
_softmax_jit = jax.jit(_softmax, static_argnums=0)


def softmax(x: jax.Array, axis: int | Sequence[int] | None = -1, where: ArrayLike | None = None) -> jax.Array:
    """Softmax: positive, and of sum 1 along an axis.

    Formula, i and j along the axis:
        y_i = exp(x_i)/sum_j exp(x_j)
    Gradient:
        dx_i = y_i·(dy_i − sum_j dy_j·y_j)

    The largest x_i is subtracted first, so that nothing overflows. Entries of −inf give 0; a NaN or +inf, or a row of
    nothing but −inf, gives NaN for its row, as in `jax.nn.softmax`.

    With a mask, j runs over the entries where it is True. The others give 0, whatever stands there, NaN too; their dx
    is 0, and their dy is not looked at. A row without entries gives zeros.

    Args:
        x: any shape.
        axis: the axis, or axes, along which y sums to 1; None: all.
        where: the mask, an array of bool that can be broadcast to x's shape, or None.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: axis out of range or repeated, a mask of another shape. TypeError: x is not a floating array, or
            where not one of bool.

    Saved for the backward: y; the mask as it is given.

    Reference: J. Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990.

    Example:
        >>> softmax(jnp.array([0.0, 0.0, 5.0]), where=jnp.array([True, True, False])).tolist()
        [0.5, 0.5, 0.0]
    """
    (x,) = float_arrays(x=x)
    return _softmax_jit(_axes(axis, x.shape), *varying_alike(x, mask_array(where, x.shape, "x")))


# --- softmin ---


def _softmin_primal(axis: Axis, x, mask):
    return _softmax_primal(axis, -x, mask)


_softmin = jax.custom_vjp(_softmin_primal, nondiff_argnums=(0,))


def _softmin_fwd(axis: Axis, x, mask):
    return _softmax_fwd(axis, -x, mask)


def _softmin_bwd(axis: Axis, saved, dy):
    # y = softmax(−x):   dx_i = −y_i·(dy_i − sum_j dy_j·y_j)
    dx, _ = _softmax_bwd(axis, saved, dy)
    return -dx, None


_softmin.defvjp(_softmin_fwd, _softmin_bwd)
_softmin_jit = jax.jit(_softmin, static_argnums=0)


def softmin(x: jax.Array, axis: int | Sequence[int] | None = -1, where: ArrayLike | None = None) -> jax.Array:
    """Softmin: the softmax of −x.

    Formula, i and j along the axis:
        y_i = exp(−x_i)/sum_j exp(−x_j)
    Gradient:
        dx_i = −y_i·(dy_i − sum_j dy_j·y_j)

    Entries of +inf give 0; a NaN or −inf, or a row of nothing but +inf, gives NaN for its row. The mask is that of
    `softmax`.

    Args:
        x: any shape.
        axis: the axis, or axes, along which y sums to 1; None: all.
        where: the mask, an array of bool that can be broadcast to x's shape, or None.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: axis out of range or repeated, a mask of another shape. TypeError: x is not a floating array, or
            where not one of bool.

    Saved for the backward: y; the mask as it is given.

    Reference: `torch.nn.functional.softmin`.

    Example:
        >>> softmin(jnp.array([0.0, jnp.inf, 0.0])).tolist()
        [0.5, 0.0, 0.5]
    """
    (x,) = float_arrays(x=x)
    return _softmin_jit(_axes(axis, x.shape), *varying_alike(x, mask_array(where, x.shape, "x")))


# --- log_softmax ---


def _log_softmax_primal(axis: Axis, x, mask):
    return _log_softmax_fwd(axis, x, mask)[0]


_log_softmax = jax.custom_vjp(_log_softmax_primal, nondiff_argnums=(0,))


def _log_softmax_fwd(axis: Axis, x, mask):
    largest, total = row_normaliser(x, axis, _full(mask, x.shape))
    y = _selected(mask, x, 0).astype(total.dtype) - largest - jnp.log(total)
    return _selected(mask, y, -jnp.inf).astype(x.dtype), (x, largest, total, mask)


def _log_softmax_bwd(axis: Axis, saved, dy):
    # dy_j/dx_i = [i = j] − p_i with p = softmax(x):   dx_i = dy_i − p_i·sum_j dy_j
    x, largest, total, mask = saved
    dy_ = _selected(mask, dy.astype(total.dtype), 0)
    p = probabilities(_selected(mask, x, -jnp.inf), largest, total, jnp.sum(dy_, axis, keepdims=True))
    return _selected(mask, dy_ - p, 0).astype(x.dtype), None


_log_softmax.defvjp(_log_softmax_fwd, _log_softmax_bwd)
_log_softmax_jit = jax.jit(_log_softmax, static_argnums=0)


def log_softmax(x: jax.Array, axis: int | Sequence[int] | None = -1, where: ArrayLike | None = None) -> jax.Array:
    """The logarithm of softmax.

    Formula, i and j along the axis:
        y_i = x_i − log(sum_j exp(x_j))
    Gradient, with p = softmax(x):
        dx_i = dy_i − p_i·sum_j dy_j

    The largest x_i is subtracted first, so that nothing overflows. Entries of −inf give −inf and p_i = 0.

    With a mask, j runs over the entries where it is True. The others give −inf, whatever stands there, NaN too; their
    dx is 0, and their dy is not looked at.

    Args:
        x: any shape.
        axis: the axis, or axes, along which exp(y) sums to 1; None: all.
        where: the mask, an array of bool that can be broadcast to x's shape, or None.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: axis out of range or repeated, a mask of another shape. TypeError: x is not a floating array, or
            where not one of bool.

    Saved for the backward: x itself, and the maximum and the sum of each row (p from exp(y) would multiply y's
    rounding error by |y|); the mask as it is given.

    Reference: J. Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990.

    Example:
        >>> bool(jnp.allclose(log_softmax(jnp.array([0.0, 0.0])), -jnp.log(2.0)))
        True
    """
    (x,) = float_arrays(x=x)
    return _log_softmax_jit(_axes(axis, x.shape), *varying_alike(x, mask_array(where, x.shape, "x")))


# --- logsumexp ---


def _logsumexp_primal(axis: Axis, keepdims: bool, signed: bool, a, b, mask):
    return _logsumexp_fwd(axis, keepdims, signed, a, b, mask)[0]


_logsumexp = jax.custom_vjp(_logsumexp_primal, nondiff_argnums=(0, 1, 2))


def _logsumexp_fwd(axis: Axis, keepdims: bool, signed: bool, a, b, mask):
    largest, total = _scaled_sum(axis, a, b, mask)
    y, sign = _log_size(total) + largest, jnp.sign(total)
    y = y if signed else jnp.where(total < 0, jnp.nan, y)
    y, sign = (v if keepdims else jnp.squeeze(v, axis) for v in (y.astype(a.dtype), sign.astype(a.dtype)))
    return (y, sign), (a, b, mask, largest, total)


def _scaled_sum(axis: Axis, a, b, mask):
    """m and sum_j b_j·exp(a_j − m), with the axis kept; m is the largest a_j that counts, 0 where that is infinite."""
    a = _selected(mask, a.astype(accumulator(a.dtype)), -jnp.inf)
    if b is not None:
        b = jnp.broadcast_to(b, a.shape).astype(a.dtype)
    counting = a if b is None else jnp.where(b == 0, -jnp.inf, a)
    largest = lax.stop_gradient(jnp.max(counting, axis, keepdims=True, initial=-jnp.inf))
    largest = jnp.where(jnp.isfinite(largest), largest, 0)
    terms = jnp.exp(a - largest) if b is None else _selected(mask, b * _factor_of(b, a, largest), 0)
    return largest, jnp.sum(terms, axis, keepdims=True)


def _factor_of(b, a, largest):
    """exp(a_j − m), by which b_j is multiplied; 0 where it is not finite and b_j is 0: 0·exp(inf) counts as 0.

    Elsewhere it stays where b_j is 0: it is the derivative of the product.
    """
    ignored = (b == 0) & ~jnp.isfinite(jnp.exp(lax.stop_gradient(a - largest)))
    return jnp.exp(jnp.where(ignored, -jnp.inf, a) - largest)


def _log_size(total):
    """log|total|, whose derivative at 0 is 0 and not infinite: 0 times that goes into second derivatives."""
    zero = total == 0
    return jnp.where(zero, -jnp.inf, jnp.log(jnp.abs(jnp.where(zero, 1, total))))


def _logsumexp_bwd(axis: Axis, keepdims: bool, signed: bool, saved, cotangents):
    # y = log|S|, S = sum_j b_j·exp(a_j):   da_i = dy · b_i·exp(a_i)/S
    #                                      db_i = dy · exp(a_i)/S
    a, b, mask, largest, total = saved
    dy, _ = cotangents  # the sign is constant
    rate = _over_sum(axis, keepdims, a, mask, total, dy)
    kept = _selected(mask, a.astype(total.dtype), -jnp.inf)
    share = _selected(mask, jnp.exp(kept - largest) * rate, 0)
    if b is None:
        return share.astype(a.dtype), None, None
    if not signed:  # y is a constant NaN
        rate, share = (jnp.where(total < 0, 0, v) for v in (rate, share))
    b_ = _selected(mask, jnp.broadcast_to(b, a.shape).astype(share.dtype), 0)
    factor = _factor_of(b_, kept, largest) * rate
    da = b_ * jnp.where((b_ == 0) & ~jnp.isfinite(factor), 0, factor)
    return da.astype(a.dtype), summed_to(share, b.shape).astype(b.dtype), None


def _over_sum(axis: Axis, keepdims: bool, a, mask, total, dy):
    """dy/total."""
    dy = dy.astype(total.dtype)
    dy = dy if keepdims else jnp.expand_dims(dy, axis)
    if mask is not None:  # a row without entries
        total = jnp.where(jnp.any(_full(mask, a.shape), axis, keepdims=True), total, 1)
    return dy / total


_logsumexp.defvjp(_logsumexp_fwd, _logsumexp_bwd)
_logsumexp_jit = jax.jit(_logsumexp, static_argnums=(0, 1, 2))


def logsumexp(
    a: jax.Array,
    axis: int | Sequence[int] | None = None,
    b: jax.Array | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """The logarithm of a sum of exponentials.

    Formula, i and j along the axis, b_j = 1 if b is not given:
        y = log|S|, S = sum_j b_j·exp(a_j)
    Gradient:
        da_i = dy · b_i·exp(a_i)/S
        db_i = dy · exp(a_i)/S

    The largest a_i is subtracted first, so that nothing overflows. Infinities are as in `jax.nn.logsumexp`: a row of
    nothing but −inf, or an empty one, gives −inf, one with +inf gives +inf, and where these have entries their gradient
    is NaN. For S < 0 y is NaN, with gradient 0, unless return_sign is True. Where b_i is 0, a_i does not count, even if
    it is +inf; db_i is the derivative there, too (`jax.nn.logsumexp` has 0).

    With a mask, i and j run over the entries where it is True, whatever stands elsewhere, NaN too; the gradient of the
    others is 0, and a row without entries gives −inf.

    Args:
        a: any shape.
        axis: the axis, or axes, to sum over; None: all.
        b: factors, of a shape that can be broadcast to a's, of any sign; or None.
        keepdims: whether y keeps the axes summed over, with size 1.
        return_sign: whether to return the sign of S, too.
        where: the mask, an array of bool that can be broadcast to a's shape, or None.

    Returns:
        y, of a's shape without the axes summed over, of a's dtype; bfloat16 and float16 are computed in float32. With
        return_sign (y, sign of S); the sign has gradient 0.

    Raises:
        ValueError: axis out of range or repeated, b or a mask of another shape. TypeError: a and b are not floating
            arrays of one dtype, or where is not one of bool.

    Saved for the backward: a, b and the mask themselves, and two numbers per row.

    Reference: P. Blanchard, D. Higham, N. Higham, Accurately computing the log-sum-exp and softmax functions, IMA
    Journal of Numerical Analysis 2021.

    Example:
        >>> jax.grad(logsumexp)(jnp.array([1000.0, 1000.0])).tolist()
        [0.5, 0.5]
    """
    a, b = float_arrays(a=a, b=b)
    if b is not None and not broadcasts(b.shape, a.shape):
        raise ValueError(f"b: got shape {b.shape}, expected one that broadcasts to {a.shape}, that of a")
    a, b, mask = varying_alike(a, b, mask_array(where, a.shape, "a"))
    y, sign = _logsumexp_jit(
        _axes(axis, a.shape), flag("keepdims", keepdims), flag("return_sign", return_sign), a, b, mask
    )
    return (y, sign) if return_sign else y


# --- logmeanexp ---


def _logmeanexp_primal(axis: Axis, keepdims: bool, x, mask):
    return _logmeanexp_fwd(axis, keepdims, x, mask)[0]


_logmeanexp = jax.custom_vjp(_logmeanexp_primal, nondiff_argnums=(0, 1))


def _logmeanexp_fwd(axis: Axis, keepdims: bool, x, mask):
    largest, total = _scaled_sum(axis, x, None, mask)
    ones = jnp.ones(x.shape, bool) if mask is None else _full(mask, x.shape)
    count = jnp.sum(ones, axis, keepdims=True, dtype=total.dtype)
    y = jnp.where(count == 0, jnp.nan, _log_size(total / jnp.maximum(count, 1)) + largest).astype(x.dtype)
    return y if keepdims else jnp.squeeze(y, axis), (x, mask, largest, total)


def _logmeanexp_bwd(axis: Axis, keepdims: bool, saved, dy):
    # y = log(sum_j exp(x_j)) − log n:   dx_i = dy · exp(x_i)/sum_j exp(x_j)
    x, mask, largest, total = saved
    kept = _selected(mask, x.astype(total.dtype), -jnp.inf)
    dx = jnp.exp(kept - largest) * _over_sum(axis, keepdims, x, mask, total, dy)
    return _selected(mask, dx, 0).astype(x.dtype), None


_logmeanexp.defvjp(_logmeanexp_fwd, _logmeanexp_bwd)
_logmeanexp_jit = jax.jit(_logmeanexp, static_argnums=(0, 1))


def logmeanexp(
    x: jax.Array,
    axis: int | Sequence[int] | None = None,
    where: ArrayLike | None = None,
    keepdims: bool = False,
) -> jax.Array:
    """The logarithm of a mean of exponentials.

    Formula, i and j along the axis, n entries:
        y = log(1/n · sum_j exp(x_j))
    Gradient:
        dx_i = dy · exp(x_i)/sum_j exp(x_j)

    The largest x_i is subtracted first, so that nothing overflows. Infinities are as in `jax.nn.logmeanexp`: a row of
    nothing but −inf gives −inf, one with +inf gives +inf, and their gradients are NaN. A row without entries gives NaN,
    with gradient 0. The mask is that of `logsumexp`; n counts where it is True.

    Args:
        x: any shape.
        axis: the axis, or axes, to take the mean over; None: all.
        where: the mask, an array of bool that can be broadcast to x's shape, or None.
        keepdims: whether y keeps the axes of the mean, with size 1.

    Returns:
        y, of x's shape without the axes of the mean, of x's dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: axis out of range or repeated, a mask of another shape. TypeError: x is not a floating array, or
            where not one of bool.

    Saved for the backward: x and the mask themselves, and two numbers per row.

    Reference: P. Blanchard, D. Higham, N. Higham, Accurately computing the log-sum-exp and softmax functions, IMA
    Journal of Numerical Analysis 2021.

    Example:
        >>> logmeanexp(jnp.array([3.0, 3.0])).tolist()
        3.0
    """
    (x,) = float_arrays(x=x)
    x, mask = varying_alike(x, mask_array(where, x.shape, "x"))
    return _logmeanexp_jit(_axes(axis, x.shape), flag("keepdims", keepdims), x, mask)


# --- gumbel_softmax ---


def _gumbel_softmax_primal(axis: Axis, hard: bool, x, temperature, noise):
    return _gumbel_softmax_fwd(axis, hard, x, temperature, noise)[0]


_gumbel_softmax = jax.custom_vjp(_gumbel_softmax_primal, nondiff_argnums=(0, 1))


def _gumbel_softmax_fwd(axis: Axis, hard: bool, x, temperature, noise):
    acc = accumulator(x.dtype)
    u = (x.astype(acc) + noise.astype(acc)) / temperature.astype(acc)
    soft = probabilities(u, *row_normaliser(u, axis)).astype(x.dtype)
    return _one_hot_of(axis, u, soft) if hard and u.size else soft, (soft, temperature)


def _one_hot_of(axis: Axis, u, soft):
    """1 at the largest u, the first of equal ones, and 0 elsewhere; NaN where the soft sample is."""
    largest = jnp.expand_dims(lax.argmax(u, axis[0], jnp.int32), axis)
    chosen = lax.broadcasted_iota(jnp.int32, u.shape, axis[0]) == largest
    return jnp.where(jnp.isnan(soft), soft, chosen.astype(soft.dtype))


def _gumbel_softmax_bwd(axis: Axis, hard: bool, saved, dy):
    # Of the soft sample s = softmax(u), u = (x + g)/τ, also where y is the hard one:
    #   du_i = s_i·(dy_i − sum_j dy_j·s_j)
    #   dx_i = du_i/τ
    #   dτ   = −sum_i du_i·u_i/τ = −sum_i du_i·log(s_i)/τ, as u_i = log s_i + a constant of the row, and sum_i du_i = 0
    soft, temperature = saved
    acc = accumulator(soft.dtype)
    s, t, dy_ = soft.astype(acc), temperature.astype(acc), dy.astype(acc)
    du = _times_less_mean(axis, s, dy_)
    dtemperature = -jnp.sum(du * jnp.log(jnp.where(s > 0, s, 1))) / t  # 0·log 0 = 0
    return (du / t).astype(soft.dtype), dtemperature.astype(temperature.dtype), None


_gumbel_softmax.defvjp(_gumbel_softmax_fwd, _gumbel_softmax_bwd)


def _gumbel_softmax_of_key(axis: Axis, hard: bool, key, x, temperature):
    noise = jax.random.gumbel(key, x.shape, jnp.float32)
    return _gumbel_softmax(axis, hard, *varying_alike(x, temperature, noise))


_gumbel_softmax_jit = jax.jit(_gumbel_softmax_of_key, static_argnums=(0, 1))


def gumbel_softmax(
    key: jax.Array, x: jax.Array, temperature: float | jax.Array = 1.0, hard: bool = False, axis: int = -1
) -> jax.Array:
    """A differentiable sample from a categorical distribution: the softmax of logits with Gumbel noise.

    Formula, i and j along the axis, g independent Gumbel noise, τ the temperature:
        y_i = exp(u_i)/sum_j exp(u_j), u = (x + g)/τ
        y_i = [i = argmax u]        hard: a sample of softmax(x)
    Gradient, of the soft sample s = softmax(u) in both cases:
        du_i = s_i·(dy_i − sum_j dy_j·s_j)
        dx_i = du_i/τ
        dτ = −sum_i du_i·u_i/τ

    With hard the gradient is not the derivative of y, which is 0, but passes straight through to the soft sample. A NaN
    or +inf in a row gives NaN for its row; −inf gives 0.

    The noise is drawn in float32, whatever x's dtype is, so that a key means the same noise in all of them. Under
    `jax.vmap` over x alone all examples have the same noise: map over keys, too, or leave batches to this function.

    Args:
        key: a key of `jax.random`; the same key gives the same sample.
        x: logits, any shape with at least one axis.
        temperature: τ, a positive number, or an array () of x's dtype, which has a gradient. The smaller, the nearer
            the soft sample is to a hard one. Another number compiles nothing anew.
        hard: whether y is 1 at the largest u (the first of equal ones) and 0 elsewhere.
        axis: the axis of the categories.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: axis out of range, a number as temperature that is not positive, a temperature with axes. TypeError:
            x is not a floating array, the temperature neither a number nor an array of its dtype, hard not a bool.

    Saved for the backward: the soft sample, and τ. Not the noise.

    Reference: E. Jang, S. Gu, B. Poole, Categorical reparameterization with Gumbel-softmax, ICLR 2017; C. Maddison, A.
    Mnih, Y. Teh, The concrete distribution, ICLR 2017.

    Example:
        >>> y = gumbel_softmax(jax.random.key(0), jnp.zeros((2, 3)), hard=True)
        >>> y.sum(-1).tolist(), y.max(-1).tolist()
        ([1.0, 1.0], [1.0, 1.0])
    """
    if isinstance(temperature, numbers.Real) and not isinstance(temperature, bool):
        if not float(temperature) > 0:
            raise ValueError(f"temperature: got {temperature!r}, expected a number above 0")
        (x,) = float_arrays(x=x)
        temperature = jnp.asarray(float(temperature), accumulator(x.dtype))
    else:
        x, temperature = float_arrays(x=x, temperature=temperature)
        if temperature.shape:
            raise ValueError(f"temperature: got shape {temperature.shape}, expected (): one for all")
    if not isinstance(hard, bool):
        raise TypeError(f"hard: got {hard!r}, expected True or False")
    axes = checked_axis(axis, x.shape)
    if len(axes) != 1:
        raise ValueError(f"axis: got {axis!r}, expected one axis: that of the categories")
    return _gumbel_softmax_jit(axes, hard, key, x, temperature)
