"""The law of jump paths on counts, as a distribution over fixed buffers of events."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpyro.distributions import Distribution, constraints

from mjp.count_trajectory import CountPaths, CountTrajectory
from mjp.graph import Graph, Roots
from mjp.inference.count_graph import CountGraph, evaluate
from mjp.inference.count_simulation import simulate_counts
from mjp.trajectory import Names

_NO_ROOM = -2.0  # in place of reactions, on pieces whose events do not fit


class PathLaw(Distribution):
    r"""Paths of a graph of reaction networks, (pieces, size, 2): when events happened, and which reactions.

    Pieces are the edges, cut where rates change; times count from their start, and behind the last event
    stand the duration and -1. The log-density with respect to unit-rate Poisson processes is
    $\sum_k \log\lambda_{l_k}(x_{k-}) - \int \Lambda(x_t) dt$: given a path it is a smooth function of the
    parameters, which is all that gradient-based kernels see.

    Args:
        graph: its observations do not enter.
        size: events on a piece. A draw that needs more has density zero, and says so in `overflow` of its
            trajectory.
        roots: (n_roots, d) first states; default those that the graph knows.
    """

    support = constraints.independent(constraints.real, 3)  # type: ignore[assignment]

    def __init__(self, graph: Graph, size: int, roots: Array | None = None):
        self.graph, self.size = graph, size
        self.model: CountGraph = evaluate(graph, None)
        self.roots = self.model.roots if roots is None else roots
        super().__init__((), (self.model.n_pieces, size, 2), validate_args=False)

    @property
    def empty(self) -> Array:
        """The path without events."""
        times = jnp.broadcast_to(self.model.durations[:, None], (self.model.n_pieces, self.size))
        return jnp.stack([times, -jnp.ones_like(times)], axis=-1)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        if sample_shape:
            keys = jax.random.split(key, int(np.prod(sample_shape)))
            drawn = jax.vmap(self.sample)(keys)
            return drawn.reshape(*sample_shape, *drawn.shape[1:])
        path = simulate_counts(self._from_roots(), key, max_events=self.size).paths
        assert path is not None
        times, reactions = path.times[:, : self.size], path.reactions[:, : self.size]
        fits = path.n_events <= self.size
        return pack(times, jnp.where(fits[:, None], reactions, int(_NO_ROOM)))

    def _from_roots(self) -> Graph:
        """The graph with the first states of this law."""
        graph = copy.copy(self.graph)
        nodes = self.model.static.root_nodes
        graph.roots = [Roots(nodes, list(self.roots))]
        return graph

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        if value.ndim > 3:
            return jax.vmap(self.log_prob)(value)
        return jnp.sum(self.by_piece(value))

    def by_piece(self, value: Array) -> Array:
        """Log-densities (pieces,) of a path."""
        model = self.model
        times, reactions = unpack(value)
        before = self._before(self.nodes(value))
        gaps = jnp.diff(times, axis=1, prepend=jnp.zeros_like(times[:, :1]))
        gaps = jnp.concatenate([gaps, model.durations[:, None] - times[:, -1:]], axis=1)
        total = jnp.zeros(model.n_pieces, value.dtype)
        for kind, process in enumerate(model.processes):
            chosen = np.flatnonzero(model.static.layout.kinds == kind)
            change = jnp.asarray(
                np.concatenate([process.stoichiometry, np.zeros((1, process.n_species), int)]), jnp.int32
            )
            own = reactions[chosen]
            steps = change[jnp.maximum(own, -1)]
            states = before[chosen][:, None] + jnp.cumsum(
                jnp.concatenate([jnp.zeros_like(steps[:, :1]), steps], axis=1), axis=1
            )
            constants = jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], model.constants[kind])
            at_state = lambda constants, x, process=process: jnp.stack(
                process.propensities_from(constants, list(x))
            )
            rates = jax.vmap(jax.vmap(at_state, in_axes=(None, 0)))(constants, states)
            fired = jnp.take_along_axis(rates[:, :-1], jnp.maximum(own, 0)[..., None], axis=2)[..., 0]
            logs = jnp.where(own >= 0, jnp.log(jnp.where(own >= 0, fired, 1.0)), 0.0)
            density = jnp.sum(logs, axis=1) - jnp.sum(gaps[chosen] * jnp.sum(rates, axis=2), axis=1)
            total = total.at[chosen].set(jnp.where(jnp.any(own == int(_NO_ROOM), axis=1), -jnp.inf, density))
        return total

    def nodes(self, value: Array) -> Array:
        """Counts (n, d) at all nodes, those that the schedule inserted included."""
        model, layout = self.model, self.model.static.layout
        _, reactions = unpack(value)
        added = jnp.zeros((model.n_pieces + 1, self.roots.shape[1]), jnp.int32)
        for kind, process in enumerate(model.processes):
            chosen = np.flatnonzero(layout.kinds == kind)
            fired = reactions[chosen][..., None] == np.arange(process.n_reactions)
            counts = jnp.sum(fired, axis=1, dtype=jnp.int32)
            added = added.at[chosen].set(counts @ process.stoichiometry.astype(np.int32))
        parents = jnp.asarray(np.append(layout.pieces.parents, 0).astype(np.int32))
        children = jnp.asarray(np.append(layout.pieces.children, layout.n_nodes).astype(np.int32))
        nodes = jnp.zeros((layout.n_nodes + 1, self.roots.shape[1]), jnp.int32)
        nodes = nodes.at[model.static.root_nodes].set(jnp.asarray(self.roots, jnp.int32))

        def level(nodes: Array, tables: tuple) -> tuple[Array, None]:
            for chosen in tables:
                start = model.leaving(parents[chosen], nodes[parents[chosen]])
                nodes = nodes.at[children[chosen]].set(start + added[chosen])
            return nodes, None

        for run in layout.levels:
            nodes, _ = lax.scan(level, nodes, run.pieces)
        return nodes[:-1]

    def _before(self, nodes: Array) -> Array:
        """Counts (P, d) at the start of all pieces."""
        parents = jnp.asarray(self.model.pieces.parents.astype(np.int32))
        return self.model.leaving(parents, nodes[parents])

    def trajectory(self, value: Array) -> CountTrajectory:
        """A path as a trajectory of the graph."""
        model, layout = self.model, self.model.static.layout
        nodes = self.nodes(value)
        times, reactions = unpack(value)
        paths = CountPaths(
            layout.pieces,
            tuple(layout.kinds.tolist()),
            model.processes,
            model.starts,
            model.durations,
            self._before(nodes),
            times,
            jnp.maximum(reactions, -1),
            jnp.sum(reactions >= 0, axis=1),
        )
        none = jnp.zeros((), jnp.int32)
        overflow = jnp.sum(jnp.any(reactions == int(_NO_ROOM), axis=1), dtype=jnp.int32)
        names = Names(self.graph, model.processes[0].species)
        return CountTrajectory(
            values=nodes[: self.graph.n_nodes],
            observations=(),
            paths=paths,
            overflow=overflow,
            invalid=none,
            unfinished=none,
            names=names,
        )


class PathLikelihood:
    """The observations of a graph of counts, given its path."""

    def __init__(self, law: PathLaw):
        self.law = law

    def log_likelihoods(self, path: CountTrajectory) -> Array:
        """Log-densities of the observations of each node, (n_nodes,); zero if unobserved."""
        return self.law.model.log_likelihood(path.values)


def pack(times: Array, reactions: Array) -> Array:
    """Times and reactions (pieces, size) as one array (pieces, size, 2)."""
    return jnp.stack([times, reactions.astype(times.dtype)], axis=-1)


def unpack(value: Array) -> tuple[Array, Array]:
    """Times (pieces, size), and reactions as integers."""
    return value[..., 0], value[..., 1].astype(jnp.int32)
