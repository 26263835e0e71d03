"""Patches: every window of an array as a row of its own, and the adjoint, which adds the rows up where they overlap.

Forward, tap i of all windows is one strided slice. Backward, as in taps.py: with the padded position v = s·q + r, tap i
of window p = q − m reaches v when d·i = r + s·m, so each of the s phases r of dx is a sum of slices, one per tap that
meets it, and the phases are put side by side: no scatter, and no array dilated by zeros.
"""

import itertools

import jax.numpy as jnp
from jax import lax

from jaxconv.algorithms.taps import from_periods, shifts
from jaxconv.algorithms.views import sliced, tap_views


def patches(x, window):
    """rows[n, p, i, c] = x[n, s·p + d·i − l, c], as (N, *output, R, C), taps in row-major order; 0 from padding."""
    view = tap_views(x, window, 0)
    return jnp.stack([view(tap) for tap in window.taps()], axis=-2)


def fold(rows, window):
    """x[n,u,c] = sum_{p,i : s·p + d·i − l = u} rows[n, p, i, c], the adjoint of patches."""
    moves, taps_at, shape = shifts((*rows.shape[:-2], rows.shape[-1]), window)
    periods = shape[1:-1:2]
    most = [-(-extent // s) - 1 for extent, s in zip(window.extent, window.strides, strict=True)]
    config = [(m, q - o, 0) for m, q, o in zip(most, periods, window.output_size, strict=True)]
    rows = lax.pad(rows, jnp.zeros((), rows.dtype), [(0, 0, 0), *config, (0, 0, 0), (0, 0, 0)])
    phases = []
    for phase in itertools.product(*map(range, window.strides)):
        terms = [
            sliced(rows[..., tap, :], [a - m for a, m in zip(most, move, strict=True)], periods, (1,) * window.ndim)
            for move, tap in zip(moves, (int(table[phase]) for table in taps_at), strict=True)
            if tap != window.tap_count
        ]
        empty = jnp.zeros((rows.shape[0], *periods, rows.shape[-1]), rows.dtype)
        phases.append(sum(terms[1:], terms[0]) if terms else empty)
    # (N, *Q, s1·s2.., C) -> (N, Q1, s1, Q2, s2, .., C)
    ndim = window.ndim
    x = jnp.stack(phases, axis=-2).reshape(rows.shape[0], *periods, *window.strides, rows.shape[-1])
    order = itertools.chain.from_iterable((axis, axis + ndim) for axis in range(1, ndim + 1))
    x = x.transpose(0, *order, 2 * ndim + 1)
    return from_periods(x, window)
