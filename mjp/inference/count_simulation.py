"""Prior draws of graphs of reaction networks."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpyro.distributions import Distribution

from mjp._checks import check_count, is_concrete
from mjp.count_trajectory import CountPaths, CountTrajectory
from mjp.graph import Graph
from mjp.inference.count_schedule import Layout, Level, layout_of
from mjp.inference.direct_method import direct_method
from mjp.inference.observing import observations_of
from mjp.inference.rules.registry import register_simulator
from mjp.inference.threefry import threefry
from mjp.processes.reaction_network import ReactionNetwork
from mjp.trajectory import Names

_FIRST_SIZE = 256


class Simulated(NamedTuple):
    """States of R replicates at all nodes, and paths on all pieces, as `CountPaths` has them.

    Attributes:
        nodes: (R, n, d); before: (R, P, d).
        stopped: (R, P, d) counts at the end of each piece, or where it stopped; last: (R, P) its last event.
        times, reactions: (R, P, B); n_events, invalid, unfinished: (R, P).
        overflow: (R,) number of pieces whose events did not fit.
    """

    nodes: Array
    before: Array
    stopped: Array
    last: Array
    times: Array
    reactions: Array
    n_events: Array
    invalid: Array
    unfinished: Array
    overflow: Array


@register_simulator("counts")
def simulate_counts(
    graph: Graph,
    key: Array,
    *,
    replicates: int | None = None,
    paths: bool = True,
    max_events: int | None = None,
    event_limit: int = 10_000_000,
) -> CountTrajectory:
    """Simulate a graph of reaction networks by the direct method; exact, rates that change included.

    Args:
        replicates: number of draws at once, as a leading axis; None for one draw without that axis. Many
            replicates are much faster than as many calls.
        paths: whether the paths on the edges are stored, and not only the counts at the nodes.
        max_events: buffer for the events on an edge; default 256. Outside of compiled functions, a buffer
            that was too short is replaced by one of sufficient size, and the same paths are simulated again.
            Inside, `overflow` of the result counts edges whose events did not fit.
        event_limit: an edge with more events than this is stopped, and reported.

    Raises:
        ValueError: an initial state that is none, or, outside of compiled functions, propensities that are
            none: the message names reaction, state and time. Inside, `invalid` counts them.
        RuntimeError: an edge had more than `event_limit` events.
    """
    check_count("replicates", replicates)
    check_count("max_events", max_events)
    check_count("event_limit", event_limit)
    if graph.kind == "panel":
        raise TypeError("graph: reaction networks live on chains, trees and graphs made by hand, got a panel")
    layout = layout_of(graph)
    root_key, path_key, observation_key = jax.random.split(key, 3)
    n = 1 if replicates is None else replicates
    roots, root_nodes = _draw_roots(graph, layout.processes[0], root_key, n)
    size = (max_events or _FIRST_SIZE) if paths else 0
    words = jax.random.bits(path_key, (2, n), jnp.uint32)
    simulate = partial(
        _simulate, layout.processes, layout.levels, layout.pieces.parents, layout.pieces.children
    )
    arrays = (layout.interval, layout.durations, root_nodes, roots, words, _order(layout))
    result = simulate(*arrays, layout.n_nodes, graph.n_nodes, size, event_limit)
    if is_concrete(result.n_events):
        _report(graph, layout, result, event_limit)
        most = int(np.max(result.n_events, initial=0))
        if paths and most > size:
            # the same key gives the same paths, and their number of events is known now
            size = _size(most)
            result = simulate(*arrays, layout.n_nodes, graph.n_nodes, size, event_limit)
    observed = ()
    if graph.observations:
        observe = lambda states, k: observations_of(graph, states, k)
        observed = jax.vmap(observe)(result.nodes, jax.random.split(observation_key, n))
    stored = None
    if paths:
        stored = CountPaths(
            layout.pieces,
            tuple(layout.kinds.tolist()),
            layout.processes,
            jnp.asarray(layout.starts, jnp.result_type(float)),
            jnp.asarray(layout.durations, jnp.result_type(float)),
            result.before,
            result.times,
            result.reactions,
            result.n_events,
        )
    trajectory = CountTrajectory(
        values=result.nodes,
        observations=observed,
        paths=stored,
        overflow=result.overflow,
        invalid=jnp.sum(result.invalid, axis=-1),
        unfinished=jnp.sum(result.unfinished, axis=-1),
        names=Names(graph, layout.processes[0].species),
    )
    return _without_replicates(trajectory) if replicates is None else trajectory


def _order(layout: Layout) -> np.ndarray | None:
    position = np.concatenate([table.reshape(-1) for level in layout.levels for table in level.pieces])
    order = np.argsort(position, kind="stable")[: len(layout.kinds)]  # the dummies come last
    return None if np.array_equal(order, np.arange(len(position))) else order


def _without_replicates(trajectory: CountTrajectory) -> CountTrajectory:
    def first(array: Any) -> Any:
        return array[0]

    stored = trajectory.paths
    if stored is not None:
        stored = CountPaths(
            stored.pieces,
            stored.kinds,
            stored.processes,
            stored.starts,
            stored.durations,
            *map(first, (stored.before, stored.times, stored.reactions, stored.n_events)),
        )
    return CountTrajectory(
        values=first(trajectory.values),
        observations=tuple(map(first, trajectory.observations)),
        paths=stored,
        overflow=first(trajectory.overflow),
        invalid=first(trajectory.invalid),
        unfinished=first(trajectory.unfinished),
        names=trajectory.names,
    )


def _draw_roots(graph: Graph, process: ReactionNetwork, key: Array, n: int) -> tuple[Array, np.ndarray]:
    """States (n_roots, d, n) of all roots, and their nodes."""
    states: list[Any] = []
    for i, roots in enumerate(graph.roots):
        m = len(roots.nodes)
        if isinstance(roots.initial, Distribution):
            process.check_law("initial", roots.initial)
            drawn = jnp.asarray(roots.initial.sample(jax.random.fold_in(key, i), (m, n)))
            if is_concrete(drawn):
                process.check_counts("a draw of initial", drawn)
            states.append(jnp.moveaxis(drawn.astype(jnp.int32), 1, -1))
        else:
            known = [process.known_state("initial", value) for value in roots.initial]
            concrete = all(map(is_concrete, known))
            stacked = np.stack(known) if concrete else jnp.stack(known)
            states.append(stacked[..., None] + np.zeros(n, np.int32))
    join = np.concatenate if all(isinstance(value, np.ndarray) for value in states) else jnp.concatenate
    return jnp.asarray(join(states)), np.concatenate([roots.nodes for roots in graph.roots])


@partial(jax.jit, static_argnames=("n_nodes", "n_graph_nodes", "size", "event_limit"))
def _simulate(
    processes: tuple[ReactionNetwork, ...],
    levels: tuple[Level, ...],
    parents: Array,
    children: Array,
    interval: Array,
    durations: Array,
    root_nodes: Array,
    roots: Array,
    words: Array,
    order: Array | None,
    n_nodes: int,
    n_graph_nodes: int,
    size: int,
    event_limit: int,
) -> Simulated:
    """Simulate level after level; all pieces of a level, and all replicates, side by side.

    Args:
        parents, children, interval, durations: (P,) of the pieces.
        roots: (n_roots, d, R) states. words: (2, R) uint32, the randomness of each replicate.
        order: (P,) position of each piece among all entries of the levels; None where it is its own.
    """
    n_replicates, d = words.shape[1], roots.shape[1]
    dummy = lambda array, value: jnp.append(jnp.asarray(array), value)
    # the dummy piece starts at the first node, lasts no time and ends at a node that nobody reads
    parents, children = dummy(parents, 0), dummy(children, n_nodes)
    interval = dummy(interval, 0)
    durations = dummy(jnp.asarray(durations, jnp.result_type(float)), 0.0)
    nodes = tuple(
        jnp.zeros((n_nodes + 1, n_replicates), jnp.int32).at[root_nodes].set(roots[:, k]) for k in range(d)
    )

    def one(process: ReactionNetwork, chosen: Array, nodes: tuple) -> tuple[tuple, dict[str, Array]]:
        """Simulate the pieces (W,) of one process at one level."""
        shape = (chosen.shape[0], n_replicates)
        flat = lambda array: jnp.broadcast_to(array, shape).reshape(-1)
        begins = (parents[chosen] < n_graph_nodes)[:, None]
        start = tuple(
            values[parents[chosen]] if carried else jnp.where(begins, 0, values[parents[chosen]])
            for values, carried in zip(nodes, process.carried, strict=True)
        )
        key = threefry(
            (flat(words[0]), flat(words[1])),
            flat(chosen[:, None].astype(jnp.uint32)),
            jnp.full(shape, 1, jnp.uint32).reshape(-1),
        )
        if process.breaks:
            constants = jax.vmap(process.constants)(interval[chosen])
            constants = tuple(flat(value[:, None]) for value in constants)
        else:
            constants = tuple(flat(value) for value in process.constants(0))
        lanes = direct_method(
            process,
            tuple(values.reshape(-1) for values in start),
            constants,
            flat(durations[chosen][:, None]),
            key,
            size,
            event_limit,
        )
        end = tuple(values.reshape(shape) for values in lanes.counts)
        nodes = tuple(v.at[children[chosen]].set(e) for v, e in zip(nodes, end, strict=True))
        out = {
            "before": jnp.stack(start, axis=-1),
            "stopped": jnp.stack(end, axis=-1),
            "last": lanes.time.reshape(shape),
            "times": jnp.moveaxis(lanes.times.reshape(size, *shape), 0, 1),
            "reactions": jnp.moveaxis(lanes.reactions.reshape(size, *shape), 0, 1),
            "n_events": lanes.n_events.reshape(shape),
            "invalid": lanes.invalid.reshape(shape),
            "unfinished": lanes.unfinished.reshape(shape),
        }
        return nodes, out

    def sweep(nodes: tuple, tables: tuple) -> tuple[tuple, tuple]:
        outs = []
        for process, chosen in zip(processes, tables, strict=True):
            nodes, out = one(process, chosen, nodes)
            outs.append(out)
        return nodes, tuple(outs)

    found: list[dict[str, Array]] = []
    for level in levels:
        nodes, outs = lax.scan(sweep, nodes, level.pieces)
        for table, out in zip(level.pieces, outs, strict=True):
            found.append({name: v.reshape(table.size, *v.shape[2:]) for name, v in out.items()})
    gathered = {name: jnp.concatenate([out[name] for out in found]) for name in found[0]}
    if order is not None:
        gathered = {name: value[order] for name, value in gathered.items()}
    # buffers (P, B, R) in two steps, which XLA would join to one that is slow for many pieces
    for name in ("times", "reactions"):
        gathered[name] = lax.optimization_barrier(jnp.swapaxes(gathered[name], 1, 2))
    gathered = {name: jnp.moveaxis(value, 0, 1) for name, value in gathered.items()}
    return Simulated(
        nodes=jnp.moveaxis(jnp.stack([v[:n_graph_nodes] for v in nodes], axis=-1), 0, 1),
        **gathered,
        overflow=jnp.sum(gathered["n_events"] > size, axis=-1) if size else jnp.zeros(n_replicates, int),
    )


def _size(n_events: int) -> int:
    """A buffer for so many events; rounded, so that few programs are compiled."""
    step = 1 << max(n_events.bit_length() - 3, 0)
    return -(-n_events // step) * step


def _report(graph: Graph, layout: Layout, result: Simulated, event_limit: int) -> None:
    """Raise for the first piece that stopped early."""
    for flags in (result.invalid, result.unfinished):
        stopped = np.argwhere(np.asarray(flags))
        if not len(stopped):
            continue
        replicate, piece = (int(i) for i in stopped[np.argmin(stopped[:, 1])])
        process = layout.processes[layout.kinds[piece]]
        state = np.asarray(result.stopped[replicate, piece])
        time = float(np.asarray(layout.starts)[piece] + result.last[replicate, piece])
        if flags is result.invalid:
            fault = process.fault(time, state)
            raise ValueError(fault or f"the propensities at {state} and time {time:g} are not valid")
        counts = ", ".join(f"{name}={count}" for name, count in zip(process.species, state, strict=True))
        raise RuntimeError(
            f"more than event_limit={event_limit} events on one edge; the last state was {counts} at time "
            f"{time:g}"
        )
