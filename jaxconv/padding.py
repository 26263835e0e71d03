"""Padding as an op of its own: spatial axes made longer by zeros or by the input's own values, and the adjoint.

    y[n,v,c]  = x[n, m(v), c], or 0 where m(v) is nowhere
    dx[n,u,c] = sum_{v : m(v) = u} dy[n,v,c]

The map m of each mode is in `geometry.Border`; `jaxconv.algorithms.border` computes both lines.
"""

import dataclasses
from collections.abc import Sequence

import jax

from jaxconv._arguments import float_arrays
from jaxconv._layout import from_plain, to_plain
from jaxconv.algorithms import border
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.geometry import Border, DataFormat, Layout, Pad, layout_of, pad_borders, spatial_ndim_of

__all__ = ["pad"]


@dataclasses.dataclass(frozen=True)
class _Call:
    """All that is static about a call; what jit and custom_vjp specialise on."""

    borders: tuple[Border, ...]
    layout: Layout


# --- pad ---


def _pad_primal(call: _Call, x):
    return from_plain(call.layout, x.shape, border.extend(to_plain(call.layout, x), call.borders))


_pad = jax.custom_vjp(_pad_primal, nondiff_argnums=(0,))


def _pad_fwd(call: _Call, x):
    return _pad_primal(call, x), ()


def _pad_bwd(call: _Call, saved, dy):
    # x[n,u,c] stands in y at every v with m(v) = u, so
    #   dx[n,u,c] = sum_{v : m(v) = u} dy[n,v,c]
    del saved
    dy_ = to_plain(call.layout, dy).astype(accumulator(dy.dtype))
    dx = border.reduce(dy_, call.borders).astype(dy.dtype)
    return (from_plain(call.layout, dy.shape, dx),)


_pad.defvjp(_pad_fwd, _pad_bwd)
_pad_jit = jax.jit(_pad, static_argnums=0)


def pad(
    x: jax.Array,
    pads: int | Sequence[int | Pad],
    mode: str | Sequence[str] = "ZERO",
    *,
    data_format: DataFormat = "channels_last",
) -> jax.Array:
    """The spatial axes made longer at both ends: by zeros, or by values of x.

    Formula, per spatial axis of size N, with low padding l:

        y[n,v,c] = x[n, m(v), c]
        with m(v) = v − l inside x, and outside it
        ZERO        nowhere: y is 0
        CIRCULAR    (v − l) mod N: x goes on from its other end
        REFLECT     mirrored at the end element, which is not repeated
        SYMMETRIC   mirrored at the edge, so that the end element is repeated
        REPLICATE   the end element
    Gradient:
        dx[n,u,c] = sum_{v : m(v) = u} dy[n,v,c]

    These are the modes "constant", "wrap", "reflect", "symmetric" and "edge" of `jnp.pad`, and "constant", "circular",
    "reflect" and "replicate" of torch.nn.functional.pad. `conv` and the poolings take the same kinds as padding.

    Args:
        x: (*batch, *spatial, C), with no, one or many batch axes; (*batch, C, *spatial) for "channels_first".
        pads: one int, or one int or (low, high) pair per spatial axis. An int alone stands for every axis of x but the
            first (batch) and the channels. In mode "ZERO" a negative number crops.
        mode: one of the modes above for all spatial axes, or one per axis.
        data_format: "channels_last" or "channels_first".

    Returns:
        y, (*batch, *longer, C) or (*batch, C, *longer), of x's dtype.

    Raises:
        ValueError: an unknown mode, or an axis that has not enough values to repeat: N at least the padding, and one
            more for "REFLECT". TypeError: x is not a floating array, pads are not ints.

    Saved for the backward: nothing; the op is linear.

    Reference: the adjoint of a gather; G. Strang, The discrete cosine transform, SIAM Review 41 (1999), for the two
    reflections.

    Example:
        >>> x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
        >>> pad(x, 2, "CIRCULAR").ravel().tolist()
        [2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0]
        >>> jax.grad(lambda x: pad(x, 2, "REFLECT")[0, 0, 0])(x).ravel().tolist()
        [0.0, 0.0, 1.0]
    """
    (x,) = float_arrays(x=x)
    layout = layout_of("x", x.shape, spatial_ndim_of("pads", pads, x.ndim), data_format)
    _, input_size, _ = layout.split(x.shape)
    return _pad_jit(_Call(pad_borders(input_size, pads, mode), layout), x)
