"""Finite-state Markov processes in continuous time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import as_numbers, check_finite, check_labels, check_times, is_concrete
from mjp.processes.finite_states import FiniteStateProcess
from mjp.processes.process import covariates_read

type Rates = Any  # matrix, or {(from, to): rate}, or a function from covariates to either


class MarkovJump(FiniteStateProcess):
    """A Markov jump process on K states: it leaves x for y at rate q[x, y].

    Args:
        rates: the generator (K, K), whose diagonal is ignored; or {(from, to): rate}, where transitions
            not named have rate zero; or a function from an interval's covariates (a mapping from names
            to scalars, constant over the interval) to either. In a panel the covariate `subject` is the
            position of the subject, so that a random effect is written `effect[c["subject"]]`.
        states: labels of the states as used in data; default 0 … K-1 for a matrix, and the order of
            first appearance for named transitions.
        breaks: increasing times at which the rates change. With p breaks every rate has a leading axis
            of p + 1 pieces: a matrix is (p + 1, K, K), a named rate (p + 1,).

    Rates are per unit of the time in which durations are given.

    Raises:
        ValueError, TypeError: negative or non-finite rates, wrong shapes, labels that are not states, a
            transition from a state to itself.
    """

    matrix: Array | np.ndarray | None
    values: tuple | None
    function: Callable[[Mapping], Any] | None = eqx.field(static=True)
    transitions: tuple[tuple[int, int], ...] | None = eqx.field(static=True)
    covariates: tuple[str, ...] = eqx.field(static=True)
    states: tuple = eqx.field(static=True)
    breaks: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, rates: Rates, states: Sequence | None = None, *, breaks: Sequence[float] = ()):
        self.breaks = tuple(check_times("breaks", breaks).tolist()) if np.size(breaks) else ()
        self.matrix = self.values = self.function = self.transitions = None
        self.covariates = ()
        sample: Any = rates
        if callable(rates):
            self.function = rates
            self.covariates, sample = covariates_read(rates)
        if isinstance(sample, Mapping):
            self.states = _states_of_transitions(sample, states)
            self.transitions = tuple((self.index(a), self.index(b)) for a, b in sample)
            _check_named_rates(sample, self.n_pieces)
            if self.function is None:
                self.values = tuple(sample.values())
        else:
            sample = as_numbers("rates", sample)
            shape = getattr(sample, "shape", None)
            expected = ("pieces", "K", "K") if self.breaks else ("K", "K")
            pieces = (self.n_pieces,) if self.breaks else ()
            if shape is None:
                what = "return" if self.function is not None else "be"
                raise TypeError(
                    f"rates must {what} a matrix or {{(from, to): rate}}, got {type(sample).__name__}"
                )
            if len(shape) != len(expected) or shape[-1] != shape[-2] or shape[:-2] != pieces:
                wanted = ", ".join([*map(str, pieces), "K", "K"])
                raise ValueError(f"rates must have shape ({wanted}), got {tuple(shape)}")
            self.states = check_labels("states", range(shape[-1]) if states is None else states)
            if len(self.states) != shape[-1]:
                raise ValueError(
                    f"states must name the {shape[-1]} states of rates, got {len(self.states)} labels"
                )
            if self.function is None:
                self.matrix = sample
                _check_matrix(sample, self.states)

    @property
    def n_pieces(self) -> int:
        return len(self.breaks) + 1

    def generator(self, covariates: Mapping) -> Array:
        """Generators (n_pieces, K, K) with rows summing to zero, for one set of covariates."""
        rates: Any = self.function(covariates) if self.function is not None else self.matrix
        if self.transitions is not None:
            named = tuple(rates.values()) if self.function is not None else self.values
            assert named is not None
            values = [jnp.broadcast_to(jnp.asarray(value), (self.n_pieces,)) for value in named]
            source, target = np.asarray(self.transitions).T
            # placed by a product with a constant, because the derivative of a scatter is slow
            n = self.n_states
            place = np.zeros((len(values), n, n))
            place[np.arange(len(values)), source, target] = 1.0
            place[np.arange(len(values)), source, source] = -1.0
            stacked = jnp.stack(values, axis=-1)
            return jnp.tensordot(stacked, jnp.asarray(place, stacked.dtype), axes=1)
        off_diagonal = jnp.asarray(rates) * (1.0 - np.eye(self.n_states))
        if not self.breaks:
            off_diagonal = off_diagonal[None]
        return off_diagonal - jnp.eye(self.n_states) * jnp.sum(off_diagonal, axis=-1, keepdims=True)

    def support(self) -> np.ndarray | None:
        """Which transitions can happen, (K, K) bool, or None where it is not known before run time."""
        if self.transitions is not None:
            support = np.zeros((self.n_states, self.n_states), dtype=bool)
            values = self.values if self.values is not None else (None,) * len(self.transitions)
            for (a, b), value in zip(self.transitions, values, strict=True):
                support[a, b] = value is None or not is_concrete(value) or bool(np.any(np.asarray(value) > 0))
            return support
        if self.matrix is None or not is_concrete(self.matrix):
            return None
        positive = np.asarray(self.matrix) > 0
        positive = positive.any(axis=0) if self.breaks else positive
        return positive & ~np.eye(self.n_states, dtype=bool)


def _states_of_transitions(rates: Mapping, states: Sequence | None) -> tuple:
    appeared = []
    for key in rates:
        if not (isinstance(key, tuple) and len(key) == 2):
            raise TypeError(f"rates must be keyed by (from, to), got the key {key!r}")
        if key[0] == key[1]:
            raise ValueError(f"rates has a transition from {key[0]!r} to itself; the diagonal is implied")
        appeared += [label for label in key if label not in appeared]
    if not appeared:
        raise ValueError("rates must name at least one transition, got an empty mapping")
    if states is None:
        return tuple(appeared)
    labels = check_labels("states", states)
    unknown = [label for label in appeared if label not in labels]
    if unknown:
        raise ValueError(f"rates has a transition of {unknown[0]!r}, which is not in states {list(labels)}")
    return labels


def _check_named_rates(rates: Mapping, n_pieces: int) -> None:
    for (a, b), value in rates.items():
        shape = tuple(getattr(value, "shape", np.shape(value)))
        if shape != () and (n_pieces == 1 or shape != (n_pieces,)):
            wanted = "a scalar" if n_pieces == 1 else f"a scalar or {n_pieces} pieces"
            raise ValueError(f"the rate from {a!r} to {b!r} must be {wanted}, got shape {shape}")
        if hasattr(value, "dtype") and not hasattr(value, "__array__"):
            continue  # a shape without numbers, from a function of covariates
        if is_concrete(value):
            try:
                number = np.asarray(value, dtype=float)
            except (TypeError, ValueError):
                raise TypeError(f"the rate from {a!r} to {b!r} must be a number, got {value!r}") from None
            if not np.all(np.isfinite(number)) or np.any(number < 0):
                raise ValueError(f"the rate from {a!r} to {b!r} must be finite and >= 0, got {value}")


def _check_matrix(matrix: Any, states: tuple) -> None:
    if not is_concrete(matrix):
        return
    array = np.array(matrix, dtype=float)
    diagonal = np.arange(array.shape[-1])
    array[..., diagonal, diagonal] = 0.0
    check_finite("rates", array)
    if np.any(array < 0):
        where = np.argwhere(array < 0)[0]
        a, b = (states[int(i)] for i in where[-2:])
        raise ValueError(f"the rate from {a!r} to {b!r} must be >= 0, got {array[tuple(where)]:g}")
