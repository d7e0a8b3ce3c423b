"""Particle filters and particle Gibbs of agents in discrete time, against enumeration of all states."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import NUTS, Gibbs
from observed_agents import (
    DURATION,
    FIRST,
    RATES,
    SURE,
    VALUES,
    K,
    N,
    T,
    check_marginals,
    directed,
    influence,
    likelihood,
    observe,
)
from particle_truth import Enumerated, sirs_step

import mjp
from mjp.inference import AgentParticleGibbs
from mjp.inference.agent_particles import particle_sweep, run
from mjp.inference.particle_chain import evaluate
from mjp.inference.particle_guides import no_guide

STEPS = 2
PARTICLES = 8


def epidemic(network, **rates):
    return mjp.InteractingParticles.sirs(network, **{**RATES, **rates}, weight="weight")


def seen_in_every_way(**options):
    process, first = epidemic(directed()), dist.Categorical(jnp.asarray(FIRST))
    return observe(mjp.chain(process, DURATION * np.arange(T), initial=first, steps=STEPS, **options))


def enumerated():
    step = sirs_step(influence(directed()), *RATES.values(), DURATION / STEPS)
    return Enumerated(N, K, step, FIRST, T, likelihood, steps=STEPS)


def pieces(graph, auxiliary):
    """The evaluated graph and its guide, one that knows nothing for None."""
    if auxiliary is None:
        model = evaluate(graph)
        return model, no_guide(model)
    guided = mjp.condition(graph, auxiliary=auxiliary)
    return guided.model, guided.guide


def check_unbiased(model, guide, guided, truth, largest):
    """exp of 2000 log-evidences averages to the truth, within four standard errors, which are small."""
    keys = jax.random.split(jax.random.key(1), 2000)
    one = lambda key: run(model, guide, key, PARTICLES, guided).log_evidence
    ratio = np.exp(np.asarray(lax.map(one, keys, batch_size=500)) - truth)
    error = ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))
    assert np.all(error > 1e-6)
    assert np.all(np.abs(ratio.mean(axis=0) - 1) < 4 * error)
    assert np.all(error < largest)


@pytest.mark.parametrize(
    ("auxiliary", "largest"), [("mean field", 0.05), ("projected", 0.05), ("shares", 0.1), (None, 0.2)]
)
def test_the_evidence_is_unbiased(auxiliary, largest):
    """Whatever the guide, one that is frozen at shares of the states and none at all among them."""
    truth = enumerated().log_evidence
    shares = np.full((STEPS * (T - 1) + 1, N, K), 1 / 3)
    model, guide = pieces(seen_in_every_way(), shares if auxiliary == "shares" else auxiliary)
    check_unbiased(model, guide, auxiliary is not None, truth, largest)


def test_series_are_filtered_each_on_its_own():
    """Two series with other data, one resampled where the other is not; totals and agents are seen."""
    step = sirs_step(influence(directed()), *RATES.values(), DURATION)
    totals = np.array([[np.nan, 1.0, np.nan, 3.0, 0.0], [np.nan, np.nan, 4.0, np.nan, 2.0]])
    process = epidemic(directed())
    first = dist.Categorical(jnp.asarray(FIRST))
    chain = mjp.chain(process, DURATION * np.arange(T), initial=first, series=2)
    chain.observe_each(lambda x: dist.Poisson(x["I"] + 0.1), totals)
    truth = []
    for row in totals:
        seen = lambda t, c, row=row: (
            1.0 if np.isnan(row[t]) else float(np.exp(dist.Poisson(np.sum(c == 1) + 0.1).log_prob(row[t])))
        )
        truth.append(Enumerated(N, K, step, FIRST, T, seen).log_evidence)
    check_unbiased(*pieces(chain, "mean field"), True, np.array(truth), 0.05)


@pytest.mark.parametrize("auxiliary", ["localised", None])
def test_factorial_chains(auxiliary):
    """Three chains seen two by two, where the guide takes account of what is seen together."""
    values = np.array([[np.nan, np.nan], [0.4, 1.9], [1.1, np.nan], [2.2, 0.3]])

    def chain():
        lanes = mjp.chain(mjp.FactorialChain([[0.4, 0.6], [0.8, 0.2]], n=3), range(4), initial=[0, 1, 0])
        emissions = mjp.LocalEmissions(lambda x: dist.Normal(x[0] + x[1], 0.6), [(0, 1), (1, 2)])
        return lanes.observe_each(emissions, values)

    truth = mjp.condition(chain())
    assert truth.exact
    model, guide = pieces(chain(), auxiliary)
    check_unbiased(model, guide, auxiliary is not None, float(truth.log_evidence), 0.06)
    found = mjp.smc(chain(), jax.random.key(0), 500, guided=auxiliary is not None)
    assert abs(found.log_evidence - truth.log_evidence) < 0.3


def test_an_exact_guide_leaves_all_weights_equal():
    chain = mjp.chain(
        mjp.InteractingParticles.sirs(nx.empty_graph(N), **RATES),
        DURATION * np.arange(T),
        initial=dist.Categorical(jnp.asarray(FIRST)),
        steps=STEPS,
    )
    chain.observe_each(mjp.Exactly(), SURE)
    chain.observe_each(mjp.EachAgent(lambda state: dist.Normal(0.5 * state, 0.4)), VALUES)
    found = mjp.smc(chain, jax.random.key(0), 5)
    np.testing.assert_allclose(found.log_evidence, mjp.condition(chain).log_evidence, rtol=1e-12)
    np.testing.assert_allclose(found.ess, 5.0)
    assert found.path.labels(T - 1)[0] == "R"


@pytest.mark.parametrize("auxiliary", ["mean field", None])
def test_sweeps_that_keep_a_path_have_the_enumerated_law(auxiliary):
    """Every marginal and two neighbours together, to 4 standard errors of a chain of sweeps."""
    model, guide = pieces(seen_in_every_way(), auxiliary)

    def sweep(path, key):
        swept = particle_sweep(model, guide, key, PARTICLES, path, guided=auxiliary is not None)
        return swept.path, (swept.path[::STEPS], swept.renewed)

    start = run(model, guide, jax.random.key(0), 50, auxiliary is not None).path
    keys = jax.random.split(jax.random.key(1), 8000)
    _, (paths, renewed) = jax.jit(lambda path: lax.scan(sweep, path, keys))(start)
    check_marginals(np.asarray(paths), enumerated(), 40)
    assert float(renewed.mean()) > 0.3


def test_spins_that_hold_each_other():
    """A ring that turns as a whole: agents drawn one after the other hardly ever would turn it."""
    n, steps, coupling = 5, 12, 1.0
    values = np.full((steps, n), np.nan)
    values[0, 0], values[-1, 2] = 1.0, 0.4
    spins = mjp.InteractingParticles.ising(nx.cycle_graph(n), coupling, 0.0)
    chain = mjp.chain(spins, range(steps), initial=dist.Categorical(jnp.full(2, 0.5)))
    chain.observe_each(mjp.EachAgent(lambda state: dist.Normal(1.0 * state, 0.5)), values)
    ring = nx.to_numpy_array(nx.cycle_graph(n))

    def step(states):
        up = 1 / (1 + np.exp(-2 * coupling * (ring @ (2 * states - 1))))
        return np.stack([1 - up, up], axis=1)

    def seen(t, c):
        return np.exp(-2 * np.nansum((values[t] - c) ** 2)) * (2 / np.pi) ** (0.5 * (t in (0, steps - 1)))

    truth = Enumerated(n, 2, step, np.full((n, 2), 0.5), steps, seen)
    model, guide = pieces(chain, "mean field")

    def sweep(path, key):
        path = particle_sweep(model, guide, key, 30, path).path
        return path, path

    start = run(model, guide, jax.random.key(0), 50).path
    _, paths = jax.jit(lambda p: lax.scan(sweep, p, jax.random.split(jax.random.key(1), 4000)))(start)
    for time in (0, 6, 11):
        mostly_up = np.asarray(paths[:, time].sum(axis=1) > 2, float)
        error = mostly_up.std() / np.sqrt(effective_sample_size(mostly_up.reshape(4, -1)))
        assert error < 0.02
        assert abs(mostly_up.mean() - truth.probability(time, lambda c: sum(c) > 2)) < 4 * error


# ------------------------------------------------------------------------------------ the kernel


def rates():
    infection = numpyro.sample("infection", dist.LogNormal(0.0, 0.5))
    process = epidemic(directed(), infection=infection)
    chain = mjp.chain(process, DURATION * np.arange(T), initial=dist.Categorical(jnp.asarray(FIRST)))
    mjp.sample("flu", observe(chain))


def test_the_guide_is_adapted_during_warm_up_only():
    """What the guide takes neighbours for becomes the posterior mean of their states, and stays."""
    known = numpyro.handlers.substitute(rates, {"infection": RATES["infection"]})
    kernel = AgentParticleGibbs(known, particles=10)
    state = kernel.init(jax.random.key(0), 400, None, (), {})
    step = lambda state, _: (kernel.sample(state, (), {}), state.means["flu.path"])
    after, means = jax.jit(lambda state: lax.scan(step, state, length=500))(state)
    assert means.shape == (500, T, K, N)
    assert np.all(np.ptp(means[400:], axis=0) == 0)
    assert np.max(np.abs(means[399] - means[0])) > 0.05
    np.testing.assert_allclose(means.sum(axis=2), 1.0)
    one = sirs_step(influence(directed()), *RATES.values(), DURATION)
    truth = Enumerated(N, K, one, FIRST, T, likelihood)
    for time in range(T):
        for agent in range(N):
            p = [truth.probability(time, lambda c, a=agent, s=s: c[a] == s) for s in range(K)]
            np.testing.assert_allclose(means[-1, time, :, agent], p, atol=0.15)
    assert 0 < float(after.particle_ess) <= 1
    assert 0 < float(after.moved) < 1


def test_as_an_engine(tmp_path):
    """The posterior mean of the rate is that of the engine that moves agents one by one."""
    kernel = Gibbs([(AgentParticleGibbs(rates, particles=10), ["flu.path"]), (NUTS(rates), ["infection"])])
    options = {"draws": 500, "warmup": 200, "chains": 2, "progress": False}
    fits = [mjp.fit(rates, engine=kernel, **options), mjp.fit(rates, **options)]
    logs = [np.log(fit.samples["infection"]) for fit in fits]
    assert abs(logs[0].mean() - logs[1].mean()) < 0.2
    assert float(fits[0].data["sample_stats"]["paths_moved"].mean()) > 0.1
    page = fits[0].report(tmp_path / "report.html").read_text()
    assert "could not be made" not in page
    assert "steps at which the kept path got another past" in page


# ------------------------------------------------------------------------------------- bad input


def test_what_does_not_fit_is_refused():
    chain = seen_in_every_way()
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="guided must be True or False for agents, got 'resampling'"):
        mjp.smc(chain, key, 10, guided="resampling")
    with pytest.raises(TypeError, match="bootstrap filter of agents has no options, got auxiliary"):
        mjp.smc(chain, key, 10, guided=False, auxiliary="projected")
    with pytest.raises(ValueError, match="particles"):
        mjp.smc(chain, key, 1)
    flu = mjp.InteractingJumps.sis(directed(), 0.3, 0.4, external=0.1)
    with pytest.raises(
        TypeError, match="InteractingParticles or FactorialChain, got a graph of jumping particles"
    ):
        mjp.smc(mjp.chain(flu, range(3), initial=["S"] * N), key, 10)
    with pytest.raises(ValueError, match="guide must be one of"):
        AgentParticleGibbs(rates, guide="frozen")
    with pytest.raises(ValueError, match="model has no interacting particles"):
        AgentParticleGibbs(lambda: None).init(key, 0, None, (), {})
    with pytest.raises(ValueError, match=r"auxiliary must be .* shape \(9, 4\), or .* \(9, 4, 3\)"):
        mjp.condition(chain, auxiliary=np.ones((T, N, K)) / 3)
    with pytest.raises(ValueError, match="auxiliary: shares of the states must add up to one"):
        mjp.condition(chain, auxiliary=np.ones((STEPS * (T - 1) + 1, N, K)))


def test_data_that_no_particle_reaches_are_named():
    process = mjp.InteractingParticles.sir(nx.path_graph(2), 1.0, 0.5)
    chain = mjp.chain(process, range(4), initial=["S", "S"])
    rows = [[None] * 2, [None] * 2, ["I", None], [None] * 2]
    with pytest.raises(RuntimeError, match="none of 20 particles is alive after node 2"):
        mjp.smc(chain.observe_each(mjp.Exactly(), rows), jax.random.key(0), 20, guided=False)
