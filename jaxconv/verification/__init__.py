"""Checks of hand-written gradients, for this library's rules and for anyone's.

`check_vjp` runs every check on a function at a point and returns a `Report`. The checks by themselves are functions,
too; `python -m jaxconv.verification` runs them for every op of the library, on the named cases of
`jaxconv.verification.cases`.
"""

from jaxconv.verification.checks import (
    TRANSFORMS,
    Edge,
    adjoint_identity,
    against_float64,
    check_vjp,
    determinism,
    edges,
    finite_differences,
    linearity,
    residuals,
    second_order,
    transformations,
)
from jaxconv.verification.report import Check, Report

__all__ = [
    "TRANSFORMS",
    "Check",
    "Edge",
    "Report",
    "adjoint_identity",
    "against_float64",
    "check_vjp",
    "determinism",
    "edges",
    "finite_differences",
    "linearity",
    "residuals",
    "second_order",
    "transformations",
]
