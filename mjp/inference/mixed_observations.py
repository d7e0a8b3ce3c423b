"""Observations of the nodes of a graph that mixes families: of states, of vectors, of several at once."""

import copy
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._checks import check_finite, is_concrete
from mjp.graph import Edges, Graph, Observations
from mjp.inference.gaussian_sites import Observed, sites_of
from mjp.inference.joint_factors import LikelihoodFactor, Rows, SeenChildFactor, Space
from mjp.inference.mixed_spaces import abstract_state, any_parents, of_parents
from mjp.inference.pinning import PinnedEdges
from mjp.inference.rules.state_observations import UNKNOWN, StateEvidence
from mjp.inference.safe_logs import log_or_never
from mjp.inference.state_tables import noisy_nodes
from mjp.likelihood_covariates import joined_rows
from mjp.observations import Exactly


def exact_vectors(graph: Graph, labels: list[tuple | int]) -> dict[int, Array]:
    """Values (d,) of the vectors that were seen without error, by node."""
    found: dict[int, Array] = {}
    functions = {int(child) for batch in graph.edges if any_parents(batch) for child in batch.children}
    for batch in graph.observations:
        if not isinstance(batch.likelihood, Exactly):
            continue
        for i, node in enumerate(batch.nodes.tolist()):
            dim, value = labels[node], batch.values[i]
            if isinstance(dim, tuple) or (is_concrete(value) and _all_missing(value)):
                continue
            where = graph.describe_node(node)
            if node not in functions:
                raise ValueError(
                    f"Exactly: {where} is a vector that no mjp.ConditionalGaussian leads to; in a graph that "
                    "mixes families others are seen with noise, through mjp.LinearGaussianObservation, say"
                )
            vector = jnp.asarray(value, jnp.result_type(float)).reshape(-1)
            if vector.shape != (dim,):
                raise ValueError(f"values: {where} is a vector of {dim}, got a value of shape {vector.shape}")
            check_finite(f"value at {where}", vector)
            found[node] = vector
    return found


def _all_missing(value: Any) -> bool:
    return value is None or bool(np.isnan(np.asarray(value, dtype=float)).all())


def jointly_observed(graph: Graph, spaces: list[Space]) -> list[LikelihoodFactor]:
    """Observations of several nodes, those through the same likelihood of the same spaces together.

    Raises:
        TypeError: a likelihood that returns no Distribution. ValueError: values of another shape than its
            draws, or partly missing.
    """
    groups: dict[tuple, list[tuple[tuple[int, ...], Array]]] = {}
    for joint in graph.joint_observations:
        own = tuple(spaces[node] for node in joint.nodes)
        where = " and ".join(graph.describe_node(node) for node in joint.nodes)
        found: list[Any] = []
        jax.eval_shape(lambda *given: found.append(joint.likelihood(*given)), *map(abstract_state, own))  # noqa: B023
        if not isinstance(found[0], dist.Distribution):
            raise TypeError(
                f"likelihood of {where} must return a Distribution, got {type(found[0]).__name__}"
            )
        value = joint.value
        if value is None or (is_concrete(value) and _all_missing(value)):
            continue
        value, shape = jnp.asarray(value), found[0].shape()
        if value.shape != shape and value.size != int(np.prod(shape)):
            raise ValueError(f"value of {where} must have shape {shape}, as its law has, got {value.shape}")
        check_finite(f"value of {where}", value)
        groups.setdefault((joint.likelihood, own), []).append((joint.nodes, value.reshape(shape)))
    factors = []
    for (likelihood, own), members in groups.items():
        nodes = np.asarray([nodes for nodes, _ in members])
        values = jnp.stack([value for _, value in members])
        where = Rows(nodes, np.zeros(0, dtype=int))
        factors.append(LikelihoodFactor(likelihood=likelihood, spaces=own, where=where, inputs=values))
    return factors


def seen_children(edges: Edges, exact: dict[int, Array], spaces: list[Space]) -> SeenChildFactor:
    where = Rows(edges.every_parent, np.zeros(0, dtype=int))
    values = jnp.stack([exact[child] for child in edges.children.tolist()])
    process: Any = edges.process
    return SeenChildFactor(process=process, spaces=of_parents(spaces, where), where=where, inputs=values)


def vector_sites(graph: Graph, space: Space, spaces: list[Space]) -> list[Observed]:
    """Noisy observations of the vectors of a space."""
    part, kept = copy.copy(graph), []
    for batch in graph.observations:
        keep = [i for i, node in enumerate(batch.nodes.tolist()) if spaces[node] == space]
        if keep and not isinstance(batch.likelihood, Exactly):
            kept.append(batch if len(keep) == len(batch.nodes) else batch.rows(np.asarray(keep)))
    part.observations = _side_by_side(kept)
    return sites_of(part, space.size, PinnedEdges([], [], graph.n_nodes, []))


def _side_by_side(batches: list[Observations]) -> list[Observations]:
    """Observations through the same likelihood as one batch, where their values have one shape."""
    groups: dict[tuple, list[Observations]] = {}
    for batch in batches:
        known = isinstance(batch.values, np.ndarray) and batch.values.dtype != object
        key = (id(batch.likelihood), known, np.shape(batch.values)[1:] if known else id(batch))
        groups.setdefault(key, []).append(batch)
    result = []
    for group in groups.values():
        nodes = np.concatenate([batch.nodes for batch in group])
        one = len(group) == 1
        values = group[0].values if one else np.concatenate([batch.values for batch in group])
        covariates = joined_rows([batch.covariates for batch in group])
        result.append(replace(group[0], nodes=nodes, values=values, covariates=covariates))
    return result


def with_likelihoods(total: Array, evidence: StateEvidence) -> Array:
    """Logs (K, n + 1) with those of the observations of the nodes of one set of labels added."""
    known = np.flatnonzero(evidence.known != UNKNOWN)
    certain = np.full(total.shape, 0.0)
    certain[:, known] = -np.inf
    certain[evidence.known[known], known] = 0.0
    total = total + certain
    nodes = noisy_nodes(evidence)
    if len(nodes):
        potentials = evidence.potentials()
        logs = log_or_never(potentials.values[nodes].T) + potentials.log_scale[nodes]
        total = total.at[:, nodes].add(logs.astype(total.dtype))
    return total
