"""Exact jump paths between two known states, by uniformization with fixed buffers."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import gammaln

from mjp.inference.matrix_exponential import matrix_powers
from mjp.inference.path_sweeps import draw


class Bridges(NamedTuple):
    """Jump paths on n edges: the jumps of an edge come first, the rest of its buffer is padding."""

    times: Array  # (n, B) time since the start of the edge; the edge's duration beyond the last jump
    states: Array  # (n, B) state entered; the final state beyond the last jump
    n_jumps: Array  # (n,)
    overflow: Array  # (n,) whether the buffer was too short, so that the path is not usable


def buffer_size(expected_events: float) -> int:
    """Buffer that a Poisson number of events exceeds with probability below 1e-12."""
    return int(np.ceil(expected_events + 8.0 * np.sqrt(expected_events) + 10.0))


def sample_bridges(
    generators: Array,
    which: np.ndarray,
    durations: Array,
    start: Array,
    end: Array,
    total: Array,
    uniforms: Array,
) -> Bridges:
    r"""Draw paths of jump processes given both ends (Hobolth & Stone 2009, §2.3; Fearnhead & Sherlock 2006).

    With $R = I + Q/\mu$ the number of uniformized events has law
    $\propto \mathrm{Pois}(n; \mu t) (R^n)_{ab}$; event times are ordered uniforms, states follow
    $x_k \propto R_{x_{k-1} x_k} (R^{n-k})_{x_k b}$, and events that do not change the state are dropped.

    Args:
        generators: (G, K, K); which: (n,) generator of each edge; durations: (n,).
        start, end: (n,) states at both ends; the end must be reachable.
        total: (n,) transition probabilities between them, which show how much lies beyond the buffer.
        uniforms: (n, 2 B + 1) numbers that drive the draw: one for the number of events, B for their
            times, B for their states.

    Returns:
        Bridges with buffers of B. An edge whose number of events does not fit has `overflow` set.
    """
    size = (uniforms.shape[1] - 1) // 2
    n_states = generators.shape[-1]
    dtype = generators.dtype
    rate = jnp.max(-jnp.diagonal(generators, axis1=-2, axis2=-1), axis=-1)
    rate = jnp.maximum(rate, jnp.finfo(dtype).tiny ** 0.5)
    jump = jnp.eye(n_states, dtype=dtype) + generators / rate[:, None, None]
    powers = matrix_powers(jump, size + 1)
    to_end = jnp.moveaxis(powers, -1, 1)[which, end]  # (n, size + 1, K): (R^m)_{x b}
    mean = (rate[which] * durations)[:, None]
    number = jnp.arange(size + 1)
    log_poisson = jnp.where(
        mean > 0, number * jnp.log(jnp.where(mean > 0, mean, 1.0)), jnp.where(number > 0, -jnp.inf, 0.0)
    )
    poisson = jnp.exp(log_poisson - gammaln(number + 1.0) - mean)
    from_start = jnp.take_along_axis(to_end, start[:, None, None], axis=2)[..., 0]
    weights = poisson * from_start
    # all that the buffer leaves out is one more outcome; less than rounding errors is nothing
    beyond = total - jnp.sum(weights, axis=-1)
    beyond = jnp.where(beyond > 256 * jnp.finfo(dtype).eps * total, beyond, 0.0)
    n_events = draw(jnp.concatenate([weights, beyond[:, None]], axis=1), uniforms[:, 0])
    overflow = n_events > size
    n_events = jnp.minimum(n_events, size)

    slot = jnp.arange(size)
    happens = slot < n_events[:, None]
    times = jnp.sort(jnp.where(happens, uniforms[:, 1 : size + 1], 2.0), axis=-1)
    times = jnp.where(happens, times, 1.0) * durations[:, None]

    def step(state: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        k, uniform = x
        remaining = jnp.maximum(n_events - k - 1, 0)
        ahead = jnp.take_along_axis(to_end, remaining[:, None, None], axis=1)[:, 0]
        drawn = draw(jump[which, state] * ahead, uniform)
        state = jnp.where(k < n_events, drawn, state)
        return state, state

    _, states = lax.scan(step, start, (slot, uniforms[:, size + 1 :].T))
    states = states.T
    before = jnp.concatenate([start[:, None], states[:, :-1]], axis=1)
    real = happens & (states != before)
    n_jumps = jnp.sum(real, axis=-1)
    # stable sort brings the real jumps to the front in their order
    order = jnp.argsort(~real, axis=-1, stable=True)
    kept = slot < n_jumps[:, None]
    times = jnp.where(kept, jnp.take_along_axis(times, order, axis=1), durations[:, None])
    states = jnp.where(kept, jnp.take_along_axis(states, order, axis=1), end[:, None])
    return Bridges(times, states.astype(jnp.int32), n_jumps, overflow)
