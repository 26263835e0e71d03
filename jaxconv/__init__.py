"""jaxconv: convolutional networks in JAX whose backward passes are derived by hand.

The ops stand here; nets are built with `jaxconv.layers` and trained with `jaxconv.training`; gradients, these or your
own, are checked with `jaxconv.verification`.
"""

from jaxconv.activation import leaky_relu, log_softmax, relu, sigmoid, softmax, tanh
from jaxconv.conv import conv, conv_input_grad, conv_kernel_grad
from jaxconv.dropout import drop_path, dropout
from jaxconv.linear import dense, flatten
from jaxconv.loss import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from jaxconv.norm import batch_norm, batch_norm_inference, group_norm, instance_norm, layer_norm, rms_norm, standardize
from jaxconv.pool import avg_pool, global_avg_pool, global_max_pool, max_pool, min_pool, sum_pool
from jaxconv.transform import autodiff

__all__ = [
    "autodiff",
    "avg_pool",
    "batch_norm",
    "batch_norm_inference",
    "conv",
    "conv_input_grad",
    "conv_kernel_grad",
    "dense",
    "drop_path",
    "dropout",
    "flatten",
    "global_avg_pool",
    "global_max_pool",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "max_pool",
    "min_pool",
    "relu",
    "rms_norm",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "standardize",
    "sum_pool",
    "tanh",
]
__version__ = "0.1.0"
