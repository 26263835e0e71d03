"""Cases of softmax and what goes with it."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, inf, nan, positive, times
from jaxconv.verification.checks import Edge

# Rows with all entries, some, one and none.
MASK = np.asarray([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], bool)


def _plain_softmin(x, axis: Any = -1, where=None):
    return jax.nn.softmax(-x, axis, where)


def _noise(x):
    return jax.random.gumbel(jax.random.key(3), x.shape, jnp.float32).astype(x.dtype)


def cases() -> list[Case]:
    """The cases of this module's ops."""
    cases = []
    for name, plain in (("softmax", jax.nn.softmax), ("log_softmax", jax.nn.log_softmax), ("softmin", _plain_softmin)):
        ours = getattr(jaxconv, name)
        for case, shape, axis, factor, thorough in (
            ("rows", (3, 5), -1, 2.0, True),
            ("leading axis", (4, 3, 2), 0, 2.0, False),
            ("two axes", (3, 2, 4), (0, -1), 2.0, False),
            ("one class", (4, 1), -1, 1.0, False),
            ("one row, no batch axis", (7,), 0, 1.0, False),
            ("far apart", (6, 5), -1, 6.0, False),
            ("ImageNet classes", (4, 1000), -1, 1.0, False),
        )[: 1 if name == "softmin" else None]:  # softmin is softmax of −x
            cases.append(
                Case(
                    name,
                    case,
                    lambda x, ours=ours, axis=axis: ours(x, axis),
                    lambda x, plain=plain, axis=axis: plain(x, axis),
                    (shape,),
                    inputs=times(factor),
                    thorough=thorough,
                    quick=thorough,
                    timing=((512, 1000),) if shape == (4, 1000) else None,
                )
            )
        cases.append(
            Case(
                name,
                "with a mask",
                # What is left out of log_softmax is −inf: no sine is left of that, in the check of second derivatives.
                lambda x, ours=ours: jnp.where(MASK, ours(x, where=MASK), 0),
                lambda x, plain=plain: jnp.where(MASK, plain(x, where=MASK), 0),
                ((4, 5),),
                inputs=times(2.0),
                thorough=name != "softmin",
                quick=True,
                dtypes=("float64", "float32"),
            )
        )
    some = MASK.any(-1)
    for name, axes in (("logsumexp", ((-1,), (0, 2))), ("logmeanexp", ((-1,), (1,)))):
        ours, plain = getattr(jaxconv, name), getattr(jax.nn, name)
        for case, shape, axis, keepdims, thorough in (
            ("rows", (3, 5), axes[0], False, True),
            ("other axes", (3, 2, 4), axes[1], True, False),
        ):
            cases.append(
                Case(
                    name,
                    case,
                    lambda x, ours=ours, axis=axis, keep=keepdims: ours(x, axis, keepdims=keep),
                    lambda x, plain=plain, axis=axis, keep=keepdims: plain(x, axis, keepdims=keep),
                    (shape,),
                    inputs=times(2.0),
                    thorough=thorough,
                    quick=thorough,
                )
            )
        cases.append(
            Case(
                name,
                "with a mask",
                lambda x, ours=ours: jnp.where(some, ours(x, -1, where=MASK), 0),
                lambda x, plain=plain: jnp.where(some, plain(x, -1, where=MASK), 0),
                ((4, 5),),
                inputs=times(2.0),
                thorough=True,
                quick=True,
                dtypes=("float64", "float32"),
            )
        )
    cases.append(
        Case(
            "logsumexp",
            "with factors of either sign",
            lambda a, b: jaxconv.logsumexp(a, (0, 2), b, return_sign=True)[0],
            lambda a, b: jax.nn.logsumexp(a, (0, 2), jnp.broadcast_to(b, a.shape), return_sign=True)[0],
            ((3, 2, 4), (2, 1)),
            thorough=True,
            quick=True,
        )
    )
    for case, shape, axis, thorough in (("rows", (3, 5), -1, True), ("leading axis", (4, 3, 2), 0, False)):
        cases.append(
            Case(
                "gumbel_softmax",
                case,
                lambda x, t, axis=axis: jaxconv.gumbel_softmax(jax.random.key(3), x, t, axis=axis),
                lambda x, t, axis=axis: jax.nn.softmax((x + _noise(x)) / jnp.broadcast_to(t, x.shape), axis),
                (shape, ()),
                inputs=positive,
                thorough=thorough,
                quick=thorough,
            )
        )
    return cases


def _masked(op: str):
    return lambda x: getattr(jaxconv, op)(x, where=np.asarray([[True, False, True], [False] * 3]))


# A row with NaN where it is left out, and one that is left out as a whole; nothing is asked of dy there.
_MASKED_X = np.asarray([[0.0, nan, 0.0], [1.0, inf, nan]])
_MASKED_DY = np.asarray([[0.0, inf, 1.0], [nan, nan, nan]])

EDGES: dict[str, tuple[Edge, ...]] = {
    "softmax": (
        Edge(
            "what the mask leaves out is 0, and says nothing",
            _masked("softmax"),
            (_MASKED_X,),
            np.asarray([[0.5, 0, 0.5], [0, 0, 0]]),
            (np.asarray([[-0.25, 0, 0.25], [0, 0, 0]]),),
            _MASKED_DY,
        ),
        Edge("equal entries", jaxconv.softmax, (np.zeros(4),), np.full(4, 0.25), (np.zeros(4),)),
        Edge(
            "−inf is 0",
            jaxconv.softmax,
            (np.asarray([0.0, -inf, 0.0]),),
            np.asarray([0.5, 0, 0.5]),
            (np.asarray([-0.25, 0, 0.25]),),
            np.asarray([0.0, 1.0, 1.0]),
        ),
        Edge(
            "nothing but −inf: NaN",
            jaxconv.softmax,
            (np.asarray([-inf, -inf]),),
            np.asarray([nan, nan]),
            (np.asarray([nan, nan]),),
        ),
        Edge(
            "+inf: NaN", jaxconv.softmax, (np.asarray([0.0, inf]),), np.asarray([nan, nan]), (np.asarray([nan, nan]),)
        ),
        Edge("no row", jaxconv.softmax, (np.zeros((0, 3)),), np.zeros((0, 3)), (np.zeros((0, 3)),)),
        Edge("no class", jaxconv.softmax, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "log_softmax": (
        Edge(
            "what the mask leaves out is −inf, and says nothing",
            _masked("log_softmax"),
            (_MASKED_X,),
            np.asarray([[-math.log(2), -inf, -math.log(2)], [-inf, -inf, -inf]]),
            (np.asarray([[-0.5, 0, 0.5], [0, 0, 0]]),),
            _MASKED_DY,
        ),
        Edge(
            "−inf stays, with p = 0",
            jaxconv.log_softmax,
            (np.asarray([0.0, -inf, 0.0]),),
            np.asarray([-math.log(2), -inf, -math.log(2)]),
            (np.asarray([0.5, 0, -0.5]),),
            np.asarray([1.0, 0.0, 0.0]),
        ),
        Edge(
            "a huge entry",
            jaxconv.log_softmax,
            (np.asarray([30000.0, 0.0]),),
            np.asarray([0.0, -30000.0]),
            (np.asarray([-1.0, 1.0]),),
        ),
        Edge("no row", jaxconv.log_softmax, (np.zeros((0, 3)),), np.zeros((0, 3)), (np.zeros((0, 3)),)),
        Edge("no class", jaxconv.log_softmax, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "softmin": (
        Edge(
            "what the mask leaves out is 0, and says nothing",
            _masked("softmin"),
            (_MASKED_X,),
            np.asarray([[0.5, 0, 0.5], [0, 0, 0]]),
            (np.asarray([[0.25, 0, -0.25], [0, 0, 0]]),),
            _MASKED_DY,
        ),
        Edge(
            "+inf is 0",
            jaxconv.softmin,
            (np.asarray([0.0, inf, 0.0]),),
            np.asarray([0.5, 0, 0.5]),
            (np.asarray([0.25, 0, -0.25]),),
            np.asarray([0.0, 1.0, 1.0]),
        ),
        Edge("no row", jaxconv.softmin, (np.zeros((0, 3)),), np.zeros((0, 3)), (np.zeros((0, 3)),)),
    ),
    "logsumexp": (
        Edge(
            "infinities as in jax.nn",
            lambda a: jaxconv.logsumexp(a, -1),
            (np.asarray([[0.0, -inf], [-inf, -inf], [0, inf], [0, nan]]),),
            np.asarray([0, -inf, inf, nan]),
            (np.asarray([[1.0, 0], [nan, nan], [0, nan], [nan, nan]]),),
        ),
        Edge(
            "what the mask leaves out says nothing; a row without entries: −inf",
            lambda a: jaxconv.logsumexp(a, -1, where=np.asarray([[True, False, True], [False] * 3])),
            (_MASKED_X,),
            np.asarray([math.log(2), -inf]),
            (np.asarray([[0.5, 0, 0.5], [0, 0, 0]]),),
        ),
        Edge(
            "a factor 0: the entry does not count, its factor's gradient is the derivative",
            lambda a, b: jaxconv.logsumexp(a, -1, b),
            (np.asarray([[0.0, 1.0], [0.0, inf]]), np.asarray([[1.0, 0.0], [1.0, 0.0]])),
            np.asarray([0.0, 0.0]),
            (np.asarray([[1.0, 0], [1.0, 0]]), np.asarray([[1.0, math.e], [1.0, inf]])),
        ),
        Edge(
            "a negative sum: NaN, with gradient 0",
            lambda a, b: jaxconv.logsumexp(a, -1, b),
            (np.asarray([0.0, 0.0]), np.asarray([1.0, -2.0])),
            np.asarray(nan),
            (np.zeros(2), np.zeros(2)),
        ),
        Edge(
            "no class: −inf",
            lambda a: jaxconv.logsumexp(a, -1),
            (np.zeros((2, 0)),),
            np.asarray([-inf, -inf]),
            (np.zeros((2, 0)),),
        ),
    ),
    "logmeanexp": (
        Edge(
            "infinities as in jax.nn",
            lambda x: jaxconv.logmeanexp(x, -1),
            (np.asarray([[0.0, -inf], [-inf, -inf], [0, inf], [0, nan]]),),
            np.asarray([-math.log(2), -inf, inf, nan]),
            (np.asarray([[1.0, 0], [nan, nan], [0, nan], [nan, nan]]),),
        ),
        Edge(
            "what the mask leaves out says nothing; a row without entries: NaN",
            lambda x: jaxconv.logmeanexp(x, -1, where=np.asarray([[True, False, True], [False] * 3])),
            (_MASKED_X,),
            np.asarray([0, nan]),
            (np.asarray([[0.5, 0, 0.5], [0, 0, 0]]),),
        ),
        Edge(
            "no class: NaN",
            lambda x: jaxconv.logmeanexp(x, -1),
            (np.zeros((2, 0)),),
            np.asarray([nan, nan]),
            (np.zeros((2, 0)),),
        ),
    ),
    "gumbel_softmax": (
        Edge(
            "−inf is 0; a row with NaN or +inf is NaN",
            lambda x: jaxconv.gumbel_softmax(jax.random.key(3), x),
            (np.asarray([[0.0, -inf], [0.0, inf], [nan, 0.0]]),),
            np.asarray([[1.0, 0.0], [nan, nan], [nan, nan]]),
            (np.asarray([[0.0, 0.0], [nan, nan], [nan, nan]]),),
        ),
        Edge(
            "hard: the same, and the first of the largest",
            lambda x: jaxconv.gumbel_softmax(jax.random.key(3), x, hard=True),
            (np.asarray([[0.0, -inf], [0.0, inf], [nan, 0.0]]),),
            np.asarray([[1.0, 0.0], [nan, nan], [nan, nan]]),
            (np.asarray([[0.0, 0.0], [nan, nan], [nan, nan]]),),
        ),
        Edge(
            "no row",
            lambda x: jaxconv.gumbel_softmax(jax.random.key(3), x),
            (np.zeros((0, 3)),),
            np.zeros((0, 3)),
            (np.zeros((0, 3)),),
        ),
    ),
}
