"""What the tests share: tolerances, random geometries and inputs, and a comparison that says where it failed."""

import dataclasses
import math
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.geometry import Window, conv_window
from jaxconv.verification.tolerance import C


def assert_close(actual, expected, *, length: int, scale: float | None = None) -> None:
    """Every element within C · eps · sqrt(length) · scale; scale is the largest |expected|, unless cancellation asks more.

    For tests of values. Gradients go through `jaxconv.verification`, whose scale is each element's own.
    """
    actual_leaves, expected_leaves = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual_leaves) == len(expected_leaves)
    for a, e in zip(actual_leaves, expected_leaves, strict=True):
        assert a.shape == e.shape
        assert a.dtype == e.dtype
        if not a.size:
            continue
        eps = float(jnp.finfo(a.dtype).eps)
        a64, e64 = np.asarray(a, np.float64), np.asarray(e, np.float64)
        largest = max(float(np.abs(e64).max()), 1.0) if scale is None else scale
        allowed = C * eps * math.sqrt(max(1, length)) * largest
        worst = np.unravel_index(np.argmax(np.abs(a64 - e64)), a64.shape)
        assert np.all(np.abs(a64 - e64) <= allowed), f"{a64[worst]} != {e64[worst]} at {worst}, allowed {allowed:.3g}"


@dataclasses.dataclass(frozen=True)
class ConvCase:
    """A random convolution with no option left at its default."""

    batch: tuple[int, ...]
    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    channels: int
    features: int
    options: dict[str, Any]

    @property
    def window(self) -> Window:
        geometric = {name: self.options[name] for name in ("strides", "padding", "dilation")}
        return conv_window(self.spatial, self.kernel, **geometric)

    @property
    def length(self) -> int:
        """The longest sum in the forward or either gradient."""
        out = math.prod(self.batch) * math.prod(self.window.output_size)
        return max(math.prod(self.kernel) * max(self.channels, self.features), out)


def random_conv_case(rng: random.Random, *, most: int = 7) -> ConvCase:
    """Sizes that make every term matter: strides, dilations and paddings differ per axis and per side."""
    while True:
        ndim = rng.choice([1, 2, 2, 2, 3])
        groups = rng.choice([2, 3, 4])
        spatial = tuple(rng.randint(1, most - (ndim == 3)) for _ in range(ndim))
        kernel = tuple(rng.randint(1, 3) for _ in range(ndim))
        case = ConvCase(
            batch=rng.choice([(), (2,), (3,), (2, 2)]),
            spatial=spatial,
            kernel=kernel,
            channels=groups * rng.choice([1, 2]),
            features=groups * rng.choice([1, 2, 3]),
            options={
                "strides": tuple(rng.randint(1, 3) for _ in range(ndim)),
                "padding": tuple(_pad(rng) for _ in range(ndim)),
                "dilation": tuple(rng.randint(1, 3) for _ in range(ndim)),
                "groups": groups,
                "flip_kernel": True,
                "data_format": rng.choice(["channels_first", "channels_first", "channels_last"]),
                "precision": lax.Precision.HIGHEST,
            },
        )
        defaults = (1,) * ndim
        if case.options["strides"] == defaults or case.options["dilation"] == defaults:
            continue
        try:
            if 0 not in case.window.output_size:
                return case
        except ValueError:
            continue


def _pad(rng: random.Random):
    return rng.choice([(rng.randint(-1, 3), rng.randint(-1, 3)), rng.randint(1, 2), "SAME", "SAME_LOWER"])


def normal(seed: int, *shapes, dtype=np.float64):
    """Normal arrays of these shapes."""
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def small_integers(seed: int, *shapes, dtype=np.float32):
    """Arrays of small integers, whose products and sums are exact in every floating dtype down to float32."""
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.integers(-4, 5, shape), dtype) for shape in shapes]
