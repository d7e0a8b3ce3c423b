"""Conditioning graphs of reaction networks: guided jump paths with exact weights."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax
from jax.scipy.special import log_ndtr

from mjp._by_content import ByContent
from mjp._checks import check_count, is_concrete
from mjp.count_trajectory import CountPaths, CountTrajectory
from mjp.graph import Edges, Graph
from mjp.inference.anchors import Anchors
from mjp.inference.closed_forms import closed_form_evidence, closed_form_guide
from mjp.inference.condition import Guided
from mjp.inference.count_observations import ObservedCounts, observed_counts
from mjp.inference.count_schedule import Layout, layout_of
from mjp.inference.guided_jumps import GuidedLanes, StoredClocks, events_first, guided_jumps
from mjp.inference.jump_guides import JumpGuide, ProductGuide
from mjp.inference.linear_noise import linear_noise
from mjp.inference.next_observations import guide_of
from mjp.inference.rules.registry import register_engine
from mjp.inference.schedule import component_of_nodes
from mjp.inference.segments import Segments, segment_sum
from mjp.processes.gaussian import GaussianProcess
from mjp.processes.reaction_network import ReactionNetwork
from mjp.state_trajectory import Pieces
from mjp.trajectory import Names

_CELLS, _EVENTS = 20, 256  # by default, on an edge
_PILOTS = 8
_ITERATIONS = 3


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


class CountGuided(Guided):
    """A conditioned graph of reaction networks.

    Attributes:
        log_evidence: log of the guide's g at the roots, in the batch shape of the graph; zero for guides
            that look to the next observation only.
        guide: the guide, by piece and cell.
        anchors: of a linear noise guide; else None.
        clocks: the most events on a piece that there is room for, and waiting times of each reaction.
    """

    log_evidence: Array
    model: CountGraph
    guide: JumpGuide
    names: Names
    anchors: Anchors | None
    clocks: int = eqx.field(static=True)
    exact: bool = eqx.field(static=True, default=False)

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """Innovations of the clock of every reaction on every piece of an edge."""
        n_reactions = max(process.n_reactions for process in self.model.processes)
        return {"clocks": (self.model.n_pieces, n_reactions, self.clocks)}

    def push(self, z: dict[str, Array]) -> tuple[CountTrajectory, Array]:
        """The guided paths as a function of innovations, which is not continuous; and their log-weight.

        Raises:
            ValueError: roots with a law; their draws are not a function of the innovations.
        """
        if any(law is not None for law in self.model.static.root_laws):
            raise ValueError("push needs roots with known values; use sample(key)")
        return self._push(self.model.roots, -log_ndtr(z["clocks"]))

    def sample(self, key: Array) -> tuple[CountTrajectory, Array]:
        """A guided draw and its log-weight; roots with a law are drawn from it."""
        root_key, key = jax.random.split(key)
        shape = self.innovations["clocks"]
        return self._push(self.model.draw_roots(root_key), jax.random.exponential(key, shape))

    def _push(self, roots: Array, clocks: Array) -> tuple[CountTrajectory, Array]:
        nodes, before, lanes = guided_counts(self.model, self.guide, roots, clocks, self.slots)
        weight = self.model.by_component(lanes.log_weight, self.model.log_likelihood(nodes))
        weight = weight.reshape(self.log_evidence.shape) - self.log_evidence
        return self.trajectory(nodes, before, lanes), jnp.where(jnp.isnan(weight), -jnp.inf, weight)

    @property
    def slots(self) -> int:
        """Buffer of events and crossed cells on a piece."""
        return self.clocks + self.model.ends.shape[1]

    def trajectory(self, nodes: Array, before: Array, lanes: GuidedLanes) -> CountTrajectory:
        layout = self.model.static.layout
        times, reactions = events_first(lanes.times, lanes.reactions, self.clocks)
        paths = CountPaths(
            layout.pieces,
            tuple(layout.kinds.tolist()),
            self.model.processes,
            self.model.starts,
            self.model.durations,
            before,
            times,
            reactions,
            lanes.n_events,
        )
        count = lambda flags: jnp.sum(flags, dtype=jnp.int32)
        return CountTrajectory(
            values=nodes[: self.model.static.n_graph_nodes],
            observations=(),
            paths=paths,
            overflow=count(lanes.overflow),
            invalid=count(lanes.invalid),
            unfinished=jnp.zeros((), jnp.int32),
            names=self.names,
        )


def guided_counts(
    model: CountGraph, guide: JumpGuide, roots: Array, clocks: Array, slots: int
) -> tuple[Array, Array, GuidedLanes]:
    """Guided paths level after level, all pieces of a level side by side.

    Args:
        roots: (n_roots, d). clocks: (P, L, K) exponential waiting times.

    Returns:
        counts at all nodes (n, d), at the start of all pieces (P, d), and the lanes (P,).
    """
    layout, n = model.static.layout, model.static.layout.n_nodes
    padded = lambda array: jnp.concatenate([array, jnp.zeros_like(array[:1])])
    parents = jnp.asarray(np.append(layout.pieces.parents, 0))
    children = jnp.asarray(np.append(layout.pieces.children, n))
    # the dummy piece lasts no time and ends at a node that nobody reads
    own, ends, clocks = jax.tree.map(padded, (guide.cells, model.ends, clocks))
    constants = jax.tree.map(padded, model.constants)
    nodes = jnp.zeros((n + 1, roots.shape[1]), jnp.int32).at[model.static.root_nodes].set(roots)

    def one(kind: int, chosen: Array, nodes: Array) -> tuple[Array, tuple[Array, GuidedLanes]]:
        process = model.processes[kind]
        start = nodes[parents[chosen]]
        take = lambda tree: jax.tree.map(lambda leaf: leaf[chosen], tree)
        lanes = guided_jumps(
            process,
            guide,
            take(own),
            tuple(start.T),
            take(constants[kind]),
            ends[chosen],
            StoredClocks(clocks[chosen][:, : process.n_reactions]),
            slots,
        )
        return nodes.at[children[chosen]].set(jnp.stack(lanes.counts, axis=-1)), (start, lanes)

    def sweep(nodes: Array, tables: tuple) -> tuple[Array, list]:
        outs = []
        for kind, chosen in enumerate(tables):
            if chosen.shape[0]:
                nodes, out = one(kind, chosen, nodes)
                outs.append(out)
        return nodes, outs

    found, where = [], []
    for level in layout.levels:
        nodes, outs = lax.scan(sweep, nodes, level.pieces)
        where += [table.reshape(-1) for table in level.pieces if table.shape[1]]
        found += [jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), out) for out in outs]
    # where each piece was followed; the dummies come last and are dropped
    order = np.argsort(np.concatenate(where), kind="stable")[: model.n_pieces]
    before, lanes = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[order], *found)
    return nodes[:n], before, lanes


@register_engine("counts")
def condition_counts(
    graph: Graph,
    *,
    auxiliary: Any = None,
    iterations: int | None = None,
    clip: tuple[float, float] | None = None,
    cells: int | None = None,
    max_events: int | None = None,
) -> CountGuided:
    """Build a guide and return the guided graph; see `mjp.condition`."""
    check_count("iterations", iterations)
    check_count("cells", cells)
    check_count("max_events", max_events)
    _check_clip(clip)
    model = evaluate(graph, cells)
    guide, evidence, anchors = _guide(graph, model, auxiliary, iterations)
    if clip is not None:
        guide = _with_clip(guide, clip)
    names = Names(graph, model.processes[0].species)
    evidence = evidence.reshape(graph.batch_shape)
    guided = CountGuided(evidence, model, guide, names, anchors, clocks=max_events or _EVENTS)  # type: ignore[call-arg]
    return guided if max_events else _with_buffer(guided)


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


def _guide(
    graph: Graph, model: CountGraph, auxiliary: Any, iterations: int | None
) -> tuple[JumpGuide, Array, Anchors | None]:
    """The guide, the log of its g at the roots of every component, and its anchors if it has any."""
    iterations = _ITERATIONS if iterations is None else iterations
    if auxiliary is None:
        closed = closed_form_guide(graph, model)
        if closed is not None:
            guide = guide_of(shadow(graph, model), model, closed, iterations)
            return guide, closed_form_evidence(graph, model, closed.log_probability), None
        # towards an exact observation the rates in the present state are what counts
        auxiliary = "conditioned hazard" if any(o.exact for o in model.observed) else "linear noise"
    if isinstance(auxiliary, GaussianProcess | Anchors) or auxiliary == "linear noise":
        chosen = None if isinstance(auxiliary, str) else auxiliary
        return linear_noise(shadow(graph, model), model, chosen, iterations)
    guide = guide_of(shadow(graph, model), model, auxiliary, iterations)
    return guide, jnp.zeros(model.static.n_components), None


def shadow(graph: Graph, model: CountGraph) -> Graph:
    """The graph with its edges cut as the schedule does, for guides that are graphs of their own."""
    layout = model.static.layout
    result = copy.copy(graph)
    result.n_nodes = layout.n_nodes
    result.edges = []
    for kind, process in enumerate(layout.processes):
        chosen = np.flatnonzero(layout.kinds == kind)
        result.edges.append(
            Edges(
                process,
                layout.pieces.parents[chosen],
                layout.pieces.children[chosen],
                layout.durations[chosen],
                layout.starts[chosen],
                {},
                model.ends.shape[1],
            )
        )
    return result


def _with_clip(guide: JumpGuide, clip: tuple[float, float]) -> JumpGuide:
    chosen = (float(clip[0]), float(clip[1]))
    if isinstance(guide, ProductGuide):
        return replace(guide, guides=tuple(_with_clip(one, chosen) for one in guide.guides), clip=chosen)
    changed: Any = guide
    return replace(changed, clip=chosen)


def _check_clip(clip: Any) -> None:
    if clip is None:
        return
    if not (isinstance(clip, Sequence) and len(clip) == 2 and clip[0] <= 0 <= clip[1]):
        raise ValueError(f"clip must be (least, largest) log-ratio with least <= 0 <= largest, got {clip!r}")


def _with_buffer(guided: CountGuided) -> CountGuided:
    """Clocks enough for the paths of a few guided draws, with room; the default under compilation."""
    if not all(is_concrete(leaf) for leaf in jax.tree.leaves(guided)):
        return guided
    keys = jax.random.split(jax.random.key(0), _PILOTS)
    while True:
        most, overflow = _pilot(guided, keys)
        if not bool(overflow) or guided.clocks >= 1 << 20:
            break
        guided = _resized(guided, 4 * guided.clocks)
    return _resized(guided, max(32, 1 << int(np.ceil(np.log2(1.5 * int(most) + 8)))))


def _resized(guided: CountGuided, clocks: int) -> CountGuided:
    g = guided
    return CountGuided(g.log_evidence, g.model, g.guide, g.names, g.anchors, clocks=clocks)  # type: ignore[call-arg]


@eqx.filter_jit
def _pilot(guided: CountGuided, keys: Array) -> tuple[Array, Array]:
    """The most events on one piece, and whether any buffer was too short."""

    def one(key: Array) -> tuple[Array, Array]:
        path, _ = guided.sample(key)
        assert path.paths is not None
        return jnp.max(path.paths.n_events, initial=0), path.overflow

    most, overflow = jax.vmap(one)(keys)
    return jnp.max(most), jnp.sum(overflow)
