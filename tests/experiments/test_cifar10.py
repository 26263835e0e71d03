"""CIFAR-10 from small parquet files in the hub's layout: what is learned, and every way in which the files can be wrong."""

import io
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from experiments import cifar10 as c
from experiments.claim import UsageError, perform
from experiments.data import cifar10

ROOT = Path(__file__).parents[2]
TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"


@pytest.fixture(scope="module", autouse=True)
def as_a_user_runs_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def encoded(image, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def shapes(count, seed):
    """Discs and crosses of five colours somewhere on noise: ten classes, in the order of the labels."""
    rng = np.random.default_rng(seed)
    labels = np.sort(np.arange(count) % 10)
    colours = np.array([[230, 40, 40], [40, 200, 60], [50, 80, 240], [230, 220, 40], [230, 230, 230]])
    rows, columns = np.mgrid[:32, :32]
    images = rng.integers(0, 90, (count, 32, 32, 3))
    for image, label in zip(images, labels, strict=True):
        y, x = rng.integers(8, 24, 2)
        across, down = abs(columns - x), abs(rows - y)
        disc = across**2 + down**2 <= 36
        cross = (np.minimum(across, down) <= 1) & (np.maximum(across, down) <= 7)
        image[(disc, cross)[label % 2]] = colours[label // 2]
    return images.astype(np.uint8), labels


def write(path, images, labels, kind="PNG"):
    rows = [{"bytes": image if isinstance(image, bytes) else encoded(image, kind), "path": None} for image in images]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"img": pa.array(rows, struct), "label": pa.array(labels)}), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cifar10")
    write(path / TRAIN, *shapes(960, seed=0))
    write(path / TEST, *shapes(300, seed=1))
    return path


@pytest.fixture(scope="module")
def summary(folder, tmp_path_factory):
    settings = c.Settings(data_dir=folder, images=960, epochs=5, seeds=1, output=tmp_path_factory.mktemp("run"))
    return perform(settings, c.run, sys.modules[c.__name__], "cifar10") | {"folder": settings.output}


def test_both_nets_learn_and_the_deeper_is_no_worse(summary):
    numbers = summary["numbers"]
    print(numbers)
    assert (numbers["train_images"], numbers["test_images"]) == (960, 300)
    assert min(numbers["notes_accuracy"]) > c.LEAST[c.NOTES]
    assert min(numbers["deeper_accuracy"]) > c.LEAST[c.DEEPER]
    assert min(numbers["gain"]) >= 0
