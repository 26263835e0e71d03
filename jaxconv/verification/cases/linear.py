"""Cases of dense and flatten."""

import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, inf, nan
from jaxconv.verification.checks import Edge


def _plain_dense(x, w, b=None):
    y = jnp.dot(x, w)
    return y if b is None else y + jnp.broadcast_to(b, y.shape)


def cases() -> list[Case]:
    """The cases of this module's ops."""
    cases = [
        Case(
            "dense",
            name,
            lambda *a: jaxconv.dense(*a),
            _plain_dense,
            shapes,
            thorough=thorough,
            quick=thorough,
            timing=timing,
        )
        for name, shapes, thorough, timing in (
            ("bias, two batch axes", ((2, 3, 4), (4, 5), (5,)), True, None),
            ("no bias", ((6, 4), (4, 3)), False, None),
            ("no batch axis", ((4,), (4, 3), (3,)), False, None),
            ("one output", ((5, 7), (7, 1), (1,)), False, None),
            ("square", ((3, 4), (4, 4)), False, None),
            ("long sums", ((4, 4096), (4096, 3), (3,)), False, None),
            ("long batch", ((4096, 3), (3, 4), (4,)), False, None),
            ("LeNet head", ((8, 3136), (3136, 128)), False, ((128, 3136), (3136, 128))),
        )
    ]
    for name, shape, batch_ndim, thorough in (
        ("image", (2, 3, 4, 2), 1, True),
        ("two batch axes", (2, 3, 4, 2), 2, False),
        ("no batch axis", (3, 4), 0, False),
        ("nothing to flatten", (3,), 1, False),
    ):
        cases.append(
            Case(
                "flatten",
                name,
                lambda x, batch_ndim=batch_ndim: jaxconv.flatten(x, batch_ndim=batch_ndim),
                lambda x, batch_ndim=batch_ndim: x.reshape(*x.shape[:batch_ndim], -1),
                (shape,),
                thorough=thorough,
                quick=thorough,
            )
        )
    return cases


EDGES: dict[str, tuple[Edge, ...]] = {
    "dense": (
        Edge(
            "an empty batch: dw and db are 0",
            jaxconv.dense,
            (np.zeros((0, 2)), np.ones((2, 1)), np.ones(1)),
            np.zeros((0, 1)),
            (np.zeros((0, 2)), np.zeros((2, 1)), np.zeros(1)),
        ),
        Edge(
            "nothing to sum",
            jaxconv.dense,
            (np.zeros((2, 0)), np.zeros((0, 1)), np.ones(1)),
            np.ones((2, 1)),
            (np.zeros((2, 0)), np.zeros((0, 1)), np.full(1, 2.0)),
        ),
        Edge(
            "NaN in one row stays there",
            jaxconv.dense,
            (np.asarray([[nan], [1.0]]), np.asarray([[2.0]])),
            np.asarray([[nan], [2.0]]),
            (np.asarray([[2.0], [2.0]]), np.asarray([[nan]])),
        ),
    ),
    "flatten": (
        Edge(
            "NaN and inf stay",
            jaxconv.flatten,
            (np.asarray([[[nan], [inf], [-0.0]]]),),
            np.asarray([[nan, inf, 0.0]]),
            (np.ones((1, 3, 1)),),
        ),
        Edge("an empty batch", jaxconv.flatten, (np.zeros((0, 2, 3)),), np.zeros((0, 6)), (np.zeros((0, 2, 3)),)),
    ),
}
