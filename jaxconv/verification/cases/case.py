"""What a case is, where its inputs come from, and what the special points are written with."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

__all__ = ["Case", "Shape", "ascending", "column", "distinct", "inf", "nan", "positive", "times", "wide"]

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Case:
    """An op with options, its reference, and where to check it.

    `truth`, where it is not None, is the same function with a gradient that is accurate where the reference's is not.
    `thorough` cases are small, and go through second derivatives and all transformations too; `quick` ones make up the
    short run. `timing` has the shapes of the same layer as the benchmarks use it.
    """

    op: str
    name: str
    function: Callable
    reference: Callable
    shapes: tuple[Shape, ...]
    inputs: Callable[[np.random.Generator, Shape], np.ndarray] = lambda rng, shape: rng.standard_normal(shape)
    thorough: bool = False
    quick: bool = False
    timing: tuple[Shape, ...] | None = None
    truth: Callable | None = None
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16", "float16")

    def arguments(self, seed: int = 0) -> list[np.ndarray]:
        """The floating arguments, in float64."""
        rng = np.random.default_rng(seed)
        return [self.inputs(rng, shape) for shape in self.shapes]


# --- inputs ---


def distinct(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal values; for small arrays, their ranks, so that no two round to the same number in bfloat16."""
    values = rng.standard_normal(shape)
    if values.size > 256:
        return values
    return (np.argsort(np.argsort(values, axis=None)).reshape(shape) - values.size // 2) / 64


def ascending(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """The last tap of every window wins."""
    return np.arange(math.prod(shape)).reshape(shape) / 64


def wide(most: float) -> Callable:
    """Over the whole range up to ±most, without 0, where some activations have their kink."""

    def inputs(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        size = math.prod(shape)
        return rng.permutation(np.linspace(-most, most, size + 1 - size % 2)[:size]).reshape(shape) + most / (4 * size)

    return inputs


def times(factor: float) -> Callable:
    """Normal values with this standard deviation."""
    return lambda rng, shape: factor * rng.standard_normal(shape)


def positive(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Values from 0.1 on."""
    return np.abs(rng.standard_normal(shape)) + 0.1


# --- special points ---


inf, nan = math.inf, math.nan


def column(*values: float) -> np.ndarray:
    """One example with one channel: (1, positions, 1)."""
    return np.asarray(values, np.float64).reshape(1, -1, 1)
