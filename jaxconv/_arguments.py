"""Checks of array arguments, made while tracing: what was given, what was expected, what to do."""

import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# float64 first: the order in which messages list them.
FLOAT_DTYPES = ("float64", "float32", "bfloat16", "float16")


def float_arrays(**named) -> list[jax.Array]:
    """The arguments as arrays of one floating dtype, made to vary alike; those that an op may lack stay None.

    Raises:
        TypeError: an argument is not an array, its dtype is not a floating one, or the dtypes differ.
    """
    optional = ("b", "scale", "bias", "class_weights", "pos_weight", "targets")
    arrays = {
        name: None if value is None and name in optional else _float_array(name, value) for name, value in named.items()
    }
    dtypes = {name: a.dtype for name, a in arrays.items() if a is not None}
    if len(set(dtypes.values())) > 1:
        given = ", ".join(f"{name} is {dtype}" for name, dtype in dtypes.items())
        first = next(iter(dtypes.values()))
        raise TypeError(
            f"{', '.join(dtypes)}: got mixed dtypes ({given}), expected one dtype: convert with .astype, for example "
            f".astype('{first}'); nothing is promoted silently"
        )
    return varying_alike(*arrays.values())


def varying_alike(*arrays) -> list:
    """The arrays, inside shard_map each varying over every mesh axis that any of them varies over; None stays None.

    A backward rule must return cotangents that vary as its arguments do, and all of them depend on dy. JAX makes the
    operands of its own operations alike in the same way; the transpose of the cast is the sum over the axis, so the
    gradient of replicated parameters comes out summed over the devices.
    """
    present = [a for a in arrays if a is not None]
    axes = frozenset().union(*(_varying(a) for a in present))
    return [None if a is None else _vary(a, axes - _varying(a)) for a in arrays]


def _varying(a) -> frozenset:
    return jax.typeof(a).manual_axis_type.varying


def _vary(a, axes: frozenset):
    return lax.pcast(a, tuple(sorted(axes)), to="varying") if axes else a


def integer_array(name: str, value) -> jax.Array:
    """The argument as an integer array.

    Raises:
        TypeError: the argument is not an array of integers.
    """
    array = _array(name, value)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name}: got dtype {array.dtype}, expected integers: convert with .astype('int32')")
    return array


def mask_array(where, shape: tuple[int, ...], of: str):
    """A mask of single elements, None for none, with as many axes as the array of this shape; of is that one's name.

    Raises:
        TypeError: the mask is not an array of booleans. ValueError: it does not broadcast to the shape.
    """
    if where is None:
        return None
    where = bool_array("where", where)
    if not broadcasts(where.shape, shape):
        raise ValueError(
            f"where: got shape {where.shape}, expected one that broadcasts to {tuple(shape)}, that of {of}"
        )
    return where if where.ndim == len(shape) else where.reshape(*[1] * (len(shape) - where.ndim), *where.shape)


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of the one shape can be broadcast to the other."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape[::-1], to[::-1], strict=False))


def number(name: str, value, low: float = -math.inf, high: float = math.inf, hint: str = "") -> float:
    """An option that is a number, Python's or NumPy's, as a Python float; hint says why it must be in the range.

    Raises:
        TypeError: it is no number. ValueError: it is below low or above high, or NaN where one of them is given.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"{name}: got a {type(value).__name__}, expected a Python number: it is a constant of the op and has no "
            "gradient"
        )
    size = float(value)
    if (low, high) != (-math.inf, math.inf) and not low <= size <= high:
        expected = f"at least {low}" if high == math.inf else f"a number from {low} to {high}"
        raise ValueError(f"{name}: got {value}, expected {expected}{hint}")
    return size


def flag(name: str, value) -> bool:
    """An option that is True or False, Python's or NumPy's.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: got {value!r}, expected True or False, known while tracing")
    return bool(value)


def hashable(value):
    """The value, lists in it as tuples."""
    return tuple(map(hashable, value)) if isinstance(value, list) else value


def bool_array(name: str, value) -> jax.Array:
    """The argument as an array of booleans.

    Raises:
        TypeError: the argument is not one.
    """
    array = _array(name, value)
    if array.dtype != bool:
        raise TypeError(f"{name}: got dtype {array.dtype}, expected booleans: compare, for example {name} != 0")
    return array


def result_dtype(preferred_element_type, dtype):
    """The dtype of a result: preferred_element_type, checked to be a floating one, or the arguments' own.

    Raises:
        TypeError: preferred_element_type is not a floating dtype, or is narrower than the arguments'.
    """
    if preferred_element_type is None:
        return dtype
    preferred = jax.dtypes.canonicalize_dtype(preferred_element_type)
    if preferred.name not in FLOAT_DTYPES:
        raise TypeError(f"preferred_element_type: got {preferred.name}, expected one of {', '.join(FLOAT_DTYPES)}")
    if preferred != dtype and preferred.itemsize <= dtype.itemsize:
        raise TypeError(
            f"preferred_element_type: got {preferred.name} for {dtype.name} arguments, expected a wider dtype: use it "
            f"to keep more of the sum, and .astype('{preferred.name}') on the result to keep less"
        )
    return preferred


def _float_array(name: str, value) -> jax.Array:
    array = _array(name, value)
    if array.dtype.name not in FLOAT_DTYPES:
        raise TypeError(
            f"{name}: got dtype {array.dtype.name}, expected one of {', '.join(FLOAT_DTYPES)}: convert with "
            ".astype('float32')"
        )
    return array


def _array(name: str, value) -> jax.Array:
    if not (hasattr(value, "shape") and hasattr(value, "dtype")) and not isinstance(value, (bool, int, float)):
        raise TypeError(f"{name}: got a {type(value).__name__}, expected an array: convert with jnp.asarray")
    return jnp.asarray(value)
