"""Guided sequential Monte Carlo for trees of counts, with and without a path that is kept."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.blocks import blocks_of
from mjp.inference.count_engine import CountGuided
from mjp.inference.guided_jumps import DrawnClocks, Given, events_first, guided_jumps
from mjp.inference.look_ahead import look_ahead
from mjp.inference.resampling import (
    Reference,
    at_roots,
    draw_last,
    log_likelihoods,
    read_slots,
    systematic,
    trace_back,
    weighed,
    with_dummy,
    write_slots,
)
from mjp.inference.safe_logs import never_if_nan


class Particles(NamedTuple):
    """What a particle filter leaves, of each of w trees.

    Attributes:
        log_evidence: (w,), exp of it is unbiased; from `mjp.smc` of each entry of the graph's evidence.
        reference: one path, drawn from the weighted particles; roots: its first states (w, d).
        ess: (blocks, w) effective number of particles before each resampling.
        renewed: (w,) share of blocks at which the kept path got another past; zero without one.
        overflow: number of particles that ran out of buffer, which got weight zero.
        invalid: number of particles that met propensities that are none.
    """

    log_evidence: Array
    reference: Reference
    roots: Array
    ess: Array
    renewed: Array
    overflow: Array
    invalid: Array


@eqx.filter_jit
def run(guided: CountGuided, key: Array, particles: int) -> Particles:
    """The particle filter of a conditioned graph; see `mjp.smc`."""
    return particle_sweep(guided, key, particles, None, None)


def particle_sweep(
    guided: CountGuided,
    key: Array,
    n: int,
    reference: Reference | None,
    kept_roots: Array | None,
    keep: Any = True,
) -> Particles:
    """One pass over all blocks, with particle 0 on the reference path if there is one, and `keep` is true.

    Weights carry what the guide expects of all edges that are yet to come. With a reference this is
    conditional sequential Monte Carlo, which leaves the law of paths given the data invariant (Andrieu,
    Doucet & Holenstein 2010), with ancestor sampling (Lindsten, Jordan & Schön 2014): before each block the
    kept path's future is joined to one of the particles from which it can go on, which for a jump path are
    those in the very states that it has there.
    """
    model, layout = guided.model, guided.model.static.layout
    blocks = blocks_of(model.static)
    process = model.processes[0]
    w, d = blocks.pieces.shape[1], process.n_species
    roots_key, last_key, key = jax.random.split(key, 3)
    roots = jax.vmap(model.draw_roots)(jax.random.split(roots_key, n))  # (n, n_roots, d)
    if kept_roots is not None:
        roots = jnp.where(keep, roots.at[0].set(kept_roots), roots)
    x, weights = at_roots(model, roots, blocks.n_slots)
    ahead = look_ahead(model, guided.guide)
    weights = weights + ahead.of_all(jnp.asarray(blocks.at_roots), x[:, :, 0])
    own, ends, constants = with_dummy((guided.guide.cells, model.ends, model.constants[0]))
    children = jnp.asarray(np.append(layout.pieces.children, layout.n_nodes).astype(np.int32))
    kept = with_dummy(reference)
    ids = jnp.arange(n)

    def block(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        x, weights, evidence = carry
        chosen, source, target, opened, live, key = inputs
        choose_key, ancestor_key, clock_key = jax.random.split(key, 3)
        total, shares, ess = weighed(weights)
        if reference is None:
            ancestors = jax.vmap(systematic, in_axes=(0, 0, None))(jax.random.split(choose_key, w), shares, n)
            resample = ess < 0.5 * n
            ancestors = jnp.where(resample[:, None], ancestors, ids)
            renewed = jnp.zeros(w, bool)
        else:
            resample = jnp.ones(w, bool)
            ancestors = jax.random.categorical(choose_key, weights, axis=1, shape=(n, w)).T
            same = jnp.all((x == x[:, :1]) | ~live[:, None, :, None], axis=(-2, -1))
            past = jax.random.categorical(ancestor_key, jnp.where(same, weights, -jnp.inf), axis=1)
            ancestors = jnp.where(keep, ancestors.at[:, 0].set(past), ancestors)
            renewed = past != 0
        evidence = evidence + jnp.where(resample, total - jnp.log(n), 0.0)
        x = jnp.take_along_axis(x, ancestors[..., None, None], axis=1)
        before = jnp.where(resample[:, None], 0.0, weights)
        start = read_slots(x, source)
        lanes_of = lambda leaf: jnp.repeat(leaf[chosen], n, axis=0)
        given = None
        if kept is not None:
            flags = jnp.tile((ids == 0) & keep, w)
            given = Given(flags, lanes_of(kept.times), lanes_of(kept.reactions))
        bits = jax.random.bits(clock_key, (2, w * n), jnp.uint32)
        lanes = guided_jumps(
            process,
            guided.guide,
            jax.tree.map(lanes_of, own),
            tuple(start.reshape(w * n, d).T),
            jax.tree.map(lanes_of, constants),
            lanes_of(ends),
            DrawnClocks((bits[0], bits[1]), guided.clocks),
            guided.slots,
            given,
        )
        end = jnp.stack(lanes.counts, axis=-1).reshape(w, n, d)
        left = model.leaving(children[chosen][:, None], end)
        moved = lanes.log_weight.reshape(w, n) - ahead(chosen, start)
        weights = before + moved + log_likelihoods(model, children[chosen], end) + ahead.of_all(opened, left)
        weights = never_if_nan(weights)
        spread = lambda leaf: leaf.reshape(w, n, *leaf.shape[1:])
        out = (ancestors, spread(lanes.times), spread(lanes.reactions), ess, renewed)
        flags = (jnp.sum(lanes.overflow), jnp.sum(lanes.invalid))
        return (write_slots(x, target, left), weights, evidence), (*out, *flags)

    keys = jax.random.split(key, len(blocks.pieces))
    start = (x, weights, jnp.zeros(w, weights.dtype))
    (_, weights, evidence), out = lax.scan(block, start, (*map(jnp.asarray, blocks.rows), keys))
    ancestors, times, reactions, ess, renewed, overflow, invalid = out
    total = weighed(weights)[0]
    last = draw_last(last_key, weights, total)
    first, (times, reactions) = trace_back(last, ancestors, (times, reactions), blocks.pieces, model.n_pieces)
    times, reactions = events_first(times, reactions, guided.clocks)
    return Particles(
        evidence + total - jnp.log(n),
        Reference(times, reactions),
        roots[first, jnp.arange(w)],
        ess,
        jnp.mean(renewed.astype(ess.dtype), axis=0),
        jnp.sum(overflow),
        jnp.sum(invalid),
    )
