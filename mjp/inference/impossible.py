"""Transitions that the structure of the rates forbids, found before compilation."""

import numpy as np

from mjp._checks import is_concrete
from mjp.graph import Graph
from mjp.inference.finite_states import FiniteStates
from mjp.inference.rules.finite_states import ENTRY, EXACT_TRANSITION
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.processes import MarkovChain, MarkovJump


def check_possible(graph: Graph, model: FiniteStates) -> None:
    """Raise ValueError for a transition between two known states that cannot happen.

    The structure of the rates is known at declaration when transitions are named, or when the matrix
    is; parameters need not be.
    """
    known, arrival = model.layout.known, model.layout.arrival
    for edges in graph.edges:
        reach = _reachable(edges.process)
        if reach is None:
            continue
        both = (known[edges.parents] != UNKNOWN) & (known[edges.children] != UNKNOWN)
        parent, child = edges.parents[both], edges.children[both]
        a, b = known[parent], known[child]
        possible = reach[arrival[child], a, b]
        if possible.all():
            continue
        bad = int(np.argmax(~possible))
        states = model.layout.states
        raise ValueError(
            f"{graph.describe_node(int(child[bad]))}: state {states[b[bad]]!r} cannot be reached from "
            f"state {states[a[bad]]!r} at {graph.describe_node(int(parent[bad]))} under the model"
            + _how(int(arrival[child[bad]]))
        )


def _how(arrival: int) -> str:
    if arrival == ENTRY:
        return " (its time of entry is exact, so it must be entered from another state)"
    return " (rows are exact transition times, so the jump must be direct)" if arrival else ""


def _reachable(process: object) -> np.ndarray | None:
    """Possible pairs of states for each way to arrive, (3, K, K) bool, or None if not known now."""
    if isinstance(process, MarkovJump):
        support = process.support()
        if support is None:
            return None
        identity = np.eye(len(support), dtype=bool)
        closure = support | identity
        for _ in range(len(support).bit_length()):
            closure = (closure.astype(int) @ closure.astype(int)) > 0
        entered = (closure.astype(int) @ support.astype(int)) > 0
        reach = np.stack([closure, entered, support | identity])
        assert (ENTRY, EXACT_TRANSITION) == (1, 2)
        return reach
    if isinstance(process, MarkovChain) and process.n_steps is None and process.transition is not None:
        if not is_concrete(process.transition):
            return None
        possible = np.asarray(process.transition) > 0
        return np.broadcast_to(possible, (3, *possible.shape))
    return None
