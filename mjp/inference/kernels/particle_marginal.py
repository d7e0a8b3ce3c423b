"""Jump paths and parameters together: particle Gibbs, NUTS given the path, and particle marginal moves."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from numpyro.infer import NUTS
from numpyro.infer.gibbs import conditioned, latent_sample_sites, prototype_trace, with_conditioning
from numpyro.infer.mcmc import MCMCKernel
from numpyro.infer.util import potential_energy, unconstrain_fn

from mjp._checks import check_count
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.particle_gibbs import particle_paths, share_moved
from mjp.numpyro_bridge import PATH, ROOTS, without_jump_paths

_STARTS = 8  # prior draws of which a chain starts at the best
_TARGET = 0.234


class ParticleMarginalState(NamedTuple):
    """State of `ParticleMarginal`.

    Attributes:
        z: unconstrained parameters, and paths.
        nuts: state of NUTS on the parameters.
        log_evidence: estimate that belongs to the present particles.
        mean, covariance: of the parameters so far; scale: of the proposals, on the log scale.
        jumped: acceptance probability of the last particle marginal move.
        particle_ess, renewed, moved, overflow: see `ParticleGibbsState`.
    """

    i: Array
    z: dict[str, Array]
    nuts: Any
    log_evidence: Array
    mean: Array
    covariance: Array
    scale: Array
    potential_energy: Array
    jumped: Array
    particle_ess: Array
    renewed: Array
    moved: Array
    overflow: Array
    num_warmup: Array
    rng_key: Array


class ParticleMarginal(MCMCKernel):
    r"""Samples jump paths and parameters of a model by three moves in turn.

    NUTS moves the parameters given the path. Conditional sequential Monte Carlo renews the path given the
    parameters; its particles estimate the evidence, as those of a particle filter that had produced the path
    would. A particle marginal Metropolis step then proposes parameters and new particles together, accepted
    by $\hat Z(\theta') p(\theta') / \hat Z(\theta) p(\theta)$, which moves parameters further than a path
    that is kept would let them. All leave the same extended law of parameters and particles invariant
    (Andrieu, Doucet & Holenstein 2010; Mendes, Scharth & Kohn 2020).

    Proposals are a random walk with the covariance of the warm-up's draws, whose scale is adapted to an
    acceptance of 0.234; both are kept after it.

    Args:
        model: a NumPyro model that contains `mjp.sample` of reaction networks, and parameters.
        particles: of each series of each graph.
        dense_mass: of NUTS.
    """

    def __init__(self, model: Callable, *, particles: int = 50, dense_mass: Any = True):
        check_count("particles", particles)
        if particles < 2:
            raise ValueError(f"particles must be at least 2, got {particles}")
        self._model, self._particles = model, particles
        self._conditioned = conditioned(model)
        self._nuts = NUTS(self._conditioned, dense_mass=dense_mass)

    @property
    def sample_field(self) -> str:
        return "z"

    @property
    def model(self) -> Callable:
        return self._model

    def __copy__(self) -> "ParticleMarginal":
        fresh = type(self).__new__(type(self))
        vars(fresh).update(vars(self))
        fresh._nuts = copy.copy(self._nuts)
        for attribute in ("_init_fn", "_sample_fn", "_postprocess_fn"):
            setattr(fresh._nuts, attribute, None)
        return fresh

    def get_diagnostics_str(self, state: Any) -> Any:
        return f"particle ESS={float(state.particle_ess):.2f} moved={float(state.moved):.2f}"

    def postprocess_fn(self, model_args: tuple, model_kwargs: dict | None) -> Any:
        def constrain(z: dict[str, Array]) -> dict[str, Array]:
            parameters, paths = _parted(z)
            given = with_conditioning(model_kwargs, paths)
            function = self._nuts.get_constrain_fn(model_args, given, return_deterministic=True)
            return {**function(parameters), **paths}

        return constrain

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> ParticleMarginalState:
        """Start at the best of several prior draws, with a path drawn by its particle filter.

        Raises:
            ValueError: a batch of keys.
        """
        check_one_key(self, rng_key)
        start_key, nuts_key, following = jax.random.split(rng_key, 3)

        def start(key: Array) -> tuple[dict[str, Array], dict[str, Array], Array]:
            draw_key, path_key = jax.random.split(key)
            found = prototype_trace(self._conditioned, draw_key, model_args, model_kwargs)
            values = {name: found[name]["value"] for name in latent_sample_sites(found)}
            parameters, empty = _parted(values)
            given = with_conditioning(model_kwargs, {**parameters, **empty})
            paths, evidence, _ = particle_paths(
                self._conditioned, path_key, self._particles, None, model_args, given
            )
            return parameters, paths, evidence

        starts = lax.map(start, jax.random.split(start_key, _STARTS))
        best = jnp.argmax(jnp.where(jnp.isnan(starts[2]), -jnp.inf, starts[2]))
        parameters, paths, evidence = jax.tree.map(lambda leaf: leaf[best], starts)
        given = with_conditioning(model_kwargs, paths)
        free = unconstrain_fn(self._conditioned, model_args, given, parameters)
        free = {name: value for name, value in free.items() if name in parameters}
        nuts = self._nuts.init(nuts_key, num_warmup, free, model_args, given)
        free = nuts.z
        flat, _ = ravel_pytree(free)
        zero = jnp.zeros((), flat.dtype)
        energy = self._prior_energy(free, paths, model_args, model_kwargs) - evidence
        return ParticleMarginalState(
            i=jnp.zeros((), jnp.int32),
            z={**free, **paths},
            nuts=nuts,
            log_evidence=evidence,
            mean=flat,
            covariance=jnp.zeros((flat.size, flat.size), flat.dtype),
            scale=zero,
            potential_energy=energy,
            jumped=zero,
            particle_ess=zero,
            renewed=zero,
            moved=zero,
            overflow=jnp.zeros((), jnp.int32),
            num_warmup=jnp.asarray(num_warmup, jnp.int32),
            rng_key=following,
        )

    def sample(
        self, state: ParticleMarginalState, model_args: tuple, model_kwargs: dict | None
    ) -> ParticleMarginalState:
        """One draw: NUTS, conditional sequential Monte Carlo, and a particle marginal move."""
        step_key, path_key, accept_key, following = jax.random.split(state.rng_key, 4)
        free, paths = _parted(state.z)
        given = with_conditioning(model_kwargs, paths)
        nuts = self._nuts.refresh(state.nuts._replace(z=free), model_args, given)
        nuts = self._nuts.sample(nuts, model_args, given)
        flat, unravel = ravel_pytree(nuts.z)
        proposal = flat + self._step(step_key, state, flat)
        both = jnp.stack([flat, proposal])
        constrain = self._nuts.get_constrain_fn(model_args, given)

        def sweep(x: tuple[Array, Array, Array]) -> tuple:
            at, key, keep = x
            free = unravel(at)
            known = with_conditioning(model_kwargs, {**constrain(free), **paths})
            found, evidence, report = particle_paths(
                self._conditioned, key, self._particles, paths, model_args, known, keep
            )
            energy = self._prior_energy(free, paths, model_args, model_kwargs) - evidence
            return found, evidence, jnp.where(jnp.isnan(energy), jnp.inf, energy), report

        keys = jax.random.split(path_key, 2)
        found, evidence, energy, reports = lax.map(sweep, (both, keys, jnp.array([True, False])))
        probability = jnp.exp(jnp.minimum(energy[0] - energy[1], 0.0))
        probability = jnp.where(jnp.isnan(probability), 0.0, probability)
        accepted = (jax.random.uniform(accept_key) < probability).astype(int)
        chosen = jax.tree.map(lambda leaf: leaf[accepted], found)
        flat = both[accepted]
        warm = state.i < state.num_warmup
        rate = jnp.where(warm, (state.i + 1.0) ** -0.6, 0.0)
        weight = jnp.where(warm, 1.0 / (state.i + 2.0), 0.0)
        off = flat - state.mean
        return state._replace(
            i=state.i + 1,
            z={**unravel(flat), **chosen},
            nuts=nuts,
            log_evidence=evidence[accepted],
            mean=state.mean + weight * off,
            covariance=state.covariance + weight * (jnp.outer(off, off) * (1 - weight) - state.covariance),
            scale=(state.scale + rate * (probability - _TARGET)).astype(flat.dtype),
            potential_energy=energy[accepted],
            jumped=probability.astype(flat.dtype),
            particle_ess=reports.particle_ess[0].astype(flat.dtype),
            renewed=reports.renewed[0].astype(flat.dtype),
            moved=share_moved(paths, chosen).astype(flat.dtype),
            overflow=jnp.sum(reports.overflow).astype(jnp.int32),
            rng_key=following,
        )

    def _step(self, key: Array, state: ParticleMarginalState, flat: Array) -> Array:
        """A random-walk step; early on its covariance is shrunk towards a small round one."""
        d = flat.size
        n = jnp.minimum(state.i, state.num_warmup).astype(flat.dtype)
        covariance = (n * state.covariance + 5 * d * 1e-2 * jnp.eye(d, dtype=flat.dtype)) / (n + 5 * d)
        factor = jnp.linalg.cholesky(covariance)
        return jnp.exp(state.scale) * 2.38 / jnp.sqrt(d) * factor @ jax.random.normal(key, (d,), flat.dtype)

    def _prior_energy(
        self, free: dict[str, Array], paths: dict[str, Array], args: tuple, kwargs: dict | None
    ) -> Array:
        """Minus the log-density of the parameters, and of all data but those of the paths."""
        given = with_conditioning(kwargs, paths)
        energy: Any = potential_energy(without_jump_paths(self._conditioned), args, given, free)
        return energy


def _parted(values: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Parameters, and paths with their first states."""
    paths = {name: value for name, value in values.items() if name.endswith((PATH, ROOTS))}
    return {name: value for name, value in values.items() if name not in paths}, paths
