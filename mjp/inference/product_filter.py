r"""The exact filter of factorial chains, on all combinations of their states.

The law of M chains on K states is a tensor with M axes; a step multiplies it by one matrix per axis, so
that it costs $M K^{M+1}$ instead of the $K^{2M}$ of a matrix over all combinations (Ghahramani & Jordan
1997, Mach. Learn. 29:245, appendix B). Paths are drawn backwards in time from the filter's laws.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.particle_chain import ParticleChain
from mjp.inference.particle_guides import own_potentials
from mjp.inference.path_sweeps import draw


@jax.jit
def product_filter(model: ParticleChain) -> tuple[Array, Array]:
    """Log-increments (F + 1, R) of the filter, and its laws (F + 1, R, K**M) after each step."""
    k, steps, n_series = model.k, model.static.order.steps, model.static.n_series
    m = model.process.n
    matrices = model.process.transitions  # type: ignore[attr-defined]
    inputs = _by_series(model)

    def move(law: Array) -> Array:
        for matrix in matrices:  # each product moves the first axis to the end
            law = law.reshape(k, -1).T @ matrix
        return law.reshape(-1)

    def observe(predicted: Array, here: tuple) -> tuple[Array, Array]:
        logs = joint_log_likelihood(model, *here)
        peak = jnp.max(logs)
        peak = lax.stop_gradient(jnp.where(jnp.isfinite(peak), peak, 0.0))
        weights = predicted * jnp.exp(logs - peak)
        total = jnp.sum(weights)
        law = weights / jnp.where(total > 0, total, 1.0)
        return law, jnp.log(total) + peak

    @jax.checkpoint
    def step(predicted: Array, i: Array) -> tuple[Array, tuple[Array, Array]]:
        here = jax.tree.map(lambda leaf: leaf[i // steps], inputs)
        seen = lambda: jax.vmap(observe)(predicted, here)
        laws, increments = lax.cond(i % steps == 0, seen, lambda: (predicted, jnp.zeros(n_series)))
        return jax.vmap(move)(laws), (increments, laws)

    first = jnp.moveaxis(jnp.exp(model.first).reshape(k, n_series, m), 0, -1)  # (R, M, K)
    start = jax.vmap(lambda laws: outer(list(laws)))(first)
    _, found = lax.scan(step, start, jnp.arange(model.shape[0]))
    return found


def outer(vectors: list[Array]) -> Array:
    """Products of the entries of M vectors (K,), for all combinations, (K**M,)."""
    found = jnp.ones(1, vectors[0].dtype)
    for vector in vectors:
        found = (found[:, None] * vector).reshape(-1)
    return found


def _by_series(model: ParticleChain) -> tuple:
    """Own potentials (T, R, K, M), log-likelihoods (T, R, F, K**s) and totals (T, R, ...) of each batch."""
    t, r, k = model.static.n_times, model.static.n_series, model.k
    own = own_potentials(model, jnp.zeros((t, r, k))).reshape(t, k, r, -1)
    tables = []
    for seen in model.local_seen:
        table = seen.tables[:-1]
        tables.append(jnp.moveaxis(table.reshape(r, -1, *table.shape[1:]), 2, 0))
    return jnp.moveaxis(own, 2, 1), tables, [(seen.values, seen.inputs) for seen in model.totals_seen]


def joint_log_likelihood(model: ParticleChain, own: Array, tables: list[Array], values: list) -> Array:
    """Log-likelihoods (K**M,) of all combinations of one series at one time.

    Args:
        own: (K, M); tables: (F, K**s) for each batch of emissions; values: of totals, with covariates.
    """
    k, m = own.shape
    logs = jnp.zeros((k,) * m)
    for chain in range(m):
        logs = logs + own[:, chain].reshape([k if axis == chain else 1 for axis in range(m)])
    for seen, table in zip(model.local_seen, tables, strict=True):
        for scope, log in zip(seen.scopes.agents[: len(table)].tolist(), table, strict=True):
            ordered = jnp.transpose(log.reshape((k,) * len(scope)), np.argsort(scope).tolist())
            logs = logs + ordered.reshape([k if axis in scope else 1 for axis in range(m)])
    logs = logs.reshape(-1)
    for seen, (value, covariates) in zip(model.totals_seen, values, strict=True):
        states = np.indices((k,) * m).reshape(m, -1)
        totals = jnp.asarray([(states == state).sum(axis=0) for state in range(k)], logs.dtype).T
        logs = logs + jax.vmap(seen.of_one, in_axes=(0, None, None))(totals, value, covariates)
    return logs


@jax.jit
def sample_path(model: ParticleChain, laws: Array, uniforms: Array) -> Array:
    """A path (F + 1, N) of all chains given the observations.

    Args:
        laws: (F + 1, R, K**M) of the filter. uniforms: (F + 1, R).
    """
    k, m = model.k, model.process.n
    matrices = model.process.transitions  # type: ignore[attr-defined]
    strides = k ** np.arange(m)[::-1]
    states_of = lambda code: code[..., None] // strides % k

    def back(code: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        law, uniform = x

        def one(law: Array, code: Array, uniform: Array) -> Array:
            columns = jnp.take_along_axis(matrices, states_of(code)[:, None, None], axis=2)[..., 0]
            return draw(law * outer(list(columns)), uniform)

        code = jax.vmap(one)(law, code, uniform)
        return code, code

    last = draw(laws[-1], uniforms[-1])
    _, codes = lax.scan(back, last, (laws[:-1], uniforms[:-1]), reverse=True)
    codes = jnp.concatenate([codes, last[None]])
    return states_of(codes).reshape(len(codes), -1).astype(jnp.int32)


def chain_marginals(laws: Array, n_states: int, n_chains: int) -> Array:
    """Laws (..., M, K) of single chains from those (..., K**M) of all."""
    shape = laws.shape[:-1]
    table = laws.reshape(*shape, *(n_states,) * n_chains)
    axes = range(len(shape), len(shape) + n_chains)
    found = [jnp.sum(table, axis=tuple(a for a in axes if a != axis)) for axis in axes]
    return jnp.stack(found, axis=-2)
