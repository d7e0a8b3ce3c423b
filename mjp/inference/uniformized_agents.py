r"""Jump paths of single agents given those of all others, by uniformization.

Agent i is given virtual jumps at rate $\Omega_i - |q_i|$, in addition to its own. Given the times of all
events, states are those of a chain in which at an event of agent i it alone moves, with matrix $I + Q_i(N_i)
/ \Omega_i$, and what happens to the agents that i influences, virtual jumps included, are observations of its
state. So it gets a new path by forward filtering and backward sampling along its own events, as many steps as
it has, and virtual events are dropped (Rao & Teh 2013, J. Mach. Learn. Res. 14:3295, §5). Agents that have
nothing to do with each other move side by side.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from mjp.graph import Graph
from mjp.inference.agent_colours import Colours
from mjp.inference.agent_jump_density import log_density
from mjp.inference.agent_jumps import (
    after,
    around,
    at_times,
    bounds,
    count_until,
    ends,
    node_times,
    process_of,
    states_at,
)
from mjp.inference.bridges import buffer_size
from mjp.inference.individual_forward_backward import FLOOR, sample_chains, seen_together, until_possible
from mjp.inference.jump_buffers import compact, pack, unpack
from mjp.inference.neighbour_counts import moved, with_dummy, with_member, without
from mjp.inference.particle_chain import ParticleChain, evaluate, select, steps_taken
from mjp.inference.particle_guides import own_potentials

RATE_FACTOR = 1.5  # of the rate of events over the largest rate of jumps


def event_room(graph: Graph, factor: float) -> int:
    """Room for the events of an agent, were its rates `factor` times as large as they are."""
    model = evaluate(graph, observed=False)
    start, end = ends(model)
    return buffer_size(factor * RATE_FACTOR * float(jnp.max(bounds(model) * (end - start))))


def events(model: ParticleChain, key: Array, value: Array, rate: Array, room: int) -> tuple[Array, Array]:
    """Times (N, room) of the real and virtual events of all agents, infinite behind the last; and how many
    agents have more, or are faster than their rate (N,)."""
    times, states = unpack(value)
    start, end = ends(model)
    number_key, time_key, keep_key = jax.random.split(key, 3)
    number = jax.random.poisson(number_key, rate * (end - start))
    uniform = lambda key: jax.random.uniform(key, (len(times), room), times.dtype)
    fresh = after(start[:, None], (end - start)[:, None] * uniform(time_key))
    exists = jnp.arange(room) < number[:, None]
    field = around(model, times, states, fresh)
    rates = process_of(model).rates(field, at_times(model, fresh))
    leaving = -select([rates[a][a] for a in range(model.k)], states_at(times, states, fresh))
    kept = exists & (uniform(keep_key) * rate[:, None] >= leaving)
    real = states[:, 1:] != states[:, :-1]
    fast = jnp.any(exists & (leaving > rate[:, None]), axis=1)
    full = (number > room) | (jnp.sum(real, axis=1) + jnp.sum(kept, axis=1) > room)
    together = jnp.concatenate([jnp.where(real, times, jnp.inf), jnp.where(kept, fresh, jnp.inf)], axis=1)
    return jnp.sort(together, axis=1)[:, :room], jnp.sum(fast | full, dtype=jnp.int32)


def sweep(
    model: ParticleChain, order: Colours, key: Array, value: Array, room: int, floor: float = 0.0
) -> tuple[Array, Array]:
    """Draw the path of every agent once, given those of the others.

    Where the events of some agent do not fit, no agent moves; an agent whose jumps do not fit keeps its path.

    Args:
        value: paths (N, J + 1, 2). room: for events of an agent.
        floor: least probability of a change at an event. With zero, the sweep leaves the law of the paths
            given the data invariant; with more, it comes from impossible paths to those that are not.

    Returns:
        new paths; number of agents for which something did not fit.
    """
    event_key, key = jax.random.split(key)
    (n, k), size = (value.shape[0], model.k), value.shape[1] - 1
    process, states_counted = process_of(model), model.process.influential
    planes = [(m, s) for m in range(process.n_networks) for s in states_counted]
    times, states = unpack(value)
    start, end = ends(model)
    rate = RATE_FACTOR * bounds(model)
    happens, overflow = events(model, event_key, value, rate, room)
    live = jnp.isfinite(happens)
    when = jnp.where(live, happens, end[:, None])
    counted = around(model, times, states, when)
    # the dummy's row takes what is padded
    field = [with_dummy(counted[m * k + s]) for m, s in planes]
    path = with_dummy(jnp.concatenate([states[:, :1], states_at(times, states, when)], axis=1))
    at = {name: v if v.shape[0] == 1 else with_dummy(v) for name, v in at_times(model, when).items()}
    node = with_dummy(count_until(happens, node_times(model)))  # (N + 1, T) events before each node
    none = jnp.zeros((model.static.n_times, model.static.n_series, k))
    own = with_dummy(jnp.transpose(own_potentials(model, none), (2, 1, 0)))  # (N + 1, K, T)
    happens, live, when, first = map(with_dummy, (happens, live, when, model.first.T))
    rate = jnp.append(rate, 1.0)

    def matrices(field: list[Array], agents: Array) -> list[list[Array]]:
        """Transition probabilities [a][b], (A, room), at the events of agents (A,)."""
        whole = [jnp.zeros((len(agents), room), when.dtype)] * (process.n_networks * k)
        for (m, s), share in zip(planes, field, strict=True):
            whole[m * k + s] = share
        own_at = {name: v if v.shape[0] == 1 else v[agents] for name, v in at.items()}
        found = process.rates(jnp.stack(whole), own_at)
        return [[(a == b) + found[a][b] / rate[agents][:, None] for b in range(k)] for a in range(k)]

    def colour(carry: tuple[Array, list[Array]], x: tuple) -> tuple[tuple[Array, list[Array]], Array]:
        path, field = carry
        members, influenced, by, weights, key = x
        weights, old, here = weights[..., None], path[members], live[members]  # weights: (M, P, 1)
        matrix = [
            [jnp.where(here, jnp.maximum(p, floor), 1.0 * (a == b)) for b, p in enumerate(row)]
            for a, row in enumerate(matrices([share[members] for share in field], members))
        ]
        at_nodes = jnp.take_along_axis(path, node, axis=1)
        seen = own[members] + seen_together(model, at_nodes, members, floor)
        add = lambda logs, index, terms: logs.at[:, index].add(terms)
        logs = jax.vmap(add)(jnp.zeros((len(members), k, room + 1)), node[members], seen)
        # how many of a member's own events come before those of the agents that it influences
        index = count_until(with_dummy(happens[members])[by], when[influenced])
        before = jnp.take_along_axis(with_dummy(old)[by], index, axis=1)
        others = without(field, planes, influenced, weights, before)
        found = neighbours_likelihood(path, others, influenced, weights)
        slots = by[:, None] * (room + 1) + index
        flat = jnp.moveaxis(found, 1, 2).reshape(-1, k)
        total = jax.ops.segment_sum(flat, slots.reshape(-1), (len(members) + 1) * (room + 1))
        logs = logs + jnp.moveaxis(total.reshape(-1, room + 1, k)[:-1], 2, 1)
        logs = logs.at[:, :, 0].add(first[members])
        new = sample_chains(key, matrix, logs, old)
        fits = jnp.sum(new[:, 1:] != new[:, :-1], axis=1) <= size
        new = jnp.where(fits[:, None], new, old)
        field = moved(
            field,
            planes,
            influenced,
            weights,
            before,
            jnp.take_along_axis(with_dummy(new)[by], index, axis=1),
        )
        return (path.at[members].set(new), field), jnp.sum(~fits & (members < n), dtype=jnp.int32)

    def neighbours_likelihood(path: Array, others: list, influenced: Array, weights: Array) -> Array:
        """Log-likelihoods (P, K, room) of a member's states, from the events of those that it influences."""
        theirs, found = path[influenced], {}
        for member in (None, *states_counted):
            matrix = matrices(with_member(others, planes, weights, member), influenced)
            found[member] = jnp.log(jnp.maximum(steps_taken(matrix, theirs), floor))
        whole = jnp.stack([found.get(s, found[None]) for s in range(k)], axis=1)
        real = live[influenced] & (influenced < n)[:, None]
        return jnp.where(real[:, None], whole, 0.0)

    keys = jax.random.split(key, len(order.members))
    tables = (order.members, order.influenced, order.by, order.weights)
    (path, _), unfit = lax.scan(colour, (path, field), (*map(jnp.asarray, tables), keys))
    new = jnp.where(overflow > 0, value, pack(*compact(when[:n], path[:n], end, size), start))
    return new, overflow + jnp.sum(unfit)


def possible_path(
    model: ParticleChain, order: Colours, key: Array, value: Array, room: int
) -> tuple[Array, Array]:
    """A path of positive density, and whether it is one; see `individual_forward_backward.possible_path`."""

    def impossible(value: Array) -> Array:
        times, states = unpack(value)
        seen = model.log_likelihoods(states_at(times, states, node_times(model)).T)
        return ~jnp.isfinite(log_density(model, value) + jnp.sum(seen))

    step = lambda key, value: sweep(model, order, key, value, room, floor=FLOOR)[0]
    return until_possible(step, impossible, key, value)
