"""Preconditioned Crank–Nicolson steps on blocks of innovations."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from mjp._checks import check_count
from mjp.inference.kernels.innovations import InnovationKernel, InnovationState


class CrankNicolson(InnovationKernel):
    r"""Blocked pCN: $z_b' = \rho z_b + \sqrt{1 - \rho^2}\, \xi$, accepted by the likelihood alone.

    The step $\beta_b = \sqrt{1 - \rho_b^2}$ of each block is adapted during warm-up (Robbins–Monro) and then
    kept. Blocks are stretches of the flat vector of innovations, hence of time on a chain; every other
    sweep they are shifted by half a block, so that no boundary stays where it is. Cost per sweep: one
    evaluation of the model per block. The acceptance does not depend on the number of steps of the
    discretisation (Cotter, Roberts, Stuart & White 2013).

    Args:
        model, sites: see `InnovationKernel`.
        blocks: number of blocks.
        target_accept: acceptance probability of each block during adaptation.
        step_size: first β, in (0, 1]; 1 proposes independently of the current value.
        adapt: whether to adapt β.
    """

    def __init__(
        self,
        model: Callable,
        sites: Sequence[str] | None = None,
        *,
        blocks: int = 1,
        target_accept: float = 0.3,
        step_size: float = 0.3,
        adapt: bool = True,
    ):
        super().__init__(model, sites, target_accept)
        check_count("blocks", blocks)
        if not 0 < step_size <= 1:
            raise ValueError(f"step_size must be in (0, 1], got {step_size!r}")
        self._blocks, self._first, self._adapt = blocks, step_size, adapt

    def _step_sizes(self, size: int) -> Array:
        n_offsets, n_blocks = self._masks(size).shape[:2]
        return jnp.full((n_offsets, n_blocks), self._first)

    def _masks(self, size: int) -> np.ndarray:
        """Members of each block, (n_offsets, n_blocks, size); a block may be empty."""
        n = min(self._blocks, size)
        if n == 1:
            return np.ones((1, 1, size), dtype=bool)
        block = -(-size // n)
        position = np.arange(size)
        owner = np.stack([position // block, (position + block // 2) // block])
        return owner[:, None, :] == np.arange(owner.max() + 1)[None, :, None]

    def sample(self, state: InnovationState, model_args: tuple, model_kwargs: dict | None) -> InnovationState:
        """One sweep over all blocks."""
        flat, unravel = ravel_pytree(state.z)
        evaluate = self._log_likelihood(unravel, model_args, model_kwargs)
        masks = jnp.asarray(self._masks(flat.size))
        offset = state.i % masks.shape[0]
        key, following = jax.random.split(state.rng_key)
        rate = jnp.where(self._adapt & (state.i < state.num_warmup), (state.i + 1.0) ** -0.6, jnp.zeros(()))

        def update(carry: tuple[Array, Array], x: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            z, current = carry
            mask, beta, key = x
            noise_key, accept_key = jax.random.split(key)
            noise = jax.random.normal(noise_key, z.shape, z.dtype)
            proposal = jnp.where(mask, jnp.sqrt(1 - beta**2) * z + beta * noise, z)
            value = evaluate(proposal)
            probability = jnp.exp(jnp.minimum(value - current, 0.0))
            accepted = jax.random.uniform(accept_key) < probability
            z, current = jnp.where(accepted, proposal, z), jnp.where(accepted, value, current)
            raised = jnp.exp(jnp.log(beta) + rate * (probability - self._target))
            return (z, current), (jnp.clip(raised, 1e-6, 1.0), probability)

        xs = (masks[offset], state.step_size[offset], jax.random.split(key, masks.shape[1]))
        (flat, value), (sizes, accepted) = lax.scan(update, (flat, state.log_likelihood), xs)
        filled = jnp.any(masks[offset], axis=1)
        accept = jnp.sum(jnp.where(filled, accepted, 0.0)) / jnp.sum(filled)
        state = state._replace(
            z=unravel(flat),
            log_likelihood=value,
            step_size=state.step_size.at[offset].set(sizes),
            rng_key=following,
        )
        return self._finish(state, accept)
