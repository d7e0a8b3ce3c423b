r"""Paths of single agents given those of all others, by forward filtering and backward sampling.

Given the rest, the path of agent i is a hidden Markov chain on K states: its own transition probabilities
are known, since its neighbours are, and in every step the states $x_j$ of the agents that it influences are
observations of its state, with likelihood $\kappa_j(N_j(x); x_j')$. Its conditional law is thus exactly
that of a chain, and costs as much as the agent has neighbours (Touloupou, Finkenstädt & Spencer 2020,
J. Comput. Graph. Stat. 29:238). Agents that have nothing to do with each other move side by side.
"""

import jax
import jax.numpy as jnp
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
    own = _padded(own_potentials(model, none))
    first = _padded(model.first)
    at = {name: value if value.shape[1] == 1 else _padded(value) for name, value in model.at.items()}
    field = _padded(model.neighbours(path[:-1]))  # (K, F, N + 1)

    def of(agents: Array) -> dict[str, Array]:
        return {name: v if v.shape[1] == 1 else v[:, agents] for name, v in at.items()}

    def colour(carry: tuple[Array, Array], x: tuple) -> tuple[tuple[Array, Array], None]:
        path, field = carry
        members, influenced, by, weights, key = x
        old = path[:, members]
        matrix = model.process.probabilities(field[:, :, members], of(members))
        matrix = [[jnp.maximum(p, floor) for p in row] for row in matrix]
        likelihood = neighbours_likelihood(path, field, old, influenced, by, weights)
        seen = own[:, :, members]
        if model.totals_seen:
            seen = seen + totals_likelihood(path, members[0], old)[:, :, None]
        logs = jnp.concatenate([likelihood, jnp.zeros((1, k, len(members)))])
        logs = logs.at[::steps].add(seen)
        logs = logs.at[0].add(first[:, members])
        new = sample_chains(key, matrix, logs, old)
        after, before = _padded(new[:-1])[:, by], _padded(old[:-1])[:, by]
        difference = jnp.stack([weights * (1.0 * (after == s) - (before == s)) for s in range(k)])
        field = field.at[:, :, influenced].add(difference)
        return (path.at[:, members].set(new), field), None

    def neighbours_likelihood(
        path: Array, field: Array, old: Array, influenced: Array, by: Array, weights: Array
    ) -> Array:
        """Log-likelihoods (F, K, W) of the members' states, from the steps of those that they influence."""
        if influenced.shape[0] == 0:
            return jnp.zeros((f - 1, k, old.shape[1]))
        before, after = path[:-1, influenced], path[1:, influenced]
        theirs = _padded(old[:-1])[:, by]
        others = field[:, :, influenced]
        others = jnp.stack([others[s] - weights * (theirs == s) for s in range(k)])
        others, each = jnp.maximum(others, 0.0), of(influenced)
        found = []
        for s in range(k):
            row = select_rows(model.process.probabilities(others.at[s].add(weights), each), before)
            chance = sum((jnp.where(after == b, p, 0.0) for b, p in enumerate(row)), jnp.zeros(()))
            log = jnp.log(jnp.maximum(chance, floor))
            log = jnp.where(influenced == n, 0.0, log)
            found.append(jax.ops.segment_sum(log.T, by, old.shape[1] + 1, indices_are_sorted=True)[:-1].T)
        return jnp.stack(found, axis=1)

    def totals_likelihood(path: Array, member: Array, old: Array) -> Array:
        """Log-likelihoods (T, K) of the states of the one member, from the observations of totals."""
        series = member // (n // model.static.n_series)
        rest = model.totals(model.at_nodes(path[:, :n]))[:, series]  # (T, K)
        rest = rest - (model.at_nodes(old) == jnp.arange(k))
        found = jnp.zeros((t, k))
        for seen in model.totals_seen:
            values = seen.values[:, series]
            by_state = [jax.vmap(seen.of_one)(rest + (jnp.arange(k) == s), values) for s in range(k)]
            found = found + jnp.stack(by_state, axis=1)
        return jnp.where(floor > 0, jnp.maximum(found, _LEAST_LOG), found)

    keys = jax.random.split(key, len(order.members))
    tables = (order.members, order.influenced, order.by, order.weights)
    xs = (*map(jnp.asarray, tables), keys)
    (path, _), _ = lax.scan(colour, (_padded(path.astype(jnp.int32)), field), xs)
    return path[:, :n]


def _padded(array: Array) -> Array:
    """The array with one more agent, in state zero."""
    return jnp.concatenate([array, jnp.zeros_like(array[..., :1])], axis=-1)


def sample_chains(key: Array, matrix: list[list[Array]], logs: Array, old: Array) -> Array:
    """Paths (F + 1, W) of W independent chains given log-likelihoods (F + 1, K, W) of their states.

    Args:
        matrix: transition probabilities [a][b], (F, W). old: paths to keep where nothing is possible.
    """
    f, k, w = logs.shape
    peak = jnp.max(logs, axis=1, keepdims=True)
    likelihood = jnp.exp(logs - jnp.where(jnp.isfinite(peak), peak, 0.0))
    kernels = jnp.stack([jnp.stack(row, axis=1) for row in matrix], axis=1)  # (F, K, K, W)

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

    def ahead(state: Array, x: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        kernel, g, uniform = x
        row = jnp.take_along_axis(kernel, state[None, None], axis=0)[0]
        state = draw((row * g).T, uniform)
        return state, state

    _, states = lax.scan(ahead, first, (kernels, g[1:], uniforms[1:]))
    possible = jnp.sum(g[0], axis=0) > 0
    return jnp.where(possible, jnp.concatenate([first[None], states]), old)


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
    return colours(model.process.contacts, model.static.n_series, one_by_one=bool(model.totals_seen))
