"""Every public name has a docstring with a formula and an example, and the examples run."""

import doctest
import importlib
import inspect
import pkgutil
import re

import jax
import jax.numpy as jnp
import pytest

import jaxconv
from jaxconv import layers, nets, training, transform

SECTIONS = ("Formula", "Gradient", "Args:", "Returns:", "Raises:", "Saved for the backward:", "Reference:", "Example:")
OPS = [name for name in jaxconv.__all__ if name not in transform.__all__]
OP_MODULES = (
    "activation",
    "conv",
    "conv_general",
    "dropout",
    "linear",
    "loss",
    "norm",
    "padding",
    "patches",
    "pool",
    "pool_adaptive",
    "pool_global",
    "separable",
    "softmax",
)
MODULES = sorted(info.name for info in pkgutil.walk_packages(jaxconv.__path__, "jaxconv."))


def missing(document):
    """Which parts of an op's docstring are not there."""
    lacking = [section for section in SECTIONS if not re.search(rf"^ *{section}", document or "", re.MULTILINE)]
    formula = re.search(r"Formula.*?(?=Gradient)", document or "", re.DOTALL)
    if not (formula and re.search(r"^ +\w+(\[[^]]*\]|_\w+)? += ", formula.group(), re.MULTILINE)):
        lacking.append("an equation")
    if ">>>" not in (document or ""):
        lacking.append("a line of code")
    return lacking


@pytest.mark.parametrize("name", OPS)
def test_docstring_of_every_op(name):
    op = getattr(jaxconv, name)
    assert missing(op.__doc__) == []
    for parameter in inspect.signature(op).parameters:
        assert re.search(rf"^ +{parameter}: ", op.__doc__, re.MULTILINE), f"Args says nothing of {parameter}"


def test_a_lacking_docstring_is_noticed():
    complete = jaxconv.relu.__doc__
    assert "an equation" in missing(complete.replace("y = max(0, x)", "see the paper"))
    assert "Gradient" in missing(complete.replace("Gradient:", ""))
    assert "a line of code" in missing(complete.replace(">>>", ""))
    assert missing(None)


@pytest.mark.parametrize("module", [layers, nets, training], ids=lambda module: module.__name__)
def test_docstring_of_everything_else_public(module):
    for name in module.__all__:
        member = getattr(module, name)
        if callable(member) and not isinstance(member, layers.Layer) and not issubclass_of_exception(member):
            assert member.__doc__, name
            assert ">>>" in member.__doc__ or name == "TrainState", name


def issubclass_of_exception(member):
    return isinstance(member, type) and issubclass(member, Exception)


def test_all_lists_every_op_and_nothing_else():
    ops = {name for module in OP_MODULES for name in importlib.import_module(f"jaxconv.{module}").__all__}
    assert sorted(ops) == OPS
    assert jaxconv.__all__ == sorted(jaxconv.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    pytest.importorskip("orbax.checkpoint") if module.endswith("checkpoint") else None
    # As a user runs them: in JAX's default configuration.
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        found = doctest.testmod(importlib.import_module(module), extraglobs={"jax": jax, "jnp": jnp})
    assert found.failed == 0


def test_core_needs_no_extra():
    import subprocess
    import sys

    code = (
        "import sys, jaxconv, jaxconv.layers, jaxconv.training;"
        "extras = {'rich', 'tyro', 'matplotlib', 'orbax', 'mlxtend', 'sklearn'} & set(sys.modules);"
        "assert not extras, extras"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
