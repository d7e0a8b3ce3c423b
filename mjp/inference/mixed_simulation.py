"""Prior draws of graphs that mix families, one turn after the other."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from mjp.inference.by_node import columns, counted, each, inputs_of
from mjp.inference.gaussian_edges import guided_step
from mjp.inference.gaussian_graph import Kind
from mjp.inference.joint_factors import Space, WithChild
from mjp.inference.mixed_draw import Drawing, parents_of, part_of, roots_drawn
from mjp.inference.mixed_filter import ByNode, unit
from mjp.inference.mixed_graph import MixedGraph
from mjp.inference.turns import over_turns
from mjp.processes.gaussian import Interval


def prior_draw(
    graph: MixedGraph, uniforms: Array, noise: dict[Space, Array], z: Sequence[Array]
) -> tuple[ByNode, list[Array]]:
    """Draw all nodes forward, with innovations as for `guided_draw`.

    Returns:
        states by space, and (E, n, d) states at the starts of the steps of all Gaussian edges.
    """
    potentials = unit(graph)
    states = {
        space: jnp.zeros(len(uniforms), jnp.int32) if space.finite else jnp.zeros_like(noise[space])
        for space in potentials
    }
    drawing = Drawing(states, potentials, (), jnp.zeros(()))
    for roots in graph.roots:
        drawing = roots_drawn(drawing, roots, uniforms, noise)

    def follow_factor(factor: WithChild) -> Callable[..., Any]:
        def advance(states: ByNode, edge: Array, counts: Array) -> tuple[ByNode, None]:
            space, to = factor.child, jnp.asarray(factor.where.children)[edge]
            above = parents_of(states, factor, jnp.asarray(factor.where.parents)[edge])
            own_noise = uniforms[to] if space.finite else noise[space][:, to]
            one = lambda own, pair, g: factor.drawn(own, pair[0], g, pair[1])[0]
            drawn = each(one, inputs_of(factor, edge), (above, own_noise), columns(potentials[space], to))
            write = counted(factor.where.children, edge, counts, graph.layout.n_nodes)
            return {**states, space: states[space].at[..., write].set(drawn)}, None

        return advance

    def follow_edge(kind: Kind, z: Array) -> Callable[..., Any]:
        space, innovations = Space(False, kind.process.dim), jnp.moveaxis(z, 0, -1)

        def advance(states: ByNode, edge: Array, counts: Array) -> tuple[ByNode, Array]:
            part = part_of(kind, edge)
            nothing = columns(potentials[space], jnp.asarray(kind.ends.children)[edge])

            def step(x: Array, inputs: Any) -> tuple[Array, Array]:
                return guided_step(part, x, Interval(*inputs[0]), nothing, inputs[1]), x

            start = states[space][:, jnp.asarray(kind.ends.parents)[edge]]
            last, before = lax.scan(step, start, (tuple(part.intervals()), columns(innovations, edge)))
            write = counted(kind.ends.children, edge, counts, graph.layout.n_nodes)
            return {**states, space: states[space].at[:, write].set(last)}, before

        return advance

    steps = [follow_factor(factor) for factor in graph.factors]
    steps += [follow_edge(*own) for own in zip(graph.kinds, z, strict=True)]
    states, before = over_turns(graph.layout.levels, steps, drawing.states)
    return states, [jnp.moveaxis(x, -1, 0) for x in before[len(graph.factors) :]]
