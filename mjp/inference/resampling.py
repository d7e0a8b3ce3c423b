"""What particle filters of counts share: states, weights, ancestors, and the path that is kept."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import logsumexp

from mjp.inference.count_graph import CountGraph


class Reference(NamedTuple):
    """Paths on all pieces of a graph: when events happened (P, B), and which (P, B), -1 for padding."""

    times: Array
    reactions: Array


def typed(key: Array) -> Array:
    """A key as `jax.random.key` makes it, also of one that `jax.random.PRNGKey` made."""
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def log_likelihoods(model: CountGraph, nodes: Array, x: Array) -> Array:
    """Log-likelihoods (w, n) of states (w, n, d) at a node of each tree, (w,)."""
    return jax.vmap(jax.vmap(model.log_likelihood_at, in_axes=(None, 0)))(nodes, x)


def at_roots(model: CountGraph, roots: Array, n_slots: int) -> tuple[Array, Array]:
    """Particles (w, n, slots, d) in first states (n, w, d), in slot 0, and their log-weights (w, n)."""
    first = jnp.moveaxis(roots, 0, 1)
    nodes = jnp.asarray(model.static.root_nodes.astype(np.int32))
    weights = log_likelihoods(model, nodes, first)
    first = model.leaving(nodes[:, None], first)
    return jnp.pad(first[:, :, None], ((0, 0), (0, 0), (0, n_slots - 1), (0, 0))), weights


def by_component(model: CountGraph, of_trees: Array) -> Array:
    """Sums (n_components,) of what belongs to each tree, (w,)."""
    component = model.static.component[model.static.root_nodes]
    return jnp.zeros(model.static.n_components, of_trees.dtype).at[component].add(of_trees)


def read_slots(x: Array, slot: Array) -> Array:
    """States (w, n, d) of particles (w, n, slots, d) in one slot of each tree, (w,)."""
    if x.shape[2] == 1:
        return x[:, :, 0]
    return jnp.take_along_axis(x, slot[:, None, None, None], axis=2)[:, :, 0]


def write_slots(x: Array, slot: Array, states: Array) -> Array:
    """Particles (w, n, slots, d) with states (w, n, d) in one slot of each tree, (w,)."""
    chosen = jnp.arange(x.shape[2]) == slot[:, None]
    return jnp.where(chosen[:, None, :, None], states[:, :, None], x)


def with_dummy(tree: Any) -> Any:
    """Arrays (P, ...) by piece with a row of zeros for the dummy, which trees that have ended take."""
    return jax.tree.map(lambda array: jnp.concatenate([array, jnp.zeros_like(array[:1])]), tree)


def weighed(log_weights: Array) -> tuple[Array, Array, Array]:
    """Log-total (w,), shares (w, n) and effective number (w,) of particles with log-weights (w, n).

    Shares and number are zero where no particle is alive.
    """
    total = logsumexp(log_weights, axis=1)
    shares = jnp.exp(log_weights - jnp.where(jnp.isfinite(total), total, 0.0)[:, None])
    ess = jnp.sum(shares, axis=1) ** 2 / jnp.maximum(jnp.sum(shares**2, axis=1), 1e-300)
    return total, shares, jnp.where(jnp.isfinite(total), ess, 0.0)


def systematic(key: Array, shares: Array, n: int) -> Array:
    """Ancestors (n,) of systematic resampling with shares (n,) that add up to one."""
    positions = (jax.random.uniform(key, (), shares.dtype) + jnp.arange(n)) / n
    return jnp.minimum(jnp.searchsorted(jnp.cumsum(shares), positions, side="right"), n - 1)


def along_main_axis(x: Array) -> Array:
    """Order (n,) of particles (n, d) along the axis in which they differ most, upward in what counts most."""
    centred = x - jnp.mean(x, axis=0)
    axis = jnp.linalg.eigh(centred.T @ centred)[1][:, -1]
    largest = axis[jnp.argmax(jnp.abs(axis))]
    return jnp.argsort(centred @ (axis * jnp.sign(largest)))


def draw_last(key: Array, log_weights: Array, total: Array) -> Array:
    """One particle of each tree, (w,), by their log-weights (w, n)."""
    return jax.random.categorical(key, jnp.where(jnp.isfinite(total)[:, None], log_weights, 0.0), axis=1)


def trace_back(
    last: Array, ancestors: Array, kept: Any, tables: np.ndarray, n_pieces: int
) -> tuple[Array, Any]:
    """What was kept of the particles that a particle of each tree, (w,), comes from.

    Args:
        ancestors: (blocks, w, n). kept: arrays (blocks, w, n, ...).
        tables: (blocks, w) pieces.

    Returns:
        the ancestors at the roots (w,); by piece, arrays (P, ...).
    """

    def back(index: Array, inputs: tuple) -> tuple[Array, tuple]:
        take = lambda leaf: jnp.take_along_axis(leaf, index.reshape(-1, *[1] * (leaf.ndim - 1)), axis=1)[:, 0]
        ancestors, kept = inputs
        return take(ancestors), jax.tree.map(take, kept)

    first, found = lax.scan(back, last, (ancestors, kept), reverse=True)
    order = np.argsort(tables.reshape(-1), kind="stable")[:n_pieces]
    return first, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[order], found)
