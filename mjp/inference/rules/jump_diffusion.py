"""Rules of jump diffusions: Gaussian potentials, and mixtures of normal steps that are tilted exactly."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from mjp.inference.mixture_draws import mixture_quantile
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.rules.gaussian import GaussianRule, LinearSteps, Step
from mjp.inference.rules.registry import register
from mjp.processes.gaussian import GaussianProcess, Interval
from mjp.processes.jump_diffusion import JumpDiffusion


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
            return mixture_quantile(jax.nn.softmax(terms), means, deviations, z[0])[None]

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


def _over_batch(function, n_axes: int):
    """Map a function of states (1,) over batch axes that come last."""
    for _ in range(n_axes - 1):
        function = jax.vmap(function, in_axes=-1, out_axes=-1)
    return function
