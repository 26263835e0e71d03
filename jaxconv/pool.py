"""Pooling: the maximum, the minimum, the sum, the average or a soft maximum of every window, channel by channel.

Tap i of the window at output position p reads x at u = s·p + d·i − l (stride s, dilation d, low padding l), per spatial
axis. An extremum hands its cotangent to the one tap that won, a sum to every tap, a soft maximum to every tap by its
share. Pooling over all of an image is in pool_global.py, into a given number of windows in pool_adaptive.py.

    max, min    y[n,p,c]  = x[n, s·p + d·t − l, c], t = t[n,p,c] the winning tap
                dx[n,u,c] = sum_{p : s·p + d·t[n,p,c] − l = u} dy[n,p,c]
    sum         y[n,p,c]  = sum_i x[n, s·p + d·i − l, c]
                dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c]
    average     the sum divided by m[p], a constant; dx the same of dy[n,p,c]/m[p]
    lp          y[n,p,c]  = (sum_i |x[n, s·p + d·i − l, c]|^e)^(1/e)
                dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} sign(x[n,u,c]) · (|x[n,u,c]| / y[n,p,c])^(e−1) · dy[n,p,c]
    logsumexp   y[n,p,c]  = (1/t) · log sum_i exp(t·x[n, s·p + d·i − l, c])
                dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} exp(t·(x[n,u,c] − y[n,p,c])) · dy[n,p,c]
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv import algorithms
from jaxconv._arguments import flag, float_arrays, integer_array, varying_alike
from jaxconv._layout import from_plain, product_of, to_plain
from jaxconv._soft_maximum import (
    checked_exponent,
    checked_sharpness,
    lp_least,
    lp_share,
    lp_value,
    lp_weight,
    lse_least,
    lse_share,
    lse_value,
)
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.geometry import DataFormat, Layout, Padding, Window, layout_of, per_axis, pool_window, spatial_ndim_of

__all__ = [
    "avg_pool",
    "logsumexp_pool",
    "lp_pool",
    "max_pool",
    "max_pool_with_indices",
    "max_unpool",
    "min_pool",
    "sum_pool",
]


@dataclasses.dataclass(frozen=True)
class _Call:
    """All that is static about a call; what jit and custom_vjp specialise on."""

    window: Window
    layout: Layout


# --- max_pool and min_pool ---


def _extremum_primal(largest: bool, call: _Call, x):
    y = algorithms.extremum_value(to_plain(call.layout, x), call.window, largest)
    return from_plain(call.layout, x.shape, y)


_extremum = jax.custom_vjp(_extremum_primal, nondiff_argnums=(0, 1))


def _extremum_fwd(largest: bool, call: _Call, x):
    y, tap = algorithms.extremum(to_plain(call.layout, x), call.window, largest)
    return from_plain(call.layout, x.shape, y), tap


def _extremum_bwd(largest: bool, call: _Call, tap, dy):
    # y[n,p,c] = x[n,u,c] at u = s·p + d·t − l, t = tap[n,p,c], so
    #   dx[n,u,c] = sum_{p : s·p + d·tap[n,p,c] − l = u} dy[n,p,c]
    dx = algorithms.extremum_grad(to_plain(call.layout, dy), tap, call.window)
    return (from_plain(call.layout, dy.shape, dx),)


_extremum.defvjp(_extremum_fwd, _extremum_bwd)
_extremum_jit = jax.jit(_extremum, static_argnums=(0, 1))


def max_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Max pooling: the largest element of every window, channel by channel.

    Formula, per spatial axis, with stride s, dilation d and low padding l:

        y[n,p,c] = max_i x[n, s·p + d·i − l, c]
        output size O = (N + l + h − d(R−1) − 1)//s + 1
    Gradient, with t[n,p,c] the tap i that attains the maximum:
        dx[n,u,c] = sum_{p : s·p + d·t[n,p,c] − l = u} dy[n,p,c]

    Ties: the first tap in row-major order gets the whole cotangent, as in jax.grad of `lax.reduce_window`. Padding
    never wins a tie; a window that lies wholly in the padding gives −inf and no gradient. NaN: the first NaN of a
    window is its maximum and gets its cotangent. ±0 are equal, and which of them y is may differ with the gradient.

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        window: R, one size per spatial axis. An int stands for every axis of x but the first (batch) and the channels.
        strides: s, an int for all spatial axes or one per axis; None means the window's own size.
        padding: as in `conv`, all kinds of it: a name, an int, or one of these or a (low, high) pair per axis;
            the padding counts as −inf.
        dilation: d, the spacing of the window's taps: an int for all spatial axes or one per axis.
        ceil_mode: round the output size up, so that the last window may hang over the end of the padded input (as long
            as it starts inside the input or its low padding). Not together with a negative high padding.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype.

    Raises:
        ValueError: an option out of range, a window larger than the padded input. TypeError: x is not a floating array.

    Saved for the backward: t, one byte per element of y (two from 256 taps on, four from 65,536). Not x.

    Reference: M. Ranzato, F. Huang, Y.-L. Boureau, Y. LeCun, Unsupervised learning of invariant feature hierarchies
    with applications to object recognition, CVPR 2007.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> max_pool(x, 2)[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
        >>> jax.grad(lambda x: max_pool(x, 2).sum())(x)[0, :, :, 0].tolist()
        [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
    """
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _extremum_jit(True, call, x)


def min_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Min pooling: the smallest element of every window, channel by channel.

    Formula, per spatial axis, with stride s, dilation d and low padding l:

        y[n,p,c] = min_i x[n, s·p + d·i − l, c]
    Gradient, with t[n,p,c] the tap i that attains the minimum:
        dx[n,u,c] = sum_{p : s·p + d·t[n,p,c] − l = u} dy[n,p,c]

    Ties, padding (+inf here) and NaN are as in `max_pool`.

    Args:
        x: (*batch, *spatial, C), as in `max_pool`.
        window: as in `max_pool`, like all that follow.
        strides: as in `max_pool`.
        padding: as in `max_pool`; the padding counts as +inf.
        dilation: as in `max_pool`.
        ceil_mode: as in `max_pool`.
        data_format: as in `max_pool`.

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype.

    Raises:
        ValueError, TypeError: as in `max_pool`.

    Saved for the backward: t, one byte per element of y (two from 256 taps on, four from 65,536). Not x.

    Reference: the max pooling of −x, negated.

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> min_pool(x, 2)[0, :, :, 0].tolist()
        [[0.0, 2.0], [8.0, 10.0]]
    """
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _extremum_jit(False, call, x)


# --- max_pool_with_indices ---


def _indexed_primal(call: _Call, x):
    return _indexed_fwd(call, x)[0]


_indexed = jax.custom_vjp(_indexed_primal, nondiff_argnums=(0,))


def _indexed_fwd(call: _Call, x):
    y, tap = algorithms.extremum(to_plain(call.layout, x), call.window, True)
    results = (y, _positions(tap, call.window))
    return tuple(from_plain(call.layout, x.shape, a) for a in results), tap


def _indexed_bwd(call: _Call, tap, cotangents):
    # dx is that of max_pool: the indices are constant almost everywhere.
    dy, _ = cotangents
    return _extremum_bwd(True, call, tap, dy)


def _positions(tap, window: Window):
    """The position s·p + d·tap − l as one number, row-major over the input's axes; −1 for one in the padding."""
    rest = tap.astype(jnp.int32)
    position, inside, stride = jnp.zeros_like(rest), jnp.ones_like(rest, bool), 1
    borders = {border.axis: border for border in window.borders}
    for axis in reversed(range(window.ndim)):
        n, r = window.own_size[axis], window.window_size[axis]
        p = lax.broadcasted_iota(jnp.int32, tap.shape, axis + 1)
        u = window.strides[axis] * p + window.dilation[axis] * (rest % r) - window.padding[axis][0]
        if axis in borders:  # a repeated value has the position that it repeats
            u = jnp.asarray(borders[axis].sources(n), jnp.int32)[u]
        inside &= (u >= 0) & (u < n)
        position += stride * u
        rest, stride = rest // r, stride * n
    return jnp.where(inside, position, -1)


_indexed.defvjp(_indexed_fwd, _indexed_bwd)
_indexed_jit = jax.jit(_indexed, static_argnums=0)


def max_pool_with_indices(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    data_format: DataFormat = "channels_last",
) -> tuple[jax.Array, jax.Array]:
    """Max pooling that also says where the maxima are, for `max_unpool`.

    Formula, per spatial axis, with t[n,p,c] the tap that `max_pool` picks:

        y[n,p,c] = max_i x[n, s·p + d·i − l, c]
        indices[n,p,c] = s·p + d·t[n,p,c] − l, over several axes the row-major number of that position
    Gradient, that of `max_pool`:
        dx[n,u,c] = sum_{p : indices[n,p,c] = u} dy[n,p,c]

    The indices are those of `torch.nn.functional.max_pool2d` with return_indices: they count the positions of one
    channel of one example of x, without padding. A window that lies wholly in the padding has index −1. Ties and NaN
    are as in `max_pool`.

    Args:
        x: (*batch, *spatial, C), as in `max_pool`.
        window: as in `max_pool`, like all that follow.
        strides: as in `max_pool`.
        padding: as in `max_pool`.
        dilation: as in `max_pool`.
        ceil_mode: as in `max_pool`.
        data_format: as in `max_pool`.

    Returns:
        (y, indices), both (*batch, *output, C) or (*batch, C, *output); y of x's dtype, the indices int32.

    Raises:
        ValueError, TypeError: as in `max_pool`.

    Saved for the backward: the taps, one byte per element of y (two from 256 taps on, four from 65,536). Not x.

    Reference: M. Zeiler, R. Fergus, Visualizing and understanding convolutional networks, ECCV 2014 (its switches).

    Example:
        >>> x = jnp.array([1.0, 3.0, 2.0, 5.0, 4.0, 0.0]).reshape(1, 6, 1)
        >>> y, indices = max_pool_with_indices(x, 2)
        >>> y[0, :, 0].tolist(), indices[0, :, 0].tolist()
        ([3.0, 5.0, 4.0], [1, 3, 4])
    """
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    _check_countable("x", call.window.input_size)
    return _indexed_jit(call, x)


# --- max_unpool ---


@dataclasses.dataclass(frozen=True)
class _UnpoolCall:
    layout: Layout
    output_size: tuple[int, ...]

    def flat(self, a):
        """(N, P, C), with P positions."""
        a = to_plain(self.layout, a)
        return a.reshape(a.shape[0], math.prod(a.shape[1:-1]), a.shape[-1])


def _unpool_primal(call: _UnpoolCall, y, indices):
    flat, at = call.flat(y).astype(accumulator(y.dtype)), call.flat(indices)
    zeros = jnp.zeros((flat.shape[0], math.prod(call.output_size), flat.shape[-1]), flat.dtype)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(1,),
        scatter_dims_to_operand_dims=(1,),
        operand_batching_dims=(0, 2),
        scatter_indices_batching_dims=(0, 2),
    )
    zeros, flat = varying_alike(zeros, flat)
    x = lax.scatter_add(zeros, jnp.expand_dims(at, -1), flat, numbers, mode="drop").astype(y.dtype)
    return from_plain(call.layout, y.shape, x.reshape(x.shape[0], *call.output_size, x.shape[-1]))


_unpool = jax.custom_vjp(_unpool_primal, nondiff_argnums=(0,))


def _unpool_fwd(call: _UnpoolCall, y, indices):
    return _unpool_primal(call, y, indices), indices


def _unpool_bwd(call: _UnpoolCall, indices, dx):
    # x[n,u,c] = sum_{p : indices[n,p,c] = u} y[n,p,c], so
    #   dy[n,p,c] = dx[n, indices[n,p,c], c]
    _, size, channels = call.layout.split(indices.shape)
    if not dx.size:  # a gather must have something to read
        return varying_alike(jnp.zeros(indices.shape, dx.dtype), dx)[0], None
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(),
        collapsed_slice_dims=(1,),
        start_index_map=(1,),
        operand_batching_dims=(0, 2),
        start_indices_batching_dims=(0, 2),
    )
    at = jnp.expand_dims(call.flat(indices), -1)
    dy = lax.gather(call.flat(dx), at, numbers, (1, 1, 1), mode="fill", fill_value=0)
    return from_plain(call.layout, indices.shape, dy.reshape(dy.shape[0], *size, channels)), None


_unpool.defvjp(_unpool_fwd, _unpool_bwd)
_unpool_jit = jax.jit(_unpool, static_argnums=0)


def max_unpool(
    y: jax.Array,
    indices: jax.Array,
    output_size: int | Sequence[int],
    *,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Puts every element of y at its index, zeros elsewhere: a partial inverse of `max_pool_with_indices`.

    Formula, with u the row-major number of a position of the output:

        x[n,u,c] = sum_{p : indices[n,p,c] = u} y[n,p,c]
    Gradient:
        dy[n,p,c] = dx[n, indices[n,p,c], c]

    Elements with one index (a position that several windows picked) add up, so that `max_unpool` is the exact adjoint
    of reading at the indices, and of `max_pool_with_indices` where the indices are; in PyTorch one of them, whichever
    comes last, is kept. An index outside the output, such as the −1 of a window wholly in the padding, puts nothing
    anywhere, and its element of y has gradient 0: indices are data, which no error while tracing can be about.

    On a GPU the order in which equal indices add up, and with it the rounding, may differ from run to run.

    Args:
        y: (*batch, *pooled, C); (*batch, C, *pooled) for "channels_first".
        indices: integers, of y's shape.
        output_size: the spatial size of the result, one int per axis. An int stands for every axis of y but the first
            (batch) and the channels.
        data_format: "channels_last" or "channels_first".

    Returns:
        x, (*batch, *output_size, C) or (*batch, C, *output_size), of y's dtype; bfloat16 and float16 are summed in
        float32.

    Raises:
        ValueError: shapes that differ, too few axes, an output_size below 0. TypeError: y is not a floating array, or
            indices are not integers.

    Saved for the backward: the indices. Not y.

    Reference: M. Zeiler, R. Fergus, Visualizing and understanding convolutional networks, ECCV 2014.

    Example:
        >>> x = jnp.array([1.0, 3.0, 2.0, 5.0, 4.0, 0.0]).reshape(1, 6, 1)
        >>> max_unpool(*max_pool_with_indices(x, 2), (6,))[0, :, 0].tolist()
        [0.0, 3.0, 0.0, 5.0, 4.0, 0.0]
    """
    (y,) = float_arrays(y=y)
    indices = integer_array("indices", indices)
    if indices.shape != y.shape:
        raise ValueError(f"indices: got shape {indices.shape}, expected {y.shape}, that of y: one index per element")
    layout = layout_of("y", y.shape, spatial_ndim_of("output_size", output_size, y.ndim), data_format)
    size = per_axis("output_size", output_size, layout.spatial_ndim, minimum=0)
    _check_countable("output_size", size)
    if jnp.iinfo(indices.dtype).bits < 32:  # an int8 could not be compared with more than 127 positions
        indices = indices.astype(jnp.int32)
    return _unpool_jit(_UnpoolCall(layout, size), *varying_alike(y, indices))


def _check_countable(name: str, size: Sequence[int]) -> None:
    if math.prod(size) > np.iinfo(np.int32).max:
        raise ValueError(
            f"{name}: got {math.prod(size)} positions ({' x '.join(map(str, size))}), expected at most 2^31 − 1: their "
            "indices are int32"
        )


# --- sum_pool and avg_pool ---


# What a sum is divided by: nothing, the number of taps on the input or its padding, the number of taps on the input.
Divisor = Literal["one", "padded", "input"]


def _m(divisor: Divisor, call: _Call):
    """m[p] for every position, None for ones. A window without any element to count has a sum of 0; 0/1 is its mean."""
    if divisor == "one":
        return None
    return product_of([call.window.counts(axis, divisor == "padded") for axis in range(call.window.ndim)])


def _sum_primal(divisor: Divisor, call: _Call, x):
    y = algorithms.window_sum(to_plain(call.layout, x), call.window, _m(divisor, call))
    return from_plain(call.layout, x.shape, y)


_sum = jax.custom_vjp(_sum_primal, nondiff_argnums=(0, 1))


def _sum_fwd(divisor: Divisor, call: _Call, x):
    return _sum_primal(divisor, call, x), ()


def _sum_bwd(divisor: Divisor, call: _Call, saved, dy):
    # Every x[n,u,c] enters y[n,p,c] with the factor 1/m[p] once for each tap i that reads it, so
    #   dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] / m[p]
    del saved
    dx = algorithms.window_sum_grad(to_plain(call.layout, dy), call.window, _m(divisor, call))
    return (from_plain(call.layout, dy.shape, dx),)


_sum.defvjp(_sum_fwd, _sum_bwd)
_sum_jit = jax.jit(_sum, static_argnums=(0, 1))


def sum_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Sum pooling: the sum of every window, channel by channel.

    Formula, per spatial axis, with stride s, dilation d and low padding l:

        y[n,p,c] = sum_i x[n, s·p + d·i − l, c]
    Gradient:
        dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c]

    Args:
        x: (*batch, *spatial, C), as in `max_pool`.
        window: as in `max_pool`, like all that follow.
        strides: as in `max_pool`.
        padding: as in `max_pool`; the padding counts as 0.
        dilation: as in `max_pool`.
        ceil_mode: as in `max_pool`.
        data_format: as in `max_pool`.

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype; bfloat16 and float16 are summed in float32.

    Raises:
        ValueError, TypeError: as in `max_pool`.

    Saved for the backward: nothing; the op is linear.

    Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    Proc. IEEE 1998 (its subsampling layers).

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> sum_pool(x, 2)[0, :, :, 0].tolist()
        [[10.0, 18.0], [42.0, 50.0]]
    """
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _sum_jit("one", call, x)


def avg_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Average pooling: the mean of every window, channel by channel.

    Formula, per spatial axis, with stride s, dilation d and low padding l:

        y[n,p,c] = (1/m[p]) · sum_i x[n, s·p + d·i − l, c]
        m[p] = the number of taps of window p that read the input or its padding (count_include_pad=True: the whole
               window, except where ceil_mode makes it hang over the padding's end), or the input alone (False)
    Gradient:
        dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] / m[p]

    Where m[p] would be 0 (a window that holds nothing to count) y is 0 and there is no gradient, instead of 0/0.

    Args:
        x: (*batch, *spatial, C), as in `max_pool`.
        window: as in `max_pool`, like all that follow.
        strides: as in `max_pool`.
        padding: as in `max_pool`; the padding counts as 0.
        dilation: as in `max_pool`.
        ceil_mode: as in `max_pool`.
        count_include_pad: whether the padding counts in m.
        data_format: as in `max_pool`.

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype; bfloat16 and float16 are summed in float32.

    Raises:
        ValueError, TypeError: as in `max_pool`.

    Saved for the backward: nothing; the op is linear and m is known while tracing.

    Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    Proc. IEEE 1998 (its subsampling layers).

    Example:
        >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> avg_pool(x, 2)[0, :, :, 0].tolist()
        [[2.5, 4.5], [10.5, 12.5]]
        >>> avg_pool(x, 2, padding=1, count_include_pad=False)[0, 0, :, 0].tolist()
        [0.0, 1.5, 3.0]
    """
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _sum_jit("padded" if flag("count_include_pad", count_include_pad) else "input", call, x)


# --- lp_pool ---


def _lp_primal(p: float, call: _Call, x):
    return _lp_fwd(p, call, x)[0]


_lp = jax.custom_vjp(_lp_primal, nondiff_argnums=(0, 1))


def _lp_fwd(p: float, call: _Call, x):
    size = jnp.abs(to_plain(call.layout, x).astype(accumulator(x.dtype)))
    y = lp_value(p, *algorithms.soft_maximum(size, call.window, lp_share(p), padding=0, least=lp_least(size.dtype)))
    return from_plain(call.layout, x.shape, y).astype(x.dtype), (x, y)


def _lp_bwd(p: float, call: _Call, saved, dy):
    # y[n,p,c]^e = sum_i |x[n,u,c]|^e with u = s·p + d·i − l, so e·y^(e−1)·dy/dx = e·|x|^(e−1)·sign(x) at every u, and
    #   dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} sign(x[n,u,c]) · (|x[n,u,c]| / y[n,p,c])^(e−1) · dy[n,p,c]
    x, y = saved
    a, c, weight = lp_weight(p, to_plain(call.layout, x).astype(y.dtype), y)
    dy_ = to_plain(call.layout, dy).astype(y.dtype)
    dx = algorithms.soft_maximum_grad(dy_, a, c, call.window, weight, padding=0, absent=0)
    return (from_plain(call.layout, dy.shape, dx).astype(dy.dtype),)


_lp.defvjp(_lp_fwd, _lp_bwd)
_lp_jit = jax.jit(_lp, static_argnums=(0, 1))


def lp_pool(
    x: jax.Array,
    window: int | Sequence[int],
    p: float,
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Lp pooling: the p-norm of every window, channel by channel; p = 1 sums |x|, a large p comes close to its maximum.

    Formula, per spatial axis, with stride s, dilation d and low padding l; e is the argument p, and p a position:

        y[n,p,c] = (sum_i |x[n, s·p + d·i − l, c]|^e)^(1/e)
    Gradient:
        dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} sign(x[n,u,c]) · (|x[n,u,c]| / y[n,p,c])^(e−1) · dy[n,p,c]

    No power overflows or underflows, whatever e: all are taken relative to the largest element of the window. At x = 0
    the gradient is 0, also in a window of zeros (there `torch.nn.functional.lp_pool2d` gives NaN) and for e = 1; a
    second derivative that is infinite there (e < 2) counts as 0. An infinite element makes y infinite and gets ±dy, the
    finite ones beside it get 0 (for e = 1: ±dy), as all do where y is beyond the range of float32. NaN in a window
    makes y, and for e > 1 the gradient of all its elements, NaN.

    For x >= 0 this is `torch.nn.functional.lp_pool1d` to 3d; those take x^e without the absolute value. A mean instead
    of the sum is y divided by the number of taps to the power 1/e.

    Args:
        x: (*batch, *spatial, C), as in `max_pool`.
        window: as in `max_pool`.
        p: e, a Python number, at least 1. For the limit p = inf take `max_pool` of `jnp.abs(x)`.
        strides: as in `max_pool`, like all that follow.
        padding: as in `max_pool`; the padding counts as 0.
        dilation: as in `max_pool`.
        ceil_mode: as in `max_pool`.
        data_format: as in `max_pool`.

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: p below 1 or infinite, and as in `max_pool`. TypeError: p is not a Python number, x not a floating
            array.

    Saved for the backward: x and y, y in at least float32 (for float32 and float64 the result itself).

    Reference: P. Sermanet, S. Chintala, Y. LeCun, Convolutional neural networks applied to house numbers digit
    classification, ICPR 2012.

    Example:
        >>> x = jnp.array([3.0, 4.0, 0.0, 0.0]).reshape(1, 4, 1)
        >>> lp_pool(x, 2, 2)[0, :, 0].tolist()
        [5.0, 0.0]
        >>> jax.grad(lambda x: lp_pool(x, 2, 1).sum())(x)[0, :, 0].tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    p = checked_exponent(p)
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _lp_jit(p, call, x)


# --- logsumexp_pool ---


def _logsumexp_primal(t: float, call: _Call, x):
    return _logsumexp_fwd(t, call, x)[0]


_logsumexp = jax.custom_vjp(_logsumexp_primal, nondiff_argnums=(0, 1))


def _logsumexp_fwd(t: float, call: _Call, x):
    x_ = to_plain(call.layout, x).astype(accumulator(x.dtype))
    m, r = algorithms.soft_maximum(x_, call.window, lse_share(t), padding=-jnp.inf, least=lse_least(x_.dtype))
    return from_plain(call.layout, x.shape, lse_value(t, m, r)).astype(x.dtype), (x, m, r)


def _logsumexp_bwd(t: float, call: _Call, saved, dy):
    # exp(t·y) = sum_i exp(t·x), so exp(t·y)·dy/dx = exp(t·x) at every u, and
    #   dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} exp(t·(x[n,u,c] − y[n,p,c])) · dy[n,p,c]
    # with exp(t·(x − y)) = exp(t·(x − m)) / (1 + r): m is exact, but y is rounded, and t·y may be large.
    x, m, r = saved
    dy_ = to_plain(call.layout, dy).astype(m.dtype) / jnp.where(r == -1, 1, 1 + r)
    x_ = to_plain(call.layout, x).astype(m.dtype)
    dx = algorithms.soft_maximum_grad(dy_, x_, m, call.window, lse_share(t), padding=-jnp.inf, absent=jnp.inf)
    return (from_plain(call.layout, dy.shape, dx).astype(dy.dtype),)


_logsumexp.defvjp(_logsumexp_fwd, _logsumexp_bwd)
_logsumexp_jit = jax.jit(_logsumexp, static_argnums=(0, 1))


def logsumexp_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    sharpness: float = 1.0,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """Log-sum-exp pooling: a smooth maximum of every window, channel by channel.

    Formula, per spatial axis, with stride s, dilation d and low padding l, and t the sharpness:

        y[n,p,c] = (1/t) · log sum_i exp(t·x[n, s·p + d·i − l, c])
    Gradient, the softmax weight of every tap:
        dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} exp(t·(x[n,u,c] − y[n,p,c])) · dy[n,p,c]

    The larger t, the closer y is to the maximum: max <= y <= max + log(R)/t, with R taps. This is the sum, as the name
    says; the pooling of Pinheiro and Collobert has the mean, and is y − log(R)/t, with the same gradient.

    Nothing overflows, and no digit of a small y is lost, as the largest element is taken out first. The padding takes
    no part. A window of −inf, or wholly in the padding, gives −inf and no gradient; +inf gives inf, and the elements
    that are +inf share the gradient evenly. NaN in a window makes y and the gradient of all its elements NaN.

    Args:
        x: (*batch, *spatial, C), as in `max_pool`.
        window: as in `max_pool`.
        sharpness: t, a Python number above 0; its inverse is often called the temperature.
        strides: as in `max_pool`, like all that follow.
        padding: as in `max_pool`; the padding counts as −inf.
        dilation: as in `max_pool`.
        ceil_mode: as in `max_pool`.
        data_format: as in `max_pool`.

    Returns:
        y, (*batch, *output, C) or (*batch, C, *output), of x's dtype; bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: sharpness not above 0 or infinite, and as in `max_pool`. TypeError: sharpness is not a Python
            number, x not a floating array.

    Saved for the backward: x, and two numbers per element of y in at least float32: the largest element of the window,
    and the sum of exp(t·(x − largest)) over the others.

    Reference: P. Pinheiro, R. Collobert, From image-level to pixel-level labeling with convolutional networks, CVPR
    2015; Y.-L. Boureau, J. Ponce, Y. LeCun, A theoretical analysis of feature pooling in visual recognition, ICML 2010.

    Example:
        >>> x = jnp.array([0.0, 0.0, -1e9, 5.0]).reshape(1, 4, 1)
        >>> logsumexp_pool(x, 2)[0, :, 0].round(4).tolist()
        [0.6930999755859375, 5.0]
        >>> jax.grad(lambda x: logsumexp_pool(x, 2).sum())(x)[0, :, 0].tolist()
        [0.5, 0.5, 0.0, 1.0]
    """
    t = checked_sharpness(sharpness)
    x, call = _prepare(x, window, strides, padding, dilation, ceil_mode, data_format)
    return _logsumexp_jit(t, call, x)


def _prepare(x, window, strides, padding, dilation, ceil_mode, data_format) -> tuple[jax.Array, _Call]:
    (x,) = float_arrays(x=x)
    layout = layout_of("x", x.shape, spatial_ndim_of("window", window, x.ndim), data_format)
    _, input_size, _ = layout.split(x.shape)
    sliding = pool_window(
        input_size, window, strides=strides, padding=padding, dilation=dilation, ceil_mode=flag("ceil_mode", ceil_mode)
    )
    return x, _Call(sliding, layout)
