"""Conditioning switching diffusions: exact where the path is known, else guided; regimes are marginalised."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import check_count, is_concrete
from mjp.graph import Graph
from mjp.inference.anchors import Anchors
from mjp.inference.condition import Guided
from mjp.inference.evidence_checks import check_finite_evidence
from mjp.inference.gaussian_sites import Observed, node_potentials, sites_of
from mjp.inference.observing import observations_of
from mjp.inference.pinning import PinnedEdges
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.rules.registry import register_engine, register_simulator
from mjp.inference.switching_anchors import along_steps, at_observations, from_path
from mjp.inference.switching_graph import SwitchingGraph, evaluate
from mjp.inference.switching_guide import Potentials, at_roots, backward
from mjp.inference.switching_paths import first_states, guided_paths
from mjp.inference.switching_regimes import draw_regimes, simulated_paths
from mjp.inference.switching_terms import known_path, known_terms, log_likelihoods, site_terms
from mjp.switching_trajectory import SwitchingTrajectory
from mjp.trajectory import Names
from mjp.vector_trajectory import VectorPaths

AUXILIARIES = ("guided mean", "observations")
_ITERATIONS = 2
_CAUSE = (
    "a drift or a dispersion is not finite or has no full rank along the path, or the data are far from it"
)


class SwitchingGuided(Guided):
    """A conditioned chain of a switching diffusion.

    Attributes:
        log_evidence: of the guide, in the batch shape of the graph.
        sites: observations that are not exact.
        potentials: of every step; None where the path is known.
        anchors: the states at which processes and likelihoods were expanded; None where the path is known.
    """

    log_evidence: Array
    model: SwitchingGraph
    sites: Any
    potentials: Potentials | None
    at_nodes: Canonical | None
    anchors: Anchors | None
    names: Names
    exact: bool = eqx.field(static=True)

    @property
    def open_ended(self) -> bool:
        """The regimes of a path that `push` makes are to be drawn."""
        return True

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """Innovations of first states that have a law, and of the steps that lead to unknown states."""
        layout, shapes = self.model.layout, {}
        if layout.root_noise:
            shapes["roots"] = (layout.n_series, layout.dim)
        if len(layout.free):
            shapes["steps"] = (layout.n_series, len(layout.free), layout.dim)
        return shapes

    @property
    def terms(self) -> Array | None:
        """One-step-ahead log-densities (n_nodes,) of a single path that is known; else None."""
        if not self.model.layout.all_known or self.log_evidence.ndim:
            return None
        return known_terms(self.model, self.sites)

    def push(self, z: dict[str, Array]) -> tuple[SwitchingTrajectory, Array]:
        """Guided paths as a smooth function of the innovations, regimes not drawn, and their log-weight."""
        return _push(self, z)

    def complete(self, path: Any, key: Array) -> SwitchingTrajectory:
        """The path with regimes drawn from their law given it."""
        regimes = draw_regimes(self.model, *_steps_of(self.model, path), key)
        return SwitchingTrajectory(
            values=path.values,
            observations=path.observations,
            paths=path.paths,
            names=path.names,
            regimes=regimes,
        )

    def sample(self, key: Array) -> tuple[SwitchingTrajectory, Array]:
        path_key, regime_key = jax.random.split(key)
        path, log_weight = super().sample(path_key)
        return self.complete(path, regime_key), log_weight

    def log_likelihoods(self, path: SwitchingTrajectory) -> Array:
        """Log-densities (n_nodes,) of the observations of each node given the path up to then."""
        return log_likelihoods(self.model, self.sites, *_steps_of(self.model, path), path.values)


@eqx.filter_jit
def _push(guided: SwitchingGuided, z: dict[str, Array]) -> tuple[SwitchingTrajectory, Array]:
    model, layout = guided.model, guided.model.layout
    if layout.all_known:
        states, weights = known_path(model), jnp.zeros(layout.n_series)
    else:
        assert guided.potentials is not None
        assert guided.at_nodes is not None
        states, weights = _guided(model, guided.potentials, guided.at_nodes, z)
        weights = weights + _site_weights(model, guided.sites, guided.at_nodes, states)
    path = trajectory(model, guided.names, states)
    weight = weights.reshape(guided.log_evidence.shape)
    return path, jnp.zeros_like(weight) if guided.exact else weight


def _guided(
    model: SwitchingGraph, potentials: Potentials, at_nodes: Canonical, z: dict[str, Array]
) -> tuple[Array, Array]:
    """States (d, F + 1, S) and the log-weights (S,) of their steps."""
    layout = model.layout
    roots = at_roots(model, potentials, at_nodes)
    start, _ = first_states(model, roots, z["roots"].T if layout.root_noise else None)
    none = jnp.zeros((layout.n_series, 0, layout.dim), start.dtype)
    noise = jnp.moveaxis(z.get("steps", none), 0, -1)
    states, weights = guided_paths(model, potentials, start, noise)
    return states, jnp.sum(weights, axis=0)


def _site_weights(model: SwitchingGraph, sites: list[Observed], at_nodes: Canonical, states: Array) -> Array:
    """Log-ratios (S,) of likelihoods and potentials of the observations that are not Gaussian."""
    layout = model.layout
    if all(observed.site.exact for observed in sites):
        return jnp.zeros(layout.n_series, states.dtype)
    at = states[:, :: layout.per_edge]
    likelihood = site_terms(model, sites, jnp.moveaxis(at, (0, 2), (2, 0)).reshape(-1, layout.dim))
    by_series = likelihood.reshape(layout.n_series, layout.n_times)
    return jnp.sum(by_series, axis=1) - jnp.sum(at_nodes.log_value(at), axis=0)


def trajectory(
    model: SwitchingGraph, names: Names, states: Array, regimes: Array | None = None
) -> SwitchingTrajectory:
    """States (d, F + 1, S) as a trajectory."""
    layout = model.layout
    by_series = jnp.moveaxis(states, (0, 2), (2, 0))  # (S, F + 1, d)
    edges = layout.n_series * (layout.n_times - 1)
    by_edge = lambda leaf: leaf.T.reshape(edges, layout.per_edge)
    paths = VectorPaths(
        (layout.ends,),
        (by_edge(model.at.time),),
        (by_edge(model.at.duration),),
        (by_series[:, :-1].reshape(edges, layout.per_edge, layout.dim),),
        layout.n_nodes,
    )
    values = by_series[:, :: layout.per_edge].reshape(layout.n_nodes, layout.dim)
    return SwitchingTrajectory(values=values, observations=(), paths=paths, names=names, regimes=regimes)


def _steps_of(model: SwitchingGraph, path: Any) -> tuple[Array, Array]:
    """States (d, F, S) before and after all steps of a trajectory."""
    layout = model.layout
    before = path.paths.before[0].reshape(layout.n_series, layout.n_steps, layout.dim)
    last = path.values.reshape(layout.n_series, layout.n_times, layout.dim)[:, -1:]
    states = jnp.moveaxis(jnp.concatenate([before, last], axis=1), (0, 2), (2, 0))
    return states[:, :-1], states[:, 1:]


@register_engine("switching", auxiliary="observations")
def condition_switching(
    graph: Graph, *, observed: bool = True, auxiliary: Any = None, iterations: int | None = None
) -> SwitchingGuided:
    """Filter backwards, regime by regime, and return the guided chain; see `mjp.condition`."""
    check_count("iterations", iterations)
    if auxiliary is not None and not isinstance(auxiliary, Anchors) and auxiliary not in AUXILIARIES:
        raise ValueError(
            f"auxiliary must be anchors of an earlier condition, or one of {list(AUXILIARIES)}, got "
            f"{auxiliary!r}"
        )
    model = evaluate(graph, observed=observed)
    sites = sites_of(graph, model.layout.dim, PinnedEdges([], [], graph.n_nodes, [])) if observed else []
    potentials: Any = None
    at_nodes: Any = None
    anchors: Any = None
    if model.layout.all_known:
        terms = known_terms(model, sites)
        evidence = jnp.sum(terms.reshape(model.layout.n_series, -1), axis=1)
    else:
        rounds = _ITERATIONS if iterations is None else iterations
        start, rounds = (None, 0) if auxiliary == "observations" else (auxiliary, rounds)
        start = start if isinstance(start, Anchors) else None
        evidence, potentials, at_nodes, anchors = _prepare(model, sites, start, rounds)
    evidence = evidence.reshape(graph.batch_shape)
    check_finite_evidence(evidence, lambda: _CAUSE)
    return SwitchingGuided(
        log_evidence=evidence,
        model=model,
        sites=sites,
        potentials=potentials,
        at_nodes=at_nodes,
        anchors=anchors,
        names=Names(graph, model.process.regimes),
        exact=model.layout.all_known or not (sites or model.layout.known.any()),
    )


@eqx.filter_jit
def _prepare(
    model: SwitchingGraph, sites: list[Observed], start: Anchors | None, iterations: int
) -> tuple[Array, Potentials, Canonical, Anchors]:
    layout = model.layout

    def filtered(anchors: Anchors) -> tuple[Potentials, Canonical]:
        at_nodes = potentials_of_sites(model, sites, anchors.nodes)
        return backward(model, along_steps(model, anchors), at_nodes), at_nodes

    if start is not None:
        anchors = start
    else:
        still = {"roots": jnp.zeros((layout.n_series, layout.dim))}
        still["steps"] = jnp.zeros((layout.n_series, len(layout.free), layout.dim))

        def refine(anchors: Anchors, _: None) -> tuple[Anchors, None]:
            states = _guided(model, *filtered(anchors), still)[0]
            return from_path(model, states, anchors), None

        anchors = at_observations(model, sites)
        if iterations:
            anchors = jax.lax.scan(refine, anchors, None, length=iterations)[0]
    potentials, at_nodes = filtered(anchors)
    zero = jnp.zeros_like(model.root_mean) if layout.root_noise else None
    _, evidence = first_states(model, at_roots(model, potentials, at_nodes), zero)
    return evidence, potentials, at_nodes, anchors


def potentials_of_sites(model: SwitchingGraph, sites: list[Observed], nodes: Array) -> Canonical:
    """Potentials (T, S) of the noisy observations, expanded at states (n_nodes, d)."""
    layout = model.layout
    found = node_potentials(sites, nodes, layout.n_nodes, model.root_mean.dtype)
    by_series = lambda leaf: leaf.reshape(*leaf.shape[:-1], layout.n_series, layout.n_times)
    return jax.tree.map(lambda leaf: jnp.swapaxes(by_series(leaf), -1, -2), found)


@register_simulator("switching")
def simulate_switching(graph: Graph, key: Array) -> SwitchingTrajectory:
    """Draw the regimes of all steps, the path given them, and the observations."""
    path_key, observation_key = jax.random.split(key)
    model = evaluate(graph, observed=False)
    states, regimes = simulated_paths(model, path_key)
    if is_concrete(states) and not np.isfinite(np.asarray(states)).all():
        step = int(np.argmin(np.isfinite(np.asarray(states)).all(axis=(0, 2))))
        raise ValueError(
            f"the simulated path is not finite after the step at time {float(model.at.time[step - 1, 0]):g}"
        )
    path = trajectory(model, Names(graph, model.process.regimes), states, regimes)
    values = observations_of(graph, path.values, observation_key)
    return eqx.tree_at(lambda t: t.observations, path, values, is_leaf=lambda leaf: isinstance(leaf, tuple))
