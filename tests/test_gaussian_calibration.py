"""Simulation-based calibration of guided models: state space, a hypo-elliptic diffusion, a tree, regimes."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from _calibration import advanced, check_calibrated, started, with_values

import mjp

pytestmark = pytest.mark.slow

REPLICATIONS = int(os.environ.get("R", "480"))
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
    with_values(graph, values)
    mjp.sample("x", graph)
    return graph


@pytest.mark.parametrize("model", [growth, oscillator, branching, switching], ids=lambda m: m.__name__)
def test_ranks_are_uniform(model):
    check_calibrated(model, replications=REPLICATIONS, bins=10, warmup=200, draws=245, thin=5)


def test_a_replication_is_a_fit():
    values = np.random.default_rng(3).poisson(3.0, 15).astype(float)
    fit = mjp.fit(growth, values, draws=40, warmup=20, chains=1, seed=4, progress=False)
    key = jax.random.split(jax.random.key(4), 1)[0]
    begun = jax.jit(lambda values: started(growth, (values,), key, 20))(values)
    found = jax.jit(lambda values, begun: advanced(growth, (values,), *begun, 20, 40))(values, begun)
    for name in ("rate", "noise", "x.innovations"):
        np.testing.assert_allclose(found[name], fit.samples[name][0], rtol=1e-4, atol=1e-6)
