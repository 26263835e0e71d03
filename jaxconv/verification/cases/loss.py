"""Cases of the losses."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, inf, nan, positive, times
from jaxconv.verification.checks import Edge


def _labels(logits, axis: int):
    """A class for every row, the same for the same shape."""
    shape = np.delete(logits.shape, axis)
    return jnp.asarray(np.arange(math.prod(shape)).reshape(shape) * 7 % logits.shape[axis], jnp.int32)


def _plain_hard(z, axis=-1):
    labels = jnp.expand_dims(_labels(z, axis), axis)
    return -jnp.squeeze(jnp.take_along_axis(jax.nn.log_softmax(z, axis), labels, axis), axis)


def cases() -> list[Case]:
    """The cases of this module's ops."""
    cases = []
    for name, shape, axis, factor, thorough in (
        ("rows", (4, 3), -1, 1.0, True),
        ("dense prediction, channels first", (2, 3, 4, 2), 1, 1.0, False),
        ("one row, no batch axis", (5,), 0, 1.0, False),
        ("one class", (3, 1), -1, 1.0, False),
        ("far apart", (6, 5), -1, 6.0, False),
        ("ImageNet classes", (4, 1000), -1, 1.0, False),
    ):
        made = functools.partial(Case, thorough=thorough, quick=thorough)
        timing = (512, 1000) if shape == (4, 1000) else None
        cases.append(
            made(
                "softmax_cross_entropy_with_integer_labels",
                name,
                lambda z, axis=axis: jaxconv.softmax_cross_entropy_with_integer_labels(z, _labels(z, axis), axis),
                lambda z, axis=axis: _plain_hard(z, axis),
                (shape,),
                inputs=times(factor),
                timing=(timing,) if timing else None,
            )
        )
        cases.append(
            made(
                "softmax_cross_entropy",
                name,
                lambda z, t, axis=axis: jaxconv.softmax_cross_entropy(z, t, axis),
                lambda z, t, axis=axis: -jnp.sum(t * jax.nn.log_softmax(z, axis), axis),
                (shape, shape),
                # Targets are positive, and need not sum to 1.
                inputs=lambda rng, shape, factor=factor: factor * positive(rng, shape),
                timing=(timing, timing) if timing else None,
            )
        )
    return cases


EDGES: dict[str, tuple[Edge, ...]] = {
    "softmax_cross_entropy": (
        Edge(
            "a class ruled out on both sides costs nothing",
            jaxconv.softmax_cross_entropy,
            (np.asarray([[0.0, -inf, 0.0]]), np.asarray([[1.0, 0.0, 0.0]])),
            np.asarray([math.log(2)]),
            (np.asarray([[-0.5, 0, 0.5]]), None),
        ),
        Edge(
            "a class ruled out that is wanted: inf",
            jaxconv.softmax_cross_entropy,
            (np.asarray([[0.0, -inf]]), np.asarray([[0.0, 1.0]])),
            np.asarray([inf]),
            None,
        ),
        Edge(
            "logits far apart",
            jaxconv.softmax_cross_entropy,
            (np.asarray([[30000.0, 0.0]]), np.asarray([[0.0, 1.0]])),
            np.asarray([30000.0]),
            (np.asarray([[1.0, -1.0]]), np.asarray([[0.0, 30000.0]])),
        ),
        Edge(
            "no row",
            jaxconv.softmax_cross_entropy,
            (np.zeros((0, 3)), np.zeros((0, 3))),
            np.zeros(0),
            (np.zeros((0, 3)), np.zeros((0, 3))),
        ),
    ),
    "softmax_cross_entropy_with_integer_labels": (
        Edge(
            "a label that is no class: NaN",
            jaxconv.softmax_cross_entropy_with_integer_labels,
            (np.zeros((2, 2)), np.asarray([0, 2])),
            np.asarray([math.log(2), nan]),
            (np.asarray([[-0.5, 0.5], [nan, nan]]),),
        ),
        Edge(
            "a label masked afterwards: 0",
            lambda z, t: jnp.where(t < 2, jaxconv.softmax_cross_entropy_with_integer_labels(z, t), 0),
            (np.zeros((2, 2)), np.asarray([0, 2])),
            np.asarray([math.log(2), 0]),
            (np.asarray([[-0.5, 0.5], [0.0, 0.0]]),),
        ),
        Edge(
            "logits far apart",
            jaxconv.softmax_cross_entropy_with_integer_labels,
            (np.asarray([[30000.0, 0.0]]), np.asarray([1])),
            np.asarray([30000.0]),
            (np.asarray([[1.0, -1.0]]),),
        ),
        Edge(
            "no row",
            jaxconv.softmax_cross_entropy_with_integer_labels,
            (np.zeros((0, 3)), np.zeros(0, np.int32)),
            np.zeros(0),
            (np.zeros((0, 3)),),
        ),
    ),
}
