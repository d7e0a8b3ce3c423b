"""Posterior paths of a few subjects, between and through what was recorded of them."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import INK, state_colours
from mjp.report.parts import Part, new_figure, picture
from mjp.report.paths import flat, heading, of_kind, process_of, recorded

if TYPE_CHECKING:
    from mjp.fitting import Fit

_SUBJECTS, _DRAWS = 6, 15


def section(fit: "Fit") -> list[Part]:
    panels, notes = of_kind(fit, "paths of subjects are for panels", "panel")
    return notes + [_picture(fit, name, graph) for name, graph in panels.items()]


def choose_subjects(graph: Any, number: int = _SUBJECTS) -> list[int]:
    """Positions of the subjects whose recorded state changes most often, then of those with most rows."""
    panel = graph.panel
    changes = [_changes(panel.states[a:b]) for a, b in zip(panel.offsets, panel.offsets[1:], strict=False)]
    order = np.lexsort((-panel.lengths, -np.asarray(changes)))
    return sorted(order[:number].tolist())


def _changes(states: np.ndarray) -> int:
    known = [state for state in states if state is not None and state == state]
    return sum(a != b for a, b in pairwise(known))


def _picture(fit: "Fit", name: str, graph: Any) -> Part:
    chosen = choose_subjects(graph)
    columns = min(len(chosen), 3)
    rows = -(-len(chosen) // columns)
    figure, axes = new_figure(9.0, 0.9 + 1.9 * rows, rows, columns, sharey=True)
    states = process_of(graph).states
    try:
        codes = recorded(graph)
    except ValueError:
        codes = None  # measurements; the paths alone are shown
    for ax, subject in zip(axes.flat, chosen, strict=False):
        _draw(ax, fit, name, graph, subject, codes)
    for ax in axes.flat[len(chosen) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("time")
    for ax in axes[:, 0]:
        ax.set_yticks(range(len(states)), [str(s) for s in states])
    caption = (
        f"{heading(fit, name)}{_DRAWS} posterior paths each (grey) of the subjects whose recorded state "
        "changes most often. Filled dots: recorded states; open dots: a state that was missing or "
        "only partly known."
    )
    return picture(figure, f"posterior paths of subjects, {name}", caption)


def _draw(ax: Any, fit: "Fit", name: str, graph: Any, subject: int, codes: np.ndarray | None) -> None:
    panel, paths = graph.panel, fit.data["paths"].to_dataset()
    rows = slice(int(panel.offsets[subject]), int(panel.offsets[subject + 1]))
    grid = np.asarray(paths[f"{name}_time"])
    inside = (grid > panel.times[rows][0]) & (grid < panel.times[rows][-1])
    at_grid = flat(paths[f"{name}_on_grid"][:, :, subject])[:, inside]
    at_rows = flat(paths[name][:, :, rows])
    # a visit comes before a grid point at the same time, so that the path passes through it
    times = np.concatenate([panel.times[rows], grid[inside]])
    order = np.argsort(times, kind="stable")
    values = np.concatenate([at_rows, at_grid], axis=1)[:, order]
    some = np.linspace(0, len(values) - 1, min(_DRAWS, len(values))).astype(int)
    spread = np.linspace(-0.16, 0.16, len(some)) if len(some) > 1 else np.zeros(1)
    for draw, shift in zip(some, spread, strict=True):
        ax.step(times[order], values[draw] + shift, where="post", color="#777777", lw=0.7, alpha=0.55)
    ax.set_title(f"subject {panel.subjects[subject]}", fontsize=9)
    states = process_of(graph).states
    ax.set_ylim(-0.5, len(states) - 0.5)
    if codes is None:
        return
    code, t = codes[rows], panel.times[rows]
    known = code >= 0
    colours = np.asarray(state_colours(states))
    dots = {"edgecolors": INK, "linewidths": 0.7, "zorder": 3, "s": 34}
    ax.scatter(t[known], code[known], c=colours[code[known]], **dots)
    ax.scatter(t[~known], np.full((~known).sum(), -0.35), c="white", clip_on=False, **dots)
