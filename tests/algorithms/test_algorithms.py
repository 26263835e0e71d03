"""Every algorithm computes the formulas: exactly on small integers, closely on random numbers."""

import random
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, normal, random_conv_case, small_integers

from jaxconv import algorithms, conv
from jaxconv.algorithms import (
    adaptive,
    blocks,
    canonical,
    col2im,
    cpu,
    depthwise,
    few,
    gathers,
    grouped,
    im2col,
    phases,
    products,
    reference,
    taps,
    views,
    xla,
)
from jaxconv.algorithms.dtypes import tap_dtype
from jaxconv.geometry import AdaptiveWindow, conv_window, pool_window

POOL_ALGORITHMS = [taps, gathers]
SOFT_ALGORITHMS = [taps]
FORMS = ("conv", "input_grad", "kernel_grad")


def using(module, form, dense):
    """The form as the module has it when `dense` is handed the dense convolutions that it is made of."""
    return lambda *arguments: getattr(module, form)(*arguments, dense)


# (module, form) -> the function, and which windows it is for.
CONV_ALGORITHMS = {
    **{("xla", form): (getattr(xla, form), lambda window, groups: True) for form in FORMS},
    **{("cpu", form): (getattr(cpu, form), lambda window, groups: True) for form in FORMS},
    **{("depthwise", form): (getattr(depthwise, form), lambda window, groups: groups == 4) for form in FORMS},
    **{
        ("grouped", form): (using(grouped, form, getattr(xla, form)), lambda window, groups: groups > 1)
        for form in FORMS
    },
    **{
        ("products", form): (getattr(products, form), lambda window, groups: groups == window.tap_count == 1)
        for form in FORMS
    },
    ("phases", "input_grad"): (
        using(phases, "input_grad", xla.conv),
        lambda window, groups: groups == 1 and set(window.dilation) == {1},
    ),
    ("col2im", "input_grad"): (col2im.input_grad, lambda window, groups: groups == 1),
    ("col2im", "conv"): (col2im.conv, lambda window, groups: groups == 1 and set(window.strides) == {1}),
    **{
        ("im2col", form): (getattr(im2col, form), lambda window, groups: groups == 1)
        for form in ("conv", "kernel_grad")
    },
    ("im2col", "input_grad"): (
        im2col.input_grad,
        lambda window, groups: groups == 1 and set(window.strides) == {1},
    ),
    ("few", "kernel_grad"): (few.kernel_grad, lambda window, groups: groups == 1 and window.ndim > 1),
    ("few outputs", "kernel_grad"): (
        few.kernel_grad_of_few_outputs,
        lambda window, groups: groups == 1 and window.ndim > 1 and set(window.strides) == {1},
    ),
    ("canonical", "kernel_grad"): (canonical.kernel_grad, lambda window, groups: groups == 1),
}
# Sizes so small that every array is cut into several blocks, and every loop is one.
CUT = [
    (col2im, "BLOCK", 100),
    (depthwise, "BLOCK", 100),
    (depthwise, "SUMS", 2),
    (depthwise, "TERMS", 2),
    (gathers, "TERMS", 1),
    (grouped, "WIDTH", 1),
    (im2col, "BLOCK", 100),
    (products, "NARROW", 0),
    (im2col, "TAPS", 2),
    (few, "BLOCK", 100),
    (blocks, "WHOLE", 0),
    (blocks, "CONSTANT", 200),
    (blocks, "TABLE", 400),
    (canonical, "TERMS", 20),
    (views, "UNROLLED", 1),
]


def conv_arguments(make, case, seed):
    """x, w and dy in the plain layout."""
    spatial, window = case.spatial, case.window
    return make(
        seed,
        (2, *spatial, case.channels),
        (*case.kernel, case.channels // case.options["groups"], case.features),
        (2, *window.output_size, case.features),
    )


def operands(form, x, w, dy):
    return {"conv": (x, w), "input_grad": (dy, w), "kernel_grad": (x, dy)}[form]


def brute_force(form, x, w, dy, window, groups):
    """The trilinear form's three partial derivatives, one product at a time."""
    x, w, dy = (np.asarray(a, np.float64) for a in (x, w, dy))
    y, dx, dw = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(w.shape)
    per_group, outputs = w.shape[-2], w.shape[-1] // groups
    for p in np.ndindex(*window.output_size):
        for i in window.taps():
            u = tuple(
                s * a + d * b - low
                for a, b, s, d, (low, _) in zip(p, i, window.strides, window.dilation, window.padding, strict=True)
            )
            if not all(0 <= position < n for position, n in zip(u, window.input_size, strict=True)):
                continue
            for g in range(groups):
                c = slice(g * per_group, (g + 1) * per_group)
                k = slice(g * outputs, (g + 1) * outputs)
                y[:, *p, k] += x[:, *u, c] @ w[*i, :, k]
                dx[:, *u, c] += dy[:, *p, k] @ w[*i, :, k].T
                dw[*i, :, k] += x[:, *u, c].T @ dy[:, *p, k]
    return {"conv": y, "input_grad": dx, "kernel_grad": dw}[form]


@pytest.mark.parametrize("form", FORMS)
def test_the_reference_is_the_formula(form):
    rng = random.Random(form)
    for seed in range(4):
        case = random_conv_case(rng, most=5)
        x, w, dy = conv_arguments(small_integers, case, seed)
        a, b = operands(form, x, w, dy)
        groups = case.options["groups"]
        found = jax.jit(getattr(reference, form), static_argnums=(2, 3, 4, 5))(
            a, b, case.window, groups, None, jnp.float32
        )
        assert np.array_equal(found, brute_force(form, x, w, dy, case.window, groups))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut into blocks"])
@pytest.mark.parametrize("groups", [1, 2, 4], ids=["dense", "2 groups", "depthwise"])
@pytest.mark.parametrize("form", FORMS)
def test_convolution_algorithms(form, groups, cut, monkeypatch):
    """Every algorithm that is for the geometry, on small integers: exactly the reference."""
    if cut:
        for module, name, value in CUT:
            monkeypatch.setattr(module, name, value)
    rng = random.Random(f"{form} {groups} {cut}")
    tried = dict.fromkeys((name for name, of in CONV_ALGORITHMS if of == form), 0)
    for seed in range(6):
        case = random_conv_case(rng)
        while seed == 2 and len(case.spatial) != 3:
            case = random_conv_case(rng)
        options = {name: case.options[name] for name in ("strides", "padding", "dilation")}
        kernel = (1,) * len(case.kernel) if seed == 0 else case.kernel
        if seed % 3 == 1:
            options["dilation"] = 1
        if seed % 3 == 2:
            options["strides"] = 1
        try:
            window = conv_window(case.spatial, kernel, **options)
        except ValueError:
            continue
        channels = 4 if groups == 4 else groups * rng.choice([1, 2, 5])
        features = groups * rng.choice([1, 3])
        images = rng.choice([2, 3])
        x, w, dy = small_integers(
            seed,
            (images, *window.input_size, channels),
            (*kernel, channels // groups, features),
            (images, *window.output_size, features),
        )
        a, b = operands(form, x, w, dy)
        if not dy.size:
            continue
        expected = getattr(reference, form)(a, b, window, groups, None, jnp.float32)
        for (name, of), (function, is_for) in CONV_ALGORITHMS.items():
            if of == form and is_for(window, groups):
                found = jax.jit(lambda a, b, f=function, w=window: f(a, b, w, groups, None, jnp.float32))(a, b)
                assert jnp.array_equal(found, expected), (name, window, groups)
                tried[name] += 1
    expected_names = {"xla", "cpu"} | {
        1: {"phases", "col2im", "im2col", "few", "canonical", "products"} & set(tried),
        2: {"grouped"},
        4: {"grouped", "depthwise"},
    }[groups]
    assert {name for name, count in tried.items() if count} >= expected_names


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("groups", "shape", "kernel"), [(1, (4, 9, 8), (3, 3)), (8, (3, 9, 8), (3, 3)), (1, (1, 4, 5, 6), (3, 2, 3))]
)
def test_convolution_algorithms_on_normal_numbers(form, groups, shape, kernel):
    for strides in (1, 2):
        window = conv_window(shape[1:], kernel, strides=strides, padding="SAME")
        x, w, dy = normal(
            0, (*shape, 8), (*kernel, 8 // groups, 16), (shape[0], *window.output_size, 16), dtype=np.float32
        )
        a, b = operands(form, x, w, dy)
        expected = getattr(reference, form)(*(z.astype(jnp.float64) for z in (a, b)), window, groups, None, jnp.float64)
        found = jax.jit(lambda a, b, w=window: getattr(cpu, form)(a, b, w, groups, None, jnp.float32))(a, b)
        length = max(window.tap_count * 16, dy[..., 0].size)
        assert_close(found, expected.astype(jnp.float32), length=length)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("block", [1, 100, 400, 2000])
def test_input_gradients_in_parts_of_an_image(block, monkeypatch):
    # Windows that read padding alone, on either side, so that there is more of dy than a part, or all of x, reads.
    monkeypatch.setattr(col2im, "BLOCK", block)
    monkeypatch.setattr(blocks, "WHOLE", 0)
    rng, is_part = random.Random(block), Counter()
    for seed in range(24):
        ndim, size = rng.choice([1, 2, 2]), rng.randint(1, 14)
        kernel, stride, dilation = rng.randint(1, 4), rng.randint(2, 3), rng.choice([1, 1, 2])
        padding = [(rng.choice([-1, 0, 3, 12, 20]), rng.choice([-1, 0, 3, 12, 20])), (1, 1)][:ndim]
        try:
            window = conv_window(
                (size, 3)[:ndim], (kernel, 2)[:ndim], strides=stride, dilation=dilation, padding=padding
            )
        except ValueError:
            continue
        x, w, dy = small_integers(
            seed, (2, *window.input_size, 3), (*window.window_size, 3, 2), (2, *window.output_size, 2)
        )
        expected = brute_force("input_grad", x, w, dy, window, 1)
        call = jax.jit(lambda dy, w, window=window: col2im.input_grad(dy, w, window, 1, None, jnp.float32))
        assert np.array_equal(call(dy, w), expected), window
        # A NaN reaches what its window reads, and nothing else.
        p = tuple(rng.randrange(o) for o in window.output_size)
        reached = brute_force("input_grad", x, jnp.ones_like(w), jnp.zeros_like(dy).at[1, *p].set(1), window, 1)
        found = call(dy.at[1, *p].set(jnp.nan), w)
        assert np.array_equal(np.isnan(found), reached != 0), window
        is_part["clamp" in str(jax.make_jaxpr(call)(dy, w))] += 1
    assert is_part[True] >= 5 or block == 2000
    assert is_part[False] or block == 1


def test_input_gradients_are_cut_where_little_is_read_twice():
    # 7 rows of taps: a part of 2 rows of x would read 5 of dy, and 4 of those the next one as well.
    window = conv_window((64, 256), (7, 7), strides=2, padding=3)
    height, lines = col2im._part(window, fit=2)
    assert (height, lines) == (16, 8 + 4)
    # Less of dy than that is read at once.
    assert col2im._part(conv_window((4, 4), (7, 7), strides=2, padding=3), fit=1) == (4, 2)


def test_a_rule_and_its_primal_are_traced_once(monkeypatch):
    traced, chosen = [], cpu.algorithm
    monkeypatch.setattr(cpu, "algorithm", lambda form, *others: traced.append(form) or chosen(form, *others))
    for transform in (jax.grad, lambda f: jax.jit(jax.grad(f)), lambda f: jax.vmap(jax.grad(f))):
        jax.clear_caches()
        traced.clear()
        transform(lambda x: conv(x, jnp.ones((2, 3, 4))).sum())(jnp.ones((2, 6, 3)))
        assert traced.count("conv") == 1


def test_what_is_xlas_on_every_platform_is_no_choice_in_the_program():
    # Inside a conditional, XLA:CPU does not give the derivatives of a convolution to its library.
    x, w, volumes = jnp.ones((2, 32, 8)), jnp.ones((3, 8, 8)), jnp.ones((4, 8, 8, 8, 8))
    twice = jax.grad(lambda w: (jax.grad(lambda x: conv(x, w).sum())(x) ** 2).sum())
    assert "case" not in jax.jit(twice).lower(w).as_text()
    assert "case" in jax.jit(conv).lower(volumes, jnp.ones((3, 3, 3, 8, 8))).as_text()


@pytest.mark.parametrize("low", [-7, -2, 9])
@pytest.mark.parametrize("form", FORMS)
def test_crops_beyond_the_input(low, form):
    # More is cropped on one side than the input has, and padding on the other side makes up for it.
    for spatial, kernel, stride, dilation in (
        ((5,), (2,), 1, 2),
        ((5,), (2,), 3, 2),
        ((5, 4), (2, 3), 1, 1),
        ((5, 4), (2, 3), (1, 3), 1),
    ):
        padding = [(low, 4 - low), (1, 0)][: len(spatial)]
        window = conv_window(spatial, kernel, strides=stride, dilation=dilation, padding=padding)
        x, w, dy = small_integers(0, (2, *spatial, 2), (*kernel, 2, 3), (2, *window.output_size, 3))
        a, b = operands(form, x, w, dy)
        expected = brute_force(form, x, w, dy, window, 1)
        assert np.array_equal(getattr(reference, form)(a, b, window, 1, None, jnp.float32), expected)
        for (name, of), (function, is_for) in CONV_ALGORITHMS.items():
            if of == form and is_for(window, 1):
                assert np.array_equal(function(a, b, window, 1, None, jnp.float32), expected), name


# Axes (window size, stride, dilation, pads, output size): the last of each has two taps, and its dy no padding.
@pytest.mark.parametrize(
    "axes",
    [
        [(4, 1, 2, (2, 3), 1), (2, 2, 1, (1, 1), 6)],
        [(3, 1, 2, (1, 2), 2), (2, 2, 1, (1, 1), 4)],
        [(4, 2, 1, (2, 2), 2), (2, 2, 1, (1, 1), 3)],
        [(4, 2, 1, (3, 2), 2), (1, 1, 1, (0, 0), 1), (2, 2, 1, (1, 1), 4)],
    ],
)
def test_an_input_gradient_that_ends_the_process_in_xla(axes):
    sizes = [s * (p - 1) + d * (r - 1) + 1 - low - high for r, s, d, (low, high), p in axes]
    kernel, strides, dilation, padding, _ = zip(*axes, strict=True)
    options = {"strides": strides, "dilation": dilation, "padding": padding}
    window = conv_window(sizes, kernel, **options)
    w, dy = small_integers(0, (*kernel, 2, 3), (2, *window.output_size, 3))
    call = jax.jit(lambda dy, w: xla.input_grad(dy, w, window, 1, None, jnp.float32))
    barrier = "optimization_barrier"
    assert barrier in str(jax.make_jaxpr(call)(dy, w))
    x = jnp.zeros((2, *window.input_size, 2), jnp.float32)
    assert np.array_equal(call(dy, w), brute_force("input_grad", x, w, dy, window, 1))
    # With a dy that has as many pixels as w has taps, and with groups, XLA leaves the operands where they are.
    many = conv_window([n + 4 * s for n, s in zip(sizes, strides, strict=True)], kernel, **options)
    for other, groups in ((many, 1), (window, 2)):
        w, dy = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((*kernel, 2, 4), (2, *other.output_size, 4)))
        jaxpr = jax.make_jaxpr(lambda dy, w, a=other, g=groups: xla.input_grad(dy, w, a, g, None, jnp.float32))(dy, w)
        assert barrier not in str(jaxpr)


def test_four_spatial_axes_on_every_platform():
    case_window = conv_window((3, 4, 3, 3), (2, 2, 1, 2), strides=(1, 2, 1, 1), padding=1)
    x, w, dy = small_integers(1, (2, 3, 4, 3, 3, 2), (2, 2, 1, 2, 2, 3), (2, *case_window.output_size, 3))
    for form in FORMS:
        a, b = operands(form, x, w, dy)
        call = jax.jit(lambda a, b, f=getattr(algorithms, form): f(a, b, case_window, 1, None, jnp.float32))
        assert np.array_equal(call(a, b), brute_force(form, x, w, dy, case_window, 1))
        # Elsewhere than on a CPU no convolution over four axes is asked for.
        for platform in ("cuda", "tpu"):
            assert "stablehlo.convolution" not in call.trace(a, b).lower(lowering_platforms=(platform,)).as_text()


def random_pool_window(rng):
    while True:
        ndim = rng.choice([1, 2, 2, 3])
        try:
            return pool_window(
                [rng.randint(1, 7) for _ in range(ndim)],
                [rng.randint(1, 3) for _ in range(ndim)],
                strides=[rng.randint(1, 4) for _ in range(ndim)],
                padding=[(rng.randint(-1, 3), rng.randint(-1, 3)) for _ in range(ndim)],
                dilation=[rng.randint(1, 3) for _ in range(ndim)],
                ceil_mode=rng.random() < 0.5,
            )
        except ValueError:
            continue


@pytest.mark.parametrize("algorithm", POOL_ALGORITHMS, ids=lambda module: module.__name__.split(".")[-1])
def test_gradients_of_windows_that_read_nothing(algorithm):
    for size, window, options in (
        (1, 2, {"strides": 1, "dilation": 2, "padding": 1}),
        (1, 1, {"strides": 2, "padding": 1}),
        (2, 2, {"strides": 1, "padding": ((4, -3),)}),
        (3, 2, {"strides": 5, "padding": ((2, 2),)}),
    ):
        w = pool_window((size,), (window,), **options)
        dy = jnp.ones((2, *w.output_size, 8))
        assert jnp.array_equal(algorithm.window_sum_grad(dy, w), jnp.zeros((2, size, 8)))
        assert jnp.array_equal(
            algorithm.extremum_grad(dy, jnp.zeros(dy.shape, tap_dtype(w)), w), jnp.zeros((2, size, 8))
        )


@pytest.mark.parametrize("unrolled", [views.UNROLLED, 1], ids=["written out", "as a loop"])
@pytest.mark.parametrize("algorithm", POOL_ALGORITHMS, ids=lambda module: module.__name__.split(".")[-1])
def test_pooling_algorithms(algorithm, unrolled, monkeypatch):
    monkeypatch.setattr(views, "UNROLLED", unrolled)
    rng = random.Random(1)
    for seed in range(5):
        window = random_pool_window(rng)
        x, dy = small_integers(seed, (2, *window.input_size, 3), (2, *window.output_size, 3))
        special = jnp.asarray(
            np.random.default_rng(seed).choice([0.0, np.nan, np.inf, -np.inf], x.shape, p=[0.7, 0.1, 0.1, 0.1])
        )
        x_special = x + special.astype(x.dtype)

        def results(module, x, x_special, dy, window=window):
            found = [module.window_sum(x, window), module.window_sum_grad(dy, window)]
            for values in (x, x_special):
                for largest in (True, False):
                    y, tap = (taps if module is gathers else module).extremum(values, window, largest)
                    found += [y, module.extremum_grad(dy, tap, window)]
            return found

        def values_alone(x, x_special, window=window):
            return [algorithm.extremum_value(v, window, largest) for v in (x, x_special) for largest in (True, False)]

        expected = jax.jit(lambda *args: results(reference, *args))(x, x_special, dy)
        found = jax.jit(lambda *args: results(algorithm, *args))(x, x_special, dy)
        for one, other in zip(found, expected, strict=True):
            assert jnp.array_equal(one, other, equal_nan=True), window
        for one, other in zip(jax.jit(values_alone)(x, x_special), expected[2::2], strict=True):
            assert jnp.array_equal(one, other, equal_nan=True), window


@pytest.mark.parametrize("unrolled", [views.UNROLLED, 1], ids=["written out", "as a loop"])
@pytest.mark.parametrize("algorithm", SOFT_ALGORITHMS, ids=lambda module: module.__name__.split(".")[-1])
def test_soft_maximum_algorithms(algorithm, unrolled, monkeypatch):
    monkeypatch.setattr(views, "UNROLLED", unrolled)
    rng = random.Random(2)
    share = lambda a, b: jnp.exp(jnp.where(a == jnp.inf, 0, a - b))  # noqa: E731
    least = float(jnp.finfo(jnp.float64).min)
    for seed in range(4):
        window = random_pool_window(rng)
        x, dy = normal(seed, (2, *window.input_size, 3), (2, *window.output_size, 3))
        special = np.random.default_rng(seed).choice([0.0, np.inf, -np.inf], x.shape, p=[0.8, 0.1, 0.1])

        def results(module, x, dy, window=window):
            m, r = module.soft_maximum(x, window, share, -jnp.inf, least)
            return m, r, module.soft_maximum_grad(dy, x, m, window, share, -jnp.inf, jnp.inf)

        for values in (x, x + jnp.asarray(special)):
            expected = jax.jit(lambda *args: results(reference, *args))(values, dy)
            found = jax.jit(lambda *args: results(algorithm, *args))(values, dy)
            assert jnp.array_equal(found[0], expected[0]), window
            assert_close(found[1:], expected[1:], length=window.tap_count)


def test_a_position_that_no_window_reads_takes_no_part_in_a_soft_maximum():
    # Positions 2 and 3 are between the taps of both windows, 6 is cropped.
    window = pool_window((7,), (2,), strides=1, dilation=4, padding=((0, -1),))
    x = jnp.asarray([1.0, 2.0, jnp.nan, jnp.nan, 3.0, 4.0, jnp.inf]).reshape(1, 7, 1)
    share = lambda a, b: jnp.exp(a - b)  # noqa: E731
    m, _ = taps.soft_maximum(x, window, share, -jnp.inf, -1e300)
    dx = taps.soft_maximum_grad(jnp.ones((1, 2, 1)), x, m, window, share, -jnp.inf, jnp.inf)
    assert dx[0, :, 0].tolist() == [np.exp(-2.0), np.exp(-2.0), 0, 0, 1, 1, 0]


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("unrolled", [views.UNROLLED, 1], ids=["written out", "as a loop"])
def test_adaptive_algorithms(unrolled, monkeypatch):
    monkeypatch.setattr(views, "UNROLLED", unrolled)
    for seed, (size, output) in enumerate(
        [((7,), (3,)), ((3,), (7,)), ((6, 5), (3, 4)), ((1, 4), (3, 6)), ((4, 5, 3), (3, 2, 3))]
    ):
        window = AdaptiveWindow(size, output)
        x, dy = small_integers(seed, (2, *size, 3), (2, *output, 3))
        rng = np.random.default_rng(seed)
        special = rng.choice([0.0, np.nan, np.inf, -np.inf], x.shape, p=[0.7, 0.1, 0.1, 0.1])
        x_special = x + jnp.asarray(special, x.dtype)

        def results(module, x, x_special, dy, window=window):
            found = [module.adaptive_sum(x, window), module.adaptive_sum(dy, window.transposed)]
            for values in (x, x_special):
                for largest in (True, False):
                    y, tap = module.adaptive_extremum(values, window, largest)
                    found += [y, module.adaptive_extremum_grad(dy, tap, window)]
            return found

        expected = jax.jit(lambda *args: results(reference, *args))(x, x_special, dy)
        found = jax.jit(lambda *args: results(adaptive, *args))(x, x_special, dy)
        for one, other in zip(found, expected, strict=True):
            assert jnp.array_equal(one, other, equal_nan=True), window
        assert jnp.array_equal(found[1], jax.vjp(lambda x, w=window: reference.adaptive_sum(x, w), x)[1](dy)[0])
        for one, largest in zip(expected[6::2], (True, False), strict=True):
            assert jnp.array_equal(adaptive.adaptive_extremum_value(x_special, window, largest), one, equal_nan=True)


def test_adaptive_pooling_to_many_sizes_stays_a_small_program():
    for size, output in (((224, 224), (7, 7)), ((224, 225), (6, 13)), ((5, 300), (300, 1))):
        window = AdaptiveWindow(size, output)
        x = jnp.ones((1, *size, 2), jnp.float32)
        dy = jnp.ones((1, *output, 2), jnp.float32)
        for function, a in (
            (lambda x, w=window: adaptive.adaptive_sum(x, w), x),
            (lambda dy, w=window: adaptive.adaptive_sum(dy, w.transposed), dy),
            (lambda x, w=window: adaptive.adaptive_extremum(x, w, True), x),
            (lambda dy, w=window: adaptive.adaptive_extremum_grad(dy, jnp.zeros(dy.shape, tap_dtype(w)), w), dy),
        ):
            assert len(jax.jit(function).lower(a).as_text().splitlines()) < 1500


def traced_by(modules, form, window, groups, *arrays):
    return [
        str(jax.make_jaxpr(lambda a, b, f=getattr(m, form): f(a, b, window, groups, None, jnp.float32))(*arrays))
        for m in modules
    ]


@pytest.mark.parametrize("is_fast", [False, True])
@pytest.mark.parametrize(
    ("size", "channels", "by_xla"),
    [  # on which XLA: the one with slow convolutions in two dimensions, or the other
        (4, 16, {False, True}),
        (28, 8, set()),
        (28, 16, {True}),
        (28, 96, {False, True}),
        (28, 256, {False, True}),
        (7, 256, set()),
    ],
)
@pytest.mark.parametrize("form", ["conv", "input_grad"])
def test_convolutions_are_xlas_where_that_is_faster(form, size, channels, by_xla, is_fast, monkeypatch):
    monkeypatch.setattr(cpu, "HAS_FAST_CONVOLUTIONS", is_fast)
    window = conv_window((size, size), (3, 3), padding="SAME")
    shapes = (16, size, size, channels), (3, 3, channels, channels), (16, size, size, channels)
    arrays = operands(form, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    chosen, xlas, im2cols = traced_by((cpu, xla, im2col), form, window, 1, *arrays)
    assert chosen == (xlas if is_fast in by_xla else im2cols)
    assert xlas != im2cols


@pytest.mark.parametrize(
    ("kernel", "channels", "outputs", "dilation", "by"),
    [
        ((3, 3), 64, 128, 1, "col2im"),
        ((3, 3), 3, 16, 1, "col2im"),
        ((3, 3, 3), 32, 64, 1, "col2im"),
        ((7, 7), 3, 64, 1, "col2im"),  # 16 terms
        ((3, 3), 16, 16, 2, "col2im"),
        ((3, 3), 64, 16, 1, "phases"),  # of few outputs
        ((9, 9), 64, 64, 1, "phases"),  # 25 terms
        ((19, 19), 64, 64, 2, "xla"),  # 361 terms
    ],
)
def test_strided_input_gradients_are_of_the_algorithm_for_their_window(kernel, channels, outputs, dilation, by):
    size = (48, 48, 12)[: len(kernel)]
    window = conv_window(size, kernel, strides=2, dilation=dilation, padding="SAME")
    dy, w = ((2, *window.output_size, outputs), (*kernel, channels, outputs))
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (dy, w)]
    options = (window, 1, None, jnp.float32)
    algorithm = {
        "col2im": lambda dy, w: col2im.input_grad(dy, w, *options),
        "phases": lambda dy, w: phases.input_grad(dy, w, *options, cpu.conv),
        "xla": lambda dy, w: xla.input_grad(dy, w, *options),
    }[by]
    chosen = jax.make_jaxpr(lambda dy, w: cpu.input_grad(dy, w, *options))(*arrays)
    assert str(chosen) == str(jax.make_jaxpr(algorithm)(*arrays))


@pytest.mark.parametrize(
    ("channels", "features", "conv_by", "input_grad_by", "kernel_grad_by"),
    [
        (64, 3, col2im.conv, im2col.input_grad, few.kernel_grad_of_few_outputs),
        (3, 64, im2col.conv, col2im.input_grad, few.kernel_grad),
        (64, 16, col2im.conv, im2col.input_grad, im2col.kernel_grad),
        (64, 24, im2col.conv, im2col.input_grad, im2col.kernel_grad),
    ],
)
@pytest.mark.parametrize("size", [(32, 32), (8, 8, 8)])
def test_few_channels_on_one_side(size, channels, features, conv_by, input_grad_by, kernel_grad_by, monkeypatch):
    monkeypatch.setattr(cpu, "HAS_FAST_CONVOLUTIONS", False)
    window = conv_window(size, (3,) * len(size), padding="SAME")
    shapes = (16, *size, channels), (*window.window_size, channels, features), (16, *size, features)
    options = (window, 1, None, jnp.float32)
    for form, algorithm in zip(FORMS, (conv_by, input_grad_by, kernel_grad_by), strict=True):
        arrays = operands(form, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
        chosen, expected = (
            str(jax.make_jaxpr(lambda a, b, f=f: f(a, b, *options))(*arrays)) for f in (getattr(cpu, form), algorithm)
        )
        assert chosen == expected, form


@pytest.mark.parametrize(
    ("channels", "outputs", "by"), [(1, 16, im2col), (1, 32, xla), (1, 64, xla), (1, 128, im2col), (3, 32, im2col)]
)
def test_one_channel_to_some_is_xlas(channels, outputs, by, monkeypatch):
    monkeypatch.setattr(cpu, "HAS_FAST_CONVOLUTIONS", False)
    window = conv_window((28, 28), (5, 5), padding="SAME")
    x, w = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((32, 28, 28, channels), (5, 5, channels, outputs)))
    assert cpu.algorithm("conv", x, w, window, 1) is by.conv


@pytest.mark.parametrize(
    ("batch", "strides", "by"),
    [(1, 1, few.kernel_grad), (2, 1, im2col.kernel_grad), (1, 2, im2col.kernel_grad)],
)
def test_the_kernel_gradient_of_one_image_is_made_for_vmap(batch, strides, by):
    window = conv_window((32, 32), (3, 3), strides=strides, padding="SAME")
    arrays = [jax.ShapeDtypeStruct((batch, *size, 64), jnp.float32) for size in (window.input_size, window.output_size)]
    options = (window, 1, None, jnp.float32)
    chosen, expected = (
        str(jax.make_jaxpr(lambda x, dy, f=f: f(x, dy, *options))(*arrays)) for f in (cpu.kernel_grad, by)
    )
    assert chosen == expected


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("form", FORMS)
def test_what_windows_read_is_made_by_whole_rows(form, batch):
    # In the shape that the product takes, XLA would make it element by element.
    window = conv_window((16, 16), (3, 3), padding="SAME")
    shapes = (batch, 16, 16, 48), (3, 3, 48, 64), (batch, 16, 16, 64)
    a, b = operands(form, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    channels = 64 if form == "input_grad" else 48
    call = jax.jit(lambda a, b: getattr(im2col, form)(a, b, window, 1, None, jnp.float32))
    program = call.lower(a, b).compile().as_text()
    gathers = re.findall(r"%(\S*select\S*) = f32\[(\d+),(\d+)\]\S* fusion\(", program)
    assert [int(columns) for _, _, columns in gathers] == [channels]
    assert " call(" in program


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("channels", "groups", "is_vast"), [(256, 1, False), (2048, 1, True), (2048, 2048, True)])
def test_arrays_of_more_elements_than_int32_counts_are_xlas(form, channels, groups, is_vast):
    # The other algorithms would count their pixels and elements in int32, and read others than those.
    window = conv_window((8, 8), (3, 3), padding="SAME")
    shapes = (16384, 8, 8, channels), (3, 3, channels // groups, channels), (16384, 8, 8, channels)
    arrays = operands(form, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    by_cpu, by_xla = traced_by((cpu, xla), form, window, groups, *arrays)
    assert (by_cpu == by_xla) == is_vast


@pytest.mark.parametrize("form", FORMS)
def test_a_result_of_more_elements_than_int32_counts_is_xlas(form):
    # Whatever the operands are, as where one pixel of dy is spread over a large x.
    shapes, kernel, options = {
        "conv": (((64, 1, 1, 1), (1, 1, 1, 1)), (1, 1), {"padding": ((4096, 4096),) * 2}),
        "input_grad": (((2, 1, 1, 1), (2**15, 2**15, 1, 1)), (2**15, 2**15), {}),
        "kernel_grad": (((1, 2**14, 2**14, 1), (1, 1, 1, 8)), (2**14, 2**14), {}),
    }[form]
    size = (1, 1) if form == "conv" else kernel
    window = conv_window(size, kernel, **options)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    by_cpu, by_xla = traced_by((cpu, xla), form, window, 1, *arrays)
    assert by_cpu == by_xla


def test_few_channels_whose_phases_are_many_elements_are_not_few():
    # x and dy have fewer than 2**31 elements, x padded and in phases has more; or a thousand times those of x.
    for shape, kernel, options, expected in (
        ((3566, 224, 224, 12), (7, 7), {"strides": 2, "padding": 3}, False),
        ((64, 224, 224, 12), (7, 7), {"strides": 2, "padding": 3}, True),
        ((1, 32768, 8, 12), (1, 2), {"strides": (1000, 1), "padding": ((0, 0), (4096, 4096))}, False),
        ((1, 2, 2, 1), (3, 3), {"padding": 2}, True),
    ):
        window = conv_window(shape[1:-1], kernel, **options)
        assert few.suits(jax.ShapeDtypeStruct(shape, jnp.bfloat16), window) == expected


def test_large_kernels_stay_small_programs():
    # Depthwise, 31x31: rows of taps in a loop; what lies between is no larger than some copies of x.
    for spatial, kernel, channels, groups in (
        ((32, 32), (31, 31), 16, 16),
        ((1024,), (255,), 16, 16),
        ((40, 40), (31, 31), 2, 1),
    ):
        window = conv_window(spatial, kernel, padding="SAME")
        x = jnp.ones((1, *spatial, channels), jnp.float32)
        w = jnp.ones((*kernel, channels // groups, channels), jnp.float32)
        for form in FORMS:
            a, b = operands(form, x, w, x)
            call = jax.jit(
                lambda a, b, f=getattr(algorithms, form), w=window, g=groups: f(a, b, w, g, None, jnp.float32)
            )
            compiled = call.lower(a, b).compile()
            assert len(compiled.as_text().splitlines()) < 4000
            if groups > 1:
                assert compiled.memory_analysis().temp_size_in_bytes < 40 * x.nbytes


def test_large_windows_stay_small_programs():
    window = pool_window((40, 40), (31, 31), strides=1)
    x = jnp.ones((1, 40, 40, 2), jnp.float32)
    for function in (
        lambda x: taps.extremum(x, window, True),
        lambda x: taps.extremum_grad(x[:, :10, :10], jnp.zeros((1, 10, 10, 2), tap_dtype(window)), window),
        lambda x: taps.window_sum_grad(taps.window_sum(x, window), window),
    ):
        assert len(jax.jit(function).lower(x).as_text().splitlines()) < 1000  # written out, 961 taps would be thousands


def test_pooling_of_a_large_padded_input_in_parts(monkeypatch):
    monkeypatch.setattr(blocks, "PADDED", 1000)
    monkeypatch.setattr(gathers, "TERMS", 0)
    window = pool_window((5, 6), (3, 2), strides=2, padding="SAME")
    (x,) = small_integers(0, (6, 5, 6, 4))
    for function, arguments in (
        ("extremum", (window, True)),
        ("extremum_value", (window, False)),
        ("window_sum", (window,)),
    ):
        call = jax.jit(lambda x, f=getattr(algorithms, function), a=arguments: f(x, *a))
        expected = getattr(taps, function)(x, *arguments)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, call(x), expected))
        assert "stablehlo.while" in call.trace(x).lower(lowering_platforms=("cpu",)).as_text()
        assert "stablehlo.while" not in call.trace(x).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("form", ["conv", "input_grad", "sum", "sum_grad", "maximum", "maximum_grad"])
def test_what_is_gathered_stays_on_its_device(form):
    """A batch that jit divides among devices is not sent about, and the result is divided in the same way."""
    if jax.device_count() < 2:
        pytest.skip("needs two devices")
    window = pool_window((8, 8), (3, 3), strides=2, padding="SAME")
    x, y, w = (jnp.ones(shape, jnp.float32) for shape in ((4, 8, 8, 4), (4, 4, 4, 4), (3, 3, 1, 4)))
    function, arrays = {
        "conv": (lambda x: algorithms.conv(x, w, window, 4, None, x.dtype), (x,)),
        "input_grad": (lambda y: algorithms.input_grad(y, w, window, 4, None, x.dtype), (y,)),
        "sum": (lambda x: algorithms.window_sum(x, window), (x,)),
        "sum_grad": (lambda y: algorithms.window_sum_grad(y, window), (y,)),
        "maximum": (lambda x: algorithms.extremum_value(x, window, True), (x,)),
        "maximum_grad": (lambda y, tap: algorithms.extremum_grad(y, tap, window), (y, y.astype(tap_dtype(window)))),
    }[form]
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("i",))
    divided = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("i"))
    compiled = jax.jit(function).lower(*(jax.device_put(a, divided) for a in arrays)).compile()
    assert compiled.output_shardings.is_equivalent_to(divided, 4)
    assert not re.search(r"all-(gather|reduce|to-all)|collective-permute", compiled.as_text())


def test_tap_dtype_is_a_byte_up_to_255_taps():
    assert tap_dtype(pool_window((20, 20), (15, 17))) == jnp.uint8
    assert tap_dtype(pool_window((20, 20), (16, 16))) == jnp.uint16
    assert tap_dtype(pool_window((300, 300), (256, 256))) == jnp.uint32
