"""Regimes of a switching diffusion given its path, and prior draws of both."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from mjp._small_matrices import times
from mjp.inference.path_sweeps import backward_filter, guided_states
from mjp.inference.potentials.categorical import Categorical
from mjp.inference.switching_graph import RegimeChain, SwitchingGraph
from mjp.processes.gaussian import Interval


@eqx.filter_jit
def draw_regimes(model: SwitchingGraph, before: Array, after: Array, key: Array) -> Array:
    """Regimes (S, F) of the steps of paths from (d, F, S) to (d, F, S), by filtering and sampling."""
    emissions = jnp.moveaxis(model.log_densities(before, after), 0, -1)
    nodes = Categorical.from_log(emissions)
    return _draw(model.regimes, nodes, key)


def _draw(chain: RegimeChain, nodes: Categorical, key: Array) -> Array:
    n_steps, n_series = nodes.log_scale.shape
    uniforms = jax.random.uniform(key, (n_steps, n_series), chain.first.dtype)
    potentials = backward_filter(chain.matrices, chain.index, nodes)
    return guided_states(chain.first, chain.matrices, chain.index, potentials, uniforms).T


@eqx.filter_jit
def simulated_paths(model: SwitchingGraph, key: Array) -> tuple[Array, Array]:
    """Prior draws of states (d, F + 1, S) and of the regimes (S, F) of the steps."""
    layout = model.layout
    regime_key, root_key, step_key = jax.random.split(key, 3)
    shape, k = (layout.n_steps, layout.n_series), model.process.n_regimes
    nothing = Categorical(jnp.ones((*shape, k)), jnp.zeros(shape))
    regimes = _draw(model.regimes, nothing, regime_key)
    root = model.root_mean
    root = root + times(model.root_factor, jax.random.normal(root_key, root.shape, root.dtype))
    noise = jax.random.normal(step_key, (layout.n_steps, *root.shape), root.dtype)

    def step(x: Array, own: tuple) -> tuple[Array, Array]:
        at, regime, z = own
        mean, lower = model.steps(x, Interval(*at))  # (d, K, S)
        chosen = jnp.arange(k)[:, None] == regime
        pick = lambda leaf: jnp.sum(jnp.where(chosen, leaf, 0.0), axis=-2)
        return pick(mean) + times(pick(lower), z), x

    last, before = lax.scan(step, root, (tuple(model.at), regimes.T, noise))
    return jnp.moveaxis(jnp.concatenate([before, last[None]]), 0, 1), regimes
