"""The draws, and that every algorithm they are timed with computes the same."""

import random

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import bench_choice
from experiments.bench_choice import FORMS, algorithms_for, draw, main, seconds_of

RNG = random.Random(3)
DRAWS = sorted((draw(RNG) for _ in range(40)), key=lambda one: one.products)


def test_draws_are_of_every_form_and_within_bounds():
    assert {one.form for one in DRAWS} == set(FORMS)
    assert all(2**18 <= one.products <= 2**31 for one in DRAWS)
    assert any(set(one.window.strides) == {2} for one in DRAWS)


@pytest.mark.parametrize("form", FORMS)
def test_the_algorithms_of_a_draw_are_one_form(form):
    one = next(one for one in DRAWS if one.form == form and len(algorithms_for(one)) > 2)
    arrays = [jnp.asarray(np.random.default_rng(0).integers(-2, 3, shape), jnp.float32) for shape in one.shapes]
    expected, *others = (function(*arrays) for function in algorithms_for(one).values())
    for result in others:
        assert jnp.array_equal(result, expected)  # of small integers, exactly


def test_every_algorithm_is_timed():
    one = DRAWS[0]
    assert seconds_of(one).keys() == algorithms_for(one).keys()
    assert min(seconds_of(one).values()) > 0


def test_the_table(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench_choice", "--seconds", "0"])
    monkeypatch.setattr(bench_choice, "draw", lambda rng: rng.choice(DRAWS[:15]))
    assert main() == 0
    printed = capsys.readouterr().out
    for form in FORMS:
        assert f"{form}, chosen" in printed
