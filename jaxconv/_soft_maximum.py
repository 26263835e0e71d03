"""What the windowed and the global forms of lp and logsumexp pooling share: both are soft maxima.

With m the largest element, share(a, b) <= 1 what an element a counts beside a larger one b, and r the sum of
share(x_i, m) over all elements but the largest:

    logsumexp   y = m + log(1 + r)/t        share(a, b) = exp(t·(a − b))
    lp          y = m · (1 + r)^(1/p)       share(a, b) = (a/b)^p, of absolute values

Nothing overflows, as no share is above 1, and log(1 + r) keeps its digits where r is small. Of no element at all, or
only such that do not count (−inf, 0), m is the smallest number of the dtype and r is −1, so that 1 + r, the number of
elements counted, is 0.
"""

import math

import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import number

# --- logsumexp ---


def lse_share(t: float):
    """share(a, b) = exp(t·(a − b)); infinities of the same sign are equal."""
    return lambda a, b: jnp.exp(t * jnp.where(a == jnp.inf, 0, a - b))


def lse_least(dtype) -> float:
    """What m is of no element."""
    return float(jnp.finfo(dtype).min)


def lse_value(t: float, m, r):
    """m + log(1 + r)/t."""
    nothing = r == -1
    return jnp.where(nothing, -jnp.inf, m + jnp.log1p(jnp.where(nothing, 0, r)) / t)


# --- lp ---


def lp_share(p: float):
    """share(a, b) = (a/b)^p, for a and b >= 0; infinities are equal."""
    # The derivative of 0/b has 0/b² in it, where b² may underflow.
    return lambda a, b: _power(jnp.where(a == jnp.inf, 1, a / jnp.where(a == 0, 1, b)), p)


def lp_least(dtype) -> float:
    """What m is of no element."""
    return float(jnp.finfo(dtype).tiny)


def lp_value(p: float, m, r):
    """m · (1 + r)^(1/p)."""
    nothing = r == -1
    total = jnp.where(nothing, 1, 1 + r)
    return jnp.where(nothing, 0, m * (jnp.sqrt(total) if p == 2 else jnp.power(total, 1 / p)))


def lp_weight(p: float, x, y):
    """(a, c, weight), elementwise functions of x, of y and of both, so that weight(a, c) = sign(x)·(|x|/y)^(p−1).

    c is 0 for an infinite y and for a window of zeros, and weight is 0 where a or c is.
    """
    # |x|/y may underflow where its power does not, the power overflow where the ratio does not: so the power of up to 1
    # comes first, one beyond 1 last.
    first, last = (p - 1, 1) if p <= 2 else (1, p - 1)
    zeros = y == 0
    a, b = _signed_power(x, first), _power(jnp.where(zeros, 1, y), first)
    # One division per window. 1/b may be subnormal, which XLA flushes to 0, but not 4/b.
    c = jnp.where(zeros, 0, jnp.minimum(4 / b, jnp.finfo(y.dtype).max))
    return a, c, lambda a, c: _signed_power(jnp.where(jnp.isinf(a), jnp.sign(a), a * c * 0.25), last)


def checked_exponent(p) -> float:
    """The p of a norm, an int where it is a whole number."""
    if not 1 <= (e := number("p", p)) < math.inf:
        hint = ": for p = inf use max_pool, or global_max_pool, of jnp.abs(x)" if p == math.inf else ""
        raise ValueError(f"p: got {p}, expected a finite number, at least 1{hint}")
    return int(e) if e == int(e) else e


def checked_sharpness(sharpness) -> float:
    """The t of a logsumexp."""
    if not 0 < (t := number("sharpness", sharpness)) < math.inf:
        hint = ": for the limit use max_pool, or global_max_pool" if sharpness == math.inf else ""
        hint = hint or ": for a soft minimum negate x and the result" if sharpness < 0 else hint
        raise ValueError(f"sharpness: got {sharpness}, expected a finite number above 0{hint}")
    return t


def _power(a, e):
    """a^e for a >= 0."""
    return lax.integer_pow(a, e) if isinstance(e, int) else jnp.power(a, e)


def _signed_power(x, e):
    """sign(x)·|x|^e, with derivative 0 at 0 where it would be infinite."""
    if not isinstance(e, int):
        return jnp.sign(x) * jnp.power(jnp.where(x == 0, 1, jnp.abs(x)), e)
    return lax.integer_pow(x, e) if e % 2 else jnp.sign(x) * lax.integer_pow(x, e)
