"""A convolution's arrays in blocks of output positions, for what is computed block by block in a loop.

What a block needs stays in a core's cache, and no large temporary grows with the batch: on a CPU it would cost more
than the arithmetic, because its memory is mapped anew at every call.

What the windows of a block read is made by one gather, whose slices are all channels of a pixel, or zeros where that is
padding. Slices of x side by side, one per tap, are several times slower to make and ten times slower to compile, and
need a padded copy of x.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv._arguments import varying_alike
from jaxconv.geometry import Window

# Bytes of the table of what the windows of an image read: as a constant of the program, and made before the loop.
CONSTANT, TABLE = 1 << 21, 5 << 20
# Bytes up to which what is written and read once is one block: a loop, its zeros and the copies of its blocks cost more
# than the cache saves. From glibc's 32 MB on, memory is mapped anew at every call.
WHOLE = 16 << 20


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

    def made(self, block, shape, dtype, *like):
        """An array of this shape, with a row for every position of every image, whose blocks are block(number)."""
        if self.count == 1:
            return block(np.int32(0)).reshape(shape)
        row = math.prod(shape[1:])

        def put(number, a):
            start = lax.mul(self.start(number), np.int32(row))
            return lax.dynamic_update_slice(a, block(number).reshape(-1), (start,), allow_negative_indices=False)

        return loop(put, flat_zeros(shape, dtype, *like), self.count).reshape(shape)

    def total(self, term, shape, dtype, *like):
        """The sum of term(number), of this shape, over all blocks."""
        if self.count == 1:
            return term(np.int32(0))
        add = lambda number, total: lax.add(total, term(number).reshape(-1))  # noqa: E731
        return loop(add, flat_zeros(shape, dtype, *like), self.count).reshape(shape)

    def start(self, number):
        """Where a block starts in an array with a row for every position of every image."""
        return _plus(self._of_group(number, self.together), self._first(number))

    def pixel(self, number):
        """The number of the first pixel of a block's first image."""
        return self._of_group(number, self.images * math.prod(self.window.input_size))

    def of(self, a, number):
        """A block of an array with a row for every position of every image."""
        return _sliced(a, self.start(number), self.positions)

    def once(self, a, number):
        """A block's rows, with zeros in those that the block before has as well."""
        if self.together % self.positions == 0:
            return a
        shared = lax.sub(lax.mul(self._part(number), np.int32(self.positions)), self._first(number))
        place = lax.broadcasted_iota(np.int32, a.shape, 0)
        return lax.select(lax.ge(place, lax.broadcast(shared, a.shape)), a, lax.full_like(a, 0))

    def rows(self, x, start, offsets):
        """A function from a block's number to what the taps start + offset read there, as (positions·taps, C)."""
        channels = x.shape[-1]
        is_padded = any(pad > 0 for pads in self.window.padding for pad in pads)
        reads = self.reads(start, offsets)
        # Of one channel, without that axis: XLA would make a copy of such an x with another layout.
        pixels = x.reshape(-1) if channels == 1 else x.reshape(-1, channels)

        def of(number):
            index = reads(number).reshape(-1, 1)
            if not is_padded:
                return rows_of(pixels, _plus(self.pixel(number), index)).reshape(-1, channels)
            zeros = lax.full_like(index, 0)
            rows = rows_of(pixels, _plus(self.pixel(number), lax.max(index, zeros))).reshape(-1, channels)
            inside = lax.broadcast_in_dim(lax.ge(index, zeros), rows.shape, (0, 1))
            return lax.select(inside, rows, lax.full_like(rows, 0))

        return of

    def reads(self, start, offsets):
        """A function from a block's number to the number of the pixel that every tap of every position reads.

        A negative number where that is padding.
        """
        table_bytes = 4 * self.together * len(offsets)
        if self.parts > 1 and table_bytes > TABLE:
            return lambda number: pixels_read(self.window, self._places(number), start, offsets)
        table = all_pixels_read(self.window, self.images, start, offsets, table_bytes <= CONSTANT)
        if self.parts == 1:
            return lambda number: table
        return lambda number: _sliced(table, self._first(number), self.positions)

    def _places(self, number):
        """A block's positions among those of its images."""
        return lax.add(lax.broadcast(self._first(number), (self.positions,)), lax.iota(np.int32, self.positions))

    def _first(self, number):
        """Where a block starts among the positions of its images."""
        if self.parts == 1:
            return 0
        first = lax.mul(self._part(number), np.int32(self.positions))
        last = self.together - self.positions
        return first if self.together % self.positions == 0 else lax.min(first, np.int32(last))

    def _part(self, number):
        """Which part of its images' positions a block is."""
        return number if self.batch == self.images else lax.rem(number, np.int32(self.parts))

    def _of_group(self, number, size):
        """This size times the number of the group of images that a block belongs to."""
        if self.batch == self.images:
            return 0
        group = number if self.parts == 1 else lax.div(number, np.int32(self.parts))
        return lax.mul(group, np.int32(size))


def loop(body, carry, count):
    """carry = body(number, carry) for so many numbers; as lax.fori_loop, whose numbers depend on jax_enable_x64."""

    def step(pair, _):
        number, carry = pair
        return (lax.add(number, np.int32(1)), body(number, carry)), None

    return lax.scan(step, (np.int32(0), carry), length=count)[0][1]


def flat_zeros(shape, dtype, *like):
    """Zeros for an array of this shape, varying as those; as one axis, which XLA:CPU compiles in half the time."""
    return varying_alike(lax.full((math.prod(shape),), 0, dtype), *like)[0]


def zeros(shape, dtype, *like):
    """Zeros of this shape, varying as those; made as one axis, which without the barrier XLA would not keep to."""
    return lax.optimization_barrier(flat_zeros(shape, dtype, *like)).reshape(shape)


def rows_of(a, index):
    """a[index[..., 0]], for an index within a's bounds."""
    batch = index.ndim - 1
    return lax.gather(
        a,
        index,
        lax.GatherDimensionNumbers(
            offset_dims=tuple(range(batch, batch + a.ndim - 1)), collapsed_slice_dims=(0,), start_index_map=(0,)
        ),
        slice_sizes=(1, *a.shape[1:]),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


def is_for_one_block(batch, ndim, size):
    """Whether so many bytes, of so many images with ndim spatial axes, are best made in one block.

    A single image is not, unless it is a volume: under vmap it is one of many, which cannot be seen from here.
    """
    return size <= WHOLE and (batch > 1 or ndim > 2)


def one_block_or_several(window, batch, ndim, bytes_per_position, most):
    """All positions of such images in one block, where that is best, or else `blocks`."""
    positions = batch * math.prod(window.output_size)
    if is_for_one_block(batch, ndim, positions * bytes_per_position):
        return Blocks(window, batch, batch, positions)
    return blocks(window, batch, bytes_per_position, most)


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


def all_pixels_read(window, images, start, offsets, constant=True):
    """The pixels, by number, that the taps start + offset read at every output position of so many images.

    A negative number where that is padding. As (positions, taps): a constant of the program, or computed by it from a
    small table for each axis.
    """
    places = [np.arange(size, dtype=np.int32) for size in window.output_size]
    terms, pixels = pixel_terms(window, places, start, offsets), math.prod(window.input_size)
    shape = (images, *window.output_size, len(offsets))
    if constant and all(isinstance(term, np.ndarray) for term in terms):
        index = (np.arange(images, dtype=np.int32) * pixels).reshape(-1, *[1] * (window.ndim + 1))
        for axis, term in enumerate(terms):
            others = [other for other in range(window.ndim + 1) if other != axis + 1]
            index = index + np.expand_dims(term, others)
        return index.reshape(-1, len(offsets))
    index = [lax.broadcast_in_dim(term, shape, (axis + 1, window.ndim + 1)) for axis, term in enumerate(terms)]
    if images > 1:
        index.append(lax.mul(lax.broadcasted_iota(np.int32, shape, 0), lax.full(shape, pixels, np.int32)))
    return functools.reduce(lax.add, index).reshape(-1, len(offsets))


def pixels_read(window, position, start, offsets):
    """The same for these output positions of an image."""
    places = []
    for size in reversed(window.output_size[1:]):
        size = lax.full_like(position, size)
        places.insert(0, lax.rem(position, size))
        position = lax.div(position, size)
    return functools.reduce(lax.add, pixel_terms(window, [position, *places], start, offsets))


def nowhere(ndim):
    """A term that makes a sum of one term per axis negative, whatever the others are: fewer than 2**31 // ndim."""
    return -(2**31 // ndim)


def pixel_terms(window, places, start, offsets):
    """What a place along each axis adds to the number of the pixel that the taps start + offset read, (places, taps).

    So much less than 0 where that is outside that the sum is negative.
    """
    outside, pixels, terms = nowhere(window.ndim), 1, []
    for axis, place in reversed(list(enumerate(places))):
        taps = np.asarray([offset[axis] for offset in offsets], np.int32) + start[axis]
        taps = taps * np.int32(window.dilation[axis]) - np.int32(window.padding[axis][0])
        numpy = np if isinstance(place, np.ndarray) and isinstance(taps, np.ndarray) else jnp
        at = place[:, None] * np.int32(window.strides[axis]) + taps[None]
        inside = (at >= 0) & (at < window.input_size[axis])
        terms.insert(0, numpy.where(inside, at * np.int32(pixels), np.int32(outside)))
        pixels *= window.input_size[axis]
    return terms


def _plus(number, a):
    """number + a, which is an array or a number; either may be the int 0."""
    if isinstance(number, int) or isinstance(a, int):
        return a if isinstance(number, int) else number
    return lax.add(lax.broadcast(number, a.shape), a)


def _sliced(a, start, size):
    """a[start : start + size]."""
    if isinstance(start, int):
        return lax.slice_in_dim(a, start, start + size)
    starts = (start, *[np.int32(0)] * (a.ndim - 1))
    return lax.dynamic_slice(a, starts, (size, *a.shape[1:]), allow_negative_indices=False)


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
