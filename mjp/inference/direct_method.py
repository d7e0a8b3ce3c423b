"""Gillespie's direct method for many paths at once."""

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mjp.inference.threefry import exponential, uniform
from mjp.inference.xoshiro import advance, seeded
from mjp.processes.reaction_network import ReactionNetwork


class Lanes(NamedTuple):
    """Paths of n lanes, each over its own duration with its own constants.

    Attributes:
        counts: the state at the end, one array (n,) per species; of a faulty lane, where it stopped.
        time: (n,) when the last event happened, since the start of the lane.
        n_events: (n,) how many there were, whether they fitted the buffer or not.
        invalid: (n,) whether a lane stopped at propensities that are none, see `ReactionNetwork.valid`.
        unfinished: (n,) whether a lane stopped after `event_limit` events.
        times, reactions: (size, n) when each event happened, and which it was; beyond the last event the
            duration, and -1.
    """

    counts: tuple[Array, ...]
    time: Array
    n_events: Array
    invalid: Array
    unfinished: Array
    times: Array
    reactions: Array


def choose(propensities: tuple[Array, ...], total: Array, bits: Array) -> list[Array]:
    """Which reaction fires, in proportion to its propensity, as L - 1 flags: is it one after the l-th?"""
    threshold = uniform(bits).astype(total.dtype) * total
    passed, partial = [], jnp.zeros_like(total)
    for rate in propensities[:-1]:
        partial = partial + rate
        passed.append(threshold >= partial)
    return passed


def fire(change: tuple, passed: list[Array], counts: tuple[Array, ...]) -> tuple[Array, ...]:
    """Counts after the reaction chosen by `choose`."""
    after = []
    for species, count in enumerate(counts):
        added = jnp.full_like(count, change[0][species])
        for flag, before, now in zip(passed, change[:-1], change[1:], strict=True):
            if now[species] != before[species]:
                added = added + (now[species] - before[species]) * flag.astype(count.dtype)
        after.append(count + added)
    return tuple(after)


def direct_method(
    process: ReactionNetwork,
    counts: tuple[Array, ...],
    constants: tuple[Array, ...],
    durations: Array,
    keys: tuple[Array, Array],
    size: int,
    event_limit: int,
) -> Lanes:
    """Simulate n lanes; the events of a lane depend on its key only, whatever the buffer.

    Args:
        counts: the state at the start, one int32 array (n,) per species.
        constants: `process.constants` of each lane, (n,) each.
        durations: (n,), zero for lanes that do nothing.
        keys: two words of random bits (n,) uint32.
        size: of the buffers of events, zero to store none.
        event_limit: lanes are stopped after this many events.
    """
    dtype = jnp.result_type(float)
    n = durations.shape[0]
    durations = durations.astype(dtype)

    def step(lane: tuple) -> tuple[tuple, Array, Array]:
        (time, lost, x, active, invalid, generator), end, constant = lane
        wait, generator = advance(generator)
        which, generator = advance(generator)
        rates = process.propensities_from(constant, x)
        total = reduce(jnp.add, rates)
        valid = process.valid(rates, x)
        # compensated summation: rounding does not add up over many short waits
        waited = exponential(wait).astype(dtype) / total - lost
        later = time + waited
        happens = active & valid & (later < end)
        passed = choose(rates, total, which)
        reaction = reduce(jnp.add, [flag.astype(jnp.int32) for flag in passed], jnp.zeros((), jnp.int32))
        after = fire(process.change, passed, x)
        x = tuple(jnp.where(happens, new, old) for new, old in zip(after, x, strict=True))
        lost = jnp.where(happens, (later - time) - waited, lost)
        time = jnp.where(happens, later, time)
        state = (time, lost, x, happens, invalid | (active & ~valid), generator)
        return state, jnp.where(happens, time, end), jnp.where(happens, reaction, -1)

    steps = jax.vmap(step)

    def body(carry: tuple) -> tuple:
        index, lanes, n_events, times, reactions = carry
        lanes, when, which = steps((lanes, durations, constants))
        if size:
            # events beyond the buffer are written to its last row, which is not kept
            row = jnp.minimum(index, size).astype(jnp.int32)
            times = lax.dynamic_update_slice(times, when[None], (row, jnp.zeros_like(row)))
            reactions = lax.dynamic_update_slice(reactions, which[None], (row, jnp.zeros_like(row)))
        return index + jnp.uint32(1), lanes, n_events + lanes[3].astype(jnp.int32), times, reactions

    rows = size + 1 if size else 0
    times = jnp.broadcast_to(durations, (rows, n))
    reactions = jnp.full((rows, n), -1, jnp.int32)
    zero = jnp.zeros(n, dtype)
    start = (zero, zero, tuple(counts), durations > 0, jnp.zeros(n, bool), seeded(keys))
    first = (jnp.uint32(0), start, jnp.zeros(n, jnp.int32), times, reactions)
    going = lambda carry: jnp.any(carry[1][3]) & (carry[0] < event_limit)
    _, lanes, n_events, times, reactions = lax.while_loop(going, body, first)
    time, _, x, active, invalid, _ = lanes
    return Lanes(x, time, n_events, invalid, active, times[:size], reactions[:size])
