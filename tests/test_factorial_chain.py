"""Factorial chains: exact filters against tensors and enumeration, guides, draws chain by chain."""

import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax
from numpyro.diagnostics import effective_sample_size
from particle_truth import Enumerated, sirs_step
from scipy.stats import norm, poisson

import mjp
from mjp.inference.individual_forward_backward import colours_of, possible_path, sweep
from mjp.inference.particle_chain import evaluate

pytestmark = pytest.mark.usefixtures("quick_compilation")

HERE = Path(__file__).parent
REFERENCE = json.loads((HERE / "reference" / "fhmm_chain.json").read_text())["cases"]
MATRIX = np.array([[0.4, 0.6], [0.8, 0.2]])


def lanes(n, values, matrix=MATRIX, slope=2.0):
    """The setting of Rimella & Whiteley: every number depends on two chains beside each other."""
    chain = mjp.chain(mjp.FactorialChain(matrix, n=n), range(len(values)), initial=[0] * n)
    pairs = [(i, i + 1) for i in range(n - 1)]
    emissions = mjp.LocalEmissions(lambda x: dist.Normal(slope * (x[0] + x[1] + 2.0), 2.0), pairs)
    return chain.observe_each(emissions, values)


def reference_chain(case, steps=None):
    """The first states are not observed."""
    n = case["M"]
    values = np.loadtxt(HERE / "data" / f"fhmm_chain_M{n}.csv", delimiter=",", skiprows=1)[:steps]
    return lanes(n, np.concatenate([np.full((1, n - 1), np.nan), values]))


@pytest.mark.parametrize("case", REFERENCE, ids=["5 chains", "10 chains"])
def test_likelihood_and_filter_are_those_of_tensors_in_numpy(case):
    guided = mjp.condition(reference_chain(case))
    assert guided.exact
    assert float(guided.log_evidence) == pytest.approx(case["loglik_exact"], abs=1e-8)
    assert float(jnp.sum(guided.terms)) == pytest.approx(case["loglik_exact"], abs=1e-8)
    exact = np.asarray(guided.filtered)[1:, :, 1]
    np.testing.assert_allclose(exact[-1], case["filter_P_state2_last"], atol=1e-12)
    np.testing.assert_allclose(exact[99], case["filter_P_state2_t100"], atol=1e-12)
    for radius in (0, 1):
        localised = mjp.condition(reference_chain(case), auxiliary="localised", radius=radius)
        distance = np.abs(np.asarray(localised.filtered)[1:, :, 1] - exact)
        assert distance.mean() == pytest.approx(case["graph_filter_mean_tv"][str(radius)], abs=1e-12)
        assert distance.max() == pytest.approx(case["graph_filter_max_tv"][str(radius)], abs=1e-12)


# -------------------------------------------------------------- every kind of observation at once

N, K, T = 3, 3, 4
RNG = np.random.default_rng(0)
MATRICES = RNG.dirichlet(np.ones(K), size=(N, K))
FIRST = RNG.dirichlet(np.ones(K), size=N)
SCOPES = [(2, 0), (0, 1)]
SHIFT, RATE = np.array([0.3, -0.5]), RNG.uniform(0.5, 4.0, (K, K, K))
PAIRS = np.array([[0.1, 1.2], [np.nan, 2.0], [0.4, np.nan], [1.5, -0.3]])
COUNTS = np.array([[np.nan], [2.0], [0.0], [np.nan]])
OWN = np.array([[np.nan, 0.3, np.nan], [np.nan] * 3, [1.1, np.nan, np.nan], [np.nan] * 3])
LABELS = [[None] * N, [None, None, "c"], [None] * N, ["a", None, None]]
TOTALS = np.array([np.nan, 1.0, np.nan, 2.0])


def observed_chain(scale=1.0, totals=True):
    process = mjp.FactorialChain(MATRICES, states=list("abc"))
    chain = mjp.chain(process, range(T), initial=dist.Categorical(jnp.asarray(FIRST)))
    pairs = lambda x, scope: dist.Normal(x[0] - 0.5 * x[1] + jnp.asarray(SHIFT)[scope], 0.7 * scale)
    chain.observe_each(mjp.LocalEmissions(pairs, SCOPES, indexed=True), PAIRS)
    counts = mjp.LocalEmissions(lambda x: dist.Poisson(jnp.asarray(RATE)[x[0], x[1], x[2]]), [(1, 2, 0)])
    chain.observe_each(counts, COUNTS)
    chain.observe_each(mjp.EachAgent(lambda x: dist.Normal(0.5 * x, 0.8)), OWN)
    chain.observe_each(mjp.Exactly(), LABELS)
    return chain.observe_each(lambda x: dist.Poisson(x["b"] + 0.2), TOTALS) if totals else chain


def likelihood(t, c, totals=True):
    value = 1.0
    for scope, (a, b) in enumerate(SCOPES):
        if not np.isnan(PAIRS[t, scope]):
            value *= norm.pdf(PAIRS[t, scope], c[a] - 0.5 * c[b] + SHIFT[scope], 0.7)
    if not np.isnan(COUNTS[t, 0]):
        value *= poisson.pmf(COUNTS[t, 0], RATE[c[1], c[2], c[0]])
    for i in range(N):
        value *= 1.0 if np.isnan(OWN[t, i]) else norm.pdf(OWN[t, i], 0.5 * c[i], 0.8)
        value *= LABELS[t][i] is None or LABELS[t][i] == "abc"[c[i]]
    if totals and not np.isnan(TOTALS[t]):
        value *= poisson.pmf(TOTALS[t], np.sum(c == 1) + 0.2)
    return value


def enumerated(totals=True):
    step = lambda c: MATRICES[range(N), c]
    return Enumerated(N, K, step, FIRST, T, lambda t, c: likelihood(t, c, totals))


def events():
    single = [(lambda c, i=i, s=s: c[..., i] == s) for i in range(N) for s in range(K)]
    return [*single, lambda c: (c[..., 0] == 1) & (c[..., 2] == 1)]


def test_evidence_and_draws_equal_enumeration():
    """Of all marginals and of a pair, to 4 standard errors; the log-weight is zero (law 1)."""
    truth, draws = enumerated(), 8000

    @jax.jit
    def run(keys):
        guided = mjp.condition(observed_chain())
        assert guided.exact
        z = {name: jnp.zeros(shape) for name, shape in guided.innovations.items()}
        return guided.log_evidence, jax.vmap(guided.sample)(keys), guided.push(z)[0]

    evidence, (paths, log_weight), pushed = run(jax.random.split(jax.random.key(0), draws))
    assert float(evidence) == pytest.approx(truth.log_evidence, abs=1e-12)
    assert pushed.labels(3)[0] == "a"
    assert np.all(np.asarray(log_weight) == 0.0)
    states = np.asarray(paths.values)
    for t in range(T):
        for event in events():
            p = truth.probability(t, event)
            error = 4 * np.sqrt(p * (1 - p) / draws)
            assert abs(np.mean(event(states[:, t])) - p) < error + 1e-9


@pytest.mark.parametrize("radius", [0, 1])
def test_localised_guides_are_unbiased(radius):
    """Law 2: the mean weight is the evidence, weighted draws have the posterior, to 4 standard errors."""
    truth, draws = enumerated(), 10_000

    @jax.jit
    def run(keys):
        guided = mjp.condition(observed_chain(), auxiliary="localised", radius=radius)
        assert not guided.exact
        paths, log_weight = jax.vmap(guided.sample)(keys)
        return paths, guided.log_evidence + log_weight

    paths, logs = run(jax.random.split(jax.random.key(1), draws))
    weights = np.exp(np.asarray(logs) - truth.log_evidence)
    assert weights.std() > 0
    assert abs(weights.mean() - 1.0) < 4 * weights.std() / np.sqrt(draws)
    excess = weights * (np.asarray(paths[1])[:, 1] == 0)
    p = truth.probability(1, lambda c: c[1] == 0)
    assert abs(excess.mean() - p) < 4 * excess.std() / np.sqrt(draws)


def test_chains_that_are_seen_one_by_one_are_guided_exactly():
    """Law 1: without emissions in common a product over chains is the truth."""
    process = mjp.FactorialChain(MATRICES, states=list("abc"))
    chain = mjp.chain(process, range(T), initial=dist.Categorical(jnp.asarray(FIRST)), steps=2)
    chain.observe_each(mjp.EachAgent(lambda x: dist.Normal(0.5 * x, 0.8)), OWN)
    chain.observe_each(mjp.Exactly(), LABELS)
    exact, guided = mjp.condition(chain), mjp.condition(chain, auxiliary="localised")
    assert guided.exact
    assert float(guided.log_evidence) == pytest.approx(float(exact.log_evidence), abs=1e-12)
    np.testing.assert_allclose(guided.filtered, exact.filtered, atol=1e-12)
    _, log_weight = jax.jit(jax.vmap(guided.sample))(jax.random.split(jax.random.key(2), 50))
    np.testing.assert_allclose(log_weight, 0.0, atol=1e-12)


@pytest.mark.parametrize("totals", [False, True], ids=["side by side", "one by one"])
def test_paths_drawn_chain_by_chain_have_the_enumerated_law(totals):
    """4 standard errors of a chain of sweeps."""
    check_sweeps(observed_chain(totals=totals), enumerated(totals))


def check_sweeps(chain, truth):
    model = evaluate(chain)
    order = colours_of(model)
    start, _ = possible_path(model, order, jax.random.key(1), jnp.zeros(model.shape, jnp.int32))

    def step(path, key):
        path = sweep(model, order, key, path)
        return path, path

    run = jax.jit(lambda keys: lax.scan(step, start, keys)[1])
    paths = np.asarray(run(jax.random.split(jax.random.key(3), 8000)))
    for t in range(T):
        for event in events():
            happened, p = np.asarray(event(paths[:, t]), float), truth.probability(t, event)
            if happened.std() == 0:
                assert p < 2e-3 or p > 1 - 2e-3
                continue
            effective = effective_sample_size(happened.reshape(4, -1))
            assert abs(happened.mean() - p) < 4 * happened.std() / np.sqrt(effective)


def test_agents_on_a_network_may_be_observed_together():
    """Law 2 and the law of the paths, to 4 standard errors, for an epidemic that is seen in pairs."""
    network, pairs = nx.path_graph(3), [(0, 2), (1, 2)]
    flu = mjp.InteractingParticles.sirs(network, 1.2, 0.6, 0.3, external=0.05)
    chain = mjp.chain(flu, range(T), initial=dist.Categorical(jnp.asarray(FIRST)))
    law = lambda x: dist.Normal(1.0 * (x[0] == 1) + (x[1] == 1), 0.5)
    chain.observe_each(mjp.LocalEmissions(law, pairs), PAIRS)

    def weight(t, c):
        sick = [(c[a] == 1) + 1.0 * (c[b] == 1) for a, b in pairs]
        return np.exp(np.nansum(norm.logpdf(PAIRS[t], sick, 0.5)))

    step = sirs_step(nx.to_numpy_array(network), 1.2, 0.6, 0.3, 0.05, 1.0)
    truth = Enumerated(N, K, step, FIRST, T, weight)
    found = mjp.evidence(chain, jax.random.key(4), 8000)
    assert abs(float(found.log_evidence) - truth.log_evidence) < 4 * float(found.standard_error)
    check_sweeps(chain, truth)


def test_chains_that_share_no_emission_move_together():
    order = colours_of(evaluate(lanes(9, np.full((3, 8), np.nan))))
    found = sorted(sorted(row[row < 9].tolist()) for row in order.members)
    assert found == [[0, 2, 4, 6, 8], [1, 3, 5, 7]]


def test_gradients_are_those_of_finite_differences():
    """Central differences with a step of 1e-5; the transition matrix and the emissions change."""
    values = np.loadtxt(HERE / "data" / "fhmm_chain_M5.csv", delimiter=",", skiprows=1)[:20]

    def total(theta):
        stay, slope = theta
        matrix = jnp.array([[0.4, 0.6], [0.8, 0.2]]) * (1 - stay) + stay * jnp.eye(2)
        return mjp.condition(lanes(5, values, matrix, slope)).log_evidence

    theta = jnp.array([0.1, 1.9])
    gradient = jax.jit(jax.grad(total))(theta)
    steps = 1e-5 * jnp.eye(2)
    mapped = jax.jit(jax.vmap(total))
    np.testing.assert_allclose(gradient, (mapped(theta + steps) - mapped(theta - steps)) / 2e-5, rtol=1e-7)


def test_several_series_and_simulation():
    values = np.loadtxt(HERE / "data" / "fhmm_chain_M5.csv", delimiter=",", skiprows=1)[:12].reshape(2, 6, 4)
    chain = mjp.chain(mjp.FactorialChain(MATRIX, n=5), range(6), initial=[0] * 5)
    pairs = [(i, i + 1) for i in range(4)]
    emissions = mjp.LocalEmissions(lambda x: dist.Normal(2.0 * (x[0] + x[1] + 2.0), 2.0), pairs)
    both = mjp.condition(chain.observe_each(emissions, values))
    alone = [float(mjp.condition(lanes(5, one)).log_evidence) for one in values]
    np.testing.assert_allclose(both.log_evidence, alone, atol=1e-11)
    guided = mjp.condition(chain, auxiliary="localised")
    assert guided.filtered.shape == both.filtered.shape == (2, 6, 5, 2)
    _, log_weight = guided.sample(jax.random.key(0))
    assert log_weight.shape == (2,)
    drawn = jax.jit(jax.vmap(lambda key: mjp.simulate(chain, key)))(jax.random.split(jax.random.key(1), 2000))
    seen, states = np.asarray(drawn.observations[0]), np.asarray(drawn.values)
    assert seen.shape == (2000, 12, 4)
    residual = seen - 2.0 * (states[..., :-1] + states[..., 1:] + 2.0)
    assert abs(residual.mean()) < 4 * 2.0 / np.sqrt(residual.size)
    assert abs(residual.std() / 2.0 - 1) < 4 / np.sqrt(2 * residual.size)


# --------------------------------------------------------------------------------- models

LONG, SHORT = 13, 6  # 2**13 combinations are more than are summed out


def road(n, values):
    slope = numpyro.sample("slope", dist.Normal(1.5, 0.5))
    mjp.sample("lanes", lanes(n, values, slope=slope))


def of_data(n, steps):
    values = np.loadtxt(HERE / "data" / "fhmm_chain_M10.csv", delimiter=",", skiprows=1)[:steps]
    return np.concatenate([values, values[::-1]], axis=1)[:, : n - 1]


def posterior_on_a_grid(n, values):
    """Mean and deviation of the slope."""
    grid = jnp.linspace(0.5, 3.0, 101)
    logs = lambda s: mjp.condition(lanes(n, values, slope=s), max_table=2**LONG).log_evidence
    log = dist.Normal(1.5, 0.5).log_prob(grid) + jax.jit(lambda g: lax.map(logs, g))(grid)
    weights = np.exp(np.asarray(log - log.max()))
    weights /= weights.sum()
    mean = weights @ np.asarray(grid)
    return mean, np.sqrt(weights @ np.asarray(grid) ** 2 - mean**2)


def compare(draws, mean, deviation):
    error = draws.std() / np.sqrt(effective_sample_size(draws))
    assert abs(draws.mean() - mean) < 4 * error
    squares = (draws - mean) ** 2
    assert abs(squares.mean() - deviation**2) < 4 * squares.std() / np.sqrt(effective_sample_size(squares))


def test_a_fit_of_a_few_chains_sums_the_paths_out():
    values = of_data(4, SHORT)
    fit = mjp.fit(road, 4, values, draws=200, warmup=100, chains=2, progress=False)
    assert fit.engine == "NUTS"
    compare(fit.samples["slope"], *posterior_on_a_grid(4, values))
    paths = fit.paths("lanes", draws=20)
    assert paths.dims == ("chain", "draw", "time", "coordinate")
    assert np.all(paths.sel(time=0) == 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*chains have not mixed")
def test_a_fit_of_many_chains_draws_the_paths(tmp_path):
    """The posterior of NUTS given paths, and paths given it, is that of a grid with the paths summed out."""
    values = of_data(LONG, SHORT)
    fit = mjp.fit(road, LONG, values, draws=4000, warmup=500, chains=4, progress=False)
    assert fit.engine == "forward-backward by agent, NUTS given paths"
    mean, deviation = posterior_on_a_grid(LONG, values)
    compare(fit.samples["slope"], mean, deviation)
    page = fit.report(tmp_path / "report.html").read_text()
    assert "could not be made" not in page


def smoothed(case):
    """Posterior probabilities (T, M) of the second state, by tensors in NumPy."""
    n = case["M"]
    values = np.loadtxt(HERE / "data" / f"fhmm_chain_M{n}.csv", delimiter=",", skiprows=1)
    states = np.indices((2,) * n).reshape(n, -1).T + 1
    seen = norm.pdf(values[:, None], 2.0 * (states[:, :-1] + states[:, 1:]), 2.0).prod(axis=2)

    def move(table, matrix):
        for _ in range(n):
            table = np.moveaxis(np.tensordot(table.reshape((2,) * n), matrix, axes=(0, 0)), -1, n - 1)
        return table.reshape(-1)

    law, forward = np.eye(2**n)[0], []
    for weights in seen:
        law = move(law, MATRIX) * weights
        law /= law.sum()
        forward.append(law)
    back, found = np.ones(2**n), []
    for law, weights in zip(forward[::-1], seen[::-1], strict=True):
        both = law * back
        found.append(both @ (states == 2) / both.sum())
        back = move(back * weights, MATRIX.T)
        back /= back.sum()
    return np.array(found[::-1])


@pytest.mark.slow
def test_draws_of_ten_chains_have_the_exact_marginals():
    """Mean total variation, over chains and times, of 8000 draws.

    Independent draws of a probability p miss it by sqrt(p (1 - p) / 8000) times a normal number, 0.0045 in
    the mean at most; sweeps are dependent, and guided draws without their weights are not exact.
    """
    chain, draws = reference_chain(REFERENCE[1]), 8000
    exact = smoothed(REFERENCE[1])
    model = evaluate(chain)
    order = colours_of(model)

    def step(carry, key):
        path, total = carry
        path = sweep(model, order, key, path)
        return (path, total + path), None

    start = jnp.zeros(model.shape, jnp.int32)
    run = jax.jit(lambda keys: lax.scan(step, (start, start), keys)[0][1])
    by_chain = np.asarray(run(jax.random.split(jax.random.key(1), draws)))[1:] / draws
    assert np.abs(by_chain - exact).mean() < 2 * 0.0045
    for radius, bound in ((0, 0.045), (1, 0.015)):
        guided = mjp.condition(chain, auxiliary="localised", radius=radius)
        draw = lambda key, guided=guided: guided.sample(key)[0].values
        keys = jax.random.split(jax.random.key(2), draws)
        drawn = np.asarray(jax.jit(lambda keys, draw=draw: lax.map(draw, keys, batch_size=500))(keys))
        distance = np.abs(drawn.mean(axis=0)[1:] - exact).mean()
        assert distance < bound


@pytest.mark.slow
def test_time_is_linear_in_the_number_of_chains():
    """Filtering and draws of 25 and of 100 chains over 200 steps: less than 8 times as long, not 16."""
    seconds = {n: timed(n) for n in (25, 100)}
    for few, many in zip(seconds[25], seconds[100], strict=True):
        assert many < 8 * few, seconds


def timed(n, steps=200, repeats=5):
    """Least seconds of a graph filter, and of a sweep over all paths, compilation left out."""
    unseen = lanes(n, np.full((steps, n - 1), np.nan))
    values = np.asarray(mjp.simulate(unseen, jax.random.key(0)).observations[0])

    @jax.jit
    def filtered(values):
        return mjp.condition(lanes(n, values), auxiliary="localised").filtered

    model = evaluate(lanes(n, values))
    order = colours_of(model)
    move = jax.jit(lambda path, key: sweep(model, order, key, path))
    path = jnp.zeros(model.shape, jnp.int32)
    found = []
    for run in (lambda: filtered(values), lambda: move(path, jax.random.key(1))):
        run().block_until_ready()
        spent = []
        for _ in range(repeats):
            start = time.perf_counter()
            run().block_until_ready()
            spent.append(time.perf_counter() - start)
        found.append(min(spent))
    return found


# ------------------------------------------------------------------------------- bad input


def law(x):
    return dist.Normal(1.0 * x[0], 1.0)


def chains(*args, **options):
    return lambda: mjp.FactorialChain(*args, **options)


def local(*args, **options):
    return lambda: mjp.LocalEmissions(*args, **options)


def seen(emissions, values, n=3, **options):
    chain = lambda: mjp.chain(mjp.FactorialChain(MATRIX, n=n), range(2), initial=[0] * n)
    return lambda: mjp.condition(chain().observe_each(emissions, values), **options)


EACH = mjp.LocalEmissions(law, [(0, 1), (1, 2)])
COUNTED = mjp.LocalEmissions(lambda x: dist.Poisson(x[0] + 1.0), [(0, 1)])
ONE = np.zeros((2, 2))
BAD = {
    "one matrix": (chains(MATRIX), "n must be the number of chains where transitions is one matrix"),
    "another number": (chains(MATRICES, n=2), "n must be the number of matrices in transitions, 3, .* got 2"),
    "shape": (chains(MATRIX[0]), r"transitions must have shape \(M, K, K\) or \(K, K\), got \(2,\)"),
    "sums": (chains(1.2 * MATRICES), "transitions must sum to 1"),
    "labels": (chains(MATRIX, ["a"], n=2), "states must name the 2 states of transitions, got 1 labels"),
    "no function": (local(dist.Normal(0.0, 1.0), [(0, 1)]), "likelihood must be a function"),
    "no law": (local(lambda x: x[0], [(0, 1)]), "likelihood must return a Distribution, got int32"),
    "a law of vectors": (
        local(lambda x: dist.Normal(jnp.zeros(2), 1.0), [(0, 1)]),
        r"likelihood must return a law of one number, got one of shape \(2,\)",
    ),
    "ragged scopes": (local(law, [(0, 1), (1,)]), "scopes must all have the same number of agents"),
    "scopes of names": (local(law, ["ab"]), "scopes must be positions of agents"),
    "scope with itself": (local(law, [(0, 1), (2, 2)]), r"scope 1 must name different agents, got \[2, 2\]"),
    "scope beyond": (seen(EACH, ONE, n=2), "scopes: there are 2 agents, got the position 2"),
    "values": (seen(EACH, np.zeros((2, 3))), "values: expected one per scope"),
    "counts": (seen(COUNTED, np.full((2, 1), 0.5)), "scope 0: 0.5 is outside of the law's support"),
    "auxiliary": (seen(EACH, ONE, auxiliary="mean field"), "auxiliary must be 'localised' or None"),
    "radius": (seen(EACH, ONE, radius=-1), "radius must be an integer >= 0, got -1"),
    "max_table": (seen(EACH, ONE, max_table=0), "max_table must be a positive integer, got 0"),
    "other processes": (
        lambda: mjp.chain(mjp.MarkovChain(MATRIX), range(2), initial=0).observe_each(EACH, ONE),
        "mjp.LocalEmissions is for agents, which MarkovChain has not",
    ),
    "impossible": (seen(mjp.Exactly(), [[1, 0, 0], [0, 0, 0]]), "the observations are impossible"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    declare, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message):
        declare()
