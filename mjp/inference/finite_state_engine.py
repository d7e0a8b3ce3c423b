"""Exact conditioning of graphs of finite states."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr

from mjp._checks import check_count, is_concrete
from mjp.graph import Graph
from mjp.inference import level_sweeps, path_sweeps
from mjp.inference.bridges import buffer_size, sample_bridges
from mjp.inference.condition import Guided
from mjp.inference.exact_evidence import log_evidence, path_inputs, tree_inputs
from mjp.inference.finite_states import FiniteStates, JumpEdges, evaluate
from mjp.inference.impossible import check_possible
from mjp.inference.rules.finite_states import ENTRY, EXACT_TRANSITION, NO_JUMP
from mjp.inference.rules.registry import register_engine
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.shapes import PanelGraph
from mjp.state_trajectory import JumpPaths, StateTrajectory
from mjp.trajectory import Names, Trajectory

_DEFAULT_BUFFER = 32


class FiniteStateGuided(Guided):
    """The conditioned graph of finite states; its draws are exact, their log-weight is zero.

    Attributes:
        log_evidence: in the batch shape of the graph.
        terms: one-step-ahead log-likelihoods (T,) of a single chain, whose sum is the evidence; or None.
    """

    log_evidence: Array
    terms: Array | None
    model: FiniteStates
    names: Names
    exact: bool = eqx.field(static=True)
    max_jumps: int = eqx.field(static=True)

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """Innovations of the states at the nodes, and of the jump paths on the edges."""
        shapes: dict[str, tuple[int, ...]] = {"nodes": (len(self.model.layout.parent),)}
        for i, jumps in enumerate(self.model.jumps):
            shapes[f"jumps{i or ''}"] = (len(jumps.which), 2 * self.max_jumps + 2)
        return shapes

    def push(self, z: dict[str, Array]) -> tuple[Trajectory, Array]:
        """The draw as a function of innovations: states by inverting cumulative probabilities."""
        return self._draw({name: ndtr(value) for name, value in z.items()})

    def sample(self, key: Array) -> tuple[Trajectory, Array]:
        """An exact draw of all states and jump paths given the observations."""
        shapes = self.innovations
        keys = jax.random.split(key, len(shapes))
        dtype = jnp.result_type(float)
        # the law of `push`, without the way through normal innovations and back
        return self._draw(
            {n: jax.random.uniform(k, s, dtype) for (n, s), k in zip(shapes.items(), keys, strict=True)}
        )

    def _draw(self, uniforms: dict[str, Array]) -> tuple[Trajectory, Array]:
        states = self._states(uniforms["nodes"])
        batches = [
            self._jump_paths(jumps, states, uniforms[f"jumps{i or ''}"])
            for i, jumps in enumerate(self.model.jumps)
        ]
        paths = None
        if batches:
            columns = [jnp.concatenate(column) for column in zip(*batches, strict=True)]
            starts, ends, entered, times, jumped, overflow = columns
            pieces = self.model.layout.pieces
            paths = JumpPaths(pieces, starts, ends, entered, times, jumped, jnp.sum(overflow))
        trajectory = StateTrajectory(
            values=states[: self.model.layout.n_graph_nodes], observations=(), jumps=paths, names=self.names
        )
        return trajectory, jnp.zeros_like(self.log_evidence)

    def _states(self, uniforms: Array) -> Array:
        """States at all nodes, (n,)."""
        model, layout = self.model, self.model.layout
        if layout.levels is not None:
            kernels, nodes = tree_inputs(model)
            potentials, _ = level_sweeps.prune(layout.levels, kernels, nodes)
            by_row = jnp.append(uniforms, 0.0)[layout.levels.node]
            rows = level_sweeps.guided_states(layout.levels, model.root_laws, kernels, potentials, by_row)
            return rows[layout.levels.row_of_node]
        states = jnp.asarray(np.maximum(layout.known, 0), jnp.int32)
        for paths in layout.paths:
            initial, nodes = path_inputs(model, paths)
            index = layout.edge_matrix[paths.nodes[1:]]
            potentials = path_sweeps.backward_filter(model.matrices, index, nodes)
            by_node = jnp.append(uniforms, 0.0)[paths.nodes]
            drawn = path_sweeps.guided_states(initial, model.matrices, index, potentials, by_node)
            real = (paths.nodes < len(layout.parent)) & (np.append(layout.known, 0)[paths.nodes] == UNKNOWN)
            states = states.at[paths.nodes[real]].set(drawn[real])
        return states

    def _jump_paths(self, edges: JumpEdges, states: Array, uniforms: Array) -> list[Array]:
        """Jump paths on edges between drawn states, as the arrays of a JumpPaths."""
        start, end = states[edges.pieces.parents], states[edges.pieces.children]
        durations = jnp.asarray(edges.durations, edges.generators.dtype)
        arrival, before, inside = edges.selection.arrival, end, durations
        matrices, pair = edges.matrices, edges.selection.pair
        chosen = np.flatnonzero(arrival == ENTRY)
        if len(chosen):
            # the state just before an exact entry into d has weight P[start, k] q[k, d]
            off = edges.generators * (1.0 - np.eye(edges.generators.shape[-1]))
            weights = matrices[pair[chosen], start[chosen]] * off[edges.which[chosen], :, end[chosen]]
            before = before.at[chosen].set(path_sweeps.draw(weights, uniforms[chosen, -1]))
        total = matrices[pair, start, before]
        constant = (arrival == EXACT_TRANSITION) | (arrival == NO_JUMP)
        if np.any(constant):
            before, inside = jnp.where(constant, start, before), jnp.where(constant, 0.0, durations)
            total = jnp.where(constant, 1.0, total)
        bridges = sample_bridges(
            edges.generators, edges.which, inside, start, before, total, uniforms[:, :-1]
        )
        # what comes after the last jump is the end of the edge: an exact entry is a jump just there
        padding = jnp.arange(bridges.times.shape[1]) >= bridges.n_jumps[:, None]
        times = jnp.where(padding, durations[:, None], bridges.times)
        jumped = jnp.where(padding, end[:, None], bridges.states)
        starts = jnp.asarray(edges.starts, durations.dtype)
        times = jnp.concatenate([times, durations[:, None]], axis=1) + starts[:, None]
        jumped = jnp.concatenate([jumped, end[:, None]], axis=1)
        return [starts, starts + durations, start, times, jumped, bridges.overflow]


@register_engine("finite states", exact=True)
def condition_finite_states(
    graph: Graph, *, max_jumps: int | None = None, observed: bool = True
) -> FiniteStateGuided:
    """Evaluate, filter backwards and return the guided graph; see `mjp.condition`."""
    check_count("max_jumps", max_jumps)
    model = evaluate(graph, observed=observed)
    if observed:
        check_possible(graph, model)
    evidence, terms = log_evidence(model)
    evidence = evidence.reshape(graph.batch_shape)
    if observed and is_concrete(evidence):
        _check_evidence(graph, np.asarray(evidence), terms)
    names = Names(graph, model.layout.states)
    return FiniteStateGuided(
        log_evidence=evidence,
        terms=terms,
        model=model,
        names=names,
        exact=True,
        max_jumps=max_jumps or _buffer(model),
    )


def _buffer(model: FiniteStates) -> int:
    """Buffer that holds the uniformized events of any edge, if the rates are known."""
    size = 1
    for jumps in model.jumps:
        if not (is_concrete(jumps.generators) and is_concrete(jumps.durations)):
            return _DEFAULT_BUFFER
        rates = -np.diagonal(np.asarray(jumps.generators), axis1=-2, axis2=-1).min(axis=-1, initial=0.0)
        events = float(np.max(rates[jumps.which] * np.asarray(jumps.durations), initial=0.0))
        if np.isfinite(events):
            size = max(size, buffer_size(events))
    return size


def _check_evidence(graph: Graph, evidence: np.ndarray, terms: Array | None) -> None:
    """Raise ValueError that names what is impossible: the subjects, the series, or the first node."""
    bad = np.flatnonzero(~(evidence > -np.inf))
    if len(bad) == 0:
        return
    if np.isnan(evidence.reshape(-1)[bad[0]]):
        raise ValueError("rates: the log-likelihood is not a number; rates times durations are too large")
    why = "under the model: the likelihood is zero"
    if isinstance(graph, PanelGraph):
        shown = ", ".join(repr(graph.panel.subjects[i]) for i in bad[:5])
        raise ValueError(f"the observations of {len(bad)} subjects are impossible {why}, for {shown}")
    if evidence.ndim:
        raise ValueError(f"the observations of series {int(bad[0])} are impossible {why}")
    if terms is not None:
        node = graph.describe_node(int(np.argmax(~(np.asarray(terms) > -np.inf))))
        raise ValueError(f"the observations up to {node} are impossible {why}")
    raise ValueError(f"the observations are impossible {why}")
