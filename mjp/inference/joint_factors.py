r"""Factors of several parents of any family, and the products of potentials that stand for them.

A factor is a function of the states of all its parents: the pullback $(\kappa g)(x_1, \dots, x_p)$ of a
child's potential, or the likelihood of an observation of several nodes. Backward marginalisation (van der
Meulen & Schauer, arXiv 2010.03509) replaces it by a product: with $m_p$ the factor averaged over reference
laws of all parents but p, and s over those of all, $\prod_p g_p = s \prod_p m_p / s$. Averages over vectors
are those of the factor's Gaussian expansion at an anchor. The ratio of factor and product is a weight, so
that any reference laws, and any expansion, leave the estimate of the evidence unbiased.

Functions are of one factor; vectors are (d,), states of finitely many are positions ().
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._by_content import ByContent
from mjp._small_matrices import (
    cholesky,
    log_determinant,
    product,
    semidefinite_cholesky,
    solve_lower,
    times,
    transpose,
)
from mjp.inference.gaussian_sites import expanded, moments_of
from mjp.inference.path_sweeps import draw
from mjp.inference.positive_part import positive_part
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.potentials.rows import canonical_of
from mjp.inference.safe_logs import log_sum_or_never
from mjp.inference.seen_entries import independent
from mjp.processes import ConditionalCategorical, ConditionalGaussian

_RIDGE = 1e-6


class Space(NamedTuple):
    """Where the states of a node live: one of `size` states, or vectors of `size` coordinates."""

    finite: bool
    size: int


class VectorLaw(NamedTuple):
    """A Gaussian law by its mean (d, ...) and a factor (d, d, ...) of its covariance."""

    mean: Array
    factor: Array


type Law = Array | VectorLaw  # logs of probabilities (K, ...), or a Gaussian law
type Potential = Array | Canonical  # logs of values (K, ...), or a Gaussian potential


@dataclass(frozen=True, eq=False)
class Rows(ByContent):
    """The nodes of factors, by number; static, compared by content."""

    parents: np.ndarray  # (E, p)
    children: np.ndarray  # (E,), empty for observations


class Factor(eqx.Module):
    """All factors of one kind: a process, or a likelihood.

    Attributes:
        spaces: of the parents.
        child: space of the child; None for an observation.
        inputs: pytree with leading axis E: what differs between the factors.
    """

    spaces: eqx.AbstractVar[tuple[Space, ...]]
    child: eqx.AbstractVar[Any]
    where: eqx.AbstractVar[Rows]
    inputs: eqx.AbstractVar[Any]

    @property
    def exact(self) -> bool:
        """Whether the potential sent to the only parent is the factor itself."""
        return len(self.spaces) == 1 and self.spaces[0].finite

    @property
    def combinations(self) -> np.ndarray:
        """(S, f) all combinations of the states of the f parents that have finitely many."""
        sizes = [space.size for space in self.spaces if space.finite]
        return np.indices(sizes).reshape(len(sizes), -1).T if sizes else np.zeros((1, 0), dtype=int)

    def assemble(self, stacked: Array, positions: Any) -> list[Any]:
        """States in the order of the parents, of vectors one after the other (D,) and of positions (f,)."""
        states, at, finite = [], 0, 0
        for space in self.spaces:
            if space.finite:
                states.append(positions[finite])
                finite += 1
            else:
                states.append(stacked[at : at + space.size])
                at += space.size
        return states

    @abstractmethod
    def expand(self, own: Any, anchor: Array, positions: Array, ahead: Any) -> Canonical:
        """Gaussian expansion of the factor in the vectors (D,) at an anchor, other parents' states given."""


class WithChild(Factor):
    """Factors that are pullbacks of the potential of a child."""

    @abstractmethod
    def drawn(self, own: Any, states: Sequence[Any], ahead: Any, noise: Array) -> tuple[Array, Array]:
        """The child's state from the guided kernel, and the log () of the pullback of its potential `ahead`,
        or of an unbiased estimate of that; noise is a uniform number (), or innovations (d,)."""

    @abstractmethod
    def law(self, own: Any, laws: Sequence[Any]) -> Any:
        """Law of the child where the parents are independent with these laws."""


class StateFactor(WithChild):
    """Children of finitely many states."""

    @abstractmethod
    def log_row(self, own: Any, states: Sequence[Any]) -> Array:
        """Logs of the probabilities (K,) of the child's states."""

    def expand(self, own: Any, anchor: Array, positions: Array, ahead: Array) -> Canonical:
        row = lambda x: self.log_row(own, self.assemble(x, positions))
        return _expanded(lambda x: log_sum_or_never(row(x) + ahead), anchor)

    def drawn(self, own: Any, states: Sequence[Any], ahead: Array, noise: Array) -> tuple[Array, Array]:
        logs = self.log_row(own, states) + ahead
        return categorical(logs, noise), log_sum_or_never(logs)

    def law(self, own: Any, laws: Sequence[Any]) -> Array:
        anchor, combinations = _means(laws), self.combinations
        rows = jax.vmap(lambda positions: self.log_row(own, self.assemble(anchor, positions)))(combinations)
        found = log_sum_or_never(rows + _log_shares(laws, combinations)[:, None], axis=0)
        return found - log_sum_or_never(found)


class TableFactor(StateFactor):
    """Transition probabilities between states; `inputs` tells the table of each edge.

    Attributes:
        tables: (U, K1, ..., Kp, K) logs.
    """

    tables: Array
    inputs: Array  # (E,)
    spaces: tuple[Space, ...] = eqx.field(static=True)
    child: Space = eqx.field(static=True)
    where: Rows = eqx.field(static=True)

    def log_row(self, own: Array, states: Sequence[Any]) -> Array:
        return self.tables[(own, *states)]


class CategoricalFactor(StateFactor):
    """Edges of a `mjp.ConditionalCategorical`."""

    process: ConditionalCategorical
    spaces: tuple[Space, ...] = eqx.field(static=True)
    child: Space = eqx.field(static=True)
    where: Rows = eqx.field(static=True)
    inputs: Any = eqx.field(static=True, default=None)

    def log_row(self, own: Any, states: Sequence[Any]) -> Array:
        return self.process.log_probabilities(states)


class GaussianFactor(WithChild):
    """Edges of a `mjp.ConditionalGaussian`."""

    process: ConditionalGaussian
    spaces: tuple[Space, ...] = eqx.field(static=True)
    child: Space = eqx.field(static=True)
    where: Rows = eqx.field(static=True)
    inputs: Any = eqx.field(static=True, default=None)

    def expand(self, own: Any, anchor: Array, positions: Array, ahead: Canonical) -> Canonical:
        mean, matrix, factor = self._linear(anchor, positions)
        return ahead.pull_back(ahead.gain(factor), matrix, mean - times(matrix, anchor))

    def drawn(self, own: Any, states: Sequence[Any], ahead: Canonical, noise: Array) -> tuple[Array, Array]:
        mean, covariance = self.process.moments(states)
        gain = ahead.gain(semidefinite_cholesky(covariance))
        return gain.move(mean, noise), ahead.log_pulled(gain, mean)

    def law(self, own: Any, laws: Sequence[Any]) -> VectorLaw:
        anchor, spread, combinations = _means(laws), _spreads(laws), self.combinations

        def one(positions: Any) -> tuple[Array, Array]:
            mean, matrix, factor = self._linear(anchor, positions)
            moved = product(matrix, spread)
            return mean, product(moved, transpose(moved)) + product(factor, transpose(factor))

        means, covariances = jax.vmap(one)(combinations)
        shares = jnp.exp(_log_shares(laws, combinations))
        mean = shares @ means
        centred = means - mean
        covariance = jnp.einsum("s,sij->ij", shares, covariances)
        covariance = covariance + jnp.einsum("s,si,sj->ij", shares, centred, centred)
        return VectorLaw(mean, semidefinite_cholesky(covariance))

    def _linear(self, anchor: Array, positions: Any) -> tuple[Array, Array, Array]:
        """Mean (d,), its derivative (d, D) by the vectors, and a factor of the covariance, at an anchor."""
        mean, covariance = self.process.moments(self.assemble(anchor, positions))
        along = lambda x: self.process.moments(self.assemble(x, positions))[0]
        return mean, jax.jacfwd(along)(anchor), semidefinite_cholesky(covariance)


class Observation(Factor):
    """Observations of several nodes at once; `inputs` holds what was seen, (E, ...)."""

    inputs: eqx.AbstractVar[Array]

    @abstractmethod
    def seen_law(self, states: Sequence[Any]) -> Any:
        """The Distribution of what is seen."""

    @property
    def exact(self) -> bool:
        return False

    def log_value(self, own: Array, states: Sequence[Any], ahead: Any = None) -> Array:
        return jnp.sum(self.seen_law(states).log_prob(own))

    def expand(self, own: Array, anchor: Array, positions: Array, ahead: Any = None) -> Canonical:
        law = lambda x: independent(self.seen_law(self.assemble(x, positions)))
        if not isinstance(law(anchor), dist.Normal | dist.MultivariateNormal) or anchor.size == 0:
            return _expanded(lambda x: jnp.sum(law(x).log_prob(own)), anchor)
        mean, covariance = moments_of(law(anchor))
        matrix = jax.jacfwd(lambda x: moments_of(law(x))[0])(anchor)
        lower = cholesky(covariance)
        residual = jnp.ravel(own) - mean + times(matrix, anchor)
        white = solve_lower(lower, jnp.concatenate([matrix, residual[:, None]], axis=1))
        found = canonical_of(white[:, :-1], white[:, -1])
        size = -log_determinant(lower) - 0.5 * len(mean) * jnp.log(2 * jnp.pi)
        return found.with_constant(found.constant + size)


class LikelihoodFactor(Observation):
    """What a user's likelihood says of several nodes."""

    likelihood: Callable = eqx.field(static=True)
    spaces: tuple[Space, ...] = eqx.field(static=True)
    where: Rows = eqx.field(static=True)
    inputs: Array
    child: None = eqx.field(static=True, default=None)

    def seen_law(self, states: Sequence[Any]) -> Any:
        return self.likelihood(*states)


class SeenChildFactor(Observation):
    """What children of a `mjp.ConditionalGaussian` that are seen without error say of their parents."""

    process: ConditionalGaussian
    spaces: tuple[Space, ...] = eqx.field(static=True)
    where: Rows = eqx.field(static=True)
    inputs: Array
    child: None = eqx.field(static=True, default=None)

    def seen_law(self, states: Sequence[Any]) -> Any:
        return dist.MultivariateNormal(*self.process.moments(states))


def project(factor: Factor, own: Any, laws: Sequence[Any], anchor: Array, ahead: Any) -> list[Any]:
    """The potentials, one for each parent, whose product stands for a factor.

    Args:
        laws: reference laws of the parents.
        anchor: (D,) vectors at which the factor is expanded, one after the other.
        ahead: the child's potential.
    """
    combinations, mean, spread = factor.combinations, _means(laws), _spreads(laws)
    sizes = [space.size for space in factor.spaces if space.finite]
    finite = [law for law, space in zip(laws, factor.spaces, strict=True) if space.finite]
    shares = _log_shares(laws, combinations)
    # one expansion for every combination of states, whose axis comes first
    expansions = jax.vmap(lambda positions: factor.expand(own, anchor, positions, ahead))(combinations)
    averages = jax.vmap(lambda expansion: _average(expansion, mean, spread))(expansions)
    scale = log_sum_or_never(shares + averages)
    scale = jnp.where(jnp.isfinite(scale), scale, 0.0)
    messages: list[Any] = []
    at, position = 0, 0
    for space, law in zip(factor.spaces, laws, strict=True):
        removed = scale if messages else jnp.zeros_like(scale)  # the first potential keeps the scale
        if space.finite:
            others = [law[combinations[:, j]] for j, law in enumerate(finite) if j != position]
            table = jnp.reshape(sum(others, averages), sizes)
            rest = tuple(axis for axis in range(len(sizes)) if axis != position)
            messages.append(log_sum_or_never(table, axis=rest) - removed)
            position += 1
        else:
            own_part = slice(at, at + space.size)
            found = jax.vmap(lambda e, part=own_part: _marginal(e, mean, spread, part))(expansions)
            message = _collapsed(found, shares, law)
            messages.append(Canonical(message.constant - removed, message.linear, message.precision))
            at += space.size
    return messages


def tilted(law: Any, potential: Any) -> Any:
    """A law (..., E) times a potential (..., E), normalised."""
    if isinstance(law, VectorLaw):
        gain = potential.gain(law.factor)
        return VectorLaw(law.mean + times(gain.loading, gain.steering(law.mean)), gain.loading)
    found = law + potential
    total = log_sum_or_never(found, axis=0)
    return found - jnp.where(jnp.isfinite(total), total, 0.0)


def without(potential: Any, sent: Any) -> Any:
    """A potential without one of those that it is the product of; where both are zero, zero."""
    if isinstance(potential, Canonical):
        return jax.tree.map(jnp.subtract, potential, sent)
    return jnp.where(sent > -jnp.inf, potential - jnp.where(sent > -jnp.inf, sent, 0.0), potential)


def categorical(log_weights: Array, uniform: Array) -> Array:
    """Draw a state from logs of weights (K,) by inverting their cumulative sum."""
    return draw(jnp.exp(log_weights - jnp.max(log_weights)), uniform)


def _average(expansion: Canonical, mean: Array, spread: Array) -> Array:
    """Log of the average of a potential over N(mean, spread spread')."""
    if mean.size == 0:
        return expansion.constant
    return expansion.log_pulled(expansion.gain(spread), mean)


def _marginal(expansion: Canonical, mean: Array, spread: Array, part: slice) -> Canonical:
    """A potential of all vectors, averaged over those outside of `part`, as one of the vector there."""
    if mean[part].size == mean.size:
        return expansion
    inside = np.zeros(mean.size, dtype=bool)
    inside[part] = True
    embedding = jnp.asarray(np.eye(mean.size)[:, inside], mean.dtype)
    gain = expansion.gain(jnp.where(inside[:, None], 0.0, spread))
    return expansion.pull_back(gain, embedding, jnp.where(inside, 0.0, mean))


def _collapsed(mixture: Canonical, shares: Array, law: VectorLaw) -> Canonical:
    """One potential for a mixture (S, ...) with weights exp(shares): the law times it has the same moments.

    Where the mixture spreads wider than the law, the potential is flat in that direction.
    """
    if len(shares) == 1:
        return jax.tree.map(lambda leaf: leaf[0], mixture)
    gains = jax.vmap(lambda g: g.gain(law.factor))(mixture)
    means = law.mean + jax.vmap(lambda gain: times(gain.loading, gain.steering(law.mean)))(gains)
    logs = shares + jax.vmap(lambda g, gain: g.log_pulled(gain, law.mean))(mixture, gains)
    total = log_sum_or_never(logs)
    weights = jnp.exp(logs - jnp.where(jnp.isfinite(total), total, 0.0))
    mean = weights @ means
    centred = means - mean
    within = jnp.einsum("s,sij,skj->ik", weights, gains.loading, gains.loading)
    covariance = within + jnp.einsum("s,si,sj->ij", weights, centred, centred)
    prior = product(law.factor, transpose(law.factor))
    # directions in which the law knows the vector have no precision to speak of
    size = jnp.trace(prior)
    ridge = _RIDGE * jnp.where(size > 0, size, 1.0) * jnp.eye(len(mean))
    known = jnp.linalg.inv(prior + ridge)
    precision = positive_part(jnp.linalg.inv(covariance + ridge) - known)
    linear = times(known, mean - law.mean) + times(precision, mean)
    shape = Canonical(jnp.zeros_like(total), linear, precision)
    return Canonical(total - shape.log_pulled(shape.gain(law.factor), law.mean), linear, precision)


def _expanded(log_density: Callable[[Array], Array], anchor: Array) -> Canonical:
    """The expansion of a function of vectors; of one of no vectors, the function."""
    if anchor.size == 0:
        return Canonical(log_density(anchor), anchor, jnp.zeros((0, 0), anchor.dtype))
    return expanded(log_density, anchor)


def _log_shares(laws: Sequence[Any], combinations: np.ndarray) -> Array:
    """Logs of the reference probabilities (S,) of the combinations of states."""
    finite = [law for law in laws if not isinstance(law, VectorLaw)]
    found = [law[combinations[:, j]] for j, law in enumerate(finite)]
    return sum(found, jnp.zeros(len(combinations)))


def _means(laws: Sequence[Any]) -> Array:
    """Reference means of all vectors one after the other (D,)."""
    means = [law.mean for law in laws if isinstance(law, VectorLaw)]
    return jnp.concatenate(means) if means else jnp.zeros(0)


def _spreads(laws: Sequence[Any]) -> Array:
    """Factor (D, D) of the covariance of all vectors, which are independent under the reference."""
    factors = [law.factor for law in laws if isinstance(law, VectorLaw)]
    return jax.scipy.linalg.block_diag(*factors) if factors else jnp.zeros((0, 0))
