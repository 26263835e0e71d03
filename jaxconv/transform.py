"""Transformations of functions that are written with the library's ops."""

from collections.abc import Callable

import jax
from jax.extend import core

__all__ = ["autodiff"]


def autodiff(f: Callable) -> Callable:
    """The same function with every `jax.custom_vjp` rule taken off: JAX differentiates the forward computation itself.

    The way out where a hand-derived rule stands in the way: forward mode (`jax.jvp`, `jax.jacfwd`, `jax.linearize`)
    does not exist for a function with a custom_vjp rule. It is also what such a rule is compared with: the
    `reference` that `jaxconv.verification` uses when none is given. `jax.custom_jvp` rules stay.

    Args:
        f: a function that JAX can trace; rules inside jit, scan, while, cond and remat are found too.

    Returns:
        A function of the same arguments and results. It is traced afresh at every call: put `jax.jit` around it.

    >>> import jax.numpy as jnp
    >>> from jaxconv import relu
    >>> jax.jvp(autodiff(relu), (jnp.array([-1.0, 2.0]),), (jnp.ones(2),))[1].tolist()
    [0.0, 1.0]
    """

    def without_rules(*args, **kwargs):
        leaves, structure = jax.tree.flatten((args, kwargs))
        arrays = [number for number, leaf in enumerate(leaves) if hasattr(leaf, "dtype")]
        result_structure = None

        def flat(*values):
            nonlocal result_structure
            given = dict(zip(arrays, values, strict=True))
            args, kwargs = jax.tree.unflatten(structure, [given.get(n, leaf) for n, leaf in enumerate(leaves)])
            results, result_structure = jax.tree.flatten(f(*args, **kwargs))
            return results

        values = [leaves[number] for number in arrays]
        closed = jax.make_jaxpr(flat)(*values)
        return jax.tree.unflatten(result_structure, _evaluate(closed, values))

    return without_rules


def _evaluate(closed, values):
    """Run a jaxpr, taking off the rules on the way."""
    jaxpr = _open(closed)
    env = dict(zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=True))
    env |= dict(zip(jaxpr.invars, values, strict=True))
    for equation in jaxpr.eqns:
        operands = [v.val if isinstance(v, core.Literal) else env[v] for v in equation.invars]
        env |= dict(zip(equation.outvars, _run(equation, operands), strict=True))
    return [v.val if isinstance(v, core.Literal) else env[v] for v in jaxpr.outvars]


def _run(equation, operands):
    """The results of one equation."""
    params = equation.params
    name = equation.primitive.name
    if name == "custom_vjp_call":
        return _evaluate(params["call_jaxpr"], operands)
    if name != "custom_jvp_call" and any(map(_has_rule, _jaxprs(params))):
        if name == "jit":
            return jax.jit(lambda *values: _evaluate(params["jaxpr"], values))(*operands)
        if name in ("checkpoint", "remat2", "remat"):
            again = lambda *values: _evaluate(params["jaxpr"], values)  # noqa: E731
            return jax.checkpoint(again, prevent_cse=params["prevent_cse"], policy=params["policy"])(*operands)
        if name == "shard_map":
            again = jax.shard_map(
                lambda *values: tuple(_evaluate(params["jaxpr"], values)),
                mesh=params["mesh"],
                in_specs=params["in_specs"],
                out_specs=params["out_specs"],
                axis_names=params["newly_manual_axes"],
                check_vma=params["check_vma"],
            )
            return again(*operands)
        params = {key: _without_rules(value) for key, value in params.items()}
    with equation.ctx.manager:
        result = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(params))
    return result if equation.primitive.multiple_results else [result]


def _without_rules(value):
    """The jaxprs among an equation's parameters (of a scan, a while, a cond) without their rules."""
    if isinstance(value, tuple):
        return tuple(map(_without_rules, value))
    if not (_is_jaxpr(value) and _has_rule(value)):
        return value
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in _open(value).invars]
    return jax.make_jaxpr(lambda *values: _evaluate(value, values))(*shapes)


def _has_rule(jaxpr) -> bool:
    return any(
        equation.primitive.name == "custom_vjp_call" or any(map(_has_rule, _jaxprs(equation.params)))
        for equation in _open(jaxpr).eqns
    )


def _jaxprs(params):
    for value in params.values():
        yield from (v for v in (value if isinstance(value, tuple) else (value,)) if _is_jaxpr(v))


def _is_jaxpr(value) -> bool:
    return hasattr(_open(value), "eqns")


def _open(jaxpr):
    return getattr(jaxpr, "jaxpr", jaxpr)
