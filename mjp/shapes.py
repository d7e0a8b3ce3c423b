"""Graphs of common shapes: a chain, a tree, a panel of subjects."""

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import networkx as nx
import numpy as np
from numpyro.distributions import Distribution

from mjp._checks import (
    as_array,
    as_column,
    check_count,
    check_finite,
    check_mapping,
    check_times,
    is_concrete,
)
from mjp.graph import Edges, Graph, Observations, Roots, check_likelihood, objects
from mjp.likelihood_covariates import covariates_of, reads_covariates
from mjp.newick import parse_newick, tree_arrays
from mjp.observations import (
    EachAgent,
    Exactly,
    Likelihood,
    LinearGaussianObservation,
    LocalEmissions,
    Misclassified,
    is_missing,
    law_of,
)
from mjp.panels import Panel
from mjp.processes import MarkovChain, MarkovJump, Process

_SAME_GAP = 0.01  # relative: some years have a day more


class Chain(Graph):
    """A chain of T nodes, or several independent chains over the same times."""

    def __init__(
        self,
        process: Process,
        times: Any,
        initial: Any,
        steps: int | None,
        covariates: Mapping[str, Any],
        n_series: int | None,
    ):
        super().__init__()
        self.kind = "chain"
        self._process, self._initial, self._steps = process, _as_root(process, initial), steps
        self._covariates = covariates
        if is_concrete(times):
            self._times: Any = check_times("times", times)
        else:
            self._times = times
        self.n_times = len(self._times)
        n_steps = process.n_steps if isinstance(process, MarkovChain) else None
        if n_steps is not None and n_steps != self.n_times - 1:
            raise ValueError(
                f"transition has {n_steps} steps, but {self.n_times} times make {self.n_times - 1}"
            )
        self._replicate(n_series)

    def _replicate(self, n_series: int | None) -> None:
        """Lay out the nodes of `n_series` chains, one after the other; None is a single chain."""
        n, t = (1 if n_series is None else n_series), self.n_times
        self.n_series = n_series
        self.batch_shape = () if n_series is None else (n,)
        self.n_nodes = n * t
        if n_series is None:
            self._names = lambda: list(range(t))
        else:
            self._names = lambda: [(series, i) for series in range(n) for i in range(t)]
        self._ids = None
        ids = np.arange(n * t).reshape(n, t)
        parents = ids[:, :-1].reshape(-1)
        initial = self._initial if isinstance(self._initial, Distribution) else [self._initial] * n
        self.roots = [Roots(ids[:, 0], initial)]
        spread = np.tile if is_concrete(self._times) else jnp.tile
        covariates: dict[str, Any] = {
            "step": np.tile(np.arange(t - 1), n),
            "series": np.repeat(np.arange(n), t - 1),
        }
        for name, values in self._covariates.items():
            covariates[name] = self._per_step(name, values, n)
        starts = spread(self._times[:-1], n)
        durations = spread(self._times[1:] - self._times[:-1], n)
        self.edges = []
        if t > 1:
            self.edges = [
                Edges(self._process, parents, parents + 1, durations, starts, covariates, self._steps)
            ]

    def _per_step(self, name: str, values: Any, n: int) -> Any:
        t: int = self.n_times
        shape: tuple[int, ...] = np.shape(values)
        batched = len(shape) > 1 and self.n_series is not None
        if shape[-1:] not in ((t,), (t - 1,)) or len(shape) > 1 + batched or (batched and shape[:1] != (n,)):
            several = "; for one row per series give the number of them, series=" if len(shape) == 2 else ""
            raise ValueError(
                f"covariate {name!r} must have one value per time ({t}) or step, got shape {shape}{several}"
            )
        array = np.asarray(values) if is_concrete(values) else values
        check_finite(f"covariate {name!r}", array[..., : t - 1])
        full = jnp.broadcast_to(array[..., : t - 1], (n, t - 1)) if not is_concrete(array) else None
        if full is not None:
            return full.reshape(-1)
        return np.broadcast_to(array[..., : t - 1], (n, t - 1)).reshape(-1)

    def observe_each(
        self, likelihood: Likelihood, values: Any = None, *, covariates: Mapping[str, Any] | None = None
    ) -> "Chain":
        """Attach one observation per time.

        Args:
            likelihood: `mjp.Exactly`, `mjp.Misclassified`, `mjp.EachAgent`, `mjp.LocalEmissions`, or a
                function from the state, or from the state and a mapping of covariates, to a Distribution.
            values: (T, ...) with the likelihood's event shape at the end, or (n, T, ...) for n independent
                chains; NaN, or None for a label, is missing; None for no values at all (to be simulated).
            covariates: by name, one value per time, (T,) or (series, T), for a likelihood that takes them.
                Those of the chain that have one value per time, `time` and `series` are there too.

        Raises:
            ValueError: the number of values is not the number of times; covariates of the wrong length,
                that are not finite where they are read, or for a likelihood that takes none.
        """
        check_likelihood(likelihood)
        check_mapping("covariates", covariates)
        given = {
            name: as_column(f"covariate {name!r}", column) for name, column in (covariates or {}).items()
        }
        for name, column in given.items():
            if column.ndim not in (1, 2) or column.shape[-1] != self.n_times:
                self._refuse(name, column)
        if values is None:
            return self._observe(likelihood, objects([None] * self.n_nodes), given)
        array: Any = values
        if is_concrete(values):
            if isinstance(likelihood, Exactly | Misclassified | EachAgent):
                array = self._process.rows(values)
            array = np.asarray(array) if not _has_labels(array) else objects(array)
        t = self.n_times
        event_shape = _event_shape(self._at_first(likelihood, given), self._process)
        event, shape = len(event_shape), tuple(array.shape)
        if isinstance(likelihood, Exactly):
            self._process.check_exact("values", array)
        if event_shape == (1,) and shape[-1:] == (t,) and (shape != (t, 1) or t > 1):
            array, shape = array[..., None], (*shape, 1)
        if len(shape) < 1 + event or len(shape) > 2 + event or shape[len(shape) - event - 1] != t:
            raise ValueError(f"values must have one entry per time, shape ({t}, ...), got shape {shape}")
        if len(shape) == 2 + event:
            if self.n_series is None and self.observations:
                raise ValueError(
                    f"values must have shape ({t}, ...) like the first observations, got {shape}"
                )
            if self.n_series is None:
                self._replicate(shape[0])
            if shape[0] != self.n_series:
                raise ValueError(f"values must have {self.n_series} series, got shape {shape}")
            array = array.reshape(shape[0] * t, *shape[2:])
        elif self.n_series is not None:
            raise ValueError(f"values must have shape ({self.n_series}, {t}, ...), got {shape}")
        return self._observe(likelihood, array, given)

    def _observe(self, likelihood: Likelihood, values: Any, given: Mapping[str, Any]) -> "Chain":
        columns = self._at_nodes(given), self._at_nodes(self._whole(likelihood))
        own, _ = covariates_of(likelihood, self._process, *columns, self.describe_node)
        self.observations.append(Observations(likelihood, np.arange(self.n_nodes), values, covariates=own))
        return self

    def _whole(self, likelihood: Likelihood) -> dict[str, Any]:
        """What a likelihood may read without its being given: by name (T,) or (series, T)."""
        if not reads_covariates(likelihood):
            return {}
        t, n = self.n_times, self.n_nodes // self.n_times
        whole: dict[str, Any] = {"time": self._times, "series": np.repeat(np.arange(n), t).reshape(n, t)}
        for name, values in self._covariates.items():
            if np.shape(values)[-1:] == (t,):
                whole[name] = as_column(f"covariate {name!r}", values)
        return whole

    def _at_nodes(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        t, n = self.n_times, self.n_nodes // self.n_times
        for name, column in columns.items():
            if column.shape not in ((t,), (n, t)):
                self._refuse(name, column)
        spread = lambda column: np.broadcast_to if is_concrete(column) else jnp.broadcast_to
        return {name: spread(column)(column, (n, t)).reshape(-1) for name, column in columns.items()}

    def _refuse(self, name: str, column: Any) -> None:
        t = self.n_times
        raise ValueError(
            f"covariate {name!r} of the observations must have one value per time, shape ({t},) or "
            f"(series, {t}), got shape {column.shape}"
        )

    def _at_first(self, likelihood: Likelihood, given: Mapping[str, Any]) -> Any:
        """The likelihood at the covariates of the first observation, before the number of series is known."""
        first = lambda columns: {name: column.reshape(-1)[:1] for name, column in columns.items()}
        return covariates_of(
            likelihood, self._process, first(given), first(self._whole(likelihood)), self.describe_node
        )[1]

    @property
    def times(self) -> Any:
        """(T,) times of the nodes."""
        return self._times


def _has_labels(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.dtype == object and values.ndim == 1
    return isinstance(values, list | tuple) and any(
        v is None or isinstance(v, str | set | frozenset) for v in values
    )


def _event_shape(likelihood: Likelihood, process: Process) -> tuple[int, ...]:
    """Shape of one observed value."""
    if isinstance(likelihood, Exactly):
        return tuple(process.state.shape)
    if isinstance(likelihood, EachAgent | LocalEmissions) and not process.labels_shape:
        kind = type(likelihood).__name__
        raise TypeError(f"likelihood: mjp.{kind} is for agents, which {type(process).__name__} has not")
    if isinstance(likelihood, LocalEmissions):
        return (len(likelihood.scopes),)
    if isinstance(likelihood, Misclassified | EachAgent):
        return process.labels_shape
    if isinstance(likelihood, LinearGaussianObservation):
        return (likelihood.matrix.shape[-2],)
    return law_of(likelihood, process.state, process.view).shape()


def chain(
    process: Process,
    times: Any,
    *,
    initial: Any,
    steps: int | None = None,
    series: int | None = None,
    covariates: Mapping[str, Any] | None = None,
) -> Chain:
    """A chain with nodes 0 … T-1 at the given times; add data with `observe_each`.

    Args:
        process: carried by every edge.
        times: (T,) strictly increasing; in discrete time only their number counts.
        initial: law of the first state as a Distribution, or its value.
        steps: discretisation steps per edge, for processes that are discretised.
        series: number of independent chains over these times; also set by data of shape (n, T).
        covariates: by name, one value per time or per step, or (series, T); the value at the start of an
            interval holds over the interval. `step` and `series` are always there.

    Raises:
        ValueError: times that do not increase, covariates of the wrong length.
        TypeError: `process` is not a Process.
    """
    _check_process(process)
    check_count("steps", steps)
    check_count("series", series)
    check_mapping("covariates", covariates)
    return Chain(process, times, initial, steps, covariates or {}, series)


def tree(
    newick: str | nx.DiGraph,
    process: Process,
    *,
    initial: Any,
    steps: int | None = None,
    covariates: Mapping[str, Mapping[Hashable, Any]] | None = None,
) -> "Tree":
    """A tree or forest whose edges all carry the same process; nodes are named by its labels.

    Args:
        newick: text in Newick format with all branch lengths, or a `networkx.DiGraph` from root to leaves
            with edge attribute `length`; a forest is allowed.
        initial: law of each root as a Distribution, or its value.
        covariates: by name, a mapping from the child's label to the value on the edge above it.

    Raises:
        ValueError: text or graph that is not a rooted tree with non-negative lengths; the message names
            the position, node or edge.
    """
    _check_process(process)
    check_count("steps", steps)
    check_mapping("covariates", covariates)
    if isinstance(newick, str):
        names, parents, lengths = _parsed(newick)
    elif isinstance(newick, nx.DiGraph):
        names, parents, lengths = tree_arrays(newick)
    else:
        raise TypeError(f"newick must be a string or a networkx.DiGraph, got {type(newick).__name__}")
    return Tree(list(names), parents, lengths, process, initial, steps, covariates or {})


@lru_cache(maxsize=16)
def _parsed(newick: str) -> tuple[tuple, np.ndarray, np.ndarray]:
    names, parents, lengths = tree_arrays(parse_newick(newick))
    return tuple(names), parents, np.asarray(lengths)


class Tree(Graph):
    """A rooted tree or forest; see `mjp.tree`."""

    def __init__(
        self,
        names: list,
        parents: np.ndarray,
        lengths: Any,
        process: Process,
        initial: Any,
        steps: int | None,
        covariates: Mapping[str, Mapping[Hashable, Any]],
    ):
        super().__init__()
        self.kind, self._process = "tree", process
        self._names, self._ids = names, None
        self.n_nodes = len(names)
        roots = np.flatnonzero(parents < 0)
        initial = _as_root(process, initial)
        self.roots = [Roots(roots, initial if isinstance(initial, Distribution) else [initial] * len(roots))]
        child = np.flatnonzero(parents >= 0)
        known = isinstance(lengths, np.ndarray)
        durations: Any = lengths[child] if known else jnp.stack([jnp.asarray(lengths[i]) for i in child])
        columns = {name: _by_child(name, values, names, child) for name, values in covariates.items()}
        starts = np.zeros(len(child))
        if known:
            height = np.zeros(self.n_nodes)
            for node in child:  # parents come first
                height[node] = height[parents[node]] + lengths[node]
            starts = height[parents[child]]
        if len(child):
            self.edges = [Edges(process, parents[child], child, durations, starts, columns, steps)]

    def observe_each(
        self,
        likelihood: Likelihood,
        values: Mapping[Hashable, Any],
        *,
        covariates: Mapping[str, Mapping[Hashable, Any]] | None = None,
    ) -> "Tree":
        """Attach observations to named nodes.

        Args:
            values: value by node label; `None` or NaN is missing. Labels may be leaves or inner nodes.
            covariates: by name, a mapping from the labels of the observed nodes to numbers, for a likelihood
                that takes the state and a mapping of covariates: standard errors of measured traits, say.

        Raises:
            ValueError: a label that is not a node; covariates that lack an observed node, or for a
                likelihood that takes none. TypeError: values that are not a mapping.
        """
        check_likelihood(likelihood)
        check_mapping("covariates", covariates)
        if not isinstance(values, Mapping):
            raise TypeError(f"values must map node labels to values, got {type(values).__name__}")
        unknown = [name for name in values if name not in self.ids]
        if unknown:
            raise ValueError(f"values: {unknown[0]!r} is not a node of the tree")
        nodes = np.asarray([self.ids[name] for name in values], dtype=np.int64)
        if isinstance(likelihood, Exactly | Misclassified):
            array: Any = objects(values.values())
        else:
            array = as_array("values", [np.nan if value is None else value for value in values.values()])
        given = {name: _by_label(name, column, values) for name, column in (covariates or {}).items()}
        own, _ = covariates_of(likelihood, self._process, given, {}, lambda i: self.describe_node(nodes[i]))
        self.observations.append(Observations(likelihood, nodes, array, covariates=own))
        return self

    @property
    def leaves(self) -> list[Hashable]:
        """Labels of the leaves."""
        inner = set(self.edges[0].parents.tolist()) if self.edges else set()
        return [name for i, name in enumerate(self.names) if i not in inner]


def _by_child(name: str, values: Mapping, names: list, child: np.ndarray) -> np.ndarray:
    check_mapping(f"covariate {name!r}", values)
    missing = [names[i] for i in child if names[i] not in values]
    if missing:
        raise ValueError(f"covariate {name!r} has no value for the edge above {missing[0]!r}")
    array = np.asarray([values[names[i]] for i in child])
    check_finite(f"covariate {name!r}", array)
    return array


def _by_label(name: str, column: Mapping[Hashable, Any], labels: Mapping[Hashable, Any]) -> Any:
    check_mapping(f"covariate {name!r}", column)
    missing = [label for label in labels if label not in column]
    if missing:
        raise ValueError(f"covariate {name!r} has no value for the observation of {missing[0]!r}")
    unknown = [label for label in column if label not in labels]
    if unknown:
        raise ValueError(f"covariate {name!r} has a value for {unknown[0]!r}, which is not observed")
    return as_column(f"covariate {name!r}", [column[label] for label in labels])


def panel(process: Process, panel: Panel, *, observe: Likelihood, initial: Any = None) -> "PanelGraph":
    """Independent subjects, each a chain over the subject's own times; nodes are (subject, visit).

    Args:
        panel: the data. Its covariates reach the process's rates, constant over each interval at the value
            of its start; `subject` is the position of the subject.
        observe: `mjp.Exactly`, `mjp.Misclassified`, or a function from the state to a Distribution of the
            panel's (numeric) states. A function of two arguments takes the covariates of the visit too;
            `time` and `subject` are always among them.
        initial: law of the first state as a Distribution (the first observation then counts like the
            others), or its value. Without it the likelihood conditions on each subject's first state,
            taken as seen without error.

    Raises:
        ValueError: no `initial`, and a subject whose first state is missing, censored or not a state; a
            process in discrete time whose rows are not all the same time apart.
        TypeError: `panel` is not a Panel.
    """
    _check_process(process)
    if not isinstance(panel, Panel):
        raise TypeError(f"panel must be a mjp.Panel, got {type(panel).__name__}; see mjp.Panel.from_frame")
    check_likelihood(observe)
    if isinstance(process, MarkovChain):
        _check_steps(process, panel)
    return PanelGraph(process, panel, observe, initial)


def _check_steps(process: Process, panel: Panel) -> None:
    """Raise ValueError unless all rows of a subject are one step apart."""
    rows = np.flatnonzero(~panel.is_last)
    gaps = panel.times[rows + 1] - panel.times[rows]
    if len(gaps) == 0:
        return
    step = float(np.median(gaps))
    bad = np.flatnonzero(np.abs(gaps - step) > _SAME_GAP * step)
    if len(bad):
        row = int(rows[bad[0]])
        raise ValueError(
            f"panel: {type(process).__name__} goes one step from a row to the next, which most are {step:g} "
            f"apart, but the row after {panel.describe_row(row)} comes {gaps[bad[0]]:g} later; give a row "
            "for every step, with the state None where nothing was seen, or use mjp.MarkovJump"
        )


class PanelGraph(Graph):
    """The graph of a panel; see `mjp.panel`."""

    def __init__(self, process: Process, panel: Panel, observe: Likelihood, initial: Any):
        super().__init__()
        self.kind, self.panel, self.describe = "panel", panel, panel.describe_row
        self.n_nodes, self.batch_shape = panel.n_rows, (panel.n_subjects,)
        self._names = lambda: [
            (subject, visit)
            for subject, n in zip(panel.subjects, panel.lengths.tolist(), strict=True)
            for visit in range(n)
        ]
        self._ids = None
        first, last = panel.is_first, panel.is_last
        heads = np.flatnonzero(first)
        if initial is None:
            self.roots = [Roots(heads, _first_states(panel, heads, observe))]
        else:
            shared = initial if isinstance(initial, Distribution) else [initial] * len(heads)
            self.roots = [Roots(heads, shared)]
        parents = np.flatnonzero(~last)
        covariates = {name: values[parents] for name, values in panel.covariates.items()}
        covariates["subject"] = panel.subject_of_row[parents]
        durations = panel.times[parents + 1] - panel.times[parents]
        if len(parents):
            self.edges = [Edges(process, parents, parents + 1, durations, panel.times[parents], covariates)]
        seen = np.arange(panel.n_rows) if initial is not None else np.flatnonzero(~first)
        exact = _exact_transitions(panel, observe)
        at_visits = {**panel.covariates, "time": panel.times, "subject": panel.subject_of_row}
        offered = {name: column[seen] for name, column in at_visits.items()}
        own, _ = covariates_of(observe, process, {}, offered, lambda i: panel.describe_row(int(seen[i])))
        self.observations = [
            Observations(observe, seen, panel.states[seen], None if exact is None else exact[seen], own)
        ]


def _first_states(panel: Panel, heads: np.ndarray, observe: Likelihood) -> list:
    if not isinstance(observe, Exactly | Misclassified):
        raise ValueError(
            "initial: the first state is not seen directly through this likelihood; give its law, such as "
            "initial=dist.Categorical(probs)"
        )
    states = [panel.states[i] for i in heads]
    for row, state in zip(heads, states, strict=True):
        if is_missing(state) or isinstance(state, frozenset):
            what = "missing" if is_missing(state) else f"censored to {set(state)}"
            raise ValueError(
                f"initial: the first state of {panel.describe_row(int(row))} is {what}; give the law of the "
                "first state, such as initial=dist.Categorical(probs)"
            )
    return states


def _exact_transitions(panel: Panel, observe: Likelihood) -> np.ndarray | None:
    if not isinstance(observe, Exactly) or isinstance(observe.transitions, bool):
        return None
    if observe.transitions not in panel.covariates:
        raise ValueError(
            f"transitions: the panel has no column {observe.transitions!r}; it has {list(panel.covariates)}"
        )
    column = np.asarray(panel.covariates[observe.transitions])
    bad = np.flatnonzero((column != 0) & (column != 1))
    if len(bad):
        raise ValueError(
            f"transitions: the column {observe.transitions!r} must hold 0 or 1, got {column[bad[0]]:g} for "
            f"{panel.describe_row(int(bad[0]))}"
        )
    return column.astype(bool)


def _as_root(process: Process, initial: Any) -> Any:
    """The first state, or its law, in the form that a graph keeps."""
    if isinstance(initial, Distribution):
        process.check_law("initial", initial)
        return initial
    return process.known_state("initial", initial)


def _check_process(process: Any) -> None:
    if not isinstance(process, Process):
        raise TypeError(f"process must be a mjp process such as mjp.MarkovJump, got {type(process).__name__}")


__all__ = ["Chain", "MarkovJump", "PanelGraph", "Tree", "chain", "panel", "tree"]
