"""A check is itself checked: every planted bug is caught, and nothing is where nothing was planted."""

import contextlib
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from experiments.planted_bugs import MUTATIONS, first_catch, mutation, planted, points, run

pytestmark = pytest.mark.usefixtures("quick_compilation")

OURS = [bug.name for bug in MUTATIONS if not bug.elsewhere]
ELSEWHERE = [bug.name for bug in MUTATIONS if bug.elsewhere]
STARTS = sorted({(bug.op, bug.at) for bug in MUTATIONS})


def check(bug):
    """The suite catches the bug, and not by an exception where the bug is a wrong number."""
    assert bug.at in points(bug.op)
    catch = first_catch(bug)
    assert catch is not None
    assert catch.check.note.startswith("raised") == bug.raises, catch.check.note
    assert catch.point == bug.at, f"found late, at {catch.point}"


@pytest.mark.parametrize("name", OURS)
def test_planted_bug_is_caught(name):
    check(mutation(name))


@pytest.mark.parametrize("name", ELSEWHERE)
def test_bug_of_another_library_is_caught(name):
    check(mutation(name))


@pytest.mark.parametrize(("op", "point"), STARTS, ids=[f"{op}: {', '.join(point)}" for op, point in STARTS])
def test_no_alarm_without_a_bug(op, point):
    with planted(None):
        assert [str(check) for check in run(op, point) if check.passed is False] == []


def test_names_are_distinct():
    names = [bug.name for bug in MUTATIONS]
    assert len(set(names)) == len(names) >= 150
    assert len(ELSEWHERE) >= 30


def gradients():
    """Of one op of every kind, as bytes."""
    x, w = jnp.sin(jnp.arange(12.0) ** 2).reshape(1, 12, 1), jnp.arange(1.0, 4).reshape(3, 1, 1)
    kink = x[:, 3:4]
    functions = (
        lambda x: jaxconv.conv(x, w, padding=1) ** 2,
        lambda x: jaxconv.max_pool(x, 3, strides=1) ** 2,
        lambda x: jaxconv.relu(x - kink) ** 3 + jaxconv.relu(x - kink),
        lambda x: jaxconv.dense(x[0], jnp.ones((1, 1)), x[0, 0]) ** 2,
        lambda x: jaxconv.softmax_cross_entropy(x[..., 0], x[..., 0]) ** 2,
        lambda x: jaxconv.layer_norm(x, x[0], axis=(1, 2)) ** 2,
        lambda x: jaxconv.dropout(jax.random.key(0), x, 0.5) ** 2,
    )
    return [np.asarray(jax.grad(lambda x, f=f: f(x).sum())(x)).tobytes() for f in functions]


CHANGING = (
    "kernel not flipped in conv_input_grad",
    "last write wins where windows overlap",
    "relu's gradient 1 at 0",
    "labels taken to sum to 1",
    "layer_norm's scale outside the means",
    "dropout's gradient not divided by 1 − rate",
)


@pytest.mark.parametrize("name", CHANGING)
def test_the_library_is_restored(name):
    """Also where the check raises."""
    names = "conv", "pool", "activation", "softmax", "linear", "loss", "norm", "dropout", "algorithms", "geometry"
    modules = [importlib.import_module(f"jaxconv.{module}") for module in names]
    before, contents = gradients(), [dict(vars(module)) for module in modules]
    with contextlib.suppress(ZeroDivisionError), planted(mutation(name)):
        assert gradients() != before
        raise ZeroDivisionError
    assert [dict(vars(module)) for module in modules] == contents
    assert gradients() == before
