"""Anchors of switching diffusions: the states at which their steps and likelihoods are expanded."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.inference import anchors as gaussian
from mjp.inference.anchors import Anchors
from mjp.inference.gaussian_sites import GaussianSite, Nodes, Observed
from mjp.inference.switching_graph import SwitchingGraph


class _Suggesting:
    """What `anchors.at_observations` reads of a graph: no edges, since only states at nodes are asked for."""

    def __init__(self, model: SwitchingGraph):
        layout = model.layout
        parent = np.arange(layout.n_nodes) - 1
        parent[:: layout.n_times] = -1
        self.root_mean, self.root_factor, self.kinds = model.root_mean.T, model.root_factor, ()
        self.layout = _Layout(
            parent,
            np.repeat(np.arange(layout.n_series), layout.n_times),
            np.arange(layout.n_series) * layout.n_times,
            layout.n_series,
            layout.n_nodes,
            layout.dim,
        )


class _Layout:
    def __init__(self, parent: Any, component: Any, root_nodes: Any, n_components: int, n: int, dim: int):
        self.parent, self.component, self.root_nodes = parent, component, root_nodes
        self.n_components, self.n_nodes, self.dim = n_components, n, dim


def at_observations(model: SwitchingGraph, sites: list[Observed]) -> Anchors:
    """Anchors at the states that the observations suggest, and on straight lines between them."""
    layout = model.layout
    known = np.flatnonzero(layout.known.T.reshape(-1))
    if len(known):
        # as if seen with a small variance, which says where to go
        seen = jnp.swapaxes(model.values, 1, 2).reshape(layout.dim, -1)[:, known].T
        unit = jnp.eye(layout.dim)[None]
        site = GaussianSite(None, None, (unit, 1e-4 * unit, jnp.zeros(layout.dim)), seen, True)
        sites = [*sites, Observed(Nodes(known), site)]
    graph: Any = _Suggesting(model)
    if not sites:
        return _on_lines(model, gaussian.at_roots(graph).nodes)
    return _on_lines(model, gaussian.at_observations(graph, sites).nodes)


def _on_lines(model: SwitchingGraph, nodes: Array) -> Anchors:
    layout = model.layout
    shares = (np.arange(layout.per_edge) / layout.per_edge)[:, None]
    start, end = nodes[layout.ends.parents][:, None], nodes[layout.ends.children][:, None]
    return Anchors(nodes, [start + shares * (end - start)])


def from_path(model: SwitchingGraph, states: Array, old: Anchors) -> Anchors:
    """Anchors along a path (d, F + 1, S); those before where it is not finite."""
    layout = model.layout
    by_series = jnp.moveaxis(states, (0, 2), (2, 0))
    nodes = by_series[:, :: layout.per_edge].reshape(layout.n_nodes, layout.dim)
    steps = by_series[:, :-1].reshape(old.steps[0].shape)
    keep = lambda new, before: jnp.where(jnp.isfinite(new), new, before)
    return Anchors(keep(nodes, old.nodes), [keep(steps, old.steps[0])])


def along_steps(model: SwitchingGraph, anchors: Anchors) -> Array:
    """Anchors (d, F + 1, S) at the start of every step, and at the end."""
    layout = model.layout
    before = anchors.steps[0].reshape(layout.n_series, layout.n_steps, layout.dim)
    last = anchors.nodes.reshape(layout.n_series, layout.n_times, layout.dim)[:, -1:]
    return jnp.moveaxis(jnp.concatenate([before, last], axis=1), (0, 2), (2, 0))
