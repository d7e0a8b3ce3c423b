"""The sweeps over a Gaussian graph, by paths or by levels as its schedule says."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from mjp.inference import gaussian_levels, gaussian_paths
from mjp.inference.gaussian_edges import Messages, compose, messages
from mjp.inference.gaussian_graph import GaussianGraph
from mjp.inference.potentials.rows import Potential
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.segments import columns


def follow(
    graph: GaussianGraph, roots: Array, steps: Sequence[Callable[[Array, Any], Array]], inputs: Sequence[Any]
) -> tuple[Array, list[Array]]:
    """Follow steps from the roots; see `gaussian_levels.forward`."""
    if graph.layout.paths is None:
        return gaussian_levels.forward(graph, roots, steps, inputs)
    values, before = gaussian_paths.forward(graph, roots, steps[0], inputs[0])
    return values, [before]


def backward(
    graph: GaussianGraph,
    auxiliary: Sequence[LinearSteps],
    sites: Potential,
    factors: Sequence[Array | None],
) -> tuple[Potential, list[Messages]]:
    """Backward filter through the auxiliary's steps (n, ..., E) of every kind.

    Three sweeps: steps are composed along all edges at once, potentials are pulled back from node to
    node, and then along the steps of all edges at once; the number of sequential operations is that of
    the nodes on the longest way plus twice the steps per edge.

    Args:
        sites: potentials of the observations at the nodes, (n,).
        factors: for every kind, the noise factors (n, d, r, E) of its true steps, where they do not
            depend on the state and differ from the auxiliary's; else None.

    Returns:
        potentials at the nodes, (n,), and the messages of every kind.
    """
    edges = stacked([compose(steps) for steps in auxiliary])
    sweep = gaussian_levels if graph.layout.paths is None else gaussian_paths
    potentials = sweep.backward(graph, edges, sites)
    found = []
    for kind, steps, factor in zip(graph.kinds, auxiliary, factors, strict=True):
        child = columns(potentials, kind.ends.children)
        found.append(messages(steps, child, factor))
    return potentials, found


def stacked(steps: Sequence[LinearSteps]) -> LinearSteps:
    """Steps of several kinds (..., E) one after the other, with factors padded to equal width."""
    if len(steps) == 1:
        return steps[0]
    width = max(s.factor.shape[1] for s in steps)
    pad = lambda factor: jnp.pad(factor, ((0, 0), (0, width - factor.shape[1]), (0, 0)))
    return LinearSteps(
        jnp.concatenate([s.matrix for s in steps], axis=-1),
        jnp.concatenate([s.offset for s in steps], axis=-1),
        jnp.concatenate([pad(s.factor) for s in steps], axis=-1),
    )
