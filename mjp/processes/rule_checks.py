"""Checks of the rule by which agents move: what it returns, and whether that are probabilities."""

from collections import ChainMap
from collections.abc import Callable, Hashable, Mapping
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
    rule: Callable, states: tuple, kinds: tuple, parameters: dict[str, Any]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names that a rule reads beside its parameters and `duration`, and the states that it counts.

    Args:
        kinds: names of the networks, empty for one without a name. parameters: one number () by name.

    Returns:
        names; positions of the states of which neighbours count in some network.

    Raises:
        TypeError: a rule that returns neither changes nor a matrix, or changes that are no pairs.
        ValueError: a change between states that are none, or from a state to itself.
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
                f"rule must return {{(from, to): probability}} or a matrix ({k}, {k}), got shape "
                f"{returned.shape}"
            )
    else:
        for change, value in zip(keys, returned, strict=True):
            _check_change(change, value, states)
    counted = tuple(i for i, label in enumerate(states) if label in read)
    return tuple(name for name in record.read if name != "duration"), counted


def _check_change(change: Any, value: Any, states: tuple) -> None:
    if not isinstance(change, tuple) or len(change) != 2:
        raise TypeError(f"rule: changes must be pairs (from, to) of states, got {change!r}")
    for label in change:
        if label not in states:
            raise ValueError(f"rule: unknown state {label!r}; the states are {list(states)}")
    if change[0] == change[1]:
        raise ValueError(f"rule: {change!r} is no change; what is left is the probability to stay")
    if value.shape != ():
        raise TypeError(f"rule: the probability of {change!r} must be one number, got shape {value.shape}")


def check_steps(
    probabilities: Callable, values: Mapping[str, Any], states: tuple, agents: tuple, most: np.ndarray
) -> None:
    """Raise ValueError unless the steps of agents have probabilities that are some, where they are known now.

    They are looked at without neighbours, and where all neighbours of an agent are in one state.

    Args:
        probabilities: `InteractingParticles.probabilities`. values: what the rule reads, () or (n,) each.
        most: (M,) the number of neighbours, in each network, of the agent that has most of them.
    """
    if not all(is_concrete(value) for value in values.values()):
        return
    shared = all(np.ndim(value) == 0 for value in values.values())
    n, k = (1 if shared else len(agents)), len(states)
    each = {name: np.broadcast_to(np.asarray(value, float), (n,)) for name, value in values.items()}
    with jax.ensure_compile_time_eval():
        for in_state in np.concatenate([np.zeros((1, k)), np.eye(k)]):
            counts = np.outer(most, in_state)  # (M, K)
            rows = probabilities(jnp.asarray(np.tile(counts.reshape(-1, 1), n)), each)
            if not all(is_concrete(p) for row in rows for p in row):
                return  # a rule that reads what is known only when the program runs
            where = f"with {dict(zip(states, counts.sum(axis=0).tolist(), strict=True))} neighbours"
            _check_rows(np.asarray(rows), states, agents, where)


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
