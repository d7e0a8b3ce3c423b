"""Likelihoods that read covariates: exposures, standard errors, regressors, times."""

import itertools

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import Predictive
from scipy.integrate import quad
from scipy.stats import binom, multivariate_normal, norm, poisson

import mjp
from mjp.inference.agent_path_law import AgentPathLikelihood

MOVES = np.array([[0.8, 0.2], [0.3, 0.7]])
RATES = np.array([1.0, 4.0])
EXPOSURE = np.array([0.5, 1.0, 2.0, 1.5, 0.7])
COUNTS = np.array([1.0, np.nan, 9.0, 5.0, 0.0])
TIMES = np.arange(5.0)
FIRST = dist.Categorical(jnp.array([0.6, 0.4]))


def hidden(values=COUNTS, exposure=EXPOSURE, **options):
    chain = mjp.chain(mjp.MarkovChain(MOVES, ["calm", "busy"]), TIMES, initial=FIRST, **options)
    return chain.observe_each(
        lambda state, c: dist.Poisson(jnp.asarray(RATES)[state] * c["exposure"]),
        values,
        covariates={"exposure": exposure},
    )


def by_enumeration(counts, exposure):
    total = 0.0
    for path in itertools.product(range(2), repeat=len(counts)):
        law = [0.6, 0.4][path[0]] * np.prod([MOVES[a, b] for a, b in itertools.pairwise(path)])
        seen = ~np.isnan(counts)
        total += law * np.prod(poisson.pmf(counts, RATES[list(path)] * exposure)[seen])
    return np.log(total)


def evidence(graph):
    return jnp.squeeze(mjp.condition(graph).log_evidence)


def test_exposures_of_a_hidden_markov_model():
    expected = by_enumeration(COUNTS, EXPOSURE)
    np.testing.assert_allclose(evidence(hidden()), expected, rtol=1e-10)
    traced = jax.jit(lambda values, exposure: evidence(hidden(values, exposure)))(COUNTS, EXPOSURE)
    np.testing.assert_allclose(traced, expected, rtol=1e-10)
    slope = jax.grad(lambda scale: evidence(hidden(exposure=scale * EXPOSURE)))(1.0)
    ends = [by_enumeration(COUNTS, (1 + h) * EXPOSURE) for h in (1e-5, -1e-5)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-6)


def test_exposures_of_several_series():
    both = np.stack([COUNTS, COUNTS[::-1]])
    shared = mjp.condition(hidden(both)).log_evidence
    np.testing.assert_allclose(shared, [by_enumeration(row, EXPOSURE) for row in both], rtol=1e-10)
    own = np.stack([EXPOSURE, 2 * EXPOSURE])
    found = mjp.condition(hidden(both, own)).log_evidence
    expected = [by_enumeration(*pair) for pair in zip(both, own, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_what_a_chain_has_is_there_too():
    """The time, the number of the series, and covariates of the chain with one value per time."""
    both = np.stack([COUNTS, COUNTS[::-1]])
    chain = mjp.chain(
        mjp.MarkovChain(MOVES), TIMES, initial=FIRST, covariates={"load": EXPOSURE, "gap": np.ones(4)}
    )
    rate = lambda s, c: (
        jnp.asarray(RATES)[s] * c["load"] * (1 + c["time"]) * jnp.array([1.0, 3.0])[c["series"]]
    )
    graph = chain.observe_each(lambda s, c: dist.Poisson(rate(s, c)), both)
    expected = [by_enumeration(row, EXPOSURE * (1 + TIMES) * k) for row, k in zip(both, [1, 3], strict=True)]
    np.testing.assert_allclose(mjp.condition(graph).log_evidence, expected, rtol=1e-10)
    with pytest.raises(
        ValueError, match=r"reads the covariate 'gap'.*they have \['load', 'series', 'time'\]"
    ):
        chain.observe_each(lambda s, c: dist.Poisson(1.0 + c["gap"]), both)


def test_a_panel_seen_through_its_covariates():
    frame = pd.DataFrame(
        {
            "person": ["a"] * 3 + ["b"] * 2,
            "year": [0.0, 1.0, 2.5, 0.0, 2.0],
            "score": [0.1, 1.9, 2.2, 0.4, np.nan],
            "error": [0.5, 0.3, 0.4, 0.2, 1.0],
        }
    )
    panel = mjp.Panel.from_frame(frame, "person", "year", "score", covariates=["error"])
    process = mjp.MarkovJump({("well", "ill"): 0.4, ("ill", "well"): 0.2})
    level = lambda s, c: 2.0 * s + 0.1 * c["time"]
    graph = mjp.panel(
        process, panel, observe=lambda s, c: dist.Normal(level(s, c), c["error"]), initial=FIRST
    )
    generator = np.array([[-0.4, 0.4], [0.2, -0.2]])
    for person, found in zip(["a", "b"], mjp.condition(graph).log_evidence, strict=True):
        rows, total = frame[frame.person == person], 0.0
        steps = [np.asarray(jax.scipy.linalg.expm(generator * gap)) for gap in np.diff(rows.year)]
        for path in itertools.product(range(2), repeat=len(rows)):
            law = [0.6, 0.4][path[0]] * np.prod(
                [step[a, b] for step, (a, b) in zip(steps, itertools.pairwise(path), strict=True)]
            )
            density = norm.pdf(rows.score, 2.0 * np.array(path) + 0.1 * rows.year, rows.error)
            total += law * np.prod(density[~rows.score.isna()])
        np.testing.assert_allclose(found, np.log(total), rtol=1e-10)


def test_regressors_of_a_linear_state_space_model():
    """Time-varying loadings and errors of a random walk: a joint normal law, and marginalised."""
    load, error = np.array([1.0, -0.5, 2.0, 0.3, 1.2]), np.array([0.5, 0.2, 0.7, 0.4, 0.3])
    values = np.array([0.3, -0.4, np.nan, 0.9, 1.4])
    chain = mjp.chain(mjp.LinearGaussian(1.0, 0.0, 0.3), TIMES, initial=dist.Normal(0.2, 1.0))
    graph = chain.observe_each(
        lambda x, c: dist.Normal(x[0] * c["load"], c["error"]),
        values,
        covariates={"load": load, "error": error},
    )
    guided = mjp.condition(graph)
    assert guided.exact
    walk = 1.0 + 0.3 * np.minimum(TIMES[:, None], TIMES[None])
    covariance = load[:, None] * walk * load[None] + np.diag(error**2)
    seen = ~np.isnan(values)
    expected = multivariate_normal.logpdf(values[seen], 0.2 * load[seen], covariance[np.ix_(seen, seen)])
    np.testing.assert_allclose(jnp.squeeze(guided.log_evidence), expected, rtol=1e-10)


def test_standard_errors_of_traits_on_a_tree():
    size, error = {"a": 1.0, "b": 1.4, "c": 0.2}, {"a": 0.1, "b": 0.5, "c": 0.3}
    walk = mjp.Diffusion(lambda t, x: jnp.zeros(1), 0.8)
    tree = mjp.tree("((a:1,b:1):1,c:2);", walk, initial=0.5)
    tree.observe_each(lambda x, c: dist.Normal(x[0], c["error"]), size, covariates={"error": error})
    shared = 0.64 * np.array([[2, 1, 0], [1, 2, 0], [0, 0, 2.0]])
    expected = multivariate_normal.logpdf([1.0, 1.4, 0.2], [0.5] * 3, shared + np.diag([0.01, 0.25, 0.09]))
    np.testing.assert_allclose(jnp.squeeze(mjp.condition(tree).log_evidence), expected, rtol=1e-10)


LIKELIHOODS = {
    "any": (
        lambda x, c: dist.Poisson(jnp.exp(x[0]) * c["exposure"]),
        3.0,
        lambda x: poisson.logpmf(3, 2 * np.exp(x)),
    ),
    "spread": (
        lambda x, c: dist.Normal(0.0, c["exposure"] * jnp.exp(x[0])),
        1.5,
        lambda x: norm.logpdf(1.5, 0.0, 2 * np.exp(x)),
    ),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_other_likelihoods_of_vectors(name):
    """exp(log_evidence) E[exp(log_weight)] is the integral over the only unknown state."""
    likelihood, value, density = LIKELIHOODS[name]
    chain = mjp.chain(mjp.LinearGaussian(0.5, 0.0, 0.6), [0.0, 1.0], initial=0.4)
    graph = chain.observe_each(likelihood, [np.nan, value], covariates={"exposure": [1.0, 2.0]})
    expected = quad(lambda x: np.exp(density(x)) * norm.pdf(x, 0.2, np.sqrt(0.6)), -6, 6)[0]
    found = mjp.evidence(graph, jax.random.key(0), 20_000)
    assert abs(float(jnp.squeeze(found.log_evidence)) - np.log(expected)) < 0.02


def thinned(x, c):
    return dist.Binomial(x["I"], 0.3 + 0.1 * c["time"])


def counted(values):
    network = mjp.ReactionNetwork([("S + I -> 2 I", 0.2), ("I -> R", 0.5)])
    return mjp.chain(network, TIMES[:4], initial={"S": 5, "I": 2, "R": 0}), values


def agents(values):
    flu = mjp.InteractingParticles.sir(nx.cycle_graph(4), 0.6, 0.3, external=0.05)
    return mjp.chain(flu, TIMES[:4], initial=["I", "S", "S", "S"]), values


FAMILIES = {
    "reaction network": (counted, thinned, [np.nan, 1.0, 2.0, 0.0]),
    "agents": (agents, thinned, [np.nan, 1.0, 0.0, 1.0]),
    "diffusion with bounds": (
        lambda values: (
            mjp.chain(
                mjp.Diffusion(lambda t, x: 1.0 - x, lambda t, x: 0.3 * jnp.sqrt(x), support="positive"),
                TIMES[:4],
                initial=1.2,
                steps=5,
            ),
            values,
        ),
        lambda x, c: dist.Normal(x[0], 0.3 + 0.1 * c["time"]),
        [np.nan, 1.0, 0.8, 1.3],
    ),
    "gamma process": (
        lambda values: (mjp.chain(mjp.GammaProcess(1.0, 2.0), TIMES[:4], initial=0.0), values),
        lambda x, c: dist.Normal(x[0], 0.3 + 0.1 * c["time"]),
        [np.nan, 0.5, 1.2, 1.3],
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_reads_them(name):
    """One likelihood with covariates says of a path what one function per time says."""
    declare, likelihood, values = FAMILIES[name]
    chain, values = declare(np.asarray(values))
    together = mjp.condition(chain.observe_each(likelihood, values))
    apart, _ = declare(values)
    for i, time in enumerate(TIMES[:4]):
        own = lambda x, time=time: likelihood(x, {"time": time})
        apart.observe_each(own, np.where(np.arange(4) == i, values, np.nan))
    path, _ = together.sample(jax.random.key(1))
    if name == "reaction network":
        terms = [guided.model.log_likelihood(path.values) for guided in (together, mjp.condition(apart))]
        infected = np.asarray(path.values)[1:, 1]
        expected = binom.logpmf(values[1:], infected, 0.3 + 0.1 * TIMES[1:4])
        np.testing.assert_allclose(np.asarray(terms[0])[1:4], expected, rtol=1e-5)
    elif name == "agents":
        terms = [AgentPathLikelihood(mjp.condition(graph)).log_likelihoods(path) for graph in (chain, apart)]
    else:
        terms = [guided.log_likelihoods(path) for guided in (together, mjp.condition(apart))]
    np.testing.assert_allclose(*terms, rtol=1e-5)


def test_graphs_that_mix_families():
    """A network of few counts, a state and a vector: as with one function per node."""
    reading = lambda x, c: dist.Normal(x[0], c["error"])
    patients = lambda x, c: dist.Poisson(x["I"] * c["exposure"] + 0.1)
    alarm = lambda s, c: dist.Normal(1.0 * s, c["error"])

    def declared(split):
        g = mjp.Graph().root(("n", 0), {"S": 3, "I": 1}).root(("x", 0), dist.Normal(0.0, 1.0))
        g.root(("s", 0), FIRST)
        network = mjp.ReactionNetwork([("S + I -> 2 I", 0.3)], ["S", "I"])
        switch = mjp.MarkovJump({(0, 1): 0.3, (1, 0): 0.4})
        for t in range(1, 3):
            g.edge(("n", t - 1), ("n", t), network).edge(("s", t - 1), ("s", t), switch)
            g.edge(("x", t - 1), ("x", t), mjp.LinearGaussian(0.8, 0.0, 0.2))
            for node, likelihood, value, covariates in (
                (("n", t), patients, 1.0 + t, {"exposure": 0.5 * t}),
                (("x", t), reading, 0.3 * t, {"error": 0.2 + 0.1 * t}),
                (("s", t), alarm, 0.4, {"error": 0.5 * t}),
            ):
                if split:
                    own = lambda x, f=likelihood, c=covariates: f(x, c)
                    g.observe(node, own, value)
                else:
                    g.observe(node, likelihood, value, covariates=covariates)
        g.observe((("n", 2), ("x", 2)), lambda n, x: dist.Normal(x[0] + n["I"], 1.0), 2.5)
        return g

    together, apart = (mjp.condition(declared(split)) for split in (False, True))
    np.testing.assert_allclose(together.log_evidence, apart.log_evidence, rtol=1e-6)
    (_, weight), (_, other) = (guided.sample(jax.random.key(0)) for guided in (together, apart))
    np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-8)


def test_new_data_have_the_covariates_of_the_old():
    def model(values):
        scale = numpyro.sample("scale", dist.LogNormal(0.0, 0.1))
        mjp.sample("regime", hidden(values, scale * np.array([0.1, 0.1, 0.1, 0.1, 1000.0])))

    draws = Predictive(model, num_samples=5)(jax.random.key(0), COUNTS)
    assert draws["regime"].shape == (5, 5)
    replicated = mjp.simulate(hidden(exposure=np.array([0.1, 0.1, 0.1, 0.1, 1000.0])), jax.random.key(1))
    assert np.all(replicated.observations[0][:4] < 10)
    assert replicated.observations[0][4] > 500


def refusals():
    chain = mjp.chain(mjp.MarkovChain(MOVES), TIMES, initial=FIRST)
    reads = lambda s, c: dist.Poisson(1.0 + c["exposure"])
    give = lambda **columns: lambda: chain.observe_each(reads, COUNTS, covariates=columns)
    lost = np.where(np.arange(5) == 3, np.nan, EXPOSURE)
    tree = mjp.tree("(a:1,b:1);", mjp.LinearGaussian(1.0, 0.0, 0.3), initial=0.0)
    noisy = lambda x, c: dist.Normal(x[0], c["error"])
    g = mjp.Graph().root("r", 0.0).edge("r", "x", mjp.LinearGaussian(1.0, 0.0, 0.3))
    return {
        "none given": (give(), "reads the covariate 'exposure'"),
        "not read": (
            lambda: chain.observe_each(
                lambda s: dist.Poisson(1.0), COUNTS, covariates={"exposure": EXPOSURE}
            ),
            r"\['exposure'\] are given, but the likelihood takes the state alone",
        ),
        "length": (
            give(exposure=EXPOSURE[:4]),
            r"'exposure'.*shape \(5,\) or \(series, 5\), got shape \(4,\)",
        ),
        "series": (give(exposure=np.ones((3, 5))), r"'exposure'.*got shape \(3, 5\)"),
        "not finite": (give(exposure=lost), "'exposure' of the observation of node 3 must be finite"),
        "not numbers": (give(exposure=["a"] * 5), "'exposure' must hold numbers"),
        "numbers as text": (give(exposure=["1"] * 5), "'exposure' must hold numbers, got '1'"),
        "matrix": (give(exposure=np.ones((5, 2))), r"'exposure'.*got shape \(5, 2\)"),
        "other leaf": (
            lambda: tree.observe_each(noisy, {"a": 1.0}, covariates={"error": {"a": 0.1, "z": 0.2}}),
            "'error' has a value for 'z', which is not observed",
        ),
        "exact": (
            lambda: chain.observe_each(mjp.Exactly(), [0, 1, 0, 1, 0], covariates={"exposure": EXPOSURE}),
            "takes the state alone",
        ),
        "leaf": (
            lambda: tree.observe_each(noisy, {"a": 1.0, "b": 2.0}, covariates={"error": {"a": 0.1}}),
            "'error' has no value for the observation of 'b'",
        ),
        "node": (lambda: g.observe("x", noisy, 1.0, covariates={"error": np.inf}), "'error'.*must be finite"),
        "node without": (lambda: mjp.condition(g.observe("x", noisy, 1.0)), "reads the covariate 'error'"),
        "jointly": (
            lambda: g.observe(
                ("r", "x"), lambda a, b: dist.Normal(a[0], 1.0), 1.0, covariates={"error": 1.0}
            ),
            "covariates are for observations of one node",
        ),
        "support": (
            lambda: mjp.condition(hidden(np.array([1.0, -2.0, 3.0, 4.0, 5.0]))),
            "node 1: the value -2 is outside the support of Poisson",
        ),
    }


@pytest.mark.parametrize("name", refusals())
def test_refusals(name):
    declare, message = refusals()[name]
    with pytest.raises(ValueError, match=message):
        declare()


def test_functions_of_too_many_arguments_are_refused():
    with pytest.raises(TypeError, match="an agent's state alone"):
        mjp.EachAgent(lambda s, c: dist.Normal(s, c["error"]))
    with pytest.raises(TypeError, match="with indexed=True its number"):
        mjp.LocalEmissions(lambda s, c: dist.Normal(s[0], c["error"]), [(0, 1)])
    chain = mjp.chain(mjp.MarkovChain(MOVES), TIMES, initial=FIRST)
    with pytest.raises(TypeError, match="got a function of 3 arguments"):
        chain.observe_each(lambda s, c, t: dist.Poisson(1.0), COUNTS)
