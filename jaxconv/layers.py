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
from jax import lax
from jax.nn import initializers

from jaxconv.activation import (
    celu,
    elu,
    gelu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log1mexp,
    log_sigmoid,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    soft_sign,
    softplus,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    swish,
    tanh,
    tanh_shrink,
)
from jaxconv.activation import threshold as threshold_
from jaxconv.algorithms.dtypes import accumulator
from jaxconv.conv import conv, conv_transpose
from jaxconv.dropout import drop_path, dropout
from jaxconv.geometry import (
    Pad,
    Padding,
    Window,
    adaptive_window,
    check_groups,
    conv_window,
    per_axis,
    pool_window,
    transpose_window,
)
from jaxconv.linear import dense, flatten
from jaxconv.norm import batch_norm_inference, batch_norm_wide, group_norm, instance_norm, layer_norm, rms_norm
from jaxconv.padding import pad
from jaxconv.patches import depth_to_space, space_to_depth
from jaxconv.pool import avg_pool, logsumexp_pool, lp_pool, max_pool, min_pool, sum_pool
from jaxconv.pool_adaptive import adaptive_avg_pool, adaptive_max_pool
from jaxconv.pool_global import (
    global_avg_pool,
    global_logsumexp_pool,
    global_lp_pool,
    global_max_pool,
    global_min_pool,
    global_sum_pool,
)
from jaxconv.separable import depthwise_conv, separable_conv
from jaxconv.softmax import log_softmax, softmax, softmin

__all__ = [
    "Layer",
    "Reach",
    "Row",
    "Summary",
    "adaptive_avg_pool_layer",
    "adaptive_max_pool_layer",
    "avg_pool_layer",
    "batch_norm_layer",
    "branches",
    "celu_layer",
    "conv_layer",
    "conv_transpose_layer",
    "dense_layer",
    "depth_to_space_layer",
    "depthwise_conv_layer",
    "drop_path_layer",
    "dropout_layer",
    "elementwise_layer",
    "elu_layer",
    "flatten_layer",
    "gelu_layer",
    "global_avg_pool_layer",
    "global_logsumexp_pool_layer",
    "global_lp_pool_layer",
    "global_max_pool_layer",
    "global_min_pool_layer",
    "global_sum_pool_layer",
    "glu_layer",
    "group_norm_layer",
    "hard_shrink_layer",
    "hard_sigmoid_layer",
    "hard_silu_layer",
    "hard_swish_layer",
    "hard_tanh_layer",
    "identity_layer",
    "instance_norm_layer",
    "layer_norm_layer",
    "layer_scale_layer",
    "leaky_relu_layer",
    "log1mexp_layer",
    "log_sigmoid_layer",
    "log_softmax_layer",
    "logsumexp_pool_layer",
    "lp_pool_layer",
    "max_pool_layer",
    "min_pool_layer",
    "mish_layer",
    "output_shape",
    "pad_layer",
    "prelu_layer",
    "relu6_layer",
    "relu_layer",
    "residual",
    "rms_norm_layer",
    "selu_layer",
    "separable_conv_layer",
    "serial",
    "sigmoid_layer",
    "silu_layer",
    "soft_shrink_layer",
    "soft_sign_layer",
    "softmax_layer",
    "softmin_layer",
    "softplus_layer",
    "space_to_depth_layer",
    "sparse_plus_layer",
    "sparse_sigmoid_layer",
    "squareplus_layer",
    "sum_pool_layer",
    "summary",
    "swish_layer",
    "tanh_layer",
    "tanh_shrink_layer",
    "threshold_layer",
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
        flops: (input_shape, output_shape) -> floating-point operations of apply for one example; a multiplication and
            an addition count as two. For a layer made of others, those of combine alone.
        layers: what it is made of, if it is: a summary shows these in its place.
        combine: None if `layers` are applied one after the other. Otherwise each is applied to x, and this function,
            (*ys) -> y, makes one array of their results.
        init_state: (input_shape, dtype=float32) -> state, a pytree, for a layer that keeps more than its params.
        train: (params, state, x, key) -> (y, state), the layer as it is used in training; the key is for dropout and
            the like. By default it is apply, and leaves the state as it is.

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
        # dataclasses.replace hands on the train of the layer that was copied, whose apply it would use.
        if self.train is None or getattr(self.train, "__func__", None) is Layer._as_applied:
            object.__setattr__(self, "train", self._as_applied)

    def _as_applied(self, params: Params, state: State, x: jax.Array, key: jax.Array) -> tuple[jax.Array, State]:
        del key
        return _apply(self, params, state, x), state

    @property
    def stateful(self) -> bool:
        """Whether it has a state, which apply then takes."""
        return self.init_state is not _no_state


# --- layers made of layers ---


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
            f"residual: got a body that gives {body.shape[1:]} and a shortcut that gives {shortcut.shape[1:]}, "
            "expected one shape: give it a shortcut with the strides and the features of the body"
        )
    return body + shortcut


def _composite(
    name: str,
    layers: tuple[Layer, ...],
    combine: Callable[..., jax.Array] | None,
    flops: Callable[[Shape, Shape], int],
) -> Layer:
    """One layer made of several: one after the other, or side by side if there is a combine."""
    parts = _Parts(layers, combine)
    return Layer(
        name,
        parts.init,
        parts.apply,
        flops=flops,
        layers=layers,
        combine=combine,
        init_state=parts.init_state if parts.stateful else _no_state,
        train=parts.train,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Parts:
    """The functions of a layer made of others."""

    layers: tuple[Layer, ...]
    combine: Callable[..., jax.Array] | None

    @functools.cached_property
    def stateful(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.stateful)

    def init(self, key: jax.Array, input_shape: Shape, dtype: Any = jnp.float32) -> Params:
        return self.made(key, input_shape, dtype).params

    def init_state(self, input_shape: Shape, dtype: Any = jnp.float32) -> State:
        return self.made(None, input_shape, dtype, abstract_state=False).state

    def made(self, key: jax.Array | None, input_shape: Shape, dtype: Any, abstract_state: bool = True) -> "_Made":
        """What `_made` makes of the parts, as of one layer."""
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        each, shape = [], tuple(input_shape)
        for layer, layer_key in zip(self.layers, keys, strict=True):
            each.append(_made(layer, layer_key, shape, dtype, abstract_state))
            if self.combine is None:
                shape = each[-1].output_shape
        if self.combine is not None:
            arrays = [jax.ShapeDtypeStruct((1, *made.output_shape), dtype) for made in each]
            shape = jax.eval_shape(self.combine, *arrays).shape[1:]
        state = tuple(made.state for made in each) if self.stateful else ()
        return _Made(tuple(made.params for made in each), state, shape)

    def apply(self, params: Params, x: jax.Array, state: State = ()) -> jax.Array:
        states = self.states_of(state)
        return self.flow(lambda number, x: _apply(self.layers[number], params[number], states[number], x), x)

    def train(self, params: Params, state: State, x: jax.Array, key: jax.Array) -> tuple[jax.Array, State]:
        keys, states = jax.random.split(key, len(self.layers)), list(self.states_of(state))

        def use(number: int, x: jax.Array) -> jax.Array:
            y, states[number] = self.layers[number].train(params[number], states[number], x, keys[number])
            return y

        y = self.flow(use, x)
        return y, tuple(states) if self.stateful else ()

    def flow(self, use: Callable[[int, jax.Array], jax.Array], x: jax.Array) -> jax.Array:
        """x through the layers, each of them used by its number."""
        if self.combine is not None:
            return self.combine(*(use(number, x) for number in range(len(self.layers))))
        for number in range(len(self.layers)):
            x = use(number, x)
        return x

    def states_of(self, state: State) -> State:
        """The state with one entry per layer."""
        if not self.stateful:
            return ((),) * len(self.layers)
        if len(state) != len(self.layers):
            raise ValueError(
                f"state: got {'none' if len(state) == 0 else f'{len(state)} entries'}, expected {len(self.layers)}, "
                f"one per layer: {self.stateful[0].name} has a state; call net.apply(params, x, state) with the state "
                "that net.init_state(input_shape) makes and net.train returns"
            )
        return state


class _Made(NamedTuple):
    """What a layer has for an input shape."""

    params: Params
    state: State
    output_shape: Shape


def _made(layer: Layer, key: jax.Array | None, input_shape: Shape, dtype: Any, abstract_state: bool = True) -> _Made:
    """The params, the state and the output shape of a layer, from one walk over all that it is made of.

    A layer after another needs the shape in between, and that is known from the params and the state: were each of the
    three asked for by itself, every level of a nested net would ask the one below it several times.

    The params are abstract if there is no key.
    """
    parts = _parts_of(layer)
    if parts is not None:
        return parts.made(key, input_shape, dtype, abstract_state)
    init = lambda key: layer.init(key, input_shape, dtype)  # noqa: E731
    init_state = lambda: layer.init_state(input_shape, dtype)  # noqa: E731
    params = jax.eval_shape(init, jax.random.key(0)) if key is None else init(key)
    state = jax.eval_shape(init_state) if abstract_state else init_state()
    x = jax.ShapeDtypeStruct((1, *input_shape), dtype)
    return _Made(params, state, jax.eval_shape(functools.partial(_apply, layer), params, state, x).shape[1:])


def _parts_of(layer: Layer) -> _Parts | None:
    """What a layer is made of; None for one that is not, or that was given a function of its own since."""
    parts = getattr(layer.init, "__self__", None)
    if not isinstance(parts, _Parts):
        return None
    own = parts.init, parts.apply, parts.init_state if parts.stateful else _no_state
    return parts if (layer.init, layer.apply, layer.init_state) == own else None


def _apply(layer: Layer, params: Params, state: State, x: jax.Array) -> jax.Array:
    return layer.apply(params, x, state) if layer.stateful else layer.apply(params, x)


# --- convolutions and dense layers ---


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
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}

    def shapes(input_shape: Shape) -> dict[str, Shape]:
        per_group = input_shape[-1] // check_groups(groups, input=input_shape[-1], output=features)
        return {"w": (*_kernel_of(kernel_size, input_shape), per_group, features), "b": (features,)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return conv(x, params["w"], params.get("b"), groups=groups, **options)

    def flops(input_shape: Shape, output: Shape) -> int:
        return math.prod(output) * (2 * math.prod(shapes(input_shape)["w"][:-1]) + use_bias)

    init = _init(shapes, {"w": w_init, "b": b_init}, use_bias)
    return Layer(f"conv {features} {_times(kernel_size)}", init, apply, _conv_window(kernel_size, options), flops)


def conv_transpose_layer(
    features: int,
    kernel_size: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    use_bias: bool = True,
    w_init: Initializer = initializers.he_normal(in_axis=-1, out_axis=-2),
    b_init: Initializer = initializers.zeros,
) -> Layer:
    """`jaxconv.conv_transpose` with `features` output channels; params {"w", "b"}, w (*kernel, features/groups, C).

    Example:
        >>> output_shape(conv_transpose_layer(8, 2, strides=2), (7, 7, 16))
        (14, 14, 8)
    """
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}

    def shapes(input_shape: Shape) -> dict[str, Shape]:
        per_group = features // check_groups(groups, output=features, input=input_shape[-1])
        return {"w": (*_kernel_of(kernel_size, input_shape), per_group, input_shape[-1]), "b": (features,)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        b = params.get("b")
        return conv_transpose(x, params["w"], b, output_padding=output_padding, groups=groups, **options)

    def reach(input_shape: Shape) -> Reach:
        window = transpose_window(input_shape[:-1], kernel_size, output_padding=output_padding, **options)
        # The outputs lie s times as close as the inputs, and this many of them see the same input.
        extent = tuple(1 + Fraction(e - 1, s) for e, s in zip(window.extent, window.strides, strict=True))
        return Reach(extent, tuple(Fraction(1, s) for s in window.strides))

    def flops(input_shape: Shape, output: Shape) -> int:
        products = math.prod(input_shape[:-1]) * math.prod(shapes(input_shape)["w"])
        return 2 * products + use_bias * math.prod(output)

    init = _init(shapes, {"w": w_init, "b": b_init}, use_bias)
    return Layer(f"conv_transpose {features} {_times(kernel_size)}", init, apply, reach, flops)


_he_normal_of_taps = initializers.variance_scaling(2.0, "fan_in", "truncated_normal", in_axis=(), batch_axis=-2)


def depthwise_conv_layer(
    kernel_size: int | Sequence[int],
    *,
    multiplier: int = 1,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    use_bias: bool = True,
    w_init: Initializer = _he_normal_of_taps,
    b_init: Initializer = initializers.zeros,
) -> Layer:
    """`jaxconv.depthwise_conv` with `multiplier` kernels per channel; params {"w", "b"}, w (*kernel, C, multiplier).

    Example:
        >>> summary(depthwise_conv_layer(3, padding="SAME"), (28, 28, 8)).parameters
        80
    """
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}

    def shapes(input_shape: Shape) -> dict[str, Shape]:
        channels = input_shape[-1]
        return {"w": (*_kernel_of(kernel_size, input_shape), channels, multiplier), "b": (channels * multiplier,)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return depthwise_conv(x, params["w"], params.get("b"), **options)

    def flops(input_shape: Shape, output: Shape) -> int:
        return math.prod(output) * (2 * math.prod(_kernel_of(kernel_size, input_shape)) + use_bias)

    init = _init(shapes, {"w": w_init, "b": b_init}, use_bias)
    return Layer(f"depthwise_conv {_times(kernel_size)}", init, apply, _conv_window(kernel_size, options), flops)


def separable_conv_layer(
    features: int,
    kernel_size: int | Sequence[int],
    *,
    multiplier: int = 1,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    use_bias: bool = True,
    w_init: Initializer = _he_normal_of_taps,
    v_init: Initializer = initializers.he_normal(),
    b_init: Initializer = initializers.zeros,
) -> Layer:
    """`jaxconv.separable_conv` with `features` output channels; params {"w", "v", "b"}: depthwise, pointwise, bias.

    Example:
        >>> summary(separable_conv_layer(16, 3, padding="SAME"), (28, 28, 8)).parameters
        216
    """
    options: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}

    def shapes(input_shape: Shape) -> dict[str, Shape]:
        channels = input_shape[-1]
        w = (*_kernel_of(kernel_size, input_shape), channels, multiplier)
        return {"w": w, "v": (channels * multiplier, features), "b": (features,)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return separable_conv(x, params["w"], params["v"], params.get("b"), **options)

    def flops(input_shape: Shape, output: Shape) -> int:
        depthwise = math.prod(shapes(input_shape)["w"])
        pointwise = input_shape[-1] * multiplier * features
        return math.prod(output[:-1]) * (2 * depthwise + 2 * pointwise + use_bias * features)

    init = _init(shapes, {"w": w_init, "v": v_init, "b": b_init}, use_bias)
    name = f"separable_conv {features} {_times(kernel_size)}"
    return Layer(name, init, apply, _conv_window(kernel_size, options), flops)


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

    def shapes(input_shape: Shape) -> dict[str, Shape]:
        return {"w": (input_shape[-1], features), "b": (features,)}

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return dense(x, params["w"], params.get("b"))

    def flops(input_shape: Shape, output: Shape) -> int:
        return math.prod(output) * (2 * input_shape[-1] + use_bias)

    return Layer(f"dense {features}", _init(shapes, {"w": w_init, "b": b_init}, use_bias), apply, flops=flops)


def _kernel_of(kernel_size: int | Sequence[int], input_shape: Shape) -> Shape:
    return per_axis("kernel_size", kernel_size, len(input_shape) - 1, minimum=1)


def _conv_window(kernel_size: int | Sequence[int], options: dict[str, Any]) -> Callable[[Shape], Window]:
    return lambda input_shape: conv_window(input_shape[:-1], _kernel_of(kernel_size, input_shape), **options)


def _init(
    shapes: Callable[[Shape], dict[str, Shape]], initializers_: dict[str, Initializer], use_bias: bool = True
) -> Callable[..., Params]:
    """The init of a layer with parameters of these names: input_shape -> their shapes, and how they are drawn."""

    def init(key: jax.Array, input_shape: Shape, dtype: Any = jnp.float32) -> Params:
        keys = jax.random.split(key, len(initializers_))
        of_name = shapes(input_shape)
        return {
            name: draw(name_key, of_name[name], dtype)
            for name_key, (name, draw) in zip(keys, initializers_.items(), strict=True)
            if use_bias or name != "b"
        }

    return init


# --- normalisation ---


def batch_norm_layer(
    *,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    use_scale: bool = True,
    use_bias: bool = True,
    axis_name: Any = None,
    scale_init: Initializer = initializers.ones,
) -> Layer:
    """`jaxconv.batch_norm` in training, `jaxconv.batch_norm_inference` with running statistics afterwards.

    The params are {"scale", "bias"}; the state {"mean", "var"}, at first 0 and 1, of float32 at least. Every step in
    training moves it towards the batch's mean and unbiased variance (the sum of squares over M − 1, as in PyTorch):
    running <- momentum·running + (1 − momentum)·batch.

    Args:
        momentum: how much of the running statistics stays at each step; PyTorch's momentum is 1 minus this.
        epsilon: added to the variance.
        use_scale: whether there is a scale.
        use_bias: whether there is a bias.
        axis_name: in training, the mesh axes over which the batch is spread, as in `jaxconv.batch_norm`. Under jit with
            sharded arrays none is needed.
        scale_init: how the scale begins; zeros in the last layer of a residual's body let it begin as the identity.

    Example:
        >>> layer = batch_norm_layer()
        >>> params, state = layer.init(jax.random.key(0), (1,)), layer.init_state((1,))
        >>> y, state = layer.train(params, state, jnp.array([[1.0], [3.0]]), jax.random.key(1))
        >>> y.round(2).tolist()
        [[-1.0], [1.0]]
        >>> print(state["mean"], state["var"])  # 0.9·0 + 0.1·2 and 0.9·1 + 0.1·2
        [0.2] [1.1]
    """

    def init_state(input_shape: Shape, dtype: Any = jnp.float32) -> State:
        wide = accumulator(dtype)
        return {"mean": jnp.zeros(input_shape[-1], wide), "var": jnp.ones(input_shape[-1], wide)}

    def apply(params: Params, x: jax.Array, state: State) -> jax.Array:
        # In the state's dtype: running statistics rounded to a narrow one would show in every output.
        arrays = [None if a is None else a.astype(state["mean"].dtype) for a in map(params.get, ("scale", "bias"))]
        wide = x.astype(state["mean"].dtype)
        return batch_norm_inference(wide, state["mean"], state["var"], *arrays, epsilon=epsilon).astype(x.dtype)

    def train(params: Params, state: State, x: jax.Array, key: jax.Array) -> tuple[jax.Array, State]:
        del key
        y, mean, var = batch_norm_wide(x, params.get("scale"), params.get("bias"), epsilon=epsilon, axis_name=axis_name)
        count = x.size // max(1, x.shape[-1]) * (1 if axis_name is None else lax.axis_size(axis_name))
        batch = {"mean": mean, "var": var * (count / max(1, count - 1))}
        moved = lambda old, new: momentum * old + (1 - momentum) * lax.stop_gradient(new).astype(old.dtype)  # noqa: E731
        return y, jax.tree.map(moved, state, batch)

    init = _norm_init(_channels, use_scale, use_bias, scale_init)
    return Layer("batch_norm", init, apply, flops=_flops_each(2), init_state=init_state, train=train)


def layer_norm_layer(
    *,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-5,
    use_scale: bool = True,
    use_bias: bool = True,
) -> Layer:
    """`jaxconv.layer_norm` over these axes of an example, counted from the last; params {"scale", "bias"}.

    Example:
        >>> layer_norm_layer().init(jax.random.key(0), (7, 7, 64))["scale"].shape
        (64,)
    """
    axes = _from_the_last("layer_norm_layer", axis)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        _sizes_along("layer_norm_layer", axes, x.shape[1:])
        return layer_norm(x, params.get("scale"), params.get("bias"), axis=axes, epsilon=epsilon)

    init = _norm_init(functools.partial(_sizes_along, "layer_norm_layer", axes), use_scale, use_bias)
    return Layer("layer_norm", init, apply, _all_along(axes), _flops_each(7))


def rms_norm_layer(*, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, use_scale: bool = True) -> Layer:
    """`jaxconv.rms_norm` over these axes of an example, counted from the last; params {"scale"}.

    Example:
        >>> rms_norm_layer().init(jax.random.key(0), (7, 7, 64))["scale"].shape
        (64,)
    """
    axes = _from_the_last("rms_norm_layer", axis)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        _sizes_along("rms_norm_layer", axes, x.shape[1:])
        return rms_norm(x, params.get("scale"), axis=axes, epsilon=epsilon)

    init = _norm_init(functools.partial(_sizes_along, "rms_norm_layer", axes), use_scale, use_bias=False)
    return Layer("rms_norm", init, apply, _all_along(axes), _flops_each(4))


def group_norm_layer(groups: int, *, epsilon: float = 1e-5, use_scale: bool = True, use_bias: bool = True) -> Layer:
    """`jaxconv.group_norm` with so many groups of channels; params {"scale", "bias"}.

    Example:
        >>> group_norm_layer(8).init(jax.random.key(0), (7, 7, 64))["scale"].shape
        (64,)
    """

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return group_norm(x, groups, params.get("scale"), params.get("bias"), epsilon=epsilon)

    init = _norm_init(_channels, use_scale, use_bias)
    return Layer(f"group_norm {groups}", init, apply, _all_positions, _flops_each(7))


def instance_norm_layer(*, epsilon: float = 1e-5, use_scale: bool = True, use_bias: bool = True) -> Layer:
    """`jaxconv.instance_norm`; params {"scale", "bias"}.

    Example:
        >>> instance_norm_layer(use_bias=False).init(jax.random.key(0), (7, 7, 64))["scale"].shape
        (64,)
    """

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return instance_norm(x, params.get("scale"), params.get("bias"), epsilon=epsilon)

    return Layer("instance_norm", _norm_init(_channels, use_scale, use_bias), apply, _all_positions, _flops_each(7))


def _channels(input_shape: Shape) -> Shape:
    return input_shape[-1:]


def _norm_init(
    shape: Callable[[Shape], Shape],
    use_scale: bool,
    use_bias: bool,
    scale_init: Initializer = initializers.ones,
) -> Callable[..., Params]:
    """The init of a normalisation, whose scale and bias are of the shape that `shape` makes of the input's."""
    draws = {"scale": scale_init} if use_scale else {}
    draws |= {"bias": initializers.zeros} if use_bias else {}
    return _init(lambda input_shape: dict.fromkeys(draws, shape(input_shape)), draws)


def _from_the_last(name: str, axis: int | Sequence[int]) -> tuple[int, ...]:
    axes = tuple(int(a) for a in np.atleast_1d(np.asarray(axis)))
    if not axes or any(a >= 0 for a in axes):
        raise ValueError(f"{name}: got the axis {axis}, expected axes counted from the last, from −1 downwards")
    return tuple(sorted(axes))  # the order that scale and bias have them in is that of x


def _sizes_along(name: str, axes: tuple[int, ...], input_shape: Shape) -> Shape:
    """The sizes of an example along these axes, checked to be there: the axis before them is the batch's."""
    if axes[0] < -len(input_shape):
        raise ValueError(
            f"{name}: got the axis {axes[0]} for an example of shape {tuple(input_shape)}, expected axes of the "
            f"example, from −1 to −{len(input_shape)}: examples do not share statistics; name other axes, or give x "
            "its batch axis"
        )
    return tuple(input_shape[axis] for axis in axes)


def _all_along(axes: tuple[int, ...]) -> Callable[[Shape], Reach]:
    """The reach of a layer that mixes all positions along these axes."""

    def reach(input_shape: Shape) -> Reach:
        ndim = len(input_shape)
        extent = tuple(math.inf if number - ndim in axes else 1 for number in range(ndim - 1))
        return Reach(extent, (1,) * (ndim - 1))

    return reach


def _all_positions(input_shape: Shape) -> Reach:
    return Reach((math.inf,) * (len(input_shape) - 1), (1,) * (len(input_shape) - 1))


def _flops_each(count: int) -> Callable[[Shape, Shape], int]:
    # Of a normalisation, per element: 2 with given statistics (a factor and a term per channel); otherwise the sums of
    # x and of its square (3), the subtraction and the factor, scale and bias.
    return lambda _, output: count * math.prod(output)


# --- activations ---


def elementwise_layer(name: str, function: Callable[[jax.Array], jax.Array]) -> Layer:
    """A function of the array alone as a layer without parameters; counted as one operation per element.

    Example:
        >>> elementwise_layer("square", jnp.square).apply((), jnp.array([3.0])).tolist()
        [9.0]
    """
    return Layer(name, _no_params, lambda params, x: function(x), flops=_one_flop_each)


identity_layer = Layer("identity", _no_params, lambda params, x: identity(x))
relu_layer = elementwise_layer("relu", relu)
relu6_layer = elementwise_layer("relu6", relu6)
selu_layer = elementwise_layer("selu", selu)
sigmoid_layer = elementwise_layer("sigmoid", sigmoid)
log_sigmoid_layer = elementwise_layer("log_sigmoid", log_sigmoid)
log1mexp_layer = elementwise_layer("log1mexp", log1mexp)
softplus_layer = elementwise_layer("softplus", softplus)
sparse_plus_layer = elementwise_layer("sparse_plus", sparse_plus)
sparse_sigmoid_layer = elementwise_layer("sparse_sigmoid", sparse_sigmoid)
soft_sign_layer = elementwise_layer("soft_sign", soft_sign)
silu_layer = elementwise_layer("silu", silu)
swish_layer = elementwise_layer("swish", swish)
mish_layer = elementwise_layer("mish", mish)
tanh_layer = elementwise_layer("tanh", tanh)
tanh_shrink_layer = elementwise_layer("tanh_shrink", tanh_shrink)
hard_tanh_layer = elementwise_layer("hard_tanh", hard_tanh)
hard_sigmoid_layer = elementwise_layer("hard_sigmoid", hard_sigmoid)
hard_silu_layer = elementwise_layer("hard_silu", hard_silu)
hard_swish_layer = elementwise_layer("hard_swish", hard_swish)
glu_layer = elementwise_layer("glu", glu)
softmax_layer = elementwise_layer("softmax", softmax)
softmin_layer = elementwise_layer("softmin", softmin)
log_softmax_layer = elementwise_layer("log_softmax", log_softmax)


def leaky_relu_layer(negative_slope: float = 0.01) -> Layer:
    """`jaxconv.leaky_relu` as a layer.

    Example:
        >>> leaky_relu_layer(0.5).apply((), jnp.array([-2.0])).tolist()
        [-1.0]
    """
    return elementwise_layer("leaky_relu", lambda x: leaky_relu(x, negative_slope))


def prelu_layer(initial_slope: float = 0.25, *, per_channel: bool = True) -> Layer:
    """`jaxconv.prelu` as a layer: leaky_relu whose slope, one per channel or one for all, is a parameter, {"slope"}.

    Example:
        >>> prelu_layer().init(jax.random.key(0), (8, 8, 3))["slope"].tolist()
        [0.25, 0.25, 0.25]
    """
    shapes = lambda input_shape: {"slope": input_shape[-1:] if per_channel else ()}  # noqa: E731
    init = _init(shapes, {"slope": initializers.constant(initial_slope)})
    return Layer("prelu", init, lambda params, x: prelu(x, params["slope"]), flops=_one_flop_each)


def elu_layer(alpha: float = 1.0) -> Layer:
    """`jaxconv.elu` as a layer.

    Example:
        >>> elu_layer(2.0).apply((), jnp.array([-jnp.inf])).tolist()
        [-2.0]
    """
    return elementwise_layer("elu", lambda x: elu(x, alpha))


def celu_layer(alpha: float = 1.0) -> Layer:
    """`jaxconv.celu` as a layer.

    Example:
        >>> celu_layer(2.0).apply((), jnp.array([-jnp.inf])).tolist()
        [-2.0]
    """
    return elementwise_layer("celu", lambda x: celu(x, alpha))


def gelu_layer(approximate: bool = True) -> Layer:
    """`jaxconv.gelu` as a layer.

    Example:
        >>> gelu_layer(approximate=False).apply((), jnp.array([0.0])).tolist()
        [0.0]
    """
    return elementwise_layer("gelu", lambda x: gelu(x, approximate))


def squareplus_layer(b: float = 4) -> Layer:
    """`jaxconv.squareplus` as a layer.

    Example:
        >>> squareplus_layer().apply((), jnp.array([0.0])).tolist()
        [1.0]
    """
    return elementwise_layer("squareplus", lambda x: squareplus(x, b))


def soft_shrink_layer(lambd: float = 0.5) -> Layer:
    """`jaxconv.soft_shrink` as a layer.

    Example:
        >>> soft_shrink_layer().apply((), jnp.array([0.25, 2.0])).tolist()
        [0.0, 1.5]
    """
    return elementwise_layer("soft_shrink", lambda x: soft_shrink(x, lambd))


def hard_shrink_layer(lambd: float = 0.5) -> Layer:
    """`jaxconv.hard_shrink` as a layer.

    Example:
        >>> hard_shrink_layer().apply((), jnp.array([0.25, 2.0])).tolist()
        [0.0, 2.0]
    """
    return elementwise_layer("hard_shrink", lambda x: hard_shrink(x, lambd))


def threshold_layer(threshold: float, value: float) -> Layer:
    """`jaxconv.threshold` as a layer.

    Example:
        >>> threshold_layer(1.0, -5.0).apply((), jnp.array([0.25, 2.0])).tolist()
        [-5.0, 2.0]
    """
    return elementwise_layer("threshold", lambda x: threshold_(x, threshold, value))


def layer_scale_layer(initial: float = 1e-6) -> Layer:
    """Every channel times a parameter of its own, {"scale"}, small at first (LayerScale, arXiv:2103.17239).

    Example:
        >>> layer_scale_layer(0.5).init(jax.random.key(0), (8, 8, 3))["scale"].tolist()
        [0.5, 0.5, 0.5]
    """

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return x * lax.broadcast_in_dim(params["scale"], x.shape, (x.ndim - 1,))

    init = _init(lambda input_shape: {"scale": input_shape[-1:]}, {"scale": initializers.constant(initial)})
    return Layer("layer_scale", init, apply, flops=_one_flop_each)


# --- shapes ---


flatten_layer = Layer("flatten", _no_params, lambda params, x: flatten(x))


def pad_layer(pads: int | Sequence[int | Pad], mode: str | Sequence[str] = "ZERO") -> Layer:
    """`jaxconv.pad` as a layer; one entry of pads per spatial axis, or one int for all.

    Example:
        >>> output_shape(pad_layer([(0, 1), 2], "REFLECT"), (8, 8, 3))
        (9, 12, 3)
    """

    def apply(params: Params, x: jax.Array) -> jax.Array:
        return pad(x, pads, mode)

    return Layer("pad", _no_params, apply)


def depth_to_space_layer(block_size: int | Sequence[int]) -> Layer:
    """`jaxconv.depth_to_space` as a layer: channels become positions (pixel shuffle).

    Example:
        >>> output_shape(depth_to_space_layer(2), (7, 7, 16))
        (14, 14, 4)
    """

    def reach(input_shape: Shape) -> Reach:
        block = per_axis("block_size", block_size, len(input_shape) - 1, minimum=1)
        return Reach((1,) * len(block), tuple(Fraction(1, size) for size in block))

    name = f"depth_to_space {_times(block_size)}"
    return Layer(name, _no_params, lambda params, x: depth_to_space(x, block_size), reach)


def space_to_depth_layer(block_size: int | Sequence[int]) -> Layer:
    """`jaxconv.space_to_depth` as a layer: blocks of positions become channels.

    Example:
        >>> output_shape(space_to_depth_layer(2), (14, 14, 4))
        (7, 7, 16)
    """

    def window(input_shape: Shape) -> Window:
        return pool_window(input_shape[:-1], block_size)

    name = f"space_to_depth {_times(block_size)}"
    return Layer(name, _no_params, lambda params, x: space_to_depth(x, block_size), window)


# --- pooling ---


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


def lp_pool_layer(window: int | Sequence[int], p: float, **options: Any) -> Layer:
    """`jaxconv.lp_pool` with these options, data_format excepted, as a layer.

    Example:
        >>> output_shape(lp_pool_layer(2, 3.0), (28, 28, 8))
        (14, 14, 8)
    """
    return _pool_layer("lp_pool", functools.partial(lp_pool, p=p), window, options)


def logsumexp_pool_layer(window: int | Sequence[int], **options: Any) -> Layer:
    """`jaxconv.logsumexp_pool` with these options, data_format excepted, as a layer.

    Example:
        >>> output_shape(logsumexp_pool_layer(2, sharpness=10.0), (28, 28, 8))
        (14, 14, 8)
    """
    return _pool_layer("logsumexp_pool", logsumexp_pool, window, options)


def _pool_layer(name: str, op: Callable[..., jax.Array], size: int | Sequence[int], options: dict[str, Any]) -> Layer:
    def apply(params: Params, x: jax.Array) -> jax.Array:
        return op(x, size, **options)

    def window(input_shape: Shape) -> Window:
        geometric = inspect.signature(pool_window).parameters.keys() & options.keys()
        return pool_window(input_shape[:-1], size, **{key: options[key] for key in geometric})

    def flops(input_shape: Shape, output: Shape) -> int:
        return math.prod(output) * window(input_shape).tap_count

    known = inspect.signature(op).parameters.keys() - {"x", "window", "p", "data_format"}
    if options.keys() - known:
        raise TypeError(f"{name}_layer: got the options {sorted(options)}, expected some of {sorted(known)}")
    return Layer(f"{name} {_times(size)}", _no_params, apply, window, flops)


def adaptive_avg_pool_layer(output_size: int | Sequence[int | None]) -> Layer:
    """`jaxconv.adaptive_avg_pool` as a layer.

    Example:
        >>> output_shape(adaptive_avg_pool_layer(7), (9, 8, 16))
        (7, 7, 16)
    """
    return _adaptive_layer("adaptive_avg_pool", adaptive_avg_pool, output_size)


def adaptive_max_pool_layer(output_size: int | Sequence[int | None]) -> Layer:
    """`jaxconv.adaptive_max_pool` as a layer.

    Example:
        >>> output_shape(adaptive_max_pool_layer((7, None)), (9, 8, 16))
        (7, 8, 16)
    """
    return _adaptive_layer("adaptive_max_pool", adaptive_max_pool, output_size)


def _adaptive_layer(name: str, op: Callable[..., jax.Array], output_size: int | Sequence[int | None]) -> Layer:
    def reach(input_shape: Shape) -> Reach:
        window = adaptive_window(input_shape[:-1], output_size)
        return Reach(window.window_size, tuple(map(Fraction, window.input_size, window.output_size)))

    def flops(input_shape: Shape, output: Shape) -> int:
        return math.prod(output) * adaptive_window(input_shape[:-1], output_size).tap_count

    return Layer(name, _no_params, lambda params, x: op(x, output_size), reach, flops)


def _global_layer(name: str, op: Callable[[jax.Array], jax.Array]) -> Layer:
    return Layer(name, _no_params, lambda params, x: op(x), flops=lambda shape, _: math.prod(shape))


global_avg_pool_layer = _global_layer("global_avg_pool", global_avg_pool)
global_sum_pool_layer = _global_layer("global_sum_pool", global_sum_pool)
global_max_pool_layer = _global_layer("global_max_pool", global_max_pool)
global_min_pool_layer = _global_layer("global_min_pool", global_min_pool)


def global_lp_pool_layer(p: float) -> Layer:
    """`jaxconv.global_lp_pool` as a layer.

    Example:
        >>> output_shape(global_lp_pool_layer(3.0), (7, 7, 16))
        (16,)
    """
    return _global_layer("global_lp_pool", lambda x: global_lp_pool(x, p))


def global_logsumexp_pool_layer(sharpness: float = 1.0) -> Layer:
    """`jaxconv.global_logsumexp_pool` as a layer.

    Example:
        >>> output_shape(global_logsumexp_pool_layer(), (7, 7, 16))
        (16,)
    """
    return _global_layer("global_logsumexp_pool", lambda x: global_logsumexp_pool(x, sharpness=sharpness))


# --- dropout ---


def dropout_layer(rate: float, *, broadcast_axes: int | Sequence[int] = ()) -> Layer:
    """`jaxconv.dropout` in training, nothing afterwards; axes are those of a batch, so count them from the last.

    Example:
        >>> y, _ = dropout_layer(0.5).train((), (), jnp.ones((1, 8)), jax.random.key(0))
        >>> sorted(set(y.ravel().tolist()))
        [0.0, 2.0]
    """
    return _random_layer(f"dropout {rate}", lambda key, x: dropout(key, x, rate, broadcast_axes=broadcast_axes))


def drop_path_layer(rate: float) -> Layer:
    """`jaxconv.drop_path` in training, nothing afterwards: stochastic depth, for the end of a residual's body.

    Example:
        >>> block = residual(serial(dense_layer(8), drop_path_layer(0.5)))
        >>> output_shape(block, (8,))
        (8,)
    """
    return _random_layer(f"drop_path {rate}", lambda key, x: drop_path(key, x, rate))


def _random_layer(name: str, op: Callable[[jax.Array, jax.Array], jax.Array]) -> Layer:
    def train(params: Params, state: State, x: jax.Array, key: jax.Array) -> tuple[jax.Array, State]:
        del params
        return op(key, x), state

    return Layer(name, _no_params, lambda params, x: x, train=train)


# --- shapes and summary ---


def output_shape(layer: Layer, input_shape: Sequence[int], dtype: Any = jnp.float32) -> Shape:
    """The shape of one example after the layer, from the shape of one before it; nothing is computed.

    Example:
        >>> output_shape(conv_layer(12, 3, padding="SAME"), (32, 32, 3))
        (32, 32, 12)
    """
    return _made(layer, None, tuple(input_shape), dtype).output_shape


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
    depend on at most (padding included): it grows by (d(R−1))·(the product of the strides before) at every window, and
    is the whole input once the spatial axes are gone. The layers of a branch are marked, the first with + and the
    others with |; the row after the branches is what combines them.

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
    if net.layers and net.combine is None:  # a chain
        for layer in net.layers:
            more, at = _rows(layer, at, whole, dtype, _within(branch, rows))
            rows += more
        return rows, at
    if net.combine is not None:
        ends = []
        for layer in net.layers:
            more, end = _rows(layer, at, whole, dtype, _within(branch, rows) + "+ ")
            rows += more
            ends.append(end)
        arrays = [jax.ShapeDtypeStruct((1, *end.shape), dtype) for end in ends]
        fields, jumps = (
            zip(*parts, strict=True) for parts in ([end.field for end in ends], [end.jump for end in ends])
        )
        shape = jax.eval_shape(net.combine, *arrays).shape[1:]
        parameters, after = 0, _At(shape, tuple(map(max, fields)), tuple(map(max, jumps)))
    else:
        made = _made(net, None, at.shape, dtype)
        parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(made.params))
        after = _after(net, at, made.output_shape)
    field = tuple(n if math.isinf(f) else math.floor(f) for n, f in zip(whole, after.field, strict=True))
    flops = net.flops(at.shape, after.shape)
    rows.append(Row(net.name, after.shape, parameters, flops, field, _within(branch, rows)))
    return rows, after


def _within(branch: str, rows: list[Row]) -> str:
    """The signs of a branch, of which these rows are there already."""
    return branch.replace("+", "|") if rows else branch


def _after(layer: Layer, at: _At, shape: Shape) -> _At:
    """Where one is after a layer that is not made of others and gives this shape."""
    if len(shape) != len(at.shape):
        return _At(shape, (math.inf,) * len(at.field), at.jump)
    if layer.window is None or len(shape) - 1 != len(at.field):  # the latter: positions are not the input's any more
        return at._replace(shape=shape)
    window = layer.window(at.shape)
    field = tuple(f + (e - 1) * j for f, e, j in zip(at.field, window.extent, at.jump, strict=True))
    return _At(shape, field, tuple(j * s for j, s in zip(at.jump, window.strides, strict=True)))


def _times(sizes: int | Sequence[int]) -> str:
    return "x".join(map(str, np.atleast_1d(np.asarray(sizes, int)))) or "-"
