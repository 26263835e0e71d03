"""The named cases: every public op has some, they are what they say, and the quick ones pass in every dtype."""

import collections

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv import transform
from jaxconv.verification.cases import EDGES, all_cases
from jaxconv.verification.suite import check_case, check_edges

QUICK = [case for case in all_cases() if case.quick]


def ops_without_cases(names):
    """The public ops that no case, no thorough case, no quick case or no special point checks."""
    having = [
        {case.op for case in all_cases()},
        {case.op for case in all_cases() if case.thorough},
        {case.op for case in QUICK},
        set(EDGES),
    ]
    return sorted(name for name in names if any(name not in ops for ops in having))


def test_every_public_op_has_cases():
    # silu and swish are the same function, checked by its own name.
    ops = sorted({getattr(jaxconv, name).__name__ for name in jaxconv.__all__ if name not in transform.__all__})
    assert ops_without_cases(ops) == []
    assert ops_without_cases([*ops, "new_pool"]) == ["new_pool"]


def test_names_are_unique():
    counts = collections.Counter((case.op, case.name) for case in all_cases())
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("op", EDGES)
def test_ours_and_the_reference_are_functions_of_the_same_shapes(op):
    for case in (case for case in all_cases() if case.op == op):
        for shapes in (case.shapes, case.timing or case.shapes):
            arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
            ours, plain = (jax.eval_shape(f, *arguments) for f in (case.function, case.reference))
            assert (ours.shape, ours.dtype) == (plain.shape, plain.dtype), case.name


def test_arguments_are_the_same_at_every_call():
    case = all_cases()[0]
    for a, b in zip(case.arguments(), case.arguments(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("case", QUICK, ids=lambda case: f"{case.op}, {case.name}")
def test_quick_case(case):
    """As `python -m jaxconv.verification --quick` has it, and the narrow dtypes; the command has all of it."""
    for row in check_case(case, thorough=False):
        assert [str(check) for check in row.checks if check.passed is not True] == []


@pytest.mark.parametrize("op", EDGES)
def test_special_points(op):
    """In one dtype: CI has the command in float64."""
    for row in check_edges(op, ("bfloat16",)):
        assert [str(check) for check in row.checks if check.passed is not True] == []
