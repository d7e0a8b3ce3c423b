"""Exact jump paths between two known states, by uniformization with fixed buffers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.matrix_exponential import matrix_powers, poisson_weights
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


@jax.jit  # called outside compiled functions, operations would compile one by one
def sample_bridges(
    generators: Array,
    which: Array | np.ndarray,
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
    # (R^m)_{x b} by generator, m, b and x; and for every edge from its start to its end, (n, size + 1)
    to_end = jnp.swapaxes(powers, -1, -2)
    from_start = jnp.moveaxis(powers, 1, -1)[which, start, end]
    weights = poisson_weights(rate[which] * durations, size + 1) * from_start
    # all that the buffer leaves out is one more outcome; less than rounding errors is nothing
    beyond = total - jnp.sum(weights, axis=-1)
    beyond = jnp.where(beyond > 256 * jnp.finfo(dtype).eps * total, beyond, 0.0)
    n_events = draw(jnp.concatenate([weights, beyond[:, None]], axis=1), uniforms[:, 0])
    overflow = n_events > size
    n_events = jnp.minimum(n_events, size)

    # of m uniform times in what is left of the edge, the first leaves the fraction (1 - u)^(1/m) of it
    slot = np.arange(size)[:, None]
    left = jnp.exp(jnp.log1p(-uniforms[:, 1 : size + 1].T) / jnp.maximum(n_events - slot, 1))

    def step(carry: tuple[Array, Array, Array], x: tuple[Array, Array, Array]) -> tuple[tuple, tuple]:
        state, rest, virtual = carry
        k, fraction, uniform = x
        ahead = to_end[which, jnp.maximum(n_events - k - 1, 0), end]
        drawn = jnp.where(k < n_events, draw(jump[which, state] * ahead, uniform), state)
        rest = rest * fraction
        real = drawn != state
        return (drawn, rest, virtual + ~real), (rest, drawn, real, virtual)

    first = (start, jnp.ones_like(left[0]), jnp.zeros_like(start))
    xs = (jnp.arange(size), left, uniforms[:, size + 1 :].T)
    _, (rest, states, real, virtual) = lax.scan(step, first, xs)
    n_jumps = jnp.sum(real, axis=0)
    # a jump lies strictly before the end of its edge, whatever the rounding
    times = jnp.minimum(1.0 - rest, 1.0 - jnp.finfo(dtype).epsneg) * durations
    times, states = _to_front(jnp.where(real, virtual, 0), times, states)
    kept = slot < n_jumps
    times, states = jnp.where(kept, times, durations), jnp.where(kept, states, end)
    return Bridges(times.T, states.T.astype(jnp.int32), n_jumps, overflow)


def _to_front(steps: Array, *columns: Array) -> list[Array]:
    """Move entry k of columns (B, n) to k - steps[k], one binary digit of the steps after the other.

    Entries that stay in the same order never collide; where none arrives, the column holds anything.
    Sorting does the same, but XLA compares one pair of numbers at a time.
    """
    moved, shift = list(columns), 1
    while shift < steps.shape[0]:
        ahead = _shifted(steps, shift)
        arrives = (ahead & shift) > 0
        moved = [jnp.where(arrives, _shifted(column, shift), column) for column in moved]
        steps = jnp.where(arrives, ahead, jnp.where((steps & shift) > 0, 0, steps))
        shift *= 2
    return moved


def _shifted(column: Array, shift: int) -> Array:
    return jnp.concatenate([column[shift:], jnp.zeros_like(column[:shift])])
