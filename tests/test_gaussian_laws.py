"""The two laws for processes with conditionally Gaussian steps.

Law 1: the auxiliary is the process itself, so the log-weight is zero on every path. Law 2: the evidence of
the guide times the mean weight is the likelihood, whatever the auxiliary; the truth is a quadrature of the
discretised process, or a closed form.
"""

import dataclasses
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import lognorm, ncx2, norm

import mjp

TREE = "((a:0.4,b:0.9)ab:0.5,(c:0.3,(d:0.2,e:0.6)de:0.3)cde:0.4)root;"


def weights(guided, n, seed=0):
    keys = jax.random.split(jax.random.key(seed), n)
    draw = lambda g, k: jax.lax.map(lambda key: g.sample(key)[1], k, batch_size=1000)
    return np.asarray(eqx.filter_jit(draw)(guided, keys))


def estimate(graph, n=4_000, seed=0, **options):
    """Log-evidence with its standard error, and the effective share of the sample."""
    guided = mjp.condition(graph, **options)
    log_weights = weights(guided, n, seed)
    w = np.exp(log_weights - log_weights.max())
    share = w.sum() ** 2 / (w**2).sum() / n
    found = np.log(w.mean()) + log_weights.max() + float(guided.log_evidence)
    return found, np.sqrt(max(1 / share - 1, 0) / n), share


LINEAR = {
    "constant": mjp.Diffusion(
        lambda t, x: jnp.array([x[1], -x[0] - 0.3 * x[1]]), jnp.array([[0.1, 0.0], [0.2, 0.5]]), 2
    ),
    "in time": mjp.Diffusion(
        lambda t, x: jnp.array([jnp.sin(t) * x[1] + t, -x[0]]), lambda t, x: jnp.exp(t) * jnp.eye(2) * 0.3, 2
    ),
    "hypo-elliptic": mjp.Diffusion(lambda t, x: jnp.array([x[1], -x[0]]), jnp.array([[0.0], [0.4]]), 2),
    "local linearisation": mjp.Diffusion(
        lambda t, x: jnp.array([x[1], -x[0]]), jnp.array([[0.0], [0.4]]), 2, scheme="local linearisation"
    ),
    "covariates": mjp.Diffusion(lambda t, x, c: c["series"] - x, lambda t, x, c: jnp.ones(2) + c["step"], 2),
    "discrete": mjp.StateSpace(lambda x: jnp.array([0.9 * x[0] + x[1], 0.5 * x[1] - 1.0]), np.eye(2) * 0.3),
}


@pytest.mark.parametrize("auxiliary", ["itself", "guided mean"])
@pytest.mark.parametrize("name", LINEAR)
def test_law_1_on_a_chain(name, auxiliary):
    """Linear processes, declared through nonlinear-looking functions; the likelihood is linear too.

    An auxiliary given as a process is treated as any other, so that its weights are computed and not
    declared to be zero.
    """
    process = LINEAR[name]
    assert process.linear
    y = np.random.default_rng(1).normal(size=5)
    graph = mjp.chain(process, np.linspace(0, 2, 5), initial=dist.Normal(jnp.zeros(2), 1.0), steps=6)
    graph.observe_each(lambda x: dist.Normal(x[0] + 0.2 * x[1], 0.1), y)
    guided = mjp.condition(graph, auxiliary=process if auxiliary == "itself" else auxiliary)
    found = weights(dataclasses.replace(guided, exact=False, expanded=False), 5)
    np.testing.assert_allclose(found, 0.0, atol=1e-9)


def test_law_1_with_an_auxiliary_that_follows_its_anchors_on_a_tree():
    """σ = eᵗ and a drift that changes in time: a filter and a guide that disagree are seen here."""
    process = mjp.Diffusion(lambda t, x: jnp.cos(3 * t) - x, lambda t, x: jnp.exp(t) * jnp.ones(1), 1)
    graph = mjp.tree(TREE, process, initial=jnp.zeros(1), steps=9)
    graph.observe_each(lambda x: dist.Normal(x[0], 0.1), {"a": 0.3, "b": -0.2, "d": 1.0, "cde": 0.5})
    guided = mjp.condition(graph, auxiliary=process)
    np.testing.assert_allclose(weights(guided, 5), 0.0, atol=1e-9)
    np.testing.assert_allclose(guided.log_evidence, mjp.condition(graph).log_evidence, rtol=1e-12)


class Grid:
    """The likelihood of a one-dimensional discretised process by quadrature."""

    def __init__(self, low, high, n=4001):
        self.x = np.linspace(low, high, n)
        self.width = self.x[1] - self.x[0]

    def back(self, g, mean, sd):
        kernel = norm.pdf(self.x[None], mean[:, None], sd[:, None]) * self.width
        return kernel @ g

    def at(self, g, x):
        return float(np.log(np.interp(x, self.x, g)))


def double_well(sd, steps, dispersion=lambda x: 0.7 + 0.0 * x):
    process = mjp.Diffusion(lambda t, x: x - x**3, lambda t, x: dispersion(x))
    graph = mjp.chain(process, [0.0, 1.0], initial=jnp.array([-1.0]), steps=steps)
    return graph.observe_each(lambda x: dist.Normal(x[0], sd), jnp.array([jnp.nan, 0.6]))


def double_well_truth(sd, steps, dispersion=lambda x: 0.7 + 0.0 * x):
    grid, dt = Grid(-4.0, 4.0), 1 / steps
    mean, spread = grid.x + (grid.x - grid.x**3) * dt, dispersion(grid.x) * np.sqrt(dt)
    g = norm.pdf(0.6, mean, np.sqrt(spread**2 + sd**2))  # the last step in closed form
    for _ in range(steps - 1):
        g = grid.back(g, mean, spread)
    return grid.at(g, -1.0)


AUXILIARIES = {
    "guided mean": "guided mean",
    "damped": "guided mean",
    "observations": "observations",
    "own, in time": mjp.Diffusion(lambda t, x: -(x - 0.6) * jnp.sin(t), 0.8),
    "own": mjp.LinearDiffusion(-0.1, 0.4, 0.7),
}


MORE = [pytest.param(name, marks=pytest.mark.slow) for name in ("damped", "observations", "own")]


@pytest.mark.parametrize("dispersion", [pytest.param("constant", marks=pytest.mark.slow), "of the state"])
@pytest.mark.parametrize("name", ["guided mean", "own, in time", *MORE])
def test_law_2_for_a_double_well(name, dispersion):
    sigma = (lambda x: 0.7 + 0.0 * x) if dispersion == "constant" else (lambda x: 0.5 + 0.3 / (1 + x**2))
    options = {"damping": 0.5} if name == "damped" else {}
    graph = double_well(0.2, 12, sigma)
    found, error, _ = estimate(graph, auxiliary=AUXILIARIES[name], **options)
    assert abs(found - double_well_truth(0.2, 12, sigma)) < 4 * error


def test_law_2_for_a_nonlinear_chain_with_counts():
    """A nonlinear-Gaussian state-space model seen through Poisson counts, some missing."""
    counts = np.array([1.0, np.nan, 4.0, 2.0, 0.0])
    process = mjp.StateSpace(
        lambda x: 0.8 * x + 0.5 * jnp.sin(x), lambda x: jnp.diag(0.2 + 0.1 * x**2), dim=1
    )
    graph = mjp.chain(process, np.arange(5), initial=dist.Normal(0.3, 0.8))
    graph.observe_each(lambda x: dist.Poisson(jnp.exp(x[0])), counts)
    grid = Grid(-8.0, 8.0)
    mean, sd = 0.8 * grid.x + 0.5 * np.sin(grid.x), np.sqrt(0.2 + 0.1 * grid.x**2)
    log_count = lambda y: y * grid.x - np.exp(grid.x) - float(jax.lax.lgamma(y + 1.0))
    g = np.exp(log_count(0.0))
    for y in counts[3::-1]:
        g = grid.back(g, mean, sd)
        g = g if np.isnan(y) else g * np.exp(log_count(y))
    truth = np.log((g * norm.pdf(grid.x, 0.3, 0.8)).sum() * grid.width)
    for auxiliary in ("guided mean", "observations"):
        found, error, share = estimate(graph, auxiliary=auxiliary)
        assert abs(found - truth) < 4 * error
        assert share > 0.02


def test_a_process_of_ones_own_does_not_spoil_likelihoods_that_are_not_gaussian():
    """They are expanded along the guided mean, as they are without it: given as its own guide, a linear
    process leaves every weight as it is."""
    process = mjp.LinearGaussian(0.8, 0.4, 0.2)
    graph = mjp.chain(process, np.arange(4), initial=dist.Normal(1.0, 0.8))
    graph.observe_each(lambda x: dist.Poisson(jnp.exp(x[0])), np.array([np.nan, 9.0, 14.0, 11.0]))
    guided, own = mjp.condition(graph), mjp.condition(graph, auxiliary=process)
    for key in jax.random.split(jax.random.key(0), 5):
        np.testing.assert_allclose(own.sample(key)[1], guided.sample(key)[1], atol=1e-6)


def test_law_2_on_a_tree():
    """A branching double well; the truth multiplies the messages of quadratures at the branching node."""
    process = mjp.Diffusion(lambda t, x: x - x**3, 0.7)
    graph = mjp.tree("((a:0.5,b:1.0)m:0.5,c:0.75)r;", process, initial=dist.Normal(0.0, 0.5), steps=5)
    values, sd = {"a": 0.8, "b": -0.9, "c": 0.1, "m": 0.4}, 0.25
    graph.observe_each(lambda x: dist.Normal(x[0], sd), values)
    grid = Grid(-4.0, 4.0, 2001)

    def over(g, length):
        dt = length / 5
        for _ in range(5):
            g = grid.back(g, grid.x + (grid.x - grid.x**3) * dt, np.full_like(grid.x, 0.7 * np.sqrt(dt)))
        return g

    see = lambda name: norm.pdf(values[name], grid.x, sd)
    middle = see("m") * over(see("a"), 0.5) * over(see("b"), 1.0)
    root = over(middle, 0.5) * over(see("c"), 0.75) * norm.pdf(grid.x, 0.0, 0.5)
    found, error, share = estimate(graph)
    assert abs(found - np.log(root.sum() * grid.width)) < 4 * error
    assert share > 0.2


@pytest.mark.slow
def test_cox_ingersoll_ross_against_its_transition_density():
    """dX = κ(μ − X)dt + σ√X dW; with many small steps the discretised process is close to the diffusion."""
    kappa, mean, sigma, start, sd, y = 1.0, 1.0, 0.4, 0.8, 0.1, 1.3
    process = mjp.Diffusion(
        lambda t, x: kappa * (mean - x), lambda t, x: sigma * jnp.sqrt(jnp.maximum(x, 1e-6))
    )
    graph = mjp.chain(process, [0.0, 1.0], initial=jnp.array([start]), steps=400)
    graph.observe_each(lambda x: dist.Normal(x[0], sd), jnp.array([jnp.nan, y]))
    c = 2 * kappa / (sigma**2 * (1 - np.exp(-kappa)))
    x = np.linspace(1e-4, 4, 20001)
    density = 2 * c * ncx2.pdf(2 * c * x, 4 * kappa * mean / sigma**2, 2 * c * start * np.exp(-kappa))
    truth = np.log(np.sum(density * norm.pdf(y, x, sd)) * (x[1] - x[0]))
    for auxiliary in ("guided mean", "observations"):
        found, error, share = estimate(graph, 40_000, auxiliary=auxiliary)
        assert abs(found - truth) < 4 * error + 2e-3  # of the discretisation
        assert share > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["ito", "stratonovich", 1.0])
def test_geometric_brownian_motion_in_its_own_coordinates(convention):
    """dX = μX dt + σX ∘_α dW is log-normal, with drift μ + (α − ½)σ² of its logarithm."""
    rate, sigma, sd, y = 0.1, 0.4, 0.05, 1.2
    alpha = {"ito": 0.0, "stratonovich": 0.5}.get(convention, convention)
    process = mjp.Diffusion(lambda t, x: rate * x, lambda t, x: sigma * x, 1, convention)
    graph = mjp.chain(process, [0.0, 1.0], initial=jnp.ones(1), steps=400)
    graph.observe_each(lambda x: dist.Normal(x[0], sd), jnp.array([jnp.nan, y]))
    x = np.linspace(1e-4, 6, 60001)
    density = lognorm.pdf(x, sigma, scale=np.exp(rate + (alpha - 0.5) * sigma**2))
    truth = np.log(np.sum(density * norm.pdf(y, x, sd)) * (x[1] - x[0]))
    found, error, _ = estimate(graph, 40_000)
    assert abs(found - truth) < 4 * error + 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("sd", [0.2, 0.01, 0.0005])
@pytest.mark.parametrize("steps", [25, 100, 400])
def test_sharp_observations_of_a_double_well(sd, steps):
    """The table of exact evidences, with an effective sample size that does not depend on noise or steps."""
    truth = double_well_truth(sd, steps)
    table = {(0.2, 25): -3.3595, (0.01, 25): -3.4675, (0.01, 100): -3.4564, (0.01, 400): -3.4532}
    if (sd, steps) in table:
        np.testing.assert_allclose(truth, table[sd, steps], atol=2e-4)
    found, error, share = estimate(double_well(sd, steps), 40_000, auxiliary="observations")
    assert abs(found - truth) < 4 * error
    assert share > 0.5


def test_exact_observations_of_a_nonlinear_process():
    process = mjp.Diffusion(lambda t, x: x - x**3, 0.7)
    graph = mjp.chain(process, [0.0, 1.0], initial=jnp.array([-1.0]), steps=12)
    graph.observe_each(mjp.Exactly(), jnp.array([jnp.nan, 0.6]))
    found, error, share = estimate(graph, auxiliary="observations")
    assert abs(found - double_well_truth(0.0, 12)) < 4 * error
    assert share > 0.5
    path, _ = mjp.condition(graph).sample(jax.random.key(0))
    np.testing.assert_allclose(path[1], 0.6, atol=1e-12)
    assert path.edge(0, 1).values.shape == (13, 1)


def test_paths_that_run_away_weigh_nothing_and_heavy_tails_are_told():
    """Euler steps of a steep double well explode now and then."""
    well = mjp.Diffusion(lambda t, x: 4 * (x - x**3), 0.9)
    values = np.array([0.6, 0.5, 0.2, 0.9, -1, -1.1, -0.9, -1.2, 0.5, 1.0])
    chain = mjp.chain(well, 0.6 * np.arange(10), initial=1.0, steps=3)
    chain.observe_each(lambda x: dist.Normal(x[0], 0.15), values)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = mjp.evidence(chain, jax.random.key(0), 5000)
    assert np.isfinite(float(found.log_evidence[()]))
    assert float(found.hit_rate[()]) < 1
    words = " ".join(str(warning.message) for warning in told)
    assert "guided paths ran away" in words
    assert ("heavy tail" in words) == (float(found.khat[()]) > 0.7)
