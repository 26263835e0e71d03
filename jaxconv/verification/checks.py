"""The checks, each a function of its own: f and its arguments in, a `Check` out.

    against_float64         every element of the value and of every gradient, against the reference's in float64
    adjoint_identity        <J u, v> = <u, Jᵀ v>, J u by forward mode of the reference
    linearity               Jᵀ(v + w) = Jᵀ v + Jᵀ w, and Jᵀ(2v) = 2 Jᵀ v to the bit
    finite_differences      <v, df along u> = <u, Jᵀ v>, from values of f alone
    second_order            grad of grad, jvp of grad, hessian
    transformations         the same numbers eagerly and under jit, vmap, scan, remat, shard_map, with donated buffers
    edges                   ties, kinks, ±0, ±inf, NaN, subnormal numbers, against a stated convention
    determinism             the same bits at every run
    residuals               bytes saved for the backward

All but `edges` take `reference`, a function of the same arguments that JAX differentiates (None: f itself with its
custom rules taken off), `argnums` (None: every argument), and `seed`. Tolerances are those of `tolerance.py`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from jaxconv.verification.problem import ROUNDS, Problem, exact, first_line, value_and_grads
from jaxconv.verification.report import Check, Report
from jaxconv.verification.tolerance import (
    FACTOR,
    ROUNDING,
    C,
    Comparison,
    Expected,
    allowed_units,
    compare,
    eps_of,
    scale_of_inputs,
    underflow_of,
)

__all__ = [
    "TRANSFORMS",
    "Edge",
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

TRANSFORMS = (
    "eager",
    "vmap of grad",
    "grad of vmap",
    "scan of grad",
    "grad of scan",
    "remat",
    "donated buffers",
    "shard_map",
)


class Edge(NamedTuple):
    """Values at a special point, and the convention that they follow.

    `function` is called with `args`; its result is compared with `y`, and its gradients for the cotangent `dy` with
    `gradients`, one per floating argument (None: not looked at). NaN must be NaN, infinities and zeros
    exact; ±0 are equal.
    """

    convention: str
    function: Callable
    args: tuple
    y: Any = None
    gradients: tuple | None = None
    dy: Any = 1.0


def check_vjp(
    f: Callable,
    *args: Any,
    reference: Callable | None = None,
    argnums: int | Sequence[int] | None = None,
    orders: int = 2,
    dtypes: Sequence[str] = ("float64", "float32"),
    transforms: Sequence[str] = TRANSFORMS,
    edge_cases: Sequence[Edge] | None = None,
    length: int | None = None,
    seed: int = 0,
) -> Report:
    """Check the gradient of a function at a point, in every way that this module knows.

    Works on any function that JAX differentiates in reverse, and is meant for those with a rule of their own
    (`jax.custom_vjp`). Arguments and results may be pytrees; what is not a floating array is passed on as it is. It
    compiles some twenty programs, in seconds; `orders=1, transforms=()` is quicker. A gradient that is not the
    derivative on purpose (a straight-through estimator) cannot pass.

    Args:
        f: the function.
        args: where to check it. Their values matter: choose them so that no element is special (ties, kinks), and so
            that strides, paddings and sizes differ from axis to axis.
        reference: the same function written so that JAX can differentiate it; f itself without its custom rules by
            default. Its gradient in float64 is the truth.
        argnums: which arguments to differentiate; all by default.
        orders: 2 also checks second derivatives, 1 does not.
        dtypes: the floating dtypes that the arguments are converted to. bfloat16 and float16 are held to sums made in
            float32 (one made in the narrow dtype shows from some hundred terms on); leave them out for functions that
            are not meant for them, and float64 for those that compute in float32 whatever they are given.
        transforms: which of `TRANSFORMS` to check.
        edge_cases: special points with the values that the function's documentation promises there. By default, if a
            reference is given, the reference's own values at zeros, ties, ±inf, NaN and subnormal numbers; ().
        length: how many terms the longest sum has; found from the reference by default.
        seed: of the random cotangents, directions and samples.

    Returns:
        A `Report`. `print(report)` shows a table; `report.assert_ok()` raises an AssertionError that names what failed.

    Raises:
        TypeError, ValueError: f is not callable, cannot be differentiated or is not deterministic, there is no
            floating argument, or the reference is another function.

    >>> @jax.custom_vjp
    ... def square(x):
    ...     return x * x
    >>> square.defvjp(lambda x: (x * x, x), lambda x, dy: (x * dy,))  # the 2 is missing
    >>> report = check_vjp(square, jnp.array([1.0, 2.0, 3.0]), dtypes=("float32",), orders=1, transforms=())
    >>> [check.name for check in report.failures]
    ['against float64', 'adjoint identity', 'finite differences']
    """
    if orders not in (1, 2):
        raise ValueError(f"orders: got {orders!r}, expected 1 or 2")
    transforms = _checked_transforms(transforms)
    if not isinstance(dtypes, Sequence) or isinstance(dtypes, str) or not dtypes:
        raise TypeError(f"dtypes: got {dtypes!r}, expected a tuple of floating dtypes such as ('float64', 'float32')")
    dtypes = [_checked_dtype("dtypes", dtype) for dtype in dtypes]
    if edge_cases is not None and not all(isinstance(case, Edge) for case in edge_cases):
        raise TypeError(f"edge_cases: got {edge_cases!r}, expected a sequence of Edge")
    problem = _problem(f, args, reference, argnums, seed, length)
    found: list[Check] = []
    for dtype in dtypes:
        found += [
            of_value_and_gradients(problem, dtype),
            of_adjoint_identity(problem, dtype),
            *of_linearity(problem, dtype),
            of_determinism(problem, dtype),
        ]
    widest = max(dtypes, key=lambda dtype: jnp.finfo(dtype).nmant)
    found.append(of_differences(problem))
    if orders == 2:
        found += of_second_order(problem)
    found += of_transformations(problem, widest, transforms)
    if edge_cases is not None:
        found += edges(edge_cases, widest)
    elif reference is not None:
        found += special_values(problem, widest)
    found.append(of_residuals(problem, widest))
    return Report(problem.name, problem.reference_name, tuple(found))


def _problem(*given) -> Problem:
    problem = Problem(*given)
    problem.check_pure()
    return problem


def _checked_dtype(name: str, dtype) -> str:
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"{name}: got {dtype!r}, expected a floating dtype such as 'float32'") from None
    if not jnp.issubdtype(found, jnp.floating):
        raise ValueError(f"{name}: got {found.name}, expected a floating dtype such as 'float32'")
    return found.name


def _checked_transforms(transforms) -> tuple[str, ...]:
    expected = f"expected some of {', '.join(map(repr, TRANSFORMS))}"
    if isinstance(transforms, str) or not isinstance(transforms, Sequence):
        raise TypeError(f"transforms: got {transforms!r}, {expected}, in a tuple")
    for name in transforms:
        if name not in TRANSFORMS:
            raise ValueError(f"transforms: got {name!r}, {expected}")
    return tuple(transforms)


# --- against float64 ---


def against_float64(f, *args, reference=None, argnums=None, dtype="float64", seed=0) -> Check:
    """Every element of the value and of every gradient, against the reference's in float64 at the same arguments.

    Fails where an element is off by more than the tolerance (unless autodiff in float32 loses digits there, too), and
    where the root mean square error of an array is more than `FACTOR` times autodiff's. In units of eps(dtype) · s;
    `details` has the worst error in ULP and relative to the element, and autodiff's beside ours.
    """
    return of_value_and_gradients(_problem(f, args, reference, argnums, seed), _checked_dtype("dtype", dtype))


def of_value_and_gradients(problem: Problem, dtype: str) -> Check:
    with exact():
        leaves, cotangents = problem.sample(0, dtype), problem.cotangents(0, dtype)
        got = problem.value_and_grads(leaves, cotangents)
        wrong = [a.dtype.name for a in jax.tree.leaves(got) if a.dtype != jnp.dtype(dtype)]
        if problem.reference is None:
            check = _against_differences(problem, dtype, leaves, cotangents, got[1])
            return _of_dtype(check, wrong)
        y, grads, _ = problem.truth(leaves, cotangents)
        names = [*problem.result_names, *problem.gradient_names()]
        ours = compare_all(jax.tree.leaves(got), [*y, *grads], dtype)
        details = {}
        if dtype != "float64":  # there, autodiff's is the truth
            theirs = _of_autodiff(problem, dtype)
            details = {f"autodiff_{key}": value for key, value in _errors(theirs).items()}
            details["ratio"] = error_ratio(ours.rms, theirs.rms)
        check = _judged(problem, "against float64", dtype, ours, names, details | _errors(ours), of_results=True)
        if dtype != "float64":
            for name, one, other in zip(names, ours.each, theirs.each, strict=True):
                # Of few elements, the root mean square is itself uncertain.
                factor = FACTOR * (1 + 2 / math.sqrt(max(1, one.count)))
                if error_ratio(one.rms, other.rms) > factor:
                    note = f"{name}: root mean square error {one.rms:.3g}, autodiff's {other.rms:.3g}"
                    note += f"; allowed: {factor:.3g} times that"
                    check = dataclasses.replace(check, passed=False, note=note)
    return _of_dtype(check, wrong)


def _of_dtype(check: Check, wrong: list[str]) -> Check:
    """The check, failed if results or gradients had these dtypes instead of the arguments' own."""
    if not wrong:
        return check
    return dataclasses.replace(check, passed=False, note=f"returned {wrong[0]} for {check.dtype} arguments")


def _of_autodiff(problem: Problem, dtype: str) -> "_Worst":
    """The errors of autodiff of the reference in a dtype."""
    if dtype not in problem.errors_of_autodiff:
        leaves, cotangents = problem.sample(0, dtype), problem.cotangents(0, dtype)
        y, grads, _ = problem.truth(leaves, cotangents)
        found = problem.autodiff_value_and_grads(leaves, cotangents)
        problem.errors_of_autodiff[dtype] = compare_all(jax.tree.leaves(found), [*y, *grads], dtype)
    return problem.errors_of_autodiff[dtype]


def _judged(problem: Problem, name, dtype, found: "_Worst", names, details=None, of_results: bool = False) -> Check:
    """A check of gradients (of_results: of results and gradients) against the tolerance.

    An element may be off by more where autodiff in float32 exceeds the tolerance at that very element: the reference's
    own arithmetic loses digits there (it subtracts nearly equal numbers), and with it its gradient in float64, which is
    the truth. Unless the truth was given, and is better than that.
    """
    base = allowed_units(dtype, problem.length)
    number, index, limit, note = found.number, found.comparison.index, base, ""
    if found.worst > base:
        excused = [_excused(problem, dtype, units) for units in _lost(problem, of_results)] or [np.full((), base)]
        over = -1.0
        for n, comparison in enumerate(found.each):
            limits = excused[n % len(excused)]
            limits = np.broadcast_to(limits if comparison.units.ndim >= limits.ndim else base, comparison.units.shape)
            with np.errstate(invalid="ignore"):
                shares = comparison.units / limits
            if shares.size and shares.max() > over:
                over = float(shares.max())
                number, index = n, tuple(map(int, np.unravel_index(np.argmax(shares), shares.shape)))
                limit = float(limits[index])
        if limit > base:
            note = "autodiff in float32 loses digits here, too: allowed is a multiple of its error"
    c = found.each[number]
    where = f"{names[number]} [{', '.join(map(str, index))}]" if found.worst > 0 else ""
    measured = float(c.units[index]) if c.units.size and c.units.ndim == len(index) else c.worst
    got, expected = (c.got, c.expected) if index == c.index else (math.nan, math.nan)
    return Check(name, dtype, measured <= limit, measured, limit, "eps", where, got, expected, note, details or {})


def _lost(problem: Problem, of_results: bool) -> list[np.ndarray]:
    """The errors of autodiff in float32, element by element; none where a better truth was given."""
    if problem.reference is None or problem.best is not problem.reference:
        return []
    each = _of_autodiff(problem, "float32").each
    return [c.units for c in (each if of_results else each[len(problem.result_shapes) :])]


def _excused(problem: Problem, dtype: str, theirs: np.ndarray) -> np.ndarray:
    """What is allowed where autodiff in float32 is off by this much."""
    base = allowed_units(dtype, problem.length)
    # In float64 the truth is off as well; narrow dtypes are computed in float32, whose errors are small in their units.
    times = 2 * FACTOR if dtype == "float64" else FACTOR * min(1.0, eps_of("float32") / eps_of(dtype))
    bad = (theirs > allowed_units("float32", problem.length)) & np.isfinite(theirs)
    return np.where(bad, base + times * theirs, base)


def error_ratio(ours: float, theirs: float) -> float:
    """Our root mean square error over autodiff's; what rounding the result costs, both have at least."""
    return max(ours, ROUNDING) / max(theirs, ROUNDING)


def _errors(comparison: "_Worst") -> dict[str, float]:
    return {
        "worst": comparison.worst,
        "rms": comparison.rms,
        "ulp": comparison.ulp,
        "relative": comparison.relative,
    }


class _Worst(NamedTuple):
    """The worst of several comparisons, and what they have together."""

    number: int
    each: list[Comparison]
    rms: float
    ulp: float
    relative: float

    @property
    def comparison(self) -> Comparison:
        return self.each[self.number]

    @property
    def worst(self) -> float:
        return self.comparison.worst


def compare_all(got, expected: Sequence[Expected], dtype) -> _Worst:
    """Several arrays, each against what is expected."""
    found = [compare(g, e, dtype) for g, e in zip(got, expected, strict=True)]
    number = max(range(len(found)), key=lambda n: found[n].worst)
    count = sum(c.count for c in found)
    rms = math.sqrt(sum(c.squares for c in found) / count) if count else 0.0
    return _Worst(number, found, rms, max(c.ulp for c in found), max(c.relative for c in found))


def _check(name, dtype, passed, worst: _Worst, allowed, names, note="", details=None) -> Check:
    c = worst.comparison
    where = f"{names[worst.number]} [{', '.join(map(str, c.index))}]" if c.worst > 0 else ""
    return Check(name, dtype, bool(passed), c.worst, allowed, "eps", where, c.got, c.expected, note, details or {})


def _against_differences(problem: Problem, dtype, leaves, cotangents, grads) -> Check:
    """Up to 64 elements of the gradients against differences of f: for functions that JAX cannot differentiate."""
    rng = np.random.default_rng((problem.seed, 4))
    difference = _Differences(
        problem, "float64", [np.asarray(a, np.float64) for a in leaves], [np.asarray(c, np.float64) for c in cotangents]
    )
    worst, where, got, expected = 0.0, "", math.nan, math.nan
    for number, grad in enumerate(np.asarray(g, np.float64) for g in grads):
        scale = float(np.max(np.abs(grad), initial=0.0))
        for flat in rng.permutation(grad.size)[: 64 // len(grads)]:
            index = tuple(map(int, np.unravel_index(flat, grad.shape)))
            one = np.zeros(grad.shape)
            one[index] = 1.0
            found = difference.along(number, one)
            if found.dropped:
                continue
            allowed = found.allowed + allowed_units(dtype, 1) * eps_of(dtype) * scale + underflow_of(dtype)
            error = abs(float(grad[index]) - found.by_values) / allowed
            if not error <= worst:
                worst, got, expected = error, float(grad[index]), found.by_values
                where = f"{problem.gradient_names()[number]} [{', '.join(map(str, index))}]"
    note = "against differences of f, up to 64 elements"
    return Check("against float64", dtype, bool(worst <= 1), worst, 1.0, "of the bound", where, got, expected, note)


# --- the adjoint identity, linearity ---


def adjoint_identity(f, *args, reference=None, argnums=None, dtype="float64", directions=3, seed=0) -> Check:
    """<J u, v> = <u, Jᵀ v> for random u and v, with J u by forward mode of the reference and Jᵀ v by f's rule."""
    return of_adjoint_identity(_problem(f, args, reference, argnums, seed), _checked_dtype("dtype", dtype), directions)


def of_adjoint_identity(problem: Problem, dtype: str, directions: int = 3) -> Check:
    if problem.reference is None:
        return Check("adjoint identity", dtype, None, note="f has no forward mode without its custom rule")
    with exact():
        leaves, cotangents = problem.sample(0, dtype), problem.cotangents(0, dtype)
        grads = [np.asarray(g, np.float64) for g in problem.value_and_grads(leaves, cotangents)[1]]
        v = [np.asarray(c, np.float64) for c in cotangents]
        g = problem.truth(leaves, cotangents)[1]
        worst, got, expected, where = 0.0, math.nan, math.nan, ""
        for number in range(directions):
            u = problem.tangents(number)
            ju = problem.directional(leaves, cotangents, u)
            # Both sums run over the same terms: the scale of the gradients serves for both.
            left, _ = _inner(ju, v, v)
            right, scale = _inner(grads, u, [e.scale for e in g])
            error = abs(left - right) / (eps_of(dtype) * scale + underflow_of(dtype)) if left != right else 0.0
            if not error <= worst:
                worst, got, expected, where = error, right, left, f"direction {number}"
        allowed, note = allowed_units(dtype, problem.length), ""
        if worst > allowed and (lost := _lost(problem, of_results=False)):
            allowed = max(float(_excused(problem, dtype, units).max(initial=allowed)) for units in lost)
            note = "autodiff in float32 loses digits here, too" if worst <= allowed else ""
    residual = abs(got - expected) / abs(expected) if expected else 0.0
    passed = bool(worst <= allowed)
    details = {"residual": 0.0 if math.isnan(residual) else residual}
    return Check("adjoint identity", dtype, passed, worst, allowed, "eps", where, got, expected, note, details)


def _inner(a, b, scale) -> tuple[float, float]:
    """<a, b> over the elements where both are finite, and the root mean square of what it may be off by."""
    total, squares = [], 0.0
    for x, y, s in zip(a, b, scale, strict=True):
        finite = np.isfinite(x) & np.isfinite(y) & np.isfinite(s)
        total.append(float(np.sum(np.where(finite, x, 0) * np.where(finite, y, 0))))
        squares += float(np.sum((np.where(finite, s, 0) * np.where(finite, y, 0)) ** 2))
    return math.fsum(total), math.sqrt(squares)


def linearity(f, *args, reference=None, argnums=None, dtype="float64", seed=0) -> tuple[Check, Check]:
    """Jᵀ(v + w) = Jᵀ v + Jᵀ w up to rounding, and Jᵀ(2v) = 2 Jᵀ v to the bit: a factor of 2 rounds nothing."""
    return of_linearity(_problem(f, args, reference, argnums, seed), _checked_dtype("dtype", dtype))


def of_linearity(problem: Problem, dtype: str) -> tuple[Check, Check]:
    with exact():
        leaves = problem.sample(0, dtype)
        v, w = problem.cotangents(0, dtype), problem.cotangents(1, dtype)
        both = tuple(np.asarray(a + b).astype(a.dtype) for a, b in zip(v, w, strict=True))
        twice = tuple((2 * a).astype(a.dtype) for a in v)
        gv, gw, gboth, gtwice = (
            [np.asarray(g, np.float64) for g in problem.value_and_grads(leaves, c)[1]] for c in (v, w, both, twice)
        )
        expected = []
        for number, (a, b) in enumerate(zip(gv, gw, strict=True)):
            if problem.reference is None:
                scale = np.full(a.shape, np.max(np.abs(a) + np.abs(b), initial=0.0))
            else:
                # The second scale only adds to the first: a rough one will do.
                scales = problem.truth(leaves, v)[1], problem.truth(leaves, w, rounds=2)[1]
                scale = scales[0][number].scale + scales[1][number].scale
            with np.errstate(all="ignore"):
                expected.append(Expected(a + b, scale))
        sums = compare_all(gboth, expected, dtype)
        with np.errstate(all="ignore"):
            doubled = compare_all(gtwice, [Expected(2 * a, e.scale) for a, e in zip(gv, expected, strict=True)], dtype)
        names = problem.gradient_names()
        linear = _judged(problem, "linearity: a sum", dtype, sums, names)
    # float16 has subnormal numbers, which are coarser: there, doubling may round.
    allowed = allowed_units(dtype, problem.length) if dtype == "float16" else 0.0
    return linear, _check("linearity: a doubling", dtype, doubled.worst <= allowed, doubled, allowed, names)


# --- finite differences ---


def finite_differences(f, *args, reference=None, argnums=None, dtype="float64", seed=0) -> Check:
    """<v, df along u> = <u, Jᵀ v> for a random direction u of each argument, from values of f alone.

    f is evaluated in `dtype`. Where f is affine in the argument (which is found out), the step is 1 and the difference
    exact; elsewhere it is the cube root of eps(dtype), and half of that shows how far the difference may be off.
    Results that meet a kink within the step are left out. When a direction fails, the elements of the argument are
    halved until the one is found whose derivative is wrong.
    """
    return of_differences(_problem(f, args, reference, argnums, seed), _checked_dtype("dtype", dtype))


def _step(dtype) -> float:
    return eps_of(dtype) ** (1 / 3)


def of_differences(problem: Problem, dtype: str = "float64") -> Check:
    name = "finite differences"
    with exact():
        difference = _Differences(problem, dtype)
        worst, where, got, expected, note = 0.0, "", math.nan, math.nan, ""
        left_out: list[str] = []
        for number, called in enumerate(problem.names):
            u = problem.tangents(0)[number]
            if not u.size:
                continue
            found = difference.along(number, u)
            if found.dropped > 0.5:
                left_out.append(called)
                continue
            if not found.error <= worst:
                worst, got, expected, where = found.error, found.by_rule, found.by_values, f"a direction of {called}"
            if not found.error <= 1:
                index = difference.locate(number, u)
                one = np.zeros(u.shape)
                one[index] = 1.0
                found = difference.along(number, one)
                got, expected = found.by_rule, found.by_values
                where = f"gradient of {called} [{', '.join(map(str, index))}]"
                note = "found by halving the direction that failed"
                break
    if left_out:
        note = f"{', '.join(left_out)} left out: more than half of the results have a kink within the step"
        if len(left_out) == len(problem.names):
            return Check(name, dtype, None, note=note)
    return Check(name, dtype, bool(worst <= 1), worst, 1.0, "of the bound", where, got, expected, note)


class _Slope(NamedTuple):
    """A directional derivative of <v, f>, by the rule and by values of f; the error is in units of what is allowed."""

    error: float
    by_rule: float
    by_values: float
    allowed: float
    dropped: float  # the share of the results that were left out


class _Differences:
    """Differences of f along directions of one argument."""

    def __init__(self, problem: Problem, dtype, leaves=None, cotangents=None):
        self.problem, self.dtype = problem, dtype
        self.leaves = problem.sample(0, dtype) if leaves is None else leaves
        self.cotangents = problem.cotangents(0, dtype) if cotangents is None else tuple(cotangents)
        self.y = self._values(self.leaves)
        self.eps = eps_of(dtype) * math.sqrt(problem.length)
        # The scale of the results' rounding errors; without a reference, their largest element.
        if problem.reference is not None:
            self.scales = [e.scale for e in problem.truth(self.leaves, self.cotangents)[0]]
        else:
            self.scales = [np.full(a.shape, np.max(np.abs(a), initial=0.0)) for a in self.y]

    def _values(self, leaves) -> list[np.ndarray]:
        return [np.asarray(a, np.float64) for a in self.problem.value_and_grads(leaves, self.cotangents)[0]]

    def _ends(self, number, u, h):
        """f at both ends of a step along u, and the step as it was made, rounded."""
        ends, moves = [], []
        for sign in (1, -1):
            moved = (self.leaves[number] + (sign * h * u).astype(self.dtype)).astype(self.dtype)
            ends.append(self._values([*self.leaves[:number], moved, *self.leaves[number + 1 :]]))
            moves.append(np.asarray(moved, np.float64))
        return *ends, (moves[0] - moves[1]) / (2 * h)

    def along(self, number, u) -> _Slope:
        """The derivative along u."""
        up, down, made = self._ends(number, u, 1.0)
        with np.errstate(all="ignore"):
            bends = [np.abs(a + b - 2 * y) for a, b, y in zip(up, down, self.y, strict=True)]
            # A step of 1 may leave the domain of f, as that of a logarithm.
            ends = [
                np.where(np.isfinite(a) & np.isfinite(b), np.abs(a) + np.abs(b), 0)
                for a, b in zip(up, down, strict=True)
            ]
            size = [both + s for both, s in zip(ends, self.scales, strict=True)]
            # An odd function at 0 does not bend either: half the step must give half the difference, too.
            up_half, down_half, _ = self._ends(number, u, 0.5)
            bends = [
                np.maximum(bend, np.abs((a - b) - 2 * (c - d)))
                for bend, a, b, c, d in zip(bends, up, down, up_half, down_half, strict=True)
            ]
            affine = all(
                np.all((bend <= C * self.eps * s) | ~np.isfinite(y))
                for bend, s, y in zip(bends, size, self.y, strict=True)
            )
            if affine:
                slopes = [(a - b) / 2 for a, b in zip(up, down, strict=True)]
                known = [np.isfinite(s) for s in slopes]
                bound = [C * self.eps * s for s in size]
            else:
                # A step of 1 may leave the domain of f.
                size = [np.where(np.isfinite(a), a, s) for a, s in zip(size, self.scales, strict=True)]
                slopes, known, bound, made = self._small_step(number, u, size)
        v = [np.where(k, np.asarray(c, np.float64), 0) for k, c in zip(known, self.cotangents, strict=True)]
        grads = self.problem.value_and_grads(self.leaves, tuple(a.astype(self.dtype) for a in v))[1]
        grad = np.asarray(grads[number], np.float64)
        by_rule = float(np.sum(np.where(made != 0, grad * made, 0.0)))
        by_values = math.fsum(float(np.sum(np.where(a != 0, a * s, 0.0))) for a, s in zip(v, slopes, strict=True))
        allowed = sum(float(np.sum(np.where(a != 0, a * b, 0.0) ** 2)) for a, b in zip(v, bound, strict=True)) ** 0.5
        total = sum(k.size for k in known)
        dropped = sum(int(np.count_nonzero(~k)) for k in known) / max(1, total)
        difference = abs(by_rule - by_values)
        return _Slope(difference / (allowed + 1e-300) if difference else 0.0, by_rule, by_values, allowed, dropped)

    def _small_step(self, number, u, size):
        """Central differences; half the step shows how far they may be off, and where there is a kink."""
        leaf = np.asarray(self.leaves[number], np.float64)
        h = _step(self.dtype) * (float(np.sqrt(np.mean(np.where(np.isfinite(leaf), leaf, 0) ** 2))) or 1.0)
        up, down, made = self._ends(number, u, h)
        up_half, down_half, _ = self._ends(number, u, h / 2)
        slopes, known, bound = [], [], []
        for n, y in enumerate(self.y):
            slope, half = (up[n] - down[n]) / (2 * h), (up_half[n] - down_half[n]) / h
            noise = C * self.eps * size[n]
            # Where f is smooth, half the step has a quarter of the second difference; at a kink it has half of it. A
            # kink beside the centre makes the two slopes differ by much more than the curvature does.
            bend, bend_half = np.abs(up[n] + down[n] - 2 * y), np.abs(up_half[n] + down_half[n] - 2 * y)
            kink = (bend_half > 0.35 * bend) & (bend_half > noise)
            kink |= np.abs(slope - half) * h > 0.2 * bend + noise
            slopes.append(slope)
            known.append(np.isfinite(slope) & np.isfinite(half) & ~kink)
            bound.append(4 * np.abs(slope - half) + noise / h)
        return slopes, known, bound, made

    def locate(self, number, u) -> tuple[int, ...]:
        """The element of the argument whose part in the direction is wrong, by halving."""
        chosen = np.arange(u.size)
        while chosen.size > 1:
            halves = np.array_split(chosen, 2)
            errors = []
            for half in halves:
                part = np.zeros(u.size)
                part[half] = u.reshape(-1)[half]
                errors.append(self.along(number, part.reshape(u.shape)).error)
            chosen = halves[int(not errors[0] >= errors[1])]
        return tuple(map(int, np.unravel_index(chosen[0], u.shape)))


# --- second order ---


def second_order(f, *args, reference=None, argnums=None, dtype="float64", seed=0) -> tuple[Check, ...]:
    """grad of grad, jvp of grad and the hessian of the sum of sin(f), against the reference's in float64.

    The hessian is `jax.hessian` where the arguments have up to 64 elements together, and eight of its columns (jvp of
    grad under vmap) beyond.
    """
    return of_second_order(_problem(f, args, reference, argnums, seed), _checked_dtype("dtype", dtype))


_SECOND = ("grad of grad", "hessian", "jvp of grad")


def of_second_order(problem: Problem, dtype: str = "float64") -> tuple[Check, ...]:
    if problem.reference is None:
        return tuple(Check(name, dtype, None, note="there is no reference to compare with") for name in _SECOND)
    size = sum(leaf.size for leaf in problem.leaves)
    rng = np.random.default_rng((problem.seed, 5))
    columns = np.zeros((0, 0))
    if size > 64:
        columns = np.zeros((8, size))
        columns[np.arange(8), rng.choice(size, 8, replace=False)] = 1.0

    def second(f, names=_SECOND):
        return jax.jit(lambda *inputs: _second_derivatives(f, names, *inputs))

    def narrow(arrays, dtype):
        return [a.astype(dtype) for a in arrays]

    with exact():
        tangents, reference = problem.tangents(0), second(problem.best)
        leaves = problem.sample(0, dtype)
        n = len(leaves)

        def truth(dtype) -> dict[str, list[Expected]]:
            inputs = [np.asarray(a, np.float64) for a in (*problem.sample(0, dtype), *narrow(tangents, dtype))]
            results: list = []

            def flat(inputs):
                results[:] = [reference(list(inputs[:n]), list(inputs[n:]), columns)]
                return [np.asarray(a) for a in jax.tree.leaves(results[0])]

            scaled = iter(scale_of_inputs(flat, inputs, ROUNDS))
            return {name: [next(scaled) for _ in jax.tree.leaves(results[0][name])] for name in _SECOND}

        inputs = leaves, narrow(tangents, dtype), columns.astype(dtype)
        expected = truth(dtype)
        try:
            got: dict[str, Any] = second(problem.f)(*inputs)
        except Exception:  # which of them?
            got = {name: _or_exception(lambda name=name: second(problem.f, (name,))(*inputs)[name]) for name in _SECOND}
        # Two rules, one through the other.
        allowed = 2 * allowed_units(dtype, problem.length)
        found = {
            name: compare_all(jax.tree.leaves(got[name]), expected[name], dtype)
            for name in _SECOND
            if not isinstance(got[name], Exception)
        }
        if max((w.worst for w in found.values()), default=0.0) > allowed and problem.best is problem.reference:
            # As for first derivatives: where the reference loses digits, its gradient in float64 loses as many.
            theirs = second(problem.reference)(
                problem.sample(0, "float32"), narrow(tangents, "float32"), columns.astype("float32")
            )
            wide = truth("float32")
            lost = max(compare_all(jax.tree.leaves(theirs[name]), wide[name], "float32").worst for name in _SECOND)
            allowed = max(allowed, 2 * FACTOR * lost) if allowed < lost < math.inf else allowed
    return tuple(_second_check(name, dtype, got[name], found.get(name), allowed, problem.names) for name in _SECOND)


def _or_exception(function: Callable) -> Any:
    try:
        return function()
    except Exception as error:
        return error


def _second_check(name, dtype, got, worst: "_Worst | None", allowed, argument_names) -> Check:
    if worst is not None:
        names = [f"{name}, by {argument_names[n % len(argument_names)]}" for n in range(len(worst.each))]
        return _check(name, dtype, worst.worst <= allowed, worst, allowed, names)
    if name != "grad of grad" and "forward-mode" in str(got):
        note = "JAX has no forward mode through a forward rule that calls the custom_vjp function itself"
        return Check(name, dtype, None, note=note)
    return raised(name, dtype, got)


def _second_derivatives(f, names, leaves, tangents, columns):
    """A dict of the second derivatives of these names; jax.tree keeps it sorted by name, as `_SECOND` is."""
    leaves, everything = tuple(leaves), tuple(range(len(leaves)))
    # The sine's second derivative does not vanish, so that something is left where f is linear.
    scalar = lambda *leaves: sum(jnp.sum(jnp.sin(y)) for y in f(*leaves))  # noqa: E731
    grads = jax.grad(scalar, everything)
    sizes = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def column(flat):
        parts = [part.reshape(a.shape) for part, a in zip(jnp.split(flat, sizes), leaves, strict=True)]
        return jax.jvp(grads, leaves, tuple(parts))[1]

    def grad_of_grad():
        return jax.grad(lambda *leaves: sum(jnp.sum(jnp.sin(g)) for g in grads(*leaves)), everything)(*leaves)

    def hessian():
        return jax.vmap(column)(columns) if columns.size else jax.hessian(scalar, everything)(*leaves)

    ways = {
        "grad of grad": grad_of_grad,
        "hessian": hessian,
        "jvp of grad": lambda: jax.jvp(grads, leaves, tuple(tangents))[1],
    }
    return {name: ways[name]() for name in names}


def raised(name, dtype, error) -> Check:
    return Check(name, dtype, False, math.inf, 0.0, note=f"raised {first_line(error)}")


# --- transformations ---


def transformations(f, *args, reference=None, argnums=None, dtype="float64", transforms=TRANSFORMS, seed=0):
    """A tuple of checks, one per transformation: gradients under it are the gradients of each example by itself.

    "eager" runs without an outer jit; "vmap of grad" over all arguments and over each by itself; "grad of vmap", "scan
    of grad", "grad of scan"; "remat" is grad of `jax.checkpoint`; "shard_map" has examples on two devices, the first
    argument sharded and the others replicated (skipped where there is one device only).
    """
    return of_transformations(
        _problem(f, args, reference, argnums, seed), _checked_dtype("dtype", dtype), _checked_transforms(transforms)
    )


def of_transformations(problem: Problem, dtype: str, transforms: Sequence[str]) -> list[Check]:
    checks = []
    with exact():
        runs = _Runs(problem, dtype)
        for name in transforms:
            if name == "shard_map" and len(jax.devices()) < 2:
                checks.append(Check(name, dtype, None, note="needs two devices (jax_num_cpu_devices=2)"))
                continue
            try:
                checks.append(runs.check(name, *getattr(runs, name.replace(" ", "_"))()))
            except Exception as error:
                checks.append(raised(name, dtype, error))
    return checks


class _Runs:
    """The gradients under each transformation, with what they should be."""

    def __init__(self, problem: Problem, dtype):
        self.problem, self.dtype = problem, dtype
        self.items = [problem.sample(n, dtype) for n in (0, 1)]
        self.cotangents = [problem.cotangents(n, dtype) for n in (0, 1)]
        self.stacks = [np.stack(pair) for pair in zip(*self.items, strict=True)]
        self.cotangent_stacks = tuple(np.stack(pair) for pair in zip(*self.cotangents, strict=True))

    def check(self, name, got, expected) -> Check:
        names = self.problem.gradient_names()
        names = [f"{names[n % len(names)]}" for n in range(len(expected))]
        worst = compare_all(jax.tree.leaves(got), expected, self.dtype)
        return _judged(self.problem, name, self.dtype, worst, names)

    def grads(self, leaves, cotangents):
        return value_and_grads(self.problem.f, leaves, cotangents)[1]

    def one(self, leaves, cotangents) -> list[Expected]:
        """The gradients of one example."""
        if self.problem.reference is not None:
            return self.problem.truth(leaves, cotangents)[1]
        grads = [np.asarray(g, np.float64) for g in self.problem.value_and_grads(leaves, cotangents)[1]]
        return [Expected(g, np.full(g.shape, np.max(np.abs(g), initial=0.0))) for g in grads]

    def each(self) -> list[Expected]:
        """The gradients of each example by itself, stacked."""
        return _stacked([self.one(*item) for item in zip(self.items, self.cotangents, strict=True)])

    def eager(self):
        leaves, cotangents = map(_on_device, (self.items[0], self.cotangents[0]))
        return self.grads(leaves, cotangents), self.one(self.items[0], self.cotangents[0])

    def vmap_of_grad(self):
        got = [jax.jit(jax.vmap(self.grads))(self.stacks, self.cotangent_stacks)]
        expected = self.each()
        count = len(self.stacks)
        for number in range(count) if count > 1 else ():
            axes = [0 if n == number else None for n in range(count)]
            first = [self.stacks[n] if n == number else self.items[0][n] for n in range(count)]
            got.append(jax.jit(jax.vmap(self.grads, (axes, 0)))(first, self.cotangent_stacks))
            mixed = [self.items[1][n] if n == number else self.items[0][n] for n in range(count)]
            pairs = zip((self.items[0], mixed), self.cotangents, strict=True)
            expected += _stacked([self.one(*pair) for pair in pairs])
        return got, expected

    def grad_of_vmap(self):
        mapped = jax.vmap(self.problem.f)
        return jax.jit(lambda s, c: value_and_grads(mapped, s, c)[1])(self.stacks, self.cotangent_stacks), self.each()

    def scan_of_grad(self):
        def grads(stacks, cotangents):
            return lax.scan(lambda _, item: (None, self.grads(*item)), None, (stacks, cotangents))[1]

        return jax.jit(grads)(self.stacks, self.cotangent_stacks), self.each()

    def grad_of_scan(self):
        scanned = lambda *stacks: lax.scan(lambda _, leaves: (None, self.problem.f(*leaves)), None, stacks)[1]  # noqa: E731
        return jax.jit(lambda s, c: value_and_grads(scanned, s, c)[1])(self.stacks, self.cotangent_stacks), self.each()

    def remat(self):
        again = jax.checkpoint(self.problem.f)
        got = jax.jit(lambda a, c: value_and_grads(again, a, c)[1])(self.items[0], self.cotangents[0])
        return got, self.one(self.items[0], self.cotangents[0])

    def donated_buffers(self):
        expected = self.one(self.items[0], self.cotangents[0])
        return jax.jit(self.grads, donate_argnums=(0,))(_on_device(self.items[0]), self.cotangents[0]), expected

    def shard_map(self):
        """The first argument is sharded, the others are replicated: their gradients sum over the devices."""
        mesh = jax.make_mesh((2,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
        specs = [PartitionSpec("devices"), *(PartitionSpec() for _ in self.stacks[1:])]

        def local(leaves, cotangents):
            cotangents = tuple(c[0] for c in cotangents)
            first, *others = value_and_grads(self.problem.f, [leaves[0][0], *leaves[1:]], cotangents)[1]
            return [first[None], *others]

        run = jax.shard_map(local, mesh=mesh, in_specs=(specs, PartitionSpec("devices")), out_specs=specs)
        got = jax.jit(run)([self.stacks[0], *self.items[0][1:]], self.cotangent_stacks)
        items = (self.items[0], [self.items[1][0], *self.items[0][1:]])
        both = [self.one(*pair) for pair in zip(items, self.cotangents, strict=True)]
        sums = [Expected(a.value + b.value, a.scale + b.scale) for a, b in zip(both[0][1:], both[1][1:], strict=True)]
        return got, [*_stacked([[grads[0]] for grads in both]), *sums]


def _on_device(arrays):
    return type(arrays)(map(jnp.asarray, arrays))


def _stacked(items: list[list[Expected]]) -> list[Expected]:
    return [
        Expected(np.stack([e.value for e in same]), np.stack([e.scale for e in same]))
        for same in zip(*items, strict=True)
    ]


# --- edges ---


def edges(cases: Sequence[Edge], dtype: str = "float64") -> list[Check]:
    """A check per special point: NaN where NaN is promised, infinities and zeros exact, the rest to rounding."""
    checks = []
    for case in cases:
        leaves = [np.asarray(a).astype(dtype) if _is_float(a) else np.asarray(a) for a in case.args]
        differentiated = [n for n, a in enumerate(leaves) if _is_float(a)]
        try:
            with exact():
                y, grads = _edge_values(case, leaves, differentiated)
        except Exception as error:
            checks.append(raised(f"edge: {case.convention}", dtype, error))
            continue
        pairs = [("y", y, case.y)]
        if case.gradients is not None:
            if len(case.gradients) != len(grads):
                raise ValueError(
                    f"edge_cases: {case.convention!r} has {len(case.gradients)} gradients, expected {len(grads)}, one "
                    "per floating argument"
                )
            pairs += [(f"gradient {n}", g, e) for n, g, e in zip(differentiated, grads, case.gradients, strict=True)]
        found = []
        for called, got, expected in pairs:
            if expected is not None:
                expected = np.asarray(expected, np.float64)
                found.append((called, compare(got, Expected(expected, np.zeros(expected.shape)), dtype)))
        if not found:
            raise ValueError(f"edge_cases: {case.convention!r} has neither y nor gradients, expected one of them")
        called, worst = max(found, key=lambda pair: pair[1].worst)
        where = f"{called} [{', '.join(map(str, worst.index))}]" if worst.worst else ""
        checks.append(
            Check(
                f"edge: {case.convention}",
                dtype,
                worst.worst <= C,
                worst.worst,
                C,
                "eps",
                where,
                worst.got,
                worst.expected,
            )
        )
    return checks


def _edge_values(case: Edge, leaves, differentiated):
    """The function's result and its gradients."""

    def value_and_gradients(*leaves):
        def of_chosen(*chosen):
            by_number = dict(zip(differentiated, chosen, strict=True))
            return case.function(*[by_number.get(n, leaf) for n, leaf in enumerate(leaves)])

        y, vjp = jax.vjp(of_chosen, *[leaves[n] for n in differentiated])
        return y, vjp(jnp.broadcast_to(jnp.asarray(case.dy, y.dtype), y.shape))

    return jax.jit(value_and_gradients)(*leaves)


def _is_float(a) -> bool:
    return isinstance(a, float) or jnp.issubdtype(getattr(a, "dtype", np.asarray(a).dtype), jnp.floating)


def special_values(problem: Problem, dtype: str) -> list[Check]:
    """What a given reference does at zeros, ties, infinities, NaN and subnormal numbers.

    The value is compared at all of them, the gradients where the arguments are finite.
    """
    tiny = float(jnp.finfo(dtype).tiny)
    variants = {
        "+0 everywhere": (np.zeros_like, True),
        "−0 everywhere": (lambda a: np.full_like(a, -0.0), True),
        "ties": (lambda a: np.clip(np.round(a), -1, 1), True),
        "one +inf": (lambda a: _with_first(a, np.inf), False),
        "one −inf": (lambda a: _with_first(a, -np.inf), False),
        "one NaN": (lambda a: _with_first(a, np.nan), False),
        "subnormal numbers": (lambda a: np.sign(a) * tiny / 2, True),
    }
    checks = []
    cotangents = tuple(np.ones(shape, dtype) for shape in problem.result_shapes)
    allowed = allowed_units(dtype, problem.length)
    names = [*problem.result_names, *problem.gradient_names()]
    for name, (change, finite) in variants.items():
        with exact():
            leaves = [np.asarray(change(np.asarray(a, np.float64))).astype(dtype) for a in problem.leaves]
            y, grads, _ = problem.truth(leaves, cotangents)
            found, found_grads = problem.value_and_grads(leaves, cotangents)
        got, expected = [*found, *(found_grads if finite else ())], [*y, *(grads if finite else ())]
        # Much cancels at such points (the gradient of a norm at equal elements): a convention shows at the size of the
        # array, rounding does not matter.
        with np.errstate(invalid="ignore"):
            sizes = [np.max(np.abs(e.value), initial=1.0, where=np.isfinite(e.value)) for e in expected]
            expected = [
                Expected(e.value, np.nan_to_num(e.scale) + size) for e, size in zip(expected, sizes, strict=True)
            ]
        worst = compare_all(got, expected, dtype)
        checks.append(_check(f"edge: {name}, as the reference", dtype, worst.worst <= allowed, worst, allowed, names))
    return checks


def _with_first(a, value):
    changed = np.array(a, np.float64)
    changed.reshape(-1)[:1] = value
    return changed


# --- determinism, residuals ---


def determinism(f, *args, reference=None, argnums=None, dtype="float64", runs=3, seed=0) -> Check:
    """The same bits at every run of the compiled value and gradients."""
    return of_determinism(_problem(f, args, reference, argnums, seed), _checked_dtype("dtype", dtype), runs)


def of_determinism(problem: Problem, dtype: str, runs: int = 3) -> Check:
    with exact():
        inputs = problem.sample(0, dtype), problem.cotangents(0, dtype)
        first, *others = (
            [np.asarray(a).tobytes() for a in jax.tree.leaves(problem.value_and_grads(*inputs))] for _ in range(runs)
        )
    different = sum(other != first for other in others)
    return Check("determinism", dtype, not different, different, 0, "runs that differ")


def residuals(f, *args, reference=None, argnums=None, dtype="float32", seed=0) -> Check:
    """The bytes that the forward saves for the backward, beside those that autodiff saves. Arguments count.

    It passes: how much is too much is for `details` ("ours", "autodiff") and its reader to say.
    """
    return of_residuals(_problem(f, args, reference, argnums, seed), _checked_dtype("dtype", dtype))


def of_residuals(problem: Problem, dtype: str) -> Check:
    with exact():
        leaves = problem.sample(0, dtype)
        ours = saved_bytes(problem.f, leaves)
        details = {"ours": float(ours)}
        if problem.reference is None:
            return Check("residuals", dtype, True, ours, math.inf, "bytes", details=details)
        theirs = saved_bytes(problem.reference, leaves)
    return Check(
        "residuals", dtype, True, ours, theirs, "bytes (autodiff's)", details={**details, "autodiff": float(theirs)}
    )


def saved_bytes(f: Callable, leaves) -> int:
    """How many bytes `jax.vjp` keeps for the backward of a function."""

    def kept(*leaves):
        residuals = jax.tree.leaves(jax.vjp(f, *leaves)[1])
        return list({id(r): r for r in residuals}.values())

    return sum(math.prod(r.shape) * r.dtype.itemsize for r in jax.eval_shape(kept, *leaves))
