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


@pytest.fixture(scope="module", autouse=True)
def as_a_user_runs_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


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


def test_the_figures(summary):
    import matplotlib.image

    for name in summary["figures"]:
        picture = matplotlib.image.imread(summary["folder"] / name)
        assert picture.shape[0] > 200
        assert picture[..., :3].std() > 0.02  # not blank


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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depth": 2}, "depth: got 2, expected at least 3"),
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
