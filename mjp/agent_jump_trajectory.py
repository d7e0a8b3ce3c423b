"""Draws of agents in continuous time: when each of them jumped, and where to."""

from collections.abc import Hashable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.agent_trajectory import AgentTrajectory


class AgentJumps(eqx.Module):
    """Jump paths of the agents of one series.

    Attributes:
        start, end: (...) the time that they cover.
        times: (..., n, J) of the jumps; behind the last one stands the end.
        states: (..., n, J + 1) positions of states: the first, and those entered; behind the last jump stands
            the last state.
    """

    start: Array
    end: Array
    times: Array
    states: Array
    labels: tuple = eqx.field(static=True)

    def at(self, time: Any) -> Array:
        """States at times (m,) within the path, (..., m, n), or at one time, (..., n)."""
        time = jnp.asarray(time, self.times.dtype)
        find = lambda row, states: states[jnp.searchsorted(row, jnp.atleast_1d(time), side="right")]
        flat = jax.vmap(find)(
            self.times.reshape(-1, self.times.shape[-1]), self.states.reshape(-1, self.states.shape[-1])
        )
        found = jnp.moveaxis(flat.reshape(*self.times.shape[:-1], -1), -1, -2)
        return found if time.ndim else found[..., 0, :]

    @property
    def n_jumps(self) -> Array:
        """Numbers of jumps (..., n)."""
        return jnp.sum(self.states[..., 1:] != self.states[..., :-1], axis=-1)


class AgentJumpTrajectory(AgentTrajectory):
    """A draw of `mjp.InteractingJumps`; `trajectory[node]` are positions of the agents' states.

    Attributes:
        jumps: of the R series, (..., R, n, J + 1, 2): time and state at the start, then those of the jumps;
            the end and the last state behind them.
        overflow: (...) number of agents whose jumps did not fit, or who were faster than their bound.
        path_values: (..., F + 1, R, n) states at all steps of the R series.
    """

    jumps: Array
    overflow: Array

    @property
    def n_jumps(self) -> Array:
        """Numbers of jumps (..., R, n)."""
        return jnp.sum(self.jumps[..., 1:, 1] != self.jumps[..., :-1, 1], axis=-1)

    def path(self, series: int | None = None) -> AgentJumps:  # type: ignore[override]
        """The jump paths of a chain, or of one of several series.

        Raises:
            ValueError: several series, and none chosen.
        """
        n_series = self.order.nodes.shape[1]
        if series is None and n_series > 1:
            raise ValueError(f"series must be chosen from the {n_series} of the graph")
        own, times = self.jumps[..., series or 0, :, :, :], self.step_times[..., series or 0]
        return AgentJumps(
            times[..., 0], times[..., -1], own[..., 1:, 0], own[..., 1].astype(jnp.int32), self.names.states
        )

    def edge(self, parent: Hashable, child: Hashable) -> AgentJumps:  # type: ignore[override]
        """The jump paths on an edge; KeyError when there is no such edge."""
        on_steps = super().edge(parent, child)
        series = int(np.argwhere(self.order.nodes == self.names.id(parent))[0, 1])
        whole, start, end = self.path(series), on_steps.times[..., 0], on_steps.times[..., -1]
        lower, upper = start[..., None, None], end[..., None, None]
        before = jnp.sum(whole.times <= lower, axis=-1, keepdims=True)
        size = whole.times.shape[-1]
        index = jnp.minimum(before + jnp.arange(size + 1), size)
        states = jnp.take_along_axis(whole.states, index, axis=-1)
        times = jnp.take_along_axis(whole.times, jnp.minimum(index, size - 1)[..., :-1], axis=-1)
        within = (index[..., :-1] < size) & (times <= upper)
        last = jnp.take_along_axis(states, jnp.sum(within, axis=-1, keepdims=True), axis=-1)
        entered = jnp.where(within, states[..., 1:], last)
        states = jnp.concatenate([states[..., :1], entered], axis=-1)
        return AgentJumps(start, end, jnp.where(within, times, upper), states, whole.labels)
