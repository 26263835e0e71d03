"""README's code runs, and its commands are there for CI to find."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 5
    names = {}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            # A reader copies one; only the test of softplus comes after what it tests.
            found = {name: names[name] for name in ("softplus", "check_vjp") if name in names}
            exec(block, found)
            names |= found
    assert names["dw"].shape == (3, 3, 3, 16)
    assert names["logits"].shape == (2, 10)
    assert jnp.isfinite(names["history"]["loss"]).all()
    assert {check.name for check in names["report"].failures} >= {"against float64", "finite differences"}
    with pytest.raises(AssertionError, match="the gradient of softplus failed"):
        names["test_softplus"]()


def test_the_two_commands_set_up_and_run():
    for name, end in (("main", "-m experiments.train"), ("test", "-m pytest")):
        (command,) = re.findall(rf"<!-- command: {name} -->\n```sh\n(.*?)\n```", README)
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")
        assert command.endswith(end)
