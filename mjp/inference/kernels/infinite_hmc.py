"""Hamiltonian steps on innovations whose acceptance does not depend on their number."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from mjp._checks import check_count
from mjp.inference.kernels.innovations import InnovationKernel, InnovationState


class InfiniteHMC(InnovationKernel):
    r"""∞-HMC (Beskos, Pinski, Sanz-Serna & Stuart 2011; Beskos et al. 2017).

    With $H = \tfrac12 |z|^2 + \tfrac12 |v|^2 - \ell(z)$ a step is half a kick $v \mathrel{+}= \tfrac{h}{2}
    \nabla \ell$, a rotation of (z, v), which solves the Gaussian part exactly, and another half a kick. One
    step per draw is ∞-MALA. The energy error is summed from the kicks, so that |z|² never enters.

    Args:
        model, sites: see `InnovationKernel`.
        steps: steps per draw.
        target_accept: acceptance probability that the step size is adapted to during warm-up.
        step_size: first h, in radians. A trajectory turns by at most a right angle, which forgets the
            current value where the likelihood is flat; more would bring it back.
        adapt: whether to adapt h.
    """

    def __init__(
        self,
        model: Callable,
        sites: Sequence[str] | None = None,
        *,
        steps: int = 4,
        target_accept: float = 0.75,
        step_size: float = 0.4,
        adapt: bool = True,
    ):
        super().__init__(model, sites, target_accept)
        check_count("steps", steps)
        if not step_size > 0:
            raise ValueError(f"step_size must be positive, got {step_size!r}")
        self._steps, self._first, self._adapt = steps, step_size, adapt

    def _step_sizes(self, size: int) -> Array:
        return jnp.full((1, 1), min(self._first, np.pi / (2 * self._steps)))

    def refresh(self, state: Any, model_args: tuple, model_kwargs: dict | None) -> Any:
        flat, unravel = ravel_pytree(state.z)
        evaluate = jax.value_and_grad(self._log_likelihood(unravel, model_args, model_kwargs))
        value, gradient = evaluate(flat)
        potential = 0.5 * flat @ flat - value
        return state._replace(log_likelihood=value, gradient=gradient, potential_energy=potential)

    def sample(self, state: InnovationState, model_args: tuple, model_kwargs: dict | None) -> InnovationState:
        """One trajectory of rotations and kicks, accepted or not."""
        flat, unravel = ravel_pytree(state.z)
        evaluate = jax.value_and_grad(self._log_likelihood(unravel, model_args, model_kwargs))
        velocity_key, accept_key, following = jax.random.split(state.rng_key, 3)
        velocity = jax.random.normal(velocity_key, flat.shape, flat.dtype)
        h = state.step_size[0, 0]
        cosine, sine = jnp.cos(h), jnp.sin(h)

        def kick(velocity: Array, gradient: Array) -> tuple[Array, Array]:
            """Half a kick, and what it adds to half the squared velocity."""
            change = 0.5 * h * gradient
            return velocity + change, change @ velocity + 0.5 * change @ change

        def step(carry: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
            z, v, _value, gradient, kinetic = carry
            v, first = kick(v, gradient)
            z, v = cosine * z + sine * v, cosine * v - sine * z
            value, gradient = evaluate(z)
            v, second = kick(v, gradient)
            return (z, v, value, gradient, kinetic + first + second), None

        start = (flat, velocity, state.log_likelihood, state.gradient, jnp.zeros((), flat.dtype))
        (z, _turned, value, gradient, kinetic), _ = lax.scan(step, start, None, length=self._steps)
        error = value - state.log_likelihood - kinetic
        probability = jnp.where(jnp.isnan(error), 0.0, jnp.exp(jnp.minimum(error, 0.0)))
        accepted = jax.random.uniform(accept_key) < probability
        rate = jnp.where(self._adapt & (state.i < state.num_warmup), (state.i + 1.0) ** -0.6, jnp.zeros(()))
        raised = jnp.exp(jnp.log(h) + rate * (probability - self._target))
        state = state._replace(
            z=unravel(jnp.where(accepted, z, flat)),
            log_likelihood=jnp.where(accepted, value, state.log_likelihood),
            gradient=jnp.where(accepted, gradient, state.gradient),
            step_size=jnp.clip(raised, 1e-6, jnp.pi / (2 * self._steps))[None, None],
            rng_key=following,
        )
        return self._finish(state, probability)
