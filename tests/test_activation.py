"""Activations against jax.nn in float64, at their kinks, and over the whole range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close

from jaxconv import leaky_relu, log_softmax, relu, sigmoid, softmax, tanh

PAIRS = {
    "relu": (relu, jax.nn.relu),
    "leaky_relu": (lambda x: leaky_relu(x, 0.3), lambda x: jax.nn.leaky_relu(x, 0.3)),
    "sigmoid": (sigmoid, jax.nn.sigmoid),
    "tanh": (tanh, jnp.tanh),
    "softmax": (lambda x: softmax(x, 0), lambda x: jax.nn.softmax(x, 0)),
    "softmax over two axes": (lambda x: softmax(x, (0, -1)), lambda x: jax.nn.softmax(x, (0, -1))),
    "log_softmax": (lambda x: log_softmax(x, 0), lambda x: jax.nn.log_softmax(x, 0)),
    "log_softmax over two axes": (lambda x: log_softmax(x, (0, -1)), lambda x: jax.nn.log_softmax(x, (0, -1))),
}


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_kinks_and_nan_follow_jax_nn(name):
    ours, theirs = PAIRS[name]
    x = jnp.array([0.0, -0.0, jnp.nan, jnp.inf, -jnp.inf, 1e-300, -1e-300])
    for f in (lambda f: f(x), lambda f: jax.grad(lambda x: f(x).sum())(x)):
        assert jnp.array_equal(f(ours), f(theirs), equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_saturated_sigmoid_has_an_accurate_derivative(dtype):
    # 1/(4·cosh(x/2)²) in float64, where autodiff of the plain formula gives 0.
    most = 8 if dtype == "float16" else 40
    x = jnp.linspace(-most, most, 4001).astype(dtype)
    x64 = np.asarray(x, np.float64)
    exact = 1 / (4 * np.cosh(x64 / 2) ** 2)
    found = jax.grad(lambda x: sigmoid(x).sum())(x)
    normal_range = exact > 4 * float(jnp.finfo(dtype).tiny)
    relative = np.abs(np.asarray(found, np.float64) - exact)[normal_range] / exact[normal_range]
    # One rounding of the result, and a few of float32 before it.
    assert relative.max() < float(jnp.finfo(dtype).eps) + 4 * float(jnp.finfo(jnp.float32).eps)


@pytest.mark.parametrize("value", [1e4, -1e4, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_extreme_arguments_have_derivative_0(name, value):
    assert jax.grad(PAIRS[name][0])(jnp.asarray(value)) == 0


def test_softmax_with_infinite_entries():
    x = jnp.array([0.0, -jnp.inf, 1.0])
    assert_close(softmax(x), jax.nn.softmax(x), length=3)
    grad = jax.grad(lambda x: jnp.vdot(softmax(x), jnp.array([1.0, 2.0, 3.0])))(x)
    assert jnp.isfinite(grad).all()
    assert grad[1] == 0
    assert log_softmax(x)[1] == -jnp.inf
    grad = jax.grad(lambda x: log_softmax(x)[0])(x)
    assert_close(grad, jnp.array([1.0, 0.0, 0.0]) - softmax(x), length=3)
    for f, g in ((softmax, jax.nn.softmax), (log_softmax, jax.nn.log_softmax)):
        for row in (jnp.full(3, -jnp.inf), jnp.array([0.0, jnp.inf, 1.0]), jnp.array([0.0, jnp.nan, 1.0])):
            assert jnp.array_equal(jnp.isnan(f(row)), jnp.isnan(g(row)))


def test_softmax_does_not_overflow():
    x = jnp.array([1e4, 0.0, 1e4], jnp.float32)
    assert softmax(x).tolist() == [0.5, 0.0, 0.5]
    assert jax.grad(lambda x: log_softmax(x)[0])(x).tolist() == [0.5, 0.0, -0.5]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", PAIRS)
def test_dtype_is_kept(name, dtype):
    x = jnp.ones((2, 3), dtype)
    y, vjp = jax.vjp(PAIRS[name][0], x)
    assert y.dtype == dtype
    assert vjp(y)[0].dtype == dtype


def test_softmax_sums_in_float32():
    x = jnp.zeros((1, 6000), "float16")
    assert softmax(x)[0, 0] == jnp.float16(1 / 6000)


def test_what_is_saved():
    x = jnp.ones((4, 3), jnp.float32)

    def saved(function):
        return sorted((leaf.dtype.name, leaf.shape) for leaf in jax.tree.leaves(jax.vjp(function, x)[1]))

    assert saved(relu) == saved(leaky_relu) == [("bool", (4, 3))]
    assert saved(sigmoid) == saved(tanh) == saved(softmax) == [("float32", (4, 3))]
    assert saved(log_softmax) == [("float32", (4, 1)), ("float32", (4, 1)), ("float32", (4, 3))]


@pytest.mark.parametrize("name", PAIRS)
def test_integers_are_refused(name):
    with pytest.raises(TypeError, match=r"x: got dtype int32, expected one of float64, float32, bfloat16, float16"):
        PAIRS[name][0](jnp.ones((2, 3), jnp.int32))


@pytest.mark.parametrize("op", [softmax, log_softmax])
@pytest.mark.parametrize(
    ("axis", "error"), [(2, ValueError), (-3, ValueError), ((0, -2), ValueError), ((), ValueError), (0.5, TypeError)]
)
def test_axis_is_checked(op, axis, error):
    with pytest.raises(error, match=r"axis: got"):
        op(jnp.ones((2, 3)), axis)


def test_slope_is_a_number():
    with pytest.raises(TypeError, match=r"negative_slope: got a .*, expected a Python number"):
        leaky_relu(jnp.ones(3), jnp.ones(()))
