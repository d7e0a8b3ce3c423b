"""Conditioning graphs of finite states in which nodes have several parents."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import check_count, is_concrete
from mjp.graph import Graph
from mjp.inference import elimination, projection
from mjp.inference.elimination import Elimination
from mjp.inference.jump_edges import buffer_of, jump_innovations, jump_paths, pieces_of
from mjp.inference.projection import REFERENCES, Projection
from mjp.inference.rules.registry import register_engine
from mjp.inference.state_tables import StateTables, evaluate
from mjp.inference.uniform_draws import DrawnByUniforms
from mjp.state_spaces import shared_states, state_spaces
from mjp.state_trajectory import StateTrajectory
from mjp.trajectory import Names

MAX_TABLE = 2**20


class TablesGuided(DrawnByUniforms):
    """A conditioned graph of finite states, whose nodes may have several parents.

    Attributes:
        log_evidence: of the guide; of the data if `exact`.
    """

    log_evidence: Array
    model: StateTables
    names: Names
    exact: eqx.AbstractVar[bool]
    max_jumps: eqx.AbstractVar[int]

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """Innovations of the states at the nodes, and of the jump paths on the edges."""
        nodes = {"nodes": (self.model.structure.n,)}
        return {**nodes, **jump_innovations(self.model.jumps, self.max_jumps)}

    @property
    def smooth(self) -> bool:
        return False

    def _draw(self, uniforms: dict[str, Array]) -> tuple[StateTrajectory, Array]:
        states, log_weight = self._states(uniforms["nodes"])
        paths = jump_paths(self.model.jumps, states, uniforms, pieces_of(self.model.jumps))
        values = states[: self.names.graph.n_nodes]
        return StateTrajectory(values=values, observations=(), jumps=paths, names=self.names), log_weight

    def _states(self, uniforms: Array) -> tuple[Array, Array]:
        raise NotImplementedError


class Eliminated(TablesGuided):
    """Conditioned exactly; draws are joint draws given the observations, and their log-weight is zero."""

    log_evidence: Array
    model: StateTables
    names: Names
    buckets: tuple[Array, ...]
    plan: Elimination = eqx.field(static=True)
    exact: bool = eqx.field(static=True)
    max_jumps: int = eqx.field(static=True)

    def _states(self, uniforms: Array) -> tuple[Array, Array]:
        states = elimination.draw_states(self.plan, self.model, self.buckets, uniforms)
        return states, jnp.zeros_like(self.log_evidence)


class Projected(TablesGuided):
    """Guided by potentials of single nodes; `exact` where no pullback had to be projected."""

    log_evidence: Array
    model: StateTables
    names: Names
    guide: Projection
    exact: bool = eqx.field(static=True)
    max_jumps: int = eqx.field(static=True)

    def _states(self, uniforms: Array) -> tuple[Array, Array]:
        return projection.guided_states(self.model, self.guide, uniforms)


@register_engine("several parents", covers=("finite states",))
def condition_several_parents(
    graph: Graph,
    *,
    auxiliary: str | None = None,
    max_table: int = MAX_TABLE,
    max_jumps: int | None = None,
    observed: bool = True,
) -> TablesGuided:
    """Eliminate where tables stay small, else project; see `mjp.condition`."""
    check_count("max_table", max_table)
    check_count("max_jumps", max_jumps)
    if auxiliary is not None and auxiliary not in REFERENCES:
        raise ValueError(f"auxiliary must be one of {list(REFERENCES)} or None, got {auxiliary!r}")
    model = evaluate(graph, observed=observed)
    names = Names(graph, shared_states(graph), _by_node(graph))
    room = max_jumps or buffer_of(model.jumps)
    plan = elimination.plan(model.structure)
    guided: TablesGuided
    if auxiliary is None and plan.entries <= max_table:
        evidence, buckets = elimination.eliminate(plan, model)
        guided = Eliminated(evidence, model, names, buckets, plan, exact=True, max_jumps=room)  # type: ignore[call-arg]
    else:
        guide = projection.project(model, auxiliary or "prior")
        exact = projection.is_exact(model.structure)
        guided = Projected(guide.log_evidence, model, names, guide, exact=exact, max_jumps=room)  # type: ignore[call-arg]
    if is_concrete(guided.log_evidence) and not np.asarray(guided.log_evidence) > -np.inf:
        raise ValueError("the observations are impossible under the model: the likelihood is zero")
    return guided


def _by_node(graph: Graph) -> tuple[tuple, ...] | None:
    """Labels of the states of every node, where these differ."""
    spaces: Any = tuple(state_spaces(graph))
    return spaces if len(set(spaces)) > 1 else None
