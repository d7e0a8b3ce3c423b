"""Paths of agents in continuous time as fixed buffers, and what the network around them is at given times."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.inference.particle_chain import ParticleChain
from mjp.inference.segments import segment_sum, take
from mjp.processes import InteractingJumps


def process_of(model: ParticleChain) -> InteractingJumps:
    """The process of a chain of agents in continuous time."""
    assert isinstance(model.process, InteractingJumps)
    return model.process


def pack(times: Array, states: Array, start: Array) -> Array:
    """Paths (N, J + 1, 2): time and state at the start (N,), then those of the jumps (N, J)."""
    when = jnp.concatenate([start[:, None], times], axis=1)
    return jnp.stack([when, states.astype(when.dtype)], axis=-1)


def unpack(value: Array) -> tuple[Array, Array]:
    """Times (N, J) of the jumps, the end behind the last one; states (N, J + 1) from the start on."""
    return value[:, 1:, 0], value[..., 1].astype(jnp.int32)


def after(start: Array, spans: Array) -> Array:
    """Times at spans after a start, never at it, where rounding would put a few of them."""
    return jnp.maximum(start + spans, jnp.nextafter(start, jnp.inf))


def count_until(times: Array, when: Array) -> Array:
    """How many of the sorted times (A, J) are at or before each of `when` (A, S)."""
    return jax.vmap(lambda a, b: jnp.searchsorted(a, b, side="right"))(times, when)


def states_at(times: Array, states: Array, when: Array) -> Array:
    """States (A, S) at `when` (A, S), of paths with jumps at `times` (A, J) into states (A, J + 1)."""
    return jnp.take_along_axis(states, count_until(times, when), axis=1)


def ends(model: ParticleChain) -> tuple[Array, Array]:
    """Start and end (N,) of each agent's series."""
    n = model.process.n
    return jnp.repeat(model.step_times[0], n), jnp.repeat(model.step_times[-1], n)


def node_times(model: ParticleChain) -> Array:
    """Times (N, T) of the nodes of each agent's series."""
    return jnp.repeat(model.at_nodes(model.step_times).T, model.process.n, axis=0)


def around(model: ParticleChain, times: Array, states: Array, when: Array) -> Array:
    """Numbers (M K, N, S) of neighbours by network and state, at times (N, S) of each agent's own.

    Those in states that the rule does not count are zero.
    """
    dtype = when.dtype
    none = jnp.zeros(when.shape, dtype)
    found = []
    for network in model.static.networks:
        shares = [none] * model.k
        if len(network.sources.index):
            seen = states_at(
                take(times, network.sources), states[network.sources.index], take(when, network.targets)
            )
            weights = (
                jnp.ones((), dtype)
                if network.weights is None
                else jnp.asarray(network.weights, dtype)[:, None]
            )
            for s in model.process.influential:
                shares[s] = segment_sum(jnp.where(seen == s, weights, 0.0), network.targets)
        found += shares
    return jnp.stack(found)


def at_times(model: ParticleChain, when: Array, agents: Array | None = None) -> dict[str, Array]:
    """What the rule reads at times (A, S), (A or 1, S or 1) each, of all agents or of some (A,).

    Parameters are constant within a step, covariates on edges.
    """
    found, step = {}, None
    n, own = model.shape[1], slice(None) if agents is None else agents
    for name, value in model.at.items():
        if name == "duration":
            continue  # no rate reads it
        if value.shape[0] == 1:
            found[name] = value.T if value.shape[1] == 1 else value.T[own]
            continue
        if step is None:
            series = np.arange(n) // model.process.n
            step = count_until(model.step_times[1:-1].T[series][own], when)
        columns = jnp.broadcast_to(value, (value.shape[0], n)).T[own]
        found[name] = jnp.take_along_axis(columns, step, axis=1)
    return found


def rates_at(
    model: ParticleChain, field: Array, when: Array, agents: Array | None = None
) -> list[list[Array]]:
    """Rates [a][b], (A, S), at times (A, S) with neighbours (M K, A, S), of all agents or of some (A,)."""
    return process_of(model).rates(field, at_times(model, when, agents))


def bounds(model: ParticleChain) -> Array:
    """The largest rate (N,) at which each agent leaves any state; see `mjp.InteractingJumps`."""
    process, n, dtype = process_of(model), model.shape[1], jnp.result_type(float)
    if process.bound is not None:
        given = jnp.broadcast_to(jnp.asarray(process.bound, dtype), (process.n,))
        return jnp.tile(given, n // process.n)
    degrees = model.static.contacts.degrees()  # (M, N)
    at = {name: value.T for name, value in model.at.items() if name != "duration"}  # which no rate reads
    f = max((value.shape[1] for value in at.values()), default=1)
    largest = jnp.full(n, jnp.finfo(dtype).tiny ** 0.5, dtype)
    for s in (None, *model.process.influential):
        counts = np.zeros((len(degrees), model.k, n))
        if s is not None:
            counts[:, s] = degrees
        field = jnp.broadcast_to(jnp.asarray(counts.reshape(-1, n, 1), dtype), (counts[:, :, 0].size, n, f))
        rates = process.rates(field, at)
        for a in range(model.k):
            largest = jnp.maximum(largest, jnp.max(jnp.broadcast_to(-rates[a][a], (n, f)), axis=1))
    return largest


def select(entries: list[Array], index: Array) -> Array:
    """Of arrays [a], (...), the one that an index (...) chooses."""
    found = jnp.broadcast_to(entries[0], index.shape)
    for a, entry in enumerate(entries[1:], 1):
        found = jnp.where(index == a, entry, found)
    return found


def compact(times: Array, states: Array, end: Array, size: int) -> tuple[Array, Array, Array]:
    """Jumps (N, size) and states (N, size + 1) of paths of events (N, C) into states (N, C + 1).

    Returns:
        times, the end (N,) behind the last jump; states; numbers of jumps (N,), which may exceed the size.
    """
    jumps = states[:, 1:] != states[:, :-1]
    number = jnp.sum(jumps, axis=1)
    order = jnp.argsort(~jumps, axis=1, stable=True)[:, :size]
    order = jnp.pad(order, ((0, 0), (0, max(size - jumps.shape[1], 0))))
    kept = jnp.arange(size) < number[:, None]
    when = jnp.where(kept, jnp.take_along_axis(times, order, axis=1), end[:, None])
    entered = jnp.where(kept, jnp.take_along_axis(states[:, 1:], order, axis=1), states[:, -1:])
    return when, jnp.concatenate([states[:, :1], entered], axis=1), number
