"""Training goes through optax, whose updates rely on JAX's standard promotion; the ops themselves are tested strictly."""

import jax
import pytest


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
