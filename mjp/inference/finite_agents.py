"""Interacting particles in graphs that mix families: chains on the states of all agents together.

A few agents in a few states each are one state of finitely many, and as such they stand beside vectors
without any approximation. States are labelled by tuples of the agents' labels; functions of the states of
nodes see the numbers of agents by the label of their state, as those of agents alone do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp.graph import Edges, Graph, Observations, Roots
from mjp.inference.finite_networks import MOST_STATES, OfPositions, by_spaces, on_positions
from mjp.inference.particle_chain import check_covariates
from mjp.inference.pinning import select_edges
from mjp.observations import EachAgent, Exactly, LocalEmissions, Misclassified, is_missing
from mjp.processes import InteractingParticles, MarkovChain, MarkovJump
from mjp.processes.state_counts import StateCounts


@dataclass(frozen=True, eq=False)
class JointStates(ByContent):
    """All combinations of the states of n agents; static."""

    n: int
    states: tuple

    @cached_property
    def positions(self) -> np.ndarray:
        """(K**n, n) position of the state of each agent; the last agent changes first."""
        k = len(self.states)
        return np.indices((k,) * self.n).reshape(self.n, -1).T

    @cached_property
    def labels(self) -> tuple:
        return tuple(tuple(self.states[s] for s in row) for row in self.positions.tolist())

    def __call__(self, position: Any) -> StateCounts:
        totals = (self.positions[:, :, None] == np.arange(len(self.states))).sum(axis=1)
        return StateCounts(jnp.moveaxis(jnp.asarray(totals)[position], -1, 0), self.states)

    def with_agent_in(self, agent: int, state: int) -> np.ndarray:
        """(K**n,) the combination that differs from each in that one agent is in this state."""
        stride = len(self.states) ** (self.n - 1 - agent)
        return np.arange(len(self.positions)) + stride * (state - self.positions[:, agent])


class OfEach(dist.Distribution):
    """Independent numbers, each with a law of its own; what is missing of them is left out elsewhere."""

    def __init__(self, laws: Sequence[Any]):
        self.laws = list(laws)
        super().__init__((len(self.laws),), ())

    @property
    def support(self) -> Any:  # type: ignore[override]
        return self.laws[0].support

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self.laws[0].is_discrete

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        return jnp.stack([law.log_prob(value[..., i]) for i, law in enumerate(self.laws)], axis=-1)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        keys = jax.random.split(key, len(self.laws))
        drawn = [jnp.asarray(law.sample(k, sample_shape)) for law, k in zip(self.laws, keys, strict=True)]
        return jnp.stack(drawn, axis=-1)


@dataclass(frozen=True, eq=False)
class ByAgent(ByContent):
    """What is seen of the agents one by one, or of a few together, as a function of the joint state."""

    likelihood: Any
    space: JointStates

    def __call__(self, position: Any) -> OfEach:
        states = jnp.asarray(self.space.positions)[position]
        if isinstance(self.likelihood, LocalEmissions):
            scopes = enumerate(self.likelihood.scopes)
            return OfEach([self.likelihood.law(states[scope], i) for i, scope in scopes])
        if isinstance(self.likelihood, Misclassified):
            return OfEach([dist.Categorical(self.likelihood.matrix[state]) for state in states])
        return OfEach([self.likelihood.likelihood(state) for state in states])


def with_finite_agents(graph: Graph) -> Graph:
    """The graph with chains, or jump processes, on all combinations of states in place of its agents.

    Raises:
        ValueError: agents of different numbers or states in one component, or more than 2000 combinations;
            covariates that a rule reads and its edges do not have; labels that are none.
    """
    agents = [edges for edges in graph.edges if isinstance(edges.process, InteractingParticles)]
    if not agents:
        return graph
    spaces = _spaces(graph, agents)
    result = on_positions(graph, spaces, agents, lambda edges: _joint_edges(edges, spaces))
    result.roots = [_roots(roots, spaces) for roots in graph.roots]
    result.observations = [
        part for batch in graph.observations for part in _observations(graph, batch, spaces)
    ]
    return result


def _spaces(graph: Graph, agents: list[Edges]) -> dict[int, JointStates]:
    known: dict[tuple, JointStates] = {}
    found: dict[int, JointStates] = {}
    for edges in agents:
        process: Any = edges.process
        if process.n_states**process.n > MOST_STATES:
            raise ValueError(
                f"process: {process.n} agents of {process.n_states} states have more than {MOST_STATES} "
                "states together; in a graph that mixes families, or of which several nodes are observed at "
                "once, there are few agents"
            )
        space = known.setdefault((process.n, process.states), JointStates(process.n, process.states))
        for node in (*edges.parents.tolist(), *edges.children.tolist()):
            if found.setdefault(node, space) is not space:
                raise ValueError(
                    f"process: {graph.describe_node(node)} holds {found[node].n} agents of the states "
                    f"{list(found[node].states)} by one edge, {space.n} of {list(space.states)} by another"
                )
    return found


def _joint_edges(edges: Edges, spaces: dict[int, JointStates]) -> list[Edges]:
    """The edges of agents as those of one process on the joint states for all that are alike."""
    process: Any = edges.process
    space = spaces[int(edges.children[0])]
    check_covariates(process, edges)
    steps = edges.steps or process.default_steps
    columns = [edges.covariates[name] for name in process.covariates]
    if not process.jumps:
        columns.append(edges.durations)
    n = len(edges.children)
    groups: dict[Any, list[int]] = {}
    for i in range(n):
        alike = all(map(is_concrete, columns))
        groups.setdefault(tuple(float(column[i]) for column in columns) if alike else i, []).append(i)
    found = []
    for rows in groups.values():
        first = rows[0]
        at = {name: edges.covariates[name][first] for name in process.covariates}
        own = select_edges(edges, np.asarray(rows))
        if process.jumps:
            chosen: Any = MarkovJump(_generator(process, space, at), space.labels)
        else:
            matrix = _step(process, space, {**at, "duration": edges.durations[first] / steps})
            chosen = MarkovChain(jnp.linalg.matrix_power(matrix, steps), space.labels)
        found.append(replace(own, process=chosen, covariates={}, steps=None))
    return found


def _entries(process: Any, space: JointStates, at: Mapping[str, Any]) -> list[list[Array]]:
    """What the rule says of every agent in every joint state, entries [a][b], each (n, K**n)."""
    contacts, positions = process.contacts, space.positions
    dtype = jnp.result_type(float)
    counts = []
    for weights in contacts.strengths():
        influence = np.zeros((space.n, space.n))
        np.add.at(influence, (contacts.targets, contacts.sources), weights)
        counts += [influence @ (positions == state).T for state in range(len(space.states))]
    one_each = lambda v: jnp.asarray(v, dtype).reshape(-1, 1)
    values = {name: one_each(value) for name, value in {**process.parameters, **at}.items()}
    says = process.rates if process.jumps else process.probabilities
    entries = says(jnp.asarray(np.stack(counts), dtype), values)
    shape = (space.n, len(positions))
    return [[jnp.broadcast_to(entry, shape) for entry in row] for row in entries]


def _step(process: Any, space: JointStates, at: Mapping[str, Any]) -> Array:
    """Transition matrix (K**n, K**n) of one step, in which agents move independently of each other."""
    entries = _entries(process, space, at)
    matrix = jnp.ones((1, 1))
    for agent in range(space.n):
        own = jnp.stack([jnp.stack([entry[agent] for entry in row]) for row in entries])  # (K, K, K**n)
        own = own[space.positions[:, agent], :, np.arange(len(space.positions))]  # (K**n, K)
        matrix = matrix * own[:, space.positions[:, agent]]
    return matrix


def _generator(process: Any, space: JointStates, at: Mapping[str, Any]) -> Array:
    """Rates (K**n, K**n) of agents that move one at a time; the diagonal is zero."""
    entries = _entries(process, space, {**at, "duration": 1.0})
    size = len(space.positions)
    matrix = jnp.zeros((size, size))
    for agent in range(space.n):
        for a, row in enumerate(entries):
            here = np.flatnonzero(space.positions[:, agent] == a)
            for b, entry in enumerate(row):
                if a != b:
                    matrix = matrix.at[here, space.with_agent_in(agent, b)[here]].add(entry[agent, here])
    return matrix


def _roots(roots: Roots, spaces: dict[int, JointStates]) -> Roots:
    if int(roots.nodes[0]) not in spaces:
        return roots
    space = spaces[int(roots.nodes[0])]
    if not isinstance(roots.initial, dist.Distribution):
        values: Any = roots.initial
        return Roots(roots.nodes, [tuple(value) for value in values])
    law: Any = getattr(roots.initial, "base_dist", roots.initial)
    probabilities = jnp.broadcast_to(law.probs, (space.n, len(space.states)))
    joint = jnp.prod(probabilities[np.arange(space.n), space.positions], axis=1)
    mixed: Any = dist.Categorical(joint)
    return Roots(roots.nodes, mixed)


def _observations(graph: Graph, batch: Observations, spaces: dict[int, JointStates]) -> list[Observations]:
    """Observations of agents as those of joint states."""
    found = []
    for (space,), chosen in by_spaces([(spaces.get(node),) for node in batch.nodes.tolist()]):
        part = batch if len(chosen) == len(batch.nodes) else batch.rows(chosen)
        likelihood: Any = batch.likelihood
        if space is None:
            if isinstance(likelihood, EachAgent | LocalEmissions):
                where = graph.describe_node(int(part.nodes[0]))
                raise TypeError(
                    f"likelihood: mjp.{type(likelihood).__name__} is for agents, which {where} is not"
                )
            found.append(part)
        elif isinstance(likelihood, Exactly):
            rows = zip(part.nodes.tolist(), part.values, strict=True)
            labels = np.empty(len(chosen), dtype=object)
            labels[:] = [_seen(space, value, graph.describe_node(node)) for node, value in rows]
            found.append(replace(part, values=labels))
        elif isinstance(likelihood, EachAgent | LocalEmissions | Misclassified):
            found.append(replace(part, values=_numbers(part, space), likelihood=ByAgent(likelihood, space)))
        else:
            arguments = (space,) if part.covariates is None else (space, None)
            found.append(replace(part, likelihood=OfPositions(likelihood, arguments)))
    return found


def _seen(space: Any, value: Any, where: str) -> Any:
    """Label of the joint state that was seen; the set of those that fit where some agents were not."""
    if np.ndim(value) == 0 and is_missing(value):
        return None
    row = np.asarray(value).tolist() if is_concrete(value) else list(value)
    if len(row) != space.n:
        raise ValueError(f"values: expected one per agent, ({space.n},), got {len(row)} at {where}")
    unknown = [label for label in row if not is_missing(label) and label not in space.states]
    if unknown:
        raise ValueError(f"{where}: unknown state {unknown[0]!r}; known are {list(space.states)}")
    if not any(map(is_missing, row)):
        return tuple(row)
    if all(map(is_missing, row)):
        return None
    fits = lambda label: all(is_missing(seen) or seen == own for seen, own in zip(row, label, strict=True))
    return frozenset(filter(fits, space.labels))


def _numbers(part: Observations, space: Any) -> Any:
    """Values as numbers (m, n), NaN where missing; labels as positions of outcomes."""
    likelihood: Any = part.likelihood
    if not isinstance(likelihood, Misclassified):
        if isinstance(part.values, np.ndarray) and part.values.dtype == object:
            width = len(likelihood.scopes) if isinstance(likelihood, LocalEmissions) else space.n
            nothing = np.full(width, np.nan)
            return np.stack(
                [nothing if np.ndim(v) == 0 and is_missing(v) else v for v in part.values]
            ).astype(float)
        return part.values
    outcomes = list(likelihood.labels or space.states)
    code: Callable[[Any], float] = lambda v: np.nan if is_missing(v) else float(outcomes.index(v))
    rows = [[None] * space.n if np.ndim(v) == 0 and is_missing(v) else list(v) for v in part.values]
    unknown = [v for row in rows for v in row if not is_missing(v) and v not in outcomes]
    if unknown:
        raise ValueError(f"values: unknown state {unknown[0]!r}; known are {outcomes}")
    return np.asarray([[code(v) for v in row] for row in rows])
