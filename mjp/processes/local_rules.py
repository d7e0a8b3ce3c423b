"""Rules of well-known particle systems: probabilities of a step, given an agent's neighbours."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import Array

from mjp.processes import local_rates


def _in_a_step(rates: Callable[[Mapping, Mapping], dict]) -> Callable[[Mapping, Mapping], dict]:
    """The rule of a step in which changes happen at constant rates, each change on its own."""

    def rule(neighbours: Mapping, at: Mapping) -> dict:
        each = rates(neighbours, at)
        return {change: -jnp.expm1(-rate * at["duration"]) for change, rate in each.items()}

    return rule


sis, sir, sirs = (_in_a_step(rates) for rates in (local_rates.sis, local_rates.sir, local_rates.sirs))


def voter(neighbours: Mapping, at: Mapping) -> Array:
    """Mutation, or else listening to a neighbour drawn at random, or else nothing."""
    counts = jnp.stack([neighbours[state] for state in neighbours])
    k, total = len(counts), jnp.sum(counts)
    alone = total == 0
    shares = counts / jnp.where(alone, 1.0, total)
    listens = jnp.where(alone, 0.0, at["listening"])
    stays = (1.0 - listens) * jnp.eye(k, dtype=counts.dtype)
    return at["mutation"] / k + (1.0 - at["mutation"]) * (stays + listens * shares)


def ising(neighbours: Mapping, at: Mapping) -> Array:
    """Heat bath, whatever the agent's own spin."""
    up = jax.nn.sigmoid(2.0 * (at["coupling"] * (neighbours[1] - neighbours[-1]) + at["field"]))
    return jnp.broadcast_to(jnp.stack([1.0 - up, up]), (2, 2))
