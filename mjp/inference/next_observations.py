"""Guides of reaction networks that look to the next observation only."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.graph import Graph
from mjp.inference.anchors import at_observations, next_observed
from mjp.inference.count_graph import CountGraph
from mjp.inference.gaussian_sites import node_potentials
from mjp.inference.jump_guides import ConditionedHazard, JumpGuide, ProductGuide, TransitionGuide
from mjp.inference.linear_noise import langevin_graph, linear_noise
from mjp.observations import Exactly
from mjp.processes.gaussian import GaussianProcess

_ROUNDING = 0.01  # variance of what was seen exactly


class Towards(eqx.Module):
    """Guide one species by transition probabilities in closed form, towards its next exactly observed count.

    Args:
        log_probability: function (x, v, t) to the log-probability that a count goes from x to v in a time t,
            such as those of `mjp.inference.transition_probabilities`; minus infinity where it cannot.
        species: name of the species that it describes.
    """

    log_probability: Callable = eqx.field(static=True)
    species: str = eqx.field(static=True)


def guide_of(graph: Graph, model: CountGraph, auxiliary: Any, iterations: int) -> JumpGuide:
    """The guide that the options `auxiliary` and `iterations` of `mjp.condition` ask for.

    Raises:
        ValueError: a name that does not exist, an unknown species, a species that is not observed exactly.
    """
    if isinstance(auxiliary, tuple | list):
        # two guides towards one observation would pull twice as hard as it does
        rest = _unseen(graph, model, {one.species for one in auxiliary if isinstance(one, Towards)})
        graph_of = lambda one: graph if isinstance(one, Towards) else rest
        guides = tuple(guide_of(graph_of(one), model, one, iterations) for one in auxiliary)
        return ProductGuide(guides=guides)  # type: ignore[call-arg]
    if isinstance(auxiliary, Towards):
        return _towards(graph, model, auxiliary)
    if auxiliary == "linear noise" or isinstance(auxiliary, GaussianProcess):
        chosen = None if isinstance(auxiliary, str) else auxiliary
        return linear_noise(graph, model, chosen, iterations)[0]
    if auxiliary == "conditioned hazard":
        return _conditioned_hazard(graph, model)
    raise ValueError(
        "auxiliary must be 'linear noise', 'conditioned hazard', a linear Gaussian process, "
        f"mjp.inference.Towards, or a tuple of these, got {auxiliary!r}"
    )


def _unseen(graph: Graph, model: CountGraph, species: set[str]) -> Graph:
    """The graph without the exact observations of some species."""
    columns = [k for k, name in enumerate(model.processes[0].species) if name in species]
    result = copy.copy(graph)
    result.observations = [
        replace(source, values=observed.values.at[:, np.asarray(columns, int)].set(jnp.nan))
        if isinstance(source.likelihood, Exactly)
        else source
        for observed, source in zip(model.observed, graph.observations, strict=True)
    ]
    return result


def _conditioned_hazard(graph: Graph, model: CountGraph) -> ConditionedHazard:
    langevin, sites = langevin_graph(graph, model, _ROUNDING)
    anchors = at_observations(langevin, sites).nodes
    potentials = node_potentials(sites, anchors, model.static.layout.n_nodes, anchors.dtype)
    target = next_observed(model.static.layout_parent, [observed.nodes for observed in sites])
    target = target[model.pieces.children]
    own = jax.tree.map(lambda leaf: _by_cell(jnp.moveaxis(leaf, -1, 0)[target], model), potentials)
    return ConditionedHazard((_time_left(model, target), own))


def _towards(graph: Graph, model: CountGraph, chosen: Towards) -> TransitionGuide:
    names = model.processes[0].species
    if chosen.species not in names:
        raise ValueError(f"species: unknown species {chosen.species!r}; the species are {list(names)}")
    k = names.index(chosen.species)
    seen = np.zeros(graph.n_nodes, dtype=bool)
    values = jnp.full(model.static.layout.n_nodes, jnp.nan)
    for observed, source in zip(model.observed, graph.observations, strict=True):
        if isinstance(observed.likelihood, Exactly):
            seen[source.nodes] = True
            values = values.at[source.nodes].set(observed.values[:, k])
    target = next_observed(model.static.layout_parent, [np.flatnonzero(seen)])[model.pieces.children]
    if not np.all(np.append(seen, False)[np.minimum(target, graph.n_nodes)]):
        raise ValueError(
            f"auxiliary: a closed form for {chosen.species!r} needs observations by mjp.Exactly() below "
            "every edge"
        )
    cells = (_time_left(model, target), _by_cell(values[target], model))
    return TransitionGuide(log_probability=chosen.log_probability, species=k, cells=cells)  # type: ignore[call-arg]


def _time_left(model: CountGraph, target: np.ndarray) -> Array:
    """Time from the start of every cell until the target node of its piece, (P, cells)."""
    node_times = jnp.zeros(model.static.layout.n_nodes, model.starts.dtype)
    node_times = node_times.at[model.pieces.children].set(model.starts + model.durations)
    begin = jnp.concatenate([jnp.zeros_like(model.ends[:, :1]), model.ends[:, :-1]], axis=1)
    return node_times[target][:, None] - (model.starts[:, None] + begin)


def _by_cell(leaf: Array, model: CountGraph) -> Array:
    """The same for every cell of a piece."""
    n_cells = model.ends.shape[1]
    return jnp.broadcast_to(leaf[:, None], (leaf.shape[0], n_cells, *leaf.shape[1:]))
