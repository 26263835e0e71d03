"""Activations. Element-wise ones: dx = dy · f'(x), f' written so that it is accurate over the whole range."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import broadcasts, float_arrays, number
from jaxconv._layout import summed_to
from jaxconv._rows import checked_axis
from jaxconv.algorithms.dtypes import accumulator

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log1mexp",
    "log_sigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "soft_sign",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]


# --- what they share ---


def _wide(x):
    """x in the dtype that activations are computed in: its own, at least float32."""
    return x.astype(accumulator(x.dtype))


def _chained(dy, slope):
    """(dy · slope,), in dy's dtype: what an element-wise rule returns."""
    return ((dy.astype(slope.dtype) * slope).astype(dy.dtype),)


def _size(x):
    """|x|, with derivative 1 at 0: a smooth function written in |x| has its second derivative at 0, too."""
    return jnp.where(x >= 0, x, -x)


def _bounded(x):
    """x, but not beyond ±1e4, where exp(−|x|) has long been 0: no inf · 0."""
    return jnp.clip(x, -1e4, 1e4)


def _not_minus_inf(x):
    """x, but not below −1e4: −inf · 0 would be NaN."""
    return jnp.maximum(x, -1e4)


def _gated(a, v):
    """a · sigmoid(v), for finite a.

    exp(−|v|) goes on in two halves: by itself it would be 0 (from v = −708 on in float64) before the product is.
    """
    half = jnp.exp(-_size(v) / 2)
    return jnp.where(v >= 0, a, (a * half) * half) / (1 + half * half)


# --- identity ---


def _identity_primal(x):
    return x


_identity = jax.custom_vjp(_identity_primal)


def _identity_fwd(x):
    return x, None


def _identity_bwd(_, dy):
    # y = x:   dx = dy
    return (dy,)


_identity.defvjp(_identity_fwd, _identity_bwd)
_identity_jit = jax.jit(_identity)


def identity(x: jax.Array) -> jax.Array:
    """The identity.

    Formula:
        y = x
    Gradient:
        dx = dy

    NaN stays NaN, with gradient dy.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: nothing.

    Reference: `jax.nn.identity`.

    Example:
        >>> identity(jnp.array([-1.0, 2.0])).tolist()
        [-1.0, 2.0]
    """
    (x,) = float_arrays(x=x)
    return _identity_jit(x)


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


# --- relu6 ---


def _relu6_primal(x):
    return jnp.clip(x, 0, 6)


_relu6 = jax.custom_vjp(_relu6_primal)


def _relu6_fwd(x):
    return _relu6_primal(x), (x > 0) & (x < 6)


def _relu6_bwd(inside, dy):
    # y = x where 0 < x < 6, else a constant:   dx = dy · [0 < x < 6]
    return (jnp.where(inside, dy, 0),)


_relu6.defvjp(_relu6_fwd, _relu6_bwd)
_relu6_jit = jax.jit(_relu6)


def relu6(x: jax.Array) -> jax.Array:
    """Rectified linear unit that does not exceed 6.

    Formula:
        y = min(max(0, x), 6)
    Gradient:
        dx = dy · [0 < x < 6]

    At the kinks, ±0 and 6, the gradient is 0, as in `jax.nn.relu6`. NaN stays NaN, with gradient 0.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: [0 < x < 6], one byte per element. Not x.

    Reference: A. Krizhevsky, Convolutional deep belief networks on CIFAR-10, 2010.

    Example:
        >>> relu6(jnp.array([-1.0, 2.0, 7.0])).tolist()
        [0.0, 2.0, 6.0]
    """
    (x,) = float_arrays(x=x)
    return _relu6_jit(x)


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
    return _leaky_relu_jit(number("negative_slope", negative_slope), x)


# --- prelu ---


def _prelu_primal(x, slope):
    x_ = _wide(x)
    return jnp.where(x >= 0, x_, jnp.broadcast_to(slope, x.shape).astype(x_.dtype) * x_).astype(x.dtype)


_prelu = jax.custom_vjp(_prelu_primal)


def _prelu_fwd(x, slope):
    return _prelu_primal(x, slope), (x, slope)


def _prelu_bwd(saved, dy):
    # y = x where x >= 0, else a·x, a repeated along the axes that it does not have:
    #   dx = dy where x >= 0, else a·dy
    #   da = sum over these axes of [x < 0]·x·dy
    x, slope = saved
    x_, dy_ = _wide(x), _wide(dy)
    dx = jnp.where(x >= 0, dy_, jnp.broadcast_to(slope, x.shape).astype(x_.dtype) * dy_)
    dslope = summed_to(jnp.where(x >= 0, 0, x_ * dy_), slope.shape)
    return dx.astype(x.dtype), dslope.astype(slope.dtype)


_prelu.defvjp(_prelu_fwd, _prelu_bwd)
_prelu_jit = jax.jit(_prelu)


def prelu(x: jax.Array, slope: jax.Array) -> jax.Array:
    """Parametric rectified linear unit: leaky_relu with a slope that is learned.

    Formula, with a the slope, repeated along the axes that it does not have:
        y = x where x >= 0, else a·x
    Gradient:
        dx = dy where x >= 0, else a·dy
        da = sum of [x < 0]·x·dy over the axes along which a is repeated

    At the kink, x = ±0, dx is dy, as in `leaky_relu` and in flax (PyTorch: a·dy), and da is 0. NaN stays NaN, with
    dx = a·dy and da NaN.

    Args:
        x: any shape.
        slope: a, of a shape that can be broadcast to x's: () for one slope, (C,) for one per channel, (C, 1, 1) for one
            per channel with the channels first.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed, and da summed, in float32.

    Raises:
        ValueError: slope cannot be broadcast to x's shape. TypeError: arguments that are not floating arrays of one
            dtype.

    Saved for the backward: x and the slope themselves.

    Reference: K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers, ICCV 2015.

    Example:
        >>> jax.grad(lambda a: prelu(jnp.array([-3.0, 0.0, 2.0]), a).sum())(jnp.array(0.5)).tolist()
        -3.0
    """
    x, slope = float_arrays(x=x, slope=slope)
    if not broadcasts(slope.shape, x.shape):
        raise ValueError(
            f"slope: got shape {slope.shape} for x of shape {x.shape}, expected one that can be broadcast to it: () "
            "for one slope, (C,) for one per channel, (C, 1, 1) for one per channel with the channels first"
        )
    return _prelu_jit(x, slope)


# --- hard_tanh ---


def _hard_tanh_primal(x):
    return jnp.clip(x, -1, 1)


_hard_tanh = jax.custom_vjp(_hard_tanh_primal)


def _hard_tanh_fwd(x):
    return _hard_tanh_primal(x), ~((x < -1) | (x > 1))


def _hard_tanh_bwd(inside, dy):
    # y = x where −1 <= x <= 1, else a constant:   dx = dy · [−1 <= x <= 1]
    return (jnp.where(inside, dy, 0),)


_hard_tanh.defvjp(_hard_tanh_fwd, _hard_tanh_bwd)
_hard_tanh_jit = jax.jit(_hard_tanh)


def hard_tanh(x: jax.Array) -> jax.Array:
    """The identity cut off at −1 and 1.

    Formula:
        y = min(max(−1, x), 1)
    Gradient:
        dx = dy · [−1 <= x <= 1]

    At the kinks, ±1, the gradient is dy, as in `jax.nn.hard_tanh`. NaN stays NaN, with gradient dy.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: [−1 <= x <= 1], one byte per element. Not x.

    Reference: R. Collobert, Large scale machine learning, 2004.

    Example:
        >>> hard_tanh(jnp.array([-2.0, 0.5, 1.0])).tolist()
        [-1.0, 0.5, 1.0]
    """
    (x,) = float_arrays(x=x)
    return _hard_tanh_jit(x)


# --- hard_sigmoid ---


def _hard_sigmoid_primal(x):
    return (jnp.clip(_wide(x) + 3, 0, 6) / 6).astype(x.dtype)


_hard_sigmoid = jax.custom_vjp(_hard_sigmoid_primal)


def _hard_sigmoid_fwd(x):
    return _hard_sigmoid_primal(x), (x > -3) & (x < 3)


def _hard_sigmoid_bwd(inside, dy):
    # y = (x + 3)/6 where −3 < x < 3, else a constant:   dx = dy/6 · [−3 < x < 3]
    return (jnp.where(inside, (_wide(dy) / 6).astype(dy.dtype), 0),)


_hard_sigmoid.defvjp(_hard_sigmoid_fwd, _hard_sigmoid_bwd)
_hard_sigmoid_jit = jax.jit(_hard_sigmoid)


def hard_sigmoid(x: jax.Array) -> jax.Array:
    """Piecewise linear sigmoid.

    Formula:
        y = min(max(0, x + 3), 6)/6
    Gradient:
        dx = dy/6 · [−3 < x < 3]

    At the kinks, ±3, the gradient is 0, as in `jax.nn.hard_sigmoid`. NaN stays NaN, with gradient 0.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: [−3 < x < 3], one byte per element. Not x.

    Reference: A. Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2.

    Example:
        >>> hard_sigmoid(jnp.array([-4.0, 0.0, 3.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    (x,) = float_arrays(x=x)
    return _hard_sigmoid_jit(x)


# --- hard_silu ---


def _hard_silu_primal(x):
    x_ = _not_minus_inf(_wide(x))
    return (x_ * (jnp.clip(x_ + 3, 0, 6) / 6)).astype(x.dtype)


_hard_silu = jax.custom_vjp(_hard_silu_primal)


def _hard_silu_fwd(x):
    return _hard_silu_primal(x), x


def _hard_silu_bwd(x, dy):
    # y = x·(x + 3)/6 where −3 < x < 3, 0 left and x right of that:   dx = dy · (2x + 3)/6, 0 and dy
    x_ = _wide(x)
    return _chained(dy, jnp.where(x_ >= 3, 1, jnp.where(x_ <= -3, 0, (2 * x_ + 3) / 6)))


_hard_silu.defvjp(_hard_silu_fwd, _hard_silu_bwd)
_hard_silu_jit = jax.jit(_hard_silu)


def hard_silu(x: jax.Array) -> jax.Array:
    """x times its hard_sigmoid; also called hard_swish.

    Formula:
        y = x·min(max(0, x + 3), 6)/6
    Gradient:
        dx = 0 where x <= −3, dy where x >= 3, else dy·(2x + 3)/6

    At the kinks the gradient is that of the outer side, 0 at −3 and dy at 3, as in `jax.nn.hard_silu`. −inf gives 0,
    with gradient 0 (there NaN). NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: A. Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2.

    Example:
        >>> hard_silu(jnp.array([-1.5, 0.0, 3.0])).tolist()
        [-0.375, 0.0, 3.0]
    """
    (x,) = float_arrays(x=x)
    return _hard_silu_jit(x)


hard_swish = hard_silu


# --- threshold ---


def _threshold_primal(threshold: float, value: float, x):
    return jnp.where(_above(threshold, x), x, jnp.asarray(value, x.dtype))


def _above(threshold: float, x):
    return ~(_wide(x) <= threshold)  # NaN is: it stays


_threshold = jax.custom_vjp(_threshold_primal, nondiff_argnums=(0, 1))


def _threshold_fwd(threshold: float, value: float, x):
    return _threshold_primal(threshold, value, x), _above(threshold, x)


def _threshold_bwd(threshold: float, value: float, above, dy):
    # y = x where x > threshold, else a constant:   dx = dy · [x > threshold]
    return (jnp.where(above, dy, 0),)


_threshold.defvjp(_threshold_fwd, _threshold_bwd)
_threshold_jit = jax.jit(_threshold, static_argnums=(0, 1))


def threshold(x: jax.Array, threshold: float, value: float) -> jax.Array:
    """x where it exceeds a threshold, else a value.

    Formula:
        y = x where x > threshold, else value
    Gradient:
        dx = dy · [x > threshold]

    At the threshold the gradient is 0. NaN stays NaN, with gradient dy. All of this as in PyTorch.

    Args:
        x: any shape.
        threshold: a Python number.
        value: a Python number.

    Returns:
        y, of x's shape and dtype.

    Raises:
        TypeError: x is not a floating array; threshold or value is not a Python number.

    Saved for the backward: [x > threshold], one byte per element. Not x.

    Reference: `torch.nn.functional.threshold`.

    Example:
        >>> threshold(jnp.array([-1.0, 1.0, 2.0]), 1.0, -5.0).tolist()
        [-5.0, -5.0, 2.0]
    """
    (x,) = float_arrays(x=x)
    return _threshold_jit(number("threshold", threshold), number("value", value), x)


# --- hard_shrink ---


def _hard_shrink_primal(lambd: float, x):
    return jnp.where(_outside(lambd, x), x, 0)


_hard_shrink = jax.custom_vjp(_hard_shrink_primal, nondiff_argnums=(0,))


def _hard_shrink_fwd(lambd: float, x):
    return _hard_shrink_primal(lambd, x), _outside(lambd, x)


def _hard_shrink_bwd(lambd: float, outside, dy):
    # y = x where |x| > λ, else 0:   dx = dy · [|x| > λ]
    return (jnp.where(outside, dy, 0),)


_hard_shrink.defvjp(_hard_shrink_fwd, _hard_shrink_bwd)
_hard_shrink_jit = jax.jit(_hard_shrink, static_argnums=0)


def _outside(lambd: float, x):
    return ~(jnp.abs(_wide(x)) <= lambd)  # NaN is: it stays


def _shrinkage(lambd: float) -> float:
    return number("lambd", lambd, 0, hint=": it is the half width of the interval set to 0")


def hard_shrink(x: jax.Array, lambd: float = 0.5) -> jax.Array:
    """x where its size exceeds λ, else 0.

    Formula, with λ for lambd:
        y = x where |x| > λ, else 0
    Gradient:
        dx = dy · [|x| > λ]

    At ±λ the gradient is 0. NaN stays NaN, with gradient dy. All of this as in PyTorch.

    Args:
        x: any shape.
        lambd: λ, a Python number, at least 0.

    Returns:
        y, of x's shape and dtype.

    Raises:
        ValueError: lambd is negative. TypeError: x is not a floating array, or lambd is not a Python number.

    Saved for the backward: [|x| > λ], one byte per element. Not x.

    Reference: D. Donoho, I. Johnstone, Ideal spatial adaptation by wavelet shrinkage, Biometrika 1994.

    Example:
        >>> hard_shrink(jnp.array([-1.0, 0.5, 2.0])).tolist()
        [-1.0, 0.0, 2.0]
    """
    (x,) = float_arrays(x=x)
    return _hard_shrink_jit(_shrinkage(lambd), x)


# --- soft_shrink ---


def _soft_shrink_primal(lambd: float, x):
    x_ = _wide(x)
    return (x_ - jnp.clip(x_, -lambd, lambd)).astype(x.dtype)


_soft_shrink = jax.custom_vjp(_soft_shrink_primal, nondiff_argnums=(0,))


def _soft_shrink_fwd(lambd: float, x):
    return _soft_shrink_primal(lambd, x), _outside(lambd, x)


def _soft_shrink_bwd(lambd: float, outside, dy):
    # y = x − λ·sign(x) where |x| > λ, else 0:   dx = dy · [|x| > λ]
    return (jnp.where(outside, dy, 0),)


_soft_shrink.defvjp(_soft_shrink_fwd, _soft_shrink_bwd)
_soft_shrink_jit = jax.jit(_soft_shrink, static_argnums=0)


def soft_shrink(x: jax.Array, lambd: float = 0.5) -> jax.Array:
    """x moved towards 0 by λ, and 0 where that would pass it.

    Formula, with λ for lambd:
        y = x − λ·sign(x) where |x| > λ, else 0
    Gradient:
        dx = dy · [|x| > λ]

    At the kinks, ±λ, the gradient is 0. NaN stays NaN, with gradient dy. All of this as in PyTorch.

    Args:
        x: any shape.
        lambd: λ, a Python number, at least 0.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: lambd is negative. TypeError: x is not a floating array, or lambd is not a Python number.

    Saved for the backward: [|x| > λ], one byte per element. Not x.

    Reference: D. Donoho, I. Johnstone, Ideal spatial adaptation by wavelet shrinkage, Biometrika 1994.

    Example:
        >>> soft_shrink(jnp.array([-1.0, 0.5, 2.0])).tolist()
        [-0.5, 0.0, 1.5]
    """
    (x,) = float_arrays(x=x)
    return _soft_shrink_jit(_shrinkage(lambd), x)


# --- sparse_plus ---


def _sparse_plus_primal(x):
    x_ = _wide(x)
    shifted = jnp.clip(x_, -1, 1) + 1
    return jnp.where(x_ >= 1, x_, shifted * shifted / 4).astype(x.dtype)


_sparse_plus = jax.custom_vjp(_sparse_plus_primal)


def _sparse_plus_fwd(x):
    return _sparse_plus_primal(x), x


def _sparse_plus_bwd(x, dy):
    # y = (x + 1)²/4 where −1 < x < 1, 0 left and x right of that:   dx = dy · (x + 1)/2, 0 and dy
    return _chained(dy, (jnp.clip(_wide(x), -1, 1) + 1) / 2)


_sparse_plus.defvjp(_sparse_plus_fwd, _sparse_plus_bwd)
_sparse_plus_jit = jax.jit(_sparse_plus)


def sparse_plus(x: jax.Array) -> jax.Array:
    """The sparse twin of softplus: exactly 0 up to −1, exactly x from 1 on.

    Formula:
        y = 0 where x <= −1, x where x >= 1, else (x + 1)²/4
    Gradient:
        dx = dy · sparse_sigmoid(x)

    The gradient is continuous. It is 0 at −inf and dy at +inf (in `jax.nn.sparse_plus` NaN). NaN stays NaN, with
    gradient NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: M. Blondel, A. Martins, V. Niculae, Learning with Fenchel-Young losses, JMLR 2020, section 6.2.

    Example:
        >>> sparse_plus(jnp.array([-1.0, 0.0, 2.0])).tolist()
        [0.0, 0.25, 2.0]
    """
    (x,) = float_arrays(x=x)
    return _sparse_plus_jit(x)


# --- sparse_sigmoid ---


def _sparse_sigmoid_primal(x):
    return ((jnp.clip(_wide(x), -1, 1) + 1) / 2).astype(x.dtype)


_sparse_sigmoid = jax.custom_vjp(_sparse_sigmoid_primal)


def _sparse_sigmoid_fwd(x):
    return _sparse_sigmoid_primal(x), ((jnp.abs(x) < 1).astype(jnp.int8) + (jnp.abs(x) <= 1).astype(jnp.int8))


def _sparse_sigmoid_bwd(quarters, dy):
    # y = (x + 1)/2 where −1 < x < 1, else a constant:   dx = dy/2 · [−1 < x < 1], and half of that at ±1
    return (dy * (quarters.astype(dy.dtype) / 4),)


_sparse_sigmoid.defvjp(_sparse_sigmoid_fwd, _sparse_sigmoid_bwd)
_sparse_sigmoid_jit = jax.jit(_sparse_sigmoid)


def sparse_sigmoid(x: jax.Array) -> jax.Array:
    """The sparse twin of sigmoid: exactly 0 up to −1, exactly 1 from 1 on.

    Formula:
        y = min(max(0, x + 1), 2)/2
    Gradient:
        dx = dy/2 · [−1 < x < 1]

    At the kinks, ±1, the gradient is dy/4, the mean of both sides, as in `jax.nn.sparse_sigmoid`. NaN stays NaN, with
    gradient 0.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: 4·dx/dy, one byte per element. Not x.

    Reference: M. Blondel, A. Martins, V. Niculae, Learning with Fenchel-Young losses, JMLR 2020, section 6.2.

    Example:
        >>> sparse_sigmoid(jnp.array([-1.0, 0.0, 2.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    (x,) = float_arrays(x=x)
    return _sparse_sigmoid_jit(x)


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


# --- log_sigmoid ---


def _log_sigmoid_primal(x):
    x_ = _wide(x)
    return (jnp.minimum(x_, 0) - jnp.log1p(jnp.exp(-jnp.abs(x_)))).astype(x.dtype)


_log_sigmoid = jax.custom_vjp(_log_sigmoid_primal)


def _log_sigmoid_fwd(x):
    return _log_sigmoid_primal(x), x


def _log_sigmoid_bwd(x, dy):
    # y = −log(1 + exp(−x)):   dx = dy · exp(−x)/(1 + exp(−x)) = dy · sigmoid(−x)
    return _chained(dy, _gated(1, -_wide(x)))


_log_sigmoid.defvjp(_log_sigmoid_fwd, _log_sigmoid_bwd)
_log_sigmoid_jit = jax.jit(_log_sigmoid)


def log_sigmoid(x: jax.Array) -> jax.Array:
    """The logarithm of the sigmoid.

    Formula:
        y = log(sigmoid(x)) = −log(1 + exp(−x)) = min(x, 0) − log(1 + exp(−|x|))
    Gradient:
        dx = dy · sigmoid(−x)

    Computed in the last form, which neither overflows nor cancels: log(sigmoid(x)) itself is −inf from x = −89 on in
    float32. NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: M. Mächler, Accurately computing log(1 − exp(−|a|)), 2012.

    Example:
        >>> jax.grad(log_sigmoid)(0.0).tolist()
        0.5
    """
    (x,) = float_arrays(x=x)
    return _log_sigmoid_jit(x)


# --- softplus ---


def _softplus_primal(x):
    x_ = _wide(x)
    return (jnp.maximum(x_, 0) + jnp.log1p(jnp.exp(-jnp.abs(x_)))).astype(x.dtype)


_softplus = jax.custom_vjp(_softplus_primal)


def _softplus_fwd(x):
    return _softplus_primal(x), x


def _softplus_bwd(x, dy):
    # y = log(1 + exp(x)):   dx = dy · exp(x)/(1 + exp(x)) = dy · sigmoid(x)
    return _chained(dy, _gated(1, _wide(x)))


_softplus.defvjp(_softplus_fwd, _softplus_bwd)
_softplus_jit = jax.jit(_softplus)


def softplus(x: jax.Array) -> jax.Array:
    """Smooth rectified linear unit.

    Formula:
        y = log(1 + exp(x)) = max(x, 0) + log(1 + exp(−|x|))
    Gradient:
        dx = dy · sigmoid(x)

    Computed in the last form, which neither overflows nor cancels. NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: C. Dugas et al., Incorporating second-order functional knowledge for better option pricing, NIPS 2000.

    Example:
        >>> jax.grad(softplus)(0.0).tolist()
        0.5
    """
    (x,) = float_arrays(x=x)
    return _softplus_jit(x)


# --- log1mexp ---


def _log1mexp_primal(x):
    x_ = _wide(x)
    # log(1 − e) where 1 − e is small, log1p(−e) where e is. They change at 1.25, not at log 2: in between, XLA's log1p
    # of float64 is off by 120 units in the last place.
    return jnp.where(x_ < 1.25, jnp.log(-jnp.expm1(-x_)), jnp.log1p(-jnp.exp(-x_))).astype(x.dtype)


_log1mexp = jax.custom_vjp(_log1mexp_primal)


def _log1mexp_fwd(x):
    return _log1mexp_primal(x), x


def _log1mexp_bwd(x, dy):
    # y = log(1 − exp(−x)):   dx = dy · exp(−x)/(1 − exp(−x))
    x_ = _wide(x)
    return _chained(dy, jnp.exp(-x_) / -jnp.expm1(-x_))


_log1mexp.defvjp(_log1mexp_fwd, _log1mexp_bwd)
_log1mexp_jit = jax.jit(_log1mexp)


def log1mexp(x: jax.Array) -> jax.Array:
    """log(1 − exp(−x)), for x > 0.

    Formula:
        y = log(1 − exp(−x))
    Gradient:
        dx = dy · exp(−x)/(1 − exp(−x))

    At ±0 y is −inf and the gradient ±inf. Below 0 y is NaN and the gradient is the formula's, as in `jax.nn.log1mexp`.
    NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: M. Mächler, Accurately computing log(1 − exp(−|a|)), 2012.

    Example:
        >>> round(float(jnp.exp(log1mexp(jnp.log(2.0)))), 6)
        0.5
    """
    (x,) = float_arrays(x=x)
    return _log1mexp_jit(x)


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


# --- tanh_shrink ---


def _tanh_shrink_primal(x):
    # x − tanh x cancels near 0. There, from the continued fraction tanh x = x/(1 + x²/d), d = 3 + x²/(5 + x²/(7 + …)):
    #   x − tanh x = x·x²/(d + x²)
    x_ = _wide(x)
    square = jnp.minimum(x_ * x_, 1)
    d = jnp.full_like(square, 19)
    for odd in range(17, 1, -2):
        d = odd + square / d
    return jnp.where(jnp.abs(x_) < 1, x_ * square / (d + square), x_ - lax.tanh(x_)).astype(x.dtype)


_tanh_shrink = jax.custom_vjp(_tanh_shrink_primal)


def _tanh_shrink_fwd(x):
    return _tanh_shrink_primal(x), x


def _tanh_shrink_bwd(x, dy):
    # y' = 1 − (1 − tanh² x):   dx = dy · tanh² x, with tanh |x| = (1 − e)/(1 + e), e = exp(−2|x|)
    e_minus_1 = jnp.expm1(-2 * jnp.abs(_wide(x)))
    t = e_minus_1 / (2 + e_minus_1)
    return _chained(dy, t * t)


_tanh_shrink.defvjp(_tanh_shrink_fwd, _tanh_shrink_bwd)
_tanh_shrink_jit = jax.jit(_tanh_shrink)


def tanh_shrink(x: jax.Array) -> jax.Array:
    """x without its tanh.

    Formula:
        y = x − tanh(x)
    Gradient:
        dx = dy · tanh²(x)

    Between −1 and 1 y comes from a continued fraction: the difference would lose its digits towards 0, where y is
    x³/3. NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: `torch.nn.functional.tanhshrink`; J. Lambert, Mémoire sur quelques propriétés remarquables des
    quantités transcendantes, 1768 (the continued fraction).

    Example:
        >>> jax.grad(tanh_shrink)(0.0).tolist()
        0.0
    """
    (x,) = float_arrays(x=x)
    return _tanh_shrink_jit(x)


# --- soft_sign ---


def _soft_sign_primal(x):
    x_ = _wide(x)
    return jnp.where(jnp.isinf(x_), jnp.sign(x_), x_ / (1 + jnp.abs(x_))).astype(x.dtype)


_soft_sign = jax.custom_vjp(_soft_sign_primal)


def _soft_sign_fwd(x):
    return _soft_sign_primal(x), x


def _soft_sign_bwd(x, dy):
    # y = x/(1 + |x|):   dx = dy · ((1 + |x|) − x·sign(x))/(1 + |x|)² = dy/(1 + |x|)²
    r = 1 / (1 + jnp.abs(_wide(x)))
    return _chained(dy, r * r)


_soft_sign.defvjp(_soft_sign_fwd, _soft_sign_bwd)
_soft_sign_jit = jax.jit(_soft_sign)


def soft_sign(x: jax.Array) -> jax.Array:
    """Soft sign: like tanh, with tails that fall off slowly.

    Formula:
        y = x/(1 + |x|)
    Gradient:
        dx = dy/(1 + |x|)²

    ±inf give ±1, with gradient 0 (in `jax.nn.soft_sign` NaN). NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: J. Bergstra, G. Desjardins, P. Lamblin, Y. Bengio, Quadratic polynomials learn better image
    features, 2009.

    Example:
        >>> soft_sign(jnp.array([-1.0, 0.0, 3.0])).tolist()
        [-0.5, 0.0, 0.75]
    """
    (x,) = float_arrays(x=x)
    return _soft_sign_jit(x)


# --- squareplus ---


def _squareplus_primal(b: float, x):
    x_ = _wide(x)
    left, root = _squareplus_parts(b, x_)
    return jnp.where(x_ < 0, left, x_ / 2 + root / 2).astype(x.dtype)


def _squareplus_parts(b: float, x):
    """b/(2·(r + |x|)) and r = √(x² + b), without the square, which would overflow."""
    # Infinity as the largest number, which gives the same and has derivatives: inf/inf is in those of the ratio.
    k, size = math.sqrt(b), _size(jnp.clip(x, jnp.finfo(x.dtype).min, jnp.finfo(x.dtype).max))
    larger, ratio = jnp.maximum(size, k), jnp.minimum(size, k) / jnp.maximum(size, k)
    root = larger * jnp.sqrt(1 + ratio * ratio)
    return k / 2 * (k / (root + size)), root


_squareplus = jax.custom_vjp(_squareplus_primal, nondiff_argnums=(0,))


def _squareplus_fwd(b: float, x):
    return _squareplus_primal(b, x), x


def _squareplus_bwd(b: float, x, dy):
    # With r = √(x² + b):   y' = (1 + x/r)/2, which left of 0 cancels: (1 − |x|/r)/2 = b/(2r·(r + |x|))
    x_ = _wide(x)
    left, root = _squareplus_parts(b, x_)
    tail = left / root
    return _chained(dy, jnp.where(x_ < 0, tail, 1 - tail))


_squareplus.defvjp(_squareplus_fwd, _squareplus_bwd)
_squareplus_jit = jax.jit(_squareplus, static_argnums=0)


def squareplus(x: jax.Array, b: float = 4) -> jax.Array:
    """Smooth rectified linear unit without an exponential.

    Formula, with r = √(x² + b):
        y = (x + r)/2
    Gradient:
        dx = dy · (1 + x/r)/2

    Left of 0 both are computed as y = b/(2·(r + |x|)) and dx = dy · y/r, which do not cancel. −inf gives 0, with
    gradient 0, and the gradient at +inf is dy (in `jax.nn.squareplus` NaN). NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.
        b: how smooth, a Python number above 0.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: b is not above 0. TypeError: x is not a floating array, or b is not a Python number.

    Saved for the backward: x itself.

    Reference: J. Barron, Squareplus: a softplus-like algebraic rectifier, 2021.

    Example:
        >>> squareplus(jnp.array([-1.5, 0.0, 1.5])).tolist()
        [0.5, 1.0, 2.0]
    """
    (x,) = float_arrays(x=x)
    if not (b_ := number("b", b)) > 0:
        raise ValueError(f"b: got {b}, expected a number above 0: for b = 0 use relu")
    return _squareplus_jit(b_, x)


# --- silu ---


def _silu_primal(x):
    x_ = _wide(x)
    return _gated(_not_minus_inf(x_), x_).astype(x.dtype)


_silu = jax.custom_vjp(_silu_primal)


def _silu_fwd(x):
    return _silu_primal(x), x


def _silu_bwd(x, dy):
    # y = x·σ(x), σ' = σ(x)·σ(−x):   dx = dy · σ(x)·(1 + x·σ(−x))
    x_ = _bounded(_wide(x))
    return _chained(dy, _gated(1 + _gated(x_, -x_), x_))


_silu.defvjp(_silu_fwd, _silu_bwd)
_silu_jit = jax.jit(_silu)


def silu(x: jax.Array) -> jax.Array:
    """x times its sigmoid; also called swish.

    Formula, with σ the sigmoid:
        y = x·σ(x)
    Gradient:
        dx = dy · σ(x)·(1 + x·σ(−x))

    −inf gives 0, with gradient 0, and the gradient at +inf is dy (in `jax.nn.silu` NaN). NaN stays NaN, with gradient
    NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: S. Elfwing, E. Uchibe, K. Doya, Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning, 2018.

    Example:
        >>> jax.grad(silu)(0.0).tolist()
        0.5
    """
    (x,) = float_arrays(x=x)
    return _silu_jit(x)


swish = silu


# --- gelu ---


_TWICE_ROOT = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715
_ROOT_HALF = math.sqrt(0.5)


def _gelu_tanh_primal(x):
    # (1 + tanh u)/2 = sigmoid(2u), which does not cancel where tanh u nears −1.
    x_ = _wide(x)
    return _gated(_not_minus_inf(x_), _twice_u(_bounded(x_))).astype(x.dtype)


def _twice_u(x):
    return _TWICE_ROOT * (x * (1 + _CUBIC * (x * x)))


_gelu_tanh = jax.custom_vjp(_gelu_tanh_primal)


def _gelu_tanh_fwd(x):
    return _gelu_tanh_primal(x), x


def _gelu_tanh_bwd(x, dy):
    # y = x·σ(v), v = 2·√(2/π)·(x + c·x³), v' = 2·√(2/π)·(1 + 3c·x²):   dx = dy · σ(v)·(1 + x·v'·σ(−v))
    x_ = _bounded(_wide(x))
    v = _twice_u(x_)
    slope_of_v = _TWICE_ROOT * (1 + 3 * _CUBIC * (x_ * x_))
    return _chained(dy, _gated(1 + _gated(x_ * slope_of_v, -v), v))


_gelu_tanh.defvjp(_gelu_tanh_fwd, _gelu_tanh_bwd)
_gelu_tanh_jit = jax.jit(_gelu_tanh)


def _gelu_erf_primal(x):
    # (1 + erf(x/√2))/2 would cancel where erf nears −1.
    x_ = _not_minus_inf(_wide(x))
    return (x_ / 2 * lax.erfc(x_ * -_ROOT_HALF)).astype(x.dtype)


_gelu_erf = jax.custom_vjp(_gelu_erf_primal)


def _gelu_erf_fwd(x):
    return _gelu_erf_primal(x), x


def _gelu_erf_bwd(x, dy):
    # y = x·Φ(x), Φ' = φ = exp(−x²/2)/√(2π):   dx = dy · (Φ(x) + x·φ(x))
    x_ = _bounded(_wide(x))
    half = jnp.exp(-x_ * x_ / 4)  # as in _gated
    return _chained(dy, lax.erfc(x_ * -_ROOT_HALF) / 2 + (x_ / math.sqrt(2 * math.pi) * half) * half)


_gelu_erf.defvjp(_gelu_erf_fwd, _gelu_erf_bwd)
_gelu_erf_jit = jax.jit(_gelu_erf)


def gelu(x: jax.Array, approximate: bool = True) -> jax.Array:
    """Gaussian error linear unit: x times the probability that a normal number is below x.

    Formula, with Φ the normal distribution function, φ its density, σ the sigmoid:
        y = x·Φ(x) = x·erfc(−x/√2)/2
        y = x·σ(v) = x·(1 + tanh(v/2))/2, v = 2·√(2/π)·(x + 0.044715·x³)        approximate
    Gradient:
        dx = dy · (Φ(x) + x·φ(x))
        dx = dy · σ(v)·(1 + x·v'·σ(−v)), v' = 2·√(2/π)·(1 + 3·0.044715·x²)        approximate

    Computed with erfc and σ, which keep their digits in the left tail (until erfc is 0, where y is below 1e-37 in
    float32): 1 + tanh(v/2) in `jax.nn.gelu` has none left from x = −5 on. −inf gives 0, with gradient 0, and the
    gradient at +inf is dy (there NaN). NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.
        approximate: True for the form with tanh, which is the default of `jax.nn.gelu`, too; False for Φ (PyTorch's
            default).

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array, or approximate is not a bool.

    Saved for the backward: x itself.

    Reference: D. Hendrycks, K. Gimpel, Gaussian error linear units, 2016.

    Example:
        >>> jax.grad(gelu)(0.0).tolist()
        0.5
    """
    (x,) = float_arrays(x=x)
    if not isinstance(approximate, bool):
        raise TypeError(f"approximate: got {approximate!r}, expected True (the form with tanh) or False (with erfc)")
    return _gelu_tanh_jit(x) if approximate else _gelu_erf_jit(x)


# --- mish ---


def _mish_primal(x):
    # With e = exp(x), tanh(log(1 + e)) = ((1 + e)² − 1)/((1 + e)² + 1) = e·(e + 2)/(e·(e + 2) + 2).
    x_ = _not_minus_inf(_wide(x))
    half, n, d = _mish_parts(x_)
    return (jnp.where(x_ < 0, (x_ * half) * half, x_) * (n / d)).astype(x.dtype)


def _mish_parts(x):
    """exp(−|x|/2), n and d: tanh(softplus(x)) is n/d right of 0 and exp(x)·n/d left of 0."""
    half = jnp.exp(-_size(x) / 2)
    e = half * half
    n = jnp.where(x < 0, e + 2, 1 + 2 * e)
    return half, n, jnp.where(x < 0, e * n + 2, n + 2 * (e * e))


_mish = jax.custom_vjp(_mish_primal)


def _mish_fwd(x):
    return _mish_primal(x), x


def _mish_bwd(x, dy):
    # y = x·t, t = tanh(softplus(x)), t' = (1 − t²)·σ(x):   dx = dy · (t + x·t')
    # Left of 0, with e = exp(x), t = e·n/d, n = e + 2, d = e·n + 2, and t' = 4e·(1 + e)/d²:
    #   dx = dy · e·(n·d + 4x·(1 + e))/d²
    # Right of 0, with e = exp(−x), t = n/d, n = 1 + 2e, d = n + 2e², and t' = 4e²·(1 + e)/d²:
    #   dx = dy · (n·d + 4x·(1 + e)·e²)/d²
    x_ = _bounded(_wide(x))
    half, n, d = _mish_parts(x_)
    e = half * half
    inner = n * d + 4 * x_ * (1 + e) * jnp.where(x_ < 0, 1, e * e)
    return _chained(dy, jnp.where(x_ < 0, (inner * half) * half, inner) / (d * d))


_mish.defvjp(_mish_fwd, _mish_bwd)
_mish_jit = jax.jit(_mish)


def mish(x: jax.Array) -> jax.Array:
    """x times the tanh of its softplus.

    Formula:
        y = x·t, t = tanh(log(1 + exp(x))) = n/(n + 2), n = exp(2x) + 2·exp(x)
    Gradient, with σ the sigmoid:
        dx = dy · (t + x·(1 − t²)·σ(x))

    Both are computed as fractions in exp(−|x|), in which nothing cancels: with one exponential, no tanh, no logarithm.
    −inf gives 0, with gradient 0, and the gradient at +inf is dy (in `jax.nn.mish` NaN). NaN stays NaN, with gradient
    NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: D. Misra, Mish: a self regularized non-monotonic activation function, BMVC 2020.

    Example:
        >>> round(float(jax.grad(mish)(0.0)), 6)
        0.6
    """
    (x,) = float_arrays(x=x)
    return _mish_jit(x)


# --- glu ---


def _glu_primal(axis: int, x):
    a, v = jnp.split(_wide(x), 2, axis)
    return _gated(a, v).astype(x.dtype)


_glu = jax.custom_vjp(_glu_primal, nondiff_argnums=(0,))


def _glu_fwd(axis: int, x):
    return _glu_primal(axis, x), x


def _glu_bwd(axis: int, x, dy):
    # y = a·σ(v):   da = dy · σ(v)
    #               dv = dy · a·σ(v)·σ(−v), even in v
    a, v = jnp.split(_wide(x), 2, axis)
    dy_, size = _wide(dy), _size(v)
    dv = _gated(dy_ * a, -size) / (1 + jnp.exp(-size))
    return (jnp.concatenate([_gated(dy_, v), dv], axis).astype(x.dtype),)


_glu.defvjp(_glu_fwd, _glu_bwd)
_glu_jit = jax.jit(_glu, static_argnums=0)


def glu(x: jax.Array, axis: int = -1) -> jax.Array:
    """Gated linear unit: one half of x times the sigmoid of the other.

    Formula, with a the first half of x along the axis, v the second, σ the sigmoid:
        y = a·σ(v)
    Gradient:
        da = dy · σ(v)
        dv = dy · a·σ(v)·σ(−v)

    ±inf in a at v = −inf gives NaN, as in `jax.nn.glu`. NaN stays NaN, with gradient NaN.

    Args:
        x: any shape with at least one axis.
        axis: the axis that is halved, of even size.

    Returns:
        y, of x's shape but half as long along the axis, of x's dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: axis out of range, or of odd size. TypeError: x is not a floating array, or axis not an int.

    Saved for the backward: x itself.

    Reference: Y. Dauphin, A. Fan, M. Auli, D. Grangier, Language modeling with gated convolutional networks, ICML
    2017.

    Example:
        >>> glu(jnp.array([3.0, 4.0, 0.0, 0.0])).tolist()
        [1.5, 2.0]
    """
    (x,) = float_arrays(x=x)
    (axis, *others) = checked_axis(axis, x.shape)
    if others or x.shape[axis] % 2:
        raise ValueError(
            f"axis: got {(axis, *others) if others else axis} for shape {x.shape}, expected one axis of even size: its "
            "first half is multiplied by the sigmoid of its second"
        )
    return _glu_jit(axis, x)


# --- elu ---


def _elu_primal(alpha: float, x):
    x_ = _wide(x)
    return jnp.where(x_ > 0, x_, alpha * jnp.expm1(jnp.minimum(x_, 0))).astype(x.dtype)


_elu = jax.custom_vjp(_elu_primal, nondiff_argnums=(0,))


def _elu_fwd(alpha: float, x):
    return _elu_primal(alpha, x), x


def _elu_bwd(alpha: float, x, dy):
    # y = x where x > 0, else α·(exp(x) − 1):   dx = dy where x > 0, else dy · α·exp(x)
    # Not dy · (y + α), of y: y nears −α, and the sum cancels.
    x_ = _wide(x)
    return _chained(dy, jnp.where(x_ > 0, 1, alpha * jnp.exp(jnp.minimum(x_, 0))))


_elu.defvjp(_elu_fwd, _elu_bwd)
_elu_jit = jax.jit(_elu, static_argnums=0)


def elu(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    """Exponential linear unit.

    Formula, with α for alpha:
        y = x where x > 0, else α·(exp(x) − 1)
    Gradient:
        dx = dy where x > 0, else dy · α·exp(x)

    At x = ±0, a kink unless α is 1, the gradient is α·dy, as in `jax.nn.elu`. NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.
        alpha: α, a Python number.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array, or alpha is not a Python number.

    Saved for the backward: x itself.

    Reference: D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and accurate deep network learning by exponential
    linear units (ELUs), ICLR 2016.

    Example:
        >>> elu(jnp.array([-jnp.inf, 0.0, 2.0]), 0.5).tolist()
        [-0.5, 0.0, 2.0]
    """
    (x,) = float_arrays(x=x)
    return _elu_jit(number("alpha", alpha), x)


# --- celu ---


def _celu_primal(alpha: float, x):
    x_ = _wide(x)
    return jnp.where(x_ > 0, x_, alpha * jnp.expm1(jnp.minimum(x_, 0) / alpha)).astype(x.dtype)


_celu = jax.custom_vjp(_celu_primal, nondiff_argnums=(0,))


def _celu_fwd(alpha: float, x):
    return _celu_primal(alpha, x), x


def _celu_bwd(alpha: float, x, dy):
    # y = x where x > 0, else α·(exp(x/α) − 1):   dx = dy where x > 0, else dy · exp(x/α)
    x_ = _wide(x)
    return _chained(dy, jnp.where(x_ > 0, 1, jnp.exp(jnp.minimum(x_, 0) / alpha)))


_celu.defvjp(_celu_fwd, _celu_bwd)
_celu_jit = jax.jit(_celu, static_argnums=0)


def celu(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    """Exponential linear unit whose derivative is continuous for every α.

    Formula, with α for alpha:
        y = x where x > 0, else α·(exp(x/α) − 1)
    Gradient:
        dx = dy where x > 0, else dy · exp(x/α)

    NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.
        alpha: α, a Python number, not 0.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: alpha is 0. TypeError: x is not a floating array, or alpha is not a Python number.

    Saved for the backward: x itself.

    Reference: J. Barron, Continuously differentiable exponential linear units, 2017.

    Example:
        >>> celu(jnp.array([-jnp.inf, 0.0, 2.0]), 0.5).tolist()
        [-0.5, 0.0, 2.0]
    """
    (x,) = float_arrays(x=x)
    if (alpha := number("alpha", alpha)) == 0:
        raise ValueError("alpha: got 0, expected another number: x is divided by it; the limit is relu")
    return _celu_jit(alpha, x)


# --- selu ---


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _selu_primal(x):
    x_ = _wide(x)
    left = _SELU_ALPHA * jnp.expm1(jnp.minimum(x_, 0))
    return (_SELU_SCALE * jnp.where(x_ > 0, x_, left)).astype(x.dtype)


_selu = jax.custom_vjp(_selu_primal)


def _selu_fwd(x):
    return _selu_primal(x), x


def _selu_bwd(x, dy):
    # y = λ·x where x > 0, else λ·α·(exp(x) − 1):   dx = dy · λ where x > 0, else dy · λ·α·exp(x)
    x_ = _wide(x)
    return _chained(dy, _SELU_SCALE * jnp.where(x_ > 0, 1, _SELU_ALPHA * jnp.exp(jnp.minimum(x_, 0))))


_selu.defvjp(_selu_fwd, _selu_bwd)
_selu_jit = jax.jit(_selu)


def selu(x: jax.Array) -> jax.Array:
    """Scaled exponential linear unit, which keeps activations at mean 0 and variance 1.

    Formula, with λ = 1.0507009873554805 and α = 1.6732632423543773:
        y = λ·x where x > 0, else λ·α·(exp(x) − 1)
    Gradient:
        dx = dy · λ where x > 0, else dy · λ·α·exp(x)

    At the kink, x = ±0, the gradient is λ·α·dy, as in `jax.nn.selu`. NaN stays NaN, with gradient NaN.

    Args:
        x: any shape.

    Returns:
        y, of x's shape and dtype; bfloat16 and float16 are computed in float32.

    Raises:
        TypeError: x is not a floating array.

    Saved for the backward: x itself.

    Reference: G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, Self-normalizing neural networks, NIPS 2017.

    Example:
        >>> round(float(selu(-jnp.inf)), 4)
        -1.7581
    """
    (x,) = float_arrays(x=x)
    return _selu_jit(x)
