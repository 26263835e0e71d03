"""The worked examples: exactly the rules' and lax's numbers, and a wrong formula or rule would be seen."""

import numpy as np
import pytest

from experiments import backprop_by_hand as by_hand
from experiments.claim import UsageError, perform


def test_the_claim_holds(tmp_path, are_pictures):
    summary = perform(by_hand.Settings(seeds=2, output=tmp_path), by_hand.run, by_hand, "backprop_by_hand")
    assert summary["holds"]
    numbers = summary["numbers"]
    # 36 and 49 pairs of an output and a tap whose input position is inside, each a term of dL/dx and one of dL/dw.
    assert numbers["terms of the gradients"] == 2 * (36 + 49)
    assert numbers["numbers of y, dL/dx, dL/dw and dL/db"] == (9 + 16 + 4 + 1) + (9 + 25 + 9 + 1)
    assert numbers["terms that differ, other numbers drawn"] == [0, 0]
    assert numbers["sums that differ, other numbers drawn"] == [0, 0]
    text = (tmp_path / "by_hand.txt").read_text()
    assert "dL/dx[1,2] = w[1,1]·dy[0,1] + w[1,0]·dy[0,2] + w[0,1]·dy[1,1] + w[0,0]·dy[1,2]\n" in text
    assert "           = 3·3 + (−1)·2 + 1·2 + 2·4 = 17\n" in text
    assert "dL/db = sum of dy = 2 + 1 + 3 + (−1) + 4 + 1 + 1 + (−2) + 2 = 11\n" in text
    assert are_pictures(tmp_path, summary["figures"])


def test_the_first_example_is_what_a_pencil_gives():
    hand = by_hand.work_through(by_hand.EXAMPLES[0])
    assert hand.y.tolist() == [[6, 7, 3], [15, 7, 4], [3, 15, 10]]
    assert hand.dy.tolist() == [[1, 3, 2], [-1, 2, 4], [2, 1, -2]]
    assert hand.dx.tolist() == [[2, 7, 7, 2], [-3, 3, 17, 10], [5, -1, -1, 10], [-2, 5, 5, -6]]
    assert hand.dw.tolist() == [[10, 15], [19, 7]]
    assert hand.db.tolist() == [12]


@pytest.mark.parametrize("example", by_hand.EXAMPLES, ids=lambda example: example.title)
def test_the_figures_three_convolutions_are_the_gradients(example):
    """dL/dx as the figure draws it, a full convolution with the flipped kernel, and dL/dw as a cross-correlation."""
    hand = by_hand.work_through(example)
    taps, low = example.w.shape[0], example.padding
    full = by_hand.spread("", hand.dy, "p", example.stride, around=taps - 1 - low).values
    assert correlated(full, example.w[::-1, ::-1]).tolist() == hand.dx.tolist()
    x = by_hand.spread("", example.x, "u", around=low).values
    assert correlated(x, by_hand.spread("", hand.dy, "p", example.stride).values).tolist() == hand.dw.tolist()


def correlated(x, w):
    return np.einsum("pqij,ij->pq", np.lib.stride_tricks.sliding_window_view(x, w.shape), w)


def test_a_kernel_that_is_not_flipped_is_seen(monkeypatch):
    right = by_hand.conv_input_grad
    monkeypatch.setattr(
        by_hand, "conv_input_grad", lambda dy, w, *rest, **options: right(dy, w[::-1, ::-1], *rest, **options)
    )
    comparison = by_hand.compared(by_hand.EXAMPLES[0])
    assert comparison.terms_off > 0
    assert comparison.sums_off > 0


@pytest.mark.parametrize("name", ["conv", "conv_input_grad", "conv_kernel_grad"])
def test_a_wrong_op_does_not_hold(name, tmp_path, monkeypatch):
    monkeypatch.setattr(by_hand, "draw", lambda *_: None)
    assert by_hand.run(by_hand.Settings(seeds=1), tmp_path).holds
    right = getattr(by_hand, name)
    monkeypatch.setattr(by_hand, name, lambda *arguments, **options: 2 * right(*arguments, **options))
    assert not by_hand.run(by_hand.Settings(seeds=1), tmp_path).holds


def test_a_term_too_many_is_seen(monkeypatch):
    right = by_hand.conv_kernel_grad
    monkeypatch.setattr(by_hand, "conv_kernel_grad", lambda *arguments, **options: right(*arguments, **options) + 1)
    comparison = by_hand.compared(by_hand.EXAMPLES[1])
    # Of the 25 · 9 · 9 triples (u, p, i) of dL/dw every one has one too many, and so have its 9 sums.
    assert comparison.terms_off == 25 * 9 * 9
    assert comparison.sums_off == 9


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UsageError) as raised:
        by_hand.run(by_hand.Settings(seeds=0), tmp_path)
    assert str(raised.value) == "seeds: got 0, expected at least 1"
