"""Gibbs over the paths of interacting particles and the parameters, from a start that fits the data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpyro.distributions import biject_to
from numpyro.infer import Gibbs

from mjp.inference.condition import condition
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.rules import cheapest_options
from mjp.inference.safe_logs import never_if_nan
from mjp.numpyro_bridge import HIDDEN, has_agent_path, recorded_options, structure

_STARTS = 32  # prior draws of which a chain starts at the best


class AgentGibbs(Gibbs):
    """NumPyro's `Gibbs`, started at the prior draw whose guide gives the data the highest evidence.

    Paths and parameters that go together hold each other: from rates that are much too high, with paths in
    which agents change all the time, chains come down slowly if at all. The evidence of the mean field, in
    which paths do not occur, tells such starts from good ones.
    """

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> Any:
        """Start at the best of several prior draws, unless other values are given."""
        check_one_key(self, rng_key)
        key, following = jax.random.split(rng_key)
        if init_params is None:
            init_params = likely_parameters(self.model, key, model_args, model_kwargs or {})
        return super().init(following, num_warmup, init_params, model_args, model_kwargs)


def likely_parameters(model: Any, key: Array, args: tuple, kwargs: dict) -> dict[str, Array] | None:
    """The best of several prior draws of the latent sites that are not paths, on the unconstrained scale."""
    free: dict[str, Callable] = {}

    def draw(key: Array) -> tuple[dict[str, Array], Array]:
        values = {}
        for name, site in structure(model, args, kwargs, key).items():
            if site["type"] == "sample" and not site["is_observed"] and not name.endswith(HIDDEN):
                free[name] = biject_to(site["fn"].support).inv
                values[name] = site["value"]
        score = jnp.zeros(())
        for graph, _ in recorded_options(model, args, kwargs, values).values():
            if has_agent_path(graph):
                score = score + jnp.sum(condition(graph, **cheapest_options(graph)).log_evidence)
        return values, score

    drawn, scores = lax.map(draw, jax.random.split(key, _STARTS))
    best = jnp.argmax(never_if_nan(scores))
    return {name: free[name](values[best]) for name, values in drawn.items()} or None
