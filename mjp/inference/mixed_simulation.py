"""Prior draws of graphs that mix families, one turn after the other."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from mjp.inference.by_node import columns, counted
from mjp.inference.gaussian_edges import guided_step
from mjp.inference.gaussian_graph import Kind
from mjp.inference.joint_factors import Space
from mjp.inference.mixed_draw import Drawing, factor_drawer, part_of, roots_drawn
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

    def follow_edge(kind: Kind, z: Array) -> Callable[..., Any]:
        space, innovations = Space(False, kind.process.dim), jnp.moveaxis(z, 0, -1)

        def advance(drawing: Drawing, edge: Array, counts: Array) -> tuple[Drawing, Array]:
            part = part_of(kind, edge)
            nothing = columns(potentials[space], jnp.asarray(kind.ends.children)[edge])

            def step(x: Array, inputs: Any) -> tuple[Array, Array]:
                return guided_step(part, x, Interval(*inputs[0]), nothing, inputs[1]), x

            start = drawing.states[space][:, jnp.asarray(kind.ends.parents)[edge]]
            last, before = lax.scan(step, start, (tuple(part.intervals()), columns(innovations, edge)))
            write = counted(kind.ends.children, edge, counts, graph.layout.n_nodes)
            states = {**drawing.states, space: drawing.states[space].at[:, write].set(last)}
            return drawing._replace(states=states), before

        return advance

    n = graph.layout.n_nodes
    steps: list[Any] = [factor_drawer(factor, uniforms, noise, n) for factor in graph.factors]
    steps += [follow_edge(*own) for own in zip(graph.kinds, z, strict=True)]
    drawing, before = over_turns(graph.layout.levels, steps, drawing)
    return drawing.states, [jnp.moveaxis(x, -1, 0) for x in before[len(graph.factors) :]]
