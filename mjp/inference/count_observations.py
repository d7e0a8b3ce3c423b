"""Observations of counts: their exact likelihoods, and what a Gaussian guide takes them for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp.graph import Graph, Observations
from mjp.inference.seen_entries import check_whole, log_density_where_seen
from mjp.likelihood_covariates import at_covariates, first_row
from mjp.observations import Exactly, LinearGaussianObservation, Misclassified, law_of
from mjp.processes.reaction_network import ReactionNetwork

_LEAST_COUNT = 0.1  # that a guide's likelihood is asked about: a Poisson law of rate zero has no slope


class ObservedCounts(eqx.Module):
    """The observations of one batch of nodes.

    Attributes:
        position: (n_nodes,) of the observation of each node, -1 where there is none.
        likelihood: function of the state to a Distribution; or Exactly, or a LinearGaussianObservation.
        values: (m, ...), NaN where missing.
        parameters: what differs between observations besides, leaves (m, ...): matrices, or covariates.
    """

    position: "Positions" = eqx.field(static=True)
    process: ReactionNetwork
    likelihood: Any = eqx.field(static=True)
    values: Array
    parameters: Any

    @property
    def exact(self) -> bool:
        """Whether a part of the state is seen without error."""
        return isinstance(self.likelihood, Exactly) or (
            isinstance(self.likelihood, LinearGaussianObservation) and self.likelihood.noiseless
        )

    def log_likelihood(self, node: Array, x: Array) -> Array:
        """Log-likelihood of the state x (d,) of a node; zero where nothing was observed."""
        position = jnp.asarray(self.position.of_node)[node]
        at = jnp.maximum(position, 0)
        own = jax.tree.map(lambda leaf: jnp.asarray(leaf)[at], self.parameters)
        return jnp.where(position >= 0, self._log_density(x, self.values[at], own), 0.0)

    def _log_density(self, x: Array, value: Array, own: Any) -> Array:
        seen = ~jnp.isnan(value)
        if isinstance(self.likelihood, Exactly):
            return jnp.where(jnp.all(~seen | (x == value)), 0.0, -jnp.inf)
        if isinstance(self.likelihood, LinearGaussianObservation):
            matrix, covariance = own
            mean = matrix @ x.astype(value.dtype) + self.likelihood.offset
            if self.exact:
                return jnp.where(jnp.all(~seen | (jnp.abs(mean - value) < 1e-3)), 0.0, -jnp.inf)
            both = seen[:, None] & seen[None, :]
            lower = jnp.linalg.cholesky(jnp.where(both, covariance, jnp.eye(len(value), dtype=value.dtype)))
            residual = jnp.where(seen, value - mean, 0.0)
            white = jax.scipy.linalg.solve_triangular(lower, residual, lower=True)
            constant = 0.5 * jnp.sum(seen) * jnp.log(2 * jnp.pi) + jnp.sum(jnp.log(jnp.diagonal(lower)))
            return -0.5 * white @ white - constant
        return log_density_where_seen(at_covariates(self.likelihood, own)(self.process.view(x)), value)


@dataclass(frozen=True, eq=False)
class Positions(ByContent):
    """Where each node's observation stands; static, compared by content."""

    of_node: np.ndarray


def observed_counts(graph: Graph, process: ReactionNetwork, n_nodes: int) -> list[ObservedCounts]:
    """The observations of a graph of counts.

    Args:
        n_nodes: with the nodes that the schedule inserted, which are not observed.

    Raises:
        ValueError: values of the wrong shape or outside of the support of their law.
        TypeError: a likelihood for labelled states.
    """
    return [_observed(graph, observed, process, n_nodes) for observed in graph.observations]


def _observed(graph: Graph, observed: Observations, process: ReactionNetwork, n_nodes: int) -> ObservedCounts:
    likelihood: Any = observed.likelihood
    m = len(observed.nodes)
    if isinstance(likelihood, Misclassified):
        raise TypeError(
            f"likelihood: {type(likelihood).__name__} is for processes with finitely many states; for counts "
            "give mjp.Exactly or a function from the counts to a Distribution"
        )
    parameters: Any = None
    law: Any = None
    if isinstance(likelihood, Exactly):
        event: tuple[int, ...] = (process.n_species,)
    elif isinstance(likelihood, LinearGaussianObservation):
        matrix, covariance = likelihood.matrix, likelihood.covariance
        if matrix.shape[-1] != process.n_species:
            raise ValueError(
                f"matrix must have {process.n_species} columns, one per species, got {matrix.shape}"
            )
        event = (matrix.shape[-2],)
        spread = lambda array: jnp.broadcast_to(array, (m, *array.shape[-2:]))
        parameters = (spread(matrix), spread(covariance))
    else:
        parameters = observed.covariates
        law = law_of(at_covariates(likelihood, first_row(parameters)), process.state, process.view)
        event = law.shape()
    values = _numbers(graph, observed, event)
    if not isinstance(likelihood, Exactly | LinearGaussianObservation):
        _check_support(graph, observed, law, values)
    of_node = np.full(n_nodes + 1, -1, dtype=np.int32)
    of_node[observed.nodes] = np.arange(m)
    return ObservedCounts(Positions(of_node), process, likelihood, values, parameters)


def _numbers(graph: Graph, observed: Observations, event: tuple[int, ...]) -> Array:
    values: Any = observed.values
    m, missing = len(observed.nodes), np.full(event, np.nan)
    if isinstance(values, np.ndarray) and values.dtype == object:
        rows = [missing if v is None else v for v in values]
        for node, row in zip(observed.nodes.tolist(), rows, strict=True):
            if np.shape(row) != event and not (np.ndim(row) == 0 and is_concrete(row) and np.isnan(row)):
                raise ValueError(
                    f"values: each observation must have shape {event}, as its law has, got shape "
                    f"{np.shape(row)} at {graph.describe_node(node)}"
                )
        values = jnp.stack([jnp.broadcast_to(jnp.asarray(row, float), event) for row in rows])
    array = jnp.asarray(values, jnp.result_type(float))
    if array.shape == (m,) and event and is_concrete(array) and np.all(np.isnan(np.asarray(array))):
        return jnp.full((m, *event), jnp.nan)
    if array.shape != (m, *event):
        raise ValueError(
            f"values: each observation must have shape {event}, as its law has, got shape {array.shape[1:]} "
            f"at {graph.describe_node(int(observed.nodes[0]))}"
        )
    return array


def _check_support(graph: Graph, observed: Observations, law: Any, values: Array) -> None:
    if not is_concrete(values):
        return
    check_whole(law, values, lambda i: graph.describe_node(int(observed.nodes[i])))
    if not law.is_discrete:
        return
    flat = np.asarray(values).reshape(len(values), -1)
    bad = np.argwhere(~np.isnan(flat) & ((flat != np.round(flat)) | (flat < 0)))
    if len(bad):
        node = graph.describe_node(int(observed.nodes[bad[0][0]]))
        raise ValueError(
            f"values: {flat[tuple(bad[0])]:g} at {node} is not a count, which {type(law).__name__} describes"
        )


@dataclass(frozen=True, eq=False)
class _OfRealNumbers(ByContent):
    """A likelihood of counts as a function of real numbers, none of them too small to have a slope."""

    likelihood: Callable
    process: ReactionNetwork

    def __call__(self, x: Array, *covariates: Any) -> Any:
        return self.likelihood(self.process.view(jnp.maximum(x, _LEAST_COUNT)), *covariates)


def for_gaussian_guide(graph: Graph, process: ReactionNetwork, rounding: float) -> list[Observations]:
    """The observations as a guide on real numbers takes them: exact ones with the variance `rounding`."""
    found = []
    for observed in graph.observations:
        likelihood: Any = observed.likelihood
        if isinstance(likelihood, Exactly):
            d = process.n_species
            likelihood = LinearGaussianObservation(jnp.eye(d), rounding * jnp.eye(d))
        elif isinstance(likelihood, LinearGaussianObservation):
            if likelihood.noiseless:
                k = likelihood.matrix.shape[-2]
                likelihood = LinearGaussianObservation(
                    likelihood.matrix, rounding * jnp.eye(k), likelihood.offset
                )
        else:
            likelihood = _OfRealNumbers(likelihood, process)
        found.append(replace(observed, likelihood=likelihood))
    return found
