"""The kernel gradient as one matrix product per row of taps. For CPUs.

    dw[i', (i,c), k] = sum_m X_{i'}[m, (i,c)] · dy[m,k]          [R·C x N·O] · [N·O x K] -> [R·C x K]

where m runs over batch and output positions, i over the taps of the innermost axis, and i' over those of the others;
X_{i'} holds the inputs read by one row of taps, side by side: R copies of x, where im2col makes R·R. All rows read the
same dy. A product per tap, without copies, has too short a side when C is small.

Why not lax's own form: XLA:CPU lowers a convolution with x's batch as its channels badly (with groups, as one loop
nest), and inside a while loop ten times worse, because it does not bring its axes into the order that its library
takes. Figures in experiments/README.md.
"""

import itertools
import math

import jax.numpy as jnp
from jax import lax

from jaxconv.algorithms.views import UNROLLED, stack, tap_views


def kernel_grad(x, dy, window, groups, precision, dtype):
    """(3) dw[i,c,k] = sum_{n,p} x[n, s·p + d·i − l, c] · dy[n,p,k]."""
    *outer_sizes, row_size = window.window_size
    per_group, outputs = x.shape[-1] // groups, dy.shape[-1] // groups
    positions = math.prod(dy.shape[:-1])
    view = tap_views(x, window, 0)
    dy = dy.reshape(positions, groups, outputs)

    def row(tap):
        # [G x R·C/G x N·O] · [G x N·O x K/G] -> [G x R·C/G x K/G]
        taps = [view((*tap, i)).reshape(positions, groups, per_group) for i in range(row_size)]
        product = lax.dot_general(
            jnp.concatenate(taps, -1),
            dy,
            (((0,), (0,)), ((1,), (1,))),
            precision=precision,
            preferred_element_type=dtype,
        )
        # (G, R, C/G, K/G) -> (R, C/G, G·K/G)
        product = product.reshape(groups, row_size, per_group, outputs)
        return product.transpose(1, 2, 0, 3).reshape(row_size, per_group, groups * outputs)

    # The copies of all rows exist at once when written out: three rows, or few channels. Otherwise one row at a time.
    written_out = math.prod(outer_sizes) <= 3 or x.shape[-1] <= 4
    taps = list(itertools.product(*map(range, outer_sizes)))
    rows = stack(row, taps, unrolled=UNROLLED if written_out else 1)
    return rows.reshape(*window.window_size, per_group, groups * outputs)
