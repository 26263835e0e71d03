"""The error vanishes through sigmoids and not through ReLUs, on the small digits and in fewer epochs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import vanishing
from experiments.claim import UsageError, perform
from experiments.vanishing import Settings, run
from jaxconv import softmax_cross_entropy_with_integer_labels

pytestmark = pytest.mark.usefixtures("as_a_user_runs_it")


@pytest.fixture(scope="module")
def summary(tmp_path_factory, as_a_user_runs_it, quick_compilation):
    folder = tmp_path_factory.mktemp("vanishing")
    settings = Settings(data="digits", nets=("sigmoid", "ReLU"), epochs=12, seeds=1, output=folder)
    perform(settings, run, vanishing, "vanishing")
    return json.loads((folder / "summary.json").read_text()) | {"folder": folder}


def test_the_claim(summary):
    assert summary["holds"]
    numbers = summary["numbers"]
    assert len(numbers["sigmoid: error ratio"]) == 1
    # 14 activations lie between the first and the last hidden layer, each with a slope of 1/4 at best.
    assert all(0.25**16 < ratio < 0.25**14 * 10 for ratio in numbers["sigmoid: error ratio"])
    assert all(0.1 < ratio < 10 for ratio in numbers["ReLU: error ratio"])
    assert max(numbers["sigmoid: test accuracy"]) < 0.15
    assert min(numbers["ReLU: test accuracy"]) > 0.85
    assert max(numbers["sigmoid: flat units"]) == 0
    assert all(0.4 < flat < 0.6 for flat in numbers["ReLU: flat units"])


def test_the_figures(summary, are_pictures):
    assert are_pictures(summary["folder"], summary["figures"])


def test_the_error_is_the_gradient_of_the_loss(quick_compilation):
    """The error of a layer, summed over the images, is the gradient of its bias."""
    kind = vanishing.KINDS["tanh"]
    net = vanishing.make_net(kind, depth=4, width=5, classes=3)
    params = jax.jit(net.init, static_argnums=1)(jax.random.key(0), (6,))
    image, label = jnp.arange(6, dtype=jnp.float32).reshape(1, 6) / 6, jnp.array([1])
    loss = lambda params: softmax_cross_entropy_with_integer_labels(net.apply(params, image), label).sum()  # noqa: E731
    grads = jax.jit(jax.grad(loss))(params)
    biases = np.stack([grads[1]["b"], *grads[2][1]["b"]])
    measured = jax.jit(lambda params: vanishing.errors_and_slopes(kind, net, params, image, label))
    errors, slopes = measured(params)
    np.testing.assert_allclose(errors[:, 0], np.linalg.norm(biases, axis=1), rtol=1e-5)
    z = image @ params[1]["w"]
    np.testing.assert_allclose(slopes[0], 1 - jnp.tanh(z) ** 2, rtol=1e-5)


def measured(ratio, accuracy, slope):
    """A measurement of three layers with this error ratio."""
    errors = np.tile([ratio, ratio**0.5, 1.0], (2, 1))
    return vanishing.Measurement(errors, np.full((2, 3), 0.1), slope, np.array([0.1, accuracy]), accuracy)


SIGMOID = {"ratio": 1e-9, "accuracy": 0.1, "slope": 0.25}
RELU = {"ratio": 1.2, "accuracy": 0.9, "slope": 1.0}


@pytest.mark.parametrize(
    ("sigmoid", "relu", "holds"),
    [
        ({}, {}, True),
        ({"ratio": 1e-5}, {}, False),
        ({"accuracy": 0.2}, {}, False),
        ({"slope": 0.26}, {}, False),
        ({}, {"ratio": 0.05}, False),
        ({}, {"accuracy": 0.8}, False),
    ],
)
def test_what_it_takes_to_hold(sigmoid, relu, holds, tmp_path, monkeypatch):
    """Planted in place of nets; the second seed is the other one."""
    found = {
        vanishing.KINDS["sigmoid"]: [measured(**SIGMOID), measured(**SIGMOID | sigmoid)],
        vanishing.KINDS["ReLU"]: [measured(**RELU), measured(**RELU | relu)],
    }
    monkeypatch.setattr(vanishing, "load", lambda name: None)
    monkeypatch.setattr(vanishing, "measure", lambda kind, *_: found[kind])
    for name in ("draw_saturation", "draw_learning") if holds else ("draw_errors", "draw_saturation", "draw_learning"):
        monkeypatch.setattr(vanishing, name, lambda *_: None)
    assert run(Settings(nets=("sigmoid", "ReLU"), seeds=2), tmp_path).holds == holds


def test_how_many_times_smaller_is_written_at_any_ratio(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(vanishing, "save", lambda figure, path: figures.append(figure))
    for ratio in (0.002, 1e-9):
        vanishing.draw_errors({"sigmoid": [measured(**SIGMOID | {"ratio": ratio})]}, tmp_path)
    written = [[text.get_text() for axes in figure.axes for text in axes.texts] for figure in figures]
    assert written == [2 * ["500 times smaller"], 2 * ["1,000,000,000 times smaller"]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depth": 2}, "depth: got 2, expected at least 3"),
        ({"depth": 29}, "depth: got 29, expected at most 28: smaller errors have no square in float32"),
        ({"width": 0}, "width: got 0, expected at least 1"),
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"seeds": 0}, "seeds: got 0, expected at least 1"),
        ({"data": "imagenet"}, "data: got 'imagenet', expected one of mnist5k, digits"),
        ({"nets": ("sigmoid", "ReLU", "step")}, "nets: got 'step', expected some of sigmoid; sigmoid, large weights; tanh; tanh, large weights; ReLU; GELU"),
        ({"nets": ("sigmoid",)}, "nets: got no ReLU, expected sigmoid and ReLU among them: the claim is about these"),
    ],
)  # fmt: skip
def test_mistakes(changed, message, tmp_path):
    with pytest.raises(UsageError) as caught:
        run(Settings(**changed), tmp_path)
    assert str(caught.value) == message
