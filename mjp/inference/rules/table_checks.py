"""Tables that a likelihood indexes by a state and that have too few rows, which JAX would clamp silently."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpyro.distributions import Distribution

_SAME = {"convert_element_type", "broadcast_in_dim", "reshape"}  # operations that leave a state what it is


def check_tables(likelihood: Callable[[Any], Distribution], n_states: int) -> None:
    """Look at what a likelihood computes for an abstract state.

    Raises:
        ValueError: it looks the state up in a table that has fewer rows than there are states.
    """
    try:
        traced = jax.make_jaxpr(lambda state: jax.tree.leaves(likelihood(state)))(np.int32(0))
    except (jax.errors.JAXTypeError, TypeError, IndexError):
        return  # lists and NumPy arrays say themselves when an index is out of bounds
    least = _fewest_rows(traced.jaxpr, {traced.jaxpr.invars[0]})
    if least is not None and least < n_states:
        raise ValueError(
            f"likelihood: it looks up the state in a table of {least} rows, but there are {n_states} states"
        )


def _fewest_rows(jaxpr: Any, states: set) -> int | None:
    """The smallest axis that is indexed by a state, as far as it is seen; None for none."""
    found: list[int] = []
    own = lambda var: not hasattr(var, "val") and var in states
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        inner = eqn.params.get("jaxpr")
        if name == "dynamic_slice":
            table, *starts = eqn.invars
            sizes = eqn.params["slice_sizes"]
            found += [table.aval.shape[axis] - sizes[axis] + 1 for axis, var in enumerate(starts) if own(var)]
        elif name == "gather" and own(eqn.invars[1]):
            axes = eqn.params["dimension_numbers"].start_index_map
            if len(axes) == 1:
                found.append(eqn.invars[0].aval.shape[axes[0]])
        elif inner is not None and hasattr(inner, "jaxpr"):
            pairs = zip(eqn.invars, inner.jaxpr.invars, strict=True)
            inside = _fewest_rows(inner.jaxpr, {to for var, to in pairs if own(var)})
            found += [] if inside is None else [inside]
        elif _is_index(name, eqn.invars, own):
            states |= set(eqn.outvars)
    return min(found, default=None)


def _is_index(name: str, operands: list, own: Callable[[Any], bool]) -> bool:
    """Whether an operation leaves a state, or does with it what indexing does: negative numbers count from
    the end, `select_n(x < 0, x, x + size)`."""
    if name == "add":
        numbers = [np.asarray(var.val) for var in operands if hasattr(var, "val")]
        return any(map(own, operands)) and any(n.ndim == 0 and n > 0 for n in numbers)
    return (name in _SAME and own(operands[0])) or (name == "select_n" and all(map(own, operands[1:])))
