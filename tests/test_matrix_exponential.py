"""Transition matrices against closed forms and scipy's Padé exponential."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import poisson

from mjp.inference.matrix_exponential import Pairs, transition_matrices


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def generators(count, n_states):
    """Random rates with the last state absorbing."""
    rates = np.random.default_rng(n_states).uniform(0.1, 1, (count, n_states, n_states))
    rates[:, -1] = 0
    rates[:, range(n_states), range(n_states)] = 0
    return rates - rates.sum(-1)[:, :, None] * np.eye(n_states)


@pytest.mark.parametrize(("count", "n_states"), [(1, 4), (2, 10), (7, 3)])  # 7: one block per pair
def test_agrees_with_pade_and_its_derivative(count, n_states):
    rates, which = generators(count, n_states), np.arange(14) % count
    durations = np.append(np.random.default_rng(0).uniform(0, 20, 13), 0.0)
    pairs = Pairs(which, durations, count)
    weights = np.random.default_rng(1).normal(size=(14, n_states, n_states))

    @jax.jit
    def ours(rates):
        found = transition_matrices(rates, pairs)[pairs.edge]
        return jnp.sum(weights * found), found

    def pade(rates):
        return jnp.sum(weights * jax.vmap(jax.scipy.linalg.expm)(rates[which] * durations[:, None, None]))

    (_, found), bar = jax.value_and_grad(ours, has_aux=True)(jnp.asarray(rates))
    expected = np.stack([expm(rates[g] * t) for g, t in zip(which, durations, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(bar, jax.jit(jax.grad(pade))(jnp.asarray(rates)), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("count", [1, 7])
def test_small_probabilities_keep_their_relative_accuracy(count):
    """A chain with unit rates counts Poisson events; its smallest entry is of the order 1e-26."""
    chain = np.diag([-1.0] * 5 + [0.0]) + np.diag(np.ones(5), 1)
    times = np.array([1e-6, 1e-5, 0.1, 3.0, 30.0])
    pairs = Pairs(np.zeros(5, int), times, count)
    found = jax.jit(lambda q: transition_matrices(q, pairs))(jnp.broadcast_to(chain, (count, 6, 6)))
    np.testing.assert_allclose(found[:, 0, :5], poisson.pmf(np.arange(5), times[:, None]), rtol=1e-10)
    np.testing.assert_allclose(found[:, 0, 5], poisson.sf(4, times), rtol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-8), (jnp.float32, 0.3)])
def test_a_million_events_reach_the_stationary_law(dtype, tolerance):
    """Rounding errors grow in proportion to the number of events."""
    rates = jnp.array([[[-2.0, 2.0], [1.0, -1.0]]], dtype)
    found = transition_matrices(rates, Pairs(np.zeros(1, int), np.array([5e5]), 1))
    np.testing.assert_allclose(found[0], [[1 / 3, 2 / 3]] * 2, rtol=tolerance)


@pytest.mark.parametrize("count", [1, 7])
def test_zero_generator_is_the_identity(count):
    pairs = Pairs(np.zeros(2, int), np.array([0.0, 5.0]), count)
    found = transition_matrices(jnp.zeros((count, 3, 3)), pairs)
    np.testing.assert_array_equal(found, np.broadcast_to(np.eye(3), (2, 3, 3)))
