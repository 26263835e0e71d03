"""Cases of the activations."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxconv
from jaxconv.verification.cases.case import Case, inf, nan, times, wide
from jaxconv.verification.checks import Edge


@jax.custom_jvp
def exact_sigmoid(x):
    """1/(1 + exp(−x)) for the truth: JAX's derivative of lax.logistic, y·(1 − y), is 0 where y rounds to 1."""
    return lax.logistic(x)


@exact_sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return exact_sigmoid(x), exact_sigmoid(x) * exact_sigmoid(-x) * t


@jax.custom_jvp
def exact_tanh(x):
    """tanh(x) for the truth: JAX's derivative, 1 − y², is 0 where y rounds to ±1."""
    return lax.tanh(x)


@exact_tanh.defjvp
def _tanh_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return exact_tanh(x), 4 * exact_sigmoid(2 * x) * exact_sigmoid(-2 * x) * t


def cases() -> list[Case]:
    """The cases of this module's ops."""
    low = ("bfloat16", "float16")
    cases = []
    for name, ours, plain in (
        ("relu", jaxconv.relu, jax.nn.relu),
        ("leaky_relu", lambda x: jaxconv.leaky_relu(x, 0.3), lambda x: jax.nn.leaky_relu(x, 0.3)),
        ("sigmoid", jaxconv.sigmoid, jax.nn.sigmoid),
        ("tanh", jaxconv.tanh, jnp.tanh),
    ):
        truth = {"sigmoid": exact_sigmoid, "tanh": exact_tanh}.get(name)
        made = functools.partial(Case, name, function=lambda x, ours=ours: ours(x), reference=plain, truth=truth)
        cases += [
            made("normal inputs", shapes=((3, 5),), inputs=times(2.0), thorough=True, quick=True),
            made("no axis", shapes=((),)),
            made("feature map", shapes=((2, 28, 28, 32),), timing=((64, 28, 28, 32),)),
        ]
        whole = made("whole range", shapes=((401,),))
        cases += [
            dataclasses.replace(
                whole, inputs=wide(80.0 if name == "sigmoid" else 40.0), dtypes=("float64", "float32"), quick=True
            ),
            # float16 has no numbers below 6e-8: exp(-12) is 6e-6.
            dataclasses.replace(
                whole,
                name="whole range of float16",
                quick=True,
                inputs=wide(12.0 if name == "sigmoid" else 6.0),
                dtypes=low,
            ),
        ]
    for name in ("softmax", "log_softmax"):
        ours, plain = getattr(jaxconv, name), getattr(jax.nn, name)
        for case, shape, axis, factor, thorough in (
            ("rows", (3, 5), -1, 2.0, True),
            ("leading axis", (4, 3, 2), 0, 2.0, False),
            ("two axes", (3, 2, 4), (0, -1), 2.0, False),
            ("one class", (4, 1), -1, 1.0, False),
            ("one row, no batch axis", (7,), 0, 1.0, False),
            ("far apart", (6, 5), -1, 6.0, False),
            ("ImageNet classes", (4, 1000), -1, 1.0, False),
        ):
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
    return cases


EDGES: dict[str, tuple[Edge, ...]] = {
    "relu": (
        Edge(
            "the kink: 0 at ±0",
            jaxconv.relu,
            (np.asarray([0.0, -0.0, 1.0, -1.0]),),
            np.asarray([0.0, 0, 1, 0]),
            (np.asarray([0.0, 0, 1, 0]),),
        ),
        Edge(
            "NaN stays NaN, with gradient 0",
            jaxconv.relu,
            (np.asarray([nan, inf, -inf]),),
            np.asarray([nan, inf, 0]),
            (np.asarray([0.0, 1, 0]),),
        ),
        Edge("an empty axis", jaxconv.relu, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "leaky_relu": (
        Edge(
            "the kink: 1 at ±0",
            lambda x: jaxconv.leaky_relu(x, 0.5),
            (np.asarray([0.0, -0.0, 1.0, -1.0]),),
            np.asarray([0.0, 0, 1, -0.5]),
            (np.asarray([1.0, 1, 1, 0.5]),),
        ),
        Edge(
            "NaN stays NaN, with gradient a",
            lambda x: jaxconv.leaky_relu(x, 0.5),
            (np.asarray([nan, inf, -inf]),),
            np.asarray([nan, inf, -inf]),
            (np.asarray([0.5, 1, 0.5]),),
        ),
        Edge("an empty axis", jaxconv.leaky_relu, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "sigmoid": (
        Edge(
            "0 and the infinities",
            jaxconv.sigmoid,
            (np.asarray([0.0, -0.0, inf, -inf]),),
            np.asarray([0.5, 0.5, 1, 0]),
            (np.asarray([0.25, 0.25, 0, 0]),),
        ),
        Edge("NaN stays", jaxconv.sigmoid, (np.asarray([nan]),), np.asarray([nan]), (np.asarray([nan]),)),
        Edge("an empty axis", jaxconv.sigmoid, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "tanh": (
        Edge(
            "0 and the infinities",
            jaxconv.tanh,
            (np.asarray([0.0, -0.0, inf, -inf]),),
            np.asarray([0.0, 0, 1, -1]),
            (np.asarray([1.0, 1, 0, 0]),),
        ),
        Edge("NaN stays", jaxconv.tanh, (np.asarray([nan]),), np.asarray([nan]), (np.asarray([nan]),)),
        Edge("an empty axis", jaxconv.tanh, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "softmax": (
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
}
