"""Probability of each state over time under the data of a chain."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import INK, state_colours
from mjp.observations import is_missing
from mjp.report.parts import Part, new_figure, picture
from mjp.report.paths import flat, heading, of_kind, process_of

if TYPE_CHECKING:
    from mjp.fitting import Fit

_SERIES = 3


def section(fit: "Fit") -> list[Part]:
    chains, notes = of_kind(fit, "state probabilities along a series are for chains", "chain")
    return notes + [_picture(fit, name, graph) for name, graph in chains.items()]


def _picture(fit: "Fit", name: str, graph: Any) -> Part:
    n = min(graph.n_series or 1, _SERIES)
    batches = graph.observations
    height = (1.7 if batches else 0.0) + 1.3
    ratios = [2.2, 1.3] if batches else [1]
    figure, axes = new_figure(9.0, height * n + 0.4, len(ratios) * n, sharex=True, height_ratios=ratios * n)
    nodes = flat(fit.data["paths"][name])
    states, times = process_of(graph).states, np.asarray(graph.times, float)
    for series in range(n):
        here = slice(series * graph.n_times, (series + 1) * graph.n_times)
        share = [(nodes[:, here] == i).mean(axis=0) for i in range(len(states))]
        if batches:
            _data(axes[2 * series, 0], graph, here, times)
        below = axes[len(ratios) * (series + 1) - 1, 0]
        below.stackplot(times, share, labels=[str(s) for s in states], colors=state_colours(states))
        below.set(ylim=(0, 1), ylabel="probability", xlim=(times[0], times[-1]))
        if series == 0:
            below.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, reverse=True)
    axes[-1, 0].set_xlabel("time")
    caption = f"{heading(fit, name)}the data (top) and the posterior probability of each state at each time"
    caption += (
        f"; the first {n} of {graph.n_series} series." if graph.n_series and graph.n_series > n else "."
    )
    return picture(figure, f"state probabilities of {name} over time", caption)


def _data(ax: Any, graph: Any, here: slice, times: np.ndarray) -> None:
    """What was observed at the nodes of one series, all batches of observations in one picture."""
    states = process_of(graph).states
    for observed in graph.observations:
        inside = (observed.nodes >= here.start) & (observed.nodes < here.stop)
        t = times[observed.nodes[inside] - here.start]
        values = np.asarray(observed.values)[inside]
        if values.dtype.kind == "O":
            known = [(a, states.index(v)) for a, v in zip(t, values, strict=True) if v in states]
            missing = [a for a, v in zip(t, values, strict=True) if is_missing(v)]
            place = np.asarray(known).reshape(-1, 2)
            colours = np.asarray(state_colours(states))[place[:, 1].astype(int)]
            ax.scatter(place[:, 0], place[:, 1], c=colours, s=14, edgecolors=INK, linewidths=0.3)
            ax.scatter(missing, np.full(len(missing), -0.4), c="white", s=14, edgecolors=INK, linewidths=0.5)
            ax.set_yticks(range(len(states)), [str(s) for s in states])
            continue
        series = values.reshape(len(t), -1).astype(float)
        for column in series.T:
            ax.plot(t, column, color=INK, lw=0.7, marker="o", ms=2.6)
    ax.set_ylabel("observed")
