"""Posterior states of agents on a network: who was in which state when, and how many."""

from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from mjp.drawing import INK, state_colours
from mjp.fitting.groups import observed_numbers
from mjp.numpyro_bridge import has_agents
from mjp.observations import Exactly, Misclassified
from mjp.report.parts import INTERVAL, Missing, Part, new_figure, picture
from mjp.report.paths import flat, heading, process_of

if TYPE_CHECKING:
    from mjp.fitting import Fit

_SERIES, _AGENTS, _NETWORK = 2, 400, 150
_MOMENTS = 4


def section(fit: "Fit") -> list[Part]:
    graphs: dict[str, Any] = {name: graph for name, graph in fit.graphs.items() if has_agents(graph)}
    if not graphs:
        raise Missing("agents are those of interacting particles")
    parts: list[Part] = []
    for name, graph in graphs.items():
        grid = fit.data["paths"][f"{name}_on_grid"]
        times = np.asarray(grid[f"{name}_time"])
        draws = flat(grid)
        for series in range(min(graph.n_series or 1, _SERIES)):
            own = draws if graph.n_series is None else draws[:, series]
            shares = np.stack([(own == k).mean(axis=0) for k in range(process_of(graph).n_states)])
            words = "" if graph.n_series is None else f"series {series}: "
            parts.append(_heat(fit, name, graph, times, shares, series, words))
            parts.append(_totals(fit, name, graph, times, own, words))
            if process_of(graph).n <= _NETWORK:
                parts.append(_network(fit, name, graph, times, shares, words))
    return parts


def _heat(
    fit: "Fit", name: str, graph: Any, times: np.ndarray, shares: np.ndarray, series: int, words: str
) -> Part:
    """Agents × time, one panel per state but the first, with the observations as dots."""
    from matplotlib.colors import LinearSegmentedColormap

    process = process_of(graph)
    colours, shown = state_colours(process.states), list(range(1, process.n_states))
    n = min(process.n, _AGENTS)
    figure, axes = new_figure(9.0, 1.0 + min(0.05 * n + 1.2, 4.5) * len(shown), len(shown), 1, sharex=True)
    seen = _seen(graph, series)
    for ax, state in zip(axes[:, 0], shown, strict=True):
        ramp = LinearSegmentedColormap.from_list("state", ["white", colours[state]])
        mesh = ax.pcolormesh(
            times, np.arange(n), shares[state, :, :n].T, cmap=ramp, vmin=0, vmax=1, shading="nearest"
        )
        if n <= 60 and seen is not None:
            at, agent = np.nonzero(seen[:, :n] == state)
            ax.plot(np.asarray(graph.times, float)[at], agent, ".", color=INK, ms=3)
        ax.set(ylabel="agent")
        figure.colorbar(mesh, ax=ax, label=f"probability of {process.states[state]}")
    axes[-1, 0].set_xlabel("time")
    caption = f"{heading(fit, name)}{words}posterior probability of each state by agent and time"
    caption += ", the first state being what is left." if n == process.n else f" (the first {n} agents)."
    caption += " Dots: observed in this state." if n <= 60 and seen is not None else ""
    return picture(figure, f"states of the agents of {name} over time", caption)


def _totals(fit: "Fit", name: str, graph: Any, times: np.ndarray, draws: np.ndarray, words: str) -> Part:
    process = process_of(graph)
    figure, axes = new_figure(9.0, 3.2)
    ax = axes[0, 0]
    for state, colour in enumerate(state_colours(process.states)):
        totals = (draws == state).sum(axis=-1)
        low, middle, high = np.quantile(totals, [INTERVAL[0], 0.5, INTERVAL[1]], axis=0)
        ax.fill_between(times, low, high, color=colour, alpha=0.25, lw=0, step="post")
        ax.plot(times, middle, color=colour, drawstyle="steps-post", label=str(process.states[state]))
    ax.set(xlabel="time", ylabel="number of agents", ylim=(0, None), xlim=(times[0], times[-1]))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    caption = f"{heading(fit, name)}{words}numbers of agents in each state, posterior median and 89% bands."
    return picture(figure, f"numbers of agents of {name} in each state over time", caption)


def _network(fit: "Fit", name: str, graph: Any, times: np.ndarray, shares: np.ndarray, words: str) -> Part:
    """The network at some times, its agents as pies of their states' probabilities."""
    process = process_of(graph)
    contacts = process.contacts
    drawn = nx.Graph()
    drawn.add_nodes_from(range(process.n))
    drawn.add_edges_from(zip(contacts.sources.tolist(), contacts.targets.tolist(), strict=True))
    place = nx.spring_layout(drawn, seed=0)
    x, y = np.array([place[i] for i in range(process.n)]).T
    moments = np.linspace(0, len(times) - 1, _MOMENTS).astype(int)
    figure, axes = new_figure(9.0, 2.7, 1, _MOMENTS)
    from matplotlib.colors import to_rgb

    colours = np.array([to_rgb(colour) for colour in state_colours(process.states)])
    size = float(np.clip(1500 / process.n, 8, 60))
    for ax, moment in zip(axes[0], moments, strict=True):
        for a, b in drawn.edges:
            ax.plot(x[[a, b]], y[[a, b]], color="#cccccc", lw=0.5, zorder=0)
        mixed = shares[:, moment].T @ colours
        ax.scatter(x, y, s=size, c=np.clip(mixed, 0, 1), edgecolors=INK, linewidths=0.4)
        ax.set_title(f"time {times[moment]:.3g}", fontsize=9)
        ax.set_axis_off()
    for state, colour in enumerate(state_colours(process.states)):
        axes[0, -1].scatter([], [], color=colour, label=str(process.states[state]))
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    caption = f"{heading(fit, name)}{words}the network; each agent's colour mixes those of its states by "
    caption += "their posterior probability."
    return picture(figure, f"network of {name} at {_MOMENTS} times", caption)


def _seen(graph: Any, series: int) -> np.ndarray | None:
    """Positions (T, n) of the labels that were observed, NaN where there were none; None without any."""
    process = process_of(graph)
    found = None
    for observed in graph.observations:
        if not isinstance(observed.likelihood, Exactly | Misclassified):
            continue
        states = process.states
        numbers = observed_numbers(observed, (len(observed.nodes), process.n), states)
        everything = np.full((graph.n_nodes, process.n), np.nan)
        everything[observed.nodes] = numbers
        t = getattr(graph, "n_times", graph.n_nodes)
        own = everything[series * t : (series + 1) * t]
        found = own if found is None else np.where(np.isnan(own), found, own)
    return found
