r"""Conditioning agents in continuous time: guided jump paths with exact weights.

On a grid of steps, the guide takes an agent's neighbours for what they are on average, so that each agent
alone has a generator $\tilde Q$ and a potential g. In a step, agent i in state x has $n \propto
\mathrm{Pois}(n; \Omega_i \Delta) (\tilde B^n g)(x)$ events, $\tilde B = I + \tilde Q / \Omega_i$, at uniform
times. Events of all agents happen in the order of time, with the true matrix $B = I + Q_i(N_i) / \Omega_i$
and what the guide says of the rest: $x' \propto B(x, x') (\tilde B^{m} g)(x')$ with m events to come in the
step. The weight of an event is $(B \tilde B^m g)(x) / (\tilde B^{m+1} g)(x)$, one where neighbours are as
the guide takes them: this is the guided chain of van der Meulen & Schauer (arXiv 2010.03509), uniformized.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import ndtr

from mjp._checks import check_count, is_concrete
from mjp.agent_jump_trajectory import AgentJumpTrajectory
from mjp.graph import Graph
from mjp.inference.agent_jumps import after, bounds, ends, process_of, states_at
from mjp.inference.bridges import buffer_size
from mjp.inference.condition import Guided
from mjp.inference.jump_buffers import pack, unpack
from mjp.inference.matrix_exponential import poisson_weights
from mjp.inference.observing import observations_of
from mjp.inference.particle_chain import ParticleChain, evaluate
from mjp.inference.particle_engine import guide_of, seen_otherwise
from mjp.inference.particle_guides import LEAST, ParticleGuide, no_guide, own_potentials, pull_back
from mjp.inference.path_sweeps import draw
from mjp.inference.rules.registry import register_engine, register_simulator

_EVENTS, JUMPS = 32, 16  # of an agent, in a step and on its path, where rates are not known
_ROUNDING = 1e-5  # of a rate over its bound
_BEYOND = 1e-4  # probability of more events in a step than there is room for, from which on it is reported


class AgentJumpsGuided(Guided):
    """Conditioned agents in continuous time.

    Attributes:
        log_evidence: log of the guide's g at the first states, in the batch shape of the graph.
        exact: whether agents do not influence each other and are seen one by one.
        max_events: room for the events of an agent in one step.
        max_jumps: room for the jumps of an agent.
    """

    log_evidence: Array
    model: ParticleChain
    guide: ParticleGuide
    exact: bool = eqx.field(static=True)
    max_events: int = eqx.field(static=True)
    max_jumps: int = eqx.field(static=True)

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """For the first states; and by step, agent and event: how many there are, when, and where to."""
        (f, n), b = self.model.shape, self.max_events
        return {"first": (n,), "events": (f - 1, n), "times": (f - 1, b, n), "states": (f - 1, b, n)}

    @property
    def smooth(self) -> bool:
        return False

    def push(self, z: dict[str, Array]) -> tuple[AgentJumpTrajectory, Array]:
        """The guided path as a function of innovations, which is not continuous; and its log-weight."""
        return self._push(Uniforms(*(ndtr(z[name]) for name in self.innovations)))

    def sample(self, key: Array) -> tuple[AgentJumpTrajectory, Array]:
        """A guided path and its log-weight; -inf where the path did not fit, which `overflow` counts."""
        return self._push(key)

    def _push(self, source: "Uniforms | Array") -> tuple[AgentJumpTrajectory, Array]:
        sizes = self.max_events, self.max_jumps
        path, log_weight, unfit = guided_jumps(self.model, self.guide, source, *sizes)
        found = trajectory(self.model, path, unfit)
        return found, log_weight.reshape(self.log_evidence.shape)


def trajectory(model: ParticleChain, value: Array, unfit: Array) -> AgentJumpTrajectory:
    """Paths (N, J + 1, 2) as a trajectory of the graph; `unfit` (N,) as `guided_jumps` returns it."""
    times, states = unpack(value)
    steps = jnp.repeat(model.step_times.T, model.process.n, axis=0)
    on_steps = model.trajectory(states_at(times, states, steps).T)
    return AgentJumpTrajectory(
        values=on_steps.values,
        observations=(),
        path_values=on_steps.path_values,
        step_times=on_steps.step_times,
        names=on_steps.names,
        order=on_steps.order,
        jumps=value.reshape(model.static.n_series, -1, *value.shape[1:]),
        overflow=jnp.sum(unfit, dtype=jnp.int32),
    )


class Uniforms(NamedTuple):
    """Uniform numbers that drive a path: first (N,), events (F, N), times and states (F, B, N)."""

    first: Array
    events: Array
    times: Array
    states: Array


class _Walk(NamedTuple):
    """Where all agents are, and where they have been.

    Attributes:
        field: (M K, N) neighbours. times: (N, J) of jumps so far; entered: (N, J) states; number: (N,).
        left: (N,) events to come in the step. log_weight: (N,).
        unfit: (N,) how often an agent was beyond its bound, or likely to have more events in a step than fit.
    """

    states: Array
    field: Array
    times: Array
    entered: Array
    number: Array
    left: Array
    log_weight: Array
    unfit: Array


@partial(jax.jit, static_argnames=("max_events", "max_jumps"))
def guided_jumps(
    model: ParticleChain, guide: ParticleGuide, source: Uniforms | Array, max_events: int, max_jumps: int
) -> tuple[Array, Array, Array]:
    """Paths (N, J + 1, 2) drawn with the guide, their log-weights (R,), and which agents (N,) did not fit.

    Args:
        source: of random numbers, or a key that they are drawn with.
    """
    n, k = model.shape[1], model.k
    g, own, steps = jnp.exp(guide.log_g), own_potentials(model, guide.tilts), model.static.order.steps
    rate, (start, end) = bounds(model), ends(model)
    influenced, strengths = _influenced(model)
    least = LEAST if len(model.static.contacts.sources) else 0.0
    at_state = lambda table, states: jnp.take_along_axis(table, states[None], axis=0)[0]

    def uniforms(i: Array) -> tuple[Array, ...]:
        """Of step i: events (N,), times and states (B, N)."""
        if isinstance(source, Uniforms):
            return source.events[i], source.times[i], source.states[i]
        shape = (2 * max_events + 1, n)  # step by step, since all together are many
        drawn = jax.random.uniform(jax.random.fold_in(source, i + 1), shape, rate.dtype)
        return drawn[0], drawn[1 : max_events + 1], drawn[max_events + 1 :]

    def step(walk: _Walk, i: Array) -> tuple[_Walk, Array]:
        at = model.at_step(i)
        for_number, for_times, for_states = uniforms(i)
        mean = process_of(model).rates(model.around(guide.means[i]), at)
        jump = [[jnp.maximum((a == b) + mean[a][b] / rate, 0.0) for b in range(k)] for a in range(k)]

        def ahead(g: Array, _: None) -> tuple[Array, Array]:
            pulled = pull_back(jump, g)
            # what the mean field excludes may happen
            return jnp.where(pulled > 0, pulled, least * jnp.sum(g, axis=0)), g

        _, powers = lax.scan(ahead, g[i + 1], None, length=max_events + 1)  # (B + 1, K, N)
        begins, lasts = (jnp.repeat(model.step_times[i + j], n // model.static.n_series) for j in (0, 1))
        counts = poisson_weights(rate * (lasts - begins), max_events + 1).T  # (B + 1, N)
        unfit = (jnp.sum(counts, axis=0) < 1 - _BEYOND).astype(jnp.int32)
        weights = counts * jnp.take_along_axis(powers, walk.states[None, None], axis=1)[:, 0]
        left = draw(weights.T, for_number)
        seen = jnp.where(i % steps == 0, own[i // steps], 0.0)
        ratio = jnp.log(jnp.sum(weights, axis=0)) + at_state(seen, walk.states)
        ratio = ratio - at_state(guide.log_g[i], walk.states) - guide.log_norms[i]
        exists = np.arange(max_events)[:, None] < left
        when = after(begins, (lasts - begins) * for_times)
        order = jnp.argsort(jnp.where(exists, when, jnp.inf).reshape(-1))
        walk = walk._replace(left=left, log_weight=walk.log_weight + ratio, unfit=walk.unfit + unfit)

        def event(e: Array, walk: _Walk) -> _Walk:
            agent = order[e] % n
            here, rest = walk.states[agent], walk.left[agent]
            each = {name: value[agent if value.shape[0] > 1 else 0] for name, value in at.items()}
            rates = jnp.stack([jnp.stack(row) for row in process_of(model).rates(walk.field[:, agent], each)])
            row = (jnp.arange(k) == here) + rates[here] / rate[agent]
            beyond, row = row[here] < -_ROUNDING, jnp.maximum(row, 0.0)
            towards, total = row * powers[rest - 1, :, agent], powers[rest, here, agent]
            chance = jnp.sum(towards)
            # where nothing is possible, the path goes on by the guide, with weight zero
            chosen = jnp.where(chance > 0, towards, powers[rest - 1, :, agent])
            there = draw(chosen, for_states.reshape(-1)[order[e]]).astype(here.dtype)
            moved = there != here
            slot = jnp.where(moved, walk.number[agent], max_jumps)
            others, w = influenced[agent], strengths[:, agent]  # (D,), (M, D)
            change = (jnp.arange(k) == there) * 1.0 - (jnp.arange(k) == here)
            shift = (w[:, None] * change[:, None]).reshape(-1, w.shape[1])
            return _Walk(
                walk.states.at[agent].set(there),
                walk.field.at[:, others].add(shift, mode="drop"),
                walk.times.at[agent, slot].set(when.reshape(-1)[order[e]], mode="drop"),
                walk.entered.at[agent, slot].set(there, mode="drop"),
                walk.number.at[agent].add(moved.astype(walk.number.dtype)),
                walk.left.at[agent].add(-1),
                walk.log_weight.at[agent].add(jnp.log(chance) - jnp.log(total)),
                walk.unfit.at[agent].add(beyond),
            )

        walk = lax.fori_loop(0, jnp.sum(left), event, walk)
        return walk, walk.states

    if isinstance(source, Uniforms):
        at_first = source.first
    else:
        at_first = jax.random.uniform(jax.random.fold_in(source, 0), (n,), rate.dtype)
    first = draw((jnp.exp(model.first) * g[0]).T, at_first).astype(jnp.int32)
    none, nowhere = jnp.zeros(n, jnp.int32), jnp.zeros((n, max_jumps), jnp.int32)
    times = jnp.broadcast_to(end[:, None], (n, max_jumps))
    weight = jnp.zeros_like(rate)
    walk = _Walk(first, model.neighbours(first), times, nowhere, none, none, weight, none)
    walk, states = lax.scan(step, walk, jnp.arange(model.static.n_steps))
    unfit = (walk.number > max_jumps) | (walk.unfit > 0)
    behind = jnp.arange(max_jumps) >= walk.number[:, None]
    entered = jnp.where(behind, walk.states[:, None], walk.entered)
    value = pack(walk.times, jnp.concatenate([first[:, None], entered], axis=1), start)
    at_nodes = model.at_nodes(jnp.concatenate([first[None], states]))
    log_weight = model.by_series(walk.log_weight) + seen_otherwise(model, guide, at_nodes)
    log_weight = jnp.where(jnp.isnan(log_weight) | (model.by_series(unfit) > 0), -jnp.inf, log_weight)
    return value, log_weight, unfit


def _influenced(model: ParticleChain) -> tuple[Array, Array]:
    """Agents (N, D) that each one influences, padded with N; weights (M, N, D) of these contacts."""
    contacts, n = model.static.contacts, model.shape[1]
    order = np.argsort(contacts.sources, kind="stable")
    counts = np.bincount(contacts.sources, minlength=n)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    agents = np.full((n, max(counts.max(initial=0), 1)), n)
    weights = np.zeros((len(contacts.strengths()), *agents.shape))
    agents[contacts.sources[order], place] = contacts.targets[order]
    weights[:, contacts.sources[order], place] = contacts.strengths()[:, order]
    return jnp.asarray(agents), jnp.asarray(weights, jnp.result_type(float))


@register_engine("jumping particles", iterations=1)
def condition_jumps(
    graph: Graph,
    *,
    auxiliary: Any = "mean field",
    iterations: int = 2,
    max_events: int | None = None,
    max_jumps: int | None = None,
) -> AgentJumpsGuided:
    """Build a guide and return the guided agents; see `mjp.condition`."""
    check_count("max_events", max_events)
    check_count("max_jumps", max_jumps)
    model, guide, evidence, exact = guide_of(graph, auxiliary, iterations)
    events, jumps = room(model)
    return AgentJumpsGuided(
        log_evidence=evidence,
        model=model,
        guide=guide,
        exact=exact,
        max_events=max_events or events,
        max_jumps=max_jumps or jumps,
    )


def room(model: ParticleChain, events: int = _EVENTS) -> tuple[int, int]:
    """Room for the events of an agent in one step, and for its jumps on the whole chain.

    Args:
        events: the former, where rates are not known.
    """
    most = process_of(model).most_jumps
    fastest = bounds(model)
    if not is_concrete(fastest) or not is_concrete(model.step_times):
        return events, most or JUMPS
    times = np.asarray(model.step_times)
    rate = float(np.max(np.asarray(fastest)))
    whole = buffer_size(rate * float(np.max(times[-1] - times[0])))
    return buffer_size(rate * float(np.max(np.diff(times, axis=0)))), most or whole


@register_simulator("jumping particles")
def simulate_jumps(
    graph: Graph, key: Array, *, max_events: int | None = None, max_jumps: int | None = None
) -> AgentJumpTrajectory:
    """Simulate agents in continuous time forward, observations included.

    Raises:
        ValueError: a path that did not fit, where that is known; inside of a compiled function `overflow` of
            the trajectory counts the agents for which it did not.
    """
    check_count("max_events", max_events)
    check_count("max_jumps", max_jumps)
    path_key, observation_key = jax.random.split(key)
    model = evaluate(graph, observed=False)
    events, jumps = room(model)
    events, jumps = max_events or events, max_jumps or jumps
    value, _, unfit = guided_jumps(model, no_guide(model), path_key, events, jumps)
    found = trajectory(model, value, unfit)
    if is_concrete(found.overflow) and found.overflow > 0:
        raise ValueError(
            f"{int(found.overflow)} agents had more jumps than fit ({jumps}), more events in a step "
            f"({events}), or left their state faster than `bound` allows; give max_jumps or max_events, or "
            "the process a larger bound"
        )
    return dataclasses.replace(found, observations=observations_of(graph, found.values, observation_key))
