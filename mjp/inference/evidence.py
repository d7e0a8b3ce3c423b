"""Unbiased estimates of the evidence by importance sampling with the guided process."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp

from mjp.graph import Graph
from mjp.inference.condition import Guided, condition

_BATCH = 1000  # particles drawn side by side


class Evidence(NamedTuple):
    """An estimate of the evidence; exp(log_evidence) is unbiased.

    Attributes:
        log_evidence: in the batch shape of the graph.
        standard_error: of the log, by the delta method.
        ess: effective number of particles, of those drawn.
        khat: shape of the Pareto tail of the weights; above 0.7 the estimate is not to be trusted.
    """

    log_evidence: Array
    standard_error: Array
    ess: Array
    khat: np.ndarray


def evidence(graph: Graph, key: Array, particles: int) -> Evidence:
    """Estimate p(data) = exp(log_evidence) E[exp(log_weight)] with independent guided draws.

    An exactly conditioned graph needs no draws: its standard error is zero, its effective sample size
    is `particles` and its tail shape minus infinity.

    Raises:
        ValueError: fewer than two particles.
    """
    if particles < 2:
        raise ValueError(f"particles must be at least 2, got {particles}")
    return estimate(condition(graph), key, particles)


def estimate(guided: Guided, key: Array, particles: int) -> Evidence:
    """The evidence of a graph that is conditioned already; see `evidence`."""
    zero = jnp.zeros_like(guided.log_evidence)
    if guided.exact:
        return Evidence(guided.log_evidence, zero, zero + particles, np.full(zero.shape, -np.inf))
    log_weights = _log_weights(guided, jax.random.split(key, particles))
    total = logsumexp(log_weights, axis=0)
    shares = jnp.exp(log_weights - total)
    ess = 1.0 / jnp.sum(shares**2, axis=0)
    error = jnp.sqrt(jnp.maximum(1.0 / ess - 1.0 / particles, 0.0))
    log_evidence = guided.log_evidence + total - jnp.log(particles)
    return Evidence(log_evidence, error, ess, _tail_shape(np.asarray(log_weights)))


@eqx.filter_jit
def _log_weights(guided: Guided, keys: Array) -> Array:
    """Log-weights of one guided draw per key, a bounded number side by side."""
    return jax.lax.map(lambda key: guided.sample(key)[1], keys, batch_size=_BATCH)


def _tail_shape(log_weights: np.ndarray) -> np.ndarray:
    from arviz_stats.base.array import array_stats

    flat = log_weights.reshape(len(log_weights), -1)
    # weights that are all the same have no tail
    shapes = [
        float(array_stats.psislw(column, axis=-1)[1]) if np.ptp(column) > 1e-12 else -np.inf
        for column in flat.T
    ]
    return np.asarray(shapes).reshape(log_weights.shape[1:])
