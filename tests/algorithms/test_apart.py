"""Computations kept apart: the same values under every transformation, calls in the program, memory only while they run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxconv import avg_pool, batch_norm, conv, conv_transpose, dense, group_norm, layer_norm, max_pool
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


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


same = functools.partial(conv, padding="SAME")
pool = {"strides": 1, "padding": "SAME"}
IMAGE = (8, 16, 16, 64)
# A layer, its parameters, its input's shape.
LAYERS = {
    "im2col": (same, array(3, 3, 64, 64), IMAGE),
    "im2col, large kernel": (same, array(3, 3, 256, 256), (4, 8, 8, 256)),
    "im2col, 3-D": (same, array(3, 3, 3, 16, 16), (2, 16, 16, 16, 16)),
    "few": (same, array(3, 3, 8, 8), (8, 32, 32, 8)),
    "canonical": (same, array(5, 64, 64), (8, 256, 64)),
    "products": (same, array(1, 1, 64, 64), IMAGE),
    "depthwise": (functools.partial(same, groups=64), array(3, 3, 1, 64), IMAGE),
    "grouped": (functools.partial(same, groups=8), array(3, 3, 8, 64), IMAGE),
    "col2im": (
        lambda x, p: conv_transpose(same(x, p[0], strides=2), p[1], strides=2, padding="SAME"),
        (array(3, 3, 64, 64), array(4, 4, 64, 64)),
        IMAGE,
    ),
    "phases": (
        lambda x, p: conv_transpose(same(x, p[0], strides=2), p[1], strides=2, padding="SAME"),
        (array(3, 3, 64, 16), array(4, 4, 64, 16)),
        IMAGE,
    ),
    "maximum": (lambda x, p: max_pool(dense(x, p), 3, **pool), array(64, 64), IMAGE),
    "mean": (lambda x, p: avg_pool(dense(x, p), 3, **pool), array(64, 64), IMAGE),
    "batch norm": (lambda x, p: batch_norm(dense(x, p))[0], array(64, 64), IMAGE),
    "layer norm": (lambda x, p: layer_norm(dense(x, p)), array(64, 64), IMAGE),
    "group norm": (lambda x, p: group_norm(dense(x, p), 8), array(64, 64), IMAGE),
}


@on_cpu
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_adds_to_memory_what_it_saves_and_nothing_else(name):
    layer, parameters, shape = LAYERS[name]

    def temporaries(count):
        def loss(layers, x):
            for p in layers:
                x = jax.nn.relu(layer(x, p))
            return jnp.sum(x)

        program = jax.jit(jax.grad(loss)).lower([parameters] * count, array(*shape)).compile()
        return program.memory_analysis().temp_size_in_bytes

    # The layer's input and that of its second part or of the activation; more, if anything were made for the backward
    # pass during the forward pass, or made once for every tap.
    saved = (temporaries(8) - temporaries(2)) / 6 / (4 * np.prod(shape))
    assert saved < 2.3
