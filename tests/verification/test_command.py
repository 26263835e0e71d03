"""python -m jaxconv.verification: what it runs, what it prints and writes, its exit status, wrong settings."""

import json
import subprocess
import sys

import pytest

import jaxconv
from jaxconv.verification import Check, suite
from jaxconv.verification import __main__ as command


def test_a_run_prints_a_row_per_case_and_writes_every_check(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    file, table = tmp_path / "found.json", tmp_path / "ops.md"
    options = ["--quick", "--dtype", "float32", "--json", str(file), "--markdown", str(table)]
    assert command.main(["--op", "relu", *options]) == 0
    assert table.read_text().splitlines()[2].startswith("| `relu` | `jaxconv/activation.py` | 3 |")
    printed = capsys.readouterr().out
    assert "whole range" in printed
    assert "all passed" in printed
    assert "float32: errors over autodiff's" in printed
    found = json.loads(file.read_text())
    assert found["ok"] is True
    assert {row["case"] for row in found["rows"]} == {"normal inputs", "whole range", "special points"}
    row = next(row for row in found["rows"] if row["case"] == "whole range")
    assert {check["name"] for check in row["checks"]} >= {"against float64", "adjoint identity", "determinism"}


def test_a_failure_is_named_and_ends_with_status_1(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    failed = Check("adjoint identity", "float32", False, 99.0, 1.0, "eps", "gradient of x [3]", 2.0, 1.0)
    row = suite.Row("relu", "planted", "float32", (failed,))
    monkeypatch.setattr(command, "check_case", lambda case, dtypes, thorough: [row])
    assert command.main(["--op", "relu", "--quick"]) == 1
    printed = capsys.readouterr().out
    assert (
        "relu, planted: adjoint identity (float32): measured 99 eps, allowed 1; worst at gradient of x [3]" in printed
    )


def test_an_exception_in_a_case_is_a_failure_of_that_case():
    case = next(case for case in command.all_cases() if case.op == "relu")
    broken = lambda x: jaxconv.relu(x, "no such argument")  # noqa: E731
    (row,) = suite.check_case(command.dataclasses.replace(case, function=broken), ("float32",))
    assert not row.ok
    assert "TypeError" in row.checks[0].note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--op", "rleu"], "op: got 'rleu', expected some of absolute_error, adaptive_avg_pool"),
        (["--dtype", "float8"], "dtype: got 'float8', expected some of float64, float32, bfloat16, float16"),
        (
            ["--json", "/no/such/directory/x.json"],
            "json: got /no/such/directory/x.json, expected a file in a directory",
        ),
    ],
)
def test_wrong_settings_are_one_line(arguments, message, capsys):
    assert command.main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert printed.count("\n") == 1


def test_the_cases_do_not_start_jax():
    """The command, and others, ask for a second device after they import them: for shard_map."""
    program = "import jax; import experiments.planted_bugs; jax.config.update('jax_num_cpu_devices', 2)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_runs_as_a_command_in_jax_defaults():
    arguments = [sys.executable, "-m", "jaxconv.verification", "--op", "flatten", "--quick"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "all passed" in done.stdout
