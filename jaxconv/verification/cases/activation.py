"""Cases of the element-wise activations, and of glu."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

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


@jax.custom_jvp
def _exact_expm1(x):
    """exp(x) − 1 for the truth: JAX's derivative, y + 1, is 0 where y rounds to −1."""
    return jnp.expm1(x)


@_exact_expm1.defjvp
def _expm1_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return _exact_expm1(x), jnp.exp(x) * t


@jax.custom_jvp
def _exact_softplus(x):
    """log(1 + exp(x)) for the truth: JAX's derivative, exp(x − y), has the rounding errors of x."""
    return jax.nn.softplus(x)


@_exact_softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return _exact_softplus(x), exact_sigmoid(x) * t


@jax.custom_jvp
def _exact_soft_sign(x):
    """x/(1 + |x|) for the truth: JAX's derivative, 1/(1 + |x|) − |x|/(1 + |x|)², cancels."""
    return jax.nn.soft_sign(x)


@_exact_soft_sign.defjvp
def _soft_sign_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return _exact_soft_sign(x), t / ((1 + jnp.abs(x)) * (1 + jnp.abs(x)))


@jax.custom_jvp
def _exact_log1mexp(x):
    """log(1 − exp(−x)) for the truth: JAX's loses digits where XLA's log1p does, left of x = 1.1."""
    return jnp.where(x < 1.5, jnp.log(-jnp.expm1(-x)), jnp.log1p(-jnp.exp(-x)))


@_exact_log1mexp.defjvp
def _log1mexp_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return _exact_log1mexp(x), t / jnp.expm1(x)


def _exact_elu(x, alpha=1.0):
    return jnp.where(x > 0, x, alpha * _exact_expm1(jnp.where(x > 0, 0.0, x)))


def _exact_celu(x, alpha):
    return jnp.where(x > 0, x, alpha * _exact_expm1(jnp.where(x > 0, 0.0, x) / alpha))


def _exact_gelu(x, approximate=True):
    if not approximate:
        return jax.nn.gelu(x, approximate=False)
    return x * exact_sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def _exact_squareplus(x, b=4.0):
    root = jnp.sqrt(x * x + b)
    return jnp.where(x < 0, b / (2 * (root - x)), (x + root) / 2)


def _exact_tanh_shrink(x):
    """x − tanh(x), near 0 as the integral of its derivative, tanh², by 20 Gauss points."""
    points, weights = np.polynomial.legendre.leggauss(20)
    near = jnp.where(jnp.abs(x) < 1, x, 0.5)
    integral = sum(
        w / 2 * exact_tanh(near * (p + 1) / 2) ** 2 for p, w in zip(points.tolist(), weights.tolist(), strict=True)
    )
    return jnp.where(jnp.abs(x) < 1, near * integral, x - exact_tanh(x))


def _glu(x, axis=-1):
    a, v = jnp.split(x, 2, axis)
    return a * exact_sigmoid(v)


@dataclasses.dataclass(frozen=True)
class Elementwise:
    """An op f(x, **options): the same in plain JAX, a truth where that is not accurate, and where to check it.

    `options` has values to choose from; the cases take the first. The derivative of a `linear` one is constant between
    its kinks: there, large arguments say nothing new.
    """

    plain: Callable
    truth: Callable | None = None
    options: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    linear: bool = False
    most: float = 80.0  # how far out the derivative is to be accurate, and in float16, which ends at 6e-8
    most_of_float16: float = 12.0
    positive: bool = False  # defined for x > 0

    @property
    def exact(self) -> Callable:
        """What has an accurate derivative."""
        return self.truth or self.plain

    def inputs(self, make: Callable) -> Callable:
        """These inputs, where the op is defined."""
        return (lambda rng, shape: np.abs(make(rng, shape)) + 0.1) if self.positive else make


ELEMENTWISE = {
    "celu": Elementwise(jax.nn.celu, _exact_celu, {"alpha": (0.7, 2.0, -1.5)}, most=40.0),
    "elu": Elementwise(jax.nn.elu, _exact_elu, {"alpha": (0.7, 2.0, -1.5)}),
    "gelu": Elementwise(jax.nn.gelu, _exact_gelu, {"approximate": (True, False)}, most=10.0, most_of_float16=4.0),
    "hard_shrink": Elementwise(
        lambda x, lambd: jnp.where(jnp.abs(x) > lambd, x, 0.0), options={"lambd": (0.3, 0.0, 1.5)}, linear=True
    ),
    "hard_sigmoid": Elementwise(jax.nn.hard_sigmoid, linear=True),
    "hard_silu": Elementwise(jax.nn.hard_silu, most=6.0, most_of_float16=6.0),
    "hard_tanh": Elementwise(jax.nn.hard_tanh, linear=True),
    "identity": Elementwise(jax.nn.identity, linear=True),
    "leaky_relu": Elementwise(
        jax.nn.leaky_relu, options={"negative_slope": (0.3, 0.0, 1.5)}, linear=True, most=40.0, most_of_float16=6.0
    ),
    "log1mexp": Elementwise(jax.nn.log1mexp, _exact_log1mexp, positive=True),
    "log_sigmoid": Elementwise(jax.nn.log_sigmoid, lambda x: -_exact_softplus(-x)),
    "mish": Elementwise(jax.nn.mish, lambda x: x * exact_tanh(_exact_softplus(x))),
    "relu": Elementwise(jax.nn.relu, linear=True, most=40.0, most_of_float16=6.0),
    "relu6": Elementwise(jax.nn.relu6, linear=True),
    "selu": Elementwise(jax.nn.selu, lambda x: 1.0507009873554805 * _exact_elu(x, 1.6732632423543773)),
    "sigmoid": Elementwise(jax.nn.sigmoid, exact_sigmoid),
    "silu": Elementwise(jax.nn.silu, lambda x: x * exact_sigmoid(x)),
    "soft_shrink": Elementwise(
        lambda x, lambd: jnp.where(jnp.abs(x) > lambd, x - lambd * jnp.sign(x), 0.0),
        options={"lambd": (0.3, 0.0, 1.5)},
        linear=True,
    ),
    "soft_sign": Elementwise(jax.nn.soft_sign, _exact_soft_sign, most=1e4, most_of_float16=1e3),
    "softplus": Elementwise(jax.nn.softplus, _exact_softplus),
    "sparse_plus": Elementwise(jax.nn.sparse_plus, most=2.0, most_of_float16=2.0),
    "sparse_sigmoid": Elementwise(jax.nn.sparse_sigmoid, linear=True),
    "squareplus": Elementwise(
        jax.nn.squareplus, _exact_squareplus, {"b": (4.0, 0.25)}, most=1e4, most_of_float16=100.0
    ),
    "tanh": Elementwise(jnp.tanh, exact_tanh, most=40.0, most_of_float16=6.0),
    "tanh_shrink": Elementwise(lambda x: x - jnp.tanh(x), _exact_tanh_shrink, most=4.0, most_of_float16=6.0),
    "threshold": Elementwise(
        lambda x, threshold, value: jnp.where(x > threshold, x, value),
        options={"threshold": (0.3, -0.3), "value": (-2.0, 1.0)},
        linear=True,
    ),
}

# These were there first, and are checked and timed as feature maps, too.
_TIMED = ("relu", "leaky_relu", "sigmoid", "tanh")


def cases() -> list[Case]:
    """The cases of this module's ops."""
    wide_dtypes, low = ("float64", "float32"), ("bfloat16", "float16")
    cases = []
    for name, op in ELEMENTWISE.items():
        chosen = {option: values[0] for option, values in op.options.items()}
        forms = [("", chosen)]
        if name == "gelu":  # two rules
            forms.append((" with erfc", {"approximate": False}))
        for suffix, options in forms:
            made = functools.partial(
                Case,
                name,
                function=lambda x, name=name, options=options: getattr(jaxconv, name)(x, **options),
                reference=lambda x, plain=op.plain, options=options: plain(x, **options),
                truth=op.truth and (lambda x, truth=op.truth, options=options: truth(x, **options)),
                quick=True,
            )
            timed = name in _TIMED
            cases.append(
                made(
                    f"normal inputs{suffix}",
                    shapes=((3, 5),),
                    inputs=op.inputs(times(2.0)),
                    thorough=True,
                    dtypes=(*wide_dtypes, *low) if op.linear or timed else wide_dtypes,
                )
            )
            if timed:
                cases += [
                    made("no axis", shapes=((),), quick=False),
                    made("feature map", shapes=((2, 28, 28, 32),), timing=((64, 28, 28, 32),), quick=False),
                ]
            if timed or not op.linear:
                whole = made(f"whole range{suffix}", shapes=((401,),), inputs=op.inputs(wide(op.most)))
                cases += [
                    dataclasses.replace(whole, dtypes=wide_dtypes),
                    # float16 has no numbers below 6e-8: exp(-12) is 6e-6.
                    dataclasses.replace(
                        whole,
                        name=f"whole range of float16{suffix}",
                        inputs=op.inputs(wide(op.most_of_float16)),
                        dtypes=low,
                    ),
                ]
    for name, shapes, thorough in (
        ("a slope per channel", ((3, 5), (5,)), True),
        ("one slope", ((2, 3), ()), False),
        ("channels first", ((2, 3, 4), (3, 1)), False),
        ("a sum of many terms", ((60, 50), (50,)), False),
    ):
        cases.append(
            Case("prelu", name, jaxconv.prelu, _plain_prelu, shapes, times(2.0), thorough=thorough, quick=thorough)
        )
    for name, shape, axis, inputs, dtypes in (
        ("normal inputs", (3, 6), -1, times(2.0), (*wide_dtypes, *low)),
        ("middle axis", (2, 4, 3), 1, times(2.0), wide_dtypes),
        ("whole range", (2, 401), 0, wide(80.0), wide_dtypes),
    ):
        cases.append(
            Case(
                "glu",
                name,
                lambda x, axis=axis: jaxconv.glu(x, axis),
                lambda x, axis=axis: jax.nn.glu(x, axis),
                (shape,),
                inputs,
                thorough=axis == -1,
                quick=axis == -1,
                truth=lambda x, axis=axis: _glu(x, axis),
                dtypes=dtypes,
            )
        )
    return cases


def _plain_prelu(x, slope):
    return jnp.where(x >= 0, x, jnp.broadcast_to(slope, x.shape) * x)


def _points(convention: str, function: Callable, *rows: tuple[float, float, float]) -> Edge:
    """Points (x, y, dx) of an element-wise function."""
    x, y, dx = (np.asarray(column, np.float64) for column in zip(*rows, strict=True))
    return Edge(convention, function, (x,), y, (dx,))


_LN2, _SELU = math.log(2), 1.0507009873554805 * 1.6732632423543773

_EDGES = {
    "celu": _points(
        "no kink at 0",
        lambda x: jaxconv.celu(x, 2.0),
        (0, 0, 1), (-0.0, 0, 1), (inf, inf, 1), (-inf, -2, 0), (nan, nan, nan), (3, 3, 1),
    ),
    "elu": _points(
        "the kink: α at ±0, a negative one, too",
        lambda x: jaxconv.elu(x, -2.0),
        (0, 0, -2), (-0.0, 0, -2), (inf, inf, 1), (-inf, 2, 0), (nan, nan, nan),
    ),
    "gelu": _points(
        "0, the infinities, NaN",
        jaxconv.gelu,
        (0, 0, 0.5), (inf, inf, 1), (-inf, 0, 0), (nan, nan, nan), (64, 64, 1), (-3e4, 0, 0),
    ),
    "hard_shrink": _points(
        "0 at ±λ; NaN stays, with gradient 1",
        jaxconv.hard_shrink,
        (0.5, 0, 0), (-0.5, 0, 0), (0.75, 0.75, 1), (-0.75, -0.75, 1), (nan, nan, 1), (inf, inf, 1), (-inf, -inf, 1),
    ),
    "hard_sigmoid": _points(
        "the kinks: 0 at ±3; NaN stays, with gradient 0",
        jaxconv.hard_sigmoid,
        (3, 1, 0), (-3, 0, 0), (0, 0.5, 1 / 6), (nan, nan, 0), (inf, 1, 0), (-inf, 0, 0),
    ),
    "hard_silu": _points(
        "the kinks: 0 at −3, 1 at 3",
        jaxconv.hard_silu,
        (3, 3, 1), (-3, 0, 0), (0, 0, 0.5), (-1.5, -0.375, 0), (nan, nan, nan), (inf, inf, 1), (-inf, 0, 0),
    ),
    "hard_tanh": _points(
        "the kinks: 1 at ±1; NaN stays, with gradient 1",
        jaxconv.hard_tanh,
        (1, 1, 1), (-1, -1, 1), (1.5, 1, 0), (-1.5, -1, 0), (nan, nan, 1), (inf, 1, 0), (-inf, -1, 0),
    ),
    "identity": _points("NaN and the infinities", jaxconv.identity, (nan, nan, 1), (inf, inf, 1), (-inf, -inf, 1)),
    "log1mexp": _points(
        "−inf at ±0, NaN left of it",
        jaxconv.log1mexp,
        (0, -inf, inf), (-0.0, -inf, -inf), (inf, 0, 0), (nan, nan, nan), (-1, nan, 1 / math.expm1(-1)),
    ),
    "log_sigmoid": _points(
        "0, the infinities, NaN", jaxconv.log_sigmoid, (0, -_LN2, 0.5), (inf, 0, 0), (-inf, -inf, 1), (nan, nan, nan)
    ),
    "mish": _points(
        "0, the infinities, NaN", jaxconv.mish, (0, 0, 0.6), (inf, inf, 1), (-inf, 0, 0), (nan, nan, nan), (3e4, 3e4, 1)
    ),
    "relu6": _points(
        "the kinks: 0 at ±0 and 6; NaN stays, with gradient 0",
        jaxconv.relu6,
        (0, 0, 0), (-0.0, 0, 0), (6, 6, 0), (3, 3, 1), (nan, nan, 0), (inf, 6, 0), (-inf, 0, 0),
    ),
    "selu": _points(
        "the kink: λ·α at ±0",
        jaxconv.selu,
        (0, 0, _SELU), (-0.0, 0, _SELU), (inf, inf, 1.0507009873554805), (-inf, -_SELU, 0), (nan, nan, nan),
    ),
    "silu": _points(
        "0, the infinities, NaN, and −709, where exp(x) is 0 and the derivative is not",
        jaxconv.silu,
        (0, 0, 0.5), (inf, inf, 1), (-inf, 0, 0), (nan, nan, nan), (3e4, 3e4, 1),
        (-709, -709 * math.exp(-350) * math.exp(-359), -708 * math.exp(-350) * math.exp(-359)),
    ),
    "soft_shrink": _points(
        "the kinks: 0 at ±λ; NaN stays, with gradient 1",
        jaxconv.soft_shrink,
        (0.5, 0, 0), (-0.5, 0, 0), (0.75, 0.25, 1), (-0.75, -0.25, 1), (nan, nan, 1), (inf, inf, 1), (-inf, -inf, 1),
    ),
    "soft_sign": _points(
        "0, the infinities, NaN",
        jaxconv.soft_sign,
        (0, 0, 1), (-0.0, 0, 1), (inf, 1, 0), (-inf, -1, 0), (nan, nan, nan)
    ),
    "softplus": _points(
        "0, the infinities, NaN", jaxconv.softplus, (0, _LN2, 0.5), (inf, inf, 1), (-inf, 0, 0), (nan, nan, nan)
    ),
    "sparse_plus": _points(
        "±1, the infinities, NaN",
        jaxconv.sparse_plus,
        (1, 1, 1), (-1, 0, 0), (0, 0.25, 0.5), (inf, inf, 1), (-inf, 0, 0), (nan, nan, nan),
    ),
    "sparse_sigmoid": _points(
        "the kinks: 1/4 at ±1; NaN stays, with gradient 0",
        jaxconv.sparse_sigmoid,
        (1, 1, 0.25), (-1, 0, 0.25), (0, 0.5, 0.5), (inf, 1, 0), (-inf, 0, 0), (nan, nan, 0),
    ),
    "squareplus": _points(
        "0, the infinities, NaN, and where x² overflows",
        jaxconv.squareplus,
        (0, 1, 0.5), (1.5, 2, 0.8), (-1.5, 0.5, 0.2), (inf, inf, 1), (-inf, 0, 0), (nan, nan, nan),
        (-2.0**100, 2.0**-100, 2.0**-200),
    ),
    "tanh_shrink": _points(
        "0, the infinities, NaN, and x³/3 near 0",
        jaxconv.tanh_shrink,
        (0, 0, 0), (inf, inf, 1), (-inf, -inf, 1), (nan, nan, nan), (2.0**-30, 2.0**-90 / 3, 2.0**-60),
    ),
    "threshold": _points(
        "0 at the threshold; NaN stays, with gradient 1",
        lambda x: jaxconv.threshold(x, 1.0, -2.0),
        (1, -2, 0), (0, -2, 0), (1.5, 1.5, 1), (nan, nan, 1), (inf, inf, 1), (-inf, -2, 0),
    ),
}  # fmt: skip


def _empty(name: str) -> Edge:
    options = {option: values[0] for option, values in ELEMENTWISE[name].options.items()}
    empty = np.zeros((2, 0))
    return Edge("an empty axis", lambda x: getattr(jaxconv, name)(x, **options), (empty,), empty, (empty,))


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
    "glu": (
        Edge(
            "the gate at 0, open, closed, NaN",
            jaxconv.glu,
            (np.asarray([[2.0, 2, 2, 2, 0, inf, -inf, nan]]),),
            np.asarray([[1.0, 2, 0, nan]]),
            (np.asarray([[0.5, 1, 0, nan, 0.5, 0, 0, nan]]),),
        ),
        Edge("an empty axis", jaxconv.glu, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    ),
    "prelu": (
        Edge(
            "the kink: dx = dy at ±0, and 0 for the slope",
            jaxconv.prelu,
            (np.asarray([0.0, -0.0, 1.0, -1.0, inf]), np.asarray(0.5)),
            np.asarray([0.0, 0, 1, -0.5, inf]),
            (np.asarray([1.0, 1, 1, 0.5, 1]), np.asarray(-1.0)),
        ),
        Edge(
            "NaN stays NaN, with dx = a",
            jaxconv.prelu,
            (np.asarray([nan, 1.0]), np.asarray([0.5, 0.5])),
            np.asarray([nan, 1.0]),
            (np.asarray([0.5, 1]), np.asarray([nan, 0])),
        ),
        Edge(
            "no row: the slope's gradient is 0",
            jaxconv.prelu,
            (np.zeros((0, 3)), np.ones(3)),
            np.zeros((0, 3)),
            (np.zeros((0, 3)), np.zeros(3)),
        ),
    ),
    **{name: (edge, _empty(name)) for name, edge in _EDGES.items()},
}
