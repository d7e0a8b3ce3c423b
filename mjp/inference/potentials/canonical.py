"""Gaussian potentials in canonical form, and their pullback without any inverse."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp._small_matrices import (
    cholesky,
    dot,
    identity,
    log_determinant,
    product,
    solve_lower,
    times,
    transpose,
)


class Gain(NamedTuple):
    r"""What a child's potential asks of a step $m + G z$, with $M = I + G'HG = LL'$.

    The guided step from a mean m is $m + G L^{-T}(u + z)$ with $u = a - A m$; the innovations stay
    standard normal, and u steers them.
    """

    loading: Array  # G L^{-T}, (d, r, ...)
    response: Array  # A = L^{-1} G'H, (r, d, ...)
    shift: Array  # a = L^{-1} G'F, (r, ...)
    log_determinant: Array  # log det L, (...)

    def steering(self, mean: Array) -> Array:
        """Shift u (r, ...) of the innovations of a step with the given mean (d, ...)."""
        return self.shift - times(self.response, mean)

    def move(self, mean: Array, z: Array) -> Array:
        """Guided steps (d, ...) from the mean (d, ...) with innovations z (r, ...)."""
        return mean + times(self.loading, self.steering(mean) + z)


class Canonical(eqx.Module):
    r"""Potentials $\log g(x) = c + F'x - \tfrac12 x'Hx$; H may be singular, zero for an unobserved state.

    Attributes:
        constant: c (...); linear: F (d, ...); precision: H (d, d, ...), symmetric and positive
            semi-definite. The batch comes last, see `mjp._small_matrices`.
    """

    constant: Array
    linear: Array
    precision: Array

    @classmethod
    def unit(cls, shape: tuple[int, ...], dim: int, dtype: jnp.dtype) -> "Canonical":
        """The potential that is one everywhere, in a batch of the given shape."""
        zeros = lambda *more: jnp.zeros((*more, *shape), dtype)
        return cls(zeros(), zeros(dim), zeros(dim, dim))

    def units(self, shape: tuple[int, ...]) -> "Canonical":
        """Potentials like these that are one everywhere."""
        return Canonical.unit(shape, len(self.linear), self.linear.dtype)

    def with_constant(self, constant: Array) -> "Canonical":
        """These potentials with another constant."""
        return Canonical(constant, self.linear, self.precision)

    def log_value(self, x: Array) -> Array:
        """log g at states (d, ...)."""
        return self.constant + dot(self.linear - 0.5 * times(self.precision, x), x)

    def fuse(self, other: "Canonical") -> "Canonical":
        """The product of two potentials: their entries add up."""
        return jax.tree.map(jnp.add, self, other)

    def gain(self, factor: Array) -> Gain:
        """The gain of steps with noise factor G (d, r, ...) towards these potentials of their ends."""
        across = transpose(factor)
        towards = product(across, self.precision)
        lower = cholesky(identity(factor.shape[1], factor) + product(towards, factor))
        right = jnp.concatenate([towards, times(across, self.linear)[:, None]], axis=1)
        solved = solve_lower(lower, right)
        loading = transpose(solve_lower(lower, across))
        return Gain(loading, solved[:, :-1], solved[:, -1], log_determinant(lower))

    def log_pulled(self, gain: Gain, mean: Array) -> Array:
        r"""$\log (\kappa g)$ for a Gaussian step with the given mean (d, ...).

        $\log g(m) + \tfrac12 |u|^2 - \log\det L$, which is
        $c - \tfrac12 \log\det(I + HQ) + \tfrac12 F'QWF + (WF)'m - \tfrac12 m'WHm$ with
        $W = (I + HQ)^{-1}$ (van der Meulen & Sommer 2025, Theorem 14), without forming an inverse.
        """
        steering = gain.steering(mean)
        return self.log_value(mean) + 0.5 * dot(steering, steering) - gain.log_determinant

    def pull_back(self, gain: Gain, matrix: Array, offset: Array) -> "Canonical":
        r"""Potential $\kappa g$ of the parent, for a step with mean $\Phi x + \beta$ and the gain's noise.

        Args:
            matrix: Φ (d, d, ...); offset: β (d, ...).
        """
        across = transpose(gain.response)
        precision = self.precision - product(across, gain.response)
        linear = self.linear - times(across, gain.shift)
        towards = linear - times(precision, offset)
        constant = (
            self.constant
            - gain.log_determinant
            + 0.5 * dot(gain.shift, gain.shift)
            + 0.5 * dot(linear + towards, offset)
        )
        back = transpose(matrix)
        return Canonical(constant, times(back, towards), product(back, product(precision, matrix)))

    def log_ratio(self, gain: Gain, mean: Array, other: Gain, other_mean: Array) -> Array:
        r"""$\log (\kappa g)$ of one step less that of another one.

        Written as a difference of equal terms, so that it is zero, and not only small, where both agree,
        whatever the size of the potential. The same object for both gains says that the noise is the same.
        """
        error = mean - other_mean
        weight = dot(error, self.linear - 0.5 * times(self.precision, mean + other_mean))
        steered = other.steering(other_mean)
        if gain is other:
            change = -times(other.response, error)
            return weight + 0.5 * dot(change, 2 * steered + change)
        steering = gain.steering(mean)
        weight = weight + 0.5 * dot(steering, steering) - 0.5 * dot(steered, steered)
        return weight + other.log_determinant - gain.log_determinant
