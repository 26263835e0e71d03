"""What the experiments of the gallery share: a command, a folder and a summary each, in one form.

An experiment is a module with its claim at the top of its docstring ("Claim: ..."), a frozen dataclass `Settings` with
an `output` and a function `run(settings, folder) -> Result`. Its last lines are

    if __name__ == "__main__":
        sys.exit(command(Settings, run))
"""

import dataclasses
import datetime
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import tyro

import jaxconv

__all__ = ["Result", "UsageError", "claim_of", "command", "perform"]


class UsageError(Exception):
    """Something in the settings or the data that the user can mend; its message is one line."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What an experiment found.

    Args:
        holds: whether the claim holds, for every seed.
        numbers: what was measured; a list has one entry per seed.
        figures: {a file in the experiment's folder: its caption}.
        tables: {a title: rows, the first of them the heads of the columns}.
        text: lines to be shown as they are, in a fixed width.
        seeds: how many seeds; 0 for what has no chance in it.
        remark: where the claim does not hold, or what limits it.
    """

    holds: bool
    numbers: dict[str, float | int | str | Sequence[float]]
    figures: dict[str, str]
    tables: dict[str, list[Sequence[Any]]] = dataclasses.field(default_factory=dict)
    text: str = ""
    seeds: int = 0
    remark: str = ""


def claim_of(module: ModuleType) -> str:
    """The claim: the first paragraph of the module's docstring."""
    first, _, _ = (module.__doc__ or "").partition("\n\n")
    claim = " ".join(first.split()).removeprefix("Claim: ")
    return claim[:1].upper() + claim[1:]


def perform(settings: Any, run: Callable[[Any, Path], Result], module: ModuleType, name: str) -> dict:
    """Runs the experiment in its folder; returns what it wrote to summary.json.

    Raises:
        UsageError: the folder cannot be written to, or what `run` raises.
    """
    folder = settings.output or Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "no permission")
    except OSError as error:
        raise UsageError(
            f"output: cannot write to {folder} ({error.strerror}): pass a folder that can be written"
        ) from error
    started = time.perf_counter()
    result = run(settings, folder)
    summary = {
        "name": name,
        "claim": claim_of(module),
        **dataclasses.asdict(result),
        "seconds": round(time.perf_counter() - started, 1),
        "command": f"python -m experiments.{name}",
        "settings": {k: v for k, v in dataclasses.asdict(settings).items() if k != "output"},
        "date": f"{datetime.date.today()}",
        "device": f"{jax.devices()[0].device_kind} ({jax.devices()[0].platform}), {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "jaxconv": jaxconv.__version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
        },
    }
    # Through a second file, so that a run that dies leaves the old summary or the new.
    new = folder / "summary.new"
    new.write_text(json.dumps(summary, indent=2, default=_plain) + "\n")
    new.replace(folder / "summary.json")
    return json.loads((folder / "summary.json").read_text())


def command(settings_type: type, run: Callable[[Any, Path], Result]) -> int:
    """The command of an experiment: settings from its arguments, the numbers printed; returns its exit status.

    0: the claim holds; 1: it does not; 2: something in the settings or the data is wrong.
    """
    module = sys.modules[run.__module__]
    name = Path(inspect.getfile(module)).stem
    settings = tyro.cli(
        settings_type,
        prog=f"python -m experiments.{name}",
        description=module.__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        summary = perform(settings, run, module, name)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(described(summary))
    print(f"results in {settings.output}" if settings.output else f"results in the newest folder runs/{name}-*")
    return 0 if summary["holds"] else 1


def described(summary: dict) -> str:
    """A summary as text: the claim, whether it holds, its numbers."""
    lines = [f"Claim: {summary['claim']}", ""]
    lines += [f"  {name}: {shown(value)}" for name, value in summary["numbers"].items()]
    lines += ["", summary["text"]] if summary["text"] else []
    lines += ["", summary["remark"]] if summary["remark"] else []
    seeds = f" over {summary['seeds']} seeds" if summary["seeds"] else ""
    lines += ["", f"{'HOLDS' if summary['holds'] else 'DOES NOT HOLD'}{seeds} ({summary['seconds']} s)"]
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A number as a person reads it; a list as mean ± standard deviation, lowest and highest."""
    if isinstance(value, (list, tuple)):
        low, high = min(value), max(value)
        return f"{np.mean(value):.4g} ± {np.std(value):.2g} (n = {len(value)}; {low:.4g} to {high:.4g})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return np.asarray(value).tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot be written to JSON: {type(value).__name__}")
