"""Simulation-based calibration (Talts et al. 2018): ranks of the truth among posterior draws are uniform.

Each model is compiled once with the data as an argument. With N replications and B bins the chi-square
statistic of the ranks has B - 1 degrees of freedom; a test fails at p < 1e-3 per parameter.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax
from numpyro.handlers import seed, substitute, trace
from numpyro.infer import NUTS
from scipy.stats import chi2

import mjp

pytestmark = pytest.mark.slow

REPLICATIONS, BINS = int(__import__("os").environ.get("R", "320")), 16
WARMUP, DRAWS, THIN = 300, 300, 5


def with_values(graph, values):
    """The graph with the values of its first observations replaced, which may be traced."""
    first, *rest = graph.observations
    graph.observations = [dataclasses.replace(first, values=values), *rest]
    return graph


def hidden_chain(values):
    rows = numpyro.sample(
        "rows", dist.Dirichlet(jnp.array([[4.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, 4.0]])).to_event(1)
    )
    mean = numpyro.sample("mean", dist.Normal(jnp.array([-2.0, 0.0, 2.0]), 0.5).to_event(1))
    sd = numpyro.sample("sd", dist.LogNormal(-0.5, 0.3))
    g = mjp.chain(mjp.MarkovChain(rows), np.arange(60), initial=dist.Categorical(jnp.ones(3) / 3))
    g.observe_each(lambda x: dist.Normal(mean[x], sd), values)
    mjp.sample("x", g)
    return g


RNG = np.random.default_rng(5)
VISITS = [np.sort(RNG.uniform(0, 6, RNG.integers(2, 7))) for _ in range(40)]
DESIGN = mjp.Panel.from_arrays(
    np.repeat(np.arange(40), [len(v) for v in VISITS]),
    np.concatenate(VISITS),
    np.full(sum(len(v) for v in VISITS), 0.5),
)


def panel_with_errors(values):
    rate = numpyro.sample("rate", dist.LogNormal(jnp.array([-1.0, -1.5, -1.0]), 0.7).to_event(1))
    error = numpyro.sample("error", dist.Beta(2.0, 12.0))
    seen = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) * (1 - error)
    seen = seen + error * jnp.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    process = mjp.MarkovJump({(0, 1): rate[0], (1, 0): rate[1], (1, 2): rate[2]})
    g = mjp.panel(
        process,
        DESIGN,
        observe=lambda x: dist.Categorical(seen[x]),
        initial=dist.Categorical(jnp.array([0.7, 0.2, 0.1])),
    )
    with_values(g, values)
    mjp.sample("x", g)
    return g


def balanced_newick(depth, name="n"):
    if depth == 0:
        return f"{name}:{0.3 + 0.1 * (len(name) % 4)}"
    return f"({balanced_newick(depth - 1, name + 'a')},{balanced_newick(depth - 1, name + 'b')}){name}:0.5"


NEWICK = balanced_newick(6) + ";"


def tree(values):
    rate = numpyro.sample("rate", dist.LogNormal(jnp.array([-0.5, 0.0]), 0.6).to_event(1))
    root = numpyro.sample("root", dist.Beta(2.0, 2.0))
    process = mjp.MarkovJump({("a", "b"): rate[0], ("b", "a"): rate[1]})
    g = mjp.tree(NEWICK, process, initial=dist.Categorical(jnp.stack([1 - root, root])))
    seen = jnp.array([[0.97, 0.03], [0.03, 0.97]])
    g.observe_each(lambda x: dist.Categorical(seen[x]), dict.fromkeys(g.leaves, 0.0))
    with_values(g, values)
    mjp.sample("x", g)
    return g


def n_values(model):
    from mjp.numpyro_bridge import recording

    with recording():
        return len(seed(model, 0)(None).observations[0].nodes)


def ranks(model, size):
    """Ranks of the true parameters among thinned posterior draws, (replications, parameters)."""
    from mjp.numpyro_bridge import recording, structure_only

    def replicate(key):
        prior_key, data_key, chain_key = jax.random.split(key, 3)
        placeholder = jnp.zeros(size)
        with structure_only():
            sites = trace(seed(model, prior_key)).get_trace(placeholder)
        truth = {k: s["value"] for k, s in sites.items() if s["type"] == "sample" and not s["is_observed"]}
        with recording():
            graph = substitute(model, truth)(placeholder)
        values = mjp.simulate(graph, data_key).observations[0]
        kernel = NUTS(model, dense_mass=True)
        state = kernel.init(chain_key, WARMUP, None, (values,), {})
        state = lax.fori_loop(0, WARMUP, lambda _, s: kernel.sample(s, (values,), {}), state)

        def keep(state, _):
            state = lax.fori_loop(0, THIN, lambda _, s: kernel.sample(s, (values,), {}), state)
            return state, kernel.postprocess_fn((values,), {})(state.z)

        _, draws = lax.scan(keep, state, length=DRAWS // THIN)
        below = {k: jnp.sum(draws[k] < truth[k], axis=0).reshape(-1) for k in truth}
        return jnp.concatenate([below[k] for k in sorted(below)])

    keys = jax.random.split(jax.random.key(2026), REPLICATIONS)
    return np.asarray(jax.jit(lambda keys: lax.map(replicate, keys))(keys))


@pytest.mark.parametrize("model", [hidden_chain, panel_with_errors, tree], ids=lambda m: m.__name__)
def test_ranks_are_uniform(model):
    found = ranks(model, n_values(model))
    edges = np.linspace(-0.5, DRAWS // THIN + 0.5, BINS + 1)
    expected = REPLICATIONS * np.histogram(np.arange(DRAWS // THIN + 1), edges)[0] / (DRAWS // THIN + 1)
    for parameter in range(found.shape[1]):
        counts = np.histogram(found[:, parameter], edges)[0]
        statistic = np.sum((counts - expected) ** 2 / expected)
        assert chi2.sf(statistic, BINS - 1) > 1e-3, (parameter, counts)
