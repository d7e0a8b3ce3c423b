"""Particle filter of the regimes of a switching diffusion that is linear given them.

A particle is a sequence of regimes. The state given it has a normal law, which a Kalman filter follows, so
that only regimes are random (Rao-Blackwellised; Doucet, de Freitas, Murphy & Russell 2000, UAI 16:176). A
step has K continuations of every particle, all of which are weighed; N of them are kept by the resampling of
Fearnhead & Clifford (2003, J. R. Statist. Soc. B 65:887), which keeps the heaviest with certainty and no one
twice. With as many particles as there are sequences the filter is exact.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import logsumexp

from mjp._small_matrices import cholesky, product, times, transpose
from mjp.graph import Graph
from mjp.inference.condition import condition
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.resampling import weighed
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.safe_logs import log_or_never
from mjp.inference.switching_engine import SwitchingGuided, potentials_of_sites, trajectory
from mjp.inference.switching_graph import SwitchingGraph, log_moves, log_normal
from mjp.inference.switching_guide import at_ends, linear_steps, seen_exactly, steps_first
from mjp.switching_trajectory import SwitchingTrajectory


class RegimeParticles(NamedTuple):
    """What a particle filter of regimes leaves, of S series and F steps each.

    Attributes:
        log_evidence: in the batch shape of the graph, exp of it is unbiased.
        ess: (F, S) effective number of the continuations of all particles at each step.
        filtered: (F, K, S) law of the regime of each step given what was observed up to its end.
        path: regimes and states, drawn given the data, as far as the particles know them.
    """

    log_evidence: Array
    ess: Array
    filtered: Array
    path: SwitchingTrajectory


class _Particles(NamedTuple):
    """Normal laws of the state: mean (d, N, S), lower factor (d, d, N, S); log-weights (N, S); what they
    expect of the regime of the next step, log-probabilities (K, N, S)."""

    mean: Array
    factor: Array
    log_weight: Array
    log_next: Array


def regime_particles(
    graph: Graph, key: Array, particles: int, *, guided: bool | str = True, **options: Any
) -> RegimeParticles:
    """The particle filter of the regimes of a chain; see `mjp.smc`.

    Raises:
        TypeError: a regime that is not linear, an observation that is not Gaussian.
        RuntimeError: no particle is alive.
    """
    if guided not in (True, False):
        raise ValueError(f"guided must be True or False for a SwitchingDiffusion, got {guided!r}")
    conditioned: Any = condition(graph, **options)
    model: SwitchingGraph = conditioned.model
    for label, diffusion in zip(model.process.regimes, model.process.diffusions, strict=True):
        if not diffusion.linear:
            raise TypeError(
                "particles of regimes need drifts that are affine and dispersions that do not depend on the "
                f"state, which the regime {label!r} has not; use mjp.evidence"
            )
    if not all(observed.site.exact for observed in conditioned.sites):
        raise TypeError(
            "particles of regimes need observations that are linear and Gaussian, or exact; use mjp.evidence"
        )
    found = run(conditioned, key, particles, bool(guided))
    dead = np.flatnonzero(~np.isfinite(np.asarray(found.log_evidence)))
    if len(dead):
        of_series = f" of series {dead[0]}" if model.layout.n_series > 1 else ""
        raise RuntimeError(f"none of {particles} particles{of_series} is alive: the data cannot be reached")
    return found


@eqx.filter_jit
def run(guided: SwitchingGuided, key: Array, n: int, look_ahead: bool) -> RegimeParticles:
    """The particle filter of a conditioned chain; see `mjp.smc`."""
    model, layout = guided.model, guided.model.layout
    k, d, s = model.process.n_regimes, layout.dim, layout.n_series
    dtype = model.root_mean.dtype
    # what is linear is its own expansion, wherever that is made
    sites = potentials_of_sites(model, guided.sites, jnp.zeros((layout.n_nodes, d), dtype))
    steps = linear_steps(model, jnp.zeros((d, layout.n_steps, s), dtype))
    site = steps_first(at_ends(sites, layout.per_edge), -2)
    known = layout.known_step
    value = steps_first(model.values_at_ends, 1)
    keys = jax.random.split(key, 3)

    at_root = jax.tree.map(lambda leaf: leaf[..., 0, :], sites)
    gain = at_root.gain(model.root_factor)
    spread = lambda leaf: jnp.broadcast_to(leaf[..., None, :], (*leaf.shape[:-1], n, s))
    alone = jnp.where(jnp.arange(n) == 0, 0.0, -jnp.inf)[:, None]  # the others are to come
    start = _Particles(
        spread(gain.move(model.root_mean, jnp.zeros_like(gain.shift))),
        spread(gain.loading),
        at_root.log_pulled(gain, model.root_mean) + alone,
        spread(log_or_never(model.regimes.first.T)),
    )

    def step(now: _Particles, x: tuple) -> tuple[_Particles, tuple]:
        own, site, known, value, log_move, ahead, uniform = x
        log_weight, mean, factor = _continued(now, own, site, known, value)  # (K, N, S)
        total = logsumexp(log_weight, axis=(0, 1))
        law = jnp.exp(logsumexp(log_weight, axis=1) - jnp.where(jnp.isfinite(total), total, 0.0))
        expected = jnp.zeros_like(log_weight) if ahead is None else _ahead(ahead, log_move, mean, factor)
        flat = lambda leaf: leaf.reshape(*leaf.shape[:-3], k * n, s)
        twisted = flat(log_weight + expected)
        _, shares, ess = weighed(twisted.T)
        kept, log_chance, alive = jax.vmap(survivors, in_axes=(0, 0, None), out_axes=-1)(shares, uniform, n)
        take = lambda leaf: jnp.take_along_axis(leaf, kept.reshape(*[1] * (leaf.ndim - 2), n, s), axis=-2)
        weights = jnp.where(alive, take(flat(log_weight)) - log_chance, -jnp.inf)
        regime, ancestor = kept // n, kept % n
        log_next = jax.vmap(lambda moves, own: moves[own].T, in_axes=-1, out_axes=-1)(log_move, regime)
        new = _Particles(take(flat(mean)), take(flat(factor)), weights, log_next)
        return new, (ess, law, regime, ancestor)

    moves = steps_first(log_moves(model), 2)
    uniforms = jax.random.uniform(keys[0], (layout.n_steps, s), dtype)
    expected = None
    if look_ahead and guided.potentials is not None:
        expected = _following(guided.potentials.before)
    xs = (steps_first(steps, -2), site, known if known.any() else None, value, moves, expected, uniforms)
    last, (ess, filtered, regimes, ancestors) = lax.scan(step, start, xs)
    total = logsumexp(last.log_weight, axis=0)
    chosen = jax.random.categorical(keys[1], jnp.where(jnp.isfinite(total), last.log_weight, 0.0), axis=0)
    drawn = _traced(chosen, ancestors, regimes)
    states = _states_given(model, steps, sites, drawn, keys[2])
    path = trajectory(model, guided.names, states, drawn.T)
    return RegimeParticles(total.reshape(guided.log_evidence.shape), ess, filtered, path)


def _continued(
    now: _Particles, own: LinearSteps, site: Canonical, known: Array | None, value: Array
) -> tuple[Array, Array, Array]:
    """Log-weights (K, N, S), means and factors after a step of each regime and what is seen at its end."""
    matrix, offset = own.matrix[..., None, :], own.offset[..., None, :]
    mean = times(matrix, now.mean[:, None]) + offset
    moved = product(matrix, now.factor[:, :, None])
    noise = product(own.factor, transpose(own.factor))[..., None, :]
    lower = cholesky(product(moved, transpose(moved)) + noise)
    site = jax.tree.map(lambda leaf: leaf[..., None, None, :], site)
    gain = site.gain(lower)
    seen, after, factor = site.log_pulled(gain, mean), gain.move(mean, jnp.zeros_like(mean)), gain.loading
    if known is not None:
        value = value[:, None, None]
        seen = jnp.where(known, log_normal(value - mean, lower) + site.log_value(value), seen)
        after, factor = jnp.where(known, value, after), jnp.where(known, 0.0, factor)
    return now.log_weight + now.log_next + seen, after, factor


def _following(before: Canonical) -> Canonical:
    """Potentials (F, ..., K, J, S) at the start of the next step, in place of those of every step."""
    shift = lambda leaf: jnp.concatenate([leaf[1:], jnp.zeros_like(leaf[:1])])
    moved = jax.tree.map(shift, before)
    return moved.with_constant(moved.constant.at[-1].set(-jnp.log(before.constant.shape[-2])))


def _ahead(ahead: Canonical, log_move: Array, mean: Array, factor: Array) -> Array:
    """What the guide expects (K, N, S) of the state and the next regime after a step of each regime."""
    wide = jax.tree.map(lambda leaf: leaf[..., None, None, :, :, :], ahead)
    gain = wide.gain(factor[..., None, None, :])
    logs = wide.log_pulled(gain, mean[..., None, None, :]) + log_move[:, None, :, None]
    return logsumexp(logs, axis=(2, 3))


def survivors(shares: Array, uniform: Array, n: int) -> tuple[Array, Array, Array]:
    """Resample n of M particles with shares (M,): the heaviest are kept, of the others a systematic sample.

    Returns:
        which (n,); the log of the chance (n,) that each had, by which its weight is to be divided; and
        whether it is one (n,), since fewer may have a positive share.
    """
    sizes = jnp.sort(shares)[::-1]
    tail = jnp.cumsum(sizes[::-1])[::-1][:n]
    certain = jnp.arange(n)
    # of the others, each is kept with a chance in proportion to its share; below one if enough are certain
    rate = (n - certain) / jnp.where(tail > 0, tail, 1.0)
    enough = jnp.argmax((tail == 0) | (rate * sizes[:n] <= 1))
    scaled = jnp.where(tail[enough] > 0, rate[enough] * shares, jnp.where(shares > 0, 1.0, 0.0))
    sure = scaled >= 1
    rest = jnp.cumsum(jnp.where(sure, 0.0, scaled))
    drawn = jnp.floor(rest + uniform) > jnp.floor(jnp.append(0.0, rest[:-1]) + uniform)
    kept = sure | drawn
    which = jnp.argsort(~kept, stable=True)[:n]
    return which, jnp.where(sure, 0.0, jnp.log(jnp.where(kept, scaled, 1.0)))[which], kept[which]


def _traced(chosen: Array, ancestors: Array, regimes: Array) -> Array:
    """Regimes (F, S) of the particles (S,) at the end, from tables (F, N, S)."""
    series = jnp.arange(len(chosen))

    def back(index: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        ancestor, regime = x
        return ancestor[index, series], regime[index, series]

    return lax.scan(back, chosen, (ancestors, regimes), reverse=True)[1]


def _states_given(
    model: SwitchingGraph, steps: LinearSteps, sites: Canonical, regimes: Array, key: Array
) -> Array:
    """States (d, F + 1, S), drawn given the regimes (F, S) and the data, by filtering backwards."""
    layout = model.layout
    pick = lambda leaf: jnp.take_along_axis(leaf, regimes.reshape(*[1] * (leaf.ndim - 2), *regimes.shape), -3)
    own = steps_first(jax.tree.map(lambda leaf: pick(leaf)[..., 0, :, :], steps), -2)
    at_end = steps_first(at_ends(sites, layout.per_edge), -2)
    known = layout.known_step if layout.known_step.any() else None
    value = steps_first(model.values_at_ends, 1)

    def back(after: Canonical, x: tuple) -> tuple[Canonical, Canonical]:
        own, site, known, value = x
        ahead = after.fuse(site)
        pulled = ahead.pull_back(ahead.gain(own.factor), own.matrix, own.offset)
        if known is not None:
            seen = seen_exactly(own, value, jnp.zeros_like(value[0]))
            pulled = jax.tree.map(lambda a, b: jnp.where(known, a, b), seen, pulled)
        return pulled, ahead

    def forward(x: Array, inputs: tuple) -> tuple[Array, Array]:
        own, ahead, known, value, z = inputs
        drawn = ahead.gain(own.factor).move(times(own.matrix, x) + own.offset, z)
        return (drawn if known is None else jnp.where(known, value, drawn)), x

    unit = Canonical.unit((layout.n_series,), layout.dim, model.root_mean.dtype)
    root, ahead = lax.scan(back, unit, (own, at_end, known, value), reverse=True)
    root = root.fuse(jax.tree.map(lambda leaf: leaf[..., 0, :], sites))
    z = jax.random.normal(key, (layout.n_steps + 1, *model.root_mean.shape), model.root_mean.dtype)
    start = root.gain(model.root_factor).move(model.root_mean, z[0])
    last, before = lax.scan(forward, start, (own, ahead, known, value, z[1:]))
    return jnp.moveaxis(jnp.concatenate([before, last[None]]), 0, 1)
