"""mjp.sample inside NumPyro: factors, plates, handlers, Predictive, and NumPyro's own MCMC."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, Predictive, log_likelihood
from numpyro.infer.util import log_density

import mjp

COUNTS = np.array([3, 4, 9, 11, 2, 3, 10, 8, 1, 2, 3, 12], dtype=float)
TRANSITION = jnp.array([[0.8, 0.2], [0.3, 0.7]])


def hidden(counts):
    rate = numpyro.sample("rate", dist.LogNormal(jnp.array([1.0, 2.0]), 0.5).to_event(1))
    g = mjp.chain(
        mjp.MarkovChain(TRANSITION), np.arange(len(counts)), initial=dist.Categorical(jnp.ones(2) / 2)
    )
    g.observe_each(lambda x: dist.Poisson(rate[x]), counts)
    return mjp.sample("z", g)


def by_hand(rate, counts):
    emission = np.asarray(dist.Poisson(rate).log_prob(counts[:, None]))
    law = np.array([0.5, 0.5]) * np.exp(emission[0])
    terms = [np.log(law.sum())]
    for row in emission[1:]:
        law = law / law.sum() @ np.asarray(TRANSITION) * np.exp(row)
        terms.append(np.log(law.sum()))
    return np.array(terms)


def two_series(counts):
    with numpyro.plate("series", len(counts)):
        rate = numpyro.sample("rate", dist.LogNormal(jnp.array([1.0, 2.0]), 0.5).to_event(1))
        chain = mjp.MarkovChain(lambda c: TRANSITION)
        g = mjp.chain(chain, np.arange(counts.shape[1]), initial=dist.Categorical(jnp.ones(2) / 2))
        g.observe_each(lambda x: dist.Poisson(rate.mean(0)[x]), counts)
        mjp.sample("z", g)


RATE = jnp.array([3.0, 9.0])


def test_a_single_chain_gives_one_step_ahead_terms():
    terms = log_likelihood(hidden, {"rate": RATE[None]}, COUNTS)["z.log_likelihood"]
    np.testing.assert_allclose(terms[0], by_hand(RATE, COUNTS), rtol=1e-10)


def test_arviz_converts_runs_of_numpyro():
    """Names of sites are ones that ArviZ takes, and terms pointwise."""
    import arviz
    import numpyro.infer.initialization  # ArviZ expects that somebody imports it

    def walk(values):
        scale = numpyro.sample("scale", dist.LogNormal(0.0, 0.5))
        times = np.arange(len(values), dtype=float)
        chain = mjp.chain(mjp.Diffusion(lambda t, x: -(x**3), scale), times, initial=0.0, steps=2)
        mjp.sample("x", chain.observe_each(lambda x: dist.Normal(x[0], 0.3), values))

    for model, data, latent in ((hidden, COUNTS, {"rate"}), (walk, np.zeros(3), {"scale", "x.innovations"})):
        mcmc = MCMC(NUTS(model), num_warmup=10, num_samples=10, progress_bar=False)
        mcmc.run(jax.random.key(0), data)
        found = arviz.from_numpyro(mcmc, log_likelihood=True)
        assert set(found["posterior"].data_vars) - {"z", "x"} == latent
    terms = log_likelihood(hidden, {"rate": RATE[None]}, COUNTS)["z.log_likelihood"]
    assert terms.shape == (1, len(COUNTS))


def test_the_log_density_is_prior_plus_evidence():
    total, _ = log_density(hidden, (COUNTS,), {}, {"rate": RATE})
    prior = dist.LogNormal(jnp.array([1.0, 2.0]), 0.5).log_prob(RATE).sum()
    np.testing.assert_allclose(total, prior + by_hand(RATE, COUNTS).sum(), rtol=1e-10)


def test_a_batch_of_series_fits_its_plate():
    counts = np.stack([COUNTS, COUNTS[::-1]])
    terms = log_likelihood(two_series, {"rate": jnp.stack([RATE, RATE])[None]}, counts)["z.log_likelihood"]
    expected = [by_hand(RATE, row).sum() for row in counts]
    np.testing.assert_allclose(terms[0], expected, rtol=1e-10)


def test_guided_series_that_do_not_fit_their_plate_are_refused():
    walks = mjp.chain(mjp.Diffusion(lambda t, x: -(x**3), 1.0), np.arange(3.0), initial=0.0, series=6)
    walks.observe_each(lambda x: dist.Normal(x[0], 0.3), np.zeros((6, 3)))

    def model():
        with numpyro.plate("other", 5):
            mjp.sample("x", walks)

    with pytest.raises(ValueError, match=r"x: the graph has batch shape \(6,\), which does not fit"):
        handlers.trace(handlers.seed(model, 0)).get_trace()


def test_a_batch_that_does_not_fit_its_plate_is_refused():
    def model(counts):
        with numpyro.plate("other", 5):
            g = mjp.chain(
                mjp.MarkovChain(TRANSITION), np.arange(12), initial=dist.Categorical(jnp.ones(2) / 2)
            )
            mjp.sample("z", g.observe_each(lambda x: dist.Poisson(RATE[x]), counts))

    with pytest.raises(ValueError, match="does not fit the enclosing plates"):
        handlers.seed(model, 0)(np.stack([COUNTS, COUNTS]))


def test_posterior_predictive_draws_exact_paths():
    n = 4000
    draws = Predictive(hidden, {"rate": jnp.broadcast_to(RATE, (n, 2))})(jax.random.key(0), COUNTS)["z"]
    # smoothed probability of state 1, from the forward and backward recursions by hand
    emission = np.exp(np.asarray(dist.Poisson(RATE).log_prob(COUNTS[:, None])))
    forward, backward = [0.5 * emission[0]], [np.ones(2)]
    for row in emission[1:]:
        forward.append(forward[-1] @ np.asarray(TRANSITION) * row)
    for row in emission[:0:-1]:
        backward.append(np.asarray(TRANSITION) @ (row * backward[-1]))
    joint = np.array(forward) * np.array(backward[::-1])
    smoothed = joint[:, 1] / joint.sum(1)
    error = np.sqrt(smoothed * (1 - smoothed) / n)
    assert np.all(np.abs(np.asarray(draws).mean(0) - smoothed) < 4 * error + 1e-12)


def test_prior_predictive_without_values():
    def model():
        g = mjp.chain(
            mjp.MarkovChain(TRANSITION), np.arange(6), initial=dist.Categorical(jnp.array([1.0, 0.0]))
        )
        return mjp.sample("z", g.observe_each(lambda x: dist.Poisson(RATE[x])))

    draws = np.asarray(Predictive(model, num_samples=3000)(jax.random.key(1))["z"])
    expected = np.linalg.matrix_power(np.asarray(TRANSITION), 5)[0, 1]
    assert abs(draws[:, 5].mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / 3000)


def test_seed_gives_a_trajectory_and_inference_does_not():
    assert handlers.seed(hidden, 0)(COUNTS)[3].shape == ()
    stand_in = handlers.substitute(hidden, {"rate": RATE})(COUNTS)
    with pytest.raises(RuntimeError, match="marginalised"):
        stand_in.at(1.0)
    with pytest.raises(RuntimeError, match="marginalised"):
        stand_in[0]


def test_condition_and_substitute_agree():
    a = handlers.trace(handlers.condition(hidden, {"rate": RATE})).get_trace(COUNTS)
    b = handlers.trace(handlers.substitute(hidden, {"rate": RATE})).get_trace(COUNTS)
    np.testing.assert_allclose(
        a["z.log_likelihood"]["fn"].log_factor, b["z.log_likelihood"]["fn"].log_factor, rtol=0
    )


@pytest.mark.parametrize(
    "method",
    [pytest.param("sequential", marks=pytest.mark.slow), "parallel", jax.vmap],
    ids=["sequential", "parallel", "vmap"],
)
def test_numpyro_mcmc_with_every_chain_method(method):
    chains = min(2, jax.local_device_count()) if method == "parallel" else 2
    mcmc = MCMC(
        NUTS(hidden),
        num_warmup=30,
        num_samples=30,
        num_chains=chains,
        chain_method=method,
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), COUNTS)
    rate = mcmc.get_samples(group_by_chain=True)["rate"]
    assert rate.shape == (chains, 30, 2)
    assert np.all(np.isfinite(rate))


def test_random_effects_by_subject_reach_the_rates():
    panel = mjp.Panel.from_arrays([1, 1, 2, 2, 3, 3], [0, 1, 0, 2, 0, 1.5], ["a", "b", "a", "a", "a", "b"])

    def model(panel):
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        with numpyro.plate("subject", panel.n_subjects):
            effect = numpyro.sample("effect", dist.Normal(0.0, scale))
        process = mjp.MarkovJump(lambda c: {("a", "b"): 0.5 * jnp.exp(effect[c["subject"]])})
        mjp.sample("state", mjp.panel(process, panel, observe=mjp.Exactly()))

    effect = jnp.array([0.3, -0.5, 1.0])
    parameters = {"scale": jnp.array([1.0]), "effect": effect[None]}
    terms = log_likelihood(model, parameters, panel)["state.log_likelihood"][0]
    rate = 0.5 * np.exp(np.asarray(effect))
    expected = [np.log1p(-np.exp(-rate[0])), -2 * rate[1], np.log1p(-np.exp(-1.5 * rate[2]))]
    np.testing.assert_allclose(terms, expected, rtol=1e-10)
