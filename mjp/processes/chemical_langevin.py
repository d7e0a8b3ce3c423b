"""The chemical Langevin equation of a reaction network."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp._small_matrices import semidefinite_cholesky
from mjp.processes.gaussian import GaussianProcess, Interval
from mjp.processes.linear_transition import linear_transition
from mjp.processes.reaction_network import ReactionNetwork

OPENS = "opens"  # covariate: the time at which counters begin anew, NaN where they do not
_LEAST_RATE = 1e-3  # of a reaction, so that no direction that reactions move in is without noise


class ChemicalLangevin(GaussianProcess):
    r"""The diffusion $dX = S'\lambda(X) dt + S'\operatorname{diag}(\lambda(X))^{1/2} dW$.

    Its drift and covariance are those of the network in the same state (Gillespie 2000, J. Chem. Phys.
    113:297); counts become real numbers, and propensities below zero are taken as zero. A step is the
    exact transition of the equation linearised at its start. Linearised along a path it is the linear noise
    approximation, which is how it guides the network itself.

    Args:
        network: the reaction network. Its counters begin anew with the steps that start at the time that the
            covariate `OPENS` tells.
    """

    network: ReactionNetwork
    dim: int = eqx.field(static=True)
    noise_dim: int = eqx.field(static=True)
    linear: bool = eqx.field(static=True, default=False, init=False)
    constant_noise: bool = eqx.field(static=True, default=False, init=False)
    continuous: bool = eqx.field(static=True, default=True, init=False)

    def __init__(self, network: ReactionNetwork):
        if not isinstance(network, ReactionNetwork):
            raise TypeError(f"network must be a mjp.ReactionNetwork, got {type(network).__name__}")
        self.network = network
        self.dim = self.noise_dim = network.n_species

    def rates(self, time: Array, x: Array) -> Array:
        """Propensities (L,) in a state of real numbers (d,)."""
        return jnp.maximum(self.network.propensities(time, jnp.maximum(x, 0.0)), 0.0)

    def linear_transition(self, x: Array, at: Interval) -> tuple[Array, Array, Array]:
        """Matrix, offset and covariance of the equation's exact transition where linearised at x (d,)."""
        begins = self._begins(at)
        x = jnp.where(begins, 0.0, x)
        change = jnp.asarray(self.network.stoichiometry.astype(float))
        drift = lambda x: self.rates(at.time, x) @ change
        slope = jax.jacfwd(drift)(x)
        spread = change.T @ (jnp.maximum(self.rates(at.time, x), _LEAST_RATE)[:, None] * change)
        rest = drift(x) - slope @ x
        matrix, offset, covariance = linear_transition(slope, rest, spread, at.duration, doublings=4)
        return jnp.where(begins, 0.0, matrix), offset, covariance

    def _begins(self, at: Interval) -> Array:
        """Which coordinates begin anew with a step, (d,)."""
        if not self.network.counters:
            return jnp.zeros(self.dim, bool)
        return (at.time == at.covariates[OPENS]) & ~self.network.carried

    def step(self, x: Array, at: Interval) -> tuple[Array, Array]:
        matrix, offset, covariance = self.linear_transition(x, at)
        return matrix @ x + offset, semidefinite_cholesky(covariance)
