"""Tables indexed by a state or a covariate that have too few rows, which JAX would clamp silently."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mjp._checks import is_concrete

_SAME = {"convert_element_type", "broadcast_in_dim", "reshape"}  # operations that leave a state what it is


def check_tables(likelihood: Callable[[Any], Any], n_states: int) -> None:
    """Look at what a likelihood computes for an abstract state.

    Raises:
        ValueError: it looks the state up in a table that has fewer rows than there are states.
    """
    [least] = _rows_looked_up(lambda state: likelihood(state[0]), 1)
    if least is not None and least < n_states:
        raise ValueError(
            f"likelihood: it looks up the state in a table of {least} rows, but there are {n_states} states"
        )


def check_covariate_tables(
    what: str, function: Callable[[Mapping[str, Any]], Any], covariates: Mapping[str, Any], reads: Any = None
) -> None:
    """Look at what a function computes for abstract values of the covariates that are known integers.

    Args:
        what: the function is, for messages. covariates: (n,) each. reads: names that it reads, if known.

    Raises:
        ValueError: it looks a covariate up in a table that has fewer rows than the covariate's largest value
            asks for.
    """
    largest = {
        name: int(np.max(values))
        for name, values in covariates.items()
        if (reads is None or name in reads) and is_concrete(values) and np.size(values)
        if np.asarray(values).dtype.kind in "iu"
    }
    largest = {name: most for name, most in largest.items() if most > 0}
    if not largest:
        return
    first = {name: values[0] for name, values in covariates.items()}
    found = _rows_looked_up(
        lambda index: function({**first, **dict(zip(largest, index, strict=True))}), len(largest)
    )
    for (name, most), least in zip(largest.items(), found, strict=True):
        if least is not None and least <= most:
            raise ValueError(
                f"{what}: it looks up the covariate {name!r} in a table of {least} rows, but its values go "
                f"up to {most}"
            )


def _rows_looked_up(function: Callable[[list], Any], n: int) -> list[int | None]:
    """The fewest rows of the tables that a function of n integers indexes by each of them."""
    try:
        traced = jax.make_jaxpr(lambda index: jax.tree.leaves(function(index)))([np.int32(0)] * n)
    except (jax.errors.JAXTypeError, TypeError, IndexError):
        return [None] * n  # lists and NumPy arrays say themselves when an index is out of bounds
    return [_fewest_rows(traced.jaxpr, {own}) for own in traced.jaxpr.invars]


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
