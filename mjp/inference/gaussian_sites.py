"""Observations of vector states: Gaussian potentials at the nodes, and the exact likelihoods beside them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp._small_matrices import (
    cholesky,
    dot,
    identity,
    log_determinant,
    semidefinite_cholesky,
    solve_lower,
    times,
)
from mjp.graph import Graph, Observations
from mjp.inference.pinning import PinnedEdges, is_exact_observation
from mjp.inference.positive_part import positive_part
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.potentials.rows import canonical_of
from mjp.inference.seen_entries import check_whole, independent
from mjp.inference.segments import Segments, segment_sum
from mjp.likelihood_covariates import at_covariates, first_row
from mjp.observations import Exactly, LinearGaussianObservation, Misclassified, law_of
from mjp.processes.affine import Dependence, dependence, worst


class Site(Protocol):
    """The observations of one batch of nodes."""

    @property
    def exact(self) -> bool:
        """Whether the potential is the likelihood itself."""
        ...

    @property
    def noiseless(self) -> bool:
        """Whether it shows (a part of) the state without error, so that it has no canonical potential."""
        ...

    def potential(self, anchors: Array) -> Canonical:
        """Potentials (m,) built at the anchors (m, d)."""
        ...

    def log_likelihood(self, states: Array) -> Array:
        """Log-likelihoods (m,) at states (m, d)."""
        ...


class LikelihoodMoments(eqx.Module):
    """Mean (k,) and covariance (k, k) of the law that a likelihood gives a state."""

    likelihood: Any = eqx.field(static=True)

    def __call__(self, x: Array, covariates: Any) -> tuple[Array, Array]:
        return moments_of(at_covariates(self.likelihood, covariates)(x))


class GaussianSite(eqx.Module):
    """y ~ N(h(x), R(x)): expanded at the anchor (Gauss–Newton), exact if h is affine and R constant.

    Attributes:
        values: (m, k), NaN where missing.
        noiseless: whether R is zero; such a site is for `stacked` only.
    """

    law: Any  # from a state and its inputs to mean (k,) and covariance (k, k); or None
    inputs: Any  # pytree with leading axis m
    observation: Any  # matrices (m, k, d), covariances (m, k, k) and offset (k,), or None
    values: Array
    exact: bool = eqx.field(static=True)
    noiseless: bool = eqx.field(static=True, default=False)

    def moments(self, states: Array) -> tuple[Array, Array]:
        """Means (m, k) and covariances (m, k, k) at states (m, d)."""
        if self.law is not None:
            return jax.vmap(self.law)(states, self.inputs)
        matrix, covariance, offset = self.observation
        mean = times(jnp.moveaxis(matrix, 0, -1), states.T).T + offset
        return mean, jnp.broadcast_to(covariance, (len(states), *covariance.shape[-2:]))

    def potential(self, anchors: Array) -> Canonical:
        matrix, target, constant = self.whitened(anchors)
        found = canonical_of(matrix, target)
        return found.with_constant(found.constant + constant)

    def whitened(self, anchors: Array) -> tuple[Array, Array, Array]:
        """The observations, expanded at anchors (m, d), in units of their noise: W x + e, e ~ N(0, I).

        Returns:
            W (k, d, m), the values (k, m) that W x + e took, and the logs of normalisers (m,); rows are
            zero where an observation is missing.
        """
        matrix, residual, covariance = self._expanded(anchors)
        lower, constant = self._masked_factor(covariance)
        white = solve_lower(lower, jnp.concatenate([matrix, residual[:, None]], axis=1))
        return white[:, :-1], white[:, -1], constant

    def stacked(self, anchors: Array) -> tuple[Array, Array, Array, Array]:
        """The observations, expanded at anchors (m, d), as v = M x + L e, e ~ N(0, I); L may be singular.

        Returns:
            M (k, d, m), v (k, m), lower triangular L (k, k, m) and the logs (m,) of what normalisers hold
            beside the determinant of L; the rows of M are zero, and those of L the identity's, where an
            observation is missing.
        """
        matrix, residual, covariance = self._expanded(anchors)
        covariance = self._masked(covariance)
        # in units of each row's own noise, so that precise rows keep theirs
        variance = jnp.stack([covariance[i, i] for i in range(len(covariance))])
        noisy = variance > 0
        scale = jnp.where(noisy, jnp.sqrt(jnp.where(noisy, variance, 1.0)), 0.0)
        safe = jnp.where(noisy, scale, 1.0)
        lower = scale[:, None] * semidefinite_cholesky(covariance / (safe[:, None] * safe[None]))
        return matrix, residual, lower, self._powers()

    def log_likelihood(self, states: Array) -> Array:
        mean, covariance = self.moments(states)
        lower, constant = self._masked_factor(covariance)
        residual = jnp.where(jnp.isnan(self.values), 0.0, self.values - mean).T
        white = solve_lower(lower, residual[:, None])[:, 0]
        return constant - 0.5 * dot(white, white)

    def _expanded(self, anchors: Array) -> tuple[Array, Array, Array]:
        """Matrices (k, d, m) and residuals (k, m), zero where missing, and covariances (m or 1, k, k)."""
        if self.law is not None and self.exact and self.inputs is None:  # the same everywhere
            anchor = jnp.zeros_like(anchors[0])
            mean, covariance = self.law(anchor, None)
            slope = jax.jacfwd(lambda x: self.law(x, None)[0])(anchor)
            matrix, offset, covariance = slope[..., None], mean[:, None], covariance[None]
        elif self.law is not None:
            mean, covariance = self.moments(anchors)
            slope = jax.jacfwd(lambda x, own: self.law(x, own)[0])
            matrix = jax.vmap(slope, out_axes=-1)(anchors, self.inputs)
            offset = mean.T - times(matrix, anchors.T)
        else:
            matrix, covariance, offset = self.observation
            matrix, offset = jnp.moveaxis(matrix, 0, -1), offset[:, None]
        seen = ~jnp.isnan(self.values.T)
        residual = self.values.T - offset
        return jnp.where(seen[:, None], matrix, 0.0), jnp.where(seen, residual, 0.0), covariance

    def _masked_factor(self, covariance: Array) -> tuple[Array, Array]:
        """Factors (k, k, m) of the covariances (m or 1, k, k) of what is seen, identity elsewhere.

        With the logs of their normalisers, (m,).
        """
        lower = cholesky(self._masked(covariance))
        return lower, -log_determinant(lower) + self._powers()

    def _masked(self, covariance: Array) -> Array:
        """Covariances (k, k, m) of what is seen, identity elsewhere, from those of all (m or 1, k, k)."""
        seen = ~jnp.isnan(self.values.T)
        both = seen[:, None] & seen[None]
        covariance = jnp.moveaxis(covariance, 0, -1)
        return jnp.where(both, covariance, identity(len(seen), covariance))

    def _powers(self) -> Array:
        """Logs (m,) of the powers of 2π in normalisers."""
        seen = ~jnp.isnan(self.values.T)
        return -0.5 * jnp.sum(seen, axis=0) * jnp.log(2 * jnp.pi)


class SpreadSite(eqx.Module):
    """y ~ N(h(x), R(x)) where the spread tells of the state too: its second-order expansion at the anchor."""

    gaussian: GaussianSite
    exact: bool = eqx.field(static=True, default=False, init=False)
    noiseless: ClassVar[bool] = False

    def potential(self, anchors: Array) -> Canonical:
        def one(anchor: Array, value: Array, own: Any) -> Canonical:
            inputs = jax.tree.map(lambda leaf: leaf[None], own)
            site = GaussianSite(self.gaussian.law, inputs, None, value[None], self.gaussian.exact)
            return expanded(lambda x: site.log_likelihood(x[None])[0], anchor)

        return jax.vmap(one, out_axes=-1)(anchors, self.gaussian.values, self.gaussian.inputs)

    def log_likelihood(self, states: Array) -> Array:
        return self.gaussian.log_likelihood(states)


def expanded(log_density: Callable[[Array], Array], anchor: Array) -> Canonical:
    """Second-order expansion of a log-density at an anchor (d,), curvature made positive."""
    height, slope = jax.value_and_grad(log_density)(anchor)
    precision = positive_part(-jax.hessian(log_density)(anchor))
    linear = slope + times(precision, anchor)
    return Canonical(height - dot(0.5 * (linear + slope), anchor), linear, precision)


class LaplaceSite(eqx.Module):
    """Any other likelihood: its second-order expansion at the anchor, curvature made positive."""

    likelihood: Any = eqx.field(static=True)
    values: Array  # (m, ...), NaN where missing
    inputs: Any  # covariates of the likelihood, (m,) each, or None
    exact: bool = eqx.field(static=True, default=False, init=False)
    noiseless: ClassVar[bool] = False

    def potential(self, anchors: Array) -> Canonical:
        def one(anchor: Array, value: Array, own: Any) -> Canonical:
            return expanded(lambda x: self._log_density(x, value, own), anchor)

        return jax.vmap(one, out_axes=-1)(anchors, self.values, self.inputs)

    def log_likelihood(self, states: Array) -> Array:
        return jax.vmap(self._log_density)(states, self.values, self.inputs)

    def _log_density(self, x: Array, value: Array, own: Any) -> Array:
        law = independent(at_covariates(self.likelihood, own)(x))
        seen = ~jnp.isnan(value)
        n_event = len(law.event_shape)
        event = tuple(range(value.ndim - n_event, value.ndim))
        whole, some = jnp.all(seen, axis=event), jnp.any(seen, axis=event)
        safe = jnp.where(seen, value, self._filler())
        return jnp.sum(jnp.where(whole, law.log_prob(safe), jnp.where(some, jnp.nan, 0.0)))

    def _filler(self) -> Array:
        """A value that was observed, for the place of missing ones: the likelihood is finite there."""
        flat = self.values.reshape(len(self.values), -1)
        first = jnp.argmax(~jnp.isnan(flat), axis=0)
        found = jnp.take_along_axis(flat, first[None], axis=0)[0]
        return jnp.where(jnp.isnan(found), 0.0, found).reshape(self.values.shape[1:])


@dataclass(frozen=True, eq=False)
class Nodes(ByContent):
    """Nodes by number; static, compared by content."""

    index: np.ndarray


class Observed(eqx.Module):
    """A batch of observed nodes with their site.

    Attributes:
        of_child: whether it is what an exact observation of each node's child says of the node.
    """

    where: Nodes = eqx.field(static=True)
    site: Any
    of_child: bool = eqx.field(static=True, default=False)

    @property
    def nodes(self) -> np.ndarray:
        return self.where.index


def sites_of(graph: Graph, dim: int, pinned: PinnedEdges, *, keep_exact: bool = False) -> list[Observed]:
    """Nodes and site of each batch of observations.

    Args:
        pinned: edges on whose last steps exact observations are seen.
        keep_exact: whether exact observations are sites without noise, and none is pinned.

    Raises:
        ValueError: values of the wrong shape, values outside the support of their law.
        TypeError: a likelihood for labelled states.
    """
    noisy = [o for o in graph.observations if keep_exact or not is_exact_observation(o.likelihood)]
    sites = [Observed(Nodes(o.nodes), _site(graph, o, dim)) for o in noisy]
    for nodes, process, values, inputs in pinned.sites:
        site = GaussianSite(process.law, inputs, None, values, process.linear)
        sites.append(Observed(Nodes(nodes), site, of_child=True))
    return sites


def node_potentials(sites: list[Observed], anchors: Array, n_nodes: int, dtype: Any) -> Canonical:
    """Potentials of all observations together at each node, (n,), built at anchors (n, d)."""
    total = Canonical.unit((n_nodes,), anchors.shape[-1], dtype)
    for observed in sites:
        nodes = observed.nodes
        found = observed.site.potential(anchors[nodes])
        spread = lambda leaf, like, n=nodes: jnp.broadcast_to(leaf, (*like.shape[:-1], len(n)))
        full = jax.tree.map(spread, found, total)
        segments = Segments(nodes, n_nodes)
        total = total.fuse(
            jax.tree.map(lambda leaf, at=segments: segment_sum(leaf.astype(dtype), at, -1), full)
        )
    return total


def _site(graph: Graph, observed: Observations, dim: int) -> Any:
    likelihood: Any = observed.likelihood
    m = len(observed.nodes)
    if isinstance(likelihood, Misclassified):
        raise TypeError(
            f"likelihood: {type(likelihood).__name__} is for processes with finitely many states; for "
            "vectors give mjp.LinearGaussianObservation or a function from the state to a Distribution"
        )
    if isinstance(likelihood, Exactly):
        likelihood = LinearGaussianObservation(np.eye(dim), 0.0)
    values = _numbers(observed.values)
    if isinstance(likelihood, LinearGaussianObservation):
        matrix, covariance = likelihood.matrix, likelihood.covariance
        k = matrix.shape[-2]
        if matrix.shape[-1] != dim:
            raise ValueError(f"matrix must have {dim} columns, one per coordinate, got {matrix.shape}")
        values = _with_event(graph, observed, values, (k,))
        for name, array in (("matrix", matrix), ("covariance", covariance)):
            if array.ndim == 3 and array.shape[0] != m:
                raise ValueError(f"{name} must have one entry per observation ({m}), got {array.shape}")
        spread = lambda array: array if array.ndim == 3 else array[None]
        seen = (spread(matrix), spread(covariance), likelihood.offset)
        return GaussianSite(None, None, seen, values, True, likelihood.noiseless)
    state = jax.ShapeDtypeStruct((dim,), jnp.result_type(float))
    inputs = jax.tree.map(jnp.asarray, observed.covariates)
    first = first_row(inputs)
    law = law_of(at_covariates(likelihood, first), state)
    event = law.shape()
    values = _with_event(graph, observed, values, event)
    _check_support(graph, observed, law, values)
    if isinstance(independent(law), dist.Normal | dist.MultivariateNormal):
        moments = LikelihoodMoments(likelihood)
        mean, covariance = dependence(lambda x: moments(x, first), state)
        constant = worst(covariance) == Dependence.NONE
        exact = worst(mean) <= Dependence.AFFINE and constant
        site = GaussianSite(moments, inputs, None, values.reshape(m, -1), exact)
        return site if constant else SpreadSite(site)
    if is_concrete(values):
        check_whole(law, values, lambda i: graph.describe_node(int(observed.nodes[i])))
    return LaplaceSite(likelihood, values, inputs)


def moments_of(law: Any) -> tuple[Array, Array]:
    """Mean (k,) and covariance (k, k) of a Normal or MultivariateNormal law."""
    law = independent(law)
    if isinstance(law, dist.MultivariateNormal):
        return jnp.asarray(law.loc), jnp.asarray(law.covariance_matrix)
    mean = jnp.broadcast_to(law.loc, law.batch_shape).reshape(-1)
    scale = jnp.broadcast_to(law.scale, law.batch_shape).reshape(-1)
    return mean, jnp.diag(scale**2)


def _numbers(values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.dtype == object:
        known = [v for v in values if v is not None]
        like = np.full(np.shape(known[0]) if known else (), np.nan)
        values = np.asarray([like if v is None else v for v in values], dtype=float)
    return jnp.asarray(values, jnp.result_type(float))


def _with_event(graph: Graph, observed: Observations, values: Array, event: tuple[int, ...]) -> Array:
    m, size = len(observed.nodes), int(np.prod(event))
    if values.size == m * size:
        _check_finite(graph, observed, values)
        return values.reshape(m, *event)
    if values.shape == (m,) and is_concrete(values) and np.all(np.isnan(np.asarray(values))):
        return jnp.full((m, *event), jnp.nan)
    raise ValueError(
        f"values: each observation must have shape {event}, as its law has, got shape {values.shape[1:]} "
        f"at {graph.describe_node(int(observed.nodes[0]))}"
    )


def _check_finite(graph: Graph, observed: Observations, values: Array) -> None:
    if not is_concrete(values):
        return
    flat = np.asarray(values).reshape(len(values), -1)
    infinite = np.argwhere(np.isinf(flat))
    if len(infinite):
        node = graph.describe_node(int(observed.nodes[infinite[0][0]]))
        value = flat[tuple(infinite[0])]
        raise ValueError(f"values must be finite, or NaN for missing, got {value} at {node}")


def _check_support(graph: Graph, observed: Observations, law: Any, values: Array) -> None:
    if not is_concrete(values):
        return
    law = independent(law)
    flat = np.asarray(values).reshape(len(values), -1)
    support = law.support
    if support.event_dim or not support.is_discrete:
        return
    seen = ~np.isnan(flat)
    bad = np.argwhere(seen & ((flat != np.round(flat)) | (flat < 0)))
    if len(bad):
        node = graph.describe_node(int(observed.nodes[bad[0][0]]))
        raise ValueError(
            f"values: {flat[tuple(bad[0])]:g} at {node} is not a count, which {type(law).__name__} describes"
        )
