"""The cross-entropies against optax, at their edges, and the fused gradient."""

import jax
import jax.numpy as jnp
import optax
import pytest
from support import assert_close, normal

from jaxconv import softmax, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from jaxconv.verification import transformations


def targets(shape, axis=-1):
    return jax.nn.softmax(normal(1, shape)[0], axis)


def test_values_are_those_of_optax():
    z, t = normal(0, (4, 3))[0], targets((4, 3), 0)
    assert_close(softmax_cross_entropy(z, t, 0), optax.losses.softmax_cross_entropy(z, t, axis=0), length=4)
    labels = jnp.array([2, 0, 1, 1])
    theirs = optax.losses.softmax_cross_entropy_with_integer_labels(z, labels)
    assert_close(softmax_cross_entropy_with_integer_labels(z, labels), theirs, length=4)


def test_labels_that_are_alike_on_all_devices_beside_logits_that_are_not():
    hard = lambda z: softmax_cross_entropy_with_integer_labels(z, jnp.arange(z.shape[0]) % 2)  # noqa: E731
    for check in transformations(hard, normal(0, (4, 3))[0], transforms=("shard_map",)):
        assert check.passed is True, check


def test_fused_gradient_is_softmax_minus_target():
    z, t = normal(0, (4, 3))[0], targets((4, 3))
    dz = jax.grad(lambda z: softmax_cross_entropy(z, t).sum())(z)
    assert_close(dz, softmax(z) - t, length=3)
    labels = jnp.array([0, 2, 1, 1])
    dz = jax.grad(lambda z: softmax_cross_entropy_with_integer_labels(z, labels).sum())(z)
    assert_close(dz, softmax(z) - jax.nn.one_hot(labels, 3), length=3)


def test_targets_need_not_sum_to_1():
    z, t = normal(0, (4, 3))[0], jnp.abs(normal(1, (4, 3))[0])
    dz = jax.grad(lambda z: softmax_cross_entropy(z, t).sum())(z)
    assert_close(dz, jax.grad(lambda z: -(t * jax.nn.log_softmax(z)).sum())(z), length=3)


def test_a_class_ruled_out_on_both_sides_costs_nothing():
    z, t = jnp.array([[0.0, -jnp.inf, 1.0]]), jnp.array([[1.0, 0.0, 0.0]])
    loss, dz = jax.value_and_grad(lambda z: softmax_cross_entropy(z, t).sum())(z)
    hard, dz_hard = jax.value_and_grad(lambda z: softmax_cross_entropy_with_integer_labels(z, jnp.array([0])).sum())(z)
    assert_close(loss, jnp.log(1 + jnp.e), length=3)
    assert_close(hard, loss, length=3)
    assert_close(dz, dz_hard, length=3)
    assert dz[0, 1] == 0


def test_large_logits_do_not_overflow():
    z = jnp.array([[1e4, -1e4]], jnp.float32)
    assert softmax_cross_entropy_with_integer_labels(z, jnp.array([1])).tolist() == [2e4]
    assert softmax_cross_entropy(z, jnp.array([[0.0, 1.0]], jnp.float32)).tolist() == [2e4]


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_gives_nan_for_its_example_alone(label):
    z = jnp.ones((2, 3))
    labels = jnp.array([label, 0])
    loss, dz = jax.value_and_grad(lambda z: softmax_cross_entropy_with_integer_labels(z, labels).sum())(z)
    assert jnp.isnan(loss)
    assert jnp.isnan(dz).all(-1).tolist() == [True, False]
    assert jnp.isnan(softmax_cross_entropy_with_integer_labels(z, labels)).tolist() == [True, False]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_dtypes_and_empty_batches(dtype):
    for n in (2, 0):
        z, t = jnp.ones((n, 3), dtype), jnp.ones((n, 3), dtype)
        loss, vjp = jax.vjp(softmax_cross_entropy, z, t)
        assert loss.dtype == dtype
        assert [(g.shape, g.dtype) for g in vjp(loss)] == [((n, 3), dtype)] * 2
        loss, vjp = jax.vjp(lambda z, n=n: softmax_cross_entropy_with_integer_labels(z, jnp.zeros(n, jnp.int8)), z)
        assert loss.dtype == dtype
        assert vjp(loss)[0].dtype == dtype


S = jax.ShapeDtypeStruct
Z, T = S((2, 3), "float32"), S((2,), "int32")
ERRORS = {
    "labels of another shape": (softmax_cross_entropy, (Z, S((2, 4), "float32")), ValueError, r"labels: got shape \(2, 4\), expected \(2, 3\), that of the logits.*with_integer_labels"),
    "integer probabilities": (softmax_cross_entropy, (Z, S((2, 3), "int32")), TypeError, r"labels: got dtype int32"),
    "mixed dtypes": (softmax_cross_entropy, (Z, S((2, 3), "bfloat16")), TypeError, r"logits, labels: got mixed dtypes"),
    "integer logits": (softmax_cross_entropy_with_integer_labels, (S((2, 3), "int32"), T), TypeError, r"logits: got dtype int32"),
    "float labels": (softmax_cross_entropy_with_integer_labels, (Z, S((2,), "float32")), TypeError, r"labels: got dtype float32, expected integers"),
    "one-hot labels": (softmax_cross_entropy_with_integer_labels, (Z, S((2, 3), "int32")), ValueError, r"labels: got shape \(2, 3\), expected \(2,\): one class per example"),
    "axis": (lambda z, t: softmax_cross_entropy(z, t, 2), (Z, Z), ValueError, r"axis: got 2 for shape \(2, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_while_tracing(name):
    call, args, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        jax.eval_shape(call, *args)


@pytest.mark.parametrize(("dtype", "classes"), [("uint8", 256), ("int8", 128), ("int8", 300), ("uint8", 300)])
def test_narrow_labels_with_many_classes(dtype, classes):
    (z,) = normal(0, (2, classes))
    labels = jnp.array([0, 7], dtype)
    loss, dz = jax.value_and_grad(lambda z: softmax_cross_entropy_with_integer_labels(z, labels).sum())(z)
    assert_close(loss, -(jax.nn.log_softmax(z)[0, 0] + jax.nn.log_softmax(z)[1, 7]), length=classes)
    assert_close(dz, softmax(z) - jax.nn.one_hot(labels.astype(jnp.int32), classes), length=classes)


def test_an_example_left_out_has_gradient_0():
    z, labels = normal(0, (2, 3))[0], jnp.array([-1, 0])
    masked = lambda z: jnp.where(labels >= 0, softmax_cross_entropy_with_integer_labels(z, labels), 0).sum()  # noqa: E731
    dz = jax.grad(masked)(z)
    assert not dz[0].any()
    assert_close(dz[1], softmax(z)[1] - jnp.array([1.0, 0.0, 0.0]), length=3)


def test_one_axis_of_classes():
    with pytest.raises(ValueError, match=r"axis: got \(0, 1\), expected one axis"):
        softmax_cross_entropy(jnp.ones((2, 3)), jnp.ones((2, 3)), (0, 1))
