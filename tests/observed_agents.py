"""Four agents on a network, observed in every way there is; what enumeration needs to know of them."""

import networkx as nx
import numpy as np
import numpyro.distributions as dist
from numpyro.diagnostics import effective_sample_size
from scipy.stats import binom

import mjp

N, K, T, DURATION = 4, 3, 5, 0.5
RATES = {"infection": 1.2, "recovery": 0.6, "waning": 0.3, "external": 0.05}
KINDS = {"home": 1.2, "work": 0.8}  # rates of infection in two networks
FIRST = np.array([[0.7, 0.25, 0.05], [0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.6, 0.2, 0.2]])
ERRORS = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9]])
STATES = ["S", "I", "R"]
CARELESS = [[None] * 4, ["S", "S", None, "I"], [None] * 4, ["I", "R", "S", "I"], [None] * 4]
SURE = [[None] * 4, [None] * 4, [None] * 4, [None] * 4, ["R", None, None, "I"]]
VALUES = np.array([[np.nan] * 4, [0.3, np.nan, np.nan, 1.0], [np.nan] * 4, [np.nan] * 4, [np.nan] * 4])
REPORTED = np.array([np.nan, np.nan, 1.0, np.nan, 2.0])


def directed():
    """Contacts of different weight, some of them in one direction only."""
    network = nx.DiGraph()
    network.add_nodes_from(range(N))
    network.add_weighted_edges_from([(0, 1, 1.0), (1, 0, 2.0), (1, 2, 0.5), (2, 3, 1.0), (0, 3, 0.7)])
    return network


def two_networks():
    """Contacts of two kinds; one of them is in both networks."""
    home, work = directed(), nx.DiGraph()
    home.remove_edges_from([(1, 2), (2, 3), (0, 3)])
    work.add_nodes_from(reversed(range(N)))
    work.add_weighted_edges_from([(1, 2, 0.5), (2, 3, 1.0), (0, 3, 0.7), (0, 1, 0.4)])
    return {"home": home, "work": work}


def influence(network):
    return nx.to_numpy_array(network, nodelist=sorted(network.nodes)).T


def observe(chain, totals=True):
    """The chain with values of all kinds; `likelihood` says the same of one configuration."""
    chain.observe_each(mjp.Misclassified(ERRORS), CARELESS)
    chain.observe_each(mjp.Exactly(), SURE)
    chain.observe_each(mjp.EachAgent(lambda state: dist.Normal(0.5 * state, 0.4)), VALUES)
    if totals:
        chain.observe_each(lambda x: dist.Binomial(x["I"] + x["R"], 0.7), REPORTED)
    return chain


def likelihood(time, configuration, totals=True):
    value = 1.0
    for agent, state in enumerate(configuration):
        if CARELESS[time][agent] is not None:
            value *= ERRORS[state, STATES.index(CARELESS[time][agent])]
        if SURE[time][agent] is not None:
            value *= STATES[state] == SURE[time][agent]
        if not np.isnan(VALUES[time, agent]):
            residual = (VALUES[time, agent] - 0.5 * state) / 0.4
            value *= np.exp(-0.5 * residual**2) / (0.4 * np.sqrt(2 * np.pi))
    if totals and not np.isnan(REPORTED[time]):
        value *= binom.pmf(REPORTED[time], np.sum(configuration > 0), 0.7)
    return value


def check_marginals(paths, truth, least):
    """Every marginal, and two neighbours together, to 4 standard errors of dependent draws.

    Args:
        paths: (draws, T, N) states at the times of observations.
        least: events that are neither certain nor impossible must be more than these.
    """
    checked = 0
    for time in range(T):
        events = [(lambda c, a=a, s=s: c[..., a] == s) for a in range(N) for s in range(K)]
        events.append(lambda c: (c[..., 0] == 1) & (c[..., 1] == 1))
        for event in events:
            happened = np.asarray(event(paths[:, time]), float)
            p = truth.probability(time, event)
            if happened.std() == 0:
                assert p < 2e-3 or p > 1 - 2e-3
                continue
            effective = effective_sample_size(happened.reshape(4, -1))
            assert abs(happened.mean() - p) < 4 * happened.std() / np.sqrt(effective)
            checked += 1
    assert checked > least
