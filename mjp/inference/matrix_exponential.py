"""Transition matrices exp(Q t) of many durations at once, by uniformization."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import Array, core, lax

from mjp.inference.segments import Segments, take

_UNIT = 4.0  # expected number of uniformized events that the series itself covers
_LEVELS = 22  # doublings of the unit; whole multiples stay exact in float32
_SHARED_GENERATORS = 4  # up to here every generator gets a block of its own


class Pairs(eqx.Module):
    """Distinct (generator, duration) pairs, sorted, and the pair of every edge."""

    generator: np.ndarray  # (U,) index of the generator of each pair, non-decreasing
    duration: Array | np.ndarray  # (U,)
    edge: np.ndarray  # (n,) pair of each edge
    n_generators: int = eqx.field(static=True)
    blocks: tuple[tuple[int, int, int], ...] = eqx.field(static=True)  # generator, start, stop

    def __init__(self, generator: np.ndarray, duration: Array | np.ndarray, n_generators: int):
        """Collect the distinct pairs of `generator` (n,) and `duration` (n,)."""
        if isinstance(duration, core.Tracer):
            order = np.argsort(generator, kind="stable")
            self.generator, self.duration = np.asarray(generator)[order], duration[order]
            self.edge = np.argsort(order, kind="stable").astype(np.int32)
        else:
            key = np.rec.fromarrays([generator, np.asarray(duration, dtype=float)])
            distinct, edge = np.unique(key, return_inverse=True)
            self.generator, self.duration = distinct["f0"].copy(), distinct["f1"].copy()
            self.edge = edge.reshape(-1).astype(np.int32)
        self.n_generators = n_generators
        self.blocks = _blocks(self.generator, self.duration) if n_generators <= _SHARED_GENERATORS else ()


def _blocks(generator: np.ndarray, duration: Array | np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """One block per generator, with its few long durations apart so that the others skip doublings."""
    blocks = []
    for g in np.unique(generator):
        start, stop = np.searchsorted(generator, [g, g + 1])
        middle = stop
        if not isinstance(duration, core.Tracer):
            middle = start + np.searchsorted(duration[start:stop], 3 * np.median(duration[start:stop]))
        blocks += [(int(g), int(a), int(b)) for a, b in ((start, middle), (middle, stop)) if a < b]
    return tuple(blocks)


def transition_matrices(generators: Array, pairs: Pairs) -> Array:
    r"""Matrices $P_u = \exp(Q_{g(u)} t_u)$ for many pairs of generator and duration.

    With $\lambda = \max_x |q_{xx}|$, $B = I + Q/\lambda$ and $\mu = \lambda t$, split $\mu = r + 4 n$ with
    $0 \le r < 4$. The factor of $r$ is the uniformization series $\sum_k \mathrm{Pois}(k; r) B^k$ (Jensen
    1953): a product of the matrix of Poisson weights with the powers of $B$, which all durations of a
    generator share. The factor of $4n$ follows from the binary digits of $n$. Every term is
    non-negative, so small probabilities keep their relative accuracy. The number of doublings is
    decided at run time, and the derivative runs backwards over products of stochastic matrices.

    Args:
        generators: (G, K, K), rows summing to zero.
        pairs: the U distinct pairs.

    Returns:
        (U, K, K) stochastic matrices; NaN where more than 16 million events are expected.
    """
    durations = jnp.asarray(pairs.duration, generators.dtype)
    if pairs.n_generators <= _SHARED_GENERATORS:
        parts = [_exponentials(generators[g : g + 1], durations[a:b]) for g, a, b in pairs.blocks]
        return jnp.concatenate(parts) if len(parts) > 1 else parts[0]
    return _exponentials(take(generators, Segments(pairs.generator, pairs.n_generators)), durations)


@jax.jit  # called outside compiled functions, operations would compile one by one
def _exponentials(generators: Array, durations: Array) -> Array:
    """exp(Q t) for one generator (1, K, K) and all durations, or one generator per duration."""
    n_states, dtype = generators.shape[-1], generators.dtype
    # exp(Q t) does not depend on lambda, so its derivative through lambda is zero
    rate = lax.stop_gradient(jnp.max(-jnp.diagonal(generators, axis1=-2, axis2=-1), axis=-1))
    rate = jnp.maximum(rate, jnp.finfo(dtype).tiny ** 0.5)
    jump = jnp.eye(n_states, dtype=dtype) + generators / rate[:, None, None]
    events = rate * durations
    units = lax.stop_gradient(jnp.floor(events / _UNIT))
    events = jnp.where(units < 2.0**_LEVELS, events, jnp.nan)
    n_terms = (28 if dtype == jnp.float64 else 18) + min(n_states, 32)
    weights = _few_events(events - _UNIT * units, n_terms)
    unit_weights = _few_events(jnp.full((1,), _UNIT, dtype), n_terms)
    if generators.shape[0] == 1:
        powers = matrix_powers(jump, n_terms)[0].reshape(n_terms, -1)
        series, unit = (w.T @ powers for w in (weights, unit_weights))
        series, unit = (m.reshape(-1, n_states, n_states) for m in (series, unit))
    else:
        series, unit = _series(jump, weights, unit_weights[:, 0])
    return _multiply_units(unit, series, units)


def _series(jump: Array, weights: Array, unit_weights: Array) -> tuple[Array, Array]:
    """Sums of powers of (U, K, K) matrices with weights (n, U) of their own and with common ones (n,)."""

    def add(carry: tuple[Array, Array, Array], x: tuple[Array, Array]) -> tuple[tuple, None]:
        power, series, unit = carry
        weight, unit_weight = x
        series = series + weight[:, None, None] * power
        return (product(power, jump), series, unit + unit_weight * power), None

    zero = jnp.zeros_like(jump)
    identity = zero + jnp.eye(jump.shape[-1], dtype=jump.dtype)
    (_, series, unit), _ = lax.scan(add, (identity, zero, zero), (weights, unit_weights))
    return series, unit


def matrix_powers(matrix: Array, count: int) -> Array:
    """Powers 0 … count-1 of (G, K, K) matrices, as (G, count, K, K)."""
    n_matrices, n_states, _ = matrix.shape
    identity = jnp.broadcast_to(jnp.eye(n_states, dtype=matrix.dtype), matrix.shape)
    powers, highest = identity[:, None], matrix
    while powers.shape[1] < count:
        # all powers known so far, times the next one, in one product with (powers, rows) as its rows
        rows = powers[:, : count - powers.shape[1]].reshape(n_matrices, -1, n_states)
        further = (rows @ highest).reshape(n_matrices, -1, n_states, n_states)
        powers = jnp.concatenate([powers, further], axis=1)
        if powers.shape[1] < count:
            highest = product(highest, highest)
    return powers


def poisson_weights(mean: Array, count: int) -> Array:
    """Poisson probabilities of 0 … count-1 for each mean, (U, count)."""
    number = np.arange(count)
    positive = (mean > 0)[:, None]
    log_mean = jnp.log(jnp.where(mean > 0, mean, 1.0))[:, None]
    log_factorial = jnp.asarray(scipy.special.gammaln(number + 1.0), mean.dtype)
    weights = jnp.exp(number * log_mean - mean[:, None] - log_factorial)
    # nothing happens in no time, exactly, so that impossible edges of length zero stay impossible
    return jnp.where(positive | (number == 0), weights, 0.0)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _few_events(mean: Array, count: int) -> Array:
    """Poisson probabilities of 0 … count-1 for each mean up to `_UNIT`, (count, U), with few exponentials."""
    # powers are products of two short tables, computed row by row along the contiguous axis
    low, high = 4, -(-count // 4)
    steps = [jnp.ones_like(mean)]
    for _ in range(low):
        steps.append(steps[-1] * mean)
    leaps = [jnp.exp(-mean)]
    for _ in range(high - 1):
        leaps.append(leaps[-1] * steps[low])
    # without the barrier XLA works out both tables again for every product
    tables = lax.optimization_barrier((jnp.stack(leaps), jnp.stack(steps[:low])))
    products = tables[0][:, None] * tables[1]
    inverse = np.exp(-scipy.special.gammaln(np.arange(count) + 1.0))
    return products.reshape(-1, len(mean))[:count] * jnp.asarray(inverse, mean.dtype)[:, None]


@_few_events.defjvp
def _few_events_derivative(count: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    weights = _few_events(*primals, count)
    before = jnp.concatenate([jnp.zeros_like(weights[:1]), weights[:-1]])
    return weights, (before - weights) * tangents[0]


def _n_levels(units: Array) -> Array:
    """Binary digits of the largest number of units."""
    thresholds = jnp.asarray(2.0 ** np.arange(_LEVELS), units.dtype)
    return jnp.sum(jnp.max(units, initial=0.0) >= thresholds)


def _level(unit: Array, result: Array, units: Array, level: Array) -> tuple[Array, Array]:
    """Multiply by the unit where the binary digit is set, and double the unit."""
    digit = jnp.mod(jnp.floor(units / 2.0**level), 2.0) > 0
    return product(unit, unit), jnp.where(digit[:, None, None], product(result, unit), result)


def _climb(unit: Array, result: Array, units: Array, levels: Array) -> tuple[Array, Array]:
    def body(level: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        unit, result = carry
        return _level(unit, result, units, level)

    return lax.fori_loop(0, levels, body, (unit, result))


@jax.custom_vjp
def _multiply_units(unit: Array, result: Array, units: Array) -> Array:
    return _climb(unit, result, units, _n_levels(units))[1]


def _multiply_units_forward(
    unit: Array, result: Array, units: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    return _multiply_units(unit, result, units), (unit, result, units)


def _multiply_units_backward(
    residuals: tuple[Array, Array, Array], cotangent: Array
) -> tuple[Array, Array, None]:
    # the number of levels is known at run time only, so each is recomputed rather than stored
    unit, result, units = residuals
    levels = _n_levels(units)

    def body(step: Array, cotangents: tuple[Array, Array]) -> tuple[Array, Array]:
        level = levels - 1 - step
        reached = _climb(unit, result, units, level)
        _, pull = jax.vjp(lambda unit, result: _level(unit, result, units, level), *reached)
        return pull(cotangents)

    unit_bar, result_bar = lax.fori_loop(0, levels, body, (jnp.zeros_like(unit), cotangent))
    return unit_bar, result_bar, None


_multiply_units.defvjp(_multiply_units_forward, _multiply_units_backward)


def product(left: Array, right: Array) -> Array:
    """Matrix product with broadcasting batch axes, fast for many small matrices.

    XLA executes a batch of small products one scalar at a time; rate models have few states, so up to
    eight the sum over the inner index is written out, in the derivative too.
    """
    if left.shape[-1] > 8 or (left.ndim == right.ndim == 2):
        return left @ right
    if right.ndim == 3 and right.shape[0] == 1:
        return left @ right[0]
    return _small_product(left, right)


def _unrolled(left: Array, right: Array) -> Array:
    total = left[..., :, 0, None] * right[..., None, 0, :]
    for k in range(1, left.shape[-1]):
        total = total + left[..., :, k, None] * right[..., None, k, :]
    return total


@jax.custom_vjp
def _small_product(left: Array, right: Array) -> Array:
    return _unrolled(left, right)


def _small_product_backward(operands: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    left, right = operands
    left_bar = _unrolled(cotangent, jnp.swapaxes(right, -1, -2))
    right_bar = _unrolled(jnp.swapaxes(left, -1, -2), cotangent)
    return _sum_to(left_bar, left.shape), _sum_to(right_bar, right.shape)


def _sum_to(value: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting of batch axes."""
    value = jnp.sum(value, axis=tuple(range(value.ndim - len(shape))))
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1 and value.shape[axis] != 1)
    return jnp.sum(value, axis=axes, keepdims=True)


_small_product.defvjp(lambda left, right: (_unrolled(left, right), (left, right)), _small_product_backward)
