"""conv_patches, fold, space_to_depth, depth_to_space: what they are for, errors; derivatives are in tests/verification."""

import jax.numpy as jnp
import pytest
from jax import lax
from support import small_integers

from jaxconv import conv, conv_patches, depth_to_space, fold, space_to_depth


def test_patches_times_the_kernel_are_the_convolution():
    x, w = small_integers(0, (2, 6, 7, 3), (3, 2, 3, 4))
    options = {"strides": (2, 1), "padding": ("SAME", "CIRCULAR"), "dilation": (1, 2)}
    patches = conv_patches(x, (3, 2), **options)
    assert jnp.array_equal(patches @ w.reshape(-1, 4), conv(x, w, **options))


def test_the_order_of_the_channels_against_laxs():
    (x,) = small_integers(0, (2, 6, 7, 3))
    theirs = lax.conv_general_dilated_patches(x, (3, 2), (2, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    ours = conv_patches(x, (3, 2), strides=(2, 1))
    *positions, channels = ours.shape
    assert jnp.array_equal(ours.reshape(*positions, 6, 3).swapaxes(-1, -2).reshape(*positions, channels), theirs)


def test_fold_is_the_adjoint_and_counts_overlaps():
    options = {"kernel_size": (3, 2), "strides": (2, 1), "padding": ((1, 0), (0, 2)), "data_format": "channels_first"}
    (x,) = small_integers(0, (2, 3, 6, 7))
    (y,) = small_integers(1, conv_patches(x, **options).shape)
    back = fold(y, (6, 7), **options)
    assert back.shape == x.shape
    assert jnp.vdot(conv_patches(x, **options), y) == jnp.vdot(x, back)
    ones = jnp.ones_like(x)
    counts = fold(conv_patches(ones, **options), (6, 7), **options)
    assert jnp.array_equal(fold(conv_patches(x, **options), (6, 7), **options), x * counts)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_blocks_there_and_back(data_format):
    (x,) = small_integers(0, (2, 3, 4, 6, 8) if data_format == "channels_last" else (2, 3, 8, 4, 6))
    block = (2, 3)
    y = space_to_depth(x, block, data_format=data_format)
    assert y.shape == ((2, 3, 2, 2, 48) if data_format == "channels_last" else (2, 3, 48, 2, 2))
    assert jnp.array_equal(depth_to_space(y, block, data_format=data_format), x)
    if data_format == "channels_last":
        assert jnp.array_equal(y[..., 1, 0, (1 * 3 + 2) * 8 + 5], x[..., 2 * 1 + 1, 3 * 0 + 2, 5])


ERRORS = {
    "patches of the wrong size": (lambda: fold(jnp.ones((1, 3, 4)), 3, 2), ValueError, r"x: got shape \(1, 3, 4\), expected such as \(1, 2, 4\)"),
    "fewer channels than taps": (lambda: fold(jnp.ones((1, 3, 1)), 4, 2), ValueError, r"expected such as \(1, 3, 2\)"),
    "channels that are no multiple": (lambda: fold(jnp.ones((1, 2, 3)), 3, 2), ValueError, r"a multiple of the 2 taps"),
    "size no multiple of the block": (lambda: space_to_depth(jnp.ones((1, 3, 1)), 2), ValueError, r"x: got spatial sizes \(3,\), expected multiples of block_size \(2,\)"),
    "channels no multiple of the block": (lambda: depth_to_space(jnp.ones((1, 3, 3)), 2), ValueError, r"x: got 3 channels .* expected a multiple of 2"),
    "block size 0": (lambda: depth_to_space(jnp.ones((1, 3, 3)), 0), ValueError, r"block_size: got 0"),
    "window too large": (lambda: conv_patches(jnp.ones((1, 3, 1)), 4), ValueError, r"kernel_size: got 4 taps"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_argument_given_expected_and_remedy(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()
