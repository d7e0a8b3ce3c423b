"""Particle filters of graphs that mix families, with and without innovations that are kept.

Particles go through the turns in which nodes are drawn. After every turn they are weighed by what the draw
estimates so far, potentials standing for what is yet to come, and resampled where few are effective. A
particle is made of the innovations of the nodes that it has drawn, so that a conditional filter can keep a
path by keeping its innovations.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.graph import Graph
from mjp.inference.condition import condition
from mjp.inference.mixed_draw import after_turns, drawers, first_turns
from mjp.inference.mixed_engine import MixedGuided, driving, of_nodes
from mjp.inference.resampling import draw_last, systematic, typed, weighed
from mjp.inference.safe_logs import never_if_nan
from mjp.inference.turns import turn_inputs, turn_taker
from mjp.mixed_trajectory import MixedTrajectory


class MixedParticles(NamedTuple):
    """What a particle filter of a graph that mixes families leaves.

    Attributes:
        log_evidence: (); exp of it is unbiased.
        ess: (turns + 1,) effective number of particles before each resampling, and at the end.
        path: one path, drawn from the weighted particles.
    """

    log_evidence: Array
    ess: Array
    path: MixedTrajectory


class Swept(NamedTuple):
    """One pass of particles: see `MixedParticles`; z are the innovations of the path."""

    log_evidence: Array
    z: dict[str, Array]
    ess: Array


def mixed_particles(
    graph: Graph, key: Array, particles: int, *, guided: bool | str, **options: Any
) -> MixedParticles:
    """The particle filter of a graph that mixes families; see `mjp.smc`.

    Raises:
        RuntimeError: no particle is alive.
    """
    if guided is not True:
        raise ValueError(f"guided must be True for a graph that mixes families, got {guided!r}")
    conditioned: Any = condition(graph, **options)
    swept, path = run(conditioned, typed(key), particles)
    if not np.isfinite(np.asarray(swept.log_evidence)):
        raise RuntimeError(
            f"none of {particles} particles is alive: the data cannot be reached, or not with so few "
            "particles"
        )
    return MixedParticles(swept.log_evidence, swept.ess, path)


@eqx.filter_jit
def run(guided: MixedGuided, key: Array, n: int) -> tuple[Swept, MixedTrajectory]:
    """A particle filter in which nothing is kept, and its path."""
    swept = particle_sweep(guided, key, n)
    return swept, guided.push(swept.z)[0]


def particle_sweep(guided: MixedGuided, key: Array, n: int, kept: dict[str, Array] | None = None) -> Swept:
    """One pass of n particles over all turns, of which the first keeps innovations if there are some.

    With innovations that are kept this is conditional sequential Monte Carlo, which leaves the law of
    innovations given parameters and data invariant (Andrieu, Doucet & Holenstein 2010). Those that no weight
    depends on, of paths between nodes whose states are drawn, are always drawn anew.
    """
    graph, layout = guided.graph, guided.graph.layout
    after = after_turns(graph, guided.guide, guided.anchors)
    then = (*after, layout.n_root_turns)
    key, inner_key, last_key = jax.random.split(key, 3)
    dtype = jnp.result_type(float)
    normal = lambda key, shape: jax.random.normal(key, shape, dtype)
    shapes = guided.innovations
    turns = {name: jnp.asarray(layout.turn[nodes]) for name, (nodes, _) in of_nodes(graph).items()}
    inner = {name: shape for name, shape in shapes.items() if name not in turns}
    fresh = {name: normal(jax.random.fold_in(key, i), (n, *shapes[name])) for i, name in enumerate(turns)}
    if kept is not None:
        fresh = {name: z.at[0].set(kept[name]) for name, z in fresh.items()}

    def start(z: dict[str, Array]) -> Any:
        uniforms, noise, _ = driving(graph, z)
        return first_turns(graph, guided.guide, guided.anchors, after, uniforms, noise)

    def advance(drawing: Any, z: dict[str, Array], x: Any) -> Any:
        uniforms, noise, steps = driving(graph, z)
        own = drawers(graph, guided.guide, uniforms, noise, steps)
        return turn_taker(own, then)(drawing, x)[0]

    def turn(carry: tuple, x: tuple) -> tuple[tuple, Array]:
        drawing, z, base, evidence = carry
        key, inputs = x
        now_drawn = inputs[0]
        log_weight = never_if_nan(drawing.total - base)
        [total], [shares], [ess] = weighed(log_weight[None])
        now = ess < 0.5 * n
        if kept is None:
            chosen = systematic(key, shares, n)
        else:
            possible = jnp.where(jnp.isfinite(total), log_weight, 0.0)
            chosen = jax.random.categorical(key, possible, shape=(n,)).at[0].set(0)
        ancestors = jnp.where(now, chosen, jnp.arange(n))
        drawing, z = jax.tree.map(lambda leaf: leaf[ancestors], (drawing, z))
        base = jnp.where(now, drawing.total, base)
        evidence = evidence + jnp.where(now, total - jnp.log(n), 0.0)
        own = {name: (turns[name] == now_drawn).reshape(-1, *[1] * (z[name].ndim - 2)) for name in z}
        z = {name: jnp.where(own[name], fresh[name], z[name]) for name in z}
        return (jax.vmap(advance, in_axes=(0, 0, None))(drawing, z, inputs), z, base, evidence), ess

    inputs = turn_inputs(layout.levels, then)
    keys = jax.random.split(inner_key, len(inputs[0]))
    carry = (jax.vmap(start)(fresh), fresh, jnp.zeros(n, dtype), jnp.zeros((), dtype))
    (drawing, z, base, evidence), ess = lax.scan(turn, carry, (keys, inputs))
    log_weights = never_if_nan(drawing.total - base)[None]
    total, _, last = weighed(log_weights)
    choose_key, inner_key = jax.random.split(last_key)
    [end] = draw_last(choose_key, log_weights, total)
    found = {name: leaf[end] for name, leaf in z.items()}
    for i, (name, shape) in enumerate(inner.items()):
        found[name] = normal(jax.random.fold_in(inner_key, i), shape)
    z = {name: found[name] for name in shapes}
    return Swept(evidence + total[0] - jnp.log(n), z, jnp.append(ess, last))
