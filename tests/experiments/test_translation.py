"""Convolution commutes with translation alone; pooling makes values survive a shift."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments import translation
from experiments.claim import UsageError, perform
from experiments.translation import Settings, error, pooled, run, scaled, shifted, turned
from jaxconv import global_max_pool

pytestmark = pytest.mark.usefixtures("as_a_user_runs_it")


@pytest.fixture
def kernel():
    return np.random.default_rng(0).integers(-9, 10, (5, 5, 1, 2)).astype(np.float32)


@pytest.fixture
def images():
    found = np.zeros((3, 40, 40, 1), np.float32)
    found[:, 14:26, 16:24] = np.random.default_rng(1).integers(0, 256, (3, 12, 8, 1))
    return found


def test_the_claim(tmp_path, are_pictures):
    settings = Settings(images=6, filters=2, epochs=1, seeds=1, output=tmp_path)
    summary = perform(settings, run, translation, "translation")
    assert summary["holds"]
    numbers = summary["numbers"]
    assert numbers["values compared by =="] > 784 * 784 * 2 * 5
    assert numbers["values that differ"] == 0
    assert numbers["largest difference when shifted, halves of pixels too"] < 1e-6
    assert numbers["difference when turned by 20°"][0] > 0.2
    assert are_pictures(tmp_path, summary["figures"])


def test_the_motions_are_what_they_are_called(images):
    assert np.array_equal(shifted(3)(images), np.roll(images, 3, 2))
    np.testing.assert_allclose(turned(90)(images), np.rot90(images, axes=(1, 2)), atol=1e-3)
    assert scaled(2)(images)[:, 8:32, 12:28].sum() == pytest.approx(4 * images.sum(), rel=0.05)
    assert scaled(2)(images).sum() == pytest.approx(4 * images.sum(), rel=0.05)
    assert shifted(3).distance == 3
    assert turned(60).distance == pytest.approx(10)
    assert scaled(1.5).distance == pytest.approx(5)


def test_only_a_filter_that_looks_the_same_from_everywhere_commutes_with_a_turn(images, kernel):
    around = sum(np.rot90(kernel, turns) for turns in range(4))
    assert error(turned(90), images, around) < 1e-6
    assert error(turned(90), images, kernel) > 0.2
    assert error(shifted(2.5), images, kernel) < 1e-6


def test_a_value_that_differs_is_counted(images, kernel, monkeypatch):
    assert translation.unequal_values(images, kernel)[1] == 0
    right = translation.conv
    # What a layer with its own weights at every position does.
    monkeypatch.setattr(translation, "conv", lambda x, *a, **k: right(x, *a, **k).at[:, 7, 7].add(1))
    assert translation.unequal_values(images, kernel)[1] > 0


def test_what_a_shift_leaves(images, kernel):
    (unpooled, *_), _ = translation.after_shifts(images, kernel, pooled(1))
    (one, *_, far), (near, *_) = translation.after_shifts(images, kernel, pooled(4))
    assert unpooled < one < 1
    assert far < one
    assert near > 0
    unchanged, distances = translation.after_shifts(images, kernel, global_max_pool)
    assert set(unchanged) == {1.0}
    assert set(distances) == {0.0}


KEPT = {"1x1": 0.1, "2x2": 0.2, "4x4": 0.4, "8x8": 0.6, "whole image": 1.0}
ERRORS = {"turned": 0.3, "enlarged": 0.3, "shrunk": 0.3, "shifted": 0.0, "1x1 filter": 0.0}


@pytest.fixture
def planted(monkeypatch):
    """Plants what is measured; the second of two seeds is the other one."""

    def plant(unequal=0, errors=(), kept=()):
        first, second = np.zeros((2, 5, 5, 1, 1), np.float32)
        second[0, 0] = 1

        def of_seed(w, values, changed):
            return values | dict(changed) if w is second else values

        def error(motion, images, w):
            if w.shape[0] == 1:
                return (ERRORS | dict(errors))["1x1 filter"]
            return of_seed(w, ERRORS, errors)[motion.kind]

        def after_shifts(images, w, pool):
            name, count = pool
            share = of_seed(w, KEPT, kept)[name]
            return [share] * count, [0.5, 0.9, 1.1, 1.2, 1.3, 1.4]

        count = len(translation.SHIFTS)
        monkeypatch.setattr(translation, "load", lambda name: SimpleNamespace(test_images=np.zeros((4, 28, 28, 1))))
        monkeypatch.setattr(translation, "learned", lambda data, seed, settings: (first, second)[seed])
        monkeypatch.setattr(translation, "unequal_values", lambda images, w: (9, unequal if w is second else 0))
        monkeypatch.setattr(translation, "error", error)
        monkeypatch.setattr(translation, "pooled", lambda r, strides=None: (f"{r}x{r}", count))
        monkeypatch.setattr(translation, "global_max_pool", ("whole image", count))
        monkeypatch.setattr(translation, "after_shifts", after_shifts)
        monkeypatch.setattr(translation, "draw_example", lambda *_: None)

    return plant


def test_what_is_said_of_pooling_is_what_was_measured(planted, tmp_path):
    planted()
    result = run(Settings(seeds=2), tmp_path)
    assert result.holds
    assert result.remark == (
        "The smallest window that lets most values stay as they are: 8x8. With strides of 1, 2, 4, windows of 4x4 let "
        "40, 40, 40 % stay. Pooling also shortens the distance to other digits: as a part of that, a shift by one pixel "
        "is 50 % without pooling and 50 % with 8x8, and from 3 pixels on it is more than 100 % with both."
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"unequal": 1},
        {"errors": {"shifted": 1e-5}},
        {"errors": {"1x1 filter": 1e-5}},
        {"errors": {"turned": 0.19}},
        {"errors": {"enlarged": 0.19}},
        {"kept": {"4x4": 0.2}},
        {"kept": {"whole image": 0.999}},
    ],
)
def test_one_seed_is_enough_not_to_hold(changed, planted, tmp_path, monkeypatch):
    planted(**changed)
    for name in ("draw_errors", "draw_invariance"):
        monkeypatch.setattr(translation, name, lambda *_: None)
    assert not run(Settings(seeds=2), tmp_path).holds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 3}, "images: got 3, expected 4 to 1000"),
        ({"filters": 0}, "filters: got 0, expected at least 1"),
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"seeds": 0}, "seeds: got 0, expected at least 1"),
    ],
)
def test_mistakes_are_one_line(settings, message, tmp_path):
    with pytest.raises(UsageError, match=f"^{message}$"):
        run(Settings(**settings), tmp_path)
