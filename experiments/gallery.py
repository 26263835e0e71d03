"""Runs every experiment of the gallery and writes one page with every figure, claim and number.

    python -m experiments.gallery --output runs/gallery
    python -m experiments.gallery --output runs/gallery --data-dir DIR    # CIFAR-10 from there, not the hub

The page is DIR/index.html, one file without links to others; it is written anew after every experiment, so a run that
is cut short leaves a page of what it did. An experiment whose data is not there is skipped, and said to be.
"""

import base64
import dataclasses
import importlib
import json
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated

import jinja2
import markupsafe
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.claim import UsageError, claim_of, perform, shown

__all__ = ["EXPERIMENTS", "Settings", "page", "run"]

EXPERIMENTS = (
    "edges",
    "patterns",
    "backprop_by_hand",
    "translation",
    "parameters",
    "vanishing",
    "pooling",
    "dimensions",
    "fully_convolutional",
    "saliency",
    "cifar10",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Run every experiment and write one page of them all."""

    output: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/gallery")
    """Where the page goes, with a folder for each experiment."""
    only: tuple[str, ...] = ()
    """Run these alone; the page keeps what earlier runs left in the folder."""
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """CIFAR-10 as parquet files in the layout of the hub; without it, from the hub."""


def run(settings: Settings, console: Console) -> dict[str, str]:
    """Runs the experiments; returns {name: what became of it}.

    That is "holds", "does not hold", "skipped: ..." or "failed: ...".

    Raises:
        UsageError: a name is not that of an experiment, or the folder cannot be written to.
    """
    unknown = sorted(set(settings.only) - set(EXPERIMENTS))
    if unknown:
        raise UsageError(f"only: got {', '.join(unknown)}, expected some of {', '.join(EXPERIMENTS)}")
    names = [name for name in EXPERIMENTS if name in settings.only or not settings.only]
    try:
        settings.output.mkdir(parents=True, exist_ok=True)
        (settings.output / "index.html").write_text(page(settings.output, {}), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"output: cannot write to {settings.output} ({error.strerror}): pass a folder that can be written"
        ) from error
    outcomes: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("gallery", total=len(names))
        for name in names:
            progress.update(task, description=name)
            outcomes[name] = _outcome(name, settings)
            console.print(f"{name}: {outcomes[name]}", highlight=False, markup=False, soft_wrap=True)
            (settings.output / "index.html").write_text(page(settings.output, outcomes), encoding="utf-8")
            progress.advance(task)
    return outcomes


def _outcome(name: str, settings: Settings) -> str:
    started = time.perf_counter()
    try:
        module = importlib.import_module(f"experiments.{name}")
        more = {"data_dir": settings.data_dir} if name == "cifar10" else {}
        summary = perform(module.Settings(output=settings.output / name, **more), module.run, module, name)
    except Exception as error:  # one that fails must not take the others with it
        if isinstance(error, UsageError) or _other_package_missing(error):
            return f"skipped: {error}"
        (settings.output / name).mkdir(exist_ok=True)
        (settings.output / name / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return f"failed: {type(error).__name__}: {error} (see {name}/traceback.txt)"
    return f"{'holds' if summary['holds'] else 'does not hold'} ({time.perf_counter() - started:.0f} s)"


def _other_package_missing(error: Exception) -> bool:
    """Whether it is a package that may be missing; a module of our own may not."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return package not in ("", "experiments", "jaxconv")


def page(folder: Path, outcomes: dict[str, str]) -> str:
    """The page, as HTML, of the summaries in the folder; `outcomes` says what became of the experiments without one."""
    entries = []
    for name in EXPERIMENTS:
        file = folder / name / "summary.json"
        ran = not outcomes.get(name, "").startswith(("skipped", "failed"))
        if file.exists() and ran:
            summary = json.loads(file.read_text(encoding="utf-8"))
            figures = [
                {"source": _data_url(folder / name / figure), "caption": caption}
                for figure, caption in summary["figures"].items()
            ]
            numbers = {label.replace("_", " "): shown(value) for label, value in summary["numbers"].items()}
            entries.append(
                {**summary, "outcome": "holds" if summary["holds"] else "does not hold"}
                | {"figures": figures, "numbers": numbers}
            )
        elif name in outcomes:
            claim = claim_of(module) if (module := sys.modules.get(f"experiments.{name}")) else ""
            entries.append({"name": name, "claim": claim, "outcome": outcomes[name]})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["code"] = _with_code
    return environment.get_template("gallery.html").render(entries=entries)


def _with_code(text: str) -> markupsafe.Markup:
    """What stands between backticks as code, as in a docstring."""
    return markupsafe.Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def _data_url(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def main() -> int:
    """The command; returns its exit status: 0 if every claim that could be tried holds."""
    settings = tyro.cli(Settings, prog="python -m experiments.gallery", description=__doc__)
    console = Console()
    try:
        outcomes = run(settings, console)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"the page: {settings.output / 'index.html'}")
    return int(any(outcome.startswith(("failed", "does not hold")) for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
