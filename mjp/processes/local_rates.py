"""Rules of well-known particle systems in continuous time: rates of change, given an agent's neighbours."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mjp.processes.state_counts import StateCounts


def infection_by(kind: Any) -> str:
    """Name of the parameter that is the rate of infection by contacts of a kind."""
    return f"infection by {kind}"


def _infection(neighbours: Mapping, at: Mapping) -> Array:
    if isinstance(neighbours, StateCounts):
        return at["infection"] * neighbours["I"] + at["external"]
    by_kind = (at[infection_by(kind)] * of["I"] for kind, of in neighbours.items())
    return sum(by_kind, jnp.zeros(())) + at["external"]


def sis(neighbours: Mapping, at: Mapping) -> dict:
    """Infection by infectious neighbours, and recovery without immunity."""
    return {("S", "I"): _infection(neighbours, at), ("I", "S"): at["recovery"]}


def sir(neighbours: Mapping, at: Mapping) -> dict:
    """Infection by infectious neighbours, and recovery."""
    return {("S", "I"): _infection(neighbours, at), ("I", "R"): at["recovery"]}


def sirs(neighbours: Mapping, at: Mapping) -> dict:
    """Infection by infectious neighbours, recovery, and loss of immunity."""
    return {**sir(neighbours, at), ("R", "S"): at["waning"]}


def voter(neighbours: Mapping, at: Mapping) -> Array:
    """Mutation, and listening to a neighbour drawn at random."""
    counts = jnp.stack([neighbours[state] for state in neighbours])
    total = jnp.sum(counts)
    shares = counts / jnp.where(total == 0, 1.0, total)
    to = at["listening"] * shares + at["mutation"] / len(counts)
    return jnp.broadcast_to(to, (len(counts), len(counts)))


def ising(neighbours: Mapping, at: Mapping) -> dict:
    """Spins that are drawn anew by heat bath at unit rate."""
    up = jax.nn.sigmoid(2.0 * (at["coupling"] * (neighbours[1] - neighbours[-1]) + at["field"]))
    return {(-1, 1): up, (1, -1): 1.0 - up}
