"""Where the numbers of a Gaussian graph stop being finite, in words: which node, and at what time."""

import jax
import numpy as np
from jax import Array

from mjp.graph import Graph
from mjp.inference.anchors import Anchors
from mjp.inference.gaussian_graph import GaussianGraph, Kind
from mjp.inference.gaussian_sites import Observed
from mjp.inference.potentials.rows import Potential
from mjp.inference.schedule import topological_depth

type Found = tuple[int, float, str]  # depth of the edge's end, time, and words


def in_guide(
    graph: Graph, model: GaussianGraph, anchors: Anchors, sites: list[Observed], own: list[Potential]
) -> str | None:
    """The first step, or else the first observation, that is not finite where it was expanded."""
    found = [_first_step(graph, model, kind, at) for kind, at in zip(model.kinds, anchors.steps, strict=True)]
    steps = [place for place in found if place is not None]
    if steps:
        return min(steps)[2]
    for observed, potential in zip(sites, own, strict=True):
        parts = jax.tree.leaves(potential)
        finite = np.all([np.isfinite(np.asarray(p)).all(tuple(range(p.ndim - 1))) for p in parts], axis=0)
        finite = np.broadcast_to(finite, len(observed.nodes))
        if not finite.all():
            node = observed.nodes[int(np.argmin(finite))]
            state = np.asarray(anchors.nodes[node])
            what = "the noise of the last step before" if observed.of_child else "the likelihood of"
            return (
                f"{what} the observation at {_name(graph, model, node)} is singular or not finite at {state}"
            )
    return None


def in_path(graph: Graph, model: GaussianGraph, nodes: Array, before: list[Array]) -> str | None:
    """The first state that is not finite, of states (n_nodes, d) and starts of steps (E, n, d); or None."""
    if np.isfinite(np.asarray(nodes)).all() and all(np.isfinite(np.asarray(b)).all() for b in before):
        return None
    found, depth = [], topological_depth(model.layout.parent)[0]
    for kind, states in zip(model.kinds, before, strict=True):
        inside = np.isfinite(np.asarray(states)).all(axis=-1)
        children = kind.ends.children
        known = np.where(children < len(nodes), children, 0)
        at_end = np.isfinite(np.asarray(nodes)[known]).all(axis=-1) | (children >= len(nodes))
        times, durations = np.asarray(kind.times), np.asarray(kind.durations)
        # the start of an edge is the end of another one, or a root
        finite = np.concatenate([inside[:, 1:], at_end[:, None]], axis=1)
        for edge in np.flatnonzero(~finite.all(axis=1)).tolist():
            step = int(np.argmin(finite[edge]))
            time = float(times[edge, step] + durations[edge, step])
            words = f"the state at time {time:g}, on the way to {_name(graph, model, children[edge])}"
            found.append((int(depth[children[edge]]), time, words))
    return min(found)[2] if found else "the state of a root"


def _first_step(graph: Graph, model: GaussianGraph, kind: Kind, anchors: Array) -> Found | None:
    """The first step whose mean or noise is not finite at its anchor."""
    states = np.moveaxis(np.asarray(anchors), 0, -1)
    mean, factor = (np.asarray(part) for part in kind.steps(states))  # type: ignore[arg-type]
    finite = np.isfinite(mean).all(axis=1) & np.isfinite(factor).all(axis=(1, 2))
    if finite.all():
        return None
    depth = topological_depth(model.layout.parent)[0][kind.ends.children]
    times = np.asarray(kind.times).T
    step, edge = min(np.argwhere(~finite).tolist(), key=lambda at: (depth[at[1]], times[at[0], at[1]]))
    time, node = float(times[step, edge]), kind.ends.children[edge]
    what = "drift or dispersion" if kind.process.continuous else "mean or noise"
    words = (
        f"the {what} of the step at time {time:g}, on the way to {_name(graph, model, node)}, is not finite "
        f"at the state {states[step, :, edge]}"
    )
    return int(depth[edge]), time, words


def _name(graph: Graph, model: GaussianGraph, node: int) -> str:
    """Words for a node; one that was inserted before a last step goes by the node after it."""
    if node >= graph.n_nodes:
        node = int(np.flatnonzero(model.layout.parent == node)[0])
    return graph.describe_node(int(node))
