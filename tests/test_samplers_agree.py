"""Samplers of jump paths side by side on one truncated network: two-sample tests on 1000 effective draws.

Births at a constant rate and deaths, cut off at 20, seen with normal noise at two of four times. Parameters:
uniformization Gibbs, particle Gibbs, particle marginal and pseudo-marginal Metropolis, against NUTS with the
path summed out. Paths at known rates: uniformization, particle Gibbs and Crank-Nicolson moves of clocks,
against the exact law of the counts.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS, Gibbs
from scipy import stats

import mjp
from mjp.inference import CrankNicolson, ParticleGibbs, ParticleMarginal, PseudoMarginal, UniformizationGibbs
from mjp.inference.path_law import PathLaw

pytestmark = pytest.mark.slow

TIMES = np.array([0.0, 0.6, 1.2, 1.8])
SEEN = np.array([np.nan, 7.0, np.nan, 4.0])
NOISE, LARGEST, FIRST = 2.0, 20, 5
BIRTH, DEATH = 3.0, 0.6
OPTIONS: dict[str, Any] = {"max_events": 32, "cells": 5, "auxiliary": "conditioned hazard"}
DRAWS = 1000


def births_and_deaths(birth, death):
    # nobody is born where there is no room
    grow = lambda x: birth * (x["X"] < LARGEST)
    return mjp.ReactionNetwork([("0 -> X", grow), ("X -> 0", death)])


def network(birth, death):
    chain = mjp.chain(births_and_deaths(birth, death), TIMES, initial=[FIRST])
    return chain.observe_each(lambda x: dist.Normal(x["X"], NOISE), SEEN)


def states(birth, death):
    """The same with labelled states."""
    process, counts = births_and_deaths(birth, death).truncated([FIRST], bounds={"X": LARGEST})
    counts = jnp.asarray(counts[:, 0], float)
    whole = jnp.append(counts, 1e3)[: len(process.states)]
    chain = mjp.chain(process, TIMES, initial=(FIRST,))
    return chain.observe_each(lambda x: dist.Normal(whole[x], NOISE), SEEN), counts


def rates():
    return (
        numpyro.sample("birth", dist.LogNormal(1.0, 0.5)),
        numpyro.sample("death", dist.LogNormal(-0.7, 0.4)),
    )


def marginal():
    mjp.sample("x", states(*rates())[0])


def with_jump_path():
    mjp.sample("x", states(*rates())[0], latent="path", max_jumps=64)


def with_events():
    mjp.sample("x", network(*rates()), **OPTIONS)


def run(kernel, warmup, draws, seed):
    mcmc = MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
    mcmc.run(jax.random.key(seed))
    return mcmc.get_samples()


def thinned(values):
    """At least `DRAWS` draws (n,) of a chain, so far apart that they are nearly independent."""
    ess = float(effective_sample_size(np.asarray(values)[None]))
    assert ess > DRAWS, ess
    return np.asarray(values)[:: int(np.ceil(len(values) / ess))]


@pytest.fixture(scope="module")
def exact():
    return run(NUTS(marginal), 500, 8000, 0)


def blocks(paths, model):
    return Gibbs([(paths(model), ["x.path"]), (NUTS(model), ["birth", "death"])])


KERNELS = {
    "uniformization Gibbs": (lambda: blocks(UniformizationGibbs, with_jump_path), 500, 30_000),
    "particle Gibbs": (lambda: blocks(lambda m: ParticleGibbs(m, particles=20), with_events), 500, 20_000),
    "particle marginal": (lambda: ParticleMarginal(with_events, particles=20), 500, 8000),
    "pseudo-marginal": (lambda: PseudoMarginal(with_events, particles=30), 1000, 30_000),
}


@pytest.mark.parametrize("name", KERNELS)
def test_posteriors_of_parameters(name, exact):
    """Kolmogorov-Smirnov tests of both rates and of their ratio, at one in a thousand each."""
    kernel, warmup, draws = KERNELS[name]
    found = run(kernel(), warmup, draws, 1)
    looks = {
        "birth": lambda z: np.log(z["birth"]),
        "death": lambda z: np.log(z["death"]),
        "ratio": lambda z: np.log(z["birth"]) - np.log(z["death"]),
    }
    for what, look in looks.items():
        ours, theirs = thinned(look(found)), thinned(look(exact))
        p = stats.ks_2samp(ours, theirs).pvalue
        print(f"{name}, {what}: {len(ours)} and {len(theirs)} draws, p = {p:.3f}")
        assert p > 1e-3, (what, p)


def law_of_counts():
    """Draws (40000,) of the count at each of the later times, from the exact law given the data."""
    graph, counts = states(BIRTH, DEATH)
    smoothed = mjp.condition(graph)
    keys = jax.random.split(jax.random.key(9), 40_000)
    positions = np.asarray(jax.jit(jax.vmap(lambda key: smoothed.sample(key)[0].values))(keys))[:, 1:]
    return [np.asarray(counts)[column] for column in positions.T]


def by_uniformization():
    def model():
        mjp.sample("x", states(BIRTH, DEATH)[0], latent="path", max_jumps=64)

    paths = run(UniformizationGibbs(model), 100, 8000, 2)["x.path"]
    counts = np.asarray(states(BIRTH, DEATH)[1])
    starts = counts[np.asarray(paths[:, :, 0, 1], int)]
    return np.column_stack([starts[:, 1:], counts[np.asarray(paths[:, -1, -1, 1], int)]])


def by_particle_gibbs():
    def model():
        mjp.sample("x", network(BIRTH, DEATH), **OPTIONS)

    paths = run(ParticleGibbs(model, particles=20), 100, 6000, 3)["x.path"]
    return np.asarray(jax.vmap(PathLaw(network(BIRTH, DEATH), 32).nodes)(paths))[:, 1:, 0]


def by_crank_nicolson():
    def model():
        mjp.sample("x", network(BIRTH, DEATH), latent="innovations", **OPTIONS)

    z = run(CrankNicolson(model, blocks=3), 1000, 40_000, 4)["x.innovations"]
    guided = mjp.condition(network(BIRTH, DEATH), **OPTIONS)
    shape = guided.innovations["clocks"]
    ends = lambda z: guided.push({"clocks": z.reshape(shape)})[0].values[1:, 0]
    return np.asarray(jax.jit(lambda z: jax.lax.map(ends, z, batch_size=500))(z))


@pytest.mark.parametrize("sampler", [by_uniformization, by_particle_gibbs, by_crank_nicolson])
def test_paths_at_known_rates(sampler):
    """Chi-square tests of the counts at the three later times, at one in a thousand each."""
    for ours, theirs in zip(np.asarray(sampler(), float).T, law_of_counts(), strict=True):
        ours = thinned(ours)
        cuts = np.unique(np.quantile(theirs, np.linspace(0, 1, 9)[1:-1]))
        table = np.array(
            [np.bincount(np.searchsorted(cuts, own), minlength=len(cuts) + 1) for own in (ours, theirs)]
        )
        p = stats.chi2_contingency(table).pvalue
        print(f"{sampler.__name__}: {len(ours)} draws, p = {p:.3f}")
        assert p > 1e-3
