"""Pruning and guided draw on trees of finite states, level by level."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.path_sweeps import draw
from mjp.inference.potentials.categorical import Categorical
from mjp.inference.schedule import Levels


@jax.jit  # called outside compiled functions, operations would compile one by one
def prune(levels: Levels, matrices: Array, nodes: Categorical) -> tuple[Categorical, Array]:
    """Backward filter from the leaves to the roots (Felsenstein 1981), scaled at every node.

    Args:
        levels: the schedule of the forest.
        matrices: (n_nodes + 1, K, K) matrix of the edge above each node; the last is the identity.
        nodes: (n_nodes + 1, K) potential of the observations at each node; the last is one.

    Returns:
        the potentials g of all rows, (R + 1, K), values normalised and log-scale of the row alone; and
        the log-scale of the whole subtree below each row, (R + 1,).
    """
    own = Categorical(nodes.values[levels.node], nodes.log_scale[levels.node])
    leaves = Categorical(own.values[: levels.leaves], own.log_scale[: levels.leaves]).normalise()
    n_chunks, width = levels.children.shape[:2]
    n_states = nodes.values.shape[-1]
    start = levels.leaves
    values = jnp.concatenate([leaves.values, own.values[start:]])
    scales = jnp.concatenate([leaves.log_scale, own.log_scale[start:]])
    if n_chunks == 0:
        return Categorical(values, scales), scales
    inner_values = own.values[start:-1].reshape(n_chunks, width, n_states)
    inner_scales = own.log_scale[start:-1].reshape(n_chunks, width)
    offsets = start + width * np.arange(n_chunks, dtype=np.int32)

    def step(carry: tuple[Array, Array], x: tuple) -> tuple[tuple[Array, Array], Array]:
        values, below = carry
        children, kernels, own_values, own_scale, offset = x
        messages = jnp.einsum("wcij,wcj->wci", kernels, values[children])
        potential = Categorical(own_values * messages[:, 0] * messages[:, 1], own_scale).normalise()
        total = potential.log_scale + jnp.sum(below[children], axis=1)
        values = lax.dynamic_update_slice_in_dim(values, potential.values, offset, axis=0)
        below = lax.dynamic_update_slice_in_dim(below, total, offset, axis=0)
        return (values, below), potential.log_scale

    xs = (levels.children, matrices[levels.edges], inner_values, inner_scales, offsets)
    (values, below), own_scales = lax.scan(step, (values, scales), xs)
    scales = jnp.concatenate([scales[:start], own_scales.reshape(-1), scales[-1:]])
    return Categorical(values, scales), below


@jax.jit
def guided_states(
    levels: Levels, initial: Array, matrices: Array, potentials: Categorical, uniforms: Array
) -> Array:
    """States of all rows drawn from the roots down, (R + 1,).

    Args:
        initial: (n_roots, K) weights of the roots' states, before their potential.
        matrices: (n_nodes + 1, K, K) matrix of the edge above each node; the last is the identity.
        potentials: (R + 1, K) from `prune`.
        uniforms: (R + 1,) one number per row.
    """
    n_chunks, width = levels.children.shape[:2]
    start = levels.leaves
    is_root = jnp.zeros(len(levels.parent), dtype=bool).at[levels.roots].set(True)
    prior = jnp.ones_like(potentials.values).at[levels.roots].set(initial)

    def sample(states: Array, x: tuple) -> Array:
        parent, kernel, root, prior, values, uniform = x
        from_parent = jnp.take_along_axis(kernel, states[parent][:, None, None], axis=1)[:, 0]
        return draw(jnp.where(root[:, None], prior, from_parent) * values, uniform)

    def block(array: Array | np.ndarray) -> Array | np.ndarray:
        return array[start:-1].reshape(n_chunks, width, *array.shape[1:])

    states = jnp.zeros(len(levels.parent), dtype=jnp.int32)
    kernels = matrices[levels.edge]
    columns = (levels.parent, kernels, is_root, prior, potentials.values, uniforms)
    if n_chunks:
        offsets = start + width * np.arange(n_chunks, dtype=np.int32)

        def step(states: Array, x: tuple) -> tuple[Array, None]:
            offset, *rest = x
            drawn = sample(states, tuple(rest))
            return lax.dynamic_update_slice_in_dim(states, drawn, offset, axis=0), None

        states, _ = lax.scan(step, states, (offsets, *map(block, columns)), reverse=True)
    drawn = sample(states, tuple(column[:start] for column in columns))
    return states.at[:start].set(drawn)
