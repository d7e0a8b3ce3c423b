"""What a model declares, read without inferring it."""

from collections.abc import Callable
from typing import Any

import jax
from numpyro.handlers import seed, substitute, trace

from mjp.graph import Graph
from mjp.numpyro_bridge.contexts import COLLECTORS, Conditioned, recording, structure_only
from mjp.numpyro_bridge.kinds import LOG_LIKELIHOOD


def structure(model: Callable, args: tuple, kwargs: dict, key: jax.Array) -> dict[str, dict[str, Any]]:
    """The sites of one prior run of a model, without looking at the data of its graphs."""
    with structure_only():
        return trace(seed(model, key)).get_trace(*args, **kwargs)


def latent_sites(model: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The model's latent sample sites by name; their values are `jax.ShapeDtypeStruct`s."""
    found: dict[str, dict[str, Any]] = {}

    def run() -> dict[str, Any]:
        for name, site in structure(model, args, kwargs, jax.random.key(0)).items():
            if site["type"] == "sample" and not site["is_observed"]:
                found[name] = site
        return {name: site["value"] for name, site in found.items()}

    values = jax.eval_shape(run)
    return {name: {**site, "value": values[name]} for name, site in found.items()}


def pointwise_log_likelihood(
    model: Callable, args: tuple, kwargs: dict, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Log-likelihood of every observed site at one value of the parameters.

    The factor of a graph appears under the graph's own name. For a guided path it is the log-density of
    each observed node given the path.
    """
    collected: dict[str, Conditioned] = {}
    COLLECTORS.append(collected)
    try:
        found = trace(substitute(model, data=parameters)).get_trace(*args, **kwargs)
    finally:
        COLLECTORS.pop()
    result = {}
    for name, site in found.items():
        if site["type"] == "sample" and site["is_observed"]:
            result[name.removesuffix(LOG_LIKELIHOOD)] = site["fn"].log_prob(site["value"])
    for name, graph in collected.items():
        result[name] = graph.guided.log_likelihoods(graph.trajectory)  # type: ignore[attr-defined]
    return result


def graphs_of(model: Any, args: tuple, kwargs: dict, parameters: dict[str, Any]) -> dict[str, Graph]:
    """Graphs that a model declares at given values of its latent sites."""
    recorded = recorded_options(model, args, kwargs, parameters)
    return {name: graph for name, (graph, _) in recorded.items()}


def recorded_options(
    model: Any, args: tuple, kwargs: dict, parameters: dict[str, Any]
) -> dict[str, tuple[Graph, dict[str, Any]]]:
    """Graphs that a model declares at given values of its latent sites, and the options given with them."""
    with recording() as recorded:
        substitute(seed(model, jax.random.key(0)), data=parameters)(*args, **kwargs)
    return recorded


def conditioned_graphs(
    model: Any, args: tuple, kwargs: dict, parameters: dict[str, Any], key: jax.Array
) -> dict[str, Conditioned]:
    """Graphs of a model, conditioned at given values of its latent sites, each with a path.

    A guided path is that of the given innovations; an exactly conditioned one is drawn with the key.
    """
    found: dict[str, Conditioned] = {}
    COLLECTORS.append(found)
    try:
        substitute(seed(model, key), data=parameters)(*args, **kwargs)
    finally:
        COLLECTORS.pop()
    return found
