"""Log-probabilities that a count goes from x to v in a time t, of processes that have them in closed form.

Those that are sums have 256 terms, and are NaN where both counts are larger; a guide does not steer there.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln, logsumexp

_TERMS = 256  # of finite sums over offspring


def _log_binomial(n: Any, k: Any) -> Array:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _times_log(a: Any, log_b: Any) -> Array:
    """a log b with 0 log 0 = 0."""
    return jnp.where(a == 0, 0.0, a * log_b)


def pure_death(rate: Any) -> Callable[[Any, Any, Any], Array]:
    """Each individual dies at a rate: v is binomial (x, exp(-rate t))."""

    def log_probability(x: Any, v: Any, t: Any) -> Array:
        stays = -rate * t
        possible = (v >= 0) & (v <= x)
        v = jnp.where(possible, v, x)
        value = _log_binomial(x, v) + v * stays + _times_log(x - v, jnp.log(-jnp.expm1(stays)))
        return jnp.where(possible, value, -jnp.inf)

    return log_probability


def poisson(rate: Any) -> Callable[[Any, Any, Any], Array]:
    """Events at a constant rate: v - x is Poisson."""

    def log_probability(x: Any, v: Any, t: Any) -> Array:
        n = v - x
        possible = n >= 0
        n = jnp.where(possible, n, 0.0)
        return jnp.where(possible, _times_log(n, jnp.log(rate * t)) - rate * t - gammaln(n + 1.0), -jnp.inf)

    return log_probability


def immigration_death(immigration: Any, death: Any) -> Callable[[Any, Any, Any], Array]:
    """Arrivals at a rate, each individual leaves at a rate (M/M/∞): a binomial plus a Poisson count."""

    def log_probability(x: Any, v: Any, t: Any) -> Array:
        mean = -immigration * jnp.expm1(-death * t) / death
        stay = jnp.arange(float(_TERMS))
        possible = (stay <= x) & (stay <= v)
        kept = jnp.where(possible, stay, 0.0)
        new = jnp.where(possible, v - stay, 0.0)
        terms = (
            _log_binomial(x, kept)
            - kept * death * t
            + _times_log(x - kept, jnp.log(-jnp.expm1(-death * t)))
            + _times_log(new, jnp.log(mean))
            - mean
            - gammaln(new + 1.0)
        )
        return jnp.where(jnp.minimum(x, v) < _TERMS, logsumexp(jnp.where(possible, terms, -jnp.inf)), jnp.nan)

    return log_probability


def birth_death(birth: Any, death: Any) -> Callable[[Any, Any, Any], Array]:
    """Each individual splits and dies at rates (Bailey 1964, §8.6), by a sum over those with offspring."""

    def log_probability(x: Any, v: Any, t: Any) -> Array:
        growth = jnp.expm1((birth - death) * t)
        same = jnp.abs(birth - death) < 1e-9
        divisor = jnp.where(same, 1.0, birth * (growth + 1.0) - death)
        lost = jnp.where(same, birth * t / (1 + birth * t), death * growth / divisor)
        more = jnp.where(same, birth * t / (1 + birth * t), birth * growth / divisor)
        lines = jnp.arange(float(_TERMS))  # with living descendants
        possible = (lines <= x) & (lines <= v) & ((lines > 0) | (v == 0))
        kept = jnp.where(possible, lines, 0.0)
        spread = jnp.where(kept > 0, _log_binomial(v - 1.0, jnp.maximum(kept - 1.0, 0.0)), 0.0)
        terms = (
            _log_binomial(x, kept)
            + _times_log(x - kept, jnp.log(lost))
            + _times_log(kept, jnp.log1p(-lost) + jnp.log1p(-more))
            + spread
            + _times_log(v - kept, jnp.log(more))
        )
        return jnp.where(jnp.minimum(x, v) < _TERMS, logsumexp(jnp.where(possible, terms, -jnp.inf)), jnp.nan)

    return log_probability
