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


def inner_times(model: ParticleChain) -> Array:
    """Times (N, F - 1) at which a step of each agent's series ends and another begins."""
    return jnp.repeat(model.step_times[1:-1].T, model.process.n, axis=0)


def parameters(model: ParticleChain) -> dict[str, Array]:
    """What rates may read, (F or 1, N or 1) each: all but the duration of a step."""
    return {name: value for name, value in model.at.items() if name != "duration"}


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


def at_times(model: ParticleChain, when: Array) -> dict[str, Array]:
    """What the rule reads at times (N, S) of the agents' own, (N or 1, S or 1) each.

    Parameters are constant within a step, covariates on edges.
    """
    found, step = {}, None
    for name, value in parameters(model).items():
        if value.shape[0] == 1:
            found[name] = value.T
            continue
        if step is None:
            step = count_until(inner_times(model), when)
        columns = jnp.broadcast_to(value, (value.shape[0], len(when))).T
        found[name] = jnp.take_along_axis(columns, step, axis=1)
    return found


def bounds(model: ParticleChain) -> Array:
    """The largest rate (N,) at which each agent leaves any state; see `mjp.InteractingJumps`."""
    process, n, dtype = process_of(model), model.shape[1], jnp.result_type(float)
    if process.bound is not None:
        given = jnp.broadcast_to(jnp.asarray(process.bound, dtype), (process.n,))
        return jnp.tile(given, n // process.n)
    degrees = model.static.contacts.degrees()  # (M, N)
    at = {name: value.T for name, value in parameters(model).items()}
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
