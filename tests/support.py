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

# Tolerances are C · eps · sqrt(n), relative to the largest sum of absolute terms in play, n the length of the longest
# sum. Rounding errors of n terms in any order add up like a random walk of sqrt(n) steps of eps/2; C leaves room for the
# worst of the thousands of elements that a test looks at, and for a second sum on top of the first.
C = 16


def assert_close(actual, expected, *, length: int, scale: float | None = None) -> None:
    """Every element within C · eps · sqrt(length) · scale; scale is the largest |expected|, unless cancellation asks more."""
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
    """A random convolution with no option left at its default, and its plain lax counterpart."""

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

    def _data_shape(self, spatial, channels):
        first = self.options["data_format"] == "channels_first"
        return (*self.batch, channels, *spatial) if first else (*self.batch, *spatial, channels)

    @property
    def x_shape(self):
        return self._data_shape(self.spatial, self.channels)

    @property
    def w_shape(self):
        return (*self.kernel, self.channels // self.options["groups"], self.features)

    @property
    def y_shape(self):
        return self._data_shape(self.window.output_size, self.features)

    def lax_conv(self, x, w, b):
        """The same convolution by lax alone, for jax.grad to differentiate."""
        ndim, options = len(self.spatial), self.options
        first = options["data_format"] == "channels_first"
        nb = len(self.batch)
        if first:
            x = jnp.moveaxis(x, nb, -1)
        x = x.reshape(math.prod(self.batch), *x.shape[nb:])
        if options["flip_kernel"]:
            w = w[(slice(None, None, -1),) * ndim]
        data = (0, ndim + 1, *range(1, ndim + 1))
        # The padding is made explicit, so that the lax operation sees none: its own gradient aborts XLA:CPU for some
        # negative paddings.
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in self.window.padding), (0, 0, 0)])
        y = lax.conv_general_dilated(
            x,
            w,
            self.window.strides,
            "VALID",
            rhs_dilation=self.window.dilation,
            dimension_numbers=lax.ConvDimensionNumbers(data, (ndim + 1, ndim, *range(ndim)), data),
            feature_group_count=options["groups"],
            precision=options["precision"],
        )
        y = y + jnp.broadcast_to(b, y.shape)
        y = y.reshape(*self.batch, *y.shape[1:])
        return jnp.moveaxis(y, -1, nb) if first else y


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


def scalar_of(function):
    """A scalar of a function's result whose second derivatives do not vanish when the function is linear."""
    return lambda *args: jnp.sum(jnp.sin(function(*args)))


def check_gradients(op, reference, args, *, length: int, eagerly: bool = True) -> None:
    """The value and every first derivative, under jit and eagerly, against jax.grad of the reference."""
    everything = tuple(range(len(args)))

    def value_and_grads(function):
        return lambda *args: (function(*args), jax.grad(scalar_of(function), everything)(*args))

    expected = jax.jit(value_and_grads(reference))(*args)
    if eagerly:
        assert_close(value_and_grads(op)(*args), expected, length=length)
    assert_close(jax.jit(value_and_grads(op))(*args), expected, length=length)


def check_transformations(op, reference, args, *, length: int) -> None:
    """Second derivatives, vmap of grad over each argument and over all, scan, and remat, against the reference."""
    everything = tuple(range(len(args)))
    tangents = normal(17, *(a.shape for a in args))
    stacks = [jnp.stack([a, -a, a + t]) for a, t in zip(args, tangents, strict=True)]

    def results(function):
        scalar = scalar_of(function)
        grads = jax.grad(scalar, everything)

        def all_results(args, tangents, stacks):
            found = {
                "grad of grad": jax.grad(lambda *a: sum(map(jnp.sum, map(jnp.sin, grads(*a)))), everything)(*args),
                "jvp of grad": jax.jvp(grads, tuple(args), tuple(tangents)),
                "hessian": jax.hessian(scalar, everything)(*args),
                "remat": jax.grad(jax.checkpoint(scalar), everything)(*args),
                "scan": lax.scan(lambda _, a: (None, grads(*a)), None, tuple(stacks))[1],
                "grad of scan": jax.grad(
                    lambda stacks: jnp.sum(lax.scan(lambda _, a: (None, scalar(*a)), None, tuple(stacks))[1])
                )(stacks),
                "vmap of grad over all": jax.vmap(grads)(*stacks),
            }
            for number in everything if len(everything) > 1 else ():
                mixed = [stacks[number] if other == number else args[other] for other in everything]
                axes = [0 if other == number else None for other in everything]
                found[f"vmap of grad over argument {number}"] = jax.vmap(grads, axes)(*mixed)
            return found

        return jax.jit(all_results)(args, tangents, stacks)

    expected = results(reference)
    for name, found in results(op).items():
        largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected[name]))
        try:
            assert_close(found, expected[name], length=length, scale=max(1.0, largest))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def check_shard_map(op, args, sharded, *, length: int) -> None:
    """The gradients of a sum over the batch are the same with the batch split over two devices."""
    from jax.sharding import PartitionSpec

    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = tuple(PartitionSpec("batch") if is_sharded else PartitionSpec() for is_sharded in sharded)
    everything = tuple(range(len(args)))

    def total(*args):
        local = lambda *args: lax.psum(scalar_of(op)(*args), "batch")  # noqa: E731
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=PartitionSpec())(*args)

    found = jax.jit(jax.grad(total, everything))(*args)
    assert_close(found, jax.grad(scalar_of(op), everything)(*args), length=length)
