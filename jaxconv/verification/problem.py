"""A function to verify, made uniform: flat tuples of floating arrays in and out, and the truth about them."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.transform import autodiff
from jaxconv.verification.tolerance import Expected, reduction_length, scale_of_inputs

DTYPES = ("float64", "float32", "bfloat16", "float16")

# Perturbations per sensitivity. Of few, a sum of many terms can come out small by chance at one in a million elements.
ROUNDS = 8


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """float64 exists, and products are made in full precision (GPUs and TPUs shorten them by default)."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


class Problem:
    """A function at a point: its floating arguments as a flat tuple, samples of them, and the truth about it."""

    def __init__(self, f, args, reference=None, argnums=None, seed=0, length=None, truth=None, trusted=False):
        """Check and flatten the arguments.

        truth is a reference whose gradient in float64 is better than reference's; with trusted, f and the reference
        are known to be functions that JAX can differentiate.

        Raises:
            TypeError, ValueError: one line that says what was given and what was expected.
        """
        if not callable(f):
            raise TypeError(f"f: got {_short(f)}, expected a callable: a function that JAX can differentiate")
        if reference is not None and not callable(reference):
            raise TypeError(
                f"reference: got {_short(reference)}, expected a callable of the same arguments as f, or None"
            )
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed: got {seed!r}, expected an int, at least 0")
        if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
            raise ValueError(f"length: got {length!r}, expected an int, at least 1, or None")
        self.name = getattr(f, "__name__", type(f).__name__)
        self.seed = seed
        self.leaves, self.names, rebuild = _float_leaves(f, args, _argnums(argnums, args))
        self.result_names: list[str] = []
        self.f = self._flat(f, rebuild, "f")
        with exact():
            shapes = _told("f", "raised", lambda: jax.eval_shape(self.f, *self.sample(0)))
            self.result_shapes = [leaf.shape for leaf in shapes]
            if not trusted:
                _told(
                    "f",
                    "cannot be differentiated: its gradient raised",
                    lambda: jax.eval_shape(lambda *a: value_and_grads(self.f, *a), self.sample(0), self.cotangents(0)),
                )
        if trusted:
            assert reference is not None
            self.reference, self.reference_name = self._flat(reference, rebuild, "reference"), "its reference"
        else:
            self.reference, self.reference_name = self._reference(f, reference, rebuild)
        self.best = self.reference if truth is None else self._flat(truth, rebuild, "truth")
        self.length = length or (self._length() if self.reference is not None else 1)
        self._truths: dict = {}
        self.errors_of_autodiff: dict = {}

    # --- functions of flat tuples ---

    def _flat(self, function: Callable, rebuild: Callable, called: str) -> Callable:
        """The function from the floating leaves of the arguments to those of the result."""

        def flat(*leaves):
            results = jax.tree_util.tree_flatten_with_path(function(*rebuild(leaves)))[0]
            kept = [(path, jnp.asarray(leaf)) for path, leaf in results if hasattr(leaf, "dtype") or np.isscalar(leaf)]
            kept = [(path, leaf) for path, leaf in kept if jnp.issubdtype(leaf.dtype, jnp.floating)]
            if not kept:
                raise ValueError(
                    f"{called}: returns no floating array, expected at least one: nothing to differentiate"
                )
            if called == "f":
                self.result_names[:] = ["y" + jax.tree_util.keystr(path) for path, _ in kept]
            return tuple(leaf for _, leaf in kept)

        return flat

    def check_pure(self) -> None:
        """Two runs give the same results.

        Raises:
            ValueError: they do not.
        """
        with exact():
            leaves = self.sample(0)
            first, second = (_told("f", "raised", lambda: [np.asarray(y) for y in self.f(*leaves)]) for _ in range(2))
            for a, b in zip(first, second, strict=True):
                if a.shape != b.shape or a.tobytes() != b.tobytes():
                    raise ValueError(
                        "f: two calls with the same arguments gave different results, expected a pure function: pass "
                        "what changes (a jax.random key, a state) as an argument"
                    )

    def _reference(self, f, reference, rebuild):
        if reference is not None:
            name = f"jax.grad of {getattr(reference, '__name__', 'the reference')}"
            flat = self._flat(reference, rebuild, "reference")
            with exact():
                run = lambda: jax.eval_shape(flat, *self.sample(0, "float64"))  # noqa: E731
                shapes = [a.shape for a in _told("reference", "raised", run)]
                if shapes != self.result_shapes:
                    raise ValueError(
                        f"reference: returns arrays of shapes {shapes}, expected {self.result_shapes}, those of f: it "
                        "must compute the same function of the same arguments"
                    )
                _told("reference", "cannot be differentiated: it raised", lambda: self._try(flat))
            return flat, name
        flat = self._flat(autodiff(f), rebuild, "reference")
        try:
            with exact():
                self._try(flat)
        except Exception:
            return None, "finite differences: its forward computation cannot be differentiated by JAX"
        return flat, "autodiff of its own forward computation"

    def _try(self, flat) -> None:
        inputs = self.sample(0, "float64"), self.cotangents(0, "float64"), self.sample(0, "float64")
        jax.eval_shape(lambda *inputs: _everything(flat, *inputs), *inputs)

    def _length(self) -> int:
        with exact():
            inputs = self.sample(0, "float64"), self.cotangents(0, "float64"), self.sample(0, "float64")
            return reduction_length(lambda *inputs: _everything(self.best, *inputs), *inputs)

    # --- samples ---

    def sample(self, number: int, dtype=None) -> list[np.ndarray]:
        """The given arguments (0), or others like them: every element times a random factor near 1."""
        if number:
            rng = np.random.default_rng((self.seed, 1, number))
            leaves = [np.asarray(a, np.float64) * np.exp(0.1 * rng.standard_normal(a.shape)) for a in self.leaves]
        else:
            leaves = self.leaves
        # NumPy converts: JAX would compile a program for it.
        return [leaf.astype(dtype or given.dtype) for leaf, given in zip(leaves, self.leaves, strict=True)]

    def cotangents(self, number: int, dtype=None) -> tuple[np.ndarray, ...]:
        """Random cotangents of the results."""
        rng = np.random.default_rng((self.seed, 2, number))
        # Around 1, not 0: a sum of terms of one sign stops growing in a narrow dtype, one of both signs hides that.
        return tuple((1 + rng.standard_normal(shape)).astype(dtype or np.float32) for shape in self.result_shapes)

    def tangents(self, number: int) -> list[np.ndarray]:
        """Random directions in the space of the arguments."""
        rng = np.random.default_rng((self.seed, 3, number))
        return [np.asarray(rng.standard_normal(leaf.shape)) for leaf in self.leaves]

    # --- values ---

    @functools.cached_property
    def value_and_grads(self) -> Callable:
        """(results, gradients) of the function, jitted, from (arguments, cotangents)."""
        return jax.jit(lambda leaves, cotangents: value_and_grads(self.f, leaves, cotangents))

    @functools.cached_property
    def autodiff_value_and_grads(self) -> Callable:
        """The same of the reference, differentiated by JAX."""
        return jax.jit(lambda leaves, cotangents: value_and_grads(self.reference, leaves, cotangents))

    def directional(self, leaves, cotangents, tangents) -> list[np.ndarray]:
        """J·tangents in float64."""
        inputs = [np.asarray(a, np.float64) for a in (*leaves, *cotangents, *tangents)]
        return self._everything_flat(inputs)[-len(self.result_shapes) :]

    @functools.cached_property
    def _everything(self) -> Callable:
        return jax.jit(lambda *inputs: _everything(self.best, *inputs))

    def truth(
        self, leaves, cotangents, tangents=None, rounds=ROUNDS
    ) -> tuple[list[Expected], list[Expected], list[Expected]]:
        """The results, the gradients and J·tangents in float64 at exactly these arguments, with their scales."""
        tangents = tangents or self.tangents(0)
        inputs = [np.asarray(a, np.float64) for a in (*leaves, *cotangents, *tangents)]
        key = hash((rounds, *(a.tobytes() for a in inputs)))
        if key not in self._truths:
            found = scale_of_inputs(self._everything_flat, inputs, rounds)
            results, arguments = len(self.result_shapes), len(self.leaves)
            self._truths[key] = (found[:results], found[results : results + arguments], found[results + arguments :])
        return self._truths[key]

    def _everything_flat(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        n, m = len(self.leaves), len(self.result_shapes)
        found = self._everything(list(inputs[:n]), tuple(inputs[n : n + m]), list(inputs[n + m :]))
        return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]

    def gradient_names(self) -> list[str]:
        """What messages call the gradients."""
        return [f"gradient of {name}" for name in self.names]


def value_and_grads(f, leaves, cotangents):
    """(results, gradients) of a flat function for given cotangents."""
    y, vjp = jax.vjp(f, *leaves)
    return y, vjp(tuple(c.astype(a.dtype) for a, c in zip(y, cotangents, strict=True)))


def _everything(f, leaves, cotangents, tangents):
    """(results, gradients, J·tangents)."""
    y, grads = value_and_grads(f, leaves, cotangents)
    return y, grads, jax.jvp(f, tuple(leaves), tuple(tangents))[1]


def _argnums(argnums, args) -> tuple[int, ...]:
    if argnums is None:
        return tuple(range(len(args)))
    given = argnums if isinstance(argnums, Sequence) else (argnums,)
    if not given or any(
        not hasattr(n, "__index__") or isinstance(n, bool) or not -len(args) <= n < len(args) for n in given
    ):
        raise ValueError(f"argnums: got {argnums!r} for {len(args)} arguments, expected ints from 0 to {len(args) - 1}")
    return tuple(int(n) % len(args) for n in given)


def _float_leaves(f, args, argnums):
    """The floating leaves of the chosen arguments, what messages call them, and the way back to arguments."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    leaves, names, places, others = [], [], [], []
    flat = [jax.tree_util.tree_flatten_with_path(arg) for arg in args]
    for number, (paths, _) in enumerate(flat):
        called = positional[number] if number < len(positional) else f"argument {number}"
        for place, (path, leaf) in enumerate(paths):
            dtype = np.dtype(float) if isinstance(leaf, float) else getattr(leaf, "dtype", None)
            if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
                continue
            if number not in argnums:
                others.append((number, place))
                continue
            leaves.append(np.asarray(leaf))
            names.append(called + jax.tree_util.keystr(path))
            places.append((number, place))
            if np.isnan(leaves[-1].astype(np.float64)).any():
                raise ValueError(
                    f"args: got NaN in {names[-1]}, expected numbers: give a point with NaN as an Edge in edge_cases"
                )
    if not leaves:
        given = ", ".join(_short(a) for a in args) or "no argument"
        raise TypeError(f"args: got {given}, expected at least one floating array among the arguments to differentiate")

    def rebuild(values):
        contents = [[leaf for _, leaf in paths] for paths, _ in flat]
        for (number, place), value in zip(places, values, strict=True):
            contents[number][place] = value
        for number, place in others:
            # What is not differentiated goes along into the dtype of what is.
            if values[0].dtype != leaves[0].dtype:
                contents[number][place] = np.asarray(contents[number][place]).astype(values[0].dtype)
        return [structure.unflatten(content) for (_, structure), content in zip(flat, contents, strict=True)]

    return leaves, names, rebuild


def _told(called: str, what: str, function: Callable) -> Any:
    """The function's result; an exception becomes one line, with JAX's own as its cause."""
    try:
        return function()
    except Exception as error:
        if str(error).startswith((f"{called}: ", "reference: ")):
            raise
        raise ValueError(f"{called}: {what} {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """An exception in one line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


def _short(value) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of {value.dtype} of shape {tuple(value.shape)}"
    return f"{value!r}" if len(repr(value)) < 60 else f"a {type(value).__name__}"
