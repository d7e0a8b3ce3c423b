"""Paths of interacting particles given parameters and data, agent by agent."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mjp.inference.agent_colours import Colours
from mjp.inference.condition import condition
from mjp.inference.individual_forward_backward import colours_of, possible_path, sweep
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.path_kernel import SweepKernel
from mjp.inference.particle_chain import ParticleChain, evaluate
from mjp.inference.particle_engine import guided_path
from mjp.inference.rules import cheapest_options
from mjp.numpyro_bridge import PATH


class IndividualForwardBackwardState(NamedTuple):
    """State of `IndividualForwardBackward`.

    Attributes:
        z: value of every site of paths.
        possible: whether paths of positive density were found to start from.
        moved: share of the agents' states, over all steps, that the last draw changed.
    """

    i: Array
    z: dict[str, Array]
    moved: Array
    possible: Array
    rng_key: Array


class IndividualForwardBackward(SweepKernel):
    """Updates the paths `….path` of interacting particles and factorial chains, given all other sites.

    Agents get new paths one after the other, each from its law given the paths of the others and the data,
    which is that of a hidden Markov chain (forward filtering, backward sampling; Touloupou, Finkenstädt &
    Spencer 2020, J. Comput. Graph. Stat. 29:238). Agents that do not influence each other, nor the same
    third one, and are not observed together by `mjp.LocalEmissions`, move at once; where totals are
    observed, all depend on each other and take turns. Use it as a block of `numpyro.infer.Gibbs`, beside
    NUTS on the parameters.

    Where rules and data leave some paths no probability, moving one agent at a time may not reach all
    others; a rate of infection from outside, however small, avoids that.

    Args:
        model: a NumPyro model that contains `mjp.sample` of interacting particles.
        sites: names given to `mjp.sample`; by default all graphs of interacting particles of the model.
        sweeps: through all agents, per draw.
    """

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> IndividualForwardBackwardState:
        """Start at a guided path, changed until it has positive density.

        Raises:
            ValueError: a batch of keys, or a model without interacting particles.
        """
        check_one_key(self, rng_key)
        key, following = jax.random.split(rng_key)
        z, possible = {}, jnp.ones((), bool)
        for name, graph in self._agents_in_steps(model_args, model_kwargs).items():
            draw_key, possible_key, key = jax.random.split(key, 3)
            guided: Any = condition(graph, **cheapest_options(graph))
            model = guided.model
            uniforms = jax.random.uniform(draw_key, model.shape, jnp.result_type(float))
            path, _ = guided_path(model, guided.guide, uniforms)
            path, found = possible_path(model, colours_of(model), possible_key, path)
            possible = possible & found
            z[name + PATH] = path.astype(model.path_dtype)
        zero = jnp.zeros((), jnp.result_type(float))
        return IndividualForwardBackwardState(jnp.zeros((), jnp.int32), z, zero, possible, following)

    def sample(
        self, state: IndividualForwardBackwardState, model_args: tuple, model_kwargs: dict | None
    ) -> IndividualForwardBackwardState:
        """New paths for all agents of every graph."""
        key, following = jax.random.split(state.rng_key)
        z, moved = dict(state.z), []
        for name, graph in self._agents_in_steps(model_args, model_kwargs).items():
            site = name + PATH
            model = evaluate(graph)
            order, path = colours_of(model), z[site].astype(jnp.int32)
            own, key = jax.random.split(key)
            path = lax.fori_loop(0, self._sweeps, partial(_sweep, model, order, own), path)
            z[site] = path.astype(state.z[site].dtype)
            moved.append(jnp.mean((z[site] != state.z[site]).astype(state.moved.dtype)))
        return state._replace(i=state.i + 1, z=z, moved=jnp.mean(jnp.stack(moved)), rng_key=following)


def _sweep(model: ParticleChain, order: Colours, key: Array, i: Array, path: Array) -> Array:
    return sweep(model, order, jax.random.fold_in(key, i), path)
