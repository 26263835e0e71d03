"""jaxconv: convolutional networks in JAX whose backward passes are derived by hand.

The ops stand here; nets are built with `jaxconv.layers` and trained with `jaxconv.training`; gradients, these or your
own, are checked with `jaxconv.verification`.
"""

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
    threshold,
)
from jaxconv.conv import conv, conv_input_grad, conv_kernel_grad, conv_transpose
from jaxconv.conv_general import conv_general_dilated
from jaxconv.linear import dense, flatten
from jaxconv.loss import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from jaxconv.norm import batch_norm, batch_norm_inference, group_norm, instance_norm, layer_norm, rms_norm, standardize
from jaxconv.padding import pad
from jaxconv.patches import conv_patches, depth_to_space, fold, space_to_depth
from jaxconv.pool import avg_pool, global_avg_pool, global_max_pool, max_pool, min_pool, sum_pool
from jaxconv.separable import depthwise_conv, separable_conv
from jaxconv.softmax import gumbel_softmax, log_softmax, logmeanexp, logsumexp, softmax, softmin
from jaxconv.transform import autodiff

__all__ = [
    "autodiff",
    "avg_pool",
    "batch_norm",
    "batch_norm_inference",
    "celu",
    "conv",
    "conv_general_dilated",
    "conv_input_grad",
    "conv_kernel_grad",
    "conv_patches",
    "conv_transpose",
    "dense",
    "depth_to_space",
    "depthwise_conv",
    "elu",
    "flatten",
    "fold",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "glu",
    "group_norm",
    "gumbel_softmax",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "log1mexp",
    "log_sigmoid",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "max_pool",
    "min_pool",
    "mish",
    "pad",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "selu",
    "separable_conv",
    "sigmoid",
    "silu",
    "soft_shrink",
    "soft_sign",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softmin",
    "softplus",
    "space_to_depth",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "standardize",
    "sum_pool",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]
__version__ = "0.1.0"
