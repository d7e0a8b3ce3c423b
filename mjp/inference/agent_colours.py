"""Which agents can be moved side by side, given the paths of all others."""

from dataclasses import dataclass

import networkx as nx
import numpy as np

from mjp._by_content import ByContent
from mjp.processes.contacts import Contacts


@dataclass(frozen=True, eq=False)
class Colours(ByContent):
    """Groups of agents whose paths are independent given the rest; static, compared by content.

    Rows are padded with agent N, which does not exist.

    Attributes:
        members: (C, W) agents of each colour.
        influenced: (C, P) agents that some member influences.
        by: (C, P) position of that member in its row; W for padding.
        weights: (C, M, P) of the contacts in each network.
    """

    members: np.ndarray
    influenced: np.ndarray
    by: np.ndarray
    weights: np.ndarray


def colours(contacts: Contacts, copies: int, *, one_by_one: bool, together: np.ndarray) -> Colours:
    """Colour the agents of a network, of which there are some copies without contacts between them.

    Two agents depend on each other, given the rest, if one influences the other, or both influence the same
    agent, or both are observed together. A greedy colouring of the graph of these pairs gives few colours
    where contacts are local.

    Args:
        together: (P, 2) pairs of agents that are observed together.
        one_by_one: give every agent a colour of its own, because observations couple all of them.
    """
    n = contacts.n
    if one_by_one:
        groups = [np.asarray([i]) for i in range(n * copies)]
        return _tables(groups, contacts.repeated(copies))
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(zip(contacts.sources.tolist(), contacts.targets.tolist(), strict=True))
    starts = np.searchsorted(contacts.targets, np.arange(n + 1))
    for i in range(n):
        parents = contacts.sources[starts[i] : starts[i + 1]].tolist()
        graph.add_edges_from((a, b) for k, a in enumerate(parents) for b in parents[:k])
    graph.add_edges_from(together.tolist())
    colour = nx.greedy_color(graph, strategy="largest_first")
    of_agent = np.asarray([colour[i] for i in range(n)])
    alike = [np.flatnonzero(of_agent == c) for c in range(int(of_agent.max()) + 1)]
    groups = [np.concatenate([group + n * copy for copy in range(copies)]) for group in alike]
    return _tables(groups, contacts.repeated(copies))


def _tables(groups: list[np.ndarray], contacts: Contacts) -> Colours:
    n = contacts.n
    width = max(len(group) for group in groups)
    order = np.argsort(contacts.sources, kind="stable")
    starts = np.searchsorted(contacts.sources[order], np.arange(n + 1))
    strengths = contacts.strengths()
    found = []
    for group in groups:
        counts = starts[group + 1] - starts[group]
        edges = np.concatenate([order[starts[i] : starts[i + 1]] for i in group])
        found.append((contacts.targets[edges], np.repeat(np.arange(len(group)), counts), strengths[:, edges]))
    most = max(len(edges[0]) for edges in found)

    def padded(rows: list, length: int, filler: float) -> np.ndarray:
        table = np.full((len(rows), length), filler, dtype=np.asarray(filler).dtype)
        for i, row in enumerate(rows):
            table[i, : len(row)] = row
        return table

    by_network = [padded([edges[2][m] for edges in found], most, 0.0) for m in range(len(strengths))]
    return Colours(
        padded(groups, width, n),
        padded([edges[0] for edges in found], most, n),
        padded([edges[1] for edges in found], most, width),
        np.stack(by_network, axis=1),
    )
