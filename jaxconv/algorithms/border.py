"""Arrays made longer by their own values, and the adjoint: what was repeated comes home, as sums of slices.

Position v of the longer axis holds x[m(v)] (`geometry.Border` has m), so that with dy its cotangent

    dx[u] = sum_{v : m(v) = u} dy[v]

m is the identity on the middle of the longer axis, and on each of its two ends a shift, a reflection or constant: so dx
is the middle of dy plus the two ends, turned and put where they came from. No scatter.
"""

import jax.numpy as jnp
from jax import lax


def extend(x, borders):
    """x (N, *spatial, C) with these borders put on."""
    for border in borders:
        axis = border.axis + 1
        if border.mode == "ZERO":
            config = [(0, 0, 0)] * x.ndim
            config[axis] = (border.low, border.high, 0)
            x = lax.pad(x, jnp.zeros((), x.dtype), config)
            continue
        n = x.shape[axis]
        ends = [
            _turned(border.mode, lax.slice_in_dim(x, *_source(border.mode, n, size, high), axis=axis), size, axis)
            for high, size in enumerate((border.low, border.high))
        ]
        x = lax.concatenate([ends[0], x, ends[1]], axis)
    return x


def reduce(dy, borders):
    """The adjoint of extend, from dy (N, *longer, C) to dx (N, *spatial, C)."""
    for border in reversed(borders):
        axis = border.axis + 1
        if border.mode == "ZERO":
            config = [(0, 0, 0)] * dy.ndim
            config[axis] = (-border.low, -border.high, 0)
            dy = lax.pad(dy, jnp.zeros((), dy.dtype), config)
            continue
        n = dy.shape[axis] - border.low - border.high
        dx = lax.slice_in_dim(dy, border.low, border.low + n, axis=axis)
        for high, (start, size) in enumerate(((0, border.low), (border.low + n, border.high))):
            if not size:
                continue
            end = lax.slice_in_dim(dy, start, start + size, axis=axis)
            if border.mode == "REPLICATE":
                end = jnp.sum(end, axis, keepdims=True)
            else:
                end = _turned(border.mode, end, size, axis)
            first, last = _source(border.mode, n, size, high)
            config = [(0, 0, 0)] * dy.ndim
            config[axis] = (first, n - last, 0)
            dx = dx + lax.pad(end, jnp.zeros((), dx.dtype), config)
        dy = dx
    return dy


def _source(mode: str, n: int, size: int, high: int) -> tuple[int, int]:
    """Where in an axis of size n the values of its low end (or high end) come from: [first, last)."""
    if mode == "CIRCULAR":
        return (0, size) if high else (n - size, n)
    if mode == "REPLICATE":
        size = min(size, 1)
        return (n - size, n) if high else (0, size)
    skipped = mode == "REFLECT" and size > 0  # an empty axis has no end element to leave out
    return (n - size - skipped, n - skipped) if high else (0 + skipped, size + skipped)


def _turned(mode: str, end, size: int, axis: int):
    """The values of an end in their order there; REFLECT and SYMMETRIC are their own inverse."""
    if mode == "CIRCULAR":
        return end
    if mode == "REPLICATE":
        return jnp.repeat(end, size, axis) if size else end
    return lax.rev(end, (axis,))
