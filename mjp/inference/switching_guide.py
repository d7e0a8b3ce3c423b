r"""The backward filter of a switching diffusion: one Gaussian potential per regime.

Before a step of regime k the exact potential is $h_k(x) = \int N_k(dy; x) \sum_l M_{kl} g_l(y)$. The sum over
the next step's regimes is collapsed to one Gaussian: its natural parameters are the mean of theirs under the
shares of the regimes at an anchor, and its value there is that of the sum (filters collapse moments instead,
Kim 1994, J. Econometrics 60:1). It is pulled back through the steps of regime k, linearised at the anchor,
with their variance enlarged.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp

from mjp._small_matrices import dot, log_determinant, product, solve_lower, times, transpose
from mjp.inference.potentials.canonical import Canonical, gain_of, pull_back
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.rules.registry import rule_of
from mjp.inference.switching_graph import SwitchingGraph, log_moves


class Potentials(NamedTuple):
    """Potentials of all steps by regime, batches (F, K, S).

    Attributes:
        before: at the start of each step, without the observations there.
        ahead: at its end, with the observations there, by the next step's regime.
    """

    before: Canonical
    ahead: Canonical


def backward(model: SwitchingGraph, anchors: Array, sites: Canonical) -> Potentials:
    """Pull the observations back along all series.

    Args:
        anchors: (d, F + 1, S) states, at the start of every step and at the end.
        sites: potentials of the noisy observations at the nodes, batch (T, S).
    """
    layout = model.layout
    steps = _linear_steps(model, anchors[:, :-1])
    at_end = _at_ends(sites, layout.per_edge)
    known = layout.known_step
    value = jnp.repeat(model.values[:, 1:], layout.per_edge, axis=1)  # (d, F, S)
    k = model.process.n_regimes

    def step(after: Canonical, x: tuple) -> tuple[Canonical, tuple[Canonical, Canonical]]:
        own, site, log_move, anchor, value, known = x
        ahead = jax.tree.map(lambda a, b: a + b[..., None, :], after, site)
        pooled = _pooled(ahead, log_move, anchor)
        pulled = pull_back(pooled, gain_of(pooled, own.factor), own.matrix, own.offset)
        if known is not None:
            future = logsumexp(log_move + ahead.log_value(value[:, None])[None], axis=1)
            exact = _seen(own, value, future)
            pulled = jax.tree.map(lambda a, b: jnp.where(known, a, b), exact, pulled)
        return pulled, (pulled, ahead)

    first = lambda tree, axis: jax.tree.map(lambda leaf: jnp.moveaxis(leaf, axis, 0), tree)
    own, at_end = first(steps, -2), first(at_end, -2)
    moves, ends, value = first(log_moves(model), 2), first(anchors[:, 1:], 1), first(value, 1)
    last = Canonical.unit((k, layout.n_series), layout.dim, anchors.dtype)
    xs = (own, at_end, moves, ends, value, known if known.any() else None)
    _, (before, ahead) = lax.scan(step, last, xs, reverse=True)
    return Potentials(before, ahead)


def at_roots(model: SwitchingGraph, potentials: Potentials, sites: Canonical) -> Canonical:
    """Potentials of everything that is observed, of the first states, by the first step's regime, (K, S)."""
    own = jax.tree.map(lambda leaf: leaf[..., 0, None, :], sites)
    return jax.tree.map(lambda leaf: leaf[0], potentials.before).fuse(own)


def _pooled(ahead: Canonical, log_move: Array, anchor: Array) -> Canonical:
    """The mixtures over next regimes (l, S) as one potential for each regime (k, S)."""
    logs = log_move + ahead.log_value(anchor[:, None])[None]  # (k, l, S)
    shares = jax.nn.softmax(logs, axis=1)
    linear = jnp.sum(shares * ahead.linear[:, None], axis=2)
    precision = jnp.sum(shares * ahead.precision[:, :, None], axis=3)
    at = anchor[:, None]
    constant = logsumexp(logs, axis=1) - dot(linear - 0.5 * times(precision, at), at)
    return Canonical(constant, linear, precision)


def _seen(own: LinearSteps, value: Array, future: Array) -> Canonical:
    """Potential of the start of steps whose end (d, S) is known, times the known potential (K, S) there."""
    lower = own.factor
    error = value[:, None] - own.offset
    white = solve_lower(lower, jnp.concatenate([own.matrix, error[:, None]], axis=1))
    matrix, target = white[:, :-1], white[:, -1]
    back = transpose(matrix)
    normaliser = log_determinant(lower) + 0.5 * len(error) * jnp.log(2 * jnp.pi)
    constant = future - 0.5 * dot(target, target) - normaliser
    return Canonical(constant, times(back, target), product(back, matrix))


def _linear_steps(model: SwitchingGraph, anchors: Array) -> LinearSteps:
    """Auxiliary steps of all regimes at anchors (d, F, S): (..., K, F, S), lower factors."""
    found = []
    for diffusion in model.process.diffusions:
        lifted = diffusion.step
        for _ in range(anchors.ndim - 1):
            lifted = jax.vmap(lifted, in_axes=-1, out_axes=-1)
        found.append(rule_of(diffusion).linearise(diffusion, lifted, anchors, model.at))
    stack = lambda name: jnp.stack([getattr(steps, name) for steps in found], axis=-3)
    lower = model.steps(anchors, model.at)[1]
    return LinearSteps(stack("matrix"), stack("offset"), lower * model.process.defence**0.5)


def _at_ends(sites: Canonical, per_edge: int) -> Canonical:
    """Potentials by node (..., T, S) as potentials at the ends of steps (..., F, S)."""

    def spread(leaf: Array) -> Array:
        by_edge = leaf[..., 1:, None, :]
        none = jnp.zeros((*leaf.shape[:-2], leaf.shape[-2] - 1, per_edge - 1, leaf.shape[-1]), leaf.dtype)
        whole = jnp.concatenate([none, by_edge], axis=-2)
        return whole.reshape(*leaf.shape[:-2], -1, leaf.shape[-1])

    return jax.tree.map(spread, sites)
