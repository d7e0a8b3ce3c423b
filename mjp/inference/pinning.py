r"""Exact observations L x = v of vector states, without any infinite precision.

An exact observation of the end of a step $m + Gz$ is, with $B = LG$, an observation
$v \sim N(L m(x), BB')$ of the state at its start, followed by a step whose noise cannot leave the
observed set: mean $m + G B^+ (v - Lm)$ and factor $G (I - B^+ B)$. Both are ordinary parts of a Gaussian
graph. An edge of several steps is cut before its last one.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import is_concrete
from mjp.graph import Edges, Graph, Observations
from mjp.inference.merging import merged
from mjp.observations import Exactly, LinearGaussianObservation
from mjp.processes.affine import Dependence, dependence, worst
from mjp.processes.gaussian import GaussianProcess, Interval

PIN = "mjp pin "  # names of the covariates that carry what is observed


class Pinned(GaussianProcess):
    """A process whose steps end where a part of the state is known: L x' = v, with v by covariates."""

    process: GaussianProcess
    look: Array  # (k, d)
    dim: int = eqx.field(static=True)
    noise_dim: int = eqx.field(static=True)
    linear: bool = eqx.field(static=True)
    constant_noise: bool = eqx.field(static=True)
    continuous: bool = eqx.field(static=True)

    def __init__(self, process: GaussianProcess, look: Array):
        self.process, self.look = process, look
        self.dim, self.noise_dim = process.dim, process.noise_dim
        self.linear, self.constant_noise = process.linear, process.constant_noise
        self.continuous = process.continuous

    def step(self, x: Array, at: Interval) -> tuple[Array, Array]:
        mean, factor = self.process.step(x, at)
        reach = self.look @ factor
        inverse = jnp.linalg.solve(reach @ reach.T, reach).T  # of full row rank
        value = jnp.stack([at.covariates[f"{PIN}{i}"] for i in range(len(self.look))])
        free = jnp.eye(factor.shape[1]) - inverse @ reach
        return mean + factor @ (inverse @ (value - self.look @ mean)), factor @ free

    def law(self, x: Array, at: Interval) -> tuple[Array, Array]:
        """Mean (k,) and covariance (k, k) of what is observed, given the state at the start of the step."""
        mean, factor = self.process.step(x, at)
        reach = self.look @ factor
        return self.look @ mean, reach @ reach.T


@dataclass(frozen=True, eq=False)
class Pins(ByContent):
    """Exact observations of some nodes through one matrix."""

    nodes: np.ndarray  # (m,)
    look: Array  # (k, d)
    values: Array  # (m, k)


@dataclass(frozen=True, eq=False)
class PinnedEdges(ByContent):
    """What exact observations make of a graph's edges.

    Attributes:
        edges: batches with inserted nodes, numbered from `graph.n_nodes` on.
        sites: (node, pinned process, values (m, k), inputs) of the observations at starts of last steps.
    """

    edges: list[Edges]
    sites: list[tuple[np.ndarray, Pinned, Array, Interval]]
    n_nodes: int
    pins: list[Pins]


def pin(graph: Graph, dim: int, *, observed: bool) -> PinnedEdges:
    """Replace exact observations by pinned last steps.

    Raises:
        ValueError: an exact observation of a root, of a coordinate that the noise of a step does not
            reach, or with some entries missing.
    Warns:
        UserWarning: the noise along what is observed depends on what is not observed.
    """
    pins = exact_values(graph, dim) if observed else []
    batches, n, result, sites = merged(graph.edges), graph.n_nodes, [], []
    pinned_at = np.full(graph.n_nodes, -1)
    for i, p in enumerate(pins):
        twice = p.nodes[pinned_at[p.nodes] >= 0]
        if len(twice):
            raise ValueError(f"{graph.describe_node(int(twice[0]))} is observed exactly twice")
        pinned_at[p.nodes] = i
    is_child = np.zeros(graph.n_nodes, dtype=bool)
    for batch in batches:
        is_child[batch.children] = True
    at_root = np.flatnonzero((pinned_at >= 0) & ~is_child)
    if len(at_root):
        raise ValueError(
            f"{graph.describe_node(int(at_root[0]))} is a root and cannot be observed exactly; give its "
            "value as initial"
        )
    for batch in batches:
        which = pinned_at[batch.children]
        if np.any(which < 0):
            result.append(select_edges(batch, np.flatnonzero(which < 0)))
        for i in np.unique(which[which >= 0]):
            chosen = np.flatnonzero(which == i)
            if batch.process.mixture:  # type: ignore[attr-defined]
                node = graph.describe_node(int(batch.children[chosen[0]]))
                raise ValueError(
                    f"{type(batch.process).__name__} cannot be observed exactly, as it is at {node}; observe "
                    "it with a small variance"
                )
            cut, last, n = _cut(select_edges(batch, chosen), n)
            result.extend(cut)
            position = {node: j for j, node in enumerate(pins[i].nodes.tolist())}
            values = pins[i].values[np.asarray([position[node] for node in last.children.tolist()])]
            process = Pinned(batch.process, pins[i].look)  # type: ignore[arg-type]
            _check_reach(graph, process, last)
            columns = {f"{PIN}{j}": values[:, j] for j in range(values.shape[1])}
            pinned = replace(last, process=process, covariates={**last.covariates, **columns})
            result.append(pinned)
            spread = {name: jnp.asarray(v) for name, v in pinned.covariates.items()}
            at = Interval(jnp.asarray(last.starts), jnp.asarray(last.durations), spread)
            sites.append((last.parents, process, values, at))
    return PinnedEdges(result, sites, n, pins)


def exact_values(graph: Graph, dim: int) -> list[Pins]:
    """The exact observations of a graph, missing ones left out.

    Raises:
        ValueError: values of the wrong shape, or with some entries missing.
    """
    found = []
    for observed in graph.observations:
        likelihood: Any = observed.likelihood
        if not is_exact_observation(likelihood):
            continue
        look: Any = np.eye(dim) if isinstance(likelihood, Exactly) else likelihood.matrix
        if look.ndim != 2 or look.shape[1] != dim:
            raise ValueError(f"matrix of an exact observation must have shape (k, {dim}), got {look.shape}")
        array = _numbers(graph, observed, len(look))
        keep = np.arange(len(array))
        if is_concrete(array):
            missing = np.isnan(np.asarray(array))
            partly = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
            if len(partly):
                node = graph.describe_node(int(observed.nodes[partly[0]]))
                raise ValueError(
                    f"values: an exact observation must be missing or whole, got a part at {node}"
                )
            keep = np.flatnonzero(~missing.all(axis=1))
        if len(keep):
            offset = 0.0 if isinstance(likelihood, Exactly) else likelihood.offset
            values = jnp.asarray(array[keep], jnp.result_type(float)) - offset
            found.append(Pins(np.asarray(observed.nodes)[keep], look, values))
    return found


def _numbers(graph: Graph, observed: Observations, k: int) -> Any:
    """Values (m, k) of exact observations; None becomes NaN.

    Known values stay in NumPy, so that missing ones are left out under transformations too.
    """
    values = observed.values
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = [np.full(k, np.nan) if v is None else v for v in values]
        sizes = [int(np.size(v)) for v in values]
        if any(size != k for size in sizes):
            node = graph.describe_node(int(observed.nodes[int(np.argmax(np.asarray(sizes) != k))]))
            raise ValueError(
                f"values: an exact observation must hold {k} numbers, got another size at {node}"
            )
        numbers = np if all(map(is_concrete, values)) else jnp
        values = numbers.stack([numbers.reshape(v, (k,)) for v in values])
    array: Any = np.asarray(values, float) if is_concrete(values) else values
    if array.size != len(observed.nodes) * k:
        raise ValueError(f"values: an exact observation must hold {k} numbers, got shape {array.shape[1:]}")
    return array.reshape(-1, k)


def is_exact_observation(likelihood: Any) -> bool:
    """Whether a likelihood shows (a part of) a vector state without error."""
    return isinstance(likelihood, Exactly) or (
        isinstance(likelihood, LinearGaussianObservation) and likelihood.noiseless
    )


def select_edges(batch: Edges, chosen: np.ndarray) -> Edges:
    """Some edges of a batch, by position."""
    if np.array_equal(chosen, np.arange(len(batch.children))):
        return batch
    return replace(
        batch,
        parents=batch.parents[chosen],
        children=batch.children[chosen],
        durations=batch.durations[chosen],
        starts=batch.starts[chosen],
        covariates={name: values[chosen] for name, values in batch.covariates.items()},
    )


def _cut(batch: Edges, n: int) -> tuple[list[Edges], Edges, int]:
    """Cut edges before their last step: what comes before, the last step, and the number of nodes."""
    steps = batch.steps if batch.process.continuous and batch.steps else 1  # type: ignore[attr-defined]
    if steps == 1:
        return [], replace(batch, steps=1), n
    inserted = n + np.arange(len(batch.children))
    step = batch.durations / steps
    before = replace(batch, children=inserted, durations=step * (steps - 1), steps=steps - 1)
    last = replace(batch, parents=inserted, durations=step, starts=batch.starts + step * (steps - 1), steps=1)
    return [before], last, n + len(inserted)


def _check_reach(graph: Graph, process: Pinned, last: Edges) -> None:
    """Whether the noise of a step reaches all that is observed, and does so in the same way everywhere."""
    at = Interval(last.starts[0], last.durations[0], {k: v[0] for k, v in last.covariates.items()})
    if not is_concrete(process.look):
        return
    null = jnp.asarray(_null_space(np.asarray(process.look)))
    spread = lambda x: process.law(x, at)[1]
    inside = jax.ShapeDtypeStruct((null.shape[1],), jnp.result_type(float))
    origin = jnp.linalg.pinv(process.look) @ jnp.ones(len(process.look))
    if null.shape[1] and worst(dependence(lambda w: spread(origin + null @ w), inside)) != Dependence.NONE:
        warnings.warn(
            f"{type(process.process).__name__}: the noise along an exact observation depends on coordinates "
            "that are not observed, so that guides get worse with the number of steps (Bierkens, van der "
            "Meulen & Schauer 2020); observe with a small variance instead",
            stacklevel=2,
        )
    covariance = spread(origin)
    if is_concrete(covariance):
        matrix = np.asarray(covariance)
        values = np.linalg.eigvalsh(matrix) if np.isfinite(matrix).all() else np.ones(1)
        if values[0] <= 1e-14 * max(values[-1], np.finfo(float).tiny):
            node = graph.describe_node(int(last.children[0]))
            raise ValueError(
                f"the exact observation at {node} cannot be reached: the noise of one step does not move all "
                "that is observed. Use a scheme of full rank, such as scheme='local linearisation', or "
                "observe with a small variance"
            )


def _null_space(matrix: np.ndarray) -> np.ndarray:
    _, values, vectors = np.linalg.svd(matrix)
    rank = int(np.sum(values > 1e-12 * values.max(initial=0.0)))
    return vectors[rank:].T
