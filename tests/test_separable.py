"""depthwise_conv and separable_conv as convolutions, errors; derivatives are in tests/verification."""

import jax
import jax.numpy as jnp
import pytest
from support import normal, small_integers

from jaxconv import conv, depthwise_conv, separable_conv


def test_depthwise_is_a_convolution_per_channel():
    x, w, b = small_integers(0, (2, 6, 7, 3), (3, 2, 3, 2), (6,))
    y = depthwise_conv(x, w, b, strides=2, padding="SAME")
    for c in range(3):
        alone = conv(x[..., c : c + 1], w[:, :, c : c + 1], b[2 * c : 2 * c + 2], strides=2, padding="SAME")
        assert jnp.array_equal(y[..., 2 * c : 2 * c + 2], alone)
    assert jnp.array_equal(y, conv(x, w.reshape(3, 2, 1, 6), b, strides=2, padding="SAME", groups=3))


def test_separable_is_depthwise_then_pointwise():
    x, w, v, b = small_integers(0, (2, 3, 6, 7), (3, 2, 3, 2), (6, 4), (4,))
    options = {"padding": 1, "data_format": "channels_first"}
    z = depthwise_conv(x, w, **options)
    expected = conv(z, v.reshape(1, 1, 6, 4), b, data_format="channels_first")
    assert jnp.array_equal(separable_conv(x, w, v, b, **options), expected)


def test_what_is_saved():
    x, w, v = normal(0, (2, 6, 3), (3, 3, 2), (6, 4))
    _, vjp = jax.vjp(depthwise_conv, x, w)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(vjp)) == sorted((x.shape, w.shape))
    _, vjp = jax.vjp(separable_conv, x, w, v)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(vjp)) == sorted((x.shape, w.shape, v.shape, (2, 4, 6)))


ones = jnp.ones
ERRORS = {
    "channels that do not fit": (lambda: depthwise_conv(ones((1, 5, 3)), ones((2, 4, 1))), ValueError, r"w: got shape \(2, 4, 1\), expected \(\*kernel, C, M\) with C = 3"),
    "a bias of the wrong size": (lambda: depthwise_conv(ones((1, 5, 3)), ones((2, 3, 2)), ones(3)), ValueError, r"b: got shape \(3,\), expected \(6,\)"),
    "a pointwise kernel that does not fit": (lambda: separable_conv(ones((1, 5, 3)), ones((2, 3, 2)), ones((3, 4))), ValueError, r"v: got shape \(3, 4\), expected \(C·M, K\) with C·M = 3·2"),
    "a kernel that is a vector, beside a bias": (lambda: depthwise_conv(ones((1, 5, 3)), ones(3), ones(1)), ValueError, r"w: got shape \(3,\) with 1 axes"),
    "kernels without axes": (lambda: separable_conv(ones((1, 5, 3)), ones(3), ones(())), ValueError, r"w: got shape \(3,\) with 1 axes"),
    "no spatial axis": (lambda: depthwise_conv(ones((1, 3)), ones((3, 1))), ValueError, r"w: got shape \(3, 1\) with 2 axes"),
    "mixed dtypes": (lambda: depthwise_conv(ones((1, 5, 3)), ones((2, 3, 1), "float32")), TypeError, r"got mixed dtypes"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_argument_given_expected_and_remedy(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()
