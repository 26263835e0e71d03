"""jaxconv: convolutional networks in JAX whose backward passes are derived by hand.

The ops stand here; nets are built with `jaxconv.layers` and trained with `jaxconv.training`; gradients, these or your
own, are checked with `jaxconv.verification`.
"""

from jaxconv.activation import leaky_relu, log_softmax, relu, sigmoid, softmax, tanh
from jaxconv.conv import conv, conv_input_grad, conv_kernel_grad
from jaxconv.linear import dense, flatten
from jaxconv.loss import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from jaxconv.pool import (
    avg_pool,
    logsumexp_pool,
    lp_pool,
    max_pool,
    max_pool_with_indices,
    max_unpool,
    min_pool,
    sum_pool,
)
from jaxconv.pool_adaptive import adaptive_avg_pool, adaptive_max_pool
from jaxconv.pool_global import (
    global_avg_pool,
    global_logsumexp_pool,
    global_lp_pool,
    global_max_pool,
    global_min_pool,
    global_sum_pool,
)
from jaxconv.transform import autodiff

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "autodiff",
    "avg_pool",
    "conv",
    "conv_input_grad",
    "conv_kernel_grad",
    "dense",
    "flatten",
    "global_avg_pool",
    "global_logsumexp_pool",
    "global_lp_pool",
    "global_max_pool",
    "global_min_pool",
    "global_sum_pool",
    "leaky_relu",
    "log_softmax",
    "logsumexp_pool",
    "lp_pool",
    "max_pool",
    "max_pool_with_indices",
    "max_unpool",
    "min_pool",
    "relu",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "sum_pool",
    "tanh",
]
__version__ = "0.1.0"
