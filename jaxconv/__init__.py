"""jaxconv: convolutional networks in JAX whose backward passes are derived by hand.

The ops stand here; nets are built with `jaxconv.layers` and trained with `jaxconv.training`; gradients, these or your
own, are checked with `jaxconv.verification`.
"""

from jaxconv.activation import leaky_relu, log_softmax, relu, sigmoid, softmax, tanh
from jaxconv.conv import conv, conv_input_grad, conv_kernel_grad, conv_transpose
from jaxconv.conv_general import conv_general_dilated
from jaxconv.linear import dense, flatten
from jaxconv.loss import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from jaxconv.padding import pad
from jaxconv.patches import conv_patches, depth_to_space, fold, space_to_depth
from jaxconv.pool import avg_pool, global_avg_pool, global_max_pool, max_pool, min_pool, sum_pool
from jaxconv.separable import depthwise_conv, separable_conv
from jaxconv.transform import autodiff

__all__ = [
    "autodiff",
    "avg_pool",
    "conv",
    "conv_general_dilated",
    "conv_input_grad",
    "conv_kernel_grad",
    "conv_patches",
    "conv_transpose",
    "dense",
    "depth_to_space",
    "depthwise_conv",
    "flatten",
    "fold",
    "global_avg_pool",
    "global_max_pool",
    "leaky_relu",
    "log_softmax",
    "max_pool",
    "min_pool",
    "pad",
    "relu",
    "separable_conv",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "space_to_depth",
    "sum_pool",
    "tanh",
]
__version__ = "0.1.0"
