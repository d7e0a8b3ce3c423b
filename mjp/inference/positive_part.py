"""The positive semi-definite part of a symmetric matrix, with a derivative that is always finite."""

import jax
import jax.numpy as jnp
from jax import Array


def positive_part(matrix: Array) -> Array:
    """Symmetric matrix (d, d) with its negative eigenvalues set to zero."""
    if matrix.shape[-1] == 1:
        return jnp.maximum(matrix, 0.0)
    return _positive_part(matrix)


@jax.custom_jvp
def _positive_part(matrix: Array) -> Array:
    values, vectors = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * jnp.maximum(values, 0.0)) @ vectors.T


@_positive_part.defjvp
def _derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    r"""Daleckii–Krein: divided differences of $\max(\lambda, 0)$, which need no distinct eigenvalues."""
    (matrix,), (tangent,) = primals, tangents
    values, vectors = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
    clipped = jnp.maximum(values, 0.0)
    gap = values[:, None] - values[None, :]
    close = jnp.abs(gap) <= 1e-12 * (jnp.abs(values[:, None]) + jnp.abs(values[None, :]))
    slope = 0.5 * ((values > 0)[:, None] * 1.0 + (values > 0)[None, :] * 1.0)
    ratio = jnp.where(close, slope, (clipped[:, None] - clipped[None, :]) / jnp.where(close, 1.0, gap))
    rotated = vectors.T @ (0.5 * (tangent + tangent.T)) @ vectors
    return (vectors * clipped) @ vectors.T, vectors @ (ratio * rotated) @ vectors.T
