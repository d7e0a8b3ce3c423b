"""Backward filter and guided draw along finite-state paths."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.potentials.categorical import Categorical


@jax.jit  # called outside compiled functions, operations would compile one by one
def backward_filter(matrices: Array, index: np.ndarray, nodes: Categorical) -> Categorical:
    r"""Potentials $g_t = \ell_t \cdot (\kappa_{t+1} g_{t+1})$ along S paths (van der Meulen & Schauer, §3).

    Args:
        matrices: (U, K, K); index: (L, S) matrix of each edge.
        nodes: (L + 1, S, K) potential of the observations at each node.

    Returns:
        (L + 1, S, K) potentials g with values normalised; the pulled-back part is `matrices @ g`.
    """

    def step(child: Categorical, x: tuple[Array, Array, Array]) -> tuple[Categorical, Categorical]:
        which, values, log_scale = x
        pulled = jnp.einsum("sij,sj->si", matrices[which], child.values)
        # scales stay local to a step: the evidence is computed elsewhere, and nothing accumulates
        potential = Categorical(pulled * values, log_scale).normalise()
        return potential, potential

    last = Categorical(nodes.values[-1], nodes.log_scale[-1]).normalise()
    xs = (jnp.asarray(index), nodes.values[:-1], nodes.log_scale[:-1])
    _, filtered = lax.scan(step, last, xs, reverse=True)
    return Categorical(
        jnp.concatenate([filtered.values, last.values[None]]),
        jnp.concatenate([filtered.log_scale, last.log_scale[None]]),
    )


@jax.jit
def guided_states(
    initial: Array, matrices: Array, index: np.ndarray, potentials: Categorical, uniforms: Array
) -> Array:
    """States drawn from the conditioned kernel, one uniform number per node.

    Args:
        initial: (S, K) weights of the first state, before its potential.
        potentials: (L + 1, S, K) from `backward_filter`; uniforms: (L + 1, S).

    Returns:
        (L + 1, S) states.
    """

    def step(state: Array, x: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        which, values, uniform = x
        rows = jnp.take_along_axis(matrices[which], state[:, None, None], axis=1)[:, 0]
        state = draw(rows * values, uniform)
        return state, state

    first = draw(initial * potentials.values[0], uniforms[0])
    _, states = lax.scan(step, first, (jnp.asarray(index), potentials.values[1:], uniforms[1:]))
    return jnp.concatenate([first[None], states])


@jax.jit
def draw(weights: Array, uniform: Array) -> Array:
    """Draw a category by inverting the cumulative sum of non-negative weights (..., K)."""
    cumulative = jnp.cumsum(weights, axis=-1)
    # never beyond the last category of positive weight, whatever the rounding of the sum
    target = uniform * cumulative[..., -1]
    below = jnp.sum(cumulative <= target[..., None], axis=-1)
    last = weights.shape[-1] - 1
    last_positive = jnp.max(jnp.where(weights > 0, np.arange(last + 1), -1), axis=-1)
    last_positive = jnp.where(last_positive < 0, last, last_positive)
    return jnp.minimum(below, last_positive).astype(jnp.int32)
