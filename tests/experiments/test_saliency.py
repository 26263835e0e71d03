"""What the maps are, on functions whose answer is known, and the claim on a net that has learned."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import saliency
from experiments.claim import UsageError
from experiments.saliency import NET, Settings, run

pytestmark = pytest.mark.usefixtures("as_a_user_runs_it")


@pytest.fixture
def example():
    params = NET.init(jax.random.key(0), (28, 28, 1))
    # Without biases the logits are proportional to x, and one point of the path would do.
    params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params)
    x = jnp.asarray(np.random.default_rng(0).random((2, 28, 28, 1)), jnp.float32)
    return params, x, jnp.array([3, 7])


def test_the_claim(tmp_path, are_pictures):
    result = run(Settings(seeds=1, images=32), tmp_path)
    assert result.holds, result.numbers
    assert result.numbers["digits explained"] == [32]
    assert are_pictures(tmp_path, result.figures)


def test_saliency_is_the_size_of_the_derivative(example):
    params, x, labels = example
    found = saliency.saliency(params, x, labels)
    step = jnp.zeros_like(x).at[1, 12, 9].set(1e-2)
    f = [saliency.logits_of(params, x + sign * step, labels)[1] for sign in (1, -1)]
    assert found[1, 12, 9] == pytest.approx(abs(float(f[0] - f[1])) / 2e-2, rel=0.05)


def test_integrated_gradients_are_complete(example):
    params, x, labels = example
    rise = saliency.logits_of(params, x, labels) - saliency.logits_of(params, jnp.zeros_like(x), labels)
    few, many = (saliency.integrated_gradients(params, x, labels, path).sum((1, 2)) for path in (1, 256))
    assert np.abs(many - rise).max() < 0.01 * np.abs(rise).max()
    assert np.abs(few - rise).max() > 2 * np.abs(many - rise).max()


def test_occlusion_is_the_fall_of_the_logit(example):
    params, x, labels = example
    found = saliency.occlusion(params, x, labels)
    hidden = x.at[:, 10:16, 4:10].set(0)  # around the pair of pixels at 12, 13 and 6, 7
    fall = saliency.logits_of(params, x, labels) - saliency.logits_of(params, hidden, labels)
    np.testing.assert_allclose(found[:, 12, 6], fall, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found[:, 12, 6], found[:, 13, 7])


def test_grad_cam_is_what_the_head_does_with_the_maps(example):
    """Behind the average over all 7x7 positions, d f_c / d A_k is W[k, c] / 49 at each of them."""
    params, x, labels = example
    maps = np.asarray(saliency.FEATURES.apply(params[0], x))
    weights = np.asarray(params[1][1]["w"])[:, np.asarray(labels)]
    expected = np.maximum(np.einsum("nijk,kn->nij", maps, weights), 0) / 49
    assert expected.min() == 0
    assert expected.max() > 0
    found = saliency.grad_cam(params, x, labels)
    assert found.shape == (2, 28, 28)
    enlarged = np.kron(expected, np.ones((4, 4)))
    np.testing.assert_allclose(found, enlarged, rtol=1e-4, atol=1e-6 * expected.max())


LEFT = {"saliency": 0.6, "integrated gradients": 0.4, "occlusion": 0.4, "Grad-CAM": 0.6, "at random": 0.8}


@pytest.mark.parametrize(
    ("changed", "off", "holds"),
    [
        ({}, 0.01, True),
        ({}, 0.06, False),
        ({"integrated gradients": 0.55}, 0.01, False),
        ({"occlusion": 0.55}, 0.01, False),
        ({"saliency": 0.77}, 0.01, False),
        ({"Grad-CAM": 0.77}, 0.01, False),
    ],
)
def test_what_it_takes_to_hold(changed, off, holds, tmp_path, monkeypatch):
    """What erasing leaves of the probability, and what the sums miss, planted; the second seed is the other one."""
    labels = np.array([1, 4, 6, 7])  # none of those that are drawn first
    x = np.full((4, 28, 28, 1), 0.5, np.float32)
    values = {"saliency": 1, "integrated gradients": 0.5 * (1 + off), "occlusion": 2, "Grad-CAM": 3}
    maps = {name: np.full((4, 28, 28), value, np.float32) for name, value in values.items()}
    seeds = []

    def probability_after(params, x, labels, scores, fraction):
        name = next((name for name, values in maps.items() if np.array_equal(scores, values)), "at random")
        return np.array([(LEFT | changed if len(seeds) == 2 else LEFT)[name]])

    for name in maps:
        function = name.lower().translate(str.maketrans(" -", "__"))
        monkeypatch.setattr(saliency, function, lambda *_, name=name: maps[name])
    monkeypatch.setattr(saliency, "probability_after", probability_after)
    monkeypatch.setattr(saliency, "logits_of", lambda params, x, labels: x.sum((1, 2, 3)))
    monkeypatch.setattr(saliency, "NET", SimpleNamespace(apply=lambda *_: np.eye(10)[labels]))
    monkeypatch.setattr(saliency, "fit", lambda *_, seed, **options: (seeds.append(seed), (), {}))
    monkeypatch.setattr(saliency, "accuracy", lambda *_: 1.0)
    data = SimpleNamespace(train_images=None, train_labels=None, test_images=x, test_labels=labels)
    monkeypatch.setattr(saliency, "load", lambda name: data)
    result = run(Settings(seeds=2), tmp_path)
    assert result.holds == holds
    assert result.numbers["digits explained"] == [4, 4]


def test_what_is_erased_is_ink_with_the_highest_scores(example):
    params, _, labels = example
    x = jnp.zeros((2, 28, 28, 1), jnp.float32).at[:, 5:15, 5:15].set(1.0)
    scores = jnp.tile(
        jnp.arange(28, dtype=jnp.float32), (2, 28, 1)
    )  # the rightmost first, and beyond the ink higher still
    half = saliency.probability_after(params, x, labels, scores, 0.5)
    erased = x.at[:, :, 10:].set(0)
    expected = jnp.take_along_axis(jax.nn.softmax(NET.apply(params, erased)), labels[:, None], 1)[:, 0]
    np.testing.assert_allclose(half, expected, rtol=1e-5)


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UsageError, match="path: got 0, expected at least 1"):
        run(Settings(path=0), tmp_path)
