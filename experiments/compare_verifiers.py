"""Claim: check_vjp catches every planted bug of a gradient; JAX's check_grads and chex's assert_numerical_grads do not.

Every mutation of `experiments.planted_bugs` is put in place, and its op is checked by `jaxconv.verification`, by
`jax.test_util.check_grads` and by `chex.assert_numerical_grads`, at order 2 with their default tolerances. The others
get the very case that our suite catches the bug with and the op's case without defaults, in float64, in float32 and in
the dtype of our catch. A `jax.custom_vjp` has no forward mode: both are asked for modes=["rev"].

A tool that fails on the correct rule at the same point has not caught anything, but it has not let it pass either:
those are counted apart, as alarms. A bug is missed where all runs passed. Then the correct rules, dtype by dtype: on
how many ops does each tool raise a false alarm?

    python -m experiments.compare_verifiers
    python -m experiments.compare_verifiers --only relu --output runs/verifiers
"""

import dataclasses
import functools
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import chex
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.planted_bugs import (
    MUTATIONS,
    SECOND,
    SPECIAL,
    Catch,
    Mutation,
    Point,
    cases_of,
    first_catch,
    planted,
    run,
)
from jaxconv.verification.cases import EDGES, Case
from jaxconv.verification.problem import DTYPES

CAUGHT, MISSED, ALARM = "caught", "missed", "alarm either way"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Plant every bug and see which tool catches it."""

    only: str = ""
    """Plant the bugs whose name or op contains this."""
    false_alarms: bool = True
    """Also run every tool on the correct rules, in every dtype."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write compare_verifiers.json there."""


class Place(NamedTuple):
    """Where a tool is run: a function of floating arrays, and their values."""

    function: Callable
    args: tuple[np.ndarray, ...]


def check_grads(place: Place, dtype: str) -> bool:
    """Whether jax.test_util.check_grads passes."""
    args = _converted(place, dtype)
    return _passes(lambda: jax.test_util.check_grads(place.function, args, order=2, modes=["rev"]))


def assert_numerical_grads(place: Place, dtype: str) -> bool:
    """Whether chex.assert_numerical_grads passes."""
    args = _converted(place, dtype)
    return _passes(lambda: chex.assert_numerical_grads(place.function, args, order=2, modes=["rev"]))


def ours(op: str, dtype: str) -> bool:
    """Whether the checks of check_vjp pass; second derivatives among them, as the other two have, and in float64."""
    parts = (dtype, SECOND) if dtype == "float64" else (dtype,)
    name = every_option(op).name
    return all(check.passed is not False for part in parts for check in run(op, Point(name, part)))


def _converted(place: Place, dtype: str) -> tuple:
    with jax.enable_x64(True):
        return tuple(jnp.asarray(a, dtype) for a in place.args)


def _passes(check: Callable) -> bool:
    """Whether a tool raises nothing; a bug may make the op itself raise, which counts as a failure of the check."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        try:
            check()
        except Exception:
            return False
    return True


TOOLS = {"check_grads": check_grads, "chex": assert_numerical_grads}


def every_option(op: str) -> Case:
    """The op's case with no option left at its default."""
    return next((case for case in cases_of(op).values() if case.thorough), next(iter(cases_of(op).values())))


def place_of(op: str, point: Point, convention: str = "") -> Place:
    """What the suite runs at a point; of the special points the one with this convention."""
    if point.case != SPECIAL:
        case = cases_of(op)[point.case]
        return Place(case.function, tuple(case.arguments()))
    edge = next(edge for edge in EDGES[op] if edge.convention == convention)
    floating = [n for n, a in enumerate(edge.args) if np.issubdtype(np.asarray(a).dtype, np.floating)]

    def function(*chosen):
        given = dict(zip(floating, chosen, strict=True))
        return edge.function(*[given.get(n, a) for n, a in enumerate(edge.args)])

    return Place(function, tuple(np.asarray(edge.args[n]) for n in floating))


def trials(op: str, catch: Catch | None) -> Iterator[tuple[Point, str, str]]:
    """(point, convention, dtype) at which the other tools are run for a mutation."""
    case = every_option(op)
    places = [(Point(case.name, ""), "")]
    if catch is not None:
        places.insert(0, (Point(catch.point.case, ""), catch.check.name.removeprefix("edge: ")))
    dtypes = ["float64", "float32"]
    if catch is not None and catch.check.dtype not in dtypes:
        dtypes.append(catch.check.dtype)
    for point, convention in dict.fromkeys(places):
        for dtype in dtypes:
            yield point, convention if point.case == SPECIAL else "", dtype


@functools.cache
def passes_without_bug(tool: str, op: str, point: Point, convention: str, dtype: str) -> bool:
    """Whether a tool passes the correct rule."""
    with planted(None):
        return TOOLS[tool](place_of(op, point, convention), dtype)


def verdict(tool: str, bug: Mutation, catch: Catch | None) -> str:
    """Caught, missed, or an alarm that the correct rule raises as well."""
    failed = []
    for trial in dict.fromkeys(trials(bug.op, catch)):
        point, convention, dtype = trial
        with planted(bug):
            passed = TOOLS[tool](place_of(bug.op, point, convention), dtype)
        if not passed:
            if passes_without_bug(tool, bug.op, point, convention, dtype):
                return CAUGHT
            failed.append(trial)
    return ALARM if failed else MISSED


def compare(bug: Mutation) -> dict[str, str | None]:
    """A row of the table: which check of ours catches the bug, and what the others say."""
    catch = first_catch(bug)
    row: dict[str, str | None] = {"mutation": bug.name, "op": bug.op, "check_vjp": str(catch) if catch else None}
    return row | {tool: verdict(tool, bug, catch) for tool in TOOLS}


def false_alarms(op: str) -> dict[str, dict[str, bool]]:
    """Of every tool, in every dtype that the op's case is for: whether it fails the correct rule."""
    case = every_option(op)
    point = Point(case.name, "")
    found = {"check_vjp": {dtype: not ours(op, dtype) for dtype in case.dtypes}}
    for tool in TOOLS:
        found[tool] = {dtype: not passes_without_bug(tool, op, point, "", dtype) for dtype in case.dtypes}
    return found


def main() -> int:
    """The command; returns its exit status."""
    settings = tyro.cli(Settings, prog="python -m experiments.compare_verifiers", description=__doc__)
    # Two devices, for shard_map; and every program is compiled to run once or twice.
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_disable_most_optimizations", True)
    console = Console()
    chosen = [bug for bug in MUTATIONS if settings.only in bug.name or settings.only in bug.op]
    if not chosen:
        print(f"error: only: got {settings.only!r}, expected part of a bug's name or op", file=sys.stderr)
        return 2
    rows = [compare(bug) for bug in track(chosen, "planting bugs", console=console, transient=True)]
    table = Table("mutation", "op", "check_vjp", *TOOLS)
    for row in rows:
        table.add_row(*(str(cell or MISSED) for cell in row.values()))
    console.print(table)
    alarms = {}
    if settings.false_alarms:
        ops = dict.fromkeys(bug.op for bug in chosen)
        alarms = {op: false_alarms(op) for op in track(ops, "correct rules", console=console, transient=True)}
        table = Table("correct rules failed by", *DTYPES)
        for tool in ("check_vjp", *TOOLS):
            cells = []
            for dtype in DTYPES:
                verdicts = [found[tool][dtype] for found in alarms.values() if dtype in found[tool]]
                cells.append(f"{sum(verdicts)} of {len(verdicts)}")
            table.add_row(tool, *cells)
        console.print(table)
    counts = {tool: [sum(row[tool] == kind for row in rows) for kind in (CAUGHT, MISSED, ALARM)] for tool in TOOLS}
    caught = sum(row["check_vjp"] is not None for row in rows)
    where = (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, jax {jax.__version__}, chex {chex.__version__}"
    )
    console.print(
        f"check_vjp catches {caught} of {len(rows)}, check_grads misses {counts['check_grads'][1]}, chex misses "
        f"{counts['chex'][1]} (alarms that the correct rule raises, too: {counts['check_grads'][2]} and "
        f"{counts['chex'][2]}) ({where})",
        soft_wrap=True,
    )
    if settings.output is not None:
        settings.output.mkdir(parents=True, exist_ok=True)
        result = {"machine": where, "mutations": rows, "false_alarms": alarms}
        (settings.output / "compare_verifiers.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
