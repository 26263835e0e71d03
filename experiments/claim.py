"""What the experiments of the gallery share: a command, a folder and a summary each, in one form.

An experiment is a module with its claim at the top of its docstring ("Claim: ..."), a frozen dataclass `Settings` with
an `output` and a function `run(settings, folder) -> Result`. Its last lines are

    if __name__ == "__main__":
        sys.exit(command(Settings, run))
"""

import contextlib
import dataclasses
import datetime
import inspect
import json
import os
import platform
import shlex
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
from jaxconv.training import NonFiniteLossError

__all__ = ["Result", "UsageError", "at_least", "claim_of", "command", "perform", "plus_minus", "spread"]


class UsageError(ValueError):
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


def at_least(settings: Any, **least: int) -> None:
    """Raises UsageError for the first of these settings that is less than the number given for it."""
    for name, number in least.items():
        if getattr(settings, name) < number:
            raise UsageError(f"{name}: got {getattr(settings, name)}, expected at least {number}")


def claim_of(module: ModuleType) -> str:
    """The claim: the first paragraph of the module's docstring."""
    first, _, _ = (module.__doc__ or "").partition("\n\n")
    claim = " ".join(first.split()).removeprefix("Claim: ")
    return claim[:1].upper() + claim[1:]


def perform(settings: Any, run: Callable[[Any, Path], Result], module: ModuleType, name: str) -> dict:
    """Runs the experiment in its folder, `settings.output`; returns what it wrote to summary.json.

    What a run before this one said of itself goes first, so that one that fails does not show its numbers; it comes
    back after a UsageError, before which nothing was done.

    Raises:
        UsageError: the folder cannot be written to, or what `run` raises.
    """
    folder, before = settings.output, {}

    def put_back():
        for file, content in before.items():
            with contextlib.suppress(OSError):
                file.write_bytes(content)

    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "no permission")
        files = folder / "summary.json", folder / "traceback.txt"
        before = {file: file.read_bytes() for file in files if file.exists()}
        for file in before:
            file.unlink()
    except OSError as error:
        put_back()
        raise UsageError(
            f"output: cannot write to {folder} ({error.strerror}): pass a folder that can be written"
        ) from error
    started = time.perf_counter()
    try:
        result = run(settings, folder)
    except Exception as error:
        if isinstance(error, UsageError):
            put_back()
        if is_new:
            with contextlib.suppress(OSError):  # there is something in it
                folder.rmdir()
        raise
    summary = {
        "name": name,
        "claim": claim_of(module),
        **dataclasses.asdict(result),
        "seconds": round(time.perf_counter() - started, 1),
        "command": command_line(settings, name),
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
    # Through a second file, so that a run that dies leaves no summary or a whole one.
    new = folder / "summary.new"
    new.write_text(json.dumps(summary, indent=2, default=_plain) + "\n", encoding="utf-8")
    new.replace(folder / "summary.json")
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def command_line(settings: Any, name: str) -> str:
    """The command that runs the experiment with these settings, but for where its results go."""
    words = ["python", "-m", f"experiments.{name}"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name != "output" and value != field.default:
            values = value if isinstance(value, tuple) else (value,)
            words += ["--" + field.name.replace("_", "-"), *map(str, values)]
    return shlex.join(words)


def command(settings_type: type, run: Callable[[Any, Path], Result]) -> int:
    """The command of an experiment: settings from its arguments, the numbers printed; returns its exit status.

    0: the claim holds; 1: it does not; 2: something in the settings or the data is wrong, or a loss is not finite.
    """
    module = sys.modules[run.__module__]
    name = Path(inspect.getfile(module)).stem
    settings = tyro.cli(
        settings_type,
        prog=f"python -m experiments.{name}",
        description=module.__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    output = settings.output or Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    try:
        summary = perform(dataclasses.replace(settings, output=output), run, module, name)
    except (UsageError, NonFiniteLossError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(described(summary))
    print(f"results in {output}")
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
        return f"{np.mean(value):.4g} ± {spread(value):.2g} (n = {len(value)}; {low:.4g} to {high:.4g})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def spread(values: Any) -> Any:
    """The standard deviation over the first axis, the seeds, of which these are a sample; of a single one it is 0."""
    return np.std(values, axis=0, ddof=min(1, len(values) - 1))


def plus_minus(values: Any) -> str:
    """Mean and standard deviation of one number per seed."""
    return f"{np.mean(values):.1f} ± {spread(values):.1f}"


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return np.asarray(value).tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot be written to JSON: {type(value).__name__}")
