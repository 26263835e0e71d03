"""Strict JAX for every test: float64 exists, no dtype and no rank is promoted silently, several devices are there."""

import os
import random
from typing import NamedTuple

import pytest

# Before JAX starts: shard_map needs more than one device.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz-minutes",
        type=float,
        default=0,
        help="how long each test of tests/verification/test_fuzz.py goes on; 0 is CI's run",
    )
    parser.addoption(
        "--random-sets",
        type=int,
        default=0,
        help="how many random sets of arguments each test of tests/interoperability goes through; 0 is CI's run, with "
        "a seed that is always the same",
    )


@pytest.fixture(scope="module")
def quick_compilation():
    """For what is compiled anew at every turn, and run once."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


class RandomSets(NamedTuple):
    """How many random sets of arguments, and where they start."""

    count: int
    seed: int


@pytest.fixture
def random_sets(request) -> RandomSets:
    count = request.config.getoption("--random-sets")
    return RandomSets(count, random.SystemRandom().randrange(2**32)) if count else RandomSets(12, 0)
