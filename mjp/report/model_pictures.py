"""The model graph, and the transition diagram with posterior median rates."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjp.drawing import draw_graph, draw_process, possible_transitions
from mjp.fitting.draws import choose_draws
from mjp.graph import Graph
from mjp.numpyro_bridge import graphs_of, has_agents
from mjp.processes import ConditionalTable, MarkovChain
from mjp.report.parts import Missing, Paragraph, Part, picture
from mjp.report.paths import heading, process_of

if TYPE_CHECKING:
    from mjp.fitting import Fit

_DRAWS, _EDGES, _NODES = 400, 50, 400


def section(fit: "Fit") -> list[Part]:
    if not fit.graphs:
        raise Missing("the model declares no graph")
    parts: list[Part] = []
    for name, graph in fit.graphs.items():
        parts += _transitions(fit, name, graph)
        parts += _graph(fit, name, graph)
    return parts or [Paragraph("The tree is drawn below, with what is known of its nodes.", "note")]


def _graph(fit: "Fit", name: str, graph: Graph) -> list[Part]:
    import matplotlib.pyplot as plt

    if graph.kind == "tree":
        return []  # drawn with what is known of its nodes in a section of its own
    if graph.kind == "graph" and graph.n_nodes > _NODES:
        return [Paragraph(f"The graph of {name} has {graph.n_nodes} nodes, too many to draw.", "note")]
    ax = draw_graph(graph, max_nodes=_NODES)
    try:
        caption = f"{heading(fit, name)}the graph. Filled nodes are observed."
        return [picture(ax.figure, f"graph of {name}", caption)]
    finally:
        plt.close(ax.figure)


def _transitions(fit: "Fit", name: str, graph: Graph) -> list[Part]:
    process = process_of(graph)
    states = getattr(process, "states", None)
    if states is None or has_agents(graph) or isinstance(process, ConditionalTable):
        return []  # states that are vectors, or that follow on several, have no transition diagram
    if len(states) > 12:
        return [Paragraph(f"{name} has {len(states)} states, too many for a diagram.", "note")]
    median = np.median(transition_values(fit, name), axis=0)
    discrete = isinstance(process, MarkovChain)
    pairs = [(s, s) for s in states] if discrete else []
    pairs += possible_transitions(process)
    place = {state: i for i, state in enumerate(states)}
    numbers = {(a, b): f"{median[place[a], place[b]]:.2g}" for a, b in pairs}
    numbers = {pair: text for pair, text in numbers.items() if text != "0"}
    what = "transition probabilities (below a state: of staying)" if discrete else "rates per unit of time"
    caption = f"{heading(fit, name)}posterior medians of the {what}."
    if process.covariates or getattr(process, "breaks", ()):
        caption += " They depend on covariates or on time, and are averaged over edges of the graph."
    return [picture(_diagram(process, numbers), f"transition diagram of {name}", caption)]


def _diagram(process: Any, numbers: dict) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 1.9 if len(process.states) <= 2 else 4.6), layout="constrained")
    draw_process(process, figure.subplots(), numbers)
    return figure


def transition_values(fit: "Fit", name: str) -> np.ndarray:
    """Generator or transition matrix for some posterior draws, averaged over the edges, (draws, K, K)."""
    samples = fit.parameters
    chain, draw = choose_draws(samples, _DRAWS)
    parameters = {site: jnp.asarray(values[chain, draw]) for site, values in samples.items()}

    def one(parameters: dict[str, Any]) -> Any:
        graph = graphs_of(fit.model, fit.args, fit.kwargs, parameters)[name]
        edges = graph.edges[0]
        process: Any = edges.process
        if isinstance(process, MarkovChain) and process.n_steps is not None:
            return process.matrix({}).mean(0)
        some = np.linspace(0, len(edges.children) - 1, min(_EDGES, len(edges.children))).astype(int)
        columns = {column: jnp.asarray(edges.covariates[column])[some] for column in process.covariates}
        evaluate = process.matrix if isinstance(process, MarkovChain) else process.generator
        values = jax.vmap(evaluate)(columns) if columns else evaluate({})
        return values.reshape(-1, *values.shape[-2:]).mean(0)

    return np.asarray(jax.jit(lambda p: lax.map(one, p))(parameters))
