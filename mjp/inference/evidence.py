"""Unbiased estimates of the evidence by importance sampling with the guided process."""

import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp

from mjp._checks import check_particles
from mjp.agent_jump_trajectory import AgentJumpTrajectory
from mjp.count_trajectory import CountTrajectory
from mjp.graph import Graph
from mjp.inference.condition import Guided, condition
from mjp.inference.safe_logs import never_if_nan

_BATCH = 1000  # particles drawn side by side
_SAME = 1e-12  # spread of log-weights that are all the same
TRUSTED = 0.7  # largest Pareto k-hat of weights whose sum is to be trusted
_FEW = 0.1  # share of effective particles below which a heavy tail is told
_ENOUGH = 100  # particles from which a tail is judged
_LEAST = 25  # positive weights from which a tail has the five points that its shape needs


class Evidence(NamedTuple):
    """An estimate of the evidence; exp(log_evidence) is unbiased.

    Attributes:
        log_evidence: in the batch shape of the graph.
        standard_error: of the log, by the delta method.
        ess: effective number of particles, of those drawn.
        khat: shape of the Pareto tail of the positive weights; above 0.7 the estimate is not to be trusted.
            Minus infinity where the largest are all the same, infinity where they are too few to tell.
        hit_rate: share of the draws whose weight is positive: of jump paths, those that hit what was seen
            exactly.
        overflow: pieces of jump paths, or agents in continuous time, over all draws, whose events did not fit
            the buffer; such draws have weight zero, so that the estimate is too low.
    """

    log_evidence: Array
    standard_error: Array
    ess: Array
    khat: np.ndarray
    hit_rate: Array
    overflow: int = 0


def evidence(graph: Graph, key: Array, particles: int, **options: Any) -> Evidence:
    """Estimate p(data) = exp(log_evidence) E[exp(log_weight)] with independent guided draws.

    An exactly conditioned graph needs no draws: its standard error is zero, its effective sample size is
    `particles`, its tail shape minus infinity and its hit rate one. Where every draw has weight zero, the
    estimate is zero, its error infinite and its effective sample size zero.

    Args:
        particles: number of draws. options: as for `mjp.condition`.

    Raises:
        ValueError: fewer than two particles; propensities of reaction networks that are negative, not
            finite, or positive without reactants.

    Warns:
        UserWarning: jump paths whose events did not fit the buffer; paths that are not finite; weights with a
            heavy tail.
    """
    check_particles(particles)
    return estimate(condition(graph, **options), key, particles)


def estimate(guided: Guided, key: Array, particles: int) -> Evidence:
    """The evidence of a graph that is conditioned already; see `evidence`."""
    zero = jnp.zeros_like(guided.log_evidence)
    if guided.exact:
        return Evidence(guided.log_evidence, zero, zero + particles, np.full(zero.shape, -np.inf), zero + 1)
    log_weights, faults = _log_weights(guided, jax.random.split(key, particles))
    overflow, invalid = (int(count) for count in np.sum(faults, axis=0))
    report_faults(overflow, invalid, particles)
    log_weights = _finite(log_weights)
    total = logsumexp(log_weights, axis=0)
    shares = jnp.exp(log_weights - jnp.where(jnp.isfinite(total), total, 0.0))
    ess = jnp.where(jnp.isfinite(total), 1.0 / jnp.sum(shares**2, axis=0), 0.0)
    error = jnp.sqrt(jnp.maximum(1.0 / ess - 1.0 / particles, 0.0))
    log_evidence = guided.log_evidence + total - jnp.log(particles)
    hit_rate = jnp.mean(log_weights > -jnp.inf, axis=0)
    khat = tail_shape(np.asarray(log_weights))
    told = overflow > 0  # then the tail is that of what is left
    few = np.asarray(ess) < _FEW * particles  # tails of weights that take few values fit no Pareto law
    doubtful = (khat > TRUSTED) & few & np.isfinite(np.asarray(log_evidence))
    if particles >= _ENOUGH and np.any(doubtful) and not told:
        warnings.warn(
            f"the weights of the guided paths have a heavy tail (Pareto k-hat {np.max(khat):.2f}, above "
            f"{TRUSTED}): the evidence is likely too low and its standard error too small; give more "
            "particles, a better guide (auxiliary), or use mjp.smc where there is one",
            stacklevel=3,
        )
    return Evidence(log_evidence, error, ess, khat, hit_rate, overflow)


def _finite(log_weights: Array) -> Array:
    """Log-weights with -inf, the likelihood of a state that is not finite, for those that are NaN.

    Warns:
        UserWarning: there were such.
    """
    lost = int(np.sum(np.isnan(np.asarray(log_weights))))
    if lost:
        warnings.warn(
            f"{lost} of {log_weights.size} guided paths ran away and are not finite; their weight is taken "
            "as zero. More steps per edge help",
            stacklevel=4,
        )
    return never_if_nan(log_weights)


def report_faults(overflow: int, invalid: int, draws: int, room: str = "max_events") -> None:
    """Say what went wrong on guided jump paths; `room` is the option that limits their events.

    Raises:
        ValueError: a propensity that is none.

    Warns:
        UserWarning: a buffer that was too short.
    """
    if invalid:
        raise ValueError(
            f"propensities that are negative, not finite, or positive without reactants were met {invalid} "
            f"times by {draws} guided draws; mjp.simulate names reaction, state and time"
        )
    if overflow:
        warnings.warn(
            f"the buffer was too short for {overflow} pieces of {draws} guided paths, whose weight is zero, "
            f"so that the evidence is too low; give a larger {room} (agents: or max_jumps, or bound)",
            stacklevel=4,
        )


@eqx.filter_jit
def _log_weights(guided: Guided, keys: Array) -> tuple[Array, Array]:
    """Log-weights of one guided draw per key, a bounded number side by side; overflow and faults (n, 2)."""

    def one(key: Array) -> tuple[Array, Array]:
        path, log_weight = guided.sample(key)
        if not isinstance(path, CountTrajectory | AgentJumpTrajectory):
            return log_weight, jnp.zeros(2, jnp.int32)
        return log_weight, jnp.asarray([path.overflow, getattr(path, "invalid", 0)], jnp.int32)

    return jax.lax.map(one, keys, batch_size=_BATCH)


def tail_shape(log_weights: np.ndarray) -> np.ndarray:
    """Pareto shape of the tail of the weights, from log-weights (n, ...).

    Weights of zero say nothing of the tail and are left out; see `Evidence.khat`.
    """
    flat = log_weights.reshape(len(log_weights), -1)
    return np.asarray([_shape_of(column) for column in flat.T]).reshape(log_weights.shape[1:])


def _shape_of(log_weights: np.ndarray) -> float:
    from arviz_stats.base.array import array_stats

    positive = log_weights[log_weights > -np.inf]
    if len(positive) and np.ptp(positive) <= _SAME:
        return -np.inf
    if len(positive) < _LEAST:
        return np.inf
    n_tail = int(min(3 * np.sqrt(len(positive)), len(positive) / 5))
    if np.ptp(np.sort(positive)[-n_tail:]) <= _SAME:
        return -np.inf
    # psislw takes log-likelihoods, of which the weights of leave-one-out cross-validation are the reciprocals
    shape = float(array_stats.psislw(-positive, axis=-1)[1])
    return np.inf if np.isnan(shape) else shape
