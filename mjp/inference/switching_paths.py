"""Guided paths of a switching diffusion, whose regimes are integrated out by the filter that runs along."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp

from mjp._small_matrices import times
from mjp.inference.mixture_draws import mixture_draw
from mjp.inference.potentials.canonical import Canonical, Gain
from mjp.inference.safe_logs import log_or_never
from mjp.inference.switching_graph import SwitchingGraph, log_moves, log_normal
from mjp.inference.switching_guide import Potentials, steps_first
from mjp.processes.gaussian import Interval


def first_states(model: SwitchingGraph, roots: Canonical, z: Array | None) -> tuple[Array, Array]:
    """First states (d, S), and the evidence of the guide (S,).

    Args:
        roots: potentials (K, J, S) of the first states; z: (d, S), None where these are known.
    """
    log_first = log_or_never(model.regimes.first.T)[:, None]
    mean = model.root_mean
    if z is None:
        return mean, logsumexp(log_first + roots.log_value(mean[:, None, None]), axis=(0, 1))
    gain = roots.gain(model.root_factor[:, :, None, None])
    mean = mean[:, None, None]
    logs = log_first + roots.log_pulled(gain, mean)
    moved = mean + times(gain.loading, gain.steering(mean))
    return mixture_draw(_flat(logs, 2), _flat(moved, 2), _flat(gain.loading, 2), z), logsumexp(
        logs, axis=(0, 1)
    )


def guided_paths(
    model: SwitchingGraph, potentials: Potentials, start: Array, z: Array
) -> tuple[Array, Array]:
    r"""Follow guided steps from the first states.

    A step from x, whose regime has the law π given the path so far, has the density
    $\sum_k \pi_k N_k(y; x)$. Times the potential ahead this is a mixture over the regimes (k, l) of this
    and the next step and over the terms j of its potential, from which y is drawn.

    Args:
        start: (d, S); z: (F', d, S) innovations of the steps whose end is not known everywhere.

    Returns:
        states (d, F + 1, S), and log-weights of the steps (F, S), without those of the observations.
    """
    layout = model.layout
    known, free = layout.known_step, layout.free
    noise = jnp.zeros((layout.n_steps, *z.shape[1:]), z.dtype).at[free].set(z)

    def step(carry: tuple[Array, Array], own: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        x, law = carry
        at, before, ahead, log_move, z, value, known = own
        log_law = log_or_never(law)
        mean, lower = model.steps(x, Interval(*at))
        drawn, logs = _towards(mean, lower, ahead, log_law[:, None] + log_move, z)
        if known is not None:
            drawn = jnp.where(known, value, drawn)
            seen = log_law + log_normal(value[:, None] - mean, lower)
            given = (seen[:, None] + log_move)[:, :, None] + ahead.log_value(value[:, None, None])[None]
            logs = jnp.where(known, given, logs)
        behind = log_law[:, None] + before.log_value(x[:, None, None])
        weight = logsumexp(logs, axis=(0, 1, 2)) - logsumexp(behind, axis=(0, 1))
        filtered = jax.nn.softmax(log_law + log_normal(drawn[:, None] - mean, lower), axis=0)
        return (drawn, jnp.sum(filtered[:, None] * jnp.exp(log_move), axis=0)), (x, weight)

    xs = (
        tuple(model.at),
        *potentials,
        steps_first(log_moves(model), 2),
        noise,
        steps_first(model.values_at_ends, 1),
        known if known.any() else None,
    )
    (last, _), (before, weights) = lax.scan(step, (start, model.regimes.first.T), xs)
    return jnp.moveaxis(jnp.concatenate([before, last[None]]), 0, 1), weights


def _towards(mean: Array, lower: Array, ahead: Canonical, log_pair: Array, z: Array) -> tuple[Array, Array]:
    """Draws (d, S) of the tilted mixture, and the logs of its weights (K, K, J, S).

    Args:
        mean: (d, K, S), lower: (d, d, K, S) of the steps; ahead: (K, J, S); log_pair: (K, K, S).
    """
    mean, lower = mean[..., None, None, :], lower[..., None, None, :]
    by_next: Canonical = jax.tree.map(lambda leaf: leaf[..., None, :, :, :], ahead)
    gain: Gain = by_next.gain(lower)
    logs = log_pair[:, :, None] + by_next.log_pulled(gain, mean)
    moved = mean + times(gain.loading, gain.steering(mean))
    return mixture_draw(_flat(logs, 3), _flat(moved, 3), _flat(gain.loading, 3), z), logs


def _flat(leaf: Array, axes: int) -> Array:
    """The components of mixtures, on `axes` axes before the last one, on a single axis."""
    return leaf.reshape(*leaf.shape[: -axes - 1], -1, leaf.shape[-1])
