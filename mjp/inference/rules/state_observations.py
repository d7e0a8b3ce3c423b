"""Observations of finite states as potentials."""

import warnings
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Distribution

from mjp._checks import is_concrete
from mjp._table_checks import check_tables
from mjp.graph import Graph, Observations
from mjp.inference.potentials.categorical import Categorical
from mjp.inference.rules.finite_states import ENTRY, EXACT_TRANSITION, SNAPSHOT
from mjp.inference.seen_entries import check_whole, log_density_where_seen, partly_missing
from mjp.inference.segments import Segments, take
from mjp.likelihood_covariates import at_covariates, first_row, joined_rows, take_rows
from mjp.observations import Exactly, Misclassified, is_missing
from mjp.processes.finite_states import FiniteStateProcess

UNKNOWN = -1


class StateEvidence:
    """What the observations of a graph say about its nodes.

    Attributes:
        known: (n,) state of each node, or UNKNOWN.
        arrival: (n,) how each node's in-edge ends.
        factors: potentials as (table of V + 1 rows whose last is one, row of each node).
    """

    def __init__(self, graph: Graph, process: FiniteStateProcess, n_nodes: int):
        self.graph, self.process = graph, process
        self.known = np.full(n_nodes, UNKNOWN, dtype=np.int64)
        self.arrival = np.full(n_nodes, SNAPSHOT, dtype=np.int8)
        self.factors: list[tuple[Categorical, np.ndarray]] = []
        self._indices: dict[tuple[type, Hashable], int] = {}  # of the labels met so far
        for observed in _merged(graph.observations):
            self._add(observed)

    def potentials(self) -> Categorical:
        """Potential of each node with a dummy node of potential one behind, (n + 1, K)."""
        n, k = len(self.known), self.process.n_states
        dtype = jnp.result_type(float)
        total = Categorical(jnp.ones((n + 1, k), dtype), jnp.zeros(n + 1, dtype))
        for i, (table, row) in enumerate(self.factors):
            rows = Segments(np.append(row, table.values.shape[0] - 1), table.values.shape[0])
            factor = Categorical(take(table.values, rows), take(table.log_scale, rows))
            total = factor if i == 0 else total.fuse(factor)
        return total

    def set_known(self, node: int, label: Any) -> None:
        """Record that a node's state is known; raises ValueError for a contradiction."""
        state = self._state(label, node)
        if self.known[node] not in (UNKNOWN, state):
            earlier = self.process.states[self.known[node]]
            raise ValueError(f"{self._where(node)}: observed both as {earlier!r} and as {label!r}")
        self.known[node] = state

    def _add(self, observed: Observations) -> None:
        likelihood: Any = observed.likelihood
        if isinstance(likelihood, Exactly):
            self._exactly(observed, likelihood)
        elif isinstance(likelihood, Misclassified):
            self._misclassified(observed, likelihood)
        else:
            self._through(observed, likelihood)

    def _exactly(self, observed: Observations, likelihood: Exactly) -> None:
        entry = {self._entry(label) for label in likelihood.entry}
        exact = observed.exact_transition
        if isinstance(likelihood.transitions, bool):
            exact = np.full(len(observed.nodes), likelihood.transitions)
        elif exact is None:
            raise ValueError(
                f"transitions: {likelihood.transitions!r} names a column, which only a panel has; use True "
                "or False here"
            )
        censored: dict[frozenset, list[int]] = {}
        for i, (node, label) in enumerate(zip(observed.nodes.tolist(), self._labels(observed), strict=True)):
            if is_missing(label):
                continue
            if exact[i]:
                self.arrival[node] = EXACT_TRANSITION
            if isinstance(label, set | frozenset):
                censored.setdefault(frozenset(label), []).append(node)
                continue
            self.set_known(node, label)
            if not exact[i] and self.known[node] in entry:
                self.arrival[node] = ENTRY
        if censored:
            row = np.full(len(self.known), len(censored))
            table = np.zeros((len(censored), self.process.n_states))
            for i, (labels, nodes) in enumerate(censored.items()):
                if not labels:
                    raise ValueError(f"{self._where(nodes[0])}: a censored state needs at least one label")
                table[i, [self._state(label, nodes[0]) for label in labels]] = 1.0
                row[nodes] = i
            self._factor(jnp.asarray(table), jnp.zeros(len(table)), row)

    def _misclassified(self, observed: Observations, likelihood: Misclassified) -> None:
        states, entry = self.process.states, {self._entry(label) for label in likelihood.entry}
        outcomes = states if likelihood.labels is None else likelihood.labels
        if likelihood.matrix.shape[0] != len(states):
            raise ValueError(
                f"matrix must have one row per state ({len(states)}), got shape {likelihood.matrix.shape}"
            )
        if likelihood.matrix.shape[1] != len(outcomes):
            raise ValueError(
                f"matrix must have one column per outcome {list(outcomes)}, got shape "
                f"{likelihood.matrix.shape}"
            )
        position = {label: i for i, label in enumerate(outcomes)}
        row = np.full(len(self.known), -1)
        censored: dict[frozenset, int] = {}
        for node, label in zip(observed.nodes.tolist(), self._labels(observed), strict=True):
            if is_missing(label):
                continue
            if isinstance(label, set | frozenset):
                unknown = [one for one in label if one not in position]
                if unknown or not label:
                    what = f"unknown state {unknown[0]!r}" if unknown else "a censored state needs a label"
                    raise ValueError(f"{self._where(node)}: {what}; expected some of {list(outcomes)}")
                row[node] = censored.setdefault(frozenset(label), len(outcomes) + len(censored))
                continue
            if label in states and states.index(label) in entry:
                self.set_known(node, label)
                self.arrival[node] = ENTRY
                continue
            if label not in position:
                raise ValueError(
                    f"{self._where(node)}: unknown state {label!r}; expected one of {list(outcomes)}"
                )
            row[node] = position[label]
        table = likelihood.matrix.T
        sets = [table[np.asarray([position[one] for one in labels])].sum(axis=0) for labels in censored]
        table = jnp.concatenate([table, *(one[None] for one in sets)])
        self._factor(table, jnp.zeros(table.shape[0], table.dtype), np.where(row < 0, len(table), row))

    def _through(self, observed: Observations, likelihood: Callable[..., Distribution]) -> None:
        values, nodes, own = observed.values, observed.nodes, observed.covariates
        if is_concrete(values):
            values, missing = self._numbers(values, nodes)
            nodes, values, own = nodes[~missing], values[~missing], take_rows(own, ~missing)
            if len(nodes) == 0:
                return
            distinct, inverse = (
                np.unique(values, return_inverse=True)
                if values.ndim == 1 and own is None
                else (values, np.arange(len(values)))
            )
        else:
            distinct, inverse = values, np.arange(len(nodes))
        at_first = at_covariates(likelihood, first_row(own))
        law = at_first(np.zeros((), dtype=np.int32))
        if not isinstance(law, Distribution):
            raise TypeError(f"likelihood must return a Distribution, got {type(law).__name__}")
        check_tables(at_first, self.process.n_states)
        inverse = inverse.reshape(-1)
        # missing entries among numbers that are known only at run time are found there
        in_parts = distinct.dtype.kind == "f"
        if is_concrete(distinct):
            part = partly_missing(distinct)
            in_parts = bool(part.any())
            check_whole(law, distinct, lambda i: self._where(int(nodes[i])))
            if law.is_discrete:
                fractions = ~np.isnan(distinct) & (distinct != np.round(distinct))
                self._refuse(distinct, nodes, inverse, fractions, law)
                distinct = distinct if in_parts else distinct.astype(int)
            outside = np.zeros(len(distinct), dtype=bool)
            if not part.all():
                whole = take_rows(own, ~part)
                outside[~part] = _outside(likelihood, distinct[~part], whole, self.process.n_states)
            self._refuse(distinct, nodes, inverse, outside, law)
        values = jnp.asarray(distinct)
        density = _log_density_of_parts if in_parts else log_density

        def at_values(state: Any) -> Array:
            if own is None:
                return density(likelihood(state), values)
            row = lambda value, c: density(at_covariates(likelihood, c)(state), value[None])[0]
            return jax.vmap(row)(values, own)

        log_values = by_state(at_values, self.process.n_states).T
        table = Categorical.from_log(log_values)
        row = np.full(len(self.known), len(distinct))
        row[nodes] = inverse
        self._factor(table.values, table.log_scale, row)

    def _factor(self, values: Array, log_scale: Array, row: np.ndarray) -> None:
        unit = jnp.ones((1, values.shape[1]), values.dtype)
        table = Categorical(
            jnp.concatenate([values, unit]), jnp.append(log_scale, jnp.zeros((), log_scale.dtype))
        )
        self.factors.append((table, row))

    def _numbers(self, values: Any, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (n, ...), and which rows are missing; of rows that are missing in part, entries are NaN."""
        array = np.asarray(values)
        if array.dtype == object:
            present = [v for v in array if not is_missing(v)]
            nothing = np.full(np.shape(present[0]) if present else (), np.nan)
            rows = [nothing if is_missing(v) else v for v in array]
            try:
                array = np.asarray(rows, dtype=float)
            except (TypeError, ValueError):
                bad = next(
                    (i for i, v in enumerate(rows) if isinstance(v, str) or np.shape(v) != nothing.shape), 0
                )
                raise ValueError(
                    f"{self._where(int(nodes[bad]))}: expected a number, got {rows[bad]!r}"
                ) from None
        if array.dtype.kind != "f":
            return array, np.zeros(len(array), dtype=bool)
        if np.any(np.isinf(array)):
            bad = int(np.argmax(np.isinf(array.reshape(len(array), -1)).any(axis=1)))
            raise ValueError(f"{self._where(int(nodes[bad]))}: expected a finite value, got {array[bad]}")
        missing = np.isnan(array.reshape(len(array), -1)).all(axis=1)
        return np.where(missing.reshape(-1, *[1] * (array.ndim - 1)), 0.0, array), missing

    def _refuse(
        self, distinct: np.ndarray, nodes: np.ndarray, inverse: np.ndarray, bad: np.ndarray, law: Distribution
    ) -> None:
        """Raise ValueError for the first observation whose distinct value is bad."""
        bad = bad.reshape(len(distinct), -1).any(axis=1)[inverse]
        if bad.any():
            first = int(np.argmax(bad))
            value, where = distinct[inverse[first]], self._where(int(nodes[first]))
            raise ValueError(f"{where}: the value {value} is outside the support of {type(law).__name__}")

    def _labels(self, observed: Observations) -> list:
        values = observed.values
        if not is_concrete(values):
            raise TypeError("values: states seen exactly or misclassified must be known before compilation")
        labels = [v.item() if isinstance(v, np.generic) else v for v in np.asarray(values)]
        for node, label in zip(observed.nodes.tolist(), labels, strict=True):
            if not isinstance(label, Hashable) and not isinstance(label, set):
                raise ValueError(f"{self._where(node)}: expected the label of one state, got {label!r}")
        return labels

    def _state(self, label: Any, node: int) -> int:
        kind = (type(label), label)
        if kind not in self._indices:
            try:
                self._indices[kind] = self.process.index(label)
            except ValueError as error:
                raise ValueError(f"{self._where(node)}: {error}") from None
        return self._indices[kind]

    def _entry(self, label: Any) -> int:
        try:
            return self.process.index(label)
        except ValueError as error:
            raise ValueError(f"entry: {error}") from None

    def _where(self, node: int) -> str:
        return self.graph.describe_node(node)


def by_state(function: Callable[[Any], Array], n_states: int) -> Array:
    """Values of a function at every state, stacked."""
    try:
        return jax.vmap(function)(jnp.arange(n_states))
    except (jax.errors.TracerIntegerConversionError, jax.errors.TracerArrayConversionError):
        # a function that indexes a list or a NumPy array; values outside its support are expected here
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Out-of-support values")
            return jnp.stack([function(np.int32(state)) for state in range(n_states)])


def _outside(
    likelihood: Callable[..., Distribution], values: np.ndarray, own: Any, n_states: int
) -> np.ndarray:
    """Which of the values (n, ...) are outside the support in every state, (n,), as far as is known now.

    Args:
        own: the covariates of each of them, or None.
    """
    outside = np.ones(len(values), dtype=bool)

    def supported(state: Any, value: Any, c: Any) -> Any:
        law: Any = at_covariates(likelihood, c)(state)
        return law.support(value)

    for state in range(n_states):
        inside_of = partial(supported, np.int32(state))
        try:
            inside = np.asarray(inside_of(values, None) if own is None else jax.vmap(inside_of)(values, own))
        except (TypeError, NotImplementedError):  # bounds that are traced, or a law that does not say
            return np.zeros_like(outside)
        outside &= ~inside.reshape(len(values), -1).all(axis=1)
        if not outside.any():
            break
    return outside


def log_density(law: Any, values: Array) -> Array:
    """Log-density of each of the values (n, ...), -inf outside the support, which may depend on the state.

    Entries of a value are independent if the law is univariate.
    """
    density = law.log_prob(values)
    with suppress(TypeError, NotImplementedError):  # of a law that does not say
        density = jnp.where(law.support(values), density, -jnp.inf)
    return density.sum(axis=tuple(range(1, density.ndim)))


def _log_density_of_parts(law: Any, values: Array) -> Array:
    """Log-density of each of the values (n, ...), of which entries may be missing."""
    return jax.vmap(lambda value: log_density_where_seen(law, value))(values)


def _merged(observations: list[Observations]) -> list[Observations]:
    """Observations through the same likelihood side by side, so that hand-made graphs stay compact."""
    groups: dict[tuple, list[Observations]] = {}
    for observed in observations:
        shape = np.shape(observed.values)[1:] if is_concrete(observed.values) else observed.values.shape[1:]
        groups.setdefault((id(observed.likelihood), is_concrete(observed.values), shape), []).append(observed)
    merged = []
    for group in groups.values():
        nodes = np.concatenate([observed.nodes for observed in group])
        # replicate measurements of a node stay apart, since a batch holds one value per node
        separate = len(group) == 1 or len(np.unique(nodes)) < len(nodes)
        merged += group if separate else [_concatenate(group, nodes)]
    return merged


def _concatenate(group: list[Observations], nodes: np.ndarray) -> Observations:
    join = np.concatenate if is_concrete(group[0].values) else jnp.concatenate
    values: Any = join([observed.values for observed in group])
    flags = [observed.exact_transition for observed in group if observed.exact_transition is not None]
    exact_transition = np.concatenate(flags) if flags else None
    covariates = joined_rows([observed.covariates for observed in group])
    return Observations(group[0].likelihood, nodes, values, exact_transition, covariates)
