"""pad: what jnp.pad gives, layouts, errors; derivatives are in tests/verification."""

import jax
import jax.numpy as jnp
import pytest
from support import small_integers

from jaxconv import conv, max_pool, pad

NUMPY = {"ZERO": "constant", "CIRCULAR": "wrap", "REFLECT": "reflect", "SYMMETRIC": "symmetric", "REPLICATE": "edge"}


@pytest.mark.parametrize("mode", NUMPY)
def test_is_numpys(mode):
    (x,) = small_integers(0, (2, 4, 5, 3))
    expected = jnp.pad(x, ((0, 0), (1, 3), (2, 0), (0, 0)), NUMPY[mode])
    assert jnp.array_equal(pad(x, ((1, 3), (2, 0)), mode), expected)
    assert jnp.array_equal(pad(x[0], ((1, 3), (2, 0)), mode.lower()), expected[0])
    first = pad(jnp.moveaxis(x, -1, 1), ((1, 3), (2, 0)), mode, data_format="channels_first")
    assert jnp.array_equal(jnp.moveaxis(first, 1, -1), expected)


def test_a_mode_per_axis_and_one_int():
    (x,) = small_integers(0, (1, 3, 4, 2))
    mixed = pad(x, ((2, 2), 1), ("CIRCULAR", "ZERO"))
    assert jnp.array_equal(mixed, pad(pad(x, ((2, 2), 0), "CIRCULAR"), ((0, 0), 1)))
    assert pad(x, 1).shape == (1, 5, 6, 2)


def test_the_same_kinds_in_conv_and_pooling():
    x, w = small_integers(0, (2, 6, 7, 3), (3, 4, 3, 2))
    pads = ((1, 1), (1, 2))
    for kind in ("CIRCULAR", "REFLECT", "SYMMETRIC", "REPLICATE"):
        padded = pad(x, pads, kind)
        assert jnp.array_equal(conv(x, w, padding=kind, strides=2), conv(padded, w, strides=2))
        assert jnp.array_equal(max_pool(x, (3, 4), strides=2, padding=kind), max_pool(padded, (3, 4), strides=2))
    full = conv(x, w, padding=("FULL", "CAUSAL"))
    assert jnp.array_equal(full, conv(x, w, padding=((2, 2), (3, 0))))


@pytest.mark.parametrize("kind", ["CIRCULAR", "REFLECT", "SYMMETRIC", "REPLICATE"])
def test_an_empty_axis(kind):
    x, w = jnp.ones((1, 0, 3)), jnp.ones((3, 3, 2))
    for f, shape in (
        (lambda x: pad(x, 0, kind), (1, 0, 3)),
        (lambda x: conv(x, w, padding=kind), (1, 0, 2)),
        (lambda x: max_pool(x, 3, padding=kind), (1, 0, 3)),
    ):
        y, vjp = jax.vjp(f, x)
        assert y.shape == shape
        assert vjp(y)[0].shape == x.shape


def test_one_dispatch_when_called_eagerly():
    jaxpr = jax.make_jaxpr(lambda x: pad(x, 2, "REFLECT"))(jnp.ones((1, 4, 1)))
    assert len(jaxpr.eqns) == 1


ERRORS = {
    "unknown mode": (lambda x: pad(x, 1, "edge"), ValueError, r"mode: got 'edge', expected one of 'ZERO', 'CIRCULAR'"),
    "a number as mode": (lambda x: pad(x, 1, mode=5), TypeError, r"mode: got 5, expected one of 'ZERO', .* or 1 of them"),
    "a mode too many": (lambda x: pad(x, 1, ("ZERO", "ZERO")), ValueError, r"mode: got \('ZERO', 'ZERO'\), expected .* 1 of them"),
    "too far to wrap": (lambda x: pad(x, 5, "CIRCULAR"), ValueError, r"pads: got 'CIRCULAR' with \(5, 5\) positions on spatial axis 0 of size 4, expected at most 4"),
    "too far to reflect": (lambda x: pad(x, ((0, 4),), "REFLECT"), ValueError, r"of size 4, expected at most 3"),
    "negative with a mode": (lambda x: pad(x, ((-1, 0),), "REPLICATE"), ValueError, r"pads: got \(-1, 0\) .* at least 0: crop with mode 'ZERO'"),
    "cropped too far": (lambda x: pad(x, ((-3, -2),)), ValueError, r"pads: got \(-3, -2\) on spatial axis 0 of size 4, expected to crop less"),
    "a kind as pads": (lambda x: pad(x, ("SAME",)), TypeError, r"pads: got 'SAME', expected an int or a \(low, high\) pair"),
    "pads of the wrong type": (lambda x: pad(x, 1.5), TypeError, r"pads: got 1.5, expected an int"),
    "too short for the window": (lambda x: conv(x, jnp.ones((9, 1, 1)), padding="REFLECT"), ValueError, r"padding: got 'REFLECT' with \(4, 4\) positions"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_argument_given_expected_and_remedy(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call(jnp.ones((1, 4, 1), jnp.float64))
