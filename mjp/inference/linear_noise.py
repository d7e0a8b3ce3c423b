"""The guide from the linear noise approximation: the backward filter of the chemical Langevin equation."""

import copy
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp.graph import Graph, Roots
from mjp.inference.anchors import Anchors, at_prior_mean
from mjp.inference.count_graph import CountGraph
from mjp.inference.count_observations import for_gaussian_guide
from mjp.inference.gaussian_edges import Messages
from mjp.inference.gaussian_engine import prepare
from mjp.inference.gaussian_graph import GaussianGraph, evaluate
from mjp.inference.gaussian_sites import Observed, sites_of
from mjp.inference.jump_guides import GaussianGuide
from mjp.inference.pinning import pin
from mjp.inference.potentials.canonical import Canonical
from mjp.processes.chemical_langevin import OPENS, ChemicalLangevin
from mjp.processes.gaussian import GaussianProcess
from mjp.processes.reaction_network import ReactionNetwork

_DAMPING = 0.7
_ROUNDING = 0.1  # variance of what was seen exactly; with less, weights have heavier tails


def linear_noise(
    graph: Graph, model: CountGraph, auxiliary: GaussianProcess | Anchors | None, iterations: int
) -> tuple[GaussianGuide, Array, Anchors]:
    """A Gaussian guide (pieces, cells), the log of its value at the roots (n_components,), and its anchors.

    The chemical Langevin equation is linearised along the mean of its own guided process, `iterations`
    times, from the deterministic path on (the linear noise approximation without restart; Fearnhead,
    Giagos & Sherlock 2014, Biometrics 70:457), and its potentials are filtered backwards on the cells.

    Args:
        graph: with edges cut at breaks. auxiliary: a linear process that stands for the equation, or the
            anchors of an earlier result.

    Raises:
        ValueError: a linear process for networks with counters.
    """
    if isinstance(auxiliary, GaussianProcess) and model.processes[0].counters:
        raise ValueError(
            "auxiliary: a linear process does not know that counters begin anew at nodes; use 'linear noise'"
        )
    langevin, sites = langevin_graph(graph, model, _ROUNDING)
    # what one observation suggests says nothing of the species that it does not show, and a network that is
    # linearised in an impossible state leads nowhere; the deterministic path is possible
    start = None if isinstance(auxiliary, Anchors) else at_prior_mean(langevin)
    evidence, anchors, potentials, messages, _ = prepare(
        langevin, sites, auxiliary, iterations, _DAMPING, False, start
    )
    constants = _whole_constants(langevin, potentials.constant)
    found, where = [], []
    for kind, message in zip(langevin.kinds, messages, strict=True):
        process: Any = kind.process
        message = eqx.tree_at(
            lambda m: m.steps.matrix, message, _carrying(message.steps.matrix, process.network)
        )
        found.append(_at_starts(message, constants[kind.ends.children]))
        where.append(kind.ends.children)
    return GaussianGuide(in_order(found, where, model)), evidence, anchors


@eqx.filter_jit  # called outside compiled functions, operations would compile one by one
def _at_starts(message: Messages, constants: Array) -> Canonical:
    """Potentials (edges, cells) at the start of every cell, given the constants (edges,) at the children."""
    steps = message.steps
    pull = lambda ahead, gain, matrix, offset: ahead.pull_back(gain, matrix, offset)
    pulled = jax.vmap(pull)(message.ahead, message.gains, steps.matrix, steps.offset)
    pulled = pulled.with_constant(pulled.constant + constants - message.ahead.constant[-1])
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), pulled)  # from (cells, ..., edges)


def _carrying(matrix: Array, network: ReactionNetwork) -> Array:
    """Matrices (cells, d, d, E) of steps from states in which counters have begun already.

    Steps with which they begin forget what they were; a guide of what comes after must not.
    """
    if not network.counters:
        return matrix
    counters = np.diag(~network.carried)[..., None]
    return jnp.where(counters, 1.0, matrix)


def _whole_constants(langevin: GaussianGraph, constants: Array) -> Array:
    """Constants (n,) of the potentials at the nodes, of which sweeps along paths leave those of single steps.

    Guides do without them, but where weights come from cannot be told.
    """
    paths = langevin.layout.paths
    if paths is None:
        return constants
    later = paths.nodes[1:]  # the first node of a path has the whole
    own = jnp.append(constants, 0.0)[later]
    return constants.at[later].set(jnp.cumsum(own[::-1], axis=0)[::-1], mode="drop")


def langevin_graph(graph: Graph, model: CountGraph, rounding: float) -> tuple[GaussianGraph, list[Observed]]:
    """The chemical Langevin equation on the same pieces and cells, with the observations' Gaussian sites.

    Args:
        rounding: variance of what was seen exactly.
    """
    other = copy.copy(graph)
    other.edges = [replace(edges, process=ChemicalLangevin(edges.process)) for edges in graph.edges]  # type: ignore[arg-type]
    other.observations = for_gaussian_guide(graph, model.processes[0], rounding)
    other.roots = [_gaussian(roots) for roots in graph.roots]
    pinned = pin(other, model.processes[0].n_species, observed=True)
    langevin = evaluate(other, pinned)
    ends = jnp.concatenate([jnp.zeros_like(model.ends[:, :1]), model.ends], axis=1)
    above = np.empty(model.static.layout.n_nodes, dtype=np.int64)
    above[model.pieces.children] = np.arange(model.n_pieces)
    kinds = []
    for kind in langevin.kinds:
        own = above[kind.ends.children]
        times = model.starts[own, None] + ends[own, :-1]
        begins = model.pieces.parents[own] < model.static.n_graph_nodes
        covariates = {**kind.covariates, OPENS: jnp.where(begins, times[:, 0], jnp.nan)}
        durations = jnp.diff(ends[own], axis=1)
        kinds.append(replace(kind, times=times, durations=durations, covariates=covariates))
    langevin = eqx.tree_at(lambda g: g.kinds, langevin, tuple(kinds))
    return langevin, sites_of(other, langevin.layout.dim, pinned)


def in_order(found: list[Any], children: list[np.ndarray], model: CountGraph) -> Any:
    """What was computed per kind of edge, (E, ...), in the order of the pieces, (P, ...)."""
    position = np.empty(model.static.layout.n_nodes, dtype=np.int64)
    joined = np.concatenate(children)
    position[joined] = np.arange(len(joined))
    order = position[model.pieces.children]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[order], *found)


def _gaussian(roots: Roots) -> Roots:
    """Roots with the mean and variances of their law."""
    if not isinstance(roots.initial, dist.Distribution):
        return Roots(roots.nodes, [jnp.asarray(v, jnp.result_type(float)) for v in roots.initial])
    law: Any = roots.initial
    return Roots(roots.nodes, dist.Normal(law.mean, jnp.sqrt(law.variance)).to_event(1))
