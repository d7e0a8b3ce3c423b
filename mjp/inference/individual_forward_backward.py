r"""Paths of single agents given those of all others, by forward filtering and backward sampling.

Given the rest, the path of agent i is a hidden Markov chain on K states: its own transition probabilities
are known, since its neighbours are, and in every step the states $x_j$ of the agents that it influences are
observations of its state, with likelihood $\kappa_j(N_j(x); x_j')$. Its conditional law is thus exactly
that of a chain, and costs as much as the agent has neighbours (Touloupou, Finkenstädt & Spencer 2020,
J. Comput. Graph. Stat. 29:238). Agents that have nothing to do with each other move side by side.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.agent_colours import Colours, colours
from mjp.inference.neighbour_counts import moved, with_dummy, with_member, without
from mjp.inference.particle_chain import ParticleChain, steps_taken
from mjp.inference.particle_guides import own_potentials

# where nothing is to be impossible: probability of a transition, log-likelihood of what is seen together
FLOOR, _LEAST_LOG = 1e-4, -50.0
_LIMIT = 200  # sweeps that look for a possible path


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
    own = with_dummy(jnp.transpose(own_potentials(model, none), (2, 1, 0)))  # (N + 1, K, T)
    first = with_dummy(model.first.T)  # (N + 1, K)
    at = {name: v.T if v.shape[1] == 1 else with_dummy(v.T) for name, v in model.at.items()}
    start = path.T.astype(jnp.int32)
    # (N + 1, F) for every network and state: kept apart, what a rule does not read is never computed
    field = [with_dummy(share) for share in model.neighbours_in_time(start[:, :-1])]
    planes = [(m, s) for m in range(model.process.n_networks) for s in range(k)]

    def matrices(field: list[Array], agents: Array) -> list[list[Array]]:
        """Transition probabilities [a][b], (A, F), of agents (A,) with neighbours [s], (A, F)."""
        own_at = {name: v if v.shape[0] == 1 else v[agents] for name, v in at.items()}
        return model.process.probabilities(jnp.stack(field), own_at)

    def colour(carry: tuple[Array, list[Array]], x: tuple) -> tuple[tuple[Array, list[Array]], None]:
        path, field = carry
        members, influenced, by, weights, key = x
        old = path[members]
        matrix = [
            [jnp.maximum(p, floor) for p in row] for row in matrices([f[members] for f in field], members)
        ]
        # the dummy's last row and column take what is padded
        before = with_dummy(old[:, :-1])[by]
        weights = weights[..., None]  # (M, P, 1)
        seen = own[members] + seen_together(model, path[:, ::steps], members, floor)
        logs = jnp.zeros((len(members), k, f)).at[:, :, ::steps].add(seen)
        if influenced.shape[0]:
            others = without(field, planes, influenced, weights, before)
            likelihood = neighbours_likelihood(path, others, influenced, weights)
            total = jax.ops.segment_sum(likelihood, by, len(members) + 1, indices_are_sorted=True)
            logs = logs.at[:, :, :-1].add(total[:-1])
        logs = logs.at[:, :, 0].add(first[members])
        new = sample_chains(key, matrix, logs, old)
        if influenced.shape[0]:
            after = with_dummy(new[:, :-1])[by]
            field = moved(field, planes, influenced, weights, before, after)
        return (path.at[members].set(new), field), None

    def neighbours_likelihood(path: Array, others: list[Array], influenced: Array, weights: Array) -> Array:
        """Log-likelihoods (P, K, F) of a member's states, from the steps of the agents that it influences."""
        theirs, found = path[influenced], []
        for s in range(k):
            matrix = matrices(with_member(others, planes, weights, s), influenced)
            found.append(jnp.log(jnp.maximum(steps_taken(matrix, theirs), floor)))
        return jnp.where((influenced == n)[:, None, None], 0.0, jnp.stack(found, axis=1))

    keys = jax.random.split(key, len(order.members))
    tables = (order.members, order.influenced, order.by, order.weights)
    xs = (*map(jnp.asarray, tables), keys)
    (path, _), _ = lax.scan(colour, (with_dummy(start), field), xs)
    return path[:n].T


def seen_together(model: ParticleChain, at_nodes: Array, members: Array, floor: float) -> Array | float:
    """Log-likelihoods (W, K, T) of the states of members (W,), from what was seen of several agents at once.

    Args:
        at_nodes: (N + 1, T) states of all agents, and of the dummy. floor: as for `sweep`.
    """
    found: Array | float = 0.0
    above = lambda logs: jnp.where(floor > 0, jnp.maximum(logs, _LEAST_LOG), logs)
    if model.totals_seen:  # agents then move one by one
        found = found + above(_totals_likelihood(model, at_nodes, members[0]))
    for local in model.local_seen:
        found = found + above(local.of_members(at_nodes, members))
    return found


def _totals_likelihood(model: ParticleChain, at_nodes: Array, member: Array) -> Array:
    """Log-likelihoods (K, T) of the states of one member, from the observations of totals."""
    n, k, t = model.shape[1], model.k, model.static.n_times
    series = member // (n // model.static.n_series)
    rest = model.totals(at_nodes[:n].T)[:, series]  # (T, K)
    rest = rest - (at_nodes[member][:, None] == jnp.arange(k))
    found = jnp.zeros((k, t))
    for seen in model.totals_seen:
        own = jax.tree.map(lambda leaf: leaf[:, series], (seen.values, seen.inputs))
        by_state = [jax.vmap(seen.of_one)(rest + (jnp.arange(k) == s), *own) for s in range(k)]
        found = found + jnp.stack(by_state)
    return found


def sample_chains(key: Array, matrix: list[list[Array]], logs: Array, old: Array) -> Array:
    """Paths (W, F + 1) of W independent chains given log-likelihoods (W, K, F + 1) of their states.

    Args:
        matrix: transition probabilities [a][b], (W, F). old: paths to keep where nothing is possible.
    """
    w, k, f = logs.shape
    peak = jnp.max(logs, axis=1, keepdims=True)
    likelihood = jnp.exp(logs - jnp.where(jnp.isfinite(peak), peak, 0.0))
    # chains are side by side in memory, and states are few: (F, W) for each of them
    seen = [likelihood[:, a].T for a in range(k)]
    kernels = [[jnp.broadcast_to(p, (w, f - 1)).T for p in row] for row in matrix]

    def back(g: list[Array], x: tuple) -> tuple[list[Array], list[Array]]:
        kernel, likelihood = x
        g = [likelihood[a] * _dot(kernel[a], g) for a in range(k)]
        total = _total(g)
        g = [share / jnp.where(total > 0, total, 1.0) for share in g]
        return g, g

    last = [likelihood[-1] for likelihood in seen]
    _, g = lax.scan(back, last, (kernels, [likelihood[:-1] for likelihood in seen]), reverse=True)
    uniforms = jax.random.uniform(key, (f, w), logs.dtype)
    first = _draw([share[0] for share in g], uniforms[0])

    def ahead(state: Array, x: tuple) -> tuple[Array, Array]:
        kernel, g, uniform = x
        here = [1.0 * (state == a) for a in range(k)]
        state = _draw([g[b] * _dot([row[b] for row in kernel], here) for b in range(k)], uniform)
        return state, state

    following = [jnp.concatenate([share[1:], end[None]]) for share, end in zip(g, last, strict=True)]
    _, states = lax.scan(ahead, first, (kernels, following, uniforms[1:]))
    possible = _total([share[0] for share in g]) > 0
    return jnp.where(possible[:, None], jnp.concatenate([first[None], states]).T, old)


def _draw(weights: list[Array], uniform: Array) -> Array:
    """Draw categories by inverting cumulative sums; uniform numbers below one never reach the total."""
    target = uniform * _total(weights)
    return sum(
        (target >= _total(weights[: b + 1]) for b in range(len(weights) - 1)),
        jnp.zeros_like(target, jnp.int32),
    )


def _total(terms: list[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def _dot(a: list[Array], b: list[Array]) -> Array:
    return _total([x * y for x, y in zip(a, b, strict=True)])


def possible_path(model: ParticleChain, order: Colours, key: Array, path: Array) -> tuple[Array, Array]:
    """A path of positive density, reached from any path by sweeps in which nothing is impossible.

    Returns:
        the path; whether one was found.
    """

    def impossible(path: Array) -> Array:
        density = jnp.sum(model.log_first(path)) + jnp.sum(model.log_transitions(path))
        return ~jnp.isfinite(density + jnp.sum(model.log_likelihoods(model.at_nodes(path))))

    step = lambda key, path: sweep(model, order, key, path, floor=FLOOR)
    return until_possible(step, impossible, key, path.astype(jnp.int32))


def until_possible(step: Callable, impossible: Callable, key: Array, path: Array) -> tuple[Array, Array]:
    """The first possible path that steps of a key and a path lead to, and whether there was one in time."""

    def go_on(carry: tuple[Array, Array]) -> Array:
        i, path = carry
        return (i < _LIMIT) & impossible(path)

    def again(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        i, path = carry
        return i + 1, step(jax.random.fold_in(key, i), path)

    _, path = lax.while_loop(go_on, again, (jnp.zeros((), jnp.int32), path))
    return path, ~impossible(path)


def colours_of(model: ParticleChain) -> Colours:
    """The order in which a sweep goes through the agents of a model."""
    n = model.process.n  # the scopes of the first series stand for those of all
    scopes = (scope for seen in model.local_seen for scope in seen.scopes.agents.tolist() if scope[0] < n)
    pairs = [(a, b) for scope in scopes for i, a in enumerate(scope) for b in scope[:i]]
    together = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    one_by_one = bool(model.totals_seen)
    contacts = model.process.contacts
    contacts = contacts.only(~influence_is_known(model)[contacts.sources])
    return colours(contacts, model.static.n_series, one_by_one=one_by_one, together=together)


def influence_is_known(model: ParticleChain) -> np.ndarray:
    """Which agents (n,) influence others in a way that the observations leave no doubt about.

    At every step either the agent's state is known, or it is one of several of which neighbours do not count:
    an agent known not to be infectious yet, whenever it was infected. What it does to others is then the same
    on all paths that it may take.
    """
    n, n_series = model.process.n, model.static.n_series
    if model.static.order.steps > 1 or model.process.jumps or not model.agents:
        return np.zeros(n, bool)
    possible = np.ones((model.static.n_times - 1, n * n_series, model.k), bool)
    for seen in model.agents:
        possible &= seen.codes.possible[seen.codes.of_agent[:-1]]
    counted = possible[..., list(model.process.influential)].sum(axis=-1)
    known = (counted == 0) | (possible.sum(axis=-1) == 1)
    return np.all(known, axis=0).reshape(n_series, n).all(axis=0)
