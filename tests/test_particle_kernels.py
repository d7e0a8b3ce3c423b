"""Kernels on jump paths: joint-distribution tests, and posteriors against exact marginalisation.

Geweke's test (2004, JASA 99:799): a kernel that leaves p(parameters, path | data) invariant, in turn with
new data given the path, leaves the joint prior of all three invariant.
"""

import dataclasses
from typing import Any

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
from mjp.inference import CrankNicolson, ParticleGibbs, ParticleMarginal
from mjp.inference.path_law import PathLaw

TIMES = np.array([0.0, 0.6, 1.2, 1.8])
DATA = np.array([np.nan, 7.0, np.nan, 4.0])
NOISE = 2.0
OPTIONS: dict[str, Any] = {"max_events": 32, "cells": 5, "auxiliary": "conditioned hazard"}


def graph(birth, death, values=DATA):
    network = mjp.ReactionNetwork([("0 -> X", birth), ("X -> 0", death)])
    chain = mjp.chain(network, TIMES, initial=[5])
    chain.observe_each(lambda x: dist.Normal(x["X"], NOISE), DATA)
    # values that are traced take the place of known ones
    chain.observations = [dataclasses.replace(chain.observations[0], values=jnp.asarray(values))]
    return chain


def model(values=DATA, **options):
    birth = numpyro.sample("birth", dist.LogNormal(1.0, 0.5))
    death = numpyro.sample("death", dist.LogNormal(-0.7, 0.4))
    mjp.sample("x", graph(birth, death, values), **{**OPTIONS, **options})


def known_rates(values=DATA, **options):
    mjp.sample("x", graph(3.0, 0.6, values), **{**OPTIONS, **options})


def both_kernels():
    return {
        "particle marginal": ParticleMarginal(model, particles=10),
        "particle Gibbs and NUTS": Gibbs(
            [(ParticleGibbs(model, particles=10), ["x.path"]), (NUTS(model), ["birth", "death"])]
        ),
    }


def run(kernel, warmup, draws, seed=0, fields=()):
    mcmc = MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
    mcmc.run(jax.random.key(seed), extra_fields=fields)
    return mcmc


# ----------------------------------------------------------------------------------- smoke tests


@pytest.mark.parametrize(
    "name", ["particle marginal", pytest.param("particle Gibbs and NUTS", marks=pytest.mark.slow)]
)
def test_kernels_run_and_report(name):
    fields = ("particle_ess", "renewed", "moved", "overflow", "jumped")
    own = fields if name == "particle marginal" else tuple(f"block_states.0.{f}" for f in fields[:4])
    mcmc = run(both_kernels()[name], 20, 40, fields=own)
    samples, report = mcmc.get_samples(), mcmc.get_extra_fields()
    assert samples["x.path"].shape == (40, 3, 32, 2)
    assert np.all(samples["birth"] > 0)
    assert np.unique(samples["birth"]).size > 5
    for field in own:
        values = np.asarray(report[field])
        if field.endswith("overflow"):
            # rates that are proposed far out may leave particles without room, which is counted
            assert np.mean(values > 0) < (0.25 if name == "particle marginal" else 0.01)
            continue
        assert np.all((values >= 0) & (values <= 1))
        assert values.max() > 0
    law = PathLaw(graph(3.0, 0.6), 32)
    assert np.all(np.isfinite(law.log_prob(samples["x.path"])))


@pytest.mark.slow
def test_innovations_of_clocks_by_crank_nicolson():
    def short():
        mjp.sample("x", graph(3.0, 0.6), latent="innovations", **OPTIONS)

    mcmc = run(CrankNicolson(short), 20, 60, fields=("accept_prob",))
    assert mcmc.get_samples()["x.innovations"].shape == (60, 3 * 2 * 32)
    assert np.asarray(mcmc.get_extra_fields()["accept_prob"]).max() > 0


def test_kernels_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="particles must be at least 2, got 1"):
        ParticleGibbs(model, particles=1)
    with pytest.raises(ValueError, match="particles must be at least 2, got 1"):
        ParticleMarginal(model, particles=1)

    def without_path():
        numpyro.deterministic("a", 1.0)

    with pytest.raises(ValueError, match="model has no path of a reaction network"):
        ParticleGibbs(without_path).init(jax.random.key(0), 0, None, (), {})
    with pytest.raises(ValueError, match="takes one random key"):
        ParticleMarginal(model).init(jax.random.split(jax.random.key(0)), 0, None, (), {})


# ------------------------------------------------------------------------------------- Geweke


def functions(parameters, path):
    law = PathLaw(graph(3.0, 0.6), 32)
    nodes = law.nodes(path)[:, 0].astype(float)
    events = law.trajectory(path).paths.n_events
    births = jnp.sum(path[..., 1] == 0)
    end = nodes[-1]
    found = [nodes[1], nodes[2], end, end**2, nodes[1] * end, jnp.sum(events), births]
    found += [jnp.log(value) for value in parameters] + [jnp.log(value) ** 2 for value in parameters]
    found += [jnp.log(value) * end for value in parameters]
    return jnp.stack([jnp.asarray(value, float) for value in found])


def new_data(key, path):
    nodes = PathLaw(graph(3.0, 0.6), 32).nodes(path)[:, 0]
    drawn = nodes + NOISE * jax.random.normal(key, nodes.shape)
    return jnp.where(jnp.isnan(DATA), jnp.nan, drawn)


def compare(prior, chain):
    """Means agree within four standard errors, those of the chain by its effective draws."""
    assert np.all(np.isfinite(chain))
    ess = np.array([effective_sample_size(np.asarray(column)[None]) for column in chain.T])
    error = np.sqrt(prior.var(axis=0) / len(prior) + chain.var(axis=0) / ess)
    z = (chain.mean(axis=0) - prior.mean(axis=0)) / error
    assert np.all(np.abs(z) < 4), (z, ess)
    assert np.all(ess > 300), (z, ess)


def with_step_size(state, size):
    """The state with a step size for the kernels of parameters, which nothing adapts here."""
    for name in {"nuts", "surrogate"} & set(state._fields):
        inner = getattr(state, name)
        adapt = inner.adapt_state._replace(step_size=jnp.asarray(size))
        state = state._replace(**{name: inner._replace(adapt_state=adapt)})
    return state


def geweke(kernel, parameters_of, n, seed):
    """Functions (n, m) of parameters and path along the alternation of the kernel with new data."""
    state = with_step_size(kernel.init(jax.random.key(seed), 0, None, (jnp.asarray(DATA),), {}), 0.3)

    def step(state, key):
        values = new_data(key, state.z["x.path"])
        state = kernel.sample(state, (values,), {})
        return state, functions(parameters_of(state.z), state.z["x.path"])

    keys = jax.random.split(jax.random.key(seed + 1), n)
    return np.asarray(jax.jit(lambda state, keys: lax.scan(step, state, keys)[1])(state, keys))[n // 20 :]


def prior_of(draw_parameters, n=20_000):
    def one(key):
        a, b = jax.random.split(key)
        parameters = draw_parameters(a)
        return functions(parameters, PathLaw(graph(*(parameters or (3.0, 0.6))), 32).sample(b))

    return np.asarray(
        jax.jit(lambda keys: lax.map(one, keys, batch_size=1000))(jax.random.split(jax.random.key(99), n))
    )


@pytest.mark.slow
def test_geweke_particle_gibbs():
    kernel = ParticleGibbs(known_rates, particles=4)
    compare(prior_of(lambda key: ()), geweke(kernel, lambda z: (), 20_000, 5))


@pytest.mark.slow
@pytest.mark.parametrize("guide", ["conditioned hazard", "linear noise"])
def test_geweke_particle_marginal(guide):
    def own(values=DATA):
        model(values, auxiliary=guide)

    def draw(key):
        a, b = jax.random.normal(key, (2,))
        return jnp.exp(1.0 + 0.5 * a), jnp.exp(-0.7 + 0.4 * b)

    kernel = ParticleMarginal(own, particles=4)
    chain = geweke(kernel, lambda z: (jnp.exp(z["birth"]), jnp.exp(z["death"])), 20_000, 7)
    compare(prior_of(draw), chain)


# ------------------------------------------------------------------- against exact marginalisation


def marginal(values=DATA):
    """The same model on the states 0, …, 40, with the path summed out."""
    birth = numpyro.sample("birth", dist.LogNormal(1.0, 0.5))
    death = numpyro.sample("death", dist.LogNormal(-0.7, 0.4))
    network = mjp.ReactionNetwork([("0 -> X", birth), ("X -> 0", death)])
    process, states = network.truncated([5], bounds={"X": 40})
    counts = jnp.append(jnp.asarray(states[:, 0], float), 1e3)  # of the state outside
    chain = mjp.chain(process, TIMES, initial=dist.Categorical(jnp.eye(len(counts))[0]))
    chain.observe_each(lambda x: dist.Normal(counts[x], NOISE), values)
    mjp.sample("x", chain)


@pytest.mark.slow
def test_kernels_draw_the_exact_posterior():
    exact = run(NUTS(marginal), 500, 4000).get_samples()
    moments = lambda s: np.stack(
        [f(np.log(np.asarray(s[n]))) for n in ("birth", "death") for f in (lambda v: v, np.square)], axis=1
    )
    for kernel in both_kernels().values():
        compare(moments(exact), moments(run(kernel, 500, 6000, seed=1).get_samples()))


@pytest.mark.slow
def test_crank_nicolson_on_clocks_draws_the_same_paths():
    def clocks():
        mjp.sample("x", graph(3.0, 0.6), latent="innovations", **OPTIONS)

    z = run(CrankNicolson(clocks, blocks=3), 1000, 20_000).get_samples()["x.innovations"]
    guided = mjp.condition(graph(3.0, 0.6), **OPTIONS)
    shape = guided.innovations["clocks"]
    ends = jax.jit(lambda z: lax.map(lambda z: guided.push({"clocks": z.reshape(shape)})[0].values[1:, 0], z))
    found = np.asarray(ends(z), float)
    paths = run(ParticleGibbs(known_rates, particles=20), 200, 4000).get_samples()["x.path"]
    other = np.asarray(jax.vmap(PathLaw(graph(3.0, 0.6), 32).nodes)(paths)[:, 1:, 0], float)
    ess = np.array([effective_sample_size(column[None]) for column in other.T])
    error = np.sqrt(other.var(axis=0) / ess)
    chain = np.array([effective_sample_size(column[None]) for column in found.T])
    error = np.sqrt(error**2 + found.var(axis=0) / chain)
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - other.mean(axis=0)), 4 * error)
