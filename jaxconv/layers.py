"""Nets as lists of layers, each a pair of pure functions (init, apply), and their summary as a table.

    net = serial(conv_layer(32, 3), relu_layer, max_pool_layer(2), flatten_layer, dense_layer(10))
    params = net.init(jax.random.key(0), (28, 28, 1))
    logits = net.apply(params, images)                # images: (N, 28, 28, 1)
    print(summary(net, (28, 28, 1)))

A layer of your own is `Layer(name, init, apply)`. Shapes given to `init` and `summary` are those of one example,
(*spatial, C); `apply` takes one batch axis before them.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

from jaxconv.activation import leaky_relu, relu, sigmoid, tanh
from jaxconv.conv import conv
from jaxconv.geometry import Padding, Window, check_groups, conv_window, per_axis, pool_window
from jaxconv.linear import dense, flatten
from jaxconv.pool import avg_pool, max_pool, min_pool, sum_pool
from jaxconv.pool_global import global_avg_pool, global_max_pool
from jaxconv.softmax import log_softmax, softmax

__all__ = [
    "Layer",
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
Initializer = Callable[..., jax.Array]


def _no_params(key: jax.Array, input_shape: Shape, dtype: Any = jnp.float32) -> Params:
    del key, input_shape, dtype
    return ()


class Layer(NamedTuple):
    """A layer: a pair of pure functions, and what `summary` says of it.

    Args:
        name: what it is called in a summary.
        init: (key, input_shape, dtype=float32) -> params, a pytree; input_shape is that of one example.
        apply: (params, x) -> y, with one batch axis first in x and y.
        window: input_shape -> the `geometry.Window` that slides over it, or None for a layer that mixes no positions.
        flops: (input_shape, output_shape) -> floating-point operations for one example; a multiplication and an
            addition count as two.
        layers: the layers it applies one after the other, if it is a chain: a summary shows those in its place.

    Example:
        >>> double = Layer("double", lambda key, input_shape, dtype=jnp.float32: (), lambda params, x: 2 * x)
        >>> double.apply(double.init(jax.random.key(0), (3,)), jnp.ones((1, 3))).tolist()
        [[2.0, 2.0, 2.0]]
    """

    name: str
    init: Callable[..., Params]
    apply: Callable[[Params, jax.Array], jax.Array]
    window: Callable[[Shape], Window] | None = None
    flops: Callable[[Shape, Shape], int] = lambda input_shape, output_shape: 0
    layers: tuple["Layer", ...] = ()


def serial(*layers: Layer) -> Layer:
    """The layers one after the other, as one layer; its params are a tuple, one entry per layer.

    Example:
        >>> net = serial(flatten_layer, dense_layer(10))
        >>> net.apply(net.init(jax.random.key(0), (4, 4, 1)), jnp.ones((2, 4, 4, 1))).shape
        (2, 10)
    """

    def init(key: jax.Array, input_shape: Shape, dtype: Any = jnp.float32) -> Params:
        params = []
        for layer, layer_key in zip(layers, jax.random.split(key, len(layers)), strict=True):
            params.append(layer.init(layer_key, input_shape, dtype))
            input_shape = _shape_after(layer, params[-1], input_shape, dtype)
        return tuple(params)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        for layer, layer_params in zip(layers, params, strict=True):
            x = layer.apply(layer_params, x)
        return x

    return Layer("serial", init, apply, layers=tuple(layers))


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
    return Layer(name, _no_params, lambda params, x: function(x), flops=lambda _, output: math.prod(output))


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
    return jax.eval_shape(layer.apply, params, jax.ShapeDtypeStruct((1, *input_shape), dtype)).shape[1:]


def _abstract_params(layer: Layer, input_shape: Sequence[int], dtype: Any) -> Params:
    return jax.eval_shape(lambda key: layer.init(key, tuple(input_shape), dtype), jax.random.key(0))


class Row(NamedTuple):
    """One line of a summary: a layer and what comes out of it, for one example.

    Example:
        >>> summary(dense_layer(10), (4,)).rows[-1].parameters
        50
    """

    name: str
    output_shape: Shape
    parameters: int
    flops: int
    receptive_field: Shape


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
            (row.name, _times(row.output_shape), f"{row.parameters:,}", f"{row.flops:,}", _times(row.receptive_field))
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
    whole = shape[:-1]
    field, jump = [1] * len(whole), [1] * len(whole)
    rows = [Row("input", shape, 0, 0, tuple(field))]
    for layer in _leaves(net):
        after = output_shape(layer, shape, dtype)
        if layer.window is not None:
            window = layer.window(shape)
            field = [f + (extent - 1) * j for f, extent, j in zip(field, window.extent, jump, strict=True)]
            jump = [j * s for j, s in zip(jump, window.strides, strict=True)]
        elif len(after) < len(shape):
            field = list(whole)
        parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_abstract_params(layer, shape, dtype)))
        rows.append(Row(layer.name, after, parameters, layer.flops(shape, after), tuple(field)))
        shape = after
    return Summary(tuple(rows))


def _leaves(net: Layer) -> list[Layer]:
    """The layers of a net that are not made of others."""
    return [leaf for layer in net.layers for leaf in _leaves(layer)] if net.layers else [net]


def _times(sizes: int | Sequence[int]) -> str:
    return "x".join(map(str, np.atleast_1d(np.asarray(sizes, int)))) or "-"
