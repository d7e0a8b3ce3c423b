"""Paths with vector states, replicated data and weights computed from posterior draws."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjp.fitting.draws import choose_draws
from mjp.graph import Graph
from mjp.inference import simulate
from mjp.inference.observing import observations_of
from mjp.numpyro_bridge import conditioned_graphs, has_agents
from mjp.on_grid import node_times
from mjp.switching_trajectory import SwitchingTrajectory


@dataclass(frozen=True)
class VectorPathDraws:
    """Posterior paths of one graph for some posterior draws.

    Attributes:
        chain, draw: (n,) which posterior draws.
        nodes: (n, n_nodes, d) states at the nodes.
        grid: (n, m, d) or (n, n_series, m, d) states at the times asked for; or None.
        replicated: simulated observations of new paths, one array (n, ...) per batch of observations.
        measured: simulated observations of the posterior paths themselves, likewise.
        edge_weights, site_weights: (n, n_nodes) log-weights of the edge above each node, and of its
            observations; zero where the guide is exact, None where there is none.
        regimes, regime_grid: (n, n_nodes), and (n, m) or (n, n_series, m), positions of the regimes of a
            switching process at the nodes and at the times asked for; None for other processes.
    """

    chain: np.ndarray
    draw: np.ndarray
    nodes: np.ndarray
    grid: np.ndarray | None
    replicated: tuple[np.ndarray, ...]
    measured: tuple[np.ndarray, ...]
    edge_weights: np.ndarray | None
    site_weights: np.ndarray | None
    regimes: np.ndarray | None
    regime_grid: np.ndarray | None


def draw_vector_paths(
    model: Callable,
    args: tuple,
    kwargs: dict,
    samples: dict[str, np.ndarray],
    name: str,
    times: np.ndarray | None,
    number: int,
    key: jax.Array,
) -> VectorPathDraws:
    """The path of the graph `name` for each of `number` posterior draws.

    A guided path follows from the draw's own innovations; an exactly conditioned one is drawn anew.
    """
    chain, draw = choose_draws(samples, number)
    parameters = {site: jnp.asarray(values[chain, draw]) for site, values in samples.items()}

    def one(x: tuple[Any, jax.Array]) -> tuple[Any, ...]:
        parameters, key = x
        path_key, data_key, again_key = jax.random.split(key, 3)
        found = conditioned_graphs(model, args, kwargs, parameters, path_key)[name]
        path: Any = found.trajectory
        replicated = simulate(found.graph, data_key).observations
        measured = observations_of(found.graph, path.values, again_key)
        on_grid = None if times is None else _inside(found.graph, times, path.at(times))
        # only guides leave weights behind; particles have spent theirs
        weights = getattr(found.guided, "weights_by_edge", None)
        edges, sites = (None, None) if weights is None else weights(path)
        regimes, regime_grid = None, None
        if isinstance(path, SwitchingTrajectory):
            regimes = path.regimes_at_nodes
            regime_grid = None if times is None else path.regimes_at(times)
        return path.values, on_grid, replicated, measured, edges, sites, regimes, regime_grid

    run = jax.jit(lambda p, k: lax.map(one, (p, k)))
    found = jax.tree.map(np.asarray, run(parameters, jax.random.split(key, len(chain))))
    return VectorPathDraws(chain, draw, *found)


def _inside(graph: Graph, times: Any, values: jax.Array) -> jax.Array:
    """Values (..., m, d) on a grid of times (m,), NaN before the first and after the last node.

    States of agents, which are positions, are -1 there already.
    """
    if has_agents(graph):
        return values
    known = node_times(graph)
    outside = (times < known.min()) | (times > known.max())
    return jnp.where(outside[:, None], jnp.nan, values) if np.any(outside) else values
