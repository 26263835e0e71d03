"""Every check of every named case: what the command, the tests and the planted bugs run."""

import dataclasses
from collections.abc import Iterator, Sequence

from jaxconv.verification import checks
from jaxconv.verification.cases import EDGES, Case
from jaxconv.verification.problem import DTYPES, Problem
from jaxconv.verification.report import Check

__all__ = ["Row", "check_case", "check_edges"]


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


def check_case(case: Case, dtypes: Sequence[str] = DTYPES, thorough: bool = True) -> Iterator[Row]:
    """A row per dtype that the case is for.

    Every dtype: against float64, the adjoint identity, determinism, and but for real layers, which are large,
    linearity. float32, or the only dtype: residuals. float64: finite differences, not for real layers; for thorough
    cases second derivatives and all transformations, two of which are made in bfloat16 again, where a sum has another
    dtype than its terms. With thorough=False no case is thorough.
    """
    dtypes = [dtype for dtype in dtypes if dtype in case.dtypes]
    if not dtypes:
        return
    only = dtypes[0] if len(dtypes) == 1 else None
    case = case if thorough else dataclasses.replace(case, thorough=False)
    try:
        problem = Problem(case.function, tuple(case.arguments()), case.reference, truth=case.truth, trusted=True)
    except Exception as error:
        yield Row(case.op, case.name, dtypes[0], (checks.raised("every check", dtypes[0], error),))
        return
    for dtype in dtypes:
        try:
            found = tuple(_checks(problem, case, dtype, only))
        except Exception as error:
            found = (checks.raised("every check", dtype, error),)
        yield Row(case.op, case.name, dtype, found)


def _checks(problem: Problem, case: Case, dtype: str, only: str | None) -> Iterator[Check]:
    yield checks.of_value_and_gradients(problem, dtype)
    yield checks.of_adjoint_identity(problem, dtype)
    yield checks.of_determinism(problem, dtype)
    if case.timing is None:
        yield from checks.of_linearity(problem, dtype)
    if dtype in ("float32", only):
        yield checks.of_residuals(problem, dtype)
    if dtype == "float64" and case.timing is None:
        yield checks.of_differences(problem)
    if dtype == "float64" and case.thorough:
        yield from checks.of_second_order(problem)
        yield from checks.of_transformations(problem, dtype, checks.TRANSFORMS)
    if dtype == "bfloat16" and case.thorough:
        yield from checks.of_transformations(problem, dtype, ("grad of vmap", "grad of scan"))


def check_edges(op: str, dtypes: Sequence[str] = DTYPES) -> Iterator[Row]:
    """A row per dtype with the special points of an op."""
    for dtype in dtypes:
        yield Row(op, "special points", dtype, tuple(checks.edges(EDGES[op], dtype)))
