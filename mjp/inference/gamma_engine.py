"""Conditioning graphs of Gamma processes: guided increments between nodes, and bridges within edges.

Between nodes an edge is one Gamma increment, with the mean and variance of the sum of its steps, and is
guided by a Gamma tail times a Gaussian; within the edge the steps are drawn given their sum. The weight
corrects for the moments matched, for likelihoods that are not Gaussian, and for both laws of draws.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import check_count
from mjp.graph import Graph
from mjp.inference.anchors import Anchors, at_observations
from mjp.inference.condition import Guided
from mjp.inference.evidence_checks import check_finite_evidence
from mjp.inference.gamma_bridge import gamma_bridge
from mjp.inference.gamma_graph import GammaGraph, GammaKind, Layout, evaluate
from mjp.inference.gamma_sweeps import backward, forward
from mjp.inference.gaussian_sites import Observed, node_potentials, sites_of
from mjp.inference.observing import observations_of
from mjp.inference.pinning import PinnedEdges
from mjp.inference.potentials.gamma_tail import GammaTail, log_gamma_density
from mjp.inference.rules.registry import register_engine, register_simulator
from mjp.inference.safe_logs import never_if_nan
from mjp.inference.segments import Segments, segment_sum
from mjp.trajectory import Names
from mjp.vector_trajectory import VectorPaths, VectorTrajectory


class GammaGuided(Guided):
    """A conditioned graph of Gamma processes.

    Attributes:
        log_evidence: of the guide, in the batch shape of the graph.
        rows: potentials, by row of the schedule.
        anchors: the states at which likelihoods were expanded.
    """

    log_evidence: Array
    model: GammaGraph
    sites: Any
    rows: GammaTail
    anchors: Anchors
    names: Names
    exact: bool = eqx.field(static=True)

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """Innovations of the increments above nodes whose value is not known, and of the steps of edges."""
        layout, shapes = self.model.layout, {}
        if layout.free:
            shapes["nodes"] = (layout.n_nodes, 2 if layout.bounded else 1)
        for i, kind in enumerate(self.model.kinds):
            if kind.n_steps > 1:
                shapes[f"steps{i or ''}"] = kind.shapes.shape
        return shapes

    def push(self, z: dict[str, Array]) -> tuple[VectorTrajectory, Array]:
        """Guided paths as a smooth function of the innovations, and their log-weight."""
        return _push(self, z)

    def log_likelihoods(self, path: VectorTrajectory) -> Array:
        """Log-densities of the observations of each node given the path, (n_nodes,); zero if unobserved."""
        return _log_likelihoods(self.sites, path.values)


@eqx.filter_jit
def _push(guided: GammaGuided, z: dict[str, Array]) -> tuple[VectorTrajectory, Array]:
    model, layout = guided.model, guided.model.layout
    nodes, increments, ratios = forward(model, guided.rows, z.get("nodes"))
    terms = ratios + _log_likelihoods(guided.sites, nodes[:, None])
    if layout.bounded:  # what the ratios have of the tails
        at_nodes = jax.tree.map(lambda leaf: leaf[layout.levels.row_of_node], guided.rows)
        terms = terms - jnp.where(layout.known[:-1], 0.0, at_nodes.log_tail(nodes, inside=True))
    before = []
    for i, kind in enumerate(model.kinds):
        start, children = nodes[kind.ends.parents], kind.ends.children
        if kind.n_steps == 1:
            before.append(start[:, None, None])
            continue
        whole = jnp.maximum(increments[children], 1e-30)
        parts, weights = jax.vmap(gamma_bridge)(kind.shapes, kind.rates, whole, z[f"steps{i or ''}"])
        weights = weights - log_gamma_density(whole, model.shape[children], model.rate[children])
        terms = terms.at[children].add(weights)
        gone = jnp.cumsum(parts, axis=1) - parts
        before.append((start[:, None] + gone)[..., None])
    total = segment_sum(terms, Segments(layout.component, layout.n_components))
    weight = total.reshape(guided.log_evidence.shape) - guided.log_evidence
    path = trajectory(model, guided.names, nodes, before)
    return path, never_if_nan(weight)


def trajectory(model: GammaGraph, names: Names, nodes: Array, before: list[Array]) -> VectorTrajectory:
    """States (n,) at nodes and (E, steps, 1) before the steps of edges as a trajectory."""
    kinds = model.kinds
    paths = VectorPaths(
        tuple(kind.ends for kind in kinds),
        tuple(kind.times for kind in kinds),
        tuple(kind.durations for kind in kinds),
        tuple(before),
        model.layout.n_nodes,
    )
    return VectorTrajectory(values=nodes[:, None], observations=(), paths=paths, names=names)


@register_engine("gamma tails")
def condition_gamma(graph: Graph, *, auxiliary: Any = None, iterations: int | None = None) -> GammaGuided:
    """Expand the likelihoods, filter backwards and return the guided graph; see `mjp.condition`."""
    check_count("iterations", iterations)
    if not isinstance(auxiliary, Anchors | None):
        raise ValueError(f"auxiliary must be anchors of an earlier condition, or None, got {auxiliary!r}")
    model = evaluate(graph, observed=True)
    sites = sites_of(graph, 1, PinnedEdges([], [], graph.n_nodes, []))
    exact = _is_exact(model, sites)
    rounds = 0 if exact else 5 if iterations is None else iterations  # no anchor matters to an exact guide
    evidence, rows, anchors = _prepare(model, sites, auxiliary, rounds)
    # the same number as at the roots, without a sweep: gradients need nothing else
    evidence = (_known_increments(model) if exact else evidence).reshape(graph.batch_shape)
    check_finite_evidence(
        evidence, lambda: "the data are impossible under the model, or its parameters are too extreme"
    )
    return GammaGuided(
        log_evidence=evidence,
        model=model,
        sites=sites,
        rows=rows,
        anchors=anchors,
        names=Names(graph, ()),
        exact=exact,
    )


def _is_exact(model: GammaGraph, sites: list[Observed]) -> bool:
    """Whether the guide is the conditioned process, which follows from what is known before compilation."""
    layout = model.layout
    if sites or not all(kind.constant_rate for kind in model.kinds):
        return False
    # towards a known value all increments need the same rate, and towards several there is no closed form
    return not layout.bounded or (layout.same_rate and bool(np.all(layout.tails[~layout.known[:-1]] <= 1)))


@eqx.filter_jit
def _prepare(
    model: GammaGraph, sites: list[Observed], start: Anchors | None, iterations: int
) -> tuple[Array, GammaTail, Anchors]:
    layout = model.layout
    anchors: Any = start
    if start is None:
        bound = _rows(model, [], _roots(model)).bound[layout.levels.row_of_node]
        graph_like: Any = _Suggesting(model)
        first = at_observations(graph_like, sites) if sites else _roots(model)
        anchors = _within(model, bound, first.nodes[:, 0])
        if layout.free and iterations:
            still = jnp.zeros((layout.n_nodes, 2 if layout.bounded else 1), anchors.nodes.dtype)

            def refine(anchors: Anchors, _: None) -> tuple[Anchors, None]:
                nodes = forward(model, _rows(model, sites, anchors), still)[0]
                moved = jnp.where(jnp.isfinite(nodes), nodes, anchors.nodes[:, 0])
                return _within(model, bound, moved), None

            anchors = jax.lax.scan(refine, anchors, None, length=iterations)[0]
    rows = _rows(model, sites, anchors)
    at_roots = jax.tree.map(lambda leaf: leaf[layout.levels.roots], rows)
    terms = at_roots.log_value(model.values[layout.root_nodes])
    component = layout.component[layout.root_nodes]
    return segment_sum(terms, Segments(component, layout.n_components)), rows, anchors


@eqx.filter_jit
def _known_increments(model: GammaGraph) -> Array:
    """Log-density of the increments between known values, where those in between have the same rate."""
    layout = model.layout
    shapes = sums_from_roots(layout, jnp.where(layout.parent < 0, 0.0, model.shape[:-1]))
    above, known = layout.known_above, layout.known[:-1] & (layout.parent >= 0)
    shape = jnp.where(known, shapes - shapes[above], 1.0)
    found = log_gamma_density(model.values[:-1] - model.values[above], shape, model.rate[:-1])
    terms = jnp.where(known, found, 0.0)
    return segment_sum(terms, Segments(layout.component, layout.n_components))


class _Suggesting:
    """What `at_observations` reads of a graph: no edges, since only states at nodes are asked for."""

    def __init__(self, model: GammaGraph):
        self.layout, self.root_mean, self.root_factor = model.layout, model.root_mean, model.root_factor
        self.kinds: tuple = ()


def _roots(model: GammaGraph) -> Anchors:
    """Anchors at the value of the root above, which is below all others."""
    layout = model.layout
    first = jnp.zeros(layout.n_components).at[layout.component[layout.root_nodes]].set(model.root_mean[:, 0])
    return Anchors(first[layout.component][:, None], [])


def _within(model: GammaGraph, bound: Array, nodes: Array) -> Anchors:
    """Anchors at states (n,), moved between the known values above and below."""
    layout = model.layout
    low = model.values[layout.known_above]
    finite = jnp.isfinite(bound)
    room = jnp.where(finite, bound, low) - low
    inside = jnp.clip(nodes, low + 0.05 * room, low + jnp.where(finite, 0.95 * room, jnp.inf))
    return Anchors(jnp.where(layout.known[:-1], model.values[:-1], inside)[:, None], [])


def _rows(model: GammaGraph, sites: list[Observed], anchors: Anchors) -> GammaTail:
    n, dtype = model.layout.n_nodes, model.values.dtype
    potential = node_potentials(sites, anchors.nodes, n, dtype)
    pad = lambda leaf: jnp.append(leaf.reshape(-1), jnp.zeros(1, dtype))
    own = GammaTail.gaussian(pad(potential.constant), pad(potential.linear), pad(potential.precision))
    return backward(model, own, jnp.append(anchors.nodes[:, 0], 0.0))


def _log_likelihoods(sites: list[Observed], states: Array) -> Array:
    total = jnp.zeros(len(states), states.dtype)
    for observed in sites:
        total = total.at[observed.nodes].add(observed.site.log_likelihood(states[observed.nodes]))
    return total


@register_simulator("gamma tails")
def simulate_gamma(graph: Graph, key: Array) -> VectorTrajectory:
    """Draw increments of all steps, add them up from the roots, and draw the observations."""
    path_key, observation_key = jax.random.split(key)
    model = evaluate(graph, observed=False)
    nodes, before = _simulated(model, path_key)
    path = trajectory(model, Names(graph, ()), nodes, before)
    values = observations_of(graph, path.values, observation_key)
    is_leaf = lambda leaf: isinstance(leaf, tuple)
    return eqx.tree_at(lambda t: t.observations, path, values, is_leaf=is_leaf)


@eqx.filter_jit
def _simulated(model: GammaGraph, key: Array) -> tuple[Array, list[Array]]:
    layout = model.layout
    steps = [_draw_steps(kind, k) for kind, k in zip(model.kinds, _split(key, model), strict=True)]
    increments = jnp.zeros(layout.n_nodes, model.values.dtype)
    for kind, parts in zip(model.kinds, steps, strict=True):
        increments = increments.at[kind.ends.children].set(jnp.sum(parts, axis=1))
    start = jnp.where(model.layout.parent < 0, model.values[:-1], 0.0)
    nodes = sums_from_roots(model.layout, start + increments)
    before = []
    for kind, parts in zip(model.kinds, steps, strict=True):
        gone = jnp.cumsum(parts, axis=1) - parts
        before.append((nodes[kind.ends.parents][:, None] + gone)[..., None])
    return nodes, before


def sums_from_roots(layout: Layout, values: Array) -> Array:
    """Sums of values (n,) over each node and all nodes above it, by pointer doubling, (n,)."""
    parent = layout.parent
    at_root = parent < 0
    total, head = jnp.where(at_root, 0.0, values), np.where(at_root, np.arange(len(parent)), parent)
    while not np.array_equal(head[head], head):
        total, head = total + total[head], head[head]
    return total + values[head]


def _draw_steps(kind: GammaKind, key: Array) -> Array:
    return jnp.exp(jax.random.loggamma(key, kind.shapes)) / kind.rates


def _split(key: Array, model: GammaGraph) -> list[Array]:
    return list(jax.random.split(key, len(model.kinds)))
