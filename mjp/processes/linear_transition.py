"""Exact transitions of linear diffusions."""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

_ORDER = 12  # of the series over the shortest step
_FEW = 3


def linear_transition(
    matrix: Array, offset: Array, covariance: Array, duration: Array, doublings: int = 12
) -> tuple[Array, Array, Array]:
    r"""Transition $N(\Phi x + s, Q)$ of $dX = (B X + \beta) dt + dM$ with $d\langle M \rangle = a\,dt$.

    $\Phi = e^{B\delta}$, $s = \int_0^\delta e^{Bu}\beta\,du$ and $Q = \int_0^\delta e^{Bu} a e^{B'u} du$.
    Their Taylor series over the step $\delta / 2^k$ (for Q by $\dot Q = a + BQ + QB'$) are doubled k times
    by $(\Phi, s, Q) \mapsto (\Phi^2, \Phi s + s, \Phi Q \Phi' + Q)$. Unlike Van Loan's exponential of a block
    matrix, this never forms $e^{-B\delta}$, so that long durations keep their digits.

    Args:
        matrix: B (d, d); offset: β (d,); covariance: a (d, d), per unit of time; duration: δ, a number.
        doublings: k; full accuracy while |B| δ is at most 2^k / 8.
    """
    step = duration / 2.0**doublings

    def term(carry: Any, n: Array) -> tuple[Any, None]:
        power, shift, spread, *total = carry
        power = power @ matrix * (step / n)
        shift = matrix @ shift * (step / (n + 1))
        moved = matrix @ spread
        spread = (moved + moved.T) * (step / (n + 1))
        new = (power, shift, spread)
        return (*new, *(a + b for a, b in zip(total, new, strict=True))), None

    def double(carry: Any, _: None) -> tuple[Any, None]:
        phi, shift, spread = carry
        return (phi @ phi, phi @ shift + shift, phi @ spread @ phi.T + spread), None

    dtype = jnp.result_type(matrix, offset, covariance, duration)
    shift, spread = (offset * step).astype(dtype), (covariance * step).astype(dtype)
    first = (jnp.eye(matrix.shape[-1], dtype=dtype), shift, spread)
    series: Any = (*first, *first)
    if doublings <= _FEW:  # written out, which is quicker inside of a long loop
        for n in range(1, _ORDER):
            series, _ = term(series, jnp.asarray(n, dtype))
        result = series[3:]
        for _ in range(doublings):
            result, _ = double(result, None)
        return result
    series, _ = lax.scan(term, series, jnp.arange(1.0, _ORDER))
    return lax.scan(double, series[3:], None, length=doublings)[0]
