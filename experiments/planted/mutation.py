"""What a planted bug is, and what the tables of them are written with."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxconv.verification.suite import SPECIAL

__all__ = [
    "EDGE",
    "EVERY",
    "NORMAL",
    "ROWS",
    "Mutation",
    "Point",
    "cotangent",
    "gradient",
    "held_constant",
    "instead",
    "narrow_sum",
    "reversed_batch",
    "row_by_row",
    "without_last",
]


class Point(NamedTuple):
    """A part of the suite: a case of an op, and one of the case's parts; or the op's `SPECIAL` points, and a dtype."""

    case: str
    part: str


EVERY = Point("every option", "float64")
EDGE = Point(SPECIAL, "float64")
NORMAL = Point("normal inputs", "float64")
ROWS = Point("rows", "float64")


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A planted bug: the right version of each patched part in, the wrong one out.

    `patches` has "module:attribute" as keys, modules counted from jaxconv. `at` is where the suite starts to look, so
    that a bug is found in a second or two; it goes on with the rest where that finds nothing. `elsewhere` says that
    the gradients of another library had this very bug (beside it, the thread on GitHub that says so), `raises` that the
    op raises with it.
    """

    name: str
    op: str
    at: Point
    patches: dict[str, Callable]
    elsewhere: bool = False
    raises: bool = False


def gradient(number: int, change: Callable) -> Callable:
    """A backward rule whose gradient of this number is changed: change(gradient, saved, dy, *what is static)."""

    def wrong(right):
        def backward(*args):
            *static, saved, dy = args
            gradients = list(right(*args))
            gradients[number] = change(gradients[number], saved, dy, *static)
            return tuple(gradients)

        return backward

    return wrong


def cotangent(change: Callable) -> Callable:
    """A backward rule that is handed change(dy, saved)."""
    return lambda right: lambda *args: right(*args[:-1], change(args[-1], args[-2]))


def instead(wrong: Any) -> Callable:
    """Another function, or property, altogether."""
    return lambda right: wrong


def without_last(a, axis: int):
    """The array with zeros in the last place of an axis."""
    return jnp.where(lax.broadcasted_iota(np.int32, a.shape, axis) == a.shape[axis] - 1, jnp.zeros((), a.dtype), a)


def narrow_sum(a, axis: int):
    """A sum in the array's own dtype, term by term: the carry of a loop is not widened behind our back."""
    terms = jnp.moveaxis(a, axis, 0)
    return lax.scan(lambda total, term: (total + term, None), jnp.zeros_like(terms[0]), terms)[0]


def row_by_row(a, b):
    """sum_m a[m]·b[m], one product after the other, in their own dtype."""
    add = lambda total, pair: (total + pair[0] * pair[1], None)  # noqa: E731
    return lax.scan(add, jnp.zeros_like(a[0] * b[0]), (a, b))[0]


@jax.custom_jvp
def held_constant(x):
    """What lax.stop_gradient does; chex puts another function in that one's place."""
    return x


held_constant.defjvp(lambda primals, tangents: (primals[0], jnp.zeros_like(tangents[0])))


# An identity whose batching is wrong. JAX cannot tell a rule that it is mapped over; a primitive is told.
reversed_batch = Primitive("reversed_batch")
reversed_batch.def_impl(lambda x: x)
reversed_batch.def_abstract_eval(lambda x: x)
mlir.register_lowering(reversed_batch, lambda context, x: [x])
ad.deflinear2(reversed_batch, lambda cotangent, _: [reversed_batch.bind(cotangent)])
batching.primitive_batchers[reversed_batch] = lambda args, axes: (
    reversed_batch.bind(jnp.flip(args[0], axes[0])),
    axes[0],
)
