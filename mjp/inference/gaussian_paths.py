"""Backward and guided sweeps along Gaussian paths: one scan over time, paths side by side."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.gaussian_graph import GaussianGraph
from mjp.inference.potentials.rows import Potential, followed_by_unit
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.segments import Segments, columns, take


def backward(graph: GaussianGraph, edges: LinearSteps, sites: Potential) -> Potential:
    """Potentials at all nodes, (n,): pulled back from the children, times the node's own site.

    The constants of all steps of a path are added up once, after the scan, so that they keep their digits
    in float32; only the first node of a path has the whole constant, the others that of their own step.

    Args:
        edges: one composed step of the auxiliary per edge, (..., E).
        sites: potentials of the observations at each node, (n,).
    """
    paths = graph.layout.paths
    assert paths is not None
    by_position = _at_positions(sites, paths.nodes)
    index = graph.layout.edge_of_node[paths.nodes[1:]]
    real = index < graph.kinds[0].n_edges
    steps = columns(edges, np.where(real, index, 0))
    steps = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), steps)
    ragged = not np.all(real)

    def step(child: Any, x: Any) -> tuple[Potential, Potential]:
        site, own, exists = x
        pulled = child.pull_back(child.gain(own.factor), own.matrix, own.offset)
        if exists is not None:
            pulled = jax.tree.map(lambda new, old: jnp.where(exists, new, old), pulled, child)
        potential = pulled.fuse(site)
        # a carry without constants: what each step adds is emitted, and nothing accumulates
        return _without_constant(potential), potential

    single = paths.nodes.shape[1] == 1
    by_position, steps = (_squeeze(tree, single) for tree in (by_position, steps))
    last = jax.tree.map(lambda leaf: leaf[-1], by_position)
    before = jax.tree.map(lambda leaf: leaf[:-1], by_position)
    _, found = lax.scan(
        step, _without_constant(last), (before, steps, real if ragged else None), reverse=True
    )
    stacked = jax.tree.map(lambda most, end: jnp.concatenate([most, end[None]]), found, last)
    whole = stacked.constant.at[0].set(jnp.sum(stacked.constant, axis=0))
    stacked = stacked.with_constant(whole)
    if single:
        stacked = jax.tree.map(lambda leaf: leaf[..., None], stacked)
    return _at_nodes(stacked, paths.nodes, graph.layout.n_nodes)


def _without_constant(potential: Potential) -> Potential:
    return potential.with_constant(jnp.zeros_like(potential.constant))


def forward(
    graph: GaussianGraph, roots: Array, step: Callable[[Array, Any], Array], inputs: Any
) -> tuple[Array, Array]:
    """Follow steps from the roots along all edges.

    Args:
        roots: (n_roots, d) states.
        step: from states (d, ...) and the inputs (..., ...) of one step to the next states.
        inputs: pytree of arrays (n, ..., E).

    Returns:
        states at the nodes (n_nodes, d), and at the start of every step (E, n, d).
    """
    paths, kind = graph.layout.paths, graph.kinds[0]
    assert paths is not None
    n, (length, n_paths) = kind.n_steps, paths.nodes[1:].shape
    index = graph.layout.edge_of_node[paths.nodes[1:]]
    real = index < kind.n_edges
    ragged, single = not np.all(real), n_paths == 1
    arranged = columns(inputs, np.where(real, index, 0))  # (n, ..., L, S)
    arranged = jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf, -2, 0).reshape(length * n, *leaf.shape[1:-2], n_paths), arranged
    )
    root_of = np.zeros(graph.layout.n_nodes + 1, dtype=np.int64)
    root_of[graph.layout.root_nodes] = np.arange(len(graph.layout.root_nodes))
    start = roots[root_of[paths.nodes[0]]].T
    arranged, start = _squeeze(arranged, single), start[:, 0] if single else start

    def advance(x: Array, own: Any) -> tuple[Array, Array]:
        inputs, exists = own
        following = step(x, inputs)
        return (following if exists is None else jnp.where(exists, following, x)), x

    exists = np.repeat(real, n, axis=0) if ragged else None
    last, before = lax.scan(advance, start, (arranged, exists))
    if single:
        last, before = last[..., None], before[..., None]
    nodes = jnp.concatenate([before[::n], last[None]])
    values = _at_nodes(nodes, paths.nodes, graph.layout.n_nodes).T
    # from positions back to edges
    by_edge = jnp.moveaxis(before.reshape(length, n, -1, n_paths), -1, 1)
    by_edge = by_edge.reshape(length * n_paths, *by_edge.shape[2:])
    where = np.zeros(kind.n_edges, dtype=np.int64)
    where[index[real]] = np.flatnonzero(real.reshape(-1))
    return values, take(by_edge, Segments(where, length * n_paths))


def _at_positions(potential: Potential, nodes: np.ndarray) -> Any:
    """Potentials by node (n,) as potentials by position (L + 1, ..., S), one beyond the end of a path."""
    n = potential.constant.shape[-1]
    if np.array_equal(nodes.reshape(-1), np.arange(n)):
        found = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-1], *nodes.shape), potential)
    else:
        found = columns(followed_by_unit(potential), nodes)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), found)


def _at_nodes(tree: Any, nodes: np.ndarray, n_nodes: int) -> Any:
    """Arrays by position (L + 1, ..., S) as arrays by node (..., n)."""
    flat = nodes.reshape(-1)
    where = np.zeros(n_nodes + 1, dtype=np.int64)
    where[flat[::-1]] = np.arange(len(flat))[::-1]
    by_node = lambda leaf: jnp.moveaxis(leaf, 0, -2).reshape(*leaf.shape[1:-1], -1)
    return columns(jax.tree.map(by_node, tree), where[:n_nodes])


def _squeeze(tree: Any, single: bool) -> Any:
    return jax.tree.map(lambda leaf: leaf[..., 0], tree) if single else tree
