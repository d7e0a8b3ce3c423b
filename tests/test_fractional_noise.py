"""Fractional noise against the covariance of fractional Brownian motion, and Gaussian process likelihoods."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.integrate import quad
from scipy.special import gamma
from scipy.stats import multivariate_normal

import mjp

REFERENCE = json.loads((Path(__file__).parent / "reference" / "fbm_bridge.json").read_text())
TIMES = np.append(REFERENCE["t"], 2.0)


@pytest.mark.parametrize("hurst", [0.2, 0.3, 0.5, 0.7, 0.8])
def test_covariance_and_bridge(hurst):
    """The posterior deviations of a path seen at time 2 with error 0.1."""
    found = np.asarray(mjp.fractional_noise(hurst, horizon=2.0).covariance(TIMES))
    power = 2 * hurst
    exact = 0.5 * (TIMES[:, None] ** power + TIMES**power - np.abs(TIMES[:, None] - TIMES) ** power)
    assert np.allclose(found, exact, atol=0.01 * exact.max())
    bridge = np.sqrt(np.diag(found)[:-1] - found[:-1, -1] ** 2 / (found[-1, -1] + 0.01))
    assert np.allclose(bridge, REFERENCE["sd"][str(hurst)], atol=2e-3)


def test_riemann_liouville():
    """Without a past the covariance is an integral of two powers."""
    found = mjp.fractional_noise(0.3, horizon=2.0, type="II").covariance([0.5, 2.0])

    def exact(s, t):
        both = lambda u: ((s - u) * (t - u)) ** -0.2
        return quad(both, 0, s, limit=200)[0] / gamma(0.8) ** 2

    assert np.allclose(
        found, [[exact(0.5, 0.5), exact(0.5, 2.0)], [exact(0.5, 2.0), exact(2.0, 2.0)]], atol=2e-3
    )


@pytest.mark.parametrize("kind", ["I", "II"])
def test_evidence_of_a_driven_path(kind):
    """Without drift the path is the noise itself, and its likelihood that of a Gaussian process."""
    noise = mjp.fractional_noise(0.35, horizon=2.0, components=6, type=kind)
    process = noise.drive(lambda t, x: 0.0 * x, 1.5)
    assert process.linear
    times = np.array([0.0, 0.4, 0.5, 1.3, 2.0])
    graph = mjp.chain(process, times, initial=mjp.fractional_start(process, 0.7), steps=3)
    values = np.array([np.nan, 1.0, 0.6, np.nan, 1.9])
    guided = mjp.condition(graph.observe_each(lambda x: dist.Normal(x[0], 0.1), values))
    seen = times[[1, 2, 4]]
    covariance = 1.5**2 * np.asarray(noise.covariance(seen)) + 0.01 * np.eye(3)
    expected = multivariate_normal(np.full(3, 0.7), covariance).logpdf(values[[1, 2, 4]])
    assert guided.exact
    assert np.isclose(guided.log_evidence, expected, rtol=1e-4)  # transitions are nearly singular


@pytest.mark.slow
def test_two_noises_and_derivative_in_hurst():
    def end(hurst):
        noise = mjp.fractional_noise(hurst, horizon=1.0, components=4)
        process = noise.drive(lambda t, x: -x, jnp.array([[1.0, 0.0], [0.5, 2.0]]), dim=2)
        assert (process.dim, process.noise_dim) == (10, 8)
        graph = mjp.chain(process, [0.0, 1.0], initial=mjp.fractional_start(process, jnp.zeros(2)), steps=2)
        graph.observe(1, lambda x: dist.Normal(x[:2], 0.3), jnp.array([0.4, -1.0]))
        return mjp.condition(graph).log_evidence

    value, slope = jax.jit(jax.value_and_grad(end))(0.6)
    again = jax.jit(end)
    assert np.isclose(slope, (again(0.6 + 1e-4) - again(0.6 - 1e-4)) / 2e-4, rtol=1e-4)
    assert np.isclose(again(0.6), value)


def test_derivative_in_hurst():
    variance = jax.jit(
        lambda hurst: mjp.fractional_noise(hurst, horizon=1.0, components=8).covariance([0.5])[0, 0]
    )
    slope = jax.jit(jax.grad(variance))(0.6)
    assert np.isclose(slope, (variance(0.6 + 1e-5) - variance(0.6 - 1e-5)) / 2e-5, rtol=1e-5)
    assert np.isclose(slope, 2 * np.log(0.5) * 0.5**1.2, rtol=0.05)  # of t^{2H}


BAD = {
    "hurst one": (lambda: mjp.fractional_noise(1.0, 1.0), ValueError, r"hurst must be in \(0, 1\), got 1.0"),
    "hurst vector": (lambda: mjp.fractional_noise([0.2, 0.3], 1.0), ValueError, "hurst must be one number"),
    "horizon": (
        lambda: mjp.fractional_noise(0.3, 0.0),
        ValueError,
        "horizon must be a positive time, got 0.0",
    ),
    "components": (
        lambda: mjp.fractional_noise(0.3, 1.0, 0),
        ValueError,
        "components must be a positive integer",
    ),
    "ratio": (lambda: mjp.fractional_noise(0.3, 1.0, ratio=1.0), ValueError, "ratio must be > 1, got 1.0"),
    "type": (
        lambda: mjp.fractional_noise(0.3, 1.0, type="III"),
        ValueError,
        "type must be 'I' or 'II', got 'III'",
    ),
    "start of another process": (
        lambda: mjp.fractional_start(mjp.Diffusion(lambda t, x: x, 1.0), 0.0),
        TypeError,
        "process must be a FractionalDiffusion, got Diffusion",
    ),
    "drift": (
        lambda: mjp.fractional_noise(0.3, 1.0).drive(1.0, 1.0),
        TypeError,
        r"drift must be a function of \(t, x\), got float",
    ),
    "drift shape": (
        lambda: mjp.fractional_noise(0.3, 1.0).drive(lambda t, x: jnp.ones(3), jnp.ones((2, 1)), dim=2),
        ValueError,
        r"drift must return shape \(2,\), got \(3,\)",
    ),
    "dispersion shape": (
        lambda: mjp.fractional_noise(0.3, 1.0).drive(lambda t, x: x, 1.0, dim=2),
        ValueError,
        r"dispersion must be a number or have shape \(2, r\), got \(\)",
    ),
    "dispersion not finite": (
        lambda: mjp.fractional_noise(0.3, 1.0).drive(lambda t, x: x, np.inf),
        ValueError,
        "dispersion must be finite",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()
