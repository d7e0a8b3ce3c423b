"""Switching diffusions against characteristic functions and enumeration of all paths of regimes."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.linalg import expm
from switching_truth import SEEN, TIMES, enumerated, noisy, reverting

import mjp
from mjp.inference.evidence import estimate
from mjp.inference.mixture_draws import mixture_draw, mixture_quantile

DRIFT, SIGMA = np.array([-1.0, 1.5]), np.array([0.5, 0.9])
Q = np.array([[-0.8, 0.8], [1.2, -1.2]])
RATES = {("down", "up"): 0.8, ("up", "down"): 1.2}
VALUE, NOISE = 1.1, 0.2


def telegraph(sigma=SIGMA, **options):
    """Brownian motion whose drift and dispersion switch; every regime is certain at the start."""
    regimes = {
        name: (lambda t, x, b=b: b, s) for name, b, s in zip(("down", "up"), DRIFT, sigma, strict=True)
    }
    return mjp.SwitchingDiffusion(regimes, RATES, **({"initial": "down"} | options))


def seen(process, steps=10, value=VALUE):
    graph = mjp.chain(process, [0.0, 1.0], initial=0.0, steps=steps)
    return graph.observe(1, lambda x: dist.Normal(x[0], NOISE), value)


def by_characteristic_function(steps=None):
    """Density of the observation, in continuous time (0.10858) or of the discretised process."""
    u = np.linspace(-40, 40, 4001)
    exponent = 1j * u[:, None] * DRIFT - 0.5 * u[:, None] ** 2 * SIGMA**2
    if steps is None:
        values, vectors = np.linalg.eig(Q + exponent[:, :, None] * np.eye(2))
        law = vectors * np.exp(values)[:, None] @ np.linalg.inv(vectors)
    else:
        half = expm(Q / (2 * steps))
        inside = np.exp(exponent / steps)[:, :, None] * half
        law = np.linalg.matrix_power(half @ inside, steps)
    characteristic = law.sum(axis=2)[:, 0] * np.exp(-0.5 * u**2 * NOISE**2 - 1j * u * VALUE)
    return np.sum(characteristic.real) * (u[1] - u[0]) / (2 * np.pi)


def test_the_discretised_law_approaches_continuous_time():
    """The regime at the middle of a step: the error of the density is of second order in the step."""
    truth = by_characteristic_function()
    assert np.isclose(truth, 0.10858, atol=5e-6)
    errors = [abs(by_characteristic_function(n) - truth) for n in (5, 10, 20)]
    assert errors[2] < 1e-4
    assert 3.0 < errors[0] / errors[1] < 5.0
    assert 3.0 < errors[1] / errors[2] < 5.0


def check_evidence(process, steps, particles, key):
    truth = np.log(by_characteristic_function(steps))
    guided = mjp.condition(seen(process, steps))
    assert not guided.exact
    found = estimate(guided, jax.random.key(key), particles)
    assert abs(float(found.log_evidence) - truth) < 4 * float(found.standard_error)
    assert float(found.ess) > 0.5 * particles


def test_evidence():
    check_evidence(telegraph(), 10, 400, 0)


@pytest.mark.slow
@pytest.mark.parametrize("defence", [1.0, 1.25, 2.0])
def test_evidence_with_many_particles(defence):
    """Within 4 standard errors, of about 0.2%; the step's own error is 0.01%."""
    check_evidence(telegraph(defence=defence), 40, 20_000, 1)


# Linear regimes: every path of regimes leaves a Gaussian law


@pytest.mark.parametrize("dim", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_evidence_and_regimes_against_enumeration(dim):
    process, steps = reverting(dim), 2
    look = np.eye(dim)[:1]
    looks = [(i * steps, look, [SEEN[i]], np.array([[0.09]])) for i in (1, 3)]
    truth, high = enumerated(process, steps, looks)
    guided = mjp.condition(noisy(process, steps))
    paths, weights = jax.jit(jax.vmap(guided.sample))(jax.random.split(jax.random.key(1), 1000))
    weight = np.exp(np.asarray(weights) + float(guided.log_evidence) - truth)
    assert abs(weight.mean() - 1.0) < 4 * weight.std() / np.sqrt(len(weight)) < 0.2
    share = weight / weight.sum()
    regimes = np.asarray(paths.regimes)[:, 0]
    error = np.sqrt(np.sum(share[:, None] ** 2 * (regimes - high) ** 2, axis=0))
    assert np.all(np.abs(share @ regimes - high) < 4.5 * error)


def test_exact_values_within_longer_edges():
    """Nodes are known, the steps between them are not; and one node is missing."""
    process, steps = reverting(), 2
    graph = mjp.chain(process, TIMES, initial=0.0, steps=steps).observe_each(mjp.Exactly(), SEEN)
    truth, _ = enumerated(process, steps, [(2, np.eye(1), [0.4], 0.0), (6, np.eye(1), [1.3], 0.0)])
    guided = mjp.condition(graph)
    found = estimate(guided, jax.random.key(2), 800)
    assert not guided.exact
    assert abs(float(found.log_evidence) - truth) < 4 * float(found.standard_error) < 0.2
    path, _ = guided.sample(jax.random.key(0))
    assert float(path[1][0]) == 0.4
    assert float(path[3][0]) == 1.3


# Paths that are known


def known(process, values, times=TIMES, **options):
    initial = values[..., 0] if values.ndim == 1 else values[0]
    rest = np.where(np.arange(len(values))[:, None] == 0, np.nan, values.reshape(len(values), -1))
    return mjp.chain(process, times, initial=initial, **options).observe_each(mjp.Exactly(), rest)


@pytest.mark.parametrize("dim", [1, 2])
def test_known_path(dim):
    """Law 1: the likelihood is that of a hidden Markov chain, weights are zero, regimes are its own."""
    process = reverting(dim)
    values = np.concatenate([np.zeros((1, dim)), np.random.default_rng(0).normal(size=(3, dim))])
    truth, high = enumerated(process, 1, [(i, np.eye(dim), values[i], 0.0 * np.eye(dim)) for i in (1, 2, 3)])
    guided = mjp.condition(known(process, values))
    assert guided.exact
    assert np.isclose(guided.log_evidence, truth, rtol=1e-10)
    assert guided.innovations == {}
    assert guided.terms.shape == (4,)
    assert np.isclose(guided.terms.sum(), truth, rtol=1e-10)
    assert guided.terms[0] == 0
    paths, weights = jax.vmap(guided.sample)(jax.random.split(jax.random.key(0), 4000))
    assert np.all(np.asarray(weights) == 0)
    assert np.array_equal(paths.values[0], values)
    share = np.asarray(paths.regimes)[:, 0].mean(axis=0)
    assert np.all(np.abs(share - high) < 4.5 * np.sqrt(high * (1 - high) / 4000))


def test_several_series_and_covariates():
    """Rates and drifts that differ between series and steps, against one series at a time."""
    values = np.random.default_rng(1).normal(size=(3, 4)).cumsum(axis=1)
    speed = np.array([[0.5, 1.0, 2.0], [1.0, 1.0, 1.0], [0.3, 3.0, 0.3]])

    def process(rates, slope):
        regimes = {"a": (slope, 0.5), "b": (lambda t, x: 0.0 * t, 1.0)}
        return mjp.SwitchingDiffusion(regimes, rates, initial={"a": 0.3, "b": 0.7})

    rates = lambda c: {("a", "b"): c["speed"], ("b", "a"): 0.6 + 0.2 * c["series"]}
    slope = lambda t, x, c: c["speed"] * (1.0 - x)
    together = mjp.chain(process(rates, slope), TIMES, initial=0.0, covariates={"speed": speed}, series=3)
    rest = values.copy()
    rest[:, 0] = np.nan
    found = mjp.condition(together.observe_each(mjp.Exactly(), rest)).log_evidence
    assert found.shape == (3,)
    for i in range(3):
        own = lambda c, i=i: {("a", "b"): c["speed"], ("b", "a"): 0.6 + 0.2 * i}
        one = mjp.chain(process(own, slope), TIMES, initial=0.0, covariates={"speed": speed[i]})
        one.observe_each(mjp.Exactly(), rest[i])
        assert np.isclose(mjp.condition(one).log_evidence, found[i], rtol=1e-10)


def test_long_series_in_float32():
    """5000 steps in both precisions, in one scan."""
    values = np.random.default_rng(2).normal(size=5001).cumsum()
    graph = lambda: known(telegraph(), values, np.arange(5001.0))
    double = mjp.condition(graph())
    with jax.enable_x64(False):
        single = mjp.condition(graph())
        assert single.terms.dtype == jnp.float32
        terms = np.asarray(single.terms)
    assert np.allclose(terms, double.terms, atol=2e-4)


# Laws


@pytest.mark.parametrize("dim", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_equal_regimes(dim):
    """Law 1: regimes with the same linear drift and noise are one diffusion, whose guide is exact."""
    same = {"pull": [0.8, 0.8], "level": [0.5, 0.5], "spread": [0.7, 0.7]}
    process = reverting(dim, defence=1.0, **same)
    guided = mjp.condition(noisy(process, steps=3))
    alone = mjp.condition(noisy(process.diffusions[0], steps=3))
    assert np.isclose(guided.log_evidence, alone.log_evidence, rtol=1e-10)
    _, weights = jax.vmap(guided.sample)(jax.random.split(jax.random.key(0), 5))
    assert np.max(np.abs(weights)) < 1e-9


@pytest.mark.slow
def test_first_state_with_a_law_and_counts_in_float32():
    """A first state with a law, and a likelihood that is not Gaussian: evidence against quadrature."""
    with jax.enable_x64(False):
        graph = mjp.chain(telegraph(initial=[0.4, 0.6]), [0.0, 1.0], initial=dist.Normal(0.5, 0.6), steps=2)
        graph.observe_each(lambda x: dist.Poisson(jnp.exp(x[0])), np.array([2.0, 4.0]))
        found = mjp.evidence(graph, jax.random.key(0), 800)
    x = np.linspace(-7, 9, 1601)
    h = x[1] - x[0]
    law = np.array([0.4, 0.6]) @ expm(Q / 4)
    density = stats.norm.pdf(x, 0.5, 0.6) * stats.poisson.pmf(2, np.exp(x))
    joint = law[:, None] * density
    for step in range(2):
        kernel = [stats.norm.pdf(x[:, None], x + DRIFT[k] / 2, SIGMA[k] / np.sqrt(2)) * h for k in range(2)]
        joint = np.stack([kernel[k] @ joint[k] for k in range(2)])
        joint = expm(Q / 2).T @ joint if step == 0 else joint
    truth = np.log(np.sum(joint.sum(axis=0) * stats.poisson.pmf(4, np.exp(x))) * h)
    assert abs(float(found.log_evidence) - truth) < 4 * float(found.standard_error) < 0.2
    assert float(found.ess) > 0.3 * 800


@pytest.mark.slow
def test_derivatives():
    """Paths are smooth in innovations, and weights in all parameters, although regimes are discrete."""
    graph = lambda p: noisy(
        mjp.SwitchingDiffusion(
            {"a": (lambda t, x: -p[0] * x, p[1]), "b": (lambda t, x: jnp.sin(x), 1.0)},
            {("a", "b"): p[2], ("b", "a"): 1.0},
        )
    )
    p, z = jnp.array([0.7, 0.4, 0.9]), jnp.array([0.4, -1.2, 0.9, 0.1, -0.3, 1.6])
    anchors = mjp.condition(graph(p)).anchors

    def density(p, z):
        guided = mjp.condition(graph(p), auxiliary=anchors)
        path, weight = guided.push({"steps": z.reshape(1, 6, 1)})
        return guided.log_evidence + weight + 0.1 * path[3][0]

    both = jax.jit(jax.value_and_grad(density, (0, 1)))
    (_, slope), h = both(p, z), 1e-5
    value = lambda p, z: both(p, z)[0]
    for i, one in enumerate(slope):
        shift = lambda e, i=i: value(p + e, z) if i == 0 else value(p, z + e)
        numeric = [(shift(e) - shift(-e)) / (2 * h) for e in h * jnp.eye(len(one))]
        assert np.allclose(one, numeric, rtol=1e-4, atol=1e-7)


def test_quantiles():
    """Against the distribution functions, far into the tails, for modes far apart and scales of all sizes."""
    weights = np.array([[0.2, 0.5, 1e-6], [0.8, 0.5, 1.0 - 1e-6]])
    means, deviations = (
        np.array([[0.0, -20.0, 0.0], [1.0, 20.0, 0.0]]),
        np.array([[1.0, 1.0, 100.0], [0.1, 2.0, 1.0]]),
    )
    for z in (-8.0, -2.5, 0.0, 0.3, 6.0):
        x = np.asarray(mixture_quantile(weights, means, deviations, jnp.full(3, z)))
        cdf = stats.norm.sf if z > 0 else stats.norm.cdf
        found = np.sum(weights * cdf(x, means, deviations), axis=0)
        assert np.allclose(found, stats.norm.sf(abs(z)), rtol=1e-8)


def test_mixtures_of_vectors():
    rng = np.random.default_rng(0)
    logs, means, loadings = np.log([0.3, 0.7]), rng.normal(size=(2, 2)), rng.normal(size=(2, 2, 2))
    z = jax.random.normal(jax.random.key(0), (5000, 2))
    draws = np.asarray(jax.vmap(lambda z: mixture_draw(logs, means, loadings, z))(z))
    law = np.exp(logs)
    mean = means @ law
    second = sum(
        p * (np.outer(m, m) + a @ a.T)
        for p, m, a in zip(law, means.T, np.moveaxis(loadings, 2, 0), strict=True)
    )
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4.5 * draws.std(axis=0) / np.sqrt(len(draws)))
    products = draws[:, :, None] * draws[:, None]
    assert np.all(np.abs(products.mean(axis=0) - second) < 4.5 * products.std(axis=0) / np.sqrt(len(draws)))


def test_simulation():
    """Regimes, states and their labels; the end has the law of the characteristic function's mean."""
    graph = mjp.chain(telegraph(), [0.0, 0.4, 1.0], initial=0.0, steps=5, series=4000)
    drawn = mjp.simulate(graph, jax.random.key(0))
    assert drawn.regimes.shape == (4000, 10)
    assert drawn.regimes_at_nodes.shape == (12000,)
    assert drawn.regimes_at([0.0, 0.39, 1.0]).shape == (4000, 3)
    assert drawn.names.states == ("down", "up")
    middle = np.concatenate([0.04 + 0.08 * np.arange(5), 0.46 + 0.12 * np.arange(5)])
    up = np.array([expm(Q * t)[0, 1] for t in middle])
    share = np.asarray(drawn.regimes).mean(axis=0)
    assert np.all(np.abs(share - up) < 4.5 * np.sqrt(up * (1 - up) / 4000))
    lengths = np.repeat([0.08, 0.12], 5)
    mean = np.sum(lengths * (DRIFT[0] * (1 - up) + DRIFT[1] * up))
    end = np.asarray(drawn.values).reshape(4000, 3)[:, 2]
    assert abs(end.mean() - mean) < 4.5 * end.std() / np.sqrt(4000)


# In NumPyro


@pytest.mark.slow
def random_walk(times, values):
    wild = numpyro.sample("wild", dist.LogNormal(1.0, 0.5))
    process = mjp.SwitchingDiffusion(
        {"calm": (lambda t, x: 0.0, 0.5), "wild": (lambda t, x: 0.0, wild)},
        {("calm", "wild"): 0.1, ("wild", "calm"): 0.1},
    )
    graph = mjp.chain(process, times, initial=0.0)
    mjp.sample("level", graph.observe_each(mjp.Exactly(), values))


@pytest.mark.slow
def test_fit_of_a_known_path(tmp_path):
    scale = np.repeat([0.5, 4.0, 0.5], 30)
    steps = np.random.default_rng(0).normal(0.0, scale)
    values = np.append(np.nan, steps.cumsum())
    fit = mjp.fit(random_walk, np.arange(91.0), values, draws=300, warmup=200, chains=2, progress=False)
    assert fit.engine == "NUTS"
    assert fit.data["log_likelihood"]["level"].dims == ("chain", "draw", "time")
    assert fit.data["log_likelihood"]["level"].shape == (2, 300, 91)
    regimes = fit.regimes("level")
    assert regimes.attrs["states"] == ["calm", "wild"]
    wild = regimes.mean(("chain", "draw"))
    assert float(wild.sel(time=slice(35, 55)).mean()) > 0.9
    assert float(wild.sel(time=slice(65, 90)).mean()) < 0.1
    assert fit.regimes("level", times=[3.5, 40.0]).dims == ("chain", "draw", "time")
    assert fit.data["paths"]["level_regime"].shape == (2, 100, 91)
    assert "level_regime_on_grid" in fit.data["paths"]
    page = fit.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "regimes of level over time" in page
    assert "each in one of the regimes calm, wild" in page
    with pytest.raises(ValueError, match=r"no regimes on a path 'x'; it has \['level'\]"):
        fit.regimes("x")


def test_two_series_in_a_plate_with_paths_to_be_guided():
    """Innovations belong to the members of the plate, and regimes are drawn where randomness is to be had."""
    data = np.random.default_rng(3).normal(size=(2, 5)).cumsum(axis=1)

    def model(data):
        with numpyro.plate("series", 2):
            scale = numpyro.sample("scale", dist.LogNormal(0.0, 0.3))
            process = mjp.SwitchingDiffusion(
                {
                    "a": (lambda t, x, c: 0.5, lambda t, x, c: scale[c["series"]]),
                    "b": (lambda t, x: -0.5, 1.0),
                },
                {("a", "b"): 0.5, ("b", "a"): 0.5},
            )
            graph = mjp.chain(process, np.arange(5.0), initial=dist.Normal(0.0, 1.0), steps=2)
            return mjp.sample("x", graph.observe_each(lambda x: dist.Normal(x[0], 0.3), data))

    sites = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace(data)
    assert sites["x.innovations"]["value"].shape == (2, 9)
    assert sites["x.log_likelihood"]["fn"].log_factor.shape == (2,)
    with numpyro.handlers.seed(rng_seed=0):
        path = model(data)
    assert path.regimes.shape == (2, 8)


@pytest.mark.slow
def test_nuts_against_quadrature():
    """Posterior of a parameter and of the regimes, of paths seen with noise: all paths of regimes, on a grid.

    Bounds of 4 standard errors of the draws: about 0.03 of the parameter, 0.05 of a probability.
    """
    times, values = np.arange(5.0), np.array([np.nan, 0.2, 1.4, 1.1, -0.6])

    def process(level):
        return reverting(level=[-0.3, level])

    def model():
        level = numpyro.sample("level", dist.Normal(0.6, 0.8))
        mjp.sample("x", noisy(process(level), 2, times, values))

    looks = [(2 * i, np.eye(1), [values[i]], np.array([[0.09]])) for i in range(1, 5)]
    grid = np.linspace(-2.4, 3.6, 25)
    found = [enumerated(process(level), 2, looks, times=times) for level in grid]
    weight = np.exp([log for log, _ in found]) * stats.norm.pdf(grid, 0.6, 0.8)
    weight /= weight.sum()
    mean = weight @ grid
    deviation = np.sqrt(weight @ (grid - mean) ** 2)
    high = weight @ np.stack([share for _, share in found])
    fit = mjp.fit(model, draws=2000, warmup=1000, chains=2, progress=False)
    draws = fit.samples["level"]
    ess = float(fit.summary(var_names=["level"], round_to="none")["ess_bulk"].iloc[0])
    assert ess > 400
    assert abs(draws.mean() - mean) < 4 * deviation / np.sqrt(ess)
    assert abs(draws.std() - deviation) < 4 * deviation / np.sqrt(ess)
    regimes = fit.regimes("x", times=np.arange(8) / 2 + 0.1, draws=1000)
    share = np.asarray(regimes.mean(("chain", "draw")))
    assert np.all(np.abs(share - high) < 4 * np.sqrt(high * (1 - high) / 400))


# Bad input

PAIR = (lambda t, x: 0.0 * x, 1.0)
BOTH = {"a": PAIR, "b": PAIR}


def switching(regimes=BOTH, rates=None, **options):
    rates = {("a", "b"): 1.0, ("b", "a"): 2.0} if rates is None else rates
    return mjp.SwitchingDiffusion(regimes, rates, **options)


def conditioned(process, look=None, value=1.0, **options):
    graph = mjp.chain(process, [0.0, 1.0], initial=jnp.zeros(process.dim))
    return mjp.condition(graph.observe(1, look or mjp.Exactly(), value), **options)


BAD = {
    "no mapping": (lambda: switching([PAIR, PAIR]), TypeError, r"regimes must map labels .*, got list"),
    "one": (lambda: switching({"a": PAIR}), ValueError, r"regimes must be at least two, got \['a'\]"),
    "no pair": (
        lambda: switching({"a": PAIR, "b": 1.0}),
        TypeError,
        r"regimes\['b'\] must be a pair .*, got 1.0",
    ),
    "no diffusion": (
        lambda: switching({"a": PAIR, "b": mjp.StateSpace(lambda x: x, jnp.eye(1))}),
        TypeError,
        r"regimes\['b'\] must be a diffusion, got StateSpace",
    ),
    "drift": (
        lambda: switching({"a": PAIR, "b": (lambda t, x: jnp.ones(2), 1.0)}),
        ValueError,
        r"regimes\['b'\]: drift must return shape \(1,\), got \(2,\)",
    ),
    "dispersion": (
        lambda: switching({"a": PAIR, "b": (PAIR[0], jnp.ones((3, 2)))}),
        ValueError,
        r"regimes\['b'\]: dispersion must return shape \(1,\) or \(1, r\), got \(3, 2\)",
    ),
    "rank": (
        lambda: switching({"a": (PAIR[0], jnp.ones((2, 1))), "b": PAIR}, dim=2),
        ValueError,
        r"regimes\['a'\] must have a noise of full rank, .* got one of rank 1",
    ),
    "dim": (
        lambda: switching({"a": PAIR, "b": mjp.LinearDiffusion(jnp.eye(2), None, jnp.eye(2))}),
        ValueError,
        r"regimes\['b'\] must have dim=1 coordinates, got 2",
    ),
    "unknown": (
        lambda: switching(rates={("a", "c"): 1.0}),
        ValueError,
        r"rates has a transition of 'c', which is not in states \['a', 'b'\]",
    ),
    "negative": (
        lambda: switching(rates={("a", "b"): -1.0}),
        ValueError,
        "the rate from 'a' to 'b' must be finite and >= 0, got -1",
    ),
    "matrix": (
        lambda: switching(rates=np.ones((3, 3))),
        ValueError,
        "states must name the 3 states of rates, got 2",
    ),
    "initial label": (
        lambda: switching(initial="c"),
        ValueError,
        r"initial must be a law .*\['a', 'b'\], got 'c'",
    ),
    "initial name": (
        lambda: switching(initial={"c": 1.0}),
        ValueError,
        "initial names 'c', which is not one of",
    ),
    "initial sum": (
        lambda: switching(initial=[0.5, 0.6]),
        ValueError,
        "initial must sum to 1 over its regimes, got 1.1",
    ),
    "initial shape": (
        lambda: switching(initial=[1.0, 0.0, 0.0]),
        ValueError,
        r"initial must have one probability per regime \(2\), got \(3,\)",
    ),
    "no stationary law": (
        lambda: switching(rates={("a", "b"): 0.0, ("b", "a"): 0.0}),
        ValueError,
        "initial must be given where rates have no unique stationary law, got None",
    ),
    "rates of covariates": (
        lambda: switching(rates=lambda c: {("a", "b"): c["step"], ("b", "a"): 1.0}),
        ValueError,
        "initial must be given where rates depend on covariates, got None",
    ),
    "defence": (lambda: switching(defence=0.5), ValueError, "defence must be >= 1, got 0.5"),
    "auxiliary": (
        lambda: conditioned(switching(), lambda x: dist.Normal(x[0], 1.0), auxiliary="prior"),
        ValueError,
        "auxiliary must be anchors of an earlier condition, or one of .*, got 'prior'",
    ),
    "tree": (
        lambda: mjp.condition(mjp.tree("(a:1,b:1)r;", switching(), initial=0.0)),
        TypeError,
        r"lives on chains \(mjp.chain\), got a tree",
    ),
    "part": (
        lambda: conditioned(
            switching({"a": (lambda t, x: x, jnp.ones(2)), "b": (lambda t, x: x, jnp.ones(2))}, dim=2),
            mjp.LinearGaussianObservation(jnp.ones((1, 2)), 0.0),
            jnp.ones(1),
        ),
        ValueError,
        "seen without error as a whole or not at all, but at node 1 1 of 2 coordinates are",
    ),
    "root": (
        lambda: mjp.condition(
            mjp.chain(switching(), [0.0, 1.0], initial=0.0).observe_each(mjp.Exactly(), np.array([0.0, 1.0]))
        ),
        ValueError,
        "is a root and cannot be observed exactly; give its value as initial, and NaN in its place",
    ),
    "no noise": (
        lambda: conditioned(switching({"a": PAIR, "b": (PAIR[0], 0.0)})),
        ValueError,
        "a dispersion is not finite or has no full rank along the path",
    ),
    "not finite": (
        lambda: mjp.simulate(
            mjp.chain(
                switching({"a": (lambda t, x: jnp.exp(x) * 1e4, 1.0), "b": PAIR}), np.arange(9.0), initial=9.0
            ),
            jax.random.key(0),
        ),
        ValueError,
        "the simulated path is not finite after the step at time",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


def test_regimes_that_have_not_been_drawn():
    guided = mjp.condition(noisy(switching()))
    path, _ = guided.push({name: jnp.zeros(shape) for name, shape in guided.innovations.items()})
    assert path.regimes is None
    with pytest.raises(ValueError, match="have not been drawn"):
        path.regimes_at(0.5)
    assert guided.complete(path, jax.random.key(0)).regimes.shape == (1, 6)
