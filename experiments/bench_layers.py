"""Claim: value and gradients together are not slower than jax.grad of plain lax; max pooling is many times faster.

Every case is verified first (value and gradients against lax in float64), then timed: ours and lax's, round by round in
one process; "all" is a single jitted call of the value and the gradients, "backward" one of the gradients alone, from
what the forward saved. What counts is the ratio of the medians.

XLA takes the memory of every result afresh from the system, and on a CPU mapping it can take longer than computing it:
writing 33 MB takes some 15 ms of page faults beside 4 ms of work. `--memory kept` has the C library keep what is freed,
for both sides, so that the computation itself is compared; a training loop that runs several steps per dispatch is
in that state.

    python -m experiments.bench_layers
    python -m experiments.bench_layers --memory kept --output runs/bench
"""

import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from jaxconv.verification.cases import Case, all_cases

KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Time our layers against jax.grad of plain lax, side by side."""

    rounds: int = 15
    """Timings per case and side; the median counts."""
    only: str = ""
    """Run the cases whose name contains this."""
    memory: Literal["fresh", "kept"] = "fresh"
    """fresh: as JAX comes; kept: freed memory is kept and used again (glibc)."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write bench_layers.json there."""


def cases() -> list[Case]:
    """The real layers among the named cases, at the batch size of training."""
    return [case for case in all_cases() if case.timing]


def name_of(case: Case) -> str:
    """What the table calls a case."""
    return f"{case.op}, {case.name}"


def value_and_gradients(function: Callable, count: int) -> Callable:
    """The value and, for a cotangent given as the last argument, every gradient."""

    def both(*arguments):
        y, vjp = jax.vjp(function, *arguments[:count])
        return y, vjp(arguments[count])

    return both


def verify(case: Case, arguments: list[jax.Array]) -> float:
    """The largest error of ours against lax, relative to the largest element, both in float64."""
    wide = [a.astype(jnp.float64) for a in arguments]
    ours, plain = (jax.jit(value_and_gradients(f, len(case.shapes)))(*wide) for f in (case.function, case.reference))
    errors = jax.tree.map(lambda a, b: jnp.abs(a - b).max() / jnp.abs(b).max(), ours, plain)
    return float(max(jax.tree.leaves(errors)))


def time_case(case: Case, arguments: list[jax.Array], rounds: int) -> dict:
    """Of both sides: compile seconds, peak temporary bytes, median seconds of everything and of the backward alone."""
    *inputs, dy = arguments
    calls: dict = {}
    result: dict = {"name": name_of(case)}
    for side, function in (("ours", case.function), ("lax", case.reference)):
        started = time.perf_counter()
        everything = jax.jit(value_and_gradients(function, len(inputs))).lower(*arguments).compile()
        result[f"{side}_compile_s"] = time.perf_counter() - started
        memory = everything.memory_analysis()
        result[f"{side}_temporary_bytes"] = memory.temp_size_in_bytes if memory else 0
        calls[f"{side}_all_s"] = (everything, arguments)
        calls[f"{side}_backward_s"] = (jax.jit(lambda vjp, dy: vjp(dy)), (jax.vjp(function, *inputs)[1], dy))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, (call, operands) in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call(*operands))
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    result |= {name: float(np.median(values)) for name, values in times.items()}
    for part in ("all", "backward"):
        result[f"{part}_ratio"] = result[f"lax_{part}_s"] / result[f"ours_{part}_s"]
    return result


def main() -> int:
    """The command; returns its exit status."""
    settings = tyro.cli(Settings, prog="python -m experiments.bench_layers", description=__doc__)
    if settings.memory == "kept" and any(os.environ.get(name) != value for name, value in KEPT.items()):
        # The C library reads these once, at its start.
        os.execve(
            sys.executable, [sys.executable, "-m", "experiments.bench_layers", *sys.argv[1:]], {**os.environ, **KEPT}
        )
    console = Console()
    chosen = [case for case in cases() if settings.only in name_of(case)]
    if not chosen or settings.rounds < 1:
        print(
            f"error: only, rounds: got {settings.only!r}, {settings.rounds}; expected part of a name, at least 1",
            file=sys.stderr,
        )
        return 2
    results = []
    for case in track(chosen, "timing", console=console, transient=True):
        rng = np.random.default_rng(0)
        shapes = case.timing or case.shapes
        y = jax.eval_shape(case.function, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
        arguments = [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in (*shapes, y.shape)]
        with jax.enable_x64(True):
            error = verify(case, arguments)
        if not error < 1e-12:
            print(f"error: {name_of(case)}: relative error {error:.1e} against lax in float64", file=sys.stderr)
            return 1
        results.append(time_case(case, arguments, settings.rounds) | {"relative_error_float64": error})
    names = (
        "case",
        "all: ours ms",
        "lax ms",
        "lax/ours",
        "backward: ours ms",
        "lax ms",
        "lax/ours",
        "compile s",
        "lax",
        "temp MB",
        "lax",
    )
    table = Table(names[0], *(Column(name, justify="right") for name in names[1:]))
    for r in results:
        cells = [r["name"]]
        for part in ("all", "backward"):
            cells += [f"{1e3 * r[f'{side}_{part}_s']:.2f}" for side in ("ours", "lax")] + [f"{r[f'{part}_ratio']:.2f}"]
        cells += [f"{r[f'{side}_compile_s']:.1f}" for side in ("ours", "lax")]
        cells += [f"{r[f'{side}_temporary_bytes'] / 1e6:.1f}" for side in ("ours", "lax")]
        table.add_row(*cells)
    console.print(table)
    mean = {part: float(np.exp(np.mean([np.log(r[f"{part}_ratio"]) for r in results]))) for part in ("all", "backward")}
    device = jax.devices()[0].device_kind
    where = f"{os.cpu_count()} cores, {device}, Python {platform.python_version()}, jax {jax.__version__}"
    console.print(
        f"lax/ours, geometric means: all {mean['all']:.2f}, backward {mean['backward']:.2f} "
        f"({where}, memory {settings.memory})",
        soft_wrap=True,
    )
    if settings.output is not None:
        settings.output.mkdir(parents=True, exist_ok=True)
        (settings.output / "bench_layers.json").write_text(
            json.dumps(
                {"machine": where, "memory": settings.memory, "geometric_means": mean, "cases": results}, indent=2
            )
            + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
