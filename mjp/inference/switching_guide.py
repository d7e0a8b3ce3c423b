r"""The backward filter of a switching diffusion: for every regime a sum of Gaussian potentials.

Before a step of regime k the exact potential is $h_k(x) = \int N_k(dy; x) \sum_l M_{kl} g_l(y)$. A single
Gaussian is a bad guide: a quiet regime reaches a distant observation only by a change to a wild one, which
makes the tails of its potential heavy. So $h_k = \sum_j h_{kj}$, where j is the regime of the last step
before the next node, and each term is a Gaussian: those of the next step's regimes l with the same j are
collapsed to one. Its natural parameters are the mean of theirs under their shares at an anchor, and its value
there is that of the sum (filters collapse moments instead, Kim 1994, J. Econometrics 60:1). It is pulled back
through the step of regime k, linearised at the anchor, with its variance enlarged.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import logsumexp

from mjp._small_matrices import dot, log_determinant, product, solve_lower, times, transpose
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.rules.registry import rule_of
from mjp.inference.switching_graph import SwitchingGraph, log_moves

NEVER = -1e30  # the log of the constant of a potential that is zero; finite, for derivatives


class Potentials(NamedTuple):
    """Potentials of all steps by regime, and by the regime j before the next node; batches (F, K, J, S).

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
    known = layout.known_step
    k = model.process.n_regimes
    own_regime = jnp.where(jnp.eye(k, dtype=bool)[..., None], 0.0, NEVER)

    def step(after: Canonical, x: tuple) -> tuple[Canonical, tuple[Canonical, Canonical]]:
        own, site, log_move, anchor, node, value, known = x
        ahead = jax.tree.map(lambda a, b: a + b[..., None, None, :], after, site)
        log_move = jnp.maximum(log_move, NEVER)
        joint = _collapsed(ahead, log_move, anchor, over_last=True)
        joint = joint.pull_back(joint.gain(own.factor), own.matrix, own.offset)
        if known is not None:
            future = ahead.log_value(value[:, None, None])[None] + log_move[:, :, None]
            seen = seen_exactly(own, value[:, None], logsumexp(future, axis=(1, 2)))
            joint = jax.tree.map(lambda a, b: jnp.where(known, a, b), seen, joint)
        by_last = jax.tree.map(lambda leaf: jnp.repeat(leaf[..., None, :], k, axis=-2), joint)
        pulled = Canonical(by_last.constant + own_regime, by_last.linear, by_last.precision)
        if layout.per_edge > 1:
            own = jax.tree.map(lambda leaf: leaf[..., None, :], own)
            inside = _collapsed(ahead, log_move, anchor, over_last=False)
            inside = inside.pull_back(inside.gain(own.factor), own.matrix, own.offset)
            pulled = jax.tree.map(lambda a, b: jnp.where(node, a, b), pulled, inside)
        return pulled, (pulled, ahead)

    own = linear_steps(model, anchors[:, :-1])
    wide = LinearSteps(own.matrix, own.offset, own.factor * model.process.defence**0.5)
    own, at_end = steps_first(wide, -2), steps_first(at_ends(sites, layout.per_edge), -2)
    moves, ends = steps_first(log_moves(model), 2), steps_first(anchors[:, 1:], 1)
    value = steps_first(model.values_at_ends, 1)
    at_node = np.arange(1, layout.n_steps + 1) % layout.per_edge == 0
    unit = Canonical.unit((k, k, layout.n_series), layout.dim, anchors.dtype)
    # a potential of one in all is that of a single j
    last = Canonical(unit.constant + own_regime, unit.linear, unit.precision)
    xs = (own, at_end, moves, ends, at_node, value, known if known.any() else None)
    _, (before, ahead) = lax.scan(step, last, xs, reverse=True)
    return Potentials(before, ahead)


def at_roots(model: SwitchingGraph, potentials: Potentials, sites: Canonical) -> Canonical:
    """Potentials (K, J, S) of the first states, all observations included, by the first step's regime."""
    own = jax.tree.map(lambda leaf: leaf[..., 0, None, None, :], sites)
    return jax.tree.map(lambda leaf: leaf[0], potentials.before).fuse(own)


def _collapsed(ahead: Canonical, log_move: Array, anchor: Array, *, over_last: bool) -> Canonical:
    """Sums of potentials (l, j, S) over next regimes l as one for each regime: (k, S), or by j (k, j, S)."""
    axes = (1, 2) if over_last else (1,)
    logs = log_move[:, :, None] + ahead.log_value(anchor[:, None, None])[None]  # (k, l, j, S)
    total = logsumexp(logs, axis=axes)
    shares = jnp.exp(logs - jnp.expand_dims(total, axes))
    linear = jnp.sum(shares * ahead.linear[:, None], axis=tuple(1 + a for a in axes))
    precision = jnp.sum(shares * ahead.precision[:, :, None], axis=tuple(2 + a for a in axes))
    at = anchor[:, None] if over_last else anchor[:, None, None]
    return Canonical(total - dot(linear - 0.5 * times(precision, at), at), linear, precision)


def seen_exactly(own: LinearSteps, value: Array, future: Array) -> Canonical:
    """Potential of the start of steps whose end (d, ...) is known, times the known potential (...) there."""
    lower = own.factor
    error = value - own.offset
    white = solve_lower(lower, jnp.concatenate([own.matrix, error[:, None]], axis=1))
    matrix, target = white[:, :-1], white[:, -1]
    back = transpose(matrix)
    normaliser = log_determinant(lower) + 0.5 * len(error) * jnp.log(2 * jnp.pi)
    constant = future - 0.5 * dot(target, target) - normaliser
    return Canonical(constant, times(back, target), product(back, matrix))


def linear_steps(model: SwitchingGraph, anchors: Array) -> LinearSteps:
    """Steps of all regimes, linearised at anchors (d, F, S): (..., K, F, S), lower factors."""
    found = []
    for diffusion in model.process.diffusions:
        lifted = diffusion.step
        for _ in range(anchors.ndim - 1):
            lifted = jax.vmap(lifted, in_axes=-1, out_axes=-1)
        found.append(rule_of(diffusion).linearise(diffusion, lifted, anchors, model.at))
    stack = lambda name: jnp.stack([getattr(steps, name) for steps in found], axis=-3)
    return LinearSteps(stack("matrix"), stack("offset"), model.steps(anchors, model.at)[1])


def steps_first(tree: Any, axis: int) -> Any:
    """Arrays with the axis of the steps in front, for a scan over them."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, axis, 0), tree)


def at_ends(sites: Canonical, per_edge: int) -> Canonical:
    """Potentials by node (..., T, S) as potentials at the ends of steps (..., F, S)."""

    def spread(leaf: Array) -> Array:
        by_edge = leaf[..., 1:, None, :]
        none = jnp.zeros((*leaf.shape[:-2], leaf.shape[-2] - 1, per_edge - 1, leaf.shape[-1]), leaf.dtype)
        whole = jnp.concatenate([none, by_edge], axis=-2)
        return whole.reshape(*leaf.shape[:-2], -1, leaf.shape[-1])

    return jax.tree.map(spread, sites)
