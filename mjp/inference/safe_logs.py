"""Logarithms of what may be impossible, with derivatives that are finite all the same."""

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp


def log_or_never(probabilities: Array) -> Array:
    """Logs of probabilities, with a derivative that is finite where they are zero."""
    positive = probabilities > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, probabilities, 1.0)), -jnp.inf)


def log_sum_or_never(logs: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Logs of sums of exponentials, with a derivative that is finite where all of a sum is impossible."""
    possible = jnp.any(logs > -jnp.inf, axis=axis, keepdims=True)
    total = logsumexp(jnp.where(possible, logs, 0.0), axis=axis)
    return jnp.where(jnp.reshape(possible, total.shape), total, -jnp.inf)


def never_if_nan(logs: Array) -> Array:
    """Logs with minus infinity for those that are no numbers, as of weights at states that are not finite."""
    return jnp.where(jnp.isnan(logs), -jnp.inf, logs)
