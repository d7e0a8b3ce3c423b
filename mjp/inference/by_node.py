"""Reading and writing arrays that have nodes, or edges, last; functions of one factor over many."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from mjp.inference.joint_factors import Factor

READ = "read by node"  # the name of what gradients may keep, for `jax.checkpoint`


def each(function: Callable[..., Any], own: Any, above: Any, ahead: Any) -> Any:
    """A function of one factor over all: own (E, ...), the rest (..., E); results (..., E)."""
    return jax.vmap(
        function, in_axes=(0, -1, -1), out_axes=-1, axis_size=jax.tree.leaves(above)[0].shape[-1]
    )(own, above, ahead)


def inputs_of(factor: Factor, edge: Array) -> Any:
    return jax.tree.map(lambda leaf: checkpoint_name(leaf[edge], READ), factor.inputs)


def columns(tree: Any, index: Any) -> Any:
    return jax.tree.map(lambda leaf: checkpoint_name(leaf[..., index], READ), tree)


def put(tree: Any, index: Any, values: Any) -> Any:
    return jax.tree.map(lambda leaf, new: leaf.at[..., index].set(new), tree, values)


def add(tree: Any, index: Any, values: Any) -> Any:
    return jax.tree.map(lambda leaf, new: leaf.at[..., index].add(new), tree, values)


def counted(nodes: np.ndarray, edge: Array, counts: Array, n: int) -> Array:
    """Nodes of edges, and the place that does not count where an edge repeats another."""
    return jnp.where(counts, jnp.asarray(nodes)[edge], n)
