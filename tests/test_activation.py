"""Activations: their conventions beside jax.nn's, the whole range, what is saved, what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from support import assert_close

import jaxconv
from jaxconv import celu, elu, gelu, glu, hard_shrink, leaky_relu, prelu, sigmoid, soft_shrink, squareplus, threshold
from jaxconv.verification.cases.activation import ELEMENTWISE


def pair(name):
    """The op, and the same in plain JAX, with the options of the cases."""
    op = ELEMENTWISE[name]
    options = {option: values[0] for option, values in op.options.items()}
    return lambda x: getattr(jaxconv, name)(x, **options), lambda x: op.plain(x, **options)


def derivative(f):
    return jax.grad(lambda x: f(x).sum())


def test_every_activation_of_jax_nn_is_here():
    # Not activations of convolutional networks; standardize is a normalisation, one_hot has no gradient.
    others = {
        *("dot_product_attention", "get_scaled_dot_general_config", "scaled_dot_general", "scaled_matmul"),
        *("initializers", "one_hot", "standardize"),
    }
    assert {name for name in dir(jax.nn) if not name.startswith("_")} - others <= set(jaxconv.__all__)


def test_aliases():
    assert jaxconv.swish is jaxconv.silu
    assert jaxconv.hard_swish is jaxconv.hard_silu


@pytest.mark.parametrize("name", sorted(set(ELEMENTWISE) & set(dir(jax.nn))))
def test_kinks_and_nan_follow_jax_nn(name):
    ours, theirs = pair(name)
    x = jnp.array([0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, jnp.nan, 1e-300, -1e-300])
    x = jnp.abs(x) if ELEMENTWISE[name].positive else x
    for f in (lambda f: f(x), lambda f: derivative(f)(x)):
        np.testing.assert_allclose(f(ours), f(theirs), rtol=1e-10)  # jax.nn's sigmoid' has lost digits at 6


def test_kinks_of_relu_to_the_bit():
    x = jnp.array([0.0, -0.0, jnp.nan, jnp.inf, -jnp.inf, 1e-300, -1e-300])
    for name in ("relu", "leaky_relu"):
        ours, theirs = pair(name)
        for f in (lambda f: f(x), lambda f: derivative(f)(x)):
            assert jnp.array_equal(f(ours), f(theirs), equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_saturated_sigmoid_has_an_accurate_derivative(dtype):
    # 1/(4·cosh(x/2)²) in float64, where autodiff of the plain formula gives 0.
    most = 8 if dtype == "float16" else 40
    x = jnp.linspace(-most, most, 4001).astype(dtype)
    x64 = np.asarray(x, np.float64)
    exact = 1 / (4 * np.cosh(x64 / 2) ** 2)
    found = derivative(sigmoid)(x)
    normal_range = exact > 4 * float(jnp.finfo(dtype).tiny)
    relative = np.abs(np.asarray(found, np.float64) - exact)[normal_range] / exact[normal_range]
    # One rounding of the result, and a few of float32 before it.
    assert relative.max() < float(jnp.finfo(dtype).eps) + 4 * float(jnp.finfo(jnp.float32).eps)


@pytest.mark.parametrize("x", [-8.0, -20.0, -37.0])
def test_gelu_keeps_its_digits_in_the_left_tail(x):
    cdf, density = math.exp(special.log_ndtr(x)), math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    # exp multiplies the rounding of x²/2.
    assert gelu(x, False) == pytest.approx(x * cdf, rel=x * x * 1e-15)
    assert jax.grad(gelu)(x, False) == pytest.approx(cdf + x * density, rel=x * x * 1e-15)
    if x == -8:
        v = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        assert gelu(x) == pytest.approx(x * math.exp(v) / (1 + math.exp(v)), rel=1e-13)


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_nan_far_out(name, dtype):
    ours, _ = pair(name)
    x = np.asarray([50.0, 100, 1e4, 1e30, jnp.finfo(dtype).max / 2], dtype)
    x = jnp.asarray(x if ELEMENTWISE[name].positive else np.concatenate([x, -x]))
    for f in (ours, derivative(ours), derivative(derivative(ours))):
        assert jnp.isfinite(f(x)).all()
    infinite = jnp.asarray([np.inf] if ELEMENTWISE[name].positive else [np.inf, -np.inf], dtype)
    assert not jnp.isnan(ours(infinite)).any()
    assert jnp.isfinite(derivative(ours)(infinite)).all()
    assert jnp.isfinite(derivative(derivative(ours))(infinite)).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sigmoid", 0.0),
        ("softplus", 1 / 4),
        ("log_sigmoid", -1 / 4),
        ("silu", 1 / 2),
        ("gelu", 2 / math.sqrt(2 * math.pi)),
        ("mish", 16 / 25),
        ("squareplus", 1 / 4),
        ("tanh_shrink", 0.0),
    ],
)
def test_second_derivative_at_0(name, expected):
    """Formulas in |x| are smooth there, too."""
    assert jax.grad(jax.grad(pair(name)[0]))(0.0) == pytest.approx(expected, abs=1e-15)


def test_second_derivative_of_both_forms_of_gelu_and_of_glu_at_0():
    assert jax.grad(jax.grad(lambda x: gelu(x, False)))(0.0) == pytest.approx(2 / math.sqrt(2 * math.pi), abs=1e-15)
    hessian = jax.hessian(lambda x: glu(x).sum())(jnp.asarray([3.0, 0.0]))
    assert_close(hessian, jnp.asarray([[0, 0.25], [0.25, 0]]), length=1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", [*ELEMENTWISE, "glu"])
def test_dtype_is_kept(name, dtype):
    x = jnp.ones((2, 4), dtype)
    y, vjp = jax.vjp(glu if name == "glu" else pair(name)[0], x)
    assert y.dtype == dtype
    assert vjp(y)[0].dtype == dtype


def saved(function, *args):
    return sorted((leaf.dtype.name, leaf.shape) for leaf in jax.tree.leaves(jax.vjp(function, *args)[1]))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_what_is_saved(name):
    what = saved(pair(name)[0], jnp.ones((4, 3), jnp.float32))
    if name == "identity":
        assert what == []
    elif ELEMENTWISE[name].linear:
        assert what == [("int8" if name == "sparse_sigmoid" else "bool", (4, 3))]
    else:
        assert what == [("float32", (4, 3))]


def test_what_the_others_save():
    x = jnp.ones((4, 6), jnp.float32)
    assert saved(glu, x) == [("float32", (4, 6))]
    assert saved(prelu, x, x[0]) == [("float32", (4, 6)), ("float32", (6,))]


def test_prelu_is_leaky_relu_with_a_slope_that_is_learned():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 4)))
    assert jnp.array_equal(prelu(x, jnp.asarray(0.3)), leaky_relu(x, 0.3))
    dslope = jax.grad(lambda a: prelu(x, a).sum())(jnp.full(4, 0.3))
    assert_close(dslope, jnp.minimum(x, 0).sum(0), length=5)


@pytest.mark.parametrize("shape", [(3,), (5, 1, 4), (2, 4)])
def test_prelu_wants_a_slope_that_fits(shape):
    with pytest.raises(ValueError, match=r"slope: got shape .* for x of shape \(5, 4\), expected one that can be"):
        prelu(jnp.ones((5, 4)), jnp.ones(shape))


@pytest.mark.parametrize("name", [*ELEMENTWISE, "glu"])
def test_integers_are_refused(name):
    with pytest.raises(TypeError, match=r"x: got dtype int32, expected one of float64, float32, bfloat16, float16"):
        (glu if name == "glu" else pair(name)[0])(jnp.ones((2, 4), jnp.int32))


@pytest.mark.parametrize(
    ("option", "call"),
    [
        ("negative_slope", lambda x, v: leaky_relu(x, v)),
        ("alpha", lambda x, v: elu(x, v)),
        ("alpha", lambda x, v: celu(x, v)),
        ("b", lambda x, v: squareplus(x, v)),
        ("lambd", lambda x, v: hard_shrink(x, v)),
        ("lambd", lambda x, v: soft_shrink(x, v)),
        ("threshold", lambda x, v: threshold(x, v, 0.0)),
        ("value", lambda x, v: threshold(x, 0.0, v)),
    ],
)
def test_options_are_numbers(option, call):
    for value in (jnp.ones(()), "1", True, None):
        with pytest.raises(TypeError, match=rf"{option}: got a .*, expected a Python number"):
            call(jnp.ones(3), value)
    call(jnp.ones(3), np.float32(0.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: celu(x, 0), "alpha: got 0, expected another number"),
        (lambda x: squareplus(x, 0), "b: got 0, expected a number above 0"),
        (lambda x: squareplus(x, math.nan), "b: got nan, expected a number above 0"),
        (lambda x: hard_shrink(x, -0.5), r"lambd: got -0\.5, expected at least 0"),
        (lambda x: soft_shrink(x, -0.5), r"lambd: got -0\.5, expected at least 0"),
        (lambda x: glu(x), r"axis: got 0 for shape \(3,\), expected one axis of even size"),
        (lambda x: glu(x[:2], (0,)), None),
        (lambda x: glu(x[:2, None], (0, 1)), r"axis: got \(0, 1\) for shape \(2, 1\), expected one axis of even size"),
        (lambda x: glu(x, 1), r"axis: got 1 for shape \(3,\), expected distinct axes between -1 and 0"),
    ],
)
def test_options_out_of_range(call, message):
    if message is None:
        call(jnp.ones(3))
        return
    with pytest.raises(ValueError, match=message):
        call(jnp.ones(3))


def test_form_of_gelu_is_a_bool():
    with pytest.raises(TypeError, match=r"approximate: got 'none', expected True \(the form with tanh\) or False"):
        gelu(jnp.ones(3), "none")
