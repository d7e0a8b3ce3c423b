"""Guides and evidence of counting processes whose transition probabilities are known in closed form."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import is_concrete
from mjp.graph import Graph
from mjp.inference.count_graph import CountGraph
from mjp.inference.next_observations import Towards
from mjp.inference.rules.registry import rule_of
from mjp.inference.segments import Segments, segment_sum
from mjp.observations import Exactly


def closed_form_guide(graph: Graph, model: CountGraph) -> Towards | None:
    """The guide by the transition probabilities of the process itself, where all observations are exact."""
    process, *others = model.processes
    form = getattr(rule_of(process), "closed_form", lambda process: None)(process)
    exact = all(isinstance(observed.likelihood, Exactly) for observed in graph.observations)
    if form is None or others or not exact or not graph.observations:
        return None
    below = np.zeros(graph.n_nodes, dtype=bool)
    for observed in graph.observations:
        below[observed.nodes] = True
    leaves = np.setdiff1d(np.arange(graph.n_nodes), graph.parents())
    return Towards(form, process.species[0]) if np.all(below[leaves]) else None


def closed_form_evidence(graph: Graph, model: CountGraph, log_probability: Callable) -> Array:
    """Log-evidence (n_components,) where all counts are known; zero, to be found by weights, elsewhere."""
    values = jnp.full(graph.n_nodes, jnp.nan)
    values = values.at[model.static.root_nodes].set(model.roots[:, 0].astype(values.dtype))
    zero = jnp.zeros(model.static.n_components)
    if any(law is not None for law in model.static.root_laws):
        return zero
    roots = set(model.static.root_nodes.tolist())
    for observed, source in zip(model.observed, graph.observations, strict=True):
        free = np.asarray([i for i, node in enumerate(source.nodes.tolist()) if node not in roots], int)
        values = values.at[source.nodes[free]].set(observed.values[free, 0])
    if not is_concrete(values) or np.any(np.isnan(np.asarray(values))):
        return zero
    total = zero
    for edges in graph.edges:
        terms = jax.vmap(log_probability)(
            values[edges.parents], values[edges.children], jnp.asarray(edges.durations, values.dtype)
        )
        component = model.static.component[edges.children]
        total = total + segment_sum(terms, Segments(component, model.static.n_components))
    return jnp.where(jnp.isnan(total), 0.0, total)  # a form that does not reach so large counts
