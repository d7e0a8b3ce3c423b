"""Jump diffusions of one coordinate: a diffusion with normal jumps at random times."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln

from mjp._checks import as_numbers, check_count, check_scalar, is_concrete
from mjp.processes.gaussian import GaussianProcess, Interval, abstractly, with_covariates


class JumpDiffusion(GaussianProcess):
    r"""$dX = b(t, X) dt + \sigma(t, X) dW + dJ$, jumps $N(m, s^2)$ at rate $\lambda(t, X)$ (Merton 1976).

    An edge is cut into steps, and the discretised process is the model: coefficients are those at the start
    of a step, whose law is a mixture of normal laws over the number of jumps, Poisson up to `max_jumps`. With
    coefficients that do not depend on state and time, the steps have the law of the process itself.

    The guide's potentials are Gaussian, from steps with matched moments whose variance is enlarged
    (`defence`), since a Gaussian knows nothing of what one jump may still do; guided steps are mixtures,
    tilted exactly, and smooth functions of their innovations.

    Args:
        drift, dispersion, rate: b, σ and λ: numbers (for dispersion and rate), or functions of (t, x), or of
            (t, x, covariates), with x (1,), to one number.
        jump_mean, jump_deviation: m and s > 0.
        max_jumps: most jumps of a step; choose steps so short that more have a negligible probability.
        defence: factor >= 1 of the variance of the auxiliary steps.

    Raises:
        ValueError: numbers out of range, functions that do not return one number.
        TypeError: a drift that is not a function.

    Example:
        >>> merton = mjp.JumpDiffusion(lambda t, x: 0.2, 0.4, rate=3.0, jump_mean=0.5, jump_deviation=0.3)
        >>> graph = mjp.chain(merton, times, initial=0.0, steps=10)
    """

    drift_function: Callable = eqx.field(static=True)
    functions: tuple[Callable | None, ...] = eqx.field(static=True)  # of dispersion and rate
    values: tuple
    jump_mean: Any
    jump_deviation: Any
    max_jumps: int = eqx.field(static=True)
    defence: float = eqx.field(static=True)
    dim: int = eqx.field(static=True, default=1, init=False)
    noise_dim: int = eqx.field(static=True, default=1, init=False)
    linear: bool = eqx.field(static=True, default=False, init=False)
    constant_noise: bool = eqx.field(static=True, default=False, init=False)
    continuous: bool = eqx.field(static=True, default=True, init=False)
    mixture: ClassVar[bool] = True

    def __init__(
        self,
        drift: Callable,
        dispersion: Any,
        rate: Any,
        jump_mean: Any,
        jump_deviation: Any,
        *,
        max_jumps: int = 5,
        defence: float = 1.5,
    ):
        if not callable(drift):
            raise TypeError(f"drift must be a function of (t, x), got {type(drift).__name__}")
        self.drift_function = _of_state("drift", drift)
        functions, values = [], []
        for name, value in (("dispersion", dispersion), ("rate", rate)):
            functions.append(_of_state(name, value) if callable(value) else None)
            values.append(None if callable(value) else _number(name, value, least=0.0))
        self.functions, self.values = tuple(functions), tuple(values)
        self.jump_mean = _number("jump_mean", jump_mean)
        self.jump_deviation = _number("jump_deviation", jump_deviation, least=0.0)
        check_count("max_jumps", max_jumps)
        if not defence >= 1:
            raise ValueError(f"defence must be >= 1, got {defence!r}")
        self.max_jumps, self.defence = max_jumps, float(defence)

    def coefficients(self, x: Array, at: Interval) -> tuple[Array, Array, Array]:
        """Drift, dispersion and jump rate, scalars, at the start of a step from x (1,)."""
        dtype = jnp.result_type(float)
        call = lambda f: jnp.asarray(f(at.time, x, at.covariates), dtype).reshape(())
        dispersion, rate = (
            jnp.asarray(value, dtype) if function is None else call(function)
            for function, value in zip(self.functions, self.values, strict=True)
        )
        return call(self.drift_function), dispersion, rate

    def step(self, x: Array, at: Interval) -> tuple[Array, Array]:
        """Mean (1,) and deviation (1, 1) of a step, jumps included, as if it were normal."""
        drift, dispersion, rate = self.coefficients(x, at)
        square = self.jump_mean**2 + self.jump_deviation**2
        variance = (dispersion**2 + rate * square) * at.duration
        mean = x + (drift + rate * self.jump_mean) * at.duration
        return mean, jnp.sqrt(variance).reshape(1, 1)

    def components(self, x: Array, at: Interval) -> tuple[Array, Array, Array]:
        """Log-probabilities, means and deviations (n,) of a step from x (1,), given 0, 1, … jumps."""
        drift, dispersion, rate = self.coefficients(x, at)
        number = jnp.arange(self.max_jumps + 1.0)
        expected = rate * at.duration
        positive = jnp.where(expected > 0, expected, 1.0)
        log_p = jnp.where(number > 0, number * jnp.log(positive) - gammaln(number + 1.0), 0.0)
        log_p = jnp.where((number > 0) & (expected <= 0), -jnp.inf, log_p)
        means = x[0] + drift * at.duration + number * self.jump_mean
        variances = dispersion**2 * at.duration + number * self.jump_deviation**2
        return jax.nn.log_softmax(log_p), means, jnp.sqrt(variances)


def _of_state(name: str, function: Callable) -> Callable:
    """A user's function of (t, x), or of (t, x, covariates), to one number."""
    found = with_covariates(name, function, 2)
    state, time = jax.ShapeDtypeStruct((1,), jnp.result_type(float)), jnp.ones(())
    shape = abstractly(lambda c: jax.eval_shape(lambda x: jnp.asarray(found(time, x, c)), state)).shape
    if shape not in ((), (1,)):
        raise ValueError(f"{name} must return one number, got shape {shape}")
    return found


def _number(name: str, value: Any, least: float | None = None) -> Any:
    value = as_numbers(name, value)
    if is_concrete(value):
        try:
            value = np.asarray(value, float) if not isinstance(value, Array) else value
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be one number, got {value!r}") from None
    check_scalar(name, value)
    if least is not None and is_concrete(value) and not value > least:
        raise ValueError(f"{name} must be positive, got {value:g}")
    return value
