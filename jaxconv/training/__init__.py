"""Training: pure (state, batch) -> (state, metrics) steps over any optax optimizer, and the loop around them.

Checkpoints are in `jaxconv.training.checkpoint`, which needs Orbax.
"""

from jaxconv.training.loop import NonFiniteLossError, evaluate, train
from jaxconv.training.step import TrainState, make_multi_step, make_train_step, new_state

__all__ = [
    "NonFiniteLossError",
    "TrainState",
    "evaluate",
    "make_multi_step",
    "make_train_step",
    "new_state",
    "train",
]
