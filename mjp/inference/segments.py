"""Sums over static segments, and gathers whose derivative is such a sum, without scatter."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_WIDTH = 16  # items that one stage adds up
_FEW, _LONG = 32, 8  # up to _FEW segments of items of at least _LONG numbers, a matrix product is faster


class Segments(eqx.Module):
    """Assignment of n items to m segments, known before compilation.

    XLA executes a scatter on the CPU one update at a time, some hundred times slower than a gather. A
    static assignment avoids it: the items of a segment are dealt into groups of bounded size, and each
    stage gathers and adds up the groups. Their sums are the items of the next stage, until a segment is
    a single group.
    """

    index: np.ndarray  # (n,) segment of each item; unsigned, because XLA tests signed indices at run time
    stages: tuple[np.ndarray, ...]  # (width, groups) items of each group, padded with one beyond the last
    trivial: bool = eqx.field(static=True)  # every segment has exactly its own item

    def __init__(self, index: np.ndarray, n_segments: int):
        self.index = np.asarray(index, dtype=np.uint32)
        counts = np.bincount(self.index, minlength=n_segments)
        self.trivial = len(self.index) == n_segments and bool(np.all(self.index == np.arange(n_segments)))
        items, stages = np.argsort(self.index, kind="stable"), []
        while counts.max(initial=0) > _WIDTH:
            n_groups = -(-counts // _WIDTH)
            stages.append(_groups(items, counts, n_groups, _WIDTH))
            items, counts = np.arange(n_groups.sum()), n_groups
        stages.append(_groups(items, counts, np.ones_like(counts), int(counts.max(initial=0))))
        self.stages = tuple(stages)

    @property
    def n_segments(self) -> int:
        return self.stages[-1].shape[1]


def _groups(items: np.ndarray, counts: np.ndarray, n_groups: np.ndarray, width: int) -> np.ndarray:
    """Deal items, `counts` of them per segment in order, into `n_groups` groups per segment."""
    segment = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(items)) - (np.cumsum(counts) - counts)[segment]
    groups = np.full((width, n_groups.sum()), len(items), dtype=np.uint32)
    if len(items):
        groups[rank % width, (np.cumsum(n_groups) - n_groups)[segment] + rank // width] = items
    return groups


def segment_sum(values: Array, segments: Segments) -> Array:
    """Sum values (n, ...) over segments, (m, ...); its derivative is a gather."""
    return values if segments.trivial else _segment_sum(values, segments)


def take(table: Array, segments: Segments) -> Array:
    """Rows table[index], (n, ...), of a table (m, ...); its derivative is a segment sum."""
    return table if segments.trivial else _take(table, segments)


def rows(tree: Any, index: np.ndarray) -> Any:
    """Rows of all arrays (m, ...) of a pytree at static positions of any shape."""
    index = np.asarray(index)

    def pick(leaf: Any) -> Array:
        table = jnp.asarray(leaf)
        found = take(table, Segments(index.reshape(-1), table.shape[0]))
        return found.reshape(*index.shape, *table.shape[1:])

    return jax.tree.map(pick, tree)


def _sum(values: Array, segments: Segments) -> Array:
    if segments.trivial:
        return values
    if segments.n_segments <= _FEW and math.prod(values.shape[1:]) >= _LONG:
        members = jax.nn.one_hot(segments.index, segments.n_segments, axis=0, dtype=values.dtype)
        return jnp.tensordot(members, values, axes=1)
    for groups in segments.stages:
        padded = jnp.concatenate([values, jnp.zeros((1, *values.shape[1:]), values.dtype)])
        values = jnp.sum(padded.at[groups].get(mode="promise_in_bounds"), axis=0)
    return values


def _gather(table: Array, segments: Segments) -> Array:
    if segments.trivial:
        return table
    # without the barrier XLA computes a row again for every item that takes it, exponentials included
    return lax.optimization_barrier(table).at[segments.index].get(mode="promise_in_bounds")


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
