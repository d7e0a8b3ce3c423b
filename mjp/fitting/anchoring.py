"""How the graphs of a model are conditioned: anchors of guides and buffers, found before a run and kept.

Guides that are linearised anew at every value of the parameters cost several backward filters per
gradient; any fixed anchors are as valid, and those of a typical value of the parameters are nearly as good.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.distributions import biject_to
from numpyro.infer.util import constrain_fn, potential_energy, unconstrain_fn
from scipy.optimize import minimize

from mjp.graph import Graph
from mjp.inference import cheapest_options, condition, is_exact_family
from mjp.inference.uniformized_agents import event_room
from mjp.numpyro_bridge import (
    HIDDEN,
    INNOVATIONS,
    defaults,
    has_agent_jumps,
    has_agent_path,
    has_jump_path,
    latent_sites,
    mixes_families,
    recorded_options,
    structure,
    structure_only,
    with_linear_noise,
)

_PRIOR_DRAWS = 15
_ROOM = 2
_FEW_JUMPS = 8
_FASTER = 3  # rates for which agents have room, than at the prior median
_ROUNDS = 4  # of anchors of jump paths, each at the mode that the ones before lead to


class PreparedModel:
    """A NumPyro model whose graphs are conditioned with fixed anchors and buffers."""

    def __init__(self, model: Callable, options: dict[str, dict[str, Any]]):
        self.model, self.options = model, options
        self.__wrapped__ = model
        self.__qualname__ = self.__name__ = getattr(model, "__qualname__", type(model).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with defaults(self.options):
            return self.model(*args, **kwargs)


def prepared(model: Callable, args: tuple, kwargs: dict) -> Callable:
    """The model with the anchors of its guides at the prior median, and room for the jumps of its paths.

    Those of jump paths go on to the mode of the posterior under the linear noise approximation, which also
    proposes parameters: linearised far from the data it can be wrong by many units of the log-evidence. They
    stay where the model has innovations besides. Graphs for which the user chose an auxiliary, or a buffer,
    keep it.
    """
    if not _anything_to_prepare(model, args, kwargs):
        return model
    parameters = prior_median(model, args, kwargs)
    found: dict[str, dict[str, Any]] = {}
    jumping: list[str] = []
    for name, (graph, options) in recorded_options(model, args, kwargs, parameters).items():
        if has_jump_path(graph):
            sized = {k: v for k, v in options.items() if k not in ("max_events", "latent")}
            # paths at other parameters have more events than those at the median
            jumps: Any = condition(graph, **sized)
            found[name] = {"max_events": _ROOM * jumps.clocks}
            if jumps.anchors is not None and "auxiliary" not in options:
                found[name]["auxiliary"] = jumps.anchors
                jumping.append(name)
            continue
        if has_agent_jumps(graph):
            found[name] = _agent_room(graph, options)
            continue
        # references are laws, and not only points: those of other parameters may be too narrow
        if has_agent_path(graph) or mixes_families(graph) or is_exact_family(graph) or "auxiliary" in options:
            continue
        guided: Any = condition(graph, **options)
        if not guided.exact:
            found[name] = {"auxiliary": guided.anchors}
    if jumping and parameters and not _has_innovations(model, args, kwargs):
        found = _anchored_at_mode(model, args, kwargs, parameters, found, jumping)
    return PreparedModel(model, found) if found else model


def _agent_room(graph: Graph, options: dict[str, Any]) -> dict[str, int]:
    """Room for the events and jumps of agents in continuous time, where the user has chosen none."""
    process: Any = graph.edges[0].process
    found = {}
    if "max_events" not in options:
        found["max_events"] = event_room(graph, _FASTER)
    if "max_jumps" not in options and process.most_jumps is None:
        guided: Any = condition(graph, max_jumps=event_room(graph, 1.0), **cheapest_options(graph))
        jumps = guided.sample(jax.random.key(0))[0].n_jumps
        found["max_jumps"] = _FEW_JUMPS + _ROOM * int(jnp.max(jumps))
    return found


def _anything_to_prepare(model: Callable, args: tuple, kwargs: dict) -> bool:
    found: list[bool] = []

    def declare() -> None:
        for graph, options in recorded_options(model, args, kwargs, {}).values():
            fixed = is_exact_family(graph) or has_agent_path(graph) or mixes_families(graph)
            fixed = fixed or "auxiliary" in options
            found.append(has_jump_path(graph) or has_agent_jumps(graph) or not fixed)

    jax.eval_shape(declare)  # the kinds of the processes are known without any value
    return any(found)


def _has_innovations(model: Callable, args: tuple, kwargs: dict) -> bool:
    return any(site.endswith(INNOVATIONS) for site in latent_sites(model, args, kwargs))


def _anchored_at_mode(
    model: Callable,
    args: tuple,
    kwargs: dict,
    parameters: dict[str, Any],
    options: dict[str, dict[str, Any]],
    names: list[str],
) -> dict[str, dict[str, Any]]:
    """Options whose anchors belong to the mode of the posterior under the linear noise approximation."""

    def with_anchors(anchors: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {k: {**v, "auxiliary": anchors[k]} if k in anchors else v for k, v in options.items()}

    def energy(flat: jax.Array, anchors: dict[str, Any]) -> jax.Array:
        approximated = with_linear_noise(PreparedModel(model, with_anchors(anchors)))
        value: Any = potential_energy(approximated, args, kwargs, unravel(flat))
        return value

    def anchors_at(flat: jax.Array) -> dict[str, Any]:
        with structure_only():
            values = constrain_fn(with_linear_noise(model), args, kwargs, unravel(flat))
        found = recorded_options(model, args, kwargs, values)
        sized = {name: options[name]["max_events"] for name in names}
        conditioned: dict[str, Any] = {
            name: condition(found[name][0], **{**found[name][1], "max_events": sized[name]}) for name in names
        }
        return {name: guided.anchors for name, guided in conditioned.items()}

    with structure_only():
        free = unconstrain_fn(with_linear_noise(model), args, kwargs, parameters)
    start, unravel = ravel_pytree({name: free[name] for name in parameters})
    at, found = np.asarray(start), {name: options[name]["auxiliary"] for name in names}
    slope, anchored = jax.jit(jax.value_and_grad(energy)), jax.jit(anchors_at)
    for _ in range(_ROUNDS):
        objective = lambda flat, found=found: tuple(
            np.asarray(v, float) for v in slope(jnp.asarray(flat), found)
        )
        result: Any = minimize(objective, at, jac=True, method="L-BFGS-B", options={"maxiter": 50})
        if not np.isfinite(result.fun):
            break
        new = anchored(jnp.asarray(result.x, start.dtype))
        if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(new)):
            break
        moved, at, found = np.max(np.abs(result.x - at)), result.x, new
        if moved < 0.01:
            break
    return with_anchors(found)


def prior_median(model: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Median of some prior draws of every latent site, on the unconstrained scale."""
    names: dict[str, Any] = {}

    def draw(key: jax.Array) -> dict[str, Any]:
        found = structure(model, args, kwargs, key)
        values = {}
        for name, site in found.items():
            latent = site["type"] == "sample" and not site["is_observed"]
            if latent and not name.endswith(HIDDEN) and not site["fn"].support.is_discrete:
                names[name] = biject_to(site["fn"].support)
                values[name] = names[name].inv(site["value"])
        return values

    draws = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), _PRIOR_DRAWS))
    return {name: transform(jnp.median(draws[name], axis=0)) for name, transform in names.items()}
