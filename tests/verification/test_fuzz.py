"""Random geometries of every public op, each checked against plain lax; a failure shrinks to a call one can paste.

In CI a few dozen fixed examples. The long run has fresh ones, for as long as one likes:

    pytest tests/verification/test_fuzz.py --fuzz-minutes 15

It takes that long per test, and there are two, so that two cores are busy.
"""

import contextlib
import dataclasses
import math
import re
import secrets
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import jaxconv
from jaxconv.geometry import conv_window
from jaxconv.verification import TRANSFORMS, against_float64, check_vjp
from jaxconv.verification.cases.activation import exact_sigmoid, exact_tanh
from jaxconv.verification.cases.conv import plain_conv
from jaxconv.verification.cases.pool import plain_pool, plain_unpool
from jaxconv.verification.cases.pool_adaptive import plain_adaptive
from jaxconv.verification.cases.pool_global import plain_global

# --- A call: what it computes, what it should compute, and how it prints. ---


@dataclasses.dataclass(frozen=True)
class Array:
    """An array argument. `code` makes its values from `rng`, here and in the recipe of a failure."""

    name: str
    shape: tuple[int, ...]
    code: str
    dtype: str


@dataclasses.dataclass(frozen=True, repr=False)
class Call:
    """A call of a public op; everything but its arrays is an option, by keyword."""

    op: str
    arrays: tuple[Array, ...]
    options: dict[str, Any]
    seed: int = 0
    extra: str = ""  # a transformation or "second order", to be checked as well

    @property
    def dtype(self) -> str:
        return self.arrays[0].dtype

    @property
    def code(self) -> str:
        names = [array.name for array in self.arrays]
        return f"jaxconv.{self.op}({', '.join(names + [f'{k}={v!r}' for k, v in self.options.items()])})"

    @property
    def function_code(self) -> str:
        return f"lambda {', '.join(array.name for array in self.arrays)}: {self.code}"

    @property
    def check_code(self) -> str:
        """The call of check_vjp, without its reference."""
        transforms = (self.extra,) if self.extra in TRANSFORMS else ()
        orders = 2 if self.extra == "second order" else 1
        return f"orders={orders}, transforms={transforms}, edge_cases=(), dtypes=({self.dtype!r},)"

    def __str__(self) -> str:
        given_ = [f"{a.name}: {a.dtype}[{', '.join(map(str, a.shape))}]" for a in self.arrays]
        return f"{self.code}  # {', '.join(given_)}, seed {self.seed}"

    def _repr_pretty_(self, printer, cycle) -> None:  # for hypothesis
        printer.text(str(self))

    @property
    def recipe(self) -> str:
        """A program that fails as the check does. It has no reference but autodiff of the op's own forward."""
        names = ", ".join(array.name for array in self.arrays)
        lines = [
            "import jax, jax.numpy as jnp, numpy as np, jaxconv",
            "from jaxconv.verification import check_vjp",
            "jax.config.update('jax_enable_x64', True)",
            f"rng = np.random.default_rng({self.seed})",
            *(f"{a.name} = jnp.asarray({a.code}, {a.dtype!r})" for a in self.arrays),
            f"check_vjp({self.function_code}, {names}, {self.check_code}).assert_ok()",
        ]
        return "\n".join(lines)

    def function(self) -> Callable:
        return eval(self.function_code, {"jaxconv": jaxconv})

    def values(self) -> list[jax.Array]:
        rng = np.random.default_rng(self.seed)
        return [jnp.asarray(eval(a.code, {"rng": rng}), a.dtype) for a in self.arrays]


def check(call: Call) -> None:
    """The call against its reference; an AssertionError says how to make it again."""
    try:
        f, args, reference = call.function(), call.values(), reference_of(call)
        if call.dtype == "float64":
            given_ = eval(f"dict({call.check_code})")
            failures = check_vjp(f, *args, reference=reference, **given_).failures
        else:  # One check only: the others compile in float64 once more.
            found = against_float64(f, *args, reference=reference, dtype=call.dtype)
            failures = () if found.passed else (found,)
    except Exception as error:
        failures = (f"raised {type(error).__name__}: {error}",)
    if failures:
        lines = "\n".join(f"  {failure}" for failure in failures)
        extra = f"  with {call.extra}\n" if call.extra else ""
        recipe = textwrap.indent(call.recipe, "    ")
        raise AssertionError(f"{call}\n{extra}{lines}\n  To see it again:\n{recipe}")


def reference_of(call: Call) -> Callable:
    """The same thing in plain lax."""
    options = dict(call.options)
    shapes = [array.shape for array in call.arrays]
    if call.op == "conv":
        ndim = len(shapes[1]) - 2
        return lambda x, w, b=None: with_bias(plain(x, w, options), b, ndim, options)
    if call.op == "conv_input_grad":
        size = options.pop("input_size")

        def input_grad(dy, w):
            batch, ndim = dy.shape[: dy.ndim - len(size) - 1], len(size)
            channels = w.shape[ndim] * options.get("groups", 1)
            first = options.get("data_format") == "channels_first"
            x = jnp.zeros((*batch, channels, *size) if first else (*batch, *size, channels), dy.dtype)
            return jax.vjp(lambda x: plain(x, w, options), x)[1](dy)[0]

        return input_grad
    if call.op == "conv_kernel_grad":
        size = options.pop("kernel_size")

        def kernel_grad(x, dy):
            axis = -len(size) - 1 if options.get("data_format") == "channels_first" else -1
            w = jnp.zeros((*size, x.shape[axis] // options.get("groups", 1), dy.shape[axis]), x.dtype)
            return jax.vjp(lambda w: plain(x, w, options), w)[1](dy)[0]

        return kernel_grad
    if call.op.startswith("global"):
        return lambda x: plain_global(call.op.removeprefix("global_").removesuffix("_pool"), x, **options)
    if call.op.startswith("adaptive"):
        return lambda x: plain_adaptive(call.op.removeprefix("adaptive_").removesuffix("_pool"), x, **options)
    if call.op == "max_unpool":
        return lambda y, indices: plain_unpool(y, indices, **options)
    if call.op.endswith("_pool") or call.op == "max_pool_with_indices":

        def pool(x):
            with jax.numpy_rank_promotion("allow"):  # plain_pool broadcasts the counts of an average
                kind = call.op.removesuffix("_with_indices").removesuffix("_pool")
                return plain_pool(kind, x, **options)

        return pool
    return PLAIN[call.op](**options)


def plain(x, w, options):
    """plain_conv, which wants the padding as one name, one int, or one pair per axis."""
    padding, ndim = options.get("padding", "VALID"), w.ndim - 2
    if isinstance(padding, tuple):
        spatial = spatial_of(x.shape, ndim, options.get("data_format"))
        geometric = {name: options[name] for name in ("strides", "dilation") if name in options}
        padding = conv_window(spatial, w.shape[:ndim], padding=padding, **geometric).padding
    return plain_conv(x, w, **options | {"padding": padding})


def with_bias(y, b, ndim, options):
    if b is None:
        return y
    shape = (*b.shape, *(1,) * ndim) if options.get("data_format") == "channels_first" else b.shape
    return y + jnp.broadcast_to(b.reshape(shape), y.shape)


def spatial_of(shape, ndim, data_format):
    return shape[len(shape) - ndim :] if data_format == "channels_first" else shape[len(shape) - ndim - 1 : -1]


def plain_integer_loss(axis):
    def loss(logits, labels):
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits, axis), jnp.expand_dims(labels, axis), axis)
        return -jnp.squeeze(chosen, axis)

    return loss


PLAIN = {
    "dense": lambda: (
        lambda x, w, b=None: (
            jnp.dot(x, w) if b is None else jnp.dot(x, w) + jnp.broadcast_to(b, (*x.shape[:-1], *b.shape))
        )
    ),
    "flatten": lambda batch_ndim: lambda x: x.reshape(*x.shape[:batch_ndim], math.prod(x.shape[batch_ndim:])),
    "relu": lambda: jax.nn.relu,
    "leaky_relu": lambda negative_slope: lambda x: jax.nn.leaky_relu(x, negative_slope),
    "sigmoid": lambda: exact_sigmoid,
    "tanh": lambda: exact_tanh,
    "softmax": lambda axis: lambda x: jax.nn.softmax(x, axis),
    "log_softmax": lambda axis: lambda x: jax.nn.log_softmax(x, axis),
    "softmax_cross_entropy": lambda axis: (
        lambda logits, labels: -jnp.sum(labels * jax.nn.log_softmax(logits, axis), axis)
    ),
    "softmax_cross_entropy_with_integer_labels": plain_integer_loss,
}


# --- Strategies. What hypothesis shrinks to stands first everywhere: the smallest, and the default. ---

BATCHES = st.sampled_from([(1,), (2,), (), (3,), (2, 1), (1, 2, 2)] * 2 + [(0,), (2, 0)])
CHANNELS = st.sampled_from([1, 2, 3] * 4 + [0])
DTYPES = st.sampled_from(["float64"] * 5 + ["float32", "bfloat16", "float16"])
EXTRAS = st.sampled_from([""] * 30 + ["second order", *TRANSFORMS])
SEEDS = st.integers(0, 99)


@st.composite
def geometries(draw, ndim: int, *, whole_window: bool = False, ceil_mode: bool = False):
    """Window, strides, padding and dilation over ndim axes, and an input size that goes with them."""
    largest = {1: 5, 2: 3, 3: 3}.get(ndim, 2)
    each = lambda strategy: st.one_of(strategy, st.tuples(*[strategy] * ndim))  # noqa: E731
    window = draw(st.tuples(*[st.integers(1, largest)] * ndim))
    if whole_window and draw(st.booleans()):
        window = window[0]
    options = {}
    defaults = {"strides": None if whole_window else 1, "dilation": 1}
    for name, most in (("strides", 3), ("dilation", 3 if ndim < 3 else 2)):
        value = draw(st.one_of(st.just(defaults[name]), each(st.integers(1, most))))
        if value != defaults[name]:
            options[name] = value
    least = 0 if ceil_mode else -2
    names = st.sampled_from(["VALID", "SAME", "SAME_LOWER"])
    ints = st.integers(max(-1, least), 3)
    pairs = st.tuples(*[st.integers(least, 4)] * 2)
    kinds = st.sampled_from(
        [names, ints, st.tuples(*[pairs] * ndim), st.tuples(*[st.one_of(names, ints, pairs)] * ndim)]
    )
    padding = draw(draw(kinds))
    if padding != "VALID":
        options["padding"] = padding
    if ceil_mode:
        options["ceil_mode"] = True
    # The size: the smallest that has room for the window, and up to 4 more; now and then an axis is empty.
    sizes = []
    for r, d, pad in zip(*(per_axis(v, ndim) for v in (window, options.get("dilation", 1), padding)), strict=True):
        extent = d * (r - 1) + 1
        if isinstance(pad, str):
            low, high = (0, 0) if pad == "VALID" else (extent - 1, 0)
        else:
            low, high = pad if isinstance(pad, tuple) else (pad, pad)
        size = max(1, extent - low - high) + draw(st.integers(0, 4 if ndim < 3 else 2))
        empty = draw(st.integers(0, 59)) == 59 and low >= 0 and high >= 0  # lax cannot crop an empty axis
        sizes.append(0 if empty else size)
    return tuple(sizes), window, options


def per_axis(value, ndim):
    return value if isinstance(value, tuple) else (value,) * ndim


NDIMS = st.sampled_from([1, 1, 2, 2, 2, 2, 2, 3, 3, 4])


@st.composite
def conv_calls(draw) -> Call:
    op = draw(st.sampled_from(["conv", "conv", "conv_input_grad", "conv_kernel_grad"]))
    ndim, batch, dtype = draw(NDIMS), draw(BATCHES), draw(DTYPES)
    spatial, kernel, options = draw(geometries(ndim))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_group, features = draw(CHANNELS), draw(CHANNELS) * groups
    channels = per_group * groups
    if groups > 1:
        options["groups"] = groups
    if draw(st.booleans()):
        options["flip_kernel"] = True
    if draw(st.booleans()):
        options["data_format"] = "channels_first"
    geometric = {k: options[k] for k in ("strides", "padding", "dilation") if k in options}
    output = conv_window(spatial, kernel, **geometric).output_size
    first = "data_format" in options
    shapes = {
        "x": (*batch, channels, *spatial) if first else (*batch, *spatial, channels),
        "w": (*kernel, per_group, features),
        "b": (features,),
        "dy": (*batch, features, *output) if first else (*batch, *output, features),
    }
    names = {"conv": ["x", "w"], "conv_input_grad": ["dy", "w"], "conv_kernel_grad": ["x", "dy"]}[op]
    if op == "conv" and draw(st.booleans()):
        names.append("b")
    sizes = {"conv": {}, "conv_input_grad": {"input_size": spatial}, "conv_kernel_grad": {"kernel_size": kernel}}[op]
    return Call(op, tuple(normal(n, shapes[n], dtype) for n in names), sizes | options, draw(SEEDS), draw(EXTRAS))


@st.composite
def pool_calls(draw) -> Call:
    op = draw(st.sampled_from([f"{kind}_pool" for kind in ("max", "min", "sum", "avg", "lp", "logsumexp")]))
    ndim, batch, dtype = draw(NDIMS), draw(BATCHES), draw(DTYPES)
    one_batch_axis = len(batch) == 1  # else an int cannot stand for the whole window
    spatial, window, options = draw(geometries(ndim, whole_window=one_batch_axis, ceil_mode=draw(st.booleans())))
    options = {"window": window, **options, **draw(parameters(op))}
    if op == "avg_pool" and draw(st.booleans()):
        options["count_include_pad"] = False
    if op == "max_pool" and draw(st.booleans()):
        op = "max_pool_with_indices"
    return draw(call_on_x(op, batch, spatial, dtype, options))


@st.composite
def other_pool_calls(draw) -> Call:
    """Global and adaptive pooling, and unpooling."""
    kind = draw(st.sampled_from(["max", "avg", "min", "sum", "lp", "logsumexp", "adaptive", "unpool"]))
    ndim, batch, dtype = draw(NDIMS), draw(BATCHES), draw(DTYPES)
    sizes = st.tuples(*[st.integers(1, 5 if ndim < 3 else 2)] * ndim)
    spatial = draw(sizes)
    if kind == "adaptive":
        op = draw(st.sampled_from(["adaptive_avg_pool", "adaptive_max_pool"]))
        output = tuple(draw(st.sampled_from([None, size])) for size in draw(sizes))
        return draw(call_on_x(op, batch, spatial, dtype, {"output_size": output}))
    if kind == "unpool":
        output = draw(sizes)
        call = draw(call_on_x("max_unpool", batch, spatial, dtype, {"output_size": output}))
        shape = call.arrays[0].shape
        indices = Array("indices", shape, f"rng.integers(-1, {math.prod(output) + 1}, {shape})", "int32")
        return dataclasses.replace(call, arrays=(normal("y", shape, dtype), indices))
    op = f"global_{kind}_pool"
    options = draw(parameters(op))
    if len(batch) != 1 or draw(st.booleans()):
        options["spatial_ndim"] = ndim
    if draw(st.booleans()):
        options["keepdims"] = True
    return draw(call_on_x(op, batch, spatial, dtype, options))


@st.composite
def parameters(draw, op) -> dict[str, Any]:
    if op.endswith("lp_pool"):
        return {"p": draw(st.sampled_from([2, 1, 3, 1.5, 4.5]))}
    if op.endswith("logsumexp_pool") and draw(st.booleans()):
        return {"sharpness": draw(st.sampled_from([0.5, 3.0]))}
    return {}


@st.composite
def call_on_x(draw, op, batch, spatial, dtype, options) -> Call:
    """The call with a number of channels and a data_format."""
    channels = draw(CHANNELS)
    shape = (*batch, *spatial, channels)
    if draw(st.booleans()):
        options = options | {"data_format": "channels_first"}
        shape = (*batch, channels, *spatial)
    make = distinct if "max_" in op or "min_" in op else normal
    return Call(op, (make("x", shape, dtype),), options, draw(SEEDS), draw(EXTRAS))


@st.composite
def other_calls(draw) -> Call:
    op = draw(st.sampled_from(sorted(PLAIN)))
    batch, dtype = draw(BATCHES), draw(DTYPES)
    options: dict[str, Any] = {}
    if op == "dense":
        inputs, outputs = draw(st.sampled_from([1, 2, 5, 0])), draw(st.sampled_from([1, 3, 0]))
        shapes = {"x": (*batch, inputs), "w": (inputs, outputs), "b": (outputs,)}
        names = ["x", "w", "b"] if draw(st.booleans()) else ["x", "w"]
        arrays = [normal(name, shapes[name], dtype) for name in names]
    else:
        shape = (*batch, draw(st.integers(1, 6)), draw(st.integers(1, 4)))
        arrays = [normal("x", shape, dtype)]
        if op == "flatten":
            options["batch_ndim"] = draw(st.integers(0, len(shape) - 1))
        elif op == "leaky_relu":
            options["negative_slope"] = draw(st.sampled_from([0.25, 0.0, 1.5]))
        elif "softmax" in op:
            axis = draw(st.sampled_from([-1, -2, len(shape) - 1]))
            options["axis"] = axis
            if op in ("softmax", "log_softmax") and draw(st.booleans()):
                options["axis"] = (-2, -1)
            if "entropy" in op:
                logits = dataclasses.replace(arrays[0], name="logits")
                labels = Array("labels", shape, f"abs(rng.standard_normal({shape})) + 0.1", dtype)
                if "integer" in op:
                    rows = tuple(np.delete(shape, axis).tolist())
                    labels = Array("labels", rows, f"rng.integers(0, {shape[axis]}, {rows})", "int32")
                arrays = [logits, labels]
    return Call(op, tuple(arrays), options, draw(SEEDS), draw(EXTRAS))


def normal(name, shape, dtype) -> Array:
    return Array(name, shape, f"rng.standard_normal({shape})", dtype)


def distinct(name, shape, dtype) -> Array:
    """Values of which no two are equal, up to 512 of them in bfloat16: ties are not what is checked here."""
    size = math.prod(shape)
    return Array(name, shape, f"rng.permutation({size}).reshape({shape}) - {size // 2}", dtype)


# --- Running. ---

STRATEGIES = {
    "convolution": conv_calls(),
    # The first of these is what a failure would shrink to.
    "pooling and the rest": st.one_of(pool_calls(), pool_calls(), other_pool_calls(), other_calls()),
}
EXAMPLES = 24  # of each, in CI


def examples(strategy, property_: Callable[[Call], None], count: int, number: int | None = None) -> None:
    """Run the property on so many examples; the same ones each time, or those of a seed."""
    outcomes: dict[tuple, AssertionError | None] = {}  # hypothesis comes back to the same calls by other ways

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=number is None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(call):
        key = (str(call), call.extra)
        if key not in outcomes:
            try:
                property_(call)
                outcomes[key] = None
            except AssertionError as error:
                outcomes[key] = error
        if outcomes[key] is not None:
            raise outcomes[key]

    if number is not None:
        run = seed(number)(run)
    run()


@contextlib.contextmanager
def quick_compilation():
    """XLA without most of its optimizations: most of the time goes into compiling, and a wrong formula stays wrong."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("name", STRATEGIES)
def test_random_calls_agree_with_plain_lax(name, request, capfd):
    minutes = request.config.getoption("--fuzz-minutes")
    if not minutes:
        with quick_compilation():
            examples(STRATEGIES[name], check, EXAMPLES)
        return
    start, first, rounds, done = time.monotonic(), secrets.randbits(32), 0, 0

    def counted(call):
        nonlocal done
        done += 1
        check(call)

    try:
        while time.monotonic() - start < 60 * minutes:
            # Now and then as users have it, with all optimizations.
            with quick_compilation() if rounds % 4 < 3 else contextlib.nullcontext():
                examples(STRATEGIES[name], counted, 25, first + rounds)
            jax.clear_caches()  # or every executable would stay in memory
            rounds += 1
    except AssertionError as error:
        with capfd.disabled():  # at once, not when all tests are done
            print(f"\n{name}: {error}", file=sys.stderr)
        raise
    finally:
        took = (time.monotonic() - start) / 60
        with capfd.disabled():
            print(f"\n{name}: {done} examples in {took:.1f} minutes, seed {first}, {rounds} rounds", file=sys.stderr)


# --- The fuzzing itself is checked. ---


def conv_with_padding_swapped(x, w, **options):
    """jaxconv.conv with a kernel gradient that takes the low padding for the high one, and the other way round."""
    padding = options.pop("padding", "VALID")
    geometric = {k: options[k] for k in ("strides", "dilation") if k in options}
    spatial = spatial_of(x.shape, w.ndim - 2, options.get("data_format"))
    pairs = conv_window(spatial, w.shape[:-2], padding=padding, **geometric).padding
    swapped = tuple((high, low) for low, high in pairs)

    def right(x, w):
        return plain_conv(x, w, padding=pairs, **options)

    def wrong(x, w):
        return plain_conv(x, w, padding=swapped, **options)

    conv = jax.custom_vjp(right)
    conv.defvjp(
        lambda x, w: (right(x, w), (x, w)),
        lambda saved, dy: (jax.vjp(right, *saved)[1](dy)[0], jax.vjp(wrong, *saved)[1](dy)[1]),
    )
    return jax.jit(conv)(x, w)


def test_a_planted_bug_prints_a_small_call_that_fails_when_it_is_pasted(monkeypatch):
    monkeypatch.setattr(jaxconv, "conv", conv_with_padding_swapped)
    plain_cases = lambda c: c.op == "conv" and [len(a.shape) for a in c.arrays] == [3, 3]  # noqa: E731
    # One spatial axis, one dtype, no transformation: for the sake of time.
    calls = conv_calls().filter(lambda c: plain_cases(c) and c.dtype == "float64" and not c.extra)
    with quick_compilation():
        with pytest.raises(AssertionError) as caught:
            examples(calls, check, 50)
        message = str(caught.value)
        lines = message.splitlines()
        # The call by itself, evaluated as it was printed.
        assert lines[0].startswith("jaxconv.conv(x, w, ")
        shapes = dict(re.findall(r"(\w): float64\[([\d, ]+)\]", lines[0]))
        x, w = (jnp.ones(tuple(map(int, shapes[name].split(", ")))) for name in "xw")
        assert eval(lines[0], {"jaxconv": jaxconv, "x": x, "w": w}).ndim == x.ndim
        assert x.size <= 8
        assert w.size <= 4
        assert "against float64 (float64): measured" in message
        assert "gradient of w" in message
        # The recipe is a program of its own: it fails with the bug, and runs without.
        recipe = textwrap.dedent(message.partition("To see it again:\n")[2])
        with pytest.raises(AssertionError, match="gradient of w"):
            exec(recipe, {})
        monkeypatch.undo()
        exec(recipe, {})
