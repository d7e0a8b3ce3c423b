"""Particle filters of interacting agents in discrete time, with and without a path that is kept.

A particle is the states of all agents. Agents move independently of each other given all states before a
step, so that a step of the guided process, and the sum that its weight consists of, are products over agents.
That weight depends on the states before the step only: particles are resampled by what the guide expects of
their next step before they take it (twisted particle filter; Whiteley & Lee 2014, Ann. Statist. 42:115).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.agent_trajectory import AgentTrajectory
from mjp.graph import Graph
from mjp.inference.condition import condition, engine_name
from mjp.inference.particle_chain import ParticleChain, evaluate, select
from mjp.inference.particle_engine import guide_evidence, joint_ratios
from mjp.inference.particle_guides import ParticleGuide, no_guide, own_potentials
from mjp.inference.path_sweeps import draw
from mjp.inference.resampling import draw_last, systematic, trace_back, weighed
from mjp.inference.safe_logs import never_if_nan


class AgentParticles(NamedTuple):
    """What a particle filter of agents leaves, of R series and F steps each.

    Attributes:
        log_evidence: in the batch shape of the graph; exp of it is unbiased.
        ess: (F + 1, R) effective number of particles before each resampling, and at the end.
        path: one path of each series, drawn from the weighted particles.
    """

    log_evidence: Array
    ess: Array
    path: AgentTrajectory


class Swept(NamedTuple):
    """One pass of particles; see `AgentParticles`.

    Attributes:
        log_evidence: (R,). path: (F + 1, N). ess: (F + 1, R).
        renewed: (R,) share of steps at which the kept path got another past; zero without one.
    """

    log_evidence: Array
    path: Array
    ess: Array
    renewed: Array


def agent_particles(
    graph: Graph, key: Array, particles: int, *, guided: bool | str, **options: Any
) -> AgentParticles:
    """The particle filter of a chain of interacting agents, or of factorial chains; see `mjp.smc`.

    Raises:
        RuntimeError: no particle of some series is alive.
    """
    if guided not in (True, False):
        raise ValueError(f"guided must be True or False for agents, got {guided!r}")
    if guided:
        if engine_name(graph) == "factorial chains":
            options = {"auxiliary": "localised", **options}
        conditioned: Any = condition(graph, **options)
        model, guide = conditioned.model, conditioned.guide
    else:
        if options:
            raise TypeError(
                f"smc: a bootstrap filter of agents has no options, got {', '.join(sorted(options))}"
            )
        model = evaluate(graph)
        guide = no_guide(model)
    swept = run(model, guide, key, particles, bool(guided))
    dead = np.argwhere(~np.isfinite(np.asarray(swept.log_evidence)))
    if len(dead):
        series = int(dead[0, 0])
        step = int(np.argmax(np.asarray(swept.ess)[:, series] == 0))
        node = int(model.static.order.nodes[step // model.static.order.steps, series])
        raise RuntimeError(
            f"none of {particles} particles is alive after {graph.describe_node(node)}: what was observed "
            "cannot be reached, or not with so few particles"
        )
    evidence = swept.log_evidence.reshape(graph.batch_shape)
    return AgentParticles(evidence, swept.ess, model.trajectory(swept.path))


@eqx.filter_jit
def run(model: ParticleChain, guide: ParticleGuide, key: Array, n: int, guided: bool = True) -> Swept:
    """A particle filter without a path that is kept."""
    return particle_sweep(model, guide, key, n, guided=guided)


def particle_sweep(
    model: ParticleChain,
    guide: ParticleGuide,
    key: Array,
    n: int,
    kept: Array | None = None,
    guided: bool = True,
) -> Swept:
    """One pass of n particles over all steps, of which the first keeps a path (F + 1, N) if there is one.

    With such a path this is conditional sequential Monte Carlo, which leaves the law of the paths given the
    data invariant (Andrieu, Doucet & Holenstein 2010), with ancestor sampling (Lindsten, Jordan & Schön
    2014): at every step the future of the kept path is joined to one of the particles, by their weights and
    by the chance that they give to the states that follow. Series are resampled each on its own.

    Args:
        guided: False for `no_guide`, which knows of no observation.
    """
    (f, _), r, steps = model.shape, model.static.n_series, model.static.order.steps
    g, own = jnp.exp(guide.log_g), own_potentials(model, guide.tilts)
    at_states = lambda table, states: jnp.take_along_axis(table, states, axis=0)

    def chosen(leaf: Array, ancestors: Array) -> Array:
        """Particles (n, N) of which those with the ancestors (n, R) are taken."""
        split = leaf.reshape(n, r, -1)
        return jnp.take_along_axis(split, ancestors[..., None], axis=0).reshape(leaf.shape)

    def together(time: Array, states: Array) -> Array:
        """Log-ratios (n, R) of what was observed of several agents at once, to what the guide took for it."""
        return jax.vmap(lambda one: joint_ratios(model, guide, one[None], time)[0])(states)

    def weigh(step: Array, states: Array) -> tuple[Array, list[Array], Array]:
        """Log-weights (n, R) of states (n, N); probabilities [b] of the next states; their sums with g."""
        rows = jax.vmap(lambda one: jnp.stack(model.rows(one, model.at_step(step))))(states)  # (n, K, N)
        expected = jnp.log(jnp.sum(rows * g[step + 1], axis=1))
        at_node = step % steps == 0
        seen = jnp.where(at_node, own[step // steps], 0.0) - guide.log_g[step]
        ratio = model.by_series(expected + at_states(seen, states) - guide.log_norms[step])
        nothing = lambda *_: jnp.zeros((n, r), ratio.dtype)
        ratio = ratio + lax.cond(at_node, together, nothing, step // steps, states)
        return ratio, [rows[:, b] for b in range(model.k)], expected

    def resampled(key: Array, log_weight: Array) -> tuple[Array, Array, Array, Array]:
        """Ancestors (n, R); log-weights after; what this adds to the evidence (R,); effective number (R,)."""
        total, shares, ess = weighed(log_weight.T)
        if kept is None:
            found = jax.vmap(systematic, in_axes=(0, 0, None))(jax.random.split(key, r), shares, n).T
            now = ess < 0.5 * n
            found = jnp.where(now, found, jnp.arange(n)[:, None])
        else:
            found = jax.random.categorical(
                key, jnp.where(jnp.isfinite(total), log_weight, 0.0), axis=0, shape=(n, r)
            )
            now = jnp.ones(r, bool)
        return found, jnp.where(now, 0.0, log_weight), jnp.where(now, total - jnp.log(n), 0.0), ess

    def step(carry: tuple, x: tuple) -> tuple[tuple, tuple]:
        states, log_weight, evidence = carry
        i, key, follows = x
        choose_key, ancestor_key, move_key = jax.random.split(key, 3)
        ratio, rows, expected = weigh(i, states)
        log_weight = never_if_nan(log_weight + ratio)
        ancestors, after, gained, ess = resampled(choose_key, log_weight)
        renewed = jnp.zeros(r, bool)
        if kept is not None:
            joined = jnp.log(select(rows, follows)) - expected  # of all particles with the kept states
            past = jax.random.categorical(
                ancestor_key, log_weight + never_if_nan(model.by_series(joined)), axis=0
            )
            ancestors, renewed = ancestors.at[0].set(past), past != 0
        weights = jnp.stack([chosen(row, ancestors) for row in rows]) * g[i + 1][:, None]
        uniform = jax.random.uniform(move_key, states.shape, g.dtype)
        moved = draw(jnp.moveaxis(weights, 0, -1), uniform).astype(states.dtype)
        if kept is not None:
            moved = moved.at[0].set(follows)
        return (moved, after, evidence + gained), (ancestors, moved.astype(model.path_dtype), ess, renewed)

    first_key, last_key, key = jax.random.split(key, 3)
    uniform = jax.random.uniform(first_key, (n, model.shape[1]), g.dtype)
    first = draw((jnp.exp(model.first) * g[0]).T, uniform).astype(jnp.int32)
    if kept is not None:
        first = first.at[0].set(kept[0])
    start = (first, jnp.zeros((n, r), g.dtype), guide_evidence(model, guide))
    xs = (jnp.arange(f - 1), jax.random.split(key, f - 1), None if kept is None else kept[1:])
    (states, log_weight, evidence), (ancestors, moved, ess, renewed) = lax.scan(step, start, xs)

    if not guided or model.local_seen:  # where g at the last time is not what was seen of single agents then
        last = own[-1] - guide.log_g[-1] - guide.log_norms[-1]
        log_weight = log_weight + model.by_series(at_states(last, states))
    log_weight = never_if_nan(log_weight + together(jnp.asarray(len(own) - 1), states))
    total, _, last_ess = weighed(log_weight.T)
    end = draw_last(last_key, log_weight.T, total)  # (R,)
    path = _path(end, first.astype(moved.dtype), ancestors, moved)
    evidence = evidence + total - jnp.log(n)
    return Swept(
        evidence, path, jnp.concatenate([ess, last_ess[None]]), jnp.mean(renewed.astype(g.dtype), axis=0)
    )


def _path(end: Array, first: Array, ancestors: Array, moved: Array) -> Array:
    """The path (F + 1, N) of the last particles (R,), from states (F, n, N) and their ancestors (F, n, R)."""
    f, n, r = ancestors.shape
    pieces = np.arange(f * r).reshape(f, r)
    series_first = lambda leaf: jnp.swapaxes(leaf.reshape(f, n, r, -1), 1, 2)
    which, path = trace_back(end, jnp.swapaxes(ancestors, 1, 2), series_first(moved), pieces, f * r)
    start = first.reshape(n, r, -1)[which, jnp.arange(r)]
    return jnp.concatenate([start.reshape(1, -1), path.reshape(f, -1)]).astype(jnp.int32)
