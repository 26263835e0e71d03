"""conv, conv_input_grad, conv_kernel_grad: layouts, platforms, dtypes, errors; derivatives are in tests/verification."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support import (
    assert_close,
    normal,
    small_integers,
)

from jaxconv import conv, conv_general_dilated, conv_input_grad, conv_kernel_grad, conv_transpose
from jaxconv.geometry import conv_window


def test_every_batch_shape_is_the_same_convolution():
    x, w, b = small_integers(0, (2, 3, 6, 5, 4), (3, 2, 2, 6), (6,))
    options = {"strides": (1, 2), "padding": "SAME", "groups": 2}
    many = conv(x, w, b, **options)
    one = conv(x.reshape(6, 6, 5, 4), w, b, **options)
    assert jnp.array_equal(many, one.reshape(many.shape))
    assert jnp.array_equal(conv(x[1, 2], w, b, **options), many[1, 2])


def test_flipped_kernel_is_the_true_convolution():
    x, w = normal(0, (9,), (4,))
    y = conv(x[:, None], w[:, None, None], padding=3, flip_kernel=True)
    assert_close(y[:, 0], jnp.convolve(x, w), length=4)


TRANSPOSED = [
    {"strides": 2, "output_padding": 1},
    {"strides": (3, 2), "padding": ((1, 0), (2, 1)), "output_padding": (2, 0), "dilation": (1, 2)},
    {"strides": 2, "padding": "SAME", "output_padding": (0, -1)},
    {"padding": "FULL", "groups": 2, "flip_kernel": True},
    {"strides": 2, "padding": ("CAUSAL", "SAME_LOWER"), "data_format": "channels_first"},
    {"padding": ("CIRCULAR", "REFLECT"), "strides": (2, 1)},
    {"padding": ((-1, 0), (0, -2)), "groups": 2},
]


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_conv_transpose_is_the_adjoint_of_conv(options):
    """<conv(a, w), x> = <a, conv_transpose(x, w)>, exactly on integers."""
    first = options.get("data_format") == "channels_first"
    forward = {name: value for name, value in options.items() if name != "output_padding"}
    groups = options.get("groups", 1)
    w, x = small_integers(0, (3, 2, 4 // groups, 6), (2, 6, 5, 4) if first else (2, 5, 4, 6))
    y = conv_transpose(x, w, **options)
    (a,) = small_integers(1, y.shape)
    there = conv(a, w, **forward)
    assert there.shape == x.shape
    assert jnp.vdot(there, x) == jnp.vdot(a, y)
    b = jnp.arange(4.0, dtype=x.dtype)
    plus_b = jnp.moveaxis(conv_transpose(x, w, b, **options) - y, 1 if first else -1, -1)
    assert jnp.array_equal(plus_b, jnp.broadcast_to(b, plus_b.shape))


def taken_to(n, s, padding):
    """The output size of a convolution of n positions with three taps, 0 where they do not fit."""
    try:
        return conv_window((n,), (3,), strides=s, padding=padding).output_size[0]
    except ValueError:
        return 0


@pytest.mark.parametrize("s", [1, 2, 3])
def test_conv_transpose_has_the_sizes_that_conv_takes_to_x(s):
    for padding in ("VALID", 1, "FULL", "CAUSAL", "SAME", "SAME_LOWER", "CIRCULAR"):
        sizes = [n for n in range(1, 20) if taken_to(n, s, padding) == 4]
        rounded_up = padding in ("SAME", "SAME_LOWER", "CIRCULAR")
        x, w = jnp.ones((1, 4, 1)), jnp.ones((3, 1, 1))
        found = [
            conv_transpose(x, w, strides=s, padding=padding, output_padding=more).shape[1]
            for more in (range(1 - s, 1) if rounded_up else range(s))
        ]
        assert found == sizes


def test_depthwise_keeps_channels_apart():
    x, w = small_integers(0, (2, 8, 8, 3), (3, 3, 1, 6))
    y = conv(x, w, groups=3)
    for c in range(3):
        alone = conv(x[..., c : c + 1], w[..., 2 * c : 2 * c + 2])
        assert jnp.array_equal(y[..., 2 * c : 2 * c + 2], alone)


# Programs whose convolutions have an axis of R taps and stride R − 1, and another of more taps than pixels, and read zeros
# from beside them; compiled as one, XLA:CPU would end the process.
MERGED = {
    "gradient of a strided convolution": lambda x, w, one: conv(conv(x, w, padding=(1, 2)), one, strides=(2, 1)),
    "gradient of a slice": lambda x, w, one: conv(x, w, padding=(1, 2))[:, ::2],
    "transposed convolution": lambda x, w, one: conv(conv_transpose(x, one, strides=(2, 1)), w, padding=(0, 2)),
    "of stride 2": lambda x, w, one: conv(
        conv_transpose(x, one, strides=(3, 1)), jnp.pad(w, ((0, 1), *[(0, 0)] * 3)), strides=(2, 1), padding=(0, 2)
    ),
    "gradient of a slice, transposed": lambda x, w, one: conv_transpose(
        x, jnp.pad(w, ((0, 1), *[(0, 0)] * 3)), strides=(2, 1), padding=(0, 1)
    )[:, ::3],
    "input and window with strides": lambda x, w, one: conv_general_dilated(
        x.transpose(0, 3, 1, 2), jnp.ones((2, 2, 3, 4), x.dtype), (2, 1), ((0, 0), (2, 2)), lhs_dilation=(3, 1)
    ),
    "padding that is cropped": lambda x, w, one: conv(x[:, :4], w[:, :2], strides=(2, 3), padding=((1, 1), (2, 0))),
}


STRIDED = ("of stride 2", "gradient of a slice, transposed", "input and window with strides", "padding that is cropped")


# Second derivatives of some strided convolutions are lax's own, and end the process.
@pytest.mark.parametrize(
    ("name", "order"), [(name, order) for name in MERGED for order in (1, 2) if name not in STRIDED or order == 1]
)
def test_zeros_beside_a_convolution_are_not_merged_into_it(name, order):
    def derivatives(*arrays):
        loss = lambda arrays: jnp.sum(jnp.square(MERGED[name](*arrays)))  # noqa: E731
        if order == 1:
            return jax.grad(loss)(arrays)
        return jax.grad(lambda arrays: sum(jnp.sum(a) for a in jax.grad(loss)(arrays)))(arrays)

    arrays = small_integers(0, (2, 6, 1, 2), (2, 4, 2, 2), (1, 1, 2, 2))
    with jax.disable_jit():
        expected = derivatives(*arrays)
    for a, b in zip(jax.jit(derivatives)(*arrays), expected, strict=True):
        assert jnp.array_equal(a, b)


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_lowers_for_every_platform(platform):
    x, w = (jnp.ones(shape, jnp.float32) for shape in ((2, 8, 8, 4), (3, 3, 2, 4)))
    grads = jax.jit(jax.grad(lambda x, w: conv(x, w, groups=2).sum(), (0, 1)))
    text = grads.trace(x, w).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 2  # both gradients are lax convolutions there; the forward is dead


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_dtypes_are_kept_and_sums_made_in_float32(dtype):
    # 2048 + 1 + 1 + ...: in float16 or bfloat16 every addition of 1 to 2048 is lost.
    x = jnp.ones((1, 3, 4096), dtype).at[0, :, 0].set(2048)
    w = jnp.ones((1, 4096, 1), dtype)
    y = conv(x, w)
    assert y.dtype == dtype
    assert y[0, 0, 0] == jnp.asarray(2048 + 4095, dtype)
    dx, dw = jax.grad(lambda x, w: conv(x, w).sum(), (0, 1))(x, w)
    assert dx.dtype == dw.dtype == dtype
    dy = jnp.ones((1, 6000, 1), dtype).at[0, 0, 0].set(2048)
    assert conv_kernel_grad(jnp.ones((1, 6000, 1), dtype), dy, 1)[0, 0, 0] == jnp.asarray(2048 + 5999, dtype)
    assert conv_input_grad(x, w.reshape(1, 1, 4096), 3)[0, 0, 0] == jnp.asarray(2048 + 4095, dtype)
    db = jax.grad(lambda b: jnp.vdot(conv(dy, jnp.ones((1, 1, 1), dtype), b), dy))(jnp.zeros(1, dtype))
    assert db[0] == jnp.asarray(2048 + 5999, dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_preferred_element_type_keeps_the_sum_and_has_gradients(dtype):
    x, w, b = small_integers(0, (2, 5, 5, 64), (3, 3, 64, 2), (2,), dtype=dtype)
    y = conv(x, w, b, preferred_element_type="float32")
    assert y.dtype == jnp.float32
    assert jnp.array_equal(y, conv(*(a.astype("float32") for a in (x, w, b))))
    grads = jax.grad(lambda *a: conv(*a, preferred_element_type="float32").sum(), (0, 1, 2))(x, w, b)
    assert [g.dtype for g in grads] == [dtype] * 3
    plain = jax.grad(lambda *a: conv(*a).sum(), (0, 1, 2))(*(a.astype("float32") for a in (x, w, b)))
    for ours, exact in zip(grads, plain, strict=True):
        assert jnp.array_equal(ours, exact.astype(dtype))
    second = jax.grad(lambda x: jax.grad(lambda x: (conv(x, w, preferred_element_type="float32") ** 2).sum())(x).sum())
    assert second(x).dtype == dtype


def test_empty_batch_gives_zeros_and_zero_gradients():
    x, w, b = jnp.zeros((0, 6, 6, 2)), jnp.ones((3, 3, 2, 4)), jnp.ones(4)
    assert conv(x, w, b).shape == (0, 4, 4, 4)
    dx, dw, db = jax.grad(lambda x, w, b: conv(x, w, b).sum(), (0, 1, 2))(x, w, b)
    assert dx.shape == x.shape
    assert not dw.any()
    assert not db.any()
    assert dw.shape == w.shape
    assert db.shape == b.shape
    assert conv_input_grad(jnp.zeros((0, 4, 4, 4)), w, 6).shape == (0, 6, 6, 2)
    assert not conv_kernel_grad(x, jnp.zeros((0, 4, 4, 4)), (3, 3)).any()


@pytest.mark.parametrize(("x", "w"), [((2, 0, 3), (3, 3, 4)), ((2, 5, 0), (3, 0, 4)), ((2, 5, 3), (3, 3, 0))])
def test_other_empty_axes_give_zeros(x, w):
    x, w, b = jnp.zeros(x), jnp.ones(w), jnp.ones(w[-1])
    y = conv(x, w, b, padding=2)
    assert jnp.array_equal(y, jnp.ones_like(y))  # nothing but the bias
    dx, dw = jax.grad(lambda x, w: conv(x, w, padding=2).sum(), (0, 1))(x, w)
    assert dx.shape == x.shape
    assert dw.shape == w.shape
    assert not dw.any()


def test_one_dispatch_when_called_eagerly():
    x, w = jnp.ones((1, 6, 6, 2)), jnp.ones((3, 3, 2, 4))
    jaxpr = jax.make_jaxpr(lambda x, w: conv(x, w, padding="SAME", strides=2))(x, w)
    assert [equation.primitive.name for equation in jaxpr.eqns] in (["jit"], ["pjit"])


def test_saves_only_x_and_w():
    x, w, b = normal(0, (2, 6, 6, 2), (3, 3, 2, 4), (4,))
    _, vjp = jax.vjp(lambda x, w, b: conv(x, w, b, strides=2, data_format="channels_last"), x, w, b)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(vjp)) == sorted(a.shape for a in (x, w))


def test_plain_jvp_is_refused_by_jax():
    x, w = jnp.ones((1, 5, 1)), jnp.ones((3, 1, 1))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: conv(x, w), (x,), (x,))


def test_numpy_arguments_and_precisions():
    x, w = np.ones((1, 5, 1), np.float32), np.ones((3, 1, 1), np.float32)
    for precision in ("highest", lax.Precision.DEFAULT, (lax.Precision.HIGH, lax.Precision.HIGH)):
        assert conv(x, w, precision=precision).dtype == jnp.float32


X, W, DY = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((2, 8, 8, 4), (3, 3, 4, 6), (2, 6, 6, 6)))


def like(array, shape=None, dtype=None):
    return jax.ShapeDtypeStruct(shape or array.shape, dtype or array.dtype)


ERRORS = {
    "output_padding as large as the stride": (
        lambda: (lambda x: conv_transpose(x, jnp.ones((3, 3, 2, 4), X.dtype), strides=2, output_padding=2), (X,)), ValueError,
        r"output_padding: got 2 on spatial axis 0, expected 0 to 1 for padding 'VALID' and stride 2",
    ),
    "output_padding with SAME": (
        lambda: (lambda x: conv_transpose(x, jnp.ones((3, 3, 2, 4), X.dtype), padding="SAME", output_padding=1), (X,)), ValueError,
        r"output_padding: got 1 on spatial axis 0, expected 0 to 0 for padding 'SAME' and stride 1",
    ),
    "nothing left of the transposed convolution": (
        lambda: (lambda x: conv_transpose(x, jnp.ones((3, 3, 2, 4), X.dtype), padding=9), (X,)), ValueError,
        r"padding: got 9 on spatial axis 0, which leaves an output of size -",
    ),
    "transposed channel mismatch": (
        lambda: (conv_transpose, (X, jnp.ones((3, 3, 4, 2), X.dtype))), ValueError,
        r"w: got shape \(3, 3, 4, 2\), expected \(\*kernel, C/groups, 4\)",
    ),
    "channel mismatch": (
        lambda: (conv, (X, like(W, (3, 3, 5, 6)))), ValueError,
        r"w: got shape \(3, 3, 5, 6\) with 5 input channels per group, expected .*= 4/1 = 4: x has 4 channels; change w's axis -2 to 4",
    ),
    "a kernel as PyTorch has it": (
        lambda: (conv, (X, like(W, (6, 4, 3, 3)))), ValueError, r"; give jnp.moveaxis\(w, \(1, 0\), \(-2, -1\)\) if w is \(K, C/groups, \*kernel\), as PyTorch's",
    ),
    "channels first unsaid": (lambda: (conv, (like(X, (2, 4, 8, 8)), W)), ValueError, r"; give data_format='channels_first' if x is \(\*batch, C, \*spatial\)(?! and)"),
    "channels last denied": (
        lambda: (lambda x, w: conv(x, w, data_format="channels_first"), (X, W)), ValueError, r"; give data_format='channels_last' if x is \(\*batch, \*spatial, C\)(?! and)",
    ),
    "x and a kernel as PyTorch has them": (
        lambda: (conv, (like(X, (2, 4, 8, 8)), like(W, (6, 4, 3, 3)))), ValueError,
        r"; give data_format='channels_first' if x is \(\*batch, C, \*spatial\) and jnp.moveaxis\(w, .* if w is \(K, C/groups, \*kernel\)",
    ),
    "a grouped kernel as PyTorch has it": (
        lambda: (lambda x, w: conv(x, w, groups=4), (X, like(W, (8, 1, 3, 3)))), ValueError,
        r"groups: got 4, which does not divide the 3 output channels; .*; give jnp.moveaxis",
    ),
    "other channels, not another layout": (lambda: (conv, (like(X, (2, 8, 8, 3)), like(W, (3, 3, 4, 6)))), ValueError, r"x has 3 channels; change w's axis -2 to 3(?!, or|; give)"),
    "groups that would not divide K": (lambda: (conv, (like(X, (2, 8, 8, 4)), like(W, (3, 3, 1, 6)))), ValueError, r"x has 4 channels; change w's axis -2 to 4(?!, or|; give)"),
    "transposed channels exchanged": (
        lambda: (conv_transpose, (X, W)), ValueError, r"w: got shape \(3, 3, 4, 6\), expected .*; if w is \(\*kernel, in, out\), .* give jnp.swapaxes\(w, -1, -2\) and flip_kernel=True",
    ),
    "flip_kernel of the wrong type": (lambda: (lambda x, w: conv(x, w, flip_kernel="no"), (X, W)), TypeError, r"flip_kernel: got 'no', expected True or False"),
    "channel mismatch with groups": (
        lambda: (lambda x, w: conv(x, w, groups=2), (X, W)), ValueError,
        r"w: got shape \(3, 3, 4, 6\) with 4 input channels per group, expected .*= 4/2 = 2.*or groups to 1",
    ),
    "groups that do not divide C": (
        lambda: (lambda x, w: conv(x, w, groups=3), (X, like(W, (3, 3, 1, 6)))), ValueError,
        r"groups: got 3, which does not divide the 4 input channels; expected a divisor of 4 \(input\) and of 6 \(output\)",
    ),
    "groups that do not divide K": (
        lambda: (lambda x, w: conv(x, w, groups=4), (X, like(W, (3, 3, 1, 6)))), ValueError,
        r"groups: got 4, which does not divide the 6 output channels",
    ),
    "groups below 1": (lambda: (lambda x, w: conv(x, w, groups=0), (X, W)), ValueError, r"groups: got 0, expected an int, at least 1"),
    "groups of the wrong type": (lambda: (lambda x, w: conv(x, w, groups=1.0), (X, W)), TypeError, r"groups: got 1.0, expected an int"),
    "kernel larger than the padded input": (
        lambda: (conv, (like(X, (2, 2, 8, 4)), W)), ValueError,
        r"w: got 3 taps with dilation 1 on spatial axis 0, which span 3 positions, but the padded input has 2 .*use a smaller",
    ),
    "strides below 1": (lambda: (lambda x, w: conv(x, w, strides=0), (X, W)), ValueError, r"strides: got 0, expected an int, or 2 ints"),
    "dilation below 1": (lambda: (lambda x, w: conv(x, w, dilation=(1, 0)), (X, W)), ValueError, r"dilation: got \(1, 0\), expected an int, or 2"),
    "wrong padding string": (lambda: (lambda x, w: conv(x, w, padding="same_"), (X, W)), ValueError, r"padding: got 'same_', expected one of 'VALID'"),
    "wrong number of pairs": (
        lambda: (lambda x, w: conv(x, w, padding=[(1, 1)] * 3), (X, W)), ValueError, r"padding: got .*which has 3 entries, expected one entry per spatial axis \(2\)",
    ),
    "too few axes in x": (lambda: (conv, (like(X, (8, 4)), W)), ValueError, r"x: got shape \(8, 4\) with 2 axes, expected \(\*batch, \*spatial, C\): at least 3 axes"),
    "too few axes in w": (lambda: (conv, (X, like(W, (4, 6)))), ValueError, r"w: got shape \(4, 6\) with 2 axes, expected .*use dense"),
    "integer input": (lambda: (conv, (like(X, dtype="int32"), W)), TypeError, r"x: got dtype int32, expected one of float64, float32, bfloat16, float16: convert with .astype"),
    "boolean kernel": (lambda: (conv, (X, like(W, dtype="bool"))), TypeError, r"w: got dtype bool, expected one of"),
    "complex input": (lambda: (conv, (like(X, dtype="complex64"), W)), TypeError, r"x: got dtype complex64, expected one of"),
    "mixed dtypes": (lambda: (conv, (X, like(W, dtype="bfloat16"))), TypeError, r"x, w: got mixed dtypes \(x is float32, w is bfloat16\), expected one dtype"),
    "bias of another dtype": (lambda: (conv, (X, W, jax.ShapeDtypeStruct((6,), "float16"))), TypeError, r"x, w, b: got mixed dtypes"),
    "bias for a kernel as PyTorch has it": (
        lambda: (conv, (like(X, (2, 8, 8, 3)), like(W, (6, 3, 3, 3)), jax.ShapeDtypeStruct((6,), "float32"))), ValueError, r"b: got shape \(6,\), expected \(3,\), .*; give jnp.moveaxis",
    ),
    "bias of another shape": (lambda: (conv, (X, W, jax.ShapeDtypeStruct((4,), "float32"))), ValueError, r"b: got shape \(4,\), expected \(6,\), one per output channel"),
    "unknown data_format": (lambda: (lambda x, w: conv(x, w, data_format="NHWC"), (X, W)), ValueError, r"data_format: got 'NHWC', expected one of 'channels_last', 'channels_first'"),
    "narrower preferred_element_type": (
        lambda: (lambda x, w: conv(x, w, preferred_element_type="float16"), (X, W)), TypeError, r"preferred_element_type: got float16 for float32 arguments, expected a wider",
    ),
    "integer preferred_element_type": (lambda: (lambda x, w: conv(x, w, preferred_element_type="int32"), (X, W)), TypeError, r"preferred_element_type: got int32, expected one of"),
    "dy of another size": (
        lambda: (lambda dy, w: conv_input_grad(dy, w, 9), (DY, W)), ValueError,
        r"dy: got shape \(2, 6, 6, 6\), expected \(2, 7, 7, 6\): the output of the convolution of an input of spatial size \(9, 9\)",
    ),
    "dy of other channels": (lambda: (lambda dy, w: conv_input_grad(dy, w, 8), (like(DY, (2, 6, 6, 5)), W)), ValueError, r"dy: got shape \(2, 6, 6, 5\), expected \(2, 6, 6, 6\)"),
    "wrong input_size": (lambda: (lambda dy, w: conv_input_grad(dy, w, (8,)), (DY, W)), ValueError, r"input_size: got \(8,\), which has 1 entries"),
    "kernel gradient of another size": (lambda: (lambda x, dy: conv_kernel_grad(x, dy, (2, 3)), (X, DY)), ValueError, r"dy: got shape \(2, 6, 6, 6\), expected \(2, 7, 6, 6\)"),
    "kernel gradient of another batch": (
        lambda: (lambda x, dy: conv_kernel_grad(x, dy, (3, 3)), (X, like(DY, (3, 6, 6, 6)))), ValueError, r"dy: got batch axes \(3,\) .*expected \(2,\), those of x",
    ),
    "kernel gradient with groups that do not divide": (lambda: (lambda x, dy: conv_kernel_grad(x, dy, 3, groups=4), (X, DY)), ValueError, r"groups: got 4, which does not divide the 6 output"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_while_tracing(name):
    make, error, message = ERRORS[name]
    function, args = make()
    with pytest.raises(error, match=message):
        jax.eval_shape(function, *args)


def test_laxs_transposed_kernel_given_as_the_message_says():
    x, w = small_integers(0, (2, 4, 4, 4), (3, 3, 4, 6))
    y = conv_transpose(x, jnp.swapaxes(w, -1, -2), strides=2, padding="SAME", flip_kernel=True)
    assert jnp.array_equal(y, lax.conv_transpose(x, w, (2, 2), "SAME"))


def test_pytorchs_kernel_given_as_the_message_says():
    w = jnp.arange(6 * 4 * 3 * 2.0).reshape(6, 4, 3, 2)
    assert jnp.array_equal(jnp.moveaxis(w, (1, 0), (-2, -1)), w.transpose(2, 3, 1, 0))


def test_options_as_arrays_and_lists():
    x, w = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 6))
    y = conv(x, w, strides=np.array([2, 1]), padding=np.array([[1, 1], [0, 2]]), precision=["highest", "highest"])
    assert y.shape == (2, 4, 8, 6)
    assert jnp.array_equal(y, conv(x, w, strides=(2, 1), padding=[(1, 1), (0, 2)]))


def test_none_is_not_an_array():
    with pytest.raises(TypeError, match=r"w: got a NoneType, expected an array"):
        conv(jnp.ones((1, 3, 1)), None)


def test_a_list_is_not_an_array():
    with pytest.raises(TypeError, match=r"x: got a list, expected an array: convert with jnp.asarray"):
        conv([[1.0]], jnp.ones((1, 1, 1)))
