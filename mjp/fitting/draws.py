"""Paths, replicated data and log-likelihoods computed from posterior draws."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjp.graph import Graph
from mjp.inference import condition, simulate
from mjp.inference.bridges import buffer_size
from mjp.numpyro_bridge import HIDDEN, graphs_of, latent_sites, pointwise_log_likelihood, structure
from mjp.state_trajectory import StateTrajectory

_BATCH = 25  # draws whose log-likelihoods are computed side by side
_COUNTED = 50  # states; beyond, changes between them are not counted


@dataclass(frozen=True)
class PathDraws:
    """Posterior paths of one graph for some posterior draws.

    Attributes:
        chain, draw: (n,) which posterior draws.
        nodes: (n, n_nodes) states at the nodes.
        grid: (n, n_components, m) or (n, m) states at the times asked for, -1 outside; or None.
        replicated: simulated observations, one array (n, ...) per batch of observations.
        changes: (n, K, K) number of changes from one state to another, on all edges together; None where
            there are more than 50 states, or nodes with several parents or different states.
        overflow: number of edges, over all draws, whose jumps did not fit the buffer.
    """

    chain: np.ndarray
    draw: np.ndarray
    nodes: np.ndarray
    grid: np.ndarray | None
    replicated: tuple[np.ndarray, ...]
    changes: np.ndarray | None
    overflow: int


def choose_draws(samples: dict[str, np.ndarray], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Chain and draw of about `number` draws, evenly spread over every chain, (n,) each."""
    chains, draws = next(iter(samples.values())).shape[:2]
    per_chain = int(np.clip(-(-number // chains), 1, draws))
    kept = np.linspace(0, draws - 1, per_chain).round().astype(int)
    return np.repeat(np.arange(chains), per_chain), np.tile(kept, chains)


def draw_paths(
    model: Callable,
    args: tuple,
    kwargs: dict,
    samples: dict[str, np.ndarray],
    name: str,
    times: np.ndarray | None,
    number: int,
    key: jax.Array,
) -> PathDraws:
    """Draw one path of the graph `name` for each of `number` posterior draws.

    The buffer for jumps is sized by the rates of these draws; should a path still not fit, all are
    drawn again with a buffer twice as large.
    """
    chain, draw = choose_draws(samples, number)
    parameters = {site: jnp.asarray(values[chain, draw]) for site, values in samples.items()}
    graph = lambda one: _graph(model, args, kwargs, one, name)
    # one draw after the other: side by side they leave the cache, and take twice as long to compile
    events = jax.jit(lambda p: lax.map(lambda one: _expected_events(graph(one)), p))
    size = buffer_size(float(np.max(np.asarray(events(parameters)), initial=0.0)))
    keys = jax.random.split(key, len(chain))

    def one_path(x: tuple[Any, jax.Array], size: int) -> tuple[Any, ...]:
        parameters, key = x
        path_key, data_key = jax.random.split(key)
        declared = graph(parameters)
        path: Any = condition(declared, max_jumps=size).sample(path_key)[0]
        on_grid = None if times is None else path.at(times).astype(_smallest(declared))
        replicated = simulate(declared, data_key, max_jumps=1).observations
        return (
            path.values.astype(_smallest(declared)),
            on_grid,
            replicated,
            _changes(declared, path),
            path.overflow,
        )

    while True:
        run = jax.jit(lambda p, k, size=size: lax.map(lambda x: one_path(x, size), (p, k)))
        nodes, on_grid, replicated, changes, overflow = jax.tree.map(np.asarray, run(parameters, keys))
        if not overflow.any() or size > 10_000:
            break
        size *= 2
    return PathDraws(chain, draw, nodes, on_grid, replicated, changes, int(overflow.sum()))


def _graph(model: Callable, args: tuple, kwargs: dict, parameters: dict[str, Any], name: str) -> Graph:
    graphs = graphs_of(model, args, kwargs, parameters)
    if name not in graphs:
        raise ValueError(f"name: the model has no path {name!r}; it has {list(graphs)}")
    return graphs[name]


def _changes(graph: Graph, path: StateTrajectory) -> jax.Array | None:
    """Number of changes from each state to each other, (K, K)."""
    k = len(path.names.states)
    if any(edges.parents.ndim > 1 for edges in graph.edges) or path.names.by_node is not None:
        return None  # a state that follows on several, or on one of another kind, is no change
    if k > _COUNTED:
        return None
    if path.jumps is None:
        before = path.values[np.concatenate([edges.parents for edges in graph.edges])]
        after = path.values[np.concatenate([edges.children for edges in graph.edges])]
    else:
        after = path.jumps.states
        before = jnp.concatenate([path.jumps.start_states[:, None], after[:, :-1]], axis=1)
    pairs = jnp.bincount((before * k + after).reshape(-1), length=k * k).reshape(k, k)
    return pairs * (1 - np.eye(k, dtype=int))


def _smallest(graph: Graph) -> Any:
    """Smallest integers that hold the positions of a graph's states, and -1."""
    most = max(edges.process.n_states for edges in graph.edges)  # type: ignore[attr-defined]
    return jnp.int8 if most < 128 else jnp.int32


def _expected_events(graph: Graph) -> Any:
    """Largest number of uniformized events expected on any edge."""
    largest = jnp.zeros(())
    model = getattr(condition(graph), "model", None)
    for edges in model.jumps if model is not None else ():
        rates = jnp.max(-jnp.diagonal(edges.generators, axis1=-2, axis2=-1), axis=-1)
        largest = jnp.maximum(
            largest, jnp.max(rates[edges.which] * jnp.asarray(edges.durations), initial=0.0)
        )
    return largest


def log_likelihoods(
    model: Callable, args: tuple, kwargs: dict, samples: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Pointwise log-likelihood of every observed site and graph, (chain, draw, ...)."""
    shape = next(iter(samples.values())).shape[:2]
    flat = {site: jnp.asarray(v.reshape(-1, *v.shape[2:])) for site, v in samples.items()}
    terms = jax.jit(
        lambda p: lax.map(
            lambda one: pointwise_log_likelihood(model, args, kwargs, one), p, batch_size=_BATCH
        )
    )(flat)
    return {name: np.asarray(v).reshape(*shape, *v.shape[1:]) for name, v in terms.items()}


def prior_draws(
    model: Callable, args: tuple, kwargs: dict, number: int, key: jax.Array
) -> dict[str, np.ndarray]:
    """Draws of the latent and deterministic sites from the prior, (number, ...)."""
    names = [n for n in latent_sites(model, args, kwargs) if not n.endswith(HIDDEN)]

    def one(key: jax.Array) -> dict[str, Any]:
        found = structure(model, args, kwargs, key)
        return {
            name: site["value"]
            for name, site in found.items()
            if name in names or site["type"] == "deterministic"
        }

    drawn = jax.jit(jax.vmap(one))(jax.random.split(key, number))
    return {name: np.asarray(value) for name, value in drawn.items()}
