"""How the gallery trains a net: `jaxconv.training` with Adam and a cosine, batches shuffled by the seed."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxconv import softmax_cross_entropy_with_integer_labels
from jaxconv.layers import Layer
from jaxconv.training import TrainState, evaluate, make_multi_step, make_train_step, new_state, train

__all__ = ["accuracy", "fit", "random_shift"]


def fit(
    net: Layer,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    report: Callable[[int, dict[str, float], TrainState], Any] | None = None,
) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Trains a classifier: softmax cross-entropy, Adam, a learning rate that falls to zero as a cosine.

    Args:
        net: the classifier; may have a state, such as batch normalisation's.
        images: (examples, *spatial, C).
        labels: (examples,), integers.
        epochs: passes over the examples; what does not fill a batch is left out, another part of them every epoch.
        batch_size: examples per step.
        learning_rate: the learning rate at its largest.
        seed: initial parameters, order and augmentation follow from it.
        augment: (key, images) -> images, inside the step.
        report: called after every epoch with its number from 1, the mean metrics of its steps and the state.

    Returns:
        The parameters, the net's state, and the metrics ("loss", "accuracy") of every epoch.
    """
    shape = images.shape[1:]
    steps = len(labels) // batch_size
    optimizer, multi_step = _steps(net, learning_rate, epochs * steps, augment)

    def batches(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        chosen = np.random.default_rng((seed, epoch)).permutation(len(labels))[: steps * batch_size]
        chosen = chosen.reshape(steps, batch_size)
        yield images[chosen], labels[chosen]

    init_key, run_key = jax.random.split(jax.random.key(seed))
    params = jax.jit(net.init, static_argnums=1)(init_key, shape)
    state = new_state(params, optimizer, run_key, net.init_state(shape))
    history: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for epoch in range(1, epochs + 1):
        state, metrics = train(multi_step, state, batches(epoch))
        means = {name: float(metrics[name].mean()) for name in history}
        for name, value in means.items():
            history[name].append(value)
        if report is not None:
            report(epoch, means, state)
    return state.params, state.net_state, {name: np.array(values) for name, values in history.items()}


def accuracy(net: Layer, params: Any, images: np.ndarray, labels: np.ndarray, net_state: Any = ()) -> float:
    """The share of the examples whose largest logit is their label."""
    variables = (params, net_state) if net.stateful else (params,)
    return float(evaluate(_correct(net), variables, (images, labels), batch_size=500)["correct"].mean())


def random_shift(key: jax.Array, images: jax.Array, most: int) -> jax.Array:
    """Every image of (N, H, W, C) shifted by its own whole number of pixels, up to `most` each way; zeros come in."""
    n, *size = images.shape
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    corners = jax.random.randint(key, (n, 2), 0, 2 * most + 1, dtype=jnp.int32)
    zero = jnp.zeros((), corners.dtype)
    return jax.vmap(lambda image, corner: lax.dynamic_slice(image, (*corner, zero), size))(padded, corners)


@functools.lru_cache(maxsize=32)  # the same for every seed, so that a net is compiled once
def _steps(
    net: Layer, learning_rate: float, steps: int, augment: Callable[[jax.Array, jax.Array], jax.Array] | None
) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
    """The optimizer, and the jitted function that makes as many steps as it is given batches."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss(params, net_state, batch, key):
        x, y = batch
        augment_key, net_key = jax.random.split(key)
        if augment is not None:
            x = augment(augment_key, x)
        logits, net_state = net.train(params, net_state, x, net_key)
        values = softmax_cross_entropy_with_integer_labels(logits, y)
        correct = (logits.argmax(-1) == y).astype(values.dtype)
        return values.mean(), ({"accuracy": correct.mean()}, net_state)

    return optimizer, make_multi_step(make_train_step(loss, optimizer, has_net_state=True))


@functools.lru_cache(maxsize=32)
def _correct(net: Layer) -> Callable[..., dict[str, jax.Array]]:
    """(variables, batch) -> which examples' largest logit is their label, jitted."""

    @jax.jit
    def correct(variables, batch):
        x, y = batch
        return {"correct": net.apply(variables[0], x, *variables[1:]).argmax(-1) == y}

    return correct
