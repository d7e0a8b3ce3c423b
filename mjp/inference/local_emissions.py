"""Observations that depend on a few agents each, as tables over the states of these."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp.agent_trajectory import ChainOrder
from mjp.graph import Graph, Observations
from mjp.inference.rules.state_observations import by_state, log_density
from mjp.observations import LocalEmissions, is_missing
from mjp.processes.interacting_particles import InteractingParticles


@dataclass(frozen=True, eq=False)
class Scopes(ByContent):
    """Which agents the numbers depend on; static, compared by content.

    Several series stand side by side: N = R n agents and R F scopes.

    Attributes:
        agents: (R F, s).
        n_agents: N.
        n_states: K.
    """

    agents: np.ndarray
    n_agents: int
    n_states: int

    @cached_property
    def strides(self) -> np.ndarray:
        """(s,) what the states of a scope count for in the position of their combination."""
        return self.n_states ** np.arange(self.agents.shape[1])[::-1]

    @cached_property
    def of_agent(self) -> tuple[np.ndarray, np.ndarray]:
        """(N + 1, D) scopes that each agent is in, R F for padding, and its place in them."""
        found: list[list[tuple[int, int]]] = [[] for _ in range(self.n_agents + 1)]
        for scope, members in enumerate(self.agents.tolist()):
            for place, agent in enumerate(members):
                found[agent].append((scope, place))
        width = max(1, max(map(len, found)))
        table = np.zeros((self.n_agents + 1, width, 2), dtype=np.int64)
        table[..., 0] = len(self.agents)
        for agent, pairs in enumerate(found):
            for i, pair in enumerate(pairs):
                table[agent, i] = pair
        return table[..., 0], table[..., 1]


class LocalSeen(eqx.Module):
    """What was observed of small groups of agents.

    Attributes:
        tables: (R F + 1, T, K**s) log-likelihoods of the combinations of states of each scope at each time,
            zero where the value is missing; the last row, of no scope, is zero.
    """

    tables: Array
    scopes: Scopes = eqx.field(static=True)

    def log_likelihood(self, states: Array, n_series: int) -> Array:
        """Log-likelihoods (T, R) of states (T, N)."""
        code = states[:, self.scopes.agents] @ self.scopes.strides  # (T, R F)
        found = jnp.take_along_axis(self.tables[:-1], code.T[..., None], axis=-1)[..., 0]
        return jnp.sum(found.reshape(n_series, -1, found.shape[-1]), axis=1).T

    def at(self, time: Any) -> "LocalSeen":
        """What was observed at one time."""
        return jax.tree.map(lambda leaf: leaf[:, time][:, None], self)

    def of_members(self, path: Array, members: Array) -> Array:
        """Log-likelihoods (W, K, T) of the states of some agents (W,) that share no scope, given all others.

        Args:
            path: (N + 1, T) states; the last row is of no agent.
        """
        scopes, places = (jnp.asarray(table)[members] for table in self.scopes.of_agent)  # (W, D)
        none = np.full((1, self.scopes.agents.shape[1]), self.scopes.n_agents)
        agents = jnp.asarray(np.concatenate([self.scopes.agents, none]))[scopes]  # (W, D, s)
        strides = jnp.asarray(self.scopes.strides)
        code = jnp.einsum("wdst,s->wdt", path[agents].astype(strides.dtype), strides)
        step = strides[places][..., None]
        rest = code - path[members][:, None] * step
        time = jnp.arange(path.shape[1])
        found = [
            jnp.sum(self.tables[scopes[..., None], time, rest + state * step], axis=1)
            for state in range(self.scopes.n_states)
        ]
        return jnp.stack(found, axis=1)


def local_observations(graph: Graph, process: InteractingParticles, order: ChainOrder) -> list[LocalSeen]:
    """The local emissions of a graph.

    Raises:
        ValueError: values of another shape, or outside the support of their law; a scope that names an
            agent that is none.
    """
    return [
        _local(graph, observed, process, order)
        for observed in graph.observations
        if isinstance(observed.likelihood, LocalEmissions)
    ]


def _local(
    graph: Graph, observed: Observations, process: InteractingParticles, order: ChainOrder
) -> LocalSeen:
    seen: Any = observed.likelihood
    (t, r), (f, s) = order.nodes.shape, seen.scopes.shape
    if seen.scopes.max() >= process.n:
        raise ValueError(f"scopes: there are {process.n} agents, got the position {seen.scopes.max()}")
    values = _values(graph, observed, f, seen.discrete)
    position = np.empty(graph.n_nodes, dtype=np.int64)
    position[order.nodes.reshape(-1)] = np.arange(t * r)
    full = jnp.full((t * r, f), jnp.nan).at[position[observed.nodes]].set(values)
    shift = process.n * np.arange(r)[:, None, None]
    scopes = Scopes((seen.scopes + shift).reshape(r * f, s), r * process.n, process.n_states)
    missing = jnp.isnan(full)
    numbers = jnp.where(missing, 0.0, full)
    numbers = numbers.astype(int) if seen.discrete else numbers
    combinations = jnp.asarray(np.indices((process.n_states,) * s).reshape(s, -1).T, jnp.int32)

    def densities(code: Any) -> Array:
        states = combinations[code]
        if not seen.indexed:
            return log_density(seen.law(states, 0), numbers.reshape(-1)).reshape(numbers.shape)
        each = lambda scope, column: log_density(seen.law(states, scope), column)
        return jax.vmap(each, in_axes=(0, 1), out_axes=1)(jnp.arange(f), numbers)

    logs = by_state(densities, len(combinations))  # (K**s, T R, F)
    logs = jnp.where(missing, 0.0, logs).reshape(-1, t, r, f)
    tables = jnp.moveaxis(logs, (2, 3), (0, 1)).reshape(r * f, -1, t)
    tables = jnp.moveaxis(tables, 1, 2).astype(jnp.result_type(float))
    return LocalSeen(jnp.concatenate([tables, jnp.zeros_like(tables[:1])]), scopes)


def _values(graph: Graph, observed: Observations, f: int, discrete: bool) -> Any:
    """Values (m, F) as floats, NaN where missing."""
    values: Any = observed.values
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = np.stack([np.full(f, np.nan) if is_missing(v) else np.asarray(v, float) for v in values])
    if values.shape != (len(observed.nodes), f):
        node = graph.describe_node(int(observed.nodes[0]))
        raise ValueError(f"values: expected one per scope, ({f},), got shape {values.shape[1:]} at {node}")
    values = jnp.asarray(values, jnp.result_type(float))
    if discrete and is_concrete(values):
        known = np.asarray(values)
        bad = np.argwhere(~np.isnan(known) & (known != np.round(known)))
        if len(bad):
            row, scope = (int(i) for i in bad[0])
            node = graph.describe_node(int(observed.nodes[row]))
            raise ValueError(f"{node}, scope {scope}: {known[row, scope]:g} is outside of the law's support")
    return values
