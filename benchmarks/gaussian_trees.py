"""Backward and guided sweeps on Gaussian trees, balanced and caterpillar: compile and run times."""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro.distributions as dist
from common import compiled, emit, interleave, median_ms, median_ratio

import mjp

D, STEPS, NOISE = 2, 20, 0.1


def balanced(depth: int) -> nx.DiGraph:
    tree = nx.DiGraph()
    tree.add_edges_from(((i - 1) // 2, i, {"length": 1.0}) for i in range(1, 2 ** (depth + 1) - 1))
    return tree


def caterpillar(leaves: int) -> nx.DiGraph:
    tree = nx.DiGraph()
    for i in range(leaves - 1):
        last = i == leaves - 2
        tree.add_edge(("in", i), ("leaf", i), length=1.0)
        tree.add_edge(("in", i), ("leaf", i + 1) if last else ("in", i + 1), length=1.0)
    return tree


def ours(tree: nx.DiGraph, process: Any, steps: int, values: dict):
    """Log-evidence plus log-weight, as a function of the noise's scale and the innovations."""

    def declare(scale):
        graph = mjp.tree(tree, process(scale), initial=jnp.zeros(D), steps=steps)
        return graph.observe_each(lambda x: dist.Normal(x, NOISE**0.5), values)

    def value(scale, z):
        guided = mjp.condition(declare(scale), auxiliary="observations")
        return guided.log_evidence + guided.push(z)[1]

    shapes = jax.eval_shape(lambda: mjp.condition(declare(0.5), auxiliary="observations")).innovations
    keys = jax.random.split(jax.random.key(1), len(shapes))
    return value, {n: jax.random.normal(k, s) for (n, s), k in zip(shapes.items(), keys, strict=True)}


PROCESSES = {
    "discrete": lambda scale: mjp.StateSpace(lambda x: 0.9 * x + 0.1 * jnp.sin(x), scale * jnp.eye(D)),
    "SDE": lambda scale: mjp.Diffusion(lambda t, x: -x + 0.3 * jnp.sin(x), scale * jnp.eye(D), D),
}


def peer(kind: str, depth: int) -> Any:
    """hyperiax's sweeps of the same model on the balanced tree, and their innovations; None if not there."""
    try:
        import hyperiax as hx
        from hyperiax.prebuilt import bffg
    except ImportError:
        return None
    topology = hx.symmetric_topology(depth=depth, degree=2)
    n, leaves = topology.size, int(np.asarray(topology.is_leaf).sum())
    y = jax.random.normal(jax.random.key(0), (leaves, D))
    spread = lambda anchor, p: p["s"] * jnp.eye(D)
    if kind == "discrete":
        slope, shift = lambda a, p: 0.9 * jnp.eye(D), lambda a, p: jnp.zeros(D)
        empty = hx.Tree.empty(topology, bffg.discrete_schema(D))
        back = bffg.discrete_bf_sweep(slope, shift, spread)
        mean = lambda x, p: 0.9 * x + 0.1 * jnp.sin(x)
        guide = bffg.discrete_fg_sweep(mean, lambda x, p: p["s"] * jnp.eye(D), slope, shift, spread)
        z = jax.random.normal(jax.random.key(1), (n, D))

        def value(s, z):
            tree = bffg.init_discrete_tree(empty, y, obs_var=NOISE, d=D, root_val=jnp.zeros(D))
            tree = guide(back(tree, params={"s": s}).set(z=z), params={"s": s})
            return tree.log_norm[0] + tree.log_corr.sum()

        return value, z
    empty = hx.Tree.empty(topology, bffg.continuous_schema(D, STEPS)).set(edge_len=jnp.ones(n))
    matrix, offset = lambda t, a, p: -jnp.eye(D), lambda t, a, p: jnp.zeros(D)
    sigma = lambda t, x, p: p["s"] * jnp.eye(D)
    drift = lambda t, x, p: -x + 0.3 * jnp.sin(x)
    back = bffg.continuous_bf_sweep(STEPS, matrix, offset, sigma)
    guide = bffg.continuous_fg_sweep(STEPS, drift, sigma, matrix, offset, sigma)
    z = jax.random.normal(jax.random.key(1), (n, STEPS, D))

    def value(s, z):
        tree = bffg.init_continuous_tree(empty, y, obs_var=NOISE, d=D, n_steps=STEPS, root_val=jnp.zeros(D))
        tree = guide(back(tree, params={"s": s}).set(zs=z), params={"s": s})
        return tree.log_norm[0] + tree.log_corr.sum()

    return value, z


def observations(tree: nx.DiGraph) -> dict:
    rng = np.random.default_rng(0)
    return {node: rng.normal(size=D) for node in tree if tree.out_degree(node) == 0}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    depth, leaves = (6, 30) if quick else (14, 500)
    for kind, process in PROCESSES.items():
        steps, limit = (STEPS, "10 s") if kind == "SDE" else (1, "3 s")
        for shape, tree in (("balanced", balanced(depth)), ("caterpillar", caterpillar(leaves))):
            case = f"{kind} edges, {shape}, {2**depth if shape == 'balanced' else leaves} leaves"
            value, z = ours(tree, process, steps, observations(tree))
            for figure, function in (("value", value), ("value and gradient", jax.value_and_grad(value))):
                program, traced, seconds = compiled(function, 0.5, z)
                emit(
                    "gaussian_trees",
                    case,
                    f"{figure}: compile",
                    seconds,
                    unit="s",
                    target=limit,
                    traced=traced,
                )
                calls = {"mjp": lambda program=program, z=z: program(0.5, z)}
                other = peer(kind, depth) if shape == "balanced" and figure == "value" else None
                if other is not None:
                    theirs, _, their_seconds = compiled(other[0], 0.5, other[1])
                    calls["hyperiax"] = lambda theirs=theirs, z=other[1]: theirs(0.5, z)
                times = interleave(calls, 5.0)
                more = {}
                if other is not None:
                    more = {
                        "peer": "hyperiax",
                        "peers": median_ms(times["hyperiax"]),
                        "ratio": median_ratio(times["hyperiax"], times["mjp"]),
                        "target": "10" if kind == "discrete" else "3",
                        "peer_compile_s": their_seconds,
                    }
                emit("gaussian_trees", case, f"{figure}: run", median_ms(times["mjp"]), **more)


if __name__ == "__main__":
    main()
