"""Guides of jump processes on counts: how much more likely the data are after each reaction."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp._small_matrices import times
from mjp.inference.potentials.canonical import Canonical
from mjp.processes.reaction_network import ReactionNetwork

CLIP = (-2.0, 4.0)


class JumpGuide(eqx.Module):
    r"""A positive function g(t, x), frozen on a grid of cells, that tilts the rates of reactions.

    The guided rate of reaction l is $\lambda_l(x) \rho_l$ with $\rho_l = g(x + \xi_l) / g(x)$. Every
    positive ratio gives an exact weight; a ratio far too small or too large only makes weights vary, so its
    logarithm is clipped: a guide with light tails would starve reactions of which the data need a few, and
    the variance of the weights would be infinite.

    Attributes:
        cells: what g is made of, leaves (pieces, cells, ...).
        clip: least and largest log ρ.
    """

    cells: eqx.AbstractVar[Any]
    clip: eqx.AbstractVar[tuple[float, float]]

    @abstractmethod
    def log_value(self, process: ReactionNetwork, cell: Any, x: Array, rates: Array) -> Array:
        """log g at the start of one cell in the state x (d,), where propensities are (L,)."""

    def log_ratios(self, process: ReactionNetwork, cell: Any, x: Array, rates: Array) -> Array:
        """log ρ (L,), clipped, in the state x (d,) with propensities (L,)."""
        here = self.log_value(process, cell, x, rates)
        value = lambda change: self.log_value(process, cell, x + change, rates)
        after = jax.vmap(value)(process.stoichiometry)
        return _clipped(after - here, self.clip)


def _clipped(log_ratios: Array, clip: tuple[float, float]) -> Array:
    # where the guide cannot tell, it does not steer
    known = jnp.where(jnp.isnan(log_ratios), 0.0, log_ratios)
    return jnp.clip(known, clip[0], clip[1])


class GaussianGuide(JumpGuide):
    """g is a Gaussian potential, such as that of the linear noise approximation.

    Attributes:
        cells: canonical potentials (pieces, cells).
    """

    cells: Canonical
    clip: tuple[float, float] = eqx.field(static=True, default=CLIP)

    def log_value(self, process: ReactionNetwork, cell: Canonical, x: Array, rates: Array) -> Array:
        # with an axis for a batch sums are written out, which XLA vectorises over particles
        return jax.tree.map(lambda leaf: leaf[..., None], cell).log_value(x[:, None])[0]

    def log_ratios(self, process: ReactionNetwork, cell: Canonical, x: Array, rates: Array) -> Array:
        change = process.stoichiometry.astype(x.dtype)
        # xi'(F - H (x + xi/2)), in sums that XLA fuses with the loop around them
        slope = cell.linear - jnp.sum(cell.precision * x, axis=-1)
        bend = jnp.sum(change[:, :, None] * cell.precision * change[:, None, :], axis=(-2, -1))
        return _clipped(jnp.sum(change * slope, axis=-1) - 0.5 * bend, self.clip)


class ConditionedHazard(JumpGuide):
    r"""g looks to the next observation only, through a Gaussian step from the present state.

    $X_T \approx N(x + S'\lambda(x)\Delta, S'\operatorname{diag}(\lambda(x)) S \Delta)$, and
    $\rho_l = 1 + \xi_l' \nabla \log g$, the conditioned hazard of Golightly & Wilkinson (2015, Interface
    Focus 5:20150012), bounded below by the clip.

    Attributes:
        cells: (time left until the next observation (pieces, cells), its potential (pieces, cells)).
    """

    cells: tuple[Array, Canonical]
    clip: tuple[float, float] = eqx.field(static=True, default=CLIP)

    def _ahead(self, process: ReactionNetwork, cell: Any, x: Array, rates: Array) -> tuple[Array, Any]:
        left, potential = cell
        change = jnp.asarray(process.stoichiometry, x.dtype)
        factor = (change * jnp.sqrt(rates * left)[:, None]).T
        return x + left * (rates @ change), potential.gain(factor)

    def log_value(self, process: ReactionNetwork, cell: Any, x: Array, rates: Array) -> Array:
        mean, gain = self._ahead(process, cell, x, rates)
        return cell[1].log_pulled(gain, mean)

    def log_ratios(self, process: ReactionNetwork, cell: Any, x: Array, rates: Array) -> Array:
        mean, gain = self._ahead(process, cell, x, rates)
        potential = cell[1]
        towards = potential.linear - times(potential.precision, mean)
        gradient = towards - jnp.sum(gain.response * gain.steering(mean)[..., None], axis=-2)
        change = jnp.asarray(process.stoichiometry, x.dtype)
        ratio = 1.0 + change @ gradient
        floor = jnp.exp(self.clip[0])
        return _clipped(jnp.log(jnp.maximum(ratio, floor)), self.clip)


class TransitionGuide(JumpGuide):
    """g is the probability of the next observed count of a species under a process with a closed form.

    Where that process is the network itself, the guide is its exact h-transform, but for the grid.

    Attributes:
        log_probability: function of the count x, the count v observed a time later, and this time.
        species: position of the species.
        cells: (time left, count that is observed then), (pieces, cells) each.
    """

    log_probability: Any = eqx.field(static=True)
    species: int = eqx.field(static=True)
    cells: tuple[Array, Array]
    clip: tuple[float, float] = eqx.field(static=True, default=(-jnp.inf, jnp.inf))

    def log_value(self, process: ReactionNetwork, cell: Any, x: Array, rates: Array) -> Array:
        left, target = cell
        return self.log_probability(x[self.species], target, left)


class ProductGuide(JumpGuide):
    """The product of several guides; each ratio is clipped by its own."""

    guides: tuple[JumpGuide, ...]
    clip: tuple[float, float] = eqx.field(static=True, default=CLIP)

    @property
    def cells(self) -> tuple:
        return tuple(guide.cells for guide in self.guides)

    def log_value(self, process: ReactionNetwork, cell: Any, x: Array, rates: Array) -> Array:
        pairs = zip(self.guides, cell, strict=True)
        return sum((guide.log_value(process, own, x, rates) for guide, own in pairs), jnp.zeros(()))

    def log_ratios(self, process: ReactionNetwork, cell: Any, x: Array, rates: Array) -> Array:
        pairs = zip(self.guides, cell, strict=True)
        return sum((guide.log_ratios(process, own, x, rates) for guide, own in pairs), jnp.zeros(()))
