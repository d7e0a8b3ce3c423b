"""How well guided paths are guided: the weights of their edges, and of importance sampling with the guide."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mjp.drawing import PALETTE
from mjp.inference.evidence import Evidence, estimate
from mjp.numpyro_bridge import conditioned_graphs, has_agent_path, has_jump_path
from mjp.on_grid import node_times
from mjp.report.parts import Missing, Paragraph, Part, Table, new_figure, percent, picture
from mjp.report.paths import flat, heading
from mjp.report.vectors import is_guided

if TYPE_CHECKING:
    from mjp.fitting import Fit

_PARTICLES, _ROWS = 1000, 5
_ROUNDING = 1e-6  # of a log-weight that is zero in exact arithmetic
_GOOD, _FAIR = 0.3, 0.03  # effective shares of guided draws


def section(fit: "Fit") -> list[Part]:
    guided = [name for name in fit.graphs if is_guided(fit, name)]
    if not guided:
        others = "all its paths are conditioned exactly"
        if any(has_agent_path(graph) for graph in fit.graphs.values()):
            others = "paths of its agents are sampled one by one"
        if any(has_jump_path(graph) for graph in fit.graphs.values()):
            others = "its jump paths are sampled with particles, see there"
        raise Missing(f"the model has no path that is made of innovations; {others}")
    parts: list[Part] = []
    for name in guided:
        if f"{name}_edge_log_weight" not in fit.data["paths"]:  # the guide weighs whole paths only
            parts += _in_words(fit, name)
            continue
        edges, sites = (
            flat(fit.data["paths"][f"{name}_{what}_log_weight"]).std(axis=0)
            for what in ("edge", "observation")
        )
        parts += _in_words(fit, name)
        parts.append(_picture(fit, name, edges, sites))
        parts.append(_worst(fit, name, edges, sites))
    return parts


def quality(fit: "Fit", name: str, particles: int = _PARTICLES) -> Evidence:
    """Importance sampling of one path with its guide, at the posterior mean of the parameters."""
    mean = {site: jnp.asarray(values.mean(axis=(0, 1))) for site, values in fit.latent.items()}
    key = jax.random.key(fit.settings["seed"] + 4)
    guided = conditioned_graphs(fit.model, fit.args, fit.kwargs, mean, key)[name].guided
    return estimate(guided, key, particles)


def _in_words(fit: "Fit", name: str) -> list[Part]:
    share = float(np.min(np.asarray(quality(fit, name).ess))) / _PARTICLES
    if share >= _GOOD:
        verdict, style = "The guide is close to the conditioned process", "good"
    elif share >= _FAIR:
        verdict, style = "The guide is fair", ""
    else:
        verdict, style = "The guide is rough", ""
    least = "in the worst series " if fit.graphs[name].batch_shape else ""
    shown = percent(share) if share >= 0.01 else "less than 1%"
    advice = (
        "Importance sampling with it alone would fail, but chains move from path to path: whether they mix "
        "is told by the verdict on convergence."
    )
    text = (
        f"{heading(fit, name)}{verdict}. Of {_PARTICLES} paths drawn by the guide at the posterior mean of "
        f"the parameters, {least}{shown} are effective when they are weighted to the conditioned process. "
        "The weights are part of what is sampled, so that the posterior is right with any guide."
    )
    parts: list[Part] = [Paragraph(text, style)]
    return parts + ([Paragraph(advice)] if share < _FAIR else [])


def _picture(fit: "Fit", name: str, edges: np.ndarray, sites: np.ndarray) -> Part:
    from matplotlib.ticker import MaxNLocator

    graph: Any = fit.graphs[name]
    figure, axes = new_figure(9.0, 2.8)
    ax = axes[0, 0]
    if graph.kind == "chain":
        n = graph.n_series or 1
        place, unit = np.asarray(graph.times, float), "time"
        edges, sites = (values.reshape(n, -1).max(axis=0) for values in (edges, sites))
    else:
        place, unit = np.arange(graph.n_nodes, dtype=float), "node, from the roots down"
    for values, label, colour in ((edges, "edge before", PALETTE[0]), (sites, "observation", PALETTE[1])):
        if values.max() > _ROUNDING:
            ax.plot(place, values, color=colour, lw=0.9, marker="o", ms=2.6, label=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=bool(np.all(place == np.round(place)))))
    ax.set(xlabel=unit, ylabel="sd of log-weight", ylim=(0, None))
    ax.legend(frameon=False, fontsize=8)
    caption = (
        f"{heading(fit, name)}standard deviation over posterior draws of the log-weight of the edge before "
        "each node, and of its observation. Where it is large, the guide does not know the process."
    )
    if graph.kind == "chain" and graph.n_series:
        caption += " The largest of all series is shown."
    return picture(figure, f"log-weights of {name}", caption)


def _worst(fit: "Fit", name: str, edges: np.ndarray, sites: np.ndarray) -> Part:
    graph: Any = fit.graphs[name]
    order = np.argsort(-(edges + sites))[:_ROWS]
    rows = [
        [_place(graph, int(node)), f"{edges[node]:.3f}", f"{sites[node]:.3f}"]
        for node in order
        if edges[node] + sites[node] > _ROUNDING
    ]
    header = ["node", "sd of the log-weight of its edge", "of its observation"]
    return Table(header, rows, "Where the guide is worst.")


def _place(graph: Any, node: int) -> str:
    """A node in words, with its time if it has one."""
    words = graph.describe_node(node)
    return f"{words}, time {node_times(graph)[node]:g}" if graph.kind == "chain" else words
