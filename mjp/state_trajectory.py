"""Draws of graphs of finite states: states at the nodes and jump paths on the edges."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp.trajectory import Names, Trajectory

if TYPE_CHECKING:
    import xarray


class EdgePath(eqx.Module):
    """A piecewise-constant path on one edge.

    Attributes:
        times: (..., B + 1) the edge's start, then the times of its jumps; padded with its end.
        states: (..., B + 1) index of the state from each time on; padded with the last state.
        end: (...) time at which the edge ends.
    """

    times: Array
    states: Array
    end: Array
    labels: tuple = eqx.field(static=True)

    def at(self, time: Any) -> Array:
        """Index of the state at times (m,) within the edge, (..., m), or at one time, (...)."""
        if np.ndim(time) == 0:
            return self.at(jnp.asarray(time)[None])[..., 0]
        time = jnp.asarray(time)
        jumps = self.times[..., None, 1:] <= time[..., :, None]
        inside = jumps & (self.times[..., None, 1:] < self.end[..., None, None])
        at_end = (time >= self.end[..., None])[..., None] & jumps
        position = jnp.sum(inside | at_end, axis=-1)
        return jnp.take_along_axis(self.states, position, axis=-1)

    @property
    def n_jumps(self) -> Array:
        """Number of jumps, (...)."""
        return jnp.sum(self.states[..., 1:] != self.states[..., :-1], axis=-1)


@dataclass(frozen=True, eq=False)
class Pieces(ByContent):
    """The edges on which paths are drawn, by node number; an edge along which rates change has several.

    Pieces of one edge are in the order of time; the nodes between them are not nodes of the graph.
    """

    parents: np.ndarray  # (n,)
    children: np.ndarray  # (n,)


class JumpPaths(eqx.Module):
    """Jump paths on all edges in continuous time, in fixed buffers.

    Attributes:
        starts, ends: (..., n) times; start_states: (..., n).
        times, states: (..., n, B) jump times and the states entered; padded with end time and end state.
        overflow: (...) number of edges whose buffer was too short; those draws are not usable.
    """

    pieces: Pieces = eqx.field(static=True)
    starts: Array
    ends: Array
    start_states: Array
    times: Array
    states: Array
    overflow: Array


class StateTrajectory(Trajectory):
    """A draw of a graph of finite states.

    Attributes:
        values: (..., n_nodes) index of the state at every node.
        observations: simulated values, one array per batch of observations of the graph; else empty.
        jumps: jump paths, for processes in continuous time.
    """

    values: Array
    observations: tuple
    jumps: JumpPaths | None
    names: Names

    def __getitem__(self, node: Hashable) -> Array:
        return self.values[..., self.names.id(node)]

    def label(self, node: Hashable) -> Any:
        """Label of the state at a node: one label, or an array of them."""
        return _labelled(self.names.labels(self.names.id(node)), self[node])

    @property
    def overflow(self) -> Array:
        """Number of edges whose jumps did not fit the buffer, (...)."""
        return jnp.zeros((), jnp.int32) if self.jumps is None else self.jumps.overflow

    def edge(self, parent: Hashable, child: Hashable) -> EdgePath:
        """The path on an edge; raises KeyError when there is no such edge in continuous time."""
        if self.jumps is None:
            raise KeyError(f"the edge {parent!r} -> {child!r} is one step; there is no path along it")
        a, b = self.names.id(parent), self.names.id(child)
        pieces = self._pieces(a, b)
        if not pieces:
            raise KeyError(f"there is no edge {parent!r} -> {child!r} in continuous time")
        j = self.jumps
        times = [j.starts[..., pieces[0], None] * jnp.ones_like(j.times[..., 0, :1])]
        states = [j.start_states[..., pieces[0], None]]
        end = j.ends[..., pieces[-1]]
        for piece in pieces:
            times.append(j.times[..., piece, :])
            states.append(j.states[..., piece, :])
        return EdgePath(
            jnp.concatenate(times, -1),
            jnp.concatenate(states, -1),
            end * jnp.ones_like(times[0][..., 0]),
            self.names.states,
        )

    def _pieces(self, a: int, b: int) -> list[int]:
        """Consecutive pieces of an edge that was split where its rates change."""
        assert self.jumps is not None
        into = {int(child): i for i, child in enumerate(self.jumps.pieces.children)}
        pieces, node, n = [], b, self.values.shape[-1]
        while node in into:
            pieces.append(into[node])
            node = int(self.jumps.pieces.parents[pieces[-1]])
            if node == a:
                return pieces[::-1]
            if node < n:
                break
        return []

    def at(self, times: Any) -> Array:
        """States at given times, for graphs whose components are paths in time (chains, panels).

        Args:
            times: (m,) times, or one.

        Returns:
            (..., n_components, m) index of the state, -1 before the first and after the last node of the
            component; without the component axis for a graph with a single one. In discrete time the
            state holds until the next node.
        """
        from mjp.on_grid import states_on_grid

        grid = jnp.asarray(times)
        if grid.ndim > 1:
            raise ValueError(f"times must be one-dimensional, got shape {grid.shape}")
        states = states_on_grid(self, jnp.atleast_1d(grid))
        return states if grid.ndim else states[..., 0]

    def to_xarray(self) -> xarray.DataArray:
        """States at the nodes as a labelled DataArray, with dims draw (if any) and node."""
        import xarray

        values = np.asarray(self.values)
        names = np.empty(values.shape[-1], dtype=object)
        names[:] = [str(name) if isinstance(name, tuple) else name for name in self.names.graph.names]
        dims = [f"draw_{i}" if i else "draw" for i in range(values.ndim - 1)]
        if self.names.by_node is None:
            data = _labelled(self.names.states, values)
        else:
            columns = [_labelled(own, values[..., i]) for i, own in enumerate(self.names.by_node)]
            data = np.stack([np.asarray(column, dtype=object) for column in columns], axis=-1)
        return xarray.DataArray(data, dims=[*dims, "node"], coords={"node": names}, name="state")


def _labelled(labels: tuple, positions: Any) -> np.ndarray:
    """Labels at positions, as an array of objects, or one label."""
    table = np.empty(len(labels), dtype=object)
    table[:] = labels
    return table[np.asarray(positions)]
