"""Edges cut where the rates of their process change in time."""

from typing import Any, NamedTuple

import numpy as np

from mjp._checks import is_concrete
from mjp.graph import Edges


class Cut(NamedTuple):
    """Pieces of edges, those of one edge in a row.

    Attributes:
        edge: (m,) edge of each piece; interval: (m,) which of the intervals between breaks it lies in.
        parents, children: (m,) nodes at its ends; the nodes between pieces are new.
        starts, durations: (m,)
    """

    edge: np.ndarray
    interval: np.ndarray
    parents: np.ndarray
    children: np.ndarray
    starts: Any
    durations: Any


def cut_at_breaks(edges: Edges, breaks: tuple[float, ...], n_nodes: int) -> Cut:
    """Cut edges at the breaks inside of them; new nodes are numbered from `n_nodes` on.

    Raises:
        TypeError: there are breaks, and times that are not known yet.
    """
    if not breaks:
        everything = np.arange(len(edges.children))
        interval = np.zeros_like(everything)
        return Cut(everything, interval, edges.parents, edges.children, edges.starts, edges.durations)
    if not (is_concrete(edges.starts) and is_concrete(edges.durations)):
        raise TypeError("breaks: rates that change in time need times that are known before compilation")
    starts = np.asarray(edges.starts, float)
    ends = starts + np.asarray(edges.durations, float)
    first = np.searchsorted(breaks, starts, side="right")
    last = np.maximum(np.searchsorted(breaks, ends, side="left"), first)
    n_pieces = last - first + 1
    edge = np.repeat(np.arange(len(starts)), n_pieces)
    rank = np.arange(len(edge)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    interval = first[edge] + rank
    limits = np.concatenate([breaks, [np.inf]])
    inner = rank < n_pieces[edge] - 1
    start = np.where(rank == 0, starts[edge], limits[interval - 1])
    end = np.where(inner, limits[interval], ends[edge])
    children = np.where(inner, n_nodes + np.cumsum(inner) - 1, edges.children[edge])
    parents = np.where(rank == 0, edges.parents[edge], np.roll(children, 1))
    return Cut(edge, interval, parents, children, start, end - start)
