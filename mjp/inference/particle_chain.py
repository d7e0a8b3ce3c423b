"""A graph of interacting particles, evaluated: contacts, parameters of every step, observations."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp.agent_trajectory import AgentTrajectory, ChainOrder
from mjp.graph import Edges, Graph
from mjp.inference.local_emissions import LocalSeen, local_observations
from mjp.inference.particle_observations import AgentsSeen, TotalsSeen, agent_observations
from mjp.inference.safe_logs import log_or_never
from mjp.inference.segments import Segments, segment_sum, take
from mjp.processes.contacts import Contacts
from mjp.processes.interacting_particles import InteractingParticles
from mjp.trajectory import Names


class Network(NamedTuple):
    """Contacts as sums over them need them; weights (E,), None where all are one."""

    sources: Segments
    targets: Segments
    weights: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Static(ByContent):
    """What is known before compilation; static in a pytree and compared by content.

    Several series are one system whose network is that many copies side by side, N = R n agents.
    """

    contacts: Contacts
    order: ChainOrder
    starts_known: bool

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """The contacts of each kind."""
        found = []
        for strengths in self.contacts.strengths():
            own = np.flatnonzero(strengths > 0)
            ends = (self.contacts.sources[own], self.contacts.targets[own])
            sources, targets = (Segments(one, self.contacts.n) for one in ends)
            weights = None if np.all(strengths[own] == 1) else strengths[own]
            found.append(Network(sources, targets, weights))
        return tuple(found)

    @property
    def n_series(self) -> int:
        return self.order.nodes.shape[1]

    @property
    def n_times(self) -> int:
        return len(self.order.nodes)

    @property
    def n_steps(self) -> int:
        """Of the whole chain, F."""
        return (self.n_times - 1) * self.order.steps


class ParticleChain(eqx.Module):
    """Interacting particles along a chain.

    Arrays over states and agents have the states first, (K, N), so that agents are side by side in memory.

    Attributes:
        at: what the rule reads, (F or 1, N or 1) each.
        first: (K, N) log-probabilities of the first states.
        step_times: (F + 1, R).
    """

    process: InteractingParticles
    at: dict[str, Array]
    first: Array
    step_times: Array
    agents: list[AgentsSeen]
    totals_seen: list[TotalsSeen]
    local_seen: list[LocalSeen]
    names: Names
    static: Static = eqx.field(static=True)

    @property
    def k(self) -> int:
        return self.process.n_states

    @property
    def shape(self) -> tuple[int, int]:
        """(F + 1, N) of a path."""
        return self.static.n_steps + 1, self.first.shape[1]

    @property
    def path_dtype(self) -> Any:
        """Of stored paths: the smallest that holds the states, since paths are kept for every draw."""
        return jnp.int8 if self.k < 128 else jnp.int32

    def at_step(self, step: Any) -> dict[str, Array]:
        """What the rule reads in one step, (N,) or (1,) each."""
        return {name: value[0] if value.shape[0] == 1 else value[step] for name, value in self.at.items()}

    def indicators(self, states: Array) -> Array:
        """States (...) as indicators (K, ...)."""
        dtype = jnp.result_type(float)
        return jnp.stack([(states == k).astype(dtype) for k in range(self.k)])

    def around(self, shares: Array) -> Array:
        """Sums (M K, N, ...) over the neighbours of every agent, of indicators or probabilities (K, N, ...).

        Those in the first network come first.
        """
        found = []
        for network in self.static.networks:
            for share in shares:  # one state after the other, since rules seldom read all of them
                if len(network.sources.index) == 0:
                    found.append(jnp.zeros_like(share))
                    continue
                along = take(share, network.sources)
                if network.weights is not None:
                    factors = jnp.asarray(network.weights, share.dtype)
                    along = along * factors.reshape(-1, *[1] * (share.ndim - 1))
                found.append(segment_sum(along, network.targets))
        return jnp.stack(found)

    def neighbours(self, states: Array) -> Array:
        """Numbers of neighbours (M K, N) by network and state."""
        return self.around(self.indicators(states))

    def neighbours_in_time(self, paths: Array) -> Array:
        """Numbers of neighbours (M K, N, F) by network and state along paths (N, F)."""
        return self.around(self.indicators(paths))

    def rows(self, states: Array, at: Mapping[str, Array]) -> list[Array]:
        """Probabilities [b], each (N,), of every agent's next state, given all states (N,)."""
        matrix = self.process.probabilities(self.neighbours(states), at)
        return select_rows(matrix, states)

    def log_transitions(self, path: Array) -> Array:
        """Log-probabilities (F, N) of the steps of a path (F + 1, N)."""
        at = {name: value.T for name, value in self.at.items()}
        matrix = self.process.probabilities(self.neighbours_in_time(path[:-1].T), at)
        return log_or_never(steps_taken(matrix, path.T)).T

    def log_first(self, path: Array) -> Array:
        """Log-probabilities (N,) of the first states."""
        return jnp.take_along_axis(self.first, path[:1].astype(jnp.int32), axis=0)[0]

    def at_nodes(self, path: Array) -> Array:
        """States (T, N) at the times of the nodes."""
        return path[:: self.static.order.steps]

    def by_series(self, terms: Array) -> Array:
        """Sums (..., R) over the agents (..., N) of each series."""
        r = self.static.n_series
        return jnp.sum(terms.reshape(*terms.shape[:-1], r, -1), axis=-1)

    def totals(self, states: Array) -> Array:
        """Numbers of agents (..., R, K) in each state."""
        return jnp.stack([self.by_series(states == k) for k in range(self.k)], axis=-1)

    def log_likelihoods(self, states: Array) -> Array:
        """Log-likelihood (T, R) of what was observed at each node, given the states (T, N) there."""
        total = jnp.zeros((self.static.n_times, self.static.n_series), jnp.result_type(float))
        for seen in self.agents:
            total = total + self.by_series(seen.log_likelihood(states))
        for seen in self.totals_seen:
            total = total + seen.log_likelihood(self.totals(states))
        return total + self.local_log_likelihoods(states)

    def local_log_likelihoods(self, states: Array) -> Array:
        """Log-likelihood (T, R) of what was observed of a few agents each, given the states (T, N)."""
        zero = jnp.zeros((self.static.n_times, self.static.n_series))
        found = (seen.log_likelihood(states, self.static.n_series) for seen in self.local_seen)
        return sum(found, zero)

    def trajectory(self, path: Array, observations: tuple = ()) -> AgentTrajectory:
        """A path (F + 1, N) as a trajectory of the graph."""
        nodes, r = self.static.order.nodes, self.static.n_series
        path = path.reshape(path.shape[0], r, -1)
        at_nodes = path[:: self.static.order.steps].reshape(nodes.size, -1)
        order = np.argsort(nodes.reshape(-1), kind="stable")
        return AgentTrajectory(
            values=at_nodes[order],
            observations=observations,
            path_values=path,
            step_times=self.step_times,
            names=self.names,
            order=self.static.order,
        )


def select_rows(matrix: list[list[Array]], states: Array) -> list[Array]:
    """Rows [b] of matrices [a][b] at the states that agents are in."""
    return [select(list(column), states) for column in zip(*matrix, strict=True)]


def select(entries: list[Array], states: Array) -> Array:
    """Of arrays [a], (...), the one that states (...) choose."""
    zero = jnp.zeros((), entries[0].dtype)
    return sum((jnp.where(states == a, entry, zero) for a, entry in enumerate(entries)), zero)


def steps_taken(matrix: list[list[Array]], paths: Array) -> Array:
    """Entries (A, S) of matrices [a][b], (A, S), for the steps of paths (A, S + 1)."""
    return select(select_rows(matrix, paths[:, :-1]), paths[:, 1:])


def evaluate(graph: Graph, observed: bool = True) -> ParticleChain:
    """Evaluate a graph of interacting particles.

    Raises:
        TypeError: a graph that is not a chain, or chains side by side, of one process; a likelihood that
            does not fit.
        ValueError: chains of different lengths or steps, covariates that are missing, probabilities that are
            none, observed values that cannot be.
    """
    process: Any = graph.edges[0].process
    if any(edges.process is not process for edges in graph.edges):
        raise TypeError(
            "graph: all edges must carry the same InteractingParticles; let its parameters depend on "
            "covariates of the steps instead"
        )
    steps = {edges.steps or process.default_steps for edges in graph.edges}
    if len(steps) > 1:
        raise ValueError(f"steps must be the same for all edges, got {sorted(steps)}")
    order = ChainOrder(_chains(graph), steps.pop(), process.agents)
    n_series = order.nodes.shape[1]
    first, known = _first(graph, process, order)
    at, times = _inputs(graph, process, order)
    static = Static(process.contacts.repeated(n_series), order, known)
    agents, totals = agent_observations(graph, process, order) if observed else ([], [])
    local = local_observations(graph, process, order) if observed else []
    names = Names(graph, process.states)
    return ParticleChain(process, at, first, times, agents, totals, local, names, static)


def _chains(graph: Graph) -> np.ndarray:
    """Nodes (T, R) of chains side by side."""
    parents = graph.parents()
    children = np.full(graph.n_nodes, -1, dtype=np.int64)
    for edges in graph.edges:
        children[edges.parents] = edges.children
    inner = parents[parents >= 0]
    if len(np.unique(inner)) < len(inner):
        raise TypeError("graph: interacting particles live on chains, and this graph branches")
    node = np.flatnonzero(parents < 0)
    found = [node]
    while np.any(children[node] >= 0):
        if np.any(children[node] < 0):
            raise TypeError("graph: all chains of interacting particles must have the same number of nodes")
        node = children[node]
        found.append(node)
    return np.stack(found)


def _first(graph: Graph, process: InteractingParticles, order: ChainOrder) -> tuple[Array, bool]:
    """Log-probabilities (K, N) of the first states, and whether these are known."""
    k, n, heads = process.n_states, process.n, order.nodes[0].tolist()
    by_root: dict[int, Array] = {}
    known = True
    for roots in graph.roots:
        for i, node in enumerate(roots.nodes.tolist()):
            if isinstance(roots.initial, dist.Distribution):
                process.check_law("initial", roots.initial)
                law: Any = getattr(roots.initial, "base_dist", roots.initial)
                shares = jnp.broadcast_to(law.probs, (n, k)).T
                by_root[node] = log_or_never(shares)
                known = False
                continue
            states = process.encode(process.known_state("initial", roots.initial[i]))
            by_root[node] = jnp.where(states == np.arange(k)[:, None], 0.0, -jnp.inf)
    first = jnp.concatenate([by_root[node] for node in heads], axis=1)
    return first.astype(jnp.result_type(float)), known


def _inputs(graph: Graph, process: InteractingParticles, order: ChainOrder) -> tuple[dict[str, Array], Array]:
    """What the rule reads in every step, and the times (F + 1, R) of the steps."""
    r, m, n = order.nodes.shape[1], order.steps, process.n
    children = np.concatenate([edges.children for edges in graph.edges])
    where = np.argsort(children, kind="stable")[np.searchsorted(np.sort(children), order.nodes[1:])]

    def of_edges(parts: list) -> Any:
        join = np.concatenate if all(map(is_concrete, parts)) else jnp.concatenate
        return join(parts)[where]  # (T - 1, R)

    durations = of_edges([edges.durations for edges in graph.edges]) / m
    starts = of_edges([edges.starts for edges in graph.edges])
    inner = starts[:, None] + durations[:, None] * np.arange(m)[:, None]
    last = starts[-1:] + m * durations[-1:]
    times = jnp.concatenate([jnp.reshape(inner, (-1, r)), jnp.asarray(last)])
    by_step = {"duration": durations}
    for edges in graph.edges:
        check_covariates(process, edges)
    for name in process.covariates:
        by_step[name] = of_edges([edges.covariates[name] for edges in graph.edges])
    at = {name: _compact(value, m, n) for name, value in by_step.items()}
    for name, value in process.parameters.items():
        each = jnp.asarray(value, jnp.result_type(float))
        at[name] = each.reshape(1, 1) if each.ndim == 0 else jnp.tile(each, r)[None]
    _check(process, by_step)
    return at, times.astype(jnp.result_type(float))


def check_covariates(process: InteractingParticles, edges: Edges) -> None:
    """Raise ValueError for what a rule reads and its edges do not have."""
    for name in process.covariates:
        if name not in edges.covariates:
            raise ValueError(
                f"rule: reads {name!r}, which is neither a parameter nor a covariate of the edges; there are "
                f"{[*process.parameters, *edges.covariates]}"
            )


def _compact(value: Any, steps: int, n: int) -> Array:
    """A quantity (T - 1, R) of edges for all steps and agents; constant axes have length one."""
    dtype = jnp.result_type(float)
    if is_concrete(value):
        array = np.asarray(value)
        if np.all(array == array[:1]):
            array = array[:1]
        if np.all(array == array[:, :1]):
            array = array[:, :1]
    else:
        array = value
    repeat = jnp.repeat(jnp.asarray(array, dtype), steps if array.shape[0] > 1 else 1, axis=0)
    return jnp.repeat(repeat, n, axis=1) if array.shape[1] > 1 else repeat


def _check(process: InteractingParticles, by_step: dict[str, Any]) -> None:
    """Look at the probabilities at the least and the greatest value of what changes between steps."""
    if all(is_concrete(value) for value in by_step.values()):
        for extreme in (np.min, np.max):
            process.check_probabilities({name: extreme(value) for name, value in by_step.items()})
