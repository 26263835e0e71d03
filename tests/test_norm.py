"""The normalisations: digits far from 0, statistics over devices, conventions, agreement with torch, errors."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from support import assert_close, normal

import jaxconv.norm
from jaxconv import (
    batch_norm,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
    standardize,
)
from jaxconv.verification import transformations

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


# --- the others ---


@pytest.mark.parametrize("value", [1e4 / 3, -1e10 / 3])
@pytest.mark.parametrize("function", [layer_norm, lambda x: group_norm(x, 2), instance_norm, standardize])
def test_examples_far_from_0(function, value):
    x = jnp.full((2, 17, 17, 6), value, jnp.float32)
    y, vjp = jax.vjp(function, x)
    assert_close(y, jnp.zeros_like(y), length=1)
    assert float(jnp.max(jnp.abs(vjp(jnp.ones_like(y))[0]))) < 1e-2
    x = (1e4 + 0.05 * normal(0, (1, 4096))[0]).astype(jnp.float32)
    assert_close(standardize(x, epsilon=1e-8), jnp.asarray(exact(x, 1, 1e-8), jnp.float32), length=4096)


def test_the_extremes_of_group_norm():
    x, scale, bias = normal(0, (2, 3, 4, 6), (6,), (6,))
    assert_close(group_norm(x, 6, scale, bias), instance_norm(x, scale, bias), length=12)
    whole = layer_norm(x, axis=(1, 2, 3)) * scale.reshape(1, 1, 1, 6) + bias.reshape(1, 1, 1, 6)
    assert_close(group_norm(x, 1, scale, bias), whole, length=72)


@pytest.mark.parametrize("function", [functools.partial(group_norm, groups=2), instance_norm])
def test_batch_axes_of_groups(function):
    x = normal(0, (2, 3, 5, 4))[0]
    flat = function(x.reshape(6, 5, 4))
    assert_close(function(x, spatial_ndim=1).reshape(6, 5, 4), flat, length=10)
    assert_close(function(x[0, 0], spatial_ndim=1), flat[0], length=10)
    first = function(jnp.moveaxis(x, -1, 2), spatial_ndim=1, data_format="channels_first")
    assert_close(jnp.moveaxis(first, 2, -1).reshape(6, 5, 4), flat, length=10)


def test_axes_in_any_order():
    x, scale = normal(0, (2, 3, 4), (2, 4))
    # The scale's axes are in the order of x's, however the axes are given.
    assert_close(layer_norm(x, scale, axis=(-1, 0)), layer_norm(x, scale, axis=(0, 2)), length=8)
    assert_close(rms_norm(x, scale, axis=[2, 0]), rms_norm(x, scale, axis=(0, -1)), length=8)


def test_standardize_is_that_of_jax():
    x = normal(0, (3, 4, 5))[0]
    mask = x > -1
    for arguments, axes in (({}, 5), ({"axis": (0, 2)}, 15), ({"axis": None}, 60), ({"where": mask}, 5), ({"where": mask[0]}, 5)):  # fmt: skip
        assert_close(standardize(x, **arguments), jax.nn.standardize(x, **arguments), length=axes)
    given = jnp.mean(x, 1, keepdims=True), jnp.var(x, 1, keepdims=True)
    assert_close(standardize(x, 1, *given), jax.nn.standardize(x, 1, *given), length=4)
    assert_close(standardize(jnp.float32(7)[None], None), jnp.zeros(1, jnp.float32), length=1)


def test_a_mask_alike_on_all_devices_beside_an_array_that_is_not():
    mask = jnp.asarray([True, False, True, True])
    for check in transformations(lambda x: standardize(x, where=mask), normal(0, (3, 4))[0], transforms=("shard_map",)):
        assert check.passed is True, check


FIRST = {"data_format": "channels_first"}
TORCH = {
    "batch_norm": (lambda x, s, b: batch_norm(x, s, b, **FIRST)[0], lambda t, x, s, b: t.batch_norm(x, None, None, s, b, True), (6,), 2),
    "layer_norm": (lambda x, s, b: layer_norm(x, s, b, axis=(-2, -1)), lambda t, x, s, b: t.layer_norm(x, s.shape, s, b), (5, 7), 2),
    "rms_norm": (lambda x, s: rms_norm(x, s, axis=(-2, -1)), lambda t, x, s: t.rms_norm(x, s.shape, s, 1e-6), (5, 7), 1),
    "group_norm": (lambda x, s, b: group_norm(x, 3, s, b, **FIRST), lambda t, x, s, b: t.group_norm(x, 3, s, b), (6,), 2),
    "instance_norm": (lambda x, s, b: instance_norm(x, s, b, **FIRST), lambda t, x, s, b: t.instance_norm(x, None, None, s, b), (6,), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_values_and_gradients_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    ours, theirs, shape, parameters = TORCH[name]
    arguments = normal(0, (4, 6, 5, 7), *(shape,) * parameters)
    y, vjp = jax.vjp(ours, *arguments)
    (dy,) = normal(1, y.shape)
    tensors = [torch.tensor(np.asarray(a), requires_grad=True) for a in arguments]
    expected = theirs(torch.nn.functional, *tensors)
    gradients = torch.autograd.grad(expected, tensors, torch.tensor(np.asarray(dy)))
    assert_close([y, *vjp(dy)], [jnp.asarray(a.detach().numpy()) for a in (expected, *gradients)], length=210)


# --- all of them ---


def inference(x, *parameters):
    return batch_norm_inference(x, jnp.zeros(4, x.dtype), jnp.ones(4, x.dtype), *parameters)


NORMS = {
    "batch_norm": (batch_norm, 2),
    "batch_norm_inference": (inference, 2),
    "layer_norm": (layer_norm, 2),
    "rms_norm": (rms_norm, 1),
    "group_norm": (lambda x, *parameters: group_norm(x, 2, *parameters), 2),
    "instance_norm": (instance_norm, 2),
    "standardize": (standardize, 0),
}


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
    "scale of the normalised axes": (lambda x, s: layer_norm(x, s, axis=(0, 1)), (X, V), ValueError, r"scale: got shape \(3,\), expected \(2, 5\), that of the normalised axes"),
    "scale of the root mean square": (rms_norm, (X, S((5,), "float32")), ValueError, r"scale: got shape \(5,\), expected \(3,\)"),
    "axis": (lambda x: layer_norm(x, axis=3), (X,), ValueError, r"axis: got 3 for shape"),
    "groups that do not divide": (lambda x: group_norm(x, 2), (X,), ValueError, r"groups: got 2, which does not divide the 3 input channels"),
    "groups that are no int": (lambda x: group_norm(x, 1.5), (X,), TypeError, r"groups: got 1.5, expected an int"),
    "a mean alone": (lambda x, m: standardize(x, mean=m), (X, S((2, 5, 1), "float32")), ValueError, r"mean, variance: got a mean alone, expected both or neither"),
    "a variance alone": (lambda x, v: standardize(x, variance=v), (X, S((2, 5, 1), "float32")), ValueError, r"got a variance alone"),
    "a mean without its axis": (lambda x, m: standardize(x, -1, m, m), (X, S((2, 5), "float32")), ValueError, r"mean: got shape \(2, 5\), expected \(2, 5, 1\), with size 1 along axis -1"),
    "a mask that changes nothing": (lambda x, m: standardize(x, -1, m, m, where=x > 0), (X, S((2, 5, 1), "float32")), ValueError, r"where: got a mask beside a mean"),
    "a mask of another shape": (lambda x, m: standardize(x, where=m), (X, S((2, 5), "bool")), ValueError, r"where: got shape \(2, 5\), expected one that broadcasts"),
    "a mask with more axes": (lambda x, m: standardize(x, where=m), (X, S((1, 2, 5, 3), "bool")), ValueError, r"where: got shape \(1, 2, 5, 3\)"),
    "a mask of numbers": (lambda x, m: standardize(x, where=m), (X, X), TypeError, r"where: got dtype float32, expected booleans"),
    "a mask that is a list": (lambda x: standardize(x, where=[True]), (X,), TypeError, r"where: got a list, expected an array"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_while_tracing(name):
    call, args, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        jax.eval_shape(call, *args)


def test_numbers_of_numpy():
    x = normal(0, (2, 4, 3))[0]
    assert jnp.array_equal(layer_norm(x, epsilon=np.float64(1e-3)), layer_norm(x, epsilon=1e-3))
    first = functools.partial(instance_norm, x, data_format="channels_first")
    assert jnp.array_equal(first(spatial_ndim=np.int64(1)), first(spatial_ndim=1))


def test_every_norm_is_here():
    assert sorted(NORMS) == jaxconv.norm.__all__
