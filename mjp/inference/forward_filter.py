"""The scaled forward filter of finite-state paths, with its derivative written by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.potentials.categorical import Categorical
from mjp.inference.segments import Segments, segment_sum

type Selection = tuple[np.ndarray, Segments] | None

_TINY, _SMALL = 6, 24  # numbers of states at which the fastest form of a product changes
_LONG = 2048  # steps from which unrolling a loop over tiny vectors repays its compilation


def forward_filter(initial: Array, matrices: Array, index: np.ndarray | None, nodes: Categorical) -> Array:
    r"""Log-increments $\log p(y_t \mid y_{0:t-1})$ along S paths of L edges.

    The filter stays in probability scale: each step multiplies the predicted law by the likelihood,
    moves it along the edge and divides by its total before the move, so that the product with the
    matrix need not wait for the sum. Totals are logged outside the scan and never accumulated inside
    it, so that float32 keeps its accuracy over long series.

    The derivative is one backward recursion for the adjoint of the filter. With weights $w_t$ on the
    increments the adjoint of a predicted law has inner product $w_t$ with that law, which saves a
    reduction per step; the derivative in a shared matrix is one product over all steps. Steps that are
    impossible, and those after them, contribute nothing to it.

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
        index = np.asarray(index)
        real = np.flatnonzero(index < matrices.shape[0] - 1)
        selection = (real, Segments(index.reshape(-1)[real], matrices.shape[0]))
        # the scan ends with a step whose prediction nobody reads
        index = np.concatenate([index, np.zeros_like(index[:1])])
    if initial.shape[0] == 1:  # a single path is a recursion of plain vectors
        index = None if index is None else index[:, 0]
        increments = _increments(initial[0], matrices, nodes.values[:, 0], index, selection)[:, None]
    else:  # paths last, because loops over the few states vectorise badly
        likelihoods = jnp.swapaxes(nodes.values, 1, 2)
        increments = _increments(initial.T, matrices, likelihoods, index, selection)
    return increments + nodes.log_scale


def _scan(
    initial: Array, matrices: Array, likelihoods: Array, index: np.ndarray | None
) -> tuple[Array, Array]:
    """Predicted laws (L + 1, K, ...) and the totals (L + 1, ...) of their products with the likelihoods."""
    smallest = jnp.finfo(likelihoods.dtype).tiny

    def step(predicted: Array, x: tuple[Array, Array | None]) -> tuple[Array, tuple[Array, Array]]:
        likelihood, which = x
        joint = predicted * likelihood
        total = jnp.sum(joint, axis=0)
        return _advance(joint, matrices, which) / jnp.maximum(total, smallest), (predicted, total)

    xs: Any = (likelihoods, index)
    return lax.scan(step, initial, xs, unroll=_unroll(likelihoods))[1]


def _unroll(likelihoods: Array) -> int:
    """Steps per iteration of a scan; with a few states the loop itself costs as much as a step."""
    tiny = likelihoods.ndim == 2 and likelihoods.shape[1] <= _TINY
    return 8 if tiny and len(likelihoods) >= _LONG else 1


def _advance(laws: Array, matrices: Array, which: Array | None) -> Array:
    """Laws (K, ...) after a move with the selected matrices; each form is the fastest for its size."""
    n_states, single = laws.shape[0], laws.ndim == 1
    if which is not None:
        selected = matrices[which] if single else jnp.moveaxis(matrices[which], 0, -1)
        return jnp.sum(laws[:, None] * selected, axis=0)
    matrix = matrices[0]
    if n_states > _SMALL and single:
        # XLA's product with a vector reads eight columns at a time
        return (laws @ jnp.pad(matrix, ((0, 0), (0, -n_states % 8))))[:n_states]
    if n_states > _SMALL or (n_states <= _TINY and single):
        return matrix.T @ laws
    return jnp.sum(laws[:, None] * (matrix if single else matrix[:, :, None]), axis=0)


@jax.custom_vjp
def _increments(
    initial: Array, matrices: Array, likelihoods: Array, index: np.ndarray | None, selection: Selection
) -> Array:
    return jnp.log(_scan(initial, matrices, likelihoods, index)[1])


def _increments_forward(
    initial: Array, matrices: Array, likelihoods: Array, index: np.ndarray | None, selection: Selection
) -> tuple[Array, tuple]:
    predicted, totals = _scan(initial, matrices, likelihoods, index)
    return jnp.log(totals), (matrices, likelihoods, index, selection, predicted, totals)


def _increments_backward(residuals: tuple, weights: Array) -> tuple:
    matrices, likelihoods, index, selection, predicted, totals = residuals
    # the barrier keeps XLA from folding the transposition into a slower product
    transposed = lax.optimization_barrier(jnp.swapaxes(matrices, -1, -2))

    def step(carry: tuple[Array, Array], x: tuple) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        potential, later_weight = carry  # adjoint of the next predicted law; its product with that law
        law, likelihood, total, weight, which = x
        possible = total > 0
        scale = jnp.where(possible, 1 / total, 0)
        weight = jnp.where(possible, weight, 0)
        gain = likelihood * scale
        adjoint = _advance(potential, transposed, which) + (weight - later_weight)
        return (adjoint * gain, weight), (law * gain, potential, law * adjoint * scale)

    start = (jnp.zeros_like(likelihoods[0]), jnp.zeros_like(weights[0]))
    xs = (predicted, likelihoods, totals, weights, index)
    (initial_bar, _), (laws, potentials, likelihoods_bar) = lax.scan(
        step, start, xs, reverse=True, unroll=_unroll(likelihoods)
    )
    if selection is None:
        shared = "tis,tjs->ij" if laws.ndim == 3 else "ti,tj->ij"
        matrices_bar = jnp.einsum(shared, laws, potentials)[None]
    else:
        real, segments = selection
        laws, potentials = (_by_edge(value)[real] for value in (laws, potentials))
        matrices_bar = segment_sum(laws[:, :, None] * potentials[:, None, :], segments)
    return initial_bar, matrices_bar, likelihoods_bar, None, None


def _by_edge(values: Array) -> Array:
    """Vectors (L + 1, K, ...) of all edges in a row, ((L + 1) S, K)."""
    return jnp.moveaxis(values, 1, -1).reshape(-1, values.shape[1])


_increments.defvjp(_increments_forward, _increments_backward)
