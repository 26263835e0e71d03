"""The normalisations: digits far from 0, statistics over devices, running variance, errors."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from support import assert_close, normal

import jaxconv
from jaxconv import batch_norm, batch_norm_inference

DTYPES = ("float64", "float32", "bfloat16", "float16")


def exact(x, axes, epsilon):
    """x normalised in float64."""
    x = np.asarray(x, np.float64)
    e = x - x.mean(axes, keepdims=True)
    return e / np.sqrt(np.mean(e * e, axes, keepdims=True) + epsilon)


# --- batch_norm ---


def test_a_channel_far_from_0_keeps_its_digits():
    x = (1e4 + 0.05 * normal(0, (16, 16, 16, 3))[0]).astype(jnp.float32)
    y, mean, var = batch_norm(x, epsilon=1e-8)
    want = exact(x, (0, 1, 2), 1e-8)
    assert_close(y, jnp.asarray(want, jnp.float32), length=4096)
    assert_close(mean, jnp.asarray(np.mean(np.asarray(x, np.float64), (0, 1, 2)), jnp.float32), length=1)
    assert_close(var, jnp.var(x.astype(jnp.float64), (0, 1, 2)).astype(jnp.float32), length=4096, scale=0.05**2)
    # The variance as mean(x²) − mean(x)², which others use, has no digit left here.
    fast = jnp.mean(x * x, (0, 1, 2)) - jnp.mean(x, (0, 1, 2)) ** 2
    assert float(jnp.max(jnp.abs(fast / var - 1))) > 1


@pytest.mark.parametrize("value", [1e4 / 3, -1e10 / 3, 1e-20])
def test_a_constant_channel_far_from_0_gives_the_bias(value):
    x = jnp.full((32, 17, 17, 2), value, jnp.float32)
    y, vjp = jax.vjp(lambda x: batch_norm(x, None, jnp.full(2, 0.5, jnp.float32))[0], x)
    assert_close(y, jnp.full_like(y, 0.5), length=1)
    (dx,) = vjp(jnp.ones_like(y))
    assert float(jnp.max(jnp.abs(dx))) < 1e-2  # r = 316, and equal cotangents cancel


def test_running_variance():
    x = normal(0, (5, 3))[0]
    _, mean, var = batch_norm(x)
    assert_close(mean, jnp.mean(x, 0), length=5)
    assert_close(var * 5 / 4, jnp.var(x, 0, ddof=1), length=5)


def test_inference_with_the_statistics_of_the_batch_is_training():
    x, scale, bias = normal(0, (4, 5, 3), (3,), (3,))
    y, mean, var = batch_norm(x, scale, bias)
    assert_close(batch_norm_inference(x, mean, var, scale, bias), y, length=20)


@pytest.mark.parametrize("call", [batch_norm, lambda x: batch_norm_inference(x, jnp.zeros(3), jnp.ones(3))])
def test_where_the_channels_are(call):
    x = normal(0, (2, 4, 5, 3))[0]
    first = functools.partial(
        batch_norm if call is batch_norm else lambda x, **o: batch_norm_inference(x, jnp.zeros(3), jnp.ones(3), **o),
        data_format="channels_first",
    )
    y = jax.tree.leaves(call(x))[0]
    assert_close(jax.tree.leaves(first(jnp.moveaxis(x, -1, 1)))[0], jnp.moveaxis(y, -1, 1), length=40)
    two_batch_axes = jax.tree.leaves(first(jnp.moveaxis(x, -1, 2), spatial_ndim=1))[0]
    assert_close(two_batch_axes, jnp.moveaxis(y, -1, 2), length=40)


DEVICES = 2
MESHES = {kind: jax.make_mesh((DEVICES,), ("i",), axis_types=(kind,)) for kind in jax.sharding.AxisType if kind.name != "Manual"}  # fmt: skip


def split(a):
    return a.reshape(DEVICES, -1, *a.shape[1:])


def over_vmap(axes):
    """The statistics once (None) or once per example (0)."""

    def run(x, scale, bias):
        one = lambda x: batch_norm(x, scale, bias, axis_name="i")  # noqa: E731
        y, mean, var = jax.vmap(one, out_axes=(0, axes, axes), axis_name="i")(split(x))
        return y.reshape(x.shape), *((mean, var) if axes is None else (mean[0], var[1]))

    return run


def over_devices(check_vma):
    mesh = MESHES[jax.sharding.AxisType.Auto]
    data, none = PartitionSpec("i"), PartitionSpec()
    one = lambda *a: batch_norm(*a, axis_name="i")  # noqa: E731
    return jax.jit(
        jax.shard_map(one, mesh=mesh, in_specs=(data, none, none), out_specs=(data, none, none), check_vma=check_vma)
    )


SPREAD = {
    "vmap": over_vmap(None),
    "vmap, statistics per example": over_vmap(0),
    "shard_map": over_devices(check_vma=True),
    "shard_map, unchecked": over_devices(check_vma=False),
}
PARTS = normal(7, (4, 3, 2), (2,), (2,))


def loss(function, *arguments):
    """A function of y, mean and variance whose derivatives of every order are theirs."""
    return sum(jnp.sum(jnp.sin(a) * c) for a, c in zip(function(*arguments), PARTS, strict=True))


def arguments():
    x, scale, bias = normal(0, (4, 3, 2), (2,), (2,))
    return 2 * x + jnp.arange(4.0).reshape(4, 1, 1), scale, bias


@pytest.mark.parametrize("name", SPREAD)
def test_a_batch_spread_over_devices_is_one_batch(name):
    every = (0, 1, 2)
    for ours, whole in zip(SPREAD[name](*arguments()), batch_norm(*arguments()), strict=True):
        assert_close(ours, whole, length=12)
    gradients = [jax.grad(functools.partial(loss, f), every)(*arguments()) for f in (SPREAD[name], batch_norm)]
    assert_close(*gradients, length=12)
    # Forward over reverse: the rules themselves are differentiated.
    second = [
        jax.jvp(jax.grad(functools.partial(loss, f), every), arguments(), tuple(PARTS))[1]
        for f in (SPREAD[name], batch_norm)
    ]
    assert_close(*second, length=24)


def test_gradients_inside_of_the_mapped_function():
    x, scale, bias = arguments()
    parts = (split(PARTS[0]), *PARTS[1:])

    def mapped(x, dy):
        """Each device has its part of the loss."""

        def local(x, scale, bias):
            y, mean, var = batch_norm(x, scale, bias, axis_name="i")
            both = jnp.sum(jnp.sin(mean) * parts[1]) + jnp.sum(jnp.sin(var) * parts[2])
            return jnp.sum(jnp.sin(y) * dy) + both / DEVICES

        return jax.grad(local, (0, 1, 2))(x, scale, bias)

    dx, dscale, dbias = jax.vmap(mapped, axis_name="i")(split(x), parts[0])
    got = dx.reshape(x.shape), dscale.sum(0), dbias.sum(0)
    assert_close(got, jax.grad(functools.partial(loss, batch_norm), (0, 1, 2))(x, scale, bias), length=12)


@pytest.mark.parametrize("kind", MESHES)
def test_a_sharded_array_needs_no_axis_name(kind):
    x, scale, bias = arguments()
    sharded = jax.device_put(x, jax.sharding.NamedSharding(MESHES[kind], PartitionSpec("i")))
    with jax.set_mesh(MESHES[kind]):
        got = jax.jit(jax.grad(functools.partial(loss, batch_norm), (0, 1, 2)))(sharded, scale, bias)
    assert_close(got, jax.grad(functools.partial(loss, batch_norm), (0, 1, 2))(x, scale, bias), length=12)


def test_two_sums_over_the_devices_forward_and_one_backward():
    mapped = over_devices(check_vma=True)
    compiled = jax.jit(jax.grad(functools.partial(loss, mapped), (0, 1, 2))).lower(*arguments()).compile()
    # Of dscale and dbias there is a sum, too: XLA makes one of it and the sums of the rule, or leaves them apart.
    assert mapped.lower(*arguments()).compile().as_text().count(" all-reduce(") == 2
    assert compiled.as_text().count(" all-reduce(") <= 4


# --- all of them ---


NORMS = {
    "batch_norm": (batch_norm, 2),
    "batch_norm_inference": (lambda x, *p: batch_norm_inference(x, jnp.zeros(4, x.dtype), jnp.ones(4, x.dtype), *p), 2),
}  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), [*itertools.product(NORMS, DTYPES)])
def test_dtypes(name, dtype):
    function, parameters = NORMS[name]
    arguments = [a.astype(dtype) for a in normal(0, (3, 5, 4), *((4,),) * parameters)]
    results, vjp = jax.vjp(function, *arguments)
    assert {a.dtype for a in jax.tree.leaves(results)} == {jnp.dtype(dtype)}
    assert [(g.shape, g.dtype) for g in vjp(results)] == [(a.shape, a.dtype) for a in arguments]


S = jax.ShapeDtypeStruct
X, V = S((2, 5, 3), "float32"), S((3,), "float32")
ERRORS = {
    "scale of another shape": (batch_norm, (X, S((5,), "float32")), ValueError, r"scale: got shape \(5,\), expected \(3,\), one per channel, for x of shape \(2, 5, 3\)"),
    "bias of another shape": (lambda x, b: batch_norm(x, None, b), (X, S((1, 3), "float32")), ValueError, r"bias: got shape \(1, 3\), expected \(3,\)"),
    "mixed dtypes": (batch_norm, (X, S((3,), "bfloat16")), TypeError, r"x, scale: got mixed dtypes"),
    "integers": (batch_norm, (S((2, 3), "int32"),), TypeError, r"x: got dtype int32"),
    "an array of epsilon": (lambda x, e: batch_norm(x, epsilon=e), (X, S((), "float32")), TypeError, r"epsilon: got a \w+, expected a Python number: it is a constant"),
    "negative epsilon": (lambda x: batch_norm(x, epsilon=-1.0), (X,), ValueError, r"epsilon: got -1.0, expected at least 0"),
    "NaN for epsilon": (lambda x: batch_norm(x, epsilon=float("nan")), (X,), ValueError, r"epsilon: got nan"),
    "an axis that is not mapped": (lambda x: batch_norm(x, axis_name="i"), (X,), ValueError, r"axis_name: got 'i', expected axes that are mapped over here"),
    "data_format": (lambda x: batch_norm(x, data_format="NHWC"), (X,), ValueError, r"data_format: got 'NHWC'"),
    "no batch axis": (lambda x: batch_norm(x, data_format="channels_first"), (V,), ValueError, r"spatial_ndim: got None for x of shape \(3,\), expected an int, at least 0"),
    "too many spatial axes": (lambda x: batch_norm(x, spatial_ndim=3, data_format="channels_first"), (X,), ValueError, r"x: got shape \(2, 5, 3\) with 3 axes"),
    "no axis": (batch_norm, (S((), "float32"),), ValueError, r"x: got shape \(\)"),
    "variance of another shape": (batch_norm_inference, (X, V, S((), "float32")), ValueError, r"var: got shape \(\), expected \(3,\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_while_tracing(name):
    call, args, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        jax.eval_shape(call, *args)


def test_all_norms_are_public():
    assert set(NORMS) <= set(jaxconv.__all__)
