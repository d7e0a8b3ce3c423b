"""The bootstrap filter of trees of counts, whose particles move as the network does."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.blocks import blocks_of
from mjp.inference.count_graph import CountGraph
from mjp.inference.direct_method import direct_method
from mjp.inference.look_ahead import LookAhead
from mjp.inference.resampling import (
    Reference,
    along_main_axis,
    at_roots,
    draw_last,
    log_likelihoods,
    read_slots,
    systematic,
    trace_back,
    typed,
    weighed,
    with_dummy,
    write_slots,
)

EVENT_LIMIT = 10_000_000  # events of a particle on a block


class Filtered(NamedTuple):
    """What a bootstrap filter leaves, of each of w trees.

    Attributes:
        log_evidence: (w,), exp of it is unbiased; from `smc` of each entry of the graph's evidence.
        ess: (blocks, w) effective number of particles before each block.
        renewed: (w,) all ones: no path is kept from before.
        overflow: number of particles whose events did not fit the buffer, or that were stopped at the limit
            of events, which got weight zero; and of paths that rounding kept from being simulated again,
            whose evidence is set to zero.
        invalid: number of particles that met propensities that are none.
        reference: one path, drawn from the weighted particles, if paths are stored.
        roots: its first states (w, d).
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
    model: CountGraph,
    key: Array,
    n: int,
    size: int = 0,
    event_limit: int = EVENT_LIMIT,
    ahead: LookAhead | None = None,
) -> Filtered:
    """Filter by simulation, weighting and resampling (Gordon, Salmond & Smith 1993, IEE Proc. F 140:107).

    Systematic resampling, where fewer than half of the particles are effective. No events are stored, which
    would take twice as long as to simulate them: the path that is drawn at the end is simulated again, from
    the states and keys of its particles.

    Args:
        key: a key; or several (G,), which blocks take in turn. The same keys then give nearly the same
            estimate at parameters nearby, or where few are changed: particles are put in order before they
            are resampled, so that those with the same number stay near each other (Deligiannidis, Doucet &
            Pitt 2018, J. R. Statist. Soc. B 80:839, §4.2).
        n: particles of each tree. size: of the buffer of events for a path, zero for none.
        ahead: what is expected of particles, by which they are weighted before they are resampled
            (auxiliary particle filter; Pitt & Shephard 1999, J. Am. Stat. Assoc. 94:590).
    """
    blocks, static = blocks_of(model.static), model.static
    layout = static.layout
    process, w = model.processes[0], blocks.pieces.shape[1]
    constants, durations = with_dummy((model.constants[0], model.durations))
    children = jnp.asarray(np.append(layout.pieces.children, layout.n_nodes).astype(np.int32))
    keys = typed(key)
    keys, in_order = keys.reshape(-1), keys.ndim > 0
    own_key = lambda i: jax.random.fold_in(keys[i % len(keys)], i)
    most = min(size + 1, event_limit) if size else event_limit  # who has more events is lost anyhow
    n_blocks = len(blocks.pieces)
    root_key, last_key = own_key(n_blocks), own_key(n_blocks + 1)
    roots = jax.vmap(model.draw_roots)(jax.random.split(root_key, n))  # (n, w, d)
    x, weights = at_roots(model, roots, blocks.n_slots)
    if ahead is not None:
        weights = weights + ahead.of_all(jnp.asarray(blocks.at_roots), x[:, :, 0])

    def block(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        x, weights, evidence = carry
        chosen, source, target, opened, live, i = inputs
        resample_key, path_key = jax.random.split(own_key(i))
        order = None
        if in_order:
            order = jax.vmap(along_main_axis)((x * live[:, None, :, None]).reshape(w, n, -1))
            x = jnp.take_along_axis(x, order[..., None, None], axis=1)
            weights = jnp.take_along_axis(weights, order, axis=1)
        total, shares, ess = weighed(weights)
        resample = ess < 0.5 * n
        ancestors = jax.vmap(systematic, in_axes=(0, 0, None))(jax.random.split(resample_key, w), shares, n)
        ancestors = jnp.where(resample[:, None], ancestors, jnp.arange(n))
        evidence = evidence + jnp.where(resample, total - jnp.log(n), 0.0)
        before = jnp.where(resample[:, None], 0.0, weights)
        x = jnp.take_along_axis(x, ancestors[..., None, None], axis=1)
        start = read_slots(x, source)
        bits = jax.random.bits(path_key, (2, w * n), jnp.uint32)
        lanes = direct_method(
            process,
            tuple(start.reshape(w * n, -1).T),
            jax.tree.map(lambda leaf: jnp.repeat(leaf[chosen], n, axis=0), constants),
            jnp.repeat(durations[chosen], n),
            (bits[0], bits[1]),
            0,
            most,
        )
        end = jnp.stack(lanes.counts, axis=-1).reshape(w, n, -1)
        left = model.leaving(children[chosen][:, None], end)
        short = lanes.unfinished | (lanes.n_events > size if size else False)
        lost = (lanes.invalid | short).reshape(w, n)
        weights = before + log_likelihoods(model, children[chosen], end)
        if ahead is not None:
            weights = weights - ahead(chosen, start) + ahead.of_all(opened, left)
        weights = jnp.where(lost | jnp.isnan(weights), -jnp.inf, weights)
        if order is not None:
            ancestors = jnp.take_along_axis(order, ancestors, axis=1)
        kept = (ancestors, (start, end, bits.T.reshape(w, n, 2))) if size else None
        return (write_slots(x, target, left), weights, evidence), (
            ess,
            jnp.sum(short),
            jnp.sum(lanes.invalid),
            kept,
        )

    start = (x, weights, jnp.zeros(w, weights.dtype))
    (_, weights, evidence), out = lax.scan(
        block, start, (*map(jnp.asarray, blocks.rows), jnp.arange(n_blocks))
    )
    ess, short, invalid, kept = out
    total = weighed(weights)[0]
    last = draw_last(last_key, weights, total)
    log_evidence = evidence + total - jnp.log(n)
    first, reference, short = last, None, jnp.sum(short)
    if kept is not None:
        ancestors, particles = kept
        first, (starts, ends, words) = trace_back(last, ancestors, particles, blocks.pieces, model.n_pieces)
        reference, differs = _simulated_again(model, starts, ends, words, size)
        lost = jnp.zeros(w, bool).at[_tree_of_pieces(blocks.pieces, model.n_pieces)].max(differs)
        lost = lost & jnp.isfinite(log_evidence)
        log_evidence, short = jnp.where(lost, -jnp.inf, log_evidence), short + jnp.sum(lost)
    faults = (short, jnp.sum(invalid))
    return Filtered(log_evidence, ess, jnp.ones_like(total), *faults, reference, roots[first, jnp.arange(w)])


def _tree_of_pieces(pieces: np.ndarray, n_pieces: int) -> np.ndarray:
    """Tree (P,) of every piece, from tables (B, w)."""
    found = np.zeros(n_pieces + 1, np.int32)
    found[pieces] = np.arange(pieces.shape[1])
    return found[:-1]


def _simulated_again(
    model: CountGraph, starts: Array, ends: Array, keys: Array, size: int
) -> tuple[Reference, Array]:
    """The paths (P, size) of one particle on every piece, and whether one does not end as it did before.

    Args:
        starts, ends: (P, d) states. keys: (P, 2).
    """
    counts, words = tuple(starts.T), (keys[:, 0], keys[:, 1])
    lanes = direct_method(
        model.processes[0], counts, model.constants[0], model.durations, words, size, size + 1
    )
    differs = jnp.any(jnp.stack(lanes.counts, axis=-1) != ends, axis=-1)
    return Reference(lanes.times.T, lanes.reactions.T), differs
