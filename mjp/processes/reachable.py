"""The states that reactions can reach from an initial state."""

from typing import NamedTuple

import numpy as np


class Reachable(NamedTuple):
    """States reached within bounds, and the reactions between them.

    Attributes:
        states: (n, d) counts, the initial state first.
        source, target: (m,) positions of the states that a reaction connects; the target n is outside of
            the bounds.
        reaction: (m,) which reaction it is.
    """

    states: np.ndarray
    source: np.ndarray
    target: np.ndarray
    reaction: np.ndarray


def reachable_states(
    initial: np.ndarray,
    reactants: np.ndarray,
    change: np.ndarray,
    upper: np.ndarray,
    total: float,
    max_states: int,
) -> Reachable:
    """Enumerate states breadth first; a reaction can fire wherever its reactants are there.

    Args:
        initial: (d,) counts.
        reactants, change: (L, d), what each reaction needs and what it adds.
        upper: (d,) largest count of each species, infinite for no bound.
        total: largest sum of all counts, infinite for no bound.
        max_states: more states than this are refused.

    Raises:
        ValueError: more than `max_states` states.
    """
    seen = {tuple(initial.tolist()): 0}
    levels, frontier, first = [initial[None]], initial[None], 0
    sources, targets, reactions = [], [], []
    while len(frontier):
        fresh: list[tuple] = []
        for number, (needs, adds) in enumerate(zip(reactants, change, strict=True)):
            able = np.flatnonzero(np.all(frontier >= needs, axis=1) & bool(np.any(adds)))
            reached = frontier[able] + adds
            inside = np.all(reached <= upper, axis=1) & (reached.sum(axis=1) <= total)
            for i, state, ok in zip(
                able.tolist(), map(tuple, reached.tolist()), inside.tolist(), strict=True
            ):
                if ok and state not in seen:
                    seen[state] = len(seen)
                    fresh.append(state)
                sources.append(first + i)
                targets.append(seen[state] if ok else -1)
                reactions.append(number)
        if len(seen) > max_states:
            raise ValueError(
                f"bounds: more than max_states={max_states} states can be reached; give bounds or a total"
            )
        first += len(frontier)
        frontier = np.array(fresh, dtype=np.int64).reshape(len(fresh), len(initial))
        levels.append(frontier)
    states = np.concatenate(levels)
    target = np.asarray(targets, dtype=np.int64)
    return Reachable(
        states,
        np.asarray(sources, dtype=np.int64),
        np.where(target < 0, len(states), target),
        np.asarray(reactions, dtype=np.int64),
    )
