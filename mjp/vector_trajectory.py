"""Draws of graphs with vector states: coordinates at the nodes and discretised paths on the edges."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp.trajectory import Names, Trajectory

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, eq=False)
class Ends(ByContent):
    """The ends of edges, by node number; static, compared by content."""

    parents: np.ndarray
    children: np.ndarray


class VectorPath(eqx.Module):
    """A discretised path on one edge.

    Attributes:
        times: (n + 1,) of the steps, both ends included; values: (..., n + 1, d).
    """

    times: Array
    values: Array

    def at(self, time: Any) -> Array:
        """State at times (m,) within the edge, (..., m, d), or at one time, (..., d); linear in between."""
        return _interpolate(self.times, self.values, time)


class VectorPaths(eqx.Module):
    """Paths on all edges, one entry per kind of edge.

    Attributes:
        times, durations: (E, n) start and length of every step.
        before: (..., E, n, d) state at the start of every step.
    """

    ends: tuple[Ends, ...] = eqx.field(static=True)
    times: tuple[Array, ...]
    durations: tuple[Array, ...]
    before: tuple[Array, ...]
    n_nodes: int = eqx.field(static=True)  # of the graph; nodes beyond were inserted

    def pieces_into(self, child: int) -> list[tuple[int, int]]:
        """Kind and position of the pieces of the edge into a node, in the order of time.

        An edge with an exact observation at its end has a piece of its own for its last step.
        """
        pieces: list[tuple[int, int]] = []
        node = child
        while True:
            for kind, ends in enumerate(self.ends):
                found = np.flatnonzero(ends.children == node)
                if len(found):
                    pieces.insert(0, (kind, int(found[0])))
                    node = int(ends.parents[found[0]])
                    break
            else:
                return pieces
            if node < self.n_nodes:
                return pieces

    def in_order(self) -> np.ndarray:
        """Order of all steps of all kinds by the node that they lead to, and by time."""
        final = np.full(max(int(e.children.max(initial=0)) for e in self.ends) + 1, -1)
        for ends in self.ends:
            inserted = ends.parents >= self.n_nodes
            final[ends.parents[inserted]] = ends.children[inserted]
        keys, late = [], []
        for ends, steps in zip(self.ends, self.times, strict=True):
            to = np.where(ends.children < self.n_nodes, ends.children, final[ends.children])
            keys.append(np.repeat(to, steps.shape[-1]))
            late.append(np.repeat(ends.parents >= self.n_nodes, steps.shape[-1]))
        return np.lexsort([np.concatenate(late), np.concatenate(keys)])


class VectorTrajectory(Trajectory):
    """A draw of a graph with vector states.

    Attributes:
        values: (..., n_nodes, d) coordinates at every node.
    """

    values: Array
    observations: tuple
    paths: VectorPaths
    names: Names

    def __getitem__(self, node: Hashable) -> Array:
        return self.values[..., self.names.id(node), :]

    def edge(self, parent: Hashable, child: Hashable) -> VectorPath:
        """The path on an edge, with `.times`, `.values` and `.at(t)`; KeyError when there is no such edge."""
        a, b = self.names.id(parent), self.names.id(child)
        pieces = self.paths.pieces_into(b)
        if not pieces or self.paths.ends[pieces[0][0]].parents[pieces[0][1]] != a:
            raise KeyError(f"there is no edge {parent!r} -> {child!r}")
        starts = [self.paths.times[kind][..., i, :] for kind, i in pieces]
        before = [self.paths.before[kind][..., i, :, :] for kind, i in pieces]
        last = starts[-1][..., -1:] + self.paths.durations[pieces[-1][0]][..., pieces[-1][1], -1:]
        return VectorPath(
            jnp.concatenate([*starts, last], axis=-1),
            jnp.concatenate([*before, self.values[..., b, None, :]], axis=-2),
        )

    def path(self) -> VectorPath:
        """The whole path of a chain over all its edges: times (n,), values (..., n, d), with a series axis
        (..., n_series, n, d) if there are several. ValueError for other graphs."""
        graph = self.names.graph
        if graph.kind != "chain":
            raise ValueError("only a chain has one path; use edge() on other graphs")
        n = graph.n_series or 1
        order, kinds = self.paths.in_order(), range(len(self.paths.ends))
        flat = [
            self.paths.before[k].reshape(*self.paths.before[k].shape[:-3], -1, self.values.shape[-1])
            for k in kinds
        ]
        starts = jnp.concatenate([self.paths.times[k].reshape(-1) for k in kinds])[order].reshape(n, -1)
        lengths = jnp.concatenate([self.paths.durations[k].reshape(-1) for k in kinds])[order].reshape(n, -1)
        before = jnp.concatenate(flat, axis=-2)[..., order, :]
        before = before.reshape(*before.shape[:-2], n, -1, before.shape[-1])
        last = self.values.reshape(*self.values.shape[:-2], n, -1, before.shape[-1])[..., -1:, :]
        values = jnp.concatenate([before, last], axis=-2)
        times = jnp.append(starts[0], starts[0, -1] + lengths[0, -1])
        return VectorPath(times, values if graph.n_series else values[..., 0, :, :])

    def at(self, times: Any) -> Array:
        """States at given times of a chain: (..., m, d), or (..., n_series, m, d); linear between steps."""
        return self.path().at(times)

    def to_xarray(self) -> xarray.DataArray:
        """States at the nodes as a DataArray with dims draw (if any), node and coordinate."""
        return by_coordinate(self.values, self.names)


def by_coordinate(values: Array, names: Names) -> xarray.DataArray:
    """Values (..., n_nodes, d) as a DataArray with dims draw (if any), node and coordinate."""
    import xarray

    array = np.asarray(values)
    nodes = np.empty(array.shape[-2], dtype=object)
    nodes[:] = [str(name) if isinstance(name, tuple) else name for name in names.graph.names]
    dims = [f"draw_{i}" if i else "draw" for i in range(array.ndim - 2)]
    coords = {"node": nodes, "coordinate": np.arange(array.shape[-1])}
    return xarray.DataArray(array, dims=[*dims, "node", "coordinate"], coords=coords, name="state")


def _interpolate(grid: Array, values: Array, times: Any) -> Array:
    """Values (..., n, d) given on a grid (n,), at times (m,) or at one time."""
    times = jnp.asarray(times)
    if times.ndim > 1:
        raise ValueError(f"times must be one-dimensional, got shape {times.shape}")
    along = lambda column: jnp.interp(times, grid, column)
    flat = jnp.moveaxis(values, -2, -1).reshape(-1, grid.shape[-1])
    found = jax.vmap(along)(flat)
    found = found.reshape(*values.shape[:-2], values.shape[-1], *times.shape)
    return jnp.moveaxis(found, -1, -2) if times.ndim else found
