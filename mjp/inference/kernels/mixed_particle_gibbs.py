"""Particle Gibbs for graphs that mix families: their innovations, by conditional particle filters."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from mjp.graph import Graph
from mjp.inference.condition import condition
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.path_kernel import ParticleKernel
from mjp.inference.mixed_engine import MixedGuided, of_nodes
from mjp.inference.mixed_particles import particle_sweep
from mjp.inference.resampling import typed
from mjp.numpyro_bridge import INNOVATIONS, flatten, mixes_families, unflatten


class MixedParticleGibbsState(NamedTuple):
    """State of `MixedParticleGibbs`.

    Attributes:
        z: value of every site of innovations.
        particle_ess: smallest effective share of the particles, over turns.
        moved: share of the nodes whose innovations the last draw changed.
    """

    i: Array
    z: dict[str, Array]
    particle_ess: Array
    moved: Array
    rng_key: Array


class MixedParticleGibbs(ParticleKernel):
    """Updates the innovations `….innovations` of graphs that mix families, given all other sites.

    Conditional sequential Monte Carlo over the turns in which nodes are drawn (Andrieu, Doucet & Holenstein
    2010): every sweep leaves the law of the innovations given parameters and data invariant, for any number
    of particles. All nodes may change at once, where Crank-Nicolson moves change few of them at a time. Use
    it as a block of `numpyro.infer.Gibbs`, beside NUTS on the parameters.

    Args:
        model: a NumPyro model that contains `mjp.sample` of graphs that mix families.
        sites: names given to `mjp.sample`; by default all such graphs of the model.
        particles: of each graph.
    """

    def __init__(self, model: Callable, sites: Sequence[str] | None = None, *, particles: int = 100):
        super().__init__(model, sites, particles=particles)

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> MixedParticleGibbsState:
        """Start at a path drawn by a particle filter.

        Raises:
            ValueError: a batch of keys, or a model without graphs that mix families.
        """
        check_one_key(self, rng_key)
        key, following = jax.random.split(rng_key)
        zero = jnp.zeros((), jnp.result_type(float))
        state = MixedParticleGibbsState(jnp.zeros((), jnp.int32), {}, zero, zero, following)
        return self._swept(state, key, model_args, model_kwargs)._replace(i=state.i, moved=zero)

    def sample(
        self, state: MixedParticleGibbsState, model_args: tuple, model_kwargs: dict | None
    ) -> MixedParticleGibbsState:
        """One sweep of conditional sequential Monte Carlo for every graph."""
        key, following = jax.random.split(state.rng_key)
        return self._swept(state._replace(rng_key=following), key, model_args, model_kwargs)

    def _swept(
        self, state: MixedParticleGibbsState, key: Array, args: tuple, kwargs: dict | None
    ) -> MixedParticleGibbsState:
        z, ess, moved = dict(state.z), [], []
        key = typed(key)
        for name, (graph, options) in self._graphs(args, kwargs).items():
            site = name + INNOVATIONS
            own, key = jax.random.split(key)
            guided: Any = condition(graph, **options)
            if guided.exact:  # its path is marginalised
                continue
            kept = unflatten(z[site][None], guided.innovations) if site in z else None
            swept = particle_sweep(guided, own, self._particles, kept)
            if kept is not None:
                moved.append(_share_moved(guided, kept, swept.z))
            z[site] = flatten(swept.z, guided.innovations)[0]
            ess.append(jnp.min(swept.ess) / self._particles)
        if not ess:
            raise ValueError("model has no graph that mixes families and is not conditioned exactly")
        dtype = state.moved.dtype
        return state._replace(
            i=state.i + 1,
            z=z,
            particle_ess=jnp.min(jnp.stack(ess)).astype(dtype),
            moved=jnp.mean(jnp.stack(moved)).astype(dtype) if moved else state.moved,
        )

    def _graphs(self, args: tuple, kwargs: dict | None) -> dict[str, tuple[Graph, dict[str, Any]]]:
        return self._declared(args, kwargs, lambda graph, _: mixes_families(graph))


def _share_moved(guided: MixedGuided, old: dict[str, Array], new: dict[str, Array]) -> Array:
    """Share of the innovations of nodes that differ."""
    parts = [jnp.reshape(old[name] != new[name], -1) for name in of_nodes(guided.graph)]
    return jnp.mean(jnp.concatenate(parts))
