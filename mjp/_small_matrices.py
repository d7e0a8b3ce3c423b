"""Algebra of many small matrices at once, with the axes of the matrices first and the batch last.

XLA's CPU backend vectorises over the last axis; products of small matrices that lie there themselves, or a
library call per matrix, take twenty times as long. Loops over the axes of small matrices are written out.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_UNROLLED = 6  # rows up to which loops over rows are written out


def transpose(matrix: Array) -> Array:
    """Transposes of matrices (m, n, ...)."""
    return jnp.swapaxes(matrix, 0, 1)


def identity(n: int, like: Array) -> Array:
    """The identity (n, n, 1, ...), for a batch of matrices `like` (m, k, ...)."""
    return jnp.eye(n, dtype=like.dtype).reshape(n, n, *[1] * (like.ndim - 2))


def times(matrix: Array, vector: Array) -> Array:
    """Products of matrices (m, n, ...) with vectors (n, ...)."""
    if matrix.ndim == 2:
        return jnp.sum(matrix * vector, axis=1)
    return product(matrix, vector[:, None])[:, 0]


def dot(a: Array, b: Array) -> Array:
    """Inner products of vectors (n, ...)."""
    if a.ndim == 1 or a.shape[0] > _UNROLLED:
        return jnp.sum(a * b, axis=0)
    total = a[0] * b[0]
    for i in range(1, a.shape[0]):
        total = total + a[i] * b[i]
    return total


def product(a: Array, b: Array) -> Array:
    """Products of matrices (m, k, ...) and (k, n, ...) with equally many axes."""
    if a.ndim == 2:
        small = max(a.shape[1], b.shape[1]) <= _UNROLLED
        return jnp.sum(a[:, :, None] * b[None], axis=1) if small else a @ b
    if a.shape[1] > _UNROLLED:
        return _by_matrix(jnp.matmul, a, b)
    total = a[:, 0, None] * b[None, 0]
    for i in range(1, a.shape[1]):
        total = total + a[:, i, None] * b[None, i]
    return total


def cholesky(matrix: Array) -> Array:
    """Lower factors of positive definite matrices (n, n, ...)."""
    n = matrix.shape[0]
    if n > _UNROLLED:
        return _by_matrix(lambda m: jnp.linalg.cholesky(m, symmetrize_input=False), matrix)
    rows: list[list[Array]] = []
    for i in range(n):
        row: list[Array] = []
        for j in range(i + 1):
            rest = matrix[i, j]
            for k in range(j):
                rest = rest - row[k] * (rows[j][k] if j < i else row[k])
            row.append(jnp.sqrt(rest) if i == j else rest / rows[j][j])
        rows.append(row)
    zero = jnp.zeros_like(matrix[0, 0])
    return jnp.stack([jnp.stack([*row, *[zero] * (n - len(row))]) for row in rows])


def semidefinite_cholesky(matrix: Array) -> Array:
    """Lower factors G, G G' = matrix, of positive semi-definite matrices (n, n, ...).

    A pivot that is zero up to rounding gives a column of zeros, and derivatives that are zero with it.
    """
    n = matrix.shape[0]
    scale = jnp.max(jnp.abs(jnp.stack([matrix[i, i] for i in range(n)])), axis=0)
    tolerance = lax.stop_gradient(8 * n * jnp.finfo(matrix.dtype).eps * scale)
    row = jnp.arange(n).reshape(n, *[1] * (matrix.ndim - 2))

    def column(rest: Array, j: Array | int) -> Array:
        at = jnp.take(rest, j, axis=1)
        pivot = jnp.take(at, j, axis=0)
        positive = pivot > tolerance
        root = jnp.sqrt(jnp.where(positive, pivot, 1.0))
        return jnp.where(positive & (row >= j), at / root, 0.0)

    if n <= _UNROLLED:
        rest, columns = matrix, []
        for j in range(n):
            columns.append(column(rest, j))
            rest = rest - columns[-1][:, None] * columns[-1][None]
        return jnp.stack(columns, axis=1)

    def step(rest: Array, j: Array) -> tuple[Array, Array]:
        found = column(rest, j)
        return rest - found[:, None] * found[None], found

    _, found = lax.scan(step, matrix, jnp.arange(n))
    return transpose(found)


def decreasing(sizes: Array) -> Array:
    """Permutation matrices (n, n, ...) that put rows in the order of decreasing sizes (n, ...)."""
    sizes = lax.stop_gradient(sizes)
    n, k = len(sizes), np.arange(len(sizes))
    earlier = (k[:, None] > k).reshape(n, n, *[1] * (sizes.ndim - 1))  # of two that are equal
    before = (sizes[:, None] < sizes) | ((sizes[:, None] == sizes) & earlier)
    rank = jnp.sum(before, axis=1)
    return (rank == k.reshape(n, 1, *[1] * (sizes.ndim - 1))).astype(sizes.dtype)


def reflect(matrix: Array, n: int, tolerance: Array | None = None, *, frozen: bool = False) -> Array:
    """Q'A for matrices A (m, p, ...), Q orthogonal, such that the first n columns are upper triangular.

    Householder reflections, column by column.

    Args:
        tolerance: (n, ...), size at which what is left of a column from the diagonal on counts as zero. Such
            a column leaves a row of zeros at the diagonal, and its content moves down: the result has n rows
            more.
        frozen: take Q for a constant in derivatives. Those of (Q'A)'(Q'A) = A'A are right all the same, for
            columns of any rank, if entries below the diagonal, which are zero, are not left out.
    """
    m = matrix.shape[0]
    if tolerance is not None:
        matrix = jnp.concatenate([matrix, jnp.zeros((n, *matrix.shape[1:]), matrix.dtype)])
    row = jnp.arange(matrix.shape[0]).reshape(-1, *[1] * (matrix.ndim - 2))

    def one(matrix: Array, j: Array | int) -> Array:
        column = jnp.take(matrix, j, axis=1)
        below = jnp.where(row >= j, lax.stop_gradient(column) if frozen else column, 0.0)
        scale = lax.stop_gradient(jnp.max(jnp.abs(below), axis=0))
        small = scale <= (0.0 if tolerance is None else jnp.take(tolerance, j, axis=0))
        unit = jnp.where(small, row == j, below / jnp.where(small, 1.0, scale))
        head = jnp.take(unit, j, axis=0)
        norm, sign = jnp.sqrt(jnp.sum(unit**2, axis=0)), jnp.where(head >= 0, 1.0, -1.0)
        vector, half = unit + jnp.where(row == j, sign * norm, 0.0), norm * (norm + sign * head)
        if tolerance is not None:  # a reflection that exchanges two rows
            exchange = jnp.where(row == j, 1.0, jnp.where(row == m + j, -1.0, 0.0))
            vector, half = jnp.where(small, exchange, vector), jnp.where(small, 1.0, half)
        matrix = matrix - vector[:, None] * (jnp.sum(vector[:, None] * matrix, axis=0) / half)
        found = jnp.take(matrix, j, axis=1)
        zero = found - lax.stop_gradient(found) if frozen else jnp.zeros_like(found)
        found = jnp.where((row > j) | (small & (row == j)), zero, found)
        return matrix.at[:, j].set(found)

    if n <= _UNROLLED:
        for j in range(n):
            matrix = one(matrix, j)
        return matrix
    return lax.scan(lambda matrix, j: (one(matrix, j), None), matrix, jnp.arange(n))[0]


def solve_lower(lower: Array, right: Array) -> Array:
    """Solutions X (n, m, ...) of L X = B for lower triangular L (n, n, ...)."""
    n = lower.shape[0]
    if n > _UNROLLED:
        solve = lambda a, b: lax.linalg.triangular_solve(a, b, left_side=True, lower=True)
        return _by_matrix(solve, lower, right)
    rows: list[Array] = []
    for i in range(n):
        rest = right[i]
        for j in range(i):
            rest = rest - lower[i, j] * rows[j]
        rows.append(rest / lower[i, i])
    return jnp.stack(rows)


def solve_upper(lower: Array, right: Array) -> Array:
    """Solutions X (n, m, ...) of L' X = B for lower triangular L (n, n, ...)."""
    # from the last row upwards the system is lower triangular
    return solve_lower(transpose(lower)[::-1, ::-1], right[::-1])[::-1]


def solve_positive(matrix: Array, right: Array) -> Array:
    """Solutions (n, ...) of A x = b for positive definite A (n, n, ...)."""
    lower = cholesky(matrix)
    return solve_upper(lower, solve_lower(lower, right[:, None]))[:, 0]


def log_determinant(lower: Array) -> Array:
    """Sums of the logarithms of the diagonals of lower factors (n, n, ...)."""
    total = jnp.log(lower[0, 0])
    for i in range(1, lower.shape[0]):
        total = total + jnp.log(lower[i, i])
    return total


def _by_matrix(function: Callable[..., Array], *matrices: Array) -> Array:
    """Apply a function of matrices (..., m, n) to matrices (m, n, ...)."""
    shape = jnp.broadcast_shapes(*(matrix.shape[2:] for matrix in matrices))
    whole = [jnp.broadcast_to(matrix, (*matrix.shape[:2], *shape)) for matrix in matrices]
    found = function(*(jnp.moveaxis(matrix, (0, 1), (-2, -1)) for matrix in whole))
    return jnp.moveaxis(found, (-2, -1), (0, 1))
