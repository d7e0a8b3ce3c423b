"""A few interacting agents beside other families: chains on the states of all of them together."""

import itertools

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from observed_agents import DURATION, FIRST, RATES, STATES, K, N, T, directed, influence, likelihood, observe
from particle_truth import Enumerated, EnumeratedInTime, sirs_step
from scipy.stats import binom, norm

import mjp

PAIR = nx.path_graph(2)


def beside_a_vector(chain):
    """The graph with a vector that has nothing to do with it, so that it mixes families."""
    return chain.root("x", dist.Normal(0.0, 1.0)).edge("x", "y", mjp.LinearGaussian(0.5, 0.0, 1.0))


@pytest.mark.parametrize("steps", [1, 2])
def test_agents_in_steps_are_exact(steps):
    """Seen in every way there is; against enumeration of all configurations."""
    process = mjp.InteractingParticles.sirs(directed(), **RATES, weight="weight")
    chain = mjp.chain(
        process, DURATION * np.arange(T), initial=dist.Categorical(jnp.asarray(FIRST)), steps=steps
    )
    guided = mjp.condition(beside_a_vector(observe(chain)))
    step = sirs_step(influence(directed()), *RATES.values(), DURATION / steps)
    truth = Enumerated(N, K, step, FIRST, T, lambda t, c: likelihood(t, c, True), steps=steps)
    assert guided.exact
    np.testing.assert_allclose(guided.log_evidence, truth.log_evidence, rtol=1e-9)


def test_agents_in_continuous_time_are_exact():
    contacts, times = influence(directed()), np.array([0.0, 0.4, 1.0, 1.5, 2.5])

    def rates(configuration, _):
        into = np.zeros((N, K))
        force = RATES["infection"] * contacts @ (configuration == 1) + RATES["external"]
        into[configuration == 0, 1] = force[configuration == 0]
        into[configuration == 1, 2] = RATES["recovery"]
        into[configuration == 2, 0] = RATES["waning"]
        return into

    process = mjp.InteractingJumps.sirs(directed(), **RATES, weight="weight")
    chain = mjp.chain(process, times, initial=dist.Categorical(jnp.asarray(FIRST)))
    guided = mjp.condition(beside_a_vector(observe(chain)))
    truth = EnumeratedInTime(N, K, rates, FIRST, times, lambda t, c: likelihood(t, c, True))
    np.testing.assert_allclose(guided.log_evidence, truth.log_evidence, rtol=1e-9)


def test_rules_read_parameters_and_covariates():
    def joins(neighbours, at):
        return {("out", "in"): 1 - jnp.exp(-at["push"] * at["season"] * (0.2 + neighbours["in"]))}

    season, push = np.array([1.0, 2.0, 1.0]), np.array([0.3, 0.8])
    process = mjp.InteractingParticles(PAIR, joins, ["out", "in"], parameters={"push": push})
    chain = mjp.chain(process, range(4), initial=["in", "out"], covariates={"season": season})
    chain.observe_each(mjp.Exactly(), [[None, None], ["in", "out"], [None, None], ["in", "in"]])
    stays = [np.exp(-push[1] * s * 1.2) for s in season]
    expected = np.log(stays[0] * (1 - stays[1] * stays[2]))
    np.testing.assert_allclose(mjp.condition(beside_a_vector(chain)).log_evidence, expected, rtol=1e-6)


def test_factorial_chains_and_local_emissions():
    process = mjp.FactorialChain([[0.4, 0.6], [0.8, 0.2]], n=3)
    scopes = [(0, 1), (2, 1)]
    values = np.array([[np.nan, np.nan], [0.3, 1.2], [np.nan, 0.4]])
    declare = lambda: mjp.chain(process, range(3), initial=[0, 1, 0]).observe_each(
        mjp.LocalEmissions(lambda x: dist.Normal(x[0] - 0.5 * x[1], 0.7), scopes), values
    )
    alone, mixed = mjp.condition(declare()), mjp.condition(beside_a_vector(declare()))
    np.testing.assert_allclose(mixed.log_evidence, jnp.squeeze(alone.log_evidence), rtol=1e-6)


WARMTH, NOISE, HOURS = 0.6, 0.3, 3


def household(infection, gauge, seen):
    """Two people, a temperature that follows how many of them are ill, and reports of both together."""
    people = mjp.InteractingParticles.sir(PAIR, infection, 0.5, external=0.1)
    heat = mjp.ConditionalGaussian(lambda x, who: 0.5 * x + WARMTH * who["I"], 0.1)
    g = mjp.Graph().root(("who", 0), ["I", "S"]).root(("heat", 0), dist.Normal(0.0, 0.5))
    for t in range(1, HOURS + 1):
        g.edge(("who", t - 1), ("who", t), people).edge((("heat", t - 1), ("who", t)), ("heat", t), heat)
        g.observe(("heat", t), lambda x: dist.Normal(x[0], NOISE), gauge[t - 1])
        g.observe(("who", t), lambda who: dist.Binomial(who["I"], 0.8), seen[t - 1])
    mixed = lambda who, x: dist.Normal(x[0] + who["S"], 1.0)
    return g.observe((("who", HOURS), ("heat", HOURS)), mixed, 0.4)


GAUGE, SEEN = np.array([0.9, 0.8, 0.3]), np.array([1.0, np.nan, 0.0])


def by_enumeration(infection):
    """All paths of both people, times the normal law of the temperature and its records."""
    states = list(itertools.product(range(3), repeat=2))

    def step(a, b):
        p = 1.0
        for i in range(2):
            infected = 1 - np.exp(-(infection * (a[1 - i] == 1) + 0.1))
            row = [[1 - infected, infected, 0], [0, np.exp(-0.5), 1 - np.exp(-0.5)], [0, 0, 1]][a[i]]
            p *= row[b[i]]
        return p

    total = 0.0
    for path in itertools.product(states, repeat=HOURS):
        law = np.prod([step(a, b) for a, b in itertools.pairwise([(1, 0), *path])])
        ill = np.array([who.count(1) for who in path])
        known = ~np.isnan(SEEN)
        law *= np.prod(binom.pmf(SEEN[known], ill[known], 0.8))
        if law == 0:
            continue
        mean, variance, density = 0.0, 0.25, 1.0
        for t in range(HOURS):
            mean, variance = 0.5 * mean + WARMTH * ill[t], 0.25 * variance + 0.1
            spread = variance + NOISE**2
            density *= norm.pdf(GAUGE[t], mean, np.sqrt(spread))
            mean, variance = mean + variance / spread * (GAUGE[t] - mean), variance * NOISE**2 / spread
        density *= norm.pdf(0.4, mean + path[-1].count(0), np.sqrt(variance + 1.0))
        total += law * density
    return np.log(total)


def test_agents_that_drive_a_vector():
    graph = household(0.7, GAUGE, SEEN)
    found = mjp.evidence(graph, jax.random.key(0), 4000)
    assert abs(float(found.log_evidence[()]) - by_enumeration(0.7)) < 4 * float(found.standard_error[()])
    assert float(found.ess[()]) > 1000
    path, _ = mjp.condition(graph).sample(jax.random.key(1))
    label = path.label(("who", 1))
    assert isinstance(label, tuple)
    assert set(label) <= set(STATES)


def test_simulation_beside_other_families():
    """Means of the temperature and of the number of the ill, 4 standard errors of 2000 draws."""
    graph = household(0.7, [None] * HOURS, [None] * HOURS)
    draws = jax.jit(jax.vmap(lambda key: mjp.simulate(graph, key)))(jax.random.split(jax.random.key(0), 2000))
    space = list(itertools.product(range(3), repeat=2))
    ill = np.array([pair.count(1) for pair in space])[np.asarray(draws["who", 1])]
    both = np.exp(-0.5) + 1 - np.exp(-0.8)
    assert abs(ill.mean() - both) < 4 * ill.std() / np.sqrt(2000)
    heat = np.asarray(draws["heat", 1])[:, 0]
    assert abs(heat.mean() - WARMTH * both) < 4 * heat.std() / np.sqrt(2000)
    alone = beside_a_vector(
        observe(
            mjp.chain(
                mjp.InteractingParticles.sirs(directed(), **RATES), range(T), initial=["I", "S", "S", "R"]
            )
        )
    )
    seen = mjp.simulate(alone, jax.random.key(2)).observations
    assert [values.shape for values in seen] == [(T, N), (T,), (T, N), (T,)]


def test_a_model_of_a_household():
    """The path is a site of innovations."""

    def model(gauge):
        infection = numpyro.sample("infection", dist.LogNormal(0.0, 0.5))
        mjp.sample("home", household(infection, gauge, SEEN))

    sites = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace(GAUGE)
    assert sites["home.innovations"]["value"].ndim == 1


@pytest.mark.parametrize("what", ["evidence", pytest.param("weight", marks=pytest.mark.slow)])
def test_gradients_where_all_paths_of_some_states_are_impossible(what):
    """Of people who are immune, nobody is ill: their states cannot lead to what was seen."""

    def value(infection):
        guided = mjp.condition(household(infection, GAUGE, SEEN))
        z = {name: 0.3 * jnp.ones(shape) for name, shape in guided.innovations.items()}
        return jnp.squeeze(guided.log_evidence if what == "evidence" else guided.push(z)[1])

    value = jax.jit(value)
    slope = (value(0.7 + 1e-5) - value(0.7 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(value)(0.7), slope, rtol=1e-4)


def test_refusals():
    crowd = mjp.InteractingParticles.sir(nx.cycle_graph(7), 0.5, 0.5)
    chain = mjp.chain(crowd, range(3), initial=["I"] + ["S"] * 6)
    with pytest.raises(ValueError, match="7 agents of 3 states have more than 2000 states together"):
        mjp.condition(beside_a_vector(chain))
    pair = mjp.InteractingParticles.sir(PAIR, 0.5, 0.5)
    odd = beside_a_vector(mjp.chain(pair, range(2), initial=["I", "S"]))
    odd.observe(1, mjp.Exactly(), ["I", "X"])
    with pytest.raises(ValueError, match="node 1: unknown state 'X'"):
        mjp.condition(odd)
    wrong = beside_a_vector(mjp.chain(pair, range(2), initial=["I", "S"]))
    wrong.observe("y", mjp.EachAgent(lambda state: dist.Normal(state, 1.0)), [1.0, 2.0])
    with pytest.raises(TypeError, match=r"mjp.EachAgent is for agents, which node 'y' is not"):
        mjp.condition(wrong)
    two = mjp.Graph().root("a", ["I", "S"]).edge("a", "b", pair)
    two.edge("b", "c", mjp.InteractingParticles.sis(PAIR, 0.5, 0.5))
    with pytest.raises(ValueError, match=r"node 'b' holds 2 agents"):
        mjp.condition(beside_a_vector(two))
