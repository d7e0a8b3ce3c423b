"""Whoever conditions a graph again does not wait for the compiler again."""

from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import monitoring

import mjp

NAN = np.nan
TIMES = np.linspace(0.0, 1.0, 5)
SEEN = np.array([NAN, 0.3, 0.1, 0.4, 0.2])
COUNTS = np.array([NAN, 4.0, 2.0, 3.0, 5.0])


@contextmanager
def compilations():
    """Names of the programs that are compiled within, or read from a cache on disk."""
    found = []
    listen = lambda name, seconds, **_: found.append(name) if "backend_compile" in name else None
    monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        monitoring.unregister_event_duration_listener(listen)


def chain(process, initial, likelihood, values, **options):
    return mjp.chain(process, TIMES, initial=initial, **options).observe_each(likelihood, values)


def jump():
    rates = {("a", "b"): 1.0, ("b", "a"): 2.0}
    return chain(mjp.MarkovJump(rates), "a", lambda x: dist.Normal(1.0 * x, 1.0), SEEN)


def tree():
    graph = mjp.tree("((a:0.4,b:0.9)ab:0.5,c:0.3)root;", mjp.MarkovJump({("a", "b"): 1.0}), initial="a")
    return graph.observe_each(mjp.Exactly(), {"a": "a", "b": "b", "c": "b"})


def diffusion():
    process = mjp.Diffusion(lambda t, x: jnp.sin(x), 0.3)
    return chain(process, [0.0], lambda x: dist.Poisson(jnp.exp(x[0])), COUNTS, steps=5)


def network():
    process = mjp.ReactionNetwork([("X -> 0", 0.5), ("0 -> X", 2.0)])
    return chain(process, [5], lambda x: dist.Poisson(x["X"] + 0.5), COUNTS)


def gamma():
    return chain(mjp.GammaProcess(2.0, 1.0), [0.0], lambda x: dist.Normal(x[0], 0.5), np.cumsum(SEEN))


@pytest.mark.parametrize("make", [jump, tree, diffusion, network, gamma])
def test_nothing_is_compiled_for_the_same_graph(make):
    graph = make()
    infer = [mjp.condition]
    infer += [] if make in (jump, tree) else [lambda g: mjp.evidence(g, jax.random.key(0), 20)]
    infer += [lambda g: mjp.smc(g, jax.random.key(0), 20, max_events=64)] if make is network else []
    for call in infer:
        call(graph)
        with compilations() as found:
            call(graph)
        assert not found


def test_content_is_what_counts():
    from mjp._by_content import content

    same = [np.arange(3), (1, "a"), {"x": np.ones(2)}, slice(1, 4), frozenset({"b"})]
    again = [np.arange(3), (1, "a"), {"x": np.ones(2)}, slice(1, 4), frozenset({"b"})]
    assert content(same) == content(again)
    for other in (np.arange(4), np.arange(3.0), np.arange(3).reshape(3, 1), np.array([0, 1, 3])):
        assert content(same[0]) != content(other)
    assert content(np.float64(1)) != content(np.ones(1))
    assert content(1) != content(True) != content(1.0)
    assert content([1]) != content((1,))
