"""Quantiles of the Gamma law on the log scale, differentiable in probability and shape."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import digamma, gammainc, gammaincc, gammaln, ndtri

_NEWTON = 5  # enough for nine digits
_SMALL = -36.0  # log x below which the incomplete gamma function is its first term, in float64 too


@jax.custom_jvp
def log_gamma_quantile(shape: Array, lower: Array, upper: Array) -> Array:
    r"""log x with $P(X \le x) = $ `lower` and $P(X > x) = $ `upper`, for $X \sim \mathrm{Gamma}(shape, 1)$.

    Both tails are given so that neither loses digits; the smaller one counts. On the log scale, since
    quantiles of small shapes lie far below the smallest positive number.

    Newton's method on the log of the smaller tail, from the approximation of Wilson & Hilferty (1931), the
    first term of the series or, far out, the exponential tail. Derivatives are implicit: with F the
    distribution function and f the density, dx = (dp - ∂F/∂shape dshape) / f.
    """
    shape, lower, upper = jnp.broadcast_arrays(shape, lower, upper)
    below = lower <= upper
    tail = jnp.log(jnp.where(below, lower, upper))
    normal = jnp.where(below, ndtri(lower), -ndtri(upper))
    cube = 1.0 - 1.0 / (9.0 * shape) + normal / (3.0 * jnp.sqrt(shape))
    hilferty = jnp.log(shape) + 3.0 * jnp.log(jnp.maximum(cube, 1e-3))
    series = (jnp.log(lower) + gammaln(shape + 1.0)) / shape
    # P(X > x) is about shape exp(-x) far out, for small shapes
    far = jnp.log(jnp.maximum(-jnp.log(upper / shape), 0.3))
    start = jnp.where((cube > 0.3) & (shape > 0.3), hilferty, jnp.where(series < -1.0, series, far))
    start = jnp.where(series < -3.0, series, start)

    def improve(_: int, log_x: Array) -> Array:
        level, slope = _log_tail(shape, log_x, below)
        step = (level - tail) / slope
        return log_x - jnp.clip(jnp.where(jnp.isfinite(step), step, 0.0), -2.0, 2.0)

    found = lax.fori_loop(0, _NEWTON, improve, start)
    return jnp.where(series < _SMALL, series, found)


def _log_tail(shape: Array, log_x: Array, below: Array) -> tuple[Array, Array]:
    """Log of the tail asked for, and its derivative by log x."""
    x = jnp.exp(log_x)
    tail = jnp.where(below, gammainc(shape, x), gammaincc(shape, x))
    log_tail = jnp.log(tail)
    slope = jnp.exp(_log_density(shape, log_x) - log_tail)
    return log_tail, jnp.where(below, slope, -slope)


def _log_density(shape: Array, log_x: Array) -> Array:
    """Log-density of log X."""
    return shape * log_x - jnp.exp(log_x) - gammaln(shape)


@log_gamma_quantile.defjvp
def _derivative(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    shape, lower, upper = jnp.broadcast_arrays(*primals)
    shape_dot, lower_dot, upper_dot = tangents
    log_x = log_gamma_quantile(shape, lower, upper)
    density = jnp.exp(_log_density(shape, log_x))
    small = log_x < _SMALL
    x = jnp.exp(jnp.where(small, 0.0, log_x))
    at_x: Any = lax.random_gamma_grad
    by_shape = jnp.where(small, (digamma(shape + 1.0) - log_x) / shape, at_x(shape, x) / x)
    by_probability = jnp.where(lower <= upper, lower_dot, -upper_dot) / density
    return log_x, by_shape * shape_dot + by_probability
