"""Sums over static segments, and gathers whose derivative is such a sum, without scatter."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_FEW = 32  # up to here a product with an indicator matrix is faster


class Segments(eqx.Module):
    """Assignment of n items to m segments, known before compilation.

    XLA executes a scatter on the CPU one update at a time, some hundred times slower than a gather. A
    static assignment avoids it: sort the items by segment once, sum by doubling strides within each
    segment, and gather the last partial sum of every segment.
    """

    index: np.ndarray  # (n,) segment of each item
    order: np.ndarray  # (n,) items sorted by segment
    rank: np.ndarray  # (n,) position of each sorted item within its segment
    last: np.ndarray  # (m,) sorted position of each segment's last item
    filled: np.ndarray  # (m,) whether a segment has items
    n_doublings: int = eqx.field(static=True)
    trivial: bool = eqx.field(static=True)  # every segment has exactly its own item

    def __init__(self, index: np.ndarray, n_segments: int):
        index = np.asarray(index, dtype=np.int32)
        counts = np.bincount(index, minlength=n_segments)
        order = np.argsort(index, kind="stable").astype(np.int32)
        ends = np.cumsum(counts)
        self.index = index
        self.order = order
        self.rank = (np.arange(len(index)) - (ends - counts)[index[order]]).astype(np.int32)
        self.last = np.maximum(ends - 1, 0).astype(np.int32)
        self.filled = counts > 0
        self.n_doublings = int(max(counts.max(initial=1) - 1, 0)).bit_length()
        self.trivial = n_segments == len(index) and bool(np.array_equal(index, np.arange(n_segments)))

    @property
    def n_segments(self) -> int:
        return self.last.shape[0]


def segment_sum(values: Array, segments: Segments) -> Array:
    """Sum values (n, ...) over segments, (m, ...); its derivative is a gather."""
    return _segment_sum(values, segments)


def take(table: Array, segments: Segments) -> Array:
    """Rows table[index], (n, ...), of a table (m, ...); its derivative is a segment sum."""
    return _take(table, segments)


def _sum(values: Array, segments: Segments) -> Array:
    if segments.trivial:
        return values
    if values.shape[0] == 0:
        return jnp.zeros((segments.n_segments, *values.shape[1:]), values.dtype)
    if segments.n_segments <= _FEW or values.shape[0] <= _FEW:
        members = jax.nn.one_hot(segments.index, segments.n_segments, axis=0, dtype=values.dtype)
        return jnp.tensordot(members, values, axes=1)
    expand = (slice(None),) + (None,) * (values.ndim - 1)
    total = values[segments.order]
    for doubling in range(segments.n_doublings):
        stride = 2**doubling
        # item r of a segment holds the sum of its last min(r + 1, stride) items
        shifted = jnp.concatenate([jnp.zeros_like(total[:stride]), total[:-stride]])[: total.shape[0]]
        total = total + jnp.where((segments.rank >= stride)[expand], shifted, 0)
    return jnp.where(segments.filled[expand], total[segments.last], 0)


def _gather(table: Array, segments: Segments) -> Array:
    return table if segments.trivial else table[segments.index]


@jax.custom_vjp
def _segment_sum(values: Array, segments: Segments) -> Array:
    return _sum(values, segments)


@jax.custom_vjp
def _take(table: Array, segments: Segments) -> Array:
    return _gather(table, segments)


_segment_sum.defvjp(
    lambda values, segments: (_sum(values, segments), segments),
    lambda segments, cotangent: (_take(cotangent, segments), None),
)
_take.defvjp(
    lambda table, segments: (_gather(table, segments), segments),
    lambda segments, cotangent: (_segment_sum(cotangent, segments), None),
)
