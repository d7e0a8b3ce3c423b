"""The order in which particle filters go through the edges of trees, and where particles keep their states.

Trees go side by side, one edge of each at a time, depth first. What a particle must keep are the states of
the nodes from which edges are still to come, each in a slot: one for a chain, at most log2 n + 1 for a binary
tree of n leaves (as registers for an expression; Sethi & Ullman 1970, J. ACM 17:715).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mjp._by_content import ByContent
from mjp.inference.count_graph import Static
from mjp.inference.schedule import topological_depth


@dataclass(frozen=True, eq=False)
class Blocks(ByContent):
    """B blocks of w trees, each one piece of an edge; static in a pytree and compared by content.

    Attributes:
        pieces: (B, w), the dummy P where a tree has ended.
        source, target: (B, w) slots of the states at which pieces begin and end.
        opened: (B, w, C) pieces that begin where each block's piece ends, padded with the dummy.
        at_roots: (w, C) those that begin at the roots, whose states are in slot 0.
        live: (B, w, slots) slots that this block or a later one reads.
    """

    pieces: np.ndarray
    source: np.ndarray
    target: np.ndarray
    opened: np.ndarray
    at_roots: np.ndarray
    live: np.ndarray

    @property
    def n_slots(self) -> int:
        return self.live.shape[2]

    @property
    def rows(self) -> tuple[np.ndarray, ...]:
        """What each block reads of the tables."""
        return self.pieces, self.source, self.target, self.opened, self.live


@lru_cache(maxsize=32)
def blocks_of(static: Static) -> Blocks:
    """Blocks of the trees of a graph, in the order of its roots.

    Raises:
        TypeError: several networks.
    """
    layout = static.layout
    if len(layout.processes) > 1:
        raise TypeError("particles need one reaction network for all edges of a graph")
    begin: list[list[int]] = [[] for _ in range(layout.n_nodes)]
    for piece, parent in enumerate(layout.pieces.parents.tolist()):
        begin[parent].append(piece)
    ends = layout.pieces.children.tolist()
    _neediest_last(begin, ends, static.layout_parent)
    walks = [_walk(root, begin, ends) for root in static.root_nodes.tolist()]
    n_blocks = max(map(len, walks))
    w, p = len(walks), len(ends)
    slots = 1 + max((max(block[2], block[1]) for walk in walks for block in walk), default=0)
    widest = max((len(own) for own in begin), default=0)
    pieces, source, target = (np.full((n_blocks, w), fill, np.int32) for fill in (p, 0, 0))
    opened, at_roots = np.full((n_blocks, w, widest), p, np.int32), np.full((w, widest), p, np.int32)
    live = np.zeros((n_blocks, w, slots), bool)
    for i, (root, walk) in enumerate(zip(static.root_nodes.tolist(), walks, strict=True)):
        at_roots[i, : len(begin[root])] = begin[root]
        for b, (piece, here, there, read) in enumerate(walk):
            pieces[b, i], source[b, i], target[b, i] = piece, here, there
            own = begin[ends[piece]]
            opened[b, i, : len(own)] = own
            live[b, i, read] = True
    return Blocks(pieces, source, target, opened, at_roots, live)


def _neediest_last(begin: list[list[int]], ends: list[int], parent: np.ndarray) -> None:
    """Order the pieces that begin at each node by how many slots are needed behind them."""
    need = [1] * len(begin)
    for node in np.argsort(-topological_depth(parent)[0], kind="stable").tolist():
        if len(begin[node]) == 1:
            need[node] = need[ends[begin[node][0]]]
        elif begin[node]:
            begin[node].sort(key=lambda piece: need[ends[piece]])
            *_, before, last = (need[ends[piece]] for piece in begin[node])
            need[node] = max(before + 1, last)


def _walk(root: int, begin: list[list[int]], ends: list[int]) -> list[tuple[int, int, int, list[int]]]:
    """Pieces of a tree depth first, with the slots where each begins and ends, and those yet to be read."""
    found, free, used = [], [], 1
    stack = [(root, 0, 0)] if begin[root] else []
    while stack:
        node, slot, i = stack.pop()
        piece = begin[node][i]
        read = [slot, *(waiting for _, waiting, _ in stack)]
        target = slot
        if i + 1 < len(begin[node]):
            stack.append((node, slot, i + 1))
            target = free.pop() if free else used
            used = max(used, target + 1)
        found.append((piece, slot, target, read))
        if begin[ends[piece]]:
            stack.append((ends[piece], target, 0))
        else:
            free.append(target)
    return found
