"""Five patterns in a photograph: found at their places, learned back from their responses."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import patterns
from experiments.claim import UsageError, perform

pytestmark = pytest.mark.usefixtures("as_a_user_runs_it")


def test_the_claim_holds(tmp_path, are_pictures):
    settings = patterns.Settings(searches=4, seeds=1, steps=500, output=tmp_path)
    summary = perform(settings, patterns.run, patterns, "patterns")
    assert summary["holds"]
    numbers = summary["numbers"]
    assert numbers["found at their very place"] == numbers["patterns searched for"] == 20
    assert numbers["found in the photograph that is not whitened"] < 20
    assert numbers["cosine similarity at the start, worst of five"][0] < 0.5
    assert numbers["cosine similarity learned, worst of five"][0] > 0.999
    assert numbers["error of the bias (−4), worst of five"][0] < 0.05
    assert are_pictures(tmp_path, summary["figures"])


def test_too_few_steps_do_not_hold(tmp_path):
    result = patterns.run(patterns.Settings(searches=1, seeds=1, steps=20), tmp_path)
    assert not result.holds
    assert max(result.numbers["cosine similarity learned, worst of five"]) < 0.9


@pytest.fixture
def image():
    return np.random.default_rng(0).standard_normal((60, 70, 3)).astype(np.float32)


def test_the_search_is_the_formula(image):
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal((5, 5, 3, 5)), rng.standard_normal(5)
    y = patterns.search(image, jnp.asarray(w, jnp.float32), jnp.asarray(b, jnp.float32))
    assert y.shape == (56, 66, 5)
    for i, j, k in ((0, 0, 0), (17, 40, 3), (55, 65, 4)):
        z = b[k] + sum(image[i + a, j + b_, c] * w[a, b_, c, k] for a in range(5) for b_ in range(5) for c in range(3))
        assert abs(np.log(y[i, j, k] / (1 - y[i, j, k])) - z) < 1e-3 * max(1, abs(z))


def test_a_pattern_answers_itself_with_8_and_is_indifferent_to_brightness(image):
    patches = patterns.patches_of(image)
    places = patterns.choose(patches, 0)
    found = patterns.patterns_at(patches, places)
    assert np.allclose(np.asarray(found.w).mean((0, 1, 2)), 0, atol=1e-6)
    for brightness in (0, 3):
        y = np.asarray(patterns.search(image + np.float32(brightness), found.w, found.b))
        at = y[places[:, 0], places[:, 1], np.arange(5)]
        assert np.allclose(at, 1 / (1 + np.exp(-4)), atol=1e-4)
        assert np.array_equal(patterns.found_at(y), places)
    assert min(np.abs(one - two).max() for n, one in enumerate(places) for two in places[:n]) >= 16


def test_a_tie_is_not_found():
    y = np.zeros((9, 9, 5), np.float32)
    y[2, 3] = 1
    y[5, 5, 1] = 1
    assert patterns.found_at(y).tolist() == [[2, 3], [-1, -1], [2, 3], [2, 3], [2, 3]]


def test_a_pattern_that_is_not_found_is_drawn_with_the_louder_answer_elsewhere(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(patterns.figures, "save", lambda figure, path: figures.append(figure))
    y = np.full((36, 36, 5), 0.1, np.float32)
    places = np.array([[3, 4]] * 5)
    y[3, 4] = 0.7
    y[20, 30, :2] = 0.6, 0.9
    five = patterns.Patterns(places, jnp.ones((5, 5, 3, 5)), jnp.zeros(5))
    patterns.draw_search(np.zeros((40, 40, 3)), five, y, tmp_path)
    titles = [axes.get_title() for axes in figures[0].axes]
    assert titles[1:4] == [
        "1: 0.70 here, elsewhere ≤ 0.60",
        "2: 0.70 here, elsewhere ≤ 0.90",
        "3: 0.70 here, elsewhere ≤ 0.10",
    ]


def test_whitening_takes_away_what_neighbours_have_in_common():
    photo, x = patterns.picture("flower")
    assert photo.shape == x.shape == (209, 316, 3)

    def correlation(image, shift):
        return np.corrcoef(image[:, shift:].ravel(), image[:, : -shift or None].ravel())[0, 1]

    assert correlation(photo, 1) > 0.9
    assert abs(correlation(x, 1)) < 0.05
    assert abs(np.corrcoef(x[..., 0].ravel(), x[..., 1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"photograph": "moon"}, "photograph: got 'moon', expected one of china, flower"),
        ({"seeds": 0}, "seeds: got 0, expected at least 1"),
        ({"seeds": 3, "searches": 2}, "searches: got 2, expected at least 3"),
        ({"steps": 9}, "steps: got 9, expected at least 10"),
    ],
)
def test_mistakes_are_one_line(options, message, tmp_path):
    with pytest.raises(UsageError) as raised:
        patterns.run(patterns.Settings(**options), tmp_path)
    assert str(raised.value) == message
