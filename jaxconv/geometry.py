"""The geometry of a sliding window: plain integers, made and validated once per call.

Every size and every padding that the library uses comes from here. Along one spatial axis, with input size N, R taps,
stride s, dilation d and padding (l, h), tap i of the window at output position p reads the input at

    u = s·p + d·i − l          0 <= i < R,  0 <= p < O,   O = (N + l + h − d(R−1) − 1)//s + 1

and an input position outside [0, N) counts as padding: zeros, or what the op says. The padding kinds that repeat the
input's own values make a longer input first (`Border`), over which the window slides without padding: there N is the
longer size. The two gradients of a convolution are convolutions again (derived at the top of conv.py); their paddings
are properties of `Window`. This module imports no JAX.
"""

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "AdaptiveWindow",
    "Border",
    "DataFormat",
    "Layout",
    "Pad",
    "Padding",
    "Window",
    "adaptive_window",
    "check_channels",
    "check_groups",
    "check_spatial_ndim",
    "conv_window",
    "kernel_spatial_ndim",
    "layout_of",
    "pad_borders",
    "per_axis",
    "pool_window",
    "spatial_ndim_of",
    "transpose_window",
]

Pad = tuple[int, int]
Padding = str | int | Sequence[str | int | Pad]
DataFormat = str

BORDER_KINDS = ("CIRCULAR", "REFLECT", "SYMMETRIC", "REPLICATE")
PADDING_NAMES = ("VALID", "SAME", "SAME_LOWER", "FULL", "CAUSAL", *BORDER_KINDS)
PAD_MODES = ("ZERO", *BORDER_KINDS)
DATA_FORMATS = ("channels_last", "channels_first")
_PADDING_KINDS = f"one of {', '.join(map(repr, PADDING_NAMES))}, an int or a (low, high) pair of ints"


class Border(NamedTuple):
    """One spatial axis made longer at its two ends by the input's own values, or by zeros.

    With N the size of the axis, position v of the longer axis holds x[v − low] where 0 <= v − low < N, and outside it

        CIRCULAR    x[(v − low) mod N]          c d | a b c d | a b
        REFLECT     mirrored at the end element c b | a b c d | c b: the end itself is not repeated
        SYMMETRIC   mirrored at the end's edge  b a | a b c d | d c
        REPLICATE   the end element             a a | a b c d | d d
        ZERO        0; here negative sizes crop
    """

    axis: int  # among the spatial ones
    mode: str
    low: int
    high: int

    def sources(self, n: int) -> list[int]:
        """m(v), the position that every position v of the longer axis repeats, for an axis of size n; not for ZERO.

        >>> Border(0, "REFLECT", 2, 1).sources(4)
        [2, 1, 0, 1, 2, 3, 2]
        """
        positions = range(-self.low, n + self.high)
        if self.mode == "CIRCULAR":
            return [v % n for v in positions]
        if self.mode == "REPLICATE":
            return [min(max(v, 0), n - 1) for v in positions]
        once = self.mode == "REFLECT"
        return [v if 0 <= v < n else -v - (not once) if v < 0 else 2 * n - 1 - once - v for v in positions]


@dataclasses.dataclass(frozen=True)
class Window:
    """A window sliding over the spatial axes of an input; one int (or pair) per axis in every field.

    `overhang` is the part of the high padding that only ceil_mode added: the formulas treat it as padding, the
    divisor of an average does not count it. `borders` are what makes the input that the window slides over, of size
    `input_size`, from the op's own one, of size `own_size`: nothing, but for the padding kinds that repeat values.

    >>> window = Window(input_size=(5,), window_size=(3,), strides=(2,), dilation=(1,), padding=((0, 0),),
    ...                 overhang=(0,))
    >>> window.output_size, window.input_grad_padding, window.kernel_grad_padding
    ((2,), ((2, 2),), ((0, 0),))
    """

    input_size: tuple[int, ...]
    window_size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[Pad, ...]
    overhang: tuple[int, ...]
    borders: tuple[Border, ...] = ()

    @functools.cached_property
    def own_size(self) -> tuple[int, ...]:
        """The sizes of the op's input: `input_size` without the borders."""
        sizes = list(self.input_size)
        for border in self.borders:
            sizes[border.axis] -= border.low + border.high
        return tuple(sizes)

    @property
    def ndim(self) -> int:
        """How many spatial axes there are."""
        return len(self.input_size)

    @functools.cached_property
    def extent(self) -> tuple[int, ...]:
        """How many input positions one window spans: d(R−1) + 1."""
        return tuple(d * (r - 1) + 1 for d, r in zip(self.dilation, self.window_size, strict=True))

    @functools.cached_property
    def output_size(self) -> tuple[int, ...]:
        """O = (N + l + h − d(R−1) − 1)//s + 1, or 0 where an empty input leaves no room for a window."""
        return tuple(
            max(0, (n + low + high - extent) // s + 1)
            for n, (low, high), extent, s in zip(self.input_size, self.padding, self.extent, self.strides, strict=True)
        )

    @functools.cached_property
    def input_grad_padding(self) -> tuple[Pad, ...]:
        """Padding (d(R−1) − l, N − 1 − s(O−1) + l) of dy, dilated by s, when reversed w slides over it for dx."""
        return tuple(
            (extent - 1 - low, n - 1 - s * (o - 1) + low)
            for n, (low, _), extent, s, o in zip(
                self.input_size, self.padding, self.extent, self.strides, self.output_size, strict=True
            )
        )

    @functools.cached_property
    def input_grad_window(self) -> "Window":
        """With stride 1, the window that slides over dy for dx, which is a convolution of dy with the reversed w."""
        assert set(self.strides) <= {1}
        return dataclasses.replace(
            self,
            input_size=self.output_size,
            padding=self.input_grad_padding,
            overhang=(0,) * self.ndim,
            borders=(),
        )

    @functools.cached_property
    def kernel_grad_padding(self) -> tuple[Pad, ...]:
        """Padding (l, s(O−1) + d(R−1) + 1 − N − l) of x when dy, dilated by s, slides over it for dw."""
        return tuple(
            (low, s * (o - 1) + extent - n - low)
            for n, (low, _), extent, s, o in zip(
                self.input_size, self.padding, self.extent, self.strides, self.output_size, strict=True
            )
        )

    @property
    def tap_count(self) -> int:
        """How many taps the window has over all axes."""
        return math.prod(self.window_size)

    def taps(self) -> Iterator[tuple[int, ...]]:
        """All taps in row-major order: the order that breaks ties in max pooling."""
        return itertools.product(*map(range, self.window_size))

    def first_inside(self, axis: int) -> list[int]:
        """Per output position the first tap that reads the input, not padding (0 where every tap reads padding)."""
        n, d = self.input_size[axis], self.dilation[axis]
        inside = []
        for start in self._starts(axis):
            tap = max(0, -(start // d))  # the first i with start + d·i >= 0
            inside.append(tap if tap < self.window_size[axis] and start + d * tap < n else 0)
        return inside

    def counts(self, axis: int, include_pad: bool) -> list[int]:
        """Per output position how many taps an average divides by: those on the input, or on it and its padding."""
        low, high = self.padding[axis]
        end = self.input_size[axis]
        begin = 0
        if include_pad:
            begin, end = -low, end + high - self.overhang[axis]
        taps = range(self.window_size[axis])
        d = self.dilation[axis]
        return [sum(begin <= start + d * i < end for i in taps) for start in self._starts(axis)]

    def _starts(self, axis: int) -> range:
        """The input position of tap 0 at every output position."""
        low = self.padding[axis][0]
        stop = self.output_size[axis] * self.strides[axis] - low
        return range(-low, stop, self.strides[axis])


def conv_window(
    input_size: Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    name: str = "kernel_size",
) -> Window:
    """The window of a convolution over spatial axes of these sizes; name is what messages call the kernel's sizes.

    Raises:
        ValueError: an option is out of range, or the kernel is larger than the padded input.
        TypeError: an option has the wrong type.

    >>> conv_window((5, 5), (3, 3), padding="SAME", strides=2).output_size
    (3, 3)
    """
    return _window(input_size, kernel_size, name, strides, padding, dilation, ceil_mode=False)


def pool_window(
    input_size: Sequence[int],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> Window:
    """The window of a pooling over spatial axes of these sizes; strides=None means the window's own size.

    With ceil_mode the division in the output size rounds up, so that the last window may hang over the end of the
    padded input, as long as it starts inside the input or its low padding (PyTorch's rule).

    Raises:
        ValueError: an option is out of range, or the window is larger than the padded input.
        TypeError: an option has the wrong type.

    >>> pool_window((5, 5), 2).output_size, pool_window((5, 5), 2, ceil_mode=True).output_size
    ((2, 2), (3, 3))
    """
    strides = window if strides is None else strides
    return _window(input_size, window, "window", strides, padding, dilation, ceil_mode=ceil_mode)


def transpose_window(
    output_size: Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    output_padding: int | Sequence[int] = 0,
    name: str = "kernel_size",
) -> Window:
    """The window of the convolution with these options whose output has these sizes: that of a transposed convolution.

    With strides there are s inputs N that the convolution takes to the same output O. With the padding given in numbers
    (or "VALID", "FULL", "CAUSAL") N is the smallest of them, s(O−1) + d(R−1) + 1 − l − h, plus output_padding, which is
    0 to s − 1; with the kinds for which O = ceil(N/s) it is the largest, s·O, plus output_padding, 1 − s to 0.

    Raises:
        ValueError: an option is out of range, or nothing would be left of the input.
        TypeError: an option has the wrong type.

    >>> transpose_window((4,), 3, strides=2, padding="SAME").own_size, transpose_window((4,), 3, strides=2).own_size
    ((8,), (9,))
    """
    output_size = per_axis("output_size", output_size, len(output_size), minimum=0)
    ndim = len(output_size)
    sizes = per_axis(name, kernel_size, ndim, minimum=1)
    strides = per_axis("strides", strides, ndim, minimum=1)
    dilation = per_axis("dilation", dilation, ndim, minimum=1)
    extra = per_axis("output_padding", output_padding, ndim, minimum=None)
    input_size = []
    for axis, (kind, o, r, s, d, more) in enumerate(
        zip(_padding_kinds(padding, ndim), output_size, sizes, strides, dilation, extra, strict=True)
    ):
        extent = d * (r - 1) + 1
        rounded_up = isinstance(kind, str) and kind.upper() in ("SAME", "SAME_LOWER", *BORDER_KINDS)
        least, most = (1 - s, 0) if rounded_up else (0, s - 1)
        if not least <= more <= most:
            raise ValueError(
                f"output_padding: got {more} on spatial axis {axis}, expected {least} to {most} for padding {kind!r} "
                f"and stride {s}: the sizes that a convolution with stride {s} takes to the same output"
            )
        if rounded_up:
            n = s * o + more
        else:
            low, high = _pad_of_axis(kind, 0, extent, s)
            n = s * (o - 1) + extent - low - high + more
        if o > 0 and n < 1:
            raise ValueError(
                f"padding: got {kind!r} on spatial axis {axis}, which leaves an output of size {n} for an input of "
                f"size {o} and a window that spans {extent} positions; expected at least 1: use less padding"
            )
        input_size.append(n if o > 0 else 0)
    return _window(input_size, sizes, name, strides, padding, dilation, ceil_mode=False)


def pad_borders(
    input_size: Sequence[int],
    pads: int | Sequence[int | Pad],
    mode: str | Sequence[str],
) -> tuple[Border, ...]:
    """The borders that `pad` puts on spatial axes of these sizes: pads and mode are one for all axes or one per axis.

    Raises:
        ValueError: a mode that does not exist, or an axis too short for it. TypeError: an option has the wrong type.
    """
    ndim = len(input_size)
    expected = f"expected one of {', '.join(map(repr, PAD_MODES))}, or {ndim} of them, one per spatial axis"
    if not isinstance(mode, Sequence):
        raise TypeError(f"mode: got {mode!r}, {expected}")
    modes = (mode,) * ndim if isinstance(mode, str) else tuple(mode)
    if len(modes) != ndim or not all(isinstance(m, str) and m.upper() in PAD_MODES for m in modes):
        raise ValueError(f"mode: got {mode!r}, {expected}")
    borders = []
    for axis, (kind, n, m) in enumerate(zip(_padding_kinds(pads, ndim, "pads"), input_size, modes, strict=True)):
        if isinstance(kind, str):
            raise TypeError(f"pads: got {kind!r}, expected an int or a (low, high) pair of ints: the kind goes to mode")
        low, high = _pad_of_axis(kind, n, 1, 1)
        border = Border(axis, m.upper(), low, high)
        if border.mode == "ZERO":
            if n + low + high < 0 or low < -n or high < -n:
                raise ValueError(f"pads: got ({low}, {high}) on spatial axis {axis} of size {n}, expected to crop less")
        else:
            _check_border("pads", border, n)
        borders.append(border)
    return tuple(borders)


def _check_border(name: str, border: Border, n: int) -> None:
    axis, mode, low, high = border
    if min(low, high) < 0:
        raise ValueError(
            f"{name}: got ({low}, {high}) on spatial axis {axis} with {mode!r}, expected numbers of at least 0: crop "
            "with mode 'ZERO', or with a slice"
        )
    most = {"CIRCULAR": n, "REFLECT": max(0, n - 1), "SYMMETRIC": n}.get(mode, max(low, high) if n else 0)
    if max(low, high) > most:
        raise ValueError(
            f"{name}: got {mode!r} with ({low}, {high}) positions on spatial axis {axis} of size {n}, expected at most "
            f"{most}: {mode} padding has no more values to repeat; use a smaller window, or pad twice"
        )


@dataclasses.dataclass(frozen=True)
class AdaptiveWindow:
    """Windows that divide an input into a given number of parts, as evenly as whole numbers can; one int per axis.

    Along one axis, with input size N and output size O, window p reads the positions

        floor(p·N/O) <= u < ceil((p + 1)·N/O)

    so neighbours share a position where N/O is not whole. The windows p that read position u are those with N and O
    changing places, floor(u·O/N) <= p < ceil((u + 1)·O/N): see `transposed`.

    >>> window = AdaptiveWindow((5,), (2,))
    >>> window.starts(0), window.ends(0), window.transposed.starts(0), window.transposed.ends(0)
    ([0, 2], [3, 5], [0, 0, 0, 1, 1], [1, 1, 2, 2, 2])
    """

    input_size: tuple[int, ...]
    output_size: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """How many spatial axes there are."""
        return len(self.input_size)

    @property
    def transposed(self) -> "AdaptiveWindow":
        """For every input position the windows that read it."""
        return AdaptiveWindow(self.output_size, self.input_size)

    def starts(self, axis: int) -> list[int]:
        """The first position of every window."""
        n, o = self.input_size[axis], self.output_size[axis]
        return [p * n // o for p in range(o)]

    def ends(self, axis: int) -> list[int]:
        """The position after the last of every window."""
        n, o = self.input_size[axis], self.output_size[axis]
        return [-(-(p + 1) * n // o) for p in range(o)]

    def counts(self, axis: int) -> list[int]:
        """How many positions every window reads."""
        return [end - start for start, end in zip(self.starts(axis), self.ends(axis), strict=True)]

    @functools.cached_property
    def window_size(self) -> tuple[int, ...]:
        """How many positions the largest window reads."""
        return tuple(max(self.counts(axis), default=0) for axis in range(self.ndim))

    @property
    def tap_count(self) -> int:
        """How many taps the largest window has over all axes."""
        return math.prod(self.window_size)


def adaptive_window(input_size: Sequence[int], output_size: int | Sequence[int | None]) -> AdaptiveWindow:
    """The windows that give an output of this size; None keeps the size of an axis.

    Raises:
        ValueError: a size below 1, or not one per axis.
        TypeError: a size is neither an int nor None.

    >>> adaptive_window((5, 6), (2, None)).output_size
    (2, 6)
    """
    if isinstance(output_size, Sequence) and None in output_size:
        ndim = len(input_size)
        expected = f"expected an int, or {ndim} (one per spatial axis) of ints, each at least 1, or None"
        if not all(o is None or _is_int(o) for o in output_size):
            raise TypeError(f"output_size: got {output_size!r}, {expected}")
        if len(output_size) != ndim or any(o is not None and o < 1 for o in output_size):
            raise ValueError(f"output_size: got {output_size!r}, {expected}")
        sizes = tuple(n if o is None else operator.index(o) for n, o in zip(input_size, output_size, strict=True))
    else:
        sizes = per_axis("output_size", output_size, len(input_size), minimum=1)
    return AdaptiveWindow(tuple(input_size), sizes)


def _window(input_size, window_size, size_name, strides, padding, dilation, *, ceil_mode) -> Window:
    input_size = per_axis("input_size", input_size, len(input_size), minimum=0)
    ndim = len(input_size)
    sizes = per_axis(size_name, window_size, ndim, minimum=1)
    strides = per_axis("strides", strides, ndim, minimum=1)
    dilation = per_axis("dilation", dilation, ndim, minimum=1)
    extent = [d * (r - 1) + 1 for d, r in zip(dilation, sizes, strict=True)]
    pads = _resolve_padding(padding, input_size, extent, strides)
    borders = []
    for axis, kind in enumerate(_padding_kinds(padding, ndim)):
        if isinstance(kind, str) and kind.upper() in BORDER_KINDS:
            border = Border(axis, kind.upper(), *(pads[axis] if input_size[axis] else (0, 0)))
            _check_border("padding", border, input_size[axis])
            pads[axis] = (0, 0)
            borders.append(border)
            input_size = (*input_size[:axis], input_size[axis] + border.low + border.high, *input_size[axis + 1 :])
    overhang = [0] * ndim
    for axis, (n, (low, high), e, s) in enumerate(zip(input_size, pads, extent, strides, strict=True)):
        room = n + low + high - e
        # Nothing but an axis of size 0 may give an output of size 0.
        if room < 0 and n > 0:
            raise ValueError(
                f"{size_name}: got {sizes[axis]} taps with dilation {dilation[axis]} on spatial axis {axis}, which "
                f"span {e} positions, but the padded input has {n + low + high} ({n} + {low} + {high}); expected a "
                "window no larger than the padded input: use a smaller window or dilation, or more padding"
            )
        if ceil_mode and room >= 0:
            if high < 0:
                raise ValueError(
                    f"padding: got high padding {high} on spatial axis {axis} together with ceil_mode, expected at "
                    "least 0: a window cannot hang over an end that is cropped; crop the input first"
                )
            last = -(-room // s) * s  # where the last window of the rounded-up count starts, in padded coordinates
            if last >= n + low:
                last -= s
            overhang[axis] = max(0, last - room)
    padding_ = tuple((low, high + extra) for (low, high), extra in zip(pads, overhang, strict=True))
    return Window(input_size, sizes, strides, dilation, padding_, tuple(overhang), tuple(borders))


def _resolve_padding(padding, input_size, extent, strides) -> list[Pad]:
    """Padding in any of its notations as one (low, high) pair per axis."""
    kinds = _padding_kinds(padding, len(input_size))
    return [_pad_of_axis(*axis) for axis in zip(kinds, input_size, extent, strides, strict=True)]


def _padding_kinds(padding, ndim: int, name: str = "padding") -> list:
    """Padding as one entry per axis, each still in any of its notations."""
    expected = _PADDING_KINDS if name == "padding" else "an int or a (low, high) pair of ints"
    padding = _plain(padding)
    if isinstance(padding, str) or _is_int(padding):
        return [padding] * ndim
    if not isinstance(padding, Sequence):
        raise TypeError(f"{name}: got {padding!r}, expected {expected}, or a sequence of one of these per axis")
    kinds = list(map(_plain, padding))
    if len(kinds) != ndim:
        hint = f"; for one pair on one axis write ({tuple(kinds)},)" if ndim == 1 and len(kinds) == 2 else ""
        raise ValueError(
            f"{name}: got {padding!r}, which has {len(kinds)} entries, expected one entry per spatial axis "
            f"({ndim}), each {expected}{hint}"
        )
    return kinds


def _pad_of_axis(kind, n: int, extent: int, s: int) -> Pad:
    if isinstance(kind, str):
        name = kind.upper()
        if name == "VALID":
            return 0, 0
        if name in ("SAME", "SAME_LOWER"):
            # The output size is to be ceil(N/s); the odd element goes to the high side, or to the low one.
            total = max((-(-n // s) - 1) * s + extent - n, 0)
            small, large = total // 2, total - total // 2
            return (small, large) if name == "SAME" else (large, small)
        if name == "FULL":
            return extent - 1, extent - 1
        if name == "CAUSAL":
            return extent - 1, 0
        if name in BORDER_KINDS:  # so that the output size is ceil(N/s), wherever the input ends
            return (extent - 1) // 2, extent // 2
        raise ValueError(f"padding: got {kind!r}, expected {_PADDING_KINDS}")
    if _is_int(kind):
        return operator.index(kind), operator.index(kind)
    if isinstance(kind, Sequence):
        if len(kind) == 2 and all(map(_is_int, kind)):
            return operator.index(kind[0]), operator.index(kind[1])
        raise ValueError(f"padding: got {kind!r} for one axis, expected {_PADDING_KINDS}")
    raise TypeError(f"padding: got {kind!r} for one axis, expected {_PADDING_KINDS}")


def per_axis(name: str, value, ndim: int, *, minimum: int | None) -> tuple[int, ...]:
    """An option given as one int, or as one int per spatial axis, as a tuple with one int per axis."""
    expected = f"expected an int, or {ndim} ints (one per spatial axis)"
    if minimum is not None:
        expected += f", each at least {minimum}"
    value = _plain(value)
    if _is_int(value):
        values = (operator.index(value),) * ndim
    elif isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_int, value)):
        values = tuple(map(operator.index, value))
    else:
        raise TypeError(f"{name}: got {value!r}, {expected}")
    if len(values) != ndim:
        raise ValueError(f"{name}: got {value!r}, which has {len(values)} entries, {expected}")
    if minimum is not None and any(v < minimum for v in values):
        raise ValueError(f"{name}: got {value!r}, {expected}")
    return values


def _plain(value):
    """The value, a NumPy array as Python's numbers and lists."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def _is_int(value) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and getattr(value, "shape", ()) == ()


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an array's axes split into batch, spatial and channel axes, and back; sizes come from the array's shape."""

    spatial_ndim: int
    channels_first: bool

    def split(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """The (batch, spatial, channel) sizes of a shape.

        >>> Layout(2, channels_first=True).split((8, 3, 32, 30))
        ((8,), (32, 30), 3)
        """
        batch_ndim = len(shape) - self.spatial_ndim - 1
        batch, rest = tuple(shape[:batch_ndim]), tuple(shape[batch_ndim:])
        if self.channels_first:
            return batch, rest[1:], rest[0]
        return batch, rest[:-1], rest[-1]

    def join(self, batch: Sequence[int], spatial: Sequence[int], channels: int) -> tuple[int, ...]:
        """The shape with these (batch, spatial, channel) sizes: the inverse of split."""
        if self.channels_first:
            return (*batch, channels, *spatial)
        return (*batch, *spatial, channels)

    def channel_axis(self, ndim: int) -> int:
        """Where the channels stand among ndim axes."""
        return ndim - self.spatial_ndim - 1 if self.channels_first else ndim - 1

    @property
    def axes(self) -> str:
        """The axes in words, for messages."""
        return "(*batch, C, *spatial)" if self.channels_first else "(*batch, *spatial, C)"


def layout_of(name: str, shape: Sequence[int], spatial_ndim: int, data_format: DataFormat) -> Layout:
    """The layout of the argument called name, checked to have enough axes."""
    if data_format not in DATA_FORMATS:
        raise ValueError(f"data_format: got {data_format!r}, expected one of {', '.join(map(repr, DATA_FORMATS))}")
    result = Layout(spatial_ndim, data_format == "channels_first")
    if len(shape) < spatial_ndim + 1:
        raise ValueError(
            f"{name}: got shape {tuple(shape)} with {len(shape)} axes, expected {result.axes}: at least "
            f"{spatial_ndim + 1} axes for {spatial_ndim} spatial axes"
        )
    return result


def spatial_ndim_of(name: str, sizes: int | Sequence[Any], ndim: int) -> int:
    """How many spatial axes an option with one size per axis speaks of, in an array with ndim axes.

    An int speaks of every axis between the first, the batch, and the channels.
    """
    sizes = _plain(sizes)
    if not _is_int(sizes):
        if not isinstance(sizes, Sequence) or isinstance(sizes, str) or not sizes:
            raise TypeError(f"{name}: got {sizes!r}, expected an int, or a tuple of ints, one per spatial axis")
        return len(sizes)
    if ndim < 3:
        raise ValueError(
            f"{name}: got the int {sizes} for an array with {ndim} axes, expected at least 3: one batch axis, the "
            f"spatial axes and the channels; without a batch axis give a tuple, one int per spatial axis"
        )
    return ndim - 2


def check_spatial_ndim(spatial_ndim: int | None, shape: Sequence[int], *, minimum: int) -> int:
    """How many spatial axes an x of this shape has: all but the first (batch) and the channels if it is not said."""
    given = len(shape) - 2 if spatial_ndim is None else spatial_ndim
    if not _is_int(given) or given < minimum:
        raise ValueError(
            f"spatial_ndim: got {spatial_ndim!r} for x of shape {tuple(shape)}, expected an int, at least {minimum} "
            "(None: x.ndim − 2; without a batch axis name it)"
        )
    return operator.index(given)


def check_groups(groups, **channels: int) -> int:
    """The number of groups, checked to be a positive int that divides the channels of each side: input=, output=."""
    if not _is_int(groups):
        raise TypeError(f"groups: got {groups!r}, expected an int, at least 1")
    groups = operator.index(groups)
    if groups < 1:
        raise ValueError(f"groups: got {groups}, expected an int, at least 1")
    for side, count in channels.items():
        if count % groups:
            every = " and of ".join(f"{count} ({side})" for side, count in channels.items())
            raise ValueError(
                f"groups: got {groups}, which does not divide the {count} {side} channels; expected a divisor of "
                f"{every}"
            )
    return groups


# What messages say where a kernel may be that of another library.
PYTORCH_KERNEL = "jnp.moveaxis(w, (1, 0), (-2, -1)) if w is (K, C/groups, *kernel), as PyTorch's"


def check_channels(layout: Layout, x_shape: Sequence[int], w_shape: Sequence[int], groups) -> int:
    """The number of groups, checked against x's C channels and a kernel of shape (*kernel, C/groups, K)."""
    channels = layout.split(x_shape)[-1]
    per_group, outputs = w_shape[-2:]
    try:
        groups = check_groups(groups, input=channels, output=outputs)
    except ValueError as error:
        raise ValueError(f"{error}{_other_layout(layout, x_shape, w_shape, groups)}") from None
    if per_group * groups != channels:
        expected = channels // groups
        others = channels // per_group if per_group and channels % per_group == 0 else 0
        raise ValueError(
            f"w: got shape {tuple(w_shape)} with {per_group} input channels per group, expected (*kernel, C/groups, K) "
            f"with C/groups = {channels}/{groups} = {expected}: x has {channels} channels; change w's axis -2 to "
            f"{expected}"
            + (f", or groups to {others}" if others and outputs % others == 0 else "")
            + _other_layout(layout, x_shape, w_shape, groups)
        )
    return groups


def _other_layout(layout: Layout, x_shape: Sequence[int], w_shape: Sequence[int], groups: int) -> str:
    """What to do where x and w would fit if their channels stood where other libraries have them; empty if nothing."""
    other = dataclasses.replace(layout, channels_first=not layout.channels_first)
    x_hint = f"data_format='channels_{'first' if other.channels_first else 'last'}' if x is {other.axes}"
    outputs, per_group, *taps = w_shape
    hints = []
    for x_layout, is_pytorchs in ((layout, True), (other, False), (other, True)):
        _, sizes, channels = x_layout.split(x_shape)
        if is_pytorchs:  # told from a kernel of other channels by its taps: as many on every axis, and not too many
            fits = per_group * groups == channels and outputs % max(1, groups) == 0
            fits &= len(taps) > 1 and len(set(taps)) == 1 and all(r <= n for r, n in zip(taps, sizes, strict=True))
        else:
            fits = w_shape[-2] * groups == channels
        if fits:
            hints.append(" and ".join([x_hint] * (x_layout is other) + [PYTORCH_KERNEL] * is_pytorchs))
    return f"; give {', or '.join(hints)}" if hints else ""


def kernel_spatial_ndim(w_shape: Sequence[int]) -> int:
    """How many spatial axes a kernel of shape (*kernel, C/groups, K) slides over; at least one."""
    if len(w_shape) < 3:
        raise ValueError(
            f"w: got shape {tuple(w_shape)} with {len(w_shape)} axes, expected (*kernel, C/groups, K): at least 3 "
            "axes, one of them spatial; for a kernel without spatial axes use dense"
        )
    return len(w_shape) - 2
