"""The law of jump paths on finitely many states, as a distribution over fixed buffers of jumps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Distribution, constraints

from mjp.graph import Graph
from mjp.inference.condition import condition
from mjp.inference.finite_states import FiniteStates, evaluate
from mjp.inference.rules.finite_states import SNAPSHOT
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.inference.safe_logs import never_if_nan
from mjp.inference.schedule import topological_depth
from mjp.state_trajectory import JumpPaths, StateTrajectory
from mjp.trajectory import Names


class StatePathLaw(Distribution):
    r"""Paths of a graph of finite states in continuous time, (pieces, size + 1, 2): times and states.

    Pieces are the edges, cut where rates change. The first entry of a piece is time zero and the state at
    its start; then come the jumps, with times since the start of the piece and the states entered; behind the
    last one stand the duration and the last state. The log-density with respect to unit-rate Poisson
    processes is $\log\pi(x_0) + \sum_k \log q_{x_{k-1} x_k} + \int q_{x_t x_t} dt$: given a path it is a
    smooth function of the rates.

    Args:
        graph: chains or panels; its observations do not enter the law.
        size: jumps on a piece.

    Raises:
        TypeError: a graph in discrete time, or one that branches.
        ValueError: exact entry or transition times.
    """

    support = constraints.independent(constraints.real, 3)  # type: ignore[assignment]

    def __init__(self, graph: Graph, size: int):
        self.graph, self.size = graph, size
        self.model: FiniteStates = evaluate(graph)
        jumps, layout = self.model.jumps, self.model.layout
        if not jumps or len(layout.pieces.children) < np.sum(layout.parent >= 0):
            raise TypeError("a path as a site needs processes in continuous time on all edges")
        if np.any(layout.arrival != SNAPSHOT):
            raise ValueError(
                "a path as a site takes states at given times only, not exact entry or transition times; "
                "leave the path marginalised"
            )
        offsets = np.cumsum([0, *(edges.generators.shape[0] for edges in jumps)])
        self.generators = jnp.concatenate([edges.generators for edges in jumps])  # (G, K, K)
        self.which = np.concatenate([o + edges.which for o, edges in zip(offsets, jumps, strict=False)])
        dtype = self.generators.dtype
        self.durations = jnp.concatenate([jnp.asarray(edges.durations, dtype) for edges in jumps])
        self.starts = jnp.concatenate([jnp.asarray(edges.starts, dtype) for edges in jumps])
        self.sequence = _sequence(self.model)
        super().__init__((), (len(self.which), size + 1, 2), validate_args=False)

    @property
    def constant(self) -> Array:
        """The path that stays in the first state."""
        times = jnp.broadcast_to(self.durations[:, None], (len(self.which), self.size + 1)).at[:, 0].set(0.0)
        return jnp.stack([times, jnp.zeros_like(times)], axis=-1)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Paths of the process; its rates are uniformized, and all events must fit `size`."""
        if sample_shape:
            keys = jax.random.split(key, int(np.prod(sample_shape)))
            drawn = jax.vmap(self.sample)(keys)
            return drawn.reshape(*sample_shape, *drawn.shape[1:])
        path: Any = condition(self.graph, observed=False, max_jumps=self.size).sample(key)[0]
        return self.packed(path)

    def packed(self, path: StateTrajectory) -> Array:
        """A trajectory of the graph as a value of this law."""
        assert path.jumps is not None
        j = path.jumps
        times = jnp.append(
            jnp.zeros_like(j.starts)[:, None], j.times[:, : self.size] - j.starts[:, None], axis=1
        )
        states = jnp.append(j.start_states[:, None], j.states[:, : self.size], axis=1)
        return jnp.stack([times, states.astype(times.dtype)], axis=-1)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        if value.ndim > 3:
            return jax.vmap(self.log_prob)(value)
        times, states = value[..., 0], value[..., 1].astype(jnp.int32)
        which = self.which[:, None]
        spans = jnp.diff(jnp.append(times, self.durations[:, None], axis=1), axis=1)
        staying = jnp.sum(self.generators[which, states, states] * spans)
        jumped = states[:, 1:] != states[:, :-1]
        rate = self.generators[which, states[:, :-1], states[:, 1:]]
        jumping = jnp.sum(jnp.where(jumped, jnp.log(jnp.where(jumped, rate, 1.0)), 0.0))
        first = self.model.root_laws[np.arange(len(self.sequence.roots)), states[self.sequence.first, 0]]
        total = jnp.sum(jnp.log(first)) + jumping + staying
        return never_if_nan(total)

    def nodes(self, value: Array) -> Array:
        """States (n,) at all nodes, those that the schedule inserted included."""
        states = value[..., 1].astype(jnp.int32)
        found = jnp.zeros(len(self.model.layout.parent), jnp.int32)
        found = found.at[self.sequence.roots].set(states[self.sequence.first, 0])
        return found.at[self.model.layout.pieces.children].set(states[:, -1])

    def log_likelihoods(self, path: StateTrajectory) -> Array:
        """Log-densities of the observations of each node of the graph, (n_nodes,); zero if unobserved."""
        n = self.model.layout.n_graph_nodes
        values, known = self.model.nodes.values[:n], self.model.layout.known[:n]
        chosen = jnp.take_along_axis(values, path.values[:, None], axis=1)[:, 0]
        agrees = (known == UNKNOWN) | (path.values == known)
        return jnp.log(jnp.where(agrees, chosen, 0.0)) + self.model.nodes.log_scale[:n]

    def trajectory(self, value: Array) -> StateTrajectory:
        """A path as a trajectory of the graph."""
        layout, states = self.model.layout, value[..., 1].astype(jnp.int32)
        times = value[..., 0] + self.starts[:, None]
        end = self.starts + self.durations
        none = jnp.zeros((), jnp.int32)
        jumps = JumpPaths(layout.pieces, self.starts, end, states[:, 0], times[:, 1:], states[:, 1:], none)
        nodes = self.nodes(value)[: layout.n_graph_nodes]
        return StateTrajectory(
            values=nodes, observations=(), jumps=jumps, names=Names(self.graph, layout.states)
        )


class _Sequence:
    """Pieces in the order of time, side by side.

    Attributes:
        pieces: (levels, n_roots) of each chain, the number of pieces where it has ended.
        roots: (n_roots,) nodes; first: (n_roots,) piece that begins there.
    """

    def __init__(self, pieces: np.ndarray, roots: np.ndarray, first: np.ndarray):
        self.pieces, self.roots, self.first = pieces, roots, first


def _sequence(model: FiniteStates) -> _Sequence:
    layout = model.layout
    parents, children = layout.pieces.parents, layout.pieces.children
    if len(np.unique(parents)) < len(parents):
        raise TypeError("a path as a site needs a chain, or several side by side; this graph branches")
    depth, head = topological_depth(layout.parent)
    roots = layout.root_nodes
    column = np.full(len(layout.parent), -1)
    column[roots] = np.arange(len(roots))
    table = np.full((int(depth.max(initial=0)), len(roots)), len(children))
    table[depth[children] - 1, column[head[children]]] = np.arange(len(children))
    if np.any(table[0] == len(children)):
        raise TypeError("a path as a site needs an edge from every root")
    return _Sequence(table, roots, table[0])
