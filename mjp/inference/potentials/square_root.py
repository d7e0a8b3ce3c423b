r"""Gaussian potentials as square roots of their precision, $H = R'R$, by orthogonal transformations only.

In float32 a precision has the digits of the noise squared; its root keeps them all (Bierman 1977).
"""

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from mjp._small_matrices import (
    dot,
    identity,
    log_determinant,
    product,
    reflect,
    solve_lower,
    times,
    transpose,
)
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.potentials.rows import Tilt, as_column, below, beside, canonical_of, large_first


class SquareRootRows(eqx.Module):
    r"""Potentials $\log g(x) = -\tfrac12 |r - R x|^2$; a row of zeros tells nothing.

    The pullback through $x' = m + G z$ is one triangularisation (QR),

    $$Q' \begin{pmatrix} RG & R & r \\ I & 0 & 0 \end{pmatrix}
      = \begin{pmatrix} U & S & u \\ 0 & T & t \end{pmatrix}, \qquad
      \int g(m + Gz) N(z; 0, I) dz = |\det U|^{-1} e^{-|t - T m|^2 / 2},$$

    after which $z = U^{-1}(u - S m + w)$ with w standard normal. $U'U = I + G'HG$ is never formed, nothing
    is inverted but U, whose singular values are at least one, and G may have any rank.

    Attributes:
        matrix: R (n, d, ...), with n = d but in observations; target: r (n, ...).
    """

    matrix: Array
    target: Array

    @classmethod
    def unit(cls, shape: tuple[int, ...], dim: int, dtype: jnp.dtype) -> "SquareRootRows":
        """d rows of zeros."""
        return cls(jnp.zeros((dim, dim, *shape), dtype), jnp.zeros((dim, *shape), dtype))

    def units(self, shape: tuple[int, ...]) -> "SquareRootRows":
        """As many rows of zeros."""
        zeros = lambda leaf, own: jnp.zeros((*own, *shape), leaf.dtype)
        return SquareRootRows(
            zeros(self.matrix, self.matrix.shape[:2]), zeros(self.target, self.target.shape[:1])
        )

    def log_value(self, x: Array) -> Array:
        """Log of the potential at states (d, ...)."""
        error = self._error(x)
        return -0.5 * dot(error, error)

    def log_ratio(self, x: Array, y: Array) -> Array:
        """`log_value(x) - log_value(y)`, as a product of a difference and a sum."""
        return 0.5 * dot(times(self.matrix, x - y), self._error(x) + self._error(y))

    def join(self, other: "SquareRootRows") -> "tuple[SquareRootRows, Canonical]":
        """Both as d triangular rows, and what the rows below them are worth.

        The orthogonal matrix counts as a constant in derivatives, so that these are right, and not large,
        where H is singular or nearly so. What is below the triangle is zero, its derivatives are not; they
        go to the canonical potential that is left over.
        """
        dim = self.matrix.shape[1]
        both = beside(below(self.matrix, other.matrix), as_column(below(self.target, other.target)))
        both = reflect(large_first(both, dim), dim, frozen=True)
        matrix, target = both[:, :-1], both[:, -1]
        left = canonical_of(matrix[dim:], target[dim:])
        return SquareRootRows(matrix[:dim], target[:dim]), left

    def tilt(self, factor: Array) -> "tuple[Tilt, SquareRootRows]":
        """What the rows make of a step with noise factor G (d, r, ...), and what they say of its mean."""
        rank = factor.shape[1]
        reach, own = product(self.matrix, factor), as_column(self.target)
        batch = reach.shape[2:]
        spread = lambda leaf: jnp.broadcast_to(leaf, (*leaf.shape[:2], *batch))
        rows = beside(reach, spread(self.matrix), spread(own))
        noise = jnp.zeros((rank, rows.shape[1], *batch), rows.dtype)
        noise = noise.at[:, :rank].set(spread(identity(rank, rows)))
        rows = reflect(below(large_first(rows, rank), noise), rank)
        lower = transpose(rows[:rank, :rank])
        loading = transpose(solve_lower(lower, transpose(factor)))
        steering = product(loading, rows[:rank, rank:])
        tilt = Tilt(steering[:, :-1], steering[:, -1], loading, -log_determinant(jnp.abs(lower)))
        return tilt, SquareRootRows(rows[rank:, rank:-1], rows[rank:, -1])

    def after(self, matrix: Array, offset: Array) -> "SquareRootRows":
        """The rows as functions of x where the state that they see is Φ x + β."""
        return SquareRootRows(product(self.matrix, matrix), self.target - times(self.matrix, offset))

    def _error(self, x: Array) -> Array:
        return self.target - times(self.matrix, x)
