"""Exact conditioning of graphs of finite states."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import check_count, is_concrete
from mjp.graph import Graph
from mjp.inference import level_sweeps, path_sweeps
from mjp.inference.exact_evidence import log_evidence, path_inputs, tree_inputs
from mjp.inference.finite_states import FiniteStates, evaluate
from mjp.inference.impossible import check_possible
from mjp.inference.jump_edges import buffer_of, jump_innovations, jump_paths
from mjp.inference.rules.registry import register_engine
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.inference.uniform_draws import DrawnByUniforms
from mjp.shapes import PanelGraph
from mjp.state_trajectory import StateTrajectory
from mjp.trajectory import Names, Trajectory


class FiniteStateGuided(DrawnByUniforms):
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
        nodes = {"nodes": (len(self.model.layout.parent),)}
        return {**nodes, **jump_innovations(self.model.jumps, self.max_jumps)}

    def _draw(self, uniforms: dict[str, Array]) -> tuple[Trajectory, Array]:
        states = self._states(uniforms["nodes"])
        paths = jump_paths(self.model.jumps, states, uniforms, self.model.layout.pieces)
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
        max_jumps=max_jumps or buffer_of(model.jumps),
    )


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
