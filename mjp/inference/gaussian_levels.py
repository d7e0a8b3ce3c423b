"""Backward and guided sweeps on Gaussian trees and forests, level by level."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.gaussian_graph import GaussianGraph
from mjp.inference.potentials.canonical import Canonical, gain_of, pull_back
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.schedule import Levels
from mjp.inference.segments import rows


def backward(graph: GaussianGraph, edges: LinearSteps, sites: Canonical) -> Canonical:
    """Potentials at all nodes, (n,); arguments as for `gaussian_paths.backward`.

    Edges of dummy rows, which split wide nodes, are the identity.
    """
    levels, layout = _levels(graph), graph.layout
    edges = with_identity(edges)
    shared = edges.matrix.shape[0] == 2 and sum(kind.n_edges for kind in graph.kinds) > 1
    of_node = layout.edge_of_node
    if shared:
        of_node = np.where(of_node < of_node.max(), 0, 1)
    own = _with_unit(sites, levels.node)
    n_chunks, width = levels.children.shape[:2]
    first = levels.leaves
    if n_chunks == 0:
        return rows(own, levels.row_of_node)
    kernels = rows(edges, of_node[levels.edges])  # (C, W, 2, ...)
    inner = jax.tree.map(lambda leaf: leaf[first:-1].reshape(n_chunks, width, *leaf.shape[1:]), own)
    offsets = first + width * np.arange(n_chunks, dtype=np.int32)

    def step(below: Canonical, x: Any) -> tuple[Canonical, None]:
        children, kernel, site, offset = x
        child = jax.tree.map(lambda leaf: leaf.at[children].get(mode="promise_in_bounds"), below)
        pulled = pull_back(child, gain_of(child, kernel.factor), kernel.matrix, kernel.offset)
        both = jax.tree.map(lambda leaf: leaf[:, 0] + leaf[:, 1], pulled)
        fused = both.fuse(site)
        write = lambda all_rows, new: lax.dynamic_update_slice_in_dim(all_rows, new, offset, axis=0)
        return jax.tree.map(write, below, fused), None

    pulled, _ = lax.scan(step, own, (levels.children, kernels, inner, offsets))
    return rows(pulled, levels.row_of_node)


def forward(
    graph: GaussianGraph, roots: Array, steps: Sequence[Callable[[Array, Any], Array]], inputs: Sequence[Any]
) -> tuple[Array, list[Array]]:
    """Follow the steps of every kind of edge from the roots down.

    Args:
        roots: (n_roots, d) states.
        steps: for every kind, from a state (d,) and the inputs of one step to the next state.
        inputs: for every kind, a pytree of arrays (E, n, ...).

    Returns:
        states at the nodes (n_nodes, d); for every kind, states at the start of its steps (E, n, d).
    """
    levels, layout = _levels(graph), graph.layout
    n_rows, dim = len(levels.parent), layout.dim
    n_chunks, width = levels.children.shape[:2]
    first, offset = levels.leaves, 0
    edge_of_row = layout.edge_of_node[levels.edge]
    members, own = [], []
    for kind, tree in zip(graph.kinds, inputs, strict=True):
        inside = (edge_of_row >= offset) & (edge_of_row < offset + kind.n_edges)
        members.append(inside)
        own.append(rows(tree, np.where(inside, edge_of_row - offset, 0)))
        offset += kind.n_edges
    is_root = np.zeros(n_rows, dtype=bool)
    is_root[levels.roots] = True
    start = jnp.zeros((n_rows, dim), roots.dtype).at[levels.roots].set(roots)

    def block(x: Array, inputs: list[Any], inside: list[Array]) -> tuple[Array, list[Array]]:
        """States of rows (W, d) whose parents have states x; and states at the start of every step."""
        result, befores = x, []
        for step, tree, mask in zip(steps, inputs, inside, strict=True):

            def advance(x: Array, now: Any, step: Any = step) -> tuple[Array, Array]:
                return jax.vmap(step)(x, now), x

            by_step = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), tree)
            last, before = lax.scan(advance, x, by_step)
            result = jnp.where(mask[:, None], last, result)
            befores.append(jnp.moveaxis(before, 0, 1))
        return result, befores

    chunked = lambda leaf: leaf[first:-1].reshape(n_chunks, width, *leaf.shape[1:])
    states, inner = start, None
    if n_chunks:

        def step(states: Array, x: Any) -> tuple[Array, list[Array]]:
            offset, parent, root, value, tree, inside = x
            moved, befores = block(states.at[parent].get(mode="promise_in_bounds"), tree, inside)
            moved = jnp.where(root[:, None], value, moved)
            return lax.dynamic_update_slice_in_dim(states, moved, offset, axis=0), befores

        offsets = first + width * np.arange(n_chunks, dtype=np.int32)
        chunks = jax.tree.map(chunked, (levels.parent, is_root, start, own, members))
        states, inner = lax.scan(step, states, (offsets, *chunks), reverse=True)
    at_leaves = lambda tree: jax.tree.map(lambda leaf: leaf[:first], tree)
    moved, outer = block(states[levels.parent[:first]], at_leaves(own), at_leaves(members))
    moved = jnp.where(is_root[:first, None], start[:first], moved)
    by_row = jnp.concatenate([moved, states[first:]])
    befores = []
    for i, kind in enumerate(graph.kinds):
        parts = [outer[i]]
        if inner is not None:
            parts.append(inner[i].reshape(-1, *inner[i].shape[2:]))
        row_of_edge = levels.row_of_node[kind.ends.children]
        befores.append(rows(jnp.concatenate(parts), row_of_edge))
    return rows(by_row, levels.row_of_node), befores


def with_identity(edges: LinearSteps) -> LinearSteps:
    """Append the identity to steps (E, ...)."""
    dim = edges.matrix.shape[-1]
    identity = LinearSteps(
        jnp.eye(dim, dtype=edges.matrix.dtype),
        jnp.zeros(dim, edges.offset.dtype),
        jnp.zeros(edges.factor.shape[1:], edges.factor.dtype),
    )
    return jax.tree.map(lambda leaf, one: jnp.concatenate([leaf, one[None]]), edges, identity)


def _levels(graph: GaussianGraph) -> Levels:
    assert graph.layout.levels is not None
    return graph.layout.levels


def _with_unit(sites: Canonical, nodes: np.ndarray) -> Canonical:
    """Sites of rows, given by node, with the unit potential for dummies."""
    padded = jax.tree.map(
        lambda leaf: jnp.concatenate([leaf, jnp.zeros((1, *leaf.shape[1:]), leaf.dtype)]), sites
    )
    return rows(padded, nodes)
