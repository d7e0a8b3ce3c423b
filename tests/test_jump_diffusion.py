"""Jump diffusions against mixtures over the number of jumps."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import mjp
from mjp.inference.evidence import estimate

MERTON = {"rate": 3.0, "jump_mean": 0.5, "jump_deviation": 0.3}


def merton(**options):
    return mjp.JumpDiffusion(lambda t, x: 0.2, 0.4, **(MERTON | options))


def seen(process, value=2.6, deviation=0.1, steps=10):
    graph = mjp.chain(process, [0.0, 1.0], initial=0.0, steps=steps)
    return graph.observe(1, lambda x: dist.Normal(x[0], deviation), value)


def mixture(value=2.6, deviation=0.1):
    """Density of the observation, over numbers of jumps: 0.21681."""
    n = np.arange(60)
    spread = np.sqrt(0.4**2 + n * 0.3**2 + deviation**2)
    return np.sum(stats.poisson.pmf(n, 3.0) * stats.norm.pdf(value, 0.2 + n * 0.5, spread))


@pytest.mark.parametrize("defence", [pytest.param(1.0, marks=pytest.mark.slow), 2.0])
def test_evidence(defence):
    assert np.isclose(mixture(), 0.21681, atol=5e-6)
    guided = mjp.condition(seen(merton(defence=defence)), iterations=1)
    found = estimate(guided, jax.random.key(0), 3000)
    assert abs(float(found.log_evidence) - np.log(mixture())) < 4 * float(found.standard_error) < 0.2
    assert float(found.ess) > 0.3 * 3000


def test_without_jumps():
    """A rate of zero leaves Brownian motion with drift: the guide is exact and weights vanish."""
    process = merton(rate=lambda t, x: 0.0 * t, defence=1.0)
    guided = mjp.condition(seen(process, value=0.5, steps=4), iterations=1)
    _, weight = guided.sample(jax.random.key(0))
    assert np.isclose(weight, 0.0, atol=1e-10)
    assert np.isclose(guided.log_evidence, stats.norm.logpdf(0.5, 0.2, np.sqrt(0.16 + 0.01)), rtol=1e-10)


@pytest.mark.slow
def test_simulation():
    graph = mjp.chain(merton(), [0.0, 1.0], initial=0.0, steps=10, series=3000)
    end = np.asarray(mjp.simulate(graph, jax.random.key(0)).values).reshape(3000, 2)[:, 1]
    n = np.arange(40)
    law = lambda x: (
        stats.poisson.pmf(n, 3.0)
        * stats.norm.cdf(np.asarray(x)[..., None], 0.2 + n * 0.5, np.sqrt(0.16 + n * 0.09))
    ).sum(-1)
    assert stats.kstest(end, law).pvalue > 1e-3


def test_derivatives():
    """Paths are smooth in innovations, and weights in parameters, although jumps are discrete."""
    anchors = mjp.condition(seen(merton(), steps=3), iterations=1).anchors

    def density(rate, z):
        guided = mjp.condition(seen(merton(rate=rate), steps=3), auxiliary=anchors)
        return guided.log_evidence + guided.push({"steps": z.reshape(1, 3, 1)})[1]

    z = jnp.array([0.4, -1.2, 0.9])
    value, slope = jax.jit(density), jax.jit(jax.grad(density, (0, 1)))(3.0, z)
    h = 1e-5
    assert np.isclose(slope[0], (value(3.0 + h, z) - value(3.0 - h, z)) / (2 * h), rtol=1e-4)
    e = h * jnp.eye(3)
    numeric = [(value(3.0, z + d) - value(3.0, z - d)) / (2 * h) for d in e]
    assert np.allclose(slope[1], numeric, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_a_fit_and_its_report(tmp_path):
    def leaping(y):
        rate = numpyro.sample("rate", dist.LogNormal(0.0, 0.5))
        process = mjp.JumpDiffusion(lambda t, x: -0.5 * x, 0.3, rate, 0.0, 1.0)
        chain = mjp.chain(process, np.arange(8.0), initial=0.0, steps=2)
        mjp.sample("x", chain.observe_each(lambda x: dist.Normal(x[0], 0.1), y))

    y = np.array([np.nan, 0.1, 1.2, 0.9, 0.4, -0.9, -0.4, -0.1])
    fit = mjp.fit(leaping, y, draws=200, warmup=200, chains=2, progress=False)
    nodes = fit.paths("x", np.arange(8.0)).values[..., 0]
    assert np.max(np.abs(nodes[..., 1:].mean((0, 1)) - y[1:])) < 0.15
    assert fit.summary().shape[0] == 1
    assert fit.report(tmp_path / "report.html").stat().st_size > 50_000


BAD = {
    "drift": (lambda: mjp.JumpDiffusion(0.2, 0.4, 1.0, 0.0, 1.0), TypeError, r"drift must be a function of"),
    "drift of two": (
        lambda: mjp.JumpDiffusion(lambda t, x: jnp.ones(2), 0.4, 1.0, 0.0, 1.0),
        ValueError,
        r"drift must return one number, got shape \(2,\)",
    ),
    "rate": (lambda: merton(rate=-1.0), ValueError, "rate must be positive, got -1"),
    "deviation": (lambda: merton(jump_deviation=0.0), ValueError, "jump_deviation must be positive, got 0"),
    "mean": (lambda: merton(jump_mean=np.nan), ValueError, "jump_mean must be finite, got nan"),
    "mean vector": (lambda: merton(jump_mean=[1.0, 2.0]), ValueError, "jump_mean must be one number"),
    "max_jumps": (lambda: merton(max_jumps=0), ValueError, "max_jumps must be a positive integer, got 0"),
    "defence": (lambda: merton(defence=0.5), ValueError, "defence must be >= 1, got 0.5"),
    "exact observation": (
        lambda: mjp.condition(
            mjp.chain(merton(), [0.0, 1.0], initial=0.0, steps=2).observe(1, mjp.Exactly(), 1.0)
        ),
        ValueError,
        "JumpDiffusion cannot be observed exactly, as it is at node 1; observe it with a small variance",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()
