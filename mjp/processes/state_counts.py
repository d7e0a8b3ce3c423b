"""Numbers of agents by the label of their state."""

from collections.abc import Hashable, Mapping

from jax import Array


class StateCounts(Mapping):
    """Numbers of agents, or of an agent's neighbours, by the label of their state.

    Attributes:
        array: (K, ...) the same in the order of the states.
    """

    __slots__ = ("_states", "array")

    def __init__(self, array: Array, states: tuple):
        self.array, self._states = array, states

    def __getitem__(self, label: Hashable) -> Array:
        if label not in self._states:
            raise KeyError(f"unknown state {label!r}; the states are {list(self._states)}")
        return self.array[self._states.index(label)]

    def __iter__(self):
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)
