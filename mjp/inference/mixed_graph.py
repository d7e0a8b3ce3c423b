"""Graphs that mix families, evaluated: nodes by space, factors and Gaussian edges by kind, and the levels.

A node has one of finitely many states, or is a vector. Edges are of three kinds: factors, whose child has one
or several parents of any family, or one through a Gamma process; edges of Gaussian processes between vectors,
cut into steps; and observations of several nodes at once.
"""

import copy
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._by_content import ByContent
from mjp.graph import Edges, Graph, Roots
from mjp.inference.finite_states import split_at_breaks
from mjp.inference.gamma_factor import gamma_factor
from mjp.inference.gaussian_graph import Kind, kind_of, root_law
from mjp.inference.gaussian_sites import Observed
from mjp.inference.joint_factors import (
    CategoricalFactor,
    GaussianFactor,
    Observation,
    Rows,
    SeenChildFactor,
    Space,
    TableFactor,
    WithChild,
)
from mjp.inference.jump_edges import JumpEdges, jump_edges
from mjp.inference.merging import merged
from mjp.inference.mixed_observations import (
    exact_vectors,
    jointly_observed,
    seen_children,
    vector_sites,
    with_likelihoods,
)
from mjp.inference.mixed_spaces import abstract_state, any_parents, labels_of, of_parents, space_of
from mjp.inference.pinning import select_edges
from mjp.inference.rules.finite_states import EXACT_TRANSITION, NO_JUMP
from mjp.inference.rules.registry import rule_of
from mjp.inference.safe_logs import log_or_never
from mjp.inference.state_tables import seen_of
from mjp.inference.turns import Level, turns_of
from mjp.processes import ConditionalCategorical, GammaProcess, GaussianProcess
from mjp.processes.finite_states import FiniteStateProcess


@dataclass(frozen=True, eq=False)
class Layout(ByContent):
    """What is known of a graph before compilation; static, compared by content.

    Nodes are those of the graph, then those inserted where rates change along an edge. They are drawn in
    turns: roots by space, then level after level, and within a level kind after kind.
    """

    labels: tuple[tuple | int, ...]  # of the states of each node, or the number of its coordinates
    turn: np.ndarray  # (n,) in which a node is drawn
    n_root_turns: int
    levels: tuple[Level, ...]  # after those of the roots: factors with children, then Gaussian edges
    updates: tuple[Level, ...]  # all turns: factors, then observations, of which some parents are drawn
    n_graph_nodes: int

    @property
    def n_nodes(self) -> int:
        return len(self.labels)

    @property
    def spaces(self) -> list[Space]:
        """The spaces of the nodes, each once."""
        return sorted(set(map(space_of, self.labels)))

    def members(self, space: Space) -> np.ndarray:
        """Nodes of a space."""
        return np.flatnonzero([space_of(label) == space for label in self.labels])

    @property
    def states(self) -> np.ndarray:
        """Nodes of finitely many states."""
        return np.flatnonzero([isinstance(label, tuple) for label in self.labels])


class StateRoots(eqx.Module):
    """Roots of finitely many states with logs of their laws (K, R)."""

    rows: Rows = eqx.field(static=True)
    space: Space = eqx.field(static=True)
    law: Array


class VectorRoots(eqx.Module):
    """Roots that are vectors: means (d, R) and factors (d, d, R), zero for a known value.

    Attributes:
        random: whether they have a law.
    """

    rows: Rows = eqx.field(static=True)
    space: Space = eqx.field(static=True)
    mean: Array
    factor: Array
    random: bool = eqx.field(static=True)


class MixedGraph(eqx.Module):
    """A graph of several families with everything evaluated.

    Attributes:
        factors: edges into children with one or several parents, by kind.
        kinds: edges of Gaussian processes between vectors, by kind.
        observed: observations of several nodes at once, by likelihood.
        likelihoods: (K, n + 1) logs, for every space of finitely many states: what was observed of nodes.
        sites: observations of single vectors, by space.
    """

    factors: tuple[WithChild, ...]
    kinds: tuple[Kind, ...]
    observed: tuple[Observation, ...]
    roots: tuple[StateRoots | VectorRoots, ...]
    likelihoods: dict[Space, Array]
    sites: dict[Space, list[Observed]]
    jumps: tuple[JumpEdges, ...]
    layout: Layout = eqx.field(static=True)


def evaluate(graph: Graph, *, observed: bool = True) -> MixedGraph:
    """Evaluate a graph that mixes families; `observed=False` leaves observations out.

    Raises:
        ValueError: states of a node that do not fit the process that leaves it, batches of graphs, vectors
            that are seen without error at the end of a process in continuous time, or with bounds.
        TypeError: observations that do not fit their nodes.
    """
    if graph.batch_shape:
        raise ValueError(f"graph: a graph that mixes families is a single one, got batch {graph.batch_shape}")
    states = [e for e in graph.edges if _has_states(e) and not any_parents(e)]
    others = [e for e in graph.edges if not _has_states(e) or any_parents(e)]
    split, final = split_at_breaks(_with_edges(graph, states)) if states else ([], np.arange(graph.n_nodes))
    labels = labels_of(graph, split, others, final)
    exact = exact_vectors(graph, labels) if observed else {}
    spaces = list(map(space_of, labels))
    n, dtype = len(labels), jnp.result_type(float)

    arrival = np.zeros(n, dtype=np.int8)
    likelihoods: dict[Space, Array] = {}
    roots: list[StateRoots | VectorRoots] = []
    for space in sorted(set(spaces)):
        if space.finite:
            likelihoods[space] = jnp.zeros((space.size, n + 1), dtype)
    for own in dict.fromkeys(label for label in labels if isinstance(label, tuple)):
        space = Space(True, len(own))
        seen = seen_of(graph, own, np.asarray([label == own for label in labels]), observed)
        arrival = np.maximum(arrival, seen.evidence.arrival)
        likelihoods[space] = with_likelihoods(likelihoods[space], seen.evidence)
        if seen.roots:
            laws = log_or_never(jnp.stack([law.astype(dtype) for law in seen.roots.values()], axis=-1))
            nodes = np.asarray(list(seen.roots))
            roots.append(StateRoots(Rows(nodes[:, None], nodes), space, laws))
    inserted = np.arange(n) != final
    arrival = np.where(inserted & (arrival[final] == EXACT_TRANSITION), NO_JUMP, arrival)

    factors: list[WithChild] = []
    jumps: list[JumpEdges] = []
    for batch in split:
        rule = rule_of(batch.process)
        kernels = rule.kernels(batch.process, batch, arrival[batch.children])
        where = Rows(batch.every_parent, batch.children)
        factors.append(
            TableFactor(
                tables=log_or_never(kernels.matrices.astype(dtype)),
                inputs=jnp.asarray(kernels.index),
                spaces=of_parents(spaces, where),
                child=spaces[batch.children[0]],
                where=where,
            )
        )
        if kernels.jumps is not None:
            jumps.append(jump_edges(batch, kernels.jumps))
    kinds: list[Kind] = []
    seen_exactly: list[SeenChildFactor] = []
    for batch in merged(others):
        if isinstance(batch.process, GaussianProcess):
            if batch.process.chart is not None:
                raise ValueError(
                    f"process: {type(batch.process).__name__} with bounds cannot stand in a graph that mixes "
                    "families; write it in coordinates without bounds"
                )
            kinds.append(kind_of(batch))
            continue
        if isinstance(batch.process, GammaProcess):
            factors.append(gamma_factor(graph, batch))
            continue
        for group in _by_spaces(batch, spaces):
            _check_function(graph, group, spaces)
            rest, seen_edges = _apart(group, exact)
            if seen_edges is not None:
                seen_exactly.append(seen_children(seen_edges, exact, spaces))
            if rest is not None:
                where, process = Rows(rest.every_parent, rest.children), rest.process
                ends = (of_parents(spaces, where), spaces[rest.children[0]], where)
                categorical = isinstance(process, ConditionalCategorical)
                factors.append((CategoricalFactor if categorical else GaussianFactor)(process, *ends))  # type: ignore[arg-type]
    for space in sorted({space for space in spaces if not space.finite}):
        roots += _vector_roots(graph, space, spaces, exact)
    roots = sorted(roots, key=lambda own: own.space)
    sites = {
        space: vector_sites(graph, space, spaces) for space in set(spaces) if not space.finite and observed
    }
    jointly = jointly_observed(graph, spaces) if observed else []
    shared = (*jointly, *seen_exactly)
    turn, levels, updates = turns_of(
        n,
        [own.rows.children for own in roots],
        [
            *((factor.where.parents, factor.where.children) for factor in factors),
            *((kind.ends.parents[:, None], kind.ends.children) for kind in kinds),
        ],
        [factor.where.parents for factor in (*factors, *shared)],
    )
    layout = Layout(tuple(labels), turn, len(roots), levels, updates, graph.n_nodes)
    return MixedGraph(
        tuple(factors), tuple(kinds), shared, tuple(roots), likelihoods, sites, tuple(jumps), layout
    )


def _has_states(edges: Edges) -> bool:
    return isinstance(edges.process, FiniteStateProcess)


def _with_edges(graph: Graph, edges: list[Edges]) -> Graph:
    part = copy.copy(graph)
    part.edges = edges
    return part


def _by_spaces(batch: Edges, spaces: list[Space]) -> list[Edges]:
    """Edges of one process by the spaces of their parents."""
    kinds: dict[tuple, list[int]] = {}
    for i, parents in enumerate(batch.every_parent.tolist()):
        kinds.setdefault(tuple(spaces[parent] for parent in parents), []).append(i)
    return [select_edges(batch, np.asarray(chosen)) for chosen in kinds.values()]


def _apart(batch: Edges, exact: dict[int, Any]) -> tuple[Edges | None, Edges | None]:
    """The edges whose child is not known, and those whose child was seen without error; None for none."""
    seen = np.asarray([child in exact for child in batch.children.tolist()], dtype=bool)
    part = lambda mask: select_edges(batch, np.flatnonzero(mask)) if mask.any() else None
    return part(~seen), part(seen)


def _check_function(graph: Graph, batch: Edges, spaces: list[Space]) -> None:
    """Have the functions of a process look at abstract states of the right shapes."""
    process: Any = batch.process
    states = [abstract_state(spaces[parent]) for parent in batch.every_parent[0].tolist()]
    moments = process.log_probabilities if isinstance(process, ConditionalCategorical) else process.moments
    try:
        jax.eval_shape(lambda *given: moments(given), *states)
    except ValueError as error:
        raise ValueError(f"the edge into {graph.describe_node(int(batch.children[0]))}: {error}") from None


def _vector_roots(
    graph: Graph, space: Space, spaces: list[Space], exact: dict[int, Array]
) -> list[VectorRoots]:
    """Roots of one space of vectors, and vectors that were seen without error, which are like them."""
    nodes: list[np.ndarray] = []
    means: list[Array] = []
    factors: list[Array] = []
    random = False
    for batch in graph.roots:
        chosen = np.flatnonzero([spaces[node] == space for node in batch.nodes.tolist()])
        if len(chosen):
            law = batch.initial
            initial = law if isinstance(law, dist.Distribution) else [law[i] for i in chosen.tolist()]
            mean, factor = root_law(Roots(batch.nodes[chosen], initial), space.size, graph)
            nodes.append(batch.nodes[chosen])
            means.append(mean.T)
            factors.append(factor)
            random = random or isinstance(law, dist.Distribution)
    for node, value in exact.items():
        if spaces[node] == space:
            nodes.append(np.asarray([node]))
            means.append(value[:, None])
            factors.append(jnp.zeros((space.size, space.size, 1), value.dtype))
    if not nodes:
        return []
    where = np.concatenate(nodes)
    mean, factor = jnp.concatenate(means, axis=-1), jnp.concatenate(factors, axis=-1)
    return [VectorRoots(Rows(where[:, None], where), space, mean, factor, random)]
