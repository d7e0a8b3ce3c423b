"""Graphs of reaction networks as levels of edges that are simulated side by side."""

from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mjp._checks import is_concrete
from mjp.graph import Edges, Graph
from mjp.inference.schedule import topological_depth
from mjp.observations import Misclassified
from mjp.processes.reaction_network import ReactionNetwork
from mjp.state_trajectory import Pieces

_SPREAD = 8  # levels of widths within this factor share a compiled loop, the narrower ones padded


class Level(NamedTuple):
    """Pieces by level and process: C levels in a row, each with W pieces; the dummy P is padding.

    One array (C, W) per process of the graph.
    """

    pieces: tuple[np.ndarray, ...]


class Layout(NamedTuple):
    """All edges, cut where rates change.

    Attributes:
        processes: distinct networks; kinds: (P,) which of them each piece carries.
        pieces: parents and children of the pieces; nodes from `n_graph_nodes` on were inserted.
        starts, durations: (P,); interval: (P,) which piece of the rates holds.
        levels: in the order of simulation.
    """

    processes: tuple[ReactionNetwork, ...]
    kinds: np.ndarray
    pieces: Pieces
    starts: Any
    durations: Any
    interval: np.ndarray
    levels: tuple[Level, ...]
    n_nodes: int


def layout_of(graph: Graph) -> Layout:
    """Lay out a graph whose edges all carry reaction networks on the same species.

    Raises:
        ValueError: networks on different species.
        TypeError: breaks, and times that are not known yet; observations that need finitely many states.
    """
    if any(isinstance(observed.likelihood, Misclassified) for observed in graph.observations):
        raise TypeError(
            "likelihood: mjp.Misclassified is for finitely many states; observe counts by a function of the "
            "state, such as lambda x: dist.Poisson(x[0]), or by mjp.Exactly()"
        )
    processes: list[ReactionNetwork] = []
    columns: dict[str, list] = {name: [] for name in ("kind", "parent", "child", "start", "length", "piece")}
    n_nodes = graph.n_nodes
    for edges in graph.edges:
        process: Any = edges.process
        if processes and process.species != processes[0].species:
            raise ValueError(
                f"graph: all reaction networks must have the same species, got {list(processes[0].species)} "
                f"and {list(process.species)}"
            )
        kind = next((i for i, known in enumerate(processes) if known is process), len(processes))
        if kind == len(processes):
            processes.append(process)
        cut = _split(edges, process.breaks, n_nodes)
        n_nodes += int(np.sum(cut["child"] >= n_nodes))
        for name, values in cut.items():
            columns[name].append(values)
        columns["kind"].append(np.full(len(cut["child"]), kind))
    parent, child, kinds, piece = (np.concatenate(columns[n]) for n in ("parent", "child", "kind", "piece"))
    known = all(is_concrete(v) for n in ("start", "length") for v in columns[n])
    join = np.concatenate if known else jnp.concatenate
    above = np.full(n_nodes, -1)
    above[child] = parent
    depth, _ = topological_depth(above)
    levels = _levels(depth[child], kinds, len(processes))
    starts, durations = join(columns["start"]), join(columns["length"])
    return Layout(tuple(processes), kinds, Pieces(parent, child), starts, durations, piece, levels, n_nodes)


def _split(edges: Edges, breaks: tuple[float, ...], n_nodes: int) -> dict[str, Any]:
    """Edges cut at the breaks that they cross; the nodes between are numbered from `n_nodes` on."""
    if not breaks:
        return {
            "parent": edges.parents,
            "child": edges.children,
            "start": edges.starts,
            "length": edges.durations,
            "piece": np.zeros(len(edges.children), dtype=int),
        }
    if not (is_concrete(edges.starts) and is_concrete(edges.durations)):
        raise TypeError("breaks: rates that change in time need times that are known before compilation")
    starts, ends = np.asarray(edges.starts, float), np.asarray(edges.starts + edges.durations, float)
    first = np.searchsorted(breaks, starts, side="right")
    last = np.maximum(np.searchsorted(breaks, ends, side="left"), first)
    n_pieces = last - first + 1
    edge = np.repeat(np.arange(len(starts)), n_pieces)
    rank = np.arange(len(edge)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    piece = first[edge] + rank
    limits = np.concatenate([breaks, [np.inf]])
    start = np.where(rank == 0, starts[edge], limits[piece - 1])
    end = np.where(rank == n_pieces[edge] - 1, ends[edge], limits[piece])
    inner = rank < n_pieces[edge] - 1
    child = np.where(inner, n_nodes + np.cumsum(inner) - 1, edges.children[edge])
    parent = np.where(rank == 0, edges.parents[edge], np.roll(child, 1))
    return {"parent": parent, "child": child, "start": start, "length": end - start, "piece": piece}


def _levels(depth: np.ndarray, kinds: np.ndarray, n_kinds: int) -> tuple[Level, ...]:
    """Pieces by level, consecutive levels of similar widths together."""
    n_pieces, n_levels = len(depth), int(depth.max(initial=0))
    order = np.lexsort([np.arange(n_pieces), kinds, depth])
    cuts = np.searchsorted(depth[order], np.arange(1, n_levels + 2))
    members = [order[a:b] for a, b in pairwise(cuts)]
    runs: list[list[np.ndarray]] = []
    low = high = 0
    for level in members:
        low, high = min(low, len(level)), max(high, len(level))
        if not runs or high > _SPREAD * low:
            runs.append([])
            low = high = len(level)
        runs[-1].append(level)
    found = []
    for run in runs:
        tables = []
        for kind in range(n_kinds):
            rows = [level[kinds[level] == kind] for level in run]
            table = np.full((len(rows), max(map(len, rows))), n_pieces, dtype=np.int32)
            for i, row in enumerate(rows):
                table[i, : len(row)] = row
            tables.append(table)
        found.append(Level(tuple(tables)))
    return tuple(found)
