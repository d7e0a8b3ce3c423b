"""Exact evidence and joint draws of small networks of finite states, by eliminating node after node.

A node is summed out of the product of all tables that contain it (its bucket), which leaves a table over the
nodes that it met there; in the reverse order, its state is drawn from its bucket given the states of these
(bucket elimination, Dechter 1999, Artif. Intell. 113:41; the buckets are the cliques of a junction tree,
Lauritzen & Spiegelhalter 1988). The cost is that of the largest bucket, which the order decides: the better
of two heuristics of networkx, which fill in as few pairs, or take nodes of as few neighbours, as they can.

Elimination is unrolled when it is compiled, one operation after the other for every node: this is for
networks of up to some hundred nodes with evidence below them, and not for long chains.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import networkx as nx
from jax import Array
from networkx.algorithms.approximation import treewidth_min_degree, treewidth_min_fill_in

from mjp.inference.path_sweeps import draw
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.inference.state_tables import StateTables, Structure


@dataclass(frozen=True)
class Elimination:
    """The order in which nodes of unknown state are summed out; static, and compared by value.

    Attributes:
        scopes: the nodes of each bucket: first the one that is summed out, then those that stay, in the
            order in which they are summed out later.
        entries: of the largest bucket.
    """

    scopes: tuple[tuple[int, ...], ...]
    entries: int


@lru_cache(maxsize=64)
def plan(structure: Structure) -> Elimination:
    """The elimination of all nodes with evidence at or below them."""
    graph = nx.Graph()
    for node, parents in enumerate(structure.parents):
        if structure.matters[node]:
            scope = _unknown(structure, (*parents, node))
            graph.add_nodes_from(scope)
            graph.add_edges_from((a, b) for i, a in enumerate(scope) for b in scope[:i])
    if not len(graph):
        return Elimination((), 1)
    heuristics = (treewidth_min_fill_in, treewidth_min_degree)
    found = [_elimination(structure, graph, heuristic(graph)[1]) for heuristic in heuristics]
    return min(found, key=lambda elimination: elimination.entries)


def _unknown(structure: Structure, nodes: Sequence[int]) -> tuple[int, ...]:
    return tuple(node for node in nodes if structure.known[node] == UNKNOWN)


def _elimination(structure: Structure, graph: nx.Graph, bags: nx.Graph) -> Elimination:
    """Eliminate from the leaves of a tree of bags: what is in a bag and not in the one above it."""
    order: list[int] = []
    root = next(iter(bags))
    above = nx.predecessor(bags, root)
    for bag in nx.dfs_postorder_nodes(bags, root):
        kept = above[bag][0] if above[bag] else frozenset()
        order += sorted(bag - kept)
    position = {node: i for i, node in enumerate(order)}
    neighbours = {node: set(graph[node]) for node in graph}
    scopes = []
    for node in order:
        rest = neighbours.pop(node)
        for other in rest:
            neighbours[other] = (neighbours[other] | rest) - {node, other}
        scopes.append((node, *sorted(rest, key=position.__getitem__)))
    entries = max(math.prod(structure.sizes[node] for node in scope) for scope in scopes)
    return Elimination(tuple(scopes), entries)


@partial(jax.jit, static_argnums=0)
def eliminate(plan: Elimination, tables: StateTables) -> tuple[Array, tuple[Array, ...]]:
    """Log-evidence (), and the buckets, in the order of `plan.scopes` and with their axes."""
    structure = tables.structure
    bucket_of = {scope[0]: i for i, scope in enumerate(plan.scopes)}
    position = {node: i for i, node in enumerate(bucket_of)}
    waiting: list[list[tuple[Array, tuple[int, ...]]]] = [[] for _ in plan.scopes]
    total = jnp.sum(tables.log_scales)

    def put(table: Array, scope: tuple[int, ...]) -> Array:
        """Hand a table to the first bucket that sums out one of its nodes; a number counts at once."""
        if not scope:
            return jnp.log(table)
        waiting[min(position[node] for node in scope)].append((table, scope))
        return jnp.zeros(())

    for node, parents in enumerate(structure.parents):
        if structure.matters[node]:
            total = total + put(*_sliced(tables, (*parents, node)))
    buckets = []
    for i, scope in enumerate(plan.scopes):
        bucket = jnp.ones((1,) * len(scope))
        for table, own in waiting[i]:
            bucket = bucket * _aligned(table, own, scope)
        buckets.append(bucket)
        message = jnp.sum(bucket, axis=0)
        if len(scope) > 1:
            # messages are scaled, so that long products do not underflow
            size = jnp.sum(message)
            size = jnp.where(size > 0, size, 1.0)
            message, total = message / size, total + jnp.log(size)
        total = total + put(message, scope[1:])
    return total, tuple(buckets)


def _sliced(tables: StateTables, scope: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """The law of the last node of a scope times its likelihood, at the states that are known."""
    structure, node = tables.structure, scope[-1]
    table = tables.laws[node] * tables.likelihoods[node]
    at = tuple(slice(None) if structure.known[n] == UNKNOWN else structure.known[n] for n in scope)
    return table[at], _unknown(structure, scope)


def _aligned(table: Array, scope: tuple[int, ...], wanted: tuple[int, ...]) -> Array:
    """A table with the axes of another scope, which contains its own."""
    order = sorted(range(len(scope)), key=lambda axis: wanted.index(scope[axis]))
    table = jnp.transpose(table, order)
    sizes = {scope[axis]: size for axis, size in zip(order, table.shape, strict=True)}
    return table.reshape([sizes.get(node, 1) for node in wanted])


@partial(jax.jit, static_argnums=0)
def draw_states(plan: Elimination, tables: StateTables, buckets: tuple[Array, ...], uniforms: Array) -> Array:
    """Joint draw of the states of all nodes (n,) from one uniform number per node."""
    structure = tables.structure
    states = {node: jnp.asarray(state, jnp.int32) for node, state in enumerate(structure.known) if state >= 0}
    for scope, bucket in zip(reversed(plan.scopes), reversed(buckets), strict=True):
        weights = bucket[(slice(None), *(states[node] for node in scope[1:]))]
        states[scope[0]] = draw(weights, uniforms[scope[0]])
    for node in structure.order:
        if node not in states:  # nothing was seen of it, nor below it
            row = tables.laws[node][tuple(states[parent] for parent in structure.parents[node])]
            states[node] = draw(row, uniforms[node])
    return jnp.stack([states[node] for node in range(structure.n)])
