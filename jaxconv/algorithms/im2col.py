"""The convolution and its gradients as matrix products over all taps side by side, a block of positions at a time.

With X the (positions x taps·C) matrix of what the windows of a block read,

    y  = X · w                 [m x R·C] · [R·C x K] -> [m x K], block by block; dx with stride 1 in the same way
    dW = sum dYᵀ · X           [K x m] · [m x R·C] -> [K x R·C], over all blocks

X is made by one gather: each row of it is taps rows of C channels of x, by their number, or zeros where that is padding.
Slices side by side, one per tap, are several times slower to make and ten times slower to compile, and need a padded
copy of x. A whole batch at once loses: X is R times as large as x, and memory costs more than the arithmetic. In dW a
product that sums over both leading axes runs at half the speed of one over neighbouring axes, so one of the two is
transposed: dY as a rule, X where it has few channels and its rows are short. For CPUs and groups = 1, any number of axes. Figures in experiments/README.md.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv._arguments import varying_alike
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.algorithms.views import over_taps
from jaxconv.geometry import Window

# Up to this many channels X is transposed.
FEW = 4
# Bytes of X, and of X to be transposed.
BLOCK, BLOCK_FEW = 5 << 20, 1 << 20
# Taps side by side at most in a kernel gradient; more make several passes.
TAPS = 64
# Bytes of what the windows of an image read, by number, as a constant of the program; what is larger is computed.
CONSTANT = 1 << 21


def conv(x, w, window, groups, precision, dtype):
    """(1) y[n,p,k] = sum_{i,c} x[n, s·p + d·i − l, c] · w[i,c,k]."""
    assert groups == 1
    return _convolution(x, w.reshape(-1, w.shape[-1]), 0, window, list(window.taps()), precision, dtype)


def input_grad(dy, w, window, groups, precision, dtype):
    """(2), with stride 1: dx[n,u,c] = sum_{p,i,k : p + d·i − l = u} w[i,c,k] · dy[n,p,k]."""
    assert groups == 1
    # The taps are reversed where they are read, and w is (C, R·K): moving rows of K is all that is done to it. XLA:CPU
    # takes longer to turn a large kernel's channels around than for the product.
    channels, outputs = w.shape[-2:]
    w = jnp.moveaxis(w.reshape(-1, channels, outputs), 1, 0).reshape(channels, -1)
    window = window.input_grad_window
    return _convolution(dy, lax.optimization_barrier(w), 1, window, list(window.taps())[::-1], precision, dtype)


def _convolution(x, w, axis, window, taps, precision, dtype):
    """x, with these taps of a window side by side, times w, summed over this axis of w."""
    wide, k = accumulator(dtype), w.shape[1 - axis]
    blocks = _blocks(window, x.shape, window.tap_count, wide, BLOCK)
    w, rows = w.astype(wide), blocks.rows(x, (0,) * window.ndim, taps)

    def product(number):
        contracted = (((1,), (axis,)), ((), ()))
        y = lax.dot_general(rows(number).astype(wide), w, contracted, precision=precision, preferred_element_type=wide)
        return y.astype(dtype)

    if blocks.count == 1:
        y = product(np.int32(0))
    else:
        y = varying_alike(jnp.zeros((x.shape[0] * math.prod(window.output_size), k), dtype), x, w)[0]

        def put(number, y):
            return lax.dynamic_update_slice(y, product(number), blocks.start(number), allow_negative_indices=False)

        y = blocks.loop(put, y)
    return y.reshape(x.shape[0], *window.output_size, k)


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    assert groups == 1
    (channels, k), wide = (x.shape[-1], dy.shape[-1]), accumulator(dtype)
    few = channels <= FEW
    blocks = _blocks(window, x.shape, min(window.tap_count, TAPS), wide, BLOCK_FEW if few else BLOCK)
    dy = dy.reshape(-1, k)

    def sums(start, offsets):
        """The gradient for the taps start + offset, with axes (taps, c, k)."""
        rows, columns = blocks.rows(x, start, offsets), len(offsets) * channels

        def product(number):
            sizes = (blocks.positions, k)
            block = lax.dynamic_slice(dy, blocks.start(number), sizes, allow_negative_indices=False)
            # Narrow dtypes are widened here, in the cache: the product would do it in arrays of its own.
            a, b = rows(number).astype(wide), blocks.once(block, number).astype(wide)
            a, b = (a, b) if few else (b, a)
            return jnp.matmul(lax.optimization_barrier(a.T), b, precision=precision, preferred_element_type=wide)

        if blocks.count == 1:
            dw = product(np.int32(0))
        else:
            zeros = varying_alike(jnp.zeros((columns, k) if few else (k, columns), wide), x, dy)[0]
            dw = blocks.loop(lambda number, dw: dw + product(number), zeros)
        return (dw if few else dw.T).reshape(len(offsets), channels, k)

    return over_taps(sums, window, TAPS).astype(dtype)


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """Blocks of neighbouring output positions: those of some whole images, or a part of those of one.

    The last block of an image overlaps the one before if its positions are not a multiple.
    """

    window: Window
    batch: int
    images: int
    positions: int

    @property
    def together(self) -> int:
        """The positions of the images that a block belongs to."""
        return self.images * math.prod(self.window.output_size)

    @property
    def parts(self) -> int:
        """How many blocks those are."""
        return -(-self.together // self.positions)

    @property
    def count(self) -> int:
        """How many blocks there are in all."""
        return self.batch // self.images * self.parts

    def loop(self, body, carry):
        """carry = body(number, carry) for every block; as lax.fori_loop, whose numbers depend on jax_enable_x64."""
        (_, carry), _ = lax.scan(
            lambda pair, _: ((pair[0] + 1, body(*pair)), None), (np.int32(0), carry), length=self.count
        )
        return carry

    def start(self, number):
        """Where a block starts in an array with a row for every position of every image."""
        return _divided(number, self.parts)[0] * self.together + self._first(number), jnp.int32(0)

    def once(self, a, number):
        """A block's rows, with zeros in those that the block before has as well."""
        if self.together % self.positions == 0:
            return a
        shared = _divided(number, self.parts)[1] * self.positions - self._first(number)
        fresh = jnp.arange(self.positions, dtype=jnp.int32) >= shared
        return jnp.where(lax.broadcast_in_dim(fresh, a.shape, (0,)), a, 0)

    def rows(self, x, start, offsets):
        """A function from a block's number to what the taps start + offset read there, as (positions, taps·C)."""
        pixels, channels = x.reshape(-1, x.shape[-1]), x.shape[-1]
        per_block = self.images * math.prod(self.window.input_size)
        is_padded = any(pad > 0 for pads in self.window.padding for pad in pads)
        reads = self._reads(start, offsets)

        def of(number):
            index = reads(number).reshape(-1, 1)
            rows = lax.gather(
                pixels,
                jnp.maximum(index, 0) + _divided(number, self.parts)[0] * per_block,
                lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,)),
                slice_sizes=(1, channels),
                mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
            )
            if is_padded:
                rows = jnp.where(lax.broadcast_in_dim(index >= 0, rows.shape, (0, 1)), rows, 0)
            return rows.reshape(self.positions, -1)

        return of

    def _first(self, number):
        """Where a block starts among the positions of its images."""
        if self.parts == 1:
            return 0
        part = _divided(number, self.parts)[1]
        return jnp.minimum(part * self.positions, self.together - self.positions)

    def _reads(self, start, offsets):
        """A function from a block's number to the number of the pixel that every tap of every position reads, or −1."""
        table_bytes = 4 * self.together * len(offsets)
        if self.parts > 1 and table_bytes > BLOCK:
            within = np.arange(self.positions, dtype=np.int32)
            return lambda number: self._pixels(self._first(number) + within, start, offsets)
        if table_bytes <= CONSTANT:
            table = jnp.asarray(self._pixels(np.arange(self.together, dtype=np.int32), start, offsets))
        else:
            table = self._pixels(jnp.arange(self.together, dtype=jnp.int32), start, offsets)
        if self.parts == 1:
            return lambda number: table
        sizes = (self.positions, len(offsets))
        return lambda number: lax.dynamic_slice(
            table, (self._first(number), jnp.int32(0)), sizes, allow_negative_indices=False
        )

    def _pixels(self, position, start, offsets):
        """The pixels that the taps start + offset of these positions read, counted over the images of a block; or −1.

        In NumPy if the positions and the taps are.
        """
        window, places = self.window, []
        for size in reversed(window.output_size):
            position, place = _divided(position, size)
            places.insert(0, place[:, None])
        index, inside = position[:, None], True
        for axis, (place, n) in enumerate(zip(places, window.input_size, strict=True)):
            taps = start[axis] + np.asarray([offset[axis] for offset in offsets], np.int32)
            at = place * window.strides[axis] + taps[None] * window.dilation[axis] - window.padding[axis][0]
            index, inside = index * n + at, inside & (at >= 0) & (at < n)
        return np.where(inside, index, -1) if isinstance(index, np.ndarray) else jnp.where(inside, index, -1)


def _divided(a, by):
    """(a // by, a % by) of integers that are not negative."""
    if by == 1:
        return a, a * 0
    if isinstance(a, np.ndarray | np.integer):
        return divmod(a, by)
    by = lax.full_like(a, by)
    return lax.div(a, by), lax.rem(a, by)


def _blocks(window, x_shape, taps, dtype, most):
    """The largest blocks that fit, of one position at least; whole images if several fit."""
    batch, channels = x_shape[0], x_shape[-1]
    per_image = math.prod(window.output_size)
    fit = max(1, most // (taps * channels * jnp.dtype(dtype).itemsize))
    if per_image <= fit:
        images = max(n for n in range(1, min(batch, fit // per_image) + 1) if batch % n == 0)
        return _Blocks(window, batch, images, images * per_image)
    parts = -(-per_image // fit)
    # As few parts as fit, or up to half as many again if those are of one size.
    parts = next((n for n in range(parts, parts + parts // 2 + 1) if per_image % n == 0), parts)
    return _Blocks(window, batch, 1, -(-per_image // parts))
