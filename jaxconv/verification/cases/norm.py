"""Cases of the normalisations."""

import functools

import jax
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


def _far_from_zero(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Normal values around 100, where E[x²] − E[x]² loses digits."""
    return 100 + rng.standard_normal(shape)


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


def _plain_layer_norm(x, scale=None, bias=None, *, axis=-1, epsilon=1e-5):
    axes = tuple(sorted(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))))
    return _plain(x, *_moments(x, axes), scale, bias, axes, epsilon)


def _plain_rms_norm(x, scale=None, *, axis=-1, epsilon=1e-6):
    axes = tuple(sorted(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))))
    square = jnp.mean(jnp.square(x), axes, keepdims=True)
    return _plain(x, jnp.zeros_like(square), square, scale, None, axes, epsilon)


def _plain_group_norm(x, groups, scale=None, bias=None, *, channels_first=False, epsilon=1e-5):
    """With one batch axis; scale and bias after the normalisation of each group by itself."""
    channel = 1 if channels_first else x.ndim - 1
    parts = []
    for part in jnp.split(x, groups, channel):
        axes = tuple(range(1, x.ndim))
        parts.append(_plain(part, *_moments(part, axes), None, None, axes, epsilon))
    zero, one = jnp.zeros((1,) * x.ndim, x.dtype), jnp.ones((1,) * x.ndim, x.dtype)
    return _plain(jnp.concatenate(parts, channel), zero, one, scale, bias, (channel,), 0.0)


def _where(x):
    """Two of three elements, different ones in every row."""
    return jnp.asarray(np.arange(x.size).reshape(x.shape) % 3 != 1)


def _set_cases() -> list[Case]:
    """Normalisation of every example by itself."""
    first = {"data_format": "channels_first"}
    cases = []
    for op, name, shapes, plain_function, options, plain, thorough in (
        ("layer_norm", "last axis", ((3, 4), (4,), (4,)), _plain_layer_norm, {}, {}, True),
        ("layer_norm", "two axes, no bias", ((3, 2, 4), (3, 4)), _plain_layer_norm, *({"axis": (2, 0)},) * 2, False),
        ("layer_norm", "long sums, far from 0", ((3, 2048),), _plain_layer_norm, {}, {}, False),
        ("rms_norm", "last axis", ((3, 4), (4,)), _plain_rms_norm, {}, {}, True),
        ("rms_norm", "two axes, no scale", ((3, 2, 4),), _plain_rms_norm, *({"axis": (0, -1)},) * 2, False),
    ):
        timing = {"layer_norm": ((4096, 768), (768,), (768,)), "rms_norm": ((4096, 768), (768,))}[op]
        cases.append(
            Case(
                op,
                name,
                lambda *a, op=op, options=options: getattr(jaxconv, op)(*a, **options),
                lambda *a, plain_function=plain_function, plain=plain: plain_function(*a, **plain),
                shapes,
                inputs=_far_from_zero if name.endswith("far from 0") else _uneven,
                thorough=thorough,
                quick=thorough,
                timing=timing if thorough else None,
            )
        )
    for op, name, shapes, groups, options, thorough in (
        ("group_norm", "images", ((2, 2, 2, 4), (4,), (4,)), 2, {}, True),
        ("group_norm", "channels first, no bias", ((2, 6, 3), (6,)), 3, first, False),
        ("group_norm", "one group, no scale", ((2, 3, 2),), 1, {}, False),
        ("instance_norm", "images", ((2, 3, 2, 2), (2,), (2,)), None, {}, True),
        ("instance_norm", "channels first, no scale", ((2, 2, 5),), None, first, False),
    ):
        argument = () if groups is None else (groups,)
        cases.append(
            Case(
                op,
                name,
                lambda x, *a, op=op, argument=argument, options=options: getattr(jaxconv, op)(
                    x, *argument, *a, **options
                ),
                lambda x, *a, groups=groups, cf=bool(options): _plain_group_norm(
                    x, groups or x.shape[1 if cf else -1], *a, channels_first=cf
                ),
                shapes,
                inputs=_uneven,
                thorough=thorough,
                quick=thorough,
                timing=((32, 32, 32, 64), (64,), (64,)) if thorough and op == "group_norm" else None,
            )
        )
    standard = jax.nn.standardize
    for name, shapes, function, reference, thorough in (
        (
            "some elements only",
            ((3, 6),),
            lambda x: jaxconv.standardize(x, where=_where(x)),
            lambda x: standard(x, where=_where(x)),
            True,
        ),
        (
            "all axes",
            ((3, 4),),
            lambda x: jaxconv.standardize(x, None),
            lambda x: standard(x, None),
            False,
        ),
        (
            "mean and variance given",
            ((3, 4), (1, 4), (1, 4)),
            lambda x, mean, var: jaxconv.standardize(x, 0, mean, var),
            lambda x, mean, var: _plain(x, mean, var, None, None, (), 1e-5),
            False,
        ),
    ):
        cases.append(
            Case(
                "standardize",
                name,
                function,
                reference,
                shapes,
                inputs=_uneven,
                thorough=thorough,
                quick=thorough,
            )
        )
    return cases


def cases() -> list[Case]:
    """The cases of this module's ops."""
    return [*_batch_norm_cases(), *_inference_cases(), *_set_cases()]


# --- special points ---


def _y(*arguments, **options):
    return jaxconv.batch_norm(*arguments, **options)[0]


def _edges(function, exact, example) -> tuple[Edge, ...]:
    """Of a normalisation of every example by itself; `exact` the same with epsilon=0; example(a, b) is one."""
    pair = lambda a, b: np.concatenate([a, b])  # noqa: E731
    empty = example(1, 3)[:, :0]
    channels = example(1, 3).shape[-1]
    scale, bias = np.full(channels, 2.0), np.full(channels, 0.5)
    return (
        Edge(
            "a constant gives the bias",
            function,
            (example(3, 3), scale, bias),
            example(0.5, 0.5),
            (example(0, 0), np.zeros(channels), np.full(channels, 2.0 / channels)),
        ),
        Edge(
            "NaN stays in its example",
            exact,
            (pair(example(nan, 1), example(1, 3)),),
            pair(example(nan, nan), example(-1, 1)),
            (pair(example(nan, nan), example(0, 0)),),
        ),
        Edge(
            "inf makes its example NaN",
            exact,
            (pair(example(inf, 1), example(1, 3)),),
            pair(example(nan, nan), example(-1, 1)),
        ),
        Edge("a constant without epsilon: 0/0", exact, (example(3, 3),), example(nan, nan)),
        Edge(
            "no example",
            function,
            (example(1, 3)[:0], scale, bias),
            example(1, 3)[:0],
            (example(1, 3)[:0], np.zeros(channels), np.zeros(channels)),
        ),
        Edge(
            "nothing to normalise",
            function,
            (empty, scale[: empty.shape[-1]], bias[: empty.shape[-1]]),
            empty,
        ),
    )


def _row(*values: float) -> np.ndarray:
    return np.asarray([values], np.float64)


_ONE, _HALF = np.ones(1), np.full(1, 0.5)

EDGES: dict[str, tuple[Edge, ...]] = {
    "batch_norm": (
        Edge(
            "a constant gives the bias",
            _y,
            (column(3, 3, 3), np.full(1, 2.0), _HALF),
            column(0.5, 0.5, 0.5),
            (column(0, 0, 0), np.zeros(1), np.full(1, 3.0)),
        ),
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
    "layer_norm": _edges(jaxconv.layer_norm, functools.partial(jaxconv.layer_norm, epsilon=0.0), _row),
    "group_norm": _edges(
        lambda x, *a: jaxconv.group_norm(x, 1, *a), lambda x: jaxconv.group_norm(x, 1, epsilon=0.0), column
    ),
    "instance_norm": (
        *_edges(jaxconv.instance_norm, functools.partial(jaxconv.instance_norm, epsilon=0.0), column),
        Edge(
            "NaN stays in its channel",
            functools.partial(jaxconv.instance_norm, epsilon=0.0),
            (np.asarray([[[nan, 1.0], [2.0, 3.0]]]),),
            np.asarray([[[nan, -1.0], [nan, 1.0]]]),
            (np.asarray([[[nan, 0.0], [nan, 0.0]]]),),
        ),
        Edge(
            "one position: the bias, and no gradient",
            jaxconv.instance_norm,
            (column(7), np.full(1, 2.0), _HALF),
            column(0.5),
            (column(0), np.zeros(1), np.ones(1)),
        ),
    ),
    "rms_norm": (
        Edge(
            "zeros give 0, with the gradient of a factor of 1/sqrt(epsilon)",
            functools.partial(jaxconv.rms_norm, epsilon=0.25),
            (_row(0, -0.0), np.full(2, 3.0)),
            _row(0, 0),
            (_row(6, 6), np.zeros(2)),
        ),
        Edge(
            "zeros without epsilon: 0/0",
            functools.partial(jaxconv.rms_norm, epsilon=0.0),
            (_row(0, 0),),
            _row(nan, nan),
        ),
        Edge(
            "NaN stays in its example",
            functools.partial(jaxconv.rms_norm, epsilon=0.0),
            (np.asarray([[nan, 1.0], [1.0, -1.0]]),),
            np.asarray([[nan, nan], [1.0, -1.0]]),
            (np.asarray([[nan, nan], [1.0, 1.0]]),),
        ),
        Edge("inf: NaN there, 0 beside it", jaxconv.rms_norm, (_row(inf, 1),), _row(nan, 0)),
        Edge(
            "no example",
            jaxconv.rms_norm,
            (np.zeros((0, 2)), np.ones(2)),
            np.zeros((0, 2)),
            (np.zeros((0, 2)), np.zeros(2)),
        ),
        Edge(
            "nothing to normalise",
            jaxconv.rms_norm,
            (np.zeros((2, 0)), np.ones(0)),
            np.zeros((2, 0)),
            (np.zeros((2, 0)), np.zeros(0)),
        ),
    ),
    "standardize": (
        Edge("a constant gives 0", jaxconv.standardize, (_row(3, 3),), _row(0, 0), (_row(0, 0),)),
        Edge(
            "NaN and inf that are left out stay where they are",
            lambda x: jaxconv.standardize(x, epsilon=0.0, where=jnp.isfinite(x)),
            (_row(nan, 1, 3, -inf),),
            _row(nan, -1, 1, -inf),
        ),
        Edge(
            "nothing is left: NaN",
            lambda x: jaxconv.standardize(x, where=x > 5),
            (np.asarray([[1.0, 3.0], [6.0, 6.0]]),),
            np.asarray([[nan, nan], [0.0, 0.0]]),
            (np.asarray([[nan, nan], [0.0, 0.0]]),),
        ),
        Edge("no element", jaxconv.standardize, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
}
