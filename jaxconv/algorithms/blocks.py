"""A convolution's arrays in blocks of output positions, for what is computed block by block in a loop.

What a block needs stays in a core's cache, and no temporary grows with the batch: on a CPU a large temporary costs more
than the arithmetic, because its memory is mapped anew at every call.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.algorithms.views import padded, plus, sliced
from jaxconv.geometry import Window


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Blocks of some images, or of some rows (positions on the first spatial axis) of one image.

    The last block of an image overlaps the one before if the rows are not a multiple.
    """

    window: Window
    images: int
    rows: int
    batch: int

    @property
    def per_image(self) -> int:
        """Blocks that one image, or one set of images, takes."""
        return -(-self.window.output_size[0] // self.rows)

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return self.batch // self.images * self.per_image

    @property
    def numbers(self):
        """What to scan over."""
        return jnp.arange(self.count, dtype=jnp.int32)

    @property
    def positions(self) -> tuple[int, ...]:
        """The output positions of a block."""
        return (self.rows, *self.window.output_size[1:])

    @property
    def overlap(self) -> bool:
        """Whether the last block of an image overlaps the one before."""
        return self.window.output_size[0] % self.rows != 0

    def output(self, dy, number):
        """The block of an array over output positions."""
        return self._block(dy, number, 1, self.rows)

    @property
    def whole(self) -> bool:
        """Whether there are several blocks, of whole images: then each is padded by itself."""
        return self.count > 1 and self.per_image == 1

    def prepared(self, x, window=None):
        """x as `input` takes it: padded here unless each block is. The window is another one where its padding is."""
        return x if self.whole else padded(x, window or self.window, 0)

    def input(self, x, number, window=None):
        """What the block's windows read of the padded input."""
        if self.whole:
            images = lax.dynamic_slice_in_dim(x, number * self.images, self.images)
            return padded(images, window or self.window, 0)
        s = self.window.strides[0]
        return self._block(x, number, s, s * (self.rows - 1) + self.window.extent[0])

    def put(self, y, block, number):
        """y with this block of output positions."""
        return lax.dynamic_update_slice(y, block, self._starts(number, 1, y.ndim))

    def tap(self, block, start, offset):
        """Of a block of the input, the view that the tap start + offset reads; the tap may be traced."""
        sizes = [s * (o - 1) + 1 for o, s in zip(self.positions, self.window.strides, strict=True)]
        starts = [i * d for i, d in zip(plus(start, offset), self.window.dilation, strict=True)]
        return sliced(block, starts, sizes, self.window.strides)

    def once(self, a, number):
        """A block of output positions, with zeros at those that the block before has as well."""
        if not self.overlap:
            return a
        first = number % self.per_image * self.rows
        fresh = jnp.arange(self.rows, dtype=jnp.int32) >= first - self._row(number)
        return jnp.where(lax.broadcast_in_dim(fresh, a.shape, (1,)), a, 0)

    def _row(self, number):
        return jnp.minimum(number % self.per_image * self.rows, self.window.output_size[0] - self.rows)

    def _starts(self, number, stride, ndim):
        zero, number = jnp.zeros((), jnp.int32), jnp.asarray(number, jnp.int32)
        return number // self.per_image * self.images, self._row(number) * stride, *(zero,) * (ndim - 2)

    def _block(self, a, number, stride, rows):
        if self.count == 1:
            return lax.slice_in_dim(a, 0, rows, axis=1)
        return lax.dynamic_slice(a, self._starts(number, stride, a.ndim), (self.images, rows, *a.shape[2:]))


def blocks(window, batch, bytes_per_position, most):
    """The largest blocks of at most this many bytes: at least one row, whole images if several fit."""
    rows = window.output_size[0]
    fit = max(1, most // (bytes_per_position * math.prod(window.output_size[1:])))
    if rows <= fit:
        return Blocks(window, max(n for n in range(1, min(batch, fit // rows) + 1) if batch % n == 0), rows, batch)
    divisor = max(n for n in range(1, fit + 1) if rows % n == 0)
    return Blocks(window, 1, divisor if 2 * divisor > fit else fit, batch)


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
