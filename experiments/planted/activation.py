"""Wrong versions of the activations."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.planted.mutation import (
    EDGE,
    NORMAL,
    Mutation,
    Point,
    gradient,
    held_constant,
    instead,
    reversed_batch,
)
from jaxconv.verification.suite import SECOND

_FAR = Point("whole range", "float64")


_runs = itertools.count()


def _jittered(dx, saved, dy, *static):
    last_bits = jax.pure_callback(
        lambda: np.float64(1 + next(_runs) % 3 * 2**-52), jax.ShapeDtypeStruct((), np.float64)
    )
    return dx * last_bits.astype(dx.dtype)


def _silu_naive(x, dy):
    # Written in e = exp(−x), which squared is beyond float64 from x = −355 on.
    e = jnp.exp(-x)
    return (dy * (1 + e + x * e) / ((1 + e) * (1 + e)),)


def _sigmoid_squared(x, dy):
    # exp(−x) squared is beyond float32 from x = −44 on, and the quotient 0.
    e = jnp.exp(-x)
    return (dy * (e / ((1 + e) * (1 + e))),)


def _gelu_without_cubic(x, dy):
    """The derivative of the tanh form with that of its cubic term, 3c·x², left out."""
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    t = jnp.tanh(u)
    return (dy * ((1 + t) / 2 + x / 2 * (1 - t * t) * math.sqrt(2 / math.pi)),)


def _gelu_of_tanh(x, dy):
    """Of the form with erf, the derivative of the form with tanh."""
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    t = jnp.tanh(u)
    return (dy * ((1 + t) / 2 + x / 2 * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)),)


def _elu_of_both(alpha, x, dy):
    """Multiplied by the side that x is on: 0·inf where exp(x) is infinite."""
    positive = (x > 0).astype(x.dtype)
    return (dy * (positive + (1 - positive) * alpha * jnp.exp(x)),)


def _elu_by_value(alpha, x, dy):
    """The side read off y: another one for a negative α."""
    left = jnp.minimum(x, 0)
    y = jnp.where(x > 0, x, alpha * jnp.expm1(left))
    return (jnp.where(y > 0, dy, dy * alpha * jnp.exp(left)),)


def _prelu_by_value(saved, dy):
    """The side read off y: another one for a negative slope."""
    x, slope = saved
    a = jnp.broadcast_to(slope, x.shape)
    right = jnp.where(x >= 0, x, a * x) >= 0
    da = jnp.where(right, jnp.zeros((), x.dtype), x * dy)
    repeated = [axis for axis in range(x.ndim) if axis < x.ndim - slope.ndim or slope.shape[axis - x.ndim] == 1]
    return jnp.where(right, dy, a * dy), jnp.sum(da, repeated).reshape(slope.shape)


MUTATIONS = (
    # Activations.
    Mutation(
        "relu's gradient 1 at 0",
        "relu",
        EDGE,
        {"activation:_relu_fwd": instead(lambda x: (lax.max(x, jnp.zeros((), x.dtype)), x >= 0))},
    ),
    Mutation(
        "backward wrong only under vmap",
        "relu",
        Point("normal inputs", "vmap of grad"),
        {"activation:_relu_bwd": gradient(0, lambda dx, saved, dy: reversed_batch.bind(dx))},
    ),
    Mutation(
        "leaky_relu's kink from the other side",
        "leaky_relu",
        EDGE,
        {"activation:_leaky_relu_fwd": lambda right: lambda slope, x: (right(slope, x)[0], x > 0)},
    ),
    Mutation(
        "not the same bits at every run", "leaky_relu", NORMAL, {"activation:_leaky_relu_bwd": gradient(0, _jittered)}
    ),
    Mutation(
        "sigmoid' exactly 0 for x > 17 in float32: y·(1 − y)",
        "sigmoid",
        Point("whole range", "float64"),
        {"activation:_sigmoid_bwd": instead(lambda x, dy: (dy * lax.logistic(x) * (1 - lax.logistic(x)),))},
        elsewhere=True,
    ),
    Mutation(
        "sigmoid returns float32 for bfloat16",
        "sigmoid",
        Point("normal inputs", "bfloat16"),
        {"activation:_sigmoid_primal": lambda right: lambda x: right(x).astype(jnp.promote_types(x.dtype, np.float32))},
    ),
    Mutation(
        "tanh' as 1 - |y|",
        "tanh",
        NORMAL,
        {"activation:_tanh_bwd": instead(lambda x, dy: (dy * (1 - jnp.abs(jnp.tanh(x))),))},
    ),
    Mutation(
        "tanh held constant in x: wrong only in second derivatives",
        "tanh",
        Point("normal inputs", SECOND),
        {"activation:_tanh_bwd": lambda right: lambda saved, dy: right(held_constant(saved), dy)},
    ),
    Mutation(
        "sigmoid' from exp(−x) squared",
        "sigmoid",
        Point("whole range", "float32"),
        {"activation:_sigmoid_bwd": instead(_sigmoid_squared)},
        elsewhere=True,  # snntorch#433
    ),
    Mutation(
        "silu' not finite at −709",
        "silu",
        EDGE,
        {"activation:_silu_bwd": instead(_silu_naive)},
        elsewhere=True,
    ),
    Mutation(
        "softplus' as exp(x)/(1 + exp(x))",
        "softplus",
        EDGE,
        {"activation:_softplus_bwd": instead(lambda x, dy: (dy * jnp.exp(x) / (1 + jnp.exp(x)),))},
        elsewhere=True,  # tt-metal#56397, burn#5373
    ),
    Mutation(
        "log_sigmoid' as 1 − sigmoid(x)",
        "log_sigmoid",
        _FAR,
        {"activation:_log_sigmoid_bwd": instead(lambda x, dy: (dy * (1 - lax.logistic(x)),))},
    ),
    Mutation(
        "gelu' without the cubic term's derivative",
        "gelu",
        NORMAL,
        {"activation:_gelu_tanh_bwd": instead(_gelu_without_cubic)},
    ),
    Mutation(
        "gelu's form with erf has the derivative of that with tanh",
        "gelu",
        Point("normal inputs with erfc", "float64"),
        {"activation:_gelu_erf_bwd": instead(_gelu_of_tanh)},
    ),
    Mutation(
        "elu's alpha forgotten",
        "elu",
        NORMAL,
        {"activation:_elu_bwd": lambda right: lambda alpha, x, dy: right(1.0, x, dy)},
    ),
    Mutation(
        "elu' as y + α: 0 from x = −37 on",
        "elu",
        _FAR,
        {
            "activation:_elu_bwd": instead(
                lambda alpha, x, dy: (jnp.where(x > 0, dy, dy * (alpha * jnp.expm1(jnp.minimum(x, 0)) + alpha)),)
            )
        },
        elsewhere=True,  # jax#40826
    ),
    Mutation(
        "elu' NaN far right: 0·inf",
        "elu",
        EDGE,
        {"activation:_elu_bwd": instead(_elu_of_both)},
        elsewhere=True,  # candle#2328
    ),
    Mutation(
        "elu' wrong for a negative alpha",
        "elu",
        EDGE,
        {"activation:_elu_bwd": instead(_elu_by_value)},
        elsewhere=True,  # pytorch#47671
    ),
    Mutation(
        "celu' as elu's: α·exp(x)",
        "celu",
        NORMAL,
        {
            "activation:_celu_bwd": instead(
                lambda alpha, x, dy: (jnp.where(x > 0, dy, dy * alpha * jnp.exp(jnp.minimum(x, 0))),)
            )
        },
    ),
    Mutation(
        "selu's scale forgotten left of 0",
        "selu",
        NORMAL,
        {
            "activation:_selu_bwd": gradient(
                0, lambda dx, x, dy: jnp.where(x > 0, dx, dx / 1.0507009873554804934193349852946)
            )
        },
    ),
    Mutation(
        "glu's halves exchanged",
        "glu",
        NORMAL,
        {"activation:_glu_bwd": gradient(0, lambda dx, x, dy, axis: jnp.roll(dx, dx.shape[axis] // 2, axis))},
    ),
    Mutation(
        "prelu's slope gradient summed over the channels, too",
        "prelu",
        Point("a slope per channel", "float64"),
        {"activation:_prelu_bwd": gradient(1, lambda da, saved, dy: jnp.full_like(da, jnp.sum(da)))},
    ),
    Mutation(
        "prelu's side read off the output: wrong for a negative slope",
        "prelu",
        Point("a slope per channel", "float64"),
        {"activation:_prelu_bwd": instead(_prelu_by_value)},
        elsewhere=True,  # mxnet#3277, Paddle#12538
    ),
    Mutation(
        "hard_tanh's gradient 0 at ±1",
        "hard_tanh",
        EDGE,
        {"activation:_hard_tanh_fwd": lambda right: lambda x: (right(x)[0], jnp.abs(x) < 1)},
    ),
)
