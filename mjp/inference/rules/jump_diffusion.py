"""Rules of jump diffusions: Gaussian potentials, and mixtures of normal steps that are tilted exactly."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp, ndtr

from mjp.inference.potentials.canonical import Canonical
from mjp.inference.rules.gaussian import GaussianRule, LinearSteps, Step
from mjp.inference.rules.registry import register
from mjp.processes.gaussian import GaussianProcess, Interval
from mjp.processes.jump_diffusion import JumpDiffusion

_HALVINGS, _REACH = 40, 12.0


@register(JumpDiffusion)
class JumpDiffusionRule(GaussianRule):
    """Steps are mixtures over the number of jumps; the auxiliary has one normal step for all."""

    def linearise(self, process: GaussianProcess, step: Step, anchor: Array, at: Interval) -> LinearSteps:
        """The expansion of steps with matched moments, their variance enlarged."""
        assert isinstance(process, JumpDiffusion)
        steps = super().linearise(process, step, anchor, at)
        return steps._replace(factor=steps.factor * process.defence**0.5)

    def guided_step(
        self, process: JumpDiffusion, x: Array, at: Interval, ahead: Canonical, z: Array
    ) -> Array:
        """Steps from x (1, ...) towards a potential, by the quantile of the tilted mixture at Φ(z)."""

        def one(x: Array, at: Interval, linear: Array, precision: Array, z: Array) -> Array:
            terms, means, deviations = _tilted(process, x, at, linear, precision)
            return _mixture_quantile(jax.nn.softmax(terms), means, deviations, z[0])[None]

        return _over_batch(one, x.ndim)(x, at, ahead.linear[0], ahead.precision[0, 0], z)

    def log_pulled(self, process: JumpDiffusion, x: Array, at: Interval, ahead: Canonical) -> Array:
        r"""$\log (\kappa g)(x)$, without the constant of g, for states x (1, ...)."""

        def one(x: Array, at: Interval, linear: Array, precision: Array) -> Array:
            return logsumexp(_tilted(process, x, at, linear, precision)[0])

        return _over_batch(one, x.ndim)(x, at, ahead.linear[0], ahead.precision[0, 0])


def _tilted(
    process: JumpDiffusion, x: Array, at: Interval, linear: Array, precision: Array
) -> tuple[Array, Array, Array]:
    """Logs of the weights of each component times the potential, and tilted means and deviations."""
    log_p, means, deviations = process.components(x, at)
    variances = deviations**2
    scale = 1.0 + variances * precision
    value = (linear * means - 0.5 * precision * means**2 + 0.5 * variances * linear**2) / scale
    return (
        log_p + value - 0.5 * jnp.log(scale),
        (means + variances * linear) / scale,
        deviations / jnp.sqrt(scale),
    )


def _mixture_quantile(weights: Array, means: Array, deviations: Array, z: Array) -> Array:
    """The quantile at Φ(z) of a mixture of normal laws, by bisection; its derivative is implicit."""
    upper = z > 0
    tail = jnp.where(upper, ndtr(-z), ndtr(z))
    sign = jnp.where(upper, -1.0, 1.0)

    def residual(x: Array) -> Array:
        """Increasing in x."""
        return sign * (jnp.sum(weights * ndtr(sign * (x - means) / deviations)) - tail)

    reach = _REACH + jnp.abs(z)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        below = residual(middle) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    start = (jnp.min(means - reach * deviations), jnp.max(means + reach * deviations))
    low, high = lax.fori_loop(0, _HALVINGS, halve, lax.stop_gradient(start))
    found = lax.stop_gradient(0.5 * (low + high))
    standard = (found - means) / deviations
    density = jnp.sum(weights * jnp.exp(-0.5 * standard**2) / deviations) / jnp.sqrt(2.0 * jnp.pi)
    return found - residual(found) / lax.stop_gradient(density)


def _over_batch(function, n_axes: int):
    """Map a function of states (1,) over batch axes that come last."""
    for _ in range(n_axes - 1):
        function = jax.vmap(function, in_axes=-1, out_axes=-1)
    return function
