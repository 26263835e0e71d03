"""Wrong versions of the library's rules, one at a time, and which check of `jaxconv.verification` catches each.

A check is itself checked: plant the bug, see it caught. Every `Mutation` replaces internals of jaxconv; `planted` puts
it in place and takes it out again; `caught_by` names the check that finds it.

    with planted(mutation("tie sent twice")):
        ...

Every op is jitted, and jit keeps what it has traced. So `planted` gives each op a rule of fresh functions around the
patched parts, and nothing that was traced with a bug outlives it.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import pkgutil
import types
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import jaxconv
from jaxconv import algorithms
from jaxconv._layout import from_plain, to_plain
from jaxconv._rows import probabilities
from jaxconv.algorithms import reference
from jaxconv.verification import TRANSFORMS, checks
from jaxconv.verification.cases import EDGES, Case, all_cases
from jaxconv.verification.cases.conv import plain_conv
from jaxconv.verification.problem import Problem
from jaxconv.verification.report import Check

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

SPECIAL, SECOND = "special points", "second order"


class Point(NamedTuple):
    """A part of the suite: a case of an op, and a dtype, a transformation or `SECOND`; or the op's `SPECIAL` points."""

    case: str
    part: str


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A planted bug: the right version of each patched part in, the wrong one out.

    `patches` has "module:attribute" as keys, modules counted from jaxconv. `at` is where the suite starts to look, so
    that a bug is found in a second or two; it goes on with the rest where that finds nothing. `elsewhere` says that
    the gradients of another library had this very bug.
    """

    name: str
    op: str
    at: Point
    patches: dict[str, Callable]
    elsewhere: bool = False


# --- Planting. Every op is built as _NAME_primal, _NAME_fwd, _NAME_bwd -> _NAME -> _NAME_jit. ---

_OP_MODULES = (*(f"jaxconv.{info.name}" for info in pkgutil.iter_modules(jaxconv.__path__)), __name__)


@contextlib.contextmanager
def planted(bug: Mutation | None) -> Iterator[None]:
    """The library with a bug (None: with fresh rules, and no bug); afterwards it is as it was."""
    with contextlib.ExitStack() as stack:
        for key, wrong in (bug.patches if bug else {}).items():
            module, _, attribute = key.partition(":")
            module = module if module.startswith("experiments.") else f"jaxconv.{module}"
            path, _, attribute = attribute.rpartition(".")
            owner = pkgutil.resolve_name(f"{module}:{path}")
            stack.enter_context(mock.patch.object(owner, attribute, wrong(getattr(owner, attribute))))
        for name in _OP_MODULES:
            module = pkgutil.resolve_name(f"{name}:")
            for attribute in [attribute for attribute in vars(module) if attribute.endswith("_jit")]:
                fresh = _fresh(module, attribute.removesuffix("_jit"))
                stack.enter_context(mock.patch.object(module, attribute, fresh))
        yield


def _fresh(module, name: str) -> Callable:
    """The op's rule, jitted, of function objects that JAX has never seen."""
    static = getattr(module, name).nondiff_argnums
    primal, fwd, bwd = (getattr(module, f"{name}_{part}") for part in ("primal", "fwd", "bwd"))
    rule = jax.custom_vjp(lambda *args: primal(*args), nondiff_argnums=static)
    rule.defvjp(lambda *args: fwd(*args), lambda *args: bwd(*args))
    return jax.jit(rule, static_argnums=static)


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
    chosen = sorted(cases_of(op).values(), key=lambda case: not (case.thorough or case.quick))
    if op in EDGES:
        yield Point(SPECIAL, "float64")
    for case in chosen:
        yield from (Point(case.name, dtype) for dtype in case.dtypes)
        if case.thorough:
            yield from (Point(case.name, part) for part in (SECOND, *TRANSFORMS))


def run(op: str, point: Point) -> Iterator[Check]:
    """The checks at a point, one after the other; an exception is a check that failed."""
    # The references are plain lax code, which may rely on JAX's promotion.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        if point.case == SPECIAL:
            for edge in EDGES[op]:
                yield from checks.edges([edge], point.part)
            return
        try:
            yield from _checks(cases_of(op)[point.case], point.part)
        except Exception as error:
            yield Check(f"raised {type(error).__name__}", point.part, False, math.inf, note=str(error).splitlines()[0])


def _checks(case: Case, part: str) -> Iterator[Check]:
    problem = Problem(case.function, tuple(case.arguments()), case.reference, truth=case.truth)
    if part == SECOND:
        yield from checks.of_second_order(problem)
    elif part in TRANSFORMS:
        yield from checks.of_transformations(problem, "float64", (part,))
    else:
        yield checks.of_value_and_gradients(problem, part)
        yield checks.of_adjoint_identity(problem, part)
        yield from checks.of_linearity(problem, part)
        yield checks.of_determinism(problem, part)
        if part == "float64":
            yield checks.of_differences(problem)


@functools.cache
def cases_of(op: str) -> dict[str, Case]:
    """The op's cases, but for real layers of more than 10,000 elements."""
    small = [c for c in all_cases() if c.timing is None or sum(map(math.prod, c.shapes)) <= 10_000]
    return {case.name: case for case in (*small, *_MORE_CASES) if case.op == op}


# --- An op of our own: silu, which the library does not have, right here and wrong in a mutation. ---


def _silu_primal(x):
    return x * lax.logistic(x)


_silu = jax.custom_vjp(_silu_primal)


def _silu_fwd(x):
    return _silu_primal(x), x


def _silu_bwd(x, dy):
    # y = x·s with s = sigmoid(x):   dx = dy·s·(1 + x·sigmoid(−x))
    return (dy * lax.logistic(x) * (1 + x * lax.logistic(-x)),)


_silu.defvjp(_silu_fwd, _silu_bwd)
_silu_jit = jax.jit(_silu)


def _summed(op: Callable, *shape: int) -> Callable:
    """A layer's outputs summed over batch and positions, for positive inputs: every term has the same sign."""
    inputs = np.random.default_rng(0).uniform(0.1, 1.1, shape)
    return lambda w, b: jnp.sum(op(jnp.asarray(inputs, w.dtype), w, b), range(len(shape) - 1))


def plain_dense(x, w, b):
    """The dense layer by jax.numpy alone."""
    return jnp.dot(x, w) + b


# Cases that the bugs below need and that jaxconv.verification.cases does not have.
_MORE_CASES = (
    Case(
        "silu",
        "far out",
        lambda x: _silu_jit(x),
        _silu_primal,
        ((6,),),
        inputs=lambda rng, shape: np.asarray([-709.0, -400.0, -20.0, -1.0, 0.5, 30.0]),
        dtypes=("float64",),
    ),
    # Of terms of one sign, so that a narrow sum stops growing; x is no argument, so that dw and db do not drown in dx.
    Case(
        "dense",
        "a sum over 16,384 positive rows",
        _summed(jaxconv.dense, 16_384, 3),
        _summed(plain_dense, 16_384, 3),
        ((3, 4), (4,)),
    ),
    Case(
        "conv",
        "a sum over 10,816 positive positions",
        _summed(jaxconv.conv, 16, 28, 28, 1),
        _summed(lambda x, w, b: plain_conv(x, w) + b, 16, 28, 28, 1),
        ((3, 3, 1, 4), (4,)),
    ),
    Case(
        "global_avg_pool",
        "4,096 positive positions",
        lambda x: jaxconv.global_avg_pool(x),
        lambda x: jnp.mean(x, (1, 2)),
        ((1, 64, 64, 2),),
        inputs=lambda rng, shape: rng.uniform(0.1, 1.1, shape),
    ),
)


# --- What the mutations are made of ---


def _gradient(number: int, change: Callable) -> Callable:
    """A backward rule whose gradient of this number is changed: change(gradient, saved, dy, *what is static)."""

    def wrong(right):
        def backward(*args):
            *static, saved, dy = args
            gradients = list(right(*args))
            gradients[number] = change(gradients[number], saved, dy, *static)
            return tuple(gradients)

        return backward

    return wrong


def _cotangent(change: Callable) -> Callable:
    """A backward rule that is handed change(dy, saved)."""
    return lambda right: lambda *args: right(*args[:-1], change(args[-1], args[-2]))


def _instead(wrong: Callable) -> Callable:
    """Another function altogether."""
    return lambda right: wrong


def _windowed(window, **changes):
    fields = ("input_size", "output_size", "strides", "dilation", "padding")
    return types.SimpleNamespace(**({field: getattr(window, field) for field in fields} | changes))


def _kernel_grad_with(change: Callable) -> dict[str, Callable]:
    """A kernel gradient that reads x through a changed window."""
    return {
        "algorithms:kernel_grad": _instead(reference.kernel_grad),
        "algorithms.reference:read": lambda right: lambda x, window, tap, fill=0.0: right(x, change(window), tap, fill),
    }


def _input_grad_with(change: Callable) -> dict[str, Callable]:
    """An input gradient that places its terms through a changed window."""
    return {
        "algorithms:input_grad": _instead(reference.input_grad),
        "algorithms.reference:place": lambda right: lambda y, window, tap: right(y, change(window), tap),
    }


def _swapped_steps(window):
    return _windowed(window, strides=window.dilation, dilation=window.strides)


def _swapped_padding(window):
    return _windowed(window, padding=tuple((high, low) for low, high in window.padding))


def _symmetric_padding(window):
    return _windowed(window, padding=tuple(((low + high) // 2,) * 2 for low, high in window.padding))


def _ones(field: str) -> Callable:
    return lambda window: _windowed(window, **{field: (1,) * window.ndim})


def _without_last(a, axis: int):
    return jnp.where(lax.broadcasted_iota(np.int32, a.shape, axis) == a.shape[axis] - 1, jnp.zeros((), a.dtype), a)


def _narrow_sum(a, axis: int):
    """A sum in the array's own dtype, term by term: the carry of a loop is not widened behind our back."""
    terms = jnp.moveaxis(a, axis, 0)
    return lax.scan(lambda total, term: (total + term, None), jnp.zeros_like(terms[0]), terms)[0]


def _row_by_row(a, b):
    """sum_m a[m]·b[m], one product after the other, in their own dtype."""
    add = lambda total, pair: (total + pair[0] * pair[1], None)  # noqa: E731
    return lax.scan(add, jnp.zeros_like(a[0] * b[0]), (a, b))[0]


def _groups_transposed(right):
    def input_grad(dy, w, window, groups, precision, dtype):
        per_group = w.reshape(*w.shape[:-1], groups, w.shape[-1] // groups)
        return right(dy, per_group.swapaxes(-1, -2).reshape(w.shape), window, groups, precision, dtype)

    return input_grad


def _groups_and_stride(right):
    def input_grad(dy, w, window, groups, precision, dtype):
        dx = right(dy, w, window, groups, precision, dtype)
        return jnp.roll(dx, groups, -1) if groups > 1 and max(window.strides) > 1 else dx

    return input_grad


def _depthwise_shape(right):
    def input_grad(dy, w, window, groups, precision, dtype):
        dx = right(dy, w, window, groups, precision, dtype)
        return dx[..., : groups // 2] if groups > 1 and w.shape[-2] == 1 else dx

    return input_grad


def _sixteen_bits(right):
    return lambda x, *rest: right(x[np.arange(x.shape[0]) % 2**16] if x.shape[0] else x, *rest)


def _uninitialised(right):
    def kernel_grad(x, dy, *rest):
        dw = right(x, dy, *rest)
        return dw if x.size and dy.size else jnp.full_like(dw, jnp.nan)

    return kernel_grad


def _kernel_grad_narrow(right):
    def kernel_grad(x, dy, window, groups, precision, dtype):
        rows = math.prod(dy.shape[:-1])
        if groups > 1 or not rows:
            return right(x, dy, window, groups, precision, dtype)
        views = [reference.read(x, window, i).reshape(rows, 1, x.shape[-1], 1) for i in window.taps()]
        dw = _row_by_row(jnp.concatenate(views, 1), dy.reshape(rows, 1, 1, dy.shape[-1]))
        return dw.reshape(*window.window_size, x.shape[-1], dy.shape[-1]).astype(dtype)

    return kernel_grad


def _fortran(dx):
    return dx.reshape(-1).reshape(dx.shape[::-1]).transpose()


def _db_of_last_axis(db, saved, dy, call):
    """Right for channels_last alone, where it sums all axes but the last."""
    wrong = jnp.sum(dy, range(dy.ndim - 1))
    return jnp.resize(wrong, db.shape).astype(db.dtype)


def _dx_reshaped(dx, saved, dy, call):
    """channels_first restored by a reshape where a transposition was due."""
    if not call.layout.channels_first:
        return dx
    return to_plain(call.layout, dx).reshape(dx.shape)


# An identity whose batching is wrong. JAX cannot tell a rule that it is mapped over; a primitive is told.
_reversed_batch = Primitive("reversed_batch")
_reversed_batch.def_impl(lambda x: x)
_reversed_batch.def_abstract_eval(lambda x: x)
mlir.register_lowering(_reversed_batch, lambda context, x: [x])
ad.deflinear2(_reversed_batch, lambda cotangent, _: [_reversed_batch.bind(cotangent)])
batching.primitive_batchers[_reversed_batch] = lambda args, axes: (
    _reversed_batch.bind(jnp.flip(args[0], axes[0])),
    axes[0],
)


@jax.custom_jvp
def _tangent_reversed(x):
    """An identity whose tangent is wrong, and only under vmap."""
    return x


_tangent_reversed.defjvp(lambda primals, tangents: (primals[0], _reversed_batch.bind(tangents[0])))


@jax.custom_jvp
def _held_constant(x):
    """What lax.stop_gradient does; chex puts another function in that one's place."""
    return x


_held_constant.defjvp(lambda primals, tangents: (primals[0], jnp.zeros_like(tangents[0])))


def _strided_dx(dx, saved, dy, call):
    strided = max(call.window.strides) > 1 and not call.layout.channels_first
    return _tangent_reversed(dx) if strided else dx


_runs = itertools.count()


def _jittered(dx, saved, dy, *static):
    last_bits = jax.pure_callback(
        lambda: np.float64(1 + next(_runs) % 3 * 2**-52), jax.ShapeDtypeStruct((), np.float64)
    )
    return dx * last_bits.astype(dx.dtype)


def _written_once(first: bool) -> Callable:
    """The gradient of a maximum where a position that won in several windows keeps one of their cotangents."""

    def extremum_grad(dy, tap, window):
        shape = (dy.shape[0], *window.input_size, dy.shape[-1])
        dx, written = jnp.zeros(shape, dy.dtype), jnp.zeros(shape, bool)
        for number, i in enumerate(window.taps()):
            won = tap == number
            here = reference.place(won, window, i)
            term = reference.place(jnp.where(won, dy, jnp.zeros((), dy.dtype)), window, i)
            dx = jnp.where(here & ~written if first else here, term, dx)
            written |= here
        return dx

    return extremum_grad


def _all_ties(largest, call, x):
    x_ = to_plain(call.layout, x)
    y, _ = algorithms.extremum(x_, call.window, largest)
    return from_plain(call.layout, x.shape, y), (x_, y)


def _to_all_ties(largest, call, saved, dy):
    x_, y = saved
    dy_ = to_plain(call.layout, dy)
    fill = -jnp.inf if largest else jnp.inf
    won = [jnp.equal(reference.read(x_, call.window, i, fill), y) for i in call.window.taps()]
    terms = [jnp.where(w, dy_, jnp.zeros((), dy.dtype)) for w in won]
    dx = sum(reference.place(t, call.window, i) for t, i in zip(terms, call.window.taps(), strict=True))
    return (from_plain(call.layout, dy.shape, dx),)


def _nan_dropped(right):
    return lambda x, window, largest: right(
        jnp.where(jnp.isnan(x), jnp.asarray(-jnp.inf if largest else jnp.inf, x.dtype), x), window, largest
    )


def _not_guarded(divisor, call, a):
    if divisor == "one":
        return a
    counts = [call.window.counts(axis, divisor == "padded") for axis in range(call.window.ndim)]
    count = jnp.asarray(functools.reduce(np.multiply.outer, counts), a.dtype)
    return a / lax.broadcast_in_dim(count, a.shape, range(1, a.ndim - 1))


def _whole_window(right):
    """Divides by the whole window, whether or not the padding counts and the window hangs over the end."""
    return lambda divisor, call, saved, dy: right("one", call, saved, dy / call.window.tap_count)


def _tie_shared(largest, call, winner, dy):
    n, positions, channels = call.flat_shape
    dx = jnp.broadcast_to(dy.reshape(n, 1, channels) / positions, call.flat_shape)
    return (call.restored(dx),)


def _dw_row_by_row(dtype=None) -> Callable:
    """[C x N] · [N x K] as a sum over rows, one after the other, in this dtype, or the operands'."""

    def change(dw, saved, dy, call):
        x, rows = saved[0], math.prod(dy.shape[:-1])
        x_, dy_ = x.reshape(rows, -1, 1), dy.reshape(rows, 1, dy.shape[-1])
        return _row_by_row(x_.astype(dtype or x.dtype), dy_.astype(dtype or x.dtype)).astype(dw.dtype)

    return change


def _global_avg_narrow(divisor, call, x):
    flat = to_plain(call.layout, x).reshape(call.flat_shape)
    return (_narrow_sum(flat, 1) / divisor).reshape(call.output_shape)


def _narrow_normaliser(x, axis, mask=None):
    largest = jnp.max(x, axis, keepdims=True)
    return largest, jnp.expand_dims(_narrow_sum(jnp.exp(x - largest), axis[0]), axis)


def _soft_bwd(call, saved, dloss, *, mass=None, normaliser=1.0):
    """The rule of softmax_cross_entropy, with the parts that can be forgotten as options."""
    logits, labels, _, _, largest, rest, right_mass = saved
    total = 1 + rest
    dloss = jnp.expand_dims(dloss, call.axis).astype(total.dtype)
    p = probabilities(logits, largest, total, right_mass if mass is None else mass)
    dlogits = (p - labels.astype(total.dtype)) * dloss
    dlabels = (jnp.log(total) * normaliser + largest - logits.astype(total.dtype)) * dloss
    return dlogits.astype(logits.dtype), dlabels.astype(labels.dtype), None, None


def _hard_unguarded(call, saved, dloss):
    logits, labels, _, _, largest, _, rest, _ = saved
    axis, total = call.axis, 1 + rest
    target = jnp.clip(jnp.expand_dims(labels, axis), 0, logits.shape[axis[0]] - 1)
    is_target = lax.broadcasted_iota(labels.dtype, logits.shape, axis[0]) == target
    dlogits = probabilities(logits, largest, total) - is_target.astype(total.dtype)
    return (dlogits * jnp.expand_dims(dloss, axis).astype(total.dtype)).astype(logits.dtype), None, None, None


def _silu_naive(x, dy):
    # Written in e = exp(−x), which squared is beyond float64 from x = −355 on.
    e = jnp.exp(-x)
    return (dy * (1 + e + x * e) / ((1 + e) * (1 + e)),)


# --- The table ---

_EVERY = Point("every option", "float64")
_GROUPS = "groups and stride"
_EDGE = Point(SPECIAL, "float64")
_NORMAL = Point("normal inputs", "float64")
_ROWS = Point("rows", "float64")
_BIASED = "bias, two batch axes"
_LONG = "a sum over 16,384 positive rows"

MUTATIONS = (
    # Convolution: the geometry.
    Mutation(
        "kernel not flipped in conv_input_grad",
        "conv",
        _EVERY,
        {
            "algorithms:input_grad": lambda right: (
                lambda dy, w, window, *rest: right(dy, lax.rev(w, range(window.ndim)), window, *rest)
            )
        },
    ),
    Mutation("stride and dilation swapped in the kernel gradient", "conv", _EVERY, _kernel_grad_with(_swapped_steps)),
    Mutation("stride and dilation swapped in the input gradient", "conv", _EVERY, _input_grad_with(_swapped_steps)),
    Mutation("padding low and high swapped in the input gradient", "conv", _EVERY, _input_grad_with(_swapped_padding)),
    Mutation("kernel gradient right only for symmetric padding", "conv", _EVERY, _kernel_grad_with(_symmetric_padding)),
    Mutation("input gradient right only for stride 1", "conv", _EVERY, _input_grad_with(_ones("strides"))),
    Mutation("kernel gradient right only for dilation 1", "conv", _EVERY, _kernel_grad_with(_ones("dilation"))),
    Mutation(
        "one tap dropped in the input gradient",
        "conv",
        _EVERY,
        {"algorithms:input_grad": lambda right: lambda dy, w, *rest: right(dy, _without_last(w, 0), *rest)},
    ),
    Mutation(
        "last output row missed in the kernel gradient",
        "conv",
        _EVERY,
        {"algorithms:kernel_grad": lambda right: lambda x, dy, *rest: right(x, _without_last(dy, 1), *rest)},
    ),
    Mutation(
        "groups transposed: input gradient right only for groups=1",
        "conv",
        _EVERY,
        {"algorithms:input_grad": _groups_transposed},
    ),
    Mutation(
        "dx wrong only when groups > 1 and stride > 1",
        "conv",
        Point(_GROUPS, "float64"),
        {"algorithms:input_grad": _groups_and_stride},
        elsewhere=True,
    ),
    Mutation(
        "depthwise dx of wrong shape",
        "conv",
        Point("depthwise, multiplier 2", "float64"),
        {"algorithms:input_grad": _depthwise_shape},
        elsewhere=True,
    ),
    Mutation(
        "flip_kernel forgotten in the kernel gradient",
        "conv",
        _EVERY,
        {
            "conv:_conv_bwd": _gradient(
                1, lambda dw, saved, dy, call: lax.rev(dw, range(dw.ndim - 2)) if call.flip_kernel else dw
            )
        },
    ),
    Mutation(
        "channels_first transposed wrongly in the backward",
        "conv",
        _EVERY,
        {"conv:_conv_bwd": _gradient(0, _dx_reshaped)},
    ),
    # Convolution: the sums.
    Mutation(
        "bias summed over all axes but the last", "conv", _EVERY, {"conv:_conv_bwd": _gradient(2, _db_of_last_axis)}
    ),
    Mutation(
        "bias of the first example alone",
        "conv",
        _EVERY,
        {"conv:_conv_bwd": _gradient(2, lambda db, saved, dy, call: jnp.sum(dy[0], range(1, dy.ndim - 1)))},
    ),
    Mutation(
        "dw averaged over the batch",
        "conv",
        _EVERY,
        {"conv:_conv_bwd": _gradient(1, lambda dw, saved, dy, call: dw / dy.shape[0])},
    ),
    Mutation(
        "dx too large by 1e-4 in float32",
        "conv",
        Point("every option", "float32"),
        {"conv:_conv_bwd": _gradient(0, lambda dx, saved, dy, call: dx * (1 + 1e-4) if dx.dtype == np.float32 else dx)},
    ),
    Mutation(
        "dw too small by 1e-4 in float32",
        "conv",
        Point("every option", "float32"),
        {"conv:_conv_bwd": _gradient(1, lambda dw, saved, dy, call: dw * (1 - 1e-4) if dw.dtype == np.float32 else dw)},
    ),
    Mutation(
        "kernel gradient added up in the narrow dtype",
        "conv",
        Point("a sum over 10,816 positive positions", "bfloat16"),
        {"algorithms:kernel_grad": _kernel_grad_narrow},
    ),
    Mutation(
        "dw wrong for batches of 65,536 and more",
        "conv",
        Point("65,537 examples", "float64"),
        {"algorithms:kernel_grad": _sixteen_bits},
        elsewhere=True,
    ),
    Mutation(
        "dw uninitialised for an empty batch", "conv", _EDGE, {"algorithms:kernel_grad": _uninitialised}, elsewhere=True
    ),
    # Convolution: second derivatives and transformations.
    Mutation(
        "dx held constant in w: wrong only in second derivatives",
        "conv",
        Point(_GROUPS, SECOND),
        {"conv:input_grad_form": lambda right: lambda call, dy, w, dtype: right(call, dy, _held_constant(w), dtype)},
    ),
    Mutation(
        "channels-last strided inputs under vmap of jvp of vjp",
        "conv",
        Point(_GROUPS, SECOND),
        {"conv:_conv_bwd": _gradient(0, _strided_dx)},
        elsewhere=True,
    ),
    Mutation(
        "conv_input_grad's rule with dw negated",
        "conv_input_grad",
        _EVERY,
        {"conv:_conv_input_grad_bwd": _gradient(1, lambda dw, saved, ddx, call: -dw)},
    ),
    Mutation(
        "conv_kernel_grad's rule without flip_kernel",
        "conv_kernel_grad",
        _EVERY,
        {
            "conv:_conv_kernel_grad_bwd": lambda right: (
                lambda call, saved, ddw: right(dataclasses.replace(call, flip_kernel=False), saved, ddw)
            )
        },
    ),
    # Max and min pooling.
    Mutation(
        "tie sent twice",
        "max_pool",
        _EDGE,
        {"pool:_extremum_fwd": _instead(_all_ties), "pool:_extremum_bwd": _instead(_to_all_ties)},
    ),
    Mutation(
        "overlapping max-pool windows credited once",
        "max_pool",
        _EDGE,
        {"algorithms:extremum_grad": _instead(_written_once(True))},
        elsewhere=True,
    ),
    Mutation(
        "last write wins where windows overlap",
        "max_pool",
        Point("stride 1", "float64"),
        {"algorithms:extremum_grad": _instead(_written_once(False))},
        elsewhere=True,
    ),
    Mutation(
        "NaN dropped by max pooling",
        "max_pool",
        _EDGE,
        {"algorithms:extremum": _nan_dropped, "algorithms:extremum_value": _nan_dropped},
        elsewhere=True,
    ),
    Mutation(
        "padding wins a tie",
        "max_pool",
        _EDGE,
        {"geometry:Window.first_inside": _instead(lambda window, axis: [0] * window.output_size[axis])},
    ),
    Mutation(
        "tap number in a byte beyond 255 taps",
        "max_pool",
        Point("289 taps", "float64"),
        {"algorithms.taps:tap_dtype": _instead(lambda window: jnp.uint8)},
    ),
    Mutation(
        "min pooling with the sign of max pooling of -x",
        "min_pool",
        _EVERY,
        {"pool:_extremum_bwd": _gradient(0, lambda dx, saved, dy, largest, call: dx if largest else -dx)},
    ),
    Mutation(
        "gradient clipped: not linear in the cotangent",
        "min_pool",
        _EVERY,
        {"pool:_extremum_bwd": _cotangent(lambda dy, saved: jnp.clip(dy, -1, 1))},
    ),
    # Sums and averages.
    Mutation(
        "average divided by the whole window, whatever counts", "avg_pool", _EVERY, {"pool:_sum_bwd": _whole_window}
    ),
    Mutation(
        "count_include_pad inverted in the backward",
        "avg_pool",
        _EVERY,
        {
            "pool:_sum_bwd": lambda right: (
                lambda divisor, *rest: right("padded" if divisor == "input" else "input", *rest)
            )
        },
    ),
    Mutation(
        "a window wholly inside the padding: 0/0",
        "avg_pool",
        _EDGE,
        {"pool:_divided": _instead(_not_guarded)},
        elsewhere=True,
    ),
    Mutation(
        "average added up in the narrow dtype",
        "global_avg_pool",
        Point("4,096 positive positions", "bfloat16"),
        {"pool_global:_global_sum_primal": _instead(_global_avg_narrow)},
    ),
    Mutation(
        "last output row missed in sum pooling",
        "sum_pool",
        _EVERY,
        {"algorithms:window_sum_grad": lambda right: lambda dy, window: right(_without_last(dy, 1), window)},
    ),
    Mutation(
        "global average divided by the batch, too",
        "global_avg_pool",
        _EVERY,
        {"pool_global:_global_sum_bwd": _cotangent(lambda dy, saved: dy / dy.shape[0])},
    ),
    Mutation(
        "global maximum shared by all positions",
        "global_max_pool",
        _EVERY,
        {"pool_global:_global_extremum_bwd": _instead(_tie_shared)},
    ),
    Mutation(
        "the last of equal maxima wins",
        "global_max_pool",
        _EDGE,
        {
            "pool_global:_global_extremum_fwd": lambda right: (
                lambda largest, call, x: (
                    right(largest, call, x)[0],
                    call.flat_shape[1]
                    - 1
                    - right(largest, call, call.restored(to_plain(call.layout, x).reshape(call.flat_shape)[:, ::-1]))[
                        1
                    ],
                )
            )
        },
    ),
    # Activations.
    Mutation(
        "relu's gradient 1 at 0",
        "relu",
        _EDGE,
        {"activation:_relu_fwd": _instead(lambda x: (lax.max(x, jnp.zeros((), x.dtype)), x >= 0))},
    ),
    Mutation(
        "backward wrong only under vmap",
        "relu",
        Point("normal inputs", "vmap of grad"),
        {"activation:_relu_bwd": _gradient(0, lambda dx, saved, dy: _reversed_batch.bind(dx))},
    ),
    Mutation(
        "leaky_relu's kink from the other side",
        "leaky_relu",
        _EDGE,
        {"activation:_leaky_relu_fwd": lambda right: lambda slope, x: (right(slope, x)[0], x > 0)},
    ),
    Mutation(
        "not the same bits at every run", "leaky_relu", _NORMAL, {"activation:_leaky_relu_bwd": _gradient(0, _jittered)}
    ),
    Mutation(
        "sigmoid' exactly 0 for x > 17 in float32: y·(1 − y)",
        "sigmoid",
        Point("whole range", "float64"),
        {"activation:_sigmoid_bwd": _instead(lambda x, dy: (dy * lax.logistic(x) * (1 - lax.logistic(x)),))},
        elsewhere=True,
    ),
    Mutation(
        "sigmoid returns float32 for bfloat16",
        "sigmoid",
        Point("normal inputs", "bfloat16"),
        {"activation:_sigmoid_primal": lambda right: lambda x: right(x).astype(jnp.promote_types(x.dtype, np.float32))},
    ),
    Mutation(
        "tanh' as 1 - |y|",
        "tanh",
        _NORMAL,
        {"activation:_tanh_bwd": _instead(lambda x, dy: (dy * (1 - jnp.abs(jnp.tanh(x))),))},
    ),
    Mutation(
        "tanh held constant in x: wrong only in second derivatives",
        "tanh",
        Point("normal inputs", SECOND),
        {"activation:_tanh_bwd": lambda right: lambda saved, dy: right(_held_constant(saved), dy)},
    ),
    Mutation(
        "softmax without the sum",
        "softmax",
        _ROWS,
        {"softmax:_softmax_bwd": _instead(lambda axis, saved, dy: (saved[0] * dy, None))},
    ),
    Mutation(
        "softmax's sum in the narrow dtype",
        "softmax",
        Point("ImageNet classes", "bfloat16"),
        {"softmax:row_normaliser": _instead(_narrow_normaliser)},
    ),
    Mutation(
        "log_softmax not multiplied by the sum of dy",
        "log_softmax",
        _ROWS,
        {
            "softmax:_log_softmax_bwd": _instead(
                lambda axis, saved, dy: (dy - probabilities(*saved[:3]).astype(dy.dtype), None)
            )
        },
    ),
    # Dense, flatten.
    Mutation(
        "dw transposed when square",
        "dense",
        Point("square", "float64"),
        {"linear:_dense_bwd": _gradient(1, lambda dw, saved, dy, call: dw.T if dw.shape[0] == dw.shape[1] else dw)},
    ),
    Mutation(
        "dense bias summed over the first batch axis alone",
        "dense",
        Point(_BIASED, "float64"),
        {
            "linear:_dense_bwd": _gradient(
                2,
                lambda db, saved, dy, call: db if db is None or dy.ndim < 3 else jnp.sum(dy[:, 0], range(dy.ndim - 2)),
            )
        },
    ),
    Mutation(
        "dense held constant in x: wrong only in second derivatives",
        "dense",
        Point(_BIASED, SECOND),
        {
            "linear:_dense_bwd": lambda right: (
                lambda call, saved, dy: right(call, (_held_constant(saved[0]), *saved[1:]), dy)
            )
        },
    ),
    Mutation(
        "bias summed in float16",
        "dense",
        Point(_LONG, "float16"),
        {
            "linear:_dense_bwd": _gradient(
                2, lambda db, saved, dy, call: None if db is None else _narrow_sum(dy.reshape(-1, dy.shape[-1]), 0)
            )
        },
    ),
    Mutation(
        "dw carried in bfloat16 over a long sum",
        "dense",
        Point(_LONG, "bfloat16"),
        {"linear:_dense_bwd": _gradient(1, _dw_row_by_row())},
        elsewhere=True,
    ),
    Mutation(
        "dw carried in float32 over a long sum",
        "dense",
        Point(_LONG, "float32"),
        {"linear:_dense_bwd": _gradient(1, _dw_row_by_row())},
        elsewhere=True,
    ),
    Mutation(
        "dw of float64 carried in float32",
        "dense",
        Point(_BIASED, "float64"),
        {"linear:_dense_bwd": _gradient(1, _dw_row_by_row(np.float32))},
        elsewhere=True,
    ),
    Mutation(
        "operands not made to vary alike in shard_map",
        "dense",
        Point(_BIASED, "shard_map"),
        {"_arguments:varying_alike": _instead(lambda *arrays: list(arrays))},
    ),
    Mutation(
        "flatten's backward in column-major order",
        "flatten",
        Point("image", "float64"),
        {"linear:_flatten_bwd": _gradient(0, lambda dx, saved, dy, shape, batch_ndim: _fortran(dx))},
    ),
    # Losses.
    Mutation(
        "softmax - target without the cotangent",
        "softmax_cross_entropy",
        _ROWS,
        {"loss:_soft_bwd": _cotangent(lambda dloss, saved: jnp.ones_like(dloss))},
    ),
    Mutation(
        "labels taken to sum to 1",
        "softmax_cross_entropy",
        _ROWS,
        {"loss:_soft_bwd": _instead(functools.partial(_soft_bwd, mass=1.0))},
    ),
    Mutation(
        "dlabels without log p's normaliser",
        "softmax_cross_entropy",
        _ROWS,
        {"loss:_soft_bwd": _instead(functools.partial(_soft_bwd, normaliser=0.0))},
    ),
    Mutation(
        "gradient of a mean over the batch",
        "softmax_cross_entropy_with_integer_labels",
        _ROWS,
        {"loss:_hard_bwd": _cotangent(lambda dloss, saved: dloss / max(1, dloss.size))},
    ),
    Mutation(
        "a label that is no class clipped",
        "softmax_cross_entropy_with_integer_labels",
        _EDGE,
        {"loss:_hard_bwd": _instead(_hard_unguarded)},
    ),
    # An op that the library does not have.
    Mutation(
        "silu' not finite at -709",
        "silu",
        Point("far out", "float64"),
        {"experiments.planted_bugs:_silu_bwd": _instead(_silu_naive)},
        elsewhere=True,
    ),
)


def mutation(name: str) -> Mutation:
    """The mutation of this name."""
    return next(bug for bug in MUTATIONS if bug.name == name)
