"""Potentials on finite state spaces: non-negative vectors with a log-scale."""

import equinox as eqx
import jax.numpy as jnp
from jax import Array, lax


class Categorical(eqx.Module):
    r"""A potential $g(x) = \exp(s)\, v_x$ on K states.

    Attributes:
        values: (..., K) non-negative; kept near one so that neither float32 nor long products underflow.
        log_scale: (...) the log-scale s.
    """

    values: Array
    log_scale: Array

    @classmethod
    def from_log(cls, log_values: Array) -> "Categorical":
        """Potential exp(log_values), (..., K), with the largest value moved to the scale."""
        peak = jnp.max(log_values, axis=-1)
        # moving a constant between values and scale changes nothing, so it needs no derivative
        peak = lax.stop_gradient(jnp.where(jnp.isfinite(peak), peak, 0.0))
        return cls(jnp.exp(log_values - peak[..., None]), peak)

    @property
    def log_values(self) -> Array:
        """log g, (..., K)."""
        return jnp.log(self.values) + self.log_scale[..., None]

    def fuse(self, other: "Categorical") -> "Categorical":
        """Pointwise product of two potentials on the same node."""
        return Categorical(self.values * other.values, self.log_scale + other.log_scale)

    def normalise(self) -> "Categorical":
        """The same potential with values that sum to one (or are all zero)."""
        total = jnp.sum(self.values, axis=-1)
        positive = total > 0
        values = self.values / jnp.where(positive, total, 1.0)[..., None]
        return Categorical(values, self.log_scale + jnp.log(jnp.where(positive, total, 1.0)))
