"""Layers, and the summaries that reproduce the counts and sizes of the notes."""

import jax
import jax.numpy as jnp
import pytest
from support import small_integers

import jaxconv
from jaxconv.geometry import conv_window
from jaxconv.layers import (
    Layer,
    avg_pool_layer,
    conv_layer,
    dense_layer,
    elementwise_layer,
    flatten_layer,
    global_avg_pool_layer,
    global_max_pool_layer,
    leaky_relu_layer,
    log_softmax_layer,
    max_pool_layer,
    min_pool_layer,
    output_shape,
    relu_layer,
    serial,
    sigmoid_layer,
    softmax_layer,
    sum_pool_layer,
    summary,
    tanh_layer,
)

KEY = jax.random.key(0)


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
