"""Gamma processes against closed forms, quadrature and the inversion of characteristic functions."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.special import ndtr
from scipy import special, stats
from scipy.integrate import simpson

import mjp
from mjp.inference.evidence import estimate
from mjp.inference.gamma_bridge import gamma_bridge
from mjp.inference.gamma_quantile import log_gamma_quantile

NAN = np.nan
WEAR, OTHER = mjp.GammaProcess(1.3, 2.0), mjp.GammaProcess(0.8, 3.0)


def close(found, expected):
    """Within four standard errors, and an effective share of draws of more than 0.8."""
    assert 0 < float(found.standard_error) < 0.03
    assert abs(float(found.log_evidence) - expected) < 4 * float(found.standard_error)
    return float(found.ess)


def test_quantiles():
    shapes = np.array([1e-3, 0.1, 0.5, 1.0, 7.0, 300.0])[:, None]
    z = np.array([-6.0, -2.0, -0.1, 0.7, 3.0, 6.0])
    found = np.asarray(jax.jit(log_gamma_quantile)(shapes, special.ndtr(z), special.ndtr(-z)))
    x = np.exp(found)
    lower = special.gammainc(shapes, x) / special.ndtr(z)
    upper = special.gammaincc(shapes, x) / special.ndtr(-z)
    seen = x > 1e-290
    assert np.allclose(np.where(z < 0, lower, upper)[seen], 1.0, atol=1e-11)
    # below the smallest number: the first term of the series
    tiny = (np.log(special.ndtr(-6.0)) + special.gammaln(1.001)) / 1e-3
    assert np.isclose(found[0, 0], tiny, rtol=1e-12)


def test_derivatives_of_quantiles():
    quantile = jax.jit(lambda a, z: log_gamma_quantile(a, ndtr(z), ndtr(-z)))
    shapes, z = (v.ravel() for v in np.meshgrid([0.01, 0.4, 2.0, 60.0], [-3.0, 0.2, 2.5]))
    by_shape, by_z = jax.jit(jax.vmap(jax.grad(quantile, (0, 1))))(shapes, z)
    h = 1e-5
    assert np.allclose(
        by_shape,
        (quantile(shapes * (1 + h), z) - quantile(shapes * (1 - h), z)) / (2 * h * shapes),
        rtol=1e-5,
    )
    assert np.allclose(by_z, (quantile(shapes, z + h) - quantile(shapes, z - h)) / (2 * h), rtol=1e-5)


@pytest.mark.parametrize(
    ("n", "draws", "horizon", "value", "expected"),
    [
        (20, 2000, 4.0, 7.2997392105, -2.429822940),
        pytest.param(1000, 1000, 100.0, 172.36772861, -4.300741673, marks=pytest.mark.slow),
    ],
)
def test_bridges_of_varying_rates(n, draws, horizon, value, expected):
    """Densities of sums of Gamma variables of different rates, by inversion of characteristic functions."""
    shapes, rates = jnp.full(n, horizon / n), 0.1 + jnp.sin(jnp.pi * jnp.arange(1, n + 1) / n)
    z = jax.random.normal(jax.random.key(0), (draws, n))
    weights = np.asarray(jax.jit(jax.vmap(lambda z: gamma_bridge(shapes, rates, value, z)[1]))(z))
    relative = np.exp(weights - weights.max())
    error = relative.std() / relative.mean() / np.sqrt(len(relative))
    assert abs(weights.max() + np.log(relative.mean()) - expected) < 4 * error
    assert relative.sum() ** 2 / (relative**2).sum() > 0.8 * len(relative)


@pytest.mark.slow
def test_reference_through_the_library():
    varying = mjp.GammaProcess(1.0, lambda t: 0.1 + jnp.sin(jnp.pi * (t + 0.2) / 4.0))
    graph = mjp.chain(varying, [0.0, 4.0], initial=0.0, steps=20)
    graph.observe_each(mjp.Exactly(), [NAN, 7.2997392105])
    found = mjp.evidence(graph, jax.random.key(0), 2000)
    assert close(found, -2.429822940) > 0.8 * 2000


@pytest.mark.slow
def test_law_1():
    """A constant rate and exact observations: states in between and steps within edges weigh nothing."""
    graph = mjp.chain(WEAR, np.arange(5.0), initial=0.0, steps=3)
    graph.observe_each(mjp.Exactly(), [NAN, NAN, 1.4, NAN, 2.5])
    guided = mjp.condition(graph)
    expected = stats.gamma.logpdf([1.4, 1.1], 2.6, scale=0.5).sum()
    assert guided.exact
    assert np.isclose(guided.log_evidence, expected, rtol=1e-12)
    paths, weights = jax.vmap(guided.sample)(jax.random.split(jax.random.key(1), 3000))
    assert np.allclose(weights, 0.0, atol=1e-10)
    share = np.asarray(paths[1][:, 0]) / 1.4
    assert stats.kstest(share, stats.beta(1.3, 1.3).cdf).pvalue > 1e-3
    inside = paths.edge(3, 4).values[..., 0]
    assert np.all(np.diff(inside, axis=-1) >= 0)
    step = (inside[:, 1] - inside[:, 0]) / (inside[:, -1] - inside[:, 0])
    assert stats.kstest(np.asarray(step), stats.beta(1.3 / 3, 2.6 / 3).cdf).pvalue > 1e-3


def on_grid(values, deviation, top=8.0, n=4000):
    """Log-likelihood of normal observations after each unit of time, by sums over a grid of states."""
    width = top / n
    x = (np.arange(n) + 0.5) * width
    kernel = np.diff(stats.gamma.cdf((np.arange(n + 1) - 0.5) * width, 1.3, scale=0.5))
    law = stats.gamma.pdf(x, 1.3, scale=0.5) * stats.norm.pdf(values[0], x, deviation)
    for value in values[1:]:
        law = np.convolve(law, kernel)[:n] * stats.norm.pdf(value, x, deviation)
    return np.log(law.sum() * width)


@pytest.mark.parametrize("deviation", [0.5, pytest.param(0.03, marks=pytest.mark.slow)])
def test_noisy_observations(deviation):
    values = np.array([0.7, 1.0, 2.2])
    graph = mjp.chain(WEAR, np.arange(4.0), initial=0.0)
    graph.observe_each(lambda x: dist.Normal(x[0], deviation), np.append(NAN, values))
    found = estimate(mjp.condition(graph), jax.random.key(0), 1000)
    assert close(found, on_grid(values, deviation)) > 0.8 * 1000


def fork():
    """Noise at a node that branches into two exact leaves, through different processes."""
    graph = mjp.Graph().root("0", 0.0).edge("0", "a", WEAR, duration=1.0)
    graph.edge("a", "b", OTHER, duration=1.0).edge("a", "c", WEAR, duration=1.0)
    graph.observe("a", lambda x: dist.Normal(x[0], 0.3), 0.5)
    return graph.observe("b", mjp.Exactly(), 1.1).observe("c", mjp.Exactly(), 1.6)


@pytest.mark.slow
def test_branching_with_exact_leaves():
    # in u with x = 1.1 - u^5, which the singular density at the bound does not trouble
    u = np.linspace(0.0, 1.1**0.2, 20001)[1:-1]
    x = 1.1 - u**5
    density = stats.gamma.pdf(x, 1.3, scale=0.5) * stats.norm.pdf(0.5, x, 0.3)
    density = density * stats.gamma.pdf(u**5, 0.8, scale=1 / 3) * stats.gamma.pdf(0.5 + u**5, 1.3, scale=0.5)
    expected = np.log(simpson(density * 5 * u**4, x=u))
    found = estimate(mjp.condition(fork()), jax.random.key(0), 1000)
    assert close(found, expected) > 0.6 * 1000


@pytest.mark.slow
def test_derivatives_of_a_guided_path():
    """The log-density of complete data and innovations is smooth in both."""

    def density(shape, z):
        process = mjp.GammaProcess(shape, lambda t: 2.0 + t)
        graph = mjp.chain(process, np.arange(3.0), initial=0.0, steps=2)
        graph.observe_each(lambda x: dist.Normal(x[0], 0.2), [NAN, 0.6, 0.8])
        guided = mjp.condition(graph, auxiliary=anchors)
        _, weight = guided.push({"nodes": z[:3, None], "steps": z[3:].reshape(2, 2)})
        return guided.log_evidence + weight

    graph = mjp.chain(WEAR, np.arange(3.0), initial=0.0, steps=2)
    anchors = mjp.condition(
        graph.observe_each(lambda x: dist.Normal(x[0], 0.2), [NAN, 0.6, 0.8]), iterations=1
    ).anchors
    z = jnp.array([0.3, -0.5, 1.1, 0.2, -1.0, 0.4, 0.7])
    value, slope = jax.jit(density), jax.jit(jax.grad(density, (0, 1)))(1.3, z)
    h = 1e-5
    numeric = (value(1.3 + h, z) - value(1.3 - h, z)) / (2 * h)
    assert np.isclose(slope[0], numeric, rtol=1e-4)
    for i in (1, 2, 4):
        e = h * jnp.eye(7)[i]
        assert np.isclose(
            slope[1][i], (value(1.3, z + e) - value(1.3, z - e)) / (2 * h), rtol=1e-4, atol=1e-7
        )


@pytest.mark.slow
def test_simulation():
    process = mjp.GammaProcess(lambda t: 2.0 * t**1.5, lambda t, c: 1.0 + c["series"])
    graph = mjp.chain(process, [0.0, 1.0, 2.0], initial=0.5, steps=3, series=2000)
    graph.observe_each(lambda x: dist.Normal(x[0], 0.1))
    graph.edges[0].covariates["series"] = graph.edges[0].covariates["series"] % 2
    path = mjp.simulate(graph, jax.random.key(0))
    values = np.asarray(path.values).reshape(2000, 3)
    for series in (0, 1):
        last = values[series::2, 2] - 0.5
        assert stats.kstest(last, stats.gamma(2.0 * 2.0**1.5, scale=1 / (1 + series)).cdf).pvalue > 1e-3
    whole = np.asarray(path.path().values)[..., 0]
    assert whole.shape == (2000, 7)
    assert np.all(np.diff(whole, axis=1) >= 0)
    assert abs(np.std(np.asarray(path.observations[0]) - values.reshape(-1)) - 0.1) < 0.01


def units(y):
    """Degradation of several units with one law."""
    shape = numpyro.sample("shape", dist.LogNormal(0.0, 0.5))
    rate = numpyro.sample("rate", dist.LogNormal(0.0, 0.5))
    graph = mjp.chain(mjp.GammaProcess(shape, rate), np.arange(6.0), initial=0.0)
    values = np.concatenate([np.full((len(y), 1), NAN), y], axis=1)
    mjp.sample("wear", graph.observe_each(mjp.Exactly(), values))


def test_exact_data_need_no_innovations():
    y = np.cumsum(stats.gamma.rvs(1.2, scale=0.8, size=(4, 5), random_state=1), axis=1)
    parameters = {"shape": jnp.array(1.2), "rate": jnp.array(0.9)}
    from numpyro.infer.util import log_density

    value, sites = log_density(units, (y,), {}, parameters)
    assert set(sites) == {"shape", "rate", "wear.log_likelihood"}
    data = stats.gamma.logpdf(np.diff(y, axis=1, prepend=0.0), 1.2, scale=1 / 0.9).sum()
    prior = dist.LogNormal(0.0, 0.5).log_prob(jnp.array([1.2, 0.9])).sum()
    assert np.isclose(value, data + prior)


@pytest.mark.filterwarnings("ignore:.*draws diverged")
def test_a_fit_with_times_to_predict():
    """Exact readings, and a time to come: nothing but parameters is sampled."""
    y = np.cumsum(stats.gamma.rvs(1.2, scale=0.8, size=(4, 5), random_state=1), axis=1)
    seen = y.copy()
    seen[:, 4] = NAN
    fit = mjp.fit(units, seen, draws=20, warmup=20, chains=1, progress=False)
    assert set(fit.samples) == {"shape", "rate"}
    paths = fit.paths("wear", np.arange(6.0)).values[..., 0]
    assert paths.shape == (1, 20, 4, 6)
    assert np.all(np.diff(paths, axis=-1) > 0)
    read = ~np.isnan(seen)
    np.testing.assert_allclose(paths[0, 0, :, 1:][read], seen[read], rtol=1e-6)
    # what is to come has the law of the process
    ahead = (paths[0, ..., 5] - paths[0, ..., 4]) * fit.samples["rate"][0][:, None]
    shares = stats.gamma.cdf(ahead, fit.samples["shape"][0][:, None]).ravel()
    assert stats.kstest(shares, "uniform").pvalue > 1e-3


@pytest.mark.slow
def test_a_fit_with_noise_and_its_report(tmp_path):
    def worn(y):
        mean = numpyro.sample("mean", dist.LogNormal(0.0, 0.5))
        chain = mjp.chain(mjp.GammaProcess(3.0, 3.0 / mean), np.arange(4.0), initial=0.0, steps=2)
        mjp.sample("wear", chain.observe_each(lambda x: dist.Normal(x[0], 0.1), y))

    fit = mjp.fit(worn, np.array([NAN, 0.9, 2.1, 3.2]), draws=200, warmup=200, chains=2, progress=False)
    paths = fit.paths("wear", np.linspace(0.0, 3.0, 7)).values[..., 0]
    assert np.all(np.diff(paths, axis=-1) > 0)
    assert abs(paths[..., -1].mean() - 3.2) < 0.1
    assert abs(fit.samples["mean"].mean() - 1.07) < 0.2
    assert fit.summary().shape[0] == 1
    assert fit.report(tmp_path / "report.html").stat().st_size > 50_000


BAD = {
    "shape zero": (lambda: mjp.GammaProcess(0.0, 1.0), ValueError, "shape must be positive, got 0"),
    "rate nan": (lambda: mjp.GammaProcess(1.0, NAN), ValueError, "rate must be finite, got nan"),
    "rate vector": (lambda: mjp.GammaProcess(1.0, [1.0, 2.0]), ValueError, "rate must be one number"),
    "rate text": (lambda: mjp.GammaProcess(1.0, "high"), ValueError, "rate must be one number, got 'high'"),
    "shape of two arguments too many": (
        lambda: mjp.GammaProcess(lambda t, c, d: t, 1.0),
        TypeError,
        "shape must take 1 arguments, or 2 with a mapping of covariates",
    ),
    "shape returns two": (
        lambda: mjp.GammaProcess(lambda t: jnp.ones(2), 1.0),
        ValueError,
        r"shape must return one number, got shape \(2,\)",
    ),
    "shape decreases": (
        lambda: mjp.condition(mjp.chain(mjp.GammaProcess(lambda t: -t, 1.0), [0.0, 1.0], initial=0.0)),
        ValueError,
        "shape must increase over every step, got -1 in the step at time 0 of the edge into node 1",
    ),
    "random start": (
        lambda: mjp.condition(mjp.chain(WEAR, [0.0, 1.0], initial=dist.Normal(0.0, 1.0))),
        ValueError,
        "initial must be a known value for a Gamma process, got Normal",
    ),
    "start of two": (
        lambda: mjp.condition(mjp.chain(WEAR, [0.0, 1.0], initial=jnp.zeros(2))),
        ValueError,
        r"initial must be one number, got shape \(2,\)",
    ),
    "data decrease": (
        lambda: mjp.condition(
            mjp.chain(WEAR, np.arange(3.0), initial=0.0).observe_each(mjp.Exactly(), [NAN, 2.0, 1.0])
        ),
        ValueError,
        "a Gamma process increases, but node 2 has 1 after 2 at node 1",
    ),
    "mixed families": (
        lambda: mjp.condition(
            mjp.Graph()
            .root("a", 0.0)
            .edge("a", "b", WEAR)
            .root("n", 0.0)
            .edge(
                "n", "m", mjp.SwitchingDiffusion(dict.fromkeys("ab", (lambda t, x: -x, 1.0)), np.eye(2)[::-1])
            )
        ),
        TypeError,
        "mixes the potentials",
    ),
    "auxiliary": (
        lambda: mjp.condition(mjp.chain(WEAR, [0.0, 1.0], initial=0.0), auxiliary="linear noise"),
        ValueError,
        "auxiliary must be anchors of an earlier condition, or None",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()
