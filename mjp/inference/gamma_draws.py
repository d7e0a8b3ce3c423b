"""Guided increments between the nodes of a graph of Gamma processes, with the ratios that weigh them."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln, ndtr

from mjp.inference.gamma_quantile import log_gamma_quantile
from mjp.inference.potentials.gamma_tail import GammaTail
from mjp.inference.tilted_gamma import NODES, tilted_gamma

_RELATIVE = 0.05  # least rate of a proposal, relative to that of the process


def unguided_increment(shape: Array, rate: Array, z: Array) -> tuple[Array, Array]:
    """An increment of the process itself; the log-ratio of its density to that of its draw is zero."""
    drawn = jnp.exp(log_gamma_quantile(shape, ndtr(z), ndtr(-z))) / rate
    return drawn, jnp.zeros_like(drawn)


def free_increment(
    x: Array, shape: Array, rate: Array, linear: Array, precision: Array, z: Array
) -> tuple[Array, Array]:
    r"""An increment towards a potential $F x - H x^2 / 2$ of its end, from x.

    The target $\Delta^{a-1} e^{-c\Delta - H\Delta^2/2}$, with $c = b - F + Hx$, is the Gamma law with shape a
    and mode (on the log scale) at that of the target, tilted by a Gaussian bump around it.

    Returns:
        the increment Δ, and log of Gamma(Δ; a, b) over the density of its draw.
    """
    slope = rate - linear + precision * x
    root = jnp.sqrt(slope**2 + 4.0 * shape * precision + jnp.finfo(slope.dtype).tiny)
    steep = 2.0 * shape * precision / jnp.where(slope < 0, root - slope, 1.0)
    own = jnp.where(slope < 0, steep, 0.5 * (slope + root))
    own = jnp.where(precision > 0, own, slope)
    own = jnp.maximum(own, _RELATIVE * rate)
    mode = shape / own
    width = 1.0 / jnp.sqrt(precision + 0.04 / (mode / own))
    nodes = jnp.maximum(mode + width * np.linspace(-6.0, 6.0, NODES), 0.0)
    log_tilt = lambda d: (own - slope) * d - 0.5 * precision * d**2
    drawn, excess = tilted_gamma(shape, own, log_tilt, nodes, z)
    return drawn, shape * jnp.log(rate / own) - (rate - own) * drawn - excess


def bounded_increment(
    x: Array, shape: Array, rate: Array, ahead: GammaTail, z: Array, other: Array
) -> tuple[Array, Array]:
    r"""An increment towards a potential with a bound, from x.

    The share u of the distance V to the bound has a Beta law, tilted by what differs in rates and by the
    Gaussian. With a second Gamma variable γ of shape A', $u / (1 - u)$ is Gamma(a, γ) given γ, which is
    tilted as above; the target is extended by the law of γ given u.

    Args:
        z, other: standard normal numbers for the increment and for γ.

    Returns:
        the increment Δ, and log of Gamma(Δ; a, b) times the tail after it, over the density of its draw.
    """
    left = ahead.distance(x)
    tail, tail_rate = ahead.tail
    against = (rate - tail_rate) * left
    pull, precision = (ahead.linear - ahead.precision * x) * left, ahead.precision * left**2
    front, back = shape + jnp.maximum(-against, 0.0), tail + jnp.maximum(against, 0.0)
    share = front / (front + back)
    spread = share * (1.0 - share) / (front + back + 1.0)
    certainty = 1.0 / spread + precision
    centre = share + (pull - precision * share) / certainty
    centre = jnp.clip(centre, 0.02 * share, 1.0 - 0.02 * (1.0 - share))
    own = jnp.minimum(tail, shape * (1.0 - centre) / centre)  # no larger, which bounds the weight
    gamma = jnp.exp(log_gamma_quantile(own, ndtr(other), ndtr(-other)))
    width = jnp.minimum(1.0 / (jnp.sqrt(certainty) * centre * (1.0 - centre)), 1.5)
    nodes = jnp.exp(jnp.log(centre / (1.0 - centre)) + width * np.linspace(-5.0, 5.0, NODES))

    def log_tilt(odds: Array) -> Array:
        u = odds / (1.0 + odds)
        return (pull - against) * u - 0.5 * precision * u**2 - (tail - own) * jnp.log1p(odds)

    odds, excess = tilted_gamma(shape, gamma, log_tilt, nodes, z)
    drawn = left * odds / (1.0 + odds)
    process = shape * jnp.log(rate * left) - rate * drawn + gammaln(own) - gammaln(shape + own)
    after = (
        tail * jnp.log(tail_rate) - gammaln(tail) + (tail - 1.0) * jnp.log(left) - tail_rate * (left - drawn)
    )
    return drawn, process + after + (own - tail) * jnp.log1p(odds) - excess
