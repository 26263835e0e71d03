"""The table of features: every name is accounted for, of ours and of the libraries that are installed."""

import dataclasses

import pytest

from experiments import compare_features
from experiments.compare_features import FEATURES, Feature, Settings, main, mistakes


def test_every_name_is_in_a_row_or_left_out_with_a_reason():
    assert mistakes() == []


def test_a_missing_name_is_noticed(monkeypatch):
    fewer = tuple(feature for feature in FEATURES if feature.name != "relu6")
    monkeypatch.setattr(compare_features, "FEATURES", (*fewer, Feature("of ours", "no_such_op")))
    found = mistakes()
    assert "jaxconv.no_such_op, in the row 'of ours', does not exist" in found
    assert "jaxconv.relu6 is in no row" in found
    assert "jax.nn.relu6 is in no row and has no reason" in found


def test_no_peer_has_a_row_that_we_lack():
    assert [feature.name for feature in FEATURES if not feature.ours] == []


@pytest.mark.parametrize("markdown", [False, True])
def test_it_prints(markdown, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(dataclasses.replace(Settings(), markdown=markdown))
    assert exit_.value.code == 0
    assert ("| transposed convolution |" if markdown else "left out") in capsys.readouterr().out
