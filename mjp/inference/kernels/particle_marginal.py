"""Jump paths and parameters together: particle Gibbs, NUTS given the path, and particle marginal moves."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from numpyro.infer import NUTS
from numpyro.infer.gibbs import conditioned, with_conditioning
from numpyro.infer.mcmc import MCMCKernel

from mjp._checks import check_count, check_particles
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.particle_gibbs import particle_paths, share_moved
from mjp.inference.kernels.particle_starts import best_start, parted, prior_energy
from mjp.numpyro_bridge import PATH, ROOTS, with_linear_noise

_STARTS = 8  # prior draws of which a chain starts at the best
_DEPTH = 6  # of the trees of proposals
_PATHS = (PATH, ROOTS)  # ends of the names of their sites


class ParticleMarginalState(NamedTuple):
    """State of `ParticleMarginal`.

    Attributes:
        z: unconstrained parameters, and paths.
        nuts: state of NUTS on the parameters given the path.
        surrogate: state of NUTS on the parameters under the linear noise approximation.
        log_evidence: estimate that belongs to the present particles.
        jumped: acceptance probability of the last particle marginal move.
        particle_ess, renewed, moved, overflow: see `ParticleGibbsState`.
    """

    i: Array
    z: dict[str, Array]
    nuts: Any
    surrogate: Any
    log_evidence: Array
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
    would. A particle marginal Metropolis step then proposes parameters and new particles together, which
    moves parameters further than a path that is kept would let them. All leave the same extended law of
    parameters and particles invariant (Andrieu, Doucet & Holenstein 2010; Mendes, Scharth & Kohn 2020).

    Proposals come from the linear noise approximation, whose evidence $Z_0$ is smooth: `steps` transitions of
    NUTS on $Z_0(\theta) p(\theta)$, a reversible kernel, are accepted by
    $\hat Z(\theta') Z_0(\theta) / (\hat Z(\theta) Z_0(\theta'))$ (surrogate transitions; Liu 2001, Monte
    Carlo Strategies in Scientific Computing, section 9.4.3). The approximation enters the acceptance alone:
    where it is good, parameters are nearly independent of those before. Steps and masses of NUTS are kept
    after the warm-up.

    Args:
        model: a NumPyro model that contains `mjp.sample` of reaction networks, and parameters.
        particles: of each series of each graph.
        steps: transitions of NUTS in a proposal.
        dense_mass: of NUTS.
    """

    def __init__(self, model: Callable, *, particles: int = 50, steps: int = 3, dense_mass: Any = True):
        check_particles(particles)
        check_count("steps", steps)
        self._model, self._particles, self._steps = model, particles, steps
        self._conditioned = conditioned(model)
        self._nuts = NUTS(self._conditioned, dense_mass=dense_mass)
        smooth = with_linear_noise(self._conditioned)
        self._surrogate = NUTS(smooth, dense_mass=dense_mass, max_tree_depth=_DEPTH)

    @property
    def sample_field(self) -> str:
        return "z"

    @property
    def model(self) -> Callable:
        return self._model

    def __copy__(self) -> "ParticleMarginal":
        fresh = type(self).__new__(type(self))
        vars(fresh).update(vars(self))
        for name in ("_nuts", "_surrogate"):
            kernel = copy.copy(getattr(self, name))
            for attribute in ("_init_fn", "_sample_fn", "_postprocess_fn"):
                setattr(kernel, attribute, None)
            setattr(fresh, name, kernel)
        return fresh

    def get_diagnostics_str(self, state: Any) -> Any:
        return f"particle ESS={float(state.particle_ess):.2f} moved={float(state.moved):.2f}"

    def postprocess_fn(self, model_args: tuple, model_kwargs: dict | None) -> Any:
        def constrain(z: dict[str, Array]) -> dict[str, Array]:
            parameters, paths = parted(z, _PATHS)
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
        start_key, nuts_key, surrogate_key, following = jax.random.split(rng_key, 4)

        draw = lambda key, given: particle_paths(
            self._conditioned, key, self._particles, None, model_args, given
        )
        free, paths, evidence, _ = best_start(
            self._conditioned, draw, start_key, model_args, model_kwargs, _STARTS
        )
        given = with_conditioning(model_kwargs, paths)
        nuts = self._nuts.init(nuts_key, num_warmup, free, model_args, given)
        free = nuts.z
        inner = self._steps * num_warmup
        surrogate = self._surrogate.init(surrogate_key, inner, free, model_args, model_kwargs)
        zero = jnp.zeros((), jnp.result_type(float))
        energy = prior_energy(self._conditioned, free, paths, model_args, model_kwargs) - evidence
        return ParticleMarginalState(
            i=jnp.zeros((), jnp.int32),
            z={**free, **paths},
            nuts=nuts,
            surrogate=surrogate,
            log_evidence=evidence,
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
        path_key, accept_key, following = jax.random.split(state.rng_key, 3)
        free, paths = parted(state.z, _PATHS)
        given = with_conditioning(model_kwargs, paths)
        nuts = self._nuts.refresh(state.nuts._replace(z=free), model_args, given)
        nuts = self._nuts.sample(nuts, model_args, given)
        surrogate, correction = self._propose(state.surrogate, nuts.z, model_args, model_kwargs)
        flat, unravel = ravel_pytree(nuts.z)
        both = jnp.stack([flat, ravel_pytree(surrogate.z)[0]])
        constrain = self._nuts.get_constrain_fn(model_args, given)

        def sweep(x: tuple[Array, Array, Array]) -> tuple:
            at, key, keep = x
            free = unravel(at)
            known = with_conditioning(model_kwargs, {**constrain(free), **paths})
            found, evidence, report = particle_paths(
                self._conditioned, key, self._particles, paths, model_args, known, keep
            )
            energy = prior_energy(self._conditioned, free, paths, model_args, model_kwargs) - evidence
            return found, evidence, jnp.where(jnp.isnan(energy), jnp.inf, energy), report

        keys = jax.random.split(path_key, 2)
        found, evidence, energy, reports = lax.map(sweep, (both, keys, jnp.array([True, False])))
        probability = jnp.exp(jnp.minimum(energy[0] - energy[1] + correction, 0.0))
        probability = jnp.where(jnp.isnan(probability), 0.0, probability)
        accepted = (jax.random.uniform(accept_key) < probability).astype(int)
        chosen = jax.tree.map(lambda leaf: leaf[accepted], found)
        dtype = state.jumped.dtype
        return state._replace(
            i=state.i + 1,
            z={**unravel(both[accepted]), **chosen},
            nuts=nuts,
            surrogate=surrogate,
            log_evidence=evidence[accepted],
            potential_energy=energy[accepted],
            jumped=probability.astype(dtype),
            particle_ess=reports.particle_ess[0].astype(dtype),
            renewed=reports.renewed[0].astype(dtype),
            moved=share_moved(paths, chosen).astype(dtype),
            overflow=jnp.sum(reports.overflow).astype(jnp.int32),
            rng_key=following,
        )

    def _propose(
        self, state: Any, free: dict[str, Array], args: tuple, kwargs: dict | None
    ) -> tuple[Any, Array]:
        """Transitions of NUTS under the linear noise approximation from `free`, and the log of the ratio of
        its density there to that at their end."""
        start = self._surrogate.refresh(state._replace(z=free), args, kwargs)
        step = lambda _, state: self._surrogate.sample(state, args, kwargs)
        end = lax.fori_loop(0, self._steps, step, start)
        return end, end.potential_energy - start.potential_energy
