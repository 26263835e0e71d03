"""A convolution's arrays in blocks of output positions, for what is computed block by block in a loop.

What a block needs stays in a core's cache, and no temporary grows with the batch: on a CPU a large temporary costs more
than the arithmetic, because its memory is mapped anew at every call.

What the windows of a block read is made by one gather, whose slices are all channels of a pixel, or zeros where that is
padding. Slices of x side by side, one per tap, are several times slower to make and ten times slower to compile, and
need a padded copy of x.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv._arguments import varying_alike
from jaxconv.geometry import Window

# Bytes of the table of what the windows of an image read: as a constant of the program, and made before the loop.
CONSTANT, TABLE = 1 << 21, 5 << 20


@dataclasses.dataclass(frozen=True)
class Blocks:
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
        return self._group_and_part(number)[0] * self.together + self._first(number)

    def pixel(self, number):
        """The number of the first pixel of a block's first image."""
        return self._group_and_part(number)[0] * (self.images * math.prod(self.window.input_size))

    def of(self, a, number):
        """A block of an array with a row for every position of every image."""
        starts = (self.start(number), *[jnp.int32(0)] * (a.ndim - 1))
        return lax.dynamic_slice(a, starts, (self.positions, *a.shape[1:]), allow_negative_indices=False)

    def put(self, a, block, number):
        """The array with this block."""
        starts = (self.start(number), *[jnp.int32(0)] * (a.ndim - 1))
        return lax.dynamic_update_slice(a, block, starts, allow_negative_indices=False)

    def once(self, a, number):
        """A block's rows, with zeros in those that the block before has as well."""
        if self.together % self.positions == 0:
            return a
        shared = self._group_and_part(number)[1] * self.positions - self._first(number)
        fresh = jnp.arange(self.positions, dtype=jnp.int32) >= shared
        return jnp.where(lax.broadcast_in_dim(fresh, a.shape, (0,)), a, 0)

    def rows(self, x, start, offsets):
        """A function from a block's number to what the taps start + offset read there, as (positions·taps, C)."""
        channels = x.shape[-1]
        is_padded = any(pad > 0 for pads in self.window.padding for pad in pads)
        reads = self.reads(start, offsets)
        # Of one channel, without that axis: XLA would make a copy of such an x with another layout.
        pixels = x.reshape(-1) if channels == 1 else x.reshape(-1, channels)

        def of(number):
            index = reads(number).reshape(-1, 1)
            rows = rows_of(pixels, lax.max(index, lax.full_like(index, 0)) + self.pixel(number))
            if is_padded:
                inside = lax.ge(index, lax.full_like(index, 0)).reshape(-1)
                rows = lax.select(lax.broadcast_in_dim(inside, rows.shape, (0,)), rows, lax.full_like(rows, 0))
            return rows.reshape(-1, channels)

        return of

    def _first(self, number):
        """Where a block starts among the positions of its images."""
        if self.parts == 1:
            return 0
        part = self._group_and_part(number)[1]
        return jnp.minimum(part * self.positions, self.together - self.positions)

    def _group_and_part(self, number):
        """Of which images a block is, in groups of those that are together, and which part of these."""
        return (number * 0, number) if self.batch == self.images else _divided(number, self.parts)

    def reads(self, start, offsets):
        """A function from a block's number to the number of the pixel that every tap of every position reads, or −1."""
        table_bytes = 4 * self.together * len(offsets)
        if self.parts > 1 and table_bytes > TABLE:
            within = np.arange(self.positions, dtype=np.int32)
            return lambda number: pixels_read(self.window, self._first(number) + within, start, offsets)
        numpy = np if table_bytes <= CONSTANT else jnp
        table = jnp.asarray(all_pixels_read(self.window, self.images, start, offsets, numpy))
        if self.parts == 1:
            return lambda number: table
        sizes = (self.positions, len(offsets))
        return lambda number: lax.dynamic_slice(
            table, (self._first(number), jnp.int32(0)), sizes, allow_negative_indices=False
        )


def rows_of(a, index):
    """a[index[:, 0]], for an index within a's bounds."""
    return lax.gather(
        a,
        index,
        lax.GatherDimensionNumbers(
            offset_dims=tuple(range(1, a.ndim)), collapsed_slice_dims=(0,), start_index_map=(0,)
        ),
        slice_sizes=(1, *a.shape[1:]),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


def made_apart(function, number):
    """function(number), an array, for an operation that takes it in another shape.

    XLA:CPU would make it in that shape, element by element; the result of a conditional it makes as it is, by whole
    rows: three times as fast. (The condition always holds, which XLA does not see.)
    """
    rows = jax.eval_shape(function, number)
    zeros = lambda _: varying_alike(jnp.zeros(rows.shape, rows.dtype), rows)[0]  # noqa: E731
    return lax.cond(lax.optimization_barrier(number) >= 0, function, zeros, number)


def blocks(window, batch, bytes_per_position, most):
    """The largest blocks of at most this many bytes: at least one position, whole images if several fit."""
    per_image = math.prod(window.output_size)
    fit = max(1, most // bytes_per_position)
    if per_image <= fit:
        images = max(n for n in range(1, min(batch, fit // per_image) + 1) if batch % n == 0)
        return Blocks(window, batch, images, images * per_image)
    parts = -(-per_image // fit)
    # As few parts as fit, or up to half as many again if those are of one size.
    parts = next((n for n in range(parts, parts + parts // 2 + 1) if per_image % n == 0), parts)
    return Blocks(window, batch, 1, -(-per_image // parts))


def all_pixels_read(window, images, start, offsets, numpy=np):
    """The pixels, by number, that the taps start + offset read at every output position of so many images; or −1.

    As (positions, taps), a constant of the program; or with jax.numpy computed by it, from a small table for each axis.
    """
    index, inside = numpy.arange(images, dtype=np.int32).reshape(-1, *[1] * (window.ndim + 1)), True
    for axis, n in enumerate(window.input_size):
        place = np.arange(window.output_size[axis], dtype=np.int32)[:, None]
        at = _read(window, axis, place, start, offsets)
        at = at.reshape(*[1] * (axis + 1), place.size, *[1] * (window.ndim - axis - 1), len(offsets))
        index, inside = index * n + at, inside & ((at >= 0) & (at < n))
    return _or_outside(index, inside).reshape(-1, len(offsets))


def pixels_read(window, position, start, offsets):
    """The same for these output positions; those beyond an image's are of the next one."""
    places = []
    for size in reversed(window.output_size):
        position, place = _divided(position, size)
        places.insert(0, place[:, None])
    index, inside = position[:, None], True
    for axis, (place, n) in enumerate(zip(places, window.input_size, strict=True)):
        at = _read(window, axis, place, start, offsets)
        index, inside = index * n + at, inside & (at >= 0) & (at < n)
    return _or_outside(index, inside)


def _read(window, axis, place, start, offsets):
    """Where the taps start + offset of the windows at these places of an axis read, as (places, taps)."""
    taps = start[axis] + np.asarray([offset[axis] for offset in offsets], np.int32)
    return place * window.strides[axis] + taps[None] * window.dilation[axis] - window.padding[axis][0]


def _or_outside(index, inside):
    where = np.where if isinstance(index, np.ndarray) else jnp.where
    return where(inside, index, -1)


def _divided(a, by):
    """(a // by, a % by) of integers that are not negative."""
    if by == 1:
        return a, a * 0
    if isinstance(a, np.integer):
        return divmod(a, by)
    by = lax.full_like(a, by)
    return lax.div(a, by), lax.rem(a, by)


# An input of more bytes than this is padded a part of the batch at a time.
PADDED = 1 << 24


def in_parts(function, x, window):
    """function(x) for parts of the batch, one after the other, where x is large and padded: otherwise for all of it.

    The padded copy of x is an array of its own, and on a CPU mapping its memory costs more than the pooling. On other
    platforms nothing is split.
    """
    fit = max(1, PADDED // 2 // max(1, x.nbytes // max(1, x.shape[0])))
    images = max((n for n in range(1, min(fit, x.shape[0]) + 1) if x.shape[0] % n == 0), default=1)
    is_padded = any(pads != (0, 0) for pads in window.padding)
    if not is_padded or x.nbytes <= PADDED or 2 * images <= min(fit, x.shape[0]):
        return function(x)

    def of_parts(x):
        parts = lax.map(
            lambda n: function(lax.dynamic_slice_in_dim(x, n * images, images)),
            jnp.arange(x.shape[0] // images, dtype=jnp.int32),
        )
        return jax.tree.map(lambda a: a.reshape(x.shape[0], *a.shape[2:]), parts)

    return lax.platform_dependent(x, cpu=of_parts, default=function)
