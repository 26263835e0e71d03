"""Cases of the losses."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv
from jaxconv.verification.cases.case import Case, inf, nan, positive, times, wide
from jaxconv.verification.checks import Edge

# --- the cross-entropies ---


def _labels(shape, axis: int) -> np.ndarray:
    """A class for every row, the same for the same shape."""
    rows = np.delete(shape, axis)
    return (np.arange(math.prod(rows)).reshape(rows) * 7 % shape[axis]).astype(np.int32)


def _is_label(shape, axis: int) -> np.ndarray:
    """Which logits are those of the label."""
    numbers = np.moveaxis(
        np.broadcast_to(np.arange(shape[axis]), np.moveaxis(np.empty(shape), axis, -1).shape), -1, axis
    )
    return np.asarray(numbers == np.expand_dims(_labels(shape, axis), axis))


def _some_classes(shape, axis: int) -> np.ndarray:
    """A mask without every fourth logit and without the first example; the label's class is there."""
    kept = (np.arange(math.prod(shape)).reshape(shape) % 4 != 1) | _is_label(shape, axis)
    kept[0] = False
    return kept


def _plain_costs(z, axis: int, mask):
    """−log p_j for every class, among those that are not masked."""
    kept = jnp.where(mask, z, jnp.where(jnp.any(mask, axis, keepdims=True), -jnp.inf, 0))
    return jnp.where(mask, -jax.nn.log_softmax(kept, axis), 0)


def _exact_costs(z, axis: int, mask):
    """log1p(sum_(i≠j) exp(z_i − z_j)) for the truth: JAX's derivative, p_j − 1, is 0 where p_j rounds to 1."""
    z, mask = jnp.moveaxis(z, axis, -1), jnp.moveaxis(jnp.asarray(mask), axis, -1)
    pairs = (*z.shape, z.shape[-1])
    beside = jnp.broadcast_to(jnp.expand_dims(mask, -2), pairs) & jnp.broadcast_to(
        ~np.eye(z.shape[-1], dtype=bool), pairs
    )
    ratios = jnp.where(beside, jnp.exp(jnp.where(beside, jnp.expand_dims(z, -2) - jnp.expand_dims(z, -1), 0)), 0)
    return jnp.moveaxis(jnp.where(mask, jnp.log1p(jnp.sum(ratios, -1)), 0), -1, axis)


def _cross_entropy(costs, axis: int, z, t, w=None, mask=None, smoothing: float = 0.0):
    """The cross-entropy of probabilities with all its options, from the costs of the classes."""
    mask = np.ones(z.shape, bool) if mask is None else mask
    count = np.maximum(np.broadcast_to(mask.sum(axis, keepdims=True), z.shape), 1)
    t = (1 - smoothing) * t + jnp.asarray(smoothing / count, z.dtype)
    if w is not None:
        t = t * jnp.moveaxis(jnp.broadcast_to(w, jnp.moveaxis(z, axis, -1).shape), -1, axis)
    return jnp.sum(jnp.where(mask, t, 0) * costs(z, axis, mask), axis)


def _cross_entropies() -> list[Case]:
    cases = []
    for name, shape, axis, factor, thorough in (
        ("rows", (4, 3), -1, 1.0, True),
        ("dense prediction, channels first", (2, 3, 4, 2), 1, 1.0, False),
        ("one row, no batch axis", (5,), 0, 1.0, False),
        ("one class", (3, 1), -1, 1.0, False),
        ("far apart", (6, 5), -1, 15.0, False),
        ("ImageNet classes", (4, 1000), -1, 1.0, False),
    ):
        made = functools.partial(Case, thorough=thorough, quick=thorough)
        timing = (512, 1000) if shape == (4, 1000) else None

        def hard(z, axis=axis):
            labels = jnp.asarray(_labels(z.shape, axis))
            return jaxconv.softmax_cross_entropy_with_integer_labels(z, labels, axis)

        def soft(z, t, axis=axis):
            return jaxconv.softmax_cross_entropy(z, t, axis)

        def plain_hard(z, costs=_plain_costs, axis=axis):
            return _cross_entropy(costs, axis, z, jnp.asarray(_is_label(z.shape, axis), z.dtype))

        def plain_soft(z, t, costs=_plain_costs, axis=axis):
            return _cross_entropy(costs, axis, z, t)

        exact = functools.partial(functools.partial, costs=_exact_costs)
        cases += [
            made(
                "softmax_cross_entropy_with_integer_labels",
                name,
                hard,
                plain_hard,
                (shape,),
                inputs=times(factor),
                timing=(timing,) if timing else None,
                truth=None if timing else exact(plain_hard),
            ),
            made(
                "softmax_cross_entropy",
                name,
                soft,
                plain_soft,
                (shape, shape),
                # Targets are positive, and need not sum to 1.
                inputs=lambda rng, shape, factor=factor: factor * positive(rng, shape),
                timing=(timing, timing) if timing else None,
                truth=None if timing else exact(plain_soft),
            ),
        ]

    def certain(z):
        return jaxconv.softmax_cross_entropy(z, jnp.asarray(_is_label(z.shape, -1), z.dtype))

    def plain_certain(z, costs=_plain_costs):
        return _cross_entropy(costs, -1, z, jnp.asarray(_is_label(z.shape, -1), z.dtype))

    def every_option(z, t, w):
        mask = jnp.asarray(_some_classes(z.shape, 1))
        return jaxconv.softmax_cross_entropy(z, t, 1, mask, class_weights=w, label_smoothing=0.2)

    def plain_every_option(z, t, w, costs=_plain_costs):
        return _cross_entropy(costs, 1, z, t, w, _some_classes(z.shape, 1), 0.2)

    def every_option_hard(z, w, smoothing):
        return jaxconv.softmax_cross_entropy_with_integer_labels(
            z,
            jnp.asarray(_labels(z.shape, 1)),
            1,
            jnp.asarray(_some_classes(z.shape, 1)),
            class_weights=w,
            ignore_index=2,
            label_smoothing=smoothing,
        )

    def plain_every_option_hard(z, w, smoothing, costs=_plain_costs):
        mask = _some_classes(z.shape, 1) & np.expand_dims(_labels(z.shape, 1) != 2, 1)
        t = jnp.asarray(_is_label(z.shape, 1), z.dtype)
        return _cross_entropy(costs, 1, z, t, w, mask, smoothing)

    shape = (3, 4, 3)
    positive_weights = lambda rng, shape: rng.standard_normal(shape) if len(shape) > 1 else positive(rng, shape)  # noqa: E731
    cases += [
        Case(
            "softmax_cross_entropy",
            "labels of 0 and 1, far apart",
            certain,
            plain_certain,
            ((6, 5),),
            inputs=times(15.0),
            truth=functools.partial(plain_certain, costs=_exact_costs),
        ),
        Case(
            "softmax_cross_entropy",
            "every option",
            every_option,
            plain_every_option,
            (shape, shape, shape[1:2]),
            inputs=positive,
            thorough=True,
            quick=True,
            truth=functools.partial(plain_every_option, costs=_exact_costs),
        ),
    ]
    cases += [
        Case(
            "softmax_cross_entropy_with_integer_labels",
            name,
            functools.partial(every_option_hard, smoothing=smoothing),
            functools.partial(plain_every_option_hard, smoothing=smoothing),
            (shape, shape[1:2]),
            inputs=positive_weights,
            thorough=True,
            quick=True,
            truth=functools.partial(plain_every_option_hard, smoothing=smoothing, costs=_exact_costs),
        )
        for name, smoothing in (("every option", 0.2), ("every option but smoothing", 0.0))
    ]
    return cases


# --- element by element ---


def _where(shape) -> jax.Array:
    """A mask of single elements along the last axis."""
    return jnp.asarray(np.arange(shape[-1]) % 3 != 1)


def _masked(loss):
    """Plain losses with their mask."""
    return jnp.where(jnp.broadcast_to(_where(loss.shape), loss.shape), loss, 0)


def _plain_binary(z, t, weight=None):
    weight = jnp.ones(z.shape, z.dtype) if weight is None else jnp.broadcast_to(weight, z.shape)
    return weight * t * jax.nn.softplus(-z) + (1 - t) * jax.nn.softplus(z)


def _zeros_and_ones(z):
    return jnp.asarray(np.arange(math.prod(z.shape)).reshape(z.shape) % 2, z.dtype)


def _binary() -> list[Case]:
    made = functools.partial(Case, "sigmoid_binary_cross_entropy")
    far = functools.partial(
        made,
        function=lambda z: jaxconv.sigmoid_binary_cross_entropy(z, _zeros_and_ones(z)),
        reference=lambda z: _plain_binary(z, _zeros_and_ones(z)),
        shapes=((401,),),
        quick=True,
    )
    shape = (2, 3, 4)
    return [
        made(
            "every option",
            lambda z, t, p: jaxconv.sigmoid_binary_cross_entropy(z, t, pos_weight=p, where=_where(z.shape)),
            lambda z, t, p: _masked(_plain_binary(z, t, p)),
            (shape, shape, (3, 1)),
            thorough=True,
            quick=True,
        ),
        made("no axis", jaxconv.sigmoid_binary_cross_entropy, _plain_binary, ((), ())),
        made(
            "feature map, a weight per channel",
            lambda z, t, p: jaxconv.sigmoid_binary_cross_entropy(z, t, pos_weight=p),
            lambda z, t, p: _plain_binary(z, t, p.reshape(1, 1, 1, -1)),
            ((2, 14, 14, 8), (2, 14, 14, 8), (8,)),
            inputs=positive,
        ),
        far("whole range", inputs=wide(80.0), dtypes=("float64", "float32")),
        # float16 has no numbers below 6e-8: exp(-12) is 6e-6.
        far("whole range of float16", inputs=wide(12.0), dtypes=("bfloat16", "float16")),
    ]


def _plain_huber(delta: float):
    def plain(e):
        size = jnp.abs(e)
        return jnp.where(size <= delta, 0.5 * e**2, delta * (size - 0.5 * delta))

    return plain


def _errors() -> list[Case]:
    cases = []
    for op, ours, plain in (
        ("squared_error", jaxconv.squared_error, lambda e: e**2),
        ("l2_loss", jaxconv.l2_loss, lambda e: 0.5 * e**2),
        ("absolute_error", jaxconv.absolute_error, jnp.abs),
        ("huber_loss", functools.partial(jaxconv.huber_loss, delta=0.7), _plain_huber(0.7)),
    ):
        cases += [
            Case(
                op,
                "every option",
                lambda y, t, ours=ours: ours(y, t, where=_where(y.shape)),
                lambda y, t, plain=plain: _masked(plain(y - t)),
                ((3, 5), (3, 5)),
                thorough=True,
                quick=True,
            ),
            Case(op, "no targets, no axis", lambda y, ours=ours: ours(y), plain, ((),)),
        ]
    return cases


def cases() -> list[Case]:
    """The cases of this module's ops."""
    return [*_cross_entropies(), *_binary(), *_errors()]


_KEPT_ROWS = np.asarray([True, False, False, True])
_KEPT_CLASSES = np.asarray([[True, False, True], [False, True, True]])

EDGES: dict[str, tuple[Edge, ...]] = {
    "softmax_cross_entropy": (
        Edge(
            "examples left out: 0, whatever they hold",
            lambda z, t: jaxconv.softmax_cross_entropy(z, t, where=jnp.asarray(_KEPT_ROWS)),
            (
                np.asarray([[0.0, 0.0], [nan, 0.0], [inf, -inf], [0.0, 0.0]]),
                np.asarray([[1.0, 0.0], [nan, inf], [1.0, 0.0], [0.5, 0.5]]),
            ),
            np.asarray([math.log(2), 0, 0, math.log(2)]),
            (
                np.asarray([[-0.5, 0.5], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
                math.log(2) * np.asarray([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]),
            ),
        ),
        Edge(
            "classes left out: 0, whatever they hold",
            lambda z, t: jaxconv.softmax_cross_entropy(z, t, where=jnp.asarray(_KEPT_CLASSES), label_smoothing=0.5),
            (np.asarray([[0.0, nan, 0.0], [inf, 0.0, 0.0]]), np.asarray([[1.0, nan, 0.0], [inf, 0.0, 1.0]])),
            np.full(2, math.log(2)),
            (
                np.asarray([[-0.25, 0, 0.25], [0.0, 0.25, -0.25]]),
                0.5 * math.log(2) * np.asarray([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]),
            ),
        ),
        Edge(
            "a class that is all but certain keeps its digits",
            jaxconv.softmax_cross_entropy,
            (np.asarray([[10.0, -10.0]]), np.asarray([[1.0, 0.0]])),
            np.asarray([math.log1p(math.exp(-20))]),
            (
                np.asarray([[-1.0, 1.0]]) / (1 + math.exp(20)),
                np.asarray([[math.log1p(math.exp(-20)), 20 + math.log1p(math.exp(-20))]]),
            ),
        ),
        Edge(
            "a class of weight 0 that is ruled out costs nothing",
            lambda z, w: jaxconv.softmax_cross_entropy(z, jnp.asarray([0.5, 0.5, 0.0], z.dtype), class_weights=w),
            (np.asarray([0.0, -inf, 0.0]), np.asarray([2.0, 0.0, 1.0])),
            np.asarray(math.log(2)),
            (np.asarray([-0.5, 0, 0.5]), np.asarray([0.5 * math.log(2), inf, 0])),
        ),
        Edge(
            "no class at all: nothing to pay",
            jaxconv.softmax_cross_entropy,
            (np.zeros((2, 0)), np.zeros((2, 0))),
            np.zeros(2),
            (np.zeros((2, 0)), np.zeros((2, 0))),
        ),
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
            "examples left out: 0, whatever they hold",
            lambda z, w: jaxconv.softmax_cross_entropy_with_integer_labels(
                z, jnp.asarray([0, 5, 0, -100]), where=jnp.asarray(_KEPT_ROWS), class_weights=w, ignore_index=-100
            ),
            (np.asarray([[0.0, 0.0], [nan, 0.0], [inf, -inf], [nan, nan]]), np.asarray([2.0, 1.0])),
            np.asarray([2 * math.log(2), 0, 0, 0]),
            (np.asarray([[-1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), np.asarray([math.log(2), 0])),
        ),
        Edge(
            "classes left out: 0, whatever they hold",
            lambda z: jaxconv.softmax_cross_entropy_with_integer_labels(
                z, jnp.asarray([0, 1]), where=jnp.asarray(_KEPT_CLASSES), label_smoothing=0.5
            ),
            (np.asarray([[0.0, nan, 0.0], [inf, 0.0, 0.0]]),),
            np.full(2, math.log(2)),
            (np.asarray([[-0.25, 0, 0.25], [0.0, -0.25, 0.25]]),),
        ),
        Edge(
            "a class ruled out: no label, no cost, and with smoothing infinite",
            lambda z: jnp.stack(
                [
                    jaxconv.softmax_cross_entropy_with_integer_labels(z, jnp.asarray(0), label_smoothing=smoothing)
                    for smoothing in (0.0, 0.5)
                ]
            ),
            (np.asarray([0.0, 0.0, -inf]),),
            np.asarray([math.log(2), inf]),
            (np.asarray([-0.5, 0.5, 0]) + np.asarray([-1 / 6, 1 / 3, -1 / 6]),),
        ),
        Edge(
            "a class that is all but certain keeps its digits",
            jaxconv.softmax_cross_entropy_with_integer_labels,
            (np.asarray([[10.0, -10.0]]), np.asarray([0])),
            np.asarray([math.log1p(math.exp(-20))]),
            (np.asarray([[-1.0, 1.0]]) / (1 + math.exp(20)),),
        ),
        Edge(
            "no class at all: no label is one",
            jaxconv.softmax_cross_entropy_with_integer_labels,
            (np.zeros((2, 0)), np.zeros(2, np.int32)),
            np.asarray([nan, nan]),
            (np.zeros((2, 0)),),
        ),
        Edge(
            "smoothed, a label that is no class: NaN, for the weights, too",
            lambda z, w: jaxconv.softmax_cross_entropy_with_integer_labels(
                z, jnp.asarray([0, 2]), class_weights=w, label_smoothing=0.5
            ),
            (np.zeros((2, 2)), np.ones(2)),
            np.asarray([math.log(2), nan]),
            (np.asarray([[-0.25, 0.25], [nan, nan]]), np.asarray([nan, nan])),
        ),
        Edge(
            "a label that is no class, with weights: NaN, for the weights, too",
            lambda z, w: jaxconv.softmax_cross_entropy_with_integer_labels(z, jnp.asarray([0, 2]), class_weights=w),
            (np.zeros((2, 2)), np.ones(2)),
            np.asarray([math.log(2), nan]),
            (np.asarray([[-0.5, 0.5], [nan, nan]]), np.asarray([nan, nan])),
        ),
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
    "sigmoid_binary_cross_entropy": (
        Edge(
            "log 2 at 0",
            jaxconv.sigmoid_binary_cross_entropy,
            (np.asarray([0.0, -0.0]), np.asarray([0.0, 1.0])),
            np.full(2, math.log(2)),
            (np.asarray([0.5, -0.5]), np.zeros(2)),
        ),
        Edge(
            "the second derivative at 0",
            lambda z: jax.grad(
                lambda z: jaxconv.sigmoid_binary_cross_entropy(z, jnp.ones_like(z), pos_weight=3.0).sum()
            )(z),
            (np.asarray([0.0]),),
            np.asarray([-1.5]),
            (np.asarray([0.75]),),
        ),
        Edge(
            "what is ruled out and not there costs nothing",
            lambda z, t, p: jaxconv.sigmoid_binary_cross_entropy(z, t, pos_weight=p),
            (np.asarray([-inf, inf]), np.asarray([0.0, 1.0]), np.asarray(2.0)),
            np.zeros(2),
            (np.zeros(2), np.asarray([inf, -inf]), np.asarray(0.0)),
        ),
        Edge(
            "what is ruled out and there: inf",
            lambda z: jaxconv.sigmoid_binary_cross_entropy(z, jnp.asarray([True, False])),
            (np.asarray([-inf, inf]),),
            np.asarray([inf, inf]),
            (np.asarray([-1.0, 1.0]),),
        ),
        Edge(
            "positives of weight 0 cost nothing",
            lambda z: jaxconv.sigmoid_binary_cross_entropy(z, jnp.asarray([1, 1]), pos_weight=0.0),
            (np.asarray([-inf, 0.0]),),
            np.zeros(2),
            (np.zeros(2),),
        ),
        Edge(
            "left out: 0, whatever it holds",
            lambda z, t, p: jaxconv.sigmoid_binary_cross_entropy(
                z, t, pos_weight=p, where=jnp.asarray([True, False, False, False])
            ),
            (np.asarray([0.0, nan, inf, 0.0]), np.asarray([1.0, 0.0, nan, 1.0]), np.asarray([1.0, 1.0, 1.0, nan])),
            np.asarray([math.log(2), 0, 0, 0]),
            (np.asarray([-0.5, 0, 0, 0]), np.zeros(4), np.asarray([math.log(2), 0, 0, 0])),
        ),
        Edge(
            "NaN stays",
            jaxconv.sigmoid_binary_cross_entropy,
            (np.asarray([nan]), np.asarray([1.0])),
            np.asarray([nan]),
            (np.asarray([nan]), np.asarray([nan])),
        ),
        Edge(
            "an empty axis",
            lambda z, p: jaxconv.sigmoid_binary_cross_entropy(z, z, pos_weight=p),
            (np.zeros((0, 3)), np.ones(3)),
            np.zeros((0, 3)),
            (np.zeros((0, 3)), np.zeros(3)),
        ),
    ),
}


def _edges_of_errors(op, at, slope, nan_slope) -> tuple[Edge, ...]:
    """What the losses of an error share: the loss and its slope at 3, and its slope at NaN."""
    masked = lambda y, t: op(y, t, where=jnp.asarray([True, False, False, False]))  # noqa: E731
    return (
        Edge(
            "no error, no gradient",
            op,
            (np.asarray([0.0, -0.0, 2.0]), np.asarray([0.0, 0.0, 2.0])),
            np.zeros(3),
            (np.zeros(3), np.zeros(3)),
        ),
        Edge(
            "left out: 0, whatever it holds",
            masked,
            (np.asarray([1.0, nan, inf, 1.0]), np.asarray([-2.0, 0.0, inf, nan])),
            np.asarray([at, 0, 0, 0]),
            (np.asarray([slope, 0, 0, 0]), np.asarray([-slope, 0, 0, 0])),
        ),
        Edge(
            "left out, with an infinite cotangent",
            lambda y, t: jnp.log(masked(y, t)),
            (np.full(4, 1.0), np.full(4, -2.0)),
            np.asarray([math.log(at), -inf, -inf, -inf]),
            (np.asarray([slope / at, 0, 0, 0]), np.asarray([-slope / at, 0, 0, 0])),
        ),
        Edge("NaN stays", op, (np.asarray([nan]),), np.asarray([nan]), (np.asarray([nan_slope]),)),
        Edge("an empty axis", op, (np.zeros((2, 0)),), np.zeros((2, 0)), (np.zeros((2, 0)),)),
    )


EDGES |= {
    "squared_error": _edges_of_errors(jaxconv.squared_error, 9.0, 6.0, nan),
    "l2_loss": _edges_of_errors(jaxconv.l2_loss, 4.5, 3.0, nan),
    "absolute_error": (
        *_edges_of_errors(jaxconv.absolute_error, 3.0, 1.0, 0.0),
        Edge(
            "infinities",
            jaxconv.absolute_error,
            (np.asarray([inf, -inf]),),
            np.full(2, inf),
            (np.asarray([1.0, -1.0]),),
        ),
    ),
    "huber_loss": (
        *_edges_of_errors(jaxconv.huber_loss, 2.5, 1.0, nan),
        Edge(
            "at delta and at infinity",
            jaxconv.huber_loss,
            (np.asarray([1.0, -1.0, inf, -inf]),),
            np.asarray([0.5, 0.5, inf, inf]),
            (np.asarray([1.0, -1.0, 1.0, -1.0]),),
        ),
        Edge(
            "the second derivative at delta: the inner one",
            lambda y: jax.grad(lambda y: jaxconv.huber_loss(y).sum())(y),
            (np.asarray([1.0, -1.0, 2.0]),),
            np.asarray([1.0, -1.0, 1.0]),
            (np.asarray([1.0, 1.0, 0.0]),),
        ),
    ),
}
