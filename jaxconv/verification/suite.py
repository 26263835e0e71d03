"""Every check of every named case: what the command, the tests and the planted bugs run."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxconv.verification import checks
from jaxconv.verification.cases import EDGES, Case
from jaxconv.verification.problem import DTYPES, Problem
from jaxconv.verification.report import Check

__all__ = ["SECOND", "SPECIAL", "Part", "Row", "check_case", "check_edges", "edge_checks", "parts"]

SPECIAL, SECOND = "special points", "second order"


@dataclasses.dataclass(frozen=True)
class Row:
    """The checks of one case in one dtype."""

    op: str
    case: str
    dtype: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    @property
    def against_float64(self) -> Check | None:
        """The check that has the errors, ours and autodiff's."""
        return next((check for check in self.checks if check.name == "against float64"), None)


class Part(NamedTuple):
    """Some checks of a case, each of them made when it is asked for.

    `name` is the dtype, `SECOND`, a transformation, or "a transformation, dtype" where that is not float64.
    """

    name: str
    dtype: str
    checks: Iterator[Check]


def parts(case: Case, dtypes: Sequence[str] = DTYPES, thorough: bool = True) -> Iterator[Part]:
    """The checks of a case in the dtypes that it is for, in parts.

    Every dtype: against float64, determinism, and but for real layers, which are large, linearity. The first dtype: the
    adjoint identity, which is about the formula. float32, or else the last dtype: residuals. float64: finite
    differences, not for real layers; for thorough cases second derivatives and all transformations, two of which are
    made in bfloat16 again, where a sum has another dtype than its terms. With thorough=False no case is thorough.
    """
    dtypes = [dtype for dtype in dtypes if dtype in case.dtypes]

    @functools.cache
    def problem() -> Problem:
        return Problem(case.function, tuple(case.arguments()), case.reference, truth=case.truth, trusted=True)

    def of_dtype(dtype: str) -> Iterator[Check]:
        yield checks.of_value_and_gradients(problem(), dtype)
        if dtype == dtypes[0]:
            yield checks.of_adjoint_identity(problem(), dtype)
        yield checks.of_determinism(problem(), dtype)
        if case.timing is None:
            yield from checks.of_linearity(problem(), dtype)
        if dtype == ("float32" if "float32" in dtypes else dtypes[-1]):
            yield checks.of_residuals(problem(), dtype)
        if dtype == "float64" and case.timing is None:
            yield checks.of_differences(problem())

    def of_second_order() -> Iterator[Check]:
        yield from checks.of_second_order(problem())

    def of_transformation(dtype: str, name: str) -> Iterator[Check]:
        yield from checks.of_transformations(problem(), dtype, (name,))

    for dtype in dtypes:
        yield Part(dtype, dtype, _guarded("every check", dtype, of_dtype(dtype)))
        if dtype == "float64" and case.thorough and thorough:
            yield Part(SECOND, dtype, _guarded(SECOND, dtype, of_second_order()))
            for name in checks.TRANSFORMS:
                yield Part(name, dtype, _guarded(name, dtype, of_transformation(dtype, name)))
        if dtype == "bfloat16" and case.thorough and thorough:
            for name in ("grad of vmap", "grad of scan"):
                yield Part(f"{name}, {dtype}", dtype, _guarded(name, dtype, of_transformation(dtype, name)))


def _guarded(name: str, dtype: str, found: Iterator[Check]) -> Iterator[Check]:
    """The checks; an exception is one that failed."""
    try:
        yield from found
    except Exception as error:
        yield checks.raised(name, dtype, error)


def check_case(case: Case, dtypes: Sequence[str] = DTYPES, thorough: bool = True) -> Iterator[Row]:
    """A row per dtype that the case is for, with the checks of its `parts`."""
    for dtype, group in itertools.groupby(parts(case, dtypes, thorough), lambda part: part.dtype):
        yield Row(case.op, case.name, dtype, tuple(check for part in group for check in part.checks))


def edge_checks(op: str, dtype: str) -> Iterator[Check]:
    """The special points of an op, each looked at when it is asked for."""
    for edge in EDGES[op]:
        yield from checks.edges([edge], dtype)


def check_edges(op: str, dtypes: Sequence[str] = DTYPES) -> Iterator[Row]:
    """A row per dtype with the special points of an op."""
    for dtype in dtypes:
        yield Row(op, SPECIAL, dtype, tuple(edge_checks(op, dtype)))
