"""Counting processes against the distributions that their counts have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mjp

TIMES = np.array([0.0, 0.7, 2.0])
DEATH = mjp.CountingProcess(death=0.5, name="alive")


def observed(process, counts, times=TIMES):
    graph = mjp.chain(process, times, initial=counts[0])
    return graph.observe_each(mjp.Exactly(), np.array([np.nan, *counts[1:]]))


def yule(n, m, t, rate=0.4):
    """Probability that m individuals become n by splitting."""
    return stats.nbinom.pmf(n - m, m, np.exp(-rate * t))


def immigration(n, m, t):
    """Arrivals at rate 2, deaths at rate 0.6."""
    kept, mean = np.arange(m + 1), 2.0 / 0.6 * -np.expm1(-0.6 * t)
    return np.sum(stats.binom.pmf(kept, m, np.exp(-0.6 * t)) * stats.poisson.pmf(n - kept, mean))


@pytest.mark.parametrize(
    ("process", "counts", "probability"),
    [
        (mjp.CountingProcess(arrival=3.0), (2, 5, 8), lambda n, m, t: stats.poisson.pmf(n - m, 3.0 * t)),
        (DEATH, (20, 15, 6), lambda n, m, t: stats.binom.pmf(n, m, np.exp(-0.5 * t))),
        (mjp.CountingProcess(birth=0.4), (3, 4, 9), yule),
        (mjp.CountingProcess(arrival=2.0, death=0.6), (4, 5, 2), immigration),
    ],
)
def test_evidence_in_closed_form(process, counts, probability):
    found = mjp.condition(observed(process, counts), max_events=32).log_evidence
    steps = zip(counts[1:], counts[:-1], np.diff(TIMES), strict=True)
    assert np.isclose(found, sum(np.log(probability(n, m, t)) for n, m, t in steps), rtol=1e-9)


def test_bridges():
    """Half way through a blackout, given how many are left; weights differ from one by the grid only."""
    guided = mjp.condition(observed(DEATH, (20, 8), [0.0, 2.0]), max_events=16, cells=40)
    paths, weights = jax.vmap(guided.sample)(jax.random.split(jax.random.key(0), 3000))
    assert abs(np.mean(np.exp(weights)) - 1.0) < 4 * np.std(np.exp(weights)) / np.sqrt(3000)
    met = np.isfinite(weights)  # a guide that is frozen on a grid may miss an exact count
    assert np.mean(met) > 0.98
    assert np.std(weights[met]) < 0.25
    half = np.asarray(jax.vmap(lambda path: path.at(jnp.array([1.0]))[0, 0])(paths))
    survives = np.exp(-0.5)
    law = stats.binom(12, survives * (1 - survives) / (1 - survives**2))
    share = np.exp(weights) / np.sum(np.exp(weights))
    assert abs(np.sum(share * half) - (8 + law.mean())) < 4 * law.std() / np.sqrt(2500)


def test_intensity():
    """An inhomogeneous Poisson process has Poisson counts with the integral of its intensity."""
    process = mjp.CountingProcess(arrival=lambda t: 4.0 + 3.0 * jnp.sin(t), breaks=np.linspace(0.0, 6.0, 31))
    graph = mjp.chain(process, [0.0, 2.4, 6.0], initial=0)
    path = mjp.simulate(graph, jax.random.key(0), replicates=2000, paths=False)
    counts = np.asarray(path.values)[..., 0].reshape(2000, 3)
    for k, end in ((1, 2.4), (2, 6.0)):
        mean = 4.0 * end + 3.0 * (1.0 - np.cos(end))
        assert abs(counts[:, k].mean() - mean) < 4 * np.sqrt(mean / 2000)
        assert abs(counts[:, k].var() / mean - 1.0) < 0.15


@pytest.mark.slow
def test_noisy_counts_keep_the_guide_of_networks():
    import numpyro.distributions as dist

    graph = mjp.chain(DEATH, TIMES, initial=20)
    graph.observe_each(lambda x: dist.Normal(x["alive"], 1.0), np.array([np.nan, 14.2, 6.5]))
    found = mjp.evidence(graph, jax.random.key(0), 1000, max_events=24)
    n = np.arange(21)
    first = stats.binom.pmf(n, 20, np.exp(-0.35)) * stats.norm.pdf(14.2, n, 1.0)
    second = stats.binom.pmf(n[:, None], n, np.exp(-0.65)) * first
    expected = np.log(np.sum(second.sum(axis=1) * stats.norm.pdf(6.5, n, 1.0)))
    assert abs(float(found.log_evidence) - expected) < 4 * float(found.standard_error) < 0.4


BAD = {
    "no rate": (lambda: mjp.CountingProcess(), ValueError, "give at least one of the rates"),
    "negative": (
        lambda: mjp.CountingProcess(death=-1.0),
        ValueError,
        "the rate of 'X -> 0' must be finite and >= 0, got -1.0",
    ),
    "text": (
        lambda: mjp.CountingProcess(arrival="often"),
        TypeError,
        "arrival must be a rate or a function of time, got 'often'",
    ),
    "intensity without breaks": (
        lambda: mjp.CountingProcess(arrival=lambda t: t),
        ValueError,
        "arrival is a function of time and needs breaks",
    ),
    "intensity of two": (
        lambda: mjp.CountingProcess(arrival=lambda t: jnp.ones(2), breaks=[1.0, 2.0]),
        ValueError,
        r"arrival must return one number, got shape \(2,\)",
    ),
    "negative intensity": (
        lambda: mjp.CountingProcess(birth=lambda t: -t, breaks=[1.0, 2.0]),
        ValueError,
        "the rate of 'X -> 2 X' must be finite and >= 0",
    ),
    "pieces": (
        lambda: mjp.CountingProcess(death=[1.0, 2.0, 3.0], breaks=[1.0]),
        ValueError,
        r"must be a scalar or 2 pieces, got shape \(3,\)",
    ),
    "initial": (
        lambda: mjp.chain(DEATH, TIMES, initial=2.5),
        ValueError,
        "initial",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()
