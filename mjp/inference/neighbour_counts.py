"""Numbers of neighbours while members of a colour move: without them, with them, and after the move.

Counts are kept by plane, a network and a state, in arrays (N + 1, S) over the agents and whatever they are
needed at, steps or events; the last row is of an agent that does not exist, which takes what is padded. P
influenced agents, weights (M, P, 1) of the contacts by which members influence them.
"""

import jax.numpy as jnp
from jax import Array

type Planes = list[tuple[int, int]]


def with_dummy(array: Array) -> Array:
    """The array with one more row, of zeros."""
    return jnp.concatenate([array, jnp.zeros_like(array[:1])])


def without(
    field: list[Array], planes: Planes, influenced: Array, weights: Array, before: Array
) -> list[Array]:
    """Counts (P, S) around the influenced, but for the member, whose states are `before` (P, S)."""
    return [
        jnp.maximum(share[influenced] - weights[m] * (before == s), 0.0)
        for share, (m, s) in zip(field, planes, strict=True)
    ]


def with_member(others: list[Array], planes: Planes, weights: Array, state: int | None) -> list[Array]:
    """Counts (P, S) with the member in a state; in one that no plane counts if None."""
    return [share + weights[m] if s == state else share for share, (m, s) in zip(others, planes, strict=True)]


def moved(
    field: list[Array], planes: Planes, influenced: Array, weights: Array, before: Array, after: Array
) -> list[Array]:
    """The field after members have moved from states `before` to `after`, (P, S) each."""
    return [
        share.at[influenced].add(weights[m] * (1.0 * (after == s) - (before == s)))
        for share, (m, s) in zip(field, planes, strict=True)
    ]
