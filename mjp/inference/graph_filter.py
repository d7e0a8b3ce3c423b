r"""Filters and guides of factorial chains that keep chains apart, each with its neighbourhood.

The exact filter of M chains on K states has K**M states. The graph filter replaces the law of all chains by
the product of their marginal laws after every observation, and takes for each chain only the observations
of a neighbourhood into account (Rimella & Whiteley 2022, J. Mach. Learn. Res. 23): its cost is linear in
the number of chains, and exponential in the size of neighbourhoods only. Backwards the same gives a guide
that is a product over chains (van der Meulen & Schauer, arXiv 2010.03509): a product is pulled back
exactly, since chains move independently, and what a neighbourhood observes is averaged over the other
chains in it, by the product of what the filter predicts of them and their own potentials. The log-weight
makes up for the rest.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import logsumexp

from mjp.inference.neighbourhoods import Neighbourhoods, messages
from mjp.inference.particle_chain import ParticleChain
from mjp.inference.particle_guides import ParticleGuide, own_potentials

_LEAST = 1e-12  # of what a neighbourhood says of a state, relative to its mean


class Filtered(NamedTuple):
    """What the graph filter finds.

    Attributes:
        predicted: (F + 1, K, N) probabilities of the chains' states given the observations before each step.
        filtered: (F + 1, K, N) likewise, with those at the step.
        scores: (F + 1, R) log-density of the emissions at each step, as if their numbers were independent.
    """

    predicted: Array
    filtered: Array
    scores: Array


def _inputs(model: ParticleChain) -> tuple[Array, Array, list[Array]]:
    """Matrices (K, K, N), own potentials (T, K, N), and log-likelihoods (T, R F + 1, K**s) of emissions."""
    n_series, k = model.static.n_series, model.k
    matrices = jnp.moveaxis(model.process.transitions, 0, -1)  # type: ignore[attr-defined]
    own = own_potentials(model, jnp.zeros((model.static.n_times, n_series, k)))
    return jnp.tile(matrices, n_series), own, [jnp.moveaxis(seen.tables, 1, 0) for seen in model.local_seen]


def _scaled(weights: Array) -> Array:
    """Weights (K, N) that sum to one over the states, or are all zero."""
    total = jnp.sum(weights, axis=0)
    return weights / jnp.where(total > 0, total, 1.0)


def _exp(logs: Array) -> Array:
    """Exponentials of (K, N) up to a factor for each chain."""
    peak = jnp.max(logs, axis=0)
    return jnp.exp(logs - jnp.where(jnp.isfinite(peak), peak, 0.0))


@partial(jax.jit, static_argnums=1)
def graph_filter(model: ParticleChain, near: Neighbourhoods) -> Filtered:
    """Forward filter; exact in neighbourhoods, that are taken to be independent of each other."""
    matrices, own, tables = _inputs(model)
    steps, n_series = model.static.order.steps, model.static.n_series

    def observe(i: Array, predicted: Array) -> tuple[Array, Array]:
        t = i // steps
        mean = _scaled(predicted * _exp(own[t]))
        here = [table[t] for table in tables]
        found = mean * messages(near, here, mean)
        found = jnp.where(jnp.sum(found, axis=0) > 0, _scaled(found), mean)
        score = jnp.zeros(n_series)
        for seen, table in zip(model.local_seen, here, strict=True):
            score = score + expected(seen.scopes.agents, table, mean).reshape(n_series, -1).sum(axis=1)
        return found, score

    def expected(agents: np.ndarray, table: Array, mean: Array) -> Array:
        """Log of the mean likelihood (R F,) of each number, chains being independent."""
        joint = jnp.zeros((len(agents), 1))
        for place in range(agents.shape[1]):
            shares = jnp.log(jnp.maximum(mean[:, agents[:, place]].T, jnp.finfo(mean.dtype).tiny))
            joint = (joint[:, :, None] + shares[:, None, :]).reshape(len(agents), -1)
        return logsumexp(joint + table[:-1], axis=1)

    def step(predicted: Array, i: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        unseen = lambda: (predicted, jnp.zeros(n_series))
        filtered, score = lax.cond(i % steps == 0, lambda: observe(i, predicted), unseen)
        following = jnp.einsum("an,abn->bn", filtered, matrices)
        return following, (predicted, filtered, score)

    _, found = lax.scan(step, jnp.exp(model.first), jnp.arange(model.shape[0]))
    return Filtered(*found)


@partial(jax.jit, static_argnums=1)
def localised_guide(model: ParticleChain, near: Neighbourhoods, forward: Filtered) -> ParticleGuide:
    """The guide whose neighbourhoods are averaged by what the filter predicts."""
    matrices, own, tables = _inputs(model)
    steps, n = model.static.order.steps, model.shape[1]
    firsts = jnp.arange(model.static.n_series) * (n // model.static.n_series)

    def observe(i: Array, pulled: Array) -> Array:
        t = i // steps
        mean = _scaled(forward.predicted[i] * pulled * _exp(own[t]))
        said = messages(near, [table[t] for table in tables], mean)
        average = jnp.sum(mean * said, axis=0)
        said = jnp.where(average > 0, said / jnp.where(average > 0, average, 1.0), 1.0)
        return jnp.log(pulled) + own[t] + jnp.log(jnp.maximum(said, _LEAST))

    def step(pulled: Array, i: Array) -> tuple[Array, tuple[Array, Array]]:
        raw = lax.cond(i % steps == 0, lambda: observe(i, pulled), lambda: jnp.log(pulled))
        norm = logsumexp(raw, axis=0)
        norm = jnp.where(jnp.isfinite(norm), norm, 0.0)
        log_g = raw - norm
        return jnp.einsum("abn,bn->an", matrices, jnp.exp(log_g)), (log_g, norm)

    last = jnp.ones((model.k, n))
    _, (log_g, norms) = lax.scan(step, last, jnp.arange(model.shape[0]), reverse=True)
    # any constant will do, since weights take it back; with this one the guide's evidence is nearly right
    norms = norms.at[::steps, firsts].add(forward.scores[::steps])
    tilts = jnp.zeros((model.static.n_times, model.static.n_series, model.k))
    return ParticleGuide(log_g, norms, tilts, jnp.exp(log_g))
