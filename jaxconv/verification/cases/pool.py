"""Cases of the windowed poolings."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxconv
from jaxconv.geometry import pool_window
from jaxconv.verification.cases.case import Case, Shape, ascending, column, distinct, inf, nan, times
from jaxconv.verification.cases.conv import with_named_padding
from jaxconv.verification.checks import Edge


def plain_pool(kind, x, window, *, count_include_pad=True, p=2, sharpness=1.0, data_format="channels_last", **options):
    """The pooling by lax alone; windows with dilation are slices, as lax.reduce_window has no gradient for them."""
    ndim = x.ndim - 2 if isinstance(window, int) else len(window)
    nb = x.ndim - ndim - 1
    if data_format == "channels_first":
        x = jnp.moveaxis(x, nb, -1)
    batch = x.shape[:nb]
    x = x.reshape(math.prod(batch), *x.shape[nb:])
    if "padding" in options and not isinstance(window, int):
        x, padding = with_named_padding(x, window, options["padding"], options.get("dilation", 1))
        options = {**options, "padding": padding}
    sliding = pool_window(x.shape[1:-1], window, **options)
    reducer, identity = {
        "max": (lax.max, -jnp.inf),
        "min": (lax.min, jnp.inf),
        "lp": (lambda views: jnp.sum(jnp.abs(views) ** p, 0) ** (1 / p), 0.0),
        "logsumexp": (lambda views: jax.nn.logsumexp(sharpness * views, 0) / sharpness, -jnp.inf),
    }.get(kind, (lax.add, 0.0))
    sizes, strides = (1, *sliding.window_size, 1), (1, *sliding.strides, 1)
    pads = [(0, 0), *sliding.padding, (0, 0)]
    padded_size = [n + low + high for n, (low, high) in zip(sliding.input_size, sliding.padding, strict=True)]
    plain = set(sliding.dilation) == {1} and kind not in ("lp", "logsumexp")
    if plain and min(map(min, pads)) >= 0:
        y = lax.reduce_window(x, identity, reducer, sizes, strides, pads)
    else:
        # The gradient of lax.reduce_window refuses a negative padding: it is made explicit.
        padded = lax.pad(x, jnp.asarray(identity, x.dtype), [(low, high, 0) for low, high in pads])
        reduced = reducer if reducer is not lax.add else None
        if plain:
            y = lax.reduce_window(padded, identity, reducer, sizes, strides, "VALID")
        else:
            y = _reduced_slices(padded, sliding, reduced)
    if kind == "avg":
        # How many positions each window counts: the same sum over an indicator.
        inside = np.zeros(padded_size)
        low_high = [
            (low if not count_include_pad else min(low, 0), low + n if not count_include_pad else low + n + high - over)
            for n, (low, high), over in zip(sliding.input_size, sliding.padding, sliding.overhang, strict=True)
        ]
        inside[tuple(slice(max(0, low), max(0, high)) for low, high in low_high)] = 1
        counts = np.zeros(sliding.output_size)
        for tap in sliding.taps():
            counts += inside[_tap_slices(sliding, tap)]
        y = y / jnp.asarray(np.maximum(counts, 1), y.dtype)[None, ..., None]
    y = y.reshape(*batch, *y.shape[1:])
    return jnp.moveaxis(y, -1, nb) if data_format == "channels_first" else y


def _tap_slices(sliding, tap):
    starts = [d * i for d, i in zip(sliding.dilation, tap, strict=True)]
    return tuple(
        slice(a, a + s * (o - 1) + 1, s) for a, s, o in zip(starts, sliding.strides, sliding.output_size, strict=True)
    )


def _reduced_slices(padded, sliding, reducer):
    views = jnp.stack([padded[(slice(None), *_tap_slices(sliding, tap))] for tap in sliding.taps()])
    if reducer is None:
        return jnp.sum(views, 0)
    if reducer not in (lax.max, lax.min):
        return reducer(views)
    # The first of equal elements wins, as in lax.reduce_window; jnp.max would share the gradient among them.
    winner = jnp.argmax(views, 0) if reducer is lax.max else jnp.argmin(views, 0)
    return jnp.take_along_axis(views, winner[None], 0)[0]


_ALL_KINDS = ("max", "min", "sum", "avg")


@dataclasses.dataclass(frozen=True)
class _Pool:
    """A pooling, from which a case of each kind is made."""

    name: str
    x: Shape
    window: int | Shape
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    kinds: tuple[str, ...] = ("max", "avg")
    thorough: bool = False
    quick: bool = False
    timed: Shape | None = None
    # Distinct in every dtype, as far as it can hold: ties are a matter of EDGES.
    inputs: Callable = distinct

    def cases(self) -> list[Case]:
        cases = []
        for kind in self.kinds:
            options = (
                self.options if kind == "avg" else {k: v for k, v in self.options.items() if k != "count_include_pad"}
            )
            op = functools.partial(getattr(jaxconv, f"{kind}_pool"), window=self.window, **options)
            plain = functools.partial(plain_pool, kind, window=self.window, **options)
            timing = (self.timed,) if self.timed else None
            cases.append(
                Case(
                    f"{kind}_pool",
                    self.name,
                    lambda x, op=op: op(x),
                    lambda x, plain=plain: plain(x),
                    (self.x,),
                    inputs=self.inputs,
                    thorough=self.thorough,
                    quick=self.quick,
                    timing=timing,
                )
            )
        return cases


_POOL_EVERYTHING = {
    "strides": (3, 1),
    "padding": ((1, 2), (0, 1)),
    "dilation": (1, 2),
    "ceil_mode": True,
    "count_include_pad": False,
    "data_format": "channels_first",
}

_POOLS = [
    _Pool("every option", (2, 2, 8, 7), (3, 2), _POOL_EVERYTHING, thorough=True, quick=True, kinds=_ALL_KINDS),
    _Pool("2x2", (2, 6, 4, 3), 2),
    _Pool("rest left over", (2, 7, 5, 2), 2),
    _Pool(
        "overlapping, SAME",
        (1, 9, 7, 2),
        3,
        {"strides": 2, "padding": "SAME", "count_include_pad": False},
        quick=True,
        kinds=_ALL_KINDS,
    ),
    _Pool("stride 1", (1, 6, 7, 2), (3, 2), {"strides": 1, "padding": "SAME_LOWER"}, kinds=_ALL_KINDS),
    _Pool("gaps between windows", (1, 11, 9, 2), (2, 3), {"strides": (4, 5), "padding": ((1, 0), (0, 2))}),
    _Pool("cropped", (1, 9, 8, 2), (2, 3), {"strides": (2, 1), "padding": ((-1, 1), (1, -2))}, kinds=_ALL_KINDS),
    _Pool(
        "circular and reflected",
        (1, 7, 6, 2),
        (4, 3),
        {"strides": (2, 1), "padding": ("CIRCULAR", "REFLECT"), "count_include_pad": False},
        kinds=_ALL_KINDS,
    ),
    _Pool("padding counts", (1, 5, 6, 2), 3, {"strides": 2, "padding": 1, "count_include_pad": True}, kinds=("avg",)),
    _Pool("hanging over the end", (1, 6, 7, 2), 4, {"strides": 3, "padding": 1, "ceil_mode": True}),
    _Pool("window as large as the input", (2, 5, 4, 2), (5, 4)),
    _Pool("49 taps", (1, 9, 10, 2), 7, {"strides": 2, "padding": 3}, kinds=_ALL_KINDS),
    _Pool("289 taps", (1, 18, 17, 1), 17, {"strides": 1}, kinds=("max",), inputs=ascending),
    _Pool("1-D", (2, 15, 3), (4,), {"strides": 3, "padding": ((2, 1),)}),
    _Pool("3-D", (1, 5, 4, 6, 2), (2, 3, 2), {"strides": (1, 2, 2), "padding": "SAME"}),
    _Pool("no batch axis", (6, 5, 2), (2, 2)),
    _Pool("size-1 axes", (1, 1, 1, 1), 1, kinds=_ALL_KINDS),
    # Real layers.
    _Pool("VGG", (2, 32, 32, 64), 2, kinds=("max", "avg"), timed=(128, 32, 32, 64)),
    _Pool(
        "ResNet stem", (1, 56, 56, 64), 3, {"strides": 2, "padding": "SAME"}, kinds=("max",), timed=(16, 112, 112, 64)
    ),
    _Pool("Inception", (1, 28, 28, 32), 3, {"strides": 1, "padding": "SAME"}, kinds=("max",), timed=(32, 28, 28, 32)),
    _Pool(
        "ResNet-D",
        (1, 28, 28, 128),
        3,
        {"strides": 2, "padding": "SAME", "count_include_pad": False},
        kinds=("avg",),
        timed=(16, 56, 56, 128),
    ),
]


def _soft_cases() -> list[Case]:
    """Of lp_pool and logsumexp_pool; 0, where |x|^p has its kink, is left to EDGES."""
    every = {name: value for name, value in _POOL_EVERYTHING.items() if name != "count_include_pad"}
    overlapping = {"strides": 2, "padding": "SAME"}
    pools: list[tuple[str, str, Shape, int | Shape, dict[str, Any]]] = [
        ("lp", "every option", (2, 2, 8, 7), (3, 2), every | {"p": 3}),
        ("lp", "p below 2", (1, 7, 6, 2), 3, overlapping | {"p": 1.5}),
        ("lp", "p = 1", (1, 6, 4, 2), 2, {"p": 1}),
        ("lp", "p = 2, 3-D", (1, 5, 4, 6, 2), (2, 3, 2), {"p": 2, "strides": (1, 2, 2), "padding": "SAME"}),
        ("lp", "p = 2, 49 taps", (1, 9, 10, 2), 7, {"p": 2, "strides": 2, "padding": 3}),
        ("lp", "p above 2", (2, 15, 3), (4,), {"p": 4.5, "strides": 3, "padding": ((2, 1),)}),
        ("lp", "circular", (1, 7, 2), (3,), {"p": 2, "strides": 2, "padding": ("CIRCULAR",)}),
        ("logsumexp", "replicated", (1, 7, 2), (4,), {"strides": 2, "padding": ("REPLICATE",)}),
        ("logsumexp", "every option", (2, 2, 8, 7), (3, 2), every | {"sharpness": 2.5}),
        ("logsumexp", "overlapping, SAME", (1, 9, 7, 2), 3, overlapping),
        ("logsumexp", "3-D", (1, 5, 4, 6, 2), (2, 3, 2), {"strides": (1, 2, 2), "padding": "SAME"}),
        ("logsumexp", "49 taps", (1, 9, 10, 2), 7, {"sharpness": 0.5, "strides": 2, "padding": 3}),
        ("logsumexp", "far from 0", (2, 12, 2), (3,), {"sharpness": 20}),
    ]
    found = []
    for kind, name, shape, window, options in pools:
        op = functools.partial(getattr(jaxconv, f"{kind}_pool"), window=window, **options)
        plain = functools.partial(plain_pool, kind, window=window, **options)
        found.append(
            Case(
                f"{kind}_pool",
                name,
                lambda x, op=op: op(x),
                lambda x, plain=plain: plain(x),
                (shape,),
                inputs=(lambda rng, shape: rng.standard_normal(shape) + 100) if name == "far from 0" else times(1.0),
                thorough=name == "every option",
                quick=name == "every option",
            )
        )
    return found


def _index_cases() -> list[Case]:
    """Of max_pool_with_indices and max_unpool; the indices themselves are in tests/test_pool.py."""
    every = {name: value for name, value in _POOL_EVERYTHING.items() if name != "count_include_pad"}
    pools: list[tuple[str, Shape, int | Shape, dict[str, Any]]] = [
        ("every option", (2, 2, 8, 7), (3, 2), every),
        ("overlapping, 3-D", (1, 5, 4, 6, 2), (2, 3, 2), {"strides": 1, "padding": "SAME"}),
    ]
    found = []
    for name, shape, window, options in pools:
        found.append(
            Case(
                "max_pool_with_indices",
                name,
                lambda x, window=window, options=options: jaxconv.max_pool_with_indices(x, window, **options)[0],
                lambda x, window=window, options=options: plain_pool("max", x, window, **options),
                (shape,),
                inputs=distinct,
                thorough=name == "every option",
                quick=name == "every option",
            )
        )
    unpools: list[tuple[str, Shape, Shape, dict[str, Any]]] = [
        ("every option", (2, 3, 3, 4), (5, 4), {"data_format": "channels_first"}),
        ("many at one position", (1, 700, 1), (3,), {}),
        ("no batch axis, 3-D", (2, 3, 2, 2), (3, 4, 5), {}),
    ]
    for name, shape, size, options in unpools:
        # Indices one beyond the output on both sides are dropped.
        indices = np.random.default_rng(0).integers(-1, math.prod(size) + 1, shape).astype(np.int32)
        found.append(
            Case(
                "max_unpool",
                name,
                lambda y, indices=indices, size=size, options=options: jaxconv.max_unpool(
                    y, jnp.asarray(indices), size, **options
                ),
                lambda y, indices=indices, size=size, options=options: plain_unpool(y, indices, size, **options),
                (shape,),
                thorough=name == "every option",
                quick=name != "no batch axis, 3-D",
            )
        )
    return found


def plain_unpool(y, indices, output_size, data_format="channels_last"):
    """max_unpool as a product with the indicator of the indices."""
    ndim = len(output_size)
    if data_format == "channels_first":
        y, indices = (jnp.moveaxis(a, -ndim - 1, -1) for a in (y, indices))
    batch, channels = y.shape[: -ndim - 1], y.shape[-1]
    y, indices = (a.reshape(*batch, math.prod(a.shape[len(batch) : -1]), channels) for a in (y, indices))
    x = jnp.einsum("...pc,...pcu->...uc", y, jax.nn.one_hot(indices, math.prod(output_size), dtype=y.dtype))
    x = x.reshape(*batch, *output_size, channels)
    return jnp.moveaxis(x, -1, -ndim - 1) if data_format == "channels_first" else x


def cases() -> list[Case]:
    """The cases of this module's ops."""
    return [case for pool in _POOLS for case in pool.cases()] + _soft_cases() + _index_cases()


def _pool_edges(op: Callable, sign: int) -> tuple[Edge, ...]:
    """Of max_pool (sign 1) and min_pool (sign −1), whose every example is the other's negated."""
    pool = lambda **options: lambda x: op(x, 2, **{"strides": 2, **options})  # noqa: E731

    def edge(convention, function, x, y, dx, dy=1.0):
        return Edge(convention, function, (sign * column(*x),), sign * column(*y), (column(*dx),), dy)

    return (
        edge("a tie: the first tap gets all", pool(), (1, 1, 0, 0), (1, 0), (1, 0, 1, 0)),
        edge("a tie of ±0", pool(), (0.0, -0.0, -0.0, 0.0), (0, 0), (1, 0, 1, 0)),
        edge("overlapping windows add up", pool(strides=1), (1, 3, 2), (3, 3), (0, 2, 0)),
        edge("padding never wins a tie", pool(padding=((1, 1),)), (-inf, 0, 1, -inf), (-inf, 1, -inf), (1, 0, 1, 1)),
        edge("a window wholly in the padding", pool(padding=((2, 0),)), (1, 2), (-inf, 2), (0, 1)),
        edge("NaN is the extremum of its window", pool(), (1, nan, 2, 1), (nan, 2), (0, 1, 1, 0)),
        edge("the first NaN gets the gradient", pool(), (nan, nan, 1, 2), (nan, 2), (1, 0, 0, 1)),
        edge("infinities are ordinary", pool(), (inf, 1, -inf, 3), (inf, 3), (1, 0, 0, 1)),
        edge("nothing to pool in the batch", lambda x: op(x[:0], 2), (1, 2), (), (0, 0))._replace(
            y=np.zeros((0, 1, 1))
        ),
        edge("one position", lambda x: op(x, 1), (5,), (5,), (1,)),
        edge("a position that no window reads", pool(strides=3), (1, 2, 9, 4, 3), (2, 4), (0, 1, 0, 1, 0)),
    )


def _sum_edges(op: Callable, share: float) -> tuple[Edge, ...]:
    """Of sum_pool (share 1) and avg_pool (share 1/2), with windows of two."""
    return (
        Edge(
            "NaN and inf stay",
            lambda x: op(x, 2),
            (column(nan, 1, inf, 1),),
            column(nan, inf),
            (column(*[share] * 4),),
        ),
        Edge("inf − inf is NaN", lambda x: op(x, 2), (column(inf, -inf),), column(nan), (column(share, share),)),
        Edge("an empty batch", lambda x: op(x[:0], 2), (column(1, 2),), np.zeros((0, 1, 1)), (column(0, 0),)),
        Edge("an empty axis", lambda x: op(x[:, :0], 2), (column(1, 2),), np.zeros((1, 0, 1)), (column(0, 0),)),
    )


def _unpool_edge(convention, y, indices, size, x, dy) -> Edge:
    at = np.asarray(indices, np.int32).reshape(1, -1, 1)
    unpool = lambda y: jaxconv.max_unpool(y, jnp.asarray(at), (size,))  # noqa: E731
    return Edge(convention, unpool, (column(*y),), column(*x), (column(*dy),), column(*(10.0, 20.0, 30.0)[:size]))


def _lp_edge(convention, p, x, y, dx, window=2, **options) -> Edge:
    return Edge(
        convention,
        lambda x: jaxconv.lp_pool(x, window, p, **options),
        (column(*x),),
        column(*y),
        (column(*dx),),
    )


def _lse_edge(convention, x, y, dx, window=2, **options) -> Edge:
    return Edge(
        convention,
        lambda x: jaxconv.logsumexp_pool(x, window, **options),
        (column(*x),),
        column(*y),
        (None if dx is None else column(*dx),),
    )


EDGES: dict[str, tuple[Edge, ...]] = {
    "max_pool": _pool_edges(jaxconv.max_pool, 1),
    "min_pool": _pool_edges(jaxconv.min_pool, -1),
    "max_pool_with_indices": (
        *_pool_edges(lambda *args, **options: jaxconv.max_pool_with_indices(*args, **options)[0], 1),
        Edge(
            "the indices are those of the input without padding",
            lambda x: jaxconv.max_unpool(*jaxconv.max_pool_with_indices(x, 2, padding=((1, 1),)), 4),
            (column(1, 3, 2, 5),),
            column(1, 3, 0, 5),
            (column(1, 1, 0, 1),),
        ),
    ),
    "max_unpool": (
        _unpool_edge("what has one index adds up", (1, 2, 4), (1, 1, 0), 3, (4, 3, 0), (20, 20, 10)),
        _unpool_edge("an index outside the output is dropped", (1, 2, 4), (-1, 3, 2), 3, (0, 0, 4), (0, 0, 30)),
        _unpool_edge("NaN and inf stay where they are put", (nan, inf, 1), (0, 2, 2), 3, (nan, 0, inf), (10, 30, 30)),
        _unpool_edge("no output position", (1, 2), (0, 0), 0, (), (0, 0)),
        _unpool_edge("nothing to put", (), (), 2, (0, 0), ()),
    ),
    "sum_pool": (
        *_sum_edges(jaxconv.sum_pool, 1.0),
        Edge(
            "a window wholly in the padding",
            lambda x: jaxconv.sum_pool(x, 2, padding=((2, 0),)),
            (column(1, 2),),
            column(0, 3),
            (column(1, 1),),
        ),
    ),
    "avg_pool": (
        *_sum_edges(jaxconv.avg_pool, 0.5),
        Edge(
            "a window wholly in the padding: 0, not 0/0",
            lambda x: jaxconv.avg_pool(x, 2, padding=((2, 0),), count_include_pad=False),
            (column(1, 2),),
            column(0, 1.5),
            (column(0.5, 0.5),),
        ),
        Edge(
            "the padding counts",
            lambda x: jaxconv.avg_pool(x, 2, padding=((1, 1),)),
            (column(1, 2),),
            column(0.5, 1),
            (column(0.5, 0.5),),
        ),
        Edge(
            "the padding does not count",
            lambda x: jaxconv.avg_pool(x, 2, padding=((1, 1),), count_include_pad=False),
            (column(1, 2),),
            column(1, 2),
            (column(1, 1),),
        ),
    ),
    "lp_pool": (
        _lp_edge("a window of zeros: no gradient", 2, (0, 0, 3, -4), (0, 5), (0, 0, 0.6, -0.8)),
        _lp_edge("0 in a window: no gradient there", 1.5, (0, 2, 0, -3), (2, 3), (0, 1, 0, -1)),
        _lp_edge("p = 1 at 0: no gradient", 1, (0, 2, -0.0, -3), (2, 3), (0, 1, 0, -1)),
        _lp_edge("powers beyond the range", 1000, (-(2**15), 1, 2**-14, 0), (2**15, 2**-14), (-1, 0, 1, 0)),
        _lp_edge(
            "squares of a narrow dtype beyond its range",
            2,
            (2**15, 2**14, 2**-13, 2**-14),
            (2**14 * math.sqrt(5), 2**-14 * math.sqrt(5)),
            (math.sqrt(0.8), math.sqrt(0.2)) * 2,
        ),
        _lp_edge("an infinite element has all", 3, (-inf, 5, 1, inf), (inf, inf), (-1, 0, 0, 1)),
        _lp_edge("NaN", 3, (nan, 5, 0, 7), (nan, 7), (nan, nan, 0, 1)),
        _lp_edge("a window wholly in the padding", 2, (3, -2), (0, 3, 2), (1, -1), padding=((3, 1),)),
        _lp_edge("a position that no window reads", 2, (3, nan, -4, inf), (3, 4), (1, 0, -1, 0), strides=2, window=1),
        Edge(
            "an empty batch",
            lambda x: jaxconv.lp_pool(x[:0], 2, 2),
            (column(1, 2),),
            np.zeros((0, 1, 1)),
            (column(0, 0),),
        ),
        Edge(
            "an empty axis",
            lambda x: jaxconv.lp_pool(x[:, :0], 2, 2),
            (column(1, 2),),
            np.zeros((1, 0, 1)),
            (column(0, 0),),
        ),
    ),
    "logsumexp_pool": (
        _lse_edge("a tie shares", (1, 1, 0, 0), (1 + math.log(2), math.log(2)), (0.5, 0.5, 0.5, 0.5)),
        _lse_edge(
            "a small value keeps its digits", (0, -8, -9, 0), (math.log1p(math.exp(-8)), math.log1p(math.exp(-9))), None
        ),
        _lse_edge(
            "exponentials beyond the range", (2**15, -(2**15), 500, 500), (2**15, 500 + math.log(2)), (1, 0, 0.5, 0.5)
        ),
        _lse_edge("+inf shares with +inf", (inf, inf, 3, inf), (inf, inf), (0.5, 0.5, 0, 1)),
        _lse_edge("-inf takes no part", (-inf, 3, -inf, -inf), (3, -inf), (0, 1, 0, 0)),
        _lse_edge("NaN", (nan, 5, -inf, 7), (nan, 7), (nan, nan, 0, 1)),
        _lse_edge("a window wholly in the padding", (3, -2), (-inf, 3, -2), (1, 1), padding=((3, 1),)),
        _lse_edge("a position that no window reads", (3, nan, -4, inf), (3, -4), (1, 0, 1, 0), strides=2, window=1),
        Edge(
            "an empty batch",
            lambda x: jaxconv.logsumexp_pool(x[:0], 2),
            (column(1, 2),),
            np.zeros((0, 1, 1)),
            (column(0, 0),),
        ),
        Edge(
            "an empty axis",
            lambda x: jaxconv.logsumexp_pool(x[:, :0], 2),
            (column(1, 2),),
            np.zeros((1, 0, 1)),
            (column(0, 0),),
        ),
    ),
}
