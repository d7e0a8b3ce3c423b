"""Factors of many small matrices at once, unrolled: a library call per matrix costs more than its work."""

import jax.numpy as jnp
from jax import Array, lax

_UNROLLED = 6  # rows up to which loops over rows are written out


def transpose(matrix: Array) -> Array:
    """Transposes of matrices (..., m, n)."""
    return jnp.swapaxes(matrix, -1, -2)


def times(matrix: Array, vector: Array) -> Array:
    """Products of matrices (..., m, n) with vectors (..., n)."""
    return jnp.sum(matrix * vector[..., None, :], axis=-1)


def dot(a: Array, b: Array) -> Array:
    """Inner products of vectors (..., n)."""
    return jnp.sum(a * b, axis=-1)


def product(a: Array, b: Array) -> Array:
    """Products of matrices (..., m, k) and (..., k, n)."""
    if max(a.shape[-1], b.shape[-1]) > _UNROLLED:
        return a @ b
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)


def cholesky(matrix: Array) -> Array:
    """Lower factors of positive definite matrices (..., n, n)."""
    n = matrix.shape[-1]
    if n > _UNROLLED:
        return jnp.linalg.cholesky(matrix, symmetrize_input=False)
    rows: list[list[Array]] = []
    for i in range(n):
        row: list[Array] = []
        for j in range(i + 1):
            rest = matrix[..., i, j]
            for k in range(j):
                rest = rest - row[k] * (rows[j][k] if j < i else row[k])
            row.append(jnp.sqrt(rest) if i == j else rest / rows[j][j])
        rows.append(row)
    return _lower(rows, matrix)


def semidefinite_cholesky(matrix: Array) -> Array:
    """Lower factors G, G G' = matrix, of positive semi-definite matrices (..., n, n).

    A pivot that is zero up to rounding gives a column of zeros, and derivatives that are zero with it.
    """
    n = matrix.shape[-1]
    scale = jnp.max(jnp.abs(jnp.diagonal(matrix, axis1=-2, axis2=-1)), axis=-1)
    tolerance = lax.stop_gradient(8 * n * jnp.finfo(matrix.dtype).eps * scale)

    def column(rest: Array, j: Array | int) -> Array:
        at = jnp.take(rest, j, axis=-1)
        pivot = jnp.take(at, j, axis=-1)
        positive = pivot > tolerance
        root = jnp.sqrt(jnp.where(positive, pivot, 1.0))
        below = jnp.arange(n) >= j
        return jnp.where(positive[..., None] & below, at / root[..., None], 0.0)

    if n <= _UNROLLED:
        rest, columns = matrix, []
        for j in range(n):
            columns.append(column(rest, j))
            rest = rest - columns[-1][..., :, None] * columns[-1][..., None, :]
        return jnp.stack(columns, axis=-1)

    def step(rest: Array, j: Array) -> tuple[Array, Array]:
        found = column(rest, j)
        return rest - found[..., :, None] * found[..., None, :], found

    _, found = lax.scan(step, matrix, jnp.arange(n))
    return jnp.moveaxis(found, 0, -1)


def solve_lower(lower: Array, right: Array) -> Array:
    """Solutions X (..., n, m) of L X = B for lower triangular L (..., n, n)."""
    n = lower.shape[-1]
    if n > _UNROLLED:
        shape = jnp.broadcast_shapes(lower.shape[:-2], right.shape[:-2])
        lower = jnp.broadcast_to(lower, (*shape, *lower.shape[-2:]))
        right = jnp.broadcast_to(right, (*shape, *right.shape[-2:]))
        return lax.linalg.triangular_solve(lower, right, left_side=True, lower=True)
    rows: list[Array] = []
    for i in range(n):
        rest = right[..., i, :]
        for j in range(i):
            rest = rest - lower[..., i, j, None] * rows[j]
        rows.append(rest / lower[..., i, i, None])
    return jnp.stack(rows, axis=-2)


def solve_positive(matrix: Array, right: Array) -> Array:
    """Solutions (..., n) of A x = b for positive definite A (..., n, n)."""
    lower = cholesky(matrix)
    half = solve_lower(lower, right[..., None])
    if matrix.shape[-1] > _UNROLLED:
        return lax.linalg.triangular_solve(lower, half, left_side=True, lower=True, transpose_a=True)[..., 0]
    # the transposed system, from its last row upwards
    reverse = transpose(lower)[..., ::-1, ::-1]
    return solve_lower(reverse, half[..., ::-1, :])[..., ::-1, 0]


def log_determinant(lower: Array) -> Array:
    """Sums of the logarithms of the diagonals of lower factors (..., n, n)."""
    return jnp.sum(jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)), axis=-1)


def _lower(rows: list[list[Array]], like: Array) -> Array:
    n = len(rows)
    zero = jnp.zeros(like.shape[:-2], like.dtype)
    filled = [jnp.stack([*row, *[zero] * (n - len(row))], axis=-1) for row in rows]
    return jnp.stack(filled, axis=-2)
