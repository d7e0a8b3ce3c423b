"""Observations of interacting particles: agent by agent, and of the numbers of agents in each state."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp.agent_trajectory import ChainOrder
from mjp.graph import Graph, Observations
from mjp.inference.rules.state_observations import by_state, log_density
from mjp.inference.safe_logs import log_or_never
from mjp.inference.seen_entries import log_density_where_seen
from mjp.likelihood_covariates import at_covariates, first_row
from mjp.observations import (
    EachAgent,
    Exactly,
    LinearGaussianObservation,
    LocalEmissions,
    Misclassified,
    is_missing,
    law_of,
)
from mjp.processes.interacting_particles import InteractingParticles
from mjp.processes.state_counts import StateCounts

_ROUNDING = 0.25  # variance that a guide adds to the law of a discrete value


@dataclass(frozen=True, eq=False)
class Codes(ByContent):
    """Which row of a table belongs to the value of each agent at each time; static.

    Attributes:
        of_agent: (T, N).
        possible: (V + 1, K) states in which the value of a row may be seen, as far as that is known before
            compilation.
    """

    of_agent: np.ndarray
    possible: np.ndarray


class AgentsSeen(eqx.Module):
    """Values of agents.

    Attributes:
        table: (V + 1, K) log-likelihoods of the distinct values in each state; the last row, of what is
            missing, is zero.
    """

    table: Array
    codes: Codes = eqx.field(static=True)

    def log_likelihood(self, states: Array) -> Array:
        """Log-likelihoods (T, N) of states (T, N)."""
        codes = jnp.asarray(self.codes.of_agent)
        return self.table[codes, states]

    def potentials(self) -> Array:
        """Log-likelihoods (T, K, N) of all states."""
        return jnp.moveaxis(self.table[jnp.asarray(self.codes.of_agent)], -1, 1)


class TotalsSeen(eqx.Module):
    """What was observed of the numbers of agents in each state.

    Attributes:
        values: (T, R, ...), NaN where missing.
        inputs: covariates of the likelihood, (T, R) each, or None.
    """

    values: Array
    inputs: Any
    likelihood: Any = eqx.field(static=True)
    states: tuple = eqx.field(static=True)

    def log_likelihood(self, totals: Array) -> Array:
        """Log-likelihoods (T, R) of totals (T, R, K)."""
        return jax.vmap(jax.vmap(self.of_one))(totals, self.values, self.inputs)

    def at(self, time: Any) -> "TotalsSeen":
        """What was observed at one time."""
        return jax.tree.map(lambda leaf: leaf[time][None], self)

    def of_one(self, totals: Array, value: Array, own: Any) -> Array:
        law = at_covariates(self.likelihood, own)(StateCounts(totals, self.states))
        return log_density_where_seen(law, value)

    def tilts(self, old: Array, means: Array, covariances: Array) -> Array:
        r"""Slopes (T, R, K), by which the guide takes the log-likelihood for linear in the totals.

        The slope at the totals that agents independent of each other would have given the slope itself:
        one Newton step towards it, with the law of the value taken for Gaussian.

        Args:
            old: (T, R, K) slopes that led to the means (T, R, K) and covariances (T, R, K, K).
        """
        return jax.vmap(jax.vmap(self._tilt))(old, means, covariances, self.values, self.inputs)

    def _tilt(self, old: Array, mean: Array, covariance: Array, value: Array, own: Any) -> Array:
        seen = ~jnp.isnan(value).reshape(-1)

        def moments(totals: Array) -> tuple[Array, Array]:
            law: Any = at_covariates(self.likelihood, own)(StateCounts(totals, self.states))
            rounding = _ROUNDING if law.is_discrete else 0.0
            return jnp.reshape(law.mean, -1), jnp.reshape(law.variance + rounding, -1)

        expected, variance = moments(mean)
        slope = jax.jacfwd(lambda totals: moments(totals)[0])(mean)  # (d, K)
        precision = jnp.where(seen, 1.0 / variance, 0.0)
        residual = jnp.where(seen, value.reshape(-1) - expected, 0.0)
        gradient = slope.T @ (precision * residual)
        curvature = slope.T @ (precision[:, None] * slope)
        step = jnp.linalg.solve(jnp.eye(len(old)) + curvature @ covariance, gradient - old)
        return jnp.where(jnp.any(seen), old + step, 0.0)


def agent_observations(
    graph: Graph, process: InteractingParticles, order: ChainOrder
) -> tuple[list[AgentsSeen], list[TotalsSeen]]:
    """The observations of a graph, by agent and of totals; those of a few agents each are read elsewhere.

    Raises:
        TypeError: a likelihood for other states, or values that must be known and are not.
        ValueError: values of another shape, or labels that are none.
    """
    agents, totals = [], []
    for observed in graph.observations:
        likelihood: Any = observed.likelihood
        if isinstance(likelihood, LocalEmissions):
            continue
        if isinstance(likelihood, LinearGaussianObservation):
            raise TypeError(
                "likelihood: mjp.LinearGaussianObservation is for vectors; for agents give a function of "
                "the numbers of agents in each state, or mjp.EachAgent"
            )
        if isinstance(likelihood, Exactly | Misclassified | EachAgent):
            agents.append(_agents(graph, observed, process, order))
        else:
            totals.append(_totals(observed, process, order))
    return agents, totals


def _agents(
    graph: Graph, observed: Observations, process: InteractingParticles, order: ChainOrder
) -> AgentsSeen:
    likelihood: Any = observed.likelihood
    n, k, dtype = process.n, process.n_states, jnp.result_type(float)
    values: Any = observed.values
    known = is_concrete(values)
    if known:
        values = np.asarray(values)
        if values.shape == (len(observed.nodes),) and all(is_missing(value) for value in values):
            values = np.full((len(values), n), None if values.dtype == object else np.nan)
    elif not isinstance(likelihood, EachAgent):
        raise TypeError("values: states seen exactly or misclassified must be known before compilation")
    if values.shape != (len(observed.nodes), n):
        node = graph.describe_node(int(observed.nodes[0]))
        raise ValueError(f"values: expected one per agent, ({n},), got shape {values.shape[1:]} at {node}")
    possible = np.ones((1, k), bool)
    if not isinstance(likelihood, EachAgent):
        log_table, possible, codes = _labelled(graph, observed, process, values)
    elif known:
        missing = _missing(values)
        distinct, codes = np.unique(np.where(missing, 0.0, values).astype(float), return_inverse=True)
        codes = np.where(missing, len(distinct), codes.reshape(missing.shape))
        log_table = _log_densities(likelihood, jnp.asarray(distinct), k)
    else:  # a row of the table for every value
        flat = values.reshape(-1)
        missing = jnp.isnan(flat)
        log_table = _log_densities(likelihood, jnp.where(missing, 0.0, flat), k)
        log_table = jnp.where(missing[:, None], 0.0, log_table)
        codes = np.arange(values.size).reshape(values.shape)
    possible = np.concatenate([np.broadcast_to(possible, log_table.shape), np.ones((1, k), bool)])
    table = jnp.concatenate([log_table.astype(dtype), jnp.zeros((1, k), dtype)])
    t, r = order.nodes.shape
    position = np.empty(graph.n_nodes, dtype=np.int64)
    position[order.nodes.reshape(-1)] = np.arange(t * r)
    by_node = np.full((t * r, n), log_table.shape[0], dtype=np.int32)
    by_node[position[observed.nodes]] = codes
    return AgentsSeen(table, Codes(by_node.reshape(t, r * n), possible))


def _log_densities(likelihood: EachAgent, values: Array, k: int) -> Array:
    """Log-densities (V, K) of values (V,) in every state."""
    if likelihood.discrete:
        values = values.astype(int)
    return by_state(lambda state: log_density(likelihood.likelihood(state), values), k).T


def _labelled(
    graph: Graph, observed: Observations, process: InteractingParticles, values: np.ndarray
) -> tuple[Array, np.ndarray, np.ndarray]:
    """Table (V, K), whether its entries are possible, and codes of labels, V where missing."""
    likelihood: Any = observed.likelihood
    if likelihood.entry or likelihood.transitions:
        raise ValueError("entry and transitions are for single processes in continuous time, not for agents")
    k, outcomes = process.n_states, process.states
    if isinstance(likelihood, Misclassified):
        outcomes = likelihood.labels or process.states
        if likelihood.matrix.shape != (k, len(outcomes)):
            raise ValueError(
                f"matrix must have shape ({k}, {len(outcomes)}), one row per state and one column per "
                f"outcome, got {likelihood.matrix.shape}"
            )
        log_table, possible = log_or_never(likelihood.matrix.T), likelihood.possible.T
    else:
        log_table, possible = log_or_never(jnp.eye(k)), np.eye(k, dtype=bool)
    codes = np.full(values.shape, -1, dtype=np.int32)
    for position, label in enumerate(outcomes):
        codes[np.asarray(values == label, bool)] = position
    missing = _missing(values)
    bad = np.argwhere((codes < 0) & ~missing)
    if len(bad):
        row, agent = (int(i) for i in bad[0])
        label = (
            values[row, agent].item() if isinstance(values[row, agent], np.generic) else values[row, agent]
        )
        raise ValueError(
            f"{graph.describe_node(int(observed.nodes[row]))}, agent {process.agents[agent]!r}: unknown "
            f"state {label!r}; known are {list(outcomes)}"
        )
    return log_table, possible, np.where(missing, len(outcomes), codes)


def _totals(observed: Observations, process: InteractingParticles, order: ChainOrder) -> TotalsSeen:
    likelihood: Any = observed.likelihood
    law = law_of(at_covariates(likelihood, first_row(observed.covariates)), process.state, process.view)
    event = law.shape()
    t, r = order.nodes.shape
    values: Any = observed.values
    if isinstance(values, np.ndarray) and values.dtype == object:
        missing = np.full(event, np.nan)
        values = np.stack([missing if is_missing(v) else np.broadcast_to(v, event) for v in values]).astype(
            float
        )
    values = jnp.asarray(values, jnp.result_type(float))
    if values.shape != (len(observed.nodes), *event):
        raise ValueError(
            f"values: each observation must have shape {event}, as its law has, got shape {values.shape[1:]}"
        )
    if is_concrete(values) and law.is_discrete:
        flat = np.asarray(values)
        bad = flat[~np.isnan(flat) & ((flat != np.round(flat)) | (flat < 0))]
        if len(bad):
            raise ValueError(f"values: {bad[0]:g} is not a count, which the likelihood describes")
    position = np.empty(order.nodes.max() + 1, dtype=np.int64)
    position[order.nodes.reshape(-1)] = np.arange(t * r)
    at = position[observed.nodes]
    full = jnp.full((t * r, *event), jnp.nan).at[at].set(values)
    # where nothing was seen a covariate only has to be one at which the likelihood is finite
    everywhere = lambda own: jnp.broadcast_to(jnp.asarray(own)[0], t * r).at[at].set(own).reshape(t, r)
    inputs = jax.tree.map(everywhere, observed.covariates)
    return TotalsSeen(full.reshape(t, r, *event), inputs, likelihood, process.states)


def _missing(values: Any) -> np.ndarray:
    """Which entries of an array of labels or numbers are None or NaN."""
    return np.asarray(values != values, bool) | np.asarray(values == None, bool)  # noqa: E711
