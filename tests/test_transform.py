"""autodiff takes the hand-derived rules off: the same values, forward mode everywhere, JAX's own gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxconv
from jaxconv.transform import autodiff

X = np.random.default_rng(0).permutation(np.linspace(-2.0, 2.0, 2 * 4 * 3 * 2)).reshape(2, 4, 3, 2)
W = np.random.default_rng(1).standard_normal((3, 2, 2, 3))
B = np.array([0.5, -0.25, 1.0])
T = np.random.default_rng(2).standard_normal(X.shape)


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """XLA without most of its optimizations: all that takes time here is compiling."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def net(x):
    """Several rules, one inside the other's argument."""
    y = jaxconv.conv(x, jnp.asarray(W), jnp.asarray(B), strides=(2, 1), padding="SAME")
    return jaxconv.log_softmax(jaxconv.max_pool(jaxconv.tanh(y), 2))


def plain(x):
    """The same without rules."""
    data = (0, 3, 1, 2)
    numbers = lax.ConvDimensionNumbers(data, (3, 2, 0, 1), data)
    y = lax.conv_general_dilated(x, jnp.asarray(W), (2, 1), "SAME", dimension_numbers=numbers)
    y = jnp.tanh(y + jnp.broadcast_to(B, y.shape))
    y = lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.log_softmax(y)


def assert_same(actual, expected, rtol=1e-10):
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=rtol, atol=1e-12), actual, expected)


def pushed(f, x, t):
    """jax.jvp, compiled: eagerly, every operation would be compiled by itself."""
    return jax.jit(lambda x, t: jax.jvp(f, (x,), (t,)))(x, t)


def in_jit(x):
    return jax.jit(net)(x)


def in_nested_jit(x):
    return jax.jit(lambda x: jax.jit(net)(2 * x) + 1)(x)


def in_scan(x):
    def step(carry, row):
        y = jaxconv.sigmoid(carry * row)
        return y, jaxconv.relu(y - 0.5)

    return lax.scan(step, x[0], x)


def in_while(x):
    return lax.while_loop(
        lambda state: state[1] < 3, lambda state: (jaxconv.tanh(state[0]) * 1.5, state[1] + 1), (x, 0)
    )[0]


def in_fori(x):
    return lax.fori_loop(0, 3, lambda n, y: jaxconv.sigmoid(y) * 2, x)


def in_cond(x):
    return lax.cond(jnp.sum(x) > -1e9, lambda x: jaxconv.avg_pool(x, 2), lambda x: jaxconv.max_pool(x, 2), x)


def in_the_other_branch(x):
    return lax.cond(jnp.sum(x) > 1e9, lambda x: jaxconv.avg_pool(x, 2), lambda x: jaxconv.max_pool(x, 2), x)


def in_switch(x):
    return lax.switch(2, [jaxconv.relu, jaxconv.tanh, jaxconv.sigmoid], x)


def in_remat(x):
    return jax.checkpoint(net)(x)


def in_vmap(x):
    return jax.vmap(lambda x: net(x[None]))(x)


def in_map(x):
    return lax.map(lambda x: net(x[None]), x)


def in_scan_of_remat_of_jit(x):
    return lax.scan(jax.checkpoint(lambda y, _: (jax.jit(jaxconv.tanh)(y) * 1.5, jnp.sum(y))), x, None, length=3)


PLACES = [
    net,
    in_jit,
    in_nested_jit,
    in_scan,
    in_while,
    in_fori,
    in_cond,
    in_the_other_branch,
    in_switch,
    in_remat,
    in_vmap,
    in_map,
    in_scan_of_remat_of_jit,
]


@pytest.mark.parametrize("f", PLACES)
def test_jvp_exists_wherever_the_rules_stand(f):
    x = jnp.asarray(X)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(f, (x,), (jnp.asarray(T),))
    values, tangents = pushed(autodiff(f), x, jnp.asarray(T))
    run = jax.jit(f)
    assert_same(values, run(x))
    # A central difference of the function as it is.
    h = 1e-6
    up, down = run(x + h * T), run(x - h * T)
    jax.tree.map(lambda t, a, b: np.testing.assert_allclose(t, (a - b) / (2 * h), atol=1e-7), tangents, up, down)


@pytest.mark.parametrize("f", [f for f in PLACES if f is not in_while])
def test_gradients_are_the_hand_derived_ones_away_from_kinks(f):
    total = lambda f: lambda x: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(f(x)))  # noqa: E731
    assert_same(jax.jit(jax.grad(total(autodiff(f))))(jnp.asarray(X)), jax.jit(jax.grad(total(f)))(jnp.asarray(X)))


def test_forward_mode_is_that_of_the_plain_function():
    x, t = jnp.asarray(X), jnp.asarray(T)
    assert_same(pushed(autodiff(net), x, t), pushed(plain, x, t))

    def linearized(f):
        value, push = jax.linearize(f, x)
        return value, push(t)

    assert_same(jax.jit(lambda: linearized(autodiff(net)))(), pushed(plain, x, t))
    assert_same(jax.jit(jax.jacfwd(autodiff(net)))(x), jax.jit(jax.jacrev(net))(x))
    hessian = lambda f: jax.jit(jax.hessian(lambda x: jnp.sum(jnp.sin(f(x)))))  # noqa: E731
    assert_same(hessian(autodiff(net))(x[:1]), hessian(plain)(x[:1]))


def test_the_rule_is_really_off_and_the_forward_is_what_counts():
    wrong = jax.custom_vjp(lambda x: x**2)
    wrong.defvjp(lambda x: (x**2, x), lambda x, dy: (100 * dy,))
    assert jax.grad(wrong)(3.0) == 100
    assert jax.grad(autodiff(wrong))(3.0) == 6
    assert jax.grad(autodiff(jax.jit(wrong)))(3.0) == 6


def test_custom_jvp_rules_stay():
    @jax.custom_jvp
    def f(x):
        return x**2

    f.defjvp(lambda primals, tangents: (f(*primals), 100 * tangents[0]))
    both = lambda x: jaxconv.tanh(f(x))  # noqa: E731
    x = 0.5
    assert jax.grad(autodiff(f))(x) == 100
    np.testing.assert_allclose(jax.grad(autodiff(both))(x), jax.grad(both)(x), rtol=1e-12)


def test_transformations_of_the_result():
    x, t = jnp.asarray(X), jnp.asarray(T)
    push = lambda x, t: jax.jvp(autodiff(jaxconv.tanh), (x,), (t,))[1]  # noqa: E731
    expected = pushed(jnp.tanh, x, t)[1]
    assert_same(push(x, t), expected)  # eagerly
    assert_same(jax.vmap(push)(x, t), expected)
    assert_same(jax.vmap(push, (None, 0))(x, jnp.stack([t, 2 * t])), jnp.stack([expected, 2 * expected]))
    assert_same(lax.scan(lambda _, t: (None, push(x, t)), None, t[None])[1][0], expected)


def test_pytrees_keywords_and_static_arguments_pass_through():
    def f(params, x, *, scale, power=2, name="unused"):
        assert name == "n"
        hidden = jaxconv.dense(x, params["w"], params["b"])
        return {"y": jaxconv.relu(hidden) * scale, "all": [hidden**power, None]}

    params = {"w": jnp.asarray(W[0, 0]), "b": jnp.asarray(B)}
    x = jnp.asarray(X[0, 0])
    found = autodiff(f)(params, x, scale=jnp.float64(3.0), name="n")
    expected = f(params, x, scale=jnp.float64(3.0), name="n")
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert_same(found, expected)
    scalar = lambda f: lambda params: jnp.sum(f(params, x, scale=2.0, name="n")["y"])  # noqa: E731
    assert_same(jax.grad(scalar(autodiff(f)))(params), jax.grad(scalar(f))(params))
    # jvp with respect to a keyword's value.
    slope = jax.jvp(lambda scale: autodiff(f)(params, x, scale=scale, name="n")["y"], (2.0,), (1.0,))[1]
    assert_same(slope, jaxconv.relu(jaxconv.dense(x, params["w"], params["b"])))


def test_integer_arguments_and_constants_of_a_closure():
    labels = jnp.array([1, 0, 2])
    table = jnp.asarray(np.arange(9.0).reshape(3, 3))

    def f(logits, labels):
        return jaxconv.softmax_cross_entropy_with_integer_labels(logits + table[labels], labels)

    logits = jnp.asarray(X[0, :3, :, 0])
    slope = pushed(lambda z: autodiff(f)(z, labels), logits, jnp.ones((3, 3)))[1]
    np.testing.assert_allclose(slope, np.zeros(3), atol=1e-12)  # adding the same to all logits changes nothing
    assert_same(autodiff(f)(logits, labels), f(logits, labels))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes_stay(dtype):
    x = jnp.asarray(X, dtype)
    f = lambda x: jaxconv.avg_pool(jaxconv.sigmoid(x), 2)  # noqa: E731
    y, t = pushed(autodiff(f), x, jnp.asarray(T, dtype))
    assert y.dtype == t.dtype == dtype
    expected = np.asarray(jax.jit(f)(x), np.float64)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=4 * float(jnp.finfo(dtype).eps))


def test_a_function_without_rules_is_as_it_was():
    f = lambda x, n: {"y": jnp.sort(x) ** n, "n": n}  # noqa: E731
    found = autodiff(f)(jnp.asarray(X[0, :, 0, 0]), 2)
    assert found["n"] == 2
    assert_same(found["y"], np.sort(X[0, :, 0, 0]) ** 2)


def test_jvp_exists_inside_shard_map():
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("devices")
    mapped = jax.shard_map(jaxconv.tanh, mesh=mesh, in_specs=spec, out_specs=spec)
    x, t = jnp.asarray(X), jnp.asarray(T)
    assert_same(jax.jvp(autodiff(mapped), (x,), (t,)), jax.jvp(jnp.tanh, (x,), (t,)))


def test_a_mistake_in_the_function_is_its_own_error():
    with pytest.raises(ValueError, match="^window: "):
        autodiff(lambda x: jaxconv.max_pool(x, 9))(jnp.asarray(X))
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        autodiff(jaxconv.conv)(jnp.asarray(X))
