"""Graphs of reaction networks, evaluated: pieces of edges, known first states, observations."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._by_content import ByContent
from mjp.graph import Graph
from mjp.inference.count_observations import ObservedCounts, observed_counts
from mjp.inference.count_schedule import Layout, layout_of
from mjp.inference.schedule import component_of_nodes
from mjp.inference.segments import Segments, segment_sum
from mjp.processes.reaction_network import ReactionNetwork
from mjp.state_trajectory import Pieces

_CELLS = 20  # of the guide on an edge, by default


@dataclass(frozen=True, eq=False)
class Static(ByContent):
    """What is known of a graph before compilation; static in a pytree and compared by content."""

    layout: Layout
    layout_parent: np.ndarray  # (n_nodes,) of every node of the layout, -1 at roots
    component: np.ndarray  # (n_nodes,)
    root_nodes: np.ndarray
    root_laws: tuple  # of each batch of roots: a Distribution or None
    root_sizes: tuple[int, ...]
    n_components: int
    n_graph_nodes: int


class CountGraph(eqx.Module):
    """A graph of reaction networks, evaluated.

    Attributes:
        processes: distinct networks. constants: of every piece of an edge, per network, (P,) each.
        ends: (P, cells) ends of the guide's cells, since the start of each piece.
        roots: (n_roots, d) known first states; zero where a root has a law.
    """

    processes: tuple[ReactionNetwork, ...]
    constants: tuple[tuple[Array, ...], ...]
    starts: Array
    durations: Array
    ends: Array
    roots: Array
    observed: list[ObservedCounts]
    static: Static = eqx.field(static=True)

    @property
    def pieces(self) -> Pieces:
        return self.static.layout.pieces

    @property
    def n_pieces(self) -> int:
        return len(self.pieces.children)

    def draw_roots(self, key: Array) -> Array:
        """First states (n_roots, d); roots with a law are drawn from it."""
        found, at = [], 0
        for i, (law, n) in enumerate(zip(self.static.root_laws, self.static.root_sizes, strict=True)):
            known = self.roots[at : at + n]
            drawn = known if law is None else law.sample(jax.random.fold_in(key, i), (n,)).astype(jnp.int32)
            found.append(drawn)
            at += n
        return jnp.concatenate(found)

    def leaving(self, nodes: Array, x: Array) -> Array:
        """States (..., d) of nodes as edges leave them: counters begin anew at nodes of the graph."""
        process = self.processes[0]
        if not process.counters:
            return x
        begins = nodes < self.static.n_graph_nodes
        return jnp.where(begins[..., None] & ~process.carried, 0, x)

    def log_likelihood_at(self, node: Array, x: Array) -> Array:
        """Log-likelihood of the state x (d,) of one node."""
        total = jnp.zeros((), jnp.result_type(float))
        for observed in self.observed:
            total = total + observed.log_likelihood(node, x)
        return total

    def log_likelihood(self, nodes: Array) -> Array:
        """Log-likelihoods (n,) of the states (n, d) of the first n nodes; zero where nothing was observed."""
        return jax.vmap(self.log_likelihood_at)(jnp.arange(len(nodes)), nodes)

    def by_component(self, pieces: Array, nodes: Array) -> Array:
        """Sums over each component of terms of pieces (P,) and of nodes (n,)."""
        component, n = self.static.component, self.static.n_components
        total = segment_sum(pieces, Segments(component[self.pieces.children], n))
        return total + segment_sum(nodes, Segments(component[: len(nodes)], n))


def evaluate(graph: Graph, cells: int | None) -> CountGraph:
    """Evaluate a graph of reaction networks; raises as `layout_of` and `observed_counts` do."""
    layout = layout_of(graph)
    n = layout.n_nodes
    parent = np.full(n, -1, dtype=np.int64)
    parent[layout.pieces.children] = layout.pieces.parents
    root_nodes = np.concatenate([roots.nodes for roots in graph.roots])
    component = component_of_nodes(graph, parent)
    process = layout.processes[0]
    laws, values = [], []
    for roots in graph.roots:
        law = roots.initial if isinstance(roots.initial, dist.Distribution) else None
        laws.append(law)
        if law is not None:
            process.check_law("initial", law)
            values.append(jnp.zeros((len(roots.nodes), process.n_species), jnp.int32))
        else:
            first: Any = roots.initial
            known = [process.known_state("initial", value) for value in first]
            values.append(jnp.stack([jnp.asarray(value) for value in known]))
    dtype = jnp.result_type(float)
    durations = jnp.asarray(layout.durations, dtype)
    n_cells = cells or max([edges.steps or _CELLS for edges in graph.edges])
    # finer towards the end of a piece, where observations pull hardest
    share = 1.0 - (1.0 - np.arange(1, n_cells + 1) / n_cells) ** 2
    static = Static(
        layout,
        parent,
        component,
        root_nodes,
        tuple(laws),
        tuple(len(roots.nodes) for roots in graph.roots),
        max(int(np.prod(graph.batch_shape)), 1),
        graph.n_nodes,
    )
    interval = jnp.asarray(layout.interval)
    return CountGraph(
        layout.processes,
        tuple(jax.vmap(network.constants)(interval) for network in layout.processes),
        jnp.asarray(layout.starts, dtype),
        durations,
        durations[:, None] * share,
        jnp.concatenate(values),
        observed_counts(graph, process, n),
        static,
    )
