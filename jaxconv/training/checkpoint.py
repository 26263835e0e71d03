"""Checkpoints of a training state, through Orbax (the extra `jaxconv[experiments]` installs it)."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxconv.training.step import TrainState

__all__ = ["Checkpoints"]


class Checkpoints:
    """The last checkpoints of one run, in a folder of its own. A save is atomic: a run that dies leaves the last one.

    Args:
        directory: the folder; made if it is not there.
        keep: how many of the latest to keep.
    """

    def __init__(self, directory: Path | str, *, keep: int = 1):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(Path(directory).absolute(), options=options)

    def save(self, state: TrainState) -> None:
        """Writes the state, under its step number."""
        self._manager.save(int(state.step), args=ocp.args.StandardSave(_storable(state)))

    def restore(self, like: TrainState) -> TrainState | None:
        """The latest state, of the shapes, dtypes and devices of `like`; None if there is none."""
        latest = self._manager.latest_step()
        if latest is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _storable(like))
        restored: Any = self._manager.restore(latest, args=ocp.args.StandardRestore(target))
        # A net_state without leaves is not stored, but has a structure all the same.
        state = TrainState(**{"net_state": like.net_state, **restored})
        return state._replace(key=jax.random.wrap_key_data(state.key, impl=jax.random.key_impl(like.key)))

    def close(self) -> None:
        """Ends the manager's background work."""
        self._manager.close()


def _storable(state: TrainState) -> dict[str, Any]:
    stored = state._replace(key=jax.random.key_data(state.key))._asdict()
    if not jax.tree.leaves(state.net_state):
        del stored["net_state"]  # as in checkpoints from before there was one
    return stored
