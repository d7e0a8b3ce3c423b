"""Sparse jump processes: the same answers as dense ones, closed forms, and thousands of states."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import binom

import mjp

K = 9
BIRTHS, DEATHS = np.linspace(2.0, 1.0, K - 1), np.linspace(0.5, 3.0, K - 1)


def dense(births, deaths):
    return mjp.MarkovJump(jnp.diag(jnp.asarray(births), 1) + jnp.diag(jnp.asarray(deaths), -1))


PANEL = mjp.Panel.from_arrays(
    ["a"] * 4 + ["b"] * 3 + ["c"] * 2,
    [0, 0.5, 2.0, 2.2, 0, 1.0, 5.0, 1.0, 1.5],
    [0, 2, None, 4, 3, 5, 2, 1, 0],
)


@pytest.mark.parametrize(
    "observe",
    [pytest.param(mjp.Exactly(), marks=pytest.mark.slow), mjp.Exactly(entry=[4, 2])],
    ids=["snapshot", "entry"],
)
def test_panels_agree_with_dense_generators(observe):
    def evidence(make):
        def total(births):
            return mjp.condition(mjp.panel(make(births, DEATHS), PANEL, observe=observe)).log_evidence

        return total

    sparse, full = evidence(mjp.SparseMarkovJump.birth_death), evidence(dense)
    births = jnp.asarray(BIRTHS)
    np.testing.assert_allclose(jax.jit(sparse)(births), jax.jit(full)(births), rtol=1e-10)
    gradient = [jax.jit(jax.grad(lambda b, f=f: f(b).sum()))(births) for f in (sparse, full)]
    np.testing.assert_allclose(*gradient, rtol=1e-8)


def test_chains_agree_with_dense_generators():
    counts = np.array([0.2, 1.5, np.nan, 4.4, 3.1])

    def graph(process):
        start = dist.Categorical(jnp.ones(K) / K)
        chain = mjp.chain(process, [0.0, 0.3, 1.0, 1.7, 4.0], initial=start)
        return chain.observe_each(lambda x: dist.Normal(x, 0.7), counts)

    sparse = mjp.condition(graph(mjp.SparseMarkovJump.birth_death(BIRTHS, DEATHS)))
    full = mjp.condition(graph(dense(BIRTHS, DEATHS)))
    np.testing.assert_allclose(sparse.terms, full.terms, rtol=1e-10, atol=1e-13)
    n = 4000
    keys = jax.random.split(jax.random.key(0), n)
    draws = [jax.jit(jax.vmap(lambda k, g=g: g.sample(k)[0].values))(keys) for g in (sparse, full)]
    a, b = (np.asarray(d, float) for d in draws)
    error = np.sqrt((a.var(0) + b.var(0)) / n)
    assert np.all(np.abs(a.mean(0) - b.mean(0)) < 4 * error + 1e-12)


def test_ten_thousand_states_of_a_death_process():
    n, rate, time = 10_000, 0.3, 0.02
    process = mjp.SparseMarkovJump.birth_death(np.zeros(n - 1), rate * np.arange(1.0, n))
    panel = mjp.Panel.from_arrays([1, 1], [0.0, time], [9_000, 8_950])
    found = mjp.condition(mjp.panel(process, panel, observe=mjp.Exactly())).log_evidence
    np.testing.assert_allclose(found, binom.logpmf(8_950, 9_000, np.exp(-rate * time)), rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [1, 2], [1.0], 3), "same shape"),
        (([0], [3], [1.0], 3), "target must lie in 0 … 2, got 3"),
        (([1], [1], [1.0], 3), "state 1 to itself"),
        (([0, 0], [1, 1], [1.0, 2.0], 3), "from 0 to 1 is named twice"),
        (([0], [1], [-1.0], 3), "from 0 to 1 must be >= 0, got -1"),
        (([0], [1], [np.nan], 3), "rates must be finite"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        mjp.SparseMarkovJump(*arguments)


def test_branching_graphs_are_refused():
    tree = mjp.tree("(a:1,b:1);", mjp.SparseMarkovJump.birth_death(BIRTHS, DEATHS), initial=0)
    with pytest.raises(TypeError, match="works on chains and panels"):
        mjp.condition(tree)


def test_impossible_observations_name_the_subject():
    process = mjp.SparseMarkovJump.birth_death(np.zeros(K - 1), DEATHS)
    panel = mjp.Panel.from_arrays(["p", "p"], [0.0, 1.0], [2, 3])
    with pytest.raises(ValueError, match="of subject 'p' are impossible"):
        mjp.condition(mjp.panel(process, panel, observe=mjp.Exactly()))
