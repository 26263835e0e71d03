"""The named cases: for every public op the geometries worth testing, from edge cases to real layers.

The tests, the command and the benchmarks all take their cases from here. A case has our op and the same thing in plain
lax, for JAX to differentiate; the shapes of the floating arguments, and larger ones of the same layer for timing. The
special points of every op (ties, kinks, ±0, ±inf, NaN, empty axes), with what its docstring promises there, are
`EDGES`. There is a module of cases per module of ops, each with `cases()` and `EDGES`.
"""

import dataclasses
import functools
import itertools

from jaxconv.verification.cases import (
    activation,
    conv,
    conv_general,
    dropout,
    linear,
    loss,
    norm,
    padding,
    patches,
    pool,
    pool_adaptive,
    pool_global,
    separable,
    softmax,
)
from jaxconv.verification.cases.case import Case
from jaxconv.verification.checks import Edge

__all__ = ["EDGES", "Case", "all_cases"]

_MODULES = (
    conv,
    conv_general,
    separable,
    padding,
    patches,
    pool,
    pool_global,
    pool_adaptive,
    activation,
    softmax,
    linear,
    norm,
    dropout,
    loss,
)

EDGES: dict[str, tuple[Edge, ...]] = {op: edges for module in _MODULES for op, edges in module.EDGES.items()}


@functools.cache
def all_cases() -> tuple[Case, ...]:
    """Every case of every op, an op's cases one after the other."""
    cases = [case for module in _MODULES for case in module.cases()]
    # The narrow dtypes take one path through every op: the quick cases are made in both, and of the others every second
    # in one of them.
    turns = itertools.cycle((("bfloat16",), (), ("float16",), ()))
    narrow = [("bfloat16", "float16") if case.quick else next(turns) for case in cases]
    wide = ("float64", "float32")
    cases = [
        dataclasses.replace(case, dtypes=tuple(d for d in case.dtypes if d in (*wide, *few)))
        for case, few in zip(cases, narrow, strict=True)
    ]
    return tuple(sorted((case for case in cases if case.dtypes), key=lambda case: case.op))
