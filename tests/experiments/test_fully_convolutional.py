"""Dense layers as convolutions: equal everywhere, counted, and good enough to find digits."""

import sys

import jax
import numpy as np
import pytest

from experiments import fully_convolutional as f
from experiments.claim import UsageError, perform
from experiments.data import DataSet

pytestmark = pytest.mark.usefixtures("as_a_user_runs_it")


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


def test_figures(summary, folder, are_pictures):
    assert are_pictures(folder, summary["figures"])


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


def numbered(count):
    """Digits whose every pixel is the digit's number, from 1."""
    return np.broadcast_to(np.arange(1, count + 1, dtype=np.float32).reshape(-1, 1, 1, 1), (count, 28, 28, 1))


@pytest.mark.parametrize(("count", "size"), [(4, 112), (2, 68), (1, f.LEAST_CANVAS)])
def test_background_is_beside_every_digit(count, size):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        canvas = f.scattered(rng, numbered(count), np.arange(count), size)
        images, labels = f.crops(rng, canvas)
        assert labels.tolist() == [*range(count)] + [f.BACKGROUND] * count
        # How much of every digit is in a window: all of a digit but 2 pixels both ways; 7 pixels less one way at least.
        seen = np.stack([(images == number).sum((1, 2, 3)) for number in range(1, count + 1)], 1)
        assert (seen[:count].diagonal() >= 26**2).all()
        assert (seen[count:] <= 21 * 28).all()


def test_the_least_canvas_has_background_wherever_the_digit_is_and_a_smaller_one_has_not():
    rng = np.random.default_rng(0)
    for size, missing in ((f.LEAST_CANVAS, 0), (f.LEAST_CANVAS - f.STRIDE, 1)):
        places = [np.array([place]) for place in np.ndindex(size - 27, size - 27)]
        without = 0
        for place in places:
            try:
                f.crops(rng, f.Canvas(np.zeros((size, size, 1), np.float32), place, np.zeros(1, int)))
            except ValueError:
                without += 1
        assert without == missing


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


GOOD = {"precision": 0.95, "recall": 0.95, "exact": True, "difference": 10.0, "times less work": 12}


@pytest.mark.parametrize(
    "changed",
    [{}, {"precision": 0.9}, {"recall": 0.9}, {"exact": False}, {"difference": 100.0}, {"times less work": 9}],
)
def test_what_it_takes_to_hold(changed, tmp_path, monkeypatch):
    """Planted in place of a net's; the second seed is the other one."""
    seeds = []

    def planted(name):
        return (GOOD | changed if len(seeds) == 2 else GOOD)[name]

    def fit(net, *_, seed, **options):
        seeds.append(seed)
        return net.init(jax.random.key(seed), (28, 28, 1)), (), {}

    def matched(boxes, canvas):
        shares = np.arange(100) / 100
        return shares < planted("precision"), shares < planted("recall")

    def work_by_part(size):
        return {f.PASS: {"all": 1}, f.WINDOWS: {"all": (GOOD | changed)["times less work"]}}

    eps = float(np.finfo(np.float32).eps)
    monkeypatch.setattr(f, "fit", fit)
    monkeypatch.setattr(f, "matched", matched)
    monkeypatch.setattr(f, "work_by_part", work_by_part)
    monkeypatch.setattr(f, "differences", lambda *_: (planted("difference") * eps, 1.0))
    monkeypatch.setattr(f, "exact_on_integers", lambda *_: planted("exact"))
    monkeypatch.setattr(f, "accuracy", lambda *_: 1.0)
    monkeypatch.setattr(f, "load", lambda name: DataSet(*2 * (numbered(10), np.arange(10, dtype=np.int32))))
    for name in ("draw_detections", "draw_work"):
        monkeypatch.setattr(f, name, lambda *_: None)
    result = f.run(f.Settings(canvas=112, digits=5, seeds=2), tmp_path)
    assert result.holds == (not changed)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "seeds: got 0, expected at least 1"),
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"canvas": 282}, "canvas: got 282, expected a multiple of 4 that is at least 44"),
        ({"canvas": 40}, "canvas: got 40, expected a multiple of 4 that is at least 44"),
        (
            {"canvas": 44, "digits": 2},
            "digits: got 2 for a canvas of 44, expected at most 1: pass fewer, or a larger --canvas",
        ),
        ({"canvas": 1600, "digits": 1001}, "digits: got 1001, expected at most 1000: there are no more to test with"),
        ({"digits": 60}, "digits: got 60 for a canvas of 280, expected at most 40: pass fewer, or a larger --canvas"),
    ],
)
def test_mistakes(wrong, message, tmp_path):
    with pytest.raises(UsageError) as error:
        f.run(f.Settings(**wrong), tmp_path)
    assert str(error.value) == message
