"""A tree painted with the posterior probabilities of the states at its nodes."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import INK, draw_tree, state_colours
from mjp.report.parts import INTERVAL, Paragraph, Part, Table, picture
from mjp.report.paths import flat, heading, of_kind, process_of

if TYPE_CHECKING:
    from mjp.fitting import Fit

_NODES, _ROWS = 400, 10


def section(fit: "Fit") -> list[Part]:
    trees, parts = of_kind(fit, "ancestral states are for trees", "tree")
    for name, graph in trees.items():
        parts += _painted(fit, name, graph)
        parts += _changes(fit, name)
    return parts


def _painted(fit: "Fit", name: str, graph: Any) -> list[Part]:
    if graph.n_nodes > _NODES:
        return [Paragraph(f"{name} has {graph.n_nodes} nodes, too many to draw.", "note")]
    import matplotlib.pyplot as plt

    nodes = flat(fit.data["paths"][name])
    states = process_of(graph).states
    share = np.stack([(nodes == i).mean(axis=0) for i in range(len(states))], axis=1)
    colours = state_colours(states)
    ax = draw_tree(graph, paint=lambda ax, node, x, y: _pie(ax, x, y, share[node], colours))
    try:
        caption = (
            f"{heading(fit, name)}posterior probability of each state at every node of the tree, as "
            "the slices of a pie."
        )
        return [picture(ax.figure, f"tree {name} with state probabilities", caption)]
    finally:
        plt.close(ax.figure)


def _pie(ax: Any, x: float, y: float, share: np.ndarray, colours: list[str]) -> None:
    """A pie as one marker per slice, so that it stays round whatever the axes' scales."""
    ends = np.concatenate([[0.0], np.cumsum(share)]) * 2 * np.pi
    ax.scatter(x, y, s=62, c="none", edgecolors=INK, linewidths=0.6, zorder=3)
    for start, end, colour in zip(ends, ends[1:], colours, strict=False):
        if end - start < 0.01:
            continue
        angle = np.linspace(start, end, 24)
        edge = np.column_stack([np.cos(angle), np.sin(angle)])
        whole = end - start > 2 * np.pi - 0.01
        corners = edge if whole else np.vstack([[0.0, 0.0], edge])
        # a marker is scaled by its largest coordinate, which is not the radius for every slice
        size = 60 * np.abs(corners).max() ** 2
        ax.scatter(x, y, s=size, marker=corners, c=colour, linewidths=0, zorder=2.5)


def _changes(fit: "Fit", name: str) -> list[Part]:
    array = fit.data["paths"][f"{name}_changes"]
    counts, states = flat(array), array.attrs["states"]
    total = counts.sum(axis=(1, 2))
    low, high = np.quantile(total, INTERVAL)
    parts: list[Part] = [
        Paragraph(
            f"{heading(fit, name)}The number of changes on the whole tree is {total.mean():.1f} in the mean, "
            f"and between {low:.0f} and {high:.0f} with 89% probability."
        )
    ]
    mean = counts.mean(axis=0)
    order = np.argsort(-mean, axis=None)[:_ROWS]
    rows = []
    for i, j in zip(*np.unravel_index(order, mean.shape), strict=True):
        if mean[i, j] > 0:
            low, high = np.quantile(counts[:, i, j], INTERVAL)
            rows.append([f"{states[i]} → {states[j]}", f"{mean[i, j]:.2f}", f"{low:.0f} to {high:.0f}"])
    parts.append(Table(["change", "mean number", "89% interval"], rows, "The most frequent changes."))
    return parts
