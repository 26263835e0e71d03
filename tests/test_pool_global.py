"""Global pooling: ties and NaN, nothing to pool, what is saved, errors; derivatives are in tests/verification."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, normal

from jaxconv import (
    autodiff,
    avg_pool,
    global_avg_pool,
    global_logsumexp_pool,
    global_lp_pool,
    global_max_pool,
    global_min_pool,
    global_sum_pool,
    logsumexp_pool,
    lp_pool,
    max_pool,
    min_pool,
    sum_pool,
)

OPS = {
    "avg": global_avg_pool,
    "logsumexp": functools.partial(global_logsumexp_pool, sharpness=2.0),
    "lp": functools.partial(global_lp_pool, p=3),
    "max": global_max_pool,
    "min": global_min_pool,
    "sum": global_sum_pool,
}
WINDOWED = {
    "avg": avg_pool,
    "logsumexp": functools.partial(logsumexp_pool, sharpness=2.0),
    "lp": functools.partial(lp_pool, p=3),
    "max": max_pool,
    "min": min_pool,
    "sum": sum_pool,
}


@pytest.mark.parametrize("name", OPS)
def test_global_pooling_is_that_of_one_window_as_large_as_the_input(name):
    x = normal(0, (2, 5, 4, 3))[0]
    y, vjp = jax.vjp(lambda x: OPS[name](x, keepdims=True), x)
    windowed, windowed_vjp = jax.vjp(lambda x: WINDOWED[name](x, (5, 4)), x)
    assert_close(y, windowed, length=20)
    assert_close(vjp(y), windowed_vjp(y), length=20)


def test_autodiff_agrees_with_the_rule_at_ties():
    x = jnp.asarray([2.0, 1.0, 2.0, 2.0, -1.0, 0.5]).reshape(1, 6, 1)
    for name in ("lp", "logsumexp"):
        f = lambda x, op=OPS[name]: jnp.sin(op(x)).sum()  # noqa: E731
        assert_close(jax.grad(autodiff(f))(x), jax.grad(f)(x), length=6)


@pytest.mark.parametrize("p", [1, 1.5, 2, 20])
def test_global_lp_pool_over_the_whole_range_of_float32(p):
    for size in (1e-37, 1.0, 1e38):
        x = jnp.asarray([size, -size / 2], jnp.float32).reshape(1, 2, 1)
        y, vjp = jax.vjp(lambda x: global_lp_pool(x, p), x)
        norm = (1 + 0.5**p) ** (1 / p)
        assert_close(y / jnp.float32(size), jnp.full((1, 1), norm, jnp.float32), length=1)
        expected = jnp.asarray([norm ** (1 - p), -((2 * norm) ** (1 - p))], jnp.float32).reshape(1, 2, 1)
        assert_close(vjp(jnp.ones_like(y))[0], expected, length=p * p)


def test_what_is_saved():
    x = jnp.ones((2, 8, 8, 3), jnp.float32)

    def saved(function):
        return sorted((leaf.dtype.name, leaf.size) for leaf in jax.tree.leaves(jax.vjp(function, x)[1]))

    for op in (global_max_pool, global_min_pool):
        assert saved(op) == [("int32", 6)]
    for op in (global_avg_pool, global_sum_pool):
        assert saved(op) == []
    assert saved(OPS["lp"]) == [("float32", 6), ("float32", x.size)]
    assert saved(OPS["logsumexp"]) == [("float32", 6), ("float32", 6), ("float32", x.size)]


def test_global_max_takes_the_first_tie_and_the_first_nan():
    x = jnp.array([[1.0, 5.0], [3.0, 5.0], [3.0, 2.0]])[None]
    dx = jax.grad(lambda x: global_max_pool(x).sum())(x)
    assert dx[0].tolist() == [[0, 1], [1, 0], [0, 0]]
    dx = jax.grad(lambda x: global_max_pool(x).sum())(x.at[0, 2, 0].set(jnp.nan))
    assert dx[0].tolist() == [[0, 1], [0, 0], [1, 0]]


def test_global_pooling_of_nothing():
    assert global_avg_pool(jnp.ones((2, 0, 3))).tolist() == [[0.0] * 3] * 2
    assert global_max_pool(jnp.ones((0, 4, 3))).shape == (0, 3)
    assert global_sum_pool(jnp.ones((2, 0, 3))).tolist() == [[0.0] * 3] * 2
    for op in (global_max_pool, global_min_pool):
        with pytest.raises(ValueError, match="without any spatial position"):
            op(jnp.ones((2, 0, 3)))


def test_global_average_of_more_positions_than_float16_can_count():
    dx = jax.grad(lambda x: global_avg_pool(x).sum())(jnp.zeros((1, 256, 256, 1), jnp.float16))
    assert dx[0, 0, 0, 0] == jnp.float16(1 / 65536)


def test_a_number_of_axes_of_numpy():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    assert jnp.array_equal(global_max_pool(x, spatial_ndim=np.int64(2)), global_max_pool(x, spatial_ndim=2))
    with pytest.raises(ValueError, match=r"spatial_ndim: got True for x"):
        global_max_pool(x, spatial_ndim=True)


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_global_errors(op):
    with pytest.raises(
        ValueError, match=r"spatial_ndim: got None for x of shape \(2, 3\).*without a batch axis name it"
    ):
        op(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"x: got shape \(2, 3\) with 2 axes"):
        op(jnp.ones((2, 3)), spatial_ndim=2)
    with pytest.raises(TypeError, match=r"x: got dtype int32"):
        op(jnp.ones((2, 3, 3), jnp.int32))
