"""Anchors: the states at which a Gaussian graph is linearised; they depend on θ and y, never on z."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._small_matrices import solve_positive, times
from mjp.inference.gaussian_graph import GaussianGraph, Kind
from mjp.inference.gaussian_sites import Observed, node_potentials
from mjp.inference.gaussian_sweeps import follow
from mjp.inference.schedule import topological_depth
from mjp.processes.gaussian import Interval


class Anchors(eqx.Module):
    """States (n_nodes, d) at the nodes, and at the start of every step of every kind (E, n, d)."""

    nodes: Array
    steps: list[Array]


def at_prior_mean(graph: GaussianGraph) -> Anchors:
    """Anchors along the forward model without noise, from the means of the roots."""

    def mover(kind: Kind) -> Any:
        return lambda x, at: kind.process.step(x, Interval(*at))[0]

    inputs = [tuple(kind.intervals()) for kind in graph.kinds]
    nodes, steps = follow(graph, graph.root_mean, [mover(kind) for kind in graph.kinds], inputs)
    return Anchors(nodes, steps)


def at_observations(graph: GaussianGraph, sites: list[Observed]) -> Anchors:
    """Anchors on every edge at the state that the next observation suggests.

    The next observed node of an edge is its child, or the nearest one below. Coordinates that it does
    not show, and edges above no observation, take the mean of the root.
    """
    layout = graph.layout
    root = (
        jnp.zeros((layout.n_components, layout.dim))
        .at[layout.component[layout.root_nodes]]
        .set(graph.root_mean)
    )
    prior = root[layout.component]
    suggested, ridge = prior, 1e-6 * jnp.eye(layout.dim)
    # nonlinear likelihoods suggest a state by repeated expansion
    for _ in range(1 if all(observed.site.exact for observed in sites) else 3):
        potential = node_potentials(sites, suggested, layout.n_nodes, prior.dtype)
        # in units of what is seen, unseen coordinates stay where they are
        size = jnp.trace(potential.precision, axis1=-2, axis2=-1)
        weak = jnp.where(size > 0, size, 1.0)[:, None, None] * ridge
        right = potential.linear + times(weak, prior)
        suggested = solve_positive(potential.precision + weak, right)
    nodes = suggested[_next_observed(layout.parent, sites)]
    steps = [
        jnp.broadcast_to(nodes[kind.ends.children][:, None], (*kind.times.shape, layout.dim))
        for kind in graph.kinds
    ]
    return Anchors(nodes, steps)


def _next_observed(parent: np.ndarray, sites: list[Observed]) -> np.ndarray:
    """The nearest observed node at or below each node; the node itself if there is none."""
    n = len(parent)
    distance, found = np.full(n, n), np.arange(n)
    for observed in sites:
        distance[observed.nodes] = 0
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
