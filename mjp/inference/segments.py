"""Sums over static segments, and gathers whose derivative is such a sum, without scatter."""

import math
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

_WIDTH = 16  # items that one stage adds up
_MOSTLY_EMPTY = 2  # segments per segment with items from which on the sums are spread at the end
_RUNS, _MANY = 32, 2**13  # up to _RUNS runs of at least _MANY positions are copied as slices
_FEW, _LONG = 32, 8  # up to _FEW segments of items of at least _LONG numbers, a matrix product is faster


type Runs = tuple[tuple[int, int, int], ...]  # start, length and step, 0 or 1


class Segments(eqx.Module):
    """Assignment of n items to m segments, known before compilation.

    XLA executes a scatter on the CPU one update at a time, some hundred times slower than a gather. A
    static assignment avoids it: the items of a segment are dealt into groups of bounded size, and each
    stage gathers and adds up the groups. Their sums are the items of the next stage, until a segment is
    a single group.
    """

    index: np.ndarray  # (n,) segment of each item; unsigned, because XLA tests signed indices at run time
    stages: tuple[np.ndarray, ...]  # (width, groups) items of each group, padded with one beyond the last
    spread: np.ndarray | None  # (m,) sum of each segment, one beyond the last if empty; None if none is
    n_segments: int = eqx.field(static=True)
    trivial: bool = eqx.field(static=True)  # every segment has exactly its own item
    runs: "Runs | None" = eqx.field(static=True)  # of the index
    runs_of_stages: "tuple[Runs | None, ...]" = eqx.field(static=True)

    def __init__(self, index: np.ndarray, n_segments: int):
        self.index, self.n_segments = np.asarray(index, dtype=np.uint32), n_segments
        counts = np.bincount(self.index, minlength=n_segments)
        self.trivial = len(self.index) == n_segments and bool(np.all(self.index == np.arange(n_segments)))
        items, stages = np.argsort(self.index, kind="stable"), []
        used = counts > 0
        self.spread = None
        if _MOSTLY_EMPTY * used.sum() < n_segments:
            # groups of empty segments would be gathered too
            self.spread = np.where(used, np.cumsum(used) - 1, used.sum()).astype(np.uint32)
            counts = counts[used]
        while counts.max(initial=0) > _WIDTH:
            n_groups = -(-counts // _WIDTH)
            stages.append(_groups(items, counts, n_groups, _WIDTH))
            items, counts = np.arange(n_groups.sum()), n_groups
        stages.append(_groups(items, counts, np.ones_like(counts), int(counts.max(initial=0))))
        self.stages = tuple(stages)
        self.runs, *of_stages = (_runs(array.reshape(-1)) for array in (self.index, *stages))
        self.runs_of_stages = tuple(of_stages)


def _runs(index: np.ndarray) -> "Runs | None":
    """Runs of positions that are equal or follow each other; None if there are many, or few positions."""
    runs, at, steps = [], 0, np.diff(index.astype(np.int64))
    if len(index) < _MANY:
        return None
    while at < len(index):
        if len(runs) == _RUNS:
            return None
        step = int(steps[at]) if at < len(steps) and steps[at] in (0, 1) else 1
        other = np.flatnonzero(steps[at:] != step)
        length = 1 + int(other[0]) if len(other) else len(index) - at
        runs.append((int(index[at]), length, step))
        at += length
    return tuple(runs)


def _groups(items: np.ndarray, counts: np.ndarray, n_groups: np.ndarray, width: int) -> np.ndarray:
    """Deal items, `counts` of them per segment in order, into `n_groups` groups per segment."""
    segment = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(items)) - (np.cumsum(counts) - counts)[segment]
    groups = np.full((width, n_groups.sum()), len(items), dtype=np.uint32)
    if len(items):
        groups[rank % width, (np.cumsum(n_groups) - n_groups)[segment] + rank // width] = items
    return groups


def segment_sum(values: Array, segments: Segments, axis: int = 0) -> Array:
    """Sum values (n, ...) over segments, (m, ...); its derivative is a gather.

    Args:
        axis: of the items: the first one, 0, or the last one, -1.
    """
    return values if segments.trivial else _segment_sum(values, segments, axis)


def take(table: Array, segments: Segments, axis: int = 0) -> Array:
    """Rows table[index], (n, ...), of a table (m, ...); its derivative is a segment sum.

    Args:
        axis: of the rows: the first one, 0, or the last one, -1.
    """
    return table if segments.trivial else _take(table, segments, axis)


def rows(tree: Any, index: np.ndarray) -> Any:
    """Rows of all arrays (m, ...) of a pytree at static positions of any shape."""
    index = np.asarray(index)

    def pick(leaf: Any) -> Array:
        table = jnp.asarray(leaf)
        found = take(table, Segments(index.reshape(-1), table.shape[0]))
        return found.reshape(*index.shape, *table.shape[1:])

    return jax.tree.map(pick, tree)


def columns(tree: Any, index: np.ndarray) -> Any:
    """Columns of all arrays (..., m) of a pytree at static positions of any shape."""
    index = np.asarray(index)

    def pick(leaf: Any) -> Array:
        table = jnp.asarray(leaf)
        found = take(table, Segments(index.reshape(-1), table.shape[-1]), -1)
        return found.reshape(*table.shape[:-1], *index.shape)

    return jax.tree.map(pick, tree)


def _sum(values: Array, segments: Segments, axis: int) -> Array:
    if segments.trivial:
        return values
    others = math.prod(values.shape) // max(values.shape[axis], 1)
    if segments.n_segments <= _FEW and others >= _LONG:
        members = jax.nn.one_hot(segments.index, segments.n_segments, axis=0, dtype=values.dtype)
        if axis == 0:
            return jnp.tensordot(members, values, axes=1)
        return jnp.tensordot(values, members.T, axes=1)
    shape = list(values.shape)
    shape[axis] = 1
    zero = jnp.zeros(shape, values.dtype)
    for groups, runs in zip(segments.stages, segments.runs_of_stages, strict=True):
        padded = jnp.concatenate([values, zero], axis=axis)
        values = jnp.sum(_pick(padded, groups, runs, axis), axis=0 if axis == 0 else -2)
    if segments.spread is not None:
        values = _pick(jnp.concatenate([values, zero], axis=axis), segments.spread, None, axis)
    return values


def _pick(table: Array, index: np.ndarray, runs: "Runs | None", axis: int) -> Array:
    """Rows or columns of a table at static positions."""
    if axis == 0 or runs is None:
        at = table.at[index] if axis == 0 else table.at[..., index]
        return at.get(mode="promise_in_bounds")
    parts = []  # slices are copied much faster than single items
    for start, length, step in runs:
        part = lax.slice_in_dim(table, start, start + (length if step else 1), axis=-1)
        parts.append(part if step else jnp.broadcast_to(part, (*part.shape[:-1], length)))
    # a barrier again, because a consumer would look up the part of every single item
    whole = lax.optimization_barrier(jnp.concatenate(parts, axis=-1))
    return whole.reshape(*table.shape[:-1], *index.shape)


def _gather(table: Array, segments: Segments, axis: int) -> Array:
    if segments.trivial:
        return table
    # without the barrier XLA computes a row again for every item that takes it, exponentials included
    return _pick(lax.optimization_barrier(table), segments.index, segments.runs, axis)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _segment_sum(values: Array, segments: Segments, axis: int) -> Array:
    return _sum(values, segments, axis)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _take(table: Array, segments: Segments, axis: int) -> Array:
    return _gather(table, segments, axis)


_segment_sum.defvjp(
    lambda values, segments, axis: (_sum(values, segments, axis), segments),
    lambda axis, segments, cotangent: (_take(cotangent, segments, axis), None),
)
_take.defvjp(
    lambda table, segments, axis: (_gather(table, segments, axis), segments),
    lambda axis, segments, cotangent: (_segment_sum(cotangent, segments, axis), None),
)
