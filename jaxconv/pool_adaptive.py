"""Adaptive pooling: the input divided into a given number of windows per axis, as evenly as whole numbers can.

Window p of O over an axis of size N reads floor(p·N/O) <= u < ceil((p + 1)·N/O). The windows that read a position u are
floor(u·O/N) <= p < ceil((u + 1)·O/N), the same with N and O changing places: the adjoint of the sum over windows is the
sum over those.
"""

import dataclasses
from collections.abc import Sequence

import jax

from jaxconv import algorithms
from jaxconv._arguments import float_arrays
from jaxconv._layout import divided, from_plain, product_of, to_plain
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.geometry import AdaptiveWindow, DataFormat, Layout, adaptive_window, layout_of, spatial_ndim_of

__all__ = ["adaptive_avg_pool", "adaptive_max_pool"]


@dataclasses.dataclass(frozen=True)
class _AdaptiveCall:
    window: AdaptiveWindow
    layout: Layout


# --- adaptive_avg_pool ---


def _adaptive_avg_primal(call: _AdaptiveCall, x):
    x_ = to_plain(call.layout, x).astype(accumulator(x.dtype))
    y = _mean(call, algorithms.adaptive_sum(x_, call.window))
    return from_plain(call.layout, x.shape, y).astype(x.dtype)


_adaptive_avg = jax.custom_vjp(_adaptive_avg_primal, nondiff_argnums=(0,))


def _adaptive_avg_fwd(call: _AdaptiveCall, x):
    return _adaptive_avg_primal(call, x), ()


def _adaptive_avg_bwd(call: _AdaptiveCall, saved, dy):
    # Every x[n,u,c] enters y[n,p,c] with the factor 1/m[p] for every window p that reads u, so
    #   dx[n,u,c] = sum_{p : u in window p} dy[n,p,c] / m[p]
    del saved
    dy_ = to_plain(call.layout, dy).astype(accumulator(dy.dtype))
    dx = algorithms.adaptive_sum(_mean(call, dy_), call.window.transposed)
    return (from_plain(call.layout, dy.shape, dx).astype(dy.dtype),)


def _mean(call: _AdaptiveCall, a):
    """a[n,p,c] / m[p]."""
    return divided(a, product_of([call.window.counts(axis) for axis in range(call.window.ndim)]))


_adaptive_avg.defvjp(_adaptive_avg_fwd, _adaptive_avg_bwd)
_adaptive_avg_jit = jax.jit(_adaptive_avg, static_argnums=0)


def adaptive_avg_pool(
    x: jax.Array, output_size: int | Sequence[int | None], *, data_format: DataFormat = "channels_last"
) -> jax.Array:
    """Average pooling to a given output size, whatever the input's.

    Formula, per spatial axis, with input size N and output size O:

        y[n,p,c] = (1/m[p]) · sum_u x[n,u,c]
        over floor(p·N/O) <= u < ceil((p + 1)·N/O), with m[p] the number of these positions
    Gradient:
        dx[n,u,c] = sum_p dy[n,p,c] / m[p]
        over floor(u·O/N) <= p < ceil((u + 1)·O/N), the windows that read u

    The windows are those of `torch.nn.functional.adaptive_avg_pool2d`: where O does not divide N they overlap in a
    position or differ in size; an O above N repeats positions. Of an axis without positions y is 0.

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        output_size: O, one int per spatial axis, or None to keep an axis as it is. An int stands for every axis of x
            but the first (batch) and the channels.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, (*batch, *output_size, C) or (*batch, C, *output_size), of x's dtype; bfloat16 and float16 are summed in
        float32.

    Raises:
        ValueError: an output_size below 1, too few axes. TypeError: x is not a floating array, or output_size not ints.

    Saved for the backward: nothing; the op is linear and m is known while tracing.

    Reference: K. He, X. Zhang, S. Ren, J. Sun, Spatial pyramid pooling in deep convolutional networks for visual
    recognition, ECCV 2014.

    Example:
        >>> x = jnp.arange(5.0).reshape(1, 5, 1)
        >>> adaptive_avg_pool(x, 2)[0, :, 0].tolist()
        [1.0, 3.0]
        >>> jax.grad(lambda x: (3 * adaptive_avg_pool(x, 2)).sum())(x)[0, :, 0].tolist()
        [1.0, 1.0, 2.0, 1.0, 1.0]
    """
    x, call = _prepare(x, output_size, data_format)
    return _adaptive_avg_jit(call, x)


# --- adaptive_max_pool ---


def _adaptive_max_primal(call: _AdaptiveCall, x):
    y = algorithms.adaptive_extremum_value(to_plain(call.layout, x), call.window, True)
    return from_plain(call.layout, x.shape, y)


_adaptive_max = jax.custom_vjp(_adaptive_max_primal, nondiff_argnums=(0,))


def _adaptive_max_fwd(call: _AdaptiveCall, x):
    y, tap = algorithms.adaptive_extremum(to_plain(call.layout, x), call.window, True)
    return from_plain(call.layout, x.shape, y), tap


def _adaptive_max_bwd(call: _AdaptiveCall, tap, dy):
    # y[n,p,c] = x[n,t,c] at the position t = t[n,p,c] of tap[n,p,c] in window p, so
    #   dx[n,u,c] = sum_{p : t[n,p,c] = u} dy[n,p,c]
    dx = algorithms.adaptive_extremum_grad(to_plain(call.layout, dy), tap, call.window)
    return (from_plain(call.layout, dy.shape, dx),)


_adaptive_max.defvjp(_adaptive_max_fwd, _adaptive_max_bwd)
_adaptive_max_jit = jax.jit(_adaptive_max, static_argnums=0)


def adaptive_max_pool(
    x: jax.Array, output_size: int | Sequence[int | None], *, data_format: DataFormat = "channels_last"
) -> jax.Array:
    """Max pooling to a given output size, whatever the input's.

    Formula, per spatial axis, with input size N and output size O:

        y[n,p,c] = max_u x[n,u,c]
        over floor(p·N/O) <= u < ceil((p + 1)·N/O)
    Gradient, with t[n,p,c] the position that attains the maximum:
        dx[n,u,c] = sum_{p : t[n,p,c] = u} dy[n,p,c]

    The windows are those of `adaptive_avg_pool`. Ties and NaN are as in `max_pool`: the first position in row-major
    order, or the first NaN, gets the whole cotangent.

    Args:
        x: (*batch, *spatial, C), as in `adaptive_avg_pool`.
        output_size: O, as in `adaptive_avg_pool`.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, (*batch, *output_size, C) or (*batch, C, *output_size), of x's dtype.

    Raises:
        ValueError: an output_size below 1, too few axes, an axis without positions. TypeError: x is not a floating
            array, or output_size not ints.

    Saved for the backward: the winning tap, one byte per element of y (two from 256 taps on, four from 65,536). Not x.

    Reference: K. He, X. Zhang, S. Ren, J. Sun, Spatial pyramid pooling in deep convolutional networks for visual
    recognition, ECCV 2014.

    Example:
        >>> x = jnp.array([1.0, 0.0, 4.0, 2.0, 3.0]).reshape(1, 5, 1)
        >>> adaptive_max_pool(x, 2)[0, :, 0].tolist()
        [4.0, 4.0]
        >>> jax.grad(lambda x: adaptive_max_pool(x, 2).sum())(x)[0, :, 0].tolist()
        [0.0, 0.0, 2.0, 0.0, 0.0]
    """
    x, call = _prepare(x, output_size, data_format)
    for n, o in zip(call.window.input_size, call.window.output_size, strict=True):
        if n == 0 < o:
            raise ValueError(f"x: got shape {x.shape} with an empty spatial axis, expected positions to maximise over")
    return _adaptive_max_jit(call, x)


def _prepare(x, output_size, data_format) -> tuple[jax.Array, _AdaptiveCall]:
    (x,) = float_arrays(x=x)
    layout = layout_of("x", x.shape, spatial_ndim_of("output_size", output_size, x.ndim), data_format)
    _, input_size, _ = layout.split(x.shape)
    return x, _AdaptiveCall(adaptive_window(input_size, output_size), layout)
