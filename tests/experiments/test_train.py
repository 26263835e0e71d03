"""The main job: what it writes, that it learns, that it goes on where it died, and every way to call it wrongly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
QUICK = ["--data", "digits", "--shift", "1", "--batch-size", "32"]


def command(*arguments, cwd=ROOT):
    """The command as a user runs it, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "PYTHONWARNINGS": "default"}
    environment.pop("XLA_FLAGS", None)
    return subprocess.run(
        [sys.executable, "-m", "experiments.train", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "digits"
    done = command(*QUICK, "--epochs", 6, "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_it_learns_and_says_where_the_results_are(finished):
    folder, done = finished
    assert f"results in {folder}" in done.stdout
    assert "Warning" not in done.stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["test_accuracy"] > 0.93
    assert summary["test_loss"] < 0.3
    assert summary["steps"] == 6 * 44  # 1,438 images in two dispatches of 22 steps of 32
    assert summary["parameter_count"] == 320 + 18_496 + 128 * (2 * 2 * 64 + 1) + 1_290
    assert len(summary["parameters_sha256"]) == 64
    assert set(summary["versions"]) == {"python", "jaxconv", "jax", "numpy", "optax"}
    assert summary["settings"]["data"] == "digits"
    assert summary["device"]
    assert summary["seconds"] > 0


def test_metrics_and_figures(finished, are_pictures):
    folder, _ = finished
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, 7))
    assert records[-1]["train_loss"] < records[0]["train_loss"] / 2
    assert records[-1]["test_accuracy"] == json.loads((folder / "summary.json").read_text())["test_accuracy"]
    assert are_pictures(folder, [f"{name}.png" for name in ("curves", "filters", "mistakes")])


def test_a_run_that_died_goes_on_to_the_same_parameters(finished, tmp_path):
    folder, _ = finished
    died = tmp_path / "died"
    script = (
        "import sys, experiments.train as t\n"
        "save, left = t.Checkpoints.save, [3]\n"
        "def dying(self, state):\n"
        "    save(self, state); left[0] -= 1\n"
        "    if not left[0]: sys.exit(9)\n"
        "t.Checkpoints.save = dying\n"
        "sys.exit(t.main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("XLA_FLAGS", None)
    arguments = [*QUICK, "--epochs", "6", "--output", str(died)]
    first = subprocess.run([sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True)
    assert first.returncode == 9, first.stderr
    assert not (died / "summary.json").exists()

    refused = command(*arguments)
    assert refused.returncode == 2
    assert "already holds a run: pass --resume" in refused.stderr
    other = command(*arguments, "--resume", "--learning-rate", 0.1)
    assert other.returncode == 2
    assert "started with other settings (learning_rate 0.002 -> 0.1): pass the same" in other.stderr

    resumed = command(*arguments, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after epoch 3 of 6" in resumed.stdout
    one, two = (json.loads((path / "summary.json").read_text()) for path in (folder, died))
    assert one["parameters_sha256"] == two["parameters_sha256"]
    assert one["test_loss"] == two["test_loss"]


def test_other_nets_optimizers_and_schedules(tmp_path):
    arguments = ["--net", "notes", "--optimizer", "momentum", "--schedule", "constant", "--learning-rate", 0.05]
    done = command(*QUICK, "--epochs", 5, "--output", tmp_path / "notes", *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "notes" / "summary.json").read_text())["test_accuracy"] > 0.9


def test_a_diverging_run_stops_with_one_line_and_keeps_its_checkpoint(tmp_path):
    done = command(*QUICK, "--epochs", 3, "--optimizer", "sgd", "--learning-rate", 1e30, "--output", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: loss: got ")
    assert "expected a finite number" in done.stderr


MISTAKES = {
    "unknown data": (["--data", "imagenet"], "error: data: got 'imagenet', expected one of mnist5k, digits"),
    "unknown net": (["--net", "vit"], "error: net: got 'vit', expected one of convnet, notes"),
    "unknown optimizer": (["--optimizer", "lion"], "error: optimizer: got 'lion', expected one of sgd, momentum, adam, adamw"),
    "unknown schedule": (["--schedule", "linear"], "error: schedule: got 'linear', expected one of cosine, constant"),
    "batch larger than the data": (["--data", "digits", "--batch-size", "5000"], "error: batch_size: got 5000, expected at most 1442, the training images"),
    "no epochs": (["--epochs", "0"], "error: epochs: got 0, expected at least 1"),
    "learning rate": (["--learning-rate", "-1"], "error: learning_rate: got -1.0, expected a positive number"),
    "resume without a folder": (["--resume"], "error: resume: got no --output, expected the folder of the run to go on with"),
    "resume of nothing": (["--data", "digits", "--resume", "--output", "nowhere"], "error: resume: nowhere holds no run to go on with"),
    "unwritable folder": (["--data", "digits", "--output", "file/run"], "error: output: cannot write to file/run (Not a directory): pass a folder that can be written"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(name, tmp_path):
    arguments, message = MISTAKES[name]
    (tmp_path / "file").write_text("in the way")
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == message + "\n"
    assert "Traceback" not in done.stdout


def test_help_reads_well():
    done = command("--help")
    assert done.returncode == 0
    for flag in (
        "--data",
        "--net",
        "--epochs",
        "--batch-size",
        "--optimizer",
        "--schedule",
        "--seed",
        "--output",
        "--resume",
    ):
        assert flag in done.stdout


def test_the_split_is_fixed_and_stratified():
    from experiments.data import load

    data = load("mnist5k")
    assert data.train_images.shape == (4000, 28, 28, 1)
    assert data.test_images.shape == (1000, 28, 28, 1)
    assert np.bincount(data.train_labels).tolist() == [400] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10
    assert data.train_images.dtype == np.float32
    assert data.train_images.min() == 0
    assert data.train_images.max() == 1
    again = load("mnist5k")
    assert np.array_equal(again.test_images, data.test_images)
    seen = {image.tobytes() for image in data.train_images}
    assert sum(image.tobytes() in seen for image in data.test_images) == 0


def test_random_shifts_move_whole_images():
    import jax
    import jax.numpy as jnp

    from experiments.train import random_shift

    image = jnp.zeros((5, 9, 9, 1)).at[:, 4, 4, 0].set(1.0)
    shifted = random_shift(jax.random.key(0), jnp.tile(image, (20, 1, 1, 1)), 2)
    _, rows, columns, _ = jnp.nonzero(shifted)
    assert len(rows) == 100
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4, 5, 6}
    assert jnp.array_equal(random_shift(jax.random.key(0), image, 0), image)
