"""A live progress bar for `train`, through rich (the extra `jaxconv[experiments]` installs it)."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["live_report"]


@contextlib.contextmanager
def live_report(total_steps: int, *, completed: int = 0, console: Console | None = None) -> Iterator[Callable]:
    """A bar with the steps made, the metrics of the last dispatch (loss, accuracy) and the images per second.

    Args:
        total_steps: how many steps the run has.
        completed: how many of them were made before.
        console: where to draw; print through the same console while the bar lives.

    Yields:
        A function to pass to `train` as its report.

    Example:
        >>> with live_report(10, console=Console(quiet=True)) as report:
        ...     report({"loss": 0.5, "accuracy": 0.9}, 5, 320, 0.25)
    """
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=total_steps, completed=completed, status="compiling")

        def report(metrics: dict[str, float], steps: int, examples: int, seconds: float) -> None:
            values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            progress.update(bar, advance=steps, status=f"{values}  {examples / seconds:,.0f} images/s")

        yield report
