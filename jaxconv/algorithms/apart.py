"""Computations kept apart from the program around them, by calls that XLA does not inline. For CPUs.

XLA:CPU starts what it can as soon as it can. In a training step that is the forward pass for much of the backward pass:
kernels and inputs rearranged, the zeros that loops start from, normalised inputs. Each would lie in memory from then
until it is read, and memory is what a step on a CPU waits for: mapping it anew takes a quarter of ResNet-18's time, and
half of MobileNetV2's. What a call needs in between it has only while it runs.

The result of a call is also made in its own shape, by whole rows, where XLA:CPU would make it in the shape that the
next operation takes it in, element by element: three times as slow.

Nothing inside is fused with what is outside, so elementwise algorithms are not apart, nor is anything on other
platforms. Figures in experiments/README.md.
"""

import functools

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata


def made_apart(function, *arguments):
    """function(*arguments), all of them arrays or trees of arrays."""
    return set_xla_metadata(jax.jit(function)(*arguments), inlineable="false")


def made_apart_on_cpu(function, *arguments):
    """The same where the platform is a CPU, otherwise plainly function(*arguments)."""
    return lax.platform_dependent(*arguments, cpu=functools.partial(made_apart, function), default=function)


def apart(algorithm):
    """The algorithm(a, b, *options) of two arrays, as one that is computed apart."""

    @functools.wraps(algorithm)
    def called(a, b, *options):
        return made_apart(lambda a, b: algorithm(a, b, *options), a, b)

    return called
