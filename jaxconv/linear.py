"""The fully connected layer, and the flattening before it."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import float_arrays, hashable, result_dtype
from jaxconv._layout import along
from jaxconv.algorithms.dtypes import accumulator

__all__ = ["dense", "flatten"]


@dataclasses.dataclass(frozen=True)
class _Call:
    precision: Any
    dtype: Any  # of the result


def _dense_primal(call: _Call, x, w, b):
    # [N x C] · [C x K] -> [N x K]: rows in, channels, channels out
    y = _product(call, _rows(x), w, ((1,), (0,)), call.dtype).reshape(*x.shape[:-1], w.shape[-1])
    return y if b is None else y + along(b.astype(y.dtype), -1, y.shape)


_dense = jax.custom_vjp(_dense_primal, nondiff_argnums=(0,))


def _dense_fwd(call: _Call, x, w, b):
    return _dense_primal(call, x, w, b), (x, w, None if b is None else ())  # of b, only whether there is one


def _dense_bwd(call: _Call, saved, dy):
    # y[n,k] = sum_c x[n,c]·w[c,k] + b[k], n over all batch axes:
    #   dx[n,c] = sum_k dy[n,k]·w[c,k]        [N x K] · [C x K]ᵀ -> [N x C]
    #   dw[c,k] = sum_n x[n,c]·dy[n,k]        [N x C]ᵀ · [N x K] -> [C x K]
    #   db[k]   = sum_n dy[n,k]
    x, w, bias = saved
    dy_ = _rows(dy)
    db = None if bias is None else jnp.sum(dy_.astype(accumulator(dy.dtype)), axis=0).astype(x.dtype)
    dy_ = dy_.astype(x.dtype)  # with a wider preferred_element_type: the products stay in the operands' dtype
    dx = _product(call, dy_, w, ((1,), (1,)), x.dtype).reshape(x.shape)
    dw = _product(call, _rows(x), dy_, ((0,), (0,)), w.dtype)
    return dx, dw, db


def _rows(a):
    """(*batch, C) as (N, C)."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _product(call: _Call, a, b, contracted, dtype):
    return lax.dot_general(a, b, (contracted, ((), ())), precision=call.precision, preferred_element_type=dtype)


_dense.defvjp(_dense_fwd, _dense_bwd)
_dense_jit = jax.jit(_dense, static_argnums=0)


def dense(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """The fully connected (dense) layer.

    Formula, n over all batch axes:
        y[n,k] = sum_c x[n,c]·w[c,k] + b[k]
    Gradient:
        dx[n,c] = sum_k dy[n,k]·w[c,k]
        dw[c,k] = sum_n x[n,c]·dy[n,k]
        db[k]   = sum_n dy[n,k]

    Args:
        x: (*batch, C), with no, one or many batch axes.
        w: (C, K).
        b: (K,), or None.
        precision: as in `jax.lax.dot_general`, also used by the gradients.
        preferred_element_type: the dtype of y, and of the sum; not narrower than that of x.

    Returns:
        y, (*batch, K), of x's dtype or preferred_element_type. Sums of bfloat16 and float16 are made in float32.

    Raises:
        ValueError: shapes that do not fit. TypeError: arguments that are not floating arrays of one dtype.

    Saved for the backward: x and w themselves; nothing is copied. With a wider preferred_element_type, dy is
    rounded to x's dtype before it is multiplied.

    Reference: I. Goodfellow, Y. Bengio, A. Courville, Deep Learning (2016), section 6.5.

    Example:
        >>> dense(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0, 3.0], [0.0, 1.0, 1.0]]), jnp.ones(3)).tolist()
        [2.0, 3.0, 6.0]
    """
    x, w, b = float_arrays(x=x, w=w, b=b)
    if w.ndim != 2:
        raise ValueError(f"w: got shape {w.shape}, expected two axes (C, K)")
    if x.ndim < 1 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"x: got shape {x.shape}, expected (*batch, {w.shape[0]}) for w of shape {w.shape}: the last axis of x is "
            "contracted with the first of w; flatten x first if it has spatial axes"
        )
    if b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"b: got shape {b.shape}, expected ({w.shape[1]},), one per output of w {w.shape}")
    return _dense_jit(_Call(hashable(precision), result_dtype(preferred_element_type, x.dtype)), x, w, b)


# --- flatten ---


def _flatten_primal(input_shape: tuple[int, ...], batch_ndim: int, x):
    return x.reshape(*input_shape[:batch_ndim], math.prod(input_shape[batch_ndim:]))


_flatten = jax.custom_vjp(_flatten_primal, nondiff_argnums=(0, 1))


def _flatten_fwd(input_shape: tuple[int, ...], batch_ndim: int, x):
    return _flatten_primal(input_shape, batch_ndim, x), ()


def _flatten_bwd(input_shape: tuple[int, ...], batch_ndim: int, saved, dy):
    # Every element of x stands in y once: dx[n,h,w,c] = dy[n, (h·W + w)·C + c].
    del batch_ndim, saved
    return (dy.reshape(input_shape),)


_flatten.defvjp(_flatten_fwd, _flatten_bwd)
_flatten_jit = jax.jit(_flatten, static_argnums=(0, 1))


def flatten(x: jax.Array, *, batch_ndim: int = 1) -> jax.Array:
    """Everything but the batch as one axis, in row-major order.

    Formula, for two spatial axes of sizes H and W and C channels:
        y[n, (h·W + w)·C + c] = x[n,h,w,c]
    Gradient:
        dx[n,h,w,c] = dy[n, (h·W + w)·C + c]

    Args:
        x: (*batch, ...), of any floating dtype.
        batch_ndim: how many leading batch axes to keep.

    Returns:
        y, (*batch, the product of the other sizes); with no other axes that product is 1.

    Raises:
        ValueError: batch_ndim is negative or more than x has axes. TypeError: x is not a floating array.

    Saved for the backward: nothing.

    Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    Proc. IEEE 1998.

    Example:
        >>> flatten(jnp.ones((8, 4, 4, 2))).shape
        (8, 32)
    """
    (x,) = float_arrays(x=x)
    if isinstance(batch_ndim, bool) or not isinstance(batch_ndim, int) or not 0 <= batch_ndim <= x.ndim:
        raise ValueError(
            f"batch_ndim: got {batch_ndim!r} for x of shape {x.shape}, expected an int between 0 and {x.ndim}: the "
            "number of leading axes to keep"
        )
    return _flatten_jit(x.shape, batch_ndim, x)
