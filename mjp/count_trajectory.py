"""Draws of graphs whose states are counts: counts at the nodes and jump paths on the edges."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.processes.reaction_network import ReactionNetwork
from mjp.state_trajectory import Pieces
from mjp.trajectory import Names, Trajectory

if TYPE_CHECKING:
    import xarray


class CountPath(eqx.Module):
    """A piecewise-constant path of counts, on one edge or along a chain.

    Attributes:
        times: (..., B + 1) the start, then the times of events; padded with the end.
        values: (..., B + 1, d) counts from each time on; padded with the last counts.
        reactions: (..., B) which reaction fired at `times[1:]`; -1 for padding.
        end: (...) time at which the path ends.
        begins: (k,) times at which counters begin anew. In `values` they go on all along the path; `at` tells
            what they have counted since.
        names: of the reactions; species: of the coordinates; carried: which of these are no counters.
    """

    times: Array
    values: Array
    reactions: Array
    end: Array
    begins: Array
    names: tuple[str, ...] = eqx.field(static=True)
    species: tuple[str, ...] = eqx.field(static=True)
    carried: tuple[bool, ...] = eqx.field(static=True)

    def at(self, time: Any) -> Array:
        """Counts at times (m,) within the path, (..., m, d), or at one time, (..., d)."""
        time = jnp.asarray(time)
        if time.ndim > 1:
            raise ValueError(f"times must be one-dimensional, got shape {time.shape}")
        times = jnp.atleast_1d(time)
        values = values_at(self.times, self.values, times)
        if not all(self.carried):
            # where one count ends and the next begins, the whole of the first is told
            last = jnp.searchsorted(self.begins, times, side="left") - 1
            counted = values_at(self.times, self.values, self.begins[jnp.maximum(last, 0)])
            values = values - jnp.where(np.array(self.carried), 0, counted)
        return values if time.ndim else values[..., 0, :]

    @property
    def n_events(self) -> Array:
        """Number of events, (...)."""
        return jnp.sum(self.reactions >= 0, axis=-1)

    @property
    def fired(self) -> Array:
        """How often each reaction fired, (..., L)."""
        return jnp.sum(self.reactions[..., None] == np.arange(len(self.names)), axis=-2)


class CountPaths(eqx.Module):
    """Jump paths on all edges, in fixed buffers.

    An edge along which rates change is in several pieces, in the order of time.

    Attributes:
        processes: the networks that edges carry; kinds: (n,) which of them each piece carries.
        starts, durations: (n,) of the pieces.
        before: (..., n, d) counts at the start of each piece.
        times: (..., n, B) when each event happened, since the start of its piece; padded with the duration.
        reactions: (..., n, B) which reaction it was; padded with -1.
        n_events: (..., n) how many there were, whether they fitted the buffer or not.
    """

    pieces: Pieces = eqx.field(static=True)
    kinds: tuple[int, ...] = eqx.field(static=True)
    processes: tuple[ReactionNetwork, ...]
    starts: Array
    durations: Array
    before: Array
    times: Array
    reactions: Array
    n_events: Array

    def into(self, child: int, n_nodes: int) -> list[int]:
        """The pieces of the edge into a node, in the order of time; nodes beyond `n_nodes` are inner ones."""
        above = {int(node): i for i, node in enumerate(self.pieces.children)}
        found, node = [], child
        while node in above:
            found.insert(0, above[node])
            node = int(self.pieces.parents[found[0]])
            if node < n_nodes:
                break
        return found

    def joined(self, chosen: list[int], n_nodes: int) -> CountPath:
        """The path over consecutive pieces of the same network; nodes from `n_nodes` are inner ones."""
        process = self.processes[self.kinds[chosen[0]]]
        which = np.asarray(chosen)
        begins = self.starts[which[self.pieces.parents[which] < n_nodes]]
        times, values, reactions, end = _join(
            process.stoichiometry,
            self.starts[which],
            self.starts[which[-1]] + self.durations[which[-1]],
            self.before[..., which[0], :],
            self.times[..., which, :],
            self.reactions[..., which, :],
        )
        carried = tuple(process.carried.tolist())
        return CountPath(times, values, reactions, end, begins, process.reactions, process.species, carried)


@jax.jit  # called outside compiled functions, operations would compile one by one
def _join(
    stoichiometry: Array, starts: Array, end: Array, first: Array, times: Array, reactions: Array
) -> tuple[Array, Array, Array, Array]:
    """Times, values, reactions and end of the path over pieces in a row, as `CountPath` has them.

    Args:
        stoichiometry: (L, d); starts: (m,) of the pieces; end: of the last one.
        first: (..., d) counts at the start of the first piece. times, reactions: (..., m, B).
    """
    shape = (*times.shape[:-2], times.shape[-2] * times.shape[-1])
    several = times.shape[-2] > 1
    # rounding must not carry an event beyond its piece
    limits = jnp.append(starts[1:], end)
    times = jnp.minimum(starts[:, None] + times, limits[:, None]).reshape(shape)
    reactions = reactions.reshape(shape)
    if several:
        # the padding of each piece moves behind all events
        order = jnp.argsort(reactions < 0, axis=-1, stable=True)
        reactions = jnp.take_along_axis(reactions, order, axis=-1)
        times = jnp.where(reactions < 0, end, jnp.take_along_axis(times, order, axis=-1))
    change = jnp.concatenate([stoichiometry, jnp.zeros_like(stoichiometry[:1])])  # the last row is padding's
    counts = first[..., None, :] + jnp.cumsum(change[reactions], axis=-2, dtype=first.dtype)
    return (
        jnp.concatenate([jnp.broadcast_to(starts[0], (*shape[:-1], 1)), times], axis=-1),
        jnp.concatenate([first[..., None, :], counts], axis=-2),
        reactions,
        jnp.broadcast_to(end, shape[:-1]),
    )


class CountTrajectory(Trajectory):
    """A draw of a graph of counts; `trajectory[node]` are counts, `.edge(parent, child)` a `CountPath`.

    Attributes:
        values: (..., n_nodes, d) int32 counts at every node.
        observations: simulated values, one array (..., n, ...) per batch of observations of the graph.
        paths: jump paths on the edges; None where they were not stored.
        overflow: (...) number of pieces whose events did not fit the buffer; those paths are not usable,
            the counts at the nodes are.
        invalid: (...) number of pieces on which a propensity was none (negative, not finite, or positive
            without reactants); those draws are not usable.
        unfinished: (...) number of pieces that were stopped at the limit of events; not usable either.
    """

    values: Array
    observations: tuple
    paths: CountPaths | None
    overflow: Array
    invalid: Array
    unfinished: Array
    names: Names

    def __getitem__(self, node: Hashable) -> Array:
        return self.values[..., self.names.id(node), :]

    @property
    def species(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return self.names.states

    def edge(self, parent: Hashable, child: Hashable) -> CountPath:
        """The path on an edge; KeyError when there is no such edge, ValueError where no paths were stored."""
        a, b = self.names.id(parent), self.names.id(child)
        stored = self._stored()
        chosen = stored.into(b, self.names.graph.n_nodes)
        if not chosen or stored.pieces.parents[chosen[0]] != a:
            raise KeyError(f"there is no edge {parent!r} -> {child!r}")
        return stored.joined(chosen, self.names.graph.n_nodes)

    def path(self) -> CountPath:
        """The whole path of a chain over all its edges, with a series axis if there are several.

        Raises:
            ValueError: the graph is not a chain, has a single time, or no paths were stored.
        """
        graph = self.names.graph
        if graph.kind != "chain" or not graph.edges:
            raise ValueError("only a chain of at least two times has one path; use edge() on other graphs")
        stored, n = self._stored(), graph.n_series or 1
        series = []
        for i in range(n):
            nodes = range(i * graph.n_times + 1, (i + 1) * graph.n_times)
            pieces = [p for node in nodes for p in stored.into(node, graph.n_nodes)]
            series.append(stored.joined(pieces, graph.n_nodes))
        if graph.n_series is None:
            return series[0]
        axes = {"times": -2, "values": -3, "reactions": -2, "end": -1}
        stacked = {n: jnp.stack([getattr(p, n) for p in series], axis) for n, axis in axes.items()}
        first = series[0]
        shared = {name: getattr(first, name) for name in ("begins", "names", "species", "carried")}
        return CountPath(**stacked, **shared)

    def at(self, times: Any) -> Array:
        """Counts at given times (m,) of a chain, or at one.

        Returns:
            (..., m, d), or (..., n_series, m, d); -1 before the first and after the last node.
        """
        path, times = self.path(), jnp.asarray(times, jnp.result_type(float))
        known = jnp.asarray(self.names.graph.times, times.dtype)
        outside = (times < known[0]) | (times > known[-1])
        return jnp.where(outside[..., None], -1, path.at(times))

    def to_xarray(self) -> xarray.DataArray:
        """Counts at the nodes as a DataArray with dims draw (if any), node and species."""
        import xarray

        values = np.asarray(self.values)
        names = np.empty(values.shape[-2], dtype=object)
        names[:] = [str(name) if isinstance(name, tuple) else name for name in self.names.graph.names]
        dims = [f"draw_{i}" if i else "draw" for i in range(values.ndim - 2)]
        coords = {"node": names, "species": list(self.species)}
        return xarray.DataArray(values, dims=[*dims, "node", "species"], coords=coords, name="counts")

    def _stored(self) -> CountPaths:
        if self.paths is None:
            raise ValueError("no paths were stored; simulate with paths=True")
        return self.paths


@jax.jit
def values_at(times: Array, values: Array, grid: Array) -> Array:
    """Values (..., n, d) at the last of sorted times (..., n) at or before each grid time (m,)."""
    find = lambda row: jnp.maximum(jnp.searchsorted(row, grid, side="right") - 1, 0)
    last = jax.vmap(find)(times.reshape(-1, times.shape[-1]))
    last = last.reshape(*times.shape[:-1], grid.shape[0])
    return jnp.take_along_axis(values, last[..., None], axis=-2)
