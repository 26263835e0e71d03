"""Layers, and the summaries that reproduce the counts and sizes of the notes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, normal, small_integers

import jaxconv
from jaxconv import layers, loss
from jaxconv.geometry import conv_window
from jaxconv.layers import (
    Layer,
    avg_pool_layer,
    batch_norm_layer,
    branches,
    conv_layer,
    conv_transpose_layer,
    dense_layer,
    depth_to_space_layer,
    depthwise_conv_layer,
    elementwise_layer,
    flatten_layer,
    global_avg_pool_layer,
    global_max_pool_layer,
    group_norm_layer,
    identity_layer,
    instance_norm_layer,
    layer_norm_layer,
    leaky_relu_layer,
    log_softmax_layer,
    max_pool_layer,
    min_pool_layer,
    output_shape,
    pad_layer,
    prelu_layer,
    relu_layer,
    residual,
    rms_norm_layer,
    separable_conv_layer,
    serial,
    sigmoid_layer,
    softmax_layer,
    space_to_depth_layer,
    sum_pool_layer,
    summary,
    tanh_layer,
)

KEY = jax.random.key(0)

# Ops that are no layer: parts of a gradient, of a loss, of a layer that is there; reductions; what needs more than x.
NO_LAYERS = {
    *loss.__all__,
    "autodiff",
    "batch_norm_inference",
    "conv_general_dilated",
    "conv_input_grad",
    "conv_kernel_grad",
    "conv_patches",
    "fold",
    "gumbel_softmax",
    "logmeanexp",
    "logsumexp",
    "max_pool_with_indices",
    "max_unpool",
    "standardize",
}


@pytest.mark.parametrize("name", sorted(set(jaxconv.__all__) - NO_LAYERS))
def test_every_op_has_a_layer(name):
    assert f"{name}_layer" in layers.__all__
    layer = getattr(layers, f"{name}_layer")
    if isinstance(layer, Layer):  # with nothing to choose
        assert layer.name == name
        x = normal(0, (2, 4, 4, 6))[0]
        if name == "log1mexp":
            x = jnp.abs(x)
        assert jnp.array_equal(layer.apply((), x), getattr(jaxconv, name)(x))


def test_row_8_the_net_of_the_notes():
    net = serial(conv_layer(12, 3, padding="SAME"), relu_layer, max_pool_layer(2), flatten_layer, dense_layer(10))
    shapes = [row.output_shape for row in summary(net, (32, 32, 3)).rows]
    assert shapes == [(32, 32, 3), (32, 32, 12), (32, 32, 12), (16, 16, 12), (3072,), (10,)]


def test_row_12_parameter_sharing():
    full = serial(flatten_layer, dense_layer(100, use_bias=False), dense_layer(10, use_bias=False))
    shared = serial(conv_layer(16, 4, strides=2, use_bias=False), flatten_layer, dense_layer(10, use_bias=False))
    assert summary(full, (28, 28, 1)).parameters == 79_400
    counted = summary(shared, (28, 28, 1))
    assert counted.rows[1].output_shape == (13, 13, 16)
    assert [row.parameters for row in counted.rows] == [0, 256, 0, 27_040]
    assert counted.parameters == 27_296


def test_row_13_convolutions_in_place_of_dense_layers():
    dense = summary(serial(flatten_layer, dense_layer(4096), dense_layer(1000)), (7, 7, 386))
    assert [row.parameters for row in dense.rows[2:]] == [77_475_840, 4_097_000]
    convolutions = [conv_layer(k, r, use_bias=False) for k, r in ((386, 7), (4096, 1), (1000, 1))]
    convolved = summary(serial(*convolutions), (7, 7, 386))
    assert [row.parameters for row in convolved.rows[1:]] == [7_300_804, 1_581_056, 4_096_000]
    assert convolved.rows[-1].output_shape == (1, 1, 1000)


def test_row_17_output_sizes():
    def size(n, layer):
        return output_shape(layer, (n, n, 1))[:2]

    assert size(5, conv_layer(1, 3)) == (3, 3)
    assert size(5, conv_layer(1, 3, padding=1)) == size(7, conv_layer(1, 3)) == (5, 5)
    assert size(5, conv_layer(1, 3, strides=2)) == (2, 2)
    assert output_shape(conv_layer(9, 6), (32, 32, 3)) == (27, 27, 9)


def test_receptive_field_is_what_an_output_depends_on():
    net = serial(conv_layer(2, 3), max_pool_layer(2), conv_layer(2, (3, 2), dilation=2), avg_pool_layer(3, strides=1))
    field = summary(net, (30, 30, 1)).rows[-1].receptive_field
    params = net.init(KEY, (30, 30, 1), jnp.float64)
    params = jax.tree.map(jnp.ones_like, params)
    x = 1 + jax.random.uniform(KEY, (1, 30, 30, 1), jnp.float64)
    # Every input in the field can matter: sum pooling in place of the maximum shows them all.
    linear = serial(net.layers[0], sum_pool_layer(2), *net.layers[2:])
    dx = jax.grad(lambda x: linear.apply(params, x)[0, 1, 1, 0])(x)[0, :, :, 0]
    rows, columns = jnp.nonzero(dx)
    assert (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1) == field


def test_flops_count_the_arithmetic():
    # conv: 2·R·C/G multiply-adds and one bias per output; dense: 2·C and one bias; pooling: the taps; relu: one each.
    rows = summary(
        serial(conv_layer(6, 3, groups=2), relu_layer, max_pool_layer(2), flatten_layer, dense_layer(5)), (8, 8, 4)
    ).rows
    assert [row.flops for row in rows[1:]] == [6 * 6 * 6 * (2 * 9 * 2 + 1), 216, 3 * 3 * 6 * 4, 0, 5 * (2 * 54 + 1)]


def test_layers_are_the_ops():
    x, w, b = small_integers(0, (2, 6, 5, 4), (3, 2, 2, 6), (6,))
    layer = conv_layer(6, (3, 2), strides=(1, 2), padding=[1, 0], dilation=(2, 1), groups=2)
    expected = jaxconv.conv(x, w, b, strides=(1, 2), padding=[1, 0], dilation=(2, 1), groups=2)
    assert jnp.array_equal(layer.apply({"w": w, "b": b}, x), expected)
    assert layer.window((6, 5, 4)) == conv_window((6, 5), (3, 2), strides=(1, 2), padding=[1, 0], dilation=(2, 1))
    for made, expected in (
        (dense_layer(6).apply({"w": w[0, 0], "b": b}, x[..., :2]), jaxconv.dense(x[..., :2], w[0, 0], b)),
        (max_pool_layer(2, strides=1).apply((), x), jaxconv.max_pool(x, 2, strides=1)),
        (min_pool_layer((2, 1)).apply((), x), jaxconv.min_pool(x, (2, 1))),
        (sum_pool_layer(3, ceil_mode=True).apply((), x), jaxconv.sum_pool(x, 3, ceil_mode=True)),
        (
            avg_pool_layer(3, padding="SAME", count_include_pad=False).apply((), x),
            jaxconv.avg_pool(x, 3, padding="SAME", count_include_pad=False),
        ),
        (global_avg_pool_layer.apply((), x), jaxconv.global_avg_pool(x)),
        (global_max_pool_layer.apply((), x), jaxconv.global_max_pool(x)),
        (flatten_layer.apply((), x), jaxconv.flatten(x)),
        (relu_layer.apply((), x), jaxconv.relu(x)),
        (leaky_relu_layer(0.25).apply((), x), jaxconv.leaky_relu(x, 0.25)),
        (sigmoid_layer.apply((), x), jaxconv.sigmoid(x)),
        (tanh_layer.apply((), x), jaxconv.tanh(x)),
        (softmax_layer.apply((), x), jaxconv.softmax(x)),
        (log_softmax_layer.apply((), x), jaxconv.log_softmax(x)),
        (elementwise_layer("double", lambda x: 2 * x).apply((), x), 2 * x),
    ):
        assert jnp.array_equal(made, expected)


def test_initial_parameters():
    layer = conv_layer(256, 3, groups=2)
    params = layer.init(KEY, (8, 8, 64), jnp.float32)
    assert params["w"].shape == (3, 3, 32, 256)
    assert not params["b"].any()
    assert params["w"].dtype == jnp.float32
    # He: variance 2 over the number of inputs of a unit, 3·3·32 here; of 73,728 values it is known to 0.5 %.
    assert abs(float(jnp.var(params["w"])) * 3 * 3 * 32 / 2 - 1) < 0.03
    assert set(conv_layer(2, 3, use_bias=False).init(KEY, (8, 8, 1))) == {"w"}
    assert dense_layer(3).init(KEY, (4,), jnp.bfloat16)["w"].dtype == jnp.bfloat16
    one, two = (serial(dense_layer(4), dense_layer(4)).init(KEY, (4,))[number]["w"] for number in (0, 1))
    assert not jnp.array_equal(one, two)


@pytest.mark.parametrize("shape", [(16, 2), (8, 8, 2), (6, 6, 6, 2)])
def test_any_number_of_spatial_axes(shape):
    net = serial(conv_layer(4, 3), relu_layer, max_pool_layer(2), global_avg_pool_layer, dense_layer(3))
    params = net.init(KEY, shape, jnp.float64)
    x = jnp.ones((2, *shape))
    assert net.apply(params, x).shape == (2, 3)
    assert summary(net, shape).rows[1].receptive_field == (3,) * (len(shape) - 1)
    grads = jax.grad(lambda params: net.apply(params, x).sum())(params)
    assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)


def test_weights_and_biases_are_drawn_apart():
    import jax.nn.initializers as initializers

    params = dense_layer(3, b_init=initializers.normal(1.0), w_init=initializers.normal(1.0)).init(KEY, (1,))
    assert not jnp.array_equal(params["w"][0], params["b"])


def test_pool_layers_refuse_what_they_do_not_know():
    for options in ({"stride": 2}, {"data_format": "channels_first"}, {"count_include_pad": True}):
        with pytest.raises(TypeError, match=r"max_pool_layer: got the options .*, expected some of"):
            max_pool_layer(2, **options)


def test_nested_nets_are_summarised_flat():
    block = serial(conv_layer(4, 3), relu_layer)
    assert summary(serial(block, serial(block, flatten_layer)), (8, 8, 1)).parameters == 40 + 148
    assert [row.name for row in summary(serial(block, flatten_layer), (8, 8, 1)).rows] == [
        "input",
        "conv 4 3",
        "relu",
        "flatten",
    ]


def test_blocks_with_a_size_per_axis():
    net = serial(depth_to_space_layer((2, 1)), conv_layer(1, 3), space_to_depth_layer((1, 2)))
    table = summary(net, (4, 6, 4))
    assert [row.output_shape for row in table.rows] == [(4, 6, 4), (8, 6, 2), (6, 4, 1), (6, 2, 2)]
    assert [row.name for row in table.rows[1:]] == ["depth_to_space 2x1", "conv 1 3", "space_to_depth 1x2"]


def test_one_pad_for_all_axes_needs_axes():
    with pytest.raises(ValueError, match=r"pads: got the int 1 for an array with 2 axes, expected at least 3"):
        pad_layer(1).apply((), jnp.ones((2, 3)))


def test_a_layer_of_ones_own():
    scale = Layer(
        "scale",
        lambda key, shape, dtype=jnp.float32: jnp.ones(shape[-1], dtype),
        lambda params, x: x * jnp.broadcast_to(params, x.shape),
    )
    table = summary(serial(scale, relu_layer), (5, 5, 3))
    assert table.parameters == 3
    assert "scale" in str(table)
    assert repr(table) == str(table)


def test_a_net_that_does_not_fit_says_where():
    net = serial(conv_layer(4, 3), max_pool_layer(2), conv_layer(4, 3))
    with pytest.raises(ValueError, match=r"w: got 3 taps .* the padded input has 2"):
        net.init(KEY, (6, 6, 1))
    with pytest.raises(ValueError, match=r"groups: got 3, which does not divide the 4 input channels"):
        conv_layer(6, 3, groups=3).init(KEY, (6, 6, 4))


# --- more ops ---


def test_more_layers_are_the_ops():
    x, w, v, b = small_integers(1, (2, 6, 5, 4), (3, 2, 2, 4), (8, 6), (6,))
    same = {"strides": (1, 2), "padding": "SAME", "dilation": 1}
    for layer, params, expected in (
        (
            conv_transpose_layer(4, (3, 2), strides=2, output_padding=1, groups=2),
            {"w": w, "b": b[:4]},
            jaxconv.conv_transpose(x, w, b[:4], strides=2, output_padding=1, groups=2),
        ),
        (
            depthwise_conv_layer((3, 2), multiplier=2, **same),
            {"w": w.swapaxes(2, 3), "b": jnp.arange(8, dtype=jnp.float32)},
            jaxconv.depthwise_conv(x, w.swapaxes(2, 3), jnp.arange(8, dtype=jnp.float32), **same),
        ),
        (
            separable_conv_layer(6, (3, 2), multiplier=2, **same),
            {"w": w.swapaxes(2, 3), "v": v, "b": b},
            jaxconv.separable_conv(x, w.swapaxes(2, 3), v, b, **same),
        ),
        (layer_norm_layer(), {"scale": b[:4], "bias": b[2:]}, jaxconv.layer_norm(x, b[:4], b[2:])),
        (layer_norm_layer(axis=(-3, -2, -1), use_scale=False), {"bias": x[0]}, jaxconv.layer_norm(x, None, x[0], axis=(1, 2, 3))),
        (rms_norm_layer(axis=(-1,), epsilon=1e-3), {"scale": b[:4]}, jaxconv.rms_norm(x, b[:4], epsilon=1e-3)),
        (group_norm_layer(2), {"scale": b[:4], "bias": b[2:]}, jaxconv.group_norm(x, 2, b[:4], b[2:])),
        (instance_norm_layer(use_bias=False), {"scale": b[:4]}, jaxconv.instance_norm(x, b[:4])),
        (prelu_layer(), {"slope": b[:4]}, jaxconv.prelu(x, b[:4])),
        (pad_layer([(1, -1), 2], "ZERO"), (), jaxconv.pad(x, [(1, -1), 2])),
        (pad_layer(1, "REFLECT"), (), jaxconv.pad(x, [1, 1], "REFLECT")),
        (depth_to_space_layer(2), (), jaxconv.depth_to_space(x, 2)),
        (space_to_depth_layer(2), (), jaxconv.space_to_depth(x[:, :, :4], 2)),
        (layers.lp_pool_layer(2, 3.0, strides=1), (), jaxconv.lp_pool(x, 2, 3.0, strides=1)),
        (layers.logsumexp_pool_layer(2, sharpness=3.0), (), jaxconv.logsumexp_pool(x, 2, sharpness=3.0)),
        (layers.adaptive_avg_pool_layer((3, None)), (), jaxconv.adaptive_avg_pool(x, (3, 5))),
        (layers.adaptive_max_pool_layer(2), (), jaxconv.adaptive_max_pool(x, 2)),
        (layers.global_lp_pool_layer(3.0), (), jaxconv.global_lp_pool(x, 3.0)),
        (layers.global_logsumexp_pool_layer(3.0), (), jaxconv.global_logsumexp_pool(x, sharpness=3.0)),
        (layers.elu_layer(0.5), (), jaxconv.elu(x, 0.5)),
        (layers.celu_layer(0.5), (), jaxconv.celu(x, 0.5)),
        (layers.gelu_layer(False), (), jaxconv.gelu(x, False)),
        (layers.squareplus_layer(2.0), (), jaxconv.squareplus(x, 2.0)),
        (layers.soft_shrink_layer(1.0), (), jaxconv.soft_shrink(x, 1.0)),
        (layers.hard_shrink_layer(1.0), (), jaxconv.hard_shrink(x, 1.0)),
        (layers.threshold_layer(1.0, -3.0), (), jaxconv.threshold(x, 1.0, -3.0)),
        (layers.layer_scale_layer(), {"scale": b[:4]}, x * b[:4].reshape(1, 1, 1, 4)),
    ):  # fmt: skip
        given = x[:, :, :4] if layer.name.startswith("space_to_depth") else x
        made = layer.init(KEY, given.shape[1:], jnp.float32)
        assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params), layer.name
        assert jnp.array_equal(layer.apply(params, given), expected), layer.name
        assert output_shape(layer, given.shape[1:]) == expected.shape[1:]


def test_flops_of_the_other_convolutions():
    def flops(layer, shape):
        return summary(layer, shape).flops

    assert flops(depthwise_conv_layer(3, multiplier=2), (8, 8, 4)) == 6 * 6 * 8 * (2 * 9 + 1)
    # as the two layers that it is, but for the bias of the first
    apart = serial(depthwise_conv_layer(3, use_bias=False), dense_layer(5))
    assert flops(separable_conv_layer(5, 3), (8, 8, 4)) == flops(apart, (8, 8, 4))
    # as the convolution that it is the adjoint of
    there = conv_layer(4, 3, strides=2, padding="SAME", use_bias=False)
    back = conv_transpose_layer(6, 3, strides=2, padding="SAME", use_bias=False)
    assert flops(back, (4, 4, 4)) == flops(there, (8, 8, 6))


def test_initial_weights_have_the_variance_of_he():
    depthwise = depthwise_conv_layer(3).init(KEY, (8, 8, 4096))["w"]
    assert abs(float(jnp.var(depthwise)) * 9 / 2 - 1) < 0.03
    transposed = conv_transpose_layer(128, 3).init(KEY, (8, 8, 32))["w"]
    assert abs(float(jnp.var(transposed)) * 9 * 32 / 2 - 1) < 0.03


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_receptive_field_behind_an_upsampling(strides, kernel, after):
    first = conv_layer(1, 3, use_bias=False)
    net = serial(first, conv_transpose_layer(1, kernel, strides=strides, use_bias=False), conv_layer(1, after))
    params = jax.tree.map(jnp.ones_like, net.init(KEY, (12, 1), jnp.float64))
    jacobian = jax.jacrev(lambda x: net.apply(params, x)[0, :, 0])(jnp.ones((1, 12, 1)))[:, 0, :, 0]
    reached = [int(row.max() - row.min()) + 1 for row in (jnp.flatnonzero(row) for row in jacobian) if row.size]
    assert summary(net, (12, 1)).rows[-1].receptive_field == (max(reached),)


def test_receptive_field_of_what_sees_every_position():
    for layer in (group_norm_layer(1), instance_norm_layer(), layer_norm_layer(axis=(-3, -2, -1))):
        fields = [row.receptive_field for row in summary(serial(layer, conv_layer(1, 3)), (9, 8, 2)).rows]
        assert fields == [(1, 1), (9, 8), (9, 8)]
    assert summary(layer_norm_layer(), (9, 8, 2)).rows[-1].receptive_field == (1, 1)
    adaptive = serial(layers.adaptive_avg_pool_layer((3, None)), conv_layer(1, (2, 1)))
    assert [row.receptive_field for row in summary(adaptive, (9, 8, 2)).rows] == [(1, 1), (3, 1), (6, 1)]
    assert summary(layer_norm_layer(axis=(-2, -1)), (9, 8, 2)).rows[-1].receptive_field == (1, 8)


def test_axes_of_an_example_are_counted_from_the_last():
    with pytest.raises(ValueError, match=r"layer_norm_layer: got the axis 1, expected axes counted from the last"):
        layer_norm_layer(axis=1)
    with pytest.raises(ValueError, match=r"rms_norm_layer: got the axis \(\)"):
        rms_norm_layer(axis=())


@pytest.mark.parametrize("kind", [layer_norm_layer, rms_norm_layer])
def test_axes_in_any_order_and_within_the_example(kind):
    x = normal(0, (2, 3, 4))[0]
    layer, sorted_ = kind(axis=(-1, -2)), kind(axis=(-2, -1))
    params = jax.tree.map(lambda a: normal(1, a.shape)[0], layer.init(KEY, (3, 4), jnp.float64))
    assert params["scale"].shape == (3, 4)
    assert jnp.array_equal(layer.apply(params, x), sorted_.apply(params, x))
    message = r"norm_layer: got the axis -2 for an example of shape \(4,\), expected axes of the example, from −1 to −1"
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, (4,))
    with pytest.raises(ValueError, match=message):
        kind(axis=(-1, -2), use_scale=False).apply({}, x[0])


# --- layers with a state, layers with a key ---


def noise_layer():
    """Adds noise in training: a layer with a key and without a state."""
    return Layer(
        "noise",
        lambda key, shape, dtype=jnp.float32: (),
        lambda params, x: x,
        train=lambda params, state, x, key: (x + jax.random.normal(key, x.shape, x.dtype), state),
    )


def counter_layer():
    """Adds how often it was trained: a layer with a state, whose apply takes it."""
    return Layer(
        "counter",
        lambda key, shape, dtype=jnp.float32: (),
        lambda params, x, state: x + state.astype(x.dtype),
        init_state=lambda shape, dtype=jnp.float32: jnp.zeros((), jnp.int32),
        train=lambda params, state, x, key: (x + state.astype(x.dtype), state + 1),
    )


def test_batch_norm_trains_on_the_batch_and_applies_what_it_kept():
    (x,) = normal(0, (8, 5, 3))
    layer = batch_norm_layer(momentum=0.75, epsilon=1e-3)
    params = {"scale": jnp.array([1.0, -2.0, 0.5]), "bias": jnp.array([0.0, 1.0, 2.0])}
    state = layer.init_state((5, 3), jnp.float64)
    for _ in range(2):
        y, state = layer.train(params, state, x, KEY)
    assert jnp.array_equal(y, jaxconv.batch_norm(x, params["scale"], params["bias"], epsilon=1e-3)[0])
    flat = np.asarray(x).reshape(-1, 3)
    left = 0.75**2
    assert_close(state["mean"], jnp.asarray((1 - left) * flat.mean(0)), length=40)
    assert_close(state["var"], jnp.asarray(left + (1 - left) * flat.var(0, ddof=1)), length=40)
    mean, var, scale, bias = map(np.asarray, (state["mean"], state["var"], params["scale"], params["bias"]))
    expected = (flat - mean) / np.sqrt(var + 1e-3) * scale + bias
    assert_close(layer.apply(params, x, state), jnp.asarray(expected).reshape(x.shape), length=40)


def test_running_statistics_are_kept_in_float32_and_have_no_gradient():
    layer = batch_norm_layer()
    params, state = layer.init(KEY, (3,), jnp.bfloat16), layer.init_state((3,), jnp.bfloat16)
    assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    assert {a.dtype for a in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}
    x = normal(0, (8, 3), dtype=jnp.bfloat16)[0]
    y, after = layer.train(params, state, x, KEY)
    assert y.dtype == layer.apply(params, x, after).dtype == jnp.bfloat16
    assert jax.tree.map(lambda a: a.dtype, after) == jax.tree.map(lambda a: a.dtype, state)
    kept = lambda x: sum(map(jnp.sum, jax.tree.leaves(layer.train(params, state, x, KEY)[1])))  # noqa: E731
    assert not jax.grad(kept)(x).any()


@pytest.mark.parametrize(("dtype", "middle", "spread"), [("float16", 0.0, 300.0), ("bfloat16", 100.25, 0.25)])
def test_running_statistics_are_not_rounded_to_the_dtype_of_x(dtype, middle, spread):
    layer = batch_norm_layer(momentum=0.0, use_scale=False, use_bias=False)
    x = jnp.array([[middle + spread], [middle - spread]], dtype)
    wide = np.asarray(x, np.float32)
    _, state = layer.train({}, layer.init_state((1,), dtype), x, KEY)
    assert state["mean"].tolist() == [wide.mean()]
    assert state["var"].tolist() == [wide.var(ddof=1)]


def test_batch_norm_over_devices_keeps_the_statistics_of_the_whole_batch():
    (x,) = normal(0, (2, 6, 3))
    layer, spread = batch_norm_layer(), batch_norm_layer(axis_name="devices")
    params, state = layer.init(KEY, (3,), jnp.float64), layer.init_state((3,), jnp.float64)
    _, whole = layer.train(params, state, x.reshape(12, 3), KEY)
    _, parts = jax.vmap(lambda x: spread.train(params, state, x, KEY), axis_name="devices")(x)
    assert_close(jax.tree.map(lambda a: a[0], parts), whole, length=12)


def test_batch_norm_without_scale_or_bias():
    assert batch_norm_layer(use_scale=False, use_bias=False).init(KEY, (4,)) == {}
    assert set(batch_norm_layer(use_bias=False).init(KEY, (4,))) == {"scale"}
    assert summary(batch_norm_layer(), (8, 8, 4)).parameters == 8  # running statistics are no parameters


def nested():
    inner = residual(serial(counter_layer(), dense_layer(3)), serial(dense_layer(3), counter_layer(), counter_layer()))
    return serial(counter_layer(), branches(inner, identity_layer), relu_layer)


def test_state_goes_through_nets_in_nets():
    net = nested()
    assert net.stateful
    params, state = net.init(KEY, (3,), jnp.float64), net.init_state((3,), jnp.float64)
    x = jnp.ones((2, 3))
    for step in range(3):
        assert jax.tree.leaves(state) == [step] * 4
        assert jax.tree.structure(state) == jax.tree.structure(net.init_state((3,)))
        expected = net.apply(params, x, state)
        y, state = net.train(params, state, x, KEY)
        assert jnp.array_equal(y, expected)
    first = params[1][0][0][1]["w"]
    by_hand = (1 + 3 + 3) * first.sum(0) + ((1 + 3) * params[1][0][1][0]["w"].sum(0) + 6)
    made = net.apply(params, x, state)
    assert_close(made[0], jnp.concatenate([jnp.maximum(by_hand, 0), jnp.full(3, 4.0)]), length=10)


@pytest.mark.parametrize("depth", [1, 6])
def test_every_layer_is_asked_once_however_deep_the_net(depth):
    asked = []
    inner = counter_layer()

    def init(key, shape, dtype=jnp.float32):
        asked.append("init")
        return inner.init(key, shape, dtype)

    def init_state(shape, dtype=jnp.float32):
        asked.append("state")
        return inner.init_state(shape, dtype)

    net = Layer("asked", init, inner.apply, init_state=init_state, train=inner.train)
    for _ in range(depth):
        net = serial(residual(net), relu_layer)
    for ask in (
        lambda: net.init(KEY, (3,)),
        lambda: net.init_state((3,)),
        lambda: output_shape(net, (3,)),
        lambda: summary(net, (3,)),
    ):
        asked.clear()
        ask()
        assert sorted(asked) == ["init", "state"]


def test_a_net_with_a_function_of_its_own_in_a_net():
    inner = serial(dense_layer(3), batch_norm_layer())
    ones = lambda key, shape, dtype=jnp.float32: jax.tree.map(jnp.ones_like, inner.init(key, shape, dtype))  # noqa: E731
    net = serial(dataclasses.replace(inner, init=ones), dense_layer(2))
    assert net.init(KEY, (4,))[0][0]["w"].tolist() == [[1.0] * 3] * 4
    wider = dataclasses.replace(
        inner, apply=lambda params, x, state: jnp.concatenate([x, inner.apply(params, x, state)], -1)
    )
    assert serial(wider, dense_layer(2)).init(KEY, (4,))[1]["w"].shape == (7, 2)
    twos = lambda shape, dtype=jnp.float32: jax.tree.map(lambda a: a + 1, inner.init_state(shape, dtype))  # noqa: E731
    state = serial(dataclasses.replace(inner, init_state=twos), dense_layer(2)).init_state((4,))
    assert state[0][1]["var"].tolist() == [2.0] * 3


def test_without_state_nothing_changes():
    net = serial(dense_layer(3), residual(serial(relu_layer, noise_layer())))
    assert not net.stateful
    assert net.init_state((3,)) == ()
    params = net.init(KEY, (3,), jnp.float64)
    x = jnp.ones((2, 3))
    y, state = net.train(params, (), x, KEY)
    assert state == ()
    assert not jnp.array_equal(y, net.apply(params, x))


def test_a_layer_with_another_apply_trains_as_it():
    x = jnp.ones((2, 3))
    minus = dataclasses.replace(relu_layer, apply=lambda params, x: -x)
    assert jnp.array_equal(minus.train((), (), x, None)[0], -x)
    assert jnp.array_equal(relu_layer.train((), (), x, None)[0], x)
    renamed = dataclasses.replace(noise_layer(), name="renamed")  # a train of its own stays
    assert not jnp.array_equal(renamed.train((), (), x, KEY)[0], x)


def test_a_missing_state_is_named():
    net = nested()
    params = net.init(KEY, (3,))
    with pytest.raises(
        ValueError, match=r"state: got none, expected 3, one per layer: counter has a state; call .*init_state"
    ):
        net.apply(params, jnp.ones((1, 3)))
    net = branches(batch_norm_layer(), identity_layer)
    with pytest.raises(ValueError, match=r"state: got 1 entries, expected 2, one per layer: batch_norm has a state"):
        net.train(net.init(KEY, (3,)), ((),), jnp.ones((1, 3)), KEY)


def test_every_layer_has_its_own_key():
    net = serial(noise_layer(), branches(noise_layer(), serial(noise_layer())), noise_layer())
    x = jnp.zeros((2, 3))
    y, _ = net.train(net.init(KEY, (3,)), (), x, KEY)
    again, _ = net.train(net.init(KEY, (3,)), (), x, KEY)
    other, _ = net.train(net.init(KEY, (3,)), (), x, jax.random.key(1))
    assert jnp.array_equal(y, again)
    assert not jnp.array_equal(y, other)
    assert len(set(np.asarray(y).ravel().tolist())) == y.size
    drawn, _ = branches(noise_layer(), noise_layer()).train(((), ()), (), x, KEY)
    assert not jnp.array_equal(drawn[:, :3], drawn[:, 3:])
    assert jnp.array_equal(net.apply(net.init(KEY, (3,)), x), jnp.zeros((2, 6)))


def test_dropout_and_drop_path_are_for_training_alone():
    (x,) = normal(0, (16, 5, 3))
    dropped, _ = layers.dropout_layer(0.25, broadcast_axes=-2).train((), (), x, KEY)
    assert jnp.array_equal(dropped, jaxconv.dropout(KEY, x, 0.25, broadcast_axes=1))
    dropped, _ = layers.drop_path_layer(0.25).train((), (), x, KEY)
    assert jnp.array_equal(dropped, jaxconv.drop_path(KEY, x, 0.25))
    net = serial(layers.dropout_layer(0.25), layers.drop_path_layer(0.25))
    assert not net.stateful
    assert jnp.array_equal(net.apply(net.init(KEY, (5, 3)), x), x)


# --- branches ---


def test_branches_are_side_by_side():
    x, w, v = small_integers(0, (2, 5, 5, 3), (1, 1, 3, 4), (3, 3, 3, 2))
    net = branches(conv_layer(4, 1, use_bias=False), conv_layer(2, 3, padding="SAME", use_bias=False), identity_layer)
    expected = jnp.concatenate([jaxconv.conv(x, w), jaxconv.conv(x, v, padding="SAME"), x], -1)
    assert jnp.array_equal(net.apply(({"w": w}, {"w": v}, ()), x), expected)
    product = branches(identity_layer, sigmoid_layer, combine=jnp.multiply)
    assert jnp.array_equal(product.apply(((), ()), x), x * jaxconv.sigmoid(x))
    assert product.name == "multiply"


def test_a_residual_is_a_sum():
    x, w = small_integers(0, (2, 5, 5, 3), (3, 3, 3, 3))
    block = residual(conv_layer(3, 3, padding="SAME", use_bias=False))
    assert jnp.array_equal(block.apply(({"w": w}, ()), x), x + jaxconv.conv(x, w, padding="SAME"))
    with pytest.raises(
        ValueError, match=r"residual: got a body that gives \(3, 3, 4\) and a shortcut that gives \(5, 5, 3\)"
    ):
        output_shape(residual(conv_layer(4, 3)), (5, 5, 3))


def test_a_summary_shows_the_branches():
    body = serial(conv_layer(4, 3, padding="SAME"), residual(relu_layer), batch_norm_layer())
    net = serial(residual(body, conv_layer(4, 1)), relu_layer)
    table = summary(net, (8, 8, 3))
    assert [row.branch + row.name for row in table.rows] == [
        "input",
        "+ conv 4 3",
        "| + relu",
        "| + identity",
        "| add",
        "| batch_norm",
        "+ conv 4 1",
        "add",
        "relu",
    ]
    assert (
        table.parameters
        == 4 * 28 + 8 + 16
        == sum(map(math.prod, map(jnp.shape, jax.tree.leaves(net.init(KEY, (8, 8, 3))))))
    )
    assert [row.receptive_field for row in table.rows[-3:]] == [(1, 1), (3, 3), (3, 3)]
    assert table.rows[-2].flops == 8 * 8 * 4


def test_a_branch_of_nothing_adds_no_rows():
    table = summary(serial(serial(), residual(serial(relu_layer), serial(identity_layer))), (4, 3))
    assert [row.name for row in table.rows] == ["input", "serial", "relu", "identity", "add"]
