"""The checks themselves: each passes on a right rule, fails on a wrong one of the kind it is for, and says clearly why."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxconv.verification import (
    TRANSFORMS,
    Check,
    Edge,
    Report,
    adjoint_identity,
    against_float64,
    check_vjp,
    determinism,
    edges,
    finite_differences,
    linearity,
    residuals,
    second_order,
    transformations,
)

X = np.array([0.5, -1.25, 2.0, -0.75])
MATRIX = np.array([[1.0, 2.0, 0.0], [-1.0, 0.5, 3.0], [0.0, 4.0, -2.0]])

# One dtype, first derivatives, no transformation: the five checks that every rule goes through.
quick = functools.partial(check_vjp, orders=1, transforms=(), edge_cases=(), dtypes=("float64",))


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """XLA without most of its optimizations: all that takes time here is compiling."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def with_rule(value, gradient):
    """value(x), with the hand-written rule dx = gradient(x, dy)."""
    f = jax.custom_vjp(value)
    f.defvjp(lambda x: (value(x), x), lambda x, dy: (gradient(x, dy),))
    return f


def cube(x):
    return x**3


RIGHT = with_rule(cube, lambda x, dy: 3 * x**2 * dy)


def failed(report: Report) -> set[str]:
    return {check.name for check in report.failures}


# --- Right rules. ---


def test_a_right_rule_passes_every_check_under_every_transformation():
    report = check_vjp(RIGHT, X, reference=cube)
    report.assert_ok()
    assert report.ok
    assert not report.failures
    assert all(check.passed for check in report.checks)
    names = {check.name for check in report.checks}
    assert names >= {"against float64", "adjoint identity", "linearity: a sum", "linearity: a doubling", "determinism"}
    assert names >= {"finite differences", "residuals", "grad of grad", "hessian", "jvp of grad", *TRANSFORMS}
    # With a reference the special points come by themselves.
    assert {"edge: ties, as the reference", "edge: one NaN, as the reference"} <= names


def test_a_right_rule_passes_in_every_dtype():
    report = quick(RIGHT, X, dtypes=("float64", "float32", "bfloat16", "float16"))
    report.assert_ok()
    assert {check.dtype for check in report.checks} == {"float64", "float32", "bfloat16", "float16"}


def test_each_check_by_itself_passes_on_a_right_rule():
    single = [
        against_float64(RIGHT, X),
        adjoint_identity(RIGHT, X),
        *linearity(RIGHT, X),
        finite_differences(RIGHT, X),
        finite_differences(RIGHT, X, dtype="float32"),
        *second_order(RIGHT, X),
        *transformations(RIGHT, X, transforms=("eager", "remat")),
        *edges([Edge("0 at 0", RIGHT, (np.zeros(1),), np.zeros(1), (np.zeros(1),))]),
        determinism(RIGHT, X),
        residuals(RIGHT, X),
    ]
    assert [check.name for check in single if not check.passed] == []


# --- Wrong rules, one for every kind of mistake. ---

FIRST_ORDER = {"against float64", "adjoint identity", "finite differences"}


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        pytest.param(lambda x, dy: 2 * x**2 * dy, FIRST_ORDER, id="factor"),
        pytest.param(lambda x, dy: -3 * x**2 * dy, FIRST_ORDER, id="sign"),
        pytest.param(lambda x, dy: 3.0001 * x**2 * dy, FIRST_ORDER, id="slightly-off"),
        pytest.param(
            lambda x, dy: 3 * x**2 * dy + 1, {*FIRST_ORDER, "linearity: a sum", "linearity: a doubling"}, id="affine"
        ),
        pytest.param(
            lambda x, dy: 3 * x**2 * dy * abs(dy),
            {*FIRST_ORDER, "linearity: a sum", "linearity: a doubling"},
            id="not-linear",
        ),
        pytest.param(lambda x, dy: jnp.zeros_like(x), FIRST_ORDER, id="zero"),
        pytest.param(lambda x, dy: 3 * x**2 * dy * jnp.nan, FIRST_ORDER, id="NaN"),
        pytest.param(lambda x, dy: jnp.flip(3 * x**2 * dy), FIRST_ORDER, id="reversed"),
        pytest.param(
            lambda x, dy: 3 * x**2 * jnp.where(dy > 0, dy, 0), {*FIRST_ORDER, "linearity: a sum"}, id="one-sided"
        ),
    ],
)
def test_a_wrong_first_derivative_fails(gradient, expected):
    report = quick(with_rule(cube, gradient), X)
    assert failed(report) >= expected
    # What holds of the wrong rule is not blamed.
    assert failed(report) <= {*expected, "linearity: a sum"}


def test_a_backward_that_is_not_the_adjoint_fails():
    matrix = lambda x: jnp.asarray(MATRIX, x.dtype)  # noqa: E731
    times = lambda x: matrix(x) @ x  # noqa: E731
    assert quick(with_rule(times, lambda x, dy: matrix(x).T @ dy), X[:3]).ok
    assert failed(quick(with_rule(times, lambda x, dy: matrix(x) @ dy), X[:3])) == FIRST_ORDER


def test_a_wrong_value_fails():
    twice = jax.custom_vjp(cube)
    twice.defvjp(lambda x: (x**2, x), lambda x, dy: (3 * x**2 * dy,))  # the forward rule computes something else
    check = against_float64(twice, X)
    assert not check.passed
    assert check.where.startswith("y [")
    wrong = with_rule(lambda x: x**3 + 1e-9, lambda x, dy: 3 * x**2 * dy)
    assert failed(quick(wrong, X, reference=cube)) == {"against float64"}


def test_a_rule_that_is_wrong_only_in_the_second_derivative_fails_there_alone():
    constant = with_rule(cube, lambda x, dy: 3 * lax.stop_gradient(x) ** 2 * dy)
    report = quick(constant, X, orders=2)
    assert failed(report) == {"grad of grad", "hessian", "jvp of grad"}
    assert {check.name for check in second_order(constant, X) if not check.passed} == failed(report)


def test_a_rule_without_forward_mode_is_checked_in_reverse():
    """A rule that calls a function with a rule: jvp of grad does not exist, grad of grad does."""
    found = second_order(with_rule(cube, lambda x, dy: 3 * with_rule(jnp.square, lambda x, dy: 2 * x * dy)(x) * dy), X)
    assert {check.name: check.passed for check in found} == {"grad of grad": True, "hessian": None, "jvp of grad": None}
    assert "JAX has no forward mode" in found[1].note
    wrong = second_order(with_rule(cube, lambda x, dy: 3 * with_rule(jnp.square, lambda x, dy: x * dy)(x) * dy), X)
    assert {check.name: check.passed for check in wrong} == {
        "grad of grad": False,
        "hessian": None,
        "jvp of grad": None,
    }


def test_a_rule_that_cannot_be_differentiated_again_fails_with_the_reason():
    once = lambda x, dy: lax.while_loop(lambda n: n[0] < 1, lambda n: (n[0] + 1, 3 * x**2 * dy), (0, dy))[1]  # noqa: E731
    found = second_order(with_rule(cube, once), X)
    assert found[0].passed is False
    assert "raised ValueError" in found[0].note


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x - x.mean()) / jnp.sqrt(jnp.var(x) + 1e-5),
        jax.nn.softmax,
        jax.nn.logsumexp,
        jnp.var,
        lambda x: jnp.sum(jnp.log(jnp.abs(x))),
        jnp.tanh,
    ],
    ids=["normalise", "softmax", "logsumexp", "var", "log", "tanh"],
)
@pytest.mark.parametrize("at", [X, np.zeros(3) + 1.0])
def test_no_alarm_about_a_function_that_is_its_own_reference(f, at):
    quick(lambda x: f(x), at, reference=f, edge_cases=None, dtypes=("float64", "float32")).assert_ok()


def test_finite_differences_do_not_take_an_odd_function_at_0_or_a_log_for_affine():
    assert finite_differences(jnp.tanh, np.zeros(3)).passed
    wrong = with_rule(lambda x: jnp.sum(jnp.log(x)), lambda x, dy: 2 * dy / x)
    assert finite_differences(wrong, np.array([0.3, 0.4, 0.5, 0.2])).passed is False


def test_a_kink_in_one_argument_hides_no_other():
    f = lambda x, b: jnp.maximum(x, 0) + jnp.sin(b)  # noqa: E731
    wrong = jax.custom_vjp(f)
    wrong.defvjp(lambda x, b: (f(x, b), (x, b)), lambda s, dy: (jnp.where(s[0] > 0, dy, 0), 5 * dy * jnp.cos(s[1])))
    found = finite_differences(wrong, np.zeros(3), np.ones(3))
    assert found.passed is False
    assert finite_differences(f, np.zeros(3), np.ones(3)).note.startswith("x left out")


def test_a_rule_that_is_wrong_only_under_vmap_fails_there_alone():
    @jax.custom_batching.custom_vmap
    def gradient(x, dy):
        return 3 * x**2 * dy

    gradient.def_vmap(lambda size, batched, x, dy: (3 * x**2 * dy + dy[:1], True))
    names = ("eager", "vmap of grad", "grad of vmap", "scan of grad", "grad of scan", "remat", "donated buffers")
    report = quick(with_rule(cube, gradient), X, transforms=names)
    assert failed(report) == {"vmap of grad", "grad of vmap"}


def test_a_rule_that_is_wrong_only_when_one_argument_is_batched_fails_under_vmap():
    """The sum over the batch that a rule for a shared argument must not make."""

    @jax.custom_batching.custom_vmap
    def gradients(x, w, dy):
        return w * dy, x * dy

    @gradients.def_vmap
    def _(size, batched, x, w, dy):
        if batched == [True, True, True]:
            return (w * dy, x * dy), (True, True)
        return (w * dy, jnp.broadcast_to(jnp.sum(x * dy, 0), (size, *dy.shape[1:]))), (True, True)

    product = jax.custom_vjp(lambda x, w: x * w)
    product.defvjp(lambda x, w: (x * w, (x, w)), lambda saved, dy: gradients(*saved, dy))
    report = quick(product, X, X + 0.5, transforms=("vmap of grad", "grad of vmap"))
    assert failed(report) == {"vmap of grad"}


def test_a_rule_that_does_not_run_under_shard_map_fails_with_the_reason():
    """An early return of zeros that do not vary over the mesh as the argument does."""
    if len(jax.devices()) < 2:
        pytest.skip("one device")
    nothing = with_rule(lambda x: 0 * x, lambda x, dy: jnp.zeros(x.shape, x.dtype))
    report = quick(nothing, X, transforms=("shard_map", "remat"))
    assert failed(report) == {"shard_map"}
    assert report.failures[0].note.startswith("raised ValueError")


def test_a_result_of_the_wrong_dtype_fails():
    check = against_float64(with_rule(cube, lambda x, dy: (3 * x**2 * dy).astype(jnp.float32)), X)
    assert not check.passed
    assert "returned float32 for float64 arguments" in check.note
    wider = with_rule(
        lambda x: x.astype(jnp.float64) ** 3, lambda x, dy: (3 * x.astype(jnp.float64) ** 2 * dy).astype(x.dtype)
    )
    assert "returned float64 for float32 arguments" in against_float64(wider, X, dtype="float32").note


def test_a_wrong_convention_at_a_kink_fails_as_an_edge_alone():
    relu = lambda x: jnp.maximum(x, 0)  # noqa: E731
    ours = with_rule(relu, lambda x, dy: jnp.where(x >= 0, dy, 0))
    point = Edge(
        "the kink: 0", ours, (np.array([0.0, -0.0, 1.0]),), np.array([0.0, 0.0, 1.0]), (np.array([0.0, 0.0, 1.0]),)
    )
    report = quick(ours, X, edge_cases=[point])
    assert failed(report) == {"edge: the kink: 0"}
    assert report.failures[0].where == "gradient 0 [0]"
    assert (report.failures[0].got, report.failures[0].expected) == (1.0, 0.0)
    # The same by the reference's own convention: jax.nn.relu's gradient at 0 is 0.
    names = failed(quick(ours, X, reference=jax.nn.relu, edge_cases=None))
    assert {"edge: +0 everywhere, as the reference", "edge: −0 everywhere, as the reference"} <= names
    assert names <= {
        f"edge: {name}, as the reference" for name in ("+0 everywhere", "−0 everywhere", "ties", "subnormal numbers")
    }


@pytest.mark.parametrize(
    ("y", "gradient", "ok"),
    [(math.nan, 1.0, True), (0.0, 1.0, False), (math.nan, 0.0, False), (math.inf, 1.0, False)],
)
def test_edges_tell_nan_from_numbers(y, gradient, ok):
    edge = Edge("NaN stays", lambda x: x + 0, (np.array([math.nan]),), np.array([y]), (np.array([gradient]),))
    assert edges([edge])[0].passed is ok


def test_an_edge_whose_function_raises_fails_with_the_reason():
    (check,) = edges([Edge("impossible", lambda x: x.reshape(7), (X,), X)])
    assert check.passed is False
    assert "raised TypeError" in check.note


def test_a_gradient_that_changes_from_run_to_run_is_found():
    calls = []

    def noise(dy):
        calls.append(0)
        return dy * (1 + len(calls) * 1e-15)

    def gradient(x, dy):
        return 3 * x**2 * jax.pure_callback(noise, jax.ShapeDtypeStruct(dy.shape, dy.dtype), dy)

    check = determinism(with_rule(cube, gradient), X)
    assert not check.passed
    assert check.measured > 0
    assert check.unit == "runs that differ"


def summed_one_by_one(dy):
    return lax.scan(lambda total, row: (total + row, None), jnp.zeros(dy.shape[1:], dy.dtype), dy)[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_sum_made_in_low_precision_is_found(dtype):
    rows = lambda b: jnp.broadcast_to(b, (20_000, *b.shape))  # noqa: E731
    narrow = with_rule(rows, lambda b, dy: summed_one_by_one(dy))
    assert not against_float64(narrow, X, dtype=dtype).passed
    wide = with_rule(rows, lambda b, dy: summed_one_by_one(dy.astype(jnp.float32)).astype(dy.dtype))
    assert against_float64(wide, X, dtype=dtype).passed


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_short_sum_made_in_low_precision_is_found_next_to_an_exact_value(dtype):
    rows = lambda b: jnp.broadcast_to(b, (2048, *b.shape))  # noqa: E731
    b = np.linspace(-1.0, 1.0, 64)
    assert not against_float64(with_rule(rows, lambda b, dy: summed_one_by_one(dy)), b, dtype=dtype).passed


# --- Arguments and results. ---


def test_pytrees_of_arguments_and_several_results():
    def plain(params, x):
        hidden = x * params["scale"][0] + params["shift"]
        return {"sum": jnp.sum(hidden), "hidden": (hidden, hidden**2)}

    def make(factor):
        f = jax.custom_vjp(plain)

        def backward(saved, cotangents):
            params, x = saved
            hidden = x * params["scale"][0] + params["shift"]
            d = cotangents["sum"] + cotangents["hidden"][0] + factor * hidden * cotangents["hidden"][1]
            return {"scale": [d * x], "shift": d}, d * params["scale"][0]

        f.defvjp(lambda params, x: (plain(params, x), (params, x)), backward)
        return f

    args = {"scale": [X + 0.25], "shift": X - 2}, X
    check_vjp(make(2), *args, dtypes=("float64",), transforms=("vmap of grad", "grad of scan")).assert_ok()
    check = against_float64(make(3), *args)
    assert not check.passed
    assert re.match(r"gradient of (params\['scale'\]\[0\]|params\['shift'\]|x) \[\d\]", check.where)


def test_integer_arguments_are_passed_on():
    def gather(x, index, factor):
        return x[index] * factor

    def make(sign):
        f = jax.custom_vjp(gather, nondiff_argnums=(2,))
        f.defvjp(
            lambda x, index, factor: (gather(x, index, factor), (x, index)),
            lambda factor, saved, dy: (jnp.zeros_like(saved[0]).at[saved[1]].add(sign * factor * dy), None),
        )
        return f

    index = np.array([0, 2, 2, 3, 0])
    quick(make(1), X, index, 2, transforms=("vmap of grad",)).assert_ok()
    assert failed(quick(make(-1), X, index, 2)) >= FIRST_ORDER


def test_floating_arguments_that_argnums_leaves_out_are_converted_too():
    quick(lambda x, w: x * w, X, X + 0.5, argnums=0, dtypes=("float32",)).assert_ok()


@pytest.mark.parametrize(
    ("argnums", "ok"),
    [
        (0, True),
        (1, False),
        (-1, False),
        (np.int64(0), True),
        ((0, 1), False),
        ([0], True),
        (None, False),
    ],
)
def test_argnums_choose_what_is_checked(argnums, ok):
    product = jax.custom_vjp(lambda x, w: x * w)
    product.defvjp(lambda x, w: (x * w, (x, w)), lambda saved, dy: (saved[1] * dy, -saved[0] * dy))
    report = quick(product, X, X + 0.5, argnums=argnums)
    assert report.ok is ok
    assert ok or "gradient of w" in str(report)


def test_a_scalar_argument_an_empty_one_and_a_large_one():
    quick(RIGHT, 2.0).assert_ok()
    quick(RIGHT, np.zeros((0, 3))).assert_ok()
    quick(RIGHT, np.linspace(-2.0, 2.0, 3000)).assert_ok()


def test_a_rule_may_use_the_methods_of_jax_arrays():
    quick(with_rule(cube, lambda x, dy: dy.at[:].multiply(3 * x**2)), X).assert_ok()


def test_a_function_without_a_rule_is_checked_against_itself_and_passes():
    quick(lambda x, y: jnp.sin(x) * y, X, X + 1).assert_ok()


def test_without_a_reference_the_forward_computation_is_differentiated():
    report = quick(RIGHT, X)
    assert report.reference == "autodiff of its own forward computation"
    assert quick(RIGHT, X, reference=cube).reference == "jax.grad of cube"


# --- A forward computation that JAX cannot differentiate. ---


def outside(x):
    """A sine that JAX does not see into."""
    return jax.pure_callback(lambda a: np.sin(a), jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")


def test_without_any_reference_values_of_f_are_what_counts():
    report = quick(with_rule(outside, lambda x, dy: jnp.cos(x) * dy), X, orders=2, transforms=("eager", "vmap of grad"))
    report.assert_ok()
    assert report.reference.startswith("finite differences")
    verdicts = {check.name: check.verdict for check in report.checks}
    assert verdicts["against float64"] == "ok"
    assert verdicts["finite differences"] == "ok"
    assert verdicts["vmap of grad"] == "ok"
    # What needs a reference is skipped, and says so.
    skipped = {check.name: check.note for check in report.checks if check.passed is None}
    assert set(skipped) == {"adjoint identity", "grad of grad", "hessian", "jvp of grad"}
    assert all(skipped.values())


def test_without_any_reference_a_wrong_rule_fails():
    report = quick(with_rule(outside, lambda x, dy: jnp.cos(x) * dy * jnp.array([1.0, 1.0, 1.001, 1.0])), X)
    assert failed(report) == {"against float64", "finite differences"}
    assert [check.where for check in report.failures] == ["gradient of x [2]"] * 2
    assert report.failures[0].got == pytest.approx(1.001 * report.failures[0].expected)


# --- Which element is wrong. ---


@pytest.mark.parametrize("index", [(0, 0), (2, 1), (3, 4)])
def test_finite_differences_name_the_wrong_element(index):
    x = np.random.default_rng(0).standard_normal((4, 5))
    check = finite_differences(with_rule(cube, lambda x, dy: (3 * x**2 * dy).at[index].multiply(1.5)), x)
    assert not check.passed
    assert check.where == f"gradient of x [{index[0]}, {index[1]}]"
    assert check.got == pytest.approx(1.5 * check.expected, rel=1e-6)


def test_finite_differences_name_the_wrong_argument():
    product = jax.custom_vjp(lambda x, w: x * w)
    product.defvjp(
        lambda x, w: (x * w, (x, w)), lambda saved, dy: (saved[1] * dy, saved[0] * jnp.asarray(dy).at[3].set(0))
    )
    assert finite_differences(product, X, X + 0.5).where == "gradient of w [3]"


def test_against_float64_names_the_worst_element_with_its_values():
    wrong = with_rule(cube, lambda x, dy: jnp.zeros_like(x).at[2].set(7.0) + (3 * x**2 * dy).at[2].set(0.0))
    check = against_float64(wrong, X)
    assert check.where == "gradient of x [2]"
    assert check.got == 7.0
    assert check.measured > check.allowed


def test_kinks_are_left_out_of_finite_differences():
    x = np.array([1e-12, 1.0, -1.0, 2.0])
    assert finite_differences(jax.nn.relu, x).passed
    assert finite_differences(jax.nn.relu, np.array([1e-12, -1e-12, 1e-12, 1.0])).passed is None


# --- Tolerances. ---


def test_tolerances_grow_with_the_longest_sum_and_not_with_the_array():
    allowed = [against_float64(RIGHT, np.linspace(0.5, 1.0, size)).allowed for size in (4, 4000)]
    assert allowed[0] == allowed[1]
    dots = [against_float64(lambda x, w: x @ w, np.ones((2, n)), np.ones((n, 2))).allowed for n in (4, 400)]
    assert 5 < dots[1] / dots[0] < 10  # the square root of 100, and what does not grow


def test_one_wrong_element_among_thousands_is_found():
    x = np.linspace(0.5, 1.5, 5000)
    check = against_float64(
        with_rule(cube, lambda x, dy: (3 * x**2 * dy).at[1234].multiply(1 + 1e-4)), x, dtype="float32"
    )
    assert not check.passed
    assert check.where == "gradient of x [1234]"


def test_a_large_element_does_not_hide_a_small_wrong_one():
    x = np.array([1e-3, 1e3])
    assert not against_float64(
        with_rule(cube, lambda x, dy: 3 * x**2 * dy * jnp.array([1.01, 1.0], x.dtype)), x, dtype="float32"
    ).passed


def test_a_rounding_error_passes_and_one_a_hundred_times_as_large_does_not():
    def off(relative):
        return with_rule(cube, lambda x, dy: 3 * x**2 * dy * jnp.asarray(1 + relative, x.dtype))

    eps = float(jnp.finfo("float64").eps)
    assert against_float64(off(4 * eps), X).passed
    assert not against_float64(off(400 * eps), X).passed


# --- Bytes saved. ---


def test_residuals_counts_the_bytes_that_each_side_saves():
    relu = jax.custom_vjp(lambda x: jnp.maximum(x, 0))
    relu.defvjp(lambda x: (jnp.maximum(x, 0), x > 0), lambda positive, dy: (jnp.where(positive, dy, 0),))
    check = residuals(relu, X)
    assert check.passed
    assert check.details["ours"] == X.size
    assert check.details["autodiff"] >= X.size
    assert check.unit == "bytes (autodiff's)"
    assert residuals(RIGHT, X).details["ours"] == 4 * X.size  # x itself, in float32
    assert residuals(RIGHT, X, dtype="float64").details["ours"] == 8 * X.size


# --- What is printed. ---


def test_assert_ok_names_check_measure_allowance_and_worst_element():
    report = quick(with_rule(cube, lambda x, dy: 2 * x**2 * dy), X)
    with pytest.raises(AssertionError) as caught:
        report.assert_ok()
    lines = str(caught.value).splitlines()
    assert lines[0] == "the gradient of cube failed 3 checks:"
    number = r"-?[\d.]+(e[-+]?\d+)?"
    assert re.fullmatch(
        rf"  against float64 \(float64\): measured {number} eps, allowed {number}; "
        rf"worst at gradient of x \[\d\]: got {number}, expected {number}",
        lines[1],
    )
    assert lines[2].startswith("  adjoint identity (float64): measured ")
    assert lines[3].startswith("  finite differences (float64): measured ")
    assert str(report) in str(caught.value)


def test_a_report_prints_as_a_table():
    report = quick(with_rule(cube, lambda x, dy: 2 * x**2 * dy), X)
    title, header, rule, *rest = str(report).splitlines()
    assert title == "cube, against autodiff of its own forward computation"
    assert header.split() == [
        "check",
        "dtype",
        "measured",
        "allowed",
        "unit",
        *["worst", "element"],
        "got",
        "expected",
        "verdict",
    ]
    assert set(rule) == {"-", " "}
    rows = rest[: len(report.checks)]
    assert [row.split()[-1] for row in rows] == ["FAILED" if c.passed is False else "ok" for c in report.checks]
    assert all(row.startswith(check.name) for row, check in zip(rows, report.checks, strict=True))
    assert rest[-1] == f"3 of {len(report.checks)} checks failed"
    assert str(quick(RIGHT, X)).endswith("all checks passed")
    assert max(map(len, str(report).splitlines())) <= 140


def test_a_skipped_check_does_not_count_as_failed_and_says_why():
    check = Check("jvp of grad", "float64", None, note="there is no reference")
    report = Report("f", "nothing", (check,))
    report.assert_ok()
    assert check.verdict == "skipped"
    assert str(check) == "jvp of grad (float64): skipped: there is no reference"
    assert "there is no reference" in str(report)


def test_the_seed_decides_the_numbers():
    wrong = with_rule(cube, lambda x, dy: 2 * x**2 * dy)
    measured = [against_float64(wrong, X, seed=seed).got for seed in (0, 0, 1)]
    assert measured[0] == measured[1] != measured[2]


# --- Bad input: one clear line, never JAX's internals alone. ---


def raising(x):
    raise RuntimeError("no luck\nand more lines")


def dynamic_loop(x):
    return lax.while_loop(lambda a: jnp.any(a > 1e-3), lambda a: a / 2, x)


def counting(x, calls=[]):  # noqa: B006
    calls.append(0)
    return x * len(calls)


def rule_of(backward):
    f = jax.custom_vjp(cube)
    f.defvjp(lambda x: (cube(x), x), backward)
    return f


BAD = {
    "f is no function": (3, (X,), {}, TypeError, "f: got 3, expected a callable"),
    "no argument": (cube, (), {}, TypeError, "args: got no argument, expected at least one floating array"),
    "integers only": (
        cube,
        (np.arange(3),),
        {},
        TypeError,
        r"args: got an array of int64 of shape \(3,\), expected at least one floating",
    ),
    "complex": (
        cube,
        (X + 1j,),
        {},
        TypeError,
        r"args: got an array of complex128 of shape \(4,\), expected at least one floating",
    ),
    "no floating argument chosen": (
        lambda x, n: x * n,
        (X, 2),
        {"argnums": 1},
        TypeError,
        "args: got .*, expected at least one floating array among",
    ),
    "a reference that is none": (cube, (X,), {"reference": 3}, TypeError, "reference: got 3, expected a callable"),
    "a reference of another shape": (
        cube,
        (X,),
        {"reference": jnp.sum},
        ValueError,
        r"reference: returns arrays of shapes \[\(\)\], expected \[\(4,\)\], those of f",
    ),
    "a reference of more results": (
        cube,
        (X,),
        {"reference": lambda x: (x, x)},
        ValueError,
        "reference: returns arrays of shapes",
    ),
    "a reference that raises": (
        cube,
        (X,),
        {"reference": raising},
        ValueError,
        "reference: raised RuntimeError: no luck$",
    ),
    "a reference of other arguments": (
        cube,
        (X,),
        {"reference": lambda x, y: x},
        ValueError,
        "reference: raised TypeError: .* missing 1 required",
    ),
    "a reference without a gradient": (
        cube,
        (X,),
        {"reference": dynamic_loop},
        ValueError,
        "reference: cannot be differentiated: it raised ValueError: Reverse-mode",
    ),
    "not deterministic": (
        counting,
        (X,),
        {},
        ValueError,
        "f: two calls with the same arguments gave different results, expected a pure function",
    ),
    "not differentiable": (
        dynamic_loop,
        (X,),
        {},
        ValueError,
        "f: cannot be differentiated: its gradient raised ValueError: Reverse-mode differentiation does not work for lax.while_loop",
    ),
    "f raises": (raising, (X,), {}, ValueError, "f: raised RuntimeError: no luck$"),
    "f asks for a number": (
        lambda x: x if x[0] > 0 else -x,
        (X,),
        {},
        ValueError,
        "f: raised TracerBoolConversionError: Attempted boolean conversion",
    ),
    "shapes that do not fit": (
        lambda x: x @ jnp.ones((5, 2)),
        (X,),
        {},
        ValueError,
        "f: raised TypeError: dot_general requires",
    ),
    "nothing returned": (lambda x: None, (X,), {}, ValueError, "f: returns no floating array, expected at least one"),
    "integers returned": (jnp.argmax, (X,), {}, ValueError, "f: returns no floating array, expected at least one"),
    "no rule defined": (
        jax.custom_vjp(cube),
        (X,),
        {},
        ValueError,
        "f: raised AttributeError: No VJP defined for custom_vjp function cube",
    ),
    "a rule that returns no tuple": (
        rule_of(lambda x, dy: dy),
        (X,),
        {},
        ValueError,
        "f: cannot be differentiated: its gradient raised TypeError: Custom VJP bwd rule .*must produce",
    ),
    "a rule of the wrong shape": (
        rule_of(lambda x, dy: (dy[:2],)),
        (X,),
        {},
        ValueError,
        "f: cannot be differentiated: its gradient raised ValueError: Custom VJP bwd rule .*must produce",
    ),
    "argnums beyond the last": (
        cube,
        (X,),
        {"argnums": 1},
        ValueError,
        "argnums: got 1 for 1 arguments, expected ints from 0 to 0",
    ),
    "argnums by name": (cube, (X,), {"argnums": "x"}, ValueError, "argnums: got 'x' for 1 arguments"),
    "no argnums": (cube, (X,), {"argnums": ()}, ValueError, r"argnums: got \(\) for 1 arguments"),
    "an integer dtype": (
        cube,
        (X,),
        {"dtypes": ("int32",)},
        ValueError,
        "dtypes: got int32, expected a floating dtype",
    ),
    "an unknown transformation": (
        cube,
        (X,),
        {"transforms": ("vmap",)},
        ValueError,
        "transforms: got 'vmap', expected some of 'eager', 'vmap of grad'",
    ),
    "orders": (cube, (X,), {"orders": 3}, ValueError, "orders: got 3, expected 1 or 2"),
    "a dtype by a name that is none": (
        cube,
        (X,),
        {"dtypes": ("float8",)},
        (TypeError, ValueError),
        "dtypes: got 'float8', expected",
    ),
    "no dtypes": (cube, (X,), {"dtypes": ()}, (TypeError, ValueError), r"dtypes: got \(\), expected"),
    "a transformation not in a tuple": (
        cube,
        (X,),
        {"transforms": "vmap"},
        (TypeError, ValueError),
        "transforms: got 'vmap', expected",
    ),
    "no transformations": (cube, (X,), {"transforms": None}, (TypeError, ValueError), "transforms: got None, expected"),
    "a negative length": (cube, (X,), {"length": -1}, (TypeError, ValueError), "length: got -1, expected"),
    "a seed that is none": (cube, (X,), {"seed": "a"}, (TypeError, ValueError), "seed: got 'a', expected"),
    "edge cases that are none": (
        cube,
        (X,),
        {"edge_cases": ("a",)},
        (TypeError, ValueError),
        "edge_cases: got .*'a'.*, expected",
    ),
    "NaN among the arguments": (cube, (np.array([1.0, np.nan]),), {}, ValueError, "args: got .*NaN"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gives_one_line_that_says_what_was_expected(case):
    f, args, options, kind, message = BAD[case]
    with pytest.raises(kind, match=f"^{message}") as caught:
        check_vjp(f, *args, **options)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("check", "options", "message"),
    [
        (against_float64, {"dtype": "int32"}, "dtype: got int32, expected a floating dtype"),
        (linearity, {"dtype": "float8"}, "dtype: got 'float8', expected a floating dtype"),
        (transformations, {"transforms": ("vmap",)}, "transforms: got 'vmap', expected some of 'eager'"),
    ],
)
def test_bad_input_of_a_single_check_gives_one_line_too(check, options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        check(cube, X, **options)


def test_the_cause_of_an_error_in_f_is_kept():
    with pytest.raises(ValueError, match="f: raised RuntimeError") as caught:
        check_vjp(raising, X)
    assert isinstance(caught.value.__cause__, RuntimeError)
