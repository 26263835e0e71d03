"""Softmax and what goes with it: infinities, masks, sampling, what is saved, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close

from jaxconv import gumbel_softmax, log_softmax, logmeanexp, logsumexp, softmax, softmin

OPS = (softmax, log_softmax, softmin, logsumexp, logmeanexp)
KEY = jax.random.key(0)


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


def test_nothing_overflows():
    x = jnp.array([1e4, 0.0, 1e4], jnp.float32)
    assert softmax(x).tolist() == [0.5, 0.0, 0.5]
    assert jax.grad(lambda x: log_softmax(x)[0])(x).tolist() == [0.5, 0.0, -0.5]
    assert logmeanexp(x[::2]) == 1e4
    assert logsumexp(-x) == 0


def test_a_dominant_entry_keeps_the_digits_of_its_gradient():
    x, dy = np.asarray([9.0, 0.5, -0.5]), np.asarray([3.3, 0.7, -1.9])
    y = np.exp(x) / np.exp(x).sum()
    exact = y * (dy - dy @ y)
    (dx,) = jax.vjp(softmax, jnp.asarray(x, "float32"))[1](jnp.asarray(dy, "float32"))
    assert np.abs(np.asarray(dx) / exact - 1).max() < 1e-6


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("op", [*OPS, lambda x: gumbel_softmax(KEY, x, 0.5)])
def test_dtype_is_kept(op, dtype):
    x = jnp.ones((2, 3), dtype)
    y, vjp = jax.vjp(op, x)
    assert y.dtype == dtype
    assert vjp(y)[0].dtype == dtype


def test_sums_are_made_in_float32():
    x = jnp.zeros((1, 6000), "float16")
    assert softmax(x)[0, 0] == jnp.float16(1 / 6000)
    assert logsumexp(x) == jnp.float16(np.log(6000))
    assert logmeanexp(jnp.zeros(70000, "float16")) == 0


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("mask", [np.asarray([True, False, True]), np.asarray([[True], [False]]), np.True_])
def test_a_mask_is_that_of_jax_nn(op, mask):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3)))
    theirs = (lambda x, **options: jax.nn.softmax(-x, **options)) if op is softmin else getattr(jax.nn, op.__name__)
    full = np.broadcast_to(mask, x.shape)
    got, expected = op(x, axis=-1, where=mask), theirs(x, axis=-1, where=full)
    assert jnp.array_equal(jnp.isfinite(got), jnp.isfinite(expected))
    assert_close(jnp.nan_to_num(got, neginf=0.0), jnp.nan_to_num(expected, neginf=0.0), length=3)


@pytest.mark.parametrize("op", OPS)
def test_no_nan_gets_through_a_mask(op):
    mask = np.asarray([[True, False, True], [False, False, False]])
    x = jnp.where(mask, 1.0, jnp.nan)

    def total(x):
        y = op(x, axis=-1, where=mask)
        return jnp.sum(jnp.where(jnp.isfinite(y), y, 0) ** 3)

    for f in (jax.grad(total), jax.grad(lambda x: jnp.sum(jax.grad(total)(x) ** 2))):
        found = f(x)
        assert jnp.isfinite(found).all()
        assert (found[~mask] == 0).all()


@pytest.mark.parametrize("op", OPS)
def test_no_axis_named_is_all_of_them(op):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3)))
    assert jnp.array_equal(op(x, axis=None), op(x, axis=(0, 1)))
    assert op(jnp.asarray(2.0), axis=None) == {"softmax": 1, "softmin": 1, "log_softmax": 0}.get(op.__name__, 2)


def test_factors_with_a_mask_and_the_sign():
    a, b = jnp.asarray([[0.0, 1, 2], [3, 4, jnp.nan]]), jnp.asarray([[2.0, -5, 1], [-1, 1, jnp.inf]])
    mask = np.asarray([[True, True, True], [True, True, False]])
    y, sign = logsumexp(a, -1, b, return_sign=True, where=mask)
    sums = np.asarray([2 - 5 * np.e + np.e**2, np.e**4 - np.e**3])
    assert sign.tolist() == [-1, 1]
    assert_close(y, jnp.log(jnp.abs(sums)), length=3, scale=8)
    da, db = jax.grad(lambda a, b: logsumexp(a, -1, b, return_sign=True, where=mask)[0].sum(), (0, 1))(a, b)
    assert_close(da[0], jnp.asarray([2, -5 * np.e, np.e**2]) / sums[0], length=3, scale=8)
    assert_close(db[1], jnp.asarray([np.e**3, np.e**4, 0]) / sums[1], length=3, scale=8)


def test_second_derivatives_where_a_factor_is_0():
    a, b = jnp.asarray([1.0, 2, 0.5]), jnp.asarray([1.0, 0, 2])
    every = (0, 1)
    ours = jax.hessian(lambda a, b: logsumexp(a, -1, b), every)(a, b)
    expected = jax.hessian(lambda a, b: jnp.log(jnp.sum(b * jnp.exp(a))), every)(a, b)
    assert_close(ours, expected, length=3)
    # An infinite entry that does not count changes none of the other second derivatives, in either order.
    wide, with_zero = jnp.append(a, jnp.inf), jnp.append(b, 0.0)
    da = jax.hessian(lambda a: logsumexp(a, -1, with_zero))(wide)
    assert_close(da, jnp.pad(expected[0][0], (0, 1)), length=3)
    dadb = jax.jvp(jax.grad(lambda a, b: logsumexp(a, -1, b), every), (wide, with_zero), (jnp.zeros(4), jnp.eye(4)[0]))[
        1
    ]
    assert_close([v[:3] for v in dadb], [expected[0][1][:, 0], expected[1][1][:, 0]], length=3)


def test_hard_samples_pass_their_gradient_straight_through():
    x, dy = jax.random.normal(KEY, (4, 5)), jax.random.normal(jax.random.key(1), (4, 5))
    hard, hard_vjp = jax.vjp(lambda x, t: gumbel_softmax(KEY, x, t, hard=True), x, jnp.asarray(0.7))
    soft, soft_vjp = jax.vjp(lambda x, t: gumbel_softmax(KEY, x, t), x, jnp.asarray(0.7))
    assert jnp.array_equal(hard, jax.nn.one_hot(soft.argmax(-1), 5, dtype=x.dtype))
    for a, b in zip(hard_vjp(dy), soft_vjp(dy), strict=True):
        assert_close(a, b, length=5)


def test_no_category():
    assert gumbel_softmax(KEY, jnp.zeros((2, 0)), hard=True).shape == (2, 0)


def test_hard_samples_are_as_frequent_as_softmax_says():
    p = jnp.asarray([0.5, 0.3, 0.15, 0.05])
    n = 20000
    counts = gumbel_softmax(KEY, jnp.broadcast_to(jnp.log(p), (n, 4)), 0.5, hard=True).sum(0)
    # Five standard deviations of a binomial count.
    assert (jnp.abs(counts - n * p) < 5 * jnp.sqrt(n * p * (1 - p))).all()


def test_the_noise_is_the_same_in_every_dtype_and_follows_the_key():
    x = jnp.zeros((3, 4))
    samples = [gumbel_softmax(KEY, x.astype(dtype)) for dtype in ("float64", "float32")]
    assert_close(samples[0].astype("float32"), samples[1], length=4)
    assert not jnp.array_equal(samples[0], gumbel_softmax(jax.random.key(1), x))
    assert jnp.array_equal(samples[0], gumbel_softmax(jax.random.PRNGKey(0), x))  # a raw key


def test_another_temperature_compiles_nothing_anew():
    x = jnp.zeros((3, 7))
    traced = jax.jit(lambda x, t: gumbel_softmax(KEY, x, t))
    assert jnp.array_equal(gumbel_softmax(KEY, x, 0.25), traced(x, jnp.asarray(0.25)))
    from jaxconv.softmax import _gumbel_softmax_jit

    before = _gumbel_softmax_jit._cache_size()
    gumbel_softmax(KEY, x, 0.3)
    assert _gumbel_softmax_jit._cache_size() == before


def test_gumbel_softmax_under_vmap_of_keys():
    x, keys = jnp.zeros((3, 4)), jax.random.split(KEY, 3)
    together = jax.vmap(jax.grad(lambda x, key: gumbel_softmax(key, x, 0.5)[0]))(x, keys)
    alone = jnp.stack([jax.grad(lambda x, key=key: gumbel_softmax(key, x, 0.5)[0])(x[0]) for key in keys])
    assert_close(together, alone, length=4)


def test_what_is_saved():
    x = jnp.ones((4, 3), jnp.float32)

    def saved(function):
        return sorted((leaf.dtype.name, leaf.shape) for leaf in jax.tree.leaves(jax.vjp(function, x)[1]))

    whole, row = ("float32", (4, 3)), ("float32", (4, 1))
    assert saved(softmax) == saved(softmin) == [whole]
    assert saved(log_softmax) == [row, row, whole]
    assert saved(lambda x: logsumexp(x, -1)) == saved(lambda x: logmeanexp(x, -1)) == [row, row, whole]
    assert saved(lambda x: gumbel_softmax(KEY, x, hard=True)) == [("float32", ()), whole]
    assert saved(lambda x: softmax(x, where=np.asarray([True, True, False]))) == [("bool", (1, 3)), whole]


@pytest.mark.parametrize("op", [*OPS, lambda x, axis=-1: gumbel_softmax(KEY, x, axis=axis)])
@pytest.mark.parametrize(
    ("axis", "error"), [(2, ValueError), (-3, ValueError), ((0, -2), ValueError), ((), ValueError), (0.5, TypeError)]
)
def test_axis_is_checked(op, axis, error):
    with pytest.raises(error, match=r"axis: got"):
        op(jnp.ones((2, 3)), axis=axis)


@pytest.mark.parametrize("op", OPS)
def test_x_and_the_mask_are_checked(op):
    with pytest.raises(TypeError, match=r"got dtype int32, expected one of float64, float32, bfloat16, float16"):
        op(jnp.ones((2, 3), jnp.int32))
    with pytest.raises(TypeError, match=r"where: got dtype float64, expected bool"):
        op(jnp.ones((2, 3)), where=jnp.ones((2, 3)))
    with pytest.raises(TypeError, match=r"where: got a list, expected an array"):
        op(jnp.ones((2, 3)), where=[True, False, True])
    for shape in ((2,), (1, 2, 3)):
        with pytest.raises(
            ValueError, match=r"where: got shape .*, expected one that broadcasts to \(2, 3\), that of [ax]"
        ):
            op(jnp.ones((2, 3)), where=np.ones(shape, bool))


def test_factors_are_checked():
    with pytest.raises(ValueError, match=r"b: got shape \(2,\), expected one that broadcasts to \(2, 3\)"):
        logsumexp(jnp.ones((2, 3)), b=jnp.ones(2))
    with pytest.raises(TypeError, match=r"a, b: got mixed dtypes"):
        logsumexp(jnp.ones((2, 3)), b=jnp.ones(3, jnp.float32))


def test_options_of_gumbel_softmax_are_checked():
    x = jnp.ones((2, 3))
    for temperature in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"temperature: got .*, expected a number above 0"):
            gumbel_softmax(KEY, x, temperature)
    with pytest.raises(ValueError, match=r"temperature: got shape \(3,\), expected \(\)"):
        gumbel_softmax(KEY, x, jnp.ones(3))
    with pytest.raises(TypeError, match=r"x, temperature: got mixed dtypes"):
        gumbel_softmax(KEY, x, jnp.ones((), jnp.float32))
    with pytest.raises(TypeError, match=r"hard: got 1, expected True or False"):
        gumbel_softmax(KEY, x, hard=1)
    with pytest.raises(ValueError, match=r"axis: got \(0, 1\), expected one axis"):
        gumbel_softmax(KEY, x, axis=(0, 1))
