"""Trajectories of chains and panels on a common grid of times."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.processes import SparseMarkovJump


def node_times(graph: Any) -> np.ndarray:
    """Times of the nodes of a chain or a panel, (n_nodes,).

    Raises:
        TypeError: the graph's nodes do not have times of their own.
    """
    if graph.kind == "panel":
        return graph.panel.times
    if graph.kind == "chain":
        return np.tile(np.asarray(graph.times, float), graph.n_series or 1)
    raise TypeError("at(times): only the components of chains and panels are paths in time")


def states_on_grid(trajectory: Any, times: Array) -> Array:
    """States at times (m,), (..., n_components, m) or (..., m); see `Trajectory.at`."""
    graph = trajectory.names.graph
    if any(isinstance(edges.process, SparseMarkovJump) for edges in graph.edges):
        raise TypeError("at(times): paths of a SparseMarkovJump are drawn at the nodes only")
    at_nodes = node_times(graph)
    starts = np.concatenate([roots.nodes for roots in graph.roots])
    stops = np.append(starts[1:], graph.n_nodes)
    # position of the last node at or before each time, within each component
    padded = np.full((len(starts), int((stops - starts).max())), np.inf)
    for i, (a, b) in enumerate(zip(starts, stops, strict=True)):
        padded[i, : b - a] = at_nodes[a:b]
    grid = jnp.asarray(times, jnp.result_type(float))
    before = jnp.sum(jnp.asarray(padded)[:, None, :] <= grid[None, :, None], axis=-1)  # (n, m)
    length = jnp.asarray(stops - starts)[:, None]
    last_time = jnp.asarray(at_nodes[stops - 1])[:, None]
    outside = (before == 0) | (grid[None] > last_time)
    node = jnp.asarray(starts)[:, None] + jnp.clip(before - 1, 0, length - 1)
    values = trajectory.values[..., node]
    if trajectory.jumps is not None:
        values = _within_edges(trajectory, grid, node, values)
    values = jnp.where(outside, -1, values)
    return values if graph.batch_shape else values[..., 0, :]


def _within_edges(trajectory: Any, grid: Array, node: Array, values: Array) -> Array:
    """Replace the state at the last node by the state after the jumps since then."""
    jumps = trajectory.jumps
    n_nodes = trajectory.names.graph.n_nodes
    # the pieces of an edge, in order, behind the node that the edge leaves
    origin = _origins(jumps.pieces.parents, jumps.pieces.children, n_nodes)
    n_pieces = np.bincount(origin, minlength=n_nodes)
    table = np.full((n_nodes, max(int(n_pieces.max(initial=0)), 1)), -1)
    filled = np.zeros(n_nodes, dtype=int)
    for piece in range(len(origin)):
        table[origin[piece], filled[origin[piece]]] = piece
        filled[origin[piece]] += 1
    for column in range(table.shape[1]):
        piece = jnp.asarray(table[:, column])[node]  # (n, m)
        chosen = jnp.maximum(piece, 0)
        times, states = jumps.times[..., chosen, :], jumps.states[..., chosen, :]
        happened = (times <= grid[:, None]) & (times < jumps.ends[..., chosen, None])
        count = jnp.sum(happened, axis=-1)
        after = jnp.take_along_axis(states, jnp.maximum(count - 1, 0)[..., None], axis=-1)[..., 0]
        begun = (piece >= 0) & (jumps.starts[..., chosen] <= grid)
        current = jnp.where(count > 0, after, jumps.start_states[..., chosen])
        values = jnp.where(begun, current, values)
    return values


def _origins(parents: np.ndarray, children: np.ndarray, n_nodes: int) -> np.ndarray:
    """The graph's own node that each piece of an edge comes from."""
    into = {int(child): int(parent) for parent, child in zip(parents, children, strict=True)}
    origin = np.asarray(parents).copy()
    for i, node in enumerate(origin.tolist()):
        while node >= n_nodes:
            node = into[node]
        origin[i] = node
    return origin
