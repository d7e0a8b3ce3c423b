"""Guided jump paths, many at once: rates tilted by a guide that is frozen on a grid of times."""

from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.jump_guides import JumpGuide
from mjp.inference.threefry import exponential, threefry
from mjp.processes.reaction_network import ReactionNetwork


class Clocks(Protocol):
    """Exponential waiting times of the reactions of lanes, in internal time; a pytree of arrays (n, ...).

    Attributes:
        room: how many times there are for each reaction.
    """

    @property
    def room(self) -> int: ...

    def wait(self, reaction: Array, number: Array) -> Array:
        """Of one lane, the waiting time before the event `number`, counted from zero, of a reaction."""
        ...


class StoredClocks(NamedTuple):
    """Waiting times (n, L, K) that are known beforehand, such as innovations."""

    times: Array

    @property
    def room(self) -> int:
        return self.times.shape[-1]

    def wait(self, reaction: Array, number: Array) -> Array:
        return self.times[reaction, number]


class DrawnClocks(eqx.Module):
    """Waiting times that are drawn when they are needed, each from the key of its lane and its place.

    Attributes:
        keys: two words of random bits (n,) uint32.
    """

    keys: tuple[Array, Array]
    room: int = eqx.field(static=True)

    def wait(self, reaction: Array, number: Array) -> Array:
        bits, _ = threefry(self.keys, jnp.asarray(number, jnp.uint32), jnp.asarray(reaction, jnp.uint32))
        return exponential(bits).astype(jnp.result_type(float))


class Given(NamedTuple):
    """Lanes whose path is given, and only weighed.

    Attributes:
        lanes: (n,) which they are.
        times, reactions: (n, B) their events, first those that happened, then -1.
    """

    lanes: Array
    times: Array
    reactions: Array


class GuidedLanes(NamedTuple):
    """Guided paths of n lanes, each along its own piece of an edge.

    Attributes:
        counts: the state at the end, one int32 array (n,) per species.
        log_weight: (n,) log-ratio of the path's law under the network to that under the guide; -inf where
            the lane stopped early.
        n_events: (n,) events of each lane.
        overflow: (n,) whether a lane needed more clocks or slots than there are.
        invalid: (n,) whether a lane met propensities that are none, see `ReactionNetwork.valid`.
        times, reactions: (n, slots) when each event happened, since the start of the lane, and which it
            was; in slots without an event the duration, and -1; see `events_first`.
    """

    counts: tuple[Array, ...]
    log_weight: Array
    n_events: Array
    overflow: Array
    invalid: Array
    times: Array
    reactions: Array


def guided_jumps(
    process: ReactionNetwork,
    guide: JumpGuide,
    own: Any,
    counts: tuple[Array, ...],
    constants: tuple[Array, ...],
    ends: Array,
    clocks: Clocks,
    slots: int,
    given: Given | None = None,
) -> GuidedLanes:
    r"""Follow lanes with rates $\lambda^\circ_l = \lambda_l(x) \rho_l(s_k, x)$ on the cells $[s_k, s_{k+1})$.

    The ratio ρ is that of the guide at the start of the cell, taken anew after every event. With rates that
    are constant between events, the weight
    $-\sum \log\rho_l - \int (\Lambda - \Lambda^\circ) dt$ is exact for every ρ > 0, without thinning and
    without quadrature. Paths are driven by one unit-rate Poisson clock per reaction (Kurtz's random time
    change; Anderson 2007, J. Chem. Phys. 127:214107), so that small changes of parameters or clocks
    change little of a path.

    Args:
        own: what the guide knows of every lane and cell, leaves (n, cells, ...).
        counts: the state at the start, one int32 array (n,) per species.
        constants: `process.constants` of each lane, (n,) each.
        ends: (n, cells) ends of the cells, since the start of the lane; equal ends make empty cells.
        clocks: exponential waiting times of every reaction, in its internal time.
        slots: buffer for events and crossed cells together.
        given: paths that are weighed instead of drawn; the weight of a path does not depend on the clocks.
    """
    dtype = jnp.result_type(float)
    n, n_cells = ends.shape
    n_reactions = process.n_reactions
    change = process.stoichiometry.astype(np.int32)

    def step(
        lane: tuple, own: Any, constant: tuple, ends: Array, clocks: Clocks, given: Given | None
    ) -> tuple[tuple, Array, Array]:
        time, cell, x, left, fired, weight, active, overflow, invalid = lane
        here = jax.tree.map(lambda leaf: leaf[cell], own)
        rates = process.propensities_from(constant, x)
        valid = process.valid(rates, x)
        rate = jnp.stack(rates)
        ratio = guide.log_ratios(process, here, jnp.stack(x).astype(dtype), rate)
        guided = rate * jnp.exp(ratio)
        waits = jnp.where(guided > 0, left / jnp.where(guided > 0, guided, 1.0), jnp.inf)
        which = jnp.argmin(waits).astype(jnp.int32)
        when, end = time + waits[which], ends[cell]
        if given is not None:
            number = jnp.minimum(jnp.sum(fired), given.reactions.shape[0] - 1)
            there = (given.reactions[number] >= 0) & (jnp.sum(fired) < given.reactions.shape[0])
            when = jnp.where(given.lanes, jnp.where(there, given.times[number], jnp.inf), when)
            which = jnp.where(given.lanes & there, given.reactions[number], which)
        happens = when < end
        span = jnp.maximum(jnp.where(happens, when, end) - time, 0.0)
        weight = weight + span * (jnp.sum(guided) - jnp.sum(rate)) - jnp.where(happens, ratio[which], 0.0)
        fires = (np.arange(n_reactions) == which) & happens
        fired = fired + fires
        following = clocks.wait(which, jnp.minimum(fired[which], clocks.room - 1))
        left = jnp.where(fires, following, jnp.maximum(left - span * guided, 0.0))
        added = jnp.sum(jnp.where(fires[:, None], change, 0), axis=0, dtype=jnp.int32)
        moved = tuple(count + added[i] for i, count in enumerate(x))
        last = ~happens & (cell == n_cells - 1)
        short = jnp.any(fired >= clocks.room)
        if given is not None:
            short = short & ~given.lanes
        after = (
            jnp.where(happens, when, end),
            jnp.minimum(cell + ~happens, n_cells - 1),
            moved,
            left,
            fired,
            jnp.where(valid & ~short, weight, -jnp.inf),
            valid & ~short & ~last,
            overflow | short,
            invalid | ~valid,
        )
        new = jax.tree.map(lambda a, b: jnp.where(active, a, b), after, lane)
        reaction = jnp.where(active & happens & valid, which, -1)
        return new, jnp.where(reaction >= 0, after[0], ends[-1]), reaction

    steps = jax.vmap(step)

    def body(carry: tuple) -> tuple:
        slot, lanes, times, reactions = carry
        lanes, when, which = steps(lanes, own, constants, ends, clocks, given)
        at = (slot, jnp.zeros_like(slot))
        times = lax.dynamic_update_slice(times, when[None], at)
        reactions = lax.dynamic_update_slice(reactions, which[None], at)
        return slot + 1, lanes, times, reactions

    flags = jnp.zeros(n, bool)
    each = jnp.arange(n_reactions)
    first_waits = jax.vmap(lambda own: jax.vmap(lambda which: own.wait(which, jnp.zeros_like(which)))(each))(
        clocks
    )
    start = (
        jnp.zeros(n, dtype),
        jnp.zeros(n, jnp.int32),
        tuple(counts),
        first_waits.astype(dtype),
        jnp.zeros((n, n_reactions), jnp.int32),
        jnp.zeros(n, dtype),
        ends[:, -1] > 0,
        flags,
        flags,
    )
    times = jnp.broadcast_to(ends[:, -1].astype(dtype), (slots, n))
    first = (jnp.zeros((), jnp.int32), start, times, jnp.full((slots, n), -1, jnp.int32))
    going = lambda carry: jnp.any(carry[1][6]) & (carry[0] < slots)
    _, lanes, times, reactions = lax.while_loop(going, body, first)
    _, _, x, _, fired, weight, active, overflow, invalid = lanes
    return GuidedLanes(
        x,
        jnp.where(active, -jnp.inf, weight),
        jnp.sum(fired, axis=1),
        overflow | active,
        invalid,
        times.T,
        reactions.T,
    )


def events_first(times: Array, reactions: Array, size: int) -> tuple[Array, Array]:
    """The first events (..., size) of slots (..., slots), without those in which a cell was crossed."""
    order = jnp.argsort(reactions < 0, axis=-1, stable=True)[..., :size]
    return jnp.take_along_axis(times, order, axis=-1), jnp.take_along_axis(reactions, order, axis=-1)
