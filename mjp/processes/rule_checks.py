"""Checks of the rule by which agents move: what it returns, and whether that are probabilities."""

from collections import ChainMap
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import is_concrete
from mjp.processes.process import CovariateRecord
from mjp.processes.state_counts import StateCounts, neighbours_of

_TOLERANCE = 1e-6
_TOTAL = 1e-4  # as for other transition matrices


class _Recorded(StateCounts):
    """Counts that note which states were asked for."""

    __slots__ = ("_read",)

    def __init__(self, array: Array, states: tuple, read: set):
        super().__init__(array, states)
        self._read = read

    def __getitem__(self, label: Hashable) -> Array:
        found = super().__getitem__(label)
        self._read.add(label)
        return found

    @property
    def array(self) -> Array:
        self._read.update(self)
        return self._array


def check_rule(
    rule: Callable, states: tuple, kinds: tuple, parameters: dict[str, Any], what: str
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[tuple, ...] | None]:
    """Names that a rule reads beside its parameters and `duration`, and the states that it counts.

    Args:
        kinds: names of the networks, empty for one without a name. parameters: one number () by name.
        what: a change has, for messages: "probability" or "rate".

    Returns:
        names; positions of the states of which neighbours count in some network; the changes that the rule
        names, None where it returns a matrix.

    Raises:
        TypeError: a rule that returns neither changes nor a matrix, or changes that are no pairs.
        ValueError: a change between states that are none, or from a state to itself; a rate that depends on
            the duration of a step.
    """
    record = CovariateRecord(1.0)
    at = ChainMap(parameters, record)  # type: ignore[arg-type]
    keys: list[Any] = []
    read: set[Hashable] = set()

    def call(counts: Array) -> Any:
        found = rule(neighbours_of(counts, states, kinds, partial(_Recorded, read=read)), at)
        if isinstance(found, Mapping):
            keys.extend(found)
            return [jnp.asarray(value) for value in found.values()]
        keys.append(None)
        return jnp.asarray(found)

    k = len(states)
    numbers = jax.ShapeDtypeStruct((k * max(len(kinds), 1),), jnp.result_type(float))
    returned = jax.eval_shape(call, numbers)
    if keys == [None]:
        if returned.shape != (k, k):
            raise TypeError(
                f"rule must return {{(from, to): {what}}} or a matrix ({k}, {k}), got shape {returned.shape}"
            )
    else:
        for change, value in zip(keys, returned, strict=True):
            _check_change(change, value, states, what)
    if what == "rate" and "duration" in record.read:
        raise ValueError("rule: rates per unit of time must not depend on the duration of a step")
    counted = tuple(i for i, label in enumerate(states) if label in read)
    names = tuple(name for name in record.read if name != "duration")
    return names, counted, None if keys == [None] else tuple(keys)


def _check_change(change: Any, value: Any, states: tuple, what: str) -> None:
    if not isinstance(change, tuple) or len(change) != 2:
        raise TypeError(f"rule: changes must be pairs (from, to) of states, got {change!r}")
    for label in change:
        if label not in states:
            raise ValueError(f"rule: unknown state {label!r}; the states are {list(states)}")
    if change[0] == change[1]:
        raise ValueError(f"rule: {change!r} is no change; staying needs no {what} of its own")
    if value.shape != ():
        raise TypeError(f"rule: the {what} of {change!r} must be one number, got shape {value.shape}")


def check_steps(
    probabilities: Callable, values: Mapping[str, Any], states: tuple, agents: tuple, most: np.ndarray
) -> None:
    """Raise ValueError unless the steps of agents have probabilities that are some, where they are known now.

    They are looked at without neighbours, and where all neighbours of an agent are in one state.

    Args:
        probabilities: `InteractingParticles.probabilities`. values: what the rule reads, () or (n,) each.
        most: (M,) the number of neighbours, in each network, of the agent that has most of them.
    """
    for rows, where in _at_extremes(probabilities, values, states, agents, most):
        _check_rows(rows, states, agents, where)


def check_rates(
    rates: Callable, values: Mapping[str, Any], states: tuple, agents: tuple, most: np.ndarray
) -> None:
    """Raise ValueError unless rates are finite and at least zero, where they are known now; as `check_steps`.

    Args:
        rates: `InteractingJumps.rates`.
    """
    for rows, where in _at_extremes(rates, values, states, agents, most):
        bad = np.argwhere(~np.isfinite(rows) | (rows < 0))
        off = [one for one in bad if one[0] != one[1]]
        if off:
            a, b, agent = (int(i) for i in off[0])
            raise ValueError(
                f"rule: the rate of ({states[a]!r}, {states[b]!r}) must be finite and >= 0, got "
                f"{rows[a, b, agent]:g} for agent {agents[agent]!r} {where}"
            )


def _at_extremes(
    matrices: Callable, values: Mapping[str, Any], states: tuple, agents: tuple, most: np.ndarray
) -> Iterator[tuple[np.ndarray, str]]:
    """Matrices (K, K, n) without neighbours and with all in one state, and words for which it is."""
    if not all(is_concrete(value) for value in values.values()):
        return
    shared = all(np.ndim(value) == 0 for value in values.values())
    n, k = (1 if shared else len(agents)), len(states)
    each = {name: np.broadcast_to(np.asarray(value, float), (n,)) for name, value in values.items()}
    with jax.ensure_compile_time_eval():
        for in_state in np.concatenate([np.zeros((1, k)), np.eye(k)]):
            counts = np.outer(most, in_state)  # (M, K)
            rows = matrices(jnp.asarray(np.tile(counts.reshape(-1, 1), n)), each)
            if not all(is_concrete(p) for row in rows for p in row):
                return  # a rule that reads what is known only when the program runs
            where = f"with {dict(zip(states, counts.sum(axis=0).tolist(), strict=True))} neighbours"
            yield np.asarray(rows), where


def _check_rows(rows: np.ndarray, states: tuple, agents: tuple, where: str) -> None:
    bad = np.argwhere(~(rows >= -_TOLERANCE) | ~(rows <= 1 + _TOLERANCE))
    off = [one for one in bad if one[0] != one[1]]  # what is left to stay is wrong because of these
    if len(bad):
        a, b, agent = (int(i) for i in (off or bad)[0])
        raise ValueError(
            f"rule: the probability of ({states[a]!r}, {states[b]!r}) must be in [0, 1], got "
            f"{rows[a, b, agent]:g} for agent {agents[agent]!r} {where}"
        )
    total = rows.sum(axis=1)
    bad = np.argwhere(np.abs(total - 1.0) > _TOTAL)
    if len(bad):
        a, agent = (int(i) for i in bad[0])
        raise ValueError(
            f"rule: probabilities from state {states[a]!r} must sum to 1, got {total[a, agent]:g} for agent "
            f"{agents[agent]!r} {where}"
        )
