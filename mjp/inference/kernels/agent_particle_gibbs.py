"""Particle Gibbs for interacting agents, guided by what their neighbours did during warm-up."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from mjp.graph import Graph
from mjp.inference.agent_particles import particle_sweep
from mjp.inference.condition import condition, engine_name
from mjp.inference.individual_forward_backward import colours_of, possible_path
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.path_kernel import ParticleKernel
from mjp.inference.particle_chain import ParticleChain
from mjp.inference.particle_guides import ParticleGuide, backward_filter
from mjp.inference.resampling import typed
from mjp.numpyro_bridge import PATH

GUIDES = ("adapted", "mean field", "projected")


class AgentParticleGibbsState(NamedTuple):
    """State of `AgentParticleGibbs`.

    Attributes:
        z: value of every site of paths.
        means: by site, (F + 1, K, N) probabilities of the states that the guide takes neighbours to be in.
        particle_ess: smallest effective share of the particles, over steps and series.
        renewed: share of the steps at which the kept path got another past.
        moved: share of the agents' states, over all steps, that the last draw changed.
        possible: whether paths of positive density were found to start from.
    """

    i: Array
    z: dict[str, Array]
    means: dict[str, Array]
    particle_ess: Array
    renewed: Array
    moved: Array
    possible: Array
    num_warmup: Array
    rng_key: Array


class AgentParticleGibbs(ParticleKernel):
    """Updates the paths `….path` of interacting particles and factorial chains, given all other sites.

    All agents get new paths at once, by conditional sequential Monte Carlo with ancestor sampling (Andrieu,
    Doucet & Holenstein 2010; Lindsten, Jordan & Schön 2014). Every sweep leaves the law of the paths given
    parameters and data invariant, whatever the number of particles and the guide. Where agents are many or
    steps hardly noisy, few particles survive and `IndividualForwardBackward`, which moves agents one after
    the other, mixes better per second; where agents hold each other it is the other way round. Both may be
    blocks of the same `numpyro.infer.Gibbs`.

    Args:
        model: a NumPyro model that contains `mjp.sample` of interacting particles in discrete time.
        sites: names given to `mjp.sample`; by default all graphs of interacting particles of the model.
        particles: of each series of each graph.
        guide: "adapted": every agent alone, its neighbours frozen at the mean of the states that they had in
            the draws of the warm-up, later ones counting more; it does not change afterwards but with the
            parameters. Or "mean field" or "projected", as for `mjp.condition`. Factorial chains have the
            guide of the graph filter.
    """

    def __init__(
        self,
        model: Callable,
        sites: Sequence[str] | None = None,
        *,
        particles: int = 50,
        guide: str = "adapted",
    ):
        if guide not in GUIDES:
            raise ValueError(f"guide must be one of {list(GUIDES)}, got {guide!r}")
        super().__init__(model, sites, particles=particles)
        self._guide = guide

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> AgentParticleGibbsState:
        """Start at a path drawn by a particle filter, changed until it has positive density.

        Raises:
            ValueError: a batch of keys, or a model without interacting particles.
        """
        check_one_key(self, rng_key)
        key, following = jax.random.split(rng_key)
        z, means, possible = {}, {}, jnp.ones((), bool)
        for name, graph in self._agents_in_steps(model_args, model_kwargs).items():
            draw_key, possible_key, key = jax.random.split(typed(key), 3)
            model, guide = self._guided(graph, None)
            drawn = particle_sweep(model, guide, draw_key, self._particles)
            path, found = possible_path(model, colours_of(model), possible_key, drawn.path)
            z[name + PATH] = path.astype(model.path_dtype)
            means[name + PATH] = guide.means
            possible = possible & found
        zero = jnp.zeros((), jnp.result_type(float))
        warmup = jnp.asarray(num_warmup, jnp.int32)
        return AgentParticleGibbsState(
            jnp.zeros((), jnp.int32), z, means, zero, zero, zero, possible, warmup, following
        )

    def sample(
        self, state: AgentParticleGibbsState, model_args: tuple, model_kwargs: dict | None
    ) -> AgentParticleGibbsState:
        """One sweep of conditional sequential Monte Carlo for every graph."""
        key, following = jax.random.split(state.rng_key)
        key = typed(key)
        z, means, ess, renewed, moved = dict(state.z), dict(state.means), [], [], []
        gain = jnp.where(state.i < state.num_warmup, 2.0 / (state.i + 3.0), 0.0)
        for name, graph in self._agents_in_steps(model_args, model_kwargs).items():
            site = name + PATH
            own, key = jax.random.split(key)
            model, guide = self._guided(graph, means[site])
            swept = particle_sweep(model, guide, own, self._particles, z[site].astype(jnp.int32))
            met = jnp.moveaxis(model.indicators(swept.path), 0, 1)
            means[site] = means[site] + gain.astype(met.dtype) * (met - means[site])
            z[site] = swept.path.astype(z[site].dtype)
            ess.append(jnp.min(swept.ess) / self._particles)
            renewed.append(jnp.mean(swept.renewed))
            moved.append(jnp.mean((z[site] != state.z[site]).astype(state.moved.dtype)))
        dtype = state.moved.dtype
        return state._replace(
            i=state.i + 1,
            z=z,
            means=means,
            particle_ess=jnp.min(jnp.stack(ess)).astype(dtype),
            renewed=jnp.mean(jnp.stack(renewed)).astype(dtype),
            moved=jnp.mean(jnp.stack(moved)),
            rng_key=following,
        )

    def _guided(self, graph: Graph, means: Array | None) -> tuple[ParticleChain, ParticleGuide]:
        """A graph, evaluated, and its guide, given what neighbours were found to do on average."""
        alone = engine_name(graph) == "factorial chains"
        auxiliary = "localised" if alone else "mean field" if self._guide == "adapted" else self._guide
        guided: Any = condition(graph, auxiliary=auxiliary)
        model, guide = guided.model, guided.guide
        if means is None or alone or self._guide != "adapted":
            return model, guide
        return model, backward_filter(model, means, guide.tilts, projected=False)
