"""What a rounding error may be: the one tolerance, the scale of each element, and the length of the longest sum.

An element g of a gradient is a sum of terms. Computed in a dtype, it is off by

    allowed = C · (eps(dtype) + eps(accumulator) · sqrt(n)) · s

eps(dtype) is for the few roundings of operands, saved values and the result itself; eps(accumulator)·sqrt(n) is for the
sum: the rounding errors of n terms, in any order, add up like a random walk of sqrt(n) steps. bfloat16 and float16 are
to be summed in float32, so that there the second term all but vanishes and a sum made in float16 is found out.

n is the length of the longest sum in the reference (`reduction_length`), not the number of elements: a large array is
allowed no more than a small one. s is the element's own scale, |g| plus its sensitivity: how much g changes, in the
root mean square, for a relative change of 1 of every input and of the cotangent (`scale_of_inputs`). For a sum that is
sqrt(sum of the squared terms), so that cancellation is allowed for where it happens and nowhere else; where nothing
is summed and nothing flows, s is 0, and only 0 will do.

C = 4, for the worst of up to a million elements, some 5 standard deviations of the random walk, and for the few
operations in a chain. What correct gradients measure is a small part of it: the table in README has our largest errors
and autodiff's. A relative error of 1e-4 in float32 is 800 eps, which this finds in sums of some thousand terms.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["C", "FACTOR", "Comparison", "Expected", "allowed_units", "compare", "reduction_length", "scale_of_inputs"]

C = 4

# How many times worse than autodiff's in the same dtype the root mean square of the errors may be.
FACTOR = 4

# An error below this many units of eps(dtype) · s, in the root mean square, is that of the last rounding alone, which
# no implementation is free of: both sides count as having at least this.
ROUNDING = 0.3


def eps_of(dtype) -> float:
    """The distance from 1 to the next number."""
    return float(jnp.finfo(dtype).eps)


def underflow_of(dtype) -> float:
    """Below this a number may become 0: XLA flushes subnormal numbers, but for those of float16."""
    info = jnp.finfo(dtype)
    return float(info.smallest_subnormal if jnp.dtype(dtype) == jnp.float16 else info.tiny)


def allowed_units(dtype, length: int) -> float:
    """The allowed error in units of eps(dtype) · s."""
    accumulator = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
    return C * (1 + eps_of(accumulator) * math.sqrt(max(1, length)) / eps_of(dtype))


@dataclasses.dataclass(frozen=True)
class Expected:
    """What an array should be, in float64, and the scale of each of its elements."""

    value: np.ndarray
    scale: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """How far an array is from what is expected, in units of eps(dtype) · s."""

    worst: float
    index: tuple[int, ...]
    got: float
    expected: float
    squares: float  # the sum of the squared errors
    count: int  # of the elements in that sum
    ulp: float  # the worst error in units in the last place of the expected value, where that is not 0
    relative: float  # the worst relative error
    units: np.ndarray  # every error

    @property
    def rms(self) -> float:
        """The root mean square error, in units of eps(dtype) · s."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


def compare(got, expected: Expected, dtype) -> Comparison:
    """Every element of an array against what is expected; NaN and inf must stand where they are expected."""
    got = np.asarray(got, np.float64)
    value, scale = expected.value, np.where(np.isfinite(expected.scale), expected.scale, 0.0)
    if got.shape != value.shape:
        return Comparison(math.inf, (), math.nan, math.nan, math.inf, 1, math.inf, math.inf, np.full((), math.inf))
    if not got.size:
        return Comparison(0.0, (), math.nan, math.nan, 0.0, 0, 0.0, 0.0, np.zeros(got.shape))
    with np.errstate(all="ignore"):
        finite = np.isfinite(got) & np.isfinite(value)
        same = (got == value) | (np.isnan(got) & np.isnan(value))
        # Where the expected value is beyond the dtype's range, infinity is its rounding.
        largest = float(jnp.finfo(dtype).max)
        same |= (np.abs(value) > largest * (1 - eps_of(dtype))) & (np.abs(got) >= largest) & (got * value > 0)
        error = np.where(same, 0.0, np.where(finite, np.abs(got - value), np.inf))
        eps, floor = eps_of(dtype), underflow_of(dtype)
        units = np.where(error == 0, 0.0, error / (eps * np.maximum(scale, np.abs(np.where(finite, value, 0))) + floor))
        known = finite & (value != 0) & (np.abs(value) >= float(jnp.finfo(dtype).tiny))
        relative = np.where(known, error / np.abs(value), 0.0)
        # The spacing of the dtype at v, 2^e <= |v| < 2^(e+1), is eps · 2^e.
        ulp = np.where(known, error / (eps * np.exp2(np.floor(np.log2(np.abs(np.where(known, value, 1.0)))))), 0.0)
    index = np.unravel_index(np.argmax(units), units.shape)
    counted = np.isfinite(units) & (scale > 0)
    return Comparison(
        worst=float(units[index]),
        index=tuple(map(int, index)),
        got=float(got[index]),
        expected=float(value[index]),
        squares=float(np.sum(np.where(counted, units, 0.0) ** 2)),
        count=int(np.count_nonzero(counted)),
        ulp=float(ulp.max()),
        relative=float(relative.max()),
        units=units,
    )


# The relative size of the perturbation that measures the sensitivities: large against the rounding of float64, small
# against the range of a function's curvature.
STEP = 2.0**-20


def scale_of_inputs(
    function: Callable[[Sequence[np.ndarray]], list[np.ndarray]], inputs, rounds: int
) -> list[Expected]:
    """The function's results, with the scale of every element: |result| plus its sensitivity to relative changes."""
    values = function(inputs)
    squares = [np.zeros(np.shape(v)) for v in values]
    with np.errstate(all="ignore"):
        for number in range(rounds):
            moved = function([_perturbed(a, number) for a in inputs])
            for total, m, v in zip(squares, moved, values, strict=True):
                total += ((m - v) / STEP) ** 2 / rounds
        return [Expected(v, np.abs(v) + np.sqrt(q)) for v, q in zip(values, squares, strict=True)]


def _perturbed(a: np.ndarray, number: int) -> np.ndarray:
    """a · (1 + STEP · sqrt(2) · sin(...)), the sine of a value of its own at each element.

    As the perturbation is a function of the value, and so flat that it keeps the order, equal elements stay equal, 0
    stays 0, and no maximum changes hands.
    """
    if not a.size:
        return a
    finite = np.where(np.isfinite(a), a, 0.0)
    size = float(np.sqrt(np.mean(finite**2))) or 1.0
    pair, quarter = divmod(number, 2)
    # The second of a pair is a quarter of a period ahead: sin² + cos² = 1, so that no element escapes both.
    wave = np.sin((1000.0 + 700.0 * pair) * (finite / size) + 1.0 + 2.0 * pair + quarter * math.pi / 2)
    return np.where(np.isfinite(a), a * (1 + STEP * math.sqrt(2) * wave), a)


def reduction_length(function: Callable, *args) -> int:
    """How many terms the longest sum has that a function makes, from its jaxpr.

    >>> reduction_length(lambda x, w: x @ w, jnp.ones((3, 50)), jnp.ones((50, 7)))
    50
    """
    return max(1, _longest(jax.make_jaxpr(function)(*args)))


def _longest(jaxpr) -> int:
    longest = 1
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name, params = equation.primitive.name, equation.params
        shapes: list[tuple[int, ...]] = [getattr(v.aval, "shape", ()) for v in equation.invars]
        if name == "dot_general":
            ((contracted, _), _) = params["dimension_numbers"]
            terms = math.prod(shapes[0][axis] for axis in contracted)
        elif name == "conv_general_dilated":
            outputs = shapes[1][params["dimension_numbers"].rhs_spec[0]]
            terms = math.prod(shapes[1]) // max(1, int(outputs))
        elif name == "reduce_sum":
            terms = math.prod(shapes[0][axis] for axis in params["axes"])
        elif name in ("reduce_window_sum", "select_and_scatter_add", "select_and_gather_add"):
            terms = math.prod(params["window_dimensions"])
        elif name == "cumsum":
            terms = shapes[0][params["axis"]]
        else:
            inner = [v for p in params.values() for v in (p if isinstance(p, tuple) else (p,))]
            terms = max((_longest(v) for v in inner if hasattr(getattr(v, "jaxpr", v), "eqns")), default=1)
            if name == "scan":
                terms *= params["length"]
        longest = max(longest, terms)
    return longest
