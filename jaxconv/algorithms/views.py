"""Shifted views of an array, one per tap of a window, and sums over them."""

import itertools

import jax.numpy as jnp
from jax import lax

# Up to this many terms a sum over taps is written out, so that XLA fuses it into one pass; beyond, a loop keeps the
# program small (a 31x31 window has 961 taps).
UNROLLED = 32


def fold(body, carry, items):
    """carry = body(carry, number, item) for every item, a tuple of ints: written out, or a loop if there are many."""
    # With a loop, the first item still comes before it: from then on the carry has the type that the body gives it.
    written_out = len(items) if len(items) <= UNROLLED else 1
    for number, item in enumerate(items[:written_out]):
        carry = body(carry, number, item)
    if written_out == len(items):
        return carry
    numbered = (jnp.arange(1, len(items), dtype=jnp.int32), jnp.asarray(items[1:], jnp.int32))
    return lax.scan(lambda carry, item: (body(carry, item[0], tuple(item[1])), None), carry, numbered)[0]


def stack(function, sizes, unrolled):
    """function(index) stacked over every index, a tuple of ints below sizes; a loop if more than `unrolled`."""
    indices = list(itertools.product(*map(range, sizes)))
    if len(indices) <= unrolled:
        return jnp.stack([function(index) for index in indices])
    return lax.map(lambda index: function(tuple(index)), jnp.asarray(indices, jnp.int32))


def tap_views(x, window, fill):
    """A function from a tap to x[n, s·p + d·i − l, c] for all p; fill where that is padding."""
    if any(pads != (0, 0) for pads in window.padding):
        # Padded once, as an array of its own: a pad inside a sum would be checked again at every element of every term.
        config = [(low, high, 0) for low, high in window.padding]
        x = lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
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
