"""Claim: a convnet whose every gradient is derived by hand learns real digits: 97.5 % in minutes on two cores.

Trains on real digits that ship inside Python packages and writes, into --output:

    settings.json    the settings of the run
    metrics.jsonl    one line per epoch
    summary.json     test accuracy and loss, steps, seconds, parameters, versions, device
    curves.png, filters.png, mistakes.png
    checkpoints/     the state after the last whole epoch: --resume goes on from there

    python -m experiments.train
    python -m experiments.train --data digits --net notes --optimizer sgd --learning-rate 0.1
"""

import dataclasses
import datetime
import hashlib
import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import optax
import tyro
from rich.console import Console

import jaxconv
from experiments import figures
from experiments.claim import UsageError, at_least
from experiments.data import DATA_SETS, DataSet, load
from experiments.learning import random_shift
from jaxconv import softmax_cross_entropy_with_integer_labels
from jaxconv.layers import (
    Layer,
    conv_layer,
    dense_layer,
    flatten_layer,
    max_pool_layer,
    relu_layer,
    serial,
    summary,
)
from jaxconv.nets import notes_net
from jaxconv.training import (
    NonFiniteLossError,
    TrainState,
    evaluate,
    make_multi_step,
    make_train_step,
    new_state,
    train,
)
from jaxconv.training.checkpoint import Checkpoints
from jaxconv.training.progress import live_report

NETS = ("convnet", "notes")
OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "adam": optax.adam,
    "adamw": optax.adamw,
}
SCHEDULES = ("cosine", "constant")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Train a convnet, differentiated by hand, on real digits."""

    data: str = "mnist5k"
    """Which digits: mnist5k (5,000 of MNIST, 28x28) or digits (1,797 of UCI, 8x8)."""
    net: str = "convnet"
    """Which net: convnet (two convolutions and two dense layers) or notes (INPUT-CONV-RELU-POOL-FC)."""
    epochs: int = 20
    """Passes over the training images; the few that do not fill a dispatch differ from epoch to epoch."""
    batch_size: int = 64
    """Images per step."""
    optimizer: str = "adam"
    """One of sgd, momentum, adam, adamw."""
    learning_rate: float = 2e-3
    """The learning rate, at its largest."""
    schedule: str = "cosine"
    """cosine (falls to zero over the run) or constant."""
    shift: int = 2
    """Augmentation: every image is shifted at random by up to this many pixels each way."""
    seed: int = 0
    """Initial parameters, order of the images and shifts follow from it."""
    steps_per_dispatch: int = 32
    """At most this many steps are handed to the device at once."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where results go; by default a new folder under runs/."""
    resume: bool = False
    """Go on from the last checkpoint in --output, with the settings it was started with."""


def make_net(name: str, classes: int) -> Layer:
    """The net of this name."""
    if name == "notes":
        return notes_net(classes)
    return serial(
        conv_layer(32, 3, padding="SAME"),
        relu_layer,
        max_pool_layer(2),
        conv_layer(64, 3, padding="SAME"),
        relu_layer,
        max_pool_layer(2),
        flatten_layer,
        dense_layer(128),
        relu_layer,
        dense_layer(classes),
    )


def check(settings: Settings) -> None:
    """Raises UsageError for the first setting that cannot be."""
    for name, known in (
        ("data", DATA_SETS),
        ("net", NETS),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
    ):
        if getattr(settings, name) not in known:
            raise UsageError(f"{name}: got {getattr(settings, name)!r}, expected one of {', '.join(known)}")
    at_least(settings, epochs=1, batch_size=1, steps_per_dispatch=1, shift=0, seed=0)
    if settings.seed >= 2**32:
        raise UsageError(f"seed: got {settings.seed}, expected less than 2**32")
    if not (math.isfinite(settings.learning_rate) and settings.learning_rate > 0):
        raise UsageError(f"learning_rate: got {settings.learning_rate}, expected a positive number")
    if settings.resume and settings.output is None:
        raise UsageError("resume: got no --output, expected the folder of the run to go on with")


def prepare_folder(settings: Settings) -> Path:
    """The folder of the run, made and seen to be writable; a run that is already there is not overwritten."""
    folder = settings.output or Path("runs") / f"train-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    stored = folder / "settings.json"
    chosen = {name: value for name, value in dataclasses.asdict(settings).items() if name not in ("output", "resume")}
    try:
        if stored.exists() and not settings.resume:
            raise UsageError(f"output: {folder} already holds a run: pass --resume to go on with it, or another folder")
        if settings.resume:
            if not stored.exists():
                raise UsageError(f"resume: {folder} holds no run to go on with")
            try:
                earlier = json.loads(stored.read_text())
            except ValueError as error:
                raise UsageError(f"resume: {stored} is damaged ({error}): start anew in another folder") from error
            different = [
                f"{name} {earlier.get(name)!r} -> {chosen[name]!r}"
                for name in chosen
                if earlier.get(name) != chosen[name]
            ]
            if different:
                raise UsageError(
                    f"resume: {folder} was started with other settings ({'; '.join(different)}): pass the same"
                )
        folder.mkdir(parents=True, exist_ok=True)
        stored.write_text(json.dumps(chosen, indent=2) + "\n")
    except OSError as error:
        raise UsageError(
            f"output: cannot write to {folder} ({error.strerror}): pass a folder that can be written"
        ) from error
    return folder


def dispatches(data: DataSet, settings: Settings, epoch: int, counts: tuple[int, int]) -> Iterator[tuple]:
    """The batches of one epoch, stacked for one dispatch after another; the order follows from seed and epoch alone."""
    per_epoch, per_dispatch = counts
    order = np.random.default_rng((settings.seed, epoch)).permutation(len(data.train_labels))
    size = per_dispatch * settings.batch_size
    for number in range(per_epoch):
        chosen = order[number * size : (number + 1) * size].reshape(per_dispatch, settings.batch_size)
        yield data.train_images[chosen], data.train_labels[chosen]


def run(settings: Settings, console: Console) -> dict:
    """The whole experiment; returns what it wrote to summary.json."""
    check(settings)
    data = load(settings.data)
    steps_per_epoch = len(data.train_labels) // settings.batch_size
    if steps_per_epoch < 1:
        raise UsageError(
            f"batch_size: got {settings.batch_size}, expected at most {len(data.train_labels)}, the training images"
        )
    folder = prepare_folder(settings)
    # Equal dispatches, so that one program is compiled; the few images left over differ from epoch to epoch.
    per_epoch = -(-steps_per_epoch // settings.steps_per_dispatch)
    per_dispatch = steps_per_epoch // per_epoch
    steps = settings.epochs * per_epoch * per_dispatch

    net = make_net(settings.net, data.classes)
    console.print(summary(net, data.image_shape), highlight=False)
    rate = settings.learning_rate
    schedule = optax.cosine_decay_schedule(rate, steps) if settings.schedule == "cosine" else rate
    optimizer = OPTIMIZERS[settings.optimizer](schedule)

    def example_metrics(params, batch):
        images, labels = batch
        logits = net.apply(params, images)
        loss = softmax_cross_entropy_with_integer_labels(logits, labels)
        return {"loss": loss, "accuracy": (logits.argmax(-1) == labels).astype(loss.dtype), "label": logits.argmax(-1)}

    def loss(params, batch, key):
        images, labels = batch
        metrics = example_metrics(params, (random_shift(key, images, settings.shift), labels))
        return metrics["loss"].mean(), {"accuracy": metrics["accuracy"].mean()}

    multi_step = make_multi_step(make_train_step(loss, optimizer))
    test_metrics = jax.jit(example_metrics)

    def test(state: TrainState) -> dict[str, np.ndarray]:
        return evaluate(test_metrics, state.params, (data.test_images, data.test_labels), batch_size=500)

    init_key, run_key = jax.random.split(jax.random.key(settings.seed))
    state = new_state(net.init(init_key, data.image_shape), optimizer, run_key)
    checkpoints = Checkpoints(folder / "checkpoints")
    records: list[dict] = []
    if settings.resume and (restored := checkpoints.restore(state)) is not None:
        state = restored
        done = int(state.step) // (per_epoch * per_dispatch)
        try:
            lines = (folder / "metrics.jsonl").read_text().splitlines()
            records = [json.loads(line) for line in lines[:done]]
        except (OSError, ValueError) as error:
            raise UsageError(
                f"resume: {folder / 'metrics.jsonl'} is damaged ({error}): start anew elsewhere"
            ) from error
        console.print(f"going on after epoch {done} of {settings.epochs}", highlight=False)
    write_lines(folder / "metrics.jsonl", records)

    with live_report(steps, completed=int(state.step), console=console) as report:
        for epoch in range(len(records) + 1, settings.epochs + 1):
            started = time.perf_counter()
            batches = dispatches(data, settings, epoch, (per_epoch, per_dispatch))
            state, history = train(multi_step, state, batches, report)
            seconds = time.perf_counter() - started
            tested = test(state)
            record = {
                "epoch": epoch,
                "step": int(state.step),
                "train_loss": float(history["loss"].mean()),
                "train_accuracy": float(history["accuracy"].mean()),
                "test_loss": float(tested["loss"].mean()),
                "test_accuracy": float(tested["accuracy"].mean()),
                "seconds": round(seconds, 3),
            }
            records.append(record)
            # Metrics first: a checkpoint never stands for an epoch without its line.
            write_lines(folder / "metrics.jsonl", records)
            checkpoints.save(state)
            console.print(
                f"epoch {epoch:3d}  "
                f"train loss {record['train_loss']:.4f} accuracy {record['train_accuracy']:.4f}  "
                f"test loss {record['test_loss']:.4f} accuracy {record['test_accuracy']:.4f}",
                highlight=False,
                soft_wrap=True,
            )
    checkpoints.close()

    tested = test(state)
    leaves = jax.tree.leaves(jax.device_get(state.params))
    result = {
        "test_accuracy": float(tested["accuracy"].mean()),
        "test_loss": float(tested["loss"].mean()),
        "steps": int(state.step),
        "seconds": round(sum(record["seconds"] for record in records), 3),
        "parameter_count": sum(leaf.size for leaf in leaves),
        "parameters_sha256": hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest(),
        "versions": {
            "python": platform.python_version(),
            "jaxconv": jaxconv.__version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "optax": optax.__version__,
        },
        "device": f"{jax.devices()[0].device_kind} ({jax.devices()[0].platform})",
        "settings": json.loads((folder / "settings.json").read_text()),
    }
    (folder / "summary.json").write_text(json.dumps(result, indent=2) + "\n")
    figures.curves(records, folder / "curves.png")
    figures.filters(np.asarray(state.params[0]["w"]), folder / "filters.png")
    figures.mistakes(data.test_images, data.test_labels, tested["label"], folder / "mistakes.png")
    console.print(
        f"test accuracy {result['test_accuracy']:.4f} after {result['steps']} steps in {result['seconds']:.1f} s; "
        f"results in {folder}",
        highlight=False,
        soft_wrap=True,
    )
    return result


def write_lines(path: Path, records: list[dict]) -> None:
    """Writes JSON lines through a second file, so that a run that dies leaves the old lines or the new."""
    new = path.with_suffix(".new")
    new.write_text("".join(json.dumps(record) + "\n" for record in records))
    new.replace(path)


def main() -> int:
    """The command; returns its exit status."""
    settings = tyro.cli(Settings, prog="python -m experiments.train", description=__doc__)
    console = Console()
    try:
        run(settings, console)
    except (UsageError, NonFiniteLossError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("interrupted: go on after the last whole epoch with --resume and the same --output", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
