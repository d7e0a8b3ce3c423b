"""Backward and guided sweeps over graphs of Gamma processes, level by level."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.gamma_draws import bounded_increment, free_increment, unguided_increment
from mjp.inference.gamma_graph import GammaGraph
from mjp.inference.potentials.gamma_tail import GammaTail, at_least, log_gamma_density


def backward(model: GammaGraph, sites: GammaTail, anchors: Array) -> GammaTail:
    """Potentials of all rows, (R + 1,).

    Args:
        sites: potentials of the observations at the nodes, (n + 1,), the last one being one.
        anchors: (n + 1,) typical states, below all values that are known beneath them.
    """
    layout = model.layout
    levels, n = layout.levels, layout.n_nodes
    own = jax.tree.map(lambda leaf: leaf[levels.node], sites)
    n_chunks, width = levels.children.shape[:2]
    if n_chunks == 0:
        return own
    first = levels.leaves
    offsets = first + width * np.arange(n_chunks, dtype=np.int32)
    at = anchors[layout.owner[first:-1].reshape(n_chunks, width)]

    def step(rows: GammaTail, x: Any) -> tuple[GammaTail, None]:
        children, edges, known, anchor, offset = x
        child = jax.tree.map(lambda leaf: leaf[children], rows)
        shape, rate, value = model.shape[edges], model.rate[edges], model.values[edges]
        pulled = child.pull_back(shape, rate, anchor[:, None])
        zero = jnp.zeros_like(value)
        towards = GammaTail(child.log_value(value), zero, zero, value, shape / rate, shape / rate**2)
        message = _where(edges == n, child, _where(known, towards, pulled))
        left, right = (jax.tree.map(lambda leaf, i=i: leaf[:, i], message) for i in (0, 1))
        here = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, offset, width), rows)
        fused = left.fuse(right, anchor).fuse(here, anchor)
        write = lambda old, new: lax.dynamic_update_slice_in_dim(old, new, offset, axis=0)
        return jax.tree.map(write, rows, fused), None

    inputs = (levels.children, levels.edges, layout.known[levels.edges], at, offsets)
    return lax.scan(step, own, inputs)[0]


def forward(model: GammaGraph, rows: GammaTail, z: Array | None) -> tuple[Array, Array, Array]:
    """Guided states from the roots down.

    Args:
        rows: potentials of all rows.
        z: innovations (n, 1), or (n, 2) where some states lie above known ones, by the node drawn; None
            where all values are known.

    Returns:
        by node, (n,): the states, the increments above them, and the logs of the density of the increment
        times the tail that follows it, over the density of its draw; for known values that density alone.
    """
    layout = model.layout
    levels, n = layout.levels, layout.n_nodes
    n_rows, first = len(levels.parent), levels.leaves
    n_chunks, width = levels.children.shape[:2]
    edge = levels.edge
    is_root = np.zeros(n_rows, dtype=bool)
    is_root[levels.roots] = True
    start = jnp.where(is_root, model.values[levels.node], 0.0)
    free_parent = ~layout.known[layout.owner[np.where(is_root, np.arange(n_rows), levels.parent)]]
    noise = jnp.zeros((n_rows, 1), start.dtype) if z is None else jnp.concatenate([z, z[:1]])[levels.node]
    columns = (
        levels.parent,
        edge == n,
        is_root,
        layout.known[edge],
        free_parent,
        model.shape[edge],
        model.rate[edge],
        model.values[edge],
        start,
        rows,
        noise,
    )

    def draw(states: Array, x: Any) -> tuple[Array, Array, Array]:
        parent, same, root, known, uncertain, shape, rate, value, begin, ahead, noise = x
        before = states[parent]
        distance = value - before
        distance = jnp.where(uncertain, at_least(distance, before), distance)
        towards = log_gamma_density(distance, shape, rate)
        increment, ratio = distance, towards
        if layout.free:
            drawn, drawn_ratio = _increments(model, before, shape, rate, ahead, noise)
            increment, ratio = jnp.where(known, distance, drawn), jnp.where(known, towards, drawn_ratio)
        fixed = same | root
        after = jnp.where(known, value, before + increment)
        after = jnp.where(root, begin, jnp.where(same, before, after))
        return after, jnp.where(fixed, 0.0, increment), jnp.where(fixed, 0.0, ratio)

    states, found = start, []
    block = lambda leaf: leaf[first:-1].reshape(n_chunks, width, *leaf.shape[1:])
    if n_chunks:

        def step(states: Array, x: Any) -> tuple[Array, tuple[Array, Array]]:
            offset, own = x
            after, increment, ratio = draw(states, own)
            return lax.dynamic_update_slice_in_dim(states, after, offset, axis=0), (increment, ratio)

        offsets = first + width * np.arange(n_chunks, dtype=np.int32)
        states, inner = lax.scan(step, states, (offsets, jax.tree.map(block, columns)), reverse=True)
        found = [leaf.reshape(-1) for leaf in inner]
    after, *outer = draw(states, jax.tree.map(lambda leaf: leaf[:first], columns))
    states = states.at[:first].set(after)
    by_row = [jnp.concatenate([a, b]) for a, b in zip(outer, found, strict=True)] if found else outer
    order = levels.row_of_node
    return states[order], by_row[0][order], by_row[1][order]


def _increments(
    model: GammaGraph, before: Array, shape: Array, rate: Array, ahead: GammaTail, noise: Array
) -> tuple[Array, Array]:
    """Guided increments of a block of rows, by what is known below them."""
    layout = model.layout
    # above known values only, the potential is a tail; elsewhere it is a Gaussian, or nothing
    if layout.noisy:
        towards = (ahead.linear, ahead.precision)
        drawn, ratio = jax.vmap(free_increment)(before, shape, rate, *towards, noise[:, 0])
    else:
        drawn, ratio = unguided_increment(shape, rate, noise[:, 0])
    if not layout.bounded:
        return drawn, ratio
    inside, inside_ratio = jax.vmap(bounded_increment)(before, shape, rate, ahead, noise[:, 0], noise[:, 1])
    bounded = ahead.bounded
    return jnp.where(bounded, inside, drawn), jnp.where(bounded, inside_ratio, ratio)


def _where(condition: Any, a: GammaTail, b: GammaTail) -> GammaTail:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)
