"""Anchors of the guides of a model, found once before a run and then kept.

Guides that are linearised anew at every value of the parameters cost several backward filters per
gradient; any fixed anchors are as valid, and those of a typical value of the parameters are nearly as good.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import biject_to

from mjp.inference import condition, is_exact_family
from mjp.numpyro_bridge import anchored, recorded_options, structure

_PRIOR_DRAWS = 15


class AnchoredModel:
    """A NumPyro model whose guides are linearised at fixed anchors."""

    def __init__(self, model: Callable, anchors: dict[str, Any]):
        self.model, self.anchors = model, anchors
        self.__wrapped__ = model
        self.__qualname__ = self.__name__ = getattr(model, "__qualname__", type(model).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with anchored(self.anchors):
            return self.model(*args, **kwargs)


def with_anchors(model: Callable, args: tuple, kwargs: dict) -> Callable:
    """The model with the anchors of its guided graphs at the prior median; itself if it has none.

    Graphs for which the user chose an auxiliary keep it.
    """
    parameters = prior_median(model, args, kwargs)
    anchors = {}
    for name, (graph, options) in recorded_options(model, args, kwargs, parameters).items():
        if is_exact_family(graph) or "auxiliary" in options:
            continue
        guided: Any = condition(graph, **options)
        if not guided.exact:
            anchors[name] = guided.anchors
    return AnchoredModel(model, anchors) if anchors else model


def prior_median(model: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Median of some prior draws of every latent site, on the unconstrained scale."""
    names: dict[str, Any] = {}

    def draw(key: jax.Array) -> dict[str, Any]:
        found = structure(model, args, kwargs, key)
        values = {}
        for name, site in found.items():
            latent = site["type"] == "sample" and not site["is_observed"]
            if latent and not name.endswith("/innovations") and not site["fn"].support.is_discrete:
                names[name] = biject_to(site["fn"].support)
                values[name] = names[name].inv(site["value"])
        return values

    draws = [draw(key) for key in jax.random.split(jax.random.key(0), _PRIOR_DRAWS)]
    return {
        name: transform(jnp.asarray(np.median([np.asarray(d[name]) for d in draws], axis=0)))
        for name, transform in names.items()
    }
