"""Diffusions of positive and bounded states: closed forms, quadrature, and what leaves the support."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import mjp
from mjp.processes.gaussian import Interval

TIMES = np.array([0.0, 0.5, 1.2, 2.0])


def geometric(drift=0.3, volatility=0.4):
    return mjp.Diffusion(lambda t, x: drift * x, lambda t, x: volatility * x, support="positive")


def cir(speed=1.5, level=1.0, noise=0.6):
    return mjp.Diffusion(
        lambda t, x: speed * (level - x), lambda t, x: noise * jnp.sqrt(x), support="positive"
    )


def log_normal_terms(x, times, drift, volatility):
    gaps = np.diff(times)
    mean = np.log(x[:-1]) + (drift - volatility**2 / 2) * gaps
    return stats.lognorm.logpdf(x[1:], volatility * np.sqrt(gaps), scale=np.exp(mean))


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_geometric_brownian_motion_seen_exactly(steps):
    x = np.array([1.0, 1.3, 0.9, 1.1])
    chain = mjp.chain(geometric(), TIMES, initial=1.0, steps=steps)
    chain.observe_each(mjp.Exactly(), np.append(np.nan, x[1:]))
    guided = mjp.condition(chain)
    expected = log_normal_terms(x, TIMES, 0.3, 0.4)
    np.testing.assert_allclose(guided.log_evidence, expected.sum(), rtol=1e-5)
    path, log_weight = guided.sample(jax.random.key(0))
    assert abs(float(log_weight)) < 1e-5  # linear in the logarithm
    np.testing.assert_allclose(path.values[1:, 0], x[1:], rtol=1e-5)


def test_geometric_brownian_motion_seen_with_log_normal_errors():
    y = np.array([0.1, -0.2, 0.3])
    start, volatility, error = 0.5, 0.4, 0.3
    chain = mjp.chain(geometric(0.3, volatility), TIMES, initial=dist.LogNormal(0.2, start), steps=2)
    chain.observe_each(lambda x: dist.Normal(jnp.log(x[0]), error), np.append(np.nan, y))
    guided = mjp.condition(chain)
    assert abs(float(guided.sample(jax.random.key(0))[1])) < 1e-5
    mean = 0.2 + (0.3 - volatility**2 / 2) * TIMES
    covariance = start**2 + volatility**2 * np.minimum.outer(TIMES, TIMES)
    seen = stats.multivariate_normal(mean[1:], covariance[1:, 1:] + error**2 * np.eye(3))
    np.testing.assert_allclose(guided.log_evidence, seen.logpdf(y), rtol=1e-5)


def evidence_on_a_grid(step, start, y, error, low, high, n=1200):
    """log p(y) of a chain of steps in one coordinate, by quadrature; one observation per step or None."""
    grid = np.linspace(low, high, n)
    width = grid[1] - grid[0]
    mean, scale = (np.asarray(v) for v in jax.vmap(step)(jnp.asarray(grid)))
    kernel = stats.norm.pdf(grid[None], mean[:, None], scale[:, None]) * width
    first = step(jnp.asarray(start))
    law = stats.norm.pdf(grid, float(first[0]), float(first[1])) * width
    for i, value in enumerate(y):
        if i:
            law = law @ kernel
        if value is not None:
            law = law * stats.norm.pdf(value, np.exp(grid), error)
    return np.log(law.sum())


@pytest.mark.parametrize(
    ("auxiliary", "error"),
    [("guided mean", 0.2), ("guided mean", 0.02), ("observations", 0.02), ("prior mean", 0.2)],
)
def test_square_root_diffusion_against_quadrature(auxiliary, error):
    speed, level, noise, dt = 1.5, 1.0, 0.6, 0.1
    y = [0.7, 1.1, 0.5]
    chain = mjp.chain(cir(speed, level, noise), np.arange(4) * 0.4, initial=0.9, steps=4)
    chain.observe_each(lambda x: dist.Normal(x[0], error), np.append(np.nan, y))

    def step(v):
        x = jnp.exp(v)
        return v + (speed * (level - x) / x - noise**2 / (2 * x)) * dt, noise / jnp.sqrt(x) * dt**0.5

    expected = evidence_on_a_grid(
        step, np.log(0.9), [v for own in y for v in (None, None, None, own)], error, -4.0, 2.0
    )
    found = mjp.evidence(chain, jax.random.key(1), 4000, auxiliary=auxiliary)
    assert abs(float(found.log_evidence) - expected) < 4 * float(found.standard_error)
    assert float(found.standard_error) < 0.1


def test_the_law_with_an_exact_observation_between_two_bounds():
    """A Jacobi diffusion seen exactly: the evidence is a density of the state, not of its logit."""
    process = mjp.Diffusion(
        lambda t, x: 0.5 - x, lambda t, x: 0.4 * jnp.sqrt(x * (1 - x)), support=(0.0, 1.0)
    )
    values = np.array([0.05, 0.3, 0.5, 0.9])

    def evidence(value):
        chain = mjp.chain(process, [0.0, 0.1], initial=0.4, steps=1)
        return mjp.condition(chain.observe_each(mjp.Exactly(), [np.nan, value])).log_evidence

    y = np.log(0.4 / 0.6)
    slope, square = 0.4 * 0.6, 0.16 * 0.4 * 0.6
    second = slope * (1 - 2 * 0.4)
    drift = (0.1 - 0.5 * second * square / slope**2) / slope
    scale = np.sqrt(square) / slope * np.sqrt(0.1)
    logit = np.log(values / (1 - values))
    expected = stats.norm.logpdf(logit, y + drift * 0.1, scale) - np.log(values * (1 - values))
    np.testing.assert_allclose([evidence(v) for v in values], expected, rtol=1e-4, atol=1e-4)


def test_simulated_paths_stay_in_the_support():
    process = mjp.Diffusion(
        lambda t, x: jnp.array([x[0] * (1 - x[0]), -x[1]]),
        lambda t, x: jnp.array([2.0 * x[0], 1.0]),
        dim=2,
        support=["positive", "real"],
    )
    chain = mjp.chain(process, np.arange(6.0), initial=jnp.array([0.5, 0.0]), steps=10)
    paths = jax.vmap(lambda key: mjp.simulate(chain, key).path().values)(
        jax.random.split(jax.random.key(0), 200)
    )
    assert np.all(np.isfinite(paths))
    assert np.all(paths[..., 0] > 0)
    assert np.any(paths[..., 1] < 0)


def test_steps_by_local_linearisation_stay_bounded_near_the_bound():
    """The drift of log x grows without limit towards 0: the step is the known one of its linearisation."""
    speed, level, noise = 0.05, 0.7, 0.2
    process = mjp.Diffusion(
        lambda t, x: speed * (level - x),
        lambda t, x: noise * jnp.sqrt(x),
        scheme="local linearisation",
        support="positive",
    )
    y = jnp.array([-100.0, -40.0, -3.0, np.log(level), 5.0])
    at = Interval(jnp.zeros(()), jnp.asarray(1.0), {})
    mean, factor = jax.vmap(lambda v: process.step(v[None], at))(y)
    force = speed * level - noise**2 / 2
    slope = -force * np.exp(-y)
    change = (force * np.exp(-y) - speed) * np.expm1(slope) / slope
    variance = noise**2 * np.exp(-y) * np.expm1(2 * slope) / (2 * slope)
    np.testing.assert_allclose(mean[:, 0], y + change, rtol=1e-6)
    np.testing.assert_allclose(factor[:, 0, 0] ** 2, variance, rtol=1e-6)
    derivative = jax.vmap(jax.grad(lambda v: process.step(v[None], at)[0][0]))(y)
    assert np.all(np.isfinite(derivative))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the noise along an exact observation")
def test_one_coordinate_seen_exactly_and_the_weights_by_edge():
    process = mjp.Diffusion(
        lambda t, x: jnp.array([x[0] * (1 - x[1]), x[0] - x[1]]),
        lambda t, x: 0.3 * x,
        dim=2,
        support="positive",
    )
    chain = mjp.chain(process, [0.0, 0.5, 1.0], initial=jnp.ones(2), steps=5)
    chain.observe_each(mjp.LinearGaussianObservation(np.array([[1.0, 0.0]]), 0.0), [[np.nan], [1.2], [0.8]])
    guided = mjp.condition(chain)
    path, log_weight = guided.sample(jax.random.key(2))
    np.testing.assert_allclose(path.values[1:, 0], [1.2, 0.8], rtol=1e-5)
    edges, sites = guided.weights_by_edge(path)
    np.testing.assert_allclose(jnp.sum(edges) + jnp.sum(sites), log_weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mjp.Diffusion(lambda t, x: x, 1.0, support="negative"), "support must be 'real'"),
        (lambda: mjp.Diffusion(lambda t, x: x, 1.0, support=(1.0, 0.0)), "increasing bounds"),
        (
            lambda: mjp.Diffusion(lambda t, x: x, 1.0, support=["real", "real"]),
            r"per coordinate \(1\), got 2",
        ),
        (
            lambda: mjp.condition(mjp.chain(cir(), [0.0, 1.0], initial=-1.0, steps=2)),
            r"initial: the state \[-1.\] at .* is outside of the support \(0, inf\)",
        ),
        (
            lambda: mjp.condition(mjp.chain(cir(), [0.0, 1.0], initial=dist.Normal(1.0, 0.1), steps=2)),
            "initial must be a value, or a LogNormal law",
        ),
        (
            lambda: mjp.condition(
                mjp.chain(cir(), [0.0, 1.0], initial=1.0, steps=2).observe_each(mjp.Exactly(), [np.nan, -2.0])
            ),
            r"values: the state \[-2.\] at .* is outside",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
