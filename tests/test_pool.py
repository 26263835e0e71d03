"""Pooling: ties and NaN, divisors, what is saved, errors; derivatives are in tests/verification."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, normal, small_integers

from jaxconv import (
    autodiff,
    avg_pool,
    logsumexp_pool,
    lp_pool,
    max_pool,
    max_pool_with_indices,
    max_unpool,
    min_pool,
    sum_pool,
)
from jaxconv.verification import transformations
from jaxconv.verification.cases.pool import plain_pool

PLAIN_OPS = {"max": max_pool, "min": min_pool, "sum": sum_pool, "avg": avg_pool}
OPS = PLAIN_OPS | {"lp": functools.partial(lp_pool, p=3), "logsumexp": logsumexp_pool}


@pytest.mark.parametrize("include", [True, False])
def test_average_divisors(include):
    # 5 wide, padded to 1 + 5 + 1, windows of 3 with stride 2 hang over by one with ceil_mode when the window is 4.
    x = jnp.ones((1, 6, 1))
    y = avg_pool(x, 4, strides=3, padding=[(1, 1)], ceil_mode=True, count_include_pad=include)
    # windows read positions -1..2, 2..5, 5..8; padding ends at 6, so the last one counts 5 and 6.
    assert y[0, :, 0].tolist() == ([3 / 4, 1.0, 1 / 2] if include else [1.0, 1.0, 1.0])


def test_shard_map_with_a_loop_over_taps():
    x = normal(0, (2, 8, 8, 1))[0]
    for check in transformations(lambda x: max_pool(x, 7, strides=1), x, transforms=("shard_map",)):
        assert check.passed is True, check


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_go_where_lax_puts_them(name):
    # Values 0, 1, 2 only: ties in nearly every window, of every size.
    for seed, (window, strides, padding) in enumerate(
        [((2, 2), (2, 2), "VALID"), ((3, 2), (1, 2), "SAME"), ((3, 3), (2, 1), [(1, 0), (2, 2)]), ((4, 3), (3, 3), 1)]
    ):
        rng = np.random.default_rng(seed)
        x = jnp.asarray(rng.integers(0, 3, (2, 7, 8, 3)), jnp.float32)
        reference = functools.partial(plain_pool, name, window=window, strides=strides, padding=padding)
        y, vjp = jax.vjp(lambda x, w=window, s=strides, p=padding: OPS[name](x, w, strides=s, padding=p), x)
        expected, reference_vjp = jax.vjp(reference, x)
        (dy,) = small_integers(seed, y.shape)
        assert jnp.array_equal(y, expected)
        assert jnp.array_equal(vjp(dy)[0], reference_vjp(dy)[0])


def test_ties_of_dilated_windows_go_to_the_first_tap():
    x = jnp.zeros((1, 5, 5, 1))
    dx = jax.grad(lambda x: max_pool(x, 2, strides=1, dilation=3).sum())(x)
    assert dx[0, :, :, 0].tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [0] * 5, [0] * 5]


def test_infinite_ties_stay_on_the_input():
    x = jnp.full((1, 3, 1), -jnp.inf)
    dx = jax.grad(lambda x: max_pool(x, 3, strides=3, padding=[(2, 1)]).sum())(x)
    assert dx[0, :, 0].tolist() == [1.0, 1.0, 0.0]


def test_the_first_nan_is_the_extremum():
    x = jnp.array([1.0, jnp.nan, 3.0, jnp.nan, 0.0, 2.0])[None, :, None]
    for op in (max_pool, min_pool):
        y, vjp = jax.vjp(lambda x, op=op: op(x, 3), x)
        assert jnp.isnan(y[0, :, 0]).tolist() == [True, True]
        assert vjp(jnp.array([[[5.0], [7.0]]]))[0][0, :, 0].tolist() == [0, 5, 0, 7, 0, 0]


def test_windows_wholly_in_the_padding():
    x = jnp.ones((1, 2, 1))
    options = {"strides": 2, "padding": [(2, 2)]}
    assert max_pool(x, 2, **options)[0, :, 0].tolist() == [-jnp.inf, 1, -jnp.inf]
    assert avg_pool(x, 2, count_include_pad=False, **options)[0, :, 0].tolist() == [0, 1, 0]
    for op in (max_pool, functools.partial(avg_pool, count_include_pad=False)):
        dx = jax.grad(lambda x, op=op: jnp.vdot(op(x, 2, **options), jnp.array([[[9.0], [1.0], [9.0]]])))(x)
        assert dx.sum() == 1


def test_overlapping_windows_are_credited_each_time():
    x = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1.0)
    assert jax.grad(lambda x: max_pool(x, 3, strides=1).sum())(x)[0, 2, 2, 0] == 9


@pytest.mark.parametrize("name", PLAIN_OPS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_dtypes_are_kept_and_sums_made_in_float32(name, dtype):
    x = jnp.ones((1, 6000, 1), dtype).at[0, 0, 0].set(2048)
    op = OPS[name]
    y = op(x, 6000)
    assert y.dtype == dtype
    expected = {"max": 2048, "min": 1, "sum": 2048 + 5999, "avg": (2048 + 5999) / 6000}[name]
    assert y[0, 0, 0] == jnp.asarray(expected, dtype)
    # One input in many windows: its cotangents are summed in float32 too.
    dx = jax.grad(lambda x: (op(x, 3000, strides=1) * (3000 if name == "avg" else 1)).sum())(
        jnp.zeros((1, 5999, 1), dtype).at[0, 2999, 0].set(-1 if name == "min" else 1)
    )
    assert dx.dtype == dtype
    if name != "avg" or dtype in ("float32", "float64"):
        assert dx[0, 2999, 0] == jnp.asarray(3000, dtype)


@pytest.mark.parametrize("name", OPS)
def test_size_0(name):
    op = OPS[name]
    for shape in ((0, 6, 6, 2), (2, 6, 6, 0)):
        y, vjp = jax.vjp(lambda x: op(x, 2), jnp.zeros(shape))
        assert y.shape == (shape[0], 3, 3, shape[-1])
        assert vjp(y)[0].shape == shape


@pytest.mark.parametrize("name", OPS)
def test_an_empty_spatial_axis(name):
    for shape, window, options in (
        ((2, 0, 3), 2, {}),
        ((2, 0, 4, 3), 2, {"padding": "SAME"}),
        ((2, 0, 3), 3, {"strides": 1}),
    ):
        y, vjp = jax.vjp(lambda x, w=window, o=options: OPS[name](x, w, **o), jnp.zeros(shape))
        assert 0 in y.shape
        assert vjp(y)[0].shape == shape
    y, vjp = jax.vjp(lambda x: OPS[name](x, 2, padding=2), jnp.zeros((2, 0, 3)))
    assert y.shape == (2, 2, 3)
    assert vjp(y)[0].shape == (2, 0, 3)


def test_ceil_mode_refuses_a_cropped_end():
    with pytest.raises(ValueError, match=r"padding: got high padding -1 on spatial axis 0 together with ceil_mode"):
        max_pool(jnp.ones((1, 6, 1)), 2, padding=[(0, -1)], ceil_mode=True)
    x = jnp.arange(1.0, 7.0)[None, :, None]
    for op in OPS.values():
        assert jnp.array_equal(op(x, 2, padding=[(-1, -1)]), op(x[:, 1:5], 2))


def test_what_is_saved():
    x = jnp.ones((2, 8, 8, 3), jnp.float32)

    def saved(function):
        return sorted((leaf.dtype.name, leaf.size) for leaf in jax.tree.leaves(jax.vjp(function, x)[1]))

    assert saved(lambda x: max_pool(x, 2)) == [("uint8", 2 * 4 * 4 * 3)]
    assert saved(lambda x: min_pool(x, 3, strides=1)) == [("uint8", 2 * 6 * 6 * 3)]
    assert saved(lambda x: avg_pool(x, 2)) == []
    assert saved(lambda x: sum_pool(x, 2)) == []
    assert saved(lambda x: lp_pool(x, 2, 2)) == [("float32", 2 * 4 * 4 * 3), ("float32", x.size)]
    assert saved(lambda x: logsumexp_pool(x, 2)) == [("float32", 2 * 4 * 4 * 3)] * 2 + [("float32", x.size)]


def test_compiled_backward_has_neither_scatter_nor_select_and_scatter():
    x = jnp.ones((2, 8, 8, 3), jnp.float32)
    for op in (max_pool, avg_pool, OPS["lp"], logsumexp_pool):
        grad = jax.jit(jax.grad(lambda x, op=op: op(x, 3, strides=2, padding="SAME").sum()))
        assert "scatter(" not in grad.lower(x).compile().as_text()


# --- indices ---


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_indices_are_where_the_maxima_are(data_format):
    options = {"strides": (2, 1), "padding": ((1, 2), (0, 3)), "dilation": (1, 2), "ceil_mode": True}
    x = normal(0, (2, 3, 6, 5, 4))[0]
    y, indices = max_pool_with_indices(x, (3, 2), data_format=data_format, **options)
    assert jnp.array_equal(y, max_pool(x, (3, 2), data_format=data_format, **options))
    assert indices.dtype == jnp.int32
    if data_format == "channels_first":
        x, y, indices = (jnp.moveaxis(a, 2, -1) for a in (x, y, indices))
    flat, at = (a.reshape(2, 3, -1, x.shape[-1]) for a in (x, indices))
    found = jnp.where(at >= 0, jnp.take_along_axis(flat, at, 2), -jnp.inf)
    assert jnp.array_equal(found.reshape(y.shape), y)
    assert jnp.any(at == -1)


def test_indices_of_ties_nan_and_padding():
    x = jnp.asarray([1.0, 1.0, jnp.nan, jnp.nan, -jnp.inf, -jnp.inf]).reshape(1, 6, 1)
    y, indices = max_pool_with_indices(x, 2, padding=((2, 3),))
    assert indices[0, :, 0].tolist() == [-1, 0, 2, 4, -1]
    expected = jnp.asarray([1, 0, jnp.nan, 0, -jnp.inf, 0])
    assert jnp.array_equal(max_unpool(y, indices, (6,))[0, :, 0], expected, equal_nan=True)


def test_unpooling_is_the_adjoint_of_pooling_at_its_indices():
    options = {"strides": 1, "padding": 1}
    x, dy = normal(0, (2, 5, 6, 3), (2, 5, 6, 3))
    pooled, vjp = jax.vjp(lambda x: max_pool(x, 3, **options), x)
    _, indices = max_pool_with_indices(x, 3, **options)
    dy = dy[:, : pooled.shape[1], : pooled.shape[2]]
    assert_close(max_unpool(dy, indices, (5, 6)), vjp(dy)[0], length=9)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integer_dtypes_of_indices(dtype):
    y = jnp.ones((1, 2, 1))
    x = max_unpool(y, jnp.asarray([5, 100]).astype(dtype).reshape(1, 2, 1), (300,))
    assert jnp.nonzero(x[0, :, 0])[0].tolist() == [5, 100]


def test_what_unpooling_saves():
    y = jnp.ones((2, 4, 3), jnp.float32)
    indices = jnp.zeros(y.shape, jnp.int32)
    saved = jax.vjp(lambda y, i: max_unpool(y, i, (8,)), y, indices)[1]
    assert [leaf.dtype.name for leaf in jax.tree.leaves(saved)] == ["int32"]
    saved = jax.vjp(lambda x: max_pool_with_indices(x, 2)[0], y)[1]
    assert [leaf.dtype.name for leaf in jax.tree.leaves(saved)] == ["uint8"]


def test_errors_of_unpooling():
    y, indices = jnp.ones((1, 4, 2)), jnp.zeros((1, 4, 2), jnp.int32)
    with pytest.raises(ValueError, match=r"indices: got shape \(1, 3, 2\), expected \(1, 4, 2\), that of y"):
        max_unpool(y, indices[:, :3], (8,))
    with pytest.raises(TypeError, match=r"indices: got dtype float64, expected integers"):
        max_unpool(y, y, (8,))
    with pytest.raises(TypeError, match=r"y: got dtype int32"):
        max_unpool(indices, indices, (8,))
    with pytest.raises(ValueError, match=r"output_size: got \(-1,\)"):
        max_unpool(y, indices, (-1,))
    with pytest.raises(ValueError, match=r"y: got shape \(1, 4, 2\) with 3 axes.* at least 4"):
        max_unpool(y, indices, (8, 8, 8))
    with pytest.raises(ValueError, match=r"output_size: got 4294967296 positions \(65536 x 65536\), expected at most"):
        max_unpool(y, indices, (65536, 65536))


# --- soft maxima ---


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 20, 1000.0])
def test_lp_pool_over_the_whole_range_of_float32(p):
    # Pairs x, x/2 of every size: y and the gradient are those of 1, 1/2 times x.
    sizes = np.ldexp(np.float32(1), np.arange(-124, 127))
    x = jnp.asarray(np.stack([sizes, -sizes / 2], 1).reshape(1, -1, 1))
    y, vjp = jax.vjp(lambda x: lp_pool(x, 2, p), x)
    norm = (1 + 0.5**p) ** (1 / p)
    assert_close(y[0, :, 0] / sizes, jnp.full(sizes.shape, norm, jnp.float32), length=1)
    dx = vjp(jnp.ones_like(y))[0].reshape(-1, 2)
    expected = jnp.asarray([norm ** (1 - p), -((2 * norm) ** (1 - p))], jnp.float32)
    assert_close(dx, jnp.broadcast_to(expected, dx.shape), length=p * p)


def test_lp_pool_far_apart():
    # The ratio to the power 1/8 is a normal number, though the ratio itself is 0 in float32.
    x = jnp.asarray([1e-30, 1e30], jnp.float32).reshape(1, 2, 1)
    dx = jax.grad(lambda x: lp_pool(x, 2, 1.125).sum())(x)
    assert_close(dx[:, :1, 0], jnp.full((1, 1), 1e-60**0.125, jnp.float32), length=1, scale=1e-60**0.125)


def test_soft_maxima_of_large_numbers_keep_their_gradients():
    x = jnp.asarray([1e4, 1e4 + 1, 1e4 - 2]).astype(jnp.float32).reshape(1, 3, 1)
    dx = jax.grad(lambda x: logsumexp_pool(x, 3).sum())(x)
    assert_close(dx, jax.nn.softmax(x, 1), length=3)
    assert logsumexp_pool(jnp.asarray([[[0.0], [-30.0]]], jnp.float32), 2)[0, 0, 0] == np.float32(np.exp(-30))


def test_soft_maxima_between_their_limits():
    x = normal(0, (2, 9, 9, 3))[0]
    largest = max_pool(x, 3)
    assert_close(logsumexp_pool(x, 3, sharpness=1e6), largest, length=1, scale=1e10)
    assert jnp.all(logsumexp_pool(x, 3) <= largest + np.log(9))
    assert_close(lp_pool(x, 3, 1), sum_pool(jnp.abs(x), 3), length=9)
    assert jnp.all(jnp.abs(lp_pool(x, 3, 1e4) - max_pool(jnp.abs(x), 3)) < 1e-3)


def test_second_derivatives_at_zero():
    # y = sqrt(x0² + x1²) at (0, 3): d²y/dx0² = 1/3; of a window of zeros there is none.
    x = jnp.asarray([0.0, 3.0, 0.0, 0.0]).reshape(1, 4, 1)
    for p, at_0 in ((2, 1 / 3), (1, 0.0), (1.5, 0.0), (3, 0.0), (2.5, 0.0)):
        hessian = jax.hessian(lambda x, p=p: lp_pool(x, 2, p).sum())(x).reshape(4, 4)
        assert_close(jnp.diag(hessian), jnp.asarray([at_0, 0.0, 0.0, 0.0]), length=1)


def test_autodiff_agrees_with_the_rule_at_ties():
    x = jnp.asarray([2.0, 1.0, 2.0, 2.0, -1.0, 0.5]).reshape(1, 6, 1)
    for op in (logsumexp_pool, OPS["lp"]):
        f = lambda x, op=op: jnp.sin(op(x, 3, padding=((4, 0),), strides=1)[:, 2:]).sum()  # noqa: E731
        assert_close(jax.grad(autodiff(f))(x), jax.grad(f)(x), length=3)


@pytest.mark.parametrize(
    ("p", "error", "message"),
    [
        (0.5, ValueError, r"p: got 0.5, expected a finite number, at least 1"),
        (float("inf"), ValueError, r"p: got inf, .*: for p = inf use max_pool, or global_max_pool, of jnp.abs\(x\)"),
        (float("nan"), ValueError, r"p: got nan"),
        (jnp.asarray(2.0), TypeError, r"p: got a ArrayImpl, expected a Python number: it is a constant"),
        (True, TypeError, r"p: got a bool"),
    ],
)
def test_exponents(p, error, message):
    with pytest.raises(error, match=message):
        lp_pool(jnp.ones((1, 4, 1)), 2, p)


@pytest.mark.parametrize(
    ("sharpness", "error", "message"),
    [
        (0, ValueError, r"sharpness: got 0, expected a finite number above 0"),
        (-1.0, ValueError, r"sharpness: got -1.0, .*: for a soft minimum negate x and the result"),
        (float("inf"), ValueError, r"sharpness: got inf, .*: for the limit use max_pool"),
        ("1", TypeError, r"sharpness: got a str, expected a Python number: it is a constant"),
    ],
)
def test_sharpness(sharpness, error, message):
    with pytest.raises(error, match=message):
        logsumexp_pool(jnp.ones((1, 4, 1)), 2, sharpness=sharpness)


def test_numbers_of_numpy():
    x = jnp.arange(1.0, 5.0).reshape(1, 4, 1)
    assert jnp.array_equal(lp_pool(x, 2, np.float32(3.0)), lp_pool(x, 2, 3))
    assert jnp.array_equal(logsumexp_pool(x, 2, sharpness=np.float32(0.5)), logsumexp_pool(x, 2, sharpness=0.5))


X = jax.ShapeDtypeStruct((2, 8, 8, 4), "float32")
ERRORS = {
    "window larger than the padded input": (lambda op, x: op(x, 9), ValueError, r"window: got 9 taps with dilation 1 on spatial axis 0, which span 9 positions, but the padded input has 8"),
    "window of the wrong type": (lambda op, x: op(x, 2.0), TypeError, r"window: got 2.0, expected an int, or a tuple of ints"),
    "window below 1": (lambda op, x: op(x, 0), ValueError, r"window: got 0, expected an int, or 2 ints .*at least 1"),
    "strides below 1": (lambda op, x: op(x, 2, strides=(1, 0)), ValueError, r"strides: got \(1, 0\)"),
    "dilation below 1": (lambda op, x: op(x, 2, dilation=0), ValueError, r"dilation: got 0"),
    "wrong padding string": (lambda op, x: op(x, 2, padding="FULLY"), ValueError, r"padding: got 'FULLY', expected one of 'VALID'"),
    "wrong number of pairs": (lambda op, x: op(x, 2, padding=[(0, 0)]), ValueError, r"padding: got \[\(0, 0\)\], which has 1 entries"),
    "unknown data_format": (lambda op, x: op(x, 2, data_format="NCHW"), ValueError, r"data_format: got 'NCHW'"),
    "too few axes": (lambda op, x: op(x, (2, 2, 2, 2)), ValueError, r"x: got shape \(2, 8, 8, 4\) with 4 axes, expected .*at least 5"),
    "an int window without a batch axis": (lambda op, x: jax.vmap(jax.vmap(lambda x: op(x, 2)))(x), ValueError, r"window: got the int 2 for an array with 2 axes.*give a tuple"),
    "integer input": (lambda op, x: op(x.astype("int32"), 2), TypeError, r"x: got dtype int32, expected one of float64"),
    "boolean input": (lambda op, x: op(x > 0, 2), TypeError, r"x: got dtype bool"),
}  # fmt: skip


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
@pytest.mark.parametrize("name", ERRORS)
def test_errors_while_tracing(name, op):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        jax.eval_shape(functools.partial(call, op), X)


@pytest.mark.parametrize("kind", ["CIRCULAR", "REFLECT", "SYMMETRIC", "REPLICATE"])
def test_indices_of_repeated_values_are_those_of_the_originals(kind):
    x = jnp.asarray(np.random.default_rng(0).permutation(2 * 5 * 6 * 3).reshape(2, 5, 6, 3), jnp.float32)
    y, indices = max_pool_with_indices(x, (4, 3), strides=(1, 2), padding=kind)
    flat = x.reshape(2, 30, 3)
    assert jnp.array_equal(jnp.take_along_axis(flat, indices.reshape(2, -1, 3), 1).reshape(y.shape), y)
    assert jnp.array_equal(y, max_pool(x, (4, 3), strides=(1, 2), padding=kind))


@pytest.mark.parametrize("shape", [(0, 8, 8, 4), (2, 0, 8, 4), (0, 0, 8, 4)])
@pytest.mark.parametrize("op", [max_pool, min_pool, avg_pool], ids=lambda op: op.__name__)
def test_empty_arrays_of_several_channels(op, shape):
    x = jnp.zeros(shape)
    pooled = lambda x: op(x, (2, 2), strides=1, padding=1)  # noqa: E731
    y = pooled(x)
    assert y.shape == (shape[0], shape[1] + 1, 9, 4)
    assert jax.grad(lambda x: pooled(x).sum())(x).shape == shape
