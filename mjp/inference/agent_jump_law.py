"""The law of the paths of agents in continuous time, as a distribution over fixed buffers of jumps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Distribution, constraints

from mjp.agent_jump_trajectory import AgentJumpTrajectory
from mjp.graph import Graph
from mjp.inference.agent_jump_density import log_density
from mjp.inference.agent_jump_engine import guided_jumps, room, trajectory
from mjp.inference.agent_jumps import ends
from mjp.inference.jump_buffers import pack
from mjp.inference.particle_chain import ParticleChain, evaluate
from mjp.inference.particle_guides import no_guide

_NO_STATE = -1  # entered by agents whose jumps did not fit


class AgentJumpLaw(Distribution):
    """Paths of a graph of `mjp.InteractingJumps`, (N, J + 1, 2): times and states of every agent.

    The first entry of an agent is the time and the state at the start; then come its jumps and the states
    entered; behind the last one stand the end and the last state. Several series stand side by side, N = R n.
    Given a path, the log-density, see `mjp.inference.agent_jump_density`, is a smooth function of the rates.

    Args:
        size: J, jumps of an agent. A draw that needs more has density zero.
        max_events: room for the events of an agent, real and virtual.
    """

    support = constraints.independent(constraints.real, 3)  # type: ignore[assignment]

    def __init__(self, graph: Graph, size: int, max_events: int):
        self.graph, self.size, self.max_events = graph, size, max_events
        self.model: ParticleChain = evaluate(graph)
        super().__init__((), (self.model.shape[1], size + 1, 2), validate_args=False)

    @property
    def start(self) -> Array:
        """Paths that stay in the first state."""
        n, (start, end) = self.model.shape[1], ends(self.model)
        return pack(jnp.broadcast_to(end[:, None], (n, self.size)), jnp.zeros((n, self.size + 1)), start)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        if sample_shape:
            keys = jax.random.split(key, int(np.prod(sample_shape)))
            drawn = jax.vmap(self.sample)(keys)
            return drawn.reshape(*sample_shape, *drawn.shape[1:])
        model = self.model
        events, _ = room(model, self.max_events)
        value, _, unfit = guided_jumps(model, no_guide(model), key, events, self.size)
        return value.at[:, -1, 1].set(jnp.where(unfit, _NO_STATE, value[:, -1, 1]))

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        if value.ndim > 3:
            return jax.vmap(self.log_prob)(value)
        fits = jnp.all(value[:, -1, 1] != _NO_STATE)
        return jnp.where(fits, log_density(self.model, value.at[..., 1].max(0.0)), -jnp.inf)

    def trajectory(self, value: Array) -> AgentJumpTrajectory:
        """A path as a trajectory of the graph."""
        unfit = value[..., -1, 1] == _NO_STATE
        last = jnp.where(unfit, value[..., -2, 1], value[..., -1, 1])
        return trajectory(self.model, value.at[..., -1, 1].set(last), unfit)
