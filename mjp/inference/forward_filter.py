"""The scaled forward filter of finite-state paths, with its derivative written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.potentials.categorical import Categorical
from mjp.inference.segments import Segments, segment_sum

type Selection = tuple[np.ndarray, Segments] | None


def forward_filter(initial: Array, matrices: Array, index: np.ndarray | None, nodes: Categorical) -> Array:
    r"""Log-increments $\log p(y_t \mid y_{0:t-1})$ along S paths of L edges.

    The filter stays in probability scale. Each step divides by the total of the step before, so that
    the product with the matrix does not wait for the sum; the total of a step is then its increment.
    Increments are logged outside the scan and never accumulated inside it, so that float32 keeps its
    accuracy over long series.

    The derivative is one backward recursion for the adjoint of the filter. With weights $w_t$ on the
    increments the adjoint of the normalised law has inner product $w_{t+1}$ with that law, which saves
    a reduction per step; derivatives with respect to the matrices are products over all steps at once.

    Args:
        initial: (S, K) law of the first state; need not sum to one.
        matrices: (U, K, K) distinct transition matrices.
        index: (L, S) matrix of each edge; None when all edges use the single one there is. Entries
            beyond the end of a path hold U - 1, which must then be the identity.
        nodes: (L + 1, S, K) potential of the observations at each node.

    Returns:
        (L + 1, S) increments; -inf where the observations are impossible.
    """
    selection = None
    if index is not None:
        real = np.flatnonzero(np.asarray(index).reshape(-1) < matrices.shape[0] - 1)
        selection = (real, Segments(np.asarray(index).reshape(-1)[real], matrices.shape[0]))
    totals = _totals(initial, matrices, nodes.values, index, selection)
    return jnp.log(totals) + nodes.log_scale


def _joints(initial: Array, matrices: Array, likelihoods: Array, index: np.ndarray | None) -> Array:
    """Joint laws p(x_t, y_t | y_{0:t-1}) of state and likelihood, (L + 1, S, K)."""
    tiny = jnp.finfo(likelihoods.dtype).tiny

    def step(joint: Array, x: tuple[Array, Array | None]) -> tuple[Array, Array]:
        likelihood, which = x
        total = jnp.maximum(jnp.sum(joint, axis=-1, keepdims=True), tiny)
        joint = _forward(joint, matrices, which) * (likelihood / total)
        return joint, joint

    first = initial * likelihoods[0]
    _, joints = lax.scan(step, first, (likelihoods[1:], index))
    return jnp.concatenate([first[None], joints])


def _forward(law: Array, matrices: Array, which: Array | None) -> Array:
    if which is None:
        return law @ matrices[0]
    return jnp.einsum("si,sij->sj", law, matrices[which])


def _backward(potential: Array, matrices: Array, which: Array | None) -> Array:
    if which is None:
        return potential @ matrices[0].T
    return jnp.einsum("sij,sj->si", matrices[which], potential)


@jax.custom_vjp
def _totals(
    initial: Array, matrices: Array, likelihoods: Array, index: np.ndarray | None, selection: Selection
) -> Array:
    return jnp.sum(_joints(initial, matrices, likelihoods, index), axis=-1)


def _totals_forward(
    initial: Array, matrices: Array, likelihoods: Array, index: np.ndarray | None, selection: Selection
) -> tuple[Array, tuple]:
    joints = _joints(initial, matrices, likelihoods, index)
    totals = jnp.sum(joints, axis=-1)
    return totals, (initial, matrices, likelihoods, index, selection, joints, totals)


def _totals_backward(residuals: tuple, cotangent: Array) -> tuple:
    initial, matrices, likelihoods, index, selection, joints, totals = residuals
    weights = cotangent * totals  # on the logarithms of the totals
    safe = jnp.maximum(totals, jnp.finfo(totals.dtype).tiny)
    gains = likelihoods / safe[..., None]
    shifts = jnp.append(weights[:-1] - weights[1:], weights[-1:], axis=0)

    def step(adjoint: Array, x: tuple) -> tuple[Array, Array]:
        gain, shift, which = x
        adjoint = _backward(adjoint * gain, matrices, which) + shift
        return adjoint, adjoint

    last = jnp.broadcast_to(shifts[-1][..., None], joints[0].shape)
    xs = (gains[1:], shifts[:-1, :, None], index)
    _, adjoints = lax.scan(step, last, xs, reverse=True)
    adjoints = jnp.concatenate([adjoints, last[None]])

    laws, pulled = joints[:-1] / safe[:-1, :, None], (adjoints * gains)[1:]
    n_states = laws.shape[-1]
    laws, pulled = laws.reshape(-1, n_states), pulled.reshape(-1, n_states)
    if selection is None:
        matrices_bar = (laws.T @ pulled)[None]
    else:
        real, segments = selection
        matrices_bar = segment_sum(laws[real][:, :, None] * pulled[real][:, None, :], segments)
    joint_bar = adjoints / safe[..., None]
    predicted = joints / jnp.where(likelihoods > 0, likelihoods, 1.0)
    return joint_bar[0] * likelihoods[0], matrices_bar, predicted * joint_bar, None, None


_totals.defvjp(_totals_forward, _totals_backward)
