"""Shifted views of an array, one per tap of a window, and sums over them."""

import itertools
import math

import jax.numpy as jnp
from jax import lax

# Up to this many terms a sum over taps is written out, so that XLA fuses it into one pass; beyond, a loop keeps the
# program small (a 31x31 window has 961 taps).
UNROLLED = 32


def fold(body, carry, items, unrolled=None):
    """carry = body(carry, number, item) for every item, a tuple of ints; a loop if there are more than `unrolled`."""
    # With a loop, the first item still comes before it: from then on the carry has the type that the body gives it.
    written_out = len(items) if len(items) <= (UNROLLED if unrolled is None else unrolled) else 1
    for number, item in enumerate(items[:written_out]):
        carry = body(carry, number, item)
    if written_out == len(items):
        return carry
    numbered = (jnp.arange(1, len(items), dtype=jnp.int32), jnp.asarray(items[1:], jnp.int32))
    return lax.scan(lambda carry, item: (body(carry, item[0], tuple(item[1])), None), carry, numbered)[0]


def in_groups(sizes, most):
    """All taps of a window of these sizes in groups of at most `most`, alike but for where they start.

    Returns (starts, offsets) pairs, both lists of tuples: the taps start + offset for every start and every offset. One
    pair with one start if all fit into a group; otherwise a group is a piece of a row, and what is left of the rows
    makes a second pair. Each pair's taps, in order, are those of a part of the innermost axis in row-major order.
    """
    if math.prod(sizes) <= most:
        return [([(0,) * len(sizes)], list(itertools.product(*map(range, sizes))))]
    *outer, row = sizes
    piece = min(row, most)
    pairs = []
    for begin, end, length in ((0, row - row % piece, piece), (row - row % piece, row, row % piece)):
        if length:
            starts = list(itertools.product(*map(range, outer), range(begin, end, length)))
            pairs.append((starts, [(*(0,) * len(outer), j) for j in range(length)]))
    return pairs


def over_taps(function, window, most):
    """function(start, offsets), an array with an entry for each tap start + offset, for all taps: (*R, ...).

    At most so many taps are written out, the rest is a loop.
    """
    if window.tap_count <= most:
        part = function((0,) * window.ndim, list(window.taps()))
        return part.reshape(*window.window_size, *part.shape[1:])
    parts = []
    for starts, offsets in in_groups(window.window_size, most):
        if len(starts) == 1:
            part = function(starts[0], offsets)
        else:
            part = lax.map(lambda start, o=offsets: function(tuple(start), o), jnp.asarray(starts, jnp.int32))
            part = part.reshape(-1, *part.shape[2:])
        row = len(starts) * len(offsets) // math.prod(window.window_size[:-1])
        parts.append(part.reshape(*window.window_size[:-1], row, *part.shape[1:]))
    return jnp.concatenate(parts, window.ndim - 1)


def plus(tap, offset):
    """The sum of two taps; either may be traced."""
    return tuple(i + j for i, j in zip(tap, offset, strict=True))


def at(table, tap):
    """table[tap], for taps that may be traced, without a gather."""
    if all(isinstance(i, int) for i in tap):
        return table[tap]
    rest = table.shape[len(tap) :]
    starts = [jnp.asarray(i, jnp.int32) for i in tap] + [jnp.zeros((), jnp.int32)] * len(rest)
    return lax.dynamic_slice(table, starts, (*(1,) * len(tap), *rest)).reshape(rest)


def padded(x, window, fill):
    """x with the window's padding, negative ones cropped, as an array of its own."""
    if all(pads == (0, 0) for pads in window.padding):
        return x
    config = [(low, high, 0) for low, high in window.padding]
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def tap_views(x, window, fill):
    """A function from a tap to x[n, s·p + d·i − l, c] for all p; fill where that is padding."""
    # Padded once, as an array of its own: a pad inside a sum would be checked again at every element of every term.
    x = padded(x, window, fill)
    sizes = [s * (o - 1) + 1 for o, s in zip(window.output_size, window.strides, strict=True)]

    def view(tap):
        starts = [i * d for i, d in zip(tap, window.dilation, strict=True)]
        return sliced(x, starts, sizes, window.strides)

    return view


def sliced(a, starts, sizes, strides):
    """a[:, start : start + size : stride, :] on every spatial axis; the starts may be traced."""
    starts = (0, *starts, 0)
    sizes = (a.shape[0], *sizes, a.shape[-1])
    strides = (1, *strides, 1)
    if all(isinstance(start, int) for start in starts):
        return lax.slice(a, starts, [start + size for start, size in zip(starts, sizes, strict=True)], strides)
    starts = [jnp.asarray(start, jnp.int32) for start in starts]
    return lax.slice(lax.dynamic_slice(a, starts, sizes), (0,) * a.ndim, sizes, strides)
