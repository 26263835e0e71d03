"""The reference: every formula transcribed as a sum over the taps of the window. Slow, plain, and the oracle.

Tap i of the window reads x at u = s·p + d·i − l. `read` takes those elements for all output positions p at once,
`place` puts them back: each is the adjoint of the other, and every formula below is made of these two.
"""

import itertools

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.dtypes import accumulator, tap_dtype


def read(x, window, tap, fill=0.0):
    """x[n, s·p + d·i − l, c] for every p: [N x *input x C] -> [N x *output x C]; fill where that is padding."""
    low_high = []
    for n, o, s, d, (low, _), i in _axes(window, tap):
        start = d * i - low
        low_high.append((-start, start + s * (o - 1) + 1 - n, 0))
    x = lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0), *low_high, (0, 0, 0)])
    return lax.slice(x, (0,) * x.ndim, x.shape, (1, *window.strides, 1))


def place(y, window, tap):
    """The adjoint of read: element p of y at position s·p + d·i − l, zeros elsewhere."""
    config = []
    for n, o, s, d, (low, _), i in _axes(window, tap):
        start = d * i - low
        config.append((start, n - 1 - s * (o - 1) - start, s - 1))
    return lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def _axes(window, tap):
    return zip(window.input_size, window.output_size, window.strides, window.dilation, window.padding, tap, strict=True)


def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]."""
    x, w = (a.astype(accumulator(dtype, a.dtype)) for a in (x, w))
    y = jnp.zeros((x.shape[0], *window.output_size, w.shape[-1]), x.dtype)
    for i in window.taps():
        # [N·O x G x C/G] · [G x C/G x K/G] -> [N·O x G x K/G]
        term = jnp.einsum(
            "...gc,cgk->...gk", _split(read(x, window, i), groups), _split(w[i], groups), precision=precision
        )
        y += term.reshape(y.shape)
    return y.astype(dtype)


def input_grad(dy, w, window, groups, precision, dtype):
    """(2) dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]."""
    dy, w = (a.astype(accumulator(dtype, a.dtype)) for a in (dy, w))
    dx = jnp.zeros((dy.shape[0], *window.input_size, w.shape[-2] * groups), dy.dtype)
    for i in window.taps():
        # [N·O x G x K/G] · [G x K/G x C/G] -> [N·O x G x C/G]
        term = jnp.einsum("...gk,cgk->...gc", _split(dy, groups), _split(w[i], groups), precision=precision)
        dx += place(term.reshape(*dy.shape[:-1], dx.shape[-1]), window, i)
    return dx.astype(dtype)


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    x, dy = (a.astype(accumulator(dtype, a.dtype)) for a in (x, dy))
    # [G x C/G x N·O] · [G x N·O x K/G] -> [C/G x G x K/G], for every tap
    terms = [
        jnp.einsum("...gc,...gk->cgk", _split(read(x, window, i), groups), _split(dy, groups), precision=precision)
        for i in window.taps()
    ]
    return jnp.stack(terms).reshape(*window.window_size, x.shape[-1] // groups, dy.shape[-1]).astype(dtype)


def _split(a, groups):
    """The last axis as (groups, rest)."""
    return a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)


def extremum(x, window, largest):
    """y[n,p,c] = max_i x[n, s·p + d·i − l, c] (or min) and the first tap, in row-major order, that attains it."""
    fill = -jnp.inf if largest else jnp.inf
    inside = jnp.ones_like(x, dtype=bool)
    values = jnp.stack([read(x, window, i, fill) for i in window.taps()])
    # A NaN is the extremum of its window; among equals the first tap on the input wins, never one on the padding.
    score = jnp.where(jnp.isnan(values), jnp.inf, values if largest else -values)
    best = jnp.isnan(values) | ((score == score.max(0, keepdims=True)) & ~jnp.isnan(values).any(0, keepdims=True))
    on_input = jnp.stack([read(inside, window, i, False) for i in window.taps()])
    tap = jnp.argmax(best.astype(jnp.int32) * (1 + on_input.astype(jnp.int32)), axis=0)
    y = jnp.take_along_axis(values, tap[None], axis=0)[0]
    return y, tap.astype(tap_dtype(window))


def extremum_grad(dy, tap, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c] · [tap[n,p,c] = i]."""
    acc = dy.astype(accumulator(dy.dtype))
    dx = jnp.zeros((), acc.dtype)
    for number, i in enumerate(window.taps()):
        dx = dx + place(jnp.where(tap == number, acc, 0), window, i)
    return dx.astype(dy.dtype)


def soft_maximum(x, window, share, padding, least):
    """m[n,p,c] = max_i x[n,u,c] at u = s·p + d·i − l; r[n,p,c] = sum_i share(x[n,u,c], m) but for the largest."""
    values = jnp.stack([read(x, window, i, padding) for i in window.taps()])
    first = jnp.argmax(values, axis=0)[None]
    m = jnp.maximum(jnp.max(values, axis=0), least)
    shares = share(values, m[None])
    others = jnp.put_along_axis(shares, first, 0.0, axis=0, inplace=False)
    return m, jnp.sum(others, axis=0) + (jnp.take_along_axis(shares, first, axis=0)[0] - 1)


def soft_maximum_grad(dy, x, y, window, weight, padding, absent):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} weight(x[n,u,c], y[n,p,c]) · dy[n,p,c]."""
    del absent
    terms = (place(weight(read(x, window, i, padding), y) * dy, window, i) for i in window.taps())
    return sum(terms, jnp.zeros((), dy.dtype))


def window_sum(x, window):
    """y[n,p,c] = sum_i x[n, s·p + d·i − l, c], of the accumulator's dtype."""
    acc = x.astype(accumulator(x.dtype))
    return sum((read(acc, window, i) for i in window.taps()), jnp.zeros((), acc.dtype))


def window_sum_grad(dy, window):
    """dx[n,u,c] = sum_{p,i : s·p + d·i − l = u} dy[n,p,c], of the accumulator's dtype."""
    acc = dy.astype(accumulator(dy.dtype))
    return sum((place(acc, window, i) for i in window.taps()), jnp.zeros((), acc.dtype))


def adaptive_sum(x, window):
    """y[n,p,c] = sum_{u in window p} x[n,u,c]."""
    parts = [x[inside].sum(tuple(range(1, x.ndim - 1))) for inside in _parts(window)]
    return jnp.stack(parts, 1).reshape(x.shape[0], *window.output_size, x.shape[-1])


def adaptive_extremum(x, window, largest):
    """y[n,p,c] = max_{u in window p} x[n,u,c] (or min), and the first tap, in row-major order, that attains it."""
    values, taps = [], []
    for inside in _parts(window):
        part = x[inside]
        flat = part.reshape(x.shape[0], -1, x.shape[-1])
        at = (jnp.argmax if largest else jnp.argmin)(flat, axis=1)
        values.append(jnp.take_along_axis(flat, at[:, None], axis=1)[:, 0])
        taps.append(jnp.ravel_multi_index(jnp.unravel_index(at, part.shape[1:-1]), window.window_size, mode="clip"))
    y, tap = (jnp.stack(a, 1).reshape(x.shape[0], *window.output_size, x.shape[-1]) for a in (values, taps))
    return y, tap.astype(tap_dtype(window))


def adaptive_extremum_grad(dy, tap, window):
    """dx[n,u,c] = sum_{p : u in window p} dy[n,p,c] · [tap[n,p,c] is at u]."""
    dx = jnp.zeros((dy.shape[0], *window.input_size, dy.shape[-1]), accumulator(dy.dtype))
    numbers = np.arange(window.tap_count).reshape(1, *window.window_size, 1)
    for p, inside in zip(np.ndindex(*window.output_size), _parts(window), strict=True):
        sizes = tuple(slice(part.stop - part.start) for part in inside[1:])
        at = jnp.expand_dims(tap[:, *p], range(1, window.ndim + 1))
        won = at == numbers[:, *sizes].astype(tap.dtype)
        dx = dx.at[inside].add(
            jnp.where(won, jnp.expand_dims(dy[:, *p], range(1, window.ndim + 1)), 0).astype(dx.dtype)
        )
    return dx.astype(dy.dtype)


def _parts(window):
    """The slices of every window, in row-major order."""
    along = [list(map(slice, window.starts(axis), window.ends(axis))) for axis in range(window.ndim)]
    return [(slice(None), *part) for part in itertools.product(*along)]
