"""Simulated observations as the table that a model's loader reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.models.registry import Model
from mjp.models.series import series_table
from mjp.processes import is_vector

if TYPE_CHECKING:
    import pandas


def as_table(entry: Model, data: Any, graph: Any, path: Any) -> pandas.DataFrame:
    """Observations of a simulated path in the columns that `entry.load` reads.

    Args:
        data: what `entry.load` returned, whose times, subjects or tips were simulated.
        graph: the graph that was simulated, with one batch of observations.
        path: its trajectory, by `mjp.simulate`.
    """
    import pandas  # slow to import

    [observed], [drawn] = graph.observations, path.observations
    drawn = np.asarray(drawn)
    columns = entry.columns or (("subject", "time", "state") if graph.kind == "panel" else ("node", "value"))
    if entry.table is not None:
        return pandas.DataFrame(entry.table(data, drawn))
    if graph.kind == "panel":
        codes = np.array(path.values)
        codes[observed.nodes] = drawn
        panel = graph.panel.with_states(_labels(path)[codes])
        return panel.to_frame().rename(columns=dict(zip(("subject", "time", "state"), columns, strict=True)))
    if graph.kind == "chain":
        return pandas.DataFrame(series_table(columns, graph.times, drawn))
    names = [graph.names[node] for node in observed.nodes]
    values = drawn if is_vector(graph) else _labels(path)[drawn]
    return pandas.DataFrame(series_table(columns, np.asarray(names, object), values))


def _labels(path: Any) -> np.ndarray:
    """Labels of the states, as an array of objects."""
    labels = np.empty(len(path.names.states), dtype=object)
    labels[:] = path.names.states
    return labels
