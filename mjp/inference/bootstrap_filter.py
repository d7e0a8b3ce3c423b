"""The bootstrap filter of chains of counts, whose particles move as the network does."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.count_engine import CountGraph
from mjp.inference.direct_method import direct_method
from mjp.inference.resampling import (
    Reference,
    at_roots,
    blocks_of,
    draw_last,
    log_likelihoods,
    systematic,
    trace_back,
    weighed,
    with_dummy,
)


class Filtered(NamedTuple):
    """What a bootstrap filter leaves.

    Attributes:
        log_evidence: (n_components,), exp of it is unbiased.
        ess: (blocks, n_components) effective number of particles before each block.
        renewed: (n_components,) all ones: no path is kept from before.
        overflow: number of particles whose events did not fit the buffer, or that were stopped at the limit
            of events; they got weight zero.
        invalid: number of particles that met propensities that are none.
        reference: one path, drawn from the weighted particles, if paths are stored.
        roots: its first states (n_roots, d).
    """

    log_evidence: Array
    ess: Array
    renewed: Array
    overflow: Array
    invalid: Array
    reference: Reference | None
    roots: Array


@eqx.filter_jit
def bootstrap_filter(
    model: CountGraph, key: Array, n: int, size: int = 0, event_limit: int = 10_000_000
) -> Filtered:
    """Filter by simulation, weighting and resampling (Gordon, Salmond & Smith 1993, IEE Proc. F 140:107).

    Systematic resampling, where fewer than half of the particles are effective.

    Args:
        n: particles of each component. size: of the buffers of events, zero to store no paths.
    """
    tables, layout = blocks_of(model), model.static.layout
    process, w = model.processes[0], tables.shape[1]
    constants, durations = with_dummy((model.constants[0], model.durations))
    children = jnp.asarray(np.append(layout.pieces.children, layout.n_nodes).astype(np.int32))
    root_key, last_key, key = jax.random.split(key, 3)
    roots = jax.vmap(model.draw_roots)(jax.random.split(root_key, n))  # (n, n_roots, d)
    x, weights = at_roots(model, roots)

    def block(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        x, weights, evidence = carry
        chosen, key = inputs
        resample_key, path_key = jax.random.split(key)
        total, shares, ess = weighed(weights)
        resample = ess < 0.5 * n
        ancestors = jax.vmap(systematic, in_axes=(0, 0, None))(jax.random.split(resample_key, w), shares, n)
        ancestors = jnp.where(resample[:, None], ancestors, jnp.arange(n))
        evidence = evidence + jnp.where(resample, total - jnp.log(n), 0.0)
        before = jnp.where(resample[:, None], 0.0, weights)
        x = jnp.take_along_axis(x, ancestors[..., None], axis=1)
        bits = jax.random.bits(path_key, (2, w * n), jnp.uint32)
        lanes = direct_method(
            process,
            tuple(x.reshape(w * n, -1).T),
            jax.tree.map(lambda leaf: jnp.repeat(leaf[chosen], n, axis=0), constants),
            jnp.repeat(durations[chosen], n),
            (bits[0], bits[1]),
            size,
            event_limit,
        )
        x = jnp.stack(lanes.counts, axis=-1).reshape(w, n, -1)
        short = lanes.unfinished | (lanes.n_events > size if size else False)
        lost = (lanes.invalid | short).reshape(w, n)
        weights = before + log_likelihoods(model, children[chosen], x)
        weights = jnp.where(lost | jnp.isnan(weights), -jnp.inf, weights)
        by_lane = lambda stored: stored.T.reshape(w, n, size)
        kept = (ancestors, by_lane(lanes.times), by_lane(lanes.reactions)) if size else None
        return (x, weights, evidence), (ess, jnp.sum(short), jnp.sum(lanes.invalid), kept)

    keys = jax.random.split(key, len(tables))
    start = (x, weights, jnp.zeros(w, weights.dtype))
    (_, weights, evidence), out = lax.scan(block, start, (jnp.asarray(tables), keys))
    ess, short, invalid, kept = out
    total = weighed(weights)[0]
    last = draw_last(last_key, weights, total)
    first, reference = last, None
    if kept is not None:
        first, times, reactions = trace_back(last, kept, tables, model.n_pieces)
        reference = Reference(times, reactions)
    component = model.static.component[model.static.root_nodes]
    chosen_roots = roots[first[component], jnp.arange(len(component))]
    faults = (jnp.sum(short), jnp.sum(invalid))
    return Filtered(
        evidence + total - jnp.log(n), ess, jnp.ones_like(total), *faults, reference, chosen_roots
    )
