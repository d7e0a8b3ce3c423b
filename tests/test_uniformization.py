"""Uniformization Gibbs for paths of finite states: exact draws, Geweke's test, and exact marginalisation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS, Gibbs

import mjp
from mjp.inference import UniformizationGibbs
from mjp.inference.state_path_law import StatePathLaw
from mjp.inference.uniformized_sweep import uniformized_sweep

TIMES = np.array([0.0, 0.5, 1.3, 2.0])
SEEN = np.array([[0, 2, -1, 1], [1, -1, 0, 0]])
CONFUSED = np.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])
RATES = (1.2, 0.4, 0.9, 0.7)
FIRST = jnp.array([0.5, 0.3, 0.2])


def graph(rates=RATES, seen=SEEN):
    up, down, far, back = rates
    process = mjp.MarkovJump({(0, 1): up, (1, 0): down, (1, 2): far, (2, 0): back}, states=[0, 1, 2])
    chain = mjp.chain(process, TIMES, initial=dist.Categorical(FIRST), series=2)
    values = jnp.where(jnp.asarray(seen) < 0, jnp.nan, jnp.asarray(seen, float))
    chain.observe_each(lambda x: dist.Normal(x, 0.6), np.where(SEEN < 0, np.nan, SEEN).astype(float))
    chain.observations = [dataclasses.replace(chain.observations[0], values=values.reshape(-1))]
    return chain


def model(seen=SEEN):
    rates = numpyro.sample("rates", dist.LogNormal(-0.3, 0.4).expand([4]).to_event(1))
    mjp.sample("x", graph(rates, seen), latent="path", max_jumps=24)


def marginal(seen=SEEN):
    rates = numpyro.sample("rates", dist.LogNormal(-0.3, 0.4).expand([4]).to_event(1))
    mjp.sample("x", graph(rates, seen))


def statistics(law, value):
    """States at the nodes as flags, jumps of each piece, and time in each state."""
    nodes = jax.nn.one_hot(law.nodes(value), 3)[:, 1:].reshape(-1)
    states = value[..., 1].astype(int)
    spans = jnp.diff(jnp.append(value[..., 0], law.durations[:, None], axis=1), axis=1)
    dwell = jnp.sum(jax.nn.one_hot(states, 3) * spans[..., None], axis=(0, 1))
    jumps = jnp.sum(states[:, 1:] != states[:, :-1], axis=1)
    return jnp.concatenate([nodes, jumps, dwell])


def agree(a, b, ess_a=None, ess_b=None):
    """Means of rows agree within four standard errors."""
    error = np.sqrt(a.var(axis=0) / (ess_a or len(a)) + b.var(axis=0) / (ess_b or len(b)))
    z = (a.mean(axis=0) - b.mean(axis=0)) / np.maximum(error, 1e-12)
    assert np.all(np.abs(z) < 4), z


# ------------------------------------------------------------------------------------ the law


def test_the_density_of_a_path():
    law = StatePathLaw(graph(), 24)
    value = law.constant
    # 0 -> 1 at 0.2 on the first edge of the first series, 1 -> 2 at 0.3 on its second
    first, second, third = law.sequence.pieces[:, 0]
    value = value.at[first, 1:, 1].set(1).at[first, 1, 0].set(0.2)
    value = value.at[second, 0, 1].set(1).at[second, 1:, 1].set(2).at[second, 1, 0].set(0.3)
    value = value.at[third, :, 1].set(2)
    up, down, far, back = RATES
    expected = np.log(up) + np.log(far) + 2 * np.log(0.5)
    expected -= up * 0.2 + (down + far) * 0.6 + back * (0.5 + 0.7) + up * 2.0
    np.testing.assert_allclose(law.log_prob(value), expected, rtol=1e-6)
    path = law.trajectory(value)
    assert path.values.tolist()[: len(TIMES)] == [0, 1, 2, 2]
    np.testing.assert_array_equal(path.at(jnp.array([0.1, 0.3, 0.79, 0.81, 1.9]))[0], [0, 1, 1, 2, 2])
    np.testing.assert_allclose(law.packed(path), value, atol=1e-6)


@pytest.mark.slow
def test_sweeps_leave_the_conditioned_law_and_lead_to_it():
    law = StatePathLaw(graph(), 24)
    guided = mjp.condition(graph(), max_jumps=24)
    n = 1000

    def exact(key):
        return law.packed(guided.sample(key)[0])

    def swept(value, key, sweeps):
        step = lambda value, key: uniformized_sweep(law, value, key, 2.0)
        return lax.scan(step, value, jax.random.split(key, sweeps))

    keys = jax.random.split(jax.random.key(0), (4, n))
    describe = jax.vmap(lambda value: statistics(law, value))
    truth = np.asarray(jax.jit(lambda k: describe(jax.vmap(exact)(k)))(keys[0]))
    after, full = jax.jit(jax.vmap(lambda a, b: swept(exact(a), b, 1)))(keys[1], keys[2])
    assert not np.any(np.asarray(full))
    agree(truth, np.asarray(describe(after)))
    # from the path that never jumps, which is far from the data
    far, full = jax.jit(jax.vmap(lambda key: swept(law.constant, key, 15)))(keys[3])
    assert not np.any(np.asarray(full))
    agree(truth, np.asarray(describe(far)))


def test_a_full_buffer_keeps_the_path_and_says_so():
    law = StatePathLaw(graph(tuple(40.0 * rate for rate in RATES)), 4)
    value = law.constant
    new, full = uniformized_sweep(law, value, jax.random.key(0), 2.0)
    assert int(full) == 2
    np.testing.assert_array_equal(new, value)


def kernel(own=model, **options):
    return Gibbs([(UniformizationGibbs(own), ["x.path"]), (NUTS(own, **options), ["rates"])])


def run(kernel, warmup, draws, seed=0, fields=()):
    mcmc = MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
    mcmc.run(jax.random.key(seed), extra_fields=fields)
    return mcmc


def test_the_kernel_is_a_block_of_gibbs():
    mcmc = run(kernel(), 30, 60, fields=("block_states.0.moved", "block_states.0.overflow"))
    samples, report = mcmc.get_samples(), mcmc.get_extra_fields()
    assert samples["x.path"].shape == (60, 6, 25, 2)
    assert np.unique(samples["rates"][:, 0]).size > 20
    assert np.asarray(report["block_states.0.moved"]).mean() > 0.3
    assert not np.any(np.asarray(report["block_states.0.overflow"]))


def test_what_cannot_be_a_path_is_refused():
    with pytest.raises(ValueError, match="rate_factor must be above 1, got 1"):
        UniformizationGibbs(model, rate_factor=1.0)
    with pytest.raises(ValueError, match=r"model has no mjp.sample\(..., latent='path'\)"):
        UniformizationGibbs(lambda: mjp.sample("x", graph())).init(jax.random.key(0), 0, None, (), {})
    with pytest.raises(ValueError, match="takes one random key"):
        UniformizationGibbs(model).init(jax.random.split(jax.random.key(0)), 0, None, (), {})
    with pytest.raises(ValueError, match=r"is a site; mjp\.fit marginalises it"):
        mjp.fit(model, draws=1, warmup=1, chains=1, progress=False)
    tree = mjp.tree("(a:1,b:1);", mjp.MarkovJump(np.ones((2, 2))), initial=dist.Categorical(jnp.ones(2) / 2))
    with pytest.raises(TypeError, match="this graph branches"):
        StatePathLaw(tree, 8)
    steps = mjp.chain(mjp.MarkovChain(np.full((2, 2), 0.5)), np.arange(3), initial=0)
    with pytest.raises(TypeError, match="continuous time"):
        StatePathLaw(steps, 8)
    with numpyro.handlers.seed(rng_seed=0), pytest.raises(ValueError, match="latent='innovations'"):
        mjp.sample("x", graph(), latent="innovations")


# --------------------------------------------------------------------------------- slow statistics


def effective(columns):
    return min(float(effective_sample_size(np.asarray(column)[None])) for column in columns.T)


@pytest.mark.slow
def test_geweke():
    describing = StatePathLaw(graph(), 24)

    def describe(rates, value):
        logs = jnp.log(rates)
        found = statistics(describing, value)
        return jnp.concatenate([found, logs, logs**2, logs * found[-1]])

    def observe(key, value):
        nodes = describing.nodes(value).reshape(SEEN.shape)
        return jnp.where(SEEN < 0, jnp.nan, nodes + 0.6 * jax.random.normal(key, SEEN.shape))

    def own(seen):
        rates = numpyro.sample("rates", dist.LogNormal(-0.3, 0.4).expand([4]).to_event(1))
        g = graph(rates)
        g.observations = [dataclasses.replace(g.observations[0], values=seen.reshape(-1))]
        mjp.sample("x", g, latent="path", max_jumps=24)

    blocks = kernel(own, step_size=0.2, adapt_step_size=False)
    state = blocks.init(jax.random.key(1), 0, None, (jnp.where(SEEN < 0, jnp.nan, 1.0 * SEEN),), {})

    def step(state, key):
        value = state.z["x.path"]
        state = blocks.sample(state, (observe(key, value),), {})
        return state, describe(jnp.exp(state.z["rates"]), state.z["x.path"])

    keys = jax.random.split(jax.random.key(2), 20_000)
    chain = np.asarray(jax.jit(lambda state, keys: lax.scan(step, state, keys)[1])(state, keys))[1000:]

    def prior(key):
        a, b = jax.random.split(key)
        rates = jnp.exp(-0.3 + 0.4 * jax.random.normal(a, (4,)))
        return describe(rates, StatePathLaw(graph(rates), 24).sample(b))

    drawn = jax.jit(lambda keys: lax.map(prior, keys, batch_size=1000))(
        jax.random.split(jax.random.key(3), 20_000)
    )
    ess = effective(chain)
    assert ess > 500
    agree(np.asarray(drawn), chain, None, ess)


@pytest.mark.slow
def test_the_posterior_is_that_of_exact_marginalisation():
    exact = np.log(np.asarray(run(NUTS(marginal), 500, 4000).get_samples()["rates"]))
    found = np.log(np.asarray(run(kernel(), 500, 12_000).get_samples()["rates"]))
    moments = lambda x: np.concatenate([x, x**2], axis=1)
    a, b = moments(exact), moments(found)
    assert effective(b) > 1000
    agree(a, b, effective(a), effective(b))
