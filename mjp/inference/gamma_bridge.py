r"""Increments of a Gamma process on an edge, given their sum.

The increments have density proportional to $\prod_i \Delta_i^{\alpha_i - 1} e^{-\beta_i \Delta_i}$ on the
simplex $\sum \Delta_i = V$. Draws are those of a scaled Dirichlet law, $\Delta_i = V (G_i / r_i) / \sum_j G_j
/ r_j$ with $G_i \sim \mathrm{Gamma}(\alpha_i, 1)$, whose density is proportional to
$\prod \Delta_i^{\alpha_i - 1} / S^A$ with $S = \sum r_i \Delta_i$ and $A = \sum \alpha_i$. Rates
$r_i = \beta_i - \lambda$ are as good as $\beta_i$ on the simplex, and are centred, $\sum \alpha_i / r_i = V$.
The weight depends on the increments by $S^A e^{-S}$ alone: it is bounded, flat at its typical value
$S = A$, and constant where the rates are equal.
"""

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import gammaln, ndtr

from mjp.inference.gamma_quantile import log_gamma_quantile

_NEWTON = 12


def gamma_bridge(shapes: Array, rates: Array, total: Array, z: Array) -> tuple[Array, Array]:
    """Increments (n,) with a given sum, from standard normal z (n,).

    Args:
        shapes, rates: (n,) of the increments.

    Returns:
        the increments; and the log-density of all increments under the process, minus the log-density of
        their law here given the sum. Its exponential has mean p(total).
    """
    tilted = centred_rates(shapes, rates, total)
    log_terms = log_gamma_quantile(shapes, ndtr(z), ndtr(-z)) - jnp.log(tilted)
    top = lax.stop_gradient(jnp.max(log_terms))
    shares = jnp.exp(log_terms - top)
    increments = total * shares / jnp.sum(shares)
    whole = jnp.sum(shapes)
    centred = jnp.sum(tilted * increments)
    process = jnp.sum(shapes * jnp.log(rates)) - jnp.sum(rates * increments)
    here = gammaln(whole) + jnp.sum(shapes * jnp.log(tilted)) + jnp.log(total) - whole * jnp.log(centred)
    return increments, process - here


def centred_rates(shapes: Array, rates: Array, total: Array) -> Array:
    r"""Rates $\beta_i - \lambda > 0$ with $\sum \alpha_i / (\beta_i - \lambda) = V$.

    Newton's method on the reciprocal of the sum, which is concave in -λ, so that it converges from one
    side; the last step carries the derivative.
    """
    lowest = jnp.min(rates)
    apart = rates - lowest

    def residual(shift: Array) -> tuple[Array, Array]:
        mean = jnp.sum(shapes / (apart + shift))
        slope = jnp.sum(shapes / (apart + shift) ** 2) / mean**2
        return 1.0 / mean - 1.0 / total, slope

    def improve(_: int, shift: Array) -> Array:
        value, slope = residual(shift)
        return shift - value / slope

    # the increment of the lowest rate alone has less than the whole mean
    start = shapes[jnp.argmin(rates)] / total
    found = lax.stop_gradient(lax.fori_loop(0, _NEWTON, improve, start))
    value, slope = residual(found)
    return apart + found - value / lax.stop_gradient(slope)
