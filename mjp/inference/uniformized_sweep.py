"""One sweep of uniformization Gibbs: a new jump path given the data and the events of the old one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.inference.jump_buffers import compact, pack
from mjp.inference.path_sweeps import backward_filter, guided_states
from mjp.inference.potentials.categorical import Categorical
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.inference.state_path_law import StatePathLaw


def uniformized_sweep(law: StatePathLaw, value: Array, key: Array, factor: float) -> tuple[Array, Array]:
    """A new path given the uniformized events of the old one, and how many chains did not fit the buffer.

    Whether they fit depends on the events alone, which do not change, so that keeping the path of those
    leaves the law of paths invariant.
    """
    wait_key, node_key = jax.random.split(key)
    n_pieces, size = value.shape[0], law.size
    generators, which = law.generators, law.which
    n_generators, n_states = generators.shape[:2]
    dominating = factor * jnp.max(-jnp.diagonal(generators, axis1=1, axis2=2), axis=1)
    times, full = _events(law, value, dominating[which], wait_key)

    # FFBS along all slots of all pieces, one after the other; an empty slot is an identity
    sequence = law.sequence
    levels, width = sequence.pieces.shape
    jump = (
        jnp.eye(n_states) + generators / jnp.maximum(dominating, jnp.finfo(times.dtype).tiny)[:, None, None]
    )
    matrices = jnp.concatenate([jump, jnp.eye(n_states, dtype=jump.dtype)[None]])
    index = jnp.where(jnp.isfinite(times), which[:, None], n_generators)
    index = jnp.concatenate([index, jnp.full((1, size), n_generators)])[sequence.pieces]
    index = jnp.moveaxis(index, 2, 1).reshape(levels * size, width)
    children = np.append(law.model.layout.pieces.children, len(law.model.layout.parent))
    seen = _observed(law)
    values = jnp.ones((levels, size, width, n_states), seen.values.dtype)
    values = values.at[:, -1].set(seen.values[children[sequence.pieces]])
    values = jnp.concatenate([seen.values[sequence.roots][None], values.reshape(-1, width, n_states)])
    potentials = backward_filter(
        matrices, index, Categorical(values, jnp.zeros(values.shape[:2], values.dtype))
    )
    uniforms = jax.random.uniform(node_key, values.shape[:2], values.dtype)
    states = guided_states(law.model.root_laws, matrices, index, potentials, uniforms)

    before = states[: levels * size : size]  # (levels, width)
    inside = jnp.moveaxis(states[1:].reshape(levels, size, width), 1, 2)
    path = jnp.concatenate([before[..., None], inside], axis=-1).reshape(-1, size + 1)
    real = np.flatnonzero(sequence.pieces.reshape(-1) < n_pieces)
    order = np.empty(n_pieces, dtype=np.int64)
    order[sequence.pieces.reshape(-1)[real]] = real
    jumps, entered = compact(times, path[order], law.durations, size)
    new = pack(jumps, entered, jnp.zeros_like(law.durations))

    column = np.empty(n_pieces, dtype=np.int64)
    column[sequence.pieces.reshape(-1)[real]] = real % width
    stuck = jnp.zeros(width, bool).at[column].max(full)
    return jnp.where(stuck[column][:, None, None], value, new), jnp.sum(stuck, dtype=jnp.int32)


def _events(law: StatePathLaw, value: Array, dominating: Array, key: Array) -> tuple[Array, Array]:
    """Times (pieces, size) of the real and virtual events of a path, infinite behind the last; and whether
    there are more."""
    start, states = value[..., 0], value[..., 1].astype(jnp.int32)
    size = law.size
    rate = dominating[:, None] + law.generators[law.which[:, None], states, states]
    spans = jnp.diff(jnp.append(start, law.durations[:, None], axis=1), axis=1)
    # virtual events have unit rate in the time that their integrated rate measures
    passed = jnp.cumsum(rate * spans, axis=1)
    clock = jnp.cumsum(jax.random.exponential(key, start.shape, start.dtype), axis=1)
    where = jax.vmap(lambda a, b: jnp.searchsorted(a, b, side="right"))(passed, clock)
    happens = clock < passed[:, -1:]
    where = jnp.where(happens, where, 0)
    take = lambda array: jnp.take_along_axis(array, where, axis=1)
    rest = take(passed) - clock  # until the span ends
    ends = jnp.append(start[:, 1:], law.durations[:, None], axis=1)
    virtual = jnp.where(happens, take(ends) - rest / jnp.where(happens, take(rate), 1.0), jnp.inf)
    jumps = states[:, 1:] != states[:, :-1]
    real = jnp.where(jumps, start[:, 1:], jnp.inf)
    together = jnp.sort(jnp.concatenate([real, virtual], axis=1), axis=1)
    return together[:, :size], jnp.sum(jumps, axis=1) + jnp.sum(happens, axis=1) > size


def _observed(law: StatePathLaw) -> Categorical:
    """Potential of each node, those known exactly included; the dummy's is one."""
    nodes, known = law.model.nodes, np.append(law.model.layout.known, UNKNOWN)
    allowed = (known[:, None] == UNKNOWN) | (known[:, None] == np.arange(nodes.values.shape[1]))
    return Categorical(nodes.values * allowed, nodes.log_scale)
