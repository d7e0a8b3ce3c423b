"""Switching diffusions: a Markov jump process of regimes, each with a drift and a dispersion of its own."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import as_numbers, check_stochastic, is_concrete
from mjp.processes.diffusion import Diffusion
from mjp.processes.gaussian import GaussianProcess, Interval
from mjp.processes.markov_jump import MarkovJump, Rates
from mjp.processes.process import Process


class SwitchingDiffusion(Process):
    r"""$dX = b_R(t, X) dt + \sigma_R(t, X) dW$, where the regime R is a Markov jump process that nobody sees.

    An edge is cut into steps, and the discretised process is the model: a step is that of the diffusion of
    one regime, the regime at the middle of the step (Strang splitting). The law of the regimes of all steps
    is exact, whatever the steps. Steps of a regime have a covariance of full rank.

    Regimes are never sampled while parameters are inferred: given the path they are a hidden Markov chain,
    whose filter makes the density of the path (Hamilton 1989, Econometrica 57:357, eq. 22.4.5 of his book).
    A path that is seen without error at every step has an exact likelihood. Any other path is guided, with
    sums of Gaussian potentials for each regime; its steps are mixtures over the regimes, tilted exactly, and
    smooth in their innovations. Regimes are drawn afterwards, given the path. Guides know little of changes
    that are rare and that the data need: look at the effective sample size of `mjp.evidence`. Where every
    regime is linear and observations are Gaussian, `mjp.smc` integrates the state out instead, and its
    particles are regimes alone.

    Args:
        regimes: for each regime by its label a pair (drift, dispersion) as for `mjp.Diffusion`, or a
            `mjp.Diffusion` or `mjp.LinearDiffusion`. At least two.
        rates: of switching, per unit of time, as for `mjp.MarkovJump`: {(from, to): rate}, a matrix in the
            order of the regimes, or a function of covariates to either.
        dim: number of coordinates.
        initial: law of the first regime: probabilities (K,) in the order of the regimes, or by label, or the
            label of the regime itself; default the stationary law of the rates.
        defence: factor >= 1 of the variance of the guide's steps, since a Gaussian knows nothing of what a
            change of regime may still do.

    Raises:
        ValueError, TypeError: fewer than two regimes, a drift or dispersion of the wrong shape (the message
            names the regime), rates as for `mjp.MarkovJump`, an initial law that is none.

    Example:
        >>> index = mjp.SwitchingDiffusion(
        ...     {"calm": (lambda t, x: 0.05, 0.6), "wild": (lambda t, x: -0.1, 2.0)},
        ...     rates={("calm", "wild"): 0.01, ("wild", "calm"): 0.03},
        ... )
        >>> graph = mjp.chain(index, days, initial=log_price[0]).observe_each(mjp.Exactly(), log_price)
    """

    diffusions: tuple[GaussianProcess, ...]
    switching: MarkovJump
    initial: Any  # (K,), or None for the stationary law
    defence: float = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    continuous: bool = eqx.field(static=True, default=True, init=False)

    def __init__(
        self,
        regimes: Mapping[Hashable, Any],
        rates: Rates,
        dim: int = 1,
        *,
        initial: Any = None,
        defence: float = 1.25,
    ):
        if not isinstance(regimes, Mapping):
            raise TypeError(f"regimes must map labels to (drift, dispersion), got {type(regimes).__name__}")
        if len(regimes) < 2:
            raise ValueError(f"regimes must be at least two, got {list(regimes)}")
        self.dim = dim
        self.diffusions = tuple(_diffusion(label, given, dim) for label, given in regimes.items())
        self.switching = MarkovJump(rates, states=list(regimes))
        self.initial = _initial_law(initial, self.switching)
        if not defence >= 1:
            raise ValueError(f"defence must be >= 1, got {defence!r}")
        self.defence = float(defence)

    @property
    def regimes(self) -> tuple:
        """Labels of the regimes."""
        return self.switching.states

    @property
    def n_regimes(self) -> int:
        return len(self.diffusions)

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))

    def first_regime(self) -> Array:
        """Law of the regime at the start, (K,)."""
        if self.initial is not None:
            return jnp.asarray(self.initial, jnp.result_type(float))
        return stationary_law(self.switching.generator({})[0])

    def steps(self, x: Array, at: Interval) -> tuple[Array, Array]:
        """Means (d, K) and covariances (d, d, K) of a step from the state x (d,), regime by regime."""
        found = [diffusion.step(x, at) for diffusion in self.diffusions]
        # written out, since XLA executes a batch of small matrix products one scalar at a time
        covariances = [jnp.sum(factor[:, None] * factor, axis=-1) for _, factor in found]
        return jnp.stack([mean for mean, _ in found], -1), jnp.stack(covariances, -1)


@jax.jit  # called outside compiled functions, operations would compile one by one
def stationary_law(generator: Array) -> Array:
    """The law π (K,) with π Q = 0, of a generator (K, K) with a single one."""
    # in units of the largest rate; π Q = 0 and π 1 = 1 added up have exactly one solution
    scaled = generator / jnp.max(-jnp.diagonal(generator))
    return jnp.linalg.solve((scaled + 1.0).T, jnp.ones(len(generator), generator.dtype))


def _diffusion(label: Hashable, given: Any, dim: int) -> GaussianProcess:
    name = f"regimes[{label!r}]"
    if isinstance(given, GaussianProcess):
        if given.mixture or not given.continuous:
            raise TypeError(f"{name} must be a diffusion, got {type(given).__name__}")
        found = given
    elif isinstance(given, tuple | list) and len(given) == 2:
        try:
            found = Diffusion(given[0], given[1], dim)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
    else:
        raise TypeError(f"{name} must be a pair (drift, dispersion) or a mjp.Diffusion, got {given!r}")
    if found.chart is not None:
        raise ValueError(f"{name} must have support='real', got the support {found.chart}")
    if found.dim != dim:
        raise ValueError(f"{name} must have dim={dim} coordinates, got {found.dim}")
    if found.noise_dim < dim:
        raise ValueError(
            f"{name} must have a noise of full rank, a dispersion of shape ({dim},) or ({dim}, {dim}); got "
            f"one of rank {found.noise_dim}"
        )
    return found


def _initial_law(initial: Any, switching: MarkovJump) -> Any:
    labels = switching.states
    if initial is None:
        if switching.function is not None:
            raise ValueError("initial must be given where rates depend on covariates, got None")
        generator = switching.generator({})[0]
        if is_concrete(generator):
            # the number of stationary laws is that of eigenvalues zero
            values = np.linalg.eigvals(np.asarray(generator))
            if np.sum(np.abs(values) <= 1e-10 * np.abs(values).max(initial=0.0)) != 1:
                raise ValueError("initial must be given where rates have no unique stationary law, got None")
        return None
    if isinstance(initial, Mapping):
        unknown = [label for label in initial if label not in labels]
        if unknown:
            raise ValueError(f"initial names {unknown[0]!r}, which is not one of the regimes {list(labels)}")
        initial = [initial.get(label, 0.0) for label in labels]
    elif not isinstance(initial, Sequence | np.ndarray | Array) or isinstance(initial, str):
        if initial not in labels:
            raise ValueError(f"initial must be a law of the regimes {list(labels)}, got {initial!r}")
        initial = [float(label == initial) for label in labels]
    law = as_numbers("initial", initial)
    if np.shape(law) != (len(labels),):
        raise ValueError(f"initial must have one probability per regime ({len(labels)}), got {np.shape(law)}")
    check_stochastic("initial", law, "regimes")
    return law
