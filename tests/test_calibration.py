"""Simulation-based calibration of finite-state models, whose paths are marginalised."""

import os

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from _calibration import check_calibrated, with_values

import mjp

pytestmark = pytest.mark.slow

REPLICATIONS = int(os.environ.get("R", "320"))


def hidden_chain(values):
    rows = numpyro.sample(
        "rows", dist.Dirichlet(jnp.array([[4.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, 4.0]])).to_event(1)
    )
    mean = numpyro.sample("mean", dist.Normal(jnp.array([-2.0, 0.0, 2.0]), 0.5).to_event(1))
    sd = numpyro.sample("sd", dist.LogNormal(-0.5, 0.3))
    g = mjp.chain(mjp.MarkovChain(rows), np.arange(60), initial=dist.Categorical(jnp.ones(3) / 3))
    g.observe_each(lambda x: dist.Normal(mean[x], sd), np.zeros(60))
    with_values(g, values)
    mjp.sample("x", g)
    return g


RNG = np.random.default_rng(5)
VISITS = [np.sort(RNG.uniform(0, 6, RNG.integers(2, 7))) for _ in range(40)]
DESIGN = mjp.Panel.from_arrays(
    np.repeat(np.arange(40), [len(v) for v in VISITS]),
    np.concatenate(VISITS),
    np.zeros(sum(len(v) for v in VISITS)),
)


def panel_with_errors(values):
    rate = numpyro.sample("rate", dist.LogNormal(jnp.array([-1.0, -1.5, -1.0]), 0.7).to_event(1))
    error = numpyro.sample("error", dist.Beta(2.0, 12.0))
    seen = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) * (1 - error)
    seen = seen + error * jnp.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    process = mjp.MarkovJump({(0, 1): rate[0], (1, 0): rate[1], (1, 2): rate[2]})
    g = mjp.panel(
        process,
        DESIGN,
        observe=lambda x: dist.Categorical(seen[x]),
        initial=dist.Categorical(jnp.array([0.7, 0.2, 0.1])),
    )
    with_values(g, values)
    mjp.sample("x", g)
    return g


def balanced_newick(depth, name="n"):
    if depth == 0:
        return f"{name}:{0.3 + 0.1 * (len(name) % 4)}"
    return f"({balanced_newick(depth - 1, name + 'a')},{balanced_newick(depth - 1, name + 'b')}){name}:0.5"


NEWICK = balanced_newick(6) + ";"


def tree(values):
    rate = numpyro.sample("rate", dist.LogNormal(jnp.array([-0.5, 0.0]), 0.6).to_event(1))
    root = numpyro.sample("root", dist.Beta(2.0, 2.0))
    process = mjp.MarkovJump({("a", "b"): rate[0], ("b", "a"): rate[1]})
    g = mjp.tree(NEWICK, process, initial=dist.Categorical(jnp.stack([1 - root, root])))
    seen = jnp.array([[0.97, 0.03], [0.03, 0.97]])
    g.observe_each(lambda x: dist.Categorical(seen[x]), dict.fromkeys(g.leaves, 0.0))
    with_values(g, values)
    mjp.sample("x", g)
    return g


@pytest.mark.parametrize("model", [hidden_chain, panel_with_errors, tree], ids=lambda m: m.__name__)
def test_ranks_are_uniform(model):
    check_calibrated(model, replications=REPLICATIONS, bins=16, warmup=300, draws=300, thin=5)
