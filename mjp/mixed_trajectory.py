"""Draws of graphs that mix families: each node in its own space."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import Array

from mjp.state_trajectory import StateTrajectory
from mjp.trajectory import Names, Trajectory
from mjp.vector_trajectory import VectorTrajectory, by_coordinate

if TYPE_CHECKING:
    import xarray


class MixedTrajectory(Trajectory):
    """A draw of a graph whose nodes are states of finitely many, or vectors.

    Attributes:
        values: (..., n_nodes, width) every node in a row: the position of a state, or coordinates, then NaN.
        states: positions of states, and jump paths; -1 for vectors. None where there are none.
        vectors: by number of coordinates; NaN for other nodes.
    """

    values: Array
    observations: tuple
    states: StateTrajectory | None
    vectors: dict[int, VectorTrajectory]
    names: Names

    def __getitem__(self, node: Hashable) -> Array:
        """The position of a state (...), or coordinates (..., d)."""
        dim = self._dim(node)
        if dim is not None:
            return self.vectors[dim][node]
        assert self.states is not None
        return self.states[node]

    def label(self, node: Hashable) -> Any:
        """Label of the state at a node of finitely many states; TypeError for a vector."""
        if self._dim(node) is not None or self.states is None:
            raise TypeError(f"node {node!r} is a vector, which has no label")
        return self.states.label(node)

    def edge(self, parent: Hashable, child: Hashable) -> Any:
        """The path on an edge in continuous time, as in the trajectories of each family."""
        dim = self._dim(child)
        own: Any = self.states if dim is None else self.vectors[dim]
        return own.edge(parent, child)

    def at(self, times: Any) -> Array:
        raise ValueError("a graph that mixes families has no one path in time; use edge() or the nodes")

    def to_xarray(self) -> xarray.DataArray:
        """Nodes as a DataArray with dims draw (if any), node and coordinate."""
        return by_coordinate(self.values, self.names)

    def _dim(self, node: Hashable) -> int | None:
        """Number of coordinates of a node; None for a state of finitely many."""
        own = self.names.labels(self.names.id(node))
        return own if isinstance(own, int) else None


def rows_of(states: Array | None, vectors: dict[int, Array]) -> Array:
    """Values (n, width) of all nodes from positions (n,), -1 for vectors, and coordinates (n, d)."""
    width = max([1, *vectors])
    parts = [jnp.pad(v, ((0, 0), (0, width - d)), constant_values=jnp.nan) for d, v in vectors.items()]
    if states is not None:
        column = jnp.where(states >= 0, states, jnp.nan)[:, None]
        parts.append(jnp.pad(column, ((0, 0), (0, width - 1)), constant_values=jnp.nan))
    whole = parts[0]
    for part in parts[1:]:
        whole = jnp.where(jnp.isnan(whole), part, whole)
    return whole
