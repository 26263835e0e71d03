"""The loop around the step: it feeds batches, watches the loss, and reports."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.training.step import Batch, Metrics, Params, TrainState

__all__ = ["NonFiniteLossError", "evaluate", "train"]


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; `step` is the number of the step, from 0, at which it did."""

    def __init__(self, step: int, loss: float):
        self.step = step
        super().__init__(
            f"loss: got {loss} at step {step}, expected a finite number: training stopped at once. Lower the learning "
            "rate, look for labels out of range or NaN in the data, or find the operation with JAX_DEBUG_NANS=True"
        )


def train(
    multi_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    state: TrainState,
    dispatches: Iterable[Batch],
    report: Callable[[dict[str, float], int, int, float], Any] | None = None,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Runs multi_step over stacked batches, and stops at the first loss that is not finite.

    Args:
        multi_step: from `make_multi_step`. It donates the state: do not use the one passed in again.
        state: the state to start from.
        dispatches: pytrees of arrays (steps, batch, ...), one per dispatch.
        report: called after every dispatch with the mean metrics of its steps, its numbers of steps and of examples,
            and its seconds; `jaxconv.training.progress.live_report` makes one that draws a progress bar.

    Returns:
        The state after the last step and every metric as an array with one value per step.

    Raises:
        NonFiniteLossError: a loss was NaN or infinite. No later dispatch is made.

    Example:
        >>> from jaxconv.training import make_multi_step, make_train_step, new_state
        >>> import optax
        >>> step = make_train_step(lambda params, batch, key: (((params - batch) ** 2).mean(), {}), optax.sgd(0.25))
        >>> state = new_state(jnp.zeros(()), optax.sgd(0.25), jax.random.key(0))
        >>> state, history = train(make_multi_step(step), state, [jnp.ones((2, 4)), jnp.ones((1, 4))])
        >>> history["loss"].tolist()
        [1.0, 0.25, 0.0625]
    """
    history: dict[str, list[np.ndarray]] = {}
    for batches in dispatches:
        first_step = int(state.step)
        started = time.perf_counter()
        state, metrics = multi_step(state, batches)
        values = {name: np.asarray(value) for name, value in jax.device_get(metrics).items()}
        seconds = time.perf_counter() - started
        (bad,) = np.nonzero(~np.isfinite(values["loss"]))
        if bad.size:
            raise NonFiniteLossError(first_step + int(bad[0]), float(values["loss"][bad[0]]))
        for name, value in values.items():
            history.setdefault(name, []).append(value)
        if report is not None:
            steps, batch_size = jax.tree.leaves(batches)[0].shape[:2]
            means = {name: float(value.mean()) for name, value in values.items()}
            report(means, steps, steps * batch_size, seconds)
    return state, {name: np.concatenate(parts) for name, parts in history.items()}


def evaluate(
    metrics: Callable[[Params, Batch], dict[str, jax.Array]], params: Params, data: Batch, *, batch_size: int
) -> dict[str, np.ndarray]:
    """Per-example metrics over a whole data set, a batch at a time.

    Args:
        metrics: (params, batch) -> a dict of arrays with one entry per example; pass a jitted function.
        params: what metrics takes first: the parameters, or (params, net_state) for a net with a state.
        data: a pytree of arrays whose first axis is the examples.
        batch_size: how many examples at a time; the last batch may be smaller.

    Returns:
        The dict, with one entry per example of the data.

    Raises:
        ValueError: the data holds no example, or batch_size is below 1.

    Example:
        >>> evaluate(lambda params, x: {"error": abs(params - x)}, 1.0, jnp.arange(3.0), batch_size=2)["error"].tolist()
        [1.0, 0.0, 1.0]
    """
    count = len(jax.tree.leaves(data)[0])
    if batch_size < 1 or count < 1:
        raise ValueError(f"batch_size, data: got {batch_size} and {count} examples, expected at least 1 of each")
    parts = [
        jax.device_get(
            metrics(params, jax.tree.map(lambda a, start=start: jnp.asarray(a[start : start + batch_size]), data))
        )
        for start in range(0, count, batch_size)
    ]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}
