"""Graphs of finite states, evaluated: transition matrices, potentials, and the schedule of the sweeps."""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Distribution

from mjp._by_content import ByContent
from mjp._checks import check_stochastic, is_concrete
from mjp.graph import Edges, Graph, Roots
from mjp.inference.breaks import cut_at_breaks
from mjp.inference.jump_edges import JumpEdges, jump_edges, pieces_of
from mjp.inference.merging import merged
from mjp.inference.potentials.categorical import Categorical
from mjp.inference.rules.finite_states import EXACT_TRANSITION, NO_JUMP, SNAPSHOT, Kernels
from mjp.inference.rules.registry import rule_of
from mjp.inference.rules.state_observations import UNKNOWN, StateEvidence
from mjp.inference.schedule import Levels, Paths, component_of_nodes, schedule_levels, schedule_paths
from mjp.observations import is_missing
from mjp.processes.finite_states import FiniteStateProcess
from mjp.state_trajectory import Pieces


@dataclass(frozen=True, eq=False)
class Layout(ByContent):
    """What is known of a graph before compilation; static in a pytree and compared by content.

    Nodes are those of the graph, then those inserted where rates change along an edge, then a dummy.
    """

    edge_matrix: np.ndarray  # (n + 1,) matrix of the edge above each node
    known: np.ndarray  # (n,) state or UNKNOWN
    arrival: np.ndarray  # (n,) how each node's edge reaches it
    parent: np.ndarray  # (n,)
    component: np.ndarray  # (n,) entry of the evidence
    root_nodes: np.ndarray  # (n_roots,)
    paths: tuple[Paths, ...]
    pinned: np.ndarray  # (p,) children whose edge joins two known states
    levels: Levels | None
    pieces: Pieces  # edges in continuous time, batch after batch
    noisy: bool  # whether any observation leaves its state open
    n_components: int
    n_graph_nodes: int
    states: tuple

    @property
    def n_states(self) -> int:
        return len(self.states)


class FiniteStates(eqx.Module):
    """A graph of finite states with everything evaluated that inference needs."""

    matrices: Array  # (U + 1, K, K), the last is the identity
    nodes: Categorical  # (n + 1, K), the dummy's potential is one
    root_laws: Array  # (n_roots, K) probabilities; one-hot for a known value
    jumps: tuple[JumpEdges, ...]
    layout: Layout = eqx.field(static=True)


@dataclass(frozen=True, eq=False)
class Declared:
    """What a graph of finite states declares, before its kernels are evaluated."""

    process: FiniteStateProcess
    edges: list[Edges]
    evidence: StateEvidence
    arrival: np.ndarray  # (n,) how each node's edge reaches it
    parent: np.ndarray  # (n,)
    component: np.ndarray  # (n,)
    root_nodes: np.ndarray  # (n_roots,)
    root_laws: Array  # (n_roots, K)


def declared(graph: Graph, *, observed: bool = True) -> Declared:
    """Read the nodes, roots and observations of a graph; `observed=False` leaves observations out.

    Raises:
        ValueError: processes with different states, observations that are not states or contradict each
            other, a node without parent that is not a root, a first state outside the process.
    """
    process = _process(graph)
    edges, final = split_at_breaks(graph)
    n_nodes = len(final)
    parent = np.full(n_nodes, -1, dtype=np.int64)
    for batch in edges:
        parent[batch.children] = batch.parents
    component = component_of_nodes(graph, parent)
    evidence = StateEvidence(graph, process, n_nodes)
    arrival = evidence.arrival if observed else np.full(n_nodes, SNAPSHOT, dtype=np.int8)
    if np.any(arrival == EXACT_TRANSITION):
        inserted = np.arange(n_nodes) != final
        arrival = np.where(inserted & (arrival[final] == EXACT_TRANSITION), NO_JUMP, arrival)
    if not observed:
        evidence.known[:] = UNKNOWN
        evidence.factors = []
    root_nodes, root_laws = _roots(graph, evidence)
    return Declared(process, edges, evidence, arrival, parent, component, root_nodes, root_laws)


def evaluate(graph: Graph, *, observed: bool = True) -> FiniteStates:
    """Evaluate a graph of finite-state processes; raises as `declared` does."""
    d = declared(graph, observed=observed)
    process, evidence, parent, n_nodes = d.process, d.evidence, d.parent, len(d.parent)
    tables, edge_matrix, jumps, offset = [], np.full(n_nodes + 1, -1, dtype=np.int64), [], 0
    for batch in d.edges:
        kernels: Kernels = rule_of(batch.process).kernels(batch.process, batch, d.arrival[batch.children])
        tables.append(kernels.matrices)
        edge_matrix[batch.children] = offset + kernels.index
        offset += kernels.matrices.shape[0]
        if kernels.jumps is not None:
            jumps.append(jump_edges(batch, kernels.jumps))
    nodes = evidence.potentials()
    dtype = jnp.result_type(nodes.values, *tables, d.root_laws)
    identity = jnp.eye(process.n_states, dtype=dtype)[None]
    matrices = jnp.concatenate([*tables, identity]).astype(dtype)
    edge_matrix[edge_matrix < 0] = offset
    known = evidence.known
    cut = schedule_paths(parent, known != UNKNOWN, d.component)
    layout = Layout(
        edge_matrix=edge_matrix.astype(np.int32),
        known=known,
        arrival=d.arrival,
        parent=parent,
        component=d.component,
        root_nodes=d.root_nodes,
        paths=tuple(cut[0]) if cut is not None else (),
        pinned=cut[1] if cut is not None else np.zeros(0, dtype=np.int64),
        levels=None if cut is not None else schedule_levels(parent),
        pieces=pieces_of(jumps),
        noisy=bool(evidence.factors),
        n_components=max(int(np.prod(graph.batch_shape)), 1),
        n_graph_nodes=graph.n_nodes,
        states=process.states,
    )
    potentials = Categorical(nodes.values.astype(dtype), nodes.log_scale.astype(dtype))
    return FiniteStates(matrices, potentials, d.root_laws.astype(dtype), tuple(jumps), layout)


def _process(graph: Graph) -> FiniteStateProcess:
    processes: list[Any] = [edges.process for edges in graph.edges]
    first = processes[0]
    for other in processes[1:]:
        if other.states != first.states:
            raise ValueError(
                "process: all edges of a graph of finite states need the same states, got "
                f"{list(first.states)} and {list(other.states)}"
            )
    return first


def split_at_breaks(graph: Graph) -> tuple[list[Edges], np.ndarray]:
    """Insert hidden nodes where the process of an edge changes in time.

    Returns:
        the edges; and for every node, inserted ones included, the node of the graph that its edge leads to.
    """
    n_nodes = graph.n_nodes
    result, final = [], [np.arange(n_nodes)]
    for batch in merged(graph.edges):
        breaks = rule_of(batch.process).pieces(batch.process)
        if len(breaks) == 0:
            result.append(batch)
            continue
        cut = cut_at_breaks(batch, breaks, n_nodes)
        inserted = cut.children >= n_nodes
        final.append(batch.children[cut.edge[inserted]])
        n_nodes += int(inserted.sum())
        result.append(
            replace(
                batch,
                parents=cut.parents,
                children=cut.children,
                durations=cut.durations,
                starts=cut.starts,
                covariates={name: values[cut.edge] for name, values in batch.covariates.items()},
            )
        )
    return result, np.concatenate(final)


def _roots(graph: Graph, evidence: StateEvidence) -> tuple[np.ndarray, Array]:
    nodes = np.concatenate([roots.nodes for roots in graph.roots])
    laws = [root_law(roots, evidence, graph) for roots in graph.roots]
    return nodes, jnp.concatenate(laws) if len(laws) > 1 else laws[0]


def root_law(roots: Roots, evidence: StateEvidence, graph: Graph) -> Array:
    process, n = evidence.process, len(roots.nodes)
    k = process.n_states
    if not isinstance(roots.initial, Distribution):
        label: Any
        for node, label in zip(roots.nodes.tolist(), roots.initial, strict=True):
            if is_missing(label):
                raise ValueError(
                    f"initial: the first state at {graph.describe_node(node)} is {label!r}; give a state or "
                    f"a Distribution over {list(process.states)}"
                )
            # labels of a truncated network are tuples of counts
            labelled = isinstance(label, tuple) and label in process.states
            if not labelled and isinstance(label, list | tuple | np.ndarray | Array) and np.ndim(label) > 0:
                raise TypeError(
                    f"initial must be a state or a Distribution over {list(process.states)}, got an array of "
                    f"shape {np.shape(label)}; write dist.Categorical(probs)"
                )
            if not is_concrete(label):
                raise TypeError("initial: a known first state must be known before compilation")
            try:
                evidence.set_known(
                    node,
                    np.asarray(label).item() if isinstance(label, np.generic | np.ndarray | Array) else label,
                )
            except ValueError as error:
                raise ValueError(f"initial: {error}") from None
        one_hot = np.zeros((n, k))
        one_hot[np.arange(n), evidence.known[roots.nodes]] = 1.0
        return jnp.asarray(one_hot, jnp.result_type(float))
    law: Any = roots.initial
    if law.event_shape or not law.has_enumerate_support or not _enumerates(law, k):
        raise ValueError(
            f"initial must be a Distribution over the {k} states {list(process.states)}, such as "
            f"dist.Categorical(probs), got {type(law).__name__}"
        )
    values = jnp.arange(k).reshape(k, *[1] * len(law.batch_shape))
    log_law = jnp.moveaxis(law.log_prob(values), 0, -1)
    if log_law.ndim > 1 and log_law.shape[0] not in (1, n):
        raise ValueError(f"initial has batch shape {law.batch_shape}, but there are {n} roots")
    check_stochastic("initial", jnp.exp(log_law), "states")
    return jnp.broadcast_to(jnp.exp(log_law), (n, k))


def _enumerates(law: Any, n_states: int) -> bool:
    values = law.enumerate_support(expand=False).reshape(-1)
    if len(values) != n_states:
        return False
    return not is_concrete(values) or np.array_equal(np.asarray(values), np.arange(n_states))
