"""What the maps are, on functions whose answer is known, and the claim on a net that has learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import saliency
from experiments.claim import UsageError
from experiments.saliency import NET, Settings, run


@pytest.fixture
def example():
    params = NET.init(jax.random.key(0), (28, 28, 1))
    # Without biases the logits are proportional to x, and one point of the path would do.
    params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params)
    x = jnp.asarray(np.random.default_rng(0).random((2, 28, 28, 1)), jnp.float32)
    return params, x, jnp.array([3, 7])


def test_the_claim(tmp_path):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        result = run(Settings(seeds=1, images=32), tmp_path)
    assert result.holds, result.numbers
    for file in result.figures:
        assert (tmp_path / file).stat().st_size > 10_000


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


def test_grad_cam_is_nowhere_negative(example):
    found = saliency.grad_cam(*example)
    assert found.shape == (2, 28, 28)
    assert found.min() == 0
    assert found.max() > 0


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
