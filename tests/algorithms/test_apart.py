"""Computations kept apart: the same values under every transformation, calls in the program, memory only while they run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxconv import batch_norm, conv, dense
from jaxconv.algorithms.apart import apart, made_apart, made_apart_on_cpu
from tests.support import normal

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA:CPU does")


def plain(x, w):
    return jnp.sin(x) @ jnp.cos(w)


FORMS = {
    "made_apart": functools.partial(made_apart, plain),
    "made_apart_on_cpu": functools.partial(made_apart_on_cpu, plain),
    "apart": apart(plain),
}
MESH = Mesh(np.asarray(jax.devices()[:2]), ("i",))
ROWS, ALL = PartitionSpec("i"), PartitionSpec()


def sharded(f, x, w):
    x, w = (jax.device_put(a, NamedSharding(MESH, spec)) for a, spec in ((x, ROWS), (w, ALL)))
    return jax.jit(jax.grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), (0, 1)))(x, w)


def over_devices(f, x, w):
    one = lambda x, w: jax.grad(lambda w: jnp.sum(jnp.sin(f(x, w))))(w)  # noqa: E731
    return jax.jit(jax.shard_map(one, mesh=MESH, in_specs=(ROWS, ALL), out_specs=ALL))(x, w)


TRANSFORMED = {
    "eager": lambda f, x, w: f(x, w),
    "jit": lambda f, x, w: jax.jit(f)(x, w),
    "vmap": lambda f, x, w: jax.jit(jax.vmap(f, (0, None)))(x[:, None], w),
    "vmap of grad": lambda f, x, w: jax.vmap(jax.grad(lambda w, x: jnp.sum(f(x, w))), (None, 0))(w, x),
    "jvp of grad": lambda f, x, w: jax.jvp(jax.grad(lambda x: jnp.sum(jnp.sin(f(x, w)))), (x,), (x * x,)),
    "grad of grad": lambda f, x, w: jax.hessian(lambda w: jnp.sum(jnp.sin(f(x, w))))(w),
    "remat": lambda f, x, w: jax.jit(jax.grad(jax.checkpoint(lambda w: jnp.sum(jnp.sin(f(x, w))))))(w),
    "scan": lambda f, x, w: jax.lax.scan(lambda c, x: (c + f(x, w), f(x, c)), jnp.eye(3), x[:, None])[1],
    "a batch on two devices": sharded,
    "shard_map": over_devices,
}


@pytest.mark.parametrize("transformation", TRANSFORMED)
@pytest.mark.parametrize("form", FORMS)
def test_values_are_the_same(form, transformation):
    if transformation in ("a batch on two devices", "shard_map") and jax.device_count() < 2:
        pytest.skip("needs two devices")
    arguments = normal(0, (4, 3), (3, 3))
    run = TRANSFORMED[transformation]
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)  # noqa: E731
    jax.tree.map(same, run(FORMS[form], *arguments), run(plain, *arguments))


def test_arguments_and_results_are_trees():
    swap = lambda pair, x: {"pair": pair[::-1], "x": None, "y": x}  # noqa: E731
    result = made_apart(swap, (jnp.ones(2), None), jnp.zeros(3))
    assert result["pair"][0] is None
    assert result["x"] is None
    assert [result["pair"][1].sum(), result["y"].shape] == [2, (3,)]


@on_cpu
def test_the_call_is_not_inlined_but_those_in_it_are():
    inner = jax.jit(jnp.cos)
    program = jax.jit(lambda x: made_apart(lambda x: inner(jnp.sin(x)), x) + 1).lower(jnp.ones(3)).compile().as_text()
    assert program.count(" call(") == 1


def gradients_temporaries(layer, parameters, x):
    """Bytes of temporaries of the gradients of so many layers on top of each other."""

    def loss(parameters, x):
        for p in parameters:
            x = jax.nn.relu(layer(x, p))
        return jnp.sum(x)

    return jax.jit(jax.grad(loss)).lower(parameters, x).compile().memory_analysis().temp_size_in_bytes


@on_cpu
def test_no_kernel_is_rearranged_before_the_backward_pass():
    x = jax.ShapeDtypeStruct((4, 8, 8, 256), jnp.float32)
    w = jax.ShapeDtypeStruct((3, 3, 256, 256), jnp.float32)
    layer = functools.partial(conv, padding="SAME")
    few, many = (gradients_temporaries(layer, [w] * count, x) for count in (2, 8))
    assert many - few < 6 * 3 * x.size * 4  # what the layers save
    assert 3 * x.size < w.size


@on_cpu
def test_no_input_is_normalised_again_before_the_backward_pass():
    x = jax.ShapeDtypeStruct((8, 16, 16, 64), jnp.float32)
    layer = lambda x, p: batch_norm(dense(x, p[0]), *p[1:])[0]  # noqa: E731
    p = normal(0, (64, 64), (64,), (64,), dtype=jnp.float32)
    few, many = (gradients_temporaries(layer, [p] * count, x) for count in (2, 8))
    assert many - few < 6 * 2.2 * x.size * 4  # a layer saves its input and that of the normalisation
