"""A tree painted with the posterior means of vector states at its nodes."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import INK, draw_tree
from mjp.report.parts import INTERVAL, Paragraph, Part, Table, picture
from mjp.report.paths import coordinates, flat, heading, of_vectors

if TYPE_CHECKING:
    from mjp.fitting import Fit

_NODES, _TRAITS, _PIECES = 400, 6, 24


def section(fit: "Fit") -> list[Part]:
    trees = of_vectors(fit, "traits on a tree are for trees of vector states", "tree")
    parts: list[Part] = []
    for name, graph in trees.items():
        parts += _painted(fit, name, graph) + _roots(fit, name, graph)
    return parts


def _painted(fit: "Fit", name: str, graph: Any) -> list[Part]:
    if graph.n_nodes > _NODES:
        return [Paragraph(f"{name} has {graph.n_nodes} nodes, too many to draw.", "note")]
    from matplotlib.figure import Figure

    labels = coordinates(fit, name)[:_TRAITS]
    mean = flat(fit.data["paths"][name]).mean(axis=0)
    spread = flat(fit.data["paths"][name]).std(axis=0)
    columns = min(len(labels), 2)
    rows = -(-len(labels) // columns)
    height = max(2.4, 0.155 * len(graph.leaves) + 1.2)
    figure = Figure(figsize=(8.0 if columns == 1 else 13.0, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for i, label in enumerate(labels):
        _paint(figure, axes.flat[i], graph, mean[:, i], spread[:, i], label)
    for ax in axes.flat[len(labels) :]:
        ax.axis("off")
    caption = (
        f"{heading(fit, name)}posterior mean of each trait at the nodes, linear along the branches. The "
        "larger the dot at a node, the better its trait is known."
    )
    return [picture(figure, f"tree {name} painted with posterior mean traits", caption)]


def _paint(figure: Any, ax: Any, graph: Any, value: np.ndarray, spread: np.ndarray, label: str) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    norm, colours = Normalize(value.min(), value.max()), colormaps["viridis"]

    def branch(ax: Any, above: int, node: int, corners: np.ndarray) -> None:
        # the first leg has no length in time, so that it keeps the parent's colour
        ax.plot(*corners[:2].T, color=colours(norm(value[above])), lw=1.8, zorder=1)
        share = np.linspace(0.0, 1.0, _PIECES + 1)
        points = corners[1] + share[:, None] * (corners[2] - corners[1])
        along = value[above] + (share[:-1] + share[1:]) / 2 * (value[node] - value[above])
        pieces = np.stack([points[:-1], points[1:]], axis=1)
        ends = {"capstyle": "butt", "antialiaseds": False}  # else the pieces' seams are seen
        lines = LineCollection(list(pieces), colors=colours(norm(along)), linewidths=1.8, zorder=1, **ends)
        ax.add_collection(lines)

    def paint(ax: Any, node: int, x: float, y: float) -> None:
        known = 1 - spread[node] / max(spread.max(), np.finfo(float).tiny)
        face = colours(norm(value[node]))
        ax.scatter(x, y, s=8 + 22 * known, color=face, edgecolors=INK, linewidths=0.5, zorder=3)

    draw_tree(graph, ax, paint=paint, branch=branch)
    figure.colorbar(ScalarMappable(norm, colours), ax=ax, label=label, shrink=0.5, aspect=30, pad=0.09)


def _roots(fit: "Fit", name: str, graph: Any) -> list[Part]:
    """What is known of the roots."""
    nodes, rows = flat(fit.data["paths"][name]), []
    for batch in graph.roots:
        for root in batch.nodes.tolist():
            for i, label in enumerate(coordinates(fit, name)):
                draws = nodes[:, root, i]
                low, high = np.quantile(draws, INTERVAL)
                rows.append(
                    [str(graph.names[root]), label, f"{draws.mean():.3g}", f"{low:.3g} to {high:.3g}"]
                )
    return [Table(["root", "trait", "mean", "89% interval"], rows[:20], "What is known of the root.")]
