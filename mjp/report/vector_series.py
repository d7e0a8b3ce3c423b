"""Posterior paths of vector states over time, with what was observed of them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import INK, MUTED, PALETTE
from mjp.fitting.groups import observed_numbers
from mjp.report.parts import HALF, INTERVAL, Part, new_figure, picture
from mjp.report.paths import coordinates, flat, heading, of_vectors, process_of
from mjp.report.vectors import shown_coordinates

if TYPE_CHECKING:
    from mjp.fitting import Fit

_SERIES, _PATHS = 3, 5
_COORDINATES = 8


def section(fit: "Fit") -> list[Part]:
    chains = of_vectors(fit, "paths along a series are for chains of vector states", "chain")
    return [_picture(fit, name, graph) for name, graph in chains.items()]


def _picture(fit: "Fit", name: str, graph: Any) -> Part:
    from matplotlib.ticker import MaxNLocator

    labels = coordinates(fit, name)[:_COORDINATES]
    n = min(graph.n_series or 1, _SERIES)
    records, others = _sort(fit, name, graph)
    rows = len(labels) + len(others)
    figure, axes = new_figure(9.0, 0.5 + 2.2 * rows, rows, n, sharex=True, sharey="row")
    grid = fit.data["paths"][f"{name}_on_grid"]
    times, paths = np.asarray(grid[f"{name}_time"]), flat(grid)
    at_nodes = np.asarray(graph.times, float)
    for series in range(n):
        own = paths if graph.n_series is None else paths[:, series]
        here = slice(series * graph.n_times, (series + 1) * graph.n_times)
        for row, label in enumerate(labels):
            ax = axes[row, series]
            _bands(ax, times, own[..., row], PALETTE[0])
            for path in own[np.linspace(0, len(own) - 1, min(_PATHS, len(own))).astype(int)]:
                ax.plot(times, path[:, row], color=INK, lw=0.4, alpha=0.45)
            for where, values in records.get(row, []):
                _points(ax, at_nodes, here, where, values)
            ax.set_ylabel(label)
        for row, (label, where, values, replicated) in enumerate(others, len(labels)):
            ax = axes[row, series]
            inside = (where >= here.start) & (where < here.stop)
            _bands(ax, at_nodes[where[inside] - here.start], replicated[:, inside], PALETTE[1])
            _points(ax, at_nodes, here, where, values)
            ax.set_ylabel(label)
        axes[-1, series].set_xlabel("time")
        if n > 1:
            axes[0, series].set_title(f"series {series}", fontsize=9)
    axes[0, 0].set_xlim(times[0], times[-1])
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=bool(np.all(at_nodes == np.round(at_nodes)))))
    caption = (
        f"{heading(fit, name)}posterior median with 50% and 89% bands, and {_PATHS} posterior paths (thin)."
    )
    if records:
        caption += " Points: observations in the unit of the coordinate."
    if others:
        caption += (
            " Orange: bands of observations of these paths, drawn anew, and what was observed (points)."
        )
    if graph.n_series and graph.n_series > n:
        caption += f" The first {n} of {graph.n_series} series."
    return picture(figure, f"posterior paths of {name} over time", caption)


def _bands(ax: Any, times: np.ndarray, draws: np.ndarray, colour: str) -> None:
    """Median and bands of draws (n, m)."""
    for ends, alpha in ((INTERVAL, 0.22), (HALF, 0.35)):
        ax.fill_between(times, *np.nanquantile(draws, ends, axis=0), color=colour, alpha=alpha, lw=0)
    ax.plot(times, np.nanmedian(draws, axis=0), color=colour, lw=1.4)


def _points(ax: Any, times: np.ndarray, here: slice, where: np.ndarray, values: np.ndarray) -> None:
    inside = (where >= here.start) & (where < here.stop)
    size = 11 if inside.sum() <= 150 else 3
    ax.scatter(
        times[where[inside] - here.start],
        values[inside],
        s=size,
        c=INK,
        edgecolors=MUTED if size > 5 else "none",
        linewidths=0.4,
        zorder=3,
    )


def _sort(fit: "Fit", name: str, graph: Any) -> tuple[dict[int, list], list]:
    """What was observed, by whether it is in the unit of a coordinate.

    Returns:
        (nodes, values) by coordinate; and for every other entry its label, nodes, values, and values
        replicated from the posterior paths (n, m).
    """
    records: dict[int, list] = {}
    others = []
    for i, batch in enumerate(graph.observations):
        label = name if len(graph.observations) == 1 else f"{name}_{i}"
        replicated = flat(fit.data["paths"][f"{label}_measured"])
        values = observed_numbers(batch, replicated.shape[1:])
        values = values.reshape(len(values), -1)
        replicated = replicated.reshape(len(replicated), *values.shape)
        shown = shown_coordinates(batch, process_of(graph).dim, process_of(graph).view)
        names = list(fit.coords.get(f"{label}_event_0", ()))
        for entry, coordinate in enumerate(shown):
            if coordinate is not None:
                records.setdefault(coordinate, []).append((batch.nodes, values[:, entry]))
            else:
                words = names[entry] if len(names) == len(shown) else f"observed [{entry}]"
                words = "observed" if len(shown) == 1 and not names else words
                others.append((words, batch.nodes, values[:, entry], replicated[..., entry]))
    return records, others[:_COORDINATES]
