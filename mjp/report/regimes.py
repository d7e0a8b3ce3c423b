"""Regimes of switching processes: posterior probabilities as a ribbon under each series."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import INK, state_colours
from mjp.report.parts import INTERVAL, Missing, Part, Table, new_figure, percent, picture
from mjp.report.paths import coordinates, flat, heading, process_of

if TYPE_CHECKING:
    from mjp.fitting import Fit

_SERIES, _COORDINATES = 3, 2


def section(fit: "Fit") -> list[Part]:
    switching = {n: g for n, g in fit.graphs.items() if g.edges and hasattr(process_of(g), "regimes")}
    if not switching:
        raise Missing("ribbons of regimes are for switching processes")
    parts: list[Part] = []
    for name, graph in switching.items():
        parts += [_picture(fit, name, graph), _table(fit, name)]
    return parts


def _picture(fit: "Fit", name: str, graph: Any) -> Part:
    n = min(graph.n_series or 1, _SERIES)
    labels, names = process_of(graph).regimes, coordinates(fit, name)[:_COORDINATES]
    paths, regimes = (fit.data["paths"][f"{name}{what}_on_grid"] for what in ("", "_regime"))
    times = np.asarray(paths[f"{name}_time"])
    states, positions = flat(paths), flat(regimes)
    rows = len(names) + 1
    ratios = ([2.0] * len(names) + [0.55]) * n
    figure, axes = new_figure(
        9.0, (1.9 * len(names) + 0.75) * n + 0.4, rows * n, sharex=True, height_ratios=ratios
    )
    for series in range(n):
        own = states if graph.n_series is None else states[:, series]
        which = positions if graph.n_series is None else positions[:, series]
        for i, label in enumerate(names):
            _line(axes[rows * series + i, 0], times, own[..., i], label)
        share = np.stack([(which == k).mean(axis=0) for k in range(len(labels))])
        ribbon = axes[rows * (series + 1) - 1, 0]
        ribbon.stackplot(
            times, share, labels=[str(s) for s in labels], colors=state_colours(labels), step="post"
        )
        ribbon.set(ylim=(0, 1), xlim=(times[0], times[-1]), yticks=[0, 1], ylabel="regime")
        if series == 0:
            ribbon.legend(loc="upper left", bbox_to_anchor=(1.0, 1.1), frameon=False, reverse=True)
        if n > 1:
            axes[rows * series, 0].set_title(f"series {series}", fontsize=9, loc="left")
    axes[-1, 0].set_xlabel("time")
    caption = (
        f"{heading(fit, name)}the posterior path (median, with an 89% band where it is not known) and, "
        "below it, the posterior probability of each regime at each time"
    )
    caption += (
        f"; the first {n} of {graph.n_series} series." if graph.n_series and graph.n_series > n else "."
    )
    return picture(figure, f"regimes of {name} over time", caption)


def _line(ax: Any, times: np.ndarray, draws: np.ndarray, label: str) -> None:
    ax.fill_between(times, *np.quantile(draws, INTERVAL, axis=0), color=INK, alpha=0.2, lw=0)
    ax.plot(times, np.median(draws, axis=0), color=INK, lw=0.9)
    ax.set_ylabel(label)


def _table(fit: "Fit", name: str) -> Part:
    """How much of the time is spent in each regime, and how long a visit lasts."""
    graph: Any = fit.graphs[name]
    positions = flat(fit.data["paths"][f"{name}_regime_on_grid"])
    times = np.asarray(fit.data["paths"][f"{name}_time"])
    positions = positions.reshape(len(positions), -1, positions.shape[-1])[..., :-1]
    lengths, rows = np.diff(times), []
    for k, label in enumerate(process_of(graph).regimes):
        inside = positions == k
        share = (inside * lengths).sum(axis=(1, 2)) / (lengths.sum() * positions.shape[1])
        starts = inside[..., 0].sum(axis=-1) + (inside[..., 1:] & ~inside[..., :-1]).sum(axis=(1, 2))
        low, high = (percent(float(q)) for q in np.quantile(share, INTERVAL))
        visits = "{:.0f} to {:.0f}".format(*np.quantile(starts, INTERVAL))
        rows.append([str(label), percent(float(share.mean())), f"{low} to {high}", visits])
    caption = f"{heading(fit, name)}share of the time, and number of visits, with 89% intervals."
    return Table(["regime", "share of time", "", "visits"], rows, caption)
