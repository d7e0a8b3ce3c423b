"""How the graphs of a model are conditioned: anchors of guides and buffers, found before a run and kept.

Guides that are linearised anew at every value of the parameters cost several backward filters per
gradient; any fixed anchors are as valid, and those of a typical value of the parameters are nearly as good.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import biject_to

from mjp.inference import condition, is_exact_family
from mjp.numpyro_bridge import HIDDEN, defaults, has_agent_path, has_jump_path, recorded_options, structure

_PRIOR_DRAWS = 15
_ROOM = 2


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

    Graphs for which the user chose an auxiliary, or a buffer, keep it.
    """
    if not _anything_to_prepare(model, args, kwargs):
        return model
    parameters = prior_median(model, args, kwargs)
    found: dict[str, dict[str, Any]] = {}
    for name, (graph, options) in recorded_options(model, args, kwargs, parameters).items():
        if has_jump_path(graph):
            sized = {k: v for k, v in options.items() if k not in ("max_events", "latent")}
            # paths at other parameters have more events than those at the median
            jumps: Any = condition(graph, **sized)
            found[name] = {"max_events": _ROOM * jumps.clocks}
            if jumps.anchors is not None and "auxiliary" not in options:
                found[name]["auxiliary"] = jumps.anchors
            continue
        if has_agent_path(graph) or is_exact_family(graph) or "auxiliary" in options:
            continue
        guided: Any = condition(graph, **options)
        if not guided.exact:
            found[name] = {"auxiliary": guided.anchors}
    return PreparedModel(model, found) if found else model


def _anything_to_prepare(model: Callable, args: tuple, kwargs: dict) -> bool:
    found: list[bool] = []

    def declare() -> None:
        for graph, options in recorded_options(model, args, kwargs, {}).values():
            fixed = is_exact_family(graph) or has_agent_path(graph) or "auxiliary" in options
            found.append(has_jump_path(graph) or not fixed)

    jax.eval_shape(declare)  # the kinds of the processes are known without any value
    return any(found)


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
