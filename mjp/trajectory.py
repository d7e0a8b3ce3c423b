"""What comes back: the states at the nodes and the paths on the edges."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import equinox as eqx
from jax import Array

if TYPE_CHECKING:
    import xarray


class Names(eqx.Module):
    """Node names and state labels, shared by all trajectories of a graph."""

    graph: Any = eqx.field(static=True)  # the Graph, compared by identity
    states: tuple = eqx.field(static=True)
    by_node: tuple[tuple, ...] | None = eqx.field(static=True, default=None)  # where nodes differ in states

    def labels(self, node: int) -> tuple:
        """Labels of the states of a node, by its number."""
        return self.states if self.by_node is None else self.by_node[node]

    def id(self, node: Hashable) -> int:
        if node not in self.graph.ids:
            raise KeyError(f"unknown node {node!r}")
        return self.graph.ids[node]


class Trajectory(eqx.Module):
    """A draw of a graph: `trajectory[node]` is a state, `trajectory.edge(parent, child)` a path.

    All arrays may carry leading axes of draws, as after `jax.vmap`.

    Attributes:
        values: states at all nodes, in the order of `graph.names`.
        observations: simulated values, one array per batch of observations of the graph; else empty.
    """

    values: eqx.AbstractVar[Array]
    observations: eqx.AbstractVar[tuple]
    names: eqx.AbstractVar[Names]

    @abstractmethod
    def __getitem__(self, node: Hashable) -> Array:
        """The state at a node: its index (...), or its coordinates (..., d); KeyError for an unknown node."""

    @abstractmethod
    def edge(self, parent: Hashable, child: Hashable) -> Any:
        """The path on an edge; raises KeyError when there is none."""

    @abstractmethod
    def at(self, times: Any) -> Array:
        """States at given times, for graphs whose components are paths in time."""

    @abstractmethod
    def to_xarray(self) -> xarray.DataArray:
        """States at the nodes as a labelled DataArray."""
