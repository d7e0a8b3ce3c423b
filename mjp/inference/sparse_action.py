"""exp(Q t) applied to a vector, for sparse generators with many states, without any dense matrix."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.segments import Segments, segment_sum, take

_EVENTS = 8.0  # uniformized events covered by one substep
_TERMS = 48  # terms of its series; the Poisson tail beyond is below 1e-22
_STORED = 64  # checkpoints, and substeps between two of them


class SparsePattern(eqx.Module):
    """Where a sparse generator may have positive rates; known before compilation."""

    source: Segments
    target: Segments
    n_states: int = eqx.field(static=True)

    def __init__(self, source: np.ndarray, target: np.ndarray, n_states: int):
        self.source, self.target = Segments(source, n_states), Segments(target, n_states)
        self.n_states = n_states

    def exit_rates(self, rates: Array) -> Array:
        """Total rate out of each state, (K,)."""
        return segment_sum(rates, self.source)

    def apply(self, rates: Array, g: Array) -> Array:
        """Q g for functions g (K,) of the state: sum_y q[x, y] (g[y] - g[x])."""
        return segment_sum(rates * (take(g, self.target) - take(g, self.source)), self.source)

    def apply_transposed(self, rates: Array, p: Array) -> Array:
        """Q' p for measures p (K,): flow into each state minus flow out of it."""
        flow = rates * take(p, self.source)
        return segment_sum(flow, self.target) - segment_sum(flow, self.source)

    def enter(self, rates: Array, p: Array) -> Array:
        """Flow of a measure p (K,) into each state, (K,): where the process is just after a jump."""
        return segment_sum(rates * take(p, self.source), self.target)

    def leave(self, rates: Array, g: Array) -> Array:
        """sum_y q[x, y] g[y] for functions g (K,): the adjoint of `enter`."""
        return segment_sum(rates * take(g, self.target), self.source)


def exponential_action(
    pattern: SparsePattern, rates: Array, duration: Array, vector: Array, transposed: bool = False
) -> Array:
    r"""$e^{Qt} g$, or $e^{Q't} p$, by uniformization in substeps of eight expected events.

    The number of substeps is decided at run time. The derivative steps backwards from stored
    checkpoints, each substep being a fixed polynomial in $I + Q/\lambda$ (Sidje & Stewart 1999).

    Args:
        rates: (nnz,) rates of the pattern's transitions; duration: scalar; vector: (K,).

    Returns:
        (K,); NaN where more than 32 thousand events are expected.
    """
    rate = lax.stop_gradient(jnp.max(pattern.exit_rates(rates)))
    rate = jnp.maximum(rate, jnp.finfo(rates.dtype).tiny ** 0.5)
    n_steps = jnp.maximum(jnp.ceil(rate * lax.stop_gradient(duration) / _EVENTS), 1.0)
    fits = n_steps <= _STORED**2
    steps = jnp.where(fits, n_steps, 1.0)
    result = _substeps(transposed, pattern, rates, duration / steps, rate, vector, steps.astype(jnp.int32))
    return jnp.where(fits, result, jnp.nan)


def _substep(
    transposed: bool, pattern: SparsePattern, rates: Array, length: Array, rate: Array, vector: Array
) -> Array:
    """One substep: sum_k Pois(k; rate * length) (I + Q/rate)^k applied to the vector."""
    mean = rate * length
    act = pattern.apply_transposed if transposed else pattern.apply

    def add(carry: tuple[Array, Array, Array], k: Array) -> tuple[tuple[Array, Array, Array], None]:
        term, weight, total = carry
        term = term + act(rates, term) / rate
        weight = weight * mean / k
        return (term, weight, total + weight * term), None

    weight = jnp.exp(-mean)
    (_, _, total), _ = lax.scan(
        add, (vector, weight, weight * vector), jnp.arange(1.0, _TERMS, dtype=vector.dtype)
    )
    return total


def _advance(transposed: bool, pattern: SparsePattern, operands: tuple, vector: Array, n: Array) -> Array:
    rates, length, rate = operands
    return lax.fori_loop(0, n, lambda _, v: _substep(transposed, pattern, rates, length, rate, v), vector)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _substeps(
    transposed: bool,
    pattern: SparsePattern,
    rates: Array,
    length: Array,
    rate: Array,
    vector: Array,
    n_steps: Array,
) -> Array:
    return _advance(transposed, pattern, (rates, length, rate), vector, n_steps)


def _substeps_forward(
    transposed: bool,
    pattern: SparsePattern,
    rates: Array,
    length: Array,
    rate: Array,
    vector: Array,
    n_steps: Array,
) -> tuple[Array, tuple]:
    stride = (n_steps + _STORED - 1) // _STORED
    operands = (rates, length, rate)

    def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        vector, stored = carry
        stored = stored.at[i].set(vector)
        n = jnp.clip(n_steps - i * stride, 0, stride)
        return _advance(transposed, pattern, operands, vector, n), stored

    stored = jnp.zeros((_STORED, *vector.shape), vector.dtype)
    result, stored = lax.fori_loop(0, (n_steps + stride - 1) // stride, body, (vector, stored))
    return result, (pattern, operands, stored, n_steps, stride)


def _substeps_backward(transposed: bool, residuals: tuple, cotangent: Array) -> tuple:
    pattern, operands, stored, n_steps, stride = residuals
    rates, length, rate = operands

    def one(rates: Array, length: Array, vector: Array) -> Array:
        return _substep(transposed, pattern, rates, length, rate, vector)

    def segment(back: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i = (n_steps + stride - 1) // stride - 1 - back
        n = jnp.clip(n_steps - i * stride, 0, stride)

        def remember(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            vector, inner = carry
            return one(rates, length, vector), inner.at[j].set(vector)

        _, inner = lax.fori_loop(0, n, remember, (stored[i], jnp.zeros_like(stored)))

        def pull_back(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            rates_bar, length_bar, vector_bar = carry
            _, pull = jax.vjp(one, rates, length, inner[n - 1 - j])
            more_rates, more_length, vector_bar = pull(vector_bar)
            return rates_bar + more_rates, length_bar + more_length, vector_bar

        return lax.fori_loop(0, n, pull_back, carry)

    start = (jnp.zeros_like(rates), jnp.zeros_like(length), cotangent)
    n_segments = (n_steps + stride - 1) // stride
    rates_bar, length_bar, vector_bar = lax.fori_loop(0, n_segments, segment, start)
    return None, rates_bar, length_bar, None, vector_bar, None


_substeps.defvjp(_substeps_forward, _substeps_backward)
