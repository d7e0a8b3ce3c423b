r"""Paths of single agents given those of all others, by forward filtering and backward sampling.

Given the rest, the path of agent i is a hidden Markov chain on K states: its own transition probabilities
are known, since its neighbours are, and in every step the states $x_j$ of the agents that it influences are
observations of its state, with likelihood $\kappa_j(N_j(x); x_j')$. Its conditional law is thus exactly
that of a chain, and costs as much as the agent has neighbours (Touloupou, Finkenstädt & Spencer 2020,
J. Comput. Graph. Stat. 29:238). Agents that have nothing to do with each other move side by side.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.agent_colours import Colours, colours
from mjp.inference.particle_chain import ParticleChain, select_rows
from mjp.inference.particle_guides import own_potentials
from mjp.inference.path_sweeps import draw

_LEAST_LOG = -50.0  # log-likelihood of totals where nothing is to be impossible


def sweep(model: ParticleChain, order: Colours, key: Array, path: Array, floor: float = 0.0) -> Array:
    """Draw the path of every agent once, given those of the others.

    Args:
        path: (F + 1, N) int.
        floor: least probability of a transition. With zero, the sweep leaves the law of the paths given the
            data invariant; with more, it comes from paths that are impossible to those that are not.
    """
    f, n = model.shape
    k = model.k
    t, steps = model.static.n_times, model.static.order.steps
    none = jnp.zeros((t, model.static.n_series, k))
    # one agent's path is contiguous in memory, since agents are what is picked here
    own = _with_dummy(jnp.transpose(own_potentials(model, none), (2, 1, 0)))  # (N + 1, K, T)
    first = _with_dummy(model.first.T)  # (N + 1, K)
    at = {name: v.T if v.shape[1] == 1 else _with_dummy(v.T) for name, v in model.at.items()}
    start = path.T.astype(jnp.int32)
    field = jnp.moveaxis(model.neighbours_in_time(start[:, :-1]), 0, 1)
    field = _with_dummy(field)  # (N + 1, K, F)

    def matrices(field: Array, agents: Array) -> list[list[Array]]:
        """Transition probabilities [a][b], (A, F), of agents (A,) with neighbours (A, K, F)."""
        own_at = {name: v if v.shape[0] == 1 else v[agents] for name, v in at.items()}
        return model.process.probabilities(jnp.moveaxis(field, 1, 0), own_at)

    def colour(carry: tuple[Array, Array], x: tuple) -> tuple[tuple[Array, Array], None]:
        path, field = carry
        members, influenced, by, weights, key = x
        old = path[members]
        matrix = [[jnp.maximum(p, floor) for p in row] for row in matrices(field[members], members)]
        # the dummy's last row and column take what is padded
        before = _with_dummy(old[:, :-1])[by]
        weights = weights[:, None]
        there = field[influenced]
        seen = own[members]
        if model.totals_seen:
            seen = seen + totals_likelihood(path, members[0], old[0])
        for local in model.local_seen:
            found = local.of_members(path[:, ::steps], members)
            seen = seen + jnp.where(floor > 0, jnp.maximum(found, _LEAST_LOG), found)
        logs = jnp.zeros((len(members), k, f)).at[:, :, ::steps].add(seen)
        if influenced.shape[0]:
            others = jnp.stack([there[:, s] - weights * (before == s) for s in range(k)], axis=1)
            likelihood = neighbours_likelihood(path, jnp.maximum(others, 0.0), influenced, weights)
            total = jax.ops.segment_sum(likelihood, by, len(members) + 1, indices_are_sorted=True)
            logs = logs.at[:, :, :-1].add(total[:-1])
        logs = logs.at[:, :, 0].add(first[members])
        new = sample_chains(key, matrix, logs, old)
        if influenced.shape[0]:
            after = _with_dummy(new[:, :-1])[by]
            change = jnp.stack([weights * (1.0 * (after == s) - (before == s)) for s in range(k)], axis=1)
            field = field.at[influenced].add(change)
        return (path.at[members].set(new), field), None

    def neighbours_likelihood(path: Array, others: Array, influenced: Array, weights: Array) -> Array:
        """Log-likelihoods (P, K, F) of a member's states, from the steps of the agents that it influences."""
        theirs, found = path[influenced], []
        for s in range(k):
            row = select_rows(matrices(others.at[:, s].add(weights), influenced), theirs[:, :-1])
            chance = sum((jnp.where(theirs[:, 1:] == b, p, 0.0) for b, p in enumerate(row)), jnp.zeros(()))
            found.append(jnp.log(jnp.maximum(chance, floor)))
        return jnp.where((influenced == n)[:, None, None], 0.0, jnp.stack(found, axis=1))

    def totals_likelihood(path: Array, member: Array, old: Array) -> Array:
        """Log-likelihoods (K, T) of the states of the one member, from the observations of totals."""
        series = member // (n // model.static.n_series)
        rest = model.totals(path[:n, ::steps].T)[:, series]  # (T, K)
        rest = rest - (old[::steps, None] == jnp.arange(k))
        found = jnp.zeros((k, t))
        for seen in model.totals_seen:
            values = seen.values[:, series]
            by_state = [jax.vmap(seen.of_one)(rest + (jnp.arange(k) == s), values) for s in range(k)]
            found = found + jnp.stack(by_state)
        return jnp.where(floor > 0, jnp.maximum(found, _LEAST_LOG), found)

    keys = jax.random.split(key, len(order.members))
    tables = (order.members, order.influenced, order.by, order.weights)
    xs = (*map(jnp.asarray, tables), keys)
    (path, _), _ = lax.scan(colour, (_with_dummy(start), field), xs)
    return path[:n].T


def _with_dummy(array: Array) -> Array:
    """The array with one more row, of zeros."""
    return jnp.concatenate([array, jnp.zeros_like(array[:1])])


def sample_chains(key: Array, matrix: list[list[Array]], logs: Array, old: Array) -> Array:
    """Paths (W, F + 1) of W independent chains given log-likelihoods (W, K, F + 1) of their states.

    Args:
        matrix: transition probabilities [a][b], (W, F). old: paths to keep where nothing is possible.
    """
    w, _, f = logs.shape
    peak = jnp.max(logs, axis=1, keepdims=True)
    likelihood = jnp.exp(logs - jnp.where(jnp.isfinite(peak), peak, 0.0))
    likelihood = jnp.transpose(likelihood, (2, 1, 0))  # (F + 1, K, W)
    kernels = jnp.transpose(jnp.stack([jnp.stack(row) for row in matrix]), (3, 0, 1, 2))  # (F, K, K, W)

    def back(g: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        kernel, likelihood = x
        g = likelihood * jnp.sum(kernel * g, axis=1)
        total = jnp.sum(g, axis=0)
        g = g / jnp.where(total > 0, total, 1.0)
        return g, g

    last = likelihood[-1]
    _, g = lax.scan(back, last, (kernels, likelihood[:-1]), reverse=True)
    g = jnp.concatenate([g, last[None]])
    uniforms = jax.random.uniform(key, (f, w), logs.dtype)
    first = draw(g[0].T, uniforms[0])

    def ahead(state: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        weights, uniform = x
        row = sum((jnp.where(state == a, weights[a], 0.0) for a in range(len(matrix))), jnp.zeros(()))
        state = draw(row.T, uniform)
        return state, state

    _, states = lax.scan(ahead, first, (kernels * g[1:, None], uniforms[1:]))
    possible = jnp.sum(g[0], axis=0) > 0
    return jnp.where(possible[:, None], jnp.concatenate([first[None], states]).T, old)


def possible_path(model: ParticleChain, order: Colours, key: Array, path: Array, limit: int = 200) -> Array:
    """A path of positive density, reached from any path by sweeps in which nothing is impossible."""

    def impossible(path: Array) -> Array:
        density = jnp.sum(model.log_first(path)) + jnp.sum(model.log_transitions(path))
        return ~jnp.isfinite(density + jnp.sum(model.log_likelihoods(path)))

    def go_on(carry: tuple[Array, Array]) -> Array:
        i, path = carry
        return (i < limit) & impossible(path)

    def step(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        i, path = carry
        return i + 1, sweep(model, order, jax.random.fold_in(key, i), path, floor=1e-4)

    _, path = lax.while_loop(go_on, step, (jnp.zeros((), jnp.int32), path.astype(jnp.int32)))
    return path


def colours_of(model: ParticleChain) -> Colours:
    """The order in which a sweep goes through the agents of a model."""
    n = model.process.n  # the scopes of the first series stand for those of all
    scopes = (scope for seen in model.local_seen for scope in seen.scopes.agents.tolist() if scope[0] < n)
    pairs = [(a, b) for scope in scopes for i, a in enumerate(scope) for b in scope[:i]]
    together = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    one_by_one = bool(model.totals_seen)
    return colours(model.process.contacts, model.static.n_series, one_by_one=one_by_one, together=together)
