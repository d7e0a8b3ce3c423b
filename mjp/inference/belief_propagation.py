"""Reference laws of graphs that mix families: forward laws, and what a guide says of the nodes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from mjp._small_matrices import product, semidefinite_cholesky, times, transpose
from mjp.inference.by_node import columns, counted, each, inputs_of, put
from mjp.inference.gaussian_edges import Messages
from mjp.inference.gaussian_graph import Kind
from mjp.inference.joint_factors import Factor, Space, VectorLaw, WithChild, tilted, without
from mjp.inference.mixed_filter import ByNode, Guide, References
from mjp.inference.mixed_graph import MixedGraph, StateRoots
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.rules.registry import rule_of
from mjp.inference.turns import over_turns


def refer(graph: MixedGraph, guide: Guide) -> References:
    """References by belief propagation: forward laws times what the guide says.

    The law of a node given all that is not below it goes to each child without what that child's factor had
    sent up, so that no observation counts twice.
    """
    n, dtype = graph.layout.n_nodes + 1, jnp.result_type(float)
    potentials = guide.potentials
    forward: ByNode = {}
    for space in graph.layout.spaces:
        if space.finite:
            forward[space] = jnp.full((space.size, n), -jnp.log(space.size), dtype)
        else:
            zeros = jnp.zeros((space.size, n), dtype)
            forward[space] = VectorLaw(zeros, jnp.zeros((space.size, *zeros.shape), dtype))
    for roots in graph.roots:
        law: Any = roots.law if isinstance(roots, StateRoots) else VectorLaw(roots.mean, roots.factor)
        forward[roots.space] = put(forward[roots.space], roots.rows.children, law)

    def laws_of(forward: ByNode, factor: Factor, parents: Any, sent: Any) -> list[Any]:
        found = []
        for i, space in enumerate(factor.spaces):
            whole = columns(potentials[space], parents[:, i])
            found.append(tilted(columns(forward[space], parents[:, i]), without(whole, sent[i])))
        return found

    def of_factor(factor: WithChild, sent: Any) -> Callable[..., Any]:
        def advance(forward: ByNode, edge: Array, counts: Array) -> tuple[ByNode, list[Any]]:
            assert factor.child is not None
            laws = laws_of(forward, factor, jnp.asarray(factor.where.parents)[edge], columns(sent, edge))
            law = each(lambda own, laws, _: factor.law(own, laws), inputs_of(factor, edge), laws, None)
            to = counted(factor.where.children, edge, counts, n - 1)
            return {**forward, factor.child: put(forward[factor.child], to, law)}, laws

        return advance

    def of_kind(kind: Kind, pulled: Canonical, message: Messages) -> Callable[..., Any]:
        space = Space(False, kind.process.dim)

        def advance(forward: ByNode, edge: Array, counts: Array) -> tuple[ByNode, Array]:
            above = jnp.asarray(kind.ends.parents)[edge]
            law, whole = columns(forward[space], above), columns(potentials[space], above)
            rest = without(whole, columns(pulled, edge))

            def step(carry: tuple[VectorLaw, Array], x: Any) -> tuple[tuple[VectorLaw, Array], Array]:
                (law, at), (interval, ahead) = carry, x
                linear = rule_of(kind.process).linearise(kind.process, kind.step, at, interval)
                spread = product(linear.matrix, law.factor)
                covariance = product(spread, transpose(spread)) + product(
                    linear.factor, transpose(linear.factor)
                )
                mean = times(linear.matrix, law.mean) + linear.offset
                following, factor = kind.step(at, interval)
                gain = ahead.gain(factor)
                following = following + times(gain.loading, gain.steering(following))
                return (VectorLaw(mean, semidefinite_cholesky(covariance)), following), at

            start = (tilted(law, rest), tilted(law, whole).mean)
            (law, _), before = lax.scan(step, start, columns((kind.intervals(), message.ahead), edge))
            to = counted(kind.ends.children, edge, counts, n - 1)
            return {**forward, space: put(forward[space], to, law)}, before

        return advance

    n_factors = len(graph.factors)
    steps: list[Any] = [of_factor(*own) for own in zip(graph.factors, guide.sent[:n_factors], strict=True)]
    steps += [of_kind(*own) for own in zip(graph.kinds, guide.pulled, guide.messages, strict=True)]
    forward, found = over_turns(graph.layout.levels, steps, forward)
    laws = [*found[:n_factors]]
    for factor, own in zip(graph.observed, guide.sent[n_factors:], strict=True):
        laws.append(laws_of(forward, factor, factor.where.parents, own))
    smoothed = {space: tilted(law, potentials[space]) for space, law in forward.items()}
    return References(
        means={space: law.mean for space, law in smoothed.items() if not space.finite},
        states={
            space: jnp.argmax(law, axis=0).astype(jnp.int32)
            for space, law in smoothed.items()
            if space.finite
        },
        laws=tuple(laws),
        steps=tuple(jnp.moveaxis(states, -1, 0) for states in found[n_factors:]),
    )
