"""The input gradient of a strided convolution as a matrix product, whose rows are then added up where they meet.

    P[n,p,(i,c)] = sum_k dy[n,p,k] · w[i,c,k]                      [N·O x K] · [K x R·C] -> [N·O x R·C]
    dx[n,u,c]    = sum_{p,i : s·p + d·i − l = u} P[n,p,(i,c)]

No product is with a zero, and w stays as it is. With u + l = s·q + r and p = q − m, tap i meets u where d·i = r + s·m
(as in periods.py): one term for each m < M = ceil((d(R−1) + 1)/s) per axis, a row of C channels that is gathered. P is
R/s per axis times as large as dx, so it is made for some images at a time, or for some rows of one. For CPUs and
groups = 1, where s > 1 or there are few channels c, and an element of P is a sum that takes longer than to write and
read it.

Why not lax's own form: it convolves a dy dilated by s. XLA:CPU's library takes that in two dimensions, though not at
its full speed; in three it is a loop nest. Figures in experiments/README.md.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.algorithms.apart import apart, made_apart
from jaxconv.algorithms.blocks import flat_zeros, is_for_one_block, loop, nowhere
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.algorithms.gathers import reader
from jaxconv.algorithms.periods import reaching, steps

# Bytes of P, and of the dy that it is made of, in a block of several.
BLOCK = 8 << 20


def conv(x, w, window, groups, precision, dtype):
    """(1), with stride 1: y[n,p,k] = sum_{i,c} x[n, p + d·i − l, c] · w[i,c,k].

    As the input gradient of the convolution with the reversed w, whose dy x is; for few outputs k.
    """
    w = jnp.swapaxes(lax.rev(w, range(window.ndim)), -1, -2)
    return input_grad(x, w, window.input_grad_window, groups, precision, dtype)


@apart
def input_grad(dy, w, window, groups, precision, dtype):
    """(2) dx[n,u,c] = sum_{p,i,k : s·p + d·i − l = u} w[i,c,k] · dy[n,p,k]."""
    assert groups == 1
    batch, (channels, k), wide = dy.shape[0], w.shape[-2:], accumulator(dtype)
    size, (first, *others) = window.input_size, window.output_size
    line = math.prod(others) * window.tap_count  # rows of P that one place of dy, on the first axis, makes
    itemsize = np.dtype(wide).itemsize
    fit = BLOCK // (math.prod(others) * max(window.tap_count * channels, k) * itemsize)
    if is_for_one_block(batch, window.ndim, batch * first * line * channels * itemsize):
        fit = batch * first
    images = max((n for n in range(1, batch + 1) if batch % n == 0 and n * first <= fit), default=1)
    height, lines = (size[0], first) if first <= fit else _part(window, fit)
    parts, is_part = -(-size[0] // height), lines < first  # one part may be all of dx, and not read all of dy
    rows = _rows_read(window, height, is_part)
    dy, w = dy.reshape(batch, first, -1, k), w.reshape(-1, k).astype(wide)

    def block(number):
        """Some images of dx, or a part of one: so many of its places on the first axis."""
        image = lax.mul(number, np.int32(images)) if parts == 1 else lax.div(number, np.int32(parts))
        start = moved = np.int32(0)
        if is_part:
            place = lax.mul(lax.rem(number, np.int32(parts)), np.int32(height // window.strides[0]))
            place = lax.add(place, np.int32(_first_read(window)))
            start = lax.clamp(np.int32(0), place, np.int32(first - lines))
            # By so many, none of them exists.
            moved = lax.clamp(np.int32(-lines), lax.sub(place, start), np.int32(lines))
            moved = lax.mul(moved, np.int32(line))
        starts, sizes = (image, start, np.int32(0), np.int32(0)), (images, lines, *dy.shape[2:])
        dy_block = lax.dynamic_slice(dy, starts, sizes, allow_negative_indices=False).reshape(-1, k).astype(wide)
        contracted = (((1,), (1,)), ((), ()))
        p = lax.dot_general(dy_block, w, contracted, precision=precision, preferred_element_type=wide)

        def summed(p, moved):
            """dx[n,u,c], the sum of the rows of P that are not negative."""
            found = [_moved(row, moved, lines * line) for row in rows] if is_part else rows
            read = reader(p.reshape(images, -1, channels), (height, *size[1:]), 0)
            return functools.reduce(lax.add, map(read, found)).astype(dtype)

        return made_apart(summed, p, moved)

    count = batch // images * parts
    shape = (batch, parts * height, *size[1:], channels)

    def put(number, dx):
        start = lax.mul(number, np.int32(math.prod(shape) // count))
        return lax.dynamic_update_slice(dx, block(number).reshape(-1), (start,), allow_negative_indices=False)

    dx = block(np.int32(0)) if count == 1 else loop(put, flat_zeros(shape, dtype, dy, w), count)
    return lax.slice_in_dim(dx.reshape(shape), 0, size[0], axis=1)


def terms(window):
    """How many terms a sum over P has at most."""
    return math.prod(-(-extent // s) for extent, s in zip(window.extent, window.strides, strict=True))


def _moved(row, by, count):
    """The numbers row + by, negative where there are not so many rows; `by` is whole places of the first axis."""
    first, *others = row
    first = lax.add(jnp.asarray(first), lax.broadcast(by, first.shape))
    exists = lax.lt(first, lax.full_like(first, count))
    return (lax.select(exists, first, lax.full_like(first, -1)), *others)


def _first_read(window):
    """The first p, on the first axis, that u = 0 and those after it ask for, whether it exists or not."""
    s, extent = window.strides[0], window.extent[0]
    return window.padding[0][0] // s - (-(-extent // s) - 1)


def _part(window, fit):
    """How many places of dx on the first axis make a part, and how many of dy that reads.

    A multiple of the stride, so that at most `fit` are read, unless most of those would be read by the next part as
    well; all, where dy has no more.
    """
    s, n, o = window.strides[0], window.input_size[0], window.output_size[0]
    besides = -(-window.extent[0] // s) - (window.padding[0][0] % s == 0)
    most = max(1, min(max(fit - besides, 2 * besides), -(-n // s)))
    # Parts of one size, if there are such of half of that and more.
    periods = next((q for q in range(most, most // 2, -1) if n % (q * s) == 0), most)
    return (periods * s, periods + besides) if periods + besides < o else (n, o)


def _rows_read(window, height, is_part):
    """For every shift, the number of the row (p, i) of P with s·p + d·i − l = u, a term per axis, of all u.

    Where there is none, so low that no moving it makes it a number. Of so many places on the first axis; of a part, p
    counts from `_first_read` on there, and it is not asked whether it exists.
    """
    step_p, step_i = steps(window.output_size), steps(window.window_size)

    def terms(axis, p, i):
        exists = i >= 0
        if axis == 0 and is_part:
            p = p - _first_read(window)
        else:
            exists &= (p >= 0) & (p < window.output_size[axis])
        row = p * step_p[axis] * window.tap_count + i * step_i[axis]
        return (np.where(exists, row, nowhere(window.ndim)).astype(np.int32),)

    return [tuple(row for (row,) in shift) for shift in reaching(window, (height, *window.input_size[1:]), terms)]
