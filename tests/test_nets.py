"""The nets: their counts against the published ones, what makes each of them what it is, and that they train."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import normal

from jaxconv import nets, softmax_cross_entropy_with_integer_labels
from jaxconv.layers import output_shape, summary
from jaxconv.training import make_train_step, new_state

KEY = jax.random.key(0, impl="unsafe_rbg")  # compiles several times as fast as JAX's default, for every shape anew


def conv_count(taps, inputs, outputs, bias=True):
    return taps * inputs * outputs + bias * outputs


# Counts that a paper or an implementation publishes.
PUBLISHED = {
    # LeCun et al. 1998 in its usual form (layers C1, S2, C3, S4, C5, F6, output): 156, 0, 2,416, 0, 48,120, 10,164, 850
    "lenet5": (nets.lenet5(), (32, 32, 1), 61_706),
    "lenet5, padded": (nets.lenet5(padding=2), (28, 28, 1), 61_706),
    # torchvision's table of weights (num_params)
    "resnet18": (nets.resnet18(), (224, 224, 3), 11_689_512),
    "resnet34": (nets.resnet18(depths=(3, 4, 6, 3)), (224, 224, 3), 21_797_672),
    "resnet50": (nets.resnet50(), (224, 224, 3), 25_557_032),
    "vgg16": (nets.vgg16(), (224, 224, 3), 138_357_544),
    "mobilenet_v2": (nets.mobilenet_v2(), (224, 224, 3), 3_504_872),
    "convnext_tiny": (nets.convnext_tiny(), (224, 224, 3), 28_589_128),
    # kuangliu/pytorch-cifar
    "resnet18, cifar": (nets.resnet18(10, stem="cifar"), (32, 32, 3), 11_173_962),
    # the generator of PyTorch's DCGAN tutorial
    "dcgan_generator": (nets.dcgan_generator(), (1, 1, 100), 3_576_704),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    net, shape, parameters = PUBLISHED[name]
    assert summary(net, shape).parameters == parameters


def test_counts_added_up_by_hand():
    dcgan = sum(16 * a * b for a, b in ((100, 512), (512, 256), (256, 128), (128, 64), (64, 3)))
    assert dcgan + 2 * (512 + 256 + 128 + 64) == 3_576_704

    widths = (64, 128, 256, 512, 1024)
    down = sum(conv_count(9, a, b) + conv_count(9, b, b) for a, b in zip((1, *widths), widths, strict=False))
    up = sum(
        conv_count(4, b, a) + conv_count(9, b, a) + conv_count(9, a, a)
        for a, b in zip(widths, widths[1:], strict=False)
    )
    by_hand = down + up + conv_count(1, 64, 2)
    assert summary(nets.unet(), (512, 512, 1)).parameters == by_hand == 31_030_658
    assert summary(nets.unet(padding="VALID"), (572, 572, 1)).parameters == by_hand

    notes = conv_count(9, 3, 12) + conv_count(1, 16 * 16 * 12, 10)
    assert summary(nets.notes_net(), (32, 32, 3)).parameters == notes == 31_066

    volumes = sum(conv_count(27, a, b, bias=False) + 2 * b for a, b in ((1, 32), (32, 64), (64, 128)))
    assert summary(nets.conv3d_net(10), (16, 32, 32, 1)).parameters == volumes + conv_count(1, 128, 10) == 279_082


@pytest.mark.parametrize(("features", "kernel_size"), [((25,) * 8, 7), ((8, 8, 16), 3), ((4,), 2)])
def test_tcn_counts_and_reach(features, kernel_size):
    channels, outputs, blocks = 3, 10, len(features)
    expected = conv_count(1, features[-1], outputs)
    for number, (a, b) in enumerate(zip((channels, *features), features, strict=False)):
        expected += conv_count(kernel_size, a, b) + conv_count(kernel_size, b, b)
        expected += conv_count(1, a, b) if number == 0 or a != b else 0
    table = summary(nets.tcn(outputs, features=features, kernel_size=kernel_size), (99, channels))
    assert table.parameters == expected
    assert table.rows[-1].receptive_field == (1 + 2 * (kernel_size - 1) * (2**blocks - 1),)


def test_tcn_looks_back_and_never_ahead():
    net = nets.tcn(2, features=(4, 4), kernel_size=2)
    params, (x,) = net.init(KEY, (12, 3), jnp.float64), normal(0, (1, 12, 3))
    jacobian = jax.jacrev(lambda x: net.apply(params, x)[0].sum(-1))(x)[:, 0]
    seen = np.asarray(jnp.abs(jacobian).sum(-1)) > 0
    assert not np.triu(seen, 1).any()
    assert not np.tril(seen, -7).any()  # 1 + 2·1·3 = 7 times, the last of them its own
    assert seen.diagonal().all()


def test_shapes_of_the_figures():
    # arXiv:1505.04597, figure 1
    shapes = [
        row.output_shape[0] for row in summary(nets.unet(padding="VALID"), (572, 572, 1)).rows if row.name == "relu"
    ]
    assert shapes == [570, 568, 282, 280, 138, 136, 66, 64, 30, 28, 54, 52, 102, 100, 198, 196, 390, 388]
    assert output_shape(nets.unet(3), (32, 48, 1)) == (32, 48, 3)
    assert output_shape(nets.dcgan_generator(features=4, channels=1, doublings=2), (1, 1, 7)) == (32, 32, 1)
    assert output_shape(nets.vgg16(10, features=((4,), (8,)), hidden=16), (37, 32, 3)) == (10,)
    # arXiv:1512.03385, table 1
    stages = [row.output_shape for row in summary(nets.resnet50(), (224, 224, 3)).rows if row.name == "add"]
    assert sorted(set(stages), reverse=True) == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]
    assert len(stages) == 16


def test_multiply_adds_are_the_published_ones():
    # torchvision's GFLOPS, which count a multiply-add as one; normalisations and activations are ours alone.
    for name, published in (
        ("resnet18", 1.814),
        ("resnet50", 4.089),
        ("vgg16", 15.47),
        ("mobilenet_v2", 0.301),
        ("convnext_tiny", 4.456),
    ):
        net, shape, _ = PUBLISHED[name]
        assert abs(summary(net, shape).flops / 2e9 / published - 1) < 0.04


def test_width_of_mobilenet_is_rounded_as_in_the_paper():
    # torchvision's _make_divisible; timm publishes 6.11 million parameters for mobilenetv2_140
    assert summary(nets.mobilenet_v2(width=1.4), (224, 224, 3)).parameters == 6_108_776
    assert math.isclose(summary(nets.mobilenet_v2(width=0.5), (224, 224, 3)).parameters, 1.97e6, rel_tol=0.01)


def test_an_unknown_stem_is_named():
    with pytest.raises(ValueError, match=r"stem: got 'mnist', expected one of 'imagenet', 'cifar'"):
        nets.resnet18(stem="mnist")


def test_stochastic_depth_grows_and_leaves_blocks_out():
    net = nets.convnext_tiny(depths=(1, 2), features=(4, 8), drop_path=0.4)
    rates = [row.name for row in summary(net, (16, 16, 3)).rows if row.name.startswith("drop_path")]
    assert rates == ["drop_path 0.0", "drop_path 0.2", "drop_path 0.4"]
    block = nets.convnext_tiny(depths=(1,), features=(4,), layer_scale=1.0).layers[2]
    params, (x,) = block.init(KEY, (4, 4, 4), jnp.float64), normal(0, (8, 4, 4, 4))
    assert not jnp.array_equal(block.apply(params, x), x)


# The net, small; the shape of an example; the optimizer's rate.
SMALL = {
    "notes_net": (nets.notes_net(4, features=3), (8, 8, 3), 1e-2),
    "lenet5": (nets.lenet5(4), (32, 32, 1), 1e-2),
    "conv3d_net": (nets.conv3d_net(4, features=(2, 4)), (4, 8, 8, 1), 1e-2),
    "vgg16": (nets.vgg16(4, features=((4,), (8,)), hidden=16, dropout=0.1), (28, 28, 3), 1e-2),
    "resnet18": (nets.resnet18(4, stem="cifar", width=2, depths=(1, 1)), (8, 8, 3), 1e-2),
    "resnet50": (nets.resnet50(4, width=2, depths=(1, 1)), (32, 32, 3), 1e-2),
    "mobilenet_v2": (
        nets.mobilenet_v2(4, width=0.25, blocks=((1, 16, 1, 1), (2, 24, 2, 2)), dropout=0.1),
        (16, 16, 3),
        1e-2,
    ),
    "convnext_tiny": (nets.convnext_tiny(4, depths=(1, 1), features=(4, 8), layer_scale=0.1), (16, 16, 3), 1e-2),
    "dcgan_generator": (nets.dcgan_generator(features=2, channels=4, doublings=1), (1, 1, 5), 1e-2),
    "unet": (nets.unet(4, features=(2, 4), dropout=0.1), (8, 8, 1), 1e-2),
    "tcn": (nets.tcn(4, features=(4, 6), kernel_size=3, dropout=0.1), (16, 2), 1e-2),
}  # fmt: skip


def test_every_net_is_trained_here():
    assert set(SMALL) == set(nets.__all__)


@pytest.mark.parametrize("name", SMALL)
def test_a_few_steps_lower_the_loss(name):
    net, shape, rate = SMALL[name]
    (x,) = normal(0, (4, *shape), dtype=np.float32)
    positions = output_shape(net, shape)[:-1]  # of an image or a sequence; () for classes
    labels = jnp.asarray(np.random.default_rng(1).integers(0, 4, (4, *positions)))

    def loss(params, net_state, batch, key):
        logits, net_state = net.train(params, net_state, batch[0], key)
        return softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean(), ({}, net_state)

    optimizer, losses = optax.adam(rate), []
    params, net_state = jax.jit(lambda key: (net.init(key, shape), net.init_state(shape)))(KEY)
    state = new_state(params, optimizer, KEY, net_state)
    step = jax.jit(make_train_step(loss, optimizer, has_net_state=True))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # optax relies on them
        for _ in range(6):
            state, metrics = step(state, (x, labels))
            losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.98 * losses[0], losses
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, params)
    assert all(jax.tree.leaves(moved)), moved
    if net.stateful:
        changed = jax.tree.map(lambda a, b: bool((a != b).all()), state.net_state, net_state)
        assert all(jax.tree.leaves(changed))
