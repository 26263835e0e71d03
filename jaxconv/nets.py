"""Well-known convolutional nets as plain functions that return a `jaxconv.layers.Layer`.

Every net is made of the layers of `jaxconv.layers` and nothing else: read its function to see what it is, and
`print(summary(net, input_shape))` to see its shapes and counts. Widths and depths are arguments, with those of the
paper as defaults. The last layer gives logits. Initial parameters are those of the paper or implementation named.

    net = resnet18(10, stem="cifar")
    params, state = jax.jit(net.init, static_argnums=1)(key, (32, 32, 3)), net.init_state((32, 32, 3))
    logits, state = net.train(params, state, images, key)     # in training
    logits = net.apply(params, images, state)                 # afterwards
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxconv.layers import (
    Layer,
    adaptive_avg_pool_layer,
    avg_pool_layer,
    batch_norm_layer,
    branches,
    conv_layer,
    conv_transpose_layer,
    dense_layer,
    depthwise_conv_layer,
    drop_path_layer,
    dropout_layer,
    flatten_layer,
    gelu_layer,
    global_avg_pool_layer,
    identity_layer,
    layer_norm_layer,
    layer_scale_layer,
    max_pool_layer,
    relu6_layer,
    relu_layer,
    residual,
    serial,
    tanh_layer,
)

__all__ = [
    "conv3d_net",
    "convnext_tiny",
    "dcgan_generator",
    "lenet5",
    "mobilenet_v2",
    "notes_net",
    "resnet18",
    "resnet50",
    "tcn",
    "unet",
    "vgg16",
]

_he_of_outputs = initializers.variance_scaling(2.0, "fan_out", "normal")
_uniform_of_torch = initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch.nn.Linear: U(±1/sqrt(fan_in))


# --- small nets ---


def notes_net(classes: int = 10, *, features: int = 12) -> Layer:
    """INPUT-CONV-RELU-POOL-FC: the least that is a convolutional net.

    Input (32, 32, 3), through 32x32x12 and 16x16x12 to the logits: 31,066 parameters. Any size will do.

    Reference: F.-F. Li, A. Karpathy, J. Johnson, CS231n, Convolutional networks, "Layers used to build ConvNets".

    Example:
        >>> from jaxconv.layers import summary
        >>> summary(notes_net(), (32, 32, 3)).parameters
        31066
    """
    return serial(
        conv_layer(features, 3, padding="SAME"), relu_layer, max_pool_layer(2), flatten_layer, dense_layer(classes)
    )


def lenet5(classes: int = 10, *, padding: int | str = "VALID") -> Layer:
    """LeNet-5 in its usual form of today, with tanh.

    Input (32, 32, 1), or (28, 28, 1) with padding=2 for the first convolution: 61,706 parameters. The paper's net has
    60,000: there, the second convolution sees only some of the first's channels (here all), the poolings have a factor
    and a bias per channel (here none), and radial basis functions make the output (here a dense layer). Its tanh is
    scaled, and the initial weights are uniform over ±2.4/fan_in (here Xavier's).

    Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition,
    Proceedings of the IEEE 86, 1998.

    Example:
        >>> from jaxconv.layers import summary
        >>> summary(lenet5(), (32, 32, 1)).parameters
        61706
    """
    xavier = initializers.glorot_uniform()
    return serial(
        conv_layer(6, 5, padding=padding, w_init=xavier),
        tanh_layer,
        avg_pool_layer(2),
        conv_layer(16, 5, w_init=xavier),
        tanh_layer,
        avg_pool_layer(2),
        flatten_layer,
        dense_layer(120, w_init=xavier),
        tanh_layer,
        dense_layer(84, w_init=xavier),
        tanh_layer,
        dense_layer(classes, w_init=xavier),
    )


def conv3d_net(classes: int, *, features: Sequence[int] = (32, 64, 128)) -> Layer:
    """A small net for volumes and video: blocks of 3x3x3 convolution, batch norm, ReLU and pooling.

    Input (depth, height, width, C), each a multiple of 4 for three blocks: the first pooling leaves the depth (the time
    of a video) as it is. With C = 1 and 10 classes, 279,082 parameters.

    Reference: after D. Tran et al., Learning spatiotemporal features with 3D convolutional networks (C3D),
    arXiv:1412.0767, whose kernels and first pooling these are; it is smaller, and has batch norm and a global average
    in place of the large dense layers.

    Example:
        >>> from jaxconv.layers import summary
        >>> summary(conv3d_net(10), (16, 32, 32, 1)).parameters
        279082
    """
    blocks = []
    for number, count in enumerate(features):
        pool = max_pool_layer((1, 2, 2) if number == 0 else 2)
        blocks += [conv_layer(count, 3, padding="SAME", use_bias=False), batch_norm_layer(), relu_layer, pool]
    return serial(*blocks, global_avg_pool_layer, dense_layer(classes))


# --- VGG ---


def vgg16(
    classes: int = 1000,
    *,
    features: Sequence[Sequence[int]] = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    hidden: int = 4096,
    dropout: float = 0.5,
) -> Layer:
    """VGG-16, configuration D, without batch norm.

    Input (224, 224, 3): 138,357,544 parameters with 1,000 classes. Other sizes are pooled to 7x7 before the dense
    layers. Initial weights are torchvision's: He's, by the number of outputs, and N(0, 0.01²) in the dense layers.

    Args:
        classes: how many.
        features: the features of the convolutions of each block; max pooling ends a block.
        hidden: the width of the two dense layers before the last.
        dropout: the rate behind each of them.

    Reference: K. Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image recognition,
    arXiv:1409.1556, table 1.

    Example:
        >>> from jaxconv.layers import summary
        >>> summary(vgg16(), (224, 224, 3)).parameters
        138357544
    """
    layers = []
    for block in features:
        for count in block:
            layers += [conv_layer(count, 3, padding="SAME", w_init=_he_of_outputs), relu_layer]
        layers.append(max_pool_layer(2))
    layers += [adaptive_avg_pool_layer(7), flatten_layer]
    normal = initializers.normal(0.01)
    for _ in range(2):
        layers += [dense_layer(hidden, w_init=normal), relu_layer, dropout_layer(dropout)]
    return serial(*layers, dense_layer(classes, w_init=normal))


# --- residual nets ---


def resnet18(
    classes: int = 1000, *, stem: str = "imagenet", width: int = 64, depths: Sequence[int] = (2, 2, 2, 2)
) -> Layer:
    """ResNet-18: four stages of two basic blocks. With depths (3, 4, 6, 3) it is ResNet-34.

    Input (224, 224, 3): 11,689,512 parameters with 1,000 classes, as torchvision's. With stem="cifar", a 3x3
    convolution without pooling, for (32, 32, 3): 11,173,962 with 10 classes, as in kuangliu/pytorch-cifar. Convolutions
    have no bias, their initial weights are He's by the number of outputs; the dense layer's are torch's.

    Args:
        classes: how many.
        stem: "imagenet" (7x7 with stride 2, then max pooling) or "cifar" (3x3).
        width: the features of the first stage; each of the next has twice as many.
        depths: how many blocks each stage has.

    Reference: K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, arXiv:1512.03385, table 1.

    Example:
        >>> from jaxconv.layers import summary
        >>> summary(resnet18(), (224, 224, 3)).parameters, summary(resnet18(10, stem="cifar"), (32, 32, 3)).parameters
        (11689512, 11173962)
    """
    return _resnet(_basic_block, 1, depths, classes, stem, width)


def resnet50(
    classes: int = 1000, *, stem: str = "imagenet", width: int = 64, depths: Sequence[int] = (3, 4, 6, 3)
) -> Layer:
    """ResNet-50: stages of bottleneck blocks, with the stride in the 3x3 convolution. Depths (3, 4, 23, 3): ResNet-101.

    Input (224, 224, 3): 25,557,032 parameters with 1,000 classes, as torchvision's. All else is as in `resnet18`.

    Args:
        classes: how many.
        stem: "imagenet" or "cifar".
        width: the features of the 3x3 convolutions in the first stage; its blocks give 4 times as many.
        depths: how many blocks each stage has.

    Reference: arXiv:1512.03385, table 1; the stride as in torchvision (`torchvision.models.resnet50`).

    Example:
        >>> from jaxconv.layers import summary
        >>> summary(resnet50(), (224, 224, 3)).parameters
        25557032
    """
    return _resnet(_bottleneck, 4, depths, classes, stem, width)


def _resnet(
    body: Callable[[int, int], Layer], expansion: int, depths: Sequence[int], classes: int, stem: str, width: int
) -> Layer:
    stems = {
        "imagenet": [*_conv_norm(width, 7, 2), relu_layer, max_pool_layer(3, strides=2, padding=1)],
        "cifar": [*_conv_norm(width, 3), relu_layer],
    }
    if stem not in stems:
        raise ValueError(f"stem: got {stem!r}, expected one of {', '.join(map(repr, stems))}")
    layers, before = stems[stem], width
    for stage, depth in enumerate(depths):
        features = width * 2**stage
        for number in range(depth):
            strides = 2 if stage > 0 and number == 0 else 1
            after = features * expansion
            shortcut = identity_layer if (strides, before) == (1, after) else serial(*_conv_norm(after, 1, strides))
            layers += [residual(body(features, strides), shortcut), relu_layer]
            before = after
    return serial(*layers, global_avg_pool_layer, dense_layer(classes, w_init=_uniform_of_torch))


def _basic_block(features: int, strides: int) -> Layer:
    return serial(*_conv_norm(features, 3, strides), relu_layer, *_conv_norm(features, 3))


def _bottleneck(features: int, strides: int) -> Layer:
    return serial(
        *_conv_norm(features, 1),
        relu_layer,
        *_conv_norm(features, 3, strides),
        relu_layer,
        *_conv_norm(4 * features, 1),
    )


def _conv_norm(features: int, kernel_size: int, strides: int = 1) -> list[Layer]:
    """A convolution, padded by half the kernel, and batch norm, whose bias makes one of the convolution's idle."""
    padding, w_init = kernel_size // 2, _he_of_outputs
    conv = conv_layer(features, kernel_size, strides=strides, padding=padding, use_bias=False, w_init=w_init)
    return [conv, batch_norm_layer()]


# --- MobileNetV2 ---


def mobilenet_v2(
    classes: int = 1000,
    *,
    width: float = 1.0,
    blocks: Sequence[tuple[int, int, int, int]] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ),
    dropout: float = 0.2,
) -> Layer:
    """MobileNetV2: inverted residuals with depthwise convolutions.

    Input (224, 224, 3): 3,504,872 parameters with 1,000 classes, as torchvision's. Convolutions have no bias. Initial
    weights are He's, by the number of outputs in full convolutions and by the number of taps in depthwise ones; the
    dense layer's are N(0, 0.01²).

    Args:
        classes: how many.
        width: every number of features is multiplied by this and rounded to a multiple of 8; the last is 1,280 or more.
        blocks: (expansion t, features c, repetitions n, first stride s), the rows of the paper's table 2.
        dropout: the rate before the last layer.

    Reference: M. Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks, arXiv:1801.04381, table 2;
    `torchvision.models.mobilenet_v2`.

    Example:
        >>> from jaxconv.layers import summary
        >>> summary(mobilenet_v2(), (224, 224, 3)).parameters
        3504872
    """

    def rounded(features: float) -> int:
        # To the nearest multiple of 8, but not down by more than a tenth.
        nearest = max(8, int(features + 4) // 8 * 8)
        return nearest if nearest >= 0.9 * features else nearest + 8

    before = rounded(32 * width)
    layers = [*_conv_norm(before, 3, 2), relu6_layer]
    for expansion, count, repetitions, first_stride in blocks:
        features = rounded(count * width)
        for number in range(repetitions):
            strides, hidden = (first_stride if number == 0 else 1), before * expansion
            depthwise = depthwise_conv_layer(3, strides=strides, padding=1, use_bias=False)
            body = serial(
                *([*_conv_norm(hidden, 1), relu6_layer] if expansion != 1 else []),
                depthwise,
                batch_norm_layer(),
                relu6_layer,
                *_conv_norm(features, 1),
            )
            layers.append(residual(body) if (strides, before) == (1, features) else body)
            before = features
    layers += [*_conv_norm(rounded(1280 * max(1.0, width)), 1), relu6_layer, global_avg_pool_layer]
    return serial(*layers, dropout_layer(dropout), dense_layer(classes, w_init=initializers.normal(0.01)))


# --- ConvNeXt ---


def convnext_tiny(
    classes: int = 1000,
    *,
    depths: Sequence[int] = (3, 3, 9, 3),
    features: Sequence[int] = (96, 192, 384, 768),
    drop_path: float = 0.1,
    layer_scale: float = 1e-6,
) -> Layer:
    """ConvNeXt-T: a ResNet in the manner of a transformer, with 7x7 depthwise convolutions, layer norm and GELU.

    Input (224, 224, 3): 28,589,128 parameters with 1,000 classes, LayerScale among them. Initial weights are
    N(0, 0.02²), cut at two deviations. Every block is left out in training with a probability that grows evenly from 0
    at the first to `drop_path` at the last.

    Args:
        classes: how many.
        depths: how many blocks each stage has.
        features: and how many features.
        drop_path: the probability that the last block is left out.
        layer_scale: the factor by which a block's result is multiplied at first.

    Reference: Z. Liu et al., A ConvNet for the 2020s, arXiv:2201.03545, figure 4 and table 9;
    `torchvision.models.convnext_tiny`.

    Example:
        >>> from jaxconv.layers import summary
        >>> summary(convnext_tiny(), (224, 224, 3)).parameters
        28589128
    """
    w_init = initializers.truncated_normal(0.02)

    def norm() -> Layer:
        return layer_norm_layer(epsilon=1e-6)

    def block(count: int, rate: float) -> Layer:
        return residual(
            serial(
                depthwise_conv_layer(7, padding="SAME", w_init=w_init),
                norm(),
                dense_layer(4 * count, w_init=w_init),
                gelu_layer(approximate=False),
                dense_layer(count, w_init=w_init),
                layer_scale_layer(layer_scale),
                drop_path_layer(rate),
            )
        )

    layers, total = [conv_layer(features[0], 4, strides=4, w_init=w_init), norm()], sum(depths)
    for stage, (depth, count) in enumerate(zip(depths, features, strict=True)):
        if stage > 0:
            layers += [norm(), conv_layer(count, 2, strides=2, w_init=w_init)]
        first = sum(depths[:stage])
        layers += [block(count, drop_path * number / max(1, total - 1)) for number in range(first, first + depth)]
    return serial(*layers, global_avg_pool_layer, norm(), dense_layer(classes, w_init=w_init))


# --- DCGAN ---


def dcgan_generator(*, features: int = 64, channels: int = 3, doublings: int = 3) -> Layer:
    """The generator of DCGAN: a vector of noise becomes an image, by transposed convolutions.

    Input (1, 1, 100), 100 numbers of noise or as many as one likes: an image (64, 64, 3) in (−1, 1), 3,576,704
    parameters. Initial weights are N(0, 0.02²), the scales of the batch norms N(1, 0.02²).

    Args:
        features: those before the last convolution; every one before has twice those of the next.
        channels: of the image.
        doublings: how often they are doubled; the image has 8·2**doublings pixels on a side.

    Reference: A. Radford, L. Metz, S. Chintala, Unsupervised representation learning with deep convolutional generative
    adversarial networks, arXiv:1511.06434, figure 1; with the features of PyTorch's DCGAN tutorial, half the paper's.

    Example:
        >>> from jaxconv.layers import output_shape, summary
        >>> output_shape(dcgan_generator(), (1, 1, 100)), summary(dcgan_generator(), (1, 1, 100)).parameters
        ((64, 64, 3), 3576704)
    """
    w_init = initializers.normal(0.02)

    def scale_init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return 1 + w_init(key, shape, dtype)

    def up(count: int, **options: Any) -> Layer:
        return conv_transpose_layer(count, 4, use_bias=False, w_init=w_init, **options)

    layers = [up(features * 2**doublings), batch_norm_layer(scale_init=scale_init), relu_layer]
    for number in reversed(range(doublings)):
        layers += [up(features * 2**number, strides=2, padding=1), batch_norm_layer(scale_init=scale_init), relu_layer]
    return serial(*layers, up(channels, strides=2, padding=1), tanh_layer)


# --- U-Net ---


def unet(
    classes: int = 2,
    *,
    features: Sequence[int] = (64, 128, 256, 512, 1024),
    padding: str = "SAME",
    dropout: float = 0.5,
) -> Layer:
    """U-Net: an image goes down through poolings and up again, past bridges, to logits for every pixel.

    Input (height, width, C), multiples of 16 with the default padding "SAME", which gives as many pixels back. With the
    paper's padding="VALID", (572, 572, 1) gives (388, 388, 2), and the bridges are cropped. Either way 31,030,658
    parameters with C = 1 and 2 classes, 31,031,810 with C = 3: a figure often seen, 31,031,685, is that of
    zhixuhao/unet, which ends in a convolution more. Convolutions have biases; initial weights are He's.

    Args:
        classes: how many a pixel can have.
        features: at every level, from the first to the lowest.
        padding: of the 3x3 convolutions, "SAME" or "VALID".
        dropout: the rate at the end of the way down, on the two lowest levels.

    Reference: O. Ronneberger, P. Fischer, T. Brox, U-Net: convolutional networks for biomedical image segmentation,
    arXiv:1505.04597, figure 1. The paper does not tell the rate of its dropout.

    Example:
        >>> from jaxconv.layers import output_shape, summary
        >>> output_shape(unet(padding="VALID"), (572, 572, 1)), summary(unet(), (512, 512, 1)).parameters
        ((388, 388, 2), 31030658)
    """

    def twice(count: int) -> list[Layer]:
        return [conv_layer(count, 3, padding=padding), relu_layer] * 2

    *above, lowest = features
    inside = serial(*twice(lowest), dropout_layer(dropout))
    for level, count in reversed(list(enumerate(above))):
        down = [*twice(count), dropout_layer(dropout)] if level == len(above) - 1 else twice(count)
        below = serial(max_pool_layer(2), inside, conv_transpose_layer(count, 2, strides=2))
        inside = serial(*down, branches(identity_layer, below, combine=_crop_and_concatenate), *twice(count))
    return serial(inside, conv_layer(classes, 1))


def _crop_and_concatenate(*arrays: jax.Array) -> jax.Array:
    """The arrays one behind the other along the channels, each cropped about its middle to the smallest.

    Example:
        >>> _crop_and_concatenate(jnp.ones((1, 8, 8, 2)), jnp.ones((1, 4, 6, 3))).shape
        (1, 4, 6, 5)
    """
    smallest = [min(sizes) for sizes in zip(*(array.shape[1:-1] for array in arrays), strict=True)]
    cropped = []
    for array in arrays:
        starts = [(size - least) // 2 for size, least in zip(array.shape[1:-1], smallest, strict=True)]
        inner = (slice(start, start + least) for start, least in zip(starts, smallest, strict=True))
        cropped.append(array[(slice(None), *inner)])
    return jnp.concatenate(cropped, axis=-1)


# --- sequences ---


def tcn(
    outputs: int,
    *,
    features: Sequence[int] = (25,) * 8,
    kernel_size: int = 7,
    dropout: float = 0.0,
) -> Layer:
    """A temporal convolutional net: causal convolutions, whose dilation doubles from one residual block to the next.

    Input (time, C): `outputs` numbers for every time, each from that time and those before alone. A sequence is
    classified by those of its last time. The defaults are the paper's for sequential MNIST: with C = 1 and 10 outputs,
    66,510 parameters, and a receptive field of 1 + 2·(kernel_size − 1)·(2**blocks − 1) = 3,061 times.

    It is the paper's net without its weight normalisation. Initial weights are He's (the paper's: N(0, 0.01²)).

    Args:
        outputs: how many numbers for every time.
        features: those of each block; the first, and those that change them, have a convolution of size 1 as shortcut.
        kernel_size: of every convolution.
        dropout: the rate behind each of them; whole channels are dropped.

    Reference: S. Bai, J. Z. Kolter, V. Koltun, An empirical evaluation of generic convolutional and recurrent networks
    for sequence modeling, arXiv:1803.01271, figure 1.

    Example:
        >>> from jaxconv.layers import summary
        >>> table = summary(tcn(10), (784, 1))
        >>> table.parameters, table.rows[-1].receptive_field
        (66510, (3061,))
    """

    def block(before: int | None, count: int, dilation: int) -> Layer:
        half = (
            conv_layer(count, kernel_size, padding="CAUSAL", dilation=dilation),
            relu_layer,
            dropout_layer(dropout, broadcast_axes=-2),
        )
        return residual(serial(*half, *half), identity_layer if before == count else conv_layer(count, 1))

    layers, before = [], None
    for number, count in enumerate(features):
        layers += [block(before, count, 2**number), relu_layer]
        before = count
    return serial(*layers, dense_layer(outputs))
