"""Backward and guided sweeps along Gaussian paths: one scan over time, paths side by side."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.gaussian_graph import GaussianGraph
from mjp.inference.potentials.canonical import Canonical, gain_of, pull_back
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.segments import Segments, rows, take


def backward(graph: GaussianGraph, edges: LinearSteps, sites: Canonical) -> Canonical:
    """Potentials at all nodes, (n,): pulled back from the children, times the node's own site.

    The constants of all steps of a path are added up once, after the scan, so that they keep their digits
    in float32; only the first node of a path has the whole constant, the others that of their own step.

    Args:
        edges: one composed step of the auxiliary per edge, (E, ...) or (1, ...) if all are the same.
        sites: potentials of the observations at each node, (n,).
    """
    paths = graph.layout.paths
    assert paths is not None
    by_position = _at_positions(sites, paths.nodes)
    shared = edges.matrix.shape[0] == 1 and graph.kinds[0].n_edges > 1
    index = graph.layout.edge_of_node[paths.nodes[1:]]
    real = index < graph.kinds[0].n_edges
    steps = None if shared else rows(edges, np.where(real, index, 0))
    ragged = not np.all(real)

    def step(child: Canonical, x: Any) -> tuple[Canonical, Canonical]:
        site, own, exists = x
        own = jax.tree.map(lambda leaf: leaf[0], edges) if own is None else own
        pulled = pull_back(child, gain_of(child, own.factor), own.matrix, own.offset)
        if exists is not None:
            pulled = jax.tree.map(lambda new, old: _where(exists, new, old), pulled, child)
        potential = pulled.fuse(site)
        # a carry without constants: what each step adds is emitted, and nothing accumulates
        return Canonical(jnp.zeros_like(potential.constant), *_without_constant(potential)), potential

    single = paths.nodes.shape[1] == 1
    by_position, steps = (_squeeze(tree, single) for tree in (by_position, steps))
    last = jax.tree.map(lambda leaf: leaf[-1], by_position)
    before = jax.tree.map(lambda leaf: leaf[:-1], by_position)
    start = Canonical(jnp.zeros_like(last.constant), *_without_constant(last))
    _, found = lax.scan(step, start, (before, steps, real if ragged else None), reverse=True)
    stacked = jax.tree.map(lambda most, end: jnp.concatenate([most, end[None]]), found, last)
    whole = stacked.constant.at[0].set(jnp.sum(stacked.constant, axis=0))
    stacked = Canonical(whole, *_without_constant(stacked))
    if single:
        stacked = jax.tree.map(lambda leaf: leaf[:, None], stacked)
    return _at_nodes(stacked, paths.nodes, graph.layout.n_nodes)


def _without_constant(potential: Canonical) -> tuple[Array, Array]:
    return potential.linear, potential.precision


def forward(
    graph: GaussianGraph, roots: Array, step: Callable[[Array, Any], Array], inputs: Any
) -> tuple[Array, Array]:
    """Follow steps from the roots along all edges.

    Args:
        roots: (n_roots, d) states.
        step: from a state (d,) and the inputs of one step to the next state.
        inputs: pytree of arrays (E, n, ...).

    Returns:
        states at the nodes (n_nodes, d), and at the start of every step (E, n, d).
    """
    paths, kind = graph.layout.paths, graph.kinds[0]
    assert paths is not None
    n, (length, n_paths) = kind.n_steps, paths.nodes[1:].shape
    index = graph.layout.edge_of_node[paths.nodes[1:]]
    real = index < kind.n_edges
    ragged, single = not np.all(real), n_paths == 1
    arranged = rows(inputs, np.where(real, index, 0))  # (L, S, n, ...)
    arranged = jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf, 2, 1).reshape(length * n, n_paths, *leaf.shape[3:]), arranged
    )
    root_of = np.zeros(graph.layout.n_nodes + 1, dtype=np.int64)
    root_of[graph.layout.root_nodes] = np.arange(len(graph.layout.root_nodes))
    start = roots[root_of[paths.nodes[0]]]
    arranged, start = _squeeze(arranged, single), start[0] if single else start
    follow = step if single else jax.vmap(step)

    def advance(x: Array, own: Any) -> tuple[Array, Array]:
        inputs, exists = own
        following = follow(x, inputs)
        return (following if exists is None else jnp.where(exists[:, None], following, x)), x

    exists = np.repeat(real, n, axis=0) if ragged else None
    last, before = lax.scan(advance, start, (arranged, exists))
    if single:
        last, before = last[None], before[:, None]
    nodes = jnp.concatenate([before[::n], last[None]])
    values = _at_nodes(nodes, paths.nodes, graph.layout.n_nodes)
    # from positions back to edges
    by_edge = jnp.moveaxis(before.reshape(length, n, n_paths, -1), 1, 2).reshape(length * n_paths, n, -1)
    where = np.zeros(kind.n_edges, dtype=np.int64)
    where[index[real]] = np.flatnonzero(real.reshape(-1))
    return values, take(by_edge, Segments(where, length * n_paths))


def _at_positions(tree: Any, nodes: np.ndarray) -> Any:
    """Arrays by node (n, ...) as arrays by position (L + 1, S, ...), zero beyond the end of a path."""

    def arrange(leaf: Array) -> Array:
        if np.array_equal(nodes.reshape(-1), np.arange(leaf.shape[0])):
            return leaf.reshape(*nodes.shape, *leaf.shape[1:])
        padded = jnp.concatenate([leaf, jnp.zeros((1, *leaf.shape[1:]), leaf.dtype)])
        found = take(padded, Segments(nodes.reshape(-1), leaf.shape[0] + 1))
        return found.reshape(*nodes.shape, *leaf.shape[1:])

    return jax.tree.map(arrange, tree)


def _at_nodes(tree: Any, nodes: np.ndarray, n_nodes: int) -> Any:
    """Arrays by position (L + 1, S, ...) as arrays by node (n, ...)."""
    flat = nodes.reshape(-1)
    where = np.zeros(n_nodes + 1, dtype=np.int64)
    where[flat[::-1]] = np.arange(len(flat))[::-1]
    segments = Segments(where[:n_nodes], len(flat))
    return jax.tree.map(lambda leaf: take(leaf.reshape(-1, *leaf.shape[2:]), segments), tree)


def _squeeze(tree: Any, single: bool) -> Any:
    return jax.tree.map(lambda leaf: leaf[:, 0], tree) if single else tree


def _where(condition: Array, new: Array, old: Array) -> Array:
    return jnp.where(condition.reshape(*condition.shape, *[1] * (new.ndim - condition.ndim)), new, old)
