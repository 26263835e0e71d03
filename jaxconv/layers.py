"""Nets as layers, each a few pure functions, and their summary as a table.

    net = serial(conv_layer(32, 3), relu_layer, max_pool_layer(2), flatten_layer, dense_layer(10))
    params = net.init(jax.random.key(0), (28, 28, 1))
    logits = net.apply(params, images)                # images: (N, 28, 28, 1)
    print(summary(net, (28, 28, 1)))

A layer of your own is `Layer(name, init, apply)`. Shapes given to `init` and `summary` are those of one example,
(*spatial, C); `apply` takes one batch axis before them. `serial`, `branches` and `residual` make one layer of several.

Batch normalisation has a state, its running statistics, and dropout needs a key. In training, any net can be used as

    state = net.init_state((28, 28, 1))
    logits, state = net.train(params, state, images, key)

and afterwards as `net.apply(params, images, state)`, or as above if no layer of it has a state. `apply` is
deterministic. The state is no part of the params, so an optimizer never sees it.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

from jaxconv.activation import identity, leaky_relu, relu, sigmoid, tanh
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.conv import conv
from jaxconv.geometry import Padding, Window, check_groups, conv_window, per_axis, pool_window
from jaxconv.linear import dense, flatten
from jaxconv.norm import batch_norm, batch_norm_inference
from jaxconv.pool import avg_pool, global_avg_pool, global_max_pool, max_pool, min_pool, sum_pool
from jaxconv.softmax import log_softmax, softmax

__all__ = [
    "Layer",
    "Reach",
    "Row",
    "Summary",
    "avg_pool_layer",
    "conv_layer",
    "dense_layer",
    "elementwise_layer",
    "flatten_layer",
    "global_avg_pool_layer",
    "global_max_pool_layer",
    "leaky_relu_layer",
    "log_softmax_layer",
    "max_pool_layer",
    "min_pool_layer",
    "output_shape",
    "relu_layer",
    "serial",
    "sigmoid_layer",
    "softmax_layer",
    "sum_pool_layer",
    "summary",
    "tanh_layer",
]

Shape = tuple[int, ...]
Params = Any
State = Any
Initializer = Callable[..., jax.Array]


def _no_params(key: jax.Array, input_shape: Shape, dtype: Any = jnp.float32) -> Params:
    del key, input_shape, dtype
    return ()


def _no_state(input_shape: Shape, dtype: Any = jnp.float32) -> State:
    del input_shape, dtype
    return ()


def _no_flops(input_shape: Shape, output_shape: Shape) -> int:
    del input_shape, output_shape
    return 0


def _one_flop_each(input_shape: Shape, output_shape: Shape) -> int:
    del input_shape
    return math.prod(output_shape)


class Reach(NamedTuple):
    """Which positions of its input a layer looks at, where no `geometry.Window` says it.

    Args:
        extent: along each spatial axis, how many input positions one output position looks at; `math.inf` for all of
            them. Where outputs lie denser than inputs it need not be whole.
        strides: how many input positions lie between one output position and the next.

    Example:
        >>> twice_as_large = Reach(extent=(1, 1), strides=(Fraction(1, 2), Fraction(1, 2)))
    """

    extent: tuple[float | Fraction, ...]
    strides: tuple[int | Fraction, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A layer: pure functions, and what `summary` says of it. A simple one is `Layer(name, init, apply)`.

    Args:
        name: what it is called in a summary.
        init: (key, input_shape, dtype=float32) -> params, a pytree; input_shape is that of one example.
        apply: (params, x) -> y, with one batch axis first in x and y; (params, x, state) -> y for a layer with a state.
            It is the layer as it is used after training, and deterministic.
        window: input_shape -> the `geometry.Window` that slides over it, or a `Reach`; None for a layer that mixes no
            positions.
        flops: (input_shape, output_shape) -> floating-point operations of apply for one example; a multiplication and an
            addition count as two. For a layer made of others, those of combine alone.
        layers: what it is made of, if it is: a summary shows these in its place.
        combine: None if `layers` are applied one after the other. Otherwise each is applied to x, and this function,
            (*ys) -> y, makes one array of their results.
        init_state: (input_shape, dtype=float32) -> state, a pytree, for a layer that keeps something besides its params.
        train: (params, state, x, key) -> (y, state), the layer as it is used in training; the key is for dropout and the
            like. By default it is apply, and leaves the state as it is.

    Example:
        >>> double = Layer("double", lambda key, input_shape, dtype=jnp.float32: (), lambda params, x: 2 * x)
        >>> double.apply(double.init(jax.random.key(0), (3,)), jnp.ones((1, 3))).tolist()
        [[2.0, 2.0, 2.0]]
    """

    name: str
    init: Callable[..., Params]
    apply: Callable[..., jax.Array]
    window: Callable[[Shape], Window | Reach] | None = None
    flops: Callable[[Shape, Shape], int] = _no_flops
    layers: tuple["Layer", ...] = ()
    combine: Callable[..., jax.Array] | None = None
    init_state: Callable[..., State] = _no_state
    train: Callable[[Params, State, jax.Array, jax.Array], tuple[jax.Array, State]] = cast(Any, None)

    def __post_init__(self):
        if self.train is None:
            as_applied = lambda params, state, x, key: (_apply(self, params, state, x), state)  # noqa: E731
            object.__setattr__(self, "train", as_applied)

    @property
    def stateful(self) -> bool:
        """Whether it has a state, which apply then takes."""
        return self.init_state is not _no_state


def serial(*layers: Layer) -> Layer:
    """The layers one after the other, as one layer.

    Its params are a tuple, one entry per layer; so is its state, or () if no layer has one.

    Example:
        >>> net = serial(flatten_layer, dense_layer(10))
        >>> net.apply(net.init(jax.random.key(0), (4, 4, 1)), jnp.ones((2, 4, 4, 1))).shape
        (2, 10)
    """
    return _composite("serial", layers, None, _no_flops)


def branches(
    *layers: Layer,
    combine: Callable[..., jax.Array] | None = None,
    flops: Callable[[Shape, Shape], int] = _no_flops,
) -> Layer:
    """Every layer applied to the same array, and their results combined; params and state as in `serial`.

    Args:
        layers: the branches; `identity_layer` passes the array on as it is.
        combine: (*ys) -> y; by default the results stand one behind the other along the channels.
        flops: those of combine, as in `Layer`.

    Example:
        >>> net = branches(conv_layer(8, 1), max_pool_layer(3, strides=1, padding="SAME"))
        >>> summary(serial(net, relu_layer), (8, 8, 4))
        layer         output shape  parameters  FLOPs  receptive field
        --------------------------------------------------------------
        input         8x8x4                  0      0  1x1
        + conv 8 1    8x8x8                 40  4,608  1x1
        + max_pool 3  8x8x4                  0  2,304  3x3
        concatenate   8x8x12                 0      0  3x3
        relu          8x8x12                 0    768  3x3
        --------------------------------------------------------------
        total                               40  7,680
    """
    combine = combine or _concatenate
    return _composite(getattr(combine, "__name__", "combine").strip("_"), layers, combine, flops)


def residual(body: Layer, shortcut: Layer | None = None) -> Layer:
    """The sum of two layers of the same array: the body, and the array itself or a shortcut that changes its shape.

    Example:
        >>> block = residual(serial(conv_layer(8, 3, padding="SAME"), relu_layer), conv_layer(8, 1, use_bias=False))
        >>> block.apply(block.init(jax.random.key(0), (5, 5, 4)), jnp.ones((2, 5, 5, 4))).shape
        (2, 5, 5, 8)
    """
    return branches(body, shortcut or identity_layer, combine=_add, flops=_one_flop_each)


def _concatenate(*arrays: jax.Array) -> jax.Array:
    return jnp.concatenate(arrays, axis=-1)


def _add(body: jax.Array, shortcut: jax.Array) -> jax.Array:
    if body.shape != shortcut.shape:
        raise ValueError(
            f"residual: got a body that gives {body.shape[1:]} and a shortcut that gives {shortcut.shape[1:]}, expected "
            "one shape: give it a shortcut with the strides and the features of the body"
        )
    return body + shortcut


def _composite(
    name: str,
    layers: tuple[Layer, ...],
    combine: Callable[..., jax.Array] | None,
    flops: Callable[[Shape, Shape], int],
) -> Layer:
    """One layer made of several: one after the other, or side by side if there is a combine."""
    stateful = [layer for layer in layers if layer.stateful]

    def flow(use: Callable[[int, jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        if combine is not None:
            return combine(*(use(number, x) for number in range(len(layers))))
        for number in range(len(layers)):
            x = use(number, x)
        return x

    def states_of(state: State) -> State:
        if not stateful:
            return ((),) * len(layers)
        if len(state) != len(layers):
            raise ValueError(
                f"state: got {'none' if len(state) == 0 else f'{len(state)} entries'}, expected {len(layers)}, one per "
                f"layer: {stateful[0].name} has a state; call net.apply(params, x, state) with the state that "
                "net.init_state(input_shape) makes and net.train returns"
            )
        return state

    def init(key: jax.Array, input_shape: Shape, dtype: Any = jnp.float32) -> Params:
        params = []
        for layer, layer_key in zip(layers, jax.random.split(key, len(layers)), strict=True):
            params.append(layer.init(layer_key, input_shape, dtype))
            if combine is None:
                input_shape = _shape_after(layer, params[-1], input_shape, dtype)
        return tuple(params)

    def init_state(input_shape: Shape, dtype: Any = jnp.float32) -> State:
        states = []
        for layer in layers:
            states.append(layer.init_state(input_shape, dtype))
            if combine is None:
                input_shape = output_shape(layer, input_shape, dtype)
        return tuple(states)

    def apply(params: Params, x: jax.Array, state: State = ()) -> jax.Array:
        states = states_of(state)
        return flow(lambda number, x: _apply(layers[number], params[number], states[number], x), x)

    def train(params: Params, state: State, x: jax.Array, key: jax.Array) -> tuple[jax.Array, State]:
        keys, states = jax.random.split(key, len(layers)), list(states_of(state))

        def use(number: int, x: jax.Array) -> jax.Array:
            y, states[number] = layers[number].train(params[number], states[number], x, keys[number])
            return y

        y = flow(use, x)
        return y, tuple(states) if stateful else ()

    return Layer(
        name,
        init,
        apply,
        flops=flops,
        layers=layers,
        combine=combine,
        init_state=init_state if stateful else _no_state,
        train=train,
    )


def _apply(layer: Layer, params: Params, state: State, x: jax.Array) -> jax.Array:
    return layer.apply(params, x, state) if layer.stateful else layer.apply(params, x)


def conv_layer(
    features: int,
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    use_bias: bool = True,
    w_init: Initializer = initializers.he_normal(),
    b_init: Initializer = initializers.zeros,
) -> Layer:
    """`jaxconv.conv` with `features` output channels over all spatial axes of its input; params {"w", "b"}.

    Example:
        >>> layer = conv_layer(8, 3, padding="SAME")
        >>> layer.init(jax.random.key(0), (28, 28, 1))["w"].shape
        (3, 3, 1, 8)
    """

    def kernel_of(input_shape: Shape) -> Shape:
        return per_axis("kernel_size", kernel_size, len(input_shape) - 1, minimum=1)

    def init(key: jax.Array, input_shape: Shape, dtype: Any = jnp.float32) -> Params:
        per_group = input_shape[-1] // check_groups(groups, input=input_shape[-1], output=features)
        return _weights(
            key, (*kernel_of(input_shape), per_group, features), dtype, w_init, b_init if use_bias else None
        )

    def apply(params: Params, x: jax.Array) -> jax.Array:
        b = params.get("b")
        return conv(x, params["w"], b, strides=strides, padding=padding, dilation=dilation, groups=groups)

    def window(input_shape: Shape) -> Window:
        kernel = kernel_of(input_shape)
        return conv_window(input_shape[:-1], kernel, strides=strides, padding=padding, dilation=dilation)

    def flops(input_shape: Shape, output: Shape) -> int:
        return math.prod(output) * (2 * math.prod(kernel_of(input_shape)) * input_shape[-1] // groups + use_bias)

    return Layer(f"conv {features} {_times(kernel_size)}", init, apply, window, flops)


def dense_layer(
    features: int,
    *,
    use_bias: bool = True,
    w_init: Initializer = initializers.he_normal(),
    b_init: Initializer = initializers.zeros,
) -> Layer:
    """`jaxconv.dense` over the last axis of its input, with `features` outputs; params {"w", "b"}.

    Example:
        >>> dense_layer(10).init(jax.random.key(0), (128,))["w"].shape
        (128, 10)
    """

    def init(key: jax.Array, input_shape: Shape, dtype: Any = jnp.float32) -> Params:
        return _weights(key, (input_shape[-1], features), dtype, w_init, b_init if use_bias else None)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return dense(x, params["w"], params.get("b"))

    def flops(input_shape: Shape, output: Shape) -> int:
        return math.prod(output) * (2 * input_shape[-1] + use_bias)

    return Layer(f"dense {features}", init, apply, flops=flops)


def _weights(key: jax.Array, shape: Shape, dtype: Any, w_init: Initializer, b_init: Initializer | None) -> Params:
    w_key, b_key = jax.random.split(key)
    params = {"w": w_init(w_key, shape, dtype)}
    return params if b_init is None else params | {"b": b_init(b_key, shape[-1:], dtype)}


def elementwise_layer(name: str, function: Callable[[jax.Array], jax.Array]) -> Layer:
    """A function of the array alone as a layer without parameters; counted as one operation per element.

    Example:
        >>> elementwise_layer("square", jnp.square).apply((), jnp.array([3.0])).tolist()
        [9.0]
    """
    return Layer(name, _no_params, lambda params, x: function(x), flops=_one_flop_each)


identity_layer = Layer("identity", _no_params, lambda params, x: identity(x))
relu_layer = elementwise_layer("relu", relu)
sigmoid_layer = elementwise_layer("sigmoid", sigmoid)
tanh_layer = elementwise_layer("tanh", tanh)
softmax_layer = elementwise_layer("softmax", softmax)
log_softmax_layer = elementwise_layer("log_softmax", log_softmax)
flatten_layer = Layer("flatten", _no_params, lambda params, x: flatten(x))
global_avg_pool_layer = Layer(
    "global_avg_pool", _no_params, lambda params, x: global_avg_pool(x), flops=lambda shape, _: math.prod(shape)
)
global_max_pool_layer = Layer(
    "global_max_pool", _no_params, lambda params, x: global_max_pool(x), flops=lambda shape, _: math.prod(shape)
)


def leaky_relu_layer(negative_slope: float = 0.01) -> Layer:
    """`jaxconv.leaky_relu` as a layer.

    Example:
        >>> leaky_relu_layer(0.5).apply((), jnp.array([-2.0])).tolist()
        [-1.0]
    """
    return elementwise_layer("leaky_relu", lambda x: leaky_relu(x, negative_slope))


def max_pool_layer(window: int | Sequence[int], **options: Any) -> Layer:
    """`jaxconv.max_pool` with these options, data_format excepted, as a layer.

    Example:
        >>> output_shape(max_pool_layer(2), (28, 28, 8))
        (14, 14, 8)
    """
    return _pool_layer("max_pool", max_pool, window, options)


def min_pool_layer(window: int | Sequence[int], **options: Any) -> Layer:
    """`jaxconv.min_pool` with these options, data_format excepted, as a layer.

    Example:
        >>> output_shape(min_pool_layer(2), (28, 28, 8))
        (14, 14, 8)
    """
    return _pool_layer("min_pool", min_pool, window, options)


def sum_pool_layer(window: int | Sequence[int], **options: Any) -> Layer:
    """`jaxconv.sum_pool` with these options, data_format excepted, as a layer.

    Example:
        >>> output_shape(sum_pool_layer(2), (28, 28, 8))
        (14, 14, 8)
    """
    return _pool_layer("sum_pool", sum_pool, window, options)


def avg_pool_layer(window: int | Sequence[int], **options: Any) -> Layer:
    """`jaxconv.avg_pool` with these options, data_format excepted, as a layer.

    Example:
        >>> output_shape(avg_pool_layer(3, strides=2, padding="SAME"), (28, 28, 8))
        (14, 14, 8)
    """
    return _pool_layer("avg_pool", avg_pool, window, options)


def _pool_layer(name: str, op: Callable[..., jax.Array], size: int | Sequence[int], options: dict[str, Any]) -> Layer:
    def apply(params: Params, x: jax.Array) -> jax.Array:
        return op(x, size, **options)

    def window(input_shape: Shape) -> Window:
        geometric = {key: value for key, value in options.items() if key != "count_include_pad"}
        return pool_window(input_shape[:-1], size, **geometric)

    def flops(input_shape: Shape, output: Shape) -> int:
        return math.prod(output) * window(input_shape).tap_count

    known = inspect.signature(op).parameters.keys() - {"x", "window", "data_format"}
    if options.keys() - known:
        raise TypeError(f"{name}_layer: got the options {sorted(options)}, expected some of {sorted(known)}")
    return Layer(f"{name} {_times(size)}", _no_params, apply, window, flops)


def output_shape(layer: Layer, input_shape: Sequence[int], dtype: Any = jnp.float32) -> Shape:
    """The shape of one example after the layer, from the shape of one before it; nothing is computed.

    Example:
        >>> output_shape(conv_layer(12, 3, padding="SAME"), (32, 32, 3))
        (32, 32, 12)
    """
    return _shape_after(layer, _abstract_params(layer, input_shape, dtype), input_shape, dtype)


def _shape_after(layer: Layer, params: Params, input_shape: Sequence[int], dtype: Any) -> Shape:
    state = jax.eval_shape(lambda: layer.init_state(tuple(input_shape), dtype))
    x = jax.ShapeDtypeStruct((1, *input_shape), dtype)
    return jax.eval_shape(functools.partial(_apply, layer), params, state, x).shape[1:]


def _abstract_params(layer: Layer, input_shape: Sequence[int], dtype: Any) -> Params:
    return jax.eval_shape(lambda key: layer.init(key, tuple(input_shape), dtype), jax.random.key(0))


class Row(NamedTuple):
    """One line of a summary: a layer and what comes out of it, for one example.

    `branch` is what the table puts before the name: for each combination that the layer is in a branch of, a sign, "+"
    for the first layer of the branch and "|" for the others.

    Example:
        >>> summary(dense_layer(10), (4,)).rows[-1].parameters
        50
    """

    name: str
    output_shape: Shape
    parameters: int
    flops: int
    receptive_field: Shape
    branch: str = ""


class Summary(NamedTuple):
    """What `summary` returns: its rows, the totals, and a table when printed.

    Example:
        >>> summary(dense_layer(10), (4,)).parameters
        50
    """

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """The number of parameters of the net."""
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """Floating-point operations for one example, forward."""
        return sum(row.flops for row in self.rows)

    def __str__(self) -> str:
        lines = [("layer", "output shape", "parameters", "FLOPs", "receptive field")]
        lines += [
            (
                row.branch + row.name,
                _times(row.output_shape),
                f"{row.parameters:,}",
                f"{row.flops:,}",
                _times(row.receptive_field),
            )
            for row in self.rows
        ]
        lines.append(("total", "", f"{self.parameters:,}", f"{self.flops:,}", ""))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                cell.rjust(width) if 1 < number < 4 else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])

    __repr__ = __str__  # so that a notebook shows the table


def summary(net: Layer, input_shape: Sequence[int], dtype: Any = jnp.float32) -> Summary:
    """Shapes, parameters, FLOPs and receptive field of every layer, as a table when printed; nothing is computed.

    FLOPs are those of one example's forward pass; a multiplication and an addition count as two, an element-wise
    function as one. The receptive field is how many input positions along each spatial axis one output position can
    depend on (padding included): it grows by (d(R−1))·(the product of the strides before) at every window, and is the
    whole input once the spatial axes are gone.

    Example:
        >>> features = serial(conv_layer(12, 3, padding="SAME"), relu_layer, max_pool_layer(2))
        >>> net = serial(features, flatten_layer, dense_layer(10))
        >>> summary(net, (32, 32, 3))
        layer       output shape  parameters    FLOPs  receptive field
        --------------------------------------------------------------
        input       32x32x3                0        0  1x1
        conv 12 3   32x32x12             336  675,840  3x3
        relu        32x32x12               0   12,288  3x3
        max_pool 2  16x16x12               0   12,288  4x4
        flatten     3072                   0        0  32x32
        dense 10    10                30,730   61,450  32x32
        --------------------------------------------------------------
        total                         31,066  761,866
    """
    shape = tuple(input_shape)
    ones = (Fraction(1),) * (len(shape) - 1)
    rows, _ = _rows(net, _At(shape, ones, ones), shape[:-1], dtype, "")
    return Summary((Row("input", shape, 0, 0, (1,) * len(ones)), *rows))


class _At(NamedTuple):
    """Where in a net one is: the shape of an example there, and in positions of the net's input, per spatial axis,"""

    shape: Shape
    field: tuple[Fraction | float, ...]  # what one position there can depend on,
    jump: tuple[Fraction, ...]  # and how far it is from there to the next position


def _rows(net: Layer, at: _At, whole: Shape, dtype: Any, branch: str) -> tuple[list[Row], _At]:
    """The rows of a net, and where one is after it."""
    rows = []
    if net.layers and net.combine is None:
        for layer in net.layers:
            more, at = _rows(layer, at, whole, dtype, _within(branch, rows))
            rows += more
        return rows, at
    if net.layers:
        ends = []
        for layer in net.layers:
            more, end = _rows(layer, at, whole, dtype, _within(branch, rows) + "+ ")
            rows += more
            ends.append(end)
        arrays = [jax.ShapeDtypeStruct((1, *end.shape), dtype) for end in ends]
        fields, jumps = (zip(*parts, strict=True) for parts in ([end.field for end in ends], [end.jump for end in ends]))
        shape = jax.eval_shape(net.combine, *arrays).shape[1:]
        parameters, after = 0, _At(shape, tuple(map(max, fields)), tuple(map(max, jumps)))
    else:
        parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_abstract_params(net, at.shape, dtype)))
        after = _after(net, at, dtype)
    field = tuple(n if math.isinf(f) else math.floor(f) for n, f in zip(whole, after.field, strict=True))
    flops = net.flops(at.shape, after.shape)
    rows.append(Row(net.name, after.shape, parameters, flops, field, _within(branch, rows)))
    return rows, after


def _within(branch: str, rows: list[Row]) -> str:
    """The signs of a branch, of which these rows are there already."""
    return branch.replace("+", "|") if rows else branch


def _after(layer: Layer, at: _At, dtype: Any) -> _At:
    """Where one is after a layer that is not made of others."""
    shape = output_shape(layer, at.shape, dtype)
    if len(shape) != len(at.shape):
        return _At(shape, (math.inf,) * len(at.field), at.jump)
    if layer.window is None or len(shape) - 1 != len(at.field):  # the latter: positions are not the input's any more
        return at._replace(shape=shape)
    window = layer.window(at.shape)
    field = tuple(f + (e - 1) * j for f, e, j in zip(at.field, window.extent, at.jump, strict=True))
    return _At(shape, field, tuple(j * s for j, s in zip(at.jump, window.strides, strict=True)))


def _times(sizes: int | Sequence[int]) -> str:
    return "x".join(map(str, np.atleast_1d(np.asarray(sizes, int)))) or "-"
