"""Posterior paths of states with two coordinates, one against the other."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import INK, MUTED, PALETTE
from mjp.report.parts import Missing, Part, new_figure, picture
from mjp.report.paths import coordinates, flat, heading, of_vectors, process_of

if TYPE_CHECKING:
    from mjp.fitting import Fit

_PATHS, _SERIES = 6, 3


def section(fit: "Fit") -> list[Part]:
    purpose = "a phase plane is for chains of states with two coordinates"
    chains = of_vectors(fit, purpose, "chain")
    chains = {name: graph for name, graph in chains.items() if process_of(graph).dim == 2}
    if not chains:
        raise Missing(purpose)
    return [_picture(fit, name, graph) for name, graph in chains.items()]


def _picture(fit: "Fit", name: str, graph: Any) -> Part:
    n = min(graph.n_series or 1, _SERIES)
    figure, axes = new_figure(5.6 if n == 1 else 9.0, 4.6 if n == 1 else 3.4, 1, n)
    paths, nodes = (flat(fit.data["paths"][label]) for label in (f"{name}_on_grid", name))
    for series, ax in enumerate(axes[0]):
        own = paths if graph.n_series is None else paths[:, series]
        for path in own[np.linspace(0, len(own) - 1, min(_PATHS, len(own))).astype(int)]:
            ax.plot(*path.T, color=MUTED, lw=0.5, alpha=0.8)
        mean = own.mean(axis=0)
        ax.plot(*mean.T, color=PALETTE[0], lw=1.8)
        at_nodes = nodes[:, series * graph.n_times : (series + 1) * graph.n_times].mean(axis=0)
        ax.scatter(*at_nodes.T, s=9, c=PALETTE[0], edgecolors=INK, linewidths=0.4, zorder=3)
        ax.scatter(*at_nodes[0], s=60, marker="o", c="white", edgecolors=INK, zorder=4)
        ax.set_xlabel(coordinates(fit, name)[0])
        if n > 1:
            ax.set_title(f"series {series}", fontsize=9)
    axes[0, 0].set_ylabel(coordinates(fit, name)[1])
    caption = (
        f"{heading(fit, name)}posterior mean of the path (blue; dots at the nodes, the first one open) and "
        f"{_PATHS} posterior paths (grey)."
    )
    return picture(figure, f"phase plane of {name}", caption)
