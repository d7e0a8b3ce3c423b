"""How many subjects are in each state over time, by posterior paths."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import state_colours
from mjp.report.parts import Missing, Part, new_figure, picture
from mjp.report.paths import absorbing, flat, heading, of_kind, process_of

if TYPE_CHECKING:
    from mjp.fitting import Fit


def section(fit: "Fit") -> list[Part]:
    purpose = "occupancy over time is for panels and for several series"
    graphs, parts = of_kind(fit, purpose, "panel", "chain")
    if not any(graph.batch_shape for graph in graphs.values()):
        raise Missing(purpose)
    for name, graph in graphs.items():
        if not graph.batch_shape:
            continue
        grid = fit.data["paths"][f"{name}_on_grid"]
        last = np.append(np.concatenate([roots.nodes for roots in graph.roots])[1:], graph.n_nodes) - 1
        at_end = flat(fit.data["paths"][name])[:, last]
        share, count = occupancy(flat(grid), at_end, process_of(graph).n_states, absorbing(graph))
        parts.append(_picture(fit, name, graph, np.asarray(grid[f"{name}_time"]), share, count))
    return parts


def occupancy(
    paths: np.ndarray, at_end: np.ndarray, n_states: int, final: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean share of each state over time, and how many components it is a share of.

    Args:
        paths: (draws, components, times) states, -1 outside.
        at_end: (draws, components) last states.
        final: states that are never left; a component that ends in one is kept in it.

    Returns:
        shares (n_states, times), NaN where nobody is inside; mean number inside, (times,).
    """
    paths = stay(paths, at_end, final)
    counts = np.stack([(paths == state).sum(axis=1).mean(axis=0) for state in range(n_states)])
    total = counts.sum(axis=0)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0), total


def stay(paths: np.ndarray, at_end: np.ndarray, final: np.ndarray) -> np.ndarray:
    """Keep paths (..., times) that end in one of the states `final` there until the last time."""
    begun = np.logical_or.accumulate(paths >= 0, axis=-1)
    after = begun & (paths < 0) & np.isin(at_end, final)[..., None]
    return np.where(after, at_end[..., None], paths)


def _picture(
    fit: "Fit", name: str, graph: Any, times: np.ndarray, share: np.ndarray, count: np.ndarray
) -> Part:
    figure, axes = new_figure(8.0, 4.4, 2, sharex=True, height_ratios=[4, 1])
    top, below = axes[:, 0]
    states = process_of(graph).states
    top.stackplot(times, np.nan_to_num(share), labels=[str(s) for s in states], colors=state_colours(states))
    top.set(ylabel="share", ylim=(0, 1), xlim=(times[0], times[-1]))
    top.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, reverse=True)
    below.fill_between(times, count, color="#cccccc", step="mid")
    below.set(ylabel="number", xlabel="time", ylim=(0, None))
    unit = "subjects" if graph.kind == "panel" else "series"
    caption = f"{heading(fit, name)}posterior mean share of {unit} in each state (top), among those that are "
    caption += "inside of their observed time (below: how many)."
    if len(absorbing(graph)):
        kept = ", ".join(str(states[i]) for i in absorbing(graph))
        caption += f" A subject that ends in a state which is never left ({kept}) stays in it."
    return picture(figure, f"state occupancy of {name} over time", caption)
