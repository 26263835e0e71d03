"""One net learns in one, two and three dimensions, and looks at time: on fewer examples, with one seed."""

import json

import numpy as np
import pytest

from experiments import dimensions
from experiments.claim import UsageError, perform
from experiments.dimensions import DIRECTIONS, FRAMES, Settings, make_videos, run, shuffled

pytestmark = pytest.mark.usefixtures("as_a_user_runs_it")


@pytest.fixture(scope="module")
def summary(tmp_path_factory, as_a_user_runs_it, quick_compilation):
    folder = tmp_path_factory.mktemp("dimensions")
    settings = Settings(images=3000, videos=768, size=12, epochs=8, video_epochs=4, seeds=1, output=folder)
    perform(settings, run, dimensions, "dimensions")
    return json.loads((folder / "summary.json").read_text()) | {"folder": folder}


def test_the_claim(summary):
    assert summary["holds"]
    numbers = {name: only for name, (only,) in summary["numbers"].items()}
    assert numbers["sequences: test accuracy"] > 0.85
    assert numbers["images: test accuracy"] > 0.88
    assert numbers["videos: test accuracy"] > 0.95
    assert numbers["videos played backwards: the opposite direction"] > 0.95
    assert numbers["single frames: test accuracy"] < 0.2
    assert 0.4 < numbers["shuffled videos: the right way, of those"] < 0.6


def test_it_is_one_net(summary):
    _, *rows = summary["tables"]["One net"]
    assert [row[:3] for row in rows[:3]] == [
        ["sequences", "14×14", 8 * (3 * 14 + 1) + 32 * (3 * 8 + 1) + 10 * 33],
        ["images", "14×14×1", 8 * (3**2 + 1) + 32 * (3**2 * 8 + 1) + 10 * 33],
        ["videos", "8×12×12×1", 8 * (3**3 + 1) + 32 * (3**3 * 8 + 1) + 8 * 33],
    ]


def test_the_figures(summary, are_pictures):
    assert are_pictures(summary["folder"], summary["figures"])


def test_videos_move_as_they_say():
    digits = np.random.default_rng(0).random((5, 8, 8, 1)).astype(np.float32)
    videos, labels = make_videos(digits, 40, 12, np.random.default_rng(1))
    assert videos.shape == (40, FRAMES, 12, 12, 1)
    assert set(labels) == set(range(8))
    for video, label in zip(videos, labels, strict=True):
        for before, after in zip(video[:-1], video[1:], strict=True):
            assert np.array_equal(np.roll(before, DIRECTIONS[label], (0, 1)), after)
    for mixed, video in zip(shuffled(videos, np.random.default_rng(2)), videos, strict=True):
        assert {frame.tobytes() for frame in mixed} == {frame.tobytes() for frame in video}


def taken_for(classes, *shares):
    """A confusion: of every class these shares are taken for that so many further on, the rest evenly for all."""
    counts = np.full((classes, classes), 0.0)
    for turned, share in shares:
        counts += share * np.roll(np.eye(classes), turned, 1)
    return counts + (1 - sum(share for _, share in shares)) / classes


GOOD = {
    "sequences": (taken_for(10, (0, 0.9)), None),
    "images": (taken_for(10, (0, 0.95)), None),
    "videos": (taken_for(8, (0, 0.99)), taken_for(8, (4, 0.99))),
    "shuffled videos": (taken_for(8, (0, 0.4), (4, 0.4)), None),
    "single frames": (taken_for(8), None),
}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sequences": (taken_for(10, (0, 0.7)), None)},
        {"images": (taken_for(10, (0, 0.8)), None)},
        {"videos": (taken_for(8, (0, 0.9)), taken_for(8, (4, 0.99)))},
        {"videos": (taken_for(8, (0, 0.99)), taken_for(8, (0, 0.99)))},  # whichever way they are played
        {"shuffled videos": (taken_for(8, (0, 0.6), (4, 0.2)), None)},
        {"single frames": (taken_for(8, (0, 0.2)), None)},
    ],
)
def test_what_it_takes_to_hold(changed, tmp_path, monkeypatch):
    """Planted in place of nets; the second seed is the other one."""
    x = {"sequences": (14, 14), "images": (14, 14, 1), "single frames": (12, 12, 1)}
    examples = {
        name: dimensions.Examples(np.zeros((1, *x.get(name, (8, 12, 12, 1)))), name, None, None) for name in GOOD
    }

    def measure(of_name, epochs, seed):
        confusion, backwards = (GOOD | changed if seed == 1 else GOOD)[of_name.train_labels]
        return dimensions.Measurement(np.array([0.5, 0.9]), confusion, backwards)

    monkeypatch.setattr(dimensions, "make_examples", lambda settings, seed: examples)
    monkeypatch.setattr(dimensions, "measure", measure)
    for name in ("draw_inputs", "draw_learning", "draw_confusions"):
        monkeypatch.setattr(dimensions, name, lambda *_: None)
    assert run(Settings(seeds=2), tmp_path).holds == (not changed)


def test_a_net_is_made_once_for_all_seeds():
    assert dimensions.make_net(8) is dimensions.make_net(8)
    assert dimensions.make_net(8) is not dimensions.make_net(10)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": 63}, "images: got 63, expected at least 64"),
        ({"images": 4001}, "images: got 4001, expected at most 4000: there are no more"),
        ({"videos": 0}, "videos: got 0, expected at least 64"),
        ({"size": 7}, "size: got 7, expected at least 8"),
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"video_epochs": 0}, "video_epochs: got 0, expected at least 1"),
        ({"seeds": 0}, "seeds: got 0, expected at least 1"),
    ],
)
def test_mistakes(changed, message, tmp_path):
    with pytest.raises(UsageError) as caught:
        run(Settings(**changed), tmp_path)
    assert str(caught.value) == message
