"""Labels of finite state spaces."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import equinox as eqx
import numpy as np

from mjp.processes.process import Process


class FiniteStateProcess(Process):
    """A process on finitely many labelled states."""

    states: eqx.AbstractVar[tuple]

    @property
    def n_states(self) -> int:
        return len(self.states)

    @property
    def parent_states(self) -> tuple[tuple[int, tuple | None], ...]:
        """Number of states of each parent, and their labels; None where any will do."""
        return ((self.n_states, self.states),)

    def index(self, label: Hashable) -> int:
        """Position of a state label; raises ValueError for a label that is not a state."""
        for position, state in enumerate(self.states):
            if state == label:
                return position
        raise ValueError(f"unknown state {label!r}; the states are {list(self.states)}")

    def check_parents(self, edge: str, parents: Sequence[tuple[Hashable, Process | None]]) -> None:
        if len(parents) != len(self.parent_states):
            takes = "one parent" if len(self.parent_states) == 1 else f"{len(self.parent_states)} parents"
            names = tuple(name for name, _ in parents)
            raise ValueError(f"parent: {type(self).__name__} takes {takes}, got {len(parents)}: {names!r}")
        for (name, process), (size, _) in zip(parents, self.parent_states, strict=True):
            if process is None:
                continue
            if not isinstance(process, FiniteStateProcess):
                raise TypeError(
                    f"parent: {name!r} of {edge} is a state of {type(process).__name__}, where "
                    f"{type(self).__name__} needs one of {size} labelled states"
                )

    def encode(self, labels: Iterable[Any]) -> np.ndarray:
        """Positions of state labels, (n,) int."""
        return np.asarray([self.index(label) for label in labels], dtype=np.int32)


class Labelled(FiniteStateProcess):
    """States with labels, and no law: what observations of a node need to know of it."""

    states: tuple = eqx.field(static=True)
