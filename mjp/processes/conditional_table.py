"""Conditional probability tables: the law of a finite state given the states of one or several parents."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import as_numbers, check_count, check_labels, check_stochastic
from mjp.processes.finite_states import FiniteStateProcess


class ConditionalTable(FiniteStateProcess):
    """A state whose law depends on the states of its parents; an edge is one step.

    Parents may have different numbers of states, and may differ in it from the child.

        noisy_or = mjp.ConditionalTable([[[0.99, 0.01], [0.2, 0.8]], [[0.1, 0.9], [0.02, 0.98]]])
        g = mjp.Graph()
        g.root("burglary", dist.Categorical(jnp.array([0.99, 0.01])))
        g.root("earthquake", dist.Categorical(jnp.array([0.98, 0.02])))
        g.edge(("burglary", "earthquake"), "alarm", noisy_or)
        g.observe("alarm", mjp.Exactly(), 1)

    Args:
        table: probabilities (K1, ..., Kp, K) of the K states of the child, given the states of p parents in
            the order in which the edge names them; or a function from the positions of the parents' states,
            p integers, to probabilities (K,), which is called once for each combination.
        states: labels of the child's states, default 0 … K-1.
        parents: for each parent the number, or the labels, of its states. A function needs it; with a table
            it has labels checked.

    Raises:
        ValueError: a table with fewer than two axes, with negative entries or rows that do not sum to one;
            labels that do not match it; a function without `parents`.
    """

    table: Array | np.ndarray
    parents: tuple[tuple | None, ...] = eqx.field(static=True)
    states: tuple = eqx.field(static=True)

    def __init__(
        self,
        table: Any,
        states: Sequence | None = None,
        *,
        parents: Sequence[Any] | None = None,
    ):
        named = None if parents is None else [_parent(i, of) for i, of in enumerate(parents)]
        if callable(table):
            if not named:
                raise ValueError(
                    "parents must say how many states each parent has where table is a function, got None"
                )
            table = _tabulated(table, tuple(n for n, _ in named))
        table = as_numbers("table", table)
        shape = np.shape(table)
        if len(shape) < 2:
            raise ValueError(
                "table must have an axis for each parent and one for the states, (K1, ..., K), got shape "
                f"{shape}"
            )
        if named is not None and tuple(n for n, _ in named) != shape[:-1]:
            raise ValueError(
                f"table must have shape ({', '.join(str(n) for n, _ in named)}, K) for these parents, got "
                f"shape {shape}"
            )
        check_stochastic("table", table)
        self.table = table
        self.parents = tuple(labels for _, labels in named) if named else (None,) * (len(shape) - 1)
        self.states = check_labels("states", range(shape[-1]) if states is None else states)
        if len(self.states) != shape[-1]:
            raise ValueError(
                f"states must name the {shape[-1]} states of table, got {len(self.states)} labels"
            )

    @property
    def parent_states(self) -> tuple[tuple[int, tuple | None], ...]:
        return tuple(zip(np.shape(self.table)[:-1], self.parents, strict=True))


def _parent(position: int, of: Any) -> tuple[int, tuple | None]:
    """Number of states of a parent, and their labels where these are known."""
    if isinstance(of, int | np.integer):
        check_count(f"parents[{position}]", of)
        return int(of), None
    labels = check_labels(f"parents[{position}]", of)
    return len(labels), labels


def _tabulated(function: Callable[..., Any], sizes: tuple[int, ...]) -> Array:
    rows = [jnp.asarray(function(*(int(i) for i in cell))) for cell in np.ndindex(*sizes)]
    shapes = {row.shape for row in rows}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"table must return probabilities (K,), got the shapes {sorted(shapes)}")
    return jnp.stack(rows).reshape(*sizes, -1)
