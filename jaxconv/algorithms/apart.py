"""Computations kept apart from the program around them, by calls that XLA does not inline. For CPUs.

XLA:CPU starts what it can as soon as it can. In a training step that is the forward pass for much of the backward pass:
kernels and inputs rearranged, the zeros that loops start from, normalised inputs. Each would lie in memory from then
until it is read, and memory is what a step on a CPU waits for: mapping it anew takes a quarter of ResNet-18's time, and
half of MobileNetV2's. What a call needs in between it has only while it runs.

The result of a call is also made once, and in its own shape. XLA:CPU would make it again for everything that reads it,
and where it does not, as with gathers, keep every term as an array instead (depthwise.py in front of an activation: 12
arrays in place of 2). And it would make it in the shape that the next operation takes it in, element by element where
that is not its own: three times as slow.

Nothing inside is fused with what is outside, so other elementwise algorithms are not apart, nor is anything on other
platforms. Figures in experiments/README.md.
"""

import functools
from typing import Any

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata


def made_apart(function, *arguments) -> Any:
    """function(*arguments), all of them arrays or trees of arrays."""
    return set_xla_metadata(jax.jit(function)(*arguments), inlineable="false")


def made_apart_on_cpu(function, *arguments) -> Any:
    """The same where the platform is a CPU, otherwise plainly function(*arguments)."""
    return lax.platform_dependent(*arguments, cpu=functools.partial(made_apart, function), default=function)


def apart(algorithm):
    """The algorithm(*arrays, *options) as one that is computed apart."""

    @functools.wraps(algorithm)
    def called(*arguments, **options):
        count = sum(isinstance(a, jax.Array) for a in arguments)
        return made_apart(lambda *arrays: algorithm(*arrays, *arguments[count:], **options), *arguments[:count])

    return called
