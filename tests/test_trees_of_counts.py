"""Particle filters and kernels of reaction networks on trees, against pruning with binomial transitions.

Cells of a clone die at rate 0.5, in a line of descent that branches; some nodes are seen with Poisson noise.
"""

import arviz
import jax
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC
from scipy.stats import binom, poisson

import mjp
from mjp.inference import ParticleGibbs
from mjp.inference.blocks import blocks_of
from mjp.inference.count_graph import evaluate

RATE, FIRST = 0.5, 20
COUNTS = np.arange(FIRST + 1)
EDGES = [
    ("root", "ab", 0.5),
    ("ab", "a", 0.4),
    ("ab", "b", 0.9),
    ("root", "cd", 0.6),
    ("cd", "c", 0.3),
    ("cd", "d", 0.2),
    ("root", "e", 1.0),
]
SECOND = [("other", "f", 0.7), ("f", "g", 0.4), ("f", "h", 0.8)]
SEEN = {"a": 9, "b": 12, "cd": 15, "c": 9, "d": 16, "e": 8}
SEEN_THERE = {"g": 17, "h": 8}


def clones(edges=EDGES, seen=SEEN, breaks=(), rate=RATE):
    tree = nx.DiGraph()
    tree.add_weighted_edges_from(edges, weight="length")
    network = mjp.ReactionNetwork([("X -> 0", [rate, rate] if breaks else rate)], breaks=list(breaks))
    graph = mjp.tree(tree, network, initial=[FIRST])
    return graph.observe_each(lambda x: dist.Poisson(x["X"] + 0.5), seen) if seen else graph


def pruned(edges, seen, root, rate=RATE):
    """Law (21,) of the observations below each state, by node."""
    found = {}

    def below(node):
        value = poisson.pmf(seen[node], COUNTS + 0.5) if node in seen else np.ones(len(COUNTS))
        for parent, child, length in edges:
            if parent == node:
                stay = np.array([binom.pmf(COUNTS, n, np.exp(-rate * length)) for n in COUNTS])
                value = value * (stay @ below(child))
        found[node] = value
        return value

    below(root)
    return found


def posterior(node, edges=EDGES, seen=SEEN):
    """Law (21,) of the count at a child of the root, given the data."""
    length = next(t for parent, child, t in edges if child == node)
    law = binom.pmf(COUNTS, FIRST, np.exp(-RATE * length)) * pruned(edges, seen, "root")[node]
    return law / law.sum()


LOG_EVIDENCE = np.log(pruned(EDGES, SEEN, "root")["root"][FIRST])
LOG_EVIDENCE_THERE = np.log(pruned(SECOND, SEEN_THERE, "other")["other"][FIRST])


@pytest.mark.parametrize(
    "options",
    [
        {"auxiliary": "linear noise", "max_events": 32, "cells": 6},
        pytest.param(
            {"auxiliary": "conditioned hazard", "max_events": 32, "cells": 6}, marks=pytest.mark.slow
        ),
        {"guided": False},
        {"guided": "resampling"},
        {"guided": "resampling", "trust": 1.0, "auxiliary": "conditioned hazard"},
    ],
    ids=lambda options: " ".join(str(value) for value in options.values()),
)
def test_evidence_of_a_tree(options):
    """exp of the log-evidence is unbiased: the mean over 60 filters, within four standard errors."""
    graph = clones()
    keys = jax.random.split(jax.random.key(0), 60)
    ratio = np.exp(
        [float(mjp.smc(graph, key, 100, **options).log_evidence[0]) - LOG_EVIDENCE for key in keys]
    )
    assert abs(ratio.mean() - 1) < 4 * ratio.std(ddof=1) / np.sqrt(len(ratio)) < 0.2


@pytest.mark.parametrize("guided", [True, False])
def test_evidence_of_a_forest_whose_rates_change(guided):
    """Two trees of different sizes side by side, edges cut at a break where in truth nothing changes."""
    graph = clones(EDGES + SECOND, {**SEEN, **SEEN_THERE}, [0.55])
    options = {"max_events": 32, "cells": 6} if guided else {}
    keys = jax.random.split(jax.random.key(1), 60)
    found = [mjp.smc(graph, key, 100, guided=guided, **options) for key in keys]
    assert found[0].ess.shape[1] == 2
    ratio = np.exp([float(one.log_evidence[0]) - LOG_EVIDENCE - LOG_EVIDENCE_THERE for one in found])
    assert abs(ratio.mean() - 1) < 4 * ratio.std(ddof=1) / np.sqrt(len(ratio)) < 0.3


def test_weights_of_segments_of_a_tree_add_up():
    guided = mjp.condition(clones(breaks=[0.55]), max_events=32, cells=6)
    path, log_weight = guided.sample(jax.random.key(0))
    terms = guided.weights_by_segment(path)
    assert terms.shape == (len(EDGES) + 1,)
    np.testing.assert_allclose(terms.sum(), log_weight, atol=1e-8)


def test_looking_ahead_helps():
    """Leaves seen closely: a bootstrap filter does not know what they ask for when it comes to a branch."""
    graph = clones(seen={})
    graph.observe_each(lambda x: dist.Normal(x["X"], 0.7), {"a": 5.0, "b": 4.0, "c": 7.0, "d": 8.0, "e": 5.0})
    keys = jax.random.split(jax.random.key(2), 60)
    spread = {
        guided: np.std([float(mjp.smc(graph, key, 100, guided=guided).log_evidence[0]) for key in keys])
        for guided in (False, "resampling")
    }
    assert spread["resampling"] < 0.7 * spread[False]


def test_particle_gibbs_draws_the_posterior_of_a_tree():
    """Counts at two inner nodes: shares of 1500 sweeps against the exact law, total variation below 0.1."""
    graph = clones()

    def model():
        mjp.sample("x", graph, max_events=32, cells=6)

    mcmc = MCMC(ParticleGibbs(model, particles=12), num_warmup=20, num_samples=1500, progress_bar=False)
    mcmc.run(jax.random.key(3), extra_fields=("renewed", "moved"))
    report = mcmc.get_extra_fields()
    assert float(np.mean(report["moved"])) > 0.5
    assert float(np.mean(report["renewed"])) > 0.2
    paths = np.asarray(mcmc.get_samples()["x.path"])
    assert np.all(np.isfinite(paths[:, :, 0]))
    events = np.sum(paths[..., 1] >= 0, axis=-1)  # deaths on each edge
    ends = [graph.ids[child] for _, child, _ in EDGES]
    pieces = evaluate(graph, None).pieces.children.tolist()
    for node in ("ab", "cd"):
        counts = FIRST - events[:, pieces.index(graph.ids[node])]
        assert set(ends) == set(pieces)
        shares = np.bincount(counts, minlength=len(COUNTS)) / len(counts)
        assert 0.5 * np.abs(shares - posterior(node)).sum() < 0.1


@pytest.mark.slow
def test_a_fit_of_the_rate():
    """The posterior mean through `mjp.fit` against pruning on a grid, within four standard errors."""

    def model():
        rate = numpyro.sample("rate", dist.LogNormal(-0.7, 0.5))
        mjp.sample("x", clones(rate=rate))

    fit = mjp.fit(model, draws=600, warmup=300, chains=2, seed=0, progress=False)
    draws = fit.samples["rate"]
    rates = np.linspace(0.05, 2.5, 400)
    law = np.array([pruned(EDGES, SEEN, "root", rate)["root"][FIRST] for rate in rates])
    law = law * np.exp(np.asarray(dist.LogNormal(-0.7, 0.5).log_prob(rates)))
    mean = law @ rates / law.sum()
    ess = float(arviz.ess(draws))
    assert ess > 300
    assert abs(draws.mean() - mean) < 4 * draws.std() / np.sqrt(ess)


def test_slots():
    """A chain needs one slot, a caterpillar two, a balanced tree one per level; all edges are there."""
    network = mjp.ReactionNetwork([("X -> 0", RATE)])
    chain = mjp.chain(network, np.arange(6.0), initial=[5], series=3)
    caterpillar = [(f"s{i}", f"{kind}{i + 1}", 1.0) for i in range(30) for kind in "sl"]
    balanced = [(str((i - 1) // 2), str(i), 1.0) for i in range(1, 2**7 - 1)]
    graphs = {1: chain, 2: clones(caterpillar, {"l9": 3}), 7: clones(balanced, {"100": 1})}
    for slots, graph in graphs.items():
        blocks = blocks_of(evaluate(graph, None).static)
        assert blocks.n_slots <= slots
        assert sorted(blocks.pieces.reshape(-1)) == list(range(len(blocks.pieces.reshape(-1))))


def test_nobody_alive_is_reported_with_the_edge():
    """A clone that grows from its parent cannot be reached."""
    tree = nx.DiGraph()
    tree.add_weighted_edges_from(EDGES, weight="length")
    graph = mjp.tree(tree, mjp.ReactionNetwork([("X -> 0", RATE)]), initial=[FIRST])
    graph.observe_each(mjp.Exactly(), {"c": [25]})
    with pytest.raises(RuntimeError, match=r"none of 50 particles is alive after edge, from .*cd.* to .*c"):
        mjp.smc(graph, jax.random.key(0), 50, guided=False)
