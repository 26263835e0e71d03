"""`jax.lax.conv_general_dilated` with the same arguments and results, differentiated by our rules.

The general convolution has a dilation a of its input too: with x[u] at position a·u and zeros between,

    y[n,p,k] = sum_{u,i,c : a·u = s·p + d·i − l} x[n,u,c] · w[i,c,k]

and is one of the three forms at the top of conv.py, on transposed arrays:

    a = 1              (1), with window strides s
    s = 1, a > 1       (2): with i' = R−1−i it reads u where a·u + d·i' − (d(R−1) − l) = p, so it is the input gradient
                       of a convolution with stride a, low padding d(R−1) − l, and the kernel reversed, its channel axes
                       exchanged: a transposed convolution
    s > 1, a > 1       (1), of x with the zeros put in

Batch groups are feature groups: group g of the outputs reads part g of the batch, so the parts go side by side along
the channels.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv import algorithms
from jaxconv._arguments import FLOAT_DTYPES, hashable, varying_alike
from jaxconv.geometry import Window

__all__ = ["conv_general_dilated"]


@dataclasses.dataclass(frozen=True)
class _Call:
    """The arguments of lax.conv_general_dilated that are not arrays, hashable."""

    window_strides: tuple[int, ...]
    padding: Any
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    dimension_numbers: Any
    feature_group_count: int
    batch_group_count: int
    precision: Any
    preferred_element_type: Any

    def by_lax(self, lhs, rhs, out_sharding=None):
        """The same by lax alone."""
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return lax.conv_general_dilated(lhs, rhs, out_sharding=out_sharding, **options)


class _Plan(NamedTuple):
    """One of the forms, and the axes of the arrays in its order: (N, *spatial, C), (*kernel, C, K), (N, *output, K)."""

    x_axes: tuple[int, ...]
    w_axes: tuple[int, ...]
    y_axes: tuple[int, ...]
    parts: int  # of the batch
    groups: int
    transposed: bool
    dilation: tuple[int, ...]  # of x, where the zeros are put in
    window: Window


def _plan(call: _Call, lhs_shape, rhs_shape) -> _Plan:
    x_spec, w_spec, y_spec = lax.conv_dimension_numbers(lhs_shape, rhs_shape, call.dimension_numbers)
    x_axes, y_axes = ((spec[0], *spec[2:], spec[1]) for spec in (x_spec, y_spec))
    w_axes = (*w_spec[2:], w_spec[1], w_spec[0])
    sizes = tuple(lhs_shape[axis] for axis in x_spec[2:])
    taps = tuple(rhs_shape[axis] for axis in w_spec[2:])
    extent = [d * (r - 1) + 1 for d, r in zip(call.rhs_dilation, taps, strict=True)]
    pads = call.padding
    if isinstance(pads, str):
        pads = lax.padtype_to_pads(sizes, extent, call.window_strides, pads)
    pads = tuple((int(low), int(high)) for low, high in pads)
    zeros = (0,) * len(sizes)
    transposed = set(call.window_strides) <= {1} and not set(call.lhs_dilation) <= {1}
    dilated = tuple(a * (n - 1) + 1 for a, n in zip(call.lhs_dilation, sizes, strict=True))
    if transposed:
        # y takes the place of the input: its size, and the padding that takes y to x.
        output = tuple(n + low + high - e + 1 for n, (low, high), e in zip(dilated, pads, extent, strict=True))
        low = [e - 1 - low for e, (low, _) in zip(extent, pads, strict=True)]
        high = [n - 1 + e - o - l for n, e, o, l in zip(dilated, extent, output, low, strict=True)]
        pads = tuple(zip(low, high, strict=True))
        window = Window(output, taps, call.lhs_dilation, call.rhs_dilation, pads, zeros)
    else:
        window = Window(dilated, taps, call.window_strides, call.rhs_dilation, pads, zeros)
    groups = call.feature_group_count * call.batch_group_count
    dilation = (1,) * len(sizes) if transposed else call.lhs_dilation
    if not sizes:  # a product of matrices: one window of one position
        window = Window((1,), (1,), (1,), (1,), ((0, 0),), (0,))
    return _Plan(x_axes, w_axes, y_axes, call.batch_group_count, groups, transposed, dilation, window)


# --- Between lax's arrays and those of the plan: each function, and its adjoint. ---


def _x_of(plan: _Plan, lhs):
    x = lhs.transpose(plan.x_axes)
    if plan.parts > 1:
        x = x.reshape(plan.parts, x.shape[0] // plan.parts, *x.shape[1:])
        x = jnp.moveaxis(x, 0, -2)
        x = x.reshape(*x.shape[:-2], plan.parts * x.shape[-1])
    if x.ndim == 2:
        return jnp.expand_dims(x, 1)
    if set(plan.dilation) <= {1}:
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((0, 0, a - 1) for a in plan.dilation), (0, 0, 0)])


def _lhs_of(plan: _Plan, x):
    flat = len(plan.x_axes) == 2
    x = jnp.squeeze(x, 1) if flat else lax.slice(x, (0,) * x.ndim, x.shape, (1, *plan.dilation, 1))
    if plan.parts > 1:
        x = x.reshape(*x.shape[:-1], plan.parts, x.shape[-1] // plan.parts)
        x = jnp.moveaxis(x, -2, 0)
        x = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    return x.transpose(_inverse(plan.x_axes))


def _w_of(plan: _Plan, rhs):
    w = rhs.transpose(plan.w_axes)
    if w.ndim == 2:
        w = jnp.expand_dims(w, 0)
    return _exchanged(plan, w) if plan.transposed else w


def _rhs_of(plan: _Plan, w):
    w = _exchanged(plan, w) if plan.transposed else w
    if len(plan.w_axes) == 2:
        w = jnp.squeeze(w, 0)
    return w.transpose(_inverse(plan.w_axes))


def _exchanged(plan: _Plan, w):
    """(*kernel, C/G, K) reversed, with the channels of each group exchanged: (*kernel, K/G, C). Its own inverse."""
    *kernel, inputs, outputs = w.shape
    w = lax.rev(w, range(len(kernel))).reshape(*kernel, inputs, plan.groups, outputs // plan.groups)
    return jnp.swapaxes(w, -1, -3).reshape(*kernel, outputs // plan.groups, plan.groups * inputs)


def _out_of(plan: _Plan, y):
    return (jnp.squeeze(y, 1) if len(plan.y_axes) == 2 else y).transpose(_inverse(plan.y_axes))


def _y_of(plan: _Plan, out):
    y = out.transpose(plan.y_axes)
    return jnp.expand_dims(y, 1) if y.ndim == 2 else y


def _inverse(axes) -> list[int]:
    return sorted(range(len(axes)), key=lambda number: axes[number])


# --- conv_general_dilated ---


def _conv_general_dilated_primal(call: _Call, lhs, rhs):
    out = jax.eval_shape(call.by_lax, lhs, rhs)  # raises what lax raises
    if not (lhs.size and rhs.size and out.size):
        return varying_alike(jnp.zeros(out.shape, out.dtype), lhs, rhs)[0]
    plan = _plan(call, lhs.shape, rhs.shape)
    form = algorithms.input_grad if plan.transposed else algorithms.conv
    wide = out.dtype.itemsize >= lhs.dtype.itemsize
    dtype = out.dtype if wide else lhs.dtype
    y = form(_x_of(plan, lhs), _w_of(plan, rhs), plan.window, plan.groups, call.precision, dtype)
    return _out_of(plan, y).astype(out.dtype)


_conv_general_dilated = jax.custom_vjp(_conv_general_dilated_primal, nondiff_argnums=(0,))


def _conv_general_dilated_fwd(call: _Call, lhs, rhs):
    return _conv_general_dilated_primal(call, lhs, rhs), (lhs, rhs)


def _conv_general_dilated_bwd(call: _Call, saved, dout):
    # T(x, w, dy) at the top of conv.py is linear in each argument; dx and dw are its two other partial derivatives:
    #   form (1), y = dT/d dy:  dx = dT/dx (2), dw = dT/dw (3)
    #   form (2), x in dy's place and y in x's:  dx = dT(dy, w, x)/dx (1), dw = dT(dy, w, x)/dw (3)
    lhs, rhs = saved
    if not (lhs.size and rhs.size and dout.size):
        return tuple(varying_alike(jnp.zeros_like(a), dout)[0] for a in saved)
    plan = _plan(call, lhs.shape, rhs.shape)
    x, w, dy = _x_of(plan, lhs), _w_of(plan, rhs), _y_of(plan, dout.astype(lhs.dtype))
    options = (plan.window, plan.groups, call.precision, lhs.dtype)
    if plan.transposed:
        dx, dw = algorithms.conv(dy, w, *options), algorithms.kernel_grad(dy, x, *options)
    else:
        dx, dw = algorithms.input_grad(dy, w, *options), algorithms.kernel_grad(x, dy, *options)
    return _lhs_of(plan, dx), _rhs_of(plan, dw)


_conv_general_dilated.defvjp(_conv_general_dilated_fwd, _conv_general_dilated_bwd)
_conv_general_dilated_jit = jax.jit(_conv_general_dilated, static_argnums=0)


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, with our gradients: the same arguments, meaning, results and errors.

    For `flax.nnx.Conv(conv_general_dilated=jaxconv.conv_general_dilated)` and wherever else the op can be handed in.

    Formula, per spatial axis, with window stride s, dilation a of the input and d of the kernel, and low padding l:

        y[n,p,k] = sum_{u,i,c : a·u = s·p + d·i − l} x[n,u,c] · w[i,c,k]
    Gradient:
        dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = a·u} w[i,c,k] · dy[n,p,k]
        dw[i,c,k] = sum_{n,u,p : a·u = s·p + d·i − l} x[n,u,c] · dy[n,p,k]

    Args:
        lhs: x, its axes in the order that dimension_numbers says; by default (N, C, *spatial).
        rhs: w, by default (K, C/feature_group_count, *kernel).
        window_strides: s, one int per spatial axis (there may be none).
        padding: "SAME", "SAME_LOWER", "VALID" or (low, high) pairs, negative ones too.
        lhs_dilation: a, one int per spatial axis; None for ones.
        rhs_dilation: d, one int per spatial axis; None for ones.
        dimension_numbers: None, a ConvDimensionNumbers, or three strings such as ("NHWC", "HWIO", "NHWC").
        feature_group_count: channels c of x and k of y meet only within the same one of this many groups.
        batch_group_count: part g of the batch meets only part g of the channels k, of this many.
        precision: as in lax, also used by the gradients.
        preferred_element_type: the dtype of y.
        out_sharding: where it is not None, lax alone computes and differentiates the call.

    Returns:
        y, (N/batch_group_count, K, *output) in the order of axes that dimension_numbers says.

    Raises:
        ValueError, TypeError: as lax.

    Saved for the backward: x and w themselves. Integers, complex numbers and 8-bit floats go to lax, with lax's
    gradients. The gradient of lax's own op ends the process for some arguments with negative padding on a CPU; these do
    not.

    Reference: `jax.lax.conv_general_dilated`.

    Example:
        >>> x, w = jnp.ones((1, 3, 8, 8)), jnp.ones((4, 3, 3, 3))
        >>> conv_general_dilated(x, w, (1, 1), "SAME").shape
        (1, 4, 8, 8)
    """
    ndim = len(window_strides)
    call = _Call(
        tuple(window_strides),
        _pairs(padding),
        (1,) * ndim if lhs_dilation is None else tuple(lhs_dilation),
        (1,) * ndim if rhs_dilation is None else tuple(rhs_dilation),
        hashable(dimension_numbers),
        feature_group_count,
        batch_group_count,
        hashable(precision),
        preferred_element_type,
    )
    lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)
    ours = all(jnp.dtype(dtype).name in FLOAT_DTYPES for dtype in (lhs.dtype, preferred_element_type or lhs.dtype))
    if not ours or lhs.dtype != rhs.dtype or out_sharding is not None:
        return call.by_lax(lhs, rhs, out_sharding)
    return _conv_general_dilated_jit(call, *varying_alike(lhs, rhs))


def _pairs(padding):
    """padding as it is compared; what is neither a string nor pairs as it is: lax says what is wrong with it."""
    if isinstance(padding, str):
        return padding
    try:
        return tuple(map(tuple, padding))
    except TypeError:
        return hashable(list(padding)) if isinstance(padding, Iterable) else padding
