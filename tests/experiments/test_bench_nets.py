"""Where Flax is installed: the nets with our ops are those with Flax's own."""

import jax
import pytest

pytest.importorskip("flax")

from experiments import bench_nets  # noqa: E402


@pytest.mark.parametrize("name", ["MNIST convnet", "DCGAN generator"])
def test_a_net_with_our_ops_learns_as_flaxs(name):
    with jax.enable_x64(False):  # as the command runs
        result = bench_nets.time_net(name, rounds=1)  # compares the first losses
    assert result["flax_ratio"] > 0
