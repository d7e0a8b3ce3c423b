"""Draws from mixtures of normal laws as smooth functions of standard normal numbers."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import ndtr

from mjp._small_matrices import cholesky, dot, product, transpose

_PARTS, _ROUNDS, _NEWTON = 8, 3, 4


def mixture_quantile(weights: Array, means: Array, deviations: Array, z: Array) -> Array:
    r"""The quantiles at Φ(z) of mixtures of normal laws; smooth in all arguments.

    A quantile lies between the least and the largest of its components' quantiles. That interval is cut into
    eight parts, three times, all its points at once, and Newton steps follow. The derivative is implicit.

    Args:
        weights, means, deviations: (C, ...) of the components, weights summing to one; z: (...).

    Returns:
        (...) quantiles.
    """
    upper = z > 0
    tail = jnp.where(upper, ndtr(-z), ndtr(z))  # of the smaller side, which keeps its digits
    sign = jnp.where(upper, -1.0, 1.0).astype(means.dtype)

    def residual(x: Array, weights: Array, means: Array, deviations: Array, tail: Array) -> Array:
        """Increasing in x (...)."""
        return sign * (jnp.sum(weights * ndtr(sign * (x - means) / deviations), axis=0) - tail)

    def density(x: Array, weights: Array, means: Array, deviations: Array) -> Array:
        standard = (x - means) / deviations
        height = jnp.sum(weights * jnp.exp(-0.5 * standard**2) / deviations, axis=0)
        return height / jnp.sqrt(2.0 * jnp.pi)

    fixed = lax.stop_gradient((weights, means, deviations, tail))
    ends = lax.stop_gradient(means + deviations * z)
    low, width = jnp.min(ends, axis=0), jnp.max(ends, axis=0) - jnp.min(ends, axis=0)
    inner = jnp.arange(1.0, _PARTS, dtype=means.dtype).reshape(-1, *[1] * z.ndim)
    for _ in range(_ROUNDS):
        width = width / _PARTS
        below = jax.vmap(lambda x: residual(x, *fixed))(low + width * inner) < 0
        low = low + width * jnp.sum(below, axis=0)
    found = low + 0.5 * width
    tiny = jnp.finfo(means.dtype).tiny
    for _ in range(_NEWTON):
        slope = jnp.maximum(density(found, *fixed[:3]), tiny)
        found = jnp.clip(found - residual(found, *fixed) / slope, low, low + width)
    found = lax.stop_gradient(found)
    slope = jnp.maximum(lax.stop_gradient(density(found, *fixed[:3])), tiny)
    return found - residual(found, weights, means, deviations, tail) / slope


def mixture_draw(log_weights: Array, means: Array, loadings: Array, z: Array) -> Array:
    r"""Draws from mixtures of normal laws $N(m_c, A_c A_c')$, coordinate by coordinate.

    Each coordinate is the quantile of its law given those before it, again a mixture (Rosenblatt 1952, Ann.
    Math. Stat. 23:470).

    Args:
        log_weights: (C, ...), not normalised; means: (d, C, ...); loadings: A (d, d, C, ...), invertible;
            z: (d, ...).

    Returns:
        (d, ...) draws.
    """
    d = len(means)
    lower = jnp.abs(loadings) if d == 1 else cholesky(product(loadings, transpose(loadings)))
    drawn, standard = [], []
    for i in range(d):
        mean = means[i] + dot(lower[i, :i], jnp.stack(standard)) if i else means[i]
        weights = jax.nn.softmax(log_weights, axis=0)
        drawn.append(mixture_quantile(weights, mean, lower[i, i], z[i]))
        standard.append((drawn[i] - mean) / lower[i, i])
        log_weights = log_weights - 0.5 * standard[i] ** 2 - jnp.log(lower[i, i])
    return jnp.stack(drawn)
