r"""Guides of interacting particles: products of potentials of single agents.

The pullback of a product of potentials through a step is a function of an agent and all its neighbours. A
guide takes the neighbours for what they are on average (a mean field; van der Meulen & Schauer, arXiv
2010.03509), or keeps in addition what the step says of each neighbour alone, all others being on average
(a projection by reference laws; ibid., backward marginalisation). The log-weight makes up for the rest.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp

from mjp.inference.particle_chain import ParticleChain
from mjp.inference.segments import Segments, segment_sum, take

LEAST = 1e-12  # of a potential where the mean field leaves no chance, but the particles may


class ParticleGuide(eqx.Module):
    """Potentials of all agents at all steps.

    Attributes:
        log_g: (F + 1, K, N) log-potentials, which sum to one over the states.
        log_norms: (F + 1, N) what was divided by to make them so.
        tilts: (T, R, K) slopes that stand for the observations of totals.
        means: (F + 1, K, N) probabilities of the states that neighbours were taken to be in.
    """

    log_g: Array
    log_norms: Array
    tilts: Array
    means: Array


@jax.jit
def forward_means(model: ParticleChain, guide: ParticleGuide) -> Array:
    """Probabilities (F + 1, K, N) of the agents' states in the guided mean field."""
    f, n = model.shape
    k = model.k
    g = jnp.exp(guide.log_g)

    def scaled(shares: Array) -> Array:
        total = jnp.sum(shares, axis=0)
        return shares / jnp.where(total > 0, total, 1.0)

    start = scaled(jnp.exp(model.first) * g[0])

    def step(shares: Array, i: Array) -> tuple[Array, Array]:
        matrix = model.process.probabilities(model.around(shares), model.at_step(i))
        own, after = g[i + 1], [jnp.zeros(n)] * k
        for a in range(k):
            row = [matrix[a][b] * own[b] for b in range(k)]
            total = sum(row, jnp.zeros(n))
            share = shares[a] / jnp.where(total > 0, total, 1.0)
            after = [after[b] + share * row[b] for b in range(k)]
        shares = scaled(jnp.stack(after))
        return shares, shares

    _, means = lax.scan(step, start, jnp.arange(f - 1))
    return jnp.concatenate([start[None], means])


@partial(jax.jit, static_argnames="projected")
def backward_filter(model: ParticleChain, means: Array, tilts: Array, *, projected: bool) -> ParticleGuide:
    """The guide with neighbours at their means (F + 1, K, N); `projected` as the module says."""
    f, n = model.shape
    own = own_potentials(model, tilts)
    steps = model.static.order.steps
    contacts = model.static.contacts
    weights = contacts.strengths()  # (M, E)
    sources, targets = Segments(contacts.sources, n), Segments(contacts.targets, n)
    alone = weights.size == 0

    def normalised(raw: Array) -> tuple[Array, Array]:
        norm = logsumexp(raw, axis=0)
        norm = jnp.where(jnp.isfinite(norm), norm, 0.0)
        return raw - norm, norm

    def step(log_g: Array, i: Array) -> tuple[Array, tuple[Array, Array]]:
        g, shares, at = jnp.exp(log_g), means[i], model.at_step(i)
        field = model.around(shares)
        matrix = model.process.probabilities(field, at)
        pulled = pull_back(matrix, g)
        if not alone:
            pulled = jnp.where(pulled > 0, pulled, LEAST * jnp.sum(g, axis=0))
        raw = jnp.log(pulled)
        if projected and not alone:
            raw = raw + messages(field, shares, g, pulled, at)
        raw = raw + jnp.where(i % steps == 0, own[i // steps], 0.0)
        log_g, norm = normalised(raw)
        return log_g, (log_g, norm)

    def messages(field: Array, shares: Array, g: Array, pulled: Array, at: dict[str, Array]) -> Array:
        """Log-potentials (K, N) of agents as neighbours, from the steps of those that they influence.

        Under a guided law of the states, in which g is contained, the average of what a neighbour's state
        multiplies the mean field's potential by.
        """
        n_edges = weights.shape[1]
        to, of = (lambda x: take(x, targets, -1)), (lambda x: take(x, sources, -1))
        each = {name: value if value.shape[0] == 1 else to(value) for name, value in at.items()}
        by_kind = jnp.maximum(to(field).reshape(-1, model.k, n_edges) - weights[:, None] * of(shares), 0.0)
        potential, reference = to(g), to(shares / pulled)
        found = []
        for k in range(model.k):
            with_source = by_kind.at[:, k].add(weights).reshape(-1, n_edges)
            matrix = model.process.probabilities(with_source, each)
            message = jnp.sum(reference * pull_back(matrix, potential), axis=0)
            found.append(jnp.log(jnp.maximum(message, LEAST)))
        return segment_sum(jnp.stack(found), sources, -1)

    last, norm = normalised(own[-1])
    _, (log_g, norms) = lax.scan(step, last, jnp.arange(f - 1), reverse=True)
    log_g, norms = jnp.concatenate([log_g, last[None]]), jnp.concatenate([norms, norm[None]])
    return ParticleGuide(log_g, norms, tilts, means)


def pull_back(matrix: list[list[Array]], g: Array) -> Array:
    """Potentials (K, N) before a step with matrices [a][b] from those after it."""
    return jnp.stack([sum((p * g[b] for b, p in enumerate(row)), jnp.zeros_like(g[0])) for row in matrix])


def own_potentials(model: ParticleChain, tilts: Array) -> Array:
    """Log-potentials (T, K, N) that the observations of the nodes give to single agents."""
    t, n = model.static.n_times, model.shape[1]
    total = jnp.repeat(jnp.moveaxis(tilts, 2, 1), n // tilts.shape[1], axis=2)
    for seen in model.agents:
        total = total + seen.potentials()
    return jnp.broadcast_to(total, (t, model.k, n))


def improved_tilts(model: ParticleChain, means: Array, tilts: Array) -> Array:
    """Slopes for the observations of totals, from the agents' probabilities that the last ones led to."""
    if not model.totals_seen:
        return tilts
    shares = model.at_nodes(means)  # (T, K, N)
    mean = jnp.moveaxis(model.by_series(shares), 1, 2)
    outer = model.by_series(shares[:, :, None] * shares[:, None])  # (T, K, K, R)
    diagonal = jnp.eye(model.k) * mean[..., None, :]
    covariance = diagonal - jnp.moveaxis(outer, 3, 1)
    if len(model.totals_seen) == 1:
        return model.totals_seen[0].tilts(tilts, mean, covariance)
    parts = [seen.tilts(jnp.zeros_like(tilts), mean, covariance) for seen in model.totals_seen]
    return 0.5 * tilts + 0.5 * sum(parts, jnp.zeros_like(tilts))


@partial(jax.jit, static_argnames=("iterations", "projected"))
def mean_field_guide(model: ParticleChain, *, iterations: int, projected: bool) -> ParticleGuide:
    """The guide along a mean field that the observations correct `iterations` times."""
    neutral = no_guide(model)

    def improve(i: Array, guide: ParticleGuide) -> ParticleGuide:
        means = forward_means(model, guide)
        # what is said of neighbours depends on the means so much that undamped iterations may oscillate
        means = jnp.where((i > 0) & projected, 0.5 * (means + guide.means), means)
        tilts = improved_tilts(model, means, guide.tilts)
        return backward_filter(model, means, tilts, projected=projected)

    return lax.fori_loop(0, iterations + 1, improve, neutral)


def no_guide(model: ParticleChain) -> ParticleGuide:
    """The guide that knows nothing."""
    (f, n), k = model.shape, model.k
    even = jnp.full((f, k, n), -jnp.log(float(k)))
    tilts = jnp.zeros((model.static.n_times, model.static.n_series, k))
    return ParticleGuide(even, jnp.full((f, n), jnp.log(float(k))), tilts, jnp.zeros((f, k, n)))
