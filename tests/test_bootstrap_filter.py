"""The bootstrap filter of reaction networks against forward recursions on all states."""

import itertools

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.linalg import expm
from scipy.stats import poisson

import mjp
from mjp.inference.bootstrap_filter import bootstrap_filter
from mjp.inference.count_graph import evaluate
from mjp.inference.path_law import PathLaw, pack

NAN = np.nan
TIMES = np.array([0.0, 0.4, 1.0, 1.7])


def series(values, initial, breaks=None):
    """Deaths seen with Poisson noise, at rates that change in the middle of an edge if there are breaks."""
    rates = 0.5 if breaks is None else [0.5, 1.5]
    network = mjp.ReactionNetwork([("X -> 0", rates)], **({} if breaks is None else {"breaks": breaks}))
    graph = mjp.chain(network, TIMES, initial=initial, series=len(values))
    return graph.observe_each(lambda x: dist.Poisson(x["X"] + 0.5), values)


def exact(row, law, breaks=()):
    """Log-likelihood of one series with a law (51,) of the first count."""
    counts = np.arange(len(law))
    deaths = np.diag(counts[1:], -1) - np.diag(counts)
    for k, y in enumerate(row):
        if k:
            cuts = [TIMES[k - 1], *[b for b in breaks if TIMES[k - 1] < b < TIMES[k]], TIMES[k]]
            for a, b in itertools.pairwise(cuts):
                rate = 1.5 if breaks and a >= breaks[0] else 0.5
                law = law @ expm(rate * deaths * (b - a))
        if not np.isnan(y):
            law = law * poisson.pmf(y, counts + 0.5)
    return np.log(law.sum())


def test_evidence_of_two_series_with_gaps_and_a_break():
    """exp of the log-evidence is unbiased: the mean over 40 filters, within four standard errors."""
    values = np.array([[NAN, 41.0, NAN, 20.0], [NAN, NAN, 33.0, 9.0]])
    graph = series(values, [50], [0.7])
    start = np.eye(51)[50]
    expected = np.array([exact(row, start, [0.7]) for row in values])
    found = [mjp.smc(graph, key, 300, guided=False) for key in jax.random.split(jax.random.key(0), 40)]
    ratio = np.exp(np.array([one.log_evidence for one in found]) - expected)
    error = ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))
    assert np.all(error < 0.05)
    np.testing.assert_array_less(np.abs(ratio.mean(axis=0) - 1), 4 * error)
    ess = np.array([one.ess for one in found])
    assert np.all((ess > 0) & (ess <= 300 * (1 + 1e-12)))


def test_evidence_with_a_law_of_the_first_count():
    values = np.array([[30.0, NAN, 12.0, 11.0]])
    initial = dist.Binomial(50, 0.5).expand([1]).to_event(1)
    law = np.exp(np.asarray(dist.Binomial(50, 0.5).log_prob(np.arange(51))))
    expected = exact(values[0], law)
    keys = jax.random.split(jax.random.key(1), 40)
    graph = series(values, initial)
    ratio = np.exp([float(mjp.smc(graph, k, 300, guided=False).log_evidence[0]) - expected for k in keys])
    assert abs(ratio.mean() - 1) < 4 * ratio.std(ddof=1) / np.sqrt(len(ratio)) < 0.2


def test_the_path_that_is_drawn_is_one_that_was_simulated():
    """Simulated again it ends as before, in every filter; it is possible, and the evidence is the same."""
    values = np.array([[NAN, 41.0, NAN, 20.0], [NAN, NAN, 33.0, 9.0]])
    model = evaluate(series(values, [50], [0.7]), None)
    law = PathLaw(series(values, [50], [0.7]), 64)
    for key in jax.random.split(jax.random.key(5), 5):
        found, bare = bootstrap_filter(model, key, 200, 64), bootstrap_filter(model, key, 200)
        assert int(found.overflow) == 0
        np.testing.assert_array_equal(found.log_evidence, bare.log_evidence)
        path = pack(found.reference.times, found.reference.reactions)
        assert np.all(np.isfinite(law.log_prob(path)))
        counts = np.asarray(law.nodes(path))[:8].reshape(2, 4)
        assert np.all(counts[:, 0] == 50)
        assert np.all(np.abs(counts[:, -1] - values[:, -1]) < 15)


def test_a_path_that_does_not_fit_has_no_weight():
    model = evaluate(series(np.array([[NAN, 41.0, NAN, 20.0]]), [50]), None)
    found = bootstrap_filter(model, jax.random.key(0), 200, 8)
    assert int(found.overflow) > 100
    assert np.all(np.sum(np.asarray(found.reference.reactions) >= 0, axis=1) <= 8)


def test_nobody_alive_is_reported_with_the_edge():
    graph = mjp.chain(mjp.ReactionNetwork([("X -> 0", 0.5)]), TIMES, initial=[20])
    graph.observe_each(mjp.Exactly(), np.array([[NAN], [NAN], [25.0], [NAN]]))
    with pytest.raises(RuntimeError, match="none of 100 particles is alive after edge 1, from"):
        mjp.smc(graph, jax.random.key(0), 100, guided=False)


def test_a_limit_that_is_too_low_is_reported():
    graph = series(np.array([[NAN, 41.0, NAN, 20.0]]), [50])
    with pytest.warns(UserWarning, match="give a larger event_limit"):
        found = mjp.smc(graph, jax.random.key(0), 200, guided=False, event_limit=12)
    assert found.overflow > 0
    with pytest.raises(ValueError, match="event_limit"):
        mjp.smc(graph, jax.random.key(0), 200, guided=False, event_limit=0)
    with pytest.raises(TypeError, match="a bootstrap filter has no option but event_limit, got clipp"):
        mjp.smc(graph, jax.random.key(0), 200, guided=False, clipp=1)


def test_bad_propensities_are_refused():
    network = mjp.ReactionNetwork([("X -> 0", lambda x: 10.0 - x["X"])])
    graph = mjp.chain(network, [0.0, 1.0], initial=[12])
    graph.observe_each(lambda x: dist.Poisson(x["X"] + 0.5), np.array([NAN, 9.0]))
    with pytest.raises(ValueError, match="propensities that are negative"):
        mjp.smc(graph, jax.random.key(0), 50, guided=False)
