"""One step of a diffusion as a Gaussian law given the state at its start."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from mjp._small_matrices import semidefinite_cholesky
from mjp.processes.gaussian import Interval
from mjp.processes.linear_transition import linear_transition


class Coefficients(Protocol):
    """What a scheme needs of a diffusion."""

    def drift(self, time: Any, x: Array, covariates: Any) -> Array: ...

    def dispersion(self, time: Any, x: Array, covariates: Any) -> Array: ...


def euler(process: Coefficients, x: Array, at: Interval) -> tuple[Array, Array]:
    """Euler–Maruyama: mean x + b dt, factor σ sqrt(dt) (Kloeden & Platen 1992, §10.2)."""
    drift = process.drift(at.time, x, at.covariates)
    sigma = process.dispersion(at.time, x, at.covariates)
    return x + drift * at.duration, sigma * jnp.sqrt(at.duration)


def local_linearisation(process: Coefficients, x: Array, at: Interval) -> tuple[Array, Array]:
    """The exact transition of the diffusion with its drift linearised, and its dispersion frozen, at x.

    Strong order 1.5 for additive noise; the covariance reaches the coordinates without noise of their
    own (Ozaki 1992; Biscay, Jimenez, Riera & Valdes 1996).
    """
    drift = lambda x: process.drift(at.time, x, at.covariates)
    slope = jax.jacfwd(drift)(x)
    sigma = process.dispersion(at.time, x, at.covariates)
    if x.shape == (1,):
        # in closed form, which holds for slopes of any size: near a bound they grow without limit
        along = slope[0] * at.duration
        factor = sigma * jnp.sqrt(at.duration * _mean_growth(2 * along))
        return x + drift(x) * at.duration * _mean_growth(along), factor
    _, offset, covariance = linear_transition(slope, drift(x), sigma @ sigma.T, at.duration, doublings=3)
    return x + offset, semidefinite_cholesky(covariance)


def _mean_growth(z: Array) -> Array:
    """(exp(z) - 1) / z, the mean of exp(z u) over u in (0, 1), smooth at 0."""
    small = jnp.abs(z) < 1e-4
    safe = jnp.where(small, 1.0, z)
    return jnp.where(small, 1.0 + z / 2.0 + z**2 / 6.0, jnp.expm1(safe) / safe)


SCHEMES: dict[str, Callable[[Any, Array, Interval], tuple[Array, Array]]] = {
    "euler": euler,
    "local linearisation": local_linearisation,
}
