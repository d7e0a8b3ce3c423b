"""Exact log-evidence of graphs of finite states."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.inference.finite_states import FiniteStates
from mjp.inference.forward_filter import forward_filter
from mjp.inference.level_sweeps import prune
from mjp.inference.potentials.categorical import Categorical
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.inference.schedule import Paths
from mjp.inference.segments import Segments, segment_sum, take


@eqx.filter_jit  # called outside compiled functions, operations would compile one by one
def log_evidence(model: FiniteStates) -> tuple[Array, Array | None]:
    """Log-evidence of each component, (n_components,), and of each node of a single path.

    Returns:
        the evidence; and, for a graph that is one path from its root, the one-step-ahead terms
        log p(y_t | y_0 … y_{t-1}) by node, (n_graph_nodes,), or None for other graphs.
    """
    if model.layout.levels is not None:
        return _tree(model), None
    total = jnp.zeros(model.layout.n_components, model.matrices.dtype)
    total = total + _known_roots(model)
    if len(model.layout.pinned):
        total = total + _pinned(model)
    terms = None
    for paths in model.layout.paths:
        increments = path_increments(model, paths)
        by_path = jnp.sum(increments, axis=0)
        total = total + segment_sum(by_path, Segments(paths.component, model.layout.n_components))
        if len(model.layout.paths) == 1 and paths.nodes.shape[1] == 1 and len(model.layout.pinned) == 0:
            one_path = np.array_equal(np.sort(paths.nodes[:, 0]), np.arange(len(model.layout.parent)))
            if one_path and len(model.layout.parent) == model.layout.n_graph_nodes:
                order = np.argsort(paths.nodes[:, 0])
                terms = increments[order, 0].at[model.layout.root_nodes[0]].add(_known_roots(model)[0])
    return total, terms


def path_increments(model: FiniteStates, paths: Paths) -> Array:
    """Log-increments of the forward filter on each path, (L + 1, S)."""
    initial, nodes = path_inputs(model, paths)
    index = model.layout.edge_matrix[paths.nodes[1:]]
    n_distinct = model.matrices.shape[0] - 1
    if n_distinct == 1 and np.all(index == 0):
        return forward_filter(initial, model.matrices[:1], None, nodes)
    return forward_filter(initial, model.matrices, index, nodes)


def path_inputs(model: FiniteStates, paths: Paths) -> tuple[Array, Categorical]:
    """Weights of the first state (S, K) and potentials (L + 1, S, K) along each path.

    A known state enters as a one-hot potential. At the head of a path it is a start only: its
    observations are counted where it ends another path, or with the roots.
    """
    n, k = len(model.layout.parent), model.layout.n_states
    flat = Segments(paths.nodes.reshape(-1), n + 1)
    shape = paths.nodes.shape
    values = take(model.nodes.values, flat).reshape(*shape, k)
    log_scale = take(model.nodes.log_scale, flat).reshape(shape)
    known = np.append(model.layout.known, UNKNOWN)[paths.nodes]
    if np.any(known != UNKNOWN):
        mask = (known[..., None] == np.arange(k)) | (known == UNKNOWN)[..., None]
        values = values * mask
    heads = paths.nodes[0]
    from_known = known[0] != UNKNOWN
    root_of = np.full(n, -1)
    root_of[model.layout.root_nodes] = np.arange(len(model.layout.root_nodes))
    root = np.where(from_known, -1, root_of[heads])
    one_hot = jnp.asarray(np.eye(k)[np.maximum(known[0], 0)], values.dtype)
    initial = jnp.where(from_known[:, None], one_hot, model.root_laws[np.maximum(root, 0)])
    if np.any(from_known):
        start = jnp.where(from_known[:, None], 1.0, values[0])
        values = jnp.concatenate([start[None], values[1:]])
        scale = jnp.where(from_known, 0.0, log_scale[0])
        log_scale = jnp.concatenate([scale[None], log_scale[1:]])
    return initial, Categorical(values, log_scale)


def _pinned(model: FiniteStates) -> Array:
    """Edges between two known states: one entry of their matrix each."""
    k, child = model.layout.n_states, model.layout.pinned
    flat = (
        model.layout.edge_matrix[child] * k + model.layout.known[model.layout.parent[child]]
    ) * k + model.layout.known[child]
    density = take(model.matrices.reshape(-1), Segments(flat, model.matrices.size))
    terms = jnp.log(density) + _own_potential(model, child)
    return segment_sum(terms, Segments(model.layout.component[child], model.layout.n_components))


def _known_roots(model: FiniteStates) -> Array:
    """Law and observations of roots with a known state."""
    known = model.layout.known[model.layout.root_nodes]
    chosen = np.flatnonzero(known != UNKNOWN)
    if len(chosen) == 0:
        return jnp.zeros(model.layout.n_components, model.matrices.dtype)
    nodes = model.layout.root_nodes[chosen]
    terms = jnp.log(model.root_laws[chosen, known[chosen]]) + _own_potential(model, nodes)
    return segment_sum(terms, Segments(model.layout.component[nodes], model.layout.n_components))


def _own_potential(model: FiniteStates, nodes: np.ndarray) -> Array:
    """Log-potential of nodes at their known state."""
    if not model.layout.noisy:
        return jnp.zeros(len(nodes), model.matrices.dtype)
    return jnp.log(model.nodes.values[nodes, model.layout.known[nodes]]) + model.nodes.log_scale[nodes]


def _tree(model: FiniteStates) -> Array:
    assert model.layout.levels is not None
    kernels, nodes = tree_inputs(model)
    potentials, below = prune(model.layout.levels, kernels, nodes)
    rows = model.layout.levels.roots
    terms = jnp.log(jnp.sum(model.root_laws * potentials.values[rows], axis=-1)) + below[rows]
    return segment_sum(
        terms, Segments(model.layout.component[model.layout.root_nodes], model.layout.n_components)
    )


def tree_inputs(model: FiniteStates) -> tuple[Array, Categorical]:
    """Matrix of the edge above each node (n + 1, K, K), and potentials with known states one-hot."""
    kernels = take(model.matrices, Segments(model.layout.edge_matrix, model.matrices.shape[0]))
    known = np.append(model.layout.known, UNKNOWN)
    mask = (known[:, None] == np.arange(model.layout.n_states)) | (known == UNKNOWN)[:, None]
    return kernels, Categorical(model.nodes.values * mask, model.nodes.log_scale)
