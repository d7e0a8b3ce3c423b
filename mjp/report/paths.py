"""Posterior paths of a fit, in the form that several sections need."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import possible_transitions
from mjp.graph import Graph
from mjp.numpyro_bridge import has_agents
from mjp.observations import Exactly, Misclassified, is_missing
from mjp.processes import is_vector
from mjp.report.parts import Missing, Paragraph, Part

MOST_STATES = 20

if TYPE_CHECKING:
    from mjp.fitting import Fit


def of_kind(fit: "Fit", purpose: str, *kinds: str) -> tuple[dict[str, Any], list[Part]]:
    """The graphs of these kinds with few enough states to be shown, and notes on the others.

    Raises:
        Missing: there is none; `purpose` says what the section is for.
    """
    graphs = {n: g for n, g in fit.graphs.items() if g.kind in kinds and not has_agents(g)}
    if not graphs:
        raise Missing(purpose)
    shown, notes = {}, []
    for name, graph in graphs.items():
        states = getattr(process_of(graph), "states", None) if graph.edges else None
        if states is None:
            notes.append(f"{name} is not a process on finitely many states, which this section is for")
        elif len(states) > MOST_STATES:
            notes.append(f"{name} has {len(states)} states, too many to show")
        else:
            shown[name] = graph
    if not shown:
        raise Missing("; ".join(notes))
    return shown, [Paragraph(f"{note}.", "note") for note in notes]


def of_vectors(fit: "Fit", purpose: str, *kinds: str) -> dict[str, Any]:
    """The graphs of these kinds whose states are vectors.

    Raises:
        Missing: there is none; `purpose` says what the section is for.
    """
    graphs = {
        name: graph
        for name, graph in fit.graphs.items()
        if graph.kind in kinds and graph.edges and is_vector(graph) and not has_agents(graph)
    }
    if not graphs:
        raise Missing(purpose)
    return graphs


def coordinates(fit: "Fit", name: str) -> list[str]:
    """Labels of the coordinates of a vector state."""
    array = fit.data["paths"][name]
    labels = array.coords[array.dims[-1]].values.tolist()
    if labels == list(range(len(labels))):
        return [name] if len(labels) == 1 else [f"{name}[{i}]" for i in labels]
    return [str(label) for label in labels]


def process_of(graph: Graph) -> Any:
    """The process of the first edges."""
    return graph.edges[0].process


def flat(array: Any) -> np.ndarray:
    """Draws of all chains one after the other, (draws, ...)."""
    values = np.asarray(array)
    return values.reshape(-1, *values.shape[2:])


def absorbing(graph: Graph) -> np.ndarray:
    """Positions of the states that are never left."""
    process = process_of(graph)
    leaving = {a for a, _ in possible_transitions(process)}
    return np.asarray([i for i, state in enumerate(process.states) if state not in leaving], dtype=int)


def recorded(graph: Any) -> np.ndarray:
    """Recorded state of every row of a panel, known first states included; -1 missing, -2 censored, (rows,).

    Raises:
        ValueError: the rows do not hold states.
    """
    likelihood, states = graph.observations[0].likelihood, list(process_of(graph).states)
    if not isinstance(likelihood, Exactly | Misclassified):
        raise ValueError("what was observed is a measurement, not a state")
    if isinstance(likelihood, Misclassified) and likelihood.labels not in (None, tuple(states)):
        raise ValueError("what was observed has labels other than the states")
    codes = np.full(graph.n_nodes, -1)
    for row, value in enumerate(graph.panel.states):
        if isinstance(value, frozenset):
            codes[row] = -2
        elif not is_missing(value):
            codes[row] = states.index(value)
    return codes


def heading(fit: "Fit", name: str) -> str:
    """`Name: ` where a model has several paths, to tell their pictures apart."""
    return f"{name.capitalize()}: " if len(fit.graphs) > 1 else ""
