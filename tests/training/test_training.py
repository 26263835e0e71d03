"""Steps, the loop, evaluation, checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import assert_close, normal

from jaxconv import softmax_cross_entropy_with_integer_labels
from jaxconv.layers import batch_norm_layer, conv_layer, dense_layer, flatten_layer, max_pool_layer, relu_layer, serial
from jaxconv.training import (
    NonFiniteLossError,
    TrainState,
    evaluate,
    make_multi_step,
    make_train_step,
    new_state,
    train,
)
from jaxconv.training.checkpoint import Checkpoints

NET = serial(conv_layer(4, 3), relu_layer, max_pool_layer(2), flatten_layer, dense_layer(3))


def loss(params, batch, key):
    del key
    losses = softmax_cross_entropy_with_integer_labels(NET.apply(params, batch[0]), batch[1])
    return losses.mean(), {"worst": losses.max()}


def batches(steps):
    (x,) = normal(0, (steps, 8, 8, 8, 1), dtype=np.float32)
    return x, jnp.asarray(np.random.default_rng(0).integers(0, 3, (steps, 8)))


def fresh(optimizer):
    return new_state(NET.init(jax.random.key(0), (8, 8, 1)), optimizer, jax.random.key(1))


def test_a_step_of_sgd_is_the_rule_of_the_notes():
    # w <- w − η·dL/dw, b <- b − η·dL/db
    state, (x, y) = fresh(optax.sgd(0.1)), batches(1)
    grads = jax.grad(lambda p: loss(p, (x[0], y[0]), None)[0])(state.params)
    after, metrics = make_train_step(loss, optax.sgd(0.1))(state, (x[0], y[0]))
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
    assert_close(after.params, expected, length=2)
    assert int(after.step) == 1
    assert set(metrics) == {"loss", "worst"}


@pytest.mark.parametrize(
    "optimizer",
    [optax.sgd(0.1, momentum=0.9), optax.adamw(1e-3), optax.chain(optax.clip_by_global_norm(1.0), optax.lamb(1e-3))],
)
def test_several_steps_in_one_dispatch_are_the_single_steps(optimizer):
    data = batches(3)
    together, history = make_multi_step(make_train_step(loss, optimizer))(fresh(optimizer), data)
    step, alone, losses = jax.jit(make_train_step(loss, optimizer), donate_argnums=0), fresh(optimizer), []
    for number in range(3):
        alone, metrics = step(alone, jax.tree.map(lambda a, n=number: a[n], data))
        losses.append(metrics["loss"])
    assert_close(together.params, alone.params, length=100)
    assert_close(history["loss"], jnp.stack(losses), length=100)


def test_the_state_is_donated():
    optimizer = optax.sgd(0.1)
    state = fresh(optimizer)
    make_multi_step(make_train_step(loss, optimizer))(state, batches(2))
    assert state.params[0]["w"].is_deleted()


def test_every_step_has_its_own_key():
    seen = lambda params, batch, key: (jnp.sum(params), {"draw": jax.random.uniform(key, dtype=jnp.float32)})  # noqa: E731
    multi_step = make_multi_step(make_train_step(seen, optax.sgd(0.0)))
    make = lambda: new_state(jnp.zeros(2, jnp.float32), optax.sgd(0.0), jax.random.key(3))  # noqa: E731
    _, one = multi_step(make(), jnp.zeros(4))
    _, two = multi_step(make(), jnp.zeros(4))
    assert len(set(one["draw"].tolist())) == 4
    assert one["draw"].tolist() == two["draw"].tolist()


def test_training_lowers_the_loss_and_reports():
    optimizer, (x, y) = optax.adam(1e-2), batches(1)
    reported = []
    repeated = (jnp.repeat(x, 10, 0), jnp.repeat(y, 10, 0))
    state, history = train(
        make_multi_step(make_train_step(loss, optimizer)),
        fresh(optimizer),
        [repeated] * 4,
        lambda *arguments: reported.append(arguments),
    )
    assert int(state.step) == 40
    assert history["loss"].shape == (40,)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert [(steps, examples) for _, steps, examples, _ in reported] == [(10, 80)] * 4
    mean = history["loss"][:10].mean(dtype=np.float64)  # of float32 values, and reported as one
    assert_close(np.float32(reported[0][0]["loss"]), np.float32(mean), length=10)
    assert all(seconds > 0 for *_, seconds in reported)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_at_once_and_says_where(value):
    x, y = batches(6)
    x = x.at[4, 0, 0, 0, 0].set(value)
    made = []

    def dispatches():
        for number in range(3):
            made.append(number)
            yield x[2 * number : 2 * number + 2], y[2 * number : 2 * number + 2]
        made.append("after the failure")

    multi_step = make_multi_step(make_train_step(lambda p, b, k: (jnp.sum(b[0]) * p, {}), optax.sgd(0.0)))
    state = new_state(jnp.ones((), jnp.float32), optax.sgd(0.0), jax.random.key(0))
    with pytest.raises(
        NonFiniteLossError, match=r"loss: got (nan|inf) at step 4, expected a finite number.*learning rate"
    ) as info:
        train(multi_step, state, dispatches())
    assert info.value.step == 4
    assert made == [0, 1, 2]


def test_a_reported_loss_does_not_hide_the_real_one():
    multi_step = make_multi_step(make_train_step(lambda p, b, k: (jnp.sum(p) * jnp.nan, {"loss": 7.0}), optax.sgd(0.0)))
    with pytest.raises(NonFiniteLossError):
        train(multi_step, new_state(jnp.ones(2, jnp.float32), optax.sgd(0.0), jax.random.key(0)), [jnp.ones((1, 2))])


def test_optimizers_that_look_at_the_loss():
    optimizer = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())
    state, _ = make_multi_step(make_train_step(loss, optimizer))(fresh(optimizer), batches(2))
    assert int(state.step) == 2


def test_no_batches_leave_the_state_alone():
    state = fresh(optax.sgd(0.1))
    after, history = train(make_multi_step(make_train_step(loss, optax.sgd(0.1))), state, [])
    assert after is state
    assert history == {}


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 100])
def test_evaluation_sees_every_example_once(batch_size):
    data = (np.arange(10.0), np.arange(10))
    found = evaluate(
        lambda scale, batch: {"twice": scale * batch[0], "index": batch[1]}, 2.0, data, batch_size=batch_size
    )
    assert found["twice"].tolist() == [2.0 * n for n in range(10)]
    assert found["index"].tolist() == list(range(10))


@pytest.mark.parametrize(("count", "batch_size"), [(0, 2), (3, 0)])
def test_evaluation_of_nothing_is_an_error(count, batch_size):
    with pytest.raises(ValueError, match=rf"got {batch_size} and {count} examples"):
        evaluate(lambda params, x: {"x": x}, None, np.zeros(count), batch_size=batch_size)


def test_checkpoints_keep_everything_and_only_the_latest(tmp_path):
    optimizer = optax.adam(1e-2)
    multi_step = make_multi_step(make_train_step(loss, optimizer))
    checkpoints = Checkpoints(tmp_path / "kept")
    assert checkpoints.restore(fresh(optimizer)) is None
    state = fresh(optimizer)
    for _ in range(2):
        state, _ = multi_step(state, batches(2))
        checkpoints.save(state)
    checkpoints.close()
    assert [path.name for path in (tmp_path / "kept").iterdir() if path.name.isdigit()] == ["4"]

    restored = Checkpoints(tmp_path / "kept").restore(fresh(optimizer))
    assert isinstance(restored, TrainState)
    stored = lambda s: s._replace(key=jax.random.key_data(s.key))  # noqa: E731
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (stored(restored), stored(state)))))
    # and training goes on as if nothing had happened
    on, _ = multi_step(restored, batches(2))
    straight, _ = multi_step(state, batches(2))
    assert all(map(np.array_equal, *map(jax.tree.leaves, (on.params, straight.params))))


# --- nets with a state ---

STATEFUL = serial(conv_layer(4, 3), batch_norm_layer(), relu_layer, flatten_layer, dense_layer(3))


def stateful_loss(params, net_state, batch, key):
    logits, net_state = STATEFUL.train(params, net_state, batch[0], key)
    losses = softmax_cross_entropy_with_integer_labels(logits, batch[1])
    return losses.mean(), ({"worst": losses.max()}, net_state)


def fresh_stateful(optimizer):
    params, net_state = STATEFUL.init(jax.random.key(0), (8, 8, 1)), STATEFUL.init_state((8, 8, 1))
    return new_state(params, optimizer, jax.random.key(1), net_state)


def test_the_state_of_a_net_goes_along(tmp_path):
    optimizer, data = optax.adamw(1e-2), batches(4)
    step = make_train_step(stateful_loss, optimizer, has_net_state=True)
    state, history = make_multi_step(step)(fresh_stateful(optimizer), data)
    assert set(history) == {"loss", "worst"}
    # The same, a step at a time, and by hand.
    alone, step = fresh_stateful(optimizer), jax.jit(step)
    for number in range(4):
        x, _ = batch = jax.tree.map(lambda a, n=number: a[n], data)
        _, by_hand = jax.jit(STATEFUL.train)(alone.params, alone.net_state, x, alone.key)
        alone, _ = step(alone, batch)
        assert_close(alone.net_state, by_hand, length=300)
    assert_close(state.net_state, alone.net_state, length=300)
    assert state.net_state[1]["mean"].any()

    checkpoints = Checkpoints(tmp_path / "kept")
    checkpoints.save(state)
    checkpoints.close()
    restored = Checkpoints(tmp_path / "kept").restore(fresh_stateful(optimizer))
    assert restored is not None
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (restored.net_state, state.net_state))))

    found = evaluate(
        lambda kept, batch: {"logits": STATEFUL.apply(kept[0], batch, kept[1])},
        (restored.params, restored.net_state),
        data[0][0],
        batch_size=4,
    )
    assert_close(found["logits"], STATEFUL.apply(state.params, data[0][0], state.net_state), length=300)


def test_checkpoints_from_before_there_was_a_net_state(tmp_path):
    from typing import Any, NamedTuple

    import orbax.checkpoint as ocp

    class Earlier(NamedTuple):
        step: Any
        params: Any
        opt_state: Any
        key: Any

    state, checkpoints = fresh(optax.adam(1e-2)), Checkpoints(tmp_path / "kept")
    earlier = Earlier(*state[:4])._replace(key=jax.random.key_data(state.key))
    checkpoints._manager.save(0, args=ocp.args.StandardSave(earlier))
    checkpoints.close()
    restored = Checkpoints(tmp_path / "kept").restore(fresh(optax.adam(1e-2)))
    assert restored is not None
    assert all(map(np.array_equal, *map(jax.tree.leaves, (restored.params, state.params))))


def test_checkpoints_keep_the_structure_of_a_net_state_without_leaves(tmp_path):
    state, checkpoints = fresh(optax.sgd(0.1))._replace(net_state=((), {"inner": ()})), Checkpoints(tmp_path / "kept")
    checkpoints.save(state)
    checkpoints.close()
    restored = Checkpoints(tmp_path / "kept").restore(state)
    assert restored is not None
    assert restored.net_state == ((), {"inner": ()})


def test_without_a_net_state_there_is_none():
    after, _ = make_train_step(loss, optax.sgd(0.1))(fresh(optax.sgd(0.1)), jax.tree.map(lambda a: a[0], batches(1)))
    assert after.net_state == ()


def test_the_progress_bar_shows_the_last_dispatch():
    import io

    from rich.console import Console

    from jaxconv.training.progress import live_report

    optimizer, written = optax.sgd(0.1), io.StringIO()
    with live_report(4, console=Console(file=written, width=120)) as report:
        _, history = train(
            make_multi_step(make_train_step(loss, optimizer)), fresh(optimizer), [batches(2)] * 2, report
        )
    assert "4/4" in written.getvalue()
    assert f"loss {history['loss'][2:].mean():.4f}" in written.getvalue()
    assert "images/s" in written.getvalue()
