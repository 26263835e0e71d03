"""The losses against optax and PyTorch, at their edges, and the fused gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import assert_close, normal

from jaxconv import (
    absolute_error,
    dense,
    huber_loss,
    l2_loss,
    relu,
    sigmoid_binary_cross_entropy,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    squared_error,
)
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


def test_numbers_of_numpy():
    z, t = jnp.array([[1.0, -2.0, 0.5]]), jnp.array([2])
    assert jnp.array_equal(huber_loss(z, delta=np.float32(0.5)), huber_loss(z, delta=0.5))
    assert jnp.array_equal(HARD(z, t, label_smoothing=np.float32(0.5)), HARD(z, t, label_smoothing=0.5))
    z32 = z.astype("float32")
    assert jnp.array_equal(BINARY(z32, 0 * z32, pos_weight=np.float64(2)), BINARY(z32, 0 * z32, pos_weight=2.0))


S = jax.ShapeDtypeStruct
Z, T = S((2, 3), "float32"), S((2,), "int32")
HARD, BINARY = softmax_cross_entropy_with_integer_labels, sigmoid_binary_cross_entropy
ERRORS = {
    "labels of another shape": (softmax_cross_entropy, (Z, S((2, 4), "float32")), ValueError, r"labels: got shape \(2, 4\), expected \(2, 3\), that of the logits.*with_integer_labels"),
    "integer probabilities": (softmax_cross_entropy, (Z, S((2, 3), "int32")), TypeError, r"labels: got dtype int32"),
    "mixed dtypes": (softmax_cross_entropy, (Z, S((2, 3), "bfloat16")), TypeError, r"logits, labels: got mixed dtypes"),
    "integer logits": (softmax_cross_entropy_with_integer_labels, (S((2, 3), "int32"), T), TypeError, r"logits: got dtype int32"),
    "float labels": (softmax_cross_entropy_with_integer_labels, (Z, S((2,), "float32")), TypeError, r"labels: got dtype float32, expected integers"),
    "one-hot labels": (softmax_cross_entropy_with_integer_labels, (Z, S((2, 3), "int32")), ValueError, r"labels: got shape \(2, 3\), expected \(2,\): one class per example"),
    "axis": (lambda z, t: softmax_cross_entropy(z, t, 2), (Z, Z), ValueError, r"axis: got 2 for shape \(2, 3\)"),
    "weights of another number": (lambda z, t, w: HARD(z, t, class_weights=w), (Z, T, S((2,), "float32")), ValueError, r"class_weights: got shape \(2,\), expected \(3,\): one per class"),
    "weights of another dtype": (lambda z, t, w: softmax_cross_entropy(z, t, class_weights=w), (Z, Z, S((3,), "bfloat16")), TypeError, r"logits, labels, class_weights: got mixed dtypes"),
    "a mask of numbers": (lambda z, t, m: softmax_cross_entropy(z, t, where=m), (Z, Z, Z), TypeError, r"where: got dtype float32, expected booleans: compare, for example where != 0"),
    "a mask of another shape": (lambda z, t, m: HARD(z, t, where=m), (Z, T, S((3,), "bool")), ValueError, r"where: got shape \(3,\), expected \(2,\), one per example, or \(2, 3\), one per logit"),
    "smoothing out of range": (lambda z, t: HARD(z, t, label_smoothing=1.5), (Z, T), ValueError, r"label_smoothing: got 1.5, expected a number from 0 to 1"),
    "smoothing as an array": (lambda z, t, e: HARD(z, t, label_smoothing=e), (Z, T, S((), "float32")), TypeError, r"label_smoothing: got a .*Tracer, expected a Python number"),
    "an index that is no integer": (lambda z, t: HARD(z, t, ignore_index=0.5), (Z, T), TypeError, r"ignore_index: got a float, expected a Python integer or None"),
    "binary labels of another shape": (BINARY, (Z, S((2, 1), "float32")), ValueError, r"labels: got shape \(2, 1\), expected \(2, 3\), that of the logits"),
    "binary labels of another dtype": (BINARY, (Z, S((2, 3), "float16")), TypeError, r"logits, labels: got mixed dtypes"),
    "a weight that does not broadcast": (lambda z, t, p: BINARY(z, t, pos_weight=p), (Z, Z, S((2,), "float32")), ValueError, r"pos_weight: got shape \(2,\), expected one that broadcasts to \(2, 3\)"),
    "a mask that does not broadcast": (lambda z, t, m: BINARY(z, t, where=m), (Z, Z, S((2,), "bool")), ValueError, r"where: got shape \(2,\), expected one that broadcasts to \(2, 3\), that of the logits"),
    "targets of another shape": (squared_error, (Z, S((3,), "float32")), ValueError, r"targets: got shape \(3,\), expected \(2, 3\), that of the predictions"),
    "integer targets": (absolute_error, (Z, S((2, 3), "int32")), TypeError, r"targets: got dtype int32"),
    "delta 0": (lambda y: huber_loss(y, delta=0.0), (Z,), ValueError, r"delta: got 0.0, expected a positive, finite number"),
    "delta as an array": (lambda y, d: huber_loss(y, delta=d), (Z, S((), "float32")), TypeError, r"delta: got a .*Tracer, expected a Python number"),
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


# --- conventions of optax and PyTorch ---


@pytest.mark.parametrize("shape", [(6, 5), (6, 1), (1, 5), (6,)], ids=str)
def test_where_means_what_it_means_in_optax(shape):
    """Also where the label's class is masked: its logit is read all the same."""
    rng = np.random.default_rng(1)
    z, t = normal(0, (6, 5), (6, 5))
    labels, mask = jnp.asarray(rng.integers(0, 5, 6)), jnp.asarray(rng.random(shape) > 0.4)
    for ours, theirs, target in (
        (softmax_cross_entropy, optax.losses.softmax_cross_entropy, t),
        (HARD, optax.losses.softmax_cross_entropy_with_integer_labels, labels),
    ):
        sides = [
            jax.value_and_grad(lambda z, loss=loss, target=target: jnp.sin(loss(z, target, -1, mask)).sum())(z)
            for loss in (ours, theirs)
        ]
        assert_close(*sides, length=5)
    # The gradient, smoothed, of a label whose class is masked, too.
    soft = lambda z: HARD(z, labels, -1, mask, label_smoothing=1e-12).sum()  # noqa: E731
    assert_close(jax.grad(soft)(z), jax.grad(lambda z: HARD(z, labels, -1, mask).sum())(z), length=5, scale=1e6)


def test_values_of_element_losses_are_those_of_optax():
    y, t = normal(0, (4, 3), (4, 3))
    assert_close(squared_error(y, t), optax.losses.squared_error(y, t), length=1)
    assert_close(l2_loss(y, t), optax.losses.l2_loss(y, t), length=1)
    assert_close(huber_loss(y, t, 0.5), optax.losses.huber_loss(y, t, delta=0.5), length=1)
    assert_close(sigmoid_binary_cross_entropy(y, t), optax.losses.sigmoid_binary_cross_entropy(y, t), length=1)


def test_binary_labels_of_any_kind():
    z = normal(0, (4,))[0].astype(jnp.bfloat16)
    floats = jnp.array([1, 0, 1, 0], jnp.bfloat16)
    expected = jax.value_and_grad(lambda z: sigmoid_binary_cross_entropy(z, floats).sum())(z)
    for dtype in (bool, "int8", "uint32"):
        labels = floats.astype(dtype)
        got = jax.value_and_grad(lambda z, labels=labels: sigmoid_binary_cross_entropy(z, labels).sum())(z)
        assert_close(got, expected, length=1)


def test_an_index_that_the_labels_have_no_room_for():
    z, labels = normal(0, (2, 3))[0], jnp.array([0, 1], jnp.uint32)
    assert_close(HARD(z, labels, ignore_index=-100), HARD(z, labels), length=3)


def test_other_losses_of_optax_work_on_our_outputs():
    x, w, v = normal(0, (8, 4), (4, 5), (5, 3))
    labels = jax.nn.one_hot(jnp.arange(8) % 3, 3)
    for loss in (optax.losses.poly_loss_cross_entropy, optax.losses.sigmoid_focal_loss):
        ours = jax.grad(lambda w, loss=loss: loss(dense(relu(dense(x, w)), v), labels).sum())(w)
        plain = jax.grad(lambda w, loss=loss: loss(jax.nn.relu(x @ w) @ v, labels).sum())(w)
        assert jnp.isfinite(ours).all()
        assert_close(ours, plain, length=8)


def sides(ours, theirs, arrays, constants):
    """Values and gradients, ours and PyTorch's, for the cotangent cos(0, 1, 2, ...)."""
    torch = pytest.importorskip("torch")
    y, vjp = jax.vjp(lambda *a: ours(*a, *map(jnp.asarray, constants)), *map(jnp.asarray, arrays))
    dy = np.cos(np.arange(y.size)).reshape(y.shape)
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y_torch = theirs(*tensors, *map(torch.tensor, constants))
    y_torch.backward(torch.tensor(dy))
    return (y, *vjp(jnp.asarray(dy))), [jnp.asarray(a) for a in (y_torch.detach(), *(t.grad for t in tensors))]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignored", [-100, 2])
def test_cross_entropies_are_those_of_pytorch(smoothing, ignored):
    functional = pytest.importorskip("torch.nn.functional")
    rng = np.random.default_rng(0)
    z, t, w = 3 * rng.standard_normal((2, 4, 3, 3)), rng.random((2, 4, 3, 3)), rng.random(4)
    labels = rng.integers(0, 4, (2, 3, 3))
    labels[0, 0] = ignored
    options = {"reduction": "none", "label_smoothing": smoothing}
    weighted = {"class_weights": jnp.asarray(w), "label_smoothing": smoothing}
    plain = functional.cross_entropy
    assert_close(
        *sides(
            lambda z, labels: HARD(z, labels, 1, ignore_index=ignored, **weighted),
            lambda z, labels: plain(
                z, labels, weight=labels.new_tensor(w, dtype=z.dtype), ignore_index=ignored, **options
            ),
            [z],
            [labels],
        ),
        length=4,
    )
    assert_close(
        *sides(
            lambda z, t, w: softmax_cross_entropy(z, t, 1, class_weights=w, label_smoothing=smoothing),
            lambda z, t, w: plain(z, t, weight=w, **options),
            [z, t, w],
            [],
        ),
        length=18,
    )
    # The means, as the docstrings say.
    torch = pytest.importorskip("torch")
    z_, labels_, w_, t_ = (torch.tensor(a) for a in (z, labels, w, t))
    options["reduction"] = "mean"
    loss = HARD(jnp.asarray(z), jnp.asarray(labels), 1, ignore_index=ignored, **weighted)
    weights = jnp.where(labels != ignored, jnp.asarray(w)[labels], 0)
    assert_close(
        loss.sum() / weights.sum(),
        jnp.asarray(plain(z_, labels_, weight=w_, ignore_index=ignored, **options)),
        length=18,
    )
    loss = softmax_cross_entropy(jnp.asarray(z), jnp.asarray(t), 1, **weighted)
    assert_close(loss.mean(), jnp.asarray(plain(z_, t_, weight=w_, **options)), length=18)


@pytest.mark.parametrize("name", ["binary", "huber", "squared", "absolute"])
def test_element_losses_are_those_of_pytorch(name):
    functional = pytest.importorskip("torch.nn.functional")
    rng = np.random.default_rng(0)
    a, b, p = 3 * rng.standard_normal((4, 3)), rng.random((4, 3)), rng.random(3)
    ours, theirs = {
        "binary": (
            lambda z, t: sigmoid_binary_cross_entropy(z, t, pos_weight=jnp.asarray(p)),
            # PyTorch has no gradient for pos_weight.
            lambda z, t: functional.binary_cross_entropy_with_logits(
                z, t, pos_weight=t.new_tensor(p), reduction="none"
            ),
        ),
        "huber": (
            lambda y, t: huber_loss(y, t, 0.7),
            lambda y, t: functional.huber_loss(y, t, delta=0.7, reduction="none"),
        ),
        "squared": (squared_error, lambda y, t: functional.mse_loss(y, t, reduction="none")),
        "absolute": (absolute_error, lambda y, t: functional.l1_loss(y, t, reduction="none")),
    }[name]
    assert_close(*sides(ours, theirs, [a, b], []), length=4)
