"""Reaction networks in graphs that mix families: jump processes on the states that they can reach.

Counts of a few molecules, or of the members of a household, are states of finitely many, and as such they
stand beside vectors without any approximation. States are labelled by tuples of counts; functions of the
states of nodes see counts by name, as those of networks alone do.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp.graph import Edges, Graph, JointObservation, Observations, Roots
from mjp.inference.mixed_spaces import any_parents
from mjp.inference.pinning import select_edges
from mjp.inference.state_tables import of_members
from mjp.observations import Exactly, is_missing
from mjp.processes import MarkovJump, ReactionNetwork
from mjp.processes.counts import Counts
from mjp.processes.reachable import Reachable, reachable_states

MOST_STATES = 2000


@dataclass(frozen=True, eq=False)
class ReachedCounts(ByContent):
    """The counts (K, d) of the states that the networks of a component reach; static."""

    states: np.ndarray
    species: tuple[str, ...]

    @cached_property
    def labels(self) -> tuple:
        return tuple(tuple(state) for state in self.states.tolist())

    def __call__(self, position: Any) -> Counts:
        return Counts(jnp.moveaxis(jnp.asarray(self.states)[position], -1, 0), self.species)


@dataclass(frozen=True, eq=False)
class OfPositions(ByContent):
    """A function of the states of nodes, of which some are counts or agents, as a function of positions."""

    function: Callable
    spaces: tuple[Any, ...]  # by argument, what makes of a position what functions see; None for nothing

    def __call__(self, *states: Any) -> Any:
        return self.function(
            *(x if own is None else own(x) for own, x in zip(self.spaces, states, strict=True))
        )


def with_finite_networks(graph: Graph) -> Graph:
    """The graph with Markov jump processes on the reached states in place of its reaction networks.

    Raises:
        ValueError: first counts that are not known, networks of different species in one component, or more
            than 2000 states that can be reached; exact counts that are not known, or cannot be reached.
    """
    networks = [edges for edges in graph.edges if isinstance(edges.process, ReactionNetwork)]
    if not networks:
        return graph
    counts, reached = _counts_of_nodes(graph, networks)
    result = on_positions(graph, counts, networks, lambda edges: _jump_edges(edges, counts, reached))
    result.roots = [_roots(roots, counts) for roots in graph.roots]
    result.observations = [
        part for batch in graph.observations for part in _observations(graph, batch, counts)
    ]
    return result


def on_positions(
    graph: Graph, spaces: Mapping[int, Any], own: list[Edges], replaced: Callable[[Edges], list[Edges]]
) -> Graph:
    """The graph with other edges in place of its `own`, and functions of what they carry reading positions.

    Roots and observations of single nodes are left to the family.

    Args:
        spaces: by node, what makes of a position what functions see.
    """
    result = copy.copy(graph)
    theirs = {id(edges) for edges in own}
    result.edges = [
        part
        for edges in graph.edges
        for part in (replaced(edges) if id(edges) in theirs else _reading(edges, spaces))
    ]
    result.joint_observations = [
        JointObservation(_through(joint.likelihood, joint.nodes, spaces), joint.nodes, joint.value)
        for joint in graph.joint_observations
    ]
    return result


def _roots(roots: Roots, counts: dict[int, ReachedCounts]) -> Roots:
    if isinstance(roots.initial, dist.Distribution):
        return roots
    known = zip(roots.nodes.tolist(), roots.initial, strict=True)
    # states are enumerated from the first one
    return Roots(roots.nodes, [counts[node].labels[0] if node in counts else value for node, value in known])


def _counts_of_nodes(
    graph: Graph, networks: list[Edges]
) -> tuple[dict[int, ReachedCounts], dict[int, tuple[list, Reachable]]]:
    """The states of every node of a network; and for these, by identity, the processes and reactions."""
    above = {
        child: parent
        for edges in networks
        for parent, child in zip(edges.parents.tolist(), edges.children.tolist(), strict=True)
    }
    known = _first_values(graph)
    root_of: dict[int, int] = {}

    def root(node: int) -> int:
        path = []
        while node in above and node not in root_of:
            path.append(node)
            node = above[node]
        found = root_of.get(node, node)
        root_of.update(dict.fromkeys(path, found))
        return found

    processes: dict[int, list[ReactionNetwork]] = {}
    for edges in networks:
        process: Any = edges.process
        for child in edges.children.tolist():
            own = processes.setdefault(root(child), [])
            if not any(process is other for other in own):
                own.append(process)
    spaces: dict[tuple, ReachedCounts] = {}
    reached: dict[int, tuple[list, Reachable]] = {}
    by_root: dict[int, ReachedCounts] = {}
    for node, own in processes.items():
        where = graph.describe_node(node)
        if node not in known:
            raise ValueError(
                f"initial: the first counts at {where} have a law; in a graph that mixes families they are "
                "known"
            )
        if any(process.species != own[0].species for process in own):
            raise ValueError(
                f"process: the networks below {where} have the species "
                f"{' and '.join(str(list(process.species)) for process in own)}; expected the same"
            )
        start = np.asarray(own[0].known_state(f"initial at {where}", known[node]), np.int64)
        key = (tuple(map(id, own)), tuple(start.tolist()))
        if key not in spaces:
            found = _reachable(own, start, where)
            spaces[key] = ReachedCounts(found.states, own[0].species)
            reached[id(spaces[key])] = (own, found)
        by_root[node] = spaces[key]
    nodes = {child for edges in networks for child in edges.children.tolist()} | set(processes)
    return {node: by_root[root(node)] for node in nodes}, reached


def _first_values(graph: Graph) -> dict[int, Any]:
    """Known values of roots, by node."""
    return {
        node: value
        for roots in graph.roots
        if not isinstance(roots.initial, dist.Distribution)
        for node, value in zip(roots.nodes.tolist(), roots.initial, strict=True)
    }


def _reachable(networks: list[ReactionNetwork], start: np.ndarray, where: str) -> Reachable:
    needs = np.concatenate(
        [np.asarray(n.reactants, np.int64).reshape(n.n_reactions, n.n_species) for n in networks]
    )
    change = np.concatenate([network.stoichiometry.astype(np.int64) for network in networks])
    unbounded = np.full(len(start), np.inf)
    try:
        return reachable_states(start, needs, change, unbounded, np.inf, MOST_STATES)
    except ValueError:
        raise ValueError(
            f"process: more than {MOST_STATES} states can be reached from {where} by {networks[0]!r}; in a "
            "graph that mixes families, or of which several nodes are observed at once, a reaction network "
            "has few states (see ReactionNetwork.truncated)"
        ) from None


def _jump_edges(
    edges: Edges, counts: dict[int, ReachedCounts], reached: dict[int, tuple[list, Reachable]]
) -> list[Edges]:
    """The edges of a network as those of jump processes, one for each set of states."""
    network: Any = edges.process
    found = []
    for space, chosen in by_spaces([(counts[child],) for child in edges.children.tolist()]):
        own = space[0]
        assert own is not None
        networks, reactions = reached[id(own)]
        first = 0
        for other in networks:
            if other is network:
                break
            first += other.n_reactions
        mine = (reactions.reaction >= first) & (reactions.reaction < first + network.n_reactions)
        part = Reachable(
            reactions.states, reactions.source[mine], reactions.target[mine], reactions.reaction[mine] - first
        )
        process = MarkovJump(network.generator(part), own.labels, breaks=network.breaks)
        found.append(replace(select_edges(edges, chosen), process=process))
    return found


def _reading(edges: Edges, spaces: Mapping[int, Any]) -> list[Edges]:
    """Edges whose functions see counts, or agents, where parents are such."""
    above = [tuple(spaces.get(parent) for parent in parents) for parents in edges.every_parent.tolist()]
    if not any_parents(edges) or not any(own is not None for row in above for own in row):
        return [edges]
    found = []
    for space, chosen in by_spaces(above):
        process: Any = edges.process
        if any(own is not None for own in space):
            process = process.through(lambda function, space=space: OfPositions(function, space))
        found.append(replace(select_edges(edges, chosen), process=process))
    return found


def by_spaces(spaces: Sequence[tuple]) -> list[tuple[tuple, np.ndarray]]:
    """Positions with the same spaces."""
    groups: dict[tuple, list[int]] = {}
    for i, space in enumerate(spaces):
        groups.setdefault(tuple(map(id, space)), []).append(i)
    return [(spaces[chosen[0]], np.asarray(chosen)) for chosen in groups.values()]


def _through(function: Callable, nodes: Sequence[int], spaces: Mapping[int, Any]) -> Callable:
    """A function of the states of nodes as one of their positions, where they are counts, or agents."""
    own = tuple(spaces.get(node) for node in nodes)
    return OfPositions(function, own) if any(space is not None for space in own) else function


def _observations(graph: Graph, batch: Observations, counts: dict[int, ReachedCounts]) -> list[Observations]:
    """Observations of counts as those of states."""
    spaces = [(counts.get(node),) for node in batch.nodes.tolist()]
    found = []
    for (space,), chosen in by_spaces(spaces):
        part = of_members(batch, np.isin(np.arange(graph.n_nodes), batch.nodes[chosen]))
        if space is None:
            found.append(part)
            continue
        likelihood: Any = batch.likelihood
        if isinstance(likelihood, Exactly):
            labels = np.empty(len(chosen), dtype=object)
            for i, node in enumerate(part.nodes.tolist()):
                labels[i] = _seen(space, part.values[i], graph.describe_node(node))
            found.append(replace(part, values=labels))
        else:
            arguments = (space,) if part.covariates is None else (space, None)
            found.append(replace(part, likelihood=OfPositions(likelihood, arguments)))
    return found


def _seen(space: ReachedCounts, value: Any, where: str) -> Any:
    """Label of the counts that were seen; the set of those that fit where some are missing, None if all are.

    Raises:
        ValueError: counts that are not known before compilation, or that cannot be reached.
    """
    if not is_concrete(value):
        raise ValueError(f"values: counts seen exactly at {where} must be known before compilation")
    if is_missing(value):
        return None
    row = np.asarray(value, dtype=float)
    if row.shape != (len(space.species),):
        raise ValueError(
            f"values: an exact observation at {where} holds counts of {', '.join(space.species)}, got shape "
            f"{row.shape}"
        )
    seen = ~np.isnan(row)
    if not seen.any():
        return None
    fits = np.flatnonzero(np.all(space.states[:, seen] == row[seen], axis=1))
    if len(fits) == 0:
        raise ValueError(f"values: the counts {row.tolist()} at {where} cannot be reached by the network")
    labels = {space.labels[i] for i in fits.tolist()}
    return next(iter(labels)) if len(labels) == 1 else labels
