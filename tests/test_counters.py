"""Species that count events since the node before: new cases, catches, photons."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC
from scipy.linalg import expm
from scipy.stats import poisson

import mjp
from mjp.inference import ParticleGibbs
from mjp.inference.path_law import PathLaw, pack

CONTACT, RECOVERY = 0.25, 0.4
REACTIONS = [("S + I -> 2 I + new", CONTACT), ("I -> R", RECOVERY)]
FIRST = {"S": 6, "I": 2, "R": 0}
TIMES = np.arange(4.0)
CASES = np.array([np.nan, 2.0, 0.0, 4.0])


def cases_of(x):
    return dist.Poisson(0.8 * x["new"] + 0.1)


def reported(cases=CASES, **options):
    network = mjp.ReactionNetwork(REACTIONS, counters=["new"])
    chain = mjp.chain(network, TIMES, initial=FIRST, **options)
    return chain.observe_each(cases_of, cases)


def exactly(contact=(CONTACT,) * 3):
    """Evidence, and mean of new cases on every edge, on the 42 states of the network that counts on and on.

    Args:
        contact: rate on every edge.
    """
    laws, steps = [], []
    states = None
    for rate in contact:
        whole = mjp.ReactionNetwork([("S + I -> 2 I + new", rate), ("I -> R", RECOVERY)])
        process, states = whole.truncated({**FIRST, "new": 0})
        steps.append(expm(np.asarray(process.generator({}))[0]))
    fresh = states[:, 0][:, None] - states[:, 0][None]  # those who were infected are no longer susceptible
    law, evidence = np.eye(len(states))[0], 0.0
    for step, cases in zip(steps, CASES[1:], strict=True):
        joint = (
            law[:, None]
            * step
            * np.where(fresh >= 0, poisson.pmf(cases, 0.8 * np.maximum(fresh, 0) + 0.1), 0)
        )
        evidence += np.log(joint.sum())
        law = joint.sum(axis=0) / joint.sum()
        laws.append(joint / joint.sum())
    ahead = np.ones(len(states))
    means = np.zeros(len(steps))
    for i in range(len(steps) - 1, -1, -1):
        smoothed = laws[i] * ahead
        means[i] = np.sum(smoothed * fresh) / np.sum(smoothed)
        likelihood = np.where(fresh >= 0, poisson.pmf(CASES[i + 1], 0.8 * np.maximum(fresh, 0) + 0.1), 0)
        ahead = (steps[i] * likelihood) @ ahead
    return evidence, means


def test_simulated_counters_begin_anew():
    many = mjp.simulate(reported(None), jax.random.key(0), replicates=4000)
    susceptible, new = many.values[..., 0], many.values[..., many.species.index("new")]
    np.testing.assert_array_equal(new[:, 1:], -np.diff(susceptible, axis=1))
    assert np.all(new[:, 0] == 0)
    one = mjp.simulate(reported(None), jax.random.key(1))
    at_nodes = np.asarray(one.values)[:, one.species.index("new")]
    for i in range(3):
        path = one.edge(i, i + 1)
        assert path.values[0, path.species.index("new")] == 0
        assert path.values[-1, path.species.index("new")] == at_nodes[i + 1] == path.fired[0]


def test_paths_in_time_count_since_the_last_node():
    """At the nodes themselves they agree with what the nodes say; within an edge, with its own path."""
    path = mjp.simulate(reported(None, series=2), jax.random.key(2))
    new = path.species.index("new")
    at_nodes = np.asarray(path.values)[:, new].reshape(2, 4)
    np.testing.assert_array_equal(path.at(TIMES)[..., new], at_nodes)
    within = path.at(np.array([0.5, 1.7]))[..., new]
    for series in range(2):
        for i, time in enumerate([0.5, 0.7]):
            own = path.edge((series, i), (series, i + 1))
            assert within[series, i] == own.at(i + time)[new]
    np.testing.assert_array_equal(path.at(TIMES)[..., 0], np.asarray(path.values)[:, 0].reshape(2, 4))


@pytest.mark.parametrize("guided", [True, False, "resampling"])
def test_the_evidence_of_particle_filters_is_exact(guided):
    expected, _ = exactly()
    graph, keys = reported(), jax.random.split(jax.random.key(0), 40)
    found = [float(mjp.smc(graph, key, 300, guided=guided).log_evidence[0]) for key in keys]
    ratios = np.exp(np.array(found) - expected)
    assert abs(ratios.mean() - 1.0) < 4 * ratios.std() / np.sqrt(len(ratios))
    assert ratios.std() < 0.5


def test_the_evidence_of_guided_paths_is_exact():
    """With rates that change within edges, which cuts them, and that do not begin anew there."""
    expected, _ = exactly()
    found = mjp.evidence(reported(), jax.random.key(0), 10_000)
    assert abs(float(found.log_evidence[()]) - expected) < 4 * float(found.standard_error[()])
    assert float(found.ess[()]) > 4000
    cut = mjp.chain(
        mjp.ReactionNetwork(
            [("S + I -> 2 I + new", [CONTACT] * 3), ("I -> R", RECOVERY)], breaks=[0.5, 1.5], counters=["new"]
        ),
        TIMES,
        initial=FIRST,
    ).observe_each(cases_of, CASES)
    found = mjp.evidence(cut, jax.random.key(1), 10_000)
    assert abs(float(found.log_evidence[()]) - expected) < 4 * float(found.standard_error[()])
    assert float(found.ess[()]) > 3000


def test_the_weight_of_a_path_comes_from_its_edges():
    guided = mjp.condition(reported())
    path, log_weight = guided.sample(jax.random.key(3))
    np.testing.assert_allclose(jnp.sum(guided.weights_by_segment(path)), log_weight, rtol=1e-8)


def test_the_law_of_paths():
    """That of the network which counts on and on, whose counter nobody sees."""
    law = PathLaw(reported(), 32)
    on_and_on = mjp.chain(mjp.ReactionNetwork(REACTIONS), TIMES, initial={**FIRST, "new": 0})
    path = mjp.simulate(reported(None), jax.random.key(4), max_events=32)
    value = pack(path.paths.times[:, :32], path.paths.reactions[:, :32])
    np.testing.assert_allclose(law.log_prob(value), PathLaw(on_and_on, 32).log_prob(value), rtol=1e-12)
    np.testing.assert_array_equal(law.nodes(value), path.values)
    np.testing.assert_array_equal(law.trajectory(value).values, path.values)
    drawn = law.trajectory(law.sample(jax.random.key(5)))
    new = drawn.values[:, drawn.species.index("new")]
    np.testing.assert_array_equal(new[1:], -np.diff(drawn.values[:, 0]))


def test_particle_gibbs_has_the_exact_mean():
    """New cases on every edge given the reports, within 5 standard errors of 3000 draws."""

    def model(cases):
        mjp.sample("x", reported(cases), max_events=32)

    mcmc = MCMC(ParticleGibbs(model, particles=15), num_warmup=100, num_samples=3000, progress_bar=False)
    mcmc.run(jax.random.key(0), CASES)
    new = np.asarray(jax.vmap(PathLaw(reported(), 32).nodes)(mcmc.get_samples()["x.path"]))[:, 1:, 2]
    ess = numpyro.diagnostics.effective_sample_size(new[None])
    error = new.std(axis=0) / np.sqrt(ess)
    assert np.all(np.abs(new.mean(axis=0) - exactly()[1]) < 5 * error)
    assert np.all(error < 0.1)


def test_refusals():
    for counters, message in (
        (["cases"], "'cases' is not a species"),
        (["I"], "needs 'I', but counters only count"),
        (["new", "deaths"], "no reaction adds to 'deaths'"),
    ):
        with pytest.raises(ValueError, match=message):
            mjp.ReactionNetwork(REACTIONS, ["S", "I", "R", "new", "deaths"], counters=counters)
    counting = mjp.ReactionNetwork(REACTIONS, counters=["new"])
    np.testing.assert_array_equal(counting.conservation_laws, [[1, 1, 0, 1]])
    with pytest.raises(ValueError, match="the counter 'new' has counted nothing yet"):
        mjp.chain(counting, TIMES, initial={**FIRST, "new": 3})
    with pytest.raises(TypeError, match="counters must be a list"):
        mjp.ReactionNetwork(REACTIONS, counters="new")
    with pytest.raises(ValueError, match="the counter 'new' begins anew at every node"):
        mjp.ReactionNetwork(REACTIONS, counters=["new"]).truncated(FIRST)
    drift = mjp.LinearDiffusion(np.zeros((4, 4)), np.zeros(4), np.eye(4))
    with pytest.raises(ValueError, match="counters begin anew at nodes"):
        mjp.condition(reported(), auxiliary=drift)
    g = mjp.Graph().root("a", FIRST).edge("a", "b", mjp.ReactionNetwork(REACTIONS, counters=["new"]))
    g.edge("b", "c", mjp.ReactionNetwork(REACTIONS))
    with pytest.raises(ValueError, match="must have the same counters"):
        mjp.simulate(g, jax.random.key(0))
