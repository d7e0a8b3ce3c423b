"""Conditioning graphs of Gaussian processes: exact where they are linear, guided elsewhere."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import check_count
from mjp.graph import Graph
from mjp.inference.anchors import Anchors, at_observations, at_prior_mean, at_roots, damped
from mjp.inference.charts import unbounded
from mjp.inference.condition import Guided
from mjp.inference.evidence_checks import check_finite_evidence
from mjp.inference.gaussian_edges import Messages, compose, guided_step, log_weights
from mjp.inference.gaussian_forms import CANONICAL, FORMS, STACKED, at_nodes, at_sites
from mjp.inference.gaussian_graph import GaussianGraph, Kind, common_dim, evaluate
from mjp.inference.gaussian_sites import Observed, sites_of
from mjp.inference.gaussian_sweeps import backward, follow, stacked
from mjp.inference.gaussian_terms import is_single_path, one_step_ahead
from mjp.inference.gaussian_trouble import in_guide, in_path
from mjp.inference.pinning import pin
from mjp.inference.potentials.rows import Potential
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.rules.registry import register_engine
from mjp.inference.segments import Segments, columns, segment_sum
from mjp.processes.charts import Chart
from mjp.processes.gaussian import GaussianProcess, Interval
from mjp.trajectory import Names
from mjp.vector_trajectory import VectorPaths, VectorTrajectory

AUXILIARIES = ("guided mean", "prior mean", "observations")


class GaussianGuided(Guided):
    """A conditioned graph of Gaussian processes.

    Attributes:
        log_evidence: of the guide, in the batch shape of the graph.
        anchors: the states at which the processes were linearised.
        chart, log_jacobian: see `mjp.inference.charts.Unbounded`; anchors, potentials and messages are in the
            coordinates of the chart, paths are not.
        expanded: whether the auxiliary is the expansion of the processes, and not another process.
    """

    log_evidence: Array
    graph: GaussianGraph
    sites: Any
    site_potentials: list[Potential]
    potentials: Potential
    messages: list[Messages]
    anchors: Anchors
    log_jacobian: Array | None
    chart: Chart | None = eqx.field(static=True)
    names: Names
    exact: bool = eqx.field(static=True)
    expanded: bool = eqx.field(static=True)

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """Innovations of the roots that have a law, and of the steps on the edges, kind by kind."""
        shapes: dict[str, tuple[int, ...]] = {}
        if self.graph.layout.root_noise:
            shapes["roots"] = self.graph.root_mean.shape
        for i, kind in enumerate(self.graph.kinds):
            shapes[f"steps{i or ''}"] = (kind.n_edges, kind.n_steps, kind.process.noise_dim)
        return shapes

    def trouble(self, path: VectorTrajectory) -> str | None:
        """Words for the first state of a path that is not finite, with its time and node; None if all are."""
        return in_path(self.names.graph, self.graph, path.values, list(path.paths.before))

    @property
    def terms(self) -> Array | None:
        """One-step-ahead log-densities (n_nodes,) of an exactly conditioned single path; else None.

        Their sum is the evidence; the term of a node that is not observed is zero.
        """
        if not self.exact or self.log_evidence.ndim or not is_single_path(self.graph):
            return None
        terms = _terms(self)
        return terms if self.log_jacobian is None else terms + self.log_jacobian

    def push(self, z: dict[str, Array]) -> tuple[VectorTrajectory, Array]:
        """Guided paths as a smooth function of the innovations, and their log-weight."""
        return _push(self, z)

    def _push(self, z: dict[str, Array]) -> tuple[VectorTrajectory, Array]:
        nodes, before = guided_paths(self.graph, self.potentials, self.messages, z)
        weights = self._edge_weights(before)
        total = self._by_component(nodes, weights).reshape(self.log_evidence.shape)
        kinds = self.graph.kinds
        paths = VectorPaths(
            tuple(kind.ends for kind in kinds),
            tuple(kind.times for kind in kinds),
            tuple(kind.durations for kind in kinds),
            tuple(self._states(states) for states in before),
            self.graph.layout.n_graph_nodes,
        )
        nodes = self._states(nodes[: self.graph.layout.n_graph_nodes])
        return VectorTrajectory(values=nodes, observations=(), paths=paths, names=self.names), total

    def log_likelihoods(self, path: VectorTrajectory) -> Array:
        """Log-densities of the observations of each node given the path, (n_nodes,); zero if unobserved."""
        values = self._coordinates(path.values)
        total = jnp.zeros(self.graph.layout.n_graph_nodes, values.dtype)
        for observed in self.sites:
            nodes = observed.nodes
            if np.all(nodes < len(total)) and not observed.site.noiseless:
                total = total.at[nodes].add(observed.site.log_likelihood(values[nodes]))
        return total if self.log_jacobian is None else total + self.log_jacobian

    def weights_by_edge(self, path: VectorTrajectory) -> tuple[Array, Array]:
        """Where the log-weight of a path comes from.

        Returns:
            log-weights of the edge above each node (n_nodes,), zero at roots; and of the observations of
            each node (n_nodes,), zero where their potential is the likelihood itself. Exact observations
            count at the start of the last step before them.
        """
        n = self.graph.layout.n_graph_nodes
        before = [self._coordinates(states) for states in path.paths.before]
        final = np.arange(self.graph.layout.n_nodes)
        for kind in self.graph.kinds:
            inserted = kind.ends.parents >= n
            final[kind.ends.parents[inserted]] = kind.ends.children[inserted]
        nodes = (
            jnp.zeros((len(final), self.graph.layout.dim), path.values.dtype)
            .at[:n]
            .set(self._coordinates(path.values))
        )
        by_edge = jnp.zeros(n, nodes.dtype)
        for kind, states, weight in zip(self.graph.kinds, before, self._edge_weights(before), strict=True):
            nodes = nodes.at[kind.ends.parents].set(states[:, 0])
            by_edge = by_edge.at[final[kind.ends.children]].add(weight)
        by_site = jnp.zeros(n, nodes.dtype)
        for where, weight in self._site_weights(nodes):
            by_site = by_site.at[final[where]].add(weight)
        return by_edge, by_site

    def _states(self, coordinates: Array) -> Array:
        return coordinates if self.chart is None else self.chart.state(coordinates)

    def _coordinates(self, states: Array) -> Array:
        return states if self.chart is None else self.chart.coordinates(states)

    def _edge_weights(self, before: list[Array]) -> list[Array]:
        if self.graph.linear and self.expanded:
            return [jnp.zeros(kind.n_edges, before[0].dtype) for kind in self.graph.kinds]
        return [
            jnp.sum(log_weights(kind, message, jnp.moveaxis(states, 0, -1)), axis=0)
            for kind, message, states in zip(self.graph.kinds, self.messages, before, strict=True)
        ]

    def _site_weights(self, nodes: Array) -> list[tuple[np.ndarray, Array]]:
        found = []
        for observed, potential in zip(self.sites, self.site_potentials, strict=True):
            if not observed.site.exact:
                states = nodes[observed.nodes]
                ratio = observed.site.log_likelihood(states) - potential.log_value(states.T)
                found.append((observed.nodes, ratio))
        return found

    def _by_component(self, nodes: Array, edges: list[Array]) -> Array:
        layout = self.graph.layout
        if self.exact:
            return jnp.zeros(layout.n_components, nodes.dtype)
        total = jnp.zeros(layout.n_components, nodes.dtype)
        for kind, weight in zip(self.graph.kinds, edges, strict=True):
            component = layout.component[kind.ends.children]
            total = total + segment_sum(weight, Segments(component, layout.n_components))
        for where, weight in self._site_weights(nodes):
            total = total + segment_sum(weight, Segments(layout.component[where], layout.n_components))
        return total


@eqx.filter_jit
def _push(guided: GaussianGuided, z: dict[str, Array]) -> tuple[VectorTrajectory, Array]:
    return guided._push(z)


@eqx.filter_jit
def _terms(guided: GaussianGuided) -> Array:
    edges = stacked([compose(message.steps) for message in guided.messages])
    return one_step_ahead(guided.graph, edges, guided.sites)


def guided_paths(
    graph: GaussianGraph, potentials: Potential, messages: list[Messages], z: dict[str, Array]
) -> tuple[Array, list[Array]]:
    """States at the nodes and at the start of all steps, from the roots down."""
    roots = graph.root_mean
    if graph.layout.root_noise:
        gain = columns(potentials, graph.layout.root_nodes).gain(graph.root_factor)
        roots = gain.move(roots.T, z["roots"].T).T

    def mover(kind: Kind) -> Any:
        return lambda x, own: guided_step(kind, x, Interval(*own[0]), own[1], own[2])

    inputs = []
    for i, (kind, message) in enumerate(zip(graph.kinds, messages, strict=True)):
        towards = message.towards(kind)
        inputs.append((tuple(kind.intervals()), towards, jnp.moveaxis(z[f"steps{i or ''}"], 0, -1)))
    return follow(graph, roots, [mover(kind) for kind in graph.kinds], inputs)


@register_engine("gaussian", auxiliary="prior mean")
def condition_gaussian(
    graph: Graph,
    *,
    observed: bool = True,
    auxiliary: Any = None,
    iterations: int | None = None,
    damping: float = 1.0,
    form: str = CANONICAL,
) -> GaussianGuided:
    """Linearise, filter backwards and return the guided graph; see `mjp.condition`."""
    _check_options(auxiliary, iterations, damping, form)
    _check_form(graph, form)
    own_graph, chart, log_jacobian = unbounded(graph, common_dim(graph), observed=observed)
    dim = common_dim(graph)
    linear = all(edges.process.linear for edges in own_graph.edges)  # type: ignore[attr-defined]
    keep_exact = form == STACKED and linear and not isinstance(auxiliary, GaussianProcess)
    pinned = pin(own_graph, dim, observed=observed and not keep_exact)
    sites = sites_of(own_graph, dim, pinned, keep_exact=keep_exact) if observed else []
    if keep_exact and not all(own.site.exact for own in sites):
        # guides of exact observations follow the true process to them only where steps are pinned
        pinned = pin(own_graph, dim, observed=observed)
        sites = sites_of(own_graph, dim, pinned) if observed else []
    model = evaluate(own_graph, pinned)
    linear_sites = all(observed.site.exact for observed in sites)
    exact = model.linear and linear_sites
    options = (auxiliary, 5 if iterations is None else iterations, damping, exact)
    evidence, anchors, potentials, messages, own = prepare(model, sites, *options, form=form)
    if log_jacobian is not None:
        component = model.layout.component[: graph.n_nodes]
        evidence = evidence + segment_sum(log_jacobian, Segments(component, len(evidence)))
    evidence = evidence.reshape(graph.batch_shape)
    if observed:
        far = "look at the drift, the dispersion and the data for values that are far too large"
        if any(observed.site.noiseless for observed in sites):
            far = f"exact observations leave nothing to chance, or contradict each other; or {far}"
        cause = lambda: in_guide(own_graph, model, anchors, sites, own) or far
        check_finite_evidence(evidence, cause, "the backward filter")
    return GaussianGuided(
        log_evidence=evidence,
        graph=model,
        sites=sites,
        site_potentials=own,
        potentials=potentials,
        messages=messages,
        anchors=anchors,
        chart=chart,
        log_jacobian=log_jacobian,
        names=Names(graph, ()),
        exact=exact and not isinstance(auxiliary, GaussianProcess),
        expanded=not isinstance(auxiliary, GaussianProcess),
    )


@eqx.filter_jit
def prepare(
    model: GaussianGraph,
    sites: list[Observed],
    auxiliary: Any,
    iterations: int,
    damping: float,
    exact: bool,
    start: Anchors | None = None,
    form: str = CANONICAL,
) -> tuple[Array, Anchors, Potential, list[Messages], list[Potential]]:
    """All that needs arithmetic, compiled as one program.

    Args:
        start: where the iterations of the guided mean begin; default what the observations suggest.
        form: of the potentials, see `mjp.inference.gaussian_forms`.
    """
    anchors = _anchors(model, sites, auxiliary, iterations, damping, exact, start, form)
    potentials, messages, own = _filter(model, sites, anchors, _process(auxiliary), form)
    return _log_evidence(model, potentials), anchors, potentials, messages, own


def _filter(
    model: GaussianGraph,
    sites: list[Observed],
    anchors: Anchors,
    process: GaussianProcess | None,
    form: str,
) -> tuple[Potential, list[Messages], list[Potential]]:
    steps = [
        _auxiliary_of(kind, process).linearise(at)
        for kind, at in zip(model.kinds, anchors.steps, strict=True)
    ]
    if not sites:
        # no potential depends on these steps, and one that is not finite must not reach those before it
        flat = lambda s: LinearSteps(jnp.zeros_like(s.matrix), jnp.zeros_like(s.offset), s.factor)
        steps = [flat(s) for s in steps]
    own = at_sites(form, sites, anchors.nodes)
    nodes = at_nodes(form, sites, own, anchors.nodes, model.root_mean.dtype)
    # noise that does not depend on the state steers with one gain per step, computed beforehand
    known = [
        kind.linearise(at).factor if kind.process.constant_noise and process is not None else None
        for kind, at in zip(model.kinds, anchors.steps, strict=True)
    ]
    potentials, messages = backward(model, steps, nodes, known)
    return potentials, messages, own


def _auxiliary_of(kind: Kind, chosen: GaussianProcess | None) -> Kind:
    return kind if chosen is None else eqx.tree_at(lambda k: k.process, kind, chosen)


def _anchors(
    model: GaussianGraph,
    sites: Any,
    auxiliary: Any,
    iterations: int,
    damping: float,
    exact: bool,
    start: Anchors | None,
    form: str,
) -> Anchors:
    if isinstance(auxiliary, Anchors):
        return auxiliary
    process = _process(auxiliary)
    if exact or (process is not None and all(observed.site.exact for observed in sites)):
        # a linear process is its own expansion, wherever that is made, and so is a Gaussian likelihood
        zeros = [jnp.zeros((*kind.times.shape, model.layout.dim)) for kind in model.kinds]
        return Anchors(jnp.zeros((model.layout.n_nodes, model.layout.dim)), zeros)
    if not sites:
        return at_roots(model)
    if auxiliary == "prior mean":
        return at_prior_mean(model)
    anchors = at_observations(model, sites) if start is None else start
    if auxiliary == "observations":
        return anchors
    still = {"roots": jnp.zeros_like(model.root_mean)}
    for i, kind in enumerate(model.kinds):
        still[f"steps{i or ''}"] = jnp.zeros((*kind.times.shape, kind.process.noise_dim))

    def refine(anchors: Anchors, _: None) -> tuple[Anchors, None]:
        potentials, messages, _own = _filter(model, sites, anchors, process, form)
        nodes, steps = guided_paths(model, potentials, messages, still)
        return damped(anchors, Anchors(nodes, steps), damping), None

    return jax.lax.scan(refine, anchors, None, length=iterations)[0]


def _log_evidence(model: GaussianGraph, potentials: Potential) -> Array:
    layout = model.layout
    at_roots: Any = columns(potentials, layout.root_nodes)
    mean = model.root_mean.T
    if layout.root_noise:
        terms = at_roots.log_pulled(at_roots.gain(model.root_factor), mean)
    else:
        terms = at_roots.log_value(mean)
    return segment_sum(terms, Segments(layout.component[layout.root_nodes], layout.n_components))


def _process(auxiliary: Any) -> GaussianProcess | None:
    """The user's own linear process, which stands for that of every edge."""
    return auxiliary if isinstance(auxiliary, GaussianProcess) else None


def _check_form(graph: Graph, form: str) -> None:
    mixtures = [edges.process for edges in graph.edges if edges.process.mixture]  # type: ignore[attr-defined]
    if form != CANONICAL and mixtures:
        raise ValueError(
            f"form: steps of {type(mixtures[0]).__name__} are mixtures, which take {CANONICAL!r}, "
            f"got {form!r}"
        )


def _check_options(auxiliary: Any, iterations: int | None, damping: float, form: Any) -> None:
    if form not in FORMS:
        raise ValueError(f"form must be one of {list(FORMS)}, got {form!r}")
    check_count("iterations", iterations)
    if not 0 < damping <= 1:
        raise ValueError(f"damping must be in (0, 1], got {damping!r}")
    if isinstance(auxiliary, GaussianProcess):
        if not auxiliary.linear:
            raise ValueError("auxiliary must have an affine mean and noise that does not depend on the state")
        return
    if auxiliary is not None and not isinstance(auxiliary, Anchors) and auxiliary not in AUXILIARIES:
        raise ValueError(
            f"auxiliary must be a linear process, anchors of an earlier condition, or one of "
            f"{list(AUXILIARIES)}, got {auxiliary!r}"
        )
