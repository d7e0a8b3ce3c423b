"""Graphs of reaction networks as levels of edges that are simulated side by side."""

from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mjp._checks import is_concrete
from mjp.graph import Graph
from mjp.inference.breaks import Cut, cut_at_breaks
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
        ValueError: networks on different species, or with different counters.
        TypeError: breaks, and times that are not known yet; observations that need finitely many states.
    """
    if any(isinstance(observed.likelihood, Misclassified) for observed in graph.observations):
        raise TypeError(
            "likelihood: mjp.Misclassified is for finitely many states; observe counts by a function of the "
            "state, such as lambda x: dist.Poisson(x[0]), or by mjp.Exactly()"
        )
    processes: list[ReactionNetwork] = []
    cuts: list[Cut] = []
    kinds_of_cuts: list[np.ndarray] = []
    n_nodes = graph.n_nodes
    for edges in graph.edges:
        process: Any = edges.process
        if processes and process.species != processes[0].species:
            raise ValueError(
                f"graph: all reaction networks must have the same species, got {list(processes[0].species)} "
                f"and {list(process.species)}"
            )
        if processes and process.counters != processes[0].counters:
            raise ValueError(
                f"graph: all reaction networks must have the same counters, got "
                f"{list(processes[0].counters)} and {list(process.counters)}"
            )
        kind = next((i for i, known in enumerate(processes) if known is process), len(processes))
        if kind == len(processes):
            processes.append(process)
        cuts.append(cut_at_breaks(edges, process.breaks, n_nodes))
        n_nodes += int(np.sum(cuts[-1].children >= n_nodes))
        kinds_of_cuts.append(np.full(len(cuts[-1].children), kind))
    kinds = np.concatenate(kinds_of_cuts)
    parent, child, interval = (
        np.concatenate([getattr(cut, name) for cut in cuts]) for name in ("parents", "children", "interval")
    )
    known = all(is_concrete(cut.starts) and is_concrete(cut.durations) for cut in cuts)
    join: Any = np.concatenate if known else jnp.concatenate
    above = np.full(n_nodes, -1)
    above[child] = parent
    depth, _ = topological_depth(above)
    levels = _levels(depth[child], kinds, len(processes))
    starts, durations = join([cut.starts for cut in cuts]), join([cut.durations for cut in cuts])
    return Layout(
        tuple(processes), kinds, Pieces(parent, child), starts, durations, interval, levels, n_nodes
    )


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
