"""Draws of interacting particles: the states of all agents at the nodes, and at the steps between them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp.count_trajectory import values_at
from mjp.trajectory import Names, Trajectory

if TYPE_CHECKING:
    import xarray


class AgentPath(eqx.Module):
    """States of all agents at the steps of an edge, or of a whole chain.

    Attributes:
        times: (..., m + 1) of the steps, both ends included.
        states: (..., m + 1, n) positions of the agents' states from each time on.
    """

    times: Array
    states: Array
    labels: tuple = eqx.field(static=True)

    def at(self, time: Any) -> Array:
        """States at times (k,) within the path, (..., k, n), or at one time, (..., n)."""
        time = jnp.asarray(time, self.times.dtype)
        times = jnp.broadcast_to(self.times, self.states.shape[:-1])
        values = values_at(times, self.states, jnp.atleast_1d(time))
        return values if time.ndim else values[..., 0, :]

    @property
    def totals(self) -> Array:
        """Numbers of agents in each state, (..., m + 1, K)."""
        return _totals(self.states, len(self.labels))


@dataclass(frozen=True, eq=False)
class ChainOrder(ByContent):
    """Where the nodes of one or several chains stand; static, compared by content.

    Attributes:
        nodes: (T, R) number of the node at each time of each series.
        steps: of an edge.
        agents: names of the agents of one series.
    """

    nodes: np.ndarray
    steps: int
    agents: tuple


class AgentTrajectory(Trajectory):
    """A draw of interacting particles; `trajectory[node]` are positions of the agents' states.

    Attributes:
        values: (..., n_nodes, n) positions of states at the nodes.
        path_values: (..., F + 1, R, n) the same at all steps of the R series.
        step_times: (..., F + 1, R) times of the steps.
        observations: simulated values, one array per batch of observations of the graph.
    """

    values: Array
    observations: tuple
    path_values: Array
    step_times: Array
    names: Names
    order: ChainOrder = eqx.field(static=True)

    def __getitem__(self, node: Hashable) -> Array:
        return self.values[..., self.names.id(node), :]

    def labels(self, node: Hashable) -> np.ndarray:
        """Labels of the agents' states at a node, (..., n)."""
        labels = np.empty(len(self.names.states), dtype=object)
        labels[:] = self.names.states
        return labels[np.asarray(self[node])]

    @property
    def totals(self) -> Array:
        """Numbers of agents in each state at the nodes, (..., n_nodes, K)."""
        return _totals(self.values, len(self.names.states))

    def edge(self, parent: Hashable, child: Hashable) -> AgentPath:
        """The states at the steps of an edge; KeyError when there is no such edge."""
        a, b = self.names.id(parent), self.names.id(child)
        where = np.argwhere(self.order.nodes == a)
        time, series = (int(i) for i in where[0])
        if time + 1 >= len(self.order.nodes) or self.order.nodes[time + 1, series] != b:
            raise KeyError(f"there is no edge {parent!r} -> {child!r}")
        first = time * self.order.steps
        steps = slice(first, first + self.order.steps + 1)
        return AgentPath(
            self.step_times[..., steps, series], self.path_values[..., steps, series, :], self.names.states
        )

    def path(self, series: int | None = None) -> AgentPath:
        """The states at all steps of a chain, or of one of several series.

        Raises:
            ValueError: several series, and none chosen.
        """
        n_series = self.order.nodes.shape[1]
        if series is None and n_series > 1:
            raise ValueError(f"series must be chosen from the {n_series} of the graph")
        chosen = series or 0
        return AgentPath(
            self.step_times[..., :, chosen], self.path_values[..., :, chosen, :], self.names.states
        )

    def at(self, times: Any) -> Array:
        """States at given times (m,) or at one; -1 before the first and after the last node.

        Returns:
            (..., m, n), or (..., n_series, m, n) for several series.
        """
        times = jnp.asarray(times, self.step_times.dtype)
        grid, found = jnp.atleast_1d(times), []
        for series in range(self.order.nodes.shape[1]):
            known = self.step_times[..., series]
            outside = (grid < known[..., :1]) | (grid > known[..., -1:])
            states = jnp.where(outside[..., None], -1, self.path(series).at(grid))
            found.append(states if times.ndim else states[..., 0, :])
        if self.names.graph.batch_shape:
            return jnp.stack(found, axis=-2 - times.ndim)
        return found[0]

    def to_xarray(self) -> xarray.DataArray:
        """Positions of states at the nodes as a DataArray with dims draw (if any), node and agent."""
        import xarray

        values = np.asarray(self.values)
        names = np.empty(values.shape[-2], dtype=object)
        names[:] = [str(name) if isinstance(name, tuple) else name for name in self.names.graph.names]
        dims = [f"draw_{i}" if i else "draw" for i in range(values.ndim - 2)]
        attrs = {"states": [str(state) for state in self.names.states]}
        coords = {"node": names, "agent": [str(agent) for agent in self.order.agents]}
        return xarray.DataArray(
            values, dims=[*dims, "node", "agent"], coords=coords, name="states", attrs=attrs
        )


def _totals(states: Array, k: int) -> Array:
    return jnp.stack([jnp.sum(states == state, axis=-1) for state in range(k)], axis=-1)
