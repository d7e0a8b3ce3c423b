"""What to say when a run cannot start, or has not converged."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mjp.inference import condition, is_exact_family
from mjp.numpyro_bridge import (
    graphs_of,
    has_agent_jumps,
    has_agent_path,
    latent_sites,
    pointwise_log_likelihood,
    structure,
)


def explain_bad_start(state: Any, model: Callable, args: tuple, kwargs: dict) -> None:
    """Raise ValueError that says why a chain found no starting point of positive density."""
    blocks = [state, *getattr(state, "block_states", ())]
    potentials = [block.potential_energy for block in blocks if hasattr(block, "potential_energy")]
    if np.all(np.isfinite(potentials)) and all(np.all(getattr(b, "possible", True)) for b in blocks):
        return
    sites = list(latent_sites(model, args, kwargs))

    def at_prior(key: jax.Array) -> dict[str, Any]:
        parameters = _prior_draw(model, args, kwargs, key, sites)
        return pointwise_log_likelihood(model, args, kwargs, parameters)

    keys = jax.random.split(jax.random.key(1), 8)
    at_first = _prior_draw(model, args, kwargs, keys[0], sites)
    for name, graph in graphs_of(model, args, kwargs, at_first).items():
        if has_agent_path(graph):
            raise ValueError(
                f"{name}: no path of positive probability was found to start from. If the rules leave some "
                "changes no chance, check that the data are possible; a small chance of every change, such "
                "as the rate `external` of infections from outside, also helps"
                + ("; so may a larger max_jumps or max_events" if has_agent_jumps(graph) else "")
            )
        if not is_exact_family(graph):
            guided = condition(graph)
            trouble = guided.trouble(guided.sample(keys[0])[0])
            if trouble:
                raise ValueError(f"{name}: at a draw from the prior the path is not finite from {trouble}")
    terms = jax.jit(lambda keys: jax.lax.map(at_prior, keys))(keys)
    for name, values in terms.items():
        never = ~np.isfinite(np.asarray(values)).any(axis=0)
        if not np.any(never):
            continue
        parameters = _prior_draw(model, args, kwargs, keys[0], sites)
        graph = graphs_of(model, args, kwargs, parameters).get(name)
        who = ""
        if graph is not None and graph.kind == "panel":
            subjects = [graph.panel.subjects[i] for i in np.flatnonzero(never)]  # type: ignore[attr-defined]
            who = " of subjects " + ", ".join(repr(subject) for subject in subjects[:5])
            who += f" and {len(subjects) - 5} more" if len(subjects) > 5 else ""
        raise ValueError(f"{name}: the observations{who} have zero likelihood at every prior draw tried")
    raise ValueError(
        "no starting point of finite density was found in 100 tries; check the priors, or pass a kernel with "
        "another init_strategy as engine"
    )


def _prior_draw(
    model: Callable, args: tuple, kwargs: dict, key: jax.Array, sites: list[str]
) -> dict[str, Any]:
    found = structure(model, args, kwargs, key)
    return {name: found[name]["value"] for name in sites}
