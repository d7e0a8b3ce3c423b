"""Labels of a finite state space."""

from collections.abc import Hashable, Iterable
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

    def index(self, label: Hashable) -> int:
        """Position of a state label; raises ValueError for a label that is not a state."""
        for position, state in enumerate(self.states):
            if state == label:
                return position
        raise ValueError(f"unknown state {label!r}; the states are {list(self.states)}")

    def encode(self, labels: Iterable[Any]) -> np.ndarray:
        """Positions of state labels, (n,) int."""
        return np.asarray([self.index(label) for label in labels], dtype=np.int32)
