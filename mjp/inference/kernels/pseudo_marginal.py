"""Parameters and paths by autoregressive moves and particle filters: pseudo-marginal Metropolis."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from numpyro.infer.gibbs import conditioned, with_conditioning
from numpyro.infer.mcmc import MCMCKernel
from numpyro.infer.util import constrain_fn

from mjp._checks import check_count, check_particles
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.particle_gibbs import SweepReport
from mjp.inference.kernels.particle_starts import best_start, parted, prior_energy
from mjp.inference.kernels.path_filters import filtered_paths
from mjp.inference.resampling import typed
from mjp.numpyro_bridge import HIDDEN, INNOVATIONS, PATH

_FORGETTING, _OFFSET = 0.6, 50  # of the step: move number n has weight (n + offset) ** -forgetting
_STARTS = 32  # prior draws of which a chain starts at the best; with few, some chains stay in a minor mode
_FIRST_SCALE = 0.1  # of unconstrained parameters
_FREEDOM = 3.0  # degrees of freedom of the law that moves preserve
_RIDGE = 1e-6
_GROUPS = 64  # of times of observation, whose random numbers are drawn anew together


class PseudoMarginalState(NamedTuple):
    """State of `PseudoMarginal`.

    Attributes:
        z: unconstrained parameters, and paths.
        log_evidence: estimate that belongs to them.
        keys: (G,) of the random numbers that the estimate is made of; one, (), unless moves are correlated.
        mean, covariance: of the parameters, as far as the warm-up has seen them.
        log_step: logarithm of the largest share of a move that is new, at most zero.
        accept_prob: mean over the last moves.
        moved: share of the last moves that were accepted.
        particle_ess: smallest effective share of the particles of the last filter.
        overflow: particles of the last moves whose events did not fit the buffer.
        overflow_share: their share among all particles on all edges.
    """

    i: Array
    z: dict[str, Array]
    log_evidence: Array
    potential_energy: Array
    keys: Array
    mean: Array
    covariance: Array
    log_step: Array
    accept_prob: Array
    moved: Array
    particle_ess: Array
    overflow: Array
    overflow_share: Array
    num_warmup: Array
    rng_key: Array


class PseudoMarginal(MCMCKernel):
    r"""Samples parameters and paths together, with the evidence estimated by a particle filter.

    Moves are accepted with the estimate $\hat Z(\theta)$ of a particle filter in place of the evidence; the
    path is one that the filter has drawn. The posterior is exact for any number of particles (particle
    marginal Metropolis-Hastings; Andrieu, Doucet & Holenstein 2010, section 2.4.2). Jump paths of reaction
    networks are filtered as these move (bootstrap), graphs that mix families with their guides.

    Parameters move autoregressively, reversibly for a Student t law with the moments m and C of what the
    warm-up has seen (Kamatani 2017, J. Appl. Probab. 54:638):
    $\theta' = m + \sqrt{1 - \beta^2} (\theta - m) + \beta w^{-1/2} C^{1/2} \xi$, with w from its law given
    $\theta$ under the t law. Where the posterior is close to it, $\beta$ near 1 will do, and moves hardly
    depend on where they start; where it is not, small $\beta$ makes a random walk of them. Every move draws
    its own, $\beta = b \sqrt{U}$ with U uniform, since small moves lead out of tails in which the evidence
    was overestimated. b, m and C are adapted in the warm-up (Andrieu & Thoms 2008, Statistics and Computing
    18:343), and kept after it.

    With `refreshed` below one, moves are correlated: they draw that share of the filter's random numbers
    anew, for some of the times of observation, and keep the rest, so that errors of both estimates cancel in
    part (Tran, Kohn, Quiroz & Villani 2016, arXiv:1603.02485; Deligiannidis, Doucet & Pitt 2018, J. R.
    Statist. Soc. B 80:839). Fewer particles may then do; the posterior stays exact.

    Moves are cheap, and nothing has to be differentiable. It is the kernel of choice where observations are
    noisy and parameters few; `ParticleMarginal` guides its particles, and moves many parameters by NUTS.

    Args:
        model: a NumPyro model that contains parameters, and `mjp.sample` of reaction networks or of graphs
            that mix families; events of networks on an edge beyond its `max_events` (default 256) are refused
            and counted in `overflow`.
        particles: of each series of each graph. A standard deviation of $\log\hat Z$ of 1 to 2 at a typical
            $\theta$ is about best (Sherlock et al. 2015, Ann. Statist. 43:238).
        moves: per draw.
        target_accept_prob: of the adaptation of b, which is at most one: acceptance may be higher.
        refreshed: share of the random numbers that a move draws anew, in (0, 1]; 1 for graphs that mix
            families.

    Raises:
        ValueError: fewer than two particles, a probability that is not between 0 and 1, a share that is not
            in (0, 1].
    """

    def __init__(
        self,
        model: Callable,
        *,
        particles: int = 100,
        moves: int = 5,
        target_accept_prob: float = 0.15,
        refreshed: float = 1.0,
    ):
        check_particles(particles)
        check_count("moves", moves)
        if not 0 < target_accept_prob < 1:
            raise ValueError(f"target_accept_prob must be between 0 and 1, got {target_accept_prob}")
        if not 0 < refreshed <= 1:
            raise ValueError(f"refreshed must be in (0, 1], got {refreshed}")
        self._model, self._particles, self._moves = model, particles, moves
        self._target, self._refreshed = target_accept_prob, refreshed
        self._conditioned = conditioned(model)

    @property
    def sample_field(self) -> str:
        return "z"

    @property
    def model(self) -> Callable:
        return self._model

    def get_diagnostics_str(self, state: Any) -> Any:
        return f"acc={float(state.accept_prob):.2f} particle ESS={float(state.particle_ess):.2f}"

    def postprocess_fn(self, model_args: tuple, model_kwargs: dict | None) -> Any:
        def constrain(z: dict[str, Array]) -> dict[str, Array]:
            parameters, paths = parted(z, HIDDEN)
            given = with_conditioning(model_kwargs, paths)
            found = constrain_fn(self._conditioned, model_args, given, parameters, return_deterministic=True)
            return {**found, **paths}

        return constrain

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> PseudoMarginalState:
        """Start at the best of several prior draws.

        Raises:
            ValueError: a batch of keys; a model without parameters, without paths, or with innovations that
                no filter draws.
        """
        check_one_key(self, rng_key)
        start_key, following = jax.random.split(rng_key)

        def draw(key: Array, given: dict | None) -> tuple:
            keys = self._keys(key)
            paths, evidence, _ = self._filter(keys, model_args, given)
            return paths, evidence, keys

        start = best_start(self._conditioned, draw, start_key, model_args, model_kwargs, _STARTS)
        free, paths, evidence, keys = start
        if not free:
            raise ValueError("model has no parameters; use particle Gibbs for its paths alone")
        others = [name for name in free if name.endswith(INNOVATIONS)]
        if others:
            raise ValueError(
                f"model: the path of {others[0]!r} is that of a guided graph of one family, which no filter "
                "draws; use NUTS, or ParticleMarginal"
            )
        energy = prior_energy(self._conditioned, free, paths, model_args, model_kwargs) - evidence
        flat = ravel_pytree(free)[0]
        zero = jnp.zeros((), flat.dtype)
        return PseudoMarginalState(
            i=jnp.zeros((), jnp.int32),
            z={**free, **paths},
            log_evidence=evidence,
            potential_energy=energy,
            keys=keys,
            mean=flat,
            covariance=_FIRST_SCALE**2 * jnp.eye(len(flat), dtype=flat.dtype),
            log_step=zero,
            accept_prob=zero,
            moved=zero,
            particle_ess=zero,
            overflow=jnp.zeros((), jnp.int32),
            overflow_share=zero,
            num_warmup=jnp.asarray(num_warmup, jnp.int32),
            rng_key=following,
        )

    def sample(
        self, state: PseudoMarginalState, model_args: tuple, model_kwargs: dict | None
    ) -> PseudoMarginalState:
        """One draw: several moves of parameters and paths."""

        def move(k: Any, carry: tuple) -> tuple:
            state, total, overflow = carry
            key, following = jax.random.split(state.rng_key)
            state, probability, lost = self._move(state, key, model_args, model_kwargs)
            state = self._adapted(state, probability, state.i * self._moves + k)
            return state._replace(rng_key=following), total + probability, overflow + lost

        before = state._replace(moved=jnp.zeros_like(state.moved))
        start = (before, jnp.zeros_like(state.accept_prob), jnp.zeros((), jnp.int32))
        state, total, overflow = lax.fori_loop(0, self._moves, move, start)
        pieces = sum(path.shape[0] for name, path in state.z.items() if name.endswith(PATH))
        return state._replace(
            i=state.i + 1,
            accept_prob=total / self._moves,
            moved=state.moved / self._moves,
            overflow=overflow,
            overflow_share=overflow
            / jnp.asarray(self._particles * max(pieces, 1) * self._moves, total.dtype),
        )

    def estimates(
        self, state: PseudoMarginalState, key: Array, n: int, model_args: tuple, model_kwargs: dict | None
    ) -> tuple[dict[str, Array], Array, SweepReport]:
        """Paths, estimates of the log-evidence (n,) and reports of n filters at the parameters of a state."""
        given = self._given(*parted(state.z, HIDDEN), model_args, model_kwargs)
        one = lambda key: self._filter(self._keys(key), model_args, given)
        return lax.map(one, jax.random.split(key, n))

    def _move(
        self, state: PseudoMarginalState, key: Array, args: tuple, kwargs: dict | None
    ) -> tuple[PseudoMarginalState, Array, Array]:
        step_key, path_key, which_key, accept_key = jax.random.split(key, 4)
        keys = self._keys(path_key)
        if self._refreshed < 1:
            anew = jax.random.uniform(which_key, keys.shape) < self._refreshed
            keys = jnp.where(anew, keys, state.keys)
        free, paths = parted(state.z, HIDDEN)
        flat, unravel = ravel_pytree(free)
        proposed, ratio = self._proposed(state, flat, step_key)
        proposed = unravel(proposed)
        given = self._given(proposed, paths, args, kwargs)
        found, evidence, report = self._filter(keys, args, given)
        energy = prior_energy(self._conditioned, proposed, paths, args, kwargs) - evidence
        energy = jnp.where(jnp.isnan(energy), jnp.inf, energy)
        probability = jnp.exp(jnp.minimum(state.potential_energy - energy + ratio, 0.0))
        probability = jnp.where(jnp.isnan(probability), 0.0, probability).astype(flat.dtype)
        accepted = jax.random.uniform(accept_key) < probability
        either = lambda new, old: jnp.where(accepted, new, old).astype(old.dtype)
        state = state._replace(
            z=jax.tree.map(either, {**proposed, **found}, state.z),
            log_evidence=either(evidence, state.log_evidence),
            potential_energy=either(energy, state.potential_energy),
            keys=jnp.where(accepted, keys, state.keys),
            moved=state.moved + accepted,
            particle_ess=report.particle_ess.astype(state.particle_ess.dtype),
        )
        return state, probability, report.overflow

    def _proposed(self, state: PseudoMarginalState, flat: Array, key: Array) -> tuple[Array, Array]:
        """Parameters (d,), and the log of the ratio of the t law at the old ones to that at the new ones."""
        scale_key, noise_key, share_key = jax.random.split(key, 3)
        d = len(flat)
        ridge = _RIDGE * _FIRST_SCALE**2 * jnp.eye(d, dtype=flat.dtype)
        root = jnp.linalg.cholesky(state.covariance + ridge)
        old = solve_triangular(root, flat - state.mean, lower=True)
        distance = jnp.sum(old**2)
        w = 2 * jax.random.gamma(scale_key, 0.5 * (_FREEDOM + d), dtype=flat.dtype) / (_FREEDOM + distance)
        step = jnp.exp(state.log_step) * jnp.sqrt(jax.random.uniform(share_key, dtype=flat.dtype))
        noise = jax.random.normal(noise_key, (d,), flat.dtype) / jnp.sqrt(w)
        new = jnp.sqrt(1 - step**2) * old + step * noise
        growth = jnp.log1p(jnp.sum(new**2) / _FREEDOM) - jnp.log1p(distance / _FREEDOM)
        return state.mean + root @ new, 0.5 * (_FREEDOM + d) * growth

    def _adapted(self, state: PseudoMarginalState, probability: Array, n: Array) -> PseudoMarginalState:
        flat = ravel_pytree(parted(state.z, HIDDEN)[0])[0]
        n, on = n.astype(flat.dtype) + _OFFSET, state.i < state.num_warmup
        # moments over about the second half of what has been seen: few parameters, many dependent moves
        weight, faster = 2.0 / (n + _OFFSET) * on, n**-_FORGETTING * on
        away = flat - state.mean
        return state._replace(
            mean=state.mean + weight * away,
            covariance=state.covariance + weight * (jnp.outer(away, away) - state.covariance),
            log_step=jnp.minimum(state.log_step + faster * (probability - self._target), 0.0),
        )

    def _keys(self, key: Array) -> Array:
        """Keys of all random numbers of a filter: several, if moves are to keep some of them."""
        key = typed(key)
        return jax.random.split(key, _GROUPS) if self._refreshed < 1 else key

    def _given(
        self, free: dict[str, Array], paths: dict[str, Array], args: tuple, kwargs: dict | None
    ) -> Any:
        """Keyword arguments that condition the model on unconstrained parameters, and on paths."""
        constrained = constrain_fn(self._conditioned, args, with_conditioning(kwargs, paths), free)
        return with_conditioning(kwargs, {**constrained, **paths})

    def _filter(self, keys: Array, args: tuple, given: dict | None) -> tuple:
        return filtered_paths(self._conditioned, keys, self._particles, args, given)
