"""Simulation-based calibration of a graph that mixes families, by the engine of `mjp.fit`."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import pytest
from _calibration import check_calibrated, with_values

import mjp

pytestmark = pytest.mark.slow


def driven(values):
    """A vector that a hidden jump process drives, seen beside it; all parameters are unknown."""
    rate = numpyro.sample("rate", dist.LogNormal(-0.5, 0.5))
    push = numpyro.sample("push", dist.Normal(1.0, 0.5))
    spread = numpyro.sample("spread", dist.LogNormal(-0.7, 0.4))
    regime = mjp.MarkovJump({("calm", "wild"): rate, ("wild", "calm"): 0.5})
    move = mjp.ConditionalGaussian(lambda x, s: 0.8 * x + push * s, spread**2)
    graph = mjp.Graph().root("s0", "calm").root("x0", dist.Normal(0.0, 1.0))
    for t in range(4):
        graph.edge(f"s{t}", f"s{t + 1}", regime, duration=0.8)
        graph.edge((f"x{t}", f"s{t + 1}"), f"x{t + 1}", move)
        graph.observe(f"x{t + 1}", lambda x: dist.Normal(x[0], 0.4), 0.0)
        graph.observe(f"s{t + 1}", lambda s: dist.Poisson(jnp.exp(1.0 * s)), 0)
    with_values(graph, values)
    mjp.sample("path", graph)
    return graph


def test_ranks_of_the_parameters_are_uniform():
    check_calibrated(
        driven, replications=64, bins=8, warmup=300, draws=630, thin=10, particles=50, every_observation=True
    )
