"""Whether a function is affine in an argument, read from its computation graph."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import jax
from jax.extend.core import Jaxpr, Literal


class Dependence(IntEnum):
    """How a value depends on the argument; the larger one wins when values meet."""

    NONE = 0
    AFFINE = 1
    NONLINEAR = 2


# affine in all operands jointly
_LINEAR = {
    "add", "sub", "neg", "add_any", "reduce_sum", "broadcast_in_dim", "reshape", "squeeze", "expand_dims",
    "transpose", "slice", "concatenate", "convert_element_type", "rev", "copy", "cumsum", "pad",
    "real", "imag", "reduce_precision", "optimization_barrier", "split",
}  # fmt: skip
# affine in each operand while the others do not depend on the argument
_BILINEAR = {"mul", "dot_general", "conv_general_dilated"}
# affine in the first operand only
_FIRST = {"div", "gather", "dynamic_slice"}
_CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint"}


def dependence(function: Callable[[Any], Any], argument: Any) -> Any:
    """How each output of `function` depends on `argument`, in the structure of the outputs.

    The analysis never runs the function and is conservative: an operation that it does not know counts
    as nonlinear.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(argument)
    inputs = [Dependence.AFFINE] * len(closed.jaxpr.invars)
    outputs = _propagate(closed.jaxpr, inputs)
    return jax.tree.unflatten(jax.tree.structure(shape), outputs)


def worst(tree: Any) -> Dependence:
    """The strongest dependence among all outputs."""
    return max(jax.tree.leaves(tree), default=Dependence.NONE)


def _propagate(jaxpr: Jaxpr, inputs: list[Dependence]) -> list[Dependence]:
    known: dict[Any, Dependence] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Dependence:
        return Dependence.NONE if isinstance(atom, Literal) else known.get(atom, Dependence.NONE)

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = _called(equation)
        if max(operands, default=Dependence.NONE) == Dependence.NONE:
            found = [Dependence.NONE] * len(equation.outvars)
        elif inner is not None and len(inner.invars) == len(operands):
            found = _propagate(inner, operands)
        else:
            found = [_outcome(equation.primitive.name, operands, equation.params)] * len(equation.outvars)
        known.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _called(equation: Any) -> Jaxpr | None:
    if equation.primitive.name not in _CALLS:
        return None
    for value in equation.params.values():
        inner = getattr(value, "jaxpr", value)  # of a closed one
        if isinstance(inner, Jaxpr):
            return inner
    return None


def _outcome(name: str, operands: list[Dependence], params: dict) -> Dependence:
    strongest = max(operands)
    if strongest == Dependence.NONLINEAR:
        return strongest
    if name in _LINEAR:
        return strongest
    if name == "integer_pow" and params.get("y") == 1:
        return strongest
    dependent = [i for i, operand in enumerate(operands) if operand != Dependence.NONE]
    if name in _BILINEAR and len(dependent) == 1:
        return strongest
    if name in _FIRST and dependent == [0]:
        return strongest
    if name == "select_n" and dependent and 0 not in dependent:
        return strongest
    return Dependence.NONLINEAR
