"""Simulation-based calibration of reaction networks, whose paths are sampled beside the parameters."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from _calibration import check_calibrated, with_values

import mjp

pytestmark = pytest.mark.slow


def sir(values):
    """An epidemic among twenty, of whom those infected are counted with an error every day."""
    contact = numpyro.sample("contact", dist.LogNormal(0.3, 0.4))
    recovery = numpyro.sample("recovery", dist.LogNormal(-0.9, 0.4))
    network = mjp.ReactionNetwork([("S + I -> 2 I", contact / 20), ("I -> R", recovery)])
    graph = mjp.chain(network, np.arange(6.0), initial={"S": 17, "I": 3, "R": 0})
    graph.observe_each(lambda x: dist.Poisson(x["I"] + 0.5), np.zeros(6))
    with_values(graph, values)
    mjp.sample("outbreak", graph, auxiliary="conditioned hazard", max_events=40, cells=5)
    return graph


def test_ranks_of_the_rates_of_an_epidemic_are_uniform():
    check_calibrated(sir, replications=32, bins=8, warmup=120, draws=465, thin=15)


def reported(values):
    """New cases of every day among fifty, reported in part; a pilot run has such models filtered."""
    contact = numpyro.sample("contact", dist.LogNormal(0.3, 0.4))
    recovery = numpyro.sample("recovery", dist.LogNormal(-0.9, 0.4))
    report = numpyro.sample("report", dist.Beta(6.0, 4.0))
    network = mjp.ReactionNetwork(
        [("S + I -> 2 I + new", contact / 50), ("I -> R", recovery)], counters=["new"]
    )
    graph = mjp.chain(network, np.arange(9.0), initial={"S": 46, "I": 4, "R": 0})
    graph.observe_each(lambda x: dist.NegativeBinomial2(report * x["new"] + 0.1, 10.0), np.zeros(9))
    with_values(graph, values)
    mjp.sample("outbreak", graph, max_events=128)
    return graph


def test_ranks_of_the_rates_of_reported_cases_are_uniform():
    check_calibrated(reported, replications=256, bins=16, warmup=300, draws=620, thin=10, particles=100)
