"""Convolution commutes with translation alone; pooling makes values survive a shift."""

import jax
import matplotlib.image
import numpy as np
import pytest

from experiments import translation
from experiments.claim import UsageError, perform
from experiments.translation import Settings, error, pooled, run, scaled, shifted, turned
from jaxconv import global_max_pool


@pytest.fixture(scope="module", autouse=True)
def as_a_user_runs_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def kernel():
    return np.random.default_rng(0).integers(-9, 10, (5, 5, 1, 2)).astype(np.float32)


@pytest.fixture
def images():
    found = np.zeros((3, 40, 40, 1), np.float32)
    found[:, 14:26, 16:24] = np.random.default_rng(1).integers(0, 256, (3, 12, 8, 1))
    return found


def test_the_claim(tmp_path):
    settings = Settings(images=6, filters=2, epochs=1, seeds=1, output=tmp_path)
    summary = perform(settings, run, translation, "translation")
    assert summary["holds"]
    numbers = summary["numbers"]
    assert numbers["values compared by =="] > 784 * 784 * 2 * 5
    assert numbers["values that differ"] == 0
    assert numbers["largest difference when shifted, halves of pixels too"] < 1e-6
    assert numbers["difference when turned by 20°"][0] > 0.2
    for name in summary["figures"]:
        assert matplotlib.image.imread(tmp_path / name)[..., :3].std() > 0.02  # not blank


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 1}, "images: got 1, expected 2 to 1000"),
        ({"filters": 0}, "filters: got 0, expected at least 1"),
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"seeds": 0}, "seeds: got 0, expected at least 1"),
    ],
)
def test_mistakes_are_one_line(settings, message, tmp_path):
    with pytest.raises(UsageError, match=f"^{message}$"):
        run(Settings(**settings), tmp_path)
