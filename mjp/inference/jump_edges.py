"""Edges in continuous time, and the jump paths that are drawn on them between the states at their ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp.graph import Edges
from mjp.inference import path_sweeps
from mjp.inference.bridges import buffer_size, sample_bridges
from mjp.inference.rules.finite_states import ENTRY, EXACT_TRANSITION, NO_JUMP, Jumps
from mjp.state_trajectory import JumpPaths, Pieces

DEFAULT_BUFFER = 32


class JumpEdges(eqx.Module):
    """Edges in continuous time, on which a jump path is drawn between the states at the ends."""

    pieces: Pieces = eqx.field(static=True)
    generators: Array  # (G, K, K)
    durations: Array | np.ndarray  # (n,)
    starts: Array | np.ndarray  # (n,)
    matrices: Array  # (U, K, K) laws of the state at the end of an edge
    selection: "Selection" = eqx.field(static=True)

    @property
    def which(self) -> np.ndarray:
        """Generator of each edge, (n,)."""
        return self.selection.which


@dataclass(frozen=True, eq=False)
class Selection(ByContent):
    """What is known of jump edges before compilation, besides their ends."""

    which: np.ndarray  # (n,) generator of each edge
    arrival: np.ndarray  # (n,) how each edge reaches its child
    pair: np.ndarray  # (n,) matrix of each edge


def jump_edges(batch: Edges, jumps: Jumps) -> JumpEdges:
    """The edges of a batch, with what their rule says of the jumps."""
    return JumpEdges(
        Pieces(batch.parents, batch.children),
        jumps.generators,
        jumps.durations,
        jumps.starts,
        jumps.matrices,
        Selection(np.asarray(jumps.which), jumps.arrival, jumps.pair),
    )


def jump_innovations(batches: Sequence[JumpEdges], max_jumps: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the numbers that jump paths are made of, by name."""
    return {f"jumps{i or ''}": (len(jumps.which), 2 * max_jumps + 2) for i, jumps in enumerate(batches)}


def jump_paths(
    batches: Sequence[JumpEdges], states: Array, uniforms: dict[str, Array], pieces: Pieces
) -> JumpPaths | None:
    """Jump paths on all edges between drawn states (n,); None where there are no such edges.

    Args:
        uniforms: numbers in the shapes of `jump_innovations`.
        pieces: the edges of all batches.
    """
    if not batches:
        return None
    drawn = [_paths(jumps, states, uniforms[f"jumps{i or ''}"]) for i, jumps in enumerate(batches)]
    starts, ends, entered, times, jumped, overflow = (jnp.concatenate(c) for c in zip(*drawn, strict=True))
    return JumpPaths(pieces, starts, ends, entered, times, jumped, jnp.sum(overflow))


def pieces_of(batches: Sequence[JumpEdges]) -> Pieces:
    """The edges of all batches, batch after batch."""
    none = np.zeros(0, dtype=np.int64)
    return Pieces(
        np.concatenate([none, *(edges.pieces.parents for edges in batches)]),
        np.concatenate([none, *(edges.pieces.children for edges in batches)]),
    )


def _paths(edges: JumpEdges, states: Array, uniforms: Array) -> list[Array]:
    """Jump paths on edges between drawn states, as the arrays of a JumpPaths."""
    start, end = states[edges.pieces.parents], states[edges.pieces.children]
    durations = jnp.asarray(edges.durations, edges.generators.dtype)
    arrival, before, inside = edges.selection.arrival, end, durations
    matrices, pair = edges.matrices, edges.selection.pair
    chosen = np.flatnonzero(arrival == ENTRY)
    if len(chosen):
        # the state just before an exact entry into d has weight P[start, k] q[k, d]
        off = edges.generators * (1.0 - np.eye(edges.generators.shape[-1]))
        weights = matrices[pair[chosen], start[chosen]] * off[edges.which[chosen], :, end[chosen]]
        before = before.at[chosen].set(path_sweeps.draw(weights, uniforms[chosen, -1]))
    total = matrices[pair, start, before]
    constant = (arrival == EXACT_TRANSITION) | (arrival == NO_JUMP)
    if np.any(constant):
        before, inside = jnp.where(constant, start, before), jnp.where(constant, 0.0, durations)
        total = jnp.where(constant, 1.0, total)
    bridges = sample_bridges(edges.generators, edges.which, inside, start, before, total, uniforms[:, :-1])
    # what comes after the last jump is the end of the edge: an exact entry is a jump just there
    padding = jnp.arange(bridges.times.shape[1]) >= bridges.n_jumps[:, None]
    times = jnp.where(padding, durations[:, None], bridges.times)
    jumped = jnp.where(padding, end[:, None], bridges.states)
    starts = jnp.asarray(edges.starts, durations.dtype)
    times = jnp.concatenate([times, durations[:, None]], axis=1) + starts[:, None]
    jumped = jnp.concatenate([jumped, end[:, None]], axis=1)
    return [starts, starts + durations, start, times, jumped, bridges.overflow]


def buffer_of(batches: Sequence[JumpEdges]) -> int:
    """Buffer that holds the uniformized events of any edge, if the rates are known."""
    size = 1
    for jumps in batches:
        if not (is_concrete(jumps.generators) and is_concrete(jumps.durations)):
            return DEFAULT_BUFFER
        rates = -np.diagonal(np.asarray(jumps.generators), axis1=-2, axis2=-1).min(axis=-1, initial=0.0)
        events = float(np.max(rates[jumps.which] * np.asarray(jumps.durations), initial=0.0))
        if np.isfinite(events):
            size = max(size, buffer_size(events))
    return size
