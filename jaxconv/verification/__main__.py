"""Verify the gradient of every op: python -m jaxconv.verification.

Runs every check on every named case, in float64, float32, bfloat16 and float16, and prints a row for each: the worst
error of the value and the gradients against float64, ours and that of JAX's own autodiff of plain lax, in units in the
last place (ULP) at the scale of the element (`jaxconv/verification/tolerance.py`); the residual of the adjoint
identity; and the bytes saved for the backward.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import jax

try:
    import tyro
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column, Table
except ImportError as error:
    sys.exit(f"error: {error.name} is not installed; pip install 'jaxconv[verification]'")

import jaxconv
from jaxconv.verification.cases import EDGES, all_cases
from jaxconv.verification.problem import DTYPES
from jaxconv.verification.suite import Row, check_case, check_edges

OPS = tuple(sorted(EDGES))

# The dtypes of --quick: float64 has the most checks, float32 is what is used.
QUICK_DTYPES = ("float64", "float32")

Names = tyro.conf.UseAppendAction[tuple[str, ...]]
Job = tuple[str, Callable[[], Iterable[Row]]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to verify."""

    op: Names = ()
    """Only this op, by its name in jaxconv; may be given several times."""
    dtype: Names = ()
    """Only this dtype: float64, float32, bfloat16 or float16; may be given several times."""
    quick: bool = False
    """A few cases of every op, without second derivatives and transformations, in float64 and float32 unless --dtype
    says otherwise."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write every check of every row there."""
    markdown: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the table of ops there, in Markdown, with the file of each op's formula."""


def mistake(settings: Settings) -> str | None:
    """What is wrong with the settings, in one line."""
    for name, given, known in (("op", settings.op, OPS), ("dtype", settings.dtype, DTYPES)):
        unknown = [value for value in given if value not in known]
        if unknown:
            return f"{name}: got {unknown[0]!r}, expected some of {', '.join(known)}"
    for name, file in (("json", settings.json), ("markdown", settings.markdown)):
        if file is not None and not file.resolve().parent.is_dir():
            return f"{name}: got {file}, expected a file in a directory that exists"
    return None


def jobs(settings: Settings) -> list[Job]:
    """The pieces of work, each with what the progress bar calls it."""
    ops = settings.op or OPS
    dtypes = settings.dtype or (QUICK_DTYPES if settings.quick else DTYPES)
    cases = [case for case in all_cases() if case.op in ops and (case.quick or not settings.quick)]
    thorough = not settings.quick
    cases = sorted(cases, key=lambda case: not case.thorough)  # the longest first
    work: list[Job] = [
        (f"{case.op}, {case.name}", functools.partial(check_case, case, dtypes, thorough)) for case in cases
    ]
    # The special points do not depend on the precision: one dtype will do (the tests have bfloat16 besides).
    special = settings.dtype or dtypes[:1]
    return work + [(f"{op}, special points", functools.partial(check_edges, op, special)) for op in ops]


def run(work, advance: Callable[[str], None]) -> Iterator[list[Row]]:
    """The rows of every piece of work, in order; as many at a time as there are cores."""

    def one(item):
        name, job = item
        rows = list(job())
        advance(name)
        return rows

    # Threads: XLA compiles, which takes most of the time, without holding Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(one, work)


def cells(row: Row) -> list[str]:
    """A row of the table."""
    by_name = {check.name: check for check in row.checks}
    against, adjoint, saved = (by_name.get(name) for name in ("against float64", "adjoint identity", "residuals"))
    failed = [check for check in row.checks if check.passed is False]
    worst = (
        max((check.measured for check in row.checks if check.unit == "eps"), default=0.0) if against is None else 0.0
    )
    return [
        row.op,
        row.case,
        row.dtype,
        _short(against.measured if against else worst),
        _short(against.details["autodiff_worst"]) if against and "autodiff_worst" in against.details else "",
        f"{against.allowed:.0f}" if against else "",
        f"{adjoint.details['residual']:.0e}" if adjoint and adjoint.details else "",
        f"{saved.details['ours']:.0f}" if saved else "",
        f"{saved.details['autodiff']:.0f}" if saved else "",
        f"[green]ok[/] ({len(row.checks)})" if row.ok else f"[red]FAILED[/] {failed[0].name}",
    ]


HEADER = (
    "op",
    "case",
    "dtype",
    "ULP",
    "autodiff",
    "allowed",
    "adjoint",
    "bytes saved",
    "autodiff",
    "verdict (checks)",
)


def table_of(rows: list[Row]) -> Table:
    """Every row, an op's rows together."""
    table = Table(*HEADER[:3], *(Column(name, justify="right") for name in HEADER[3:-1]), HEADER[-1])
    for _, group in itertools.groupby(sorted(rows, key=lambda row: row.op), lambda row: row.op):
        for row in group:
            table.add_row(*cells(row))
        table.add_section()
    return table


def by_op(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """A header, and a line per op: the worst error over its cases in each dtype, ours and autodiff's."""
    dtypes = [dtype for dtype in DTYPES if any(row.dtype == dtype and row.against_float64 for row in rows)]
    names = [name for dtype in dtypes for name in (dtype, "autodiff") if name != "autodiff" or dtype != "float64"]
    lines = []
    for op, group in itertools.groupby(sorted(rows, key=lambda row: row.op), lambda row: row.op):
        of_op = list(group)
        found = [(row.dtype, row.against_float64.details) for row in of_op if row.against_float64]
        errors = []
        for dtype in dtypes:
            for key in ("worst",) if dtype == "float64" else ("worst", "autodiff_worst"):
                worst = max((details.get(key, 0.0) for name, details in found if name == dtype), default=None)
                errors.append("" if worst is None else _short(worst))
        counts = str(len({row.case for row in of_op})), str(sum(len(row.checks) for row in of_op))
        lines.append([op, *counts, *errors])
    return ["op", "cases", "checks", *names], lines


def table_of_ops(rows: list[Row]) -> Table:
    """by_op as a table, with a verdict."""
    header, lines = by_op(rows)
    table = Table("op", *(Column(name, justify="right") for name in header[1:]), "verdict")
    for line in lines:
        failed = sum(not row.ok for row in rows if row.op == line[0])
        table.add_row(*line, f"[red]{failed} FAILED[/]" if failed else "[green]ok[/]")
    return table


def markdown_of_ops(rows: list[Row]) -> str:
    """by_op in Markdown, with the file that has the op's formula and rule."""
    header, lines = by_op(rows)
    header = ["op", "formula and rule", *header[1:]]
    text = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for op, *rest in lines:
        file = getattr(jaxconv, op).__module__.replace(".", "/") + ".py"
        text.append(f"| {' | '.join([f'`{op}`', f'`{file}`', *rest])} |")
    return "\n".join(text) + "\n"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 1e4 else f"{value:.1g}"


def ratios(rows: list[Row], dtype: str) -> dict[str, Any] | None:
    """Our root mean square errors over autodiff's in a dtype: the geometric mean over the rows, and the largest."""
    found = {
        f"{row.op}, {row.case}": row.against_float64.details["ratio"]
        for row in rows
        if row.dtype == dtype and row.against_float64 and "ratio" in row.against_float64.details
    }
    if not found:
        return None
    worst = max(found, key=lambda name: found[name])
    return {"mean": math.exp(sum(map(math.log, found.values())) / len(found)), "most": found[worst], "case": worst}


def summary(rows: list[Row], seconds: float) -> str:
    """The last lines."""
    found = {dtype: ratios(rows, dtype) for dtype in DTYPES[1:]}
    lines = [
        f"{dtype}: errors over autodiff's {r['mean']:.2f} in the geometric mean, {r['most']:.2f} at most ({r['case']})"
        for dtype, r in found.items()
        if r
    ]
    failed = sum(not row.ok for row in rows)
    checks = sum(len(row.checks) for row in rows)
    verdict = "[green]all passed[/]" if not failed else f"[red]{failed} failed[/]"
    lines.append(f"{len(rows)} rows, {checks} checks: {verdict} ({seconds:.0f} s, {where()})")
    return "\n".join(lines)


def where() -> str:
    """The machine and the versions."""
    device = jax.devices()[0].device_kind
    return f"{os.cpu_count()} cores, {device}, Python {platform.python_version()}, jax {jax.__version__}"


def as_json(rows: list[Row]) -> Any:
    """Everything, for a program to read; numbers that JSON has no notation for are strings."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    return plain(
        {
            "machine": where(),
            "ok": all(row.ok for row in rows),
            "errors_over_autodiff": {dtype: ratios(rows, dtype) for dtype in DTYPES[1:]},
            "rows": [{**dataclasses.asdict(row), "ok": row.ok} for row in rows],
        }
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    settings = tyro.cli(Settings, args=arguments, prog="python -m jaxconv.verification", description=__doc__)
    if wrong := mistake(settings):
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX has started: then shard_map is skipped, aloud
            jax.config.update("jax_num_cpu_devices", 2)  # shard_map needs two
    console = Console()
    work = jobs(settings)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    started = time.perf_counter()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(work))
        rows = [
            row for rows in run(work, lambda name: progress.update(task, advance=1, description=name)) for row in rows
        ]
    console.print(table_of(rows))
    console.print(table_of_ops(rows))
    for row in rows:
        for check in row.checks:
            if check.passed is False:
                console.print(f"{row.op}, {row.case}: {check}", style="red", markup=False, soft_wrap=True)
    console.print(summary(rows, time.perf_counter() - started), soft_wrap=True)
    if settings.json is not None:
        settings.json.write_text(json.dumps(as_json(rows), indent=1) + "\n")
    if settings.markdown is not None:
        settings.markdown.write_text(markdown_of_ops(rows))
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
