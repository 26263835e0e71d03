"""Activations. Element-wise ones: dx = dy · f'(x), f' written so that it is accurate over the whole range."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import float_arrays
from jaxconv._rows import Axis, checked_axis, probabilities, row_normaliser
from jaxconv.algorithms.dtypes import accumulator

__all__ = ["leaky_relu", "log_softmax", "relu", "sigmoid", "softmax", "tanh"]


# --- relu ---


def _relu_primal(x):
    return lax.max(x, jnp.zeros((), x.dtype))


_relu = jax.custom_vjp(_relu_primal)


def _relu_fwd(x):
    return _relu_primal(x), x > 0


def _relu_bwd(positive, dy):
    # y = x where x > 0, else 0:   dx = dy · [x > 0]
    return (jnp.where(positive, dy, 0),)


_relu.defvjp(_relu_fwd, _relu_bwd)
_relu_jit = jax.jit(_relu)


def relu(x: jax.Array) -> jax.Array:
    """Rectified linear unit.

    Formula:
        y = max(0, x)
    Gradient:
        dx = dy · [x > 0]

    At the kink, x = ±0, the gradient is 0, as in `jax.nn.relu`. NaN stays NaN, with gradient 0.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: [x > 0], one byte per element. Not x.

    Reference: X. Glorot, A. Bordes, Y. Bengio, Deep sparse rectifier neural networks, AISTATS 2011.

    Example:
        >>> relu(jnp.array([-1.0, 0.0, 2.0])).tolist()
        [0.0, 0.0, 2.0]
    """
    (x,) = float_arrays(x=x)
    return _relu_jit(x)


# --- leaky_relu ---


def _leaky_relu_primal(negative_slope: float, x):
    return jnp.where(x >= 0, x, negative_slope * x)


_leaky_relu = jax.custom_vjp(_leaky_relu_primal, nondiff_argnums=(0,))


def _leaky_relu_fwd(negative_slope: float, x):
    return _leaky_relu_primal(negative_slope, x), x >= 0


def _leaky_relu_bwd(negative_slope: float, right, dy):
    # y = x where x >= 0, else a·x:   dx = dy where x >= 0, else a·dy
    return (jnp.where(right, dy, negative_slope * dy),)


_leaky_relu.defvjp(_leaky_relu_fwd, _leaky_relu_bwd)
_leaky_relu_jit = jax.jit(_leaky_relu, static_argnums=0)


def leaky_relu(x: jax.Array, negative_slope: float = 0.01) -> jax.Array:
    """Leaky rectified linear unit.

    Formula, with a the negative slope:
        y = x where x >= 0, else a·x
    Gradient:
        dx = dy where x >= 0, else a·dy

    At the kink, x = ±0, the gradient is dy, as in `jax.nn.leaky_relu`. NaN stays NaN, with gradient a·dy.

    Args:
        x: any shape.
        negative_slope: a, a Python number.

    Returns:
        y, of x's shape and dtype.

    Raises:
        TypeError: x is not a floating array, or negative_slope is not a Python number.

    Saved for the backward: [x >= 0], one byte per element. Not x.

    Reference: A. Maas, A. Hannun, A. Ng, Rectifier nonlinearities improve neural network acoustic models, ICML 2013.

    Example:
        >>> leaky_relu(jnp.array([-1.0, 0.0, 2.0]), 0.5).tolist()
        [-0.5, 0.0, 2.0]
    """
    (x,) = float_arrays(x=x)
    if isinstance(negative_slope, bool) or not isinstance(negative_slope, (int, float)):
        raise TypeError(
            f"negative_slope: got a {type(negative_slope).__name__}, expected a Python number: the slope is a constant "
            "of the op and has no gradient"
        )
    return _leaky_relu_jit(float(negative_slope), x)


# --- sigmoid ---


def _sigmoid_primal(x):
    # In float16 exp(−x) would overflow from x = −11 on.
    return lax.logistic(x.astype(accumulator(x.dtype))).astype(x.dtype)


_sigmoid = jax.custom_vjp(_sigmoid_primal)


def _sigmoid_fwd(x):
    return _sigmoid_primal(x), x


def _sigmoid_bwd(x, dy):
    # y' = y·(1 − y) = e/(1 + e)² with e = exp(−|x|), even in x. Written in y, 1 − y would cancel: in float32 y rounds
    # to 1 from x = 17 on, and y' would be exactly 0.
    e = jnp.exp(-jnp.abs(x).astype(accumulator(x.dtype)))
    return ((dy.astype(e.dtype) * (e / ((1 + e) * (1 + e)))).astype(x.dtype),)


_sigmoid.defvjp(_sigmoid_fwd, _sigmoid_bwd)
_sigmoid_jit = jax.jit(_sigmoid)


def sigmoid(x: jax.Array) -> jax.Array:
    """Logistic sigmoid.

    Formula:
        y = 1/(1 + exp(−x))
    Gradient:
        dx = dy · y·(1 − y) = dy · e/(1 + e)², e = exp(−|x|)

    The second form is the one computed: it is accurate for all x, where y·(1 − y) becomes 0 once y rounds to 1 (from
    x = 17 on in float32, as `jax.nn.sigmoid` does).

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself. (y is as large, and does not determine the gradient where it rounds to 1.)

    Reference: Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, Efficient BackProp, 1998, section 4.4.

    Example:
        >>> sigmoid(jnp.array([0.0])).tolist(), jax.grad(lambda x: sigmoid(x).sum())(jnp.array([0.0])).tolist()
        ([0.5], [0.25])
    """
    (x,) = float_arrays(x=x)
    return _sigmoid_jit(x)


# --- tanh ---


def _tanh_primal(x):
    return lax.tanh(x)


_tanh = jax.custom_vjp(_tanh_primal)


def _tanh_fwd(x):
    return _tanh_primal(x), x


def _tanh_bwd(x, dy):
    # y' = 1 − y² = 4e/(1 + e)² with e = exp(−2|x|), even in x. Written in y, which rounds, 1 − y² would lose its digits
    # as y nears ±1, and in float32 be exactly 0 from |x| = 9 on.
    e = jnp.exp(-2 * jnp.abs(x).astype(accumulator(x.dtype)))
    return ((dy.astype(e.dtype) * (4 * e / ((1 + e) * (1 + e)))).astype(x.dtype),)


_tanh.defvjp(_tanh_fwd, _tanh_bwd)
_tanh_jit = jax.jit(_tanh)


def tanh(x: jax.Array) -> jax.Array:
    """Hyperbolic tangent.

    Formula:
        y = tanh(x) = (exp(x) − exp(−x))/(exp(x) + exp(−x))
    Gradient:
        dx = dy · (1 − y²) = dy · 4e/(1 + e)², e = exp(−2|x|)

    The second form is the one computed: it is accurate for all x, where 1 − y² loses its digits as y nears ±1 and is 0
    once y rounds to it (from |x| = 9 on in float32, 3 in bfloat16, as in jax.grad of `jnp.tanh`).

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself. (y is as large, and does not determine the gradient where it rounds to ±1.)

    Reference: Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, Efficient BackProp, 1998, section 4.4.

    Example:
        >>> tanh(jnp.array([0.0])).tolist(), jax.grad(lambda x: tanh(x).sum())(jnp.array([0.0])).tolist()
        ([0.0], [1.0])
    """
    (x,) = float_arrays(x=x)
    return _tanh_jit(x)


# --- softmax ---


def _softmax_primal(axis: Axis, x):
    return probabilities(x, *row_normaliser(x, axis)).astype(x.dtype)


_softmax = jax.custom_vjp(_softmax_primal, nondiff_argnums=(0,))


def _softmax_fwd(axis: Axis, x):
    y = _softmax_primal(axis, x)
    return y, y


def _softmax_bwd(axis: Axis, y, dy):
    # dy_j/dx_i = y_j·([i = j] − y_i):   dx_i = y_i·(dy_i − sum_j dy_j·y_j)
    acc = accumulator(y.dtype)
    y_, dy_ = y.astype(acc), dy.astype(acc)
    return ((y_ * (dy_ - jnp.sum(dy_ * y_, axis, keepdims=True))).astype(y.dtype),)


_softmax.defvjp(_softmax_fwd, _softmax_bwd)
_softmax_jit = jax.jit(_softmax, static_argnums=0)


def softmax(x: jax.Array, axis: int | Sequence[int] = -1) -> jax.Array:
    """Softmax: positive, and of sum 1 along an axis.

    Formula, i and j along the axis:
        y_i = exp(x_i)/sum_j exp(x_j)
    Gradient:
        dx_i = y_i·(dy_i − sum_j dy_j·y_j)

    The largest x_i is subtracted first, so that nothing overflows. Entries of −inf give 0; a NaN or +inf, or a row of
    nothing but −inf, gives NaN for its row, as in `jax.nn.softmax`.

    Args:
        x: any shape with at least one axis.
        axis: the axis, or axes, along which y sums to 1.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: axis out of range or repeated. TypeError: x is not a floating array.

    Saved for the backward: y.

    Reference: J. Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990.

    Example:
        >>> softmax(jnp.array([0.0, 0.0])).tolist()
        [0.5, 0.5]
    """
    (x,) = float_arrays(x=x)
    return _softmax_jit(checked_axis(axis, x.shape), x)


# --- log_softmax ---


def _log_softmax_primal(axis: Axis, x):
    return _log_probabilities(x, *row_normaliser(x, axis))


def _log_probabilities(x, largest, total):
    return (x.astype(total.dtype) - largest - jnp.log(total)).astype(x.dtype)


_log_softmax = jax.custom_vjp(_log_softmax_primal, nondiff_argnums=(0,))


def _log_softmax_fwd(axis: Axis, x):
    largest, total = row_normaliser(x, axis)
    return _log_probabilities(x, largest, total), (x, largest, total)


def _log_softmax_bwd(axis: Axis, saved, dy):
    # dy_j/dx_i = [i = j] − p_i with p = softmax(x):   dx_i = dy_i − p_i·sum_j dy_j
    x, largest, total = saved
    dy_ = dy.astype(total.dtype)
    return ((dy_ - probabilities(x, largest, total, jnp.sum(dy_, axis, keepdims=True))).astype(x.dtype),)


_log_softmax.defvjp(_log_softmax_fwd, _log_softmax_bwd)
_log_softmax_jit = jax.jit(_log_softmax, static_argnums=0)


def log_softmax(x: jax.Array, axis: int | Sequence[int] = -1) -> jax.Array:
    """The logarithm of softmax.

    Formula, i and j along the axis:
        y_i = x_i − log(sum_j exp(x_j))
    Gradient, with p = softmax(x):
        dx_i = dy_i − p_i·sum_j dy_j

    The largest x_i is subtracted first, so that nothing overflows. Entries of −inf give −inf and p_i = 0.

    Args:
        x: any shape with at least one axis.
        axis: the axis, or axes, along which exp(y) sums to 1.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: axis out of range or repeated. TypeError: x is not a floating array.

    Saved for the backward: x itself, and the maximum and the sum of each row. (p from exp(y) would multiply y's
    rounding error by |y|.)

    Reference: J. Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990.

    Example:
        >>> bool(jnp.allclose(log_softmax(jnp.array([0.0, 0.0])), -jnp.log(2.0)))
        True
    """
    (x,) = float_arrays(x=x)
    return _log_softmax_jit(checked_axis(axis, x.shape), x)
