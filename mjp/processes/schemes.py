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
    _, offset, covariance = linear_transition(slope, drift(x), sigma @ sigma.T, at.duration, doublings=3)
    return x + offset, semidefinite_cholesky(covariance)


SCHEMES: dict[str, Callable[[Any, Array, Interval], tuple[Array, Array]]] = {
    "euler": euler,
    "local linearisation": local_linearisation,
}
