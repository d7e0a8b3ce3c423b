"""The law of jump paths as a distribution: densities by hand, gradients, draws, buffers."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import poisson

import mjp
from mjp.inference.path_law import PathLaw, PathLikelihood, pack

SIZE = 12
TIMES = [0.0, 0.7, 2.0]


def epidemic(contact=0.05, recovery=0.4, times=TIMES, **options):
    network = mjp.ReactionNetwork([("S + I -> 2 I", contact), ("I -> R", recovery)], **options)
    return mjp.chain(network, times, initial={"S": 9, "I": 2, "R": 0})


def path():
    """Three events on the first edge and one on the second; the density by hand is in `by_hand`."""
    times = np.full((2, SIZE), [[0.7], [1.3]])
    reactions = np.full((2, SIZE), -1)
    times[0, :3], reactions[0, :3] = [0.1, 0.35, 0.6], [0, 1, 0]
    times[1, 0], reactions[1, 0] = 0.25, 1
    return pack(jnp.asarray(times), jnp.asarray(reactions))


def by_hand(contact, recovery):
    s, i, total = 9, 2, 0.0
    events = [(0.1, 0), (0.25, 1), (0.25, 0), (0.35, 1)]  # waiting times, over both edges
    for wait, reaction in events:
        rates = (contact * s * i, recovery * i)
        total += np.log(rates[reaction]) - sum(rates) * wait
        s, i = (s - 1, i + 1) if reaction == 0 else (s, i - 1)
    return total - (contact * s * i + recovery * i) * (2.0 - 0.95)


def test_a_density_by_hand():
    law = PathLaw(epidemic(), SIZE)
    assert law.event_shape == (2, SIZE, 2)
    np.testing.assert_allclose(law.log_prob(path()), by_hand(0.05, 0.4), rtol=1e-12)
    np.testing.assert_array_equal(law.nodes(path()), [[9, 2, 0], [7, 3, 1], [7, 2, 2]])
    both = jnp.stack([path(), law.empty])
    silent = -(0.05 * 9 * 2 + 0.4 * 2) * 2.0
    np.testing.assert_allclose(law.log_prob(both), [by_hand(0.05, 0.4), silent], rtol=1e-12)


def test_an_impossible_path_has_density_zero():
    """A recovery where nobody is infected."""
    times, reactions = np.array(path()[..., 0]), np.array(path()[..., 1])
    reactions[0, :3], times[1, 0] = [1, 1, 1], 1.3
    reactions[1, 0] = -1
    assert PathLaw(epidemic(), SIZE).log_prob(pack(jnp.asarray(times), jnp.asarray(reactions))) == -np.inf


def test_gradients_are_finite_differences():
    log_prob = lambda rates: PathLaw(epidemic(rates[0], rates[1]), SIZE).log_prob(path())
    at = np.array([0.05, 0.4])
    found = jax.grad(log_prob)(jnp.asarray(at))
    for k in range(2):
        step = np.eye(2)[k] * 1e-5
        difference = (by_hand(*(at + step)) - by_hand(*(at - step))) / 2e-5
        np.testing.assert_allclose(found[k], difference, rtol=1e-6)


@pytest.mark.slow
def test_rates_that_change_on_an_edge():
    """The edge is cut at the break; each piece has its own clock time."""
    network = mjp.ReactionNetwork([("0 -> X", np.array([2.0, 5.0]))], breaks=[0.5])
    law = PathLaw(mjp.chain(network, [0.0, 1.0], initial=[0]), 3)
    times = jnp.array([[0.2, 0.4, 0.5], [0.1, 0.5, 0.5]])
    value = pack(times, jnp.array([[0, 0, -1], [0, -1, -1]]))
    expected = 2 * np.log(2.0) + np.log(5.0) - 2.0 * 0.5 - 5.0 * 0.5
    np.testing.assert_allclose(law.log_prob(value), expected, rtol=1e-12)
    np.testing.assert_allclose(law.trajectory(value).path().at(jnp.array([0.3, 0.55, 0.7]))[:, 0], [1, 2, 3])


def test_draws_have_the_law_whose_density_is_given():
    """E[p_b(path) / p_a(path)] = 1 under p_a, and counts at the end agree with the simulator's."""
    a, b = PathLaw(epidemic(), 40), PathLaw(epidemic(0.06, 0.45), 40)
    values = jax.jit(lambda key: a.sample(key, (4000,)))(jax.random.key(0))
    assert values.shape == (4000, 2, 40, 2)
    weights = np.exp(np.asarray(b.log_prob(values) - a.log_prob(values)))
    assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(4000)
    ends = np.asarray(jax.vmap(a.nodes)(values))[:, -1]
    others = np.asarray(mjp.simulate(epidemic(), jax.random.key(1), replicates=4000, paths=False).values)[
        :, -1
    ]
    error = np.sqrt((ends.var(axis=0) + others.var(axis=0)) / 4000)
    np.testing.assert_array_less(np.abs(ends.mean(axis=0) - others.mean(axis=0)), 4 * error + 1e-12)
    moments = (ends.astype(float) ** 2, others.astype(float) ** 2)
    error = np.sqrt(sum(m.var(axis=0) for m in moments) / 4000)
    np.testing.assert_array_less(np.abs(moments[0].mean(0) - moments[1].mean(0)), 4 * error + 1e-12)


def test_paths_that_do_not_fit_are_marked():
    law = PathLaw(mjp.chain(mjp.ReactionNetwork([("0 -> X", 10.0)]), [0.0, 1.0], initial=[0]), 8)
    values = jax.jit(lambda key: law.sample(key, (500,)))(jax.random.key(0))
    overflow = np.asarray(jax.vmap(lambda value: law.trajectory(value).overflow)(values))
    share, expected = overflow.mean(), poisson.sf(8, 10.0)
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 500)
    assert np.all(np.isneginf(law.log_prob(values)) == (overflow > 0))
    # without compilation as well
    single = [law.sample(key) for key in jax.random.split(jax.random.key(1), 5)]
    assert all(value.shape == (1, 8, 2) for value in single)


def test_likelihoods_given_a_path():
    graph = epidemic().observe_each(lambda x: dist.Poisson(x["I"] + 0.1), np.array([np.nan, 4.0, 1.0]))
    law = PathLaw(graph, SIZE)
    found = PathLikelihood(law).log_likelihoods(law.trajectory(path()))
    np.testing.assert_allclose(found, [0.0, poisson.logpmf(4, 3.1), poisson.logpmf(1, 2.1)], rtol=1e-9)


@pytest.mark.parametrize("x64", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_weights_of_guided_paths_are_ratios_of_densities(x64):
    """A given path weighs what the network's density of it, over the guided one's, says it does."""
    with jax.enable_x64(x64):
        graph = epidemic().observe_each(lambda x: dist.Normal(x["I"], 1.0), np.array([np.nan, 4.0, 3.0]))
        wide = mjp.condition(graph, clip=(-1e-6, 1e-6), max_events=SIZE)
        trajectory, log_weight = wide.sample(jax.random.key(3))
        # guided rates that are those of the network leave the likelihood alone as the weight
        expected = wide.model.log_likelihood(trajectory.values).sum() - wide.log_evidence
        np.testing.assert_allclose(log_weight, expected, atol=1e-4)
