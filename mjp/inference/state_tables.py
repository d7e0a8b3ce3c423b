"""Graphs of finite states whose nodes may have several parents, evaluated: one table per node."""

import copy
from dataclasses import dataclass
from functools import cached_property

import equinox as eqx
import jax.numpy as jnp
import networkx as nx
import numpy as np
from jax import Array
from numpyro.distributions import Distribution

from mjp.graph import Graph, Observations, Roots
from mjp.inference.finite_states import root_law, split_at_breaks
from mjp.inference.jump_edges import JumpEdges, jump_edges
from mjp.inference.rules.finite_states import EXACT_TRANSITION, NO_JUMP
from mjp.inference.rules.registry import rule_of
from mjp.inference.rules.state_observations import UNKNOWN, StateEvidence
from mjp.processes.finite_states import Labelled
from mjp.state_spaces import state_spaces


@dataclass(frozen=True)
class Structure:
    """What is known of a graph before compilation; static, and equal for graphs of the same form.

    Nodes are those of the graph, then those inserted where rates change along an edge.

    Attributes:
        parents: of each node, in the order of the axes of its table.
        sizes: number of states of each node.
        known: state of each node, or UNKNOWN.
        seen: whether something noisy was observed of the node.
    """

    parents: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    known: tuple[int, ...]
    seen: tuple[bool, ...]

    @property
    def n(self) -> int:
        return len(self.sizes)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The nodes, parents first."""
        graph = nx.DiGraph()
        graph.add_nodes_from(range(self.n))
        graph.add_edges_from((p, child) for child, above in enumerate(self.parents) for p in above)
        return tuple(nx.topological_sort(graph))

    @cached_property
    def matters(self) -> tuple[bool, ...]:
        """Whether something was observed of a node or below it; the law of all others is the forward one."""
        found = [seen or state != UNKNOWN for seen, state in zip(self.seen, self.known, strict=True)]
        for node in reversed(self.order):
            for parent in self.parents[node]:
                found[parent] = found[parent] or found[node]
        return tuple(found)


class StateTables(eqx.Module):
    """A graph of finite states as tables, in the order of its nodes.

    Attributes:
        laws: (K1, ..., K) each: probabilities of a node's states given those of its parents.
        likelihoods: (K,) each: of what was observed of a node, up to the factor exp(log_scales) (n,).
    """

    laws: tuple[Array, ...]
    likelihoods: tuple[Array, ...]
    log_scales: Array
    jumps: tuple[JumpEdges, ...]
    structure: Structure = eqx.field(static=True)


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of the nodes that share their states; laws of their roots by number."""

    evidence: StateEvidence
    roots: dict[int, Array]


def evaluate(graph: Graph, *, observed: bool = True) -> StateTables:
    """Evaluate a graph of finite states; `observed=False` leaves observations out.

    Raises:
        ValueError: states of a node that do not fit the process that leaves it, observations that are not
            states or contradict each other, a first state that is none, rows that do not sum to one.
    """
    spaces = state_spaces(graph)
    edges, final = split_at_breaks(graph)
    n = len(final)
    labels = [spaces[int(node)] for node in final]
    parts = {
        space: seen_of(graph, space, np.asarray([s == space for s in labels]), observed)
        for space in set(labels)
    }
    arrival = np.asarray([parts[labels[i]].evidence.arrival[i] for i in range(n)])
    inserted = np.arange(n) != final
    arrival = np.where(inserted & (arrival[final] == EXACT_TRANSITION), NO_JUMP, arrival)
    laws: list[Array] = [jnp.ones(())] * n
    parents: list[tuple[int, ...]] = [()] * n
    jumps = []
    for batch in edges:
        kernels = rule_of(batch.process).kernels(batch.process, batch, arrival[batch.children])
        for child, above, which in zip(batch.children, batch.every_parent, kernels.index, strict=True):
            laws[child], parents[child] = kernels.matrices[which], tuple(above.tolist())
        if kernels.jumps is not None:
            jumps.append(jump_edges(batch, kernels.jumps))
    for part in parts.values():
        for node, law in part.roots.items():
            laws[node] = law
    likelihoods: list[Array] = [jnp.ones(len(space)) for space in labels]
    scales, seen = jnp.zeros(n), [False] * n
    known = [int(parts[labels[i]].evidence.known[i]) for i in range(n)]
    for part in parts.values():
        nodes = noisy_nodes(part.evidence)
        if len(nodes) == 0:
            continue
        potentials = part.evidence.potentials()
        for node in nodes.tolist():
            likelihoods[node], seen[node] = potentials.values[node], True
        scales = scales.at[nodes].set(potentials.log_scale[nodes])
    structure = Structure(
        tuple(parents),
        tuple(len(space) for space in labels),
        tuple(known),
        tuple(seen),
    )
    dtype = jnp.result_type(float)
    cast = lambda arrays: tuple(array.astype(dtype) for array in arrays)
    return StateTables(cast(laws), cast(likelihoods), scales, tuple(jumps), structure)


def seen_of(graph: Graph, space: tuple, member: np.ndarray, observed: bool) -> Seen:
    """Observations and roots of the nodes with the states `space`, those of `member` (n,)."""
    process, part = Labelled(space), copy.copy(graph)
    own = [of_members(batch, member) for batch in graph.observations if observed]
    part.observations = [batch for batch in own if len(batch.nodes)]
    evidence = StateEvidence(part, process, len(member))
    laws: dict[int, Array] = {}
    for roots in graph.roots:
        chosen = np.flatnonzero(member[roots.nodes])
        if len(chosen) == 0:
            continue
        initial = roots.initial
        if not isinstance(initial, Distribution):
            initial = [initial[i] for i in chosen.tolist()]
        law = root_law(Roots(roots.nodes[chosen], initial), evidence, part)
        laws.update(zip(roots.nodes[chosen].tolist(), law, strict=True))
    return Seen(evidence, laws)


def of_members(observed: Observations, member: np.ndarray) -> Observations:
    """The observations of the nodes of `member` (n,)."""
    keep = np.flatnonzero(member[observed.nodes])
    return observed if len(keep) == len(observed.nodes) else observed.rows(keep)


def noisy_nodes(evidence: StateEvidence) -> np.ndarray:
    """Nodes of which something noisy was observed."""
    seen = np.zeros(len(evidence.known), dtype=bool)
    for table, row in evidence.factors:
        seen |= row < table.values.shape[0] - 1
    return np.flatnonzero(seen)
