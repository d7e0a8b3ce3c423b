"""The directed graph that a user declares: roots, edges that carry processes, observations."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np
from jax import Array
from numpyro.distributions import Distribution

from mjp._checks import check_count, check_hashable, check_mapping, check_scalar, is_concrete
from mjp.likelihood_covariates import check_no_covariates, reads_covariates, take_rows
from mjp.observations import (
    EachAgent,
    Exactly,
    Likelihood,
    LinearGaussianObservation,
    LocalEmissions,
    Misclassified,
    is_missing,
)
from mjp.processes import Process


@dataclass(frozen=True, eq=False)
class Roots:
    """Roots that share an initial law: a Distribution, or one value per root."""

    nodes: np.ndarray  # (n,)
    initial: Distribution | Sequence


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges that carry the same process."""

    process: Process
    parents: np.ndarray  # (n,), or (n, p) where each edge leaves p parents
    children: np.ndarray  # (n,)
    durations: np.ndarray | Array  # (n,)
    starts: np.ndarray | Array  # (n,) time at the parent
    covariates: Mapping[str, np.ndarray | Array]  # (n,) each
    steps: int | None = None

    @property
    def every_parent(self) -> np.ndarray:
        """(n, p) all parents of each child."""
        return self.parents.reshape(len(self.children), -1)


@dataclass(frozen=True, eq=False)
class Observations:
    """Observations of nodes through the same likelihood; None or NaN is missing."""

    likelihood: Likelihood
    nodes: np.ndarray  # (n,)
    values: Any  # (n, ...)
    exact_transition: np.ndarray | None = None  # (n,) rows that are exact transition times
    covariates: Mapping[str, Any] | None = None  # (n,) each, if the likelihood reads them beside the state

    def rows(self, which: np.ndarray) -> "Observations":
        """Some of the observations."""
        flags = self.exact_transition
        return replace(
            self,
            nodes=self.nodes[which],
            values=self.values[which],
            exact_transition=None if flags is None else flags[which],
            covariates=take_rows(self.covariates, which),
        )


@dataclass(frozen=True, eq=False)
class JointObservation:
    """An observation of several nodes at once; None or NaN is missing."""

    likelihood: Callable[..., Distribution]
    nodes: tuple[int, ...]
    value: Any


class Graph:
    """A directed graph of states (nodes), Markov processes (edges) and observations.

    Roots, nodes and edges can be read and drawn as `graph.nx`, a `networkx.DiGraph`. Internally nodes
    are numbered, and edges are kept in batches that share a process, so that large chains, trees and
    panels are never built node by node.
    """

    def __init__(self) -> None:
        self._names: Sequence[Hashable] | Callable[[], Sequence[Hashable]] = []
        self._ids: dict[Hashable, int] | None = {}
        self._into: dict[Hashable, Process] = {}  # of edges declared one by one, by child
        self.roots: list[Roots] = []
        self.edges: list[Edges] = []
        self.observations: list[Observations] = []
        self.joint_observations: list[JointObservation] = []
        self.batch_shape: tuple[int, ...] = ()
        self.n_nodes = 0
        self.kind = "graph"
        self.describe: Callable[[int], str] | None = None

    def root(self, name: Hashable, initial: Any) -> "Graph":
        """Add a root with a known value or an initial Distribution.

        Raises:
            ValueError: the node exists already.
        """
        check_hashable("name", name)
        if name in self.ids:
            raise ValueError(f"name: node {name!r} exists already; a root must be new")
        law = initial if isinstance(initial, Distribution) else [initial]
        self.roots.append(Roots(np.asarray([self._add(name)]), law))
        return self

    def edge(
        self,
        parent: Hashable | tuple[Hashable, ...],
        child: Hashable,
        process: Process,
        *,
        duration: Any = 1.0,
        steps: int | None = None,
        start: Any = 0.0,
        covariates: Mapping[str, Any] | None = None,
    ) -> "Graph":
        """Add a child node, reached from an existing parent, or several, by a process.

        Args:
            parent: the name of a node, or a tuple of names, in the order in which the process takes them.
            duration: time that the edge takes, > 0 for processes in continuous time; for chains in
                discrete time an edge is one step and the duration is not used.
            start: time at the parent, used by rates that change in time.
            covariates: scalars by name, constant along the edge.

        Raises:
            ValueError: unknown parent, a child that exists already (an edge into it could close a cycle),
                more or fewer parents than the process takes, a negative or non-finite duration.
            TypeError: `process` is not a Process, or cannot start from the states of a parent.
        """
        if not isinstance(process, Process):
            raise TypeError(f"process must be a mjp process, got {type(process).__name__}")
        check_hashable("parent", parent)
        check_hashable("child", child)
        parents = parent if isinstance(parent, tuple) and parent not in self.ids else (parent,)
        source = parents[0] if len(parents) == 1 else parents
        for i, name in enumerate(parents):
            if name not in self.ids:
                raise ValueError(f"parent: unknown node {name!r}; declare it by root() or edge() first")
            if name in parents[:i]:
                raise ValueError(f"parent: {name!r} is named twice in {parents!r}")
        if child in self.ids:
            raise ValueError(
                f"child: node {child!r} exists already; a second edge into it would give it two parents "
                "or close a cycle (several parents are declared at once, as a tuple)"
            )
        edge = f"edge {source!r} -> {child!r}"
        process.check_parents(edge, [(name, self._into.get(name)) for name in parents])
        for name in parents:
            self._check_root(name, process)
        numbers = np.asarray([self.ids[name] for name in parents])
        check_scalar(f"duration of {edge}", duration)
        check_scalar(f"start of {edge}", start)
        if is_concrete(duration) and duration < 0:
            raise ValueError(f"duration of {edge} must be >= 0, got {duration}")
        check_count(f"steps of {edge}", steps)
        check_mapping("covariates", covariates)
        for name, value in (covariates or {}).items():
            check_scalar(f"covariate {name!r} of {edge}", value)
        values = {
            name: np.asarray([v]) if is_concrete(v) else v[None] for name, v in (covariates or {}).items()
        }
        self.edges.append(
            Edges(
                process,
                numbers if len(parents) == 1 else numbers[None],
                np.asarray([self._add(child)]),
                np.asarray([duration], float) if is_concrete(duration) else duration[None],
                np.asarray([start], float) if is_concrete(start) else start[None],
                values,
                steps,
            )
        )
        self._into[child] = process
        return self

    def observe(
        self,
        node: Hashable,
        likelihood: Likelihood,
        value: Any = None,
        *,
        covariates: Mapping[str, Any] | None = None,
    ) -> "Graph":
        """Attach an observation to a node; `None` or NaN is missing.

        Args:
            node: the name of a node; or a tuple of names, to observe several at once through a function of
                their states, in this order. States of finitely many are positions there.
            covariates: scalars by name, for a likelihood that takes the state and a mapping of covariates.
                Nodes that are observed through the same function, with covariates of their own, are
                compiled together.

        Raises:
            ValueError: unknown node, or one that is named twice; covariates for a likelihood that takes none.
            TypeError: a likelihood that is neither a function of the state nor one of mjp's; of several
                nodes, one that is not a function.
        """
        check_hashable("node", node)
        check_mapping("covariates", covariates)
        if isinstance(node, tuple) and node not in self.ids and len(node) > 1:
            if covariates:
                raise ValueError("covariates are for observations of one node, not of several at once")
            return self._observe_jointly(node, likelihood, value)
        if node not in self.ids:
            raise ValueError(f"node: unknown node {node!r}; declare it by root() or edge() first")
        check_likelihood(likelihood)
        for name, number in (covariates or {}).items():
            check_scalar(f"covariate {name!r} of the observation of {node!r}", number)
        own = {name: np.asarray([v]) if is_concrete(v) else v[None] for name, v in (covariates or {}).items()}
        if not reads_covariates(likelihood):
            check_no_covariates(own)
            own = None
        self.observations.append(
            Observations(likelihood, np.asarray([self.ids[node]]), _one(value), covariates=own)
        )
        return self

    def _observe_jointly(self, nodes: tuple, likelihood: Any, value: Any) -> "Graph":
        for i, name in enumerate(nodes):
            if name not in self.ids:
                raise ValueError(f"node: unknown node {name!r}; declare it by root() or edge() first")
            if name in nodes[:i]:
                raise ValueError(f"node: {name!r} is named twice in {nodes!r}")
        function = callable(likelihood) and not isinstance(
            likelihood,
            Distribution | Exactly | Misclassified | EachAgent | LocalEmissions | LinearGaussianObservation,
        )
        if not function:
            raise TypeError(
                f"likelihood of the nodes {nodes!r} must be a function of {len(nodes)} states that returns a "
                f"Distribution, got {type(likelihood).__name__}"
            )
        joint: Any = likelihood
        numbers = tuple(self.ids[name] for name in nodes)
        self.joint_observations.append(JointObservation(joint, numbers, value))
        return self

    def observe_each(self, likelihood: Likelihood, values: Any) -> "Graph":
        """Attach one observation per time of a chain; see `mjp.chain`."""
        raise TypeError("observe_each belongs to graphs made by mjp.chain; use observe(node, ...) here")

    @property
    def names(self) -> Sequence[Hashable]:
        """Names of the nodes, in the order of their numbers."""
        if callable(self._names):
            self._names = self._names()
        return self._names

    @property
    def ids(self) -> dict[Hashable, int]:
        """Number of each node by name."""
        if self._ids is None:
            self._ids = {name: i for i, name in enumerate(self.names)}
        return self._ids

    def describe_node(self, node: int) -> str:
        """Words for a node in messages."""
        return self.describe(node) if self.describe is not None else f"node {self.names[node]!r}"

    @property
    def nx(self) -> nx.DiGraph:
        """The graph as a `networkx.DiGraph`: nodes have `kind` and `observed`, edges `process`."""
        graph = nx.DiGraph()
        names = self.names
        graph.add_nodes_from(names, kind="state", observed=False)
        for roots in self.roots:
            for i, node in enumerate(roots.nodes):
                law = roots.initial if isinstance(roots.initial, Distribution) else roots.initial[i]
                graph.nodes[names[node]].update(kind="root", initial=law)
        for edges in self.edges:
            for i, (parents, child) in enumerate(zip(edges.every_parent, edges.children, strict=True)):
                for parent in parents:
                    graph.add_edge(
                        names[parent], names[child], process=edges.process, duration=edges.durations[i]
                    )
        for observed in self.observations:
            for i, node in enumerate(observed.nodes):
                value = observed.values[i]
                if not (np.ndim(value) == 0 and is_concrete(value) and is_missing(value)):
                    graph.nodes[names[node]].update(observed=True, value=value)
        for joint in self.joint_observations:
            for node in joint.nodes:
                graph.nodes[names[node]].update(observed=True)
        return graph

    def draw(self, ax: Any = None, max_nodes: int = 200) -> Any:
        """Draw the graph with matplotlib and return the axes; observed nodes are filled."""
        from mjp.drawing import draw_graph

        return draw_graph(self, ax, max_nodes)

    def __repr__(self) -> str:
        kinds = sorted({type(edges.process).__name__ for edges in self.edges})
        n_edges = sum(len(edges.children) for edges in self.edges)
        edges = f"{n_edges} edges of {', '.join(kinds) or 'none'}"
        batch = f", batch {self.batch_shape}" if self.batch_shape else ""
        return f"Graph({self.kind}: {self.n_nodes} nodes, {edges}{batch})"

    def _check_root(self, parent: Hashable, process: Process) -> None:
        """Have a process read the value, or check the law, of the root that its edge leaves."""
        for i, roots in enumerate(self.roots):
            if roots.nodes.tolist() != [self.ids[parent]]:
                continue
            name = f"initial of root {parent!r}"
            if isinstance(roots.initial, Distribution):
                process.check_law(name, roots.initial)
            else:
                self.roots[i] = Roots(roots.nodes, [process.known_state(name, roots.initial[0])])

    def _add(self, name: Hashable) -> int:
        assert isinstance(self.names, list)
        self.names.append(name)
        self.ids[name] = self.n_nodes
        self.n_nodes += 1
        return self.n_nodes - 1

    def parents(self) -> np.ndarray:
        """Number of each node's parent, -1 for roots.

        Raises:
            TypeError: a node has several parents.
        """
        parent = np.full(self.n_nodes, -1, dtype=np.int64)
        for edges in self.edges:
            if edges.parents.ndim > 1:
                node = self.describe_node(int(edges.children[0]))
                raise TypeError(f"graph: {node} has {edges.parents.shape[1]} parents")
            parent[edges.children] = edges.parents
        return parent

    def component_of_root(self) -> np.ndarray:
        """For each root in the order of `roots`, the entry of the evidence that it belongs to."""
        n_roots = sum(len(roots.nodes) for roots in self.roots)
        return np.arange(n_roots) if self.batch_shape else np.zeros(n_roots, dtype=int)


def check_likelihood(likelihood: Any) -> None:
    """Raise TypeError unless `likelihood` can be used to observe a node."""
    if isinstance(likelihood, Distribution):
        raise TypeError(
            "likelihood must be a function of the state that returns a Distribution, got the Distribution "
            f"{type(likelihood).__name__} itself; write lambda x: ..."
        )
    if any(likelihood is kind for kind in (Exactly, Misclassified, EachAgent, LocalEmissions)):
        raise TypeError(f"likelihood must be an instance, got the class; write {likelihood.__name__}(...)")
    if not (
        callable(likelihood) or isinstance(likelihood, Exactly | Misclassified | EachAgent | LocalEmissions)
    ):
        raise TypeError(
            "likelihood must be mjp.Exactly, mjp.Misclassified or a function from the state to a "
            f"Distribution, got {type(likelihood).__name__}"
        )


def objects(values: Iterable) -> np.ndarray:
    """Labels as a one-dimensional object array, sets of labels included."""
    items = list(values)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _one(value: Any) -> Any:
    if isinstance(value, set | frozenset | str) or value is None:
        return objects([value])
    return np.asarray(value)[None] if is_concrete(value) else value[None]
