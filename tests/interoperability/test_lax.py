"""conv_general_dilated against lax's over random arguments, and conv_transpose against lax's and Flax's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support import assert_close, normal, small_integers

import jaxconv
from jaxconv import conv_general_dilated, conv_transpose


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Random arguments of lax.conv_general_dilated, most of which it accepts."""

    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    options: dict

    def __str__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"conv_general_dilated(jnp.zeros({self.lhs}), jnp.zeros({self.rhs}), {options})"


def random_arguments(rng) -> Arguments:
    ndim = int(rng.integers(0, 4))
    groups, parts = int(rng.choice([1, 1, 2, 3])), 1
    if rng.random() < 0.3:
        groups, parts = 1, groups
    per_group = int(rng.integers(1, 4))
    outputs = groups * parts * int(rng.integers(1, 3))
    batch = parts * int(rng.integers(1, 3))
    sizes, kernel = (list(map(int, rng.integers(1, most, ndim))) for most in (7, 4))
    strides, a, d = (list(map(int, rng.integers(1, most, ndim))) for most in (4, 4, 3))
    if rng.random() < 0.5:
        a = [1] * ndim
    elif rng.random() < 0.5:
        strides = [1] * ndim
    padding = [(int(low), int(high)) for low, high in rng.integers(-2, 4, (ndim, 2))]
    if rng.random() < 0.2:
        padding = str(rng.choice(["SAME", "VALID", "SAME_LOWER"]))
    if rng.random() < 0.15 and ndim:
        sizes[int(rng.integers(ndim))] = 0
    if rng.random() < 0.05:
        batch = 0
    if rng.random() < 0.05:
        per_group += 1  # for nothing, or a mistake where there are groups
    axes = [tuple(map(int, rng.permutation(ndim + 2))) for _ in range(3)]

    def shape(sizes, spec):
        result = [0] * len(sizes)
        for size, axis in zip(sizes, spec, strict=True):
            result[axis] = size
        return tuple(result)

    return Arguments(
        shape((batch, per_group * groups + int(rng.random() < 0.03), *sizes), axes[0]),
        shape((outputs, per_group, *kernel), axes[1]),
        {
            "window_strides": strides,
            "padding": padding,
            "lhs_dilation": a,
            "rhs_dilation": d,
            "dimension_numbers": lax.ConvDimensionNumbers(*axes),
            "feature_group_count": groups,
            "batch_group_count": parts,
        },
    )


def explicitly_padded(x, w, arguments: Arguments):
    """lax's own with its padding made first: the gradient of lax's ends the process for some negative paddings."""
    options = dict(arguments.options)
    if not isinstance(options["padding"], str):
        config = [(0, 0, 0)] * x.ndim
        spec = options["dimension_numbers"].lhs_spec
        for axis, (low, high), a in zip(spec[2:], options["padding"], options["lhs_dilation"], strict=True):
            config[axis] = (low, high, a - 1)
        x = lax.pad(x, jnp.zeros((), x.dtype), config)
        ones = [1] * len(options["padding"])
        options |= {"padding": [(0, 0)] * len(ones), "lhs_dilation": ones}
    return lax.conv_general_dilated(x, w, **options)


def outcome(function):
    """What a call gives: its value, or the type of what it raises."""
    try:
        return function()
    except Exception as error:
        return type(error)


@pytest.mark.usefixtures("quick_compilation")
def test_conv_general_dilated_is_laxs(random_sets):
    """Values, gradients, and what is refused, over random arguments."""
    rng = np.random.default_rng(random_sets.seed)
    differentiated = refused = empty = 0
    for number in range(random_sets.count):
        arguments = random_arguments(rng)
        # Shown where the test fails, and with -s also where XLA ends the process.
        print(arguments, flush=True)
        x, w = small_integers(number, arguments.lhs, arguments.rhs, dtype=np.float64)
        theirs = outcome(lambda x=x, w=w, a=arguments: lax.conv_general_dilated(x, w, **a.options))
        ours = outcome(lambda x=x, w=w, a=arguments: conv_general_dilated(x, w, **a.options))
        if isinstance(theirs, type):
            assert ours is theirs, str(arguments)
            refused += 1
            continue
        assert not isinstance(ours, type), f"{ours} from {arguments}"
        assert ours.dtype == theirs.dtype
        assert jnp.array_equal(ours, theirs), str(arguments)  # integers: exactly
        y, vjp = jax.vjp(lambda x, w, a=arguments: conv_general_dilated(x, w, **a.options), x, w)
        (dy,) = small_integers(number + 1, y.shape, dtype=np.float64)
        dx, dw = vjp(dy)
        if 0 in x.shape or 0 in y.shape:
            assert not dx.any()
            assert not dw.any()
            empty += 1
            continue
        exact = jax.vjp(lambda x, w, a=arguments: explicitly_padded(x, w, a), x, w)[1](dy)
        assert jnp.array_equal(dx, exact[0]), str(arguments)
        assert jnp.array_equal(dw, exact[1]), str(arguments)
        differentiated += 1
    print(f"{random_sets}: {differentiated} differentiated, {empty} empty, {refused} refused by both")
    assert differentiated > random_sets.count // 2


@pytest.mark.parametrize("padding", [[1, 1], 1, None, [(1, 1), 2], [[1, 1], 2], np.array([1, 1]), [(1,), (1, 1)]])
def test_a_padding_that_lax_refuses(padding):
    x, w = jnp.ones((1, 1, 5, 5)), jnp.ones((1, 1, 3, 3))
    theirs = outcome(lambda: lax.conv_general_dilated(x, w, (1, 1), padding))
    assert theirs is ValueError
    assert outcome(lambda: conv_general_dilated(x, w, (1, 1), padding)) is theirs


def test_negative_padding_that_ends_the_process_in_laxs_gradient():
    x, w = small_integers(0, (2, 3, 5, 4), (4, 3, 1, 2), dtype=np.float64)
    options = {"window_strides": (1, 1), "padding": ((-1, -1), (1, -2)), "lhs_dilation": (2, 1)}
    dx, dw = jax.grad(lambda x, w: conv_general_dilated(x, w, **options).sum(), (0, 1))(x, w)
    y = lambda x, w: lax.conv_general_dilated(  # noqa: E731
        lax.pad(x, 0.0, [(0, 0, 0), (0, 0, 0), (-1, -1, 1), (1, -2, 0)]), w, (1, 1), "VALID"
    )
    exact = jax.grad(lambda x, w: y(x, w).sum(), (0, 1))(x, w)
    assert jnp.array_equal(dx, exact[0])
    assert jnp.array_equal(dw, exact[1])


@pytest.mark.parametrize("s", [1, 2])
def test_a_dilated_input_that_ends_the_process_in_lax(s):
    x, w = small_integers(0, (2, 4, 2, 3), (2, 4, 3, 2), dtype=np.float64)
    names = ("NHWC", "HWIO", "NHWC")
    options = {"window_strides": (1, s), "dimension_numbers": names, "lhs_dilation": (2, 1)}
    y = jax.jit(lambda x, w: conv_general_dilated(x, w, padding=((0, 0), (2, 2)), **options))(x, w)
    # A program of its own for the zeros in between.
    dilated = lax.pad(x, 0.0, [(0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0)])
    expected = lax.conv_general_dilated(dilated, w, (1, s), ((0, 0), (2, 2)), dimension_numbers=names)
    assert jnp.array_equal(y, expected)


@pytest.mark.parametrize("dtype", ["int32", "complex64"])
def test_what_is_not_ours_goes_to_lax(dtype):
    x, w = (a.astype(dtype) for a in small_integers(0, (1, 2, 5), (3, 2, 2)))
    assert jnp.array_equal(conv_general_dilated(x, w, (1,), "SAME"), lax.conv_general_dilated(x, w, (1,), "SAME"))


def test_preferred_element_type_and_mistakes_are_laxs():
    x, w = small_integers(0, (1, 2, 5), (3, 2, 2), dtype="bfloat16")
    y = conv_general_dilated(x, w, (1,), "VALID", preferred_element_type=jnp.float32)
    assert y.dtype == jnp.float32
    assert jnp.array_equal(y, lax.conv_general_dilated(x, w, (1,), "VALID", preferred_element_type=jnp.float32))
    for mistake in (
        {"window_strides": (1, 1)},
        {"padding": "FOO"},
        {"feature_group_count": 2},
        {"batch_group_count": 0},
    ):
        options = {"window_strides": (1,), "padding": "VALID", **mistake}
        theirs = outcome(lambda options=options: lax.conv_general_dilated(x, w, **options))
        assert isinstance(theirs, type)
        assert outcome(lambda options=options: conv_general_dilated(x, w, **options)) is theirs


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_conv_transpose_is_laxs(padding):
    for r, s, d in ((1, 1, 1), (1, 2, 1), (2, 3, 1), (3, 2, 1), (4, 2, 2), (5, 3, 1), (2, 2, 2)):
        x, w = small_integers(r, (2, 4, 3), (r, 4, 3), dtype=np.float64)
        more = max(0, s - d * (r - 1) - 1) if padding == "VALID" else 0
        ours = conv_transpose(x, w, strides=s, padding=padding, dilation=d, output_padding=more)
        theirs = lax.conv_transpose(x, w, (s,), padding, rhs_dilation=(d,), transpose_kernel=True)
        assert jnp.array_equal(ours, theirs)
        flipped = jnp.flip(w, 0).swapaxes(1, 2)
        assert jnp.array_equal(ours, lax.conv_transpose(x, flipped, (s,), padding, rhs_dilation=(d,)))


def test_conv_transpose_as_conv_general_dilated():
    x, w = small_integers(0, (2, 5, 3), (4, 2, 3), dtype=np.float64)
    for s, d, (low, high), more in ((1, 1, (1, 2), 0), (2, 2, (3, 0), 1), (3, 1, (0, 0), 2)):
        e = d * 3
        ours = conv_transpose(x, w, strides=s, padding=((low, high),), output_padding=more, dilation=d)
        theirs = conv_general_dilated(
            x,
            jnp.flip(w, 0).swapaxes(1, 2),
            (1,),
            [(e - low, e - high + more)],
            lhs_dilation=(s,),
            rhs_dilation=(d,),
            dimension_numbers=("NHC", "HIO", "NHC"),
        )
        assert jnp.array_equal(ours, theirs)


def test_conv_transpose_is_flaxs():
    nn = pytest.importorskip("flax.linen")
    x, w = normal(0, (2, 5, 4, 3), (3, 4, 6, 3), dtype=np.float32)
    for padding, s in (("SAME", 2), ("VALID", 3), ("SAME", 1)):
        layer = nn.ConvTranspose(6, (3, 4), (s, s), padding, transpose_kernel=True, use_bias=False)
        theirs = layer.apply({"params": {"kernel": w}}, x)
        assert_close(conv_transpose(x, w, strides=s, padding=padding), theirs, length=36)


def test_padding_kinds_are_flaxs():
    nn = pytest.importorskip("flax.linen")
    x, w = normal(0, (2, 7, 8, 3), (3, 4, 3, 6), dtype=np.float32)
    for padding, s in (("SAME", 2), ("CIRCULAR", 1), ("CIRCULAR", 2), ("REFLECT", 2)):
        theirs = nn.Conv(6, (3, 4), (s, s), padding, use_bias=False).apply({"params": {"kernel": w}}, x)
        assert_close(jaxconv.conv(x, w, strides=s, padding=padding), theirs, length=36)


def test_flax_nnx_takes_our_convolution():
    nnx = pytest.importorskip("flax.nnx")
    (x,) = normal(0, (2, 7, 8, 3), dtype=np.float32)
    layers = [
        nnx.Conv(3, 6, (3, 4), strides=2, padding=padding, rngs=nnx.Rngs(0), **options)
        for padding in ("SAME", "CIRCULAR")
        for options in ({}, {"conv_general_dilated": conv_general_dilated})
    ]
    for theirs, ours in zip(layers[::2], layers[1::2], strict=True):
        values = [nnx.value_and_grad(lambda layer: (layer(x) ** 2).sum())(layer) for layer in (theirs, ours)]
        (y, dtheirs), (ours_y, dours) = values
        assert_close(ours_y, y, length=36 * 24)
        for a, b in zip(jax.tree.leaves(dours), jax.tree.leaves(dtheirs), strict=True):
            assert_close(a, b, length=36 * 24)
