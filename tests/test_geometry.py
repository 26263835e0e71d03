"""Every formula of geometry.py against brute force over positions."""

import itertools
import random

import numpy as np
import pytest

from jaxconv.geometry import Border, Layout, conv_window, layout_of, per_axis, pool_window, spatial_ndim_of


def reads(window, axis):
    """By definition: the input position that tap i reads at output position p."""
    s, d, (low, _) = window.strides[axis], window.dilation[axis], window.padding[axis]
    return [[s * p + d * i - low for i in range(window.window_size[axis])] for p in range(window.output_size[axis])]


def every_geometry():
    """All one-axis geometries with small sizes: some thousands, size 0 and crops included."""
    for n, r, s, d, low, high in itertools.product(
        range(7), range(1, 4), range(1, 4), range(1, 4), range(-2, 4), range(-2, 4)
    ):
        if n + low + high >= d * (r - 1) + 1:
            yield n, r, s, d, low, high


GEOMETRIES = list(every_geometry())


def test_there_are_thousands_of_geometries():
    assert len(GEOMETRIES) > 3000
    assert any(n == 0 for n, *_ in GEOMETRIES)


def test_output_size_is_the_number_of_windows_that_fit():
    for n, r, s, d, low, high in GEOMETRIES:
        window = conv_window((n,), (r,), strides=s, dilation=d, padding=[(low, high)])
        fits = [p for p in range(100) if s * p + d * (r - 1) - low < n + high]
        assert window.output_size == (len(fits),)


def test_input_grad_padding_lines_the_reversed_kernel_up():
    # (2) as a correlation: dx[u] = sum_j rev(w)[j] · D[u + d·j − pad_low], D = dy dilated by s, and its size is N.
    for n, r, s, d, low, high in GEOMETRIES:
        window = conv_window((n,), (r,), strides=s, dilation=d, padding=[(low, high)])
        ((pad_low, pad_high),) = window.input_grad_padding
        (o,) = window.output_size
        dilated = s * (o - 1) + 1
        assert dilated + pad_low + pad_high - d * (r - 1) == n
        expected = {(u, i, p) for p, row in enumerate(reads(window, 0)) for i, u in enumerate(row) if 0 <= u < n}
        found = set()
        for u, j in itertools.product(range(n), range(r)):
            position = u + d * j - pad_low
            if 0 <= position < dilated and position % s == 0:
                found.add((u, r - 1 - j, position // s))
        assert found == expected


def test_kernel_grad_padding_lines_dy_up():
    # (3) as a correlation: dw[i] = sum_p dy[p] · x[d·i + s·p − pad_low], stride d, kernel dilation s, size R.
    for n, r, s, d, low, high in GEOMETRIES:
        window = conv_window((n,), (r,), strides=s, dilation=d, padding=[(low, high)])
        ((pad_low, pad_high),) = window.kernel_grad_padding
        (o,) = window.output_size
        assert (n + pad_low + pad_high - s * (o - 1) - 1) // d + 1 == r
        for p, row in enumerate(reads(window, 0)):
            assert row == [d * i + s * p - pad_low for i in range(r)]


def test_first_inside_and_counts():
    rng = random.Random(0)
    for n, r, s, d, low, high in rng.sample(GEOMETRIES, 1000):
        window = pool_window(
            (n,), (r,), strides=s, dilation=d, padding=[(low, high)], ceil_mode=high >= 0 and rng.random() < 0.5
        )
        end_of_padding = n + window.padding[0][1] - window.overhang[0]
        first, inside, padded = window.first_inside(0), window.counts(0, False), window.counts(0, True)
        for p, row in enumerate(reads(window, 0)):
            on_input = [i for i, u in enumerate(row) if 0 <= u < n]
            assert first[p] == (on_input[0] if on_input else 0)
            assert inside[p] == len(on_input)
            assert padded[p] == sum(-low <= u < end_of_padding for u in row)


def test_ceil_mode_follows_its_definition():
    for n, r, s, d, low, high in GEOMETRIES:
        if low < 0 or high < 0 or low >= d * (r - 1) + 1 or high >= d * (r - 1) + 1 or n == 0:
            continue
        window = pool_window((n,), (r,), strides=s, dilation=d, padding=[(low, high)], ceil_mode=True)
        rounded_up = -(-(n + low + high - d * (r - 1) - 1) // s) + 1
        if (rounded_up - 1) * s >= n + low:  # the last window must start inside the input or its low padding
            rounded_up -= 1
        assert window.output_size == (rounded_up,)


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("s", range(1, 4))
@pytest.mark.parametrize("r", range(1, 5))
def test_same_gives_ceil_of_n_over_s_and_the_odd_element_to_its_side(n, s, r):
    for d in (1, 2, 3):
        upper = conv_window((n,), (r,), strides=s, dilation=d, padding="SAME")
        lower = conv_window((n,), (r,), strides=s, dilation=d, padding="same_lower")
        assert upper.output_size == lower.output_size == (-(-n // s),)
        ((low, high),) = upper.padding
        assert lower.padding == ((high, low),)
        assert 0 <= high - low <= 1


def test_every_notation_of_padding():
    def pads(padding, size=(9, 9)):
        return conv_window(size, (3,) * len(size), padding=padding).padding

    assert pads("VALID") == ((0, 0), (0, 0))
    assert pads(2) == ((2, 2), (2, 2))
    assert pads([1, 2]) == ((1, 1), (2, 2))
    assert pads([(1, 0), (-1, 2)]) == ((1, 0), (-1, 2))
    assert pads(["SAME", (0, 1)]) == ((1, 1), (0, 1))
    assert pads([3, "VALID"]) == ((3, 3), (0, 0))


def test_borders_give_ceil_of_n_over_s_and_are_no_padding():
    for n, r, s, d in itertools.product(range(4, 9), range(1, 4), range(1, 4), (1, 2)):
        window = conv_window((n,), (r,), strides=s, dilation=d, padding="replicate")
        assert window.output_size == (-(-n // s),)
        assert window.padding == ((0, 0),)
        assert window.own_size == (n,)
        assert window.borders == (Border(0, "REPLICATE", d * (r - 1) // 2, d * (r - 1) - d * (r - 1) // 2),)
    mixed = conv_window((6, 7), (3, 3), padding=(1, "CIRCULAR"))
    assert mixed.padding == ((1, 1), (0, 0))
    assert (mixed.input_size, mixed.own_size) == ((6, 9), (6, 7))


def test_sources_are_numpys():
    modes = {"CIRCULAR": "wrap", "REFLECT": "reflect", "SYMMETRIC": "symmetric", "REPLICATE": "edge"}
    for mode, name in modes.items():
        for n, low, high in ((4, 3, 2), (3, 0, 2), (5, 1, 0)):
            assert Border(0, mode, low, high).sources(n) == np.pad(np.arange(n), (low, high), name).tolist()


def test_scenarios_of_the_notes():
    def size(n, r, **options):
        return conv_window((n, n), (r, r), **options).output_size

    assert size(5, 3) == (3, 3)
    assert size(5, 3, padding=1) == size(7, 3) == (5, 5)
    assert size(5, 3, strides=2) == (2, 2)
    assert size(32, 6) == (27, 27)
    assert size(28, 4, strides=2) == (13, 13)


def test_an_axis_of_size_0_may_stay_empty():
    assert conv_window((0,), (1,)).output_size == (0,)
    assert conv_window((0,), (3,), padding="SAME").output_size == (0,)
    assert conv_window((0,), (3,), padding=1, strides=1).output_size == (0,)
    for stride in (1, 2, 5):  # whatever the stride
        assert conv_window((0, 4), (3, 3), strides=stride).output_size[0] == 0
    with pytest.raises(ValueError, match="no larger than the padded input"):
        conv_window((1,), (3,), padding=[(0, 1)])


def test_window_is_a_hashable_value():
    one, two = (conv_window((5, 5), (3, 3), strides=2) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one.taps() is not one.taps()


def test_geometry_imports_no_jax():
    import subprocess
    import sys
    from pathlib import Path

    import jaxconv.geometry as geometry

    code = f"import sys; sys.path.insert(0, {str(Path(geometry.__file__).parent)!r}); import geometry; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_layout_splits_and_joins():
    for first, shape in ((True, (2, 5, 3, 7, 8)), (False, (2, 5, 7, 8, 3))):
        layout = Layout(2, first)
        assert layout.split(shape) == ((2, 5), (7, 8), 3)
        assert layout.join((2, 5), (7, 8), 3) == shape
        assert shape[layout.channel_axis(5)] == 3


ERRORS = {
    "strides below 1": (lambda: conv_window((5,), (3,), strides=0), ValueError, r"strides: got 0, expected an int, or 1 ints .*at least 1"),
    "dilation below 1": (lambda: conv_window((5, 5), (3, 3), dilation=(1, -1)), ValueError, r"dilation: got \(1, -1\), .*at least 1"),
    "kernel size 0": (lambda: conv_window((5,), (0,)), ValueError, r"kernel_size: got \(0,\), .*at least 1"),
    "stride of the wrong type": (lambda: conv_window((5,), (3,), strides=1.5), TypeError, r"strides: got 1.5, expected an int"),
    "stride a bool": (lambda: conv_window((5,), (3,), strides=True), TypeError, r"strides: got True, expected an int"),
    "stride a string": (lambda: conv_window((5,), (3,), strides="1"), TypeError, r"strides: got '1', expected an int"),
    "too many strides": (lambda: conv_window((5,), (3,), strides=(1, 1)), ValueError, r"strides: got \(1, 1\), which has 2 entries, expected an int, or 1 ints"),
    "unknown padding": (lambda: conv_window((5,), (3,), padding="FOO"), ValueError, r"padding: got 'FOO', expected one of 'VALID', 'SAME', .*'REPLICATE', an int or a \(low, high\) pair"),
    "wrong number of pairs": (lambda: conv_window((5, 5), (3, 3), padding=[(1, 1)]), ValueError, r"padding: got \[\(1, 1\)\], which has 1 entries, expected one entry per spatial axis \(2\)"),
    "one pair on one axis": (lambda: conv_window((5,), (3,), padding=(1, 2)), ValueError, r"padding: got \(1, 2\), .*write \(\(1, 2\),\)"),
    "a triple for an axis": (lambda: conv_window((5,), (3,), padding=[(1, 2, 3)]), ValueError, r"padding: got \(1, 2, 3\) for one axis"),
    "padding of the wrong type": (lambda: conv_window((5,), (3,), padding=1.5), TypeError, r"padding: got 1.5, expected"),
    "padding of an axis of the wrong type": (lambda: conv_window((5,), (3,), padding=[1.5]), TypeError, r"padding: got 1.5 for one axis"),
    "kernel larger than the padded input": (
        lambda: conv_window((8, 4), (3, 3), padding=[(0, 0), (0, 1)], dilation=3),
        ValueError,
        r"kernel_size: got 3 taps with dilation 3 on spatial axis 1, which span 7 positions, but the padded input has 5 "
        r"\(4 \+ 0 \+ 1\); expected a window no larger than the padded input: use a smaller window",
    ),
    "window larger than the input": (lambda: pool_window((3,), 4), ValueError, r"window: got 4 taps"),
    "unknown data_format": (lambda: layout_of("x", (2, 5, 5, 1), 2, "NHWC"), ValueError, r"data_format: got 'NHWC', expected one of 'channels_last', 'channels_first'"),
    "too few axes": (lambda: layout_of("x", (5, 1), 2, "channels_last"), ValueError, r"x: got shape \(5, 1\) with 2 axes, expected \(\*batch, \*spatial, C\): at least 3 axes"),
    "sizes of the wrong type": (lambda: spatial_ndim_of("window", 1.5, 4), TypeError, r"window: got 1.5, expected an int, or a tuple"),
    "an int without a batch axis": (lambda: spatial_ndim_of("window", 2, 2), ValueError, r"window: got the int 2 for an array with 2 axes"),
    "a float array": (lambda: per_axis("strides", np.array(2.0), 2, minimum=1), TypeError, r"strides: got 2.0, expected an int, or 2 ints"),
    "padding that is a float array": (lambda: conv_window((5,), (3,), padding=np.array(1.5)), TypeError, r"padding: got 1.5, expected"),
    "no sizes": (lambda: spatial_ndim_of("window", np.array([], int), 4), TypeError, r"window: got \[\], expected an int, or a tuple"),
    "negative size": (lambda: per_axis("input_size", -1, 2, minimum=0), ValueError, r"input_size: got -1"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_argument_given_expected_and_remedy(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()
