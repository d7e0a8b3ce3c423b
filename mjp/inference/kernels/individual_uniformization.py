"""Paths of agents in continuous time given parameters and data, agent by agent."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mjp.inference.agent_colours import Colours
from mjp.inference.agent_jump_engine import room
from mjp.inference.agent_jump_law import AgentJumpLaw
from mjp.inference.condition import condition
from mjp.inference.individual_forward_backward import colours_of
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.path_kernel import SweepKernel
from mjp.inference.rules import cheapest_options
from mjp.inference.uniformized_agents import possible_path, sweep
from mjp.numpyro_bridge import PATH, agent_jump_law, has_agent_jumps


class IndividualUniformizationState(NamedTuple):
    """State of `IndividualUniformization`.

    Attributes:
        z: value of every site of paths.
        possible: whether paths of positive density were found to start from.
        moved: share of the agents whose paths the last draw changed.
        overflow: agents whose events or jumps did not fit their buffer, or who were faster than their bound,
            in the last draw.
    """

    i: Array
    z: dict[str, Array]
    moved: Array
    overflow: Array
    possible: Array
    rng_key: Array


class IndividualUniformization(SweepKernel):
    r"""Updates the paths `….path` of `mjp.InteractingJumps`, given all other sites, without rejections.

    Agents get new jump paths one after the other, each from its law given the paths of the others, virtual
    jumps and the data (uniformization; Rao & Teh 2013, J. Mach. Learn. Res. 14:3295, §5). Which agents move
    at once is as for `IndividualForwardBackward`. Use it as a block of `numpyro.infer.Gibbs`, beside NUTS on
    the parameters.

    Where the events of an agent do not fit `max_events` of its `mjp.sample`, nobody moves; an agent whose
    jumps do not fit `max_jumps` keeps its path. Both are counted in `overflow`.

    Args:
        model: a NumPyro model that contains `mjp.sample` of agents in continuous time.
        sites: names given to `mjp.sample`; by default all such graphs of the model.
        sweeps: through all agents, per draw.
    """

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> IndividualUniformizationState:
        """Start at a guided path, changed until it has positive density.

        Raises:
            ValueError: a batch of keys, or a model without such paths.
        """
        check_one_key(self, rng_key)
        key, following = jax.random.split(rng_key)
        z, possible = {}, jnp.ones((), bool)
        for name, law in self._laws(model_args, model_kwargs).items():
            draw_key, possible_key, key = jax.random.split(key, 3)
            sizes = {"max_events": room(law.model, law.max_events)[0], "max_jumps": law.size}
            guided: Any = condition(law.graph, **sizes, **cheapest_options(law.graph))
            value = guided.sample(draw_key)[0].jumps.reshape(law.event_shape)
            order = colours_of(law.model)
            z[name + PATH], found = possible_path(law.model, order, possible_key, value, law.max_events)
            possible = possible & found
        zero = jnp.zeros((), jnp.result_type(float))
        none = jnp.zeros((), jnp.int32)
        return IndividualUniformizationState(none, z, zero, none, possible, following)

    def sample(
        self, state: IndividualUniformizationState, model_args: tuple, model_kwargs: dict | None
    ) -> IndividualUniformizationState:
        """New paths for all agents of every graph."""
        key, following = jax.random.split(state.rng_key)
        z, moved, overflow = dict(state.z), [], jnp.zeros((), jnp.int32)
        for i, (name, law) in enumerate(self._laws(model_args, model_kwargs).items()):
            old = z[name + PATH]
            step = partial(_sweep, law, colours_of(law.model), jax.random.fold_in(key, i))
            z[name + PATH], overflow = lax.fori_loop(0, self._sweeps, step, (old, overflow))
            moved.append(jnp.mean(jnp.any(z[name + PATH] != old, axis=(1, 2)).astype(state.moved.dtype)))
        moved = jnp.mean(jnp.stack(moved))
        return state._replace(i=state.i + 1, z=z, moved=moved, overflow=overflow, rng_key=following)

    def _laws(self, args: tuple, kwargs: dict | None) -> dict[str, AgentJumpLaw]:
        found = self._declared(args, kwargs, lambda graph, _: has_agent_jumps(graph))
        if not found:
            raise ValueError("model has no agents in continuous time whose paths could be drawn")
        return {name: agent_jump_law(graph, options) for name, (graph, options) in found.items()}


def _sweep(
    law: AgentJumpLaw, order: Colours, key: Array, i: Array, carry: tuple[Array, Array]
) -> tuple[Array, Array]:
    value, overflow = carry
    value, unfit = sweep(law.model, order, jax.random.fold_in(key, i), value, law.max_events)
    return value, overflow + unfit.astype(overflow.dtype)
