"""Which dtype sums are made in, and which one numbers the taps of a window."""

import jax.numpy as jnp


def accumulator(*dtypes):
    """The dtype to sum in: the widest of these, at least float32.

    >>> accumulator("bfloat16").__name__, accumulator("float64").__name__
    ('float32', 'float64')
    """
    return jnp.float64 if any(jnp.dtype(d) == jnp.float64 for d in dtypes) else jnp.float32


def tap_dtype(window):
    """The smallest unsigned integer that can number every tap of the window and one value more ("no tap").

    A byte for windows of up to 255 taps (15x17, 6x6x7).
    """
    return next(d for d in (jnp.uint8, jnp.uint16, jnp.uint32) if window.tap_count <= jnp.iinfo(d).max)
