"""The input gradient of a strided convolution as one convolution of dy, the phases of the stride as its channels.

With the position v = u + l of dx written v = s·q + r (as in periods.py), and M = ceil(R/s):

    dx[n, s·q + r − l, c] = sum_{m,k} dy[n, q − m, k] · w[r + s·m, c, k]          0 <= r < s, 0 <= m < M

which is a convolution of dy, stride 1, with M taps and s·C outputs (r, c) per axis; the periods are put side by side in
the end. Where R is no multiple of s the kernel gets zeros at the end, and M·s/R times the products. For CPUs and
dilation 1.

Why not lax's own form: it convolves a dy dilated by s. XLA:CPU's library takes that in two dimensions, though not at
its full speed; in three it is a loop nest. Figures in experiments/README.md.
"""

import dataclasses

import jax.numpy as jnp
from jax import lax

from jaxconv.algorithms.apart import apart
from jaxconv.algorithms.periods import from_periods, shifts


@apart
def input_grad(dy, w, window, groups, precision, dtype, dense):
    """(2) dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]; dense is (1)."""
    assert groups == 1
    assert set(window.dilation) == {1}
    ndim, (inputs, outputs) = window.ndim, w.shape[-2:]
    _, _, shape = shifts((*dy.shape[:-1], inputs), window)
    counts = [-(-r // s) for r, s in zip(window.window_size, window.strides, strict=True)]
    gaps = [(0, m * s - r, 0) for m, s, r in zip(counts, window.strides, window.window_size, strict=True)]
    # (*R, C, K) -> (M, s, M, s, ..., C, K) -> (*M, K, *s, C), reversed in m.
    w = lax.pad(w, jnp.zeros((), w.dtype), [*gaps, (0, 0, 0), (0, 0, 0)])
    w = w.reshape(*(n for pair in zip(counts, window.strides, strict=True) for n in pair), inputs, outputs)
    w = w.transpose(*range(0, 2 * ndim, 2), -1, *range(1, 2 * ndim, 2), -2)
    w = lax.rev(w.reshape(*counts, outputs, -1), range(ndim))
    periods = shape[1:-1:2]
    over_dy = dataclasses.replace(
        window,
        input_size=window.output_size,
        window_size=tuple(counts),
        strides=(1,) * ndim,
        padding=tuple((m - 1, q - o) for m, q, o in zip(counts, periods, window.output_size, strict=True)),
        overhang=(0,) * ndim,
        borders=(),
    )
    dx = dense(dy, w, over_dy, 1, precision, dtype)
    dx = dx.reshape(dy.shape[0], *periods, *window.strides, inputs)
    order = [axis for pair in zip(range(1, ndim + 1), range(ndim + 1, 2 * ndim + 1), strict=True) for axis in pair]
    return from_periods(dx.transpose(0, *order, 2 * ndim + 1), window)
