"""Numbers of agents by the label of their state."""

from collections.abc import Callable, Hashable, Mapping

from jax import Array


class StateCounts(Mapping):
    """Numbers of agents, or of an agent's neighbours, by the label of their state."""

    __slots__ = ("_array", "_states")

    def __init__(self, array: Array, states: tuple):
        self._array, self._states = array, states

    @property
    def array(self) -> Array:
        """(K, ...) the same in the order of the states."""
        return self._array

    def __getitem__(self, label: Hashable) -> Array:
        if label not in self._states:
            raise KeyError(f"unknown state {label!r}; the states are {list(self._states)}")
        return self._array[self._states.index(label)]

    def __iter__(self):
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)


def neighbours_of(array: Array, states: tuple, kinds: tuple, counts: Callable = StateCounts) -> Mapping:
    """What a rule sees of numbers (M K, ...) of neighbours by network and state.

    Args:
        kinds: names of the networks; empty where there is one without a name.
        counts: class of the counts of one network.
    """
    if not kinds:
        return counts(array, states)
    k = len(states)
    return {kind: counts(array[m * k : (m + 1) * k], states) for m, kind in enumerate(kinds)}
