"""Wrong versions of the poolings."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.planted.mutation import (
    EDGE,
    EVERY,
    Mutation,
    Point,
    cotangent,
    gradient,
    instead,
    narrow_sum,
    without_last,
)
from jaxconv import algorithms
from jaxconv._layout import from_plain, to_plain
from jaxconv.algorithms import reference
from jaxconv.geometry import AdaptiveWindow


def _written_once(first: bool) -> Callable:
    """The gradient of a maximum where a position that won in several windows keeps one of their cotangents."""

    def extremum_grad(dy, tap, window):
        shape = (dy.shape[0], *window.input_size, dy.shape[-1])
        dx, written = jnp.zeros(shape, dy.dtype), jnp.zeros(shape, bool)
        for number, i in enumerate(window.taps()):
            won = tap == number
            here = reference.place(won, window, i)
            term = reference.place(jnp.where(won, dy, jnp.zeros((), dy.dtype)), window, i)
            dx = jnp.where(here & ~written if first else here, term, dx)
            written |= here
        return dx

    return extremum_grad


def _all_ties(largest, call, x):
    x_ = to_plain(call.layout, x)
    y, _ = algorithms.extremum(x_, call.window, largest)
    return from_plain(call.layout, x.shape, y), (x_, y)


def _to_all_ties(largest, call, saved, dy):
    x_, y = saved
    dy_ = to_plain(call.layout, dy)
    fill = -jnp.inf if largest else jnp.inf
    won = [jnp.equal(reference.read(x_, call.window, i, fill), y) for i in call.window.taps()]
    terms = [jnp.where(w, dy_, jnp.zeros((), dy.dtype)) for w in won]
    dx = sum(reference.place(t, call.window, i) for t, i in zip(terms, call.window.taps(), strict=True))
    return (from_plain(call.layout, dy.shape, dx),)


def _nan_dropped(right):
    return lambda x, window, largest: right(
        jnp.where(jnp.isnan(x), jnp.asarray(-jnp.inf if largest else jnp.inf, x.dtype), x), window, largest
    )


def _not_guarded(divisor, call):
    if divisor == "one":
        return None
    counts = [call.window.counts(axis, divisor == "padded") for axis in range(call.window.ndim)]
    return np.asarray(functools.reduce(np.multiply.outer, counts))


def _whole_window(right):
    """Divides by the whole window, whether or not the padding counts and the window hangs over the end."""
    return lambda divisor, call, saved, dy: right("one", call, saved, dy / call.window.tap_count)


def _tie_shared(largest, call, winner, dy):
    n, positions, channels = call.flat_shape
    dx = jnp.broadcast_to(dy.reshape(n, 1, channels) / positions, call.flat_shape)
    return (call.restored(dx),)


def _global_avg_narrow(divisor, call, x):
    flat = to_plain(call.layout, x).reshape(call.flat_shape)
    return (narrow_sum(flat, 1) / divisor).reshape(call.output_shape)


# --- lp and logsumexp pooling ---


def _with_static(change: Callable) -> Callable:
    """A backward rule with another value of its first static argument."""
    return lambda right: lambda static, *rest: right(change(static), *rest)


def _zeros_divided(p, x, y):
    """(|x|/y)^(p−1) as it stands: 0/0 in a window of zeros."""
    return x, y, lambda x, y: jnp.sign(x) * jnp.power(jnp.abs(x) / y, p - 1)


def _not_less_the_largest(t, call, saved, dy):
    """exp(t·x)/exp(t·y), which overflows."""
    x, m, r = saved
    x_ = to_plain(call.layout, x).astype(m.dtype)
    dy_ = to_plain(call.layout, dy).astype(m.dtype) / (jnp.exp(t * m) * (1 + r))
    weight = lambda x, m: jnp.where(jnp.isfinite(m), jnp.exp(t * x), 0)  # noqa: E731
    dx = algorithms.soft_maximum_grad(dy_, x_, m, call.window, weight, padding=-jnp.inf, absent=jnp.inf)
    return (from_plain(call.layout, dy.shape, dx).astype(dy.dtype),)


# --- indices, unpooling ---


def _of_padded_input(tap, window):
    """Row-major numbers in the padded input."""
    rest = tap.astype(jnp.int32)
    position, stride = jnp.zeros_like(rest), 1
    for axis in reversed(range(window.ndim)):
        (low, high), r = window.padding[axis], window.window_size[axis]
        p = lax.broadcasted_iota(jnp.int32, tap.shape, axis + 1)
        position += stride * (window.strides[axis] * p + window.dilation[axis] * (rest % r))
        rest, stride = rest // r, stride * (window.input_size[axis] + low + high)
    return position


def _last_written(right):
    """Of elements with one index the last is kept, and all get the gradient."""

    def primal(call, y, indices):
        flat, at = call.flat(y), call.flat(indices)
        later = (at[:, :, None] == at[:, None]) & np.triu(np.ones((at.shape[1],) * 2, bool), 1)[None, :, :, None]
        kept = jnp.where(jnp.any(later, 2), jnp.zeros((), y.dtype), flat)
        return right(call, from_plain(call.layout, y.shape, kept.reshape(to_plain(call.layout, y).shape)), indices)

    return primal


# --- adaptive pooling ---


class _Short(AdaptiveWindow):
    """Windows whose end is rounded down."""

    def ends(self, axis: int) -> list[int]:
        n, o = self.input_size[axis], self.output_size[axis]
        return [(p + 1) * n // o for p in range(o)]


def _one_size(right):
    """Divides by ceil(N/O), as if all windows were alike."""

    def backward(call, saved, dy):
        window = call.window
        share = 1 / np.prod([-(-n // o) for n, o in zip(window.input_size, window.output_size, strict=True)])
        dx = algorithms.adaptive_sum(to_plain(call.layout, dy) * share.astype(dy.dtype), window.transposed)
        return (from_plain(call.layout, dy.shape, dx),)

    return backward


def _wins_averaged(right):
    def extremum_grad(dy, tap, window):
        return right(dy, tap, window) / jnp.maximum(right(jnp.ones_like(dy), tap, window), 1)

    return extremum_grad


MUTATIONS = (
    # Max and min pooling.
    Mutation(
        "tie sent twice",
        "max_pool",
        EDGE,
        {"pool:_extremum_fwd": instead(_all_ties), "pool:_extremum_bwd": instead(_to_all_ties)},
    ),
    Mutation(
        "overlapping max-pool windows credited once",
        "max_pool",
        EDGE,
        {"algorithms:extremum_grad": instead(_written_once(True))},
        elsewhere=True,
    ),
    Mutation(
        "last write wins where windows overlap",
        "max_pool",
        Point("stride 1", "float64"),
        {"algorithms:extremum_grad": instead(_written_once(False))},
        elsewhere=True,
    ),
    Mutation(
        "NaN dropped by max pooling",
        "max_pool",
        EDGE,
        {"algorithms:extremum": _nan_dropped, "algorithms:extremum_value": _nan_dropped},
        elsewhere=True,
    ),
    Mutation(
        "padding wins a tie",
        "max_pool",
        EDGE,
        {"geometry:Window.first_inside": instead(lambda window, axis: [0] * window.output_size[axis])},
    ),
    Mutation(
        "tap number in a byte beyond 255 taps",
        "max_pool",
        Point("289 taps", "float64"),
        {"algorithms.taps:tap_dtype": instead(lambda window: jnp.uint8)},
    ),
    Mutation(
        "min pooling with the sign of max pooling of -x",
        "min_pool",
        EVERY,
        {"pool:_extremum_bwd": gradient(0, lambda dx, saved, dy, largest, call: dx if largest else -dx)},
    ),
    Mutation(
        "gradient clipped: not linear in the cotangent",
        "min_pool",
        EVERY,
        {"pool:_extremum_bwd": cotangent(lambda dy, saved: jnp.clip(dy, -1, 1))},
    ),
    # Sums and averages.
    Mutation(
        "average divided by the whole window, whatever counts", "avg_pool", EVERY, {"pool:_sum_bwd": _whole_window}
    ),
    Mutation(
        "count_include_pad inverted in the backward",
        "avg_pool",
        EVERY,
        {
            "pool:_sum_bwd": lambda right: (
                lambda divisor, *rest: right("padded" if divisor == "input" else "input", *rest)
            )
        },
    ),
    Mutation(
        "a window wholly inside the padding: 0/0",
        "avg_pool",
        EDGE,
        {"pool:_m": instead(_not_guarded)},
        elsewhere=True,
    ),
    Mutation(
        "average added up in the narrow dtype",
        "global_avg_pool",
        Point("4,096 positive positions", "bfloat16"),
        {"pool_global:_global_sum_primal": instead(_global_avg_narrow)},
    ),
    Mutation(
        "last output row missed in sum pooling",
        "sum_pool",
        EVERY,
        {"algorithms:window_sum_grad": lambda right: lambda dy, *rest: right(without_last(dy, 1), *rest)},
    ),
    Mutation(
        "global average divided by the batch, too",
        "global_avg_pool",
        EVERY,
        {"pool_global:_global_sum_bwd": cotangent(lambda dy, saved: dy / dy.shape[0])},
    ),
    Mutation(
        "global maximum shared by all positions",
        "global_max_pool",
        EVERY,
        {"pool_global:_global_extremum_bwd": instead(_tie_shared)},
    ),
    Mutation(
        "the last of equal maxima wins",
        "global_max_pool",
        EDGE,
        {
            "pool_global:_global_extremum_fwd": lambda right: (
                lambda largest, call, x: (
                    right(largest, call, x)[0],
                    call.flat_shape[1]
                    - 1
                    - right(largest, call, call.restored(to_plain(call.layout, x).reshape(call.flat_shape)[:, ::-1]))[
                        1
                    ],
                )
            )
        },
    ),
    # Soft maxima.
    Mutation(
        "lp pooling's sign of x forgotten",
        "lp_pool",
        EVERY,
        {"pool:_lp_bwd": gradient(0, lambda dx, saved, dy, p, call: dx * jnp.sign(saved[0]))},
    ),
    Mutation("p where p − 1 is due", "lp_pool", EVERY, {"pool:_lp_bwd": _with_static(lambda p: p + 1)}),
    Mutation(
        "lp pooling of zeros: 0/0",
        "lp_pool",
        EDGE,
        {"pool:lp_weight": instead(_zeros_divided)},
        elsewhere=True,  # pytorch#6765
    ),
    Mutation(
        "sharpness forgotten in the gradient",
        "logsumexp_pool",
        EVERY,
        {"pool:_logsumexp_bwd": _with_static(lambda t: 1.0)},
    ),
    Mutation(
        "logsumexp pooling overflows in the gradient",
        "logsumexp_pool",
        EDGE,
        {"pool:_logsumexp_bwd": instead(_not_less_the_largest)},
    ),
    # Indices, unpooling.
    Mutation(
        "index into the padded input", "max_pool_with_indices", EDGE, {"pool:_positions": instead(_of_padded_input)}
    ),
    Mutation(
        "the last of equal indices is kept, all get the gradient",
        "max_unpool",
        EDGE,
        {"pool:_unpool_primal": _last_written},
        elsewhere=True,  # pytorch#80204
    ),
    Mutation(
        "index −1 taken for position 0 in the gradient",
        "max_unpool",
        EDGE,
        {"pool:_unpool_bwd": lambda right: lambda call, indices, dx: right(call, jnp.maximum(indices, 0), dx)},
    ),
    # Adaptive pooling.
    Mutation(
        "adaptive windows one too short where sizes do not divide",
        "adaptive_avg_pool",
        EVERY,
        {
            "geometry:AdaptiveWindow.transposed": instead(
                property(lambda window: _Short(window.output_size, window.input_size))
            )
        },
    ),
    Mutation(
        "adaptive average divided by ceil(N/O), whatever the window",
        "adaptive_avg_pool",
        Point("overlapping windows", "float64"),
        {"pool_adaptive:_adaptive_avg_bwd": _one_size},
        elsewhere=True,  # Paddle#74077
    ),
    Mutation(
        "cotangents of one winner averaged",
        "adaptive_max_pool",
        EDGE,
        {"algorithms:adaptive_extremum_grad": _wins_averaged},
    ),
)
