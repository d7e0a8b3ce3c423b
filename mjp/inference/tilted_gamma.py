r"""Draws of a Gamma law that is tilted by a bounded function, as a smooth function of one normal number.

The tilt h, a function of the value, is interpolated linearly over the distribution function of the Gamma
law between the values of given nodes. Draws are those of the interpolated law, whose density is known, so
that weights correct what the interpolation misses; a tilt that is constant is met exactly.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import gammainc, ndtr

from mjp.inference.gamma_quantile import log_gamma_quantile

_FLOOR = 1e-9  # of the tilt, relative to its largest value: the law reaches wherever the Gamma law does
NODES = 32


def tilted_gamma(
    shape: Array, rate: Array, log_tilt: Callable[[Array], Array], nodes: Array, z: Array
) -> tuple[Array, Array]:
    """A value of the tilted law, and the log of its density over that of Gamma(shape, rate).

    Args:
        log_tilt: from a value >= 0 to log h; constant beyond the last node.
        nodes: (K,) increasing values >= 0 between which h is interpolated.
        z: a standard normal number.
    """
    scaled = rate * nodes
    # at zero, at the nodes, and at infinity
    positive = scaled > 0  # at zero the derivative by the shape is not a number
    inner = jnp.where(positive, gammainc(shape, jnp.where(positive, scaled, 1.0)), 0.0)
    lower = jnp.concatenate([jnp.zeros(1), inner, jnp.ones(1)])
    heights = log_tilt(jnp.append(jnp.zeros(1), nodes))
    heights = jnp.exp(heights - lax.stop_gradient(jnp.max(heights))) + _FLOOR
    heights = jnp.append(heights, heights[-1])
    width = jnp.diff(lower)
    mass = 0.5 * (heights[1:] + heights[:-1]) * width
    below = jnp.concatenate([jnp.zeros(1), jnp.cumsum(mass)])
    total = below[-1]
    cell = jnp.clip(jnp.searchsorted(below, ndtr(z) * total, side="right") - 1, 0, len(mass) - 1)
    low, high = heights[cell], heights[cell + 1]
    # from the nearer end, so that neither tail loses digits
    left = z < 0
    above = jnp.append(jnp.cumsum(mass[::-1])[::-1], 0.0)
    empty = width[cell] <= 0
    wide = jnp.where(empty, 1.0, width[cell])
    rest = jnp.where(left, ndtr(z) * total - below[cell], ndtr(-z) * total - above[cell + 1])
    share = jnp.clip(rest / wide, 0.0, mass[cell] / wide)
    near, far = jnp.where(left, low, high), jnp.where(left, high, low)
    part = 2.0 * share / (near + jnp.sqrt(near**2 + 2.0 * (far - near) * share))
    part = jnp.where(empty, 0.0, part)
    beside = jnp.where(left, lower[cell], 1.0 - lower[cell + 1]) + part * width[cell]
    p, q = jnp.where(left, beside, 1.0 - beside), jnp.where(left, 1.0 - beside, beside)
    value = jnp.exp(log_gamma_quantile(shape, p, q)) / rate
    return value, jnp.log(near + (far - near) * part) - jnp.log(total)
