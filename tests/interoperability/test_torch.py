"""Values and gradients against PyTorch in float64, over random geometries; skipped where torch is not installed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv

torch = pytest.importorskip("torch")
F = torch.nn.functional

TOLERANCE = 1e-10
FIRST = {"data_format": "channels_first"}


def compare(ours, theirs, arrays, rng) -> None:
    """y, and the gradient of every array, for a random cotangent."""
    y, vjp = jax.vjp(ours, *map(jnp.asarray, arrays))
    tensors = [torch.tensor(np.asarray(a), requires_grad=True) for a in arrays]
    expected = theirs(*tensors)
    dy = rng.standard_normal(y.shape)
    grads = torch.autograd.grad(expected, tensors, torch.tensor(dy), allow_unused=True)
    for name, a, e in (
        ("y", y, expected),
        *(("gradient", a, e) for a, e in zip(vjp(jnp.asarray(dy)), grads, strict=True)),
    ):
        e = np.zeros(a.shape) if e is None else e.detach().numpy()
        assert a.shape == e.shape
        np.testing.assert_allclose(
            a, e, rtol=TOLERANCE, atol=TOLERANCE * max(1.0, np.abs(e).max(initial=0)), err_msg=name
        )


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def ints(rng, low, high, size):
    return tuple(map(int, rng.integers(low, high + 1, size)))


def windows(rng):
    """Random spatial sizes and a window of at most their size, with torch's options."""
    ndim = int(rng.integers(1, 4))
    kernel = ints(rng, 1, 3, ndim)
    dilation = ints(rng, 1, 2, ndim)
    extent = [d * (r - 1) + 1 for d, r in zip(dilation, kernel, strict=True)]
    sizes = tuple(e + int(rng.integers(0, 5 - ndim)) for e in extent)
    strides = ints(rng, 1, 3, ndim)
    padding = tuple(int(rng.integers(0, r // 2 + 1)) for r in kernel)  # as much as torch's pooling takes
    return ndim, sizes, kernel, strides, padding, dilation


def pairs(padding):
    return tuple((p, p) for p in padding)


def to_torch(w):
    """(*kernel, C, K) as (K, C, *kernel)."""
    return w.permute(w.ndim - 1, w.ndim - 2, *range(w.ndim - 2))


def convolution(rng):
    ndim, sizes, kernel, strides, padding, dilation = windows(rng)
    groups = pick(rng, (1, 1, 2, 3))
    x = rng.standard_normal((2, groups * 2, *sizes))
    w = rng.standard_normal((*kernel, 2, groups * int(rng.integers(1, 3))))
    b = rng.standard_normal(w.shape[-1])
    options = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    conv = getattr(F, f"conv{ndim}d")
    theirs = lambda x, w, b: conv(x, to_torch(w), b, strides, padding, dilation, groups)  # noqa: E731
    return functools.partial(jaxconv.conv, **options, **FIRST), theirs, (x, w, b)


def padded_convolution(rng):
    ndim, sizes, kernel, strides, _, _ = windows(rng)
    sizes = tuple(n + 2 for n in sizes)
    kind, mode = pick(rng, (("CIRCULAR", "circular"), ("REFLECT", "reflect"), ("REPLICATE", "replicate")))
    x, w = rng.standard_normal((2, 2, *sizes)), rng.standard_normal((*kernel, 2, 3))
    pads = [p for r in reversed(kernel) for p in ((r - 1) // 2, r // 2)]
    conv = getattr(F, f"conv{ndim}d")
    theirs = lambda x, w: conv(F.pad(x, pads, mode), to_torch(w), None, strides)  # noqa: E731
    return functools.partial(jaxconv.conv, strides=strides, padding=kind, **FIRST), theirs, (x, w)


def transposed_convolution(rng):
    ndim, sizes, kernel, strides, padding, dilation = windows(rng)
    groups = pick(rng, (1, 1, 2))
    more = tuple(int(rng.integers(0, max(s, d))) for s, d in zip(strides, dilation, strict=True))
    more = tuple(min(m, s - 1) for m, s in zip(more, strides, strict=True))
    x = rng.standard_normal((2, groups * 2, *sizes))
    w = rng.standard_normal((*kernel, 2, groups * 2))
    b = rng.standard_normal(groups * 2)
    options = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups, "output_padding": more}
    conv = getattr(F, f"conv_transpose{ndim}d")
    theirs = lambda x, w, b: conv(x, to_torch(w), b, strides, padding, more, groups, dilation)  # noqa: E731
    return functools.partial(jaxconv.conv_transpose, **options, **FIRST), theirs, (x, w, b)


def max_pooling(rng):
    ndim, sizes, kernel, strides, padding, dilation = windows(rng)
    ceil = bool(rng.integers(2))
    x = rng.permutation(2 * 2 * int(np.prod(sizes))).reshape(2, 2, *sizes) / 8.0
    pool = getattr(F, f"max_pool{ndim}d")
    options = {"strides": strides, "padding": pairs(padding), "dilation": dilation, "ceil_mode": ceil}
    theirs = lambda x: pool(x, kernel, strides, padding, dilation, ceil)  # noqa: E731
    return functools.partial(jaxconv.max_pool, window=kernel, **options, **FIRST), theirs, (x,)


def average_pooling(rng):
    ndim, sizes, kernel, strides, padding, _ = windows(rng)
    ceil, count = bool(rng.integers(2)), bool(rng.integers(2))
    x = rng.standard_normal((2, 2, *sizes))
    pool = getattr(F, f"avg_pool{ndim}d")
    options = {"strides": strides, "padding": pairs(padding), "ceil_mode": ceil, "count_include_pad": count}
    theirs = lambda x: pool(x, kernel, strides, padding, ceil, count)  # noqa: E731
    return functools.partial(jaxconv.avg_pool, window=kernel, **options, **FIRST), theirs, (x,)


def lp_pooling(rng):
    ndim, sizes, kernel, strides, _, _ = windows(rng)
    x = np.abs(rng.standard_normal((2, 2, *sizes))) + 0.1  # torch takes no |x|
    p = pick(rng, (1, 2, 3.5))
    pool = getattr(F, f"lp_pool{ndim}d")
    size, step = (kernel[0], strides[0]) if ndim == 1 else (kernel, strides)  # torch's 1-D takes no tuples
    theirs = lambda x: pool(x, p, size, step)  # noqa: E731
    return functools.partial(jaxconv.lp_pool, window=kernel, p=p, strides=strides, **FIRST), theirs, (x,)


def adaptive_pooling(rng):
    kind = pick(rng, ("avg", "max"))
    ndim = int(rng.integers(1, 4))
    sizes, outputs = ints(rng, 1, 7 - ndim, ndim), ints(rng, 1, 7 - ndim, ndim)
    x = rng.permutation(4 * int(np.prod(sizes))).reshape(2, 2, *sizes) / 8.0
    pool, op = getattr(F, f"adaptive_{kind}_pool{ndim}d"), getattr(jaxconv, f"adaptive_{kind}_pool")
    return functools.partial(op, output_size=outputs, **FIRST), lambda x: pool(x, outputs), (x,)


def unpooling(rng):
    ndim = int(rng.integers(1, 4))
    kernel = ints(rng, 1, 3, ndim)
    sizes = tuple(r * int(rng.integers(1, 4)) + int(rng.integers(0, r)) for r in kernel)
    x = rng.permutation(4 * int(np.prod(sizes))).reshape(2, 2, *sizes) / 8.0

    def ours(x):
        y, indices = jaxconv.max_pool_with_indices(x, kernel, **FIRST)
        return jaxconv.max_unpool(y * y, indices, sizes, **FIRST)

    def theirs(x):
        y, indices = getattr(F, f"max_pool{ndim}d_with_indices")(x, kernel)
        return getattr(F, f"max_unpool{ndim}d")(y * y, indices, kernel, output_size=sizes)

    return ours, theirs, (x,)


def moving(rng):
    """unfold, fold, the pixel shuffles and pad; torch has the channels of patches and blocks first."""
    kind = pick(rng, ("unfold", "fold", "pixel_shuffle", "pixel_unshuffle", "pad"))
    if kind in ("unfold", "fold"):
        kernel, strides, padding, dilation = (
            ints(rng, 1, 3, 2),
            ints(rng, 1, 3, 2),
            ints(rng, 0, 2, 2),
            ints(rng, 1, 2, 2),
        )
        sizes = tuple(d * (r - 1) + 1 + int(rng.integers(0, 4)) for d, r in zip(dilation, kernel, strict=True))
        options = {"strides": strides, "padding": pairs(padding), "dilation": dilation, **FIRST}
        taps = kernel[0] * kernel[1]
        theirs_options = {"dilation": dilation, "padding": padding, "stride": strides}
        x = rng.standard_normal((2, 3, *sizes))
        if kind == "unfold":

            def ours(x):
                y = jaxconv.conv_patches(x, kernel, **options)
                return y.reshape(2, taps, 3, -1).swapaxes(1, 2).reshape(2, taps * 3, -1)

            return ours, lambda x: F.unfold(x, kernel, **theirs_options), (x,)
        positions = jaxconv.conv_patches(jnp.asarray(x), kernel, **options).shape[2:]

        def ours(y):
            y = y.reshape(2, 3, taps, *positions).swapaxes(1, 2).reshape(2, taps * 3, *positions)
            return jaxconv.fold(y, sizes, kernel, **options)

        y = rng.standard_normal((2, 3 * taps, positions[0] * positions[1]))
        return ours, lambda y: F.fold(y, sizes, kernel, **theirs_options), (y,)
    b = int(rng.integers(1, 4))
    h, w = ints(rng, 1, 3, 2)
    if kind == "pixel_shuffle":

        def ours(x):
            x = x.reshape(2, 3, b * b, h, w).swapaxes(1, 2).reshape(2, b * b * 3, h, w)
            return jaxconv.depth_to_space(x, b, **FIRST)

        return ours, lambda x: F.pixel_shuffle(x, b), (rng.standard_normal((2, 3 * b * b, h, w)),)
    if kind == "pixel_unshuffle":

        def ours(x):
            y = jaxconv.space_to_depth(x, b, **FIRST)
            return y.reshape(2, b * b, 3, h, w).swapaxes(1, 2).reshape(2, b * b * 3, h, w)

        return ours, lambda x: F.pixel_unshuffle(x, b), (rng.standard_normal((2, 3, h * b, w * b)),)
    mode, name = pick(
        rng, (("CIRCULAR", "circular"), ("REFLECT", "reflect"), ("REPLICATE", "replicate"), ("ZERO", "constant"))
    )
    low_high = tuple(ints(rng, 0, 3, 2) for _ in range(2))
    flat = [p for pair in reversed(low_high) for p in pair]
    x = rng.standard_normal((2, 3, *ints(rng, 4, 6, 2)))
    return functools.partial(jaxconv.pad, pads=low_high, mode=mode, **FIRST), lambda x: F.pad(x, flat, name), (x,)


ACTIVATIONS = {
    "relu": (jaxconv.relu, F.relu),
    "relu6": (jaxconv.relu6, F.relu6),
    "leaky_relu": (lambda x: jaxconv.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3)),
    "threshold": (lambda x: jaxconv.threshold(x, 0.2, -1.5), lambda x: F.threshold(x, 0.2, -1.5)),
    "hard_tanh": (jaxconv.hard_tanh, F.hardtanh),
    "hard_sigmoid": (jaxconv.hard_sigmoid, lambda x: torch.clamp(x + 3, 0, 6) / 6),  # F.hardsigmoid has 1/6 in float32
    "hard_silu": (jaxconv.hard_silu, F.hardswish),
    "hard_shrink": (jaxconv.hard_shrink, F.hardshrink),
    "soft_shrink": (jaxconv.soft_shrink, F.softshrink),
    "tanh_shrink": (jaxconv.tanh_shrink, F.tanhshrink),
    "sigmoid": (jaxconv.sigmoid, F.sigmoid),
    "log_sigmoid": (jaxconv.log_sigmoid, F.logsigmoid),
    "softplus": (jaxconv.softplus, lambda x: F.softplus(x, threshold=1000)),  # torch's default is x itself from 20 on
    "tanh": (jaxconv.tanh, F.tanh),
    "soft_sign": (jaxconv.soft_sign, F.softsign),
    "silu": (jaxconv.silu, F.silu),
    "mish": (jaxconv.mish, F.mish),
    "gelu": (lambda x: jaxconv.gelu(x, approximate=False), F.gelu),
    "gelu, tanh": (jaxconv.gelu, lambda x: F.gelu(x, approximate="tanh")),
    "elu": (lambda x: jaxconv.elu(x, 0.7), lambda x: F.elu(x, 0.7)),
    "celu": (lambda x: jaxconv.celu(x, 0.5), lambda x: F.celu(x, 0.5)),  # torch has 1/alpha in float32
    "selu": (jaxconv.selu, F.selu),
    "glu": (jaxconv.glu, F.glu),
    "softmax": (jaxconv.softmax, lambda x: F.softmax(x, -1)),
    "softmin": (jaxconv.softmin, lambda x: F.softmin(x, -1)),
    "log_softmax": (jaxconv.log_softmax, lambda x: F.log_softmax(x, -1)),
    "logsumexp": (jaxconv.logsumexp, lambda x: torch.logsumexp(x, tuple(range(x.ndim)))),
}


def activation(rng):
    shape = (*ints(rng, 1, 4, int(rng.integers(0, 3))), 2 * int(rng.integers(1, 5)))
    x = rng.standard_normal(shape) * pick(rng, (1.0, 5.0))
    if rng.random() < 0.1:
        x = rng.standard_normal((2, 3, 4))
        slope = rng.standard_normal(3)
        ours = lambda x, slope: jnp.moveaxis(jaxconv.prelu(jnp.moveaxis(x, 1, -1), slope), -1, 1)  # noqa: E731
        return ours, F.prelu, (x, slope)
    return *ACTIVATIONS[pick(rng, list(ACTIVATIONS))], (x,)


def normalisation(rng):
    kind = pick(rng, ("batch", "inference", "layer", "rms", "group", "instance"))
    groups = int(rng.integers(1, 4))
    channels = groups * int(rng.integers(1, 4))
    x = 1 + 2 * rng.standard_normal((3, channels, *ints(rng, 2, 4, int(rng.integers(1, 4)))))
    scale, b, mean, raw = rng.standard_normal((4, channels))
    if kind == "batch":
        return (
            lambda *a: jaxconv.batch_norm(*a, **FIRST)[0],
            lambda x, s, b: F.batch_norm(x, None, None, s, b, True),
            (x, scale, b),
        )
    if kind == "inference":
        ours = lambda x, m, v, s, b: jaxconv.batch_norm_inference(x, m, v * v + 0.5, s, b, **FIRST)  # noqa: E731

        def theirs(x, m, v, s, b):  # torch's own has no gradient for the statistics
            m, v, s, b = (a.reshape(1, -1, *(1,) * (x.ndim - 2)) for a in (m, v * v + 0.5, s, b))
            return (x - m) / torch.sqrt(v + 1e-5) * s + b

        return ours, theirs, (x, mean, raw, scale, b)
    if kind == "group":
        return (
            lambda x, s, b: jaxconv.group_norm(x, groups, s, b, **FIRST),
            lambda x, s, b: F.group_norm(x, groups, s, b),
            (x, scale, b),
        )
    if kind == "instance":
        return (
            lambda *a: jaxconv.instance_norm(*a, **FIRST),
            lambda x, s, b: F.instance_norm(x, None, None, s, b),
            (x, scale, b),
        )
    axes = int(rng.integers(1, x.ndim))
    shape = x.shape[-axes:]
    scale, b = rng.standard_normal((2, *shape))
    axis = tuple(range(-axes, 0))
    if kind == "rms":
        return lambda x, s: jaxconv.rms_norm(x, s, axis=axis), lambda x, s: F.rms_norm(x, shape, s, 1e-6), (x, scale)
    return lambda *a: jaxconv.layer_norm(*a, axis=axis), lambda x, s, b: F.layer_norm(x, shape, s, b), (x, scale, b)


def loss(rng):
    kind = pick(rng, ("classes", "soft", "binary", "squared", "absolute", "huber"))
    n, c = ints(rng, 1, 5, 2)
    c += 1
    if kind == "classes":
        labels = rng.integers(0, c, n)
        labels[0] = pick(rng, (labels[0], -100))
        options = {"label_smoothing": pick(rng, (0.0, 0.2))}
        weights = rng.uniform(0.5, 2, c)
        ours = lambda z: jaxconv.softmax_cross_entropy_with_integer_labels(  # noqa: E731
            z, jnp.asarray(labels), class_weights=jnp.asarray(weights), ignore_index=-100, **options
        )
        theirs = lambda z: F.cross_entropy(z, torch.tensor(labels), torch.tensor(weights), reduction="none", **options)  # noqa: E731
        return ours, theirs, (3 * rng.standard_normal((n, c)),)
    if kind == "soft":
        weights, smoothing = rng.uniform(0.5, 2, c), pick(rng, (0.0, 0.2))
        ours = lambda z, t: jaxconv.softmax_cross_entropy(  # noqa: E731
            z, t, class_weights=jnp.asarray(weights), label_smoothing=smoothing
        )
        theirs = lambda z, t: F.cross_entropy(  # noqa: E731
            z, t, torch.tensor(weights), reduction="none", label_smoothing=smoothing
        )
        return ours, theirs, (3 * rng.standard_normal((n, c)), rng.dirichlet(np.ones(c), n))
    if kind == "binary":
        weight = rng.uniform(0.5, 2, c)  # a constant: torch has no gradient for it
        ours = lambda z, t: jaxconv.sigmoid_binary_cross_entropy(z, t, pos_weight=jnp.asarray(weight))  # noqa: E731
        theirs = lambda z, t: F.binary_cross_entropy_with_logits(  # noqa: E731
            z, t, pos_weight=torch.tensor(weight), reduction="none"
        )
        return ours, theirs, (3 * rng.standard_normal((n, c)), rng.uniform(0, 1, (n, c)))
    x, t = 2 * rng.standard_normal((2, n, c))
    if kind == "squared":
        return jaxconv.squared_error, lambda x, t: F.mse_loss(x, t, reduction="none"), (x, t)
    if kind == "absolute":
        return jaxconv.absolute_error, lambda x, t: F.l1_loss(x, t, reduction="none"), (x, t)
    return (
        lambda x, t: jaxconv.huber_loss(x, t, 0.8),
        lambda x, t: F.huber_loss(x, t, reduction="none", delta=0.8),
        (x, t),
    )


FAMILIES = (
    convolution,
    padded_convolution,
    transposed_convolution,
    max_pooling,
    average_pooling,
    lp_pooling,
    adaptive_pooling,
    unpooling,
    moving,
    activation,
    normalisation,
    loss,
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_agrees_with_torch(family, random_sets):
    rng = np.random.default_rng(random_sets.seed)
    for _ in range(random_sets.count):
        ours, theirs, arrays = family(rng)
        compare(ours, theirs, arrays, rng)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_agrees_with_torch(name):
    rng = np.random.default_rng(0)
    compare(*ACTIVATIONS[name], (4 * rng.standard_normal((5, 6)),), rng)


def test_every_activation_that_torch_has_is_compared():
    """As far as its name there is ours: the rest are in the table of experiments.compare_features."""
    compared = {name.split(",")[0] for name in ACTIVATIONS} | {"prelu", "gumbel_softmax", "identity"}
    ours = set(jaxconv.activation.__all__)
    missing = {name for name in ours - compared if hasattr(F, name) or hasattr(F, name.replace("_", ""))}
    assert not missing - {"hard_swish", "swish"}
