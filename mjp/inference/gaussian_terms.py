"""One-step-ahead densities of a linear-Gaussian chain, by a forward filter in Joseph's form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp._small_matrices import (
    cholesky,
    dot,
    identity,
    log_determinant,
    product,
    solve_lower,
    solve_upper,
    times,
    transpose,
)
from mjp.inference.gaussian_graph import GaussianGraph
from mjp.inference.gaussian_sites import GaussianSite, Observed
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.schedule import topological_depth
from mjp.inference.segments import columns, rows


class Whitened(NamedTuple):
    """Observations t = W x + e, e ~ N(0, I), of a state: W (k, d), t (k,), and the log of the normaliser.

    A row of zeros stands for what is not observed. The noise (k,) of a row is 1, or 0 for an exact one.
    """

    matrix: Array
    target: Array
    constant: Array
    noise: Array


def is_single_path(graph: GaussianGraph) -> bool:
    """Whether a graph is one path from one root."""
    parents = graph.layout.parent[graph.layout.parent >= 0]
    lonely = len(np.unique(parents)) == len(parents)
    return lonely and len(graph.layout.root_nodes) == 1 and graph.layout.n_components == 1


def one_step_ahead(graph: GaussianGraph, edges: LinearSteps, sites: list[Observed]) -> Array:
    r"""Terms $\log p(y_t | y_0, \dots, y_{t-1})$ by node of a single path, (n_graph_nodes,).

    Their sum is the evidence; the term of a node that is not observed is zero.

    The covariance of what the past says of a state is only ever added to: in place of a difference of
    matrices, $(I - K W) P (I - K W)' + K K'$ (Bucy & Joseph 1968), which stays positive semi-definite for
    observations without any noise to speak of, and for states that are known in some directions.

    Args:
        edges: one composed step per edge, (..., E), kind after kind.
        sites: Gaussian observations, all exact.
    """
    layout = graph.layout
    order = np.argsort(topological_depth(layout.parent)[0])
    n, dim, dtype = layout.n_nodes, layout.dim, graph.root_mean.dtype
    # what exact observations of a child say of the start of its last step comes after the node's own
    inserted = [site for site in sites if site.of_child]
    own = _stacked([site for site in sites if not site.of_child], n, dim, dtype)
    ahead = _stacked(inserted, n, dim, dtype) if inserted else None
    steps = jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf, -1, 0), columns(edges, layout.edge_of_node[order[1:]])
    )
    root = graph.root_factor[..., 0]
    first = (graph.root_mean[0], root @ root.T)

    def see(law: tuple[Array, Array], seen: tuple) -> tuple[tuple[Array, Array], list[Array]]:
        found = []
        for observation in seen:
            law, term = update(*law, observation)
            found.append(term)
        return law, found

    def move(law: tuple[Array, Array], x: tuple) -> tuple[tuple[Array, Array], list[Array]]:
        seen, step = x
        (mean, covariance), found = see(law, seen)
        spread = product(product(step.matrix, covariance), transpose(step.matrix))
        noise = product(step.factor, transpose(step.factor))
        return (times(step.matrix, mean) + step.offset, spread + noise), found

    in_order = tuple(rows(part, order) for part in (own, ahead) if part is not None)
    before = tuple(Whitened(*(leaf[:-1] for leaf in part)) for part in in_order)
    law, found = lax.scan(move, first, (before, steps))
    _, last = see(law, tuple(Whitened(*(leaf[-1] for leaf in part)) for part in in_order))
    by_position = [jnp.append(a, b) for a, b in zip(found, last, strict=True)]
    terms = jnp.zeros(n, dtype).at[order].set(by_position[0])
    if ahead is not None:
        following = np.append(order[1:], order[-1])
        terms = terms.at[following].add(by_position[1])
    return terms[: layout.n_graph_nodes]


def update(mean: Array, covariance: Array, seen: Whitened) -> tuple[tuple[Array, Array], Array]:
    """The law N(mean, covariance) of a state given an observation of it, and the log-density of that."""
    matrix = seen.matrix
    reach = product(matrix, covariance)
    noise = identity(len(matrix), matrix) * seen.noise
    lower = cholesky(noise + product(reach, transpose(matrix)))
    error = seen.target - times(matrix, mean)
    white = solve_lower(lower, jnp.concatenate([reach, error[:, None]], axis=1))
    half, residual = white[:, :-1], white[:, -1]
    gain = transpose(solve_upper(lower, half))
    rest = identity(len(mean), matrix) - product(gain, matrix)
    covariance = product(product(rest, covariance), transpose(rest)) + product(
        gain * seen.noise, transpose(gain)
    )
    mean = mean + times(transpose(half), residual)
    return (mean, covariance), seen.constant - 0.5 * dot(residual, residual) - log_determinant(lower)


def _stacked(sites: list[Observed], n: int, dim: int, dtype: jnp.dtype) -> Whitened:
    """All observations of each node one below the other, (n, ...)."""
    count, parts = np.zeros(n, dtype=int), []
    for observed in sites:
        slot = np.empty(len(observed.nodes), dtype=int)
        for i, node in enumerate(observed.nodes.tolist()):
            slot[i], count[node] = count[node], count[node] + 1
        matrix, target, constant, noise = _rows(observed.site, jnp.zeros((len(slot), dim), dtype))
        matrix = jnp.broadcast_to(matrix, (*target.shape, dim))
        parts.append((slot, observed.nodes, matrix, target, constant, noise))
    slots = max(int(count.max(initial=0)), 1)
    k = max((part[3].shape[-1] for part in parts), default=1)
    matrices, targets = jnp.zeros((n, slots, k, dim), dtype), jnp.zeros((n, slots, k), dtype)
    constants, noises = jnp.zeros(n, dtype), jnp.ones((n, slots, k), dtype)
    for slot, nodes, matrix, target, constant, noise in parts:
        width = target.shape[-1]
        matrices = matrices.at[nodes, slot, :width].set(matrix)
        targets = targets.at[nodes, slot, :width].set(target)
        constants = constants.at[nodes].add(constant)
        noises = noises.at[nodes, slot, :width].set(noise)
    return Whitened(matrices.reshape(n, -1, dim), targets.reshape(n, -1), constants, noises.reshape(n, -1))


def _rows(site: GaussianSite, anchors: Array) -> tuple[Array, ...]:
    """The fields of `Whitened` for a batch of observations, which comes first."""
    if site.noiseless:
        matrix, target, factor, constant = site.stacked(anchors)
        noise = jnp.stack([factor[i, i] for i in range(len(factor))])
    else:
        matrix, target, constant = site.whitened(anchors)
        noise = jnp.ones_like(target)
    return tuple(jnp.moveaxis(leaf, -1, 0) for leaf in (matrix, target, constant, noise))
