"""What is seen of a state: exact, misclassified, or through any NumPyro distribution."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from mjp._checks import as_numbers, check_hashable, check_labels, check_stochastic

type Likelihood = Exactly | Misclassified | Callable[[Any], Distribution]


class Exactly:
    """The state is seen without error.

    A value is a state's label; `None` or NaN is missing; a set of labels is a censored state, known
    only to be one of them.

    Args:
        entry: a state, or several, whose time of entry is exact (a death date): the process was in
            another, unknown state just before, and the likelihood of the interval is
            sum_k P[r, k] q[k, d] over k other than d (R package msm: `deathexact`).
        transitions: True when every row is an exact transition time, the state being constant in
            between (msm: `obstype = 2`); or the name of a panel column that says so row by row.
    """

    def __init__(self, entry: Hashable | Sequence[Hashable] | None = None, transitions: bool | str = False):
        self.entry = _as_states("entry", entry)
        if not isinstance(transitions, bool | str):
            raise TypeError(f"transitions must be True, False or the name of a column, got {transitions!r}")
        self.transitions = transitions

    def __repr__(self) -> str:
        return f"Exactly(entry={list(self.entry)}, transitions={self.transitions})"


class Misclassified:
    """The state is seen with errors: state j is recorded with probability matrix[i, j] in state i.

    Args:
        matrix: (K, K), rows (true states) summing to one; or (K, M) with `labels` for the M outcomes.
        entry: states that are seen without error and at their exact time of entry, as in `Exactly`.
        labels: the outcomes; default the states.
    """

    def __init__(
        self,
        matrix: Any,
        entry: Hashable | Sequence[Hashable] | None = None,
        labels: Sequence[Hashable] | None = None,
    ):
        if matrix is None:
            raise TypeError("matrix must be an array of shape (K, M), got None")
        self.matrix = jnp.asarray(as_numbers("matrix", matrix))
        if self.matrix.ndim != 2:
            raise ValueError(f"matrix must have shape (K, M), got {self.matrix.shape}")
        check_stochastic("matrix", self.matrix, "outcomes")
        self.entry = _as_states("entry", entry)
        self.labels = None if labels is None else check_labels("labels", labels)
        outcomes = self.matrix.shape[1]
        if self.labels is not None and len(self.labels) != outcomes:
            raise ValueError(f"labels must name {outcomes} outcomes, got {len(self.labels)}")
        self.transitions = False

    def __repr__(self) -> str:
        return f"Misclassified({self.matrix.shape[0]} states, entry={list(self.entry)})"


def _as_states(name: str, value: Any) -> tuple:
    if value is None:
        return ()
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return check_labels(name, list(value))
    check_hashable(name, value)
    return (value,)


def is_missing(value: Any) -> bool:
    """Whether an observed label stands for a missing value."""
    return value is None or (isinstance(value, float | np.floating) and np.isnan(value))
