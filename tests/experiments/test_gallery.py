"""The page: every experiment is on it or said to be missing, and it needs no other file."""

import dataclasses
import io
import re
import sys
import types
from pathlib import Path

import pytest
from rich.console import Console

from experiments import gallery
from experiments.claim import Result, UsageError, command, described, perform, shown
from experiments.figures import plt, save
from experiments.gallery import EXPERIMENTS, Settings, page, run


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
    assert "0.5 ± 0.25 (n = 2; 0.25 to 0.75)" in text
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
    assert "0.5 ± 0.25" not in page(tmp_path, {"edges": "skipped: no data"})


def test_mistakes_are_one_line(experiments, tmp_path):
    console = Console(file=io.StringIO())
    with pytest.raises(UsageError, match="only: got edgs, expected some of edges, "):
        run(Settings(tmp_path, only=("edgs",)), console)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"output: cannot write to .*file \("):
        run(Settings(tmp_path / "file"), console)
    with pytest.raises(UsageError, match=r"output: cannot write to .*file \("):
        perform(Few(tmp_path / "file"), sys.modules["experiments.edges"].run, sys.modules["experiments.edges"], "edges")


def test_a_summary_as_text(experiments, tmp_path):
    module = sys.modules["experiments.patterns"]
    text = described(perform(Few(tmp_path), module.run, module, "patterns"))
    assert text.startswith("Claim: 1 < 2, and `a & b` holds.\n")
    assert "accuracy: 0.5 ± 0.25 (n = 2; 0.25 to 0.75)" in text
    assert "DOES NOT HOLD over 2 seeds" in text
    assert [shown(value) for value in (12345, 0.123456, "x", True)] == ["12,345", "0.1235", "x", "True"]


@pytest.mark.parametrize(("outcome", "status"), [(True, 0), (False, 1), (UsageError("no data"), 2)])
def test_the_status_of_a_command(outcome, status, tmp_path, monkeypatch, capsys):
    module = experiment("edges", outcome)
    module.__file__ = str(tmp_path / "edges.py")
    monkeypatch.setitem(sys.modules, "experiments.edges", module)
    module.run.__module__ = "experiments.edges"
    monkeypatch.setattr(sys, "argv", ["edges", "--output", str(tmp_path)])
    assert command(Few, module.run) == status
    assert capsys.readouterr().err == ("error: no data\n" if status == 2 else "")
