"""The backward filter of graphs that mix families, at references that belief propagation finds.

Every array over nodes has them last, with one place more than there are nodes, for writes that do not count.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.inference.by_node import add, columns, counted, each, inputs_of
from mjp.inference.gaussian_edges import Messages, compose, messages
from mjp.inference.gaussian_graph import Kind
from mjp.inference.gaussian_sites import node_potentials
from mjp.inference.joint_factors import Factor, Space, VectorLaw, WithChild, project
from mjp.inference.mixed_graph import MixedGraph, StateRoots
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.safe_logs import log_sum_or_never
from mjp.inference.turns import over_turns

type ByNode = dict[Space, Any]  # arrays (..., n + 1) for the nodes of each space


class References(eqx.Module):
    """Where a guide is built; depends on parameters and data only.

    Attributes:
        means: (d, n + 1) of vectors, by space: where factors and likelihoods are expanded.
        states: (n + 1,) for every space of finitely many: the most probable ones.
        laws: for every kind of factors, then of observations of several nodes, those of each parent (..., E)
            given all that is not below the factor.
        steps: (E, n, d) states at the starts of the steps of every kind of Gaussian edges.
    """

    means: ByNode
    states: ByNode
    laws: tuple[list[Any], ...]
    steps: tuple[Array, ...]


class Guide(eqx.Module):
    """What the backward filter leaves.

    Attributes:
        potentials: g of the nodes, by space.
        sent: for every kind of factors, then of observations of several nodes, the potentials (..., E) of
            each parent that stand for it.
        pulled: potentials (E,) that every kind of Gaussian edges sends to its parents.
        messages: of every kind of Gaussian edges.
        own: potentials of the observations of single vectors, by space.
    """

    potentials: ByNode
    sent: tuple[list[Any], ...]
    pulled: tuple[Canonical, ...]
    messages: tuple[Messages, ...]
    own: dict[Space, list[Canonical]]


def no_references(graph: MixedGraph) -> References:
    """References of the right shapes, all zero."""
    n, dtype = graph.layout.n_nodes + 1, jnp.result_type(float)
    law = lambda space, n: (
        jnp.zeros((space.size, n), dtype)
        if space.finite
        else VectorLaw(jnp.zeros((space.size, n), dtype), jnp.zeros((space.size, space.size, n), dtype))
    )
    spaces = graph.layout.spaces
    return References(
        means={space: jnp.zeros((space.size, n), dtype) for space in spaces if not space.finite},
        states={space: jnp.zeros(n, jnp.int32) for space in spaces if space.finite},
        laws=tuple(
            [law(space, len(factor.where.parents)) for space in factor.spaces]
            for factor in (*graph.factors, *graph.observed)
        ),
        steps=tuple(jnp.zeros((*kind.times.shape, kind.process.dim), dtype) for kind in graph.kinds),
    )


def unit(graph: MixedGraph) -> ByNode:
    """Potentials that are one everywhere."""
    n, dtype = graph.layout.n_nodes + 1, jnp.result_type(float)
    return {
        space: jnp.zeros((space.size, n), dtype) if space.finite else Canonical.unit((n,), space.size, dtype)
        for space in graph.layout.spaces
    }


def backward(graph: MixedGraph, references: References) -> Guide:
    """The backward filter with factors projected, and steps linearised, at the references."""
    layout, means = graph.layout, references.means
    potentials, own = unit(graph), {}
    for space in layout.spaces:
        if space.finite:
            potentials[space] = graph.likelihoods[space]
        elif sites := graph.sites.get(space):
            at = means[space][:, :-1].T
            own[space] = [observed.site.potential(at[observed.nodes]) for observed in sites]
            whole = node_potentials(sites, at, layout.n_nodes, at.dtype)
            potentials[space] = add(potentials[space], np.arange(layout.n_nodes), whole)

    def send(factor: Factor, own: Any, laws: Any, parents: Any, ahead: Any) -> list[Any]:
        vectors = [means[s][:, parents[:, i]] for i, s in enumerate(factor.spaces) if not s.finite]
        anchor = jnp.concatenate(vectors) if vectors else jnp.zeros((0, len(parents)))
        one = lambda own, pair, ahead: project(factor, own, pair[0], pair[1], ahead)
        return each(one, own, (laws, anchor), ahead)

    seen = []
    for factor, laws in zip(graph.observed, references.laws[len(graph.factors) :], strict=True):
        sent = send(factor, factor.inputs, laws, factor.where.parents, None)
        for i, space in enumerate(factor.spaces):
            potentials[space] = add(potentials[space], factor.where.parents[:, i], sent[i])
        seen.append(sent)

    def of_factor(factor: WithChild, laws: Any) -> Callable[..., Any]:
        def retreat(potentials: ByNode, edge: Array, counts: Array) -> tuple[ByNode, Any]:
            assert factor.child is not None
            above = jnp.asarray(factor.where.parents)[edge]
            ahead = columns(potentials[factor.child], jnp.asarray(factor.where.children)[edge])
            sent = send(factor, inputs_of(factor, edge), columns(laws, edge), above, ahead)
            result = dict(potentials)
            for i, space in enumerate(factor.spaces):
                to = counted(factor.where.parents[:, i], edge, counts, layout.n_nodes)
                result[space] = add(result[space], to, sent[i])
            return result, sent

        return retreat

    def of_kind(kind: Kind, steps: LinearSteps) -> Callable[..., Any]:
        space, whole = Space(False, kind.process.dim), compose(steps)

        def retreat(potentials: ByNode, edge: Array, counts: Array) -> tuple[ByNode, Canonical]:
            ahead = columns(potentials[space], jnp.asarray(kind.ends.children)[edge])
            step = columns(whole, edge)
            pulled = ahead.pull_back(ahead.gain(step.factor), step.matrix, step.offset)
            to = counted(kind.ends.parents, edge, counts, layout.n_nodes)
            return {**potentials, space: add(potentials[space], to, pulled)}, pulled

        return retreat

    n_factors = len(graph.factors)
    linear = [kind.linearise(at) for kind, at in zip(graph.kinds, references.steps, strict=True)]
    steps: list[Any] = [
        of_factor(*own) for own in zip(graph.factors, references.laws[:n_factors], strict=True)
    ]
    steps += [of_kind(*own) for own in zip(graph.kinds, linear, strict=True)]
    potentials, found = over_turns(layout.levels, steps, potentials, reverse=True)
    ways = tuple(
        messages(along, columns(potentials[Space(False, kind.process.dim)], kind.ends.children), None)
        for kind, along in zip(graph.kinds, linear, strict=True)
    )
    return Guide(potentials, (*found[:n_factors], *seen), tuple(found[n_factors:]), ways, own)


def log_evidence(graph: MixedGraph, guide: Guide) -> Array:
    """Log of the evidence of a guide, ()."""
    total = jnp.zeros(())
    for roots in graph.roots:
        own = columns(guide.potentials[roots.space], roots.rows.children)
        if isinstance(roots, StateRoots):
            total = total + jnp.sum(log_sum_or_never(roots.law + own, axis=0))
        else:
            total = total + jnp.sum(own.log_pulled(own.gain(roots.factor), roots.mean))
    return total
