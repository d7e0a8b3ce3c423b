"""Trees: stochastic maps of the anole phylogeny, and pruning on a balanced and a caterpillar tree."""

import argparse
import time

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro.distributions as dist
from common import compiled, emit, interleave, median_ms

import mjp
from mjp.models import anoles

PHYTOOLS_SECONDS, PHYTOOLS_CHANGES = 102.758, 33.513  # R 4.2.2, phytools 1.5.1, 1000 maps at the same rate
RATE = 0.05  # of each change, per unit of branch length
N_STATES = 4


def stochastic_maps(maps: int, seconds: float) -> None:
    """Time draws of complete histories of the 82 species; the average number of changes is the check."""
    species = anoles.load()
    guided = mjp.condition(anoles.evolution(RATE, species))

    def draw(key: jax.Array) -> jax.Array:
        """Changes along all branches, one number per map, which needs every jump of every map."""
        trajectory = jax.vmap(lambda k: guided.sample(k)[0])(jax.random.split(key, maps))
        jumps = trajectory.jumps
        return jnp.sum(jumps.times < jumps.ends[..., None], axis=(-2, -1)), trajectory

    program, trace, compilation = compiled(draw, jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    counts: list[np.ndarray] = []

    def once() -> jax.Array:
        changes, trajectory = program(next(keys))
        counts.append(np.asarray(changes))
        return trajectory.values

    times = interleave({"mjp": once}, seconds, least=3, most=50)["mjp"]
    changes = np.concatenate(counts)
    took = float(np.median(times))
    emit(
        "trees",
        f"anoles, {maps} maps",
        "stochastic maps, warm",
        took,
        unit="s",
        peer="phytools",
        peers=PHYTOOLS_SECONDS * maps / 1000,
        ratio=PHYTOOLS_SECONDS * maps / 1000 / took,
        target="<= 1 s",
        trace_s=trace,
        compile_s=compilation,
        rounds=len(times),
    )
    emit(
        "trees",
        f"anoles, {len(changes)} maps",
        "mean number of changes",
        float(changes.mean()),
        unit="",
        peer="phytools",
        peers=PHYTOOLS_CHANGES,
        target="33.51 +- 0.15",
        standard_error=float(changes.std() / np.sqrt(len(changes))),
    )


def balanced(depth: int) -> tuple[nx.DiGraph, list[int]]:
    """A complete binary tree and its 2**depth leaves."""
    n = 2 ** (depth + 1) - 1
    return _with_lengths([((i - 1) // 2, i) for i in range(1, n)]), list(range(2**depth - 1, n))


def caterpillar(leaves: int) -> tuple[nx.DiGraph, list[int]]:
    """A tree whose inner nodes form a path, with a leaf at each, and its leaves."""
    spine = leaves - 1
    along = [(i, i + 1) for i in range(spine - 1)]
    hanging = [(min(i, spine - 1), spine + i) for i in range(leaves)]
    return _with_lengths(along + hanging), list(range(spine, spine + leaves))


def _with_lengths(edges: list[tuple[int, int]]) -> nx.DiGraph:
    lengths = np.random.default_rng(0).exponential(0.1, len(edges))
    graph = nx.DiGraph()
    graph.add_edges_from(
        (parent, child, {"length": length})
        for (parent, child), length in zip(edges, lengths.tolist(), strict=True)
    )
    return graph


def pruning(case: str, tree: nx.DiGraph, leaves: list[int], seconds: float) -> None:
    """Compile and run value, and value and gradient, in twelve log-rates; all branch lengths differ."""
    states = np.random.default_rng(1).integers(N_STATES, size=len(leaves)).tolist()
    tips = dict(zip(leaves, states, strict=True))
    uniform = jnp.full(N_STATES, 1 / N_STATES)

    def log_likelihood(log_rates: jax.Array) -> jax.Array:
        process = mjp.MarkovJump(jnp.exp(log_rates) * (1 - np.eye(N_STATES)))
        graph = mjp.tree(tree, process, initial=dist.Categorical(uniform)).observe_each(mjp.Exactly(), tips)
        return mjp.condition(graph).log_evidence

    start = jnp.asarray(0.1 * np.random.default_rng(2).normal(size=(N_STATES, N_STATES)), jnp.float32)
    for figure, function in (
        ("value", log_likelihood),
        ("value + gradient", jax.value_and_grad(log_likelihood)),
    ):
        began = time.process_time()
        program, trace, compilation = compiled(function, start)
        processor = time.process_time() - began
        emit(
            "trees",
            case,
            f"building {figure}",
            trace + compilation,
            unit="s",
            target="<= 3 s",
            trace_s=trace,
            compile_s=compilation,
            processor_s=processor,
        )
        times = interleave({"mjp": lambda program=program: program(start)}, seconds)["mjp"]
        emit("trees", case, figure, median_ms(times), fastest_ms=float(1e3 * times.min()), rounds=len(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller trees, fewer maps")
    options = parser.parse_args()
    seconds = 1.0 if options.quick else 5.0
    stochastic_maps(100 if options.quick else 1000, seconds)
    depth, length = (8, 50) if options.quick else (14, 500)
    pruning(f"balanced, {2**depth} leaves, K=4", *balanced(depth), seconds)
    pruning(f"caterpillar, {length} leaves, K=4", *caterpillar(length), seconds)


if __name__ == "__main__":
    main()
