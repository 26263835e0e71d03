"""dense and flatten: sums, layouts, errors; derivatives are in tests/verification."""

import jax
import jax.numpy as jnp
import pytest
from support import assert_close

from jaxconv import dense, flatten


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_sums_are_made_in_float32(dtype):
    x, w = jnp.ones((6000, 1), dtype).at[0].set(2048), jnp.ones((1, 1), dtype)
    dw, db = jax.grad(lambda w, b: dense(x, w, b).sum(), (0, 1))(w, jnp.zeros(1, dtype))
    assert dw.dtype == db.dtype == dtype
    assert dw[0, 0] == jnp.asarray(2048 + 5999, dtype)
    assert db[0] == jnp.asarray(6000, dtype)
    assert dense(x.T, jnp.ones((6000, 1), dtype))[0, 0] == jnp.asarray(2048 + 5999, dtype)


def test_preferred_element_type():
    x, w, b = (jnp.ones(shape, "bfloat16") for shape in ((2, 300), (300, 3), (3,)))
    assert dense(x, w, b, preferred_element_type="float32").tolist() == [[301.0] * 3] * 2
    dx, dw, db = jax.grad(lambda *a: dense(*a, preferred_element_type="float32").sum(), (0, 1, 2))(x, w, b)
    assert dx.dtype == dw.dtype == db.dtype == jnp.bfloat16


def test_dense_of_nothing():
    x, w, b = jnp.ones((0, 4)), jnp.ones((4, 3)), jnp.ones(3)
    assert dense(x, w, b).shape == (0, 3)
    dw, db = jax.grad(lambda w, b: dense(x, w, b).sum(), (0, 1))(w, b)
    assert not dw.any()
    assert not db.any()


def test_flatten_is_row_major():
    x = jnp.arange(24.0).reshape(1, 2, 3, 4)
    assert_close(flatten(x), jnp.arange(24.0)[None], length=1)
    assert flatten(jnp.ones((0, 3, 4))).shape == (0, 12)


S = jax.ShapeDtypeStruct
ERRORS = {
    "channel mismatch": (lambda: jax.eval_shape(dense, S((2, 5), "float32"), S((4, 3), "float32")), ValueError, r"x: got shape \(2, 5\), expected \(\*batch, 4\) for w of shape \(4, 3\).*flatten x first"),
    "kernel with spatial axes": (lambda: jax.eval_shape(dense, S((2, 4), "float32"), S((3, 4, 3), "float32")), ValueError, r"w: got shape \(3, 4, 3\), expected two axes \(C, K\)"),
    "bias": (lambda: jax.eval_shape(dense, S((2, 4), "float32"), S((4, 3), "float32"), S((4,), "float32")), ValueError, r"b: got shape \(4,\), expected \(3,\)"),
    "mixed dtypes": (lambda: jax.eval_shape(dense, S((2, 4), "float32"), S((4, 3), "float16")), TypeError, r"x, w: got mixed dtypes \(x is float32, w is float16\)"),
    "integers": (lambda: jax.eval_shape(dense, S((2, 4), "int32"), S((4, 3), "int32")), TypeError, r"x: got dtype int32"),
    "flatten of integers": (lambda: jax.eval_shape(flatten, S((2, 4), "int32")), TypeError, r"x: got dtype int32"),
    "batch_ndim": (lambda: jax.eval_shape(lambda x: flatten(x, batch_ndim=3), S((2, 4), "float32")), ValueError, r"batch_ndim: got 3 for x of shape \(2, 4\), expected an int between 0 and 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_while_tracing(name):
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()
