"""What particle filters of counts share: blocks, weights, and ancestors."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp

from mjp.inference.count_engine import CountGraph


def blocks_of(model: CountGraph) -> np.ndarray:
    """Pieces by level and component, (levels, n_components); the dummy where a series has ended.

    Raises:
        TypeError: several networks, or nodes with several children.
    """
    layout, static = model.static.layout, model.static
    parents = layout.pieces.parents
    if len(layout.processes) > 1:
        raise TypeError("particles need one reaction network for all edges of a chain")
    if len(np.unique(parents)) < len(parents) or static.n_components != len(static.root_nodes):
        raise TypeError("particles need a chain, or several side by side; this graph branches")
    found = np.full(
        (sum(len(level.pieces[0]) for level in layout.levels), static.n_components), model.n_pieces
    )
    at = 0
    for level in layout.levels:
        for row in level.pieces[0]:
            row = row[row < model.n_pieces]
            found[at, static.component[layout.pieces.children[row]]] = row
            at += 1
    return found


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
