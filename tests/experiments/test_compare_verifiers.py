"""The comparison of verifiers: a couple of mutations, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    environment.pop("XLA_FLAGS", None)
    return subprocess.run(
        [sys.executable, "-m", "experiments.compare_verifiers", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_two_bugs(tmp_path):
    done = command("--only", "leaky_relu", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "check_vjp catches 2 of 2, check_grads misses" in done.stdout
    result = json.loads((tmp_path / "compare_verifiers.json").read_text())
    jittered = next(row for row in result["mutations"] if row["mutation"] == "not the same bits at every run")
    assert jittered["check_vjp"].startswith("determinism")
    assert jittered["check_grads"] == jittered["chex"] == "missed"
    alarms = result["false_alarms"]["leaky_relu"]
    assert not any(alarms["check_vjp"].values())
    assert not alarms["check_grads"]["float64"]


def test_nothing_to_plant():
    done = command("--only", "no such bug")
    assert done.returncode == 2
    assert done.stderr == "error: only: got 'no such bug', expected part of a bug's name or op\n"
