"""Global pooling: ties and NaN, nothing to pool, what is saved, errors; derivatives are in tests/verification."""

import jax
import jax.numpy as jnp
import pytest

from jaxconv import global_avg_pool, global_max_pool


def test_global_max_takes_the_first_tie_and_the_first_nan():
    x = jnp.array([[1.0, 5.0], [3.0, 5.0], [3.0, 2.0]])[None]
    dx = jax.grad(lambda x: global_max_pool(x).sum())(x)
    assert dx[0].tolist() == [[0, 1], [1, 0], [0, 0]]
    dx = jax.grad(lambda x: global_max_pool(x).sum())(x.at[0, 2, 0].set(jnp.nan))
    assert dx[0].tolist() == [[0, 1], [0, 0], [1, 0]]


def test_global_pooling_of_nothing():
    assert global_avg_pool(jnp.ones((2, 0, 3))).tolist() == [[0.0] * 3] * 2
    assert global_max_pool(jnp.ones((0, 4, 3))).shape == (0, 3)
    with pytest.raises(ValueError, match="without any spatial position"):
        global_max_pool(jnp.ones((2, 0, 3)))


def test_global_average_of_more_positions_than_float16_can_count():
    dx = jax.grad(lambda x: global_avg_pool(x).sum())(jnp.zeros((1, 256, 256, 1), jnp.float16))
    assert dx[0, 0, 0, 0] == jnp.float16(1 / 65536)


@pytest.mark.parametrize("op", [global_avg_pool, global_max_pool])
def test_global_errors(op):
    with pytest.raises(ValueError, match=r"spatial_ndim: got 0 for x of shape \(2, 3\).*without a batch axis name it"):
        op(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"x: got shape \(2, 3\) with 2 axes"):
        op(jnp.ones((2, 3)), spatial_ndim=2)
    with pytest.raises(TypeError, match=r"x: got dtype int32"):
        op(jnp.ones((2, 3, 3), jnp.int32))
