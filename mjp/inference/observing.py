"""Draws of observations given the states."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mjp.graph import Graph, Observations
from mjp.inference.path_sweeps import draw
from mjp.likelihood_covariates import at_covariates
from mjp.observations import EachAgent, Exactly, LocalEmissions, Misclassified


def observations_of(graph: Graph, states: Array, key: Array) -> tuple[Array, ...]:
    """Draw observations of states (n_nodes, ...), one array per batch of observations."""
    keys = jax.random.split(key, max(len(graph.observations), 1))
    return tuple(
        _observe(graph, observed, states[observed.nodes], k)
        for observed, k in zip(graph.observations, keys, strict=False)
    )


def _observe(graph: Graph, observed: Observations, states: Array, key: Array) -> Array:
    likelihood = observed.likelihood
    if isinstance(likelihood, Exactly):
        return states
    if isinstance(likelihood, Misclassified):
        uniform = jax.random.uniform(key, states.shape, likelihood.matrix.dtype)
        return draw(likelihood.matrix[states], uniform)
    if isinstance(likelihood, EachAgent):
        shape = states.shape
        keys = jax.random.split(key, states.size)
        one = lambda state, k: jnp.asarray(likelihood.likelihood(state).sample(k))
        return jax.vmap(one)(states.reshape(-1), keys).reshape(shape)
    if isinstance(likelihood, LocalEmissions):
        scopes, n = likelihood.scopes, len(likelihood.scopes)
        keys = jax.random.split(key, (states.shape[0], n))
        one = lambda own, scope, k: jnp.asarray(likelihood.law(own, scope).sample(k))
        return jax.vmap(jax.vmap(one), in_axes=(0, None, 0))(states[:, scopes], jnp.arange(n), keys)
    keys = jax.random.split(key, states.shape[0])
    view = graph.edges[0].process.view

    def through(state: Array, own: Any, k: Array) -> Array:
        return jnp.asarray(at_covariates(likelihood, own)(view(state)).sample(k))

    return jax.vmap(through)(states, observed.covariates, keys)
