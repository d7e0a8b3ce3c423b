"""Regimes by clade: what belongs to one, and the likelihood of optima that differ between them."""

import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_normal

import mjp

TREE = "(((a:1,b:1)ab:0.5,(c:0.7,d:0.7)cd:0.8)abcd:0.3,e:1.8)r;"


def test_edges_belong_to_the_smallest_clade():
    found = mjp.regimes(TREE, {"all four": ["a", "d"], "pair": ["c", "d"], "one": ["b"]})
    assert found == {"r": 0, "e": 0, "abcd": 1, "ab": 1, "a": 1, "b": 3, "cd": 2, "c": 2, "d": 2}
    bare = mjp.regimes(TREE, {"all four": ["a", "d"]}, stem=False)
    assert bare["abcd"] == 0
    assert bare["ab"] == 1


def test_the_likelihood_of_an_optimum_per_clade():
    """Moments along each lineage by hand (Hansen 1997)."""
    pull, variance, optima = 0.8, 0.5, np.array([1.0, 3.0])
    sizes = {"a": 2.5, "b": 2.2, "c": 1.4, "d": 0.7, "e": 0.9}
    process = mjp.LinearDiffusion(
        -pull, lambda c: pull * jnp.asarray(optima)[c["regime"]], jnp.sqrt(variance)
    )
    law = dist.Normal(optima[0], np.sqrt(variance / (2 * pull)))
    painted = mjp.regimes(TREE, {"pair": ["a", "b"]})
    tree = mjp.tree(TREE, process, initial=law, covariates={"regime": painted})
    guided = mjp.condition(tree.observe_each(mjp.Exactly(), sizes))

    edges = {"abcd": ("r", 0.3), "ab": ("abcd", 0.5), "cd": ("abcd", 0.8), "a": ("ab", 1.0), "b": ("ab", 1.0)}
    edges |= {"c": ("cd", 0.7), "d": ("cd", 0.7), "e": ("r", 1.8)}
    mean, depth, above = {"r": 1.0}, {"r": 0.0}, {"r": ["r"]}
    for child in ("abcd", "ab", "cd", "a", "b", "c", "d", "e"):
        parent, length = edges[child]
        kept, target = np.exp(-pull * length), optima[1 if child in ("ab", "a", "b") else 0]
        mean[child] = kept * mean[parent] + (1 - kept) * target
        depth[child], above[child] = depth[parent] + length, [child, *above[parent]]
    shared = lambda x, y: max(depth[n] for n in set(above[x]) & set(above[y]))
    stationary = variance / (2 * pull)
    covariance = [
        [stationary * np.exp(-pull * (depth[x] + depth[y] - 2 * shared(x, y))) for y in sizes] for x in sizes
    ]
    expected = multivariate_normal([mean[x] for x in sizes], covariance).logpdf(list(sizes.values()))
    np.testing.assert_allclose(guided.log_evidence, expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("tree", "clades", "error", "message"),
    [
        (TREE, {"x": ["a", "z"]}, ValueError, "'z' of 'x' is not a node"),
        (TREE, {"x": []}, ValueError, "'x' has no labels"),
        (TREE, {"x": ["a", "b"], "y": ["ab"]}, ValueError, "'x' and 'y' have the same ancestor"),
        (TREE, {"x": "ab"}, TypeError, "clades must map each name to a list"),
        (nx.DiGraph([("r", "a"), ("s", "b")]), {"x": ["a", "b"]}, ValueError, "on different trees"),
        (3, {}, TypeError, "tree must be text or a networkx.DiGraph, got int"),
    ],
)
def test_bad_input(tree, clades, error, message):
    with pytest.raises(error, match=message):
        mjp.regimes(tree, clades)
