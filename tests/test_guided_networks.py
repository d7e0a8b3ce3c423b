"""Guided jump paths of reaction networks, and particle filters made of them, against exact answers.

Law 2: the evidence of the guide times the mean weight is the likelihood, whatever the guide. The truth is a
closed form, or a forward recursion with SciPy's matrix exponentials on all states of the network.
"""

import warnings
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.linalg import expm
from scipy.stats import binom, nbinom, norm, poisson

import mjp
from mjp.inference import Towards
from mjp.inference.evidence import tail_shape
from mjp.inference.look_ahead import look_ahead
from mjp.inference.transition_probabilities import birth_death, immigration_death, pure_death
from mjp.inference.transition_probabilities import poisson as poisson_events

# some guides here are bad on purpose, or their tails just heavy enough to be told
pytestmark = pytest.mark.filterwarnings("ignore:the weights of the guided paths have a heavy tail")

NAN = np.nan
DEATH = [("X -> 0", 0.5)]
QUEUE = [("0 -> X", 6.0), ("X -> 0", 0.8)]
GROWTH = [("X -> 2 X", 1.1), ("X -> 0", 0.7)]
ENZYME = [("S + E -> ES", 5.0), ("ES -> S + E", 5.0), ("ES -> E + P", 3.0)]
ENDS = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])  # substrate and product


def truth(network, initial, times, likelihoods, **bounds):
    """Log-likelihood by a forward recursion on all states; `likelihoods` at the nodes map states to (n,)."""
    process, states = network.truncated(initial, **bounds)
    law = np.zeros(len(process.states))
    law[process.states.index(tuple(int(v) for v in initial))] = 1.0
    generators = np.asarray(process.generator({}))
    breaks = np.asarray(network.breaks)
    for k, likelihood in enumerate(likelihoods):
        if k:
            cuts = np.concatenate(
                [[times[k - 1]], breaks[(breaks > times[k - 1]) & (breaks < times[k])], [times[k]]]
            )
            for a, b in pairwise(cuts):
                law = law @ expm(generators[np.searchsorted(breaks, a, side="right")] * (b - a))
        if likelihood is not None:
            law[: len(states)] *= likelihood(states)
            law[len(states) :] = 0.0
    return np.log(law.sum())


def close(found, expected):
    """Within four standard errors, with weights whose error can be believed."""
    error = float(found.standard_error)
    assert 0 < error < 0.15
    assert abs(float(found.log_evidence) - expected) < 4 * error


def estimate(graph, n=2000, seed=0, max_events=128, **options):
    return mjp.evidence(graph, jax.random.key(seed), n, max_events=max_events, **options)


OWN_DIFFUSION = mjp.LinearDiffusion(-0.5, 0.0, 4.0)

# ----------------------------------------------------------------------------------- pure death


GUIDES = {
    "linear noise": "linear noise",
    "conditioned hazard": "conditioned hazard",
    "own": OWN_DIFFUSION,
    "closed form": Towards(pure_death(0.5), "X"),
    "wrong closed form": Towards(pure_death(0.7), "X"),
}


def death(observe, values, times=(0.0, 1.0), initial=50):
    graph = mjp.chain(mjp.ReactionNetwork(DEATH), times, initial=[initial])
    return graph.observe_each(observe, values)


@pytest.mark.parametrize("clip", [None, (-50.0, 50.0)], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("guide", ["linear noise", "conditioned hazard", "own"])
def test_death_seen_with_noise(guide, clip):
    graph = death(lambda x: dist.Normal(x["X"], 2.0), np.array([NAN, 27.0]))
    counts = np.arange(51)
    expected = np.log(binom.pmf(counts, 50, np.exp(-0.5)) @ norm.pdf(27.0, counts, 2.0))
    found = estimate(graph, auxiliary=GUIDES[guide], clip=clip, cells=30)
    close(found, expected)
    assert found.khat < 0.7


@pytest.mark.parametrize("guide", ["closed form", "wrong closed form", "conditioned hazard"])
@pytest.mark.parametrize("v", [22, 30])
def test_death_seen_exactly(guide, v):
    """The table of evidence and effective sample sizes in theory, §2.4.5."""
    graph = death(mjp.Exactly(), np.array([[NAN], [float(v)]]))
    found = estimate(graph, auxiliary=GUIDES[guide], cells=60)
    close(found, binom.logpmf(v, 50, np.exp(-0.5)))
    if guide == "closed form":
        assert float(found.ess) > 0.9 * 2000
        assert found.khat < 0.5
        assert 0.98 < found.hit_rate < 1
    if guide == "conditioned hazard":
        assert float(found.ess) > 0.35 * 2000
        assert 0.85 < found.hit_rate < 1
    assert not np.isnan(found.khat)


@pytest.mark.slow
def test_death_in_float32():
    with jax.enable_x64(False):
        graph = death(mjp.Exactly(), np.array([[NAN], [30.0]]))
        found = estimate(graph, auxiliary="conditioned hazard")
        assert found.log_evidence.dtype == jnp.float32
        close(found, binom.logpmf(30, 50, np.exp(-0.5)))
        particles = mjp.smc(graph, jax.random.key(1), 500, max_events=128)
        assert abs(float(particles.log_evidence[0]) - binom.logpmf(30, 50, np.exp(-0.5))) < 0.2
        noisy = death(lambda x: dist.Normal(x["X"], 2.0), np.array([NAN, 27.0]))
        counts = np.arange(51)
        expected = np.log(binom.pmf(counts, 50, np.exp(-0.5)) @ norm.pdf(27.0, counts, 2.0))
        close(estimate(noisy), expected)


def test_two_series_of_several_edges_with_gaps():
    """Every series has its own evidence; observations between are missing."""
    times = np.array([0.0, 0.4, 1.0, 1.7])
    values = np.array([[NAN, 41.0, NAN, 20.0], [NAN, NAN, 33.0, 22.0]])
    graph = mjp.chain(mjp.ReactionNetwork(DEATH), times, initial=[50], series=2)
    graph.observe_each(lambda x: dist.Poisson(x["X"] + 0.5), values)
    expected = [
        truth(
            mjp.ReactionNetwork(DEATH),
            [50],
            times,
            [None if np.isnan(y) else lambda s, y=y: poisson.pmf(y, s[:, 0] + 0.5) for y in row],
        )
        for row in values
    ]
    found = estimate(graph, auxiliary="conditioned hazard")
    assert found.log_evidence.shape == (2,)
    error = np.asarray(found.standard_error)
    np.testing.assert_array_less(np.abs(np.asarray(found.log_evidence) - expected), 4 * error)
    particles = mjp.smc(graph, jax.random.key(2), 400, max_events=128)
    np.testing.assert_allclose(particles.log_evidence, expected, atol=0.15)


@pytest.mark.parametrize("guide", ["linear noise", "conditioned hazard", "own"])
def test_weights_of_segments_add_up(guide):
    """Two series with gaps, a break within an edge; the terms tell where the guide is poor."""
    network = mjp.ReactionNetwork([("X -> 0", [0.5, 1.5])], breaks=[0.7])
    times, values = [0.0, 0.4, 1.0, 1.7], np.array([[NAN, 41.0, NAN, 20.0], [NAN, NAN, 33.0, 22.0]])
    graph = mjp.chain(network, times, initial=[50], series=2)
    graph.observe_each(lambda x: dist.Poisson(x["X"] + 0.5), values)
    guided = mjp.condition(graph, auxiliary=GUIDES[guide], max_events=64, cells=8)
    for key in jax.random.split(jax.random.key(0), 3):
        path, log_weight = guided.sample(key)
        terms = guided.weights_by_segment(path).reshape(2, 4)
        np.testing.assert_allclose(terms.sum(axis=1), log_weight, atol=1e-8)
        assert np.all(np.abs(terms[:, 1:]) > 1e-6)


def test_what_the_guide_expects_at_the_root_is_its_evidence():
    """Two series of several edges with gaps, and a tree: constants of potentials are whole."""
    network = mjp.ReactionNetwork([("X -> 0", [0.5, 1.5])], breaks=[0.7])
    chains = mjp.chain(network, [0.0, 0.4, 1.0, 1.7], initial=[50], series=2)
    seen = np.array([[NAN, 41.0, NAN, 20.0], [NAN, NAN, 33.0, 22.0]])
    tree = mjp.tree("((a:0.3,b:0.5)c:0.2)r;", mjp.ReactionNetwork([("X -> 0", 0.5)]), initial=[50])
    law = lambda x: dist.Poisson(x["X"] + 0.5)
    for graph, values in ((chains, seen), (tree, {"a": 41, "b": 33, "c": 44})):
        guided = mjp.condition(graph.observe_each(law, values), max_events=64, cells=8)
        model = guided.model
        above = np.flatnonzero(np.isin(model.pieces.parents, model.static.root_nodes))
        ahead = look_ahead(model, guided.guide)(jnp.asarray(above), model.roots[:, None])[:, 0]
        np.testing.assert_allclose(ahead, np.atleast_1d(guided.log_evidence), atol=1e-8)


# ------------------------------------------------------------------ closed forms of other networks


@pytest.mark.slow
def test_immigration_and_death_seen_exactly_with_gaps():
    network, times = mjp.ReactionNetwork(QUEUE), np.array([0.0, 0.5, 1.0, 1.6])
    graph = mjp.chain(network, times, initial=[10])
    graph.observe_each(mjp.Exactly(), np.array([[NAN], [9.0], [NAN], [7.0]]))
    exact = immigration_death(6.0, 0.8)
    expected = float(exact(10.0, 9.0, 0.5) + exact(9.0, 7.0, 1.1))
    kept, mean = np.exp(-0.4), 6.0 * (1 - np.exp(-0.4)) / 0.8
    law = np.convolve(binom.pmf(np.arange(11), 10, kept), poisson.pmf(np.arange(40), mean))
    assert abs(float(exact(10.0, 9.0, 0.5)) - np.log(law[9])) < 1e-9
    found = estimate(graph, n=500, max_events=32, auxiliary=Towards(exact, "X"), cells=100)
    close(found, expected)
    assert float(found.ess) > 0.9 * 500
    close(estimate(graph), expected)


@pytest.mark.slow
def test_birth_and_death_seen_exactly():
    graph = mjp.chain(mjp.ReactionNetwork(GROWTH), [0.0, 0.9], initial=[14])
    graph.observe_each(mjp.Exactly(), np.array([[NAN], [19.0]]))
    exact = birth_death(1.1, 0.7)
    expected = truth(
        mjp.ReactionNetwork(GROWTH), [14], [0.0, 0.9], [None, lambda s: s[:, 0] == 19], bounds={"X": 120}
    )
    assert abs(float(exact(14.0, 19.0, 0.9)) - expected) < 1e-6
    found = estimate(graph, n=500, auxiliary=Towards(exact, "X"), cells=100)
    close(found, expected)
    assert float(found.ess) > 0.9 * 500
    close(estimate(graph, n=4000, auxiliary="conditioned hazard"), expected)


def test_closed_forms_sum_to_one():
    v = jnp.arange(120.0)
    for law in (pure_death(0.5), immigration_death(6.0, 0.8), birth_death(1.1, 0.7), poisson_events(3.0)):
        for x in (0.0, 9.0):
            total = jnp.sum(jnp.exp(jax.vmap(lambda v, law=law, x=x: law(x, v, 0.7))(v)))
            assert abs(float(total) - 1) < 1e-6
    assert np.isnan(immigration_death(6.0, 0.8)(300.0, 280.0, 1.0))
    critical = birth_death(0.9, 0.9)
    near = birth_death(0.9, 0.9 + 1e-6)
    assert abs(float(critical(5.0, 4.0, 0.7) - near(5.0, 4.0, 0.7))) < 1e-4


@pytest.mark.parametrize(
    "guide", ["linear noise", pytest.param("conditioned hazard", marks=pytest.mark.slow)]
)
def test_rates_that_change_at_breaks(guide):
    network = mjp.ReactionNetwork(
        [("0 -> X", np.array([2.0, 14.0, 5.0])), ("X -> 0", 0.8)], breaks=[0.3, 1.2]
    )
    times, y = np.array([0.0, 0.8, 1.5]), np.array([NAN, 12.0, 15.0])
    graph = mjp.chain(network, times, initial=[10]).observe_each(lambda x: dist.Normal(x[0], 1.5), y)
    seen = [None if np.isnan(v) else lambda s, v=v: norm.pdf(v, s[:, 0], 1.5) for v in y]
    expected = truth(network, [10], times, seen, bounds={"X": 80})
    close(estimate(graph, auxiliary=guide), expected)
    assert abs(float(mjp.smc(graph, jax.random.key(0), 1000, max_events=64).log_evidence[0]) - expected) < 0.1


def test_roots_with_a_law():
    network = mjp.ReactionNetwork(DEATH)
    graph = mjp.chain(network, [0.0, 1.0], initial=dist.Poisson(jnp.array([30.0])).to_event(1))
    graph.observe_each(lambda x: dist.Normal(x["X"], 3.0), np.array([NAN, 20.0]))
    counts = np.arange(90)
    expected = np.log(poisson.pmf(counts, 30 * np.exp(-0.5)) @ norm.pdf(20.0, counts, 3.0))
    close(estimate(graph), expected)


# ----------------------------------------------------------------------------- enzyme kinetics

ENZYME_SEEN = {
    "noisy": (
        mjp.LinearGaussianObservation(ENDS, 0.8 * jnp.eye(2)),
        [[NAN, NAN], [2.0, 16.0], [1.0, 22.0]],
    ),
    "partial": (
        mjp.LinearGaussianObservation(ENDS, 0.8 * jnp.eye(2)),
        [[NAN, NAN], [3.0, NAN], [NAN, 21.0]],
    ),
    "exact": (
        mjp.LinearGaussianObservation(ENDS, jnp.zeros((2, 2))),
        [[NAN, NAN], [NAN, 16.0], [1.0, 21.0]],
    ),
}


def linearised_enzyme(at):
    """The chemical Langevin equation of the enzyme, linear around a state; here where fast reactions rest."""
    change = np.array([[-1, -1, 1, 0], [1, 1, -1, 0], [0, 1, -1, 1]])
    s, e, es, _ = at
    rates = np.array([5.0 * s * e, 5.0 * es, 3.0 * es])
    slopes = np.array([[5.0 * e, 5.0 * s, 0, 0], [0, 0, 5.0, 0], [0, 0, 3.0, 0]])
    matrix = change.T @ slopes
    return mjp.LinearDiffusion(matrix, change.T @ rates - matrix @ at, change.T * np.sqrt(rates))


ENZYME_GUIDES = {
    "linear noise": "linear noise",
    "conditioned hazard": "conditioned hazard",
    "own": linearised_enzyme(np.array([6.0, 4.0, 16.0, 10.0])),
}


def enzyme(kind):
    network = mjp.ReactionNetwork(ENZYME, ["S", "E", "ES", "P"])
    likelihood, values = ENZYME_SEEN[kind]
    times, initial = [0.0, 0.15, 0.3], [12, 10, 10, 10]
    graph = mjp.chain(network, times, initial=initial).observe_each(likelihood, np.array(values))

    def density(row):
        def at(states):
            total = np.ones(len(states))
            for value, column in zip(row, (states[:, 0], states[:, 3]), strict=True):
                if not np.isnan(value):
                    sure = kind == "exact"
                    total *= (column == value) if sure else norm.pdf(value, column, np.sqrt(0.8))
            return total

        return at

    return graph, truth(network, initial, times, [density(row) for row in values])


QUICK = {("exact", "conditioned hazard")}


@pytest.mark.parametrize(
    ("kind", "guide"),
    [
        (kind, guide) if (kind, guide) in QUICK else pytest.param(kind, guide, marks=pytest.mark.slow)
        for kind in ENZYME_SEEN
        for guide in ENZYME_GUIDES
    ],
)
def test_enzyme_kinetics_against_its_273_states(kind, guide):
    graph, expected = enzyme(kind)
    found = estimate(graph, n=4000, max_events=256, auxiliary=ENZYME_GUIDES[guide])
    if (kind, guide) == ("noisy", "conditioned hazard"):
        # it takes the fast reactions as they go now until the next observation; that shows in the tail
        assert float(found.khat) > 0.7
        assert abs(float(found.log_evidence) - expected) < 4 * float(found.standard_error)
        return
    close(found, expected)


def test_a_closed_form_beside_a_guide_for_the_rest():
    """X decays to Y: X is seen exactly, Y with noise, and the product guides both."""
    network, times = mjp.ReactionNetwork([("X -> Y", 0.5), ("Y -> 0", 0.8)]), [0.0, 1.0]
    graph = mjp.chain(network, times, initial=[20, 3])
    graph.observe_each(mjp.Exactly(), np.array([[NAN, NAN], [10.0, NAN]]))
    graph.observe_each(lambda x: dist.Normal(x["Y"], 1.0), np.array([NAN, 9.0]))
    seen = lambda s: (s[:, 0] == 10) * norm.pdf(9.0, s[:, 1], 1.0)
    expected = truth(network, [20, 3], times, [None, seen])
    found = estimate(graph, auxiliary=("linear noise", Towards(pure_death(0.5), "X")), cells=40)
    close(found, expected)
    # guides that pull twice towards one exact count leave one or two effective paths in a hundred
    assert float(found.ess) > 0.1 * 2000


# --------------------------------------------------------------------------- particle filters


@pytest.mark.slow
def test_particle_filters_are_unbiased():
    times = np.linspace(0.0, 1.5, 6)
    y = np.array([NAN, 40.0, NAN, 33.0, 30.0, 20.0])
    graph = death(lambda x: dist.Normal(x["X"], 2.0), y, times)
    seen = [None if np.isnan(v) else lambda s, v=v: norm.pdf(v, s[:, 0], 2.0) for v in y]
    expected = truth(mjp.ReactionNetwork(DEATH), [50], times, seen)
    for guide in ("linear noise", "conditioned hazard"):
        guided = mjp.condition(graph, auxiliary=guide, max_events=64, cells=8)
        run = eqx.filter_jit(
            lambda guided, keys: jax.lax.map(
                lambda key: mjp.inference.guided_smc.run(guided, key, 10).log_evidence, keys
            )
        )
        ratio = np.exp(np.asarray(run(guided, jax.random.split(jax.random.key(0), 600)))[:, 0] - expected)
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(len(ratio))


def test_exact_guides_give_equal_weights():
    times = np.linspace(0.0, 1.2, 4)
    values = np.array([[NAN], [41.0], [34.0], [30.0]])
    graph = death(mjp.Exactly(), values, times)
    expected = np.sum(binom.logpmf([41, 34, 30], [50, 41, 34], np.exp(-0.5 * np.diff(times))))
    found = mjp.smc(graph, jax.random.key(0), 400, auxiliary=Towards(pure_death(0.5), "X"), cells=60)
    assert np.min(found.ess) > 0.9 * 400
    assert abs(float(found.log_evidence[0]) - expected) < 0.1
    assert found.overflow == 0
    assert found.invalid == 0


def test_dead_particles_are_reported_with_edge_and_series():
    """A death process does not grow: the second series has an observation that cannot be reached."""
    graph = mjp.chain(mjp.ReactionNetwork(DEATH), [0.0, 0.5, 1.0, 1.5], initial=[20], series=2)
    values = np.array([[NAN, 16.0, NAN, 9.0], [NAN, 14.0, 17.0, NAN]])[..., None]
    graph.observe_each(mjp.Exactly(), values)
    with pytest.raises(RuntimeError, match="none of 200 particles is alive after edge 1 of series 1, from"):
        mjp.smc(graph, jax.random.key(0), 200, max_events=64)
    last = death(mjp.Exactly(), np.array([[NAN], [NAN], [60.0]]), [0.0, 0.5, 1.0])
    with pytest.raises(RuntimeError, match="is alive after edge 1, from"):
        mjp.smc(last, jax.random.key(0), 200, max_events=64)


def test_particle_filters_refuse_other_graphs():
    graph = death(lambda x: dist.Normal(x["X"], 2.0), np.array([NAN, 27.0]))
    with pytest.raises(ValueError, match="particles must be at least 2, got 1"):
        mjp.smc(graph, jax.random.key(0), 1)
    process = mjp.MarkovJump({("a", "b"): 1.0})
    other = mjp.chain(process, [0.0, 1.0], initial="a").observe_each(mjp.Exactly(), ["a", "b"])
    with pytest.raises(TypeError, match="smc is for graphs of reaction networks"):
        mjp.smc(other, jax.random.key(0), 10)
    with pytest.raises(ValueError, match="guided must be True, False or 'resampling', got 'partly'"):
        mjp.smc(graph, jax.random.key(0), 10, guided="partly")
    with pytest.raises(ValueError, match=r"trust must be from 0 to 1, got 1\.5"):
        mjp.smc(graph, jax.random.key(0), 10, guided="resampling", trust=1.5)
    with pytest.raises(TypeError, match="trust"):
        mjp.smc(graph, jax.random.key(0), 10, guided=False, trust=0.5)


# ------------------------------------------------------------------------ buffers and bad rates


def test_a_short_buffer_is_counted_and_reported():
    graph = death(lambda x: dist.Normal(x["X"], 2.0), np.array([NAN, 27.0]))
    with pytest.warns(UserWarning, match=r"the buffer was too short for \d+ pieces of 200 guided paths"):
        found = mjp.evidence(graph, jax.random.key(0), 200, max_events=20)
    assert 100 < found.overflow <= 200
    path, log_weight = mjp.condition(graph, max_events=5).sample(jax.random.key(0))
    assert path.overflow == 1
    assert log_weight == -np.inf
    with pytest.warns(UserWarning, match="the buffer was too short"):
        assert mjp.smc(graph, jax.random.key(0), 200, max_events=24).overflow > 0
    # room is found by itself
    assert mjp.evidence(graph, jax.random.key(0), 200).overflow == 0


def test_bad_propensities_are_reported():
    network = mjp.ReactionNetwork([("X -> 0", lambda x: jnp.where(x[0] > 40, 0.5 * x[0], -1.0))])
    graph = mjp.chain(network, [0.0, 1.0], initial=[50])
    graph.observe_each(lambda x: dist.Normal(x["X"], 2.0), np.array([NAN, 27.0]))
    for infer in (mjp.evidence, mjp.smc):
        with pytest.raises(
            ValueError, match="propensities that are negative, not finite, or positive without"
        ):
            infer(graph, jax.random.key(0), 100, max_events=64, auxiliary="conditioned hazard")


def test_options_are_checked():
    graph = death(lambda x: dist.Normal(x["X"], 2.0), np.array([NAN, 27.0]))
    for options, message in (
        ({"auxiliary": "best"}, "auxiliary must be 'linear noise', 'conditioned hazard'"),
        ({"clip": (1.0, 2.0)}, "clip must be"),
        ({"cells": 0}, "cells must be"),
        ({"max_events": 0}, "max_events must be"),
        ({"auxiliary": Towards(pure_death(0.5), "Y")}, "unknown species 'Y'"),
        ({"auxiliary": Towards(pure_death(0.5), "X")}, r"needs observations by mjp.Exactly\(\) below"),
    ):
        with pytest.raises(ValueError, match=message):
            mjp.condition(graph, **options)


def test_tails_with_weights_of_zero():
    """Zeros are no tail; the shape is that of the other weights, and no number warns."""
    uniform = np.random.default_rng(0).uniform(size=4000)
    heavy = -0.9 * np.log(uniform)  # of a Pareto law with shape 0.9
    light = np.log1p(uniform)
    dead = np.full(4000, -np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tail_shape(np.stack([heavy, light, dead, np.zeros(4000)], axis=1))
        assert 0.7 < found[0] < 1.1
        assert found[1] < 0.1
        assert found[2] == np.inf
        assert found[3] == -np.inf
        mixed = np.where(np.arange(4000) % 3 == 0, -np.inf, heavy)
        assert 0.7 < tail_shape(mixed) < 1.1
        equal = np.where(np.arange(4000) % 3 == 0, -np.inf, 0.0)
        assert tail_shape(equal) == -np.inf


def test_evidence_of_what_cannot_happen():
    graph = death(mjp.Exactly(), np.array([[NAN], [60.0]]))
    found = estimate(graph, n=100, max_events=64)
    assert found.log_evidence == -np.inf
    assert found.standard_error == np.inf
    assert found.ess == 0
    assert found.khat == np.inf


def test_counts_with_overdispersion():
    """A law whose parameters depend on the state, and which is no normal one."""
    y = np.array([NAN, 40.0, 18.0])
    graph = death(lambda x: dist.NegativeBinomial2(x["X"] + 0.1, 8.0), y, [0.0, 0.6, 1.5])
    pmf = lambda y, m: nbinom.pmf(y, 8.0, 8.0 / (8.0 + m))
    seen = [None] + [lambda s, v=v: pmf(v, s[:, 0] + 0.1) for v in y[1:]]
    close(estimate(graph), truth(mjp.ReactionNetwork(DEATH), [50], [0.0, 0.6, 1.5], seen))


def test_a_compiled_condition_has_the_buffer_that_is_documented():
    def weight(rate, key):
        graph = mjp.chain(mjp.ReactionNetwork([("X -> 0", rate)]), [0.0, 1.0], initial=[9])
        graph.observe(1, lambda x: dist.Normal(x["X"], 1.0), 5.0)
        guided = mjp.condition(graph, cells=3)
        assert guided.clocks == 256
        return guided.sample(key)[1]

    assert np.isfinite(jax.jit(weight)(0.5, jax.random.key(0)))
