"""Particle filters of regimes, whose state is integrated out, against enumeration of all sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_normal
from switching_truth import (
    FIRST,
    GENERATOR,
    SEEN,
    TIMES,
    enumerated,
    joint_law,
    noisy,
    regime_paths,
    reverting,
)

import mjp
from mjp.inference.regime_particles import run, survivors


def truth(process, steps=2):
    look = np.eye(process.dim)[:1]
    looks = [(i * steps, look, [SEEN[i]], np.array([[0.09]])) for i in (1, 3)]
    return enumerated(process, steps, looks)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("dim", [1, 2])
def test_exact_with_as_many_particles_as_sequences(dim, guided):
    process = reverting(dim)
    expected, high = truth(process)
    found = mjp.smc(noisy(process), jax.random.key(0), 64, guided=guided)
    np.testing.assert_allclose(found.log_evidence, expected, rtol=1e-9)
    np.testing.assert_allclose(found.filtered[-1, 1], high[-1], rtol=1e-9)
    np.testing.assert_allclose(np.sum(found.filtered, axis=1), 1.0, rtol=1e-9)


@pytest.mark.parametrize("guided", [True, False])
def test_evidence_with_few_particles(guided):
    """exp of the log-evidence is unbiased with 5 particles for 64 sequences: within four standard errors."""
    process = reverting()
    expected, _ = truth(process)
    graph = noisy(process)
    ratio = np.exp(
        [
            float(mjp.smc(graph, key, 5, guided=guided).log_evidence) - expected
            for key in jax.random.split(jax.random.key(1), 200)
        ]
    )
    assert abs(ratio.mean() - 1) + ratio.std() > 1e-4
    assert abs(ratio.mean() - 1) < 4 * ratio.std(ddof=1) / np.sqrt(len(ratio)) < 0.1


@pytest.mark.parametrize("dim", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_exact_values_and_series(dim):
    """Nodes that are known without error, a missing one, and two series side by side."""
    process, steps = reverting(dim), 2
    values = np.array([[np.nan, 0.4, np.nan, 1.3], [np.nan, -0.2, 0.9, np.nan]])[..., None] * np.ones(dim)
    graph = mjp.chain(process, TIMES, initial=jnp.zeros(dim), steps=steps, series=2)
    found = mjp.smc(graph.observe_each(mjp.Exactly(), values), jax.random.key(0), 64)
    for row, log_evidence in zip(values, found.log_evidence, strict=True):
        looks = [
            (i * steps, np.eye(dim), row[i], np.zeros((dim, dim))) for i in range(4) if np.isfinite(row[i, 0])
        ]
        np.testing.assert_allclose(log_evidence, enumerated(process, steps, looks)[0], rtol=1e-8)
    at = found.path.values.reshape(2, 4, dim)
    np.testing.assert_allclose(at[np.isfinite(values)], values[np.isfinite(values)])


def test_a_known_path_with_a_gauge():
    """A path that is seen at every step, and one node of it with noise besides: the likelihood is exact."""
    values = np.array([np.nan, 0.3, -0.2, 0.8])
    graph = mjp.chain(reverting(), TIMES, initial=0.0).observe_each(mjp.Exactly(), values)
    graph.observe(2, lambda x: dist.Normal(x[0], 0.5), 0.1)
    expected = mjp.condition(graph)
    assert expected.exact
    found = mjp.smc(graph, jax.random.key(0), 8)
    np.testing.assert_allclose(found.log_evidence, expected.log_evidence, rtol=1e-9)
    np.testing.assert_allclose(found.path.values[1:, 0], values[1:])


def test_paths_have_the_law_given_the_data():
    """Regimes and states of 3000 draws with all sequences at hand, against enumeration."""
    process, steps = reverting(), 2
    _, high = truth(process)
    graph = noisy(process)
    guided = mjp.condition(graph)
    paths = jax.lax.map(
        lambda key: run(guided, key, 64, True).path, jax.random.split(jax.random.key(2), 3000), batch_size=100
    )
    regimes, states = np.asarray(paths.regimes)[:, 0], np.asarray(paths.values)[:, 2, 0]
    assert np.all(np.abs(regimes.mean(axis=0) - high) < 4.5 * np.sqrt(high * (1 - high) / 3000))
    total, first, second = 0.0, 0.0, 0.0  # moments of the state at the third node, which is not seen
    for path, p in regime_paths(process, steps, TIMES, GENERATOR, FIRST):
        mean, covariance = joint_law(process, path, steps, TIMES)
        rows = np.eye(6)[[1, 5]]
        gain = covariance @ rows.T @ np.linalg.inv(rows @ covariance @ rows.T + 0.09 * np.eye(2))
        seen = np.array([SEEN[1], SEEN[3]])
        p = p * multivariate_normal.pdf(seen, rows @ mean, rows @ covariance @ rows.T + 0.09 * np.eye(2))
        after = (mean + gain @ (seen - rows @ mean))[3]
        spread = (covariance - gain @ rows @ covariance)[3, 3]
        total, first, second = total + p, first + p * after, second + p * (after**2 + spread)
    mean, variance = first / total, second / total - (first / total) ** 2
    assert abs(states.mean() - mean) < 4.5 * np.sqrt(variance / 3000)
    assert abs(states.var() / variance - 1) < 0.15


def test_float32_and_many_steps():
    """A hundred noisy observations; both precisions, with and without the guide, agree."""
    values = np.append(np.nan, np.random.default_rng(3).normal(size=100).cumsum() / 4)

    def estimate(key, particles, **options):
        process = mjp.SwitchingDiffusion(
            {"calm": (lambda t, x: -0.5 * x, 0.3), "wild": (lambda t, x: -0.5 * x, 1.5)},
            {("calm", "wild"): 0.1, ("wild", "calm"): 0.3},
        )
        graph = mjp.chain(process, np.arange(101.0), initial=0.0, steps=3)
        graph.observe_each(lambda x: dist.Normal(x[0], 0.2), values)
        return mjp.smc(graph, jax.random.key(key), particles, **options).log_evidence

    found = [float(estimate(i, 60)) for i in range(4)]
    assert np.ptp([*found, float(estimate(0, 200, guided=False))]) < 0.5
    with jax.enable_x64(False):
        single = estimate(0, 60)
        assert single.dtype == jnp.float32
        assert abs(float(single) - np.mean(found)) < 0.5


@pytest.mark.parametrize("n", [3, 6])
def test_optimal_resampling(n):
    """Every particle is kept with its chance, and exactly n of them: chances by their definition."""
    shares = np.array([0.4, 0.25, 0.0, 0.15, 0.1, 0.06, 0.04])
    draw = jax.vmap(lambda u: survivors(jnp.asarray(shares), u, n))
    which, log_chance, kept = draw((jnp.arange(20000) + 0.5) / 20000)
    assert np.all(np.sum(kept, axis=1) == n)
    flat = np.asarray(which).reshape(-1)
    chance = np.zeros(len(shares))
    chance[flat] = np.exp(np.asarray(log_chance).reshape(-1))
    np.testing.assert_allclose(np.bincount(flat, minlength=len(shares)) / 20000, chance, atol=1e-3)
    np.testing.assert_allclose(chance.sum(), n)
    drawn = (chance < 1) & (shares > 0)
    if n == 3:  # the rest have chances in proportion to their shares, and none has more than one
        np.testing.assert_allclose(chance[drawn] / shares[drawn], np.full(drawn.sum(), 2 / 0.6))


def test_bad_input():
    nonlinear = mjp.SwitchingDiffusion(
        {"a": (lambda t, x: -x, 0.3), "b": (lambda t, x: -(x**3), 1.0)},
        {("a", "b"): 0.1, ("b", "a"): 0.3},
    )
    with pytest.raises(TypeError, match="not depend on the state, which the regime 'b' has not"):
        mjp.smc(noisy(nonlinear), jax.random.key(0), 10)
    counts = mjp.chain(reverting(), TIMES, initial=0.0, steps=2)
    counts.observe_each(lambda x: dist.Poisson(jnp.exp(x[0])), np.array([np.nan, 1.0, 2.0, 1.0]))
    with pytest.raises(TypeError, match="observations that are linear and Gaussian"):
        mjp.smc(counts, jax.random.key(0), 10)
    with pytest.raises(ValueError, match="guided must be True or False for a SwitchingDiffusion"):
        mjp.smc(noisy(reverting()), jax.random.key(0), 10, guided="resampling")
