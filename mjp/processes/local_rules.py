"""Rules of well-known particle systems: probabilities of a step, given an agent's neighbours."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mjp.processes.state_counts import StateCounts


def _happens(rate: Array, duration: Array) -> Array:
    return -jnp.expm1(-rate * duration)


def infection_by(kind: Any) -> str:
    """Name of the parameter that is the rate of infection by contacts of a kind."""
    return f"infection by {kind}"


def _infected(neighbours: Mapping, at: Mapping) -> Array:
    if isinstance(neighbours, StateCounts):
        rate = at["infection"] * neighbours["I"]
    else:
        rate = sum((at[infection_by(kind)] * of["I"] for kind, of in neighbours.items()), jnp.zeros(()))
    return _happens(rate + at["external"], at["duration"])


def sis(neighbours: Mapping, at: Mapping) -> dict:
    """Infection by infectious neighbours, and recovery without immunity."""
    recovers = _happens(at["recovery"], at["duration"])
    return {("S", "I"): _infected(neighbours, at), ("I", "S"): recovers}


def sir(neighbours: Mapping, at: Mapping) -> dict:
    """Infection by infectious neighbours, and recovery."""
    recovers = _happens(at["recovery"], at["duration"])
    return {("S", "I"): _infected(neighbours, at), ("I", "R"): recovers}


def sirs(neighbours: Mapping, at: Mapping) -> dict:
    """Infection by infectious neighbours, recovery, and loss of immunity."""
    return {**sir(neighbours, at), ("R", "S"): _happens(at["waning"], at["duration"])}


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
