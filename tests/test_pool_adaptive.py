"""Adaptive pooling: which windows, what is saved, errors; derivatives are in tests/verification."""

import jax
import jax.numpy as jnp
import pytest
from support import assert_close, normal

from jaxconv import adaptive_avg_pool, adaptive_max_pool, avg_pool, global_avg_pool, global_max_pool, max_pool
from jaxconv.geometry import AdaptiveWindow, adaptive_window

OPS = [adaptive_avg_pool, adaptive_max_pool]


def test_windows_cover_the_input_and_are_each_others_transposes():
    for n in range(1, 9):
        for o in range(1, 9):
            window = AdaptiveWindow((n,), (o,))
            reads = {
                (p, u)
                for p, (start, end) in enumerate(zip(window.starts(0), window.ends(0), strict=True))
                for u in range(start, end)
            }
            turned = window.transposed
            read_by = {
                (p, u)
                for u, (start, end) in enumerate(zip(turned.starts(0), turned.ends(0), strict=True))
                for p in range(start, end)
            }
            assert reads == read_by
            assert {p for p, _ in reads} == set(range(o))
            assert {u for _, u in reads} == set(range(n))


def test_sizes_in_all_their_notations():
    assert adaptive_window((5, 6), 3).output_size == (3, 3)
    assert adaptive_window((5, 0), (2, None)).output_size == (2, 0)
    x = normal(0, (2, 3, 4, 5, 2))[0]
    assert adaptive_avg_pool(x, 2).shape == (2, 2, 2, 2, 2)
    assert adaptive_avg_pool(x, (2,)).shape == (2, 3, 4, 2, 2)
    assert adaptive_avg_pool(x, (7, None)).shape == (2, 3, 7, 5, 2)
    assert adaptive_avg_pool(x, (7, None), data_format="channels_first").shape == (2, 3, 4, 7, 2)
    for op in OPS:
        assert jnp.array_equal(op(x, (None, None, None)), x)


def test_where_the_output_divides_the_input_it_is_ordinary_pooling():
    x = normal(0, (2, 6, 8, 3))[0]
    assert_close(adaptive_avg_pool(x, (3, 2)), avg_pool(x, (2, 4)), length=8)
    assert jnp.array_equal(adaptive_max_pool(x, (3, 2)), max_pool(x, (2, 4)))
    assert_close(adaptive_avg_pool(x, 1)[:, 0, 0], global_avg_pool(x), length=48)
    assert jnp.array_equal(adaptive_max_pool(x, 1)[:, 0, 0], global_max_pool(x))


def test_what_is_saved():
    x = jnp.ones((2, 20, 7, 3), jnp.float32)
    for op, size, saved in (
        (adaptive_avg_pool, (3, 5), []),
        (adaptive_max_pool, (3, 5), [("uint8", 2 * 3 * 5 * 3)]),
        (adaptive_max_pool, (1, 1), [("uint8", 2 * 3)]),
    ):
        residuals = jax.tree.leaves(jax.vjp(lambda x, op=op, size=size: op(x, size), x)[1])
        assert [(leaf.dtype.name, leaf.size) for leaf in residuals] == saved


def test_compiled_backward_has_no_scatter():
    x = jnp.ones((2, 10, 9, 3), jnp.float32)
    for op in OPS:
        grad = jax.jit(jax.grad(lambda x, op=op: op(x, (4, 3)).sum()))
        assert "scatter(" not in grad.lower(x).compile().as_text()


@pytest.mark.parametrize("op", OPS)
def test_nothing_to_pool(op):
    for shape in ((0, 5, 4, 2), (2, 5, 4, 0)):
        y, vjp = jax.vjp(lambda x: op(x, (3, 2)), jnp.zeros(shape))
        assert y.shape == (shape[0], 3, 2, shape[-1])
        assert vjp(y)[0].shape == shape
    assert op(jnp.zeros((2, 0, 3)), (None,)).shape == (2, 0, 3)
    y, vjp = jax.vjp(lambda x: adaptive_avg_pool(x, (2,)), jnp.zeros((2, 0, 3)))
    assert y.tolist() == [[[0.0] * 3] * 2] * 2
    assert vjp(y)[0].shape == (2, 0, 3)


def test_the_maximum_of_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"x: got shape \(2, 0, 3\) with an empty spatial axis"):
        adaptive_max_pool(jnp.ones((2, 0, 3)), 2)


@pytest.mark.parametrize("op", OPS)
def test_errors(op):
    x = jnp.ones((2, 6, 5, 3))
    with pytest.raises(ValueError, match=r"output_size: got 0, expected an int, or 2 ints .* at least 1"):
        op(x, 0)
    with pytest.raises(TypeError, match=r"output_size: got None, expected an int, or a tuple of ints"):
        op(x, None)
    with pytest.raises(TypeError, match=r"output_size: got 2.0"):
        op(x, 2.0)
    with pytest.raises(TypeError, match=r"output_size: got \[1, 2.0\]"):
        op(x, (None, 2.0))
    with pytest.raises(ValueError, match=r"x: got shape \(2, 6, 5, 3\) with 4 axes, .* at least 5"):
        op(x, (1, 1, 1, 1))
    with pytest.raises(ValueError, match=r"output_size: got the int 2 for an array with 2 axes"):
        op(x[0, 0], 2)
    with pytest.raises(TypeError, match=r"x: got dtype int32"):
        op(x.astype("int32"), 2)
    with pytest.raises(ValueError, match=r"data_format: got 'NCHW'"):
        op(x, 2, data_format="NCHW")
