"""Anchors: the states at which a Gaussian graph is linearised; they depend on θ and y, never on z."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._small_matrices import solve_positive, times
from mjp.inference.gaussian_graph import GaussianGraph, Kind
from mjp.inference.gaussian_sites import GaussianSite, Observed, node_potentials
from mjp.inference.gaussian_sweeps import follow
from mjp.inference.schedule import topological_depth
from mjp.processes.gaussian import Interval


class Anchors(eqx.Module):
    """States (n_nodes, d) at the nodes, and at the start of every step of every kind (E, n, d)."""

    nodes: Array
    steps: list[Array]


@eqx.filter_jit  # called outside compiled functions, operations would compile one by one
def at_prior_mean(graph: GaussianGraph) -> Anchors:
    """Anchors along the forward model without noise, from the means of the roots."""

    def mover(kind: Kind) -> Any:
        return lambda x, at: kind.step(x, Interval(*at))[0]

    inputs = [tuple(kind.intervals()) for kind in graph.kinds]
    nodes, steps = follow(graph, graph.root_mean, [mover(kind) for kind in graph.kinds], inputs)
    return Anchors(nodes, steps)


def at_roots(graph: GaussianGraph) -> Anchors:
    """Anchors at the mean of the root above, for graphs without observations, whose guide is the prior."""
    layout = graph.layout
    means = jnp.zeros((layout.n_components, layout.dim), graph.root_mean.dtype)
    nodes = means.at[layout.component[layout.root_nodes]].set(graph.root_mean)[layout.component]
    return Anchors(nodes, _along_edges(graph, nodes))


def _along_edges(graph: GaussianGraph, nodes: Array) -> list[Array]:
    """The same anchor for all steps of an edge: that of its child."""
    shape = lambda kind: (*kind.times.shape, graph.layout.dim)
    return [jnp.broadcast_to(nodes[kind.ends.children][:, None], shape(kind)) for kind in graph.kinds]


def at_observations(graph: GaussianGraph, sites: list[Observed]) -> Anchors:
    """Anchors on every edge at the state that the next observation suggests.

    The next observed node of an edge is its child, or the nearest one below. Coordinates that it does
    not show, and edges above no observation, take the mean of the root. Likelihoods that are not Gaussian
    suggest a state by Newton steps, shortened where the likelihood would fall: a step from a flat or a steep
    part of it goes far beyond its maximum.
    """
    layout = graph.layout
    prior = at_roots(graph).nodes
    suggested, ridge = prior, 1e-6 * jnp.eye(layout.dim)
    variance = jnp.maximum(jnp.mean(jnp.sum(graph.root_factor**2, axis=-1)), 1.0)

    def penalised(states: Array) -> Array:
        """Log-likelihoods (n,), less a little far from the prior: a likelihood may have no maximum."""
        total = -0.005 * jnp.sum((states - prior) ** 2, axis=-1) / variance
        for observed in sites:
            total = total.at[observed.nodes].add(observed.site.log_likelihood(states[observed.nodes]))
        return jnp.where(jnp.isfinite(total), total, -jnp.inf)

    curved = [observed for observed in sites if not isinstance(observed.site, GaussianSite)]

    linear = all(observed.site.exact for observed in sites)
    n_steps = 1 if linear else 6 if curved else 3

    def step(suggested: Array, _: None) -> tuple[Array, None]:
        potential = node_potentials(sites, suggested, layout.n_nodes, prior.dtype)
        # in units of what is seen, unseen coordinates stay where they are
        size = jnp.trace(potential.precision)
        weak = jnp.where(size > 0, size, 1.0) * ridge[..., None]
        right = potential.linear + times(weak, prior.T)
        new = solve_positive(potential.precision + weak, right).T
        return (_best_along(suggested, new, penalised) if curved else new), None

    # likelihoods that are not linear in the state suggest one by repeated expansion
    suggested, _ = jax.lax.scan(step, suggested, None, length=n_steps)
    nodes = suggested[next_observed(layout.parent, [observed.nodes for observed in sites])]
    return Anchors(nodes, _along_edges(graph, nodes))


def _best_along(old: Array, new: Array, log_likelihood: Callable[[Array], Array]) -> Array:
    """At every node (n, d) the most likely of some states on the way from an old one to a new one."""
    shares = jnp.append(3.0 ** -jnp.arange(16.0), 0.0)
    way = old + shares[:, None, None] * jnp.where(jnp.isfinite(new), new - old, 0.0)
    best = jnp.argmax(jax.lax.map(log_likelihood, way), axis=0)
    return jnp.take_along_axis(way, best[None, :, None], axis=0)[0]


def next_observed(parent: np.ndarray, observed_nodes: list[np.ndarray]) -> np.ndarray:
    """The nearest observed node at or below each node; the node itself if there is none."""
    n = len(parent)
    distance, found = np.full(n, n), np.arange(n)
    for nodes in observed_nodes:
        distance[nodes] = 0
    depth, _ = topological_depth(parent)
    for node in np.argsort(-depth, kind="stable").tolist():
        above = parent[node]
        if above >= 0 and distance[node] + 1 < distance[above]:
            distance[above], found[above] = distance[node] + 1, found[node]
    return found


def damped(old: Anchors, new: Anchors, damping: float) -> Anchors:
    """A step from old to new anchors; steps that are not finite are not taken."""
    move = lambda a, b: a + damping * jnp.where(jnp.isfinite(b), b - a, 0.0)
    return jax.tree.map(move, old, new)
