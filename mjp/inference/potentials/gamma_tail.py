r"""Potentials of increasing processes: a Gamma tail towards a bound, times a Gaussian."""

import equinox as eqx
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln

_LEAST = 1e-7  # of the distance to a bound, relative to its size


def at_least(distance: Array, x: Array) -> Array:
    """A distance from x that rounding has not made zero."""
    return jnp.maximum(distance, _LEAST * (jnp.abs(x) + 1e-3))


def log_gamma_density(x: Array, shape: Array, rate: Array) -> Array:
    """Log-density of Gamma(shape, rate) at x > 0; minus infinity at other x."""
    positive = x > 0
    safe = jnp.where(positive, x, 1.0)
    value = shape * jnp.log(rate) - gammaln(shape) + (shape - 1.0) * jnp.log(safe) - rate * safe
    return jnp.where(positive, value, -jnp.inf)


class GammaTail(eqx.Module):
    r"""$\log g(x) = c + Fx - \tfrac12 H x^2 + \log \mathrm{Gamma}(U - x; A, B)$, zero beyond the bound U.

    The bound is the next value below that is known; without one it is infinite, and its factor is one. The
    tail is kept by the mean and variance of what is left to go, $m = A / B$ and $v = A / B^2$, which add up
    over edges; the Gaussian is what noisy observations say. All arrays have the same batch shape.
    """

    constant: Array
    linear: Array
    precision: Array
    bound: Array
    mean: Array
    variance: Array

    @classmethod
    def gaussian(cls, constant: Array, linear: Array, precision: Array) -> "GammaTail":
        """A potential without a bound."""
        one = jnp.ones_like(constant)
        return cls(constant, linear, precision, jnp.inf * one, one, one)

    @property
    def bounded(self) -> Array:
        return jnp.isfinite(self.bound)

    @property
    def tail(self) -> tuple[Array, Array]:
        """Shape A and rate B of the tail; one where there is no bound."""
        return self.mean**2 / self.variance, self.mean / self.variance

    def distance(self, x: Array) -> Array:
        """What is left up to the bound; one where there is none."""
        return at_least(jnp.where(self.bounded, self.bound, x + 1.0) - x, x)

    def log_value(self, x: Array) -> Array:
        """log g at states x < U."""
        return self.constant + (self.linear - 0.5 * self.precision * x) * x + self.log_tail(x)

    def log_tail(self, x: Array, *, inside: bool = False) -> Array:
        """Log of the tail; with `inside`, states that rounding took to the bound are a little below it."""
        shape, rate = self.tail
        left = self.distance(x) if inside else jnp.where(self.bounded, self.bound, x + 1.0) - x
        return jnp.where(self.bounded, log_gamma_density(left, shape, rate), 0.0)

    def pull_back(self, shape: Array, rate: Array, anchor: Array) -> "GammaTail":
        r"""The potential at the start of an increment Gamma(a, b), with moments matched.

        Means and variances of what is left add up, which is exact where all rates are equal (the tail then
        has shape A + a). Given the bound, the increment is a share of what is left, with mean
        $\rho = m / (m + m_U)$ and the variance of a Beta law at the distance from the anchor; without one it
        has mean m and variance v. The Gaussian is pulled back through these moments.
        """
        mean, variance = shape / rate, shape / rate**2
        ahead, _ = self.tail
        share = jnp.where(self.bounded, mean / (mean + self.mean), 0.0)
        left = self.distance(anchor)
        spread = jnp.where(self.bounded, share * (1.0 - share) * left**2 / (shape + ahead + 1.0), variance)
        shift = jnp.where(self.bounded, share * jnp.where(self.bounded, self.bound, 0.0), mean)
        scale = 1.0 + spread * self.precision
        precision, linear = self.precision / scale, self.linear / scale
        constant = self.constant - 0.5 * jnp.log(scale) + 0.5 * spread * self.linear**2 / scale
        constant = constant + (linear - 0.5 * precision * shift) * shift
        slope = 1.0 - share
        return GammaTail(
            constant,
            slope * (linear - precision * shift),
            slope**2 * precision,
            self.bound,
            self.mean + jnp.where(self.bounded, mean, 0.0),
            self.variance + jnp.where(self.bounded, variance, 0.0),
        )

    def fuse(self, other: "GammaTail", anchor: Array) -> "GammaTail":
        """The product; of two bounds the lower one stays, and the tail of the other is expanded.

        Args:
            anchor: below both bounds, where the tail is replaced by its second-order expansion, with the
                curvature made positive.
        """
        swap = other.bound < self.bound
        pick = lambda a, b: jnp.where(swap, b, a)
        near = GammaTail(*(pick(a, b) for a, b in zip(_parts(self), _parts(other), strict=True)))
        far = GammaTail(*(pick(b, a) for a, b in zip(_parts(self), _parts(other), strict=True)))
        shape, rate = far.tail
        at = jnp.minimum(anchor, jnp.where(near.bounded, near.bound, anchor))
        left = far.distance(at)
        slope = jnp.where(far.bounded, rate - (shape - 1.0) / left, 0.0)
        curvature = jnp.where(far.bounded, jnp.maximum(shape - 1.0, 0.0) / left**2, 0.0)
        linear = slope + curvature * at
        constant = far.log_tail(at, inside=True) - 0.5 * (linear + slope) * at
        return GammaTail(
            near.constant + far.constant + constant,
            near.linear + far.linear + linear,
            near.precision + far.precision + curvature,
            near.bound,
            near.mean,
            near.variance,
        )


def _parts(p: GammaTail) -> tuple[Array, ...]:
    return p.constant, p.linear, p.precision, p.bound, p.mean, p.variance
