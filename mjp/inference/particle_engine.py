"""Conditioning interacting particles: guided paths with exact weights, and prior draws."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import logsumexp, ndtr

from mjp._checks import check_count, is_concrete
from mjp.agent_trajectory import AgentTrajectory
from mjp.graph import Graph
from mjp.inference.condition import Guided
from mjp.inference.observing import observations_of
from mjp.inference.particle_chain import ParticleChain, evaluate
from mjp.inference.particle_guides import (
    ParticleGuide,
    backward_filter,
    mean_field_guide,
    own_potentials,
)
from mjp.inference.path_sweeps import draw
from mjp.inference.rules.registry import register_engine, register_simulator
from mjp.inference.safe_logs import never_if_nan

AUXILIARIES = ("mean field", "projected")


class ParticleGuided(Guided):
    """Conditioned interacting particles.

    Attributes:
        log_evidence: log of the guide's g at the first states, in the batch shape of the graph.
        exact: whether agents do not influence each other and are seen one by one.
    """

    log_evidence: Array
    model: ParticleChain
    guide: ParticleGuide
    exact: bool = eqx.field(static=True)

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """One per agent and step, the first states included."""
        return {"steps": self.model.shape}

    def push(self, z: dict[str, Array]) -> tuple[AgentTrajectory, Array]:
        """The guided path as a function of innovations, which is not continuous; and its log-weight."""
        return self._push(ndtr(z["steps"]))

    def sample(self, key: Array) -> tuple[AgentTrajectory, Array]:
        """A guided path and its log-weight."""
        return self._push(jax.random.uniform(key, self.model.shape, jnp.result_type(float)))

    def _push(self, uniforms: Array) -> tuple[AgentTrajectory, Array]:
        path, log_weight = guided_path(self.model, self.guide, uniforms)
        return self.model.trajectory(path), log_weight.reshape(self.log_evidence.shape)


@jax.jit
def guided_path(model: ParticleChain, guide: ParticleGuide, uniforms: Array) -> tuple[Array, Array]:
    """A path (F + 1, N) drawn with the guide, and its log-weights (R,).

    Agents move independently of each other given all states before the step, each by its own transition
    probabilities times its potential, so that the weight of a step is a product over agents.
    """
    g, own = jnp.exp(guide.log_g), own_potentials(model, guide.tilts)
    steps = model.static.order.steps

    def step(states: Array, x: tuple) -> tuple[Array, tuple[Array, Array]]:
        i, uniform = x
        row = jnp.stack(model.rows(states, model.at_step(i)))
        weights = row * g[i + 1]
        at_state = lambda table: jnp.take_along_axis(table, states[None], axis=0)[0]
        seen = jnp.where(i % steps == 0, own[i // steps], 0.0)
        ratio = jnp.log(jnp.sum(weights, axis=0)) + at_state(seen)
        ratio = ratio - at_state(guide.log_g[i]) - guide.log_norms[i]
        after = draw(weights.T, uniform).astype(states.dtype)
        return after, (after, ratio)

    first = draw((jnp.exp(model.first) * g[0]).T, uniforms[0]).astype(jnp.int32)
    xs = (jnp.arange(len(uniforms) - 1), uniforms[1:])
    _, (states, ratios) = lax.scan(step, first, xs)
    path = jnp.concatenate([first[None], states])
    log_weight = jnp.sum(model.by_series(ratios), axis=0)
    log_weight = log_weight + seen_otherwise(model, guide, model.at_nodes(path))
    return path, never_if_nan(log_weight)


def seen_otherwise(model: ParticleChain, guide: ParticleGuide, states: Array) -> Array:
    """Log-ratio (R,) of what was observed of states (T, N) that the guide knows not, or only nearly."""
    total = jnp.sum(joint_ratios(model, guide, states), axis=0)
    if model.local_seen:
        # a guide may have taken them into account, at the last time too
        last = own_potentials(model, guide.tilts)[-1] - guide.log_g[-1] - guide.log_norms[-1]
        total = total + model.by_series(jnp.take_along_axis(last, states[-1:], axis=0)[0])
    return total


def joint_ratios(model: ParticleChain, guide: ParticleGuide, states: Array, time: Any = None) -> Array:
    """Log-ratios (T, R) of what was observed of several agents at once to the slopes that stood for it.

    Args:
        states: (T, N); at one time only, (1, N), if this is given.
    """
    at = (lambda seen: seen) if time is None else (lambda seen: seen.at(time))
    total = jnp.zeros((len(states), model.static.n_series))
    if model.totals_seen:
        totals = model.totals(states)
        tilts = guide.tilts if time is None else guide.tilts[time][None]
        total = total - jnp.sum(totals * tilts, axis=-1)
        for seen in model.totals_seen:
            total = total + at(seen).log_likelihood(totals)
    for local in model.local_seen:
        total = total + at(local).log_likelihood(states, model.static.n_series)
    return total


@jax.jit
def guide_evidence(model: ParticleChain, guide: ParticleGuide) -> Array:
    """Log of the guide's g at the first states, (R,)."""
    first = logsumexp(model.first + guide.log_g[0], axis=0)
    return model.by_series(first + jnp.sum(guide.log_norms, axis=0))


@register_engine("particles", iterations=1)
def condition_particles(
    graph: Graph, *, auxiliary: Any = "mean field", iterations: int = 2
) -> ParticleGuided:
    """Build a guide and return the guided particles; see `mjp.condition`."""
    model, guide, evidence, exact = guide_of(graph, auxiliary, iterations)
    return ParticleGuided(evidence, model, guide, exact=exact)  # type: ignore[call-arg]


def guide_of(
    graph: Graph, auxiliary: Any, iterations: int
) -> tuple[ParticleChain, ParticleGuide, Array, bool]:
    """A graph of agents, evaluated; its guide, the log of its evidence, and whether it is exact.

    Raises:
        ValueError: observations that are impossible, as far as that is known.
    """
    model = evaluate(graph)
    guide = _build_guide(model, auxiliary, iterations)
    together = model.totals_seen or model.local_seen
    exact = len(model.static.contacts.sources) == 0 and not together
    evidence = guide_evidence(model, guide).reshape(graph.batch_shape)
    if is_concrete(evidence) and np.any(np.isneginf(evidence)):
        raise ValueError("the observations are impossible: no state of some agent fits what was seen of it")
    return model, guide, evidence, exact


def _build_guide(model: ParticleChain, auxiliary: Any, iterations: int) -> ParticleGuide:
    """The guide that a user has chosen; see `mjp.condition`."""
    check_count("iterations", iterations)
    if isinstance(auxiliary, str):
        if auxiliary not in AUXILIARIES:
            raise ValueError(f"auxiliary must be one of {list(AUXILIARIES)} or states, got {auxiliary!r}")
        return mean_field_guide(model, iterations=iterations, projected=auxiliary == "projected")
    means = _frozen(model, auxiliary)
    tilts = jnp.zeros((model.static.n_times, model.static.n_series, model.k))
    return backward_filter(model, means, tilts, projected=False)


def _frozen(model: ParticleChain, auxiliary: Any) -> Array:
    """Probabilities (F + 1, K, N) of the states that the guide takes the neighbours to be in."""
    given = auxiliary.path_values if isinstance(auxiliary, AgentTrajectory) else jnp.asarray(auxiliary)
    (f, n), k, r = model.shape, model.k, model.static.n_series
    shapes = [(f, n // r)] if r == 1 else []
    shapes += [(f, r, n // r), model.shape]
    if given.dtype.kind == "i" and given.shape in shapes:
        return jnp.moveaxis(model.indicators(given.reshape(model.shape)), 0, 1)
    if given.dtype.kind == "f" and given.shape in [(*shape, k) for shape in shapes]:
        if is_concrete(given) and not np.allclose(np.sum(np.asarray(given), axis=-1), 1.0, atol=1e-4):
            raise ValueError("auxiliary: shares of the states must add up to one for every agent and step")
        return jnp.moveaxis(given.reshape(f, n, k), 2, 1)
    raise ValueError(
        f"auxiliary must be positions of the agents' states at all steps, shape {shapes[0]}, or shares of "
        f"the states, {(*shapes[0], k)}, got shape {given.shape} of {given.dtype}"
    )


@register_simulator("particles")
def simulate_particles(graph: Graph, key: Array) -> AgentTrajectory:
    """Simulate interacting particles forward, observations included."""
    model = evaluate(graph, observed=False)
    path_key, observation_key = jax.random.split(key)
    path = prior_path(model, path_key)
    observations = observations_of(graph, model.trajectory(path).values, observation_key)
    return model.trajectory(path, observations)


@jax.jit
def prior_path(model: ParticleChain, key: Array) -> Array:
    """A path (F + 1, N) of the particles."""
    f, n = model.shape
    first_key, key = jax.random.split(key)
    uniform = lambda key: jax.random.uniform(key, (n,), jnp.result_type(float))
    first = draw(jnp.exp(model.first).T, uniform(first_key)).astype(jnp.int32)

    def step(states: Array, i: Array) -> tuple[Array, Array]:
        weights = jnp.stack(model.rows(states, model.at_step(i)), axis=-1)
        states = draw(weights, uniform(jax.random.fold_in(key, i))).astype(jnp.int32)
        return states, states

    _, states = lax.scan(step, first, jnp.arange(f - 1))
    return jnp.concatenate([first[None], states])
