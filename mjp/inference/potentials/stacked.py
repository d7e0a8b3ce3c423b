r"""Gaussian potentials as stacked observations $v = M x + L e$, whose noise may be small or absent.

The observation form of Bierkens, van der Meulen & Schauer (2020), which needs no large precision: noise is
added to when potentials are pulled back, and never inverted before a density is asked for. Rows in excess of
the coordinates say how likely the observations are and nothing of x, so that d rows are enough.
"""

import equinox as eqx
import jax.numpy as jnp
from jax import Array, lax

from mjp._small_matrices import (
    decreasing,
    dot,
    identity,
    product,
    reflect,
    solve_lower,
    times,
    transpose,
)
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.potentials.rows import Tilt, as_column, below, beside, canonical_of, large_first


class StackedRows(eqx.Module):
    r"""Potentials $g(x) = N(v; M x, L L')$ up to powers of $2\pi$; rows of noise alone tell nothing.

    Exact observations have zeros in L. A step $x' = m + G z$ makes rows of $v = M m + (M G, L) (z, e)$,
    whose noise is triangularised, $(M G, L) = (\Lambda, 0) Q'$: then $\Lambda$ is the new L,
    $Q'(z, e) = (\Lambda^{-1}(v - M m), w)$, and w is standard normal.

    Attributes:
        matrix: M (n, d, ...); factor: L (n, n, ...), lower triangular; value: v (n, ...); n = d but in
            observations.
        singular: whether rows may be without noise. Such a row has a zero on the diagonal of L, and in the
            column below it.
    """

    matrix: Array
    factor: Array
    value: Array
    singular: bool = eqx.field(static=True)

    @classmethod
    def unit(cls, shape: tuple[int, ...], dim: int, dtype: jnp.dtype, singular: bool) -> "StackedRows":
        """d rows that are noise alone."""
        return cls._noise(shape, dim, dim, dtype, singular)

    def units(self, shape: tuple[int, ...]) -> "StackedRows":
        """As many rows that are noise alone."""
        n, dim = self.matrix.shape[:2]
        return self._noise(shape, n, dim, self.matrix.dtype, self.singular)

    @classmethod
    def _noise(
        cls, shape: tuple[int, ...], n: int, dim: int, dtype: jnp.dtype, singular: bool
    ) -> "StackedRows":
        square = jnp.zeros((n, n, *shape), dtype)
        factor = square + identity(n, square)
        return cls(jnp.zeros((n, dim, *shape), dtype), factor, jnp.zeros((n, *shape), dtype), singular)

    def log_value(self, x: Array) -> Array:
        """Log-density of the values given states (d, ...); infinite where nothing of it is left to chance."""
        white = self._white(self.value - times(self.matrix, x))
        return -0.5 * dot(white, white) - _log_determinant(self.factor)

    def log_ratio(self, x: Array, y: Array) -> Array:
        """`log_value(x) - log_value(y)`, as a product of a difference and a sum."""
        errors = self.value - times(self.matrix, x), self.value - times(self.matrix, y)
        return 0.5 * dot(self._white(times(self.matrix, x - y)), self._white(errors[0] + errors[1]))

    def join(self, other: "StackedRows") -> "tuple[StackedRows, Canonical]":
        """Both as d rows, and the density of the combinations that do not depend on x.

        The combinations are constants in derivatives: that a combination does not depend on x is not so for
        its derivatives, which go to the canonical potential that is left over.
        """
        dim, n = self.matrix.shape[1], len(self.matrix)
        matrix, value = below(self.matrix, other.matrix), below(self.value, other.value)
        batch, total = value.shape[1:], len(value)
        factor = jnp.zeros((total, total, *batch), value.dtype)
        factor = factor.at[:n, :n].set(self.factor).at[n:, n:].set(other.factor)
        # in units of their noise, precise rows are large, and keep the digits of their noise
        scale = lax.stop_gradient(_size(factor) + jnp.finfo(value.dtype).eps ** 0.5 * _size(matrix))
        scale = jnp.where(scale > 0, scale, 1.0)
        rows = beside(matrix, factor, as_column(value)) / scale[:, None]
        rows = reflect(large_first(rows, dim), dim, frozen=True)
        rank = total - dim
        # one column per row, the rows that do not depend on x first
        last_first = lambda array, axis: jnp.roll(array, rank, axis)
        noise = last_first(transpose(rows[:, dim:-1]), 1)
        noise = self._triangular(noise, total, last_first(_size(rows[:, dim:-1]), 0))
        lower, across = transpose(noise[:rank, :rank]), transpose(noise[:rank, rank:total])
        seen = beside(rows[:, :dim], rows[:, -1:])
        white = _solve(lower, seen[dim:])
        top = seen[:dim] - product(across, white)
        left = canonical_of(white[:, :-1], white[:, -1])
        size = _log_determinant(lower) + jnp.sum(jnp.log(scale), axis=0)
        joined = StackedRows(top[:, :-1], transpose(noise[rank:total, rank:total]), top[:, -1], self.singular)
        return joined, left.with_constant(left.constant - size)

    def tilt(self, factor: Array) -> "tuple[Tilt, StackedRows]":
        """What the rows make of a step with noise factor G (d, r, ...), and what they say of its mean."""
        rank, n = factor.shape[1], len(self.value)
        reach = product(self.matrix, factor)
        batch = reach.shape[2:]
        spread = lambda leaf: jnp.broadcast_to(leaf, (*leaf.shape[:2], *batch))
        seen = spread(beside(self.matrix, as_column(self.value)))
        noise = beside(reach, spread(self.factor))
        size = _size(product(jnp.abs(self.matrix), jnp.abs(factor))) + _size(self.factor)
        if self.singular:
            # what a row without noise says follows from the others then, and not they from it
            order = decreasing(_size(noise) / (_size(self.matrix) + jnp.finfo(size.dtype).tiny))
            seen, noise, size = product(order, seen), product(order, noise), times(order, size)
        innovations = jnp.zeros((rank + n, rank, *batch), reach.dtype)
        innovations = innovations.at[:rank].set(spread(identity(rank, reach)))
        noise = self._triangular(beside(transpose(noise), innovations), n, size)
        pulled = StackedRows(seen[:, :-1], transpose(noise[:n, :n]), seen[:, -1], self.singular)
        free = noise[n:, n:]
        if self.singular:  # rows without noise leave more directions free than there are innovations
            free = reflect(free, rank)[:rank]
        steering = product(product(factor, transpose(noise[:n, n:])), _solve(pulled.factor, seen))
        zero = jnp.zeros(batch, reach.dtype)
        return Tilt(steering[:, :-1], steering[:, -1], product(factor, transpose(free)), zero), pulled

    def after(self, matrix: Array, offset: Array) -> "StackedRows":
        """The rows as functions of x where the state that they see is Φ x + β."""
        value = self.value - times(self.matrix, offset)
        return StackedRows(product(self.matrix, matrix), self.factor, value, self.singular)

    def _white(self, error: Array) -> Array:
        return _solve(self.factor, as_column(error))[:, 0]

    def _triangular(self, noise: Array, n: int, size: Array) -> Array:
        """Noise with its first n columns triangular; rounding errors of their sizes are zero."""
        if not self.singular:
            return reflect(noise, n)
        eps = jnp.finfo(noise.dtype).eps
        return reflect(noise, n, lax.stop_gradient(4 * len(noise) * eps * size))


def _solve(lower: Array, right: Array) -> Array:
    """Errors of rows in units of their noise; zero for rows that have none, whose errors are zero."""
    n = len(lower)
    silent = (_diagonal(lower) == 0)[:, None] & (identity(n, lower) > 0)
    none = jnp.any(silent, axis=1)[:, None]
    return solve_lower(jnp.where(silent, 1.0, jnp.where(none, 0.0, lower)), jnp.where(none, 0.0, right))


def _log_determinant(lower: Array) -> Array:
    return jnp.sum(jnp.log(jnp.abs(_diagonal(lower))), axis=0)


def _diagonal(matrix: Array) -> Array:
    return jnp.stack([matrix[i, i] for i in range(len(matrix))])


def _size(matrix: Array) -> Array:
    """Sums of absolute values of rows (m, n, ...)."""
    return jnp.sum(jnp.abs(matrix), axis=1)
