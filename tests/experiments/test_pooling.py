"""Poolings in small numbers, on a photograph and in nets: what is alike, what is not, and that a mistake is seen."""

import jax
import numpy as np
import pytest

from experiments import pooling
from experiments.claim import UsageError, perform
from experiments.data import load
from experiments.pooling import (
    BEHIND,
    NORMALISED,
    PLAIN,
    SCALE,
    Settings,
    net,
    out_of_order,
    pooled_features,
    run,
    small,
    trained,
    unequal_to_numpy,
)
from jaxconv import lp_pool

pytestmark = pytest.mark.usefixtures("as_a_user_runs_it")


@pytest.fixture(scope="module")
def data():
    return load("mnist5k")


@pytest.mark.parametrize(
    ("layers", "normalise", "better", "worse", "points"),
    [(NORMALISED, True, "max", "min", BEHIND), (PLAIN, False, "sum", "average", SCALE)],
)
def test_the_claim_where_poolings_differ(layers, normalise, better, worse, points, data):
    settings = Settings(epochs=2, seeds=1)
    found = {
        name: trained(net(layers[name], settings, normalise=normalise), data, settings) for name in (better, worse)
    }
    assert found[worse] > 70  # it has learned
    assert found[better] > found[worse] + points


@pytest.mark.parametrize(
    ("name", "default", "stride_1"),
    [
        ("max", [[6, 8], [3, 4]], [[6, 7, 8], [6, 7, 8], [3, 3, 4]]),
        ("min", [[1, 2], [1, 0]], [[1, 1, 2], [2, 1, 0], [1, 1, 0]]),
        ("average", [[3.25, 5.25], [2, 2]], [[3.25, 4, 5.25], [4, 4, 4], [2, 2, 2]]),
    ],
)
def test_small_numbers(name, default, stride_1, monkeypatch):
    assert small(name, None).tolist() == small(name, 2).tolist() == default
    assert small(name, 1).tolist() == stride_1
    assert unequal_to_numpy(name, None) == unequal_to_numpy(name, 1) == 0
    # A default of 1 and a wrong value are seen.
    right = pooling.small
    monkeypatch.setattr(pooling, "small", lambda name, strides: right(name, strides or 1))
    assert unequal_to_numpy(name, None) > 0
    monkeypatch.setattr(pooling, "small", lambda name, strides: right(name, strides) + np.eye(2))
    assert unequal_to_numpy(name, None) == 2


def test_l2_of_small_numbers():
    x = np.array([[3, 4, 0, 0], [0, 0, 5, 12]], np.float32)[..., None]
    assert lp_pool(x, (2, 2), 2.0)[..., 0].tolist() == [[5, 13]]
    assert lp_pool(x, (2, 2), 2.0, strides=1)[..., 0] == pytest.approx(np.sqrt([[25, 41, 169]]))


def test_order_of_the_poolings():
    features = np.random.default_rng(0).exponential(size=(16, 16, 1)).astype(np.float32)
    pooled = pooled_features(jax.numpy.asarray(features), 4)
    assert list(pooled) == ["min", "average", "root mean square", "max"]
    assert out_of_order(pooled) == 0
    pooled["average"], pooled["max"] = pooled["max"], pooled["average"]
    assert out_of_order(pooled) == 16
    assert out_of_order(pooled_features(jax.numpy.full((8, 8, 1), 0.3), 4)) == 0


PLANTED = {"max": [96, 96], "average": [96, 96.5], "L2": [96.5, 96], "min": [90, 92]}
PLANTED_PLAIN = {"average": [93, 93], "sum": [96, 95]}


@pytest.fixture
def planted(monkeypatch):
    """Plants accuracies in place of training."""

    def plant(changed):
        accuracies = [{**PLANTED, **changed}[name] for name in NORMALISED]
        accuracies += [{**PLANTED_PLAIN, **changed}[name] for name in PLAIN]
        found = iter(accuracies)
        monkeypatch.setattr(pooling, "load", lambda name: None)
        monkeypatch.setattr(pooling, "trained", lambda *_: np.array(next(found)))

    return plant


def test_what_is_written(planted, tmp_path, are_pictures):
    planted({})
    summary = perform(Settings(seeds=2, output=tmp_path), run, pooling, "pooling")
    assert summary["holds"]
    numbers = summary["numbers"]
    assert numbers["min behind the worst of them, points"] == [6, 4]
    assert numbers["max, average and L2 differ by at most, points"] == [0.5, 0.5]
    assert numbers["average behind sum, not normalised, points"] == [3, 2]
    assert numbers["small numbers that differ from numpy's"] == numbers["windows out of order"] == 0
    assert numbers["windows of the photograph"] == 53 * 80
    assert are_pictures(tmp_path, summary["figures"])


@pytest.mark.parametrize(
    "changed",
    [
        {"min": [90, 94.5]},  # one seed with less than 2 points
        {"max": [94, 96]},  # one seed with more than 2 points
        {"sum": [96, 93.5]},  # one seed with less than 1 point
    ],
)
def test_one_seed_is_enough_not_to_hold(changed, planted, tmp_path, monkeypatch):
    planted(changed)
    for name in ("draw_numbers", "draw_features", "draw_accuracy"):
        monkeypatch.setattr(pooling, name, lambda *_: None)
    assert not run(Settings(seeds=2), tmp_path).holds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window: got 0, expected 1 to 28, the side of the images"),
        ({"window": 29}, "window: got 29, expected 1 to 28, the side of the images"),
        ({"filters": 0}, "filters: got 0, expected at least 1"),
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"seeds": 0}, "seeds: got 0, expected at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan, expected a positive number"),
    ],
)
def test_mistakes_are_one_line(settings, message, tmp_path):
    with pytest.raises(UsageError, match=f"^{message}$"):
        run(Settings(**settings), tmp_path)
