"""A convolution over three or more axes as two-dimensional ones, a block of positions at a time.

    y[n,p',p,k] = sum_{i,(i',c)} X[n,p', s·p + d·i − l, (i',c)] · w[i,(i',c),k]

where p' and i' are positions and taps of all axes but the last two, and X has side by side, as channels, what the taps
i' read. Positions p' are examples to the two-dimensional convolution. For CPUs and groups = 1: XLA:CPU's library is
slow over three axes. Figures in experiments/README.md.
"""

import dataclasses
import itertools
import math

import jax.numpy as jnp
from jax import lax

from jaxconv._arguments import varying_alike
from jaxconv.algorithms.blocks import blocks
from jaxconv.algorithms.views import sliced

# Bytes of X.
BLOCK = 1 << 21


def conv(x, w, window, groups, precision, dtype, dense):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]; dense is (1) in two dimensions."""
    assert groups == 1
    outer = range(window.ndim - 2)
    taps = list(itertools.product(*(range(window.window_size[axis]) for axis in outer)))
    none = ((0, 0),) * window.ndim
    # Padded for the outer axes here, for the planes by the plane's convolution.
    outer_padding = dataclasses.replace(window, padding=(*window.padding[:-2], *none[-2:]))
    plane = dataclasses.replace(
        window, **{f.name: getattr(window, f.name)[-2:] for f in dataclasses.fields(window) if f.name != "borders"}
    )
    channels, features = w.shape[-2:]
    w = w.reshape(len(taps), *plane.window_size, channels, features)
    w = jnp.moveaxis(w, 0, 2).reshape(*plane.window_size, -1, features)
    per_position = len(taps) * math.prod(plane.input_size) * channels * x.dtype.itemsize
    per_position = -(-per_position // math.prod(plane.output_size))
    all_blocks = blocks(window, x.shape[0], per_position, BLOCK)
    x, positions = all_blocks.prepared(x, outer_padding), all_blocks.positions

    def product(number):
        block = all_blocks.input(x, number, outer_padding)
        views = []
        for tap in taps:
            starts = [i * d for i, d in zip(tap, window.dilation, strict=False)]
            sizes = [s * (o - 1) + 1 for o, s in zip(positions[:-2], window.strides, strict=False)]
            views.append(sliced(block, (*starts, 0, 0), (*sizes, *plane.input_size), (*window.strides[:-2], 1, 1)))
        side_by_side = jnp.concatenate(views, -1).reshape(-1, *plane.input_size, len(taps) * channels)
        y = dense(side_by_side, w, plane, 1, precision, dtype)
        return y.reshape(all_blocks.images, *positions, features)

    if all_blocks.count == 1:
        return product(0)
    y = varying_alike(jnp.zeros((x.shape[0], *window.output_size, features), dtype), x, w)[0]
    return lax.scan(lambda y, number: (all_blocks.put(y, product(number), number), None), y, all_blocks.numbers)[0]
