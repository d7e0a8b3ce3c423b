"""Densities of paths of a switching diffusion and of what is observed of them, regimes integrated out."""

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from mjp.inference.forward_filter import forward_filter
from mjp.inference.gaussian_sites import Observed
from mjp.inference.potentials.categorical import Categorical
from mjp.inference.switching_graph import SwitchingGraph


def known_path(model: SwitchingGraph) -> Array:
    """The path (d, T, S) that is known."""
    return model.values.at[:, 0].set(model.root_mean)


def predictive_terms(model: SwitchingGraph, before: Array, after: Array) -> Array:
    r"""Log-densities $\log p(x_{t+1} | x_0, \dots, x_t)$ of steps of paths, (F, S), by Hamilton's filter."""
    emissions = jnp.moveaxis(model.log_densities(before, after), 0, -1)
    chain = model.regimes
    single = not chain.index.any()
    matrices, index = (chain.matrices[:1], None) if single else (chain.matrices, chain.index)
    return forward_filter(chain.first, matrices, index, Categorical.from_log(emissions))


def site_terms(model: SwitchingGraph, sites: list[Observed], values: Array) -> Array:
    """Log-likelihoods (n_nodes,) of noisy observations at states (n_nodes, d)."""
    total = jnp.zeros(model.layout.n_nodes, values.dtype)
    for observed in sites:
        total = total.at[observed.nodes].add(observed.site.log_likelihood(values[observed.nodes]))
    return total


@eqx.filter_jit
def known_terms(model: SwitchingGraph, sites: list[Observed]) -> Array:
    """Terms (n_nodes,) of a known path."""
    states = known_path(model)
    steps = predictive_terms(model, states[:, :-1], states[:, 1:])
    terms = jnp.concatenate([jnp.zeros_like(steps[:1]), steps]).T.reshape(-1)
    values = jnp.moveaxis(states, (0, 2), (2, 0)).reshape(model.layout.n_nodes, -1)
    return terms + site_terms(model, sites, values)


@eqx.filter_jit
def log_likelihoods(
    model: SwitchingGraph, sites: list[Observed], before: Array, after: Array, values: Array
) -> Array:
    layout = model.layout
    total = site_terms(model, sites, values)
    if not layout.known.any():
        return total
    steps = predictive_terms(model, before, after)[layout.per_edge - 1 :: layout.per_edge]
    nodes = jnp.concatenate([jnp.zeros_like(steps[:1]), jnp.where(layout.known[1:], steps, 0.0)])
    return total + nodes.T.reshape(-1)
