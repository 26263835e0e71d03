"""Dense layers as convolutions: equal everywhere, counted, and good enough to find digits."""

import sys

import jax
import numpy as np
import pytest

from experiments import fully_convolutional as f
from experiments.claim import UsageError, perform


@pytest.fixture(scope="module", autouse=True)
def as_a_user_runs_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fully_convolutional")


@pytest.fixture(scope="module")
def summary(folder):
    settings = f.Settings(canvas=112, digits=5, crops=1, epochs=4, seeds=1, output=folder)
    return perform(settings, f.run, sys.modules[f.__name__], "fully_convolutional")


def test_digits_are_found(summary):
    numbers = summary["numbers"]
    assert numbers["digits_per_seed"] == 1000
    assert min(numbers["precision"]) > 0.88
    assert min(numbers["recall"]) > 0.88
    assert summary["settings"]["canvas"] == 112


def test_one_pass_is_the_classifier_at_every_window(summary):
    numbers = summary["numbers"]
    assert numbers["windows"] == 22**2
    assert numbers["allowed_eps"] == 4 * (1 + 20)  # the longest sum has 5·5·16 = 400 terms
    assert max(numbers["worst_eps"] + numbers["worst_eps_single"]) <= numbers["allowed_eps"]
    assert numbers["exact_on_integers"] == [1]


def test_the_work_is_counted(summary):
    work = f.work_by_part(280)
    one, windows = (sum(work[name].values()) for name in (f.PASS, f.WINDOWS))
    # The first convolution by hand: 276 and 24 outputs a side, 16 channels, 25 products and sums and a bias.
    assert work[f.PASS]["first convolution"] == 276**2 * 16 * 51 + 276**2 * 16 * 2
    assert work[f.WINDOWS]["first convolution"] == 64**2 * (24**2 * 16 * 51 + 24**2 * 16 * 2)
    assert windows / one >= f.LESS_WORK
    assert summary["numbers"]["times_less_work"] == pytest.approx(
        summary["numbers"]["flops_of_all_windows"] / summary["numbers"]["flops_of_one_pass"]
    )


def test_figures(summary, folder):
    import matplotlib.image

    for name in summary["figures"]:
        assert matplotlib.image.imread(folder / name)[..., :3].std() > 0.02


def test_parameters_of_dense_layers_and_of_convolutions():
    assert f.parameter_table() == [
        ("dense: dense 4096", 77_475_840),
        ("dense: dense 1000", 4_097_000),
        ("the same as convolutions: conv 4096 7", 77_475_840),
        ("the same as convolutions: conv 1000 1", 4_097_000),
        ("narrower, without biases: conv 386 7", 7_300_804),
        ("narrower, without biases: conv 4096 1", 1_581_056),
        ("narrower, without biases: conv 1000 1", 4_096_000),
    ]


def test_a_kernel_in_the_wrong_order_is_noticed(monkeypatch):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: f.NET.init(key, (28, 28, 1)), jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)
    canvas = rng.random((112, 112, 1), np.float32)
    assert f.exact_on_integers(rng, params, canvas)
    right = f.as_convolutions

    def transposed(params):
        before, first, relu, second = right(params)
        return before, {**first, "w": first["w"].swapaxes(0, 1)}, relu, second

    monkeypatch.setattr(f, "as_convolutions", transposed)
    assert not f.exact_on_integers(rng, params, canvas)
    difference, largest = f.differences(params, canvas)
    assert difference > 1e4 * np.finfo(np.float32).eps * largest


def test_digits_on_a_canvas_do_not_overlap_and_stand_where_it_says():
    rng = np.random.default_rng(1)
    images = rng.random((12, 28, 28, 1), np.float32)
    canvas = f.scattered(rng, images, np.arange(12) % 10, 168)
    for (row, column), image in zip(canvas.corners, images, strict=True):
        assert np.array_equal(canvas.image[row : row + 28, column : column + 28], image)


def test_background_is_beside_every_digit():
    rng = np.random.default_rng(2)
    canvas = f.scattered(rng, np.ones((4, 28, 28, 1), np.float32), np.arange(4), 112)
    images, labels = f.crops(rng, canvas)
    assert labels.tolist() == [0, 1, 2, 3] + [f.BACKGROUND] * 4
    missing = (images == 0).sum((1, 2, 3))
    assert (missing[:4] <= 28**2 - 26**2).all()  # off by 2 at most both ways, or filled by a neighbour


def test_boxes_are_peaks_and_right_where_they_cover_half():
    logits = np.zeros((20, 20, 11), np.float32)
    logits[..., f.BACKGROUND] = 9
    for row, column, digit, value in ((2, 2, 3, 20), (4, 5, 3, 19), (12, 12, 7, 20), (18, 2, 1, 8)):
        logits[row, column, digit] = value
    boxes = f.detect(logits)  # the second is near a surer one, the last less likely than background
    assert boxes.corners.tolist() == [[8, 8], [48, 48]]
    assert boxes.digits.tolist() == [3, 7]
    canvas = f.Canvas(np.zeros((104, 104, 1)), np.array([[10, 6], [48, 58], [70, 0]]), np.array([3, 7, 1]))
    right, found = f.matched(boxes, canvas)
    assert right.tolist() == [True, False]  # 10 beside: 18/38 in common
    assert found.tolist() == [True, False, False]
    precision, recall = f.curve([(boxes, canvas)])
    assert precision.tolist() == [1, 0.5]
    assert recall.tolist() == [1 / 3, 1 / 3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "seeds: got 0, expected at least 1"),
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"canvas": 282}, "canvas: got 282, expected a multiple of 4 that is at least 28"),
        ({"canvas": 24}, "canvas: got 24, expected a multiple of 4 that is at least 28"),
        ({"digits": 60}, "digits: got 60 for a canvas of 280, expected at most 40: pass fewer, or a larger --canvas"),
    ],
)
def test_mistakes(wrong, message, tmp_path):
    with pytest.raises(UsageError) as error:
        f.run(f.Settings(**wrong), tmp_path)
    assert str(error.value) == message
