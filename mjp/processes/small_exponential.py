"""Exponentials of many small generators side by side, entry by entry."""

import jax.numpy as jnp
from jax import Array, lax

_TERMS = 18  # of the series for at most one expected event: the rest is below 1 / 19! = 1e-17
_HALVINGS = 24


def exponential(generator: list[list[Array]]) -> list[list[Array]]:
    r"""Matrices $\exp(Q)$ of generators with entries [a][b], each (...).

    With $\lambda = \max_a |q_{aa}|$, halved s times to at most one, $\exp(Q) = (e^{-r} \sum_n r^n B^n /
    n!)^{2^s}$, $r = \lambda / 2^s$ and $B = I + Q / \lambda$ (uniformization, Jensen 1953): no term is
    negative, so that small probabilities keep their relative accuracy.
    """
    k = len(generator)
    entries = jnp.broadcast_arrays(*(entry for row in generator for entry in row))
    q = jnp.stack(entries).reshape(k, k, *entries[0].shape)
    rate = jnp.max(-jnp.stack([q[a, a] for a in range(k)]), axis=0)
    largest = lax.stop_gradient(jnp.max(rate, initial=0.0))
    halvings = jnp.ceil(jnp.log2(jnp.maximum(largest, 1.0))).astype(jnp.int32)
    events = rate / 2.0**halvings
    eye = jnp.eye(k, dtype=q.dtype).reshape(k, k, *[1] * (q.ndim - 2))
    jump = eye + q / jnp.where(rate > 0, rate, 1.0)

    def horner(i: Array, series: Array) -> Array:
        return eye + events / (_TERMS - i) * _product(jump, series)

    series = jnp.exp(-events) * lax.fori_loop(0, _TERMS, horner, jnp.broadcast_to(eye, q.shape))
    # as many steps whatever the rates are, so that there is a derivative
    square = lambda i, p: lax.cond(i < halvings, lambda: _product(p, p), lambda: p)
    found = jnp.where(halvings > _HALVINGS, jnp.nan, lax.fori_loop(0, _HALVINGS, square, series))
    return [[found[a, b] for b in range(k)] for a in range(k)]


def _product(a: Array, b: Array) -> Array:
    """Products of matrices (K, K, ...)."""
    return jnp.sum(a[:, :, None] * b[None], axis=1)
