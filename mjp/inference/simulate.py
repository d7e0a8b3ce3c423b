"""Prior draws of a graph, observations included."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp._checks import is_concrete
from mjp.graph import Graph, Observations
from mjp.inference.condition import condition
from mjp.inference.path_sweeps import draw
from mjp.observations import Exactly, Misclassified
from mjp.trajectory import Trajectory


def simulate(graph: Graph, key: Array, **options: Any) -> Trajectory:
    """Draw states, paths and observations forward, whatever values the observations have.

    Roots with a known value keep it (the first states of a panel without `initial`, say). A state seen
    exactly is simulated as a snapshot at the node's time.

    Args:
        graph: a declared graph. options: as for `mjp.condition`.

    Returns:
        a trajectory whose `observations` hold, for each batch of observations, the values (n, ...):
        positions of states or outcomes for `Exactly` and `Misclassified`, else draws of the likelihood.

    Raises:
        ValueError: a path that leaves the finite numbers, with the time and the node that follows.
    """
    path_key, observation_key = jax.random.split(key)
    prior = condition(graph, observed=False, **options)
    trajectory, _ = prior.sample(path_key)
    if is_concrete(trajectory.values) and (trouble := prior.trouble(trajectory)):
        raise ValueError(f"the simulated path is not finite from {trouble}")
    values = observations_of(graph, trajectory.values, observation_key)
    return eqx.tree_at(
        lambda t: t.observations, trajectory, values, is_leaf=lambda leaf: isinstance(leaf, tuple)
    )


def observations_of(graph: Graph, states: Array, key: Array) -> tuple[Array, ...]:
    """Draw observations of states (n_nodes, ...), one array per batch of observations."""
    keys = jax.random.split(key, max(len(graph.observations), 1))
    return tuple(
        _observe(observed, states[observed.nodes], k)
        for observed, k in zip(graph.observations, keys, strict=False)
    )


def _observe(observed: Observations, states: Array, key: Array) -> Array:
    likelihood = observed.likelihood
    if isinstance(likelihood, Exactly):
        return states
    if isinstance(likelihood, Misclassified):
        uniform = jax.random.uniform(key, states.shape, likelihood.matrix.dtype)
        return draw(likelihood.matrix[states], uniform)
    keys = jax.random.split(key, states.shape[0])
    return jax.vmap(lambda state, k: jnp.asarray(likelihood(state).sample(k)))(states, keys)
