"""Jump paths on finitely many states as fixed buffers."""

import jax.numpy as jnp
from jax import Array


def pack(times: Array, states: Array, start: Array) -> Array:
    """Paths (N, J + 1, 2): time and state at the start (N,), then those of the jumps (N, J)."""
    when = jnp.concatenate([start[:, None], times], axis=1)
    return jnp.stack([when, states.astype(when.dtype)], axis=-1)


def unpack(value: Array) -> tuple[Array, Array]:
    """Times (N, J) of the jumps, the end behind the last one; states (N, J + 1) from the start on."""
    return value[:, 1:, 0], value[..., 1].astype(jnp.int32)


def compact(times: Array, states: Array, end: Array, size: int) -> tuple[Array, Array]:
    """Times (N, size) of the jumps, the end (N,) behind the last, and states (N, size + 1).

    Args:
        times, states: of events (N, C), some of which change nothing, and before and after them, (N, C + 1).
    """
    jumps = states[:, 1:] != states[:, :-1]
    order = jnp.argsort(~jumps, axis=1, stable=True)[:, :size]
    order = jnp.pad(order, ((0, 0), (0, max(size - jumps.shape[1], 0))))
    kept = jnp.arange(size) < jnp.sum(jumps, axis=1)[:, None]
    when = jnp.where(kept, jnp.take_along_axis(times, order, axis=1), end[:, None])
    entered = jnp.where(kept, jnp.take_along_axis(states[:, 1:], order, axis=1), states[:, -1:])
    return when, jnp.concatenate([states[:, :1], entered], axis=1)
