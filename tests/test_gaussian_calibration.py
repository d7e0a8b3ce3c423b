"""Simulation-based calibration of guided models: state space, a hypo-elliptic diffusion, a tree, regimes.

As in `test_calibration.py`: each model is compiled once with the data as an argument, and the ranks of the
truth among posterior draws fail at p < 1e-3 per parameter. Guides are linearised at the observations, which
depends on the data alone.
"""

import os

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
from test_calibration import with_values

import mjp

pytestmark = pytest.mark.slow

REPLICATIONS, BINS = int(os.environ.get("R", "160")), 10
WARMUP, DRAWS, THIN = 300, 300, 6
TREE = "((a:0.5,b:0.8)m:0.4,((c:0.3,d:0.6)n:0.2,e:0.9)o:0.3)r;"


def growth(values):
    """A nonlinear state-space model seen through counts."""
    rate = numpyro.sample("rate", dist.Normal(0.5, 0.2))
    noise = numpyro.sample("noise", dist.LogNormal(-1.5, 0.4))
    process = mjp.StateSpace(lambda x: x + rate * (1 - jnp.exp(x) / 5.0), noise**2 * jnp.eye(1))
    graph = mjp.chain(process, np.arange(15), initial=dist.Normal(0.5, 0.5))
    graph.observe_each(lambda x: dist.Poisson(jnp.exp(x[0])), np.zeros(15))
    return finish(graph, values)


def oscillator(values):
    """Noise drives the velocity only, and the position is observed."""
    stiffness = numpyro.sample("stiffness", dist.LogNormal(0.5, 0.3))
    sigma = numpyro.sample("sigma", dist.LogNormal(-0.5, 0.3))
    process = mjp.Diffusion(
        lambda t, x: jnp.array([x[1], -stiffness * jnp.sin(x[0]) - 0.5 * x[1]]),
        lambda t, x: jnp.array([[0.0], [1.0]]) * sigma,
        dim=2,
    )
    graph = mjp.chain(process, 0.5 * np.arange(12), initial=jnp.array([1.0, 0.0]), steps=4)
    graph.observe_each(lambda x: dist.Normal(x[0], 0.1), np.zeros(12))
    return finish(graph, values)


def branching(values):
    """A double well on a tree, seen at the leaves."""
    pull = numpyro.sample("pull", dist.LogNormal(0.0, 0.4))
    sigma = numpyro.sample("sigma", dist.LogNormal(-0.4, 0.3))
    process = mjp.Diffusion(lambda t, x: pull * (x - x**3), lambda t, x: sigma * jnp.ones(1))
    graph = mjp.tree(TREE, process, initial=dist.Normal(0.0, 1.0), steps=4)
    graph.observe_each(lambda x: dist.Normal(x[0], 0.2), dict.fromkeys(graph.leaves, 0.0))
    return finish(graph, values)


def switching(values):
    """A trend and a scale that switch, seen with noise."""
    trend = numpyro.sample("trend", dist.Normal(1.0, 0.5))
    scale = numpyro.sample("scale", dist.LogNormal(-0.5, 0.4))
    rate = numpyro.sample("rate", dist.LogNormal(-0.5, 0.4))
    process = mjp.SwitchingDiffusion(
        {"down": (lambda t, x: -1.0, 0.4), "up": (lambda t, x: trend, scale)},
        {("down", "up"): rate, ("up", "down"): rate},
    )
    graph = mjp.chain(process, 0.7 * np.arange(12), initial=0.0, steps=2)
    graph.observe_each(lambda x: dist.Normal(x[0], 0.3), np.zeros(12))
    return finish(graph, values)


def finish(graph, values):
    if values is not None:
        with_values(graph, values)
    mjp.sample("x", graph, auxiliary="observations")
    return graph


def ranks(model):
    from mjp.numpyro_bridge import recording, structure_only

    def replicate(key):
        prior_key, data_key, chain_key = jax.random.split(key, 3)
        with structure_only():
            sites = trace(seed(model, prior_key)).get_trace(None)
        truth = {k: s["value"] for k, s in sites.items() if s["type"] == "sample" and not s["is_observed"]}
        truth = {k: value for k, value in truth.items() if not k.endswith("/innovations")}
        with recording():
            graph = substitute(model, truth)(None)
        values = mjp.simulate(graph, data_key).observations[0]
        kernel = NUTS(model, dense_mass=[tuple(sorted(truth))])
        state = kernel.init(chain_key, WARMUP, None, (values,), {})
        state = lax.fori_loop(0, WARMUP, lambda _, s: kernel.sample(s, (values,), {}), state)

        def keep(state, _):
            state = lax.fori_loop(0, THIN, lambda _, s: kernel.sample(s, (values,), {}), state)
            return state, kernel.postprocess_fn((values,), {})(state.z)

        _, draws = lax.scan(keep, state, length=DRAWS // THIN)
        return jnp.stack([jnp.sum(draws[k] < truth[k]) for k in sorted(truth)])

    keys = jax.random.split(jax.random.key(2026), REPLICATIONS)
    return np.asarray(jax.jit(lambda keys: lax.map(replicate, keys))(keys))


@pytest.mark.parametrize("model", [growth, oscillator, branching, switching], ids=lambda m: m.__name__)
def test_ranks_are_uniform(model):
    found = ranks(model)
    edges = np.linspace(-0.5, DRAWS // THIN + 0.5, BINS + 1)
    expected = REPLICATIONS * np.histogram(np.arange(DRAWS // THIN + 1), edges)[0] / (DRAWS // THIN + 1)
    for parameter in range(found.shape[1]):
        counts = np.histogram(found[:, parameter], edges)[0]
        statistic = np.sum((counts - expected) ** 2 / expected)
        assert chi2.sf(statistic, BINS - 1) > 1e-3, (parameter, counts)
