"""Cases of the normalisations."""

import functools

import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, Shape, column, inf, nan
from jaxconv.verification.checks import Edge


def _moments(x, axes):
    """The mean and the variance, by their definitions, with the axes kept."""
    mean = jnp.mean(x, axes, keepdims=True)
    return mean, jnp.mean(jnp.square(x - mean), axes, keepdims=True)


def _plain(x, mean, var, scale, bias, axes, epsilon):
    """x normalised, with scale and bias along these axes."""
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    y = (x - mean) / jnp.sqrt(var + epsilon)
    y = y if scale is None else y * jnp.reshape(scale, shape)
    return y if bias is None else y + jnp.reshape(bias, shape)


def _plain_batch_norm(x, scale=None, bias=None, *, channel=-1, epsilon=1e-5):
    channel %= x.ndim
    mean, var = _moments(x, tuple(axis for axis in range(x.ndim) if axis != channel))
    return _plain(x, mean, var, scale, bias, (channel,), epsilon), mean.reshape(-1), var.reshape(-1)


def _plain_inference(x, mean, var, scale=None, bias=None, *, channel=-1, epsilon=1e-5):
    channel %= x.ndim
    shape = [size if axis == channel else 1 for axis, size in enumerate(x.shape)]
    return _plain(x, mean.reshape(shape), var.reshape(shape), scale, bias, (channel,), epsilon)


def _joined(results):
    """All results in one array."""
    return jnp.concatenate([a.reshape(-1) for a in results])


def _uneven(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal values with another mean than 0, which for a variance are positive."""
    return np.abs(1 + 0.5 * rng.standard_normal(shape)) + 0.1


def _batch_norm_cases() -> list[Case]:
    return [
        Case(
            "batch_norm",
            "with mean and variance",
            lambda *a: _joined(jaxconv.batch_norm(*a)),
            lambda *a: _joined(_plain_batch_norm(*a)),
            ((2, 3, 2), (2,), (2,)),
            inputs=_uneven,
            thorough=True,
            quick=True,
        ),
        *(
            Case(
                "batch_norm",
                name,
                lambda *a, options=options: jaxconv.batch_norm(*a, **options)[0],
                lambda *a, plain=plain: _plain_batch_norm(*a, **plain)[0],
                shapes,
                inputs=_uneven,
                timing=timing,
            )
            for name, shapes, options, plain, timing in (
                ("channels first, no scale", ((3, 2, 3, 2),), {"data_format": "channels_first"}, {"channel": 1}, None),
                ("no bias, large epsilon", ((2, 2, 3, 2), (2,)), {"epsilon": 0.5}, {"epsilon": 0.5}, None),
                ("long sums", ((16, 16, 16, 2), (2,), (2,)), {}, {}, ((64, 32, 32, 64), (64,), (64,))),
            )
        ),
    ]


def _inference_cases() -> list[Case]:
    return [
        Case(
            "batch_norm_inference",
            name,
            lambda *a, options=options: jaxconv.batch_norm_inference(*a, **options),
            lambda *a, channel=channel: _plain_inference(*a, channel=channel),
            shapes,
            inputs=_uneven,
            thorough=thorough,
            quick=thorough,
        )
        for name, shapes, options, channel, thorough in (
            ("images", ((2, 3, 2, 3), *((3,),) * 4), {}, -1, True),
            ("channels first, no bias", ((2, 3, 4), *((3,),) * 3), {"data_format": "channels_first"}, 1, False),
            ("no batch axis, neither scale nor bias", ((3,), (3,), (3,)), {}, -1, False),
        )
    ]


def cases() -> list[Case]:
    """The cases of this module's ops."""
    return [*_batch_norm_cases(), *_inference_cases()]


# --- special points ---


def _y(*arguments, **options):
    return jaxconv.batch_norm(*arguments, **options)[0]


def _of_constant(function, *parameters) -> Edge:
    """A set of equal elements: y is the bias, and x̂ is 0."""
    return Edge(
        "a constant gives the bias",
        function,
        (column(3, 3, 3), *parameters),
        column(0.5, 0.5, 0.5),
        (column(0, 0, 0), np.zeros(1), np.full(1, 3.0)),
    )


_ONE, _HALF = np.ones(1), np.full(1, 0.5)

EDGES: dict[str, tuple[Edge, ...]] = {
    "batch_norm": (
        _of_constant(_y, np.full(1, 2.0), _HALF),
        Edge(
            "one element per channel: the bias, and no gradient",
            _y,
            (np.asarray([[7.0, -3.0]]), np.ones(2), np.asarray([1.0, 2.0])),
            np.asarray([[1.0, 2.0]]),
            (np.zeros((1, 2)), np.zeros(2), np.ones(2)),
        ),
        Edge(
            "two elements, far apart: ±1, and no gradient for equal cotangents",
            functools.partial(_y, epsilon=0.0),
            (column(1, 3),),
            column(-1, 1),
            (column(0, 0),),
        ),
        Edge(
            "NaN stays in its channel",
            functools.partial(_y, epsilon=0.0),
            (np.asarray([[nan, 1.0], [2.0, 3.0]]),),
            np.asarray([[nan, -1.0], [nan, 1.0]]),
            (np.asarray([[nan, 0.0], [nan, 0.0]]),),
        ),
        Edge(
            "inf makes its channel NaN",
            functools.partial(_y, epsilon=0.0),
            (np.asarray([[inf, 1.0], [2.0, 3.0]]),),
            np.asarray([[nan, -1.0], [nan, 1.0]]),
            None,
        ),
        Edge("a constant without epsilon: 0/0", functools.partial(_y, epsilon=0.0), (column(3, 3),), column(nan, nan)),
        Edge(
            "an empty batch: y is empty, the gradients of scale and bias are 0",
            _y,
            (np.zeros((0, 3, 2)), np.ones(2), np.ones(2)),
            np.zeros((0, 3, 2)),
            (np.zeros((0, 3, 2)), np.zeros(2), np.zeros(2)),
        ),
        Edge(
            "an empty batch: mean and variance are 0",
            lambda x: jnp.stack(jaxconv.batch_norm(x)[1:]),
            (np.zeros((0, 2)),),
            np.zeros((2, 2)),
            (np.zeros((0, 2)),),
        ),
        Edge(
            "no channel",
            _y,
            (np.zeros((2, 0)), np.zeros(0)),
            np.zeros((2, 0)),
            (np.zeros((2, 0)), np.zeros(0)),
        ),
    ),
    "batch_norm_inference": (
        Edge(
            "NaN stays where it is",
            functools.partial(jaxconv.batch_norm_inference, epsilon=0.0),
            (column(nan, 3), _ONE, np.full(1, 4.0), _HALF, _ONE),
            column(nan, 1.5),
            (column(0.25, 0.25), np.full(1, -0.5), np.full(1, nan), np.full(1, nan), np.full(1, 2.0)),
        ),
        Edge(
            "±inf",
            functools.partial(jaxconv.batch_norm_inference, epsilon=0.0),
            (column(inf, -inf), _ONE, _ONE),
            column(inf, -inf),
            (column(1, 1), np.full(1, -2.0), np.full(1, nan)),
        ),
        Edge(
            "a variance of 0 without epsilon",
            functools.partial(jaxconv.batch_norm_inference, epsilon=0.0),
            (column(1, 2, 0), _ONE, np.zeros(1)),
            column(nan, inf, -inf),
        ),
        Edge(
            "an empty batch",
            jaxconv.batch_norm_inference,
            (np.zeros((0, 1)), _ONE, _ONE, _ONE, _ONE),
            np.zeros((0, 1)),
            (np.zeros((0, 1)), np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1)),
        ),
    ),
}
