"""Who influences whom: networks as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np

from mjp._by_content import ByContent
from mjp._checks import as_array


@dataclass(frozen=True, eq=False)
class Contacts(ByContent):
    """Directed contacts between agents; static in a pytree and compared by content.

    Attributes:
        agents: names, in the order in which states hold them.
        sources, targets: (E,) the agent that influences, and the one that is influenced.
        weights: (M, E) of the contacts in each of M networks; None where there is one, and all are one.
        kinds: (M,) names of the networks; empty where one is given without a name.
    """

    agents: tuple
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    kinds: tuple = ()

    @property
    def n(self) -> int:
        return len(self.agents)

    def strengths(self) -> np.ndarray:
        """(M, E) weights as numbers."""
        return np.ones((1, len(self.sources))) if self.weights is None else self.weights

    def degrees(self) -> np.ndarray:
        """(M, n) total weight of the contacts that influence each agent."""
        return np.stack([np.bincount(self.targets, own, minlength=self.n) for own in self.strengths()])

    def most(self) -> np.ndarray:
        """(M,) the largest of them."""
        return self.degrees().max(axis=1)

    def only(self, kept: np.ndarray) -> "Contacts":
        """Those contacts (E,) that are kept."""
        weights = None if self.weights is None else self.weights[:, kept]
        return Contacts(self.agents, self.sources[kept], self.targets[kept], weights, self.kinds)

    def repeated(self, times: int) -> "Contacts":
        """That many copies side by side, without contacts between them."""
        if times == 1:
            return self
        shift = np.repeat(self.n * np.arange(times), len(self.sources))
        weights = None if self.weights is None else np.tile(self.weights, times)
        return Contacts(
            self.agents * times,
            np.tile(self.sources, times) + shift,
            np.tile(self.targets, times) + shift,
            weights,
            self.kinds,
        )


def contacts_of(network: Any, weight: str | None) -> Contacts:
    """The contacts of a `networkx` graph, or of several by name; those of an undirected one go both ways.

    Raises:
        TypeError: not a networkx graph, or a multigraph.
        ValueError: a network without nodes, an agent in contact with itself, a weight that is missing,
            negative or not finite; no network, or several that do not have the same nodes.
    """
    if not isinstance(network, Mapping):
        return _of_one("network", network, weight)
    if not network:
        raise ValueError("network must name at least one network, got none")
    each = {kind: _of_one(f"network[{kind!r}]", own, weight) for kind, own in network.items()}
    agents = next(iter(each.values())).agents
    position = {name: i for i, name in enumerate(agents)}
    pairs = []
    for kind, own in each.items():
        odd = set(own.agents) ^ set(agents)
        if odd:
            raise ValueError(
                f"network[{kind!r}]: networks must have the same nodes, but not all have "
                f"{min(odd, key=str)!r}"
            )
        places = np.asarray([position[name] for name in own.agents])
        pairs.append(np.stack([places[own.targets], places[own.sources]], axis=1))
    joint, index = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
    weights = np.zeros((len(each), len(joint)))
    kind = np.repeat(np.arange(len(each)), [len(own) for own in pairs])
    weights[kind, index.reshape(-1)] = np.concatenate([own.strengths()[0] for own in each.values()])
    return Contacts(agents, joint[:, 1], joint[:, 0], weights, tuple(each))


def _of_one(name: str, network: Any, weight: str | None) -> Contacts:
    if not isinstance(network, nx.Graph):
        raise TypeError(f"{name} must be a networkx.Graph or DiGraph, got {type(network).__name__}")
    if network.is_multigraph():
        raise TypeError(f"{name} must not be a multigraph; give several contacts as a weight")
    if network.number_of_nodes() == 0:
        raise ValueError(f"{name} must have at least one node")
    agents = tuple(network.nodes)
    position = {agent: i for i, agent in enumerate(agents)}
    pairs = [(position[a], position[b]) for a, b in network.edges]
    ends = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    loops = np.flatnonzero(ends[:, 0] == ends[:, 1])
    if len(loops):
        raise ValueError(f"{name}: agent {agents[ends[loops[0], 0]]!r} is in contact with itself")
    weights = None if weight is None else _weights(network, weight)
    if not network.is_directed():
        ends = np.concatenate([ends, ends[:, ::-1]])
        weights = None if weights is None else np.tile(weights, 2)
    order = np.lexsort((ends[:, 0], ends[:, 1]))  # those of one target are neighbours in memory
    return Contacts(
        agents, ends[order, 0], ends[order, 1], None if weights is None else np.asarray(weights)[None, order]
    )


def _weights(network: nx.Graph, weight: str) -> np.ndarray:
    found = []
    for a, b, value in network.edges(data=weight):
        if value is None:
            raise ValueError(f"weight: the contact {a!r} - {b!r} has no attribute {weight!r}")
        found.append(value)
    weights = as_array(f"weight {weight!r}", found)
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if len(bad):
        raise ValueError(f"weight {weight!r} must be finite and >= 0, got {weights[bad[0]]}")
    return weights
