"""Gaussian potentials whose observations are kept as rows, times a canonical rest."""

from typing import NamedTuple, Protocol, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp._small_matrices import decreasing, dot, product, times, transpose
from mjp.inference.potentials.canonical import Canonical, Gain


class Tilt(NamedTuple):
    r"""What rows make of a step $m + G z$: the step $m + a - A m + L z$, with z standard normal again."""

    response: Array  # A, (d, d, ...)
    shift: Array  # a, (d, ...)
    loading: Array  # L, (d, r, ...)
    constant: Array  # log of a factor that does not depend on m, (...)


class Rows(Protocol):
    """Observations of a state x by rows, linear in x and in Gaussian noise; the batch comes last."""

    def units(self, shape: tuple[int, ...]) -> Self:
        """As many rows that tell nothing."""
        ...

    def log_value(self, x: Array) -> Array:
        """Log of the potential, up to the factors that the rest of it holds."""
        ...

    def log_ratio(self, x: Array, y: Array) -> Array:
        """`log_value(x) - log_value(y)`, accurate where both are large."""
        ...

    def join(self, other: Self) -> tuple[Self, Canonical]:
        """The rows of both as d rows, and the potential of what is left over."""
        ...

    def tilt(self, factor: Array) -> tuple[Tilt, Self]:
        """What they make of a step, and what they say of its mean, the noise being integrated out."""
        ...

    def after(self, matrix: Array, offset: Array) -> Self:
        """The rows as functions of x where the state that they see is Φ x + β."""
        ...


class RowGain[R: Rows](NamedTuple):
    """What a child's potential asks of a step: its rows tilt the step, and the rest steers what comes out."""

    tilt: Tilt
    rows: R  # of the mean of the step
    rest: Gain  # towards the rest, of the tilted step

    def tilted(self, mean: Array) -> Array:
        """Mean of the tilted step from the mean (d, ...) of the step."""
        return mean + (self.tilt.shift - times(self.tilt.response, mean))

    def move(self, mean: Array, z: Array) -> Array:
        """Guided steps (d, ...) from the mean (d, ...) with innovations z (r, ...)."""
        return self.rest.move(self.tilted(mean), z)


class RowPotential[R: Rows](eqx.Module):
    """Products of what rows say and of a canonical potential.

    The rest holds the constant, expansions of likelihoods that are not Gaussian, and what is zero in a
    fusion of rows but has derivatives. Its methods are those of `Canonical`.
    """

    rows: R
    rest: Canonical

    @property
    def constant(self) -> Array:
        """Log of the constant factor (...); only the sum of it and of what the rows say has a meaning."""
        return self.rest.constant

    def units(self, shape: tuple[int, ...]) -> "RowPotential[R]":
        """Potentials like these that are one everywhere."""
        return RowPotential(self.rows.units(shape), self.rest.units(shape))

    def with_constant(self, constant: Array) -> "RowPotential[R]":
        """These potentials with another constant."""
        return RowPotential(self.rows, self.rest.with_constant(constant))

    def log_value(self, x: Array) -> Array:
        """log g at states (d, ...)."""
        return self.rows.log_value(x) + self.rest.log_value(x)

    def fuse(self, other: "RowPotential[R]") -> "RowPotential[R]":
        """The product of two potentials."""
        rows, left = self.rows.join(other.rows)
        return RowPotential(rows, self.rest.fuse(other.rest).fuse(left))

    def gain(self, factor: Array) -> RowGain[R]:
        """The gain of steps with noise factor G (d, r, ...) towards these potentials of their ends."""
        tilt, rows = self.rows.tilt(factor)
        return RowGain(tilt, rows, self.rest.gain(tilt.loading))

    def log_pulled(self, gain: RowGain[R], mean: Array) -> Array:
        r"""$\log (\kappa g)$ for a Gaussian step with the given mean (d, ...)."""
        rest = self.rest.log_pulled(gain.rest, gain.tilted(mean))
        return gain.rows.log_value(mean) + gain.tilt.constant + rest

    def pull_back(self, gain: RowGain[R], matrix: Array, offset: Array) -> "RowPotential[R]":
        r"""Potential $\kappa g$ of the parent, for a step with mean $\Phi x + \beta$ and the gain's noise."""
        tilted = matrix - product(gain.tilt.response, matrix)
        rest = self.rest.pull_back(gain.rest, tilted, gain.tilted(offset))
        rest = rest.with_constant(rest.constant + gain.tilt.constant)
        return RowPotential(gain.rows.after(matrix, offset), rest)

    def log_ratio(self, gain: RowGain[R], mean: Array, other: RowGain[R], other_mean: Array) -> Array:
        r"""$\log (\kappa g)$ of one step less that of another one; see `Canonical.log_ratio`."""
        if gain is other:
            rows = gain.rows.log_ratio(mean, other_mean)
            rest = gain.rest
        else:
            rows = gain.rows.log_value(mean) - other.rows.log_value(other_mean)
            rows = rows + gain.tilt.constant - other.tilt.constant
            rest = other.rest
        means = gain.tilted(mean), other.tilted(other_mean)
        return rows + self.rest.log_ratio(gain.rest, means[0], rest, means[1])


type Potential = Canonical | RowPotential


def followed_by_unit[P: Potential](potential: P) -> P:
    """Potentials (m,), with one more that is one everywhere, (m + 1,)."""
    unit = potential.units((1,))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=-1), potential, unit)


def canonical_of(matrix: Array, target: Array) -> Canonical:
    """The canonical potential of rows W x = t + e, e ~ N(0, I), for W (n, d, ...) and t (n, ...)."""
    back = transpose(matrix)
    return Canonical(-0.5 * dot(target, target), times(back, target), product(back, matrix))


def as_column(vector: Array) -> Array:
    """Vectors (n, ...) as matrices (n, 1, ...)."""
    return vector[:, None]


def below(*blocks: Array) -> Array:
    """Matrices (m, n, ...) one below the other."""
    return jnp.concatenate(blocks, axis=0)


def beside(*blocks: Array) -> Array:
    """Matrices (m, n, ...) one beside the other."""
    return jnp.concatenate(blocks, axis=1)


def large_first(rows: Array, n: int) -> Array:
    """Rows by decreasing size of their first n entries: errors of reflections are then small beside each."""
    return product(decreasing(jnp.max(jnp.abs(rows[:, :n]), axis=1)), rows)
