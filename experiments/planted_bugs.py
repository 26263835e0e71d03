"""Wrong versions of the library's rules, one at a time, and which check of `jaxconv.verification` catches each.

A check is itself checked: plant the bug, see it caught. Every `Mutation` of `experiments.planted` replaces internals of
jaxconv; `planted` puts it in place and takes it out again; `caught_by` names the check that finds it.

    with planted(mutation("tie sent twice")):
        ...

Every op is jitted, and jit keeps what it has traced. So `planted` gives each op a rule of fresh functions around the
patched parts, and nothing that was traced with a bug outlives it.
"""

import contextlib
import functools
import math
import pkgutil
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv
from experiments.planted import activation, conv, dense, loss, norm, pool
from experiments.planted.mutation import Mutation, Point
from jaxconv.verification import suite
from jaxconv.verification.cases import Case, all_cases
from jaxconv.verification.cases.conv import plain_conv
from jaxconv.verification.report import Check
from jaxconv.verification.suite import SECOND, SPECIAL

__all__ = [
    "MUTATIONS",
    "SECOND",
    "SPECIAL",
    "Catch",
    "Mutation",
    "Point",
    "caught_by",
    "cases_of",
    "first_catch",
    "mutation",
    "planted",
    "points",
    "run",
]

MUTATIONS = (
    *conv.MUTATIONS,
    *pool.MUTATIONS,
    *activation.MUTATIONS,
    *norm.MUTATIONS,
    *dense.MUTATIONS,
    *loss.MUTATIONS,
)


def mutation(name: str) -> Mutation:
    """The mutation of this name."""
    return next(bug for bug in MUTATIONS if bug.name == name)


# --- Planting. A rule is built as _NAME_primal, _NAME_fwd, _NAME_bwd -> _NAME; what is jitted is called _..._jit. ---

_OP_MODULES = [f"jaxconv.{info.name}" for info in pkgutil.iter_modules(jaxconv.__path__) if not info.ispkg]


@contextlib.contextmanager
def planted(bug: Mutation | None) -> Iterator[None]:
    """The library with a bug (None: with fresh rules, and no bug); afterwards it is as it was."""
    with contextlib.ExitStack() as stack:
        for key, wrong in (bug.patches if bug else {}).items():
            module, _, attribute = key.partition(":")
            path, _, attribute = attribute.rpartition(".")
            owner = pkgutil.resolve_name(f"jaxconv.{module}:{path}")
            stack.enter_context(mock.patch.object(owner, attribute, wrong(getattr(owner, attribute))))
        for module in map(pkgutil.resolve_name, _OP_MODULES):
            before = dict(vars(module))
            rules = {name: rule for name, rule in before.items() if isinstance(rule, jax.custom_vjp)}
            fresh = {rule: _fresh_rule(module, name, rule.nondiff_argnums) for name, rule in rules.items()}
            for name, rule in rules.items():
                stack.enter_context(mock.patch.object(module, name, fresh[rule]))
            for name in [name for name in before if name.endswith("_jit")]:
                function = before[name].__wrapped__
                jitted = _fresh_jit(fresh.get(function) or function)
                stack.enter_context(mock.patch.object(module, name, jitted))
        yield


def _fresh_rule(module, name: str, static: tuple[int, ...]) -> Callable:
    """The rule of function objects that JAX has never seen."""
    primal, fwd, bwd = (getattr(module, f"{name}_{part}") for part in ("primal", "fwd", "bwd"))
    rule = jax.custom_vjp(lambda *args: primal(*args), nondiff_argnums=static)
    rule.defvjp(lambda *args: fwd(*args), lambda *args: bwd(*args))
    return rule


def _fresh_jit(function: Callable) -> Callable:
    """jax.jit of a function object that JAX has never seen; as everywhere here, what is no array is static."""
    fresh = lambda *args: function(*args)  # noqa: E731

    def jitted(*args):
        static = [n for n, a in enumerate(args) if not isinstance(a, jax.Array)]
        return jax.jit(fresh, static_argnums=static)(*args)

    return jitted


# --- The suite, part by part, so that it can stop at the first failure. ---


class Catch(NamedTuple):
    """The first check that failed, and where."""

    point: Point
    check: Check

    def __str__(self) -> str:
        return f"{self.check.name} ({self.check.dtype}), {self.point.case}"


def caught_by(bug: Mutation) -> str | None:
    """The check and the case that catch the bug first, or None."""
    catch = first_catch(bug)
    return str(catch) if catch else None


def first_catch(bug: Mutation) -> Catch | None:
    """The first failed check of the suite under the bug: at `bug.at`, or else wherever else it fails."""
    with planted(bug):
        for point in dict.fromkeys((bug.at, *points(bug.op))):
            for check in run(bug.op, point):
                if check.passed is False:
                    return Catch(point, check)
    return None


def points(op: str) -> Iterator[Point]:
    """The suite of an op: special points, then its thorough cases in every way, then its other small cases."""
    yield from (Point(SPECIAL, dtype) for dtype in ("float64", "bfloat16"))
    for case in sorted(cases_of(op).values(), key=lambda case: not (case.thorough or case.quick)):
        yield from (Point(case.name, part.name) for part in suite.parts(case))


def run(op: str, point: Point) -> Iterator[Check]:
    """The checks at a point, one after the other."""
    if point.case == SPECIAL:
        checks = suite.edge_checks(op, point.part)
    else:
        checks = {part.name: part.checks for part in suite.parts(cases_of(op)[point.case])}[point.part]
    # The references of our own cases, and some bugs, are plain JAX code, which may rely on its promotion.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield from checks


@functools.cache
def cases_of(op: str) -> dict[str, Case]:
    """The op's cases, but for real layers of more than 10,000 elements."""
    small = [c for c in all_cases() if c.timing is None or sum(map(math.prod, c.shapes)) <= 10_000]
    return {case.name: case for case in (*small, *_MORE_CASES) if case.op == op}


# --- Cases that some bugs need and that jaxconv.verification.cases does not have. ---


def _summed(op: Callable, *shape: int) -> Callable:
    """A layer's outputs summed over batch and positions, for positive inputs: every term has the same sign."""
    inputs = np.random.default_rng(0).uniform(0.1, 1.1, shape)
    return lambda w, b: jnp.sum(op(jnp.asarray(inputs, w.dtype), w, b), range(len(shape) - 1))


def plain_dense(x, w, b):
    """The dense layer by jax.numpy alone."""
    return jnp.dot(x, w) + b


_MORE_CASES = (
    # Of terms of one sign, so that a narrow sum stops growing; x is no argument, so that dw and db do not drown in dx.
    Case(
        "dense",
        "a sum over 16,384 positive rows",
        _summed(jaxconv.dense, 16_384, 3),
        _summed(plain_dense, 16_384, 3),
        ((3, 4), (4,)),
        dtypes=("float32", "bfloat16", "float16"),
    ),
    Case(
        "conv",
        "a sum over 10,816 positive positions",
        _summed(jaxconv.conv, 16, 28, 28, 1),
        _summed(lambda x, w, b: plain_conv(x, w) + b, 16, 28, 28, 1),
        ((3, 3, 1, 4), (4,)),
        dtypes=("bfloat16",),
    ),
    Case(
        "global_avg_pool",
        "4,096 positive positions",
        lambda x: jaxconv.global_avg_pool(x),
        lambda x: jnp.mean(x, (1, 2)),
        ((1, 64, 64, 2),),
        inputs=lambda rng, shape: rng.uniform(0.1, 1.1, shape),
        dtypes=("bfloat16",),
    ),
    Case(
        "softmax",
        "1,000 classes alike",
        lambda x: jaxconv.softmax(x),
        jax.nn.softmax,
        ((2, 1000),),
        inputs=lambda rng, shape: rng.uniform(0.1, 1.1, shape),
        dtypes=("bfloat16",),
    ),
)
