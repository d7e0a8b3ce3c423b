"""Graphs of Gamma processes, evaluated: increments by kind of edge, known values, and the schedule."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp.graph import Edges, Graph
from mjp.inference.merging import merged
from mjp.inference.pinning import exact_values, is_exact_observation
from mjp.inference.schedule import Levels, component_of_nodes, schedule_levels, topological_depth
from mjp.processes.gamma_process import GammaProcess
from mjp.vector_trajectory import Ends


class GammaKind(eqx.Module):
    """Edges that carry the same process, each cut into the same number of steps; all arrays (E, n)."""

    shapes: Array
    rates: Array
    times: Array
    durations: Array
    ends: Ends = eqx.field(static=True)
    constant_rate: bool = eqx.field(static=True)

    @property
    def n_steps(self) -> int:
        return self.times.shape[1]

    @property
    def moments(self) -> tuple[Array, Array]:
        """Mean and variance (E,) of the increments over whole edges."""
        return jnp.sum(self.shapes / self.rates, axis=1), jnp.sum(self.shapes / self.rates**2, axis=1)


@dataclass(frozen=True, eq=False)
class Layout(ByContent):
    """What is known of a graph before compilation; static in a pytree and compared by content."""

    parent: np.ndarray  # (n,)
    component: np.ndarray  # (n,) entry of the evidence
    root_nodes: np.ndarray  # (n_roots,)
    n_components: int
    levels: Levels
    owner: np.ndarray  # (R + 1,) node of each row, for rows that split a wide node that node
    known: np.ndarray  # (n + 1,) whether the value of a node is known; roots are
    known_above: np.ndarray  # (n,) the nearest known node above each node, a root for itself
    tails: np.ndarray  # (n,) number of children below which a value is known
    noisy: bool  # whether anything is observed with an error
    same_rate: bool  # whether all edges carry one process with a constant rate
    dim: int = 1

    @property
    def n_nodes(self) -> int:
        return len(self.parent)

    @property
    def free(self) -> bool:
        """Whether any state has to be drawn."""
        return not bool(np.all(self.known[:-1]))

    @property
    def bounded(self) -> bool:
        """Whether any state that has to be drawn lies above a known one."""
        return bool(np.any((self.tails > 0) & ~self.known[:-1]))


class GammaGraph(eqx.Module):
    """A graph of Gamma processes with everything evaluated.

    Attributes:
        shape, rate: (n + 1,) of the Gamma law that stands for the edge above each node, moments matched.
        values: (n + 1,) of the nodes that are known, else zero.
    """

    kinds: tuple[GammaKind, ...]
    shape: Array
    rate: Array
    values: Array
    layout: Layout = eqx.field(static=True)

    # what `anchors.at_observations` reads
    @property
    def root_mean(self) -> Array:
        return self.values[self.layout.root_nodes][:, None]

    @property
    def root_factor(self) -> Array:
        return jnp.zeros((1, 1, len(self.layout.root_nodes)))


def evaluate(graph: Graph, *, observed: bool) -> GammaGraph:
    """Evaluate a graph of Gamma processes.

    Raises:
        ValueError: a root whose value is not known, a shape function that does not increase, rates that are
            not positive, exact observations that decrease along a path, or of a root.
    """
    n = graph.n_nodes
    parent = graph.parents()
    root_nodes = np.concatenate([roots.nodes for roots in graph.roots])
    component = component_of_nodes(graph, parent)
    dtype = jnp.result_type(float)
    values, known = jnp.zeros(n + 1, dtype), np.zeros(n + 1, dtype=bool)
    process: Any = graph.edges[0].process
    for roots in graph.roots:
        initial: Any = roots.initial
        if not isinstance(initial, list):
            process.check_law("initial", initial)
        first = [process.known_state("initial", value)[0] for value in initial]
        values, known[roots.nodes] = values.at[roots.nodes].set(jnp.stack(first)), True
    for pins in exact_values(graph, 1) if observed else ():
        twice = pins.nodes[known[pins.nodes]]
        if len(twice):
            words = "is a root, or is observed exactly twice"
            raise ValueError(f"values: {graph.describe_node(int(twice[0]))} {words}")
        values = values.at[pins.nodes].set((pins.values / pins.look[:, 0])[:, 0].astype(dtype))
        known[pins.nodes] = True
    kinds = tuple(gamma_kind(graph, edges) for edges in merged(graph.edges))
    shape, rate = jnp.ones(n + 1, dtype), jnp.ones(n + 1, dtype)
    for kind in kinds:
        mean, variance = kind.moments
        shape = shape.at[kind.ends.children].set(mean**2 / variance)
        rate = rate.at[kind.ends.children].set(mean / variance)
    levels = schedule_levels(parent)
    layout = Layout(
        parent=parent,
        component=component,
        root_nodes=root_nodes,
        n_components=max(int(np.prod(graph.batch_shape)), 1),
        levels=levels,
        owner=_owners(levels, n),
        known=known,
        known_above=_known_above(parent, known[:-1]),
        tails=_tails(parent, known[:-1]),
        noisy=observed and any(not is_exact_observation(o.likelihood) for o in graph.observations),
        same_rate=len(kinds) == 1 and graph.edges[0].process.constant_rate,  # type: ignore[attr-defined]
    )
    model = GammaGraph(kinds, shape, rate, values, layout)
    _check_increasing(graph, model)
    return model


def gamma_kind(graph: Graph, edges: Edges) -> GammaKind:
    """The increments on edges that carry the same process; raises as `evaluate`, for those it knows."""
    process: Any = edges.process
    assert isinstance(process, GammaProcess)
    dtype = jnp.result_type(float)
    n_steps = edges.steps or 1
    starts, durations = (jnp.asarray(v, dtype)[:, None] for v in (edges.starts, edges.durations))
    ends = starts + durations * (np.arange(n_steps + 1) / n_steps)
    covariates = {name: jnp.asarray(values) for name, values in edges.covariates.items()}
    shapes, rates = jax.vmap(process.increments)(ends, covariates)
    for name, array, words in (
        ("shape", shapes, "must increase over every step"),
        ("rate", rates, "must be positive and finite"),
    ):
        if not is_concrete(array):
            continue
        bad = np.argwhere(~(np.isfinite(np.asarray(array)) & (np.asarray(array) > 0)))
        if len(bad):
            edge, step = (int(i) for i in bad[0])
            node = graph.describe_node(int(edges.children[edge]))
            raise ValueError(
                f"{name} {words}, got {float(array[edge, step]):g} in the step at time "
                f"{float(ends[edge, step]):g} of the edge into {node}"
            )
    lengths = jnp.broadcast_to(durations / n_steps, shapes.shape)
    constant = process.constant_rate or n_steps == 1
    return GammaKind(shapes, rates, ends[:, :-1], lengths, Ends(edges.parents, edges.children), constant)


def _owners(levels: Levels, n_nodes: int) -> np.ndarray:
    """The node of each row; rows that split a wide node have that of the node, dummies the last."""
    owner, row = levels.node.astype(np.int64), levels.parent.astype(np.int64)
    for _ in range(len(owner).bit_length() + 1):
        missing = (owner == n_nodes) & (row < len(owner) - 1)
        if not missing.any():
            break
        owner, row = np.where(missing, owner[row], owner), np.where(missing, row[row], row)
    return np.minimum(owner, n_nodes)


def _tails(parent: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Number of children of each node at or below which, before other known nodes, a value is known."""
    tails = np.zeros(len(parent), dtype=np.int64)
    depth, _ = topological_depth(parent)
    for node in np.argsort(-depth, kind="stable").tolist():
        if parent[node] >= 0 and (known[node] or tails[node] > 0):
            tails[parent[node]] += 1
    return tails


def _known_above(parent: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The nearest node above each node whose value is known; a root for itself."""
    above = np.where(parent < 0, np.arange(len(parent)), parent)
    while not np.all(known[above]):
        above = np.where(known[above], above, above[above])
    return above


def _check_increasing(graph: Graph, model: GammaGraph) -> None:
    """Whether known values increase along every path, where they are known now."""
    if not is_concrete(model.values):
        return
    layout, values = model.layout, np.asarray(model.values[:-1])
    last = layout.known_above
    bad = np.flatnonzero(layout.known[:-1] & (layout.parent >= 0) & ~(values > values[last]))
    if len(bad):
        node, before = int(bad[0]), int(last[bad[0]])
        raise ValueError(
            f"values: a Gamma process increases, but {graph.describe_node(node)} has {values[node]:g} after "
            f"{values[before]:g} at {graph.describe_node(before)}"
        )
