"""The guided draw of graphs that mix families, one turn after the other, and its weight."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp._small_matrices import times
from mjp.inference.by_node import add, columns, counted, each, inputs_of, put
from mjp.inference.gaussian_edges import Messages, guided_step, log_weights, messages
from mjp.inference.gaussian_graph import Kind
from mjp.inference.gaussian_sites import Observed
from mjp.inference.joint_factors import Factor, Space, VectorLaw, WithChild, categorical, project, without
from mjp.inference.mixed_filter import ByNode, Guide, References
from mjp.inference.mixed_graph import MixedGraph, StateRoots, VectorRoots
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.safe_logs import log_sum_or_never, never_if_nan
from mjp.inference.turns import Level, by_turn, over_turns
from mjp.processes.gaussian import Interval


class Drawing(NamedTuple):
    """A draw on its way.

    Attributes:
        potentials, sent: as in a Guide; what is sent to parents that are not drawn yet takes the states of
            those that are.
        total: log of the draw's estimate of the evidence so far: the normalisers of all draws, and the
            likelihoods of what was observed of nodes that are drawn, over the potentials that stood for them
            and for the edges.
    """

    states: ByNode
    potentials: ByNode
    sent: tuple[list[Any], ...]
    total: Array


def guided_draw(
    graph: MixedGraph,
    guide: Guide,
    references: References,
    uniforms: Array,
    noise: dict[Space, Array],
    z: Sequence[Array],
) -> tuple[ByNode, list[Array], Array]:
    """Draw all nodes; a factor some of whose parents are drawn guides the others given their states.

    Args:
        uniforms: (n + 1,); noise: (d, n + 1) innovations of vectors that no Gaussian edge leads to.
        z: for every kind of Gaussian edges (E, n, r) innovations.

    Returns:
        states by space; (E, n, d) states at the starts of the steps of all Gaussian edges; and the log of the
        draw's estimate of the evidence, ().
    """
    after = after_turns(graph, guide, references)
    drawing = first_turns(graph, guide, references, after, uniforms, noise)
    drawing, before = over_turns(
        graph.layout.levels,
        drawers(graph, guide, uniforms, noise, z),
        drawing,
        then=(*after, graph.layout.n_root_turns),
    )
    found = [jnp.moveaxis(x, -1, 0) for x in before[len(graph.factors) :]]
    total = never_if_nan(drawing.total)
    return drawing.states, found, total


type After = tuple[list[Any], list[Level]]


def after_turns(graph: MixedGraph, guide: Guide, references: References) -> After:
    """What is done after every turn, for `over_turns`: functions, and the levels of each."""
    layout = graph.layout
    everything = (*graph.factors, *graph.observed)
    steps: list[Any] = [_updater(graph, references, which, own) for which, own in enumerate(everything)]
    levels = list(layout.updates)
    n_turns = layout.n_root_turns + (len(layout.levels[0].active) if layout.levels else 0)
    at = lambda turns: by_turn(turns, np.arange(len(turns)), n_turns, len(turns))
    for which, factor in enumerate(graph.observed, start=len(graph.factors)):
        steps.append(_likelihood_of_several(factor, which))
        levels.append(at(layout.turn[factor.where.parents].max(axis=1)))
    for space, potentials in guide.own.items():
        for observed, potential in zip(graph.sites[space], potentials, strict=True):
            if not observed.site.exact:
                steps.append(_likelihood_of_vectors(observed, potential, space))
                levels.append(at(layout.turn[observed.nodes]))
    return steps, levels


def first_turns(
    graph: MixedGraph,
    guide: Guide,
    references: References,
    after: After,
    uniforms: Array,
    noise: dict[Space, Array],
) -> Drawing:
    """The draw of the roots; the other nodes have any states that are possible."""
    states = {
        space: references.states[space] if space.finite else references.means[space]
        for space in graph.layout.spaces
    }
    drawing = Drawing(states, guide.potentials, guide.sent, jnp.zeros(()))
    for turn, roots in enumerate(graph.roots):
        drawing = roots_drawn(drawing, roots, uniforms, noise)
        for step, level in zip(*after, strict=True):
            if level.active[turn]:
                edge, counts = jnp.asarray(level.edge[turn]), jnp.asarray(level.counts[turn])
                drawing = step(drawing, edge, counts, jnp.asarray(turn))
    return drawing


def drawers(
    graph: MixedGraph, guide: Guide, uniforms: Array, noise: dict[Space, Array], z: Sequence[Array]
) -> list[Any]:
    """Steps of `over_turns` that draw the children of all factors and Gaussian edges."""
    n = graph.layout.n_nodes
    steps: list[Any] = [
        factor_drawer(factor, uniforms, noise, n, which) for which, factor in enumerate(graph.factors)
    ]
    own = zip(graph.kinds, guide.messages, guide.pulled, z, strict=True)
    return steps + [_edge_drawer(*each_kind, n) for each_kind in own]


def part_of(kind: Kind, edge: Array) -> Kind:
    """Some of the edges of a kind."""
    covariates = {name: values[edge] for name, values in kind.covariates.items()}
    return Kind(kind.process, kind.times[edge], kind.durations[edge], covariates, kind.ends)


def roots_drawn(
    drawing: Drawing, roots: StateRoots | VectorRoots, uniforms: Array, noise: dict[Space, Array]
) -> Drawing:
    nodes, space = roots.rows.children, roots.space
    own = columns(drawing.potentials[space], nodes)
    if isinstance(roots, StateRoots):
        logs = roots.law + own
        sizes = log_sum_or_never(logs, axis=0)
        drawn: Any = jax.vmap(categorical, in_axes=(-1, 0))(logs, uniforms[nodes])
    else:
        gain = own.gain(roots.factor)
        sizes = own.log_pulled(gain, roots.mean)
        drawn = roots.mean + times(gain.loading, gain.steering(roots.mean) + noise[space][:, nodes])
    states = {**drawing.states, space: drawing.states[space].at[..., nodes].set(drawn)}
    return drawing._replace(states=states, total=drawing.total + jnp.sum(sizes))


def factor_drawer(
    factor: WithChild, uniforms: Array, noise: dict[Space, Array], n: int, which: int | None = None
) -> Callable[..., Any]:
    """Draws children of a factor given their parents, in a step of `over_turns`.

    Args:
        which: its number, if potentials stood for it with its parents.
    """

    def advance(drawing: Drawing, edge: Array, counts: Array) -> tuple[Drawing, None]:
        space = factor.child
        assert space is not None
        above = parents_of(drawing.states, factor, jnp.asarray(factor.where.parents)[edge])
        to = jnp.asarray(factor.where.children)[edge]
        ahead = columns(drawing.potentials[space], to)
        own_noise = uniforms[to] if space.finite else noise[space][:, to]
        one = lambda own, pair, g: factor.drawn(own, pair[0], g, pair[1])
        drawn, sizes = each(one, inputs_of(factor, edge), (above, own_noise), ahead)
        write = counted(factor.where.children, edge, counts, n)
        states = {**drawing.states, space: drawing.states[space].at[..., write].set(drawn)}
        if which is not None:
            sizes = sizes - _stood(factor, columns(drawing.sent[which], edge), above)
        total = drawing.total + jnp.sum(jnp.where(counts, sizes, 0.0))
        return drawing._replace(states=states, total=total), None

    return advance


def _edge_drawer(kind: Kind, message: Messages, pulled: Canonical, z: Array, n: int) -> Callable[..., Any]:
    space, noise = Space(False, kind.process.dim), jnp.moveaxis(z, 0, -1)

    def advance(drawing: Drawing, edge: Array, counts: Array) -> tuple[Drawing, Array]:
        part = part_of(kind, edge)
        along = columns(message.steps, edge)
        # the potential at the end may have changed since the backward filter
        ahead = columns(drawing.potentials[space], jnp.asarray(kind.ends.children)[edge])
        own = messages(along, ahead, None)
        first = jax.tree.map(lambda leaf: leaf[0], (own.ahead, own.gains, along))
        at_start = first[0].pull_back(first[1], first[2].matrix, first[2].offset)

        def step(x: Array, inputs: Any) -> tuple[Array, Array]:
            return guided_step(part, x, Interval(*inputs[0]), inputs[1], inputs[2]), x

        start = drawing.states[space][:, jnp.asarray(kind.ends.parents)[edge]]
        inputs = (tuple(part.intervals()), own.towards(part), columns(noise, edge))
        last, before = lax.scan(step, start, inputs)
        sizes = at_start.log_value(start) - columns(pulled, edge).log_value(start)
        if not kind.process.linear:
            sizes = sizes + jnp.sum(log_weights(part, own, before), axis=0)
        write = counted(kind.ends.children, edge, counts, n)
        states = {**drawing.states, space: drawing.states[space].at[:, write].set(last)}
        total = drawing.total + jnp.sum(jnp.where(counts, sizes, 0.0))
        return drawing._replace(states=states, total=total), before

    return advance


def _updater(graph: MixedGraph, references: References, which: int, factor: Factor) -> Callable[..., Any]:
    """What factors send to parents that are not drawn, given the states of those that are."""
    turns = jnp.asarray(np.append(graph.layout.turn, -1))
    n = graph.layout.n_nodes

    def update(drawing: Drawing, edge: Array, counts: Array, turn: Array) -> Drawing:
        parents = jnp.asarray(factor.where.parents)[edge]
        laws, anchors, known = [], [], []
        for i, (space, law) in enumerate(
            zip(factor.spaces, columns(references.laws[which], edge), strict=True)
        ):
            drawn, state = turns[parents[:, i]] <= turn, drawing.states[space][..., parents[:, i]]
            known.append(drawn)
            if space.finite:
                certain = jnp.where(jnp.arange(space.size)[:, None] == state, 0.0, -jnp.inf)
                laws.append(jnp.where(drawn, certain, law))
                continue
            laws.append(VectorLaw(jnp.where(drawn, state, law.mean), jnp.where(drawn, 0.0, law.factor)))
            anchors.append(jnp.where(drawn, state, references.means[space][:, parents[:, i]]))
        anchor = jnp.concatenate(anchors) if anchors else jnp.zeros((0, len(parents)))
        ahead = None
        if isinstance(factor, WithChild) and factor.child is not None:
            ahead = columns(drawing.potentials[factor.child], jnp.asarray(factor.where.children)[edge])
        one = lambda own, pair, ahead: project(factor, own, pair[0], pair[1], ahead)
        new = each(one, inputs_of(factor, edge), (laws, anchor), ahead)
        potentials, sent = dict(drawing.potentials), list(drawing.sent[which])
        for i, (space, drawn) in enumerate(zip(factor.spaces, known, strict=True)):
            old = columns(sent[i], edge)
            change = without(new[i], old)
            if space.finite:  # a state that was impossible stays so
                change = jnp.where(old > -jnp.inf, change, 0.0)
            to = jnp.where(counts & ~drawn, parents[:, i], n)
            potentials[space] = add(potentials[space], to, change)
            chosen = jax.tree.map(lambda a, b, drawn=drawn: jnp.where(drawn, a, b), old, new[i])
            sent[i] = put(sent[i], edge, chosen)
        every = (*drawing.sent[:which], sent, *drawing.sent[which + 1 :])
        return drawing._replace(potentials=potentials, sent=every)

    return update


def _likelihood_of_several(factor: Any, which: int) -> Callable[..., Any]:
    """Takes observations of several nodes for what stood for them, once all of these are drawn."""

    def end(drawing: Drawing, edge: Array, counts: Array, turn: Array) -> Drawing:
        above = parents_of(drawing.states, factor, jnp.asarray(factor.where.parents)[edge])
        one = lambda own, states, _: factor.log_value(own, states, None)
        seen = each(one, inputs_of(factor, edge), above, None)
        ratio = seen - _stood(factor, columns(drawing.sent[which], edge), above)
        return drawing._replace(total=drawing.total + jnp.sum(jnp.where(counts, ratio, 0.0)))

    return end


def _likelihood_of_vectors(observed: Observed, potential: Canonical, space: Space) -> Callable[..., Any]:
    """Takes observations of single vectors for their expansions, once these are drawn."""

    def end(drawing: Drawing, edge: Array, counts: Array, turn: Array) -> Drawing:
        at = drawing.states[space][:, observed.nodes]
        ratio = (observed.site.log_likelihood(at.T) - potential.log_value(at))[edge]
        return drawing._replace(total=drawing.total + jnp.sum(jnp.where(counts, ratio, 0.0)))

    return end


def _stood(factor: Factor, sent: Sequence[Any], above: Sequence[Array]) -> Array:
    """Logs (E,) of the potentials that stood for factors, at the states of their parents."""
    total = jnp.zeros(above[0].shape[-1])
    for g, x, space in zip(sent, above, factor.spaces, strict=True):
        total = total + (jnp.take_along_axis(g, x[None], axis=0)[0] if space.finite else g.log_value(x))
    return total


def parents_of(states: ByNode, factor: Factor, parents: Any) -> list[Array]:
    """States of the parents (E, p) of factors."""
    return [states[space][..., parents[:, i]] for i, space in enumerate(factor.spaces)]
