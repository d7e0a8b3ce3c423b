"""Observations of which some entries are missing count by what is left of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_normal, norm, poisson

import mjp
from mjp.inference.seen_entries import log_density_where_seen

pytestmark = pytest.mark.usefixtures("quick_compilation")

MOVES = np.array([[0.9, 0.1], [0.2, 0.8]])
MEANS = np.array([[0.0, 0.0], [3.0, 2.0]])
COVARIANCE = np.array([[1.0, 0.4], [0.4, 0.7]])
SEEN = np.array([[0.3, -0.1], [2.0, np.nan], [np.nan, np.nan], [np.nan, 1.5]])


def evidence(density):
    """Log-evidence of a chain of two states by enumeration, from log-densities (T, K)."""
    total = 0.0
    for path in itertools.product(range(2), repeat=len(density)):
        law = 0.5 * np.prod([MOVES[a, b] for a, b in itertools.pairwise(path)])
        total += law * np.exp(sum(density[t, s] for t, s in enumerate(path)))
    return np.log(total)


def normal(value, state):
    seen = ~np.isnan(value)
    if not seen.any():
        return 0.0
    return multivariate_normal.logpdf(value[seen], MEANS[state][seen], COVARIANCE[np.ix_(seen, seen)])


def independent(value, state):
    return np.nansum(norm.logpdf(value, MEANS[state], 1.0))


def counts(value, state):
    return sum(poisson.logpmf(v, np.exp(m)) for v, m in zip(value, MEANS[state], strict=True) if v == v)


LAWS = {
    "normal": (lambda s: dist.MultivariateNormal(jnp.asarray(MEANS)[s], COVARIANCE), normal, SEEN),
    "independent": (lambda s: dist.Normal(jnp.asarray(MEANS)[s], 1.0).to_event(1), independent, SEEN),
    "batch": (lambda s: dist.Normal(jnp.asarray(MEANS)[s], 1.0), independent, SEEN),
    "counts": (lambda s: dist.Poisson(jnp.exp(jnp.asarray(MEANS)[s])), counts, np.abs(np.round(SEEN))),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", LAWS)
def test_hidden_chains(name, traced):
    likelihood, density, seen = LAWS[name]

    def found(values):
        chain = mjp.chain(mjp.MarkovChain(MOVES), np.arange(4), initial=dist.Categorical(jnp.full(2, 0.5)))
        return mjp.condition(chain.observe_each(likelihood, values)).log_evidence

    truth = evidence(np.array([[density(value, state) for state in range(2)] for value in seen]))
    np.testing.assert_allclose((jax.jit(found) if traced else found)(seen), truth, rtol=1e-10)


def test_a_row_may_be_none():
    chain = mjp.chain(mjp.MarkovChain(MOVES), np.arange(4), initial=dist.Categorical(jnp.full(2, 0.5)))
    for node in (0, 1, 3):
        chain.observe(node, LAWS["normal"][0], SEEN[node])
    chain.observe(2, LAWS["normal"][0], None)
    found = mjp.condition(chain).log_evidence
    truth = evidence(np.array([[normal(value, state) for state in range(2)] for value in SEEN]))
    np.testing.assert_allclose(found, truth, rtol=1e-10)


def test_counts_of_a_network():
    death = mjp.ReactionNetwork([("A -> 0", 0.5)])
    spread = jnp.array([[4.0, 1.0], [1.0, 2.0]])
    seen = np.array([7.0, np.nan])

    def log_likelihood(likelihood, value):
        chain = mjp.chain(death, [0.0, 1.0], initial={"A": 10})
        chain.observe_each(likelihood, jnp.array([[jnp.nan, jnp.nan], value]))
        return mjp.condition(chain).model.log_likelihood(jnp.array([[10], [6]]))[1]

    joint = lambda a: dist.MultivariateNormal(jnp.array([a["A"], 1.0]), spread)
    np.testing.assert_allclose(log_likelihood(joint, seen), norm.logpdf(7.0, 6.0, 2.0), rtol=1e-6)


PARTS = jnp.array([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]])
MULTINOMIAL = {
    "states": lambda: mjp.condition(
        mjp.chain(mjp.MarkovChain(MOVES), np.arange(2), initial=0).observe_each(
            lambda s: dist.Multinomial(3, PARTS[s]), np.array([[1.0, 1.0, 1.0], [2.0, np.nan, 1.0]])
        )
    ),
    "vectors": lambda: mjp.condition(
        mjp.chain(mjp.LinearGaussian(0.9, 0.0, 1.0), np.arange(2), initial=jnp.zeros(1)).observe_each(
            lambda x: dist.Multinomial(3, logits=jnp.array([0.0, 1.0, x[0]])),
            np.array([[1.0, 1.0, 1.0], [2.0, np.nan, 1.0]]),
        )
    ),
    "networks": lambda: mjp.condition(
        mjp.chain(mjp.ReactionNetwork([("A -> 0", 0.5)]), np.arange(2.0), initial={"A": 3}).observe_each(
            lambda a: dist.Multinomial(3, PARTS[0]), np.array([[1.0, 1.0, 1.0], [2.0, np.nan, 1.0]])
        )
    ),
}


@pytest.mark.parametrize("name", MULTINOMIAL)
def test_a_law_that_does_not_say_what_is_left_is_refused(name):
    with pytest.raises(ValueError, match=r"\[2.0, nan, 1.0\] at .*1.* is partly missing, where Multinomial"):
        MULTINOMIAL[name]()


def test_what_cannot_be_refused_is_no_number():
    law = dist.MultinomialProbs(PARTS[0], 3)
    assert jnp.isnan(log_density_where_seen(law, jnp.array([2.0, jnp.nan, 1.0])))
    assert log_density_where_seen(law, jnp.full(3, jnp.nan)) == 0.0
