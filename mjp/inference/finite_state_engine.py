"""Exact conditioning of graphs of finite states."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr

from mjp._checks import is_concrete
from mjp.graph import Graph
from mjp.inference import level_sweeps, path_sweeps
from mjp.inference.bridges import buffer_size, sample_bridges
from mjp.inference.condition import Guided
from mjp.inference.exact_evidence import log_evidence, path_inputs, tree_inputs
from mjp.inference.finite_states import FiniteStates, JumpEdges, evaluate
from mjp.inference.impossible import check_possible
from mjp.inference.rules.finite_states import ENTRY, EXACT_TRANSITION
from mjp.inference.rules.registry import register_engine
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.trajectory import JumpPaths, Names, Trajectory

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
        shapes = {"nodes": (len(self.model.parent),)}
        for i, jumps in enumerate(self.model.jumps):
            shapes[f"jumps{i or ''}"] = (len(jumps.children), 2 * self.max_jumps + 2)
        return shapes

    def push(self, z: dict[str, Array]) -> tuple[Trajectory, Array]:
        """The draw as a function of innovations: states by inverting cumulative probabilities."""
        uniforms = {name: ndtr(value) for name, value in z.items()}
        states = self._states(uniforms["nodes"])
        paths = [
            self._jump_paths(jumps, states, uniforms[f"jumps{i or ''}"])
            for i, jumps in enumerate(self.model.jumps)
        ]
        names, n = self.names, self.model.n_graph_nodes
        trajectory = Trajectory(states[:n], (), _side_by_side(paths), names)
        return trajectory, jnp.zeros_like(self.log_evidence)

    def sample(self, key: Array) -> tuple[Trajectory, Array]:
        """An exact draw of all states and jump paths given the observations."""
        return super().sample(key)

    def _states(self, uniforms: Array) -> Array:
        """States at all nodes, (n,)."""
        model = self.model
        if model.levels is not None:
            kernels, nodes = tree_inputs(model)
            potentials, _ = level_sweeps.prune(model.levels, kernels, nodes)
            by_row = jnp.append(uniforms, 0.0)[model.levels.node]
            rows = level_sweeps.guided_states(model.levels, model.root_laws, kernels, potentials, by_row)
            return rows[model.levels.row_of_node]
        states = jnp.asarray(np.maximum(model.known, 0), jnp.int32)
        for paths in model.paths:
            initial, nodes = path_inputs(model, paths)
            index = model.edge_matrix[paths.nodes[1:]]
            potentials = path_sweeps.backward_filter(model.matrices, index, nodes)
            by_node = jnp.append(uniforms, 0.0)[paths.nodes]
            drawn = path_sweeps.guided_states(initial, model.matrices, index, potentials, by_node)
            real = (paths.nodes < len(model.parent)) & (np.append(model.known, 0)[paths.nodes] == UNKNOWN)
            states = states.at[paths.nodes[real]].set(drawn[real])
        return states

    def _jump_paths(self, edges: JumpEdges, states: Array, uniforms: Array) -> JumpPaths:
        """Jump paths on edges between drawn states."""
        start, end = states[edges.parents], states[edges.children]
        durations = jnp.asarray(edges.durations, edges.generators.dtype)
        before = end
        entry, exact = edges.arrival == ENTRY, edges.arrival == EXACT_TRANSITION
        if np.any(entry):
            # the state just before an exact entry into d has weight P[start, k] q[k, d]
            off = edges.generators * (1.0 - np.eye(edges.generators.shape[-1]))
            which, chosen = edges.which[entry], np.flatnonzero(entry)
            through = jax.vmap(lambda q, t: jax.scipy.linalg.expm(q * t))
            arrive = through(edges.generators[which], durations[chosen])
            rows = jnp.take_along_axis(arrive, start[chosen, None, None], axis=1)[:, 0]
            weights = rows * jnp.take_along_axis(off[which], end[chosen, None, None], axis=2)[..., 0]
            before = before.at[chosen].set(path_sweeps.draw(weights, uniforms[chosen, -1]))
        inside = durations
        if np.any(exact):
            before = jnp.where(exact, start, before)
            inside = jnp.where(exact, 0.0, durations)
        bridges = sample_bridges(edges.generators, edges.which, inside, start, before, uniforms[:, :-1])
        # what comes after the last jump is the end of the edge: an exact entry is a jump just there
        padding = jnp.arange(bridges.times.shape[1]) >= bridges.count[:, None]
        times = jnp.where(padding, durations[:, None], bridges.times)
        jumped = jnp.where(padding, end[:, None], bridges.states)
        starts = jnp.asarray(edges.starts, durations.dtype)
        times = jnp.concatenate([times, durations[:, None]], axis=1) + starts[:, None]
        jumped = jnp.concatenate([jumped, end[:, None]], axis=1)
        overflow = jnp.sum(bridges.overflow)
        ends = starts + durations
        return JumpPaths(edges.parents, edges.children, starts, ends, start, times, jumped, overflow)


def _side_by_side(paths: list[JumpPaths]) -> JumpPaths | None:
    if not paths:
        return None
    if len(paths) == 1:
        return paths[0]
    join: Any = lambda name, numpy=jnp: numpy.concatenate([getattr(p, name) for p in paths])  # noqa: E731
    return JumpPaths(
        join("parents", np),
        join("children", np),
        join("starts"),
        join("ends"),
        join("start_states"),
        join("times"),
        join("states"),
        sum((p.overflow for p in paths), start=jnp.zeros((), jnp.int32)),
    )


@register_engine("finite states")
def condition_finite_states(
    graph: Graph, *, max_jumps: int | None = None, observed: bool = True
) -> FiniteStateGuided:
    """Evaluate, filter backwards and return the guided graph; see `mjp.condition`."""
    model = evaluate(graph, observed=observed)
    if observed:
        check_possible(graph, model)
    evidence, terms = log_evidence(model)
    evidence = evidence.reshape(graph.batch_shape)
    if observed and is_concrete(evidence):
        _check_evidence(graph, np.asarray(evidence))
    names = Names(graph, model.states)
    return FiniteStateGuided(evidence, terms, model, names, True, max_jumps or _buffer(model))


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


def _check_evidence(graph: Graph, evidence: np.ndarray) -> None:
    if np.all(evidence > -np.inf):
        return
    if graph.kind == "panel" and evidence.ndim:
        subjects = [graph.panel.subjects[i] for i in np.flatnonzero(~(evidence > -np.inf))]  # type: ignore[attr-defined]
        shown = ", ".join(repr(subject) for subject in subjects[:5])
        raise ValueError(f"the observations of {len(subjects)} subjects are impossible under the model: {shown}")
    raise ValueError("the observations are impossible under the model: the likelihood is zero")
