"""Dropout: elements, or whole examples, set to 0 at random, the others enlarged so that the mean stays."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxconv._arguments import float_arrays, number, varying_alike
from jaxconv._rows import checked_axis
from jaxconv.algorithms.dtypes import accumulator

__all__ = ["drop_path", "dropout"]


# --- dropout and drop_path ---


def _masked_primal(keep: float, kept, x):
    # Selected, not multiplied by 0: a NaN that is dropped is gone, and nothing is kept where keep is 0.
    enlarged = x.astype(accumulator(x.dtype)) / (keep or 1.0)
    return jnp.where(kept, enlarged, 0).astype(x.dtype)


_masked = jax.custom_vjp(_masked_primal, nondiff_argnums=(0,))


def _masked_fwd(keep: float, kept, x):
    return _masked_primal(keep, kept, x), kept


def _masked_bwd(keep: float, kept, dy):
    # y = x/(1 − rate) where kept, else 0:   dx = dy/(1 − rate) where kept, else 0
    return None, _masked_primal(keep, kept, dy)


_masked.defvjp(_masked_fwd, _masked_bwd)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _masked_jit(keep: float, shared: tuple[int, ...], key, x):
    # The draw is not part of the rule: keys have no gradient, and a mask that is saved is the same in the backward
    # however that is compiled. Drawn again from a key of the "rbg" kind, it need not be.
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(x.shape))
    return _masked(keep, *varying_alike(jax.random.bernoulli(key, keep, shape), x))


def dropout(key: jax.Array, x: jax.Array, rate: float, *, broadcast_axes: int | Sequence[int] = ()) -> jax.Array:
    """Every element set to 0 with a given probability, and divided by the probability of the opposite if not.

    Formula, with m_i = 1 with probability 1 − rate, else 0, drawn by itself for every element:
        y_i = m_i·x_i/(1 − rate)
    Gradient:
        dx_i = m_i·dy_i/(1 − rate)

    The mean of y over all draws is x, so that nothing is to be done in inference: leave the op out, or take rate 0.
    Rate 0 gives x itself, and rate 1 zeros. What is dropped is 0 even if it was NaN or ±inf.

    The same key gives the same draw. Under `jax.vmap` and `jax.shard_map`, examples that are given one and the same key
    share it: give each its own, by `jax.random.split` or `jax.random.fold_in(key, jax.lax.axis_index(name))`.

    Args:
        key: of `jax.random.key`, or an old one of `jax.random.PRNGKey`. It has no gradient.
        x: any shape.
        rate: the probability to be dropped, a Python number from 0 to 1.
        broadcast_axes: axes along which one draw is shared, an int or several; for (N, H, W, C), (1, 2) drops whole
            channels of an example ("spatial dropout").

    Returns:
        y, of x's shape and dtype.

    Raises:
        ValueError: a rate outside [0, 1], broadcast_axes out of range or repeated, several keys. TypeError: key is not
            a key, x is not a floating array, or rate not a Python number.

    Saved for the backward: m, one byte per draw. Not x. (The key alone would do for JAX's default kind of keys, at the
    price of a second draw: `jax.checkpoint` around the op has it so.) With rate 0, nothing.

    Reference: N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, Dropout, JMLR 2014; J. Tompson
    et al., Efficient object localization using convolutional networks, CVPR 2015 (spatial dropout).

    Example:
        >>> y = dropout(jax.random.key(0), jnp.ones(1000), 0.75)
        >>> sorted(set(y.tolist())), abs(float(y.mean()) - 1) < 0.2
        ([0.0, 4.0], True)
    """
    (x,) = float_arrays(x=x)
    given = tuple(broadcast_axes) if isinstance(broadcast_axes, Sequence) else broadcast_axes
    none = isinstance(given, tuple) and not given
    return _drop(key, x, rate, () if none else checked_axis(given, x.shape, "broadcast_axes"))


def drop_path(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Whole examples set to 0 with a given probability ("stochastic depth"), and enlarged if not.

    Formula, with m[n] = 1 with probability 1 − rate, else 0, drawn by itself for every example n:
        y[n,i] = m[n]·x[n,i]/(1 − rate)
    Gradient:
        dx[n,i] = m[n]·dy[n,i]/(1 − rate)

    Meant for the end of a residual branch: x + drop_path(key, branch(x), rate) leaves the branch out for some examples.
    It is `dropout` with the draw shared along all axes but the first; rates of 0 and 1, NaN, and the keys of mapped
    examples are as there.

    Args:
        key: as in `dropout`.
        x: (N, ...), the examples along the first axis.
        rate: the probability of an example to be dropped, a Python number from 0 to 1.

    Returns:
        y, of x's shape and dtype.

    Raises:
        ValueError: x has no axis, a rate outside [0, 1]. TypeError: as in `dropout`.

    Saved for the backward: m, one byte per example. Not x.

    Reference: G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, Deep networks with stochastic depth, ECCV 2016; G.
    Larsson, M. Maire, G. Shakhnarovich, FractalNet, ICLR 2017.

    Example:
        >>> y = drop_path(jax.random.key(0), jnp.ones((100, 2)), 0.5)
        >>> sorted(set(map(tuple, y.tolist())))
        [(0.0, 0.0), (2.0, 2.0)]
    """
    (x,) = float_arrays(x=x)
    if x.ndim == 0:
        raise ValueError("x: got shape (), expected (N, ...), with the examples along the first axis")
    return _drop(key, x, rate, tuple(range(1, x.ndim)))


def _drop(key, x, rate, shared: tuple[int, ...]) -> jax.Array:
    _check_key(key)
    rate = number("rate", rate, 0, 1, ": the probability to be dropped")
    return x if rate == 0 else _masked_jit(1.0 - rate, shared, key, x)


def _check_key(key) -> None:
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if shape is None or not (typed or dtype == jnp.uint32):
        kind = f"a {type(key).__name__}" if dtype is None else f"an array of {dtype}"
        raise TypeError(f"key: got {kind}, expected a key of jax.random: jax.random.key(seed)")
    if len(shape) != (0 if typed else 1):
        raise ValueError(f"key: got keys of shape {shape}, expected one key: use jax.vmap for one per example")
