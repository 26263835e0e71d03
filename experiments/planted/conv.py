"""Wrong versions of the convolutions, of padding and of patches."""

import dataclasses
import math
import types
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.planted.mutation import (
    EDGE,
    EVERY,
    Mutation,
    Point,
    gradient,
    held_constant,
    instead,
    reversed_batch,
    row_by_row,
    without_last,
)
from jaxconv._forms import conv_form
from jaxconv._layout import from_plain, to_plain
from jaxconv.algorithms import reference
from jaxconv.verification.suite import SECOND


def _windowed(window, **changes):
    fields = ("input_size", "output_size", "strides", "dilation", "padding")
    return types.SimpleNamespace(**({field: getattr(window, field) for field in fields} | changes))


def _kernel_grad_with(change: Callable) -> dict[str, Callable]:
    """A kernel gradient that reads x through a changed window."""
    return {
        "algorithms:kernel_grad": instead(reference.kernel_grad),
        "algorithms.reference:read": lambda right: lambda x, window, tap, fill=0.0: right(x, change(window), tap, fill),
    }


def _input_grad_with(change: Callable) -> dict[str, Callable]:
    """An input gradient that places its terms through a changed window."""
    return {
        "algorithms:input_grad": instead(reference.input_grad),
        "algorithms.reference:place": lambda right: lambda y, window, tap: right(y, change(window), tap),
    }


def _swapped_steps(window):
    return _windowed(window, strides=window.dilation, dilation=window.strides)


def _swapped_padding(window):
    return _windowed(window, padding=tuple((high, low) for low, high in window.padding))


def _symmetric_padding(window):
    return _windowed(window, padding=tuple(((low + high) // 2,) * 2 for low, high in window.padding))


def _ones(field: str) -> Callable:
    return lambda window: _windowed(window, **{field: (1,) * window.ndim})


def _groups_transposed(right):
    def input_grad(dy, w, window, groups, precision, dtype):
        per_group = w.reshape(*w.shape[:-1], groups, w.shape[-1] // groups)
        return right(dy, per_group.swapaxes(-1, -2).reshape(w.shape), window, groups, precision, dtype)

    return input_grad


def _groups_and_stride(right):
    def input_grad(dy, w, window, groups, precision, dtype):
        dx = right(dy, w, window, groups, precision, dtype)
        return jnp.roll(dx, groups, -1) if groups > 1 and max(window.strides) > 1 else dx

    return input_grad


def _depthwise_shape(right):
    def input_grad(dy, w, window, groups, precision, dtype):
        dx = right(dy, w, window, groups, precision, dtype)
        return dx[..., : groups // 2] if groups > 1 and w.shape[-2] == 1 else dx

    return input_grad


def _sixteen_bits(right):
    return lambda x, *rest: right(x[np.arange(x.shape[0]) % 2**16] if x.shape[0] else x, *rest)


def _uninitialised(right):
    def kernel_grad(x, dy, *rest):
        dw = right(x, dy, *rest)
        return dw if x.size and dy.size else jnp.full_like(dw, jnp.nan)

    return kernel_grad


def _kernel_grad_narrow(right):
    def kernel_grad(x, dy, window, groups, precision, dtype):
        rows = math.prod(dy.shape[:-1])
        if groups > 1 or not rows:
            return right(x, dy, window, groups, precision, dtype)
        views = [reference.read(x, window, i).reshape(rows, 1, x.shape[-1], 1) for i in window.taps()]
        dw = row_by_row(jnp.concatenate(views, 1), dy.reshape(rows, 1, 1, dy.shape[-1]))
        return dw.reshape(*window.window_size, x.shape[-1], dy.shape[-1]).astype(dtype)

    return kernel_grad


def _db_of_last_axis(db, saved, dy, call):
    """Right for channels_last alone, where it sums all axes but the last."""
    wrong = jnp.sum(dy, range(dy.ndim - 1))
    return jnp.resize(wrong, db.shape).astype(db.dtype)


def _dx_reshaped(dx, saved, dy, call):
    """channels_first restored by a reshape where a transposition was due."""
    if not call.layout.channels_first:
        return dx
    return to_plain(call.layout, dx).reshape(dx.shape)


@jax.custom_jvp
def _tangent_reversed(x):
    """An identity whose tangent is wrong, and only under vmap."""
    return x


_tangent_reversed.defjvp(lambda primals, tangents: (primals[0], reversed_batch.bind(tangents[0])))


def _strided_dx(dx, saved, dy, call):
    strided = max(call.window.strides) > 1 and not call.layout.channels_first
    return _tangent_reversed(dx) if strided else dx


# --- conv_transpose, conv_general_dilated ---


def _dx_of_swapped_padding(dx, saved, dy, call):
    window = dataclasses.replace(call.window, padding=_swapped_padding(call.window).padding)
    return conv_form(dataclasses.replace(call, window=window), dy, saved[1], dx.dtype)


def _without_output_padding(db, saved, dy, call):
    """The last position of the first spatial axis missed, as if there were none of it beyond the windows."""
    rows = without_last(to_plain(call.layout, dy), 1)
    return jnp.sum(rows, range(rows.ndim - 1)).astype(db.dtype)


def _parts_interleaved(right):
    """The parts of the batch taken out of the channels as if they alternated there."""

    def lhs_of(plan, x):
        if plan.parts > 1:
            x = x.reshape(*x.shape[:-1], x.shape[-1] // plan.parts, plan.parts).swapaxes(-1, -2)
            x = x.reshape(*x.shape[:-2], -1)
        return right(plan, x)

    return lhs_of


def _dilation_forgotten(right):
    """The first elements of the gradient of the dilated input, in place of every a-th."""

    def lhs_of(plan, x):
        sizes = [-(-n // a) for n, a in zip(x.shape[1:-1], plan.dilation, strict=True)]
        x = x[(slice(None), *map(slice, sizes), slice(None))]
        return right(plan._replace(dilation=(1,) * len(sizes)), x)

    return lhs_of


def _not_reversed(right):
    return lambda plan, w: right(plan, lax.rev(w, range(w.ndim - 2)) if plan.transposed else w)


# --- depthwise_conv, separable_conv ---


def _multipliers_first(dw, saved, dy, call):
    channels, multiplier = dw.shape[-2:]
    return dw.reshape(*dw.shape[:-2], multiplier, channels).swapaxes(-1, -2)


def _dv_of_x(dv, saved, dy, call):
    """dv from x where z is due, which fits where the depthwise part keeps the sizes."""
    x, z = saved[0], saved[3]
    return dv if x.shape != z.shape else jnp.tensordot(x, dy, (tuple(range(dy.ndim - 1)),) * 2)


# --- padding ---


def _ends_changed(change: Callable) -> Callable:
    """The adjoint of padding, with each end of dy changed before: change(border, end, axis, high)."""

    def wrong(right):
        def reduce(dy, borders):
            for border in borders:
                if border.mode == "ZERO":
                    continue
                axis = border.axis + 1
                n = dy.shape[axis] - border.low - border.high
                low, middle, high = jnp.split(dy, (border.low, border.low + n), axis)
                ends = [change(border, end, axis, number) for number, end in enumerate((low, high))]
                dy = jnp.concatenate([ends[0], middle, ends[1]], axis)
            return right(dy, borders)

        return reduce

    return wrong


def _high_end_dropped(border, end, axis, high):
    return jnp.zeros_like(end) if high else end


def _end_not_turned(border, end, axis, high):
    return lax.rev(end, (axis,)) if border.mode == "REFLECT" else end


def _end_not_summed(border, end, axis, high):
    """Of REPLICATE's end, only the element beside x comes home."""
    if border.mode != "REPLICATE" or not end.shape[axis]:
        return end
    at = lax.broadcasted_iota(np.int32, end.shape, axis)
    return jnp.where(at == (0 if high else end.shape[axis] - 1), end, jnp.zeros((), end.dtype))


def _reflected(right):
    """SYMMETRIC's ends brought home as REFLECT's."""
    return lambda dy, borders: right(
        dy, tuple(b._replace(mode="REFLECT") if b.mode == "SYMMETRIC" else b for b in borders)
    )


# --- patches, blocks ---


def _overwritten(right):
    """The last patch that holds a position has it."""

    def fold(rows, window):
        x = jnp.zeros((rows.shape[0], *window.input_size, rows.shape[-1]), rows.dtype)
        for number, tap in enumerate(window.taps()):
            ones = jnp.ones((1, *window.output_size, 1), bool)
            x = jnp.where(reference.place(ones, window, tap), reference.place(rows[..., number, :], window, tap), x)
        return x

    return fold


def _taps_by_column(right):
    def fold(rows, window):
        first, second = window.window_size
        shape = rows.shape
        rows = rows.reshape(*shape[:-2], second, first, shape[-1]).swapaxes(-3, -2)
        return right(rows.reshape(shape), window)

    return fold


def _channels_first_in_rows(right):
    """c·R + i in place of i·C + c."""

    def patches(x, window):
        rows = right(x, window)
        return rows.swapaxes(-1, -2).reshape(rows.shape)

    return patches


def _block_with(order: Callable) -> Callable:
    """The adjoint of space_to_depth with the channels of y, (*block, C), read in another order."""

    def wrong(right):
        def to_space(call, y):
            plain = to_plain(call.layout, y)
            return right(call, from_plain(call.layout, y.shape, order(call, plain).reshape(plain.shape)))

        return to_space

    return wrong


def _block_by_column(call, y):
    first, second = call.block
    return y.reshape(*y.shape[:-1], second, first, -1).swapaxes(-3, -2)


def _block_last(call, y):
    """c·B + r in place of r·C + c."""
    return y.reshape(*y.shape[:-1], -1, math.prod(call.block)).swapaxes(-1, -2)


MUTATIONS = (
    # Convolution: the geometry.
    Mutation(
        "kernel not flipped in conv_input_grad",
        "conv",
        EVERY,
        {
            "algorithms:input_grad": lambda right: (
                lambda dy, w, window, *rest: right(dy, lax.rev(w, range(window.ndim)), window, *rest)
            )
        },
    ),
    Mutation("stride and dilation swapped in the kernel gradient", "conv", EVERY, _kernel_grad_with(_swapped_steps)),
    Mutation("stride and dilation swapped in the input gradient", "conv", EVERY, _input_grad_with(_swapped_steps)),
    Mutation("padding low and high swapped in the input gradient", "conv", EVERY, _input_grad_with(_swapped_padding)),
    Mutation("kernel gradient right only for symmetric padding", "conv", EVERY, _kernel_grad_with(_symmetric_padding)),
    Mutation("input gradient right only for stride 1", "conv", EVERY, _input_grad_with(_ones("strides"))),
    Mutation("kernel gradient right only for dilation 1", "conv", EVERY, _kernel_grad_with(_ones("dilation"))),
    Mutation(
        "one tap dropped in the input gradient",
        "conv",
        EVERY,
        {"algorithms:input_grad": lambda right: lambda dy, w, *rest: right(dy, without_last(w, 0), *rest)},
    ),
    Mutation(
        "last output row missed in the kernel gradient",
        "conv",
        EVERY,
        {"algorithms:kernel_grad": lambda right: lambda x, dy, *rest: right(x, without_last(dy, 1), *rest)},
    ),
    Mutation(
        "groups transposed: input gradient right only for groups=1",
        "conv",
        EVERY,
        {"algorithms:input_grad": _groups_transposed},
    ),
    Mutation(
        "dx wrong only when groups > 1 and stride > 1",
        "conv",
        Point("groups and stride", "float64"),
        {"algorithms:input_grad": _groups_and_stride},
        elsewhere=True,
    ),
    Mutation(
        "depthwise dx of wrong shape",
        "conv",
        Point("depthwise, multiplier 2", "float64"),
        {"algorithms:input_grad": _depthwise_shape},
        elsewhere=True,
        raises=True,
    ),
    Mutation(
        "flip_kernel forgotten in the kernel gradient",
        "conv",
        EVERY,
        {
            "conv:_conv_bwd": gradient(
                1, lambda dw, saved, dy, call: lax.rev(dw, range(dw.ndim - 2)) if call.flip_kernel else dw
            )
        },
    ),
    Mutation(
        "channels_first transposed wrongly in the backward",
        "conv",
        EVERY,
        {"conv:_conv_bwd": gradient(0, _dx_reshaped)},
    ),
    # Convolution: the sums.
    Mutation(
        "bias summed over all axes but the last", "conv", EVERY, {"conv:_conv_bwd": gradient(2, _db_of_last_axis)}
    ),
    Mutation(
        "bias of the first example alone",
        "conv",
        EVERY,
        {"conv:_conv_bwd": gradient(2, lambda db, saved, dy, call: jnp.sum(dy[0], range(1, dy.ndim - 1)))},
    ),
    Mutation(
        "dw averaged over the batch",
        "conv",
        EVERY,
        {"conv:_conv_bwd": gradient(1, lambda dw, saved, dy, call: dw / dy.shape[0])},
    ),
    Mutation(
        "dx too large by 1e-4 in float32",
        "conv",
        Point("every option", "float32"),
        {"conv:_conv_bwd": gradient(0, lambda dx, saved, dy, call: dx * (1 + 1e-4) if dx.dtype == np.float32 else dx)},
    ),
    Mutation(
        "dw too small by 1e-4 in float32",
        "conv",
        Point("every option", "float32"),
        {"conv:_conv_bwd": gradient(1, lambda dw, saved, dy, call: dw * (1 - 1e-4) if dw.dtype == np.float32 else dw)},
    ),
    Mutation(
        "kernel gradient added up in the narrow dtype",
        "conv",
        Point("a sum over 10,816 positive positions", "bfloat16"),
        {"algorithms:kernel_grad": _kernel_grad_narrow},
    ),
    Mutation(
        "dw wrong for batches of 65,536 and more",
        "conv",
        Point("65,537 examples", "float64"),
        {"algorithms:kernel_grad": _sixteen_bits},
        elsewhere=True,
    ),
    Mutation(
        "dw uninitialised for an empty batch", "conv", EDGE, {"algorithms:kernel_grad": _uninitialised}, elsewhere=True
    ),
    # Convolution: second derivatives and transformations.
    Mutation(
        "dx held constant in w: wrong only in second derivatives",
        "conv",
        Point("every option", SECOND),
        {"conv:input_grad_form": lambda right: lambda call, dy, w, dtype: right(call, dy, held_constant(w), dtype)},
    ),
    Mutation(
        "channels-last strided inputs under vmap of jvp of vjp",
        "conv",
        Point("1-D, causal padding, stride 2", SECOND),
        {"conv:_conv_bwd": gradient(0, _strided_dx)},
        elsewhere=True,
    ),
    Mutation(
        "conv_input_grad's rule with dw negated",
        "conv_input_grad",
        EVERY,
        {"conv:_conv_input_grad_bwd": gradient(1, lambda dw, saved, ddx, call: -dw)},
    ),
    Mutation(
        "conv_kernel_grad's rule without flip_kernel",
        "conv_kernel_grad",
        EVERY,
        {
            "conv:_conv_kernel_grad_bwd": lambda right: (
                lambda call, saved, ddw: right(dataclasses.replace(call, flip_kernel=False), saved, ddw)
            )
        },
    ),
    # Transposed and general convolution.
    Mutation(
        "conv_transpose's dx with padding low and high swapped",
        "conv_transpose",
        EVERY,
        {"conv:_conv_transpose_bwd": gradient(0, _dx_of_swapped_padding)},
    ),
    Mutation(
        "conv_transpose's dw with x and dy exchanged: reversed",
        "conv_transpose",
        EVERY,
        {"conv:_conv_transpose_bwd": gradient(1, lambda dw, saved, dy, call: lax.rev(dw, range(dw.ndim - 2)))},
    ),
    Mutation(
        "conv_transpose's bias without the last row",
        "conv_transpose",
        EVERY,
        {"conv:_conv_transpose_bwd": gradient(2, _without_output_padding)},
    ),
    Mutation(
        "batch groups interleaved in dx",
        "conv_general_dilated",
        Point("batch groups", "float64"),
        {"conv_general:_lhs_of": _parts_interleaved},
    ),
    Mutation(
        "lhs_dilation forgotten in dx",
        "conv_general_dilated",
        EVERY,
        {"conv_general:_lhs_of": _dilation_forgotten},
    ),
    Mutation(
        "rhs_dilation forgotten in dx",
        "conv_general_dilated",
        EVERY,
        _input_grad_with(_ones("dilation")),
    ),
    Mutation(
        "dw of a transposed convolution not reversed",
        "conv_general_dilated",
        Point("transposed, groups", "float64"),
        {"conv_general:_rhs_of": _not_reversed},
    ),
    # Depthwise and separable convolution.
    Mutation(
        "depthwise dw with multipliers and channels in the wrong order",
        "depthwise_conv",
        EVERY,
        {"separable:_depthwise_conv_bwd": gradient(1, _multipliers_first)},
    ),
    Mutation(
        "dv from x in place of z",
        "separable_conv",
        Point("SAME, channels last", "float64"),
        {"separable:_separable_conv_bwd": gradient(2, _dv_of_x)},
    ),
    # Padding.
    Mutation(
        "the high end dropped in the adjoint of padding",
        "pad",
        Point("circular and reflected, channels first", "float64"),
        {"algorithms.border:reduce": _ends_changed(_high_end_dropped)},
    ),
    Mutation(
        "circular padding forgotten in a convolution's dx",
        "conv",
        Point("circular and reflected, stride 2", "float64"),
        {"algorithms.border:reduce": _ends_changed(lambda border, end, axis, high: jnp.zeros_like(end))},
    ),
    Mutation(
        "REFLECT's end not turned",
        "pad",
        Point("circular and reflected, channels first", "float64"),
        {"algorithms.border:reduce": _ends_changed(_end_not_turned)},
    ),
    Mutation(
        "REPLICATE's end not summed",
        "pad",
        Point("symmetric, replicated, zeros", "float64"),
        {"algorithms.border:reduce": _ends_changed(_end_not_summed)},
    ),
    Mutation(
        "SYMMETRIC's end brought home as REFLECT's",
        "pad",
        Point("symmetric, replicated, zeros", "float64"),
        {"algorithms.border:reduce": _reflected},
    ),
    # Patches, blocks.
    Mutation("overlapping patches overwritten", "conv_patches", EVERY, {"algorithms:fold": _overwritten}),
    Mutation("taps in column-major order", "conv_patches", EVERY, {"algorithms:fold": _taps_by_column}),
    Mutation("fold's gradient with the channel first", "fold", EVERY, {"algorithms:patches": _channels_first_in_rows}),
    Mutation(
        "a block's positions in column-major order",
        "space_to_depth",
        Point("two axes", "float64"),
        {"patches:_to_space": _block_with(_block_by_column)},
    ),
    Mutation(
        "a block's positions after the channels",
        "space_to_depth",
        Point("two axes", "float64"),
        {"patches:_to_space": _block_with(_block_last)},
    ),
)
