"""Dropout: how much is dropped, what shares a draw, one mask forward and backward, keys, errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from support import assert_close, normal

from jaxconv import drop_path, dropout

KEY = jax.random.key(0)


def ones(*shape):
    return jnp.ones(shape, jnp.float32)


# --- how much is dropped ---


def assert_share(kept, probability):
    """The number of elements kept is that of independent draws, within five standard deviations."""
    kept = np.asarray(kept)
    deviation = math.sqrt(probability * (1 - probability) * kept.size)
    assert abs(kept.sum() - probability * kept.size) < 5 * deviation, kept.mean()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_how_many_are_dropped(rate):
    y = np.asarray(dropout(KEY, ones(200, 500), rate))
    assert_share(y != 0, 1 - rate)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(1 - rate)}
    assert_share(np.asarray(drop_path(KEY, ones(20000, 2), rate))[:, 0] != 0, 1 - rate)


def test_draws_are_independent():
    kept = np.asarray(dropout(KEY, ones(200, 500), 0.5)) != 0
    # Equal neighbours along either axis: half of them, if the draws are independent.
    assert_share(kept[1:] == kept[:-1], 0.5)
    assert_share(kept[:, 1:] == kept[:, :-1], 0.5)
    assert_share(kept == (np.asarray(dropout(jax.random.key(1), ones(200, 500), 0.5)) != 0), 0.5)


def test_a_share_that_is_off_is_noticed():
    with pytest.raises(AssertionError):
        assert_share(dropout(KEY, ones(200, 500), 0.52) != 0, 0.5)


# --- what shares a draw ---


@pytest.mark.parametrize("axes", [1, (1,), (1, 2), [-1], (0, -2)])
def test_axes_that_share_a_draw(axes):
    kept = np.asarray(dropout(KEY, ones(30, 20, 10), 0.5, broadcast_axes=axes)) != 0
    chosen = tuple(axis % 3 for axis in ((axes,) if isinstance(axes, int) else axes))
    one = kept[tuple(slice(0, 1) if axis in chosen else slice(None) for axis in range(3))]
    assert np.array_equal(kept, np.broadcast_to(one, kept.shape))
    assert_share(one, 0.5)
    assert 0 < one.sum() < one.size


def test_drop_path_drops_whole_examples():
    x = normal(0, (40, 3, 2))[0]
    y = drop_path(KEY, x, 0.25)
    kept = np.asarray(y != 0).reshape(40, 6)
    assert set(kept.sum(1)) == {0, 6}
    assert_close(y, jnp.where(jnp.asarray(kept).reshape(x.shape), x / 0.75, 0), length=1)


# --- the mask of the forward is that of the backward ---


def assert_one_mask(x, y, dx, rate):
    """dx, for a cotangent of 1, is 1/(1 − rate) where y is not 0, and 0 elsewhere."""
    kept = y != 0
    assert 0 < int(kept.sum()) < kept.size
    assert_close(dx, jnp.where(kept, 1 / (1 - rate), 0).astype(x.dtype), length=1)
    assert_close(y, jnp.where(kept, x / (1 - rate), 0), length=1)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("old", [False, True])
def test_kinds_of_keys(impl, old):
    key = jax.random.PRNGKey(5, impl=impl) if old else jax.random.key(5, impl=impl)
    x = normal(0, (20, 3))[0]
    with jax.default_prng_impl(impl):
        y, vjp = jax.vjp(lambda x: dropout(key, x, 0.3), x)
        assert_one_mask(x, y, vjp(jnp.ones_like(y))[0], 0.3)
        typed = jax.random.wrap_key_data(key, impl=impl) if old else key
        assert_close(dropout(typed, x, 0.3), y, length=1)


@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(0)])
def test_keys_have_no_gradient(key):
    x = normal(0, (20, 3))[0]
    y, vjp = jax.vjp(lambda key, x: dropout(key, x, 0.3), key, x)
    no_gradient, dx = vjp(jnp.ones_like(y))
    assert no_gradient.dtype == jax.dtypes.float0
    assert_one_mask(x, y, dx, 0.3)


def test_a_key_per_example_under_vmap_and_one_for_all():
    x = normal(0, (2, 50))[0]
    gradient = jax.grad(lambda x, key: dropout(key, x, 0.5).sum())
    keys = jax.random.split(KEY, 2)
    y, dx = jax.vmap(lambda x, key: (dropout(key, x, 0.5), gradient(x, key)))(x, keys)
    assert_one_mask(x, y, dx, 0.5)
    assert not np.array_equal(y[0] != 0, y[1] != 0)
    for n in range(2):
        assert_close(y[n], dropout(keys[n], x[n], 0.5), length=1)
    y, dx = jax.vmap(lambda x: (dropout(KEY, x, 0.5), gradient(x, KEY)))(x)
    assert_one_mask(x, y, dx, 0.5)
    assert np.array_equal(y[0] != 0, y[1] != 0)


@pytest.mark.parametrize("wrapped", [lambda f: f, jax.checkpoint])
def test_a_key_per_step_of_a_scan(wrapped):
    x, keys = normal(0, (4, 30))[0], jax.random.split(KEY, 4)

    def scanned(x):
        return jax.lax.scan(wrapped(lambda total, item: (total + 1, dropout(item[0], item[1], 0.5))), 0, (keys, x))[1]

    y, vjp = jax.vjp(jax.jit(scanned), x)
    assert_one_mask(x, y, vjp(jnp.ones_like(y))[0], 0.5)
    assert_close(y[2], dropout(keys[2], x[2], 0.5), length=1)


def test_a_key_per_device():
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    x = normal(0, (2, 50))[0]
    data = PartitionSpec("i")

    def local(x):
        return dropout(jax.random.fold_in(KEY, jax.lax.axis_index("i")), x, 0.5)

    y, vjp = jax.vjp(jax.jit(jax.shard_map(local, mesh=mesh, in_specs=data, out_specs=data)), x)
    assert_one_mask(x, y, vjp(jnp.ones_like(y))[0], 0.5)
    assert not np.array_equal(y[0] != 0, y[1] != 0)


@pytest.mark.parametrize("op", [dropout, drop_path])
def test_a_key_per_device_and_the_same_x_on_all(op):
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    x = normal(0, (30, 5))[0]

    def local(x):
        return op(jax.random.fold_in(KEY, jax.lax.axis_index("i")), x, 0.5)[None]

    spread = jax.shard_map(local, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec("i"))
    y, vjp = jax.vjp(jax.jit(spread), x)
    assert not np.array_equal(y[0] != 0, y[1] != 0)
    assert_close(vjp(jnp.ones_like(y))[0], jnp.where(y != 0, 2.0, 0).sum(0), length=2)


def test_a_byte_per_draw_is_saved():
    def saved(f):
        return [(r.shape, r.dtype) for r in jax.tree.leaves(jax.vjp(f, ones(6, 5, 4))[1]) if r.shape]

    assert saved(lambda x: dropout(KEY, x, 0.5)) == [((6, 5, 4), bool)]
    assert saved(lambda x: dropout(KEY, x, 0.5, broadcast_axes=1)) == [((6, 1, 4), bool)]
    assert saved(lambda x: drop_path(KEY, x, 0.5)) == [((6, 1, 1), bool)]
    assert saved(lambda x: dropout(KEY, x, 0)) == []


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_dtypes(dtype):
    x = jnp.full((40,), 0.9, dtype)
    y, vjp = jax.vjp(lambda x: dropout(KEY, x, 0.1), x)
    assert y.dtype == vjp(y)[0].dtype == dtype
    # 0.9 in bfloat16 over 0.9, not over 0.9 in bfloat16.
    expected = (x.astype("float32" if x.dtype.itemsize == 2 else dtype) / 0.9).astype(dtype)
    assert_close(jnp.max(y), expected[0], length=0)


def test_a_rate_of_numpy():
    x = ones(6, 5)
    assert jnp.array_equal(dropout(KEY, x, np.float32(0.5)), dropout(KEY, x, 0.5))


S = jax.ShapeDtypeStruct
X, K = S((2, 3), "float32"), S((2,), "uint32")
ERRORS = {
    "rate above 1": (lambda k, x: dropout(k, x, 1.5), (K, X), ValueError, r"rate: got 1.5, expected a number from 0 to 1"),
    "rate below 0": (lambda k, x: drop_path(k, x, -0.1), (K, X), ValueError, r"rate: got -0.1"),
    "rate is NaN": (lambda k, x: dropout(k, x, math.nan), (K, X), ValueError, r"rate: got nan"),
    "rate is an array": (lambda k, x: dropout(k, x, x[0, 0]), (K, X), TypeError, r"rate: got a \w+, expected a Python number"),
    "a seed for a key": (lambda x: dropout(0, x, 0.5), (X,), TypeError, r"key: got a int, expected a key of jax.random: jax.random.key\(seed\)"),
    "arguments swapped": (lambda k, x: dropout(x, k, 0.5), (K, S((2,), "float32")), TypeError, r"x: got dtype uint32"),
    "x for a key": (lambda x: dropout(x, x, 0.5), (X,), TypeError, r"key: got an array of float32"),
    "several keys": (lambda x: dropout(jax.random.split(KEY, 3), x, 0.5), (X,), ValueError, r"key: got keys of shape \(3,\), expected one key: use jax.vmap"),
    "several old keys": (lambda k, x: dropout(k, x, 0.5), (S((3, 2), "uint32"), X), ValueError, r"key: got keys of shape \(3, 2\)"),
    "axes out of range": (lambda k, x: dropout(k, x, 0.5, broadcast_axes=2), (K, X), ValueError, r"broadcast_axes: got 2 for shape \(2, 3\)"),
    "axes that are no ints": (lambda k, x: dropout(k, x, 0.5, broadcast_axes=(0.5,)), (K, X), TypeError, r"broadcast_axes: got \(0.5,\)"),
    "axes in an array": (lambda k, x: dropout(k, x, 0.5, broadcast_axes=np.array([1])), (K, X), TypeError, r"broadcast_axes: got array\(\[1\]\), expected an int or a tuple of ints"),
    "no axes in an array": (lambda k, x: dropout(k, x, 0.5, broadcast_axes=np.array([])), (K, X), TypeError, r"broadcast_axes: got array"),
    "integers": (lambda k, x: dropout(k, x, 0.5), (K, S((2,), "int32")), TypeError, r"x: got dtype int32"),
    "no example axis": (lambda k, x: drop_path(k, x, 0.5), (K, S((), "float32")), ValueError, r"x: got shape \(\), expected \(N, ...\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_while_tracing(name):
    call, args, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        jax.eval_shape(call, *args)
