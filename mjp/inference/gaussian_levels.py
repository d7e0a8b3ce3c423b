"""Backward and guided sweeps on Gaussian trees and forests, level by level."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.gaussian_graph import GaussianGraph
from mjp.inference.potentials.rows import Potential, followed_by_unit
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.schedule import Levels
from mjp.inference.segments import columns


def backward(graph: GaussianGraph, edges: LinearSteps, sites: Potential) -> Potential:
    """Potentials at all nodes, (n,); arguments as for `gaussian_paths.backward`.

    Edges of dummy rows, which split wide nodes, are the identity.
    """
    levels, layout = _levels(graph), graph.layout
    own = columns(followed_by_unit(sites), levels.node)
    n_chunks, width = levels.children.shape[:2]
    first = levels.leaves
    if n_chunks == 0:
        return columns(own, levels.row_of_node)
    # both children of a row: (C, 2, W)
    pairs = lambda index: np.swapaxes(index, 1, 2)
    kernels = columns(with_identity(edges), layout.edge_of_node[pairs(levels.edges)])
    kernels = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -3, 0), kernels)
    inner = _chunks(own, first, n_chunks, width)
    offsets = first + width * np.arange(n_chunks, dtype=np.int32)

    def step(below: Potential, x: Any) -> tuple[Potential, None]:
        children, kernel, site, offset = x
        child: Any = jax.tree.map(lambda leaf: leaf.at[..., children].get(mode="promise_in_bounds"), below)
        pulled = child.pull_back(child.gain(kernel.factor), kernel.matrix, kernel.offset)
        first, second = (jax.tree.map(lambda leaf, i=i: leaf[..., i, :], pulled) for i in (0, 1))
        write = lambda rows, new: lax.dynamic_update_slice_in_dim(rows, new, offset, axis=-1)
        return jax.tree.map(write, below, first.fuse(second).fuse(site)), None

    pulled, _ = lax.scan(step, own, (pairs(levels.children), kernels, inner, offsets))
    return columns(pulled, levels.row_of_node)


def forward(
    graph: GaussianGraph, roots: Array, steps: Sequence[Callable[[Array, Any], Array]], inputs: Sequence[Any]
) -> tuple[Array, list[Array]]:
    """Follow the steps of every kind of edge from the roots down.

    Args:
        roots: (n_roots, d) states.
        steps: for every kind, from states (d, ...) and the inputs (..., ...) of one step to the next states.
        inputs: for every kind, a pytree of arrays (n, ..., E).

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
        own.append(columns(tree, _filled(edge_of_row - offset, inside)))
        offset += kind.n_edges
    is_root = np.zeros(n_rows, dtype=bool)
    is_root[levels.roots] = True
    start = jnp.zeros((dim, n_rows), roots.dtype).at[:, levels.roots].set(roots.T)

    def block(x: Array, inputs: list[Any], inside: list[Array]) -> tuple[Array, list[Array]]:
        """States of rows (d, W) whose parents have states x; and states at the start of every step."""
        result, befores = x, []
        for step, tree, mask in zip(steps, inputs, inside, strict=True):

            def advance(x: Array, now: Any, step: Any = step) -> tuple[Array, Array]:
                return step(x, now), x

            if jax.tree.leaves(tree)[0].shape[0] == 1:  # a loop takes time to compile
                last, before = step(x, jax.tree.map(lambda leaf: leaf[0], tree)), x[None]
            else:
                last, before = lax.scan(advance, x, tree)
            result = jnp.where(mask, last, result)
            befores.append(before)
        return result, befores

    states, inner = start, None
    if n_chunks:

        def step(states: Array, x: Any) -> tuple[Array, list[Array]]:
            offset, parent, root, value, tree, inside = x
            moved, befores = block(states.at[:, parent].get(mode="promise_in_bounds"), tree, inside)
            moved = jnp.where(root, value, moved)
            return lax.dynamic_update_slice_in_dim(states, moved, offset, axis=-1), befores

        offsets = first + width * np.arange(n_chunks, dtype=np.int32)
        chunks = _chunks((levels.parent, is_root, start, own, members), first, n_chunks, width)
        states, inner = lax.scan(step, states, (offsets, *chunks), reverse=True)
    at_leaves = lambda tree: jax.tree.map(lambda leaf: leaf[..., :first], tree)
    moved, outer = block(states[:, levels.parent[:first]], at_leaves(own), at_leaves(members))
    moved = jnp.where(is_root[:first], start[:, :first], moved)
    by_row = jnp.concatenate([moved, states[:, first:]], axis=-1)
    befores = []
    for i, kind in enumerate(graph.kinds):
        parts = [outer[i]]
        if inner is not None:  # (C, n, d, W)
            parts.append(jnp.moveaxis(inner[i], 0, -2).reshape(*inner[i].shape[1:3], -1))
        row_of_edge = levels.row_of_node[kind.ends.children]
        befores.append(jnp.moveaxis(columns(jnp.concatenate(parts, axis=-1), row_of_edge), -1, 0))
    return columns(by_row, levels.row_of_node).T, befores


def with_identity(edges: LinearSteps) -> LinearSteps:
    """Append the identity to steps (..., E)."""
    dim = edges.matrix.shape[0]
    identity = LinearSteps(
        jnp.eye(dim, dtype=edges.matrix.dtype),
        jnp.zeros(dim, edges.offset.dtype),
        jnp.zeros(edges.factor.shape[:-1], edges.factor.dtype),
    )
    append = lambda leaf, one: jnp.concatenate([leaf, one[..., None]], axis=-1)
    return jax.tree.map(append, edges, identity)


def _filled(index: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Positions with those that do not matter replaced by the last one before them that does."""
    last = np.maximum.accumulate(np.where(known, np.arange(len(index)), 0))
    return np.where(known[last], index[last], 0)


def _chunks(tree: Any, first: int, n_chunks: int, width: int) -> Any:
    """The inner rows of arrays (..., R) by chunks, (C, ..., W)."""

    def cut(leaf: Any) -> Any:
        inner = leaf[..., first:-1]
        return jnp.moveaxis(inner.reshape(*inner.shape[:-1], n_chunks, width), -2, 0)

    return jax.tree.map(cut, tree)


def _levels(graph: GaussianGraph) -> Levels:
    assert graph.layout.levels is not None
    return graph.layout.levels
