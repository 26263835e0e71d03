"""The page: every experiment is on it or said to be missing, and it needs no other file."""

import dataclasses
import importlib
import io
import json
import re
import shlex
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tyro
from rich.console import Console

from experiments import gallery
from experiments.claim import (
    Result,
    UsageError,
    at_least,
    command,
    command_line,
    described,
    perform,
    plus_minus,
    shown,
    spread,
)
from experiments.figures import plt, range_bars, save
from experiments.gallery import EXPERIMENTS, Settings, page, run
from jaxconv.training import NonFiniteLossError


@dataclasses.dataclass(frozen=True)
class Few:
    """Settings of the experiments below."""

    output: Path | None = None
    data_dir: Path | None = None


def experiment(name, outcome):
    """A module as those of the gallery are."""
    module = types.ModuleType(f"experiments.{name}")
    module.__doc__ = "Claim: 1 < 2, and `a & b` holds.\n\nMore."

    def run(settings, folder):
        if isinstance(outcome, Exception):
            raise outcome
        figure, axes = plt.subplots(figsize=(1, 1))
        axes.plot([0, 1])
        save(figure, folder / "line.png")
        return Result(
            outcome,
            {"<count>": 3, "accuracy": [0.25, 0.75], "half": 0.5},
            {"line.png": "A line <1>"},
            tables={"Sizes": [("a", "b"), (1, 2)]},
            text="dx[0] = 1·2",
            seeds=2,
            remark="but not <always>",
        )

    module.Settings, module.run = Few, run
    return module


@pytest.fixture
def experiments(monkeypatch):
    """Four experiments: one that holds, one that does not, one without its data, one that fails."""
    outcomes = {"edges": True, "patterns": False, "cifar10": UsageError("no data"), "saliency": OSError("disk")}
    for name, outcome in outcomes.items():
        monkeypatch.setitem(sys.modules, f"experiments.{name}", experiment(name, outcome))
    monkeypatch.setattr(gallery, "EXPERIMENTS", tuple(outcomes))
    return tuple(outcomes)


def test_every_experiment_is_there():
    folder = Path(gallery.__file__).parent
    assert [name for name in EXPERIMENTS if not (folder / f"{name}.py").exists()] == []


def test_one_page_of_all_that_became_of_them(experiments, tmp_path):
    printed = io.StringIO()
    outcomes = run(Settings(tmp_path), Console(file=printed, width=200))
    assert tuple(outcomes) == experiments
    assert outcomes["edges"].startswith("holds")
    assert outcomes["patterns"].startswith("does not hold")
    assert outcomes["cifar10"] == "skipped: no data"
    assert outcomes["saliency"].startswith("failed: OSError: disk")
    assert "OSError: disk" in (tmp_path / "saliency" / "traceback.txt").read_text()
    assert "cifar10: skipped: no data" in printed.getvalue()

    text = (tmp_path / "index.html").read_text()
    for name, outcome in outcomes.items():
        assert f'<section id="{name}">' in text
        assert f'href="#{name}"' in text
        if outcome.startswith(("skipped", "failed")):
            assert outcome in text
    assert text.count("data:image/png;base64,") == 2
    assert "1 &lt; 2, and <code>a &amp; b</code> holds." in text
    assert "&lt;count&gt;" in text
    assert "0.5 ± 0.35 (n = 2; 0.25 to 0.75)" in text
    assert "but not &lt;always&gt;" in text
    # One file without links to others.
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert [source[:40] for source in sources if not source.startswith(("#", "data:image/png;base64,"))] == []


def test_some_alone_and_what_was_there_stays(experiments, tmp_path):
    console = Console(file=io.StringIO())
    run(Settings(tmp_path, only=("edges",)), console)
    assert '<section id="patterns">' not in (tmp_path / "index.html").read_text()
    run(Settings(tmp_path, only=("patterns",)), console)
    text = (tmp_path / "index.html").read_text()
    assert text.index('<section id="edges">') < text.index('<section id="patterns">')


def test_what_is_skipped_today_shows_no_number_of_yesterday(experiments, tmp_path):
    run(Settings(tmp_path, only=("edges",)), Console(file=io.StringIO()))
    assert "0.5 ± 0.35" not in page(tmp_path, {"edges": "skipped: no data"})


@pytest.mark.parametrize("error", [UsageError("no data"), OSError("disk")])
def test_a_run_that_fails_takes_away_the_numbers_of_yesterday_and_a_mistake_does_not(error, experiments, tmp_path):
    run(Settings(tmp_path, only=("edges",)), Console(file=io.StringIO()))
    sys.modules["experiments.edges"].run = experiment("edges", error).run
    run(Settings(tmp_path, only=("edges",)), Console(file=io.StringIO()))
    failed = isinstance(error, OSError)
    assert (tmp_path / "edges" / "summary.json").exists() != failed
    assert (tmp_path / "edges" / "traceback.txt").exists() == failed
    run(Settings(tmp_path, only=("patterns",)), Console(file=io.StringIO()))
    assert ('<section id="edges">' not in (tmp_path / "index.html").read_text()) == failed
    sys.modules["experiments.edges"].run = experiment("edges", True).run
    run(Settings(tmp_path, only=("edges",)), Console(file=io.StringIO()))
    assert not (tmp_path / "edges" / "traceback.txt").exists()


@pytest.mark.parametrize(
    ("missing", "became"),
    [
        ("datasets.config", "skipped: No module named 'datasets.config'"),
        ("experiments.datta", "failed: ModuleNotFoundError: No module named 'experiments.datta'"),
        ("jaxconv.convv", "failed: ModuleNotFoundError: No module named 'jaxconv.convv'"),
    ],
)
def test_a_package_may_be_missing_and_a_module_of_ours_may_not(missing, became, experiments, tmp_path):
    error = ModuleNotFoundError(f"No module named {missing!r}", name=missing)
    sys.modules["experiments.edges"].run = experiment("edges", error).run
    outcomes = run(Settings(tmp_path, only=("edges",)), Console(file=io.StringIO()))
    assert outcomes["edges"].startswith(became)


def test_what_goes_wrong_leaves_no_empty_folder(experiments, tmp_path):
    module = experiment("edges", UsageError("no data"))
    with pytest.raises(UsageError, match="no data"):
        perform(Few(tmp_path / "new"), module.run, module, "edges")
    assert not (tmp_path / "new").exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no data"):
        perform(Few(tmp_path), module.run, module, "edges")
    assert (tmp_path / "notes.txt").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="no data"):
        perform(Few(tmp_path / "mine"), module.run, module, "edges")
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("edges", {}),
        ("edges", {"photograph": "flower", "shrink": 8}),
        ("vanishing", {"nets": ("ReLU", "sigmoid", "tanh, large weights"), "depth": 12}),
        ("parameters", {"hidden": (100,), "learning_rate": 1e-3}),
        ("dimensions", {"video_epochs": 2}),
        ("cifar10", {"data_dir": Path("a folder"), "images": 50_000}),
    ],
)
def test_the_recorded_command_gives_the_same_settings(name, changed, tmp_path):
    settings_type = importlib.import_module(f"experiments.{name}").Settings
    command = command_line(settings_type(output=tmp_path, **changed), name)
    *words, arguments = command.partition(f"python -m experiments.{name}")
    assert words == ["", f"python -m experiments.{name}"]
    assert tyro.cli(settings_type, args=shlex.split(arguments)) == settings_type(**changed)
    assert bool(arguments) == bool(changed)


def test_the_recorded_command_is_that_of_the_summary(experiments, tmp_path):
    module = sys.modules["experiments.edges"]
    summary = perform(Few(tmp_path, Path("my data")), module.run, module, "edges")
    assert summary["command"] == "python -m experiments.edges --data-dir 'my data'"
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == summary


def test_the_spread_is_that_of_a_sample():
    assert spread([1.0, 3.0]) == pytest.approx(2**0.5)
    assert spread([5.0]) == 0
    assert spread(np.array([[1.0, 2.0], [3.0, 2.0]])) == pytest.approx([2**0.5, 0])
    assert plus_minus(np.array([1.0, 3.0])) == "2.0 ± 1.4"
    assert shown([0.5]) == "0.5 ± 0 (n = 1; 0.5 to 0.5)"


def test_bars_have_no_negative_length():
    values = np.array([[1.0, 0.1], [4.0, 0.1], [1.0, 0.1]])
    assert range_bars(values)[:, 0].tolist() == [1, 2]
    assert range_bars(values, np.array([3.0, 0.1]))[:, 0].tolist() == [2, 1]
    rounded = np.array([0.1 + 1e-9, 0.1 - 1e-9])
    assert (range_bars(values[:, 1:].repeat(2, 1), rounded) >= 0).all()


def test_the_first_setting_that_is_too_small_is_named():
    settings = types.SimpleNamespace(seeds=1, steps=9)
    at_least(settings, seeds=1, steps=9)
    with pytest.raises(UsageError, match="^steps: got 9, expected at least 10$"):
        at_least(settings, seeds=1, steps=10)


def test_mistakes_are_one_line(experiments, tmp_path):
    console = Console(file=io.StringIO())
    with pytest.raises(UsageError, match="only: got edgs, expected some of edges, "):
        run(Settings(tmp_path, only=("edgs",)), console)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"output: cannot write to .*file \("):
        run(Settings(tmp_path / "file"), console)
    with pytest.raises(UsageError, match=r"output: cannot write to .*file \("):
        perform(Few(tmp_path / "file"), sys.modules["experiments.edges"].run, sys.modules["experiments.edges"], "edges")


def test_what_was_there_stays_if_not_all_of_it_can_be_removed(experiments, tmp_path, monkeypatch):
    module, remove = sys.modules["experiments.edges"], Path.unlink
    for name in ("summary.json", "traceback.txt"):
        (tmp_path / name).write_text(name)

    def unlink(path):
        if path.name == "traceback.txt":
            raise PermissionError(13, "Permission denied")
        remove(path)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(UsageError, match=r"output: cannot write to .* \(Permission denied\)"):
        perform(Few(tmp_path), module.run, module, "edges")
    assert [(tmp_path / name).read_text() for name in ("summary.json", "traceback.txt")] == [
        "summary.json",
        "traceback.txt",
    ]


def test_a_summary_as_text(experiments, tmp_path):
    module = sys.modules["experiments.patterns"]
    text = described(perform(Few(tmp_path), module.run, module, "patterns"))
    assert text.startswith("Claim: 1 < 2, and `a & b` holds.\n")
    assert "accuracy: 0.5 ± 0.35 (n = 2; 0.25 to 0.75)" in text
    assert "DOES NOT HOLD over 2 seeds" in text
    assert [shown(value) for value in (12345, 0.123456, "x", True)] == ["12,345", "0.1235", "x", "True"]


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (True, 0, ""),
        (False, 1, ""),
        (UsageError("no data"), 2, "error: no data\n"),
        (NonFiniteLossError(3, float("nan")), 2, f"error: {NonFiniteLossError(3, float('nan'))}\n"),
    ],
)
@pytest.mark.parametrize("output", ["given", None])
def test_the_status_of_a_command(outcome, status, said, output, tmp_path, monkeypatch, capsys):
    module = experiment("edges", outcome)
    module.__file__ = str(tmp_path / "edges.py")
    monkeypatch.setitem(sys.modules, "experiments.edges", module)
    module.run.__module__ = "experiments.edges"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["edges", *(["--output", output] if output else [])])
    assert command(Few, module.run) == status
    printed = capsys.readouterr()
    assert printed.err == said
    if status == 2:
        assert [*Path().glob("runs/*"), *Path().glob("given")] == []
    else:
        folder = Path(printed.out.splitlines()[-1].removeprefix("results in "))
        assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["holds"] == (status == 0)
        assert folder == Path("given") if output else folder.match("runs/edges-*")
