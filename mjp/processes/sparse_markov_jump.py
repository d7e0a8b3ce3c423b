"""Markov jump processes with many states and few transitions per state."""

from collections.abc import Hashable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import check_finite, is_concrete
from mjp.processes.finite_states import FiniteStateProcess


class SparseMarkovJump(FiniteStateProcess):
    """A Markov jump process on states 0 … K-1 whose generator is never formed as a dense matrix.

    For counts and truncated networks of up to about 10^4 states, on chains and panels.

    Args:
        source, target: (n,) states between which transitions are possible; known before compilation.
        rates: (n,) rate of each transition, per unit of time.
        n_states: K.

    Raises:
        ValueError: arrays of different lengths, states outside 0 … K-1, a transition from a state to
            itself or named twice, negative or non-finite rates.
    """

    rates: Array | np.ndarray
    source: np.ndarray
    target: np.ndarray
    states: tuple = eqx.field(static=True)

    def __init__(self, source: Any, target: Any, rates: Any, n_states: int):
        if not (is_concrete(source) and is_concrete(target)):
            raise TypeError("source, target: the transitions must be known before compilation")
        self.source, self.target = np.asarray(source, np.int64), np.asarray(target, np.int64)
        self.rates = np.asarray(rates) if isinstance(rates, list) else rates
        self.states = tuple(range(n_states))
        shapes = (self.source.shape, self.target.shape, tuple(np.shape(rates)))
        if len(set(shapes)) > 1 or len(shapes[0]) != 1:
            raise ValueError(f"source, target and rates must have the same shape (n,), got {shapes}")
        for name, values in (("source", self.source), ("target", self.target)):
            if len(values) and (values.min() < 0 or values.max() >= n_states):
                bad = values[(values < 0) | (values >= n_states)][0]
                raise ValueError(f"{name} must lie in 0 … {n_states - 1}, got {bad}")
        if np.any(self.source == self.target):
            state = self.source[self.source == self.target][0]
            raise ValueError(f"source, target: a transition from state {state} to itself")
        pairs, counts = np.unique(np.stack([self.source, self.target]), axis=1, return_counts=True)
        if np.any(counts > 1):
            a, b = pairs[:, counts > 1][:, 0]
            raise ValueError(f"source, target: the transition from {a} to {b} is named twice")
        check_finite("rates", rates)
        if is_concrete(rates) and np.any(np.asarray(rates) < 0):
            i = int(np.argmax(np.asarray(rates) < 0))
            pair = f"from {self.source[i]} to {self.target[i]}"
            raise ValueError(f"the rate {pair} must be >= 0, got {np.asarray(rates)[i]:g}")

    @classmethod
    def birth_death(cls, births: Any, deaths: Any) -> "SparseMarkovJump":
        """A process on counts 0 … K-1.

        Args:
            births: (K-1,) rates from x to x + 1 for x = 0 … K-2.
            deaths: (K-1,) rates from x to x - 1 for x = 1 … K-1.
        """
        lower = np.arange(np.shape(births)[0])
        source, target = np.r_[lower, lower + 1], np.r_[lower + 1, lower]
        return cls(source, target, jnp.concatenate([births, deaths]), len(lower) + 1)

    def index(self, label: Hashable) -> int:
        """Position of a state, which is the state itself; raises ValueError outside 0 … K-1."""
        if isinstance(label, int | np.integer) and not isinstance(label, bool):
            position = int(label)
            if 0 <= position < self.n_states:
                return position
        raise ValueError(f"unknown state {label!r}; the states are 0 … {self.n_states - 1}")
