"""A nonlinear branching diffusion, with noise that depends on the state, converges through `mjp.fit`.

Two genes of a cell repress each other; both their amounts are inherited by the daughters. Of the 32 cells
after five divisions a reporter shows one gene, with an error. In units of the decay of the proteins, with u
and v the amounts,

    du = (synthesis / (1 + v^2) - u) dt + noise sqrt(u) dW,

and v likewise; the state is (log u, log v). With synthesis above 2 there are two stable states, one with u
high and one with v high (Gardner, Cantor & Collins 2000, Nature 403:339-342). 62 edges of five
Euler-Maruyama steps in two coordinates are 620 innovations.
"""

import arviz
import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import mjp

TRUTH = {"synthesis": 3.0, "noise": 0.3, "error": 0.1}
DIVISIONS, STEPS = 5, 5


def lineage() -> nx.DiGraph:
    """Cells by number; one lives for one unit of time."""
    tree = nx.DiGraph()
    tree.add_edges_from(((i - 1) // 2, i, {"length": 1.0}) for i in range(1, 2 ** (DIVISIONS + 1) - 1))
    return tree


def cells(synthesis, noise, error, values, steps=STEPS):
    def drift(t, x):
        repressed = synthesis / (1 + jnp.exp(2 * x[::-1]))
        return (repressed - 0.5 * noise**2) * jnp.exp(-x) - 1

    process = mjp.Diffusion(drift, lambda t, x: noise * jnp.exp(-0.5 * x), dim=2)
    tree = mjp.tree(lineage(), process, initial=jnp.zeros(2), steps=steps)
    return tree.observe_each(lambda x: dist.Normal(x[0], error), values)


def switch(values):
    synthesis = numpyro.sample("synthesis", dist.LogNormal(jnp.log(2.5), 0.4))
    noise = numpyro.sample("noise", dist.LogNormal(jnp.log(0.3), 0.5))
    error = numpyro.sample("error", dist.LogNormal(jnp.log(0.1), 0.5))
    mjp.sample("x", cells(synthesis, noise, error, values))


def simulated(key: int) -> dict:
    """Values of the reporter, made with steps four times finer than those of inference."""
    leaves = [node for node in lineage() if node >= 2**DIVISIONS - 1]
    graph = cells(**TRUTH, values=dict.fromkeys(leaves, 0.0), steps=4 * STEPS)
    values = np.asarray(mjp.simulate(graph, jax.random.key(key)).observations[0]).reshape(-1)
    return {graph.names[node]: value for node, value in zip(graph.observations[0].nodes, values, strict=True)}


@pytest.mark.slow
def test_a_switch_along_a_cell_lineage_converges():
    fit = mjp.fit(switch, simulated(1), warmup=400, draws=600, chains=4, seed=0, progress=False)
    assert fit.statistics["diverging"].sum() == 0
    for name, truth in TRUTH.items():
        draws = fit.samples[name]
        r_hat, ess = (float(f(draws)) for f in (arviz.rhat, arviz.ess))
        print(f"{name}: {draws.mean():.3f} ± {draws.std():.3f}, R-hat {r_hat:.4f}, ESS {ess:.0f}")
        assert r_hat < 1.01
        assert ess > 400
        assert abs(np.log(draws).mean() - np.log(truth)) < 4 * np.log(draws).std()
