"""Conditioning factorial chains: exactly where all combinations of states are few, else guided by chain."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr

from mjp._checks import check_count, is_concrete
from mjp.agent_trajectory import AgentTrajectory
from mjp.graph import Graph
from mjp.inference.condition import Guided
from mjp.inference.graph_filter import graph_filter, localised_guide
from mjp.inference.neighbourhoods import neighbourhoods
from mjp.inference.particle_chain import ParticleChain, evaluate
from mjp.inference.particle_engine import ParticleGuided, guide_evidence, simulate_particles
from mjp.inference.particle_guides import ParticleGuide
from mjp.inference.product_filter import chain_marginals, product_filter, sample_path
from mjp.inference.rules.registry import register_engine, register_simulator

MAX_TABLE = 2**12


class ProductGuided(Guided):
    """Factorial chains, conditioned exactly; draws are joint draws, and their log-weight is zero.

    Attributes:
        log_evidence: in the batch shape of the graph.
        terms: one-step-ahead log-likelihoods (T,) of a single series, whose sum is the evidence; or None.
        laws: (F + 1, R, K**M) of the filter.
    """

    log_evidence: Array
    terms: Array | None
    model: ParticleChain
    laws: Array
    exact: bool = eqx.field(static=True)

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """One per step and series."""
        return {"steps": self.laws.shape[:2]}

    @property
    def filtered(self) -> Array:
        """Probabilities (T, M, K) of each chain's states given the observations so far; (R, T, M, K)."""
        laws = self.laws[:: self.model.static.order.steps]
        found = jnp.moveaxis(chain_marginals(laws, self.model.k, self.model.process.n), 1, 0)
        return found if self.log_evidence.ndim else found[0]

    def push(self, z: dict[str, Array]) -> tuple[AgentTrajectory, Array]:
        """The draw as a function of innovations, by inverting cumulative probabilities."""
        return self._draw(ndtr(z["steps"]))

    def sample(self, key: Array) -> tuple[AgentTrajectory, Array]:
        """An exact draw of the paths of all chains given the observations."""
        return self._draw(jax.random.uniform(key, self.laws.shape[:2], jnp.result_type(float)))

    def _draw(self, uniforms: Array) -> tuple[AgentTrajectory, Array]:
        path = sample_path(self.model, self.laws, uniforms)
        return self.model.trajectory(path), jnp.zeros_like(self.log_evidence)


class LocalisedGuided(ParticleGuided):
    """Factorial chains, guided by potentials of single chains.

    Attributes:
        filtered: (T, M, K), or (R, T, M, K): probabilities of each chain's states given the observations so
            far, by the graph filter.
    """

    log_evidence: Array
    model: ParticleChain
    guide: ParticleGuide
    filtered: Array
    exact: bool = eqx.field(static=True)


def is_small(graph: Graph) -> bool:
    """Whether a graph of factorial chains is conditioned exactly unless something else is asked for."""
    process: Any = graph.edges[0].process
    return process.n_states**process.n <= MAX_TABLE


@register_engine("factorial chains", exact=is_small)
def condition_factorial(
    graph: Graph, *, auxiliary: str | None = None, max_table: int = MAX_TABLE, radius: int = 1
) -> Guided:
    """Filter all combinations of states where they are few, else each chain; see `mjp.condition`."""
    check_count("max_table", max_table)
    if isinstance(radius, bool) or not isinstance(radius, int | np.integer) or radius < 0:
        raise ValueError(f"radius must be an integer >= 0, got {radius!r}")
    if auxiliary not in (None, "localised"):
        raise ValueError(f"auxiliary must be 'localised' or None, got {auxiliary!r}")
    model = evaluate(graph)
    small = model.k**model.process.n <= max_table
    guided = _exactly(graph, model) if auxiliary is None and small else _localised(graph, model, radius)
    evidence = guided.log_evidence
    if is_concrete(evidence) and not np.all(np.asarray(evidence) > -np.inf):
        raise ValueError("the observations are impossible under the model: the likelihood is zero")
    return guided


def _exactly(graph: Graph, model: ParticleChain) -> ProductGuided:
    increments, laws = product_filter(model)
    nodes = model.static.order.nodes
    alone = not graph.batch_shape and np.array_equal(nodes[:, 0], np.arange(len(nodes)))
    terms = increments[:: model.static.order.steps, 0] if alone else None
    evidence = jnp.sum(increments, axis=0).reshape(graph.batch_shape)
    return ProductGuided(evidence, terms, model, laws, exact=True)  # type: ignore[call-arg]


def _localised(graph: Graph, model: ParticleChain, radius: int) -> LocalisedGuided:
    k, n_series = model.k, model.static.n_series
    near = neighbourhoods(model.local_seen, model.shape[1], k, radius)
    forward = graph_filter(model, near)
    guide = localised_guide(model, near, forward)
    evidence = guide_evidence(model, guide).reshape(graph.batch_shape)
    found = forward.filtered[:: model.static.order.steps]
    found = jnp.moveaxis(found.reshape(len(found), k, n_series, -1), (2, 3), (0, 2))
    exact = not (model.local_seen or model.totals_seen)
    found = found if graph.batch_shape else found[0]
    return LocalisedGuided(evidence, model, guide, filtered=found, exact=exact)  # type: ignore[call-arg]


register_simulator("factorial chains")(simulate_particles)
