"""Patches and their adjoint; depth to space and back: the ops that only move elements, or add them up where they meet.

Tap i of the window at output position p reads x at u = s·p + d·i − l (stride s, dilation d, low padding l), per spatial
axis, with R taps in all and C channels:

    conv_patches  y[n,p,i·C + c] = x[n, s·p + d·i − l, c]
    fold          y[n,u,c]       = sum_{p,i : s·p + d·i − l = u} x[n,p,i·C + c]

Each is the gradient of the other.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
from jax import lax

from jaxconv import algorithms
from jaxconv._arguments import float_arrays
from jaxconv._layout import from_plain, to_plain
from jaxconv.geometry import DataFormat, Layout, Padding, Window, conv_window, layout_of, per_axis, spatial_ndim_of

__all__ = ["conv_patches", "depth_to_space", "fold", "space_to_depth"]


@dataclasses.dataclass(frozen=True)
class _Call:
    """All that is static about a call; what jit and custom_vjp specialise on."""

    window: Window
    layout: Layout


# --- The two forms, on arrays in the user's layout. ---


def _patches_form(call: _Call, x):
    rows = algorithms.patches(to_plain(call.layout, x), call.window)
    return from_plain(call.layout, x.shape, rows.reshape(*rows.shape[:-2], rows.shape[-2] * rows.shape[-1]))


def _fold_form(call: _Call, y):
    rows = to_plain(call.layout, y)
    taps = call.window.tap_count
    rows = rows.reshape(*rows.shape[:-1], taps, rows.shape[-1] // taps)
    return from_plain(call.layout, y.shape, algorithms.fold(rows, call.window))


# --- conv_patches ---


def _conv_patches_primal(call: _Call, x):
    return _patches_form(call, x)


_conv_patches = jax.custom_vjp(_conv_patches_primal, nondiff_argnums=(0,))


def _conv_patches_fwd(call: _Call, x):
    return _conv_patches_primal(call, x), ()


def _conv_patches_bwd(call: _Call, saved, dy):
    # x[n,u,c] stands in y wherever s·p + d·i − l = u, so
    #   dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,i·C + c]
    del saved
    return (_fold_form(call, dy),)


_conv_patches.defvjp(_conv_patches_fwd, _conv_patches_bwd)
_conv_patches_jit = jax.jit(_conv_patches, static_argnums=0)


def conv_patches(
    x: jax.Array,
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """What a convolution's window sees at every position, along the channels (unfold, im2col).

    conv(x, w) is conv_patches(x, kernel_size) times w.reshape(-1, K).

    Formula, per spatial axis, with stride s, dilation d and low padding l; i numbers the R taps in row-major order:

        y[n,p,i·C + c] = x[n, s·p + d·i − l, c]
    Gradient:
        dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,i·C + c]

    `jax.lax.conv_general_dilated_patches` and torch.nn.functional.unfold have the channel first, c·R + i: reshape the
    last axis to (R, C), exchange the two and reshape back.

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        kernel_size: one size per spatial axis. An int stands for every axis of x but the first (batch) and the
            channels.
        strides: s, an int for all spatial axes or one per axis.
        padding: as in `conv`.
        dilation: d, an int for all spatial axes or one per axis.
        data_format: "channels_last" or "channels_first", for x and y.

    Returns:
        y, (*batch, *output, R·C) or (*batch, R·C, *output), of x's dtype.

    Raises:
        ValueError: an option out of range, a window larger than the padded input. TypeError: x is not a floating array.

    Saved for the backward: nothing; the op is linear.

    Reference: K. Chellapilla, S. Puri, P. Simard, High performance convolutional neural networks for document
    processing, 2006.

    Example:
        >>> conv_patches(jnp.arange(4.0).reshape(1, 4, 1), 2)[0].tolist()
        [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    """
    (x,) = float_arrays(x=x)
    layout = layout_of("x", x.shape, spatial_ndim_of("kernel_size", kernel_size, x.ndim), data_format)
    _, input_size, _ = layout.split(x.shape)
    window = conv_window(input_size, kernel_size, strides=strides, padding=padding, dilation=dilation)
    return _conv_patches_jit(_Call(window, layout), x)


# --- fold ---


def _fold_primal(call: _Call, x):
    return _fold_form(call, x)


_fold = jax.custom_vjp(_fold_primal, nondiff_argnums=(0,))


def _fold_fwd(call: _Call, x):
    return _fold_primal(call, x), ()


def _fold_bwd(call: _Call, saved, dy):
    # x[n,p,i·C + c] is added to y[n,u,c] at u = s·p + d·i − l and nowhere else, so
    #   dx[n,p,i·C + c] = dy[n, s·p + d·i − l, c]
    del saved
    return (_patches_form(call, dy),)


_fold.defvjp(_fold_fwd, _fold_bwd)
_fold_jit = jax.jit(_fold, static_argnums=0)


def fold(
    x: jax.Array,
    output_size: int | Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """The adjoint of `conv_patches`: every patch added to the place it comes from (fold, col2im).

    Formula, per spatial axis, with stride s, dilation d and low padding l; i numbers the R taps in row-major order:

        y[n,u,c] = sum_{p,i : s·p + d·i − l = u} x[n,p,i·C + c]
    Gradient:
        dx[n,p,i·C + c] = dy[n, s·p + d·i − l, c]

    Where patches overlap they add up: divide by fold(conv_patches(ones)) for an average.

    Args:
        x: (*batch, *positions, R·C), the patches; (*batch, R·C, *positions) for "channels_first".
        output_size: the spatial sizes of y: an int for all axes or one per axis.
        kernel_size: one size per spatial axis; an int stands for every axis of x but the first and the channels.
        strides: s, as in `conv_patches`, like all that follow; the options are those the patches were made with.
        padding: as in `conv_patches`.
        dilation: as in `conv_patches`.
        data_format: as in `conv_patches`.

    Returns:
        y, (*batch, *output_size, C) or (*batch, C, *output_size), of x's dtype; bfloat16 and float16 are summed in
        float32.

    Raises:
        ValueError: x is not as large as the patches of an array of this size. TypeError: x is not a floating array.

    Saved for the backward: nothing; the op is linear.

    Reference: torch.nn.functional.fold, whose channels are in the other order (see `conv_patches`).

    Example:
        >>> patches = conv_patches(jnp.ones((1, 4, 1)), 2)
        >>> fold(patches, 4, 2).ravel().tolist()
        [1.0, 2.0, 2.0, 1.0]
    """
    (x,) = float_arrays(x=x)
    ndim = spatial_ndim_of("kernel_size", kernel_size, x.ndim)
    layout = layout_of("x", x.shape, ndim, data_format)
    output_size = per_axis("output_size", output_size, ndim, minimum=0)
    window = conv_window(output_size, kernel_size, strides=strides, padding=padding, dilation=dilation)
    batch, positions, channels = layout.split(x.shape)
    if positions != window.output_size or channels % window.tap_count:
        expected = layout.join(batch, window.output_size, max(1, channels // window.tap_count) * window.tap_count)
        raise ValueError(
            f"x: got shape {x.shape}, expected such as {expected}: {window.output_size} positions, those of the "
            f"patches of an array of spatial size {output_size}, and a multiple of the {window.tap_count} taps as "
            "channels"
        )
    return _fold_jit(_Call(window, layout), x)


# --- space_to_depth and depth_to_space ---


@dataclasses.dataclass(frozen=True)
class _BlockCall:
    block: tuple[int, ...]
    layout: Layout


def _to_depth(call: _BlockCall, x):
    """y[n, q, (r, c)] = x[n, b·q + r, c]."""
    shape, ndim = x.shape, len(call.block)
    x = to_plain(call.layout, x)
    split = [size for n, b in zip(x.shape[1:-1], call.block, strict=True) for size in (n // b, b)]
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    x = x.transpose(0, *range(1, 2 * ndim, 2), *range(2, 2 * ndim + 1, 2), 2 * ndim + 1)
    x = x.reshape(*x.shape[: ndim + 1], math.prod(call.block) * x.shape[-1])
    return from_plain(call.layout, shape, x)


def _to_space(call: _BlockCall, y):
    """x[n, b·q + r, c] = y[n, q, (r, c)], the inverse and the adjoint of _to_depth."""
    shape, ndim = y.shape, len(call.block)
    y = to_plain(call.layout, y)
    sizes = [n * b for n, b in zip(y.shape[1:-1], call.block, strict=True)]
    channels = y.shape[-1] // math.prod(call.block)
    y = y.reshape(*y.shape[:-1], *call.block, channels)
    order = [axis for pair in zip(range(1, ndim + 1), range(ndim + 1, 2 * ndim + 1), strict=True) for axis in pair]
    y = lax.transpose(y, (0, *order, 2 * ndim + 1))
    return from_plain(call.layout, shape, y.reshape(y.shape[0], *sizes, channels))


def _space_to_depth_primal(call: _BlockCall, x):
    return _to_depth(call, x)


_space_to_depth = jax.custom_vjp(_space_to_depth_primal, nondiff_argnums=(0,))


def _space_to_depth_fwd(call: _BlockCall, x):
    return _space_to_depth_primal(call, x), ()


def _space_to_depth_bwd(call: _BlockCall, saved, dy):
    # Every element of x stands in y once: dx[n, b·q + r, c] = dy[n, q, r·C + c].
    del saved
    return (_to_space(call, dy),)


_space_to_depth.defvjp(_space_to_depth_fwd, _space_to_depth_bwd)
_space_to_depth_jit = jax.jit(_space_to_depth, static_argnums=0)


def space_to_depth(
    x: jax.Array, block_size: int | Sequence[int], *, data_format: DataFormat = "channels_last"
) -> jax.Array:
    """Blocks of positions as channels: b times fewer positions along every spatial axis, the product of the b channels.

    Formula, per spatial axis with block size b; r numbers the B positions of a block in row-major order:

        y[n, q, r·C + c] = x[n, b·q + r, c]
    Gradient:
        dx[n, b·q + r, c] = dy[n, q, r·C + c]

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        block_size: b, one per spatial axis. An int stands for every axis of x but the first (batch) and the channels.
        data_format: "channels_last" or "channels_first", for x and y.

    Returns:
        y, (*batch, *spatial/b, B·C) or (*batch, B·C, *spatial/b), of x's dtype.

    Raises:
        ValueError: a spatial size that is no multiple of its block size. TypeError: x is not a floating array.

    Saved for the backward: nothing; the op moves elements.

    Reference: W. Shi et al., Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network, CVPR 2016. torch.nn.functional.pixel_unshuffle has the channels as c·B + r.

    Example:
        >>> space_to_depth(jnp.arange(4.0).reshape(1, 2, 2, 1), 2).tolist()
        [[[[0.0, 1.0, 2.0, 3.0]]]]
    """
    x, call = _prepare_blocks(x, block_size, data_format)
    _, sizes, _ = call.layout.split(x.shape)
    if any(n % b for n, b in zip(sizes, call.block, strict=True)):
        raise ValueError(
            f"x: got spatial sizes {sizes}, expected multiples of block_size {call.block}: pad or crop x first (pad)"
        )
    return _space_to_depth_jit(call, x)


def _depth_to_space_primal(call: _BlockCall, x):
    return _to_space(call, x)


_depth_to_space = jax.custom_vjp(_depth_to_space_primal, nondiff_argnums=(0,))


def _depth_to_space_fwd(call: _BlockCall, x):
    return _depth_to_space_primal(call, x), ()


def _depth_to_space_bwd(call: _BlockCall, saved, dy):
    # Every element of x stands in y once: dx[n, q, r·C + c] = dy[n, b·q + r, c].
    del saved
    return (_to_depth(call, dy),)


_depth_to_space.defvjp(_depth_to_space_fwd, _depth_to_space_bwd)
_depth_to_space_jit = jax.jit(_depth_to_space, static_argnums=0)


def depth_to_space(
    x: jax.Array, block_size: int | Sequence[int], *, data_format: DataFormat = "channels_last"
) -> jax.Array:
    """Channels as blocks of positions: the inverse, and the adjoint, of `space_to_depth` (pixel shuffle).

    Formula, per spatial axis with block size b; r numbers the B positions of a block in row-major order:

        y[n, b·q + r, c] = x[n, q, r·C + c]
    Gradient:
        dx[n, q, r·C + c] = dy[n, b·q + r, c]

    Args:
        x: (*batch, *spatial, B·C), with no, one or many batch axes; (*batch, B·C, *spatial) for "channels_first".
        block_size: b, one per spatial axis. An int stands for every axis of x but the first (batch) and the channels.
        data_format: "channels_last" or "channels_first", for x and y.

    Returns:
        y, (*batch, *spatial·b, C) or (*batch, C, *spatial·b), of x's dtype.

    Raises:
        ValueError: a number of channels that is no multiple of the block's positions. TypeError: x is not a floating
            array.

    Saved for the backward: nothing; the op moves elements.

    Reference: W. Shi et al., Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network, CVPR 2016. torch.nn.functional.pixel_shuffle has the channels as c·B + r.

    Example:
        >>> depth_to_space(jnp.arange(4.0).reshape(1, 1, 1, 4), 2)[0, :, :, 0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    x, call = _prepare_blocks(x, block_size, data_format)
    _, _, channels = call.layout.split(x.shape)
    if channels % math.prod(call.block):
        raise ValueError(
            f"x: got {channels} channels in shape {x.shape}, expected a multiple of {math.prod(call.block)}, the "
            f"positions in a block of {call.block}"
        )
    return _depth_to_space_jit(call, x)


def _prepare_blocks(x, block_size, data_format) -> tuple[jax.Array, _BlockCall]:
    (x,) = float_arrays(x=x)
    ndim = spatial_ndim_of("block_size", block_size, x.ndim)
    layout = layout_of("x", x.shape, ndim, data_format)
    return x, _BlockCall(per_axis("block_size", block_size, ndim, minimum=1), layout)
