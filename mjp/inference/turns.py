"""The turns in which the nodes of a graph are drawn, and loops over them.

A node's level is the length of the longest way to it. All edges of a kind into one level have a turn of their
own, so that a draw knows which of the parents of a factor are drawn; the loop over turns is compiled once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
from jax import lax

from mjp._by_content import ByContent
from mjp.inference.by_node import READ


@dataclass(frozen=True, eq=False)
class Level(ByContent):
    """The edges of one kind by the turn in which they are taken; static, compared by content."""

    edge: np.ndarray  # (L, W) edges of each turn; places that are left repeat one of them
    counts: np.ndarray  # (L, W) whether a place is not left
    active: np.ndarray  # (L,) whether there are any
    place: np.ndarray  # (E,) of each edge among all places; of no meaning for one that has several


def turns_of(
    n: int,
    roots: Sequence[np.ndarray],
    ends: Sequence[tuple[np.ndarray, np.ndarray]],
    factors: Sequence[np.ndarray],
) -> tuple[np.ndarray, tuple[Level, ...], tuple[Level, ...]]:
    """Turn of every node, the edges of every kind by turn, and the updates of every factor by turn.

    Args:
        roots: nodes of each kind of roots, each of which has a turn, the first ones.
        ends: parents (E, p) and children (E,) of each kind of edges.
        factors: parents (E, p) of each kind of factors; an edge is updated when a parent was drawn and others
            are not yet.
    """
    whole = nx.DiGraph()
    whole.add_nodes_from(range(n))
    for parents, children in ends:
        for above, child in zip(parents.tolist(), children.tolist(), strict=True):
            whole.add_edges_from((parent, child) for parent in above)
    depth, turn = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    for level, nodes in enumerate(nx.topological_generations(whole)):
        depth[list(nodes)] = level
    n_roots, n_turns = len(roots), int(depth.max(initial=0)) * len(ends)
    for i, own in enumerate(roots):
        turn[own] = i
    for i, (_, children) in enumerate(ends):
        turn[children] = n_roots + (depth[children] - 1) * len(ends) + i
    levels = []
    for _, children in ends:
        levels.append(by_turn(turn[children] - n_roots, np.arange(len(children)), n_turns, len(children)))
    updates = []
    for parents in factors:
        pairs = set()
        for edge, own in enumerate(turn[parents].tolist()):
            pairs |= {(at, edge) for at in own if at < max(own)}
        at, edge = np.asarray(sorted(pairs), dtype=int).reshape(-1, 2).T
        updates.append(by_turn(at, edge, n_roots + n_turns, len(parents)))
    return turn, tuple(levels), tuple(updates)


def by_turn(turn: np.ndarray, edge: np.ndarray, n_turns: int, n_edges: int) -> Level:
    """Edges by the turn of each."""
    counts = np.bincount(turn, minlength=n_turns)
    order = np.argsort(turn, kind="stable")
    rank = np.empty(len(turn), dtype=int)
    rank[order] = np.arange(len(turn)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = int(counts.max(initial=1))
    table = np.full((n_turns, width), -1)
    table[turn, rank] = edge
    place = np.zeros(n_edges, dtype=int)
    place[edge] = turn * width + rank
    filled = np.where(table < 0, np.maximum(table[:, :1], 0), table)
    return Level(filled, table >= 0, counts > 0, place)


def over_turns(
    levels: Sequence[Level],
    steps: Sequence[Callable[..., Any]],
    carry: Any,
    *,
    reverse: bool = False,
    then: Any = None,
) -> tuple[Any, list[Any]]:
    """Take the edges of all kinds turn after turn.

    Args:
        steps: for every kind, from the carry, edges (W,) and whether these count (W,) to the carry and
            something (..., W).
        then: functions of a carry, edges, whether these count, and the turn, to call after each turn; their
            levels, of all turns; and the number of the first turn that is taken here.

    Returns:
        the carry, and for every kind what its step returned, (..., E).
    """
    carry, found = lax.scan(turn_taker(steps, then), carry, turn_inputs(levels, then), reverse=reverse)
    by_edge = []
    for level, own in zip(levels, found, strict=True):
        flat = lambda leaf: jnp.moveaxis(leaf, 0, -2).reshape(*leaf.shape[1:-1], -1)
        by_edge.append(jax.tree.map(lambda leaf, at=level.place: flat(leaf)[..., at], own))  # noqa: B023
    return carry, by_edge


def turn_taker(steps: Sequence[Callable[..., Any]], then: Any = None) -> Callable[..., Any]:
    """The function that takes one turn, from a carry and a row of `turn_inputs`; see `over_turns`.

    Its gradient keeps what a turn reads of the carry and computes the rest again: all that a step computes,
    kept for every turn, would be thousands of small arrays, which are slow to compile and to fill.
    """
    updates = _called(then)[0]
    again = partial(jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names(READ))

    def one(carry: Any, x: Any) -> tuple[Any, list[Any]]:
        turn, own_turns, update_turns = x
        found = []
        for step, (edge, counts, active) in zip(steps, own_turns, strict=True):
            shapes = jax.eval_shape(step, carry, edge, counts)[1]
            none = lambda carry, edge, counts, shapes=shapes: (
                carry,
                jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes),
            )
            carry, own = lax.cond(active, again(step), none, carry, edge, counts)
            found.append(own)
        for update, (edge, counts, active) in zip(updates, update_turns, strict=True):
            carry = lax.cond(active, again(update), lambda carry, *_: carry, carry, edge, counts, turn)
        return carry, found

    return one


def turn_inputs(levels: Sequence[Level], then: Any = None) -> tuple:
    """What all turns take: their numbers, and the edges of every kind and of every function called after."""
    _, update_levels, first = _called(then)
    arrays = lambda group, start=0: [
        tuple(jnp.asarray(leaf[start:]) for leaf in (own.edge, own.counts, own.active)) for own in group
    ]
    n_turns = len(levels[0].active) if levels else 0
    return first + jnp.arange(n_turns), arrays(levels), arrays(update_levels, first)


def _called(then: Any) -> tuple[list[Any], list[Level], int]:
    """The functions that are called after some turn, their levels, and the number of the first turn."""
    updates, levels, first = then or ((), (), 0)
    kept = [(update, own) for update, own in zip(updates, levels, strict=True) if own.active[first:].any()]
    return [update for update, _ in kept], [own for _, own in kept], first
