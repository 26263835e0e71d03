"""The training step: a pure function from (state, batch) to (state, metrics)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["TrainState", "make_multi_step", "make_train_step", "new_state"]

Params = Any
NetState = Any
Batch = Any
Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that changes while training, as a pytree.

    Args:
        step: how many steps have been made.
        params: the parameters.
        opt_state: the optimizer's state.
        key: the random key of the run; step number t uses fold_in(key, t), so a run can go on where it stopped.
        net_state: what a net keeps besides its parameters, such as running statistics.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    key: jax.Array
    net_state: NetState = ()


def new_state(
    params: Params, optimizer: optax.GradientTransformation, key: jax.Array, net_state: NetState = ()
) -> TrainState:
    """The state before the first step.

    Example:
        >>> state = new_state({"w": jnp.ones(3)}, optax.sgd(0.1), jax.random.key(0))
        >>> int(state.step)
        0
    """
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), key, net_state)


def make_train_step(
    loss: Callable[..., tuple[jax.Array, Any]],
    optimizer: optax.GradientTransformation,
    *,
    has_net_state: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """A pure training step: params <- params + optimizer's update of dL/d params.

    Args:
        loss: (params, batch, key) -> (the scalar to minimise, more scalars to report); the key is new at every step,
            for augmentation or dropout.
        optimizer: any optax optimizer that needs no more than the gradients, the parameters and the loss; not those
            that evaluate the loss again, such as `optax.lbfgs`.
        has_net_state: the loss is (params, net_state, batch, key) -> (the scalar, (more scalars, the new net_state)),
            for a net that keeps running statistics. No derivative is taken with respect to net_state.

    Returns:
        (state, batch) -> (state, metrics), where metrics holds "loss" and what the loss function reports. It is not
        jitted: use `jax.jit(step, donate_argnums=0)`, or `make_multi_step`.

    Example:
        >>> step = make_train_step(lambda params, batch, key: (((params - batch) ** 2).mean(), {}), optax.sgd(0.5))
        >>> state = new_state(jnp.zeros(()), optax.sgd(0.5), jax.random.key(0))
        >>> state, metrics = jax.jit(step, donate_argnums=0)(state, jnp.ones(4))
        >>> float(state.params), float(metrics["loss"])
        (1.0, 1.0)

        A net with batch normalisation, or dropout:

        >>> from jaxconv.layers import batch_norm_layer, dense_layer, serial
        >>> net = serial(batch_norm_layer(), dense_layer(1))
        >>> def loss(params, net_state, x, key):
        ...     y, net_state = net.train(params, net_state, x, key)
        ...     return (y**2).mean(), ({}, net_state)
        >>> step = make_train_step(loss, optax.sgd(0.1), has_net_state=True)
        >>> params = net.init(jax.random.key(0), (3,))
        >>> state = new_state(params, optax.sgd(0.1), jax.random.key(1), net.init_state((3,)))
        >>> state, metrics = jax.jit(step)(state, jnp.ones((4, 3)))
        >>> print(state.net_state[0]["mean"])
        [0.1 0.1 0.1]
    """

    extended = optax.with_extra_args_support(optimizer)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        net_state = (state.net_state,) if has_net_state else ()
        (value, reported), grads = jax.value_and_grad(loss, has_aux=True)(state.params, *net_state, batch, key)
        reported, after = reported if has_net_state else (reported, state.net_state)
        updates, opt_state = extended.update(grads, state.opt_state, state.params, value=value)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, state.key, after), {**reported, "loss": value}

    return step


def make_multi_step(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Several steps in one dispatch: the step scanned over the leading axis of the batches, jitted, the state donated.

    Example:
        >>> step = make_train_step(lambda params, batch, key: (((params - batch) ** 2).mean(), {}), optax.sgd(0.25))
        >>> state = new_state(jnp.zeros(()), optax.sgd(0.25), jax.random.key(0))
        >>> state, metrics = make_multi_step(step)(state, jnp.ones((3, 4)))
        >>> int(state.step), metrics["loss"].tolist()
        (3, [1.0, 0.25, 0.0625])
    """

    def multi_step(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(step, state, batches)

    return jax.jit(multi_step, donate_argnums=0)
