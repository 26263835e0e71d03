"""Edge filters: exact responses with the sign that is claimed, on a photograph and on a square."""

import numpy as np
import pytest

from experiments import edges
from experiments.claim import UsageError, perform


def test_the_claim_holds_on_a_photograph(tmp_path, are_pictures):
    summary = perform(edges.Settings(photograph="flower", shrink=8, output=tmp_path), edges.run, edges, "edges")
    assert summary["holds"]
    numbers = summary["numbers"]
    assert numbers["wrong signs of cross-correlation"] == numbers["wrong signs of true convolution"] == 0
    assert numbers["filters equal to subtraction to the bit"] == 4
    assert numbers["positions, of all four filters"] == 53 * 79 + 52 * 80 + 2 * 52 * 79
    assert numbers["rows where [4, 2, 1] equals numpy.convolve to the bit"] == numbers["rows of the photograph"] == 53
    assert numbers["positions where [4, 2, 1] differs from cross-correlation, %"] > 50
    assert are_pictures(tmp_path, summary["figures"])


def test_left_bright_is_positive_in_cross_correlation_and_negative_in_true_convolution():
    x = np.array([[9, 9, 2, 2, 5]], np.float32)
    w = edges.FILTERS["horizontal"]
    assert edges.responses(x, w).tolist() == [[0, 7, 0, -3]]
    assert edges.responses(x, w, flip_kernel=True).tolist() == [[0, -7, 0, 3]]


SQUARE = {
    "horizontal": [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, -9, 0, 9, 0],
        [0, -9, 0, 9, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ],
    "diagonal": [[0, 0, 0, 0, 0], [0, -9, -9, 0, 0], [0, -9, 0, 9, 0], [0, 0, 9, 9, 0], [0, 0, 0, 0, 0]],
    "antidiagonal": [[0, 0, 0, 0, 0], [0, 0, -9, -9, 0], [0, 9, 0, -9, 0], [0, 9, 9, 0, 0], [0, 0, 0, 0, 0]],
}
SQUARE["vertical"] = np.transpose(SQUARE["horizontal"]).tolist()


@pytest.mark.parametrize("name", edges.FILTERS)
def test_the_sides_of_a_square(name):
    found = edges.edges(edges.square(), edges.FILTERS[name])
    assert found.response.tolist() == found.step.tolist() == SQUARE[name]
    assert (-found.true_response).tolist() == SQUARE[name]


def test_an_echo_follows_in_true_convolution_and_goes_before_in_cross_correlation():
    clap = np.zeros((1, 9), np.float32)
    clap[0, 4] = 1
    assert edges.responses(clap, edges.ECHO).tolist() == [[0, 0, 1, 2, 4, 0, 0]]
    assert edges.responses(clap, edges.ECHO, flip_kernel=True).tolist() == [[0, 0, 4, 2, 1, 0, 0]]


def test_a_wrong_sign_is_seen(tmp_path, monkeypatch):
    def without_flip(x, w, *, flip_kernel=False):
        del flip_kernel
        return right(x, w)

    right = edges.responses
    monkeypatch.setattr(edges, "responses", without_flip)
    result = edges.run(edges.Settings(shrink=16), tmp_path)
    assert not result.holds
    assert result.numbers["wrong signs of true convolution"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"photograph": "moon"}, "photograph: got 'moon', expected one of china, flower"),
        ({"shrink": 3}, "shrink: got 3, expected a power of two from 1 to 32"),
        ({"shrink": 0}, "shrink: got 0, expected a power of two from 1 to 32"),
    ],
)
def test_mistakes_are_one_line(options, message, tmp_path):
    with pytest.raises(UsageError) as raised:
        edges.run(edges.Settings(**options), tmp_path)
    assert str(raised.value) == message
