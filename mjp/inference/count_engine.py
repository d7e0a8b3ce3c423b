"""Conditioning graphs of reaction networks: guided jump paths with exact weights."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import log_ndtr

from mjp._checks import check_count, is_concrete
from mjp.count_trajectory import CountPaths, CountTrajectory
from mjp.graph import Edges, Graph
from mjp.inference.anchors import Anchors
from mjp.inference.closed_forms import closed_form_evidence, closed_form_guide
from mjp.inference.condition import Guided
from mjp.inference.count_graph import CountGraph, evaluate
from mjp.inference.guided_jumps import (
    DrawnClocks,
    Given,
    GuidedLanes,
    StoredClocks,
    events_first,
    guided_jumps,
)
from mjp.inference.jump_guides import JumpGuide, ProductGuide
from mjp.inference.linear_noise import linear_noise
from mjp.inference.look_ahead import look_ahead
from mjp.inference.next_observations import guide_of
from mjp.inference.rules.registry import register_engine
from mjp.inference.safe_logs import never_if_nan
from mjp.processes.gaussian import GaussianProcess
from mjp.trajectory import Names

_EVENTS = 256  # by default, on an edge
_PILOTS = 8
_ITERATIONS = 3


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
        return self.trajectory(nodes, before, lanes), never_if_nan(weight)

    def weights_by_segment(self, path: CountTrajectory) -> Array:
        """Where the log-weight of a path comes from, (n_nodes,).

        The term of a node is that of the edge above it together with its own observation, in units of what
        the guide expected at the start of the edge and expects at its end; at roots, of the observation
        alone. With an exact guide all terms are zero. The terms of a component add up to the log-weight.
        """
        model, static, paths = self.model, self.model.static, path.paths
        assert paths is not None
        n, pieces, kinds = static.layout.n_nodes, static.layout.pieces, static.layout.kinds
        nodes = jnp.zeros((n, path.values.shape[-1]), jnp.int32).at[pieces.parents].set(paths.before)
        nodes = nodes.at[: static.n_graph_nodes].set(path.values)
        by_node = model.log_likelihood(nodes)
        for kind, process in enumerate(model.processes):
            chosen = np.flatnonzero(kinds == kind)
            take = lambda tree, chosen=chosen: jax.tree.map(lambda leaf: leaf[chosen], tree)
            before, none = paths.before[chosen], jnp.zeros(len(chosen), jnp.uint32)
            lanes = guided_jumps(
                process,
                self.guide,
                take(self.guide.cells),
                tuple(before.T),
                take(model.constants[kind]),
                model.ends[chosen],
                DrawnClocks((none, none), self.clocks),
                self.slots,
                Given(jnp.ones(len(chosen), bool), paths.times[chosen], paths.reactions[chosen]),
            )
            ahead = look_ahead(model, self.guide, kind=kind)(jnp.asarray(chosen), before[:, None])[:, 0]
            by_node = by_node.at[pieces.children[chosen]].add(lanes.log_weight - ahead)
            by_node = by_node.at[pieces.parents[chosen]].add(ahead)
        # one root of each component
        roots = np.zeros(static.n_components, np.int64)
        roots[static.component[static.root_nodes]] = static.root_nodes
        by_node = by_node.at[roots].add(-self.log_evidence.reshape(-1))
        # what was cut is put together again
        final, child = np.arange(n), np.zeros(n, np.int64)
        child[pieces.parents] = pieces.children
        for node in range(n - 1, static.n_graph_nodes - 1, -1):
            final[node] = final[child[node]]
        return jnp.zeros(static.n_graph_nodes, by_node.dtype).at[final].add(by_node)

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
        start = model.leaving(parents[chosen], nodes[parents[chosen]])
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
