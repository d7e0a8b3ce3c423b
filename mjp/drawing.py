"""Pictures of graphs and of processes, with matplotlib."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.observations import Exactly, Misclassified, is_missing

if TYPE_CHECKING:
    from mjp.graph import Graph

# Okabe and Ito's palette, told apart with every common kind of colour blindness; its black is the ink of
# everything else.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800")
INK, MUTED, OPEN = "#222222", "#9a9a9a", "#ffffff"
_SUBJECTS, _CHAIN_NODES, _ARROWS = 12, 12, 12


def state_colours(states: Sequence) -> list[str]:
    """One colour per state, the same in every picture of a process."""
    if len(states) <= len(PALETTE):
        return list(PALETTE[: len(states)])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](x)) for x in np.linspace(0.0, 0.95, len(states))]


def draw_graph(graph: "Graph", ax: Any = None, max_nodes: int = 200) -> Any:
    """Draw a graph; observed nodes are filled, in the colour of the observed state where there is one.

    Args:
        ax: matplotlib axes; default new ones of a fitting size.
        max_nodes: larger trees and hand-made graphs are refused, because their picture cannot be read.

    Returns:
        the axes.

    Raises:
        ValueError: the graph has no nodes, or more than `max_nodes` that would have to be drawn.
    """
    if graph.n_nodes == 0:
        raise ValueError("graph has no nodes; declare some by root() and edge() before drawing")
    if graph.kind in ("tree", "graph") and graph.n_nodes > max_nodes:
        raise ValueError(f"graph has {graph.n_nodes} nodes; pass max_nodes={graph.n_nodes} to draw it anyway")
    drawers = {"tree": draw_tree, "chain": _draw_chain, "panel": _draw_panel}
    return drawers.get(graph.kind, _draw_layers)(graph, ax)


def draw_tree(
    graph: "Graph",
    ax: Any = None,
    paint: Callable[[Any, int, float, float], None] | None = None,
    branch: Callable[[Any, int, int, np.ndarray], None] | None = None,
) -> Any:
    """Draw a tree as a rectangular cladogram with branch lengths.

    Args:
        paint: called as paint(axes, node, x, y) to draw each node in place of the default marker.
        branch: called as branch(axes, parent, node, corners) to draw each branch, with the corners (3, 2) of
            its path from parent to node.
    """
    x, y, leaves = tree_layout(graph)
    ax = _axes(ax, 8.0, max(2.0, 0.17 * len(leaves) + 0.8))
    parent = graph.parents()
    for node, above in enumerate(parent.tolist()):
        if above < 0:
            continue
        corners = np.array([[x[above], y[above]], [x[above], y[node]], [x[node], y[node]]])
        if branch is not None:
            branch(ax, above, node, corners)
        else:
            ax.plot(*corners.T, color=MUTED, lw=0.9, zorder=1)
    colour, seen = _observed_colours(graph), _observed(graph)
    names = graph.names
    for node in range(graph.n_nodes):
        if paint is not None:
            paint(ax, node, float(x[node]), float(y[node]))
        else:
            face = colour[node] or (INK if seen[node] else OPEN)
            size = 28 if node in leaves or seen[node] else 10
            ax.scatter(x[node], y[node], s=size, c=face, edgecolors=INK, linewidths=0.7, zorder=2)
        if node in leaves:
            label = str(names[node])
            gap = (6, 0)
            ax.annotate(label, (x[node], y[node]), gap, textcoords="offset points", va="center", fontsize=7)
    ax.set(yticks=[], xlabel="distance from the root", ylim=(-1, len(leaves)))
    ax.set_xlim(-0.02 * x.max(), 1.02 * x.max())
    ax.spines[["left", "right", "top"]].set_visible(False)
    if branch is None:
        _legend(ax, graph)
    return ax


def tree_layout(graph: "Graph") -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Positions of the nodes of a tree, x by distance from the root and y by leaf order; and its leaves."""
    parent, x = graph.parents(), np.zeros(graph.n_nodes)
    children: list[list[int]] = [[] for _ in range(graph.n_nodes)]
    for edges in graph.edges:
        for a, b, length in zip(edges.parents, edges.children, np.asarray(edges.durations), strict=True):
            children[int(a)].append(int(b))
            x[b] = length
    order = [int(node) for node in np.flatnonzero(parent < 0)[::-1]]
    preorder: list[int] = []
    while order:
        node = order.pop()
        preorder.append(node)
        if parent[node] >= 0:
            x[node] += x[parent[node]]
        order.extend(children[node][::-1])
    leaves = [node for node in preorder if not children[node]]
    y = np.zeros(graph.n_nodes)
    y[leaves] = np.arange(len(leaves))[::-1]
    for node in reversed(preorder):
        if children[node]:
            y[node] = (y[children[node]].min() + y[children[node]].max()) / 2
    return x, y, set(leaves)


def _draw_chain(graph: Any, ax: Any) -> Any:
    """Nodes from left to right, one row per series; the middle of a long chain is left out."""
    t, rows = graph.n_times, min(graph.n_series or 1, 4)
    half = _CHAIN_NODES // 2
    shown = list(range(t)) if t <= _CHAIN_NODES else [*range(half), *range(t - half, t)]
    gap = 0 if t <= _CHAIN_NODES else 1
    place = {i: k + gap * (k >= half) for k, i in enumerate(shown)}
    ax = _axes(ax, 8.0, 0.6 + 1.0 * rows)
    colour, seen = _observed_colours(graph), _observed(graph)
    times = np.asarray(graph.times)
    for row in range(rows):
        for i in shown:
            node = row * t + i
            if i + 1 in place:
                _arrow(ax, (place[i], -row), (place[i + 1], -row), dashed=place[i + 1] > place[i] + 1)
            face = colour[node] or ("#c8d8e8" if seen[node] else OPEN)
            ax.scatter(place[i], -row, s=280, c=face, edgecolors=INK, zorder=2)
            text = _ink_on(face)
            ax.text(place[i], -row, f"{i}", ha="center", va="center", fontsize=7, color=text, zorder=3)
            if row == rows - 1:
                ax.text(place[i], -row - 0.42, f"{times[i]:g}", ha="center", fontsize=7, color=MUTED)
        if gap:
            ax.text(
                half,
                -row,
                f" {t - len(shown)} more ",
                ha="center",
                va="center",
                fontsize=7,
                backgroundcolor=OPEN,
                color=MUTED,
            )
    ax.set(xlim=(-0.6, max(place.values()) + 0.6), ylim=(-rows + 0.35, 0.5))
    ax.set_title(_more(graph.n_series, rows, "series"), fontsize=8, color=MUTED)
    ax.axis("off")
    _legend(ax, graph, filled="observed (the numbers below are times)")
    return ax


def _draw_panel(graph: Any, ax: Any) -> Any:
    """One row per subject over time, with a dot per visit."""
    panel = graph.panel
    n = min(panel.n_subjects, _SUBJECTS)
    ax = _axes(ax, 8.0, 1.2 + 0.24 * n)
    colour, seen = _observed_colours(graph), _observed(graph)
    for row, label in enumerate(panel.subjects[:n]):
        nodes = range(*panel.subject_slice(label).indices(panel.n_rows))
        times = panel.times[list(nodes)]
        ax.plot(times, np.full(len(times), row), color=MUTED, lw=0.9, zorder=1)
        faces = [colour[i] or (INK if seen[i] else OPEN) for i in nodes]
        ax.scatter(times, np.full(len(times), row), s=34, c=faces, edgecolors=INK, linewidths=0.6, zorder=2)
    ax.set_yticks(range(n), [str(label) for label in panel.subjects[:n]], fontsize=7)
    ax.set(xlabel="time", ylabel="subject")
    ax.invert_yaxis()
    ax.set_title(_more(panel.n_subjects, n, "subjects"), fontsize=8, color=MUTED)
    ax.spines[["right", "top"]].set_visible(False)
    _legend(ax, graph)
    return ax


def _draw_layers(graph: "Graph", ax: Any) -> Any:
    """A hand-made graph, in layers by distance from the roots."""
    import networkx as nx

    plain = nx.DiGraph()
    plain.add_nodes_from(range(graph.n_nodes))
    for edges in graph.edges:
        above = zip(edges.every_parent.tolist(), edges.children.tolist(), strict=True)
        plain.add_edges_from((parent, child) for parents, child in above for parent in parents)
    layers = list(nx.topological_generations(plain))
    for depth, nodes in enumerate(layers):
        for node in nodes:
            plain.nodes[node]["layer"] = depth
    place = nx.multipartite_layout(plain, subset_key="layer", align="vertical")
    width = max(len(layer) for layer in layers)
    ax = _axes(ax, min(10.0, 2.0 + 1.3 * len(layers)), max(2.0, 0.6 * width + 0.8))
    place = {k: (plain.nodes[k]["layer"], 0.0 if width == 1 else p[1] * width) for k, p in place.items()}
    for a, b in plain.edges:
        _arrow(ax, place[a], place[b])
    colour, seen = _observed_colours(graph), _observed(graph)
    for node, name in enumerate(graph.names):
        face = colour[node] or ("#c8d8e8" if seen[node] else OPEN)
        ax.scatter(*place[node], s=420, c=face, edgecolors=INK, zorder=2)
        ax.text(*place[node], str(name), ha="center", va="center", fontsize=8, color=_ink_on(face), zorder=3)
    ax.margins(0.15)
    ax.axis("off")
    _legend(ax, graph)
    return ax


def draw_process(
    process: Any,
    ax: Any = None,
    numbers: Mapping[tuple[Any, Any], str] | None = None,
    title: str | None = None,
) -> Any:
    """Draw the transition diagram of a finite-state process.

    Args:
        process: a process with `states`. More than 12 transitions are drawn as a table.
        numbers: text for each possible transition, by labels (from, to), such as posterior medians;
            transitions that are not named are not drawn. Default: all that can happen, without text.

    Returns:
        the axes.
    """
    arrows = dict(numbers) if numbers is not None else dict.fromkeys(possible_transitions(process), "")
    moves = [pair for pair in arrows if pair[0] != pair[1]]
    n = len(process.states)
    ax = _axes(ax, 6.0, 1.9 if n <= 2 else 4.6)
    if len(moves) > _ARROWS:
        _transition_table(ax, list(process.states), arrows)
    else:
        _transition_arrows(ax, list(process.states), arrows)
    if title:
        ax.set_title(title, fontsize=9)
    return ax


def _transition_arrows(ax: Any, states: list, arrows: Mapping[tuple[Any, Any], str]) -> None:
    n = len(states)
    angle = np.pi - 2 * np.pi * np.arange(n) / n
    place = np.column_stack([np.cos(angle) * 1.25, np.sin(angle)])
    boxes = []
    for i, (label, colour) in enumerate(zip(states, state_colours(states), strict=True)):
        stay = arrows.get((label, label))
        text = f"{label}\n{stay}" if stay else f"{label}"
        style = {"boxstyle": "round,pad=0.5", "facecolor": colour, "edgecolor": INK}
        node = {"ha": "center", "va": "center", "fontsize": 9, "color": _ink_on(colour), "bbox": style}
        boxes.append(ax.text(*place[i], text, **node).get_bbox_patch())
    for (a, b), text in arrows.items():
        if a != b:
            i, j = states.index(a), states.index(b)
            _bent_arrow(ax, place[i], place[j], text, {"patchA": boxes[i], "patchB": boxes[j]})
    ax.set(xlim=(-1.6, 1.6), ylim=(-0.4, 0.4) if n <= 2 else (-1.2, 1.2), aspect="equal")
    ax.axis("off")


def _transition_table(ax: Any, states: list, arrows: Mapping[tuple[Any, Any], str]) -> None:
    """From rows to columns; darker cells for larger numbers."""
    n = len(states)
    value = np.full((n, n), np.nan)
    for (a, b), text in arrows.items():
        value[states.index(a), states.index(b)] = float(text) if text else 1.0
    top = np.nanmax(value)
    # light greys only, on which black numbers can be read
    ax.imshow(value, cmap="Greys", vmin=0.0, vmax=2.5 * top if top > 0 else 1.0)
    for (a, b), text in arrows.items():
        i, j = states.index(a), states.index(b)
        ax.text(j, i, text or "×", ha="center", va="center", fontsize=8, color=INK)
    labels = [str(state) for state in states]
    ax.set_xticks(range(n), labels, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    ax.set_yticks(range(n), labels, fontsize=8)
    for ticks in (ax.get_xticklabels(), ax.get_yticklabels()):
        for tick, colour in zip(ticks, state_colours(states), strict=True):
            tick.set_bbox({"boxstyle": "round,pad=0.15", "facecolor": colour, "edgecolor": "none"})
            tick.set_color(_ink_on(colour))
    ax.set(xlabel="to", ylabel="from")
    ax.tick_params(length=0, pad=6)
    ax.spines[:].set_visible(False)


def possible_transitions(process: Any) -> list[tuple[Any, Any]]:
    """Transitions between different states that a process allows, as labels; all where it is not known."""
    states = process.states
    if hasattr(process, "source"):
        return [(states[i], states[j]) for i, j in zip(process.source, process.target, strict=True)]
    support = process.support() if hasattr(process, "support") else None
    if support is None:
        support = ~np.eye(len(states), dtype=bool)
    return [(states[i], states[j]) for i, j in np.argwhere(np.asarray(support)).tolist()]


def _bent_arrow(ax: Any, start: np.ndarray, end: np.ndarray, text: str, boxes: Mapping[str, Any]) -> None:
    bend = 0.16
    style = {"arrowstyle": "-|>", "color": INK, "lw": 0.9, "shrinkA": 2, "shrinkB": 2, **boxes}
    ax.annotate("", end, start, arrowprops={**style, "connectionstyle": f"arc3,rad={bend}"})
    if not text:
        return
    # arc3 is a quadratic curve whose control point is off the middle by `bend` times the chord, to the right
    chord = end - start
    point = (start + end) / 2 + bend / 2 * np.array([chord[1], -chord[0]])
    paper = {"boxstyle": "round,pad=0.15", "facecolor": OPEN, "edgecolor": "none", "alpha": 0.9}
    ax.text(*point, text, ha="center", va="center", fontsize=8, bbox=paper)


def _arrow(ax: Any, start: Sequence, end: Sequence, dashed: bool = False) -> None:
    style = {"arrowstyle": "-|>", "color": MUTED, "shrinkA": 10, "shrinkB": 10}
    ax.annotate("", end, start, arrowprops={**style, "linestyle": "--" if dashed else "-"}, zorder=1)


def _axes(ax: Any, width: float, height: float) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _ink_on(face: str) -> str:
    """Black or white, whichever can be read on a colour."""
    red, green, blue = (int(face[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else OPEN


def _more(total: int | None, shown: int, what: str) -> str:
    return f"the first {shown} of {total} {what}" if total and total > shown else ""


def _observed(graph: "Graph") -> np.ndarray:
    """Whether each node has an observation that is not missing, (n_nodes,); known roots count."""
    seen = np.zeros(graph.n_nodes, dtype=bool)
    for roots in graph.roots:
        if isinstance(roots.initial, list):
            seen[roots.nodes] = True
    for observed in graph.observations:
        values = observed.values
        if isinstance(values, np.ndarray) and values.dtype.kind in "OU":
            present = np.asarray([not is_missing(value) for value in values])
        else:
            array = np.asarray(values, dtype=float)
            present = ~np.isnan(array.reshape(len(array), -1)).all(axis=1)
        seen[observed.nodes[np.flatnonzero(present)]] = True
    for joint in graph.joint_observations:
        if joint.value is not None and not np.isnan(np.asarray(joint.value, dtype=float)).all():
            seen[list(joint.nodes)] = True
    return seen


def _observed_colours(graph: "Graph") -> list[str | None]:
    """Colour of the state that was recorded at each node, or None."""
    colours: list[str | None] = [None] * graph.n_nodes
    labels = _labels(graph)
    by_label = dict(zip(labels, state_colours(labels), strict=True))
    batches = [(roots.nodes, roots.initial) for roots in graph.roots if isinstance(roots.initial, list)]
    for observed in graph.observations:
        if isinstance(observed.likelihood, Exactly | Misclassified):
            batches.append((observed.nodes, observed.values))
    for nodes, values in batches:
        for node, value in zip(nodes.tolist(), values, strict=True):
            known = isinstance(value, str | int | np.integer | bool)
            colours[node] = by_label.get(value) if known else colours[node]
    return colours


def _labels(graph: "Graph") -> list:
    process: Any = graph.edges[0].process if graph.edges else None
    return list(getattr(process, "states", ()))


def _legend(ax: Any, graph: "Graph", filled: str = "observed") -> None:
    """The states that were observed, and what filled and open nodes mean."""
    from matplotlib.lines import Line2D

    def dot(face: str, label: str) -> Any:
        return Line2D([], [], ls="", marker="o", mfc=face, mec=INK, mew=0.7, label=label)

    labels, used = _labels(graph), set(_observed_colours(graph)) - {None}
    pairs = zip(labels, state_colours(labels), strict=True)
    handles = [dot(colour, str(label)) for label, colour in pairs if colour in used]
    seen = _observed(graph)
    if not handles and seen.any():
        handles.append(dot(INK if graph.kind in ("tree", "panel") else "#c8d8e8", filled))
    if not seen.all():
        handles.append(dot(OPEN, "not observed"))
    # the pad is in units of the font, so that the gap does not grow with the picture
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        borderaxespad=5.0 if ax.axison else 1.0,
        ncols=min(len(handles), 7),
        frameon=False,
        fontsize=8,
    )
