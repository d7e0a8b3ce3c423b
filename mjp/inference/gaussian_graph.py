"""Graphs of Gaussian processes, evaluated: steps by kind of edge, roots, and the schedule of the sweeps."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._by_content import ByContent
from mjp._checks import check_finite, is_concrete
from mjp._small_matrices import semidefinite_cholesky
from mjp.graph import Graph, Roots
from mjp.inference.pinning import PinnedEdges, select_edges
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.rules.registry import rule_of
from mjp.inference.schedule import Levels, Paths, component_of_nodes, schedule_levels, schedule_paths
from mjp.processes.gaussian import GaussianProcess, Interval
from mjp.vector_trajectory import Ends


class Kind(eqx.Module):
    """All edges that carry the same process, each cut into the same number of steps.

    Attributes:
        times, durations: (E, n) start and length of every step.
        covariates: (E,) each.
    """

    process: GaussianProcess
    times: Array
    durations: Array
    covariates: dict[str, Array]
    ends: Ends = eqx.field(static=True)

    @property
    def n_steps(self) -> int:
        return self.times.shape[1]

    @property
    def n_edges(self) -> int:
        return self.times.shape[0]

    def intervals(self) -> Interval:
        """All steps (n, E), the covariates spread over the steps of an edge."""
        times = self.times.T
        spread = {
            name: jnp.broadcast_to(jnp.asarray(v)[None], times.shape) for name, v in self.covariates.items()
        }
        return Interval(times, self.durations.T, spread)

    def steps(self, states: Array) -> tuple[Array, Array]:
        """Means (n, d, E) and factors (n, d, r, E) of the true steps from states (n, d, E)."""
        return jax.vmap(self.step)(states, self.intervals())

    def step(self, x: Array, at: Interval) -> tuple[Array, Array]:
        """Means (d, ...) and factors (d, r, ...) of true steps from states (d, ...), the batch last."""
        step = self.process.step
        for _ in range(x.ndim - 1):
            step = jax.vmap(step, in_axes=-1, out_axes=-1)
        return step(x, at)

    def linearise(self, anchors: Array) -> LinearSteps:
        """The auxiliary's steps (n, ..., E) at anchors (E, n, d)."""
        rule = rule_of(self.process)
        one = lambda anchor, at: rule.linearise(self.process, self.step, anchor, at)
        return jax.vmap(one)(jnp.moveaxis(anchors, 0, -1), self.intervals())


@dataclass(frozen=True, eq=False)
class Layout(ByContent):
    """What is known of a graph before compilation; static in a pytree and compared by content."""

    parent: np.ndarray  # (n,)
    component: np.ndarray  # (n,) entry of the evidence
    root_nodes: np.ndarray  # (n_roots,)
    root_noise: bool  # whether any root has a law
    edge_of_node: np.ndarray  # (n + 1,) position of the edge above each node, kind after kind
    paths: Paths | None  # one kind of edge, without branches
    levels: Levels | None
    n_components: int
    n_graph_nodes: int  # nodes beyond are inserted before the last step of pinned edges
    dim: int

    @property
    def n_nodes(self) -> int:
        return len(self.parent)


class GaussianGraph(eqx.Module):
    """A graph of Gaussian processes with everything evaluated but its auxiliary."""

    kinds: tuple[Kind, ...]
    root_mean: Array  # (n_roots, d)
    root_factor: Array  # (d, d, n_roots), zero for a known value
    layout: Layout = eqx.field(static=True)

    @property
    def linear(self) -> bool:
        """Whether all edges are linear-Gaussian."""
        return all(kind.process.linear for kind in self.kinds)


def evaluate(graph: Graph, pinned: PinnedEdges) -> GaussianGraph:
    """Evaluate a graph of Gaussian processes, with the edges that its exact observations leave.

    Raises:
        ValueError: processes of different dimensions, a root that is not a value or a Gaussian law of
            the right shape, a continuous process on an edge of duration zero with steps.
    """
    dim = common_dim(graph)
    n = pinned.n_nodes
    parent = np.full(n, -1, dtype=np.int64)
    for edges in pinned.edges:
        parent[edges.children] = edges.parents
    root_nodes = np.concatenate([roots.nodes for roots in graph.roots])
    component = component_of_nodes(graph, parent)
    laws = [root_law(roots, dim, graph) for roots in graph.roots]
    dtype = jnp.result_type(float, *(mean for mean, _ in laws))
    alone = len(pinned.edges) == 1
    cut = schedule_paths(parent, np.zeros(n, dtype=bool), component) if alone else None
    paths = cut[0][0] if cut is not None and len(cut[0]) == 1 else None
    levels = None if paths is not None else schedule_levels(parent)
    # edges in the order of their rows, so that sweeps read and write long runs
    row = np.arange(n) if levels is None else levels.row_of_node
    batches = [select_edges(edges, np.argsort(row[edges.children])) for edges in pinned.edges]
    kinds = tuple(kind_of(edges) for edges in batches)
    edge_of_node, offset = np.full(n + 1, -1, dtype=np.int64), 0
    for kind in kinds:
        edge_of_node[kind.ends.children] = offset + np.arange(kind.n_edges)
        offset += kind.n_edges
    edge_of_node[edge_of_node < 0] = offset
    layout = Layout(
        parent=parent,
        component=component,
        root_nodes=root_nodes,
        root_noise=any(isinstance(roots.initial, dist.Distribution) for roots in graph.roots),
        edge_of_node=edge_of_node,
        paths=paths,
        levels=levels,
        n_components=max(int(np.prod(graph.batch_shape)), 1),
        n_graph_nodes=graph.n_nodes,
        dim=dim,
    )
    return GaussianGraph(
        kinds,
        jnp.concatenate([mean for mean, _ in laws]).astype(dtype),
        jnp.concatenate([factor for _, factor in laws], axis=-1).astype(dtype),
        layout,
    )


def common_dim(graph: Graph) -> int:
    """Number of coordinates of the states of a graph."""
    processes: list[Any] = [edges.process for edges in graph.edges]
    dim = processes[0].dim
    for process in processes:
        if process.dim != dim:
            raise ValueError(f"process: all edges need states of the same size, got {dim} and {process.dim}")
    return dim


def kind_of(edges: Any) -> Kind:
    process: GaussianProcess = edges.process
    n_steps = (edges.steps or 1) if process.continuous else 1
    dtype = jnp.result_type(float)
    starts, durations = (jnp.asarray(v, dtype)[:, None] for v in (edges.starts, edges.durations))
    step = durations / n_steps
    times = starts + step * np.arange(n_steps)
    covariates = {name: jnp.asarray(values) for name, values in edges.covariates.items()}
    return Kind(
        process,
        times,
        jnp.broadcast_to(step, times.shape),
        covariates,
        Ends(edges.parents, edges.children),
    )


def root_law(roots: Roots, dim: int, graph: Graph) -> tuple[Array, Array]:
    """Means (n, d) and factors (d, d, n) of roots."""
    n, law = len(roots.nodes), roots.initial
    where = lambda node: f"initial: the state at {graph.describe_node(node)}"
    if not isinstance(law, dist.Distribution):
        values = []
        for node, value in zip(roots.nodes.tolist(), law, strict=True):
            if values and value is law[0]:  # the series of a chain share theirs
                values.append(values[0])
                continue
            try:
                array = jnp.asarray(value, jnp.result_type(float))
            except (TypeError, ValueError):
                raise ValueError(f"{where(node)} must hold {dim} numbers, got {value!r}") from None
            if array.shape != (dim,) and not (dim == 1 and array.shape == ()):
                raise ValueError(f"{where(node)} must have shape ({dim},), got {array.shape}")
            check_finite(where(node), array)
            values.append(array.reshape(dim))
        # JAX compiles for every number of arrays that it stacks
        stacked = np.stack(values) if all(map(is_concrete, values)) else jnp.stack(values)
        return jnp.asarray(stacked), jnp.zeros((dim, dim, n))
    mean, covariance = gaussian_moments(law, dim)
    if mean is None:
        raise ValueError(
            f"initial must be a value, or a Normal or MultivariateNormal law of {dim} coordinates, "
            f"got {type(law).__name__} of shape {law.batch_shape + law.event_shape}"
        )
    mean = jnp.broadcast_to(mean, (n, dim))
    factor = semidefinite_cholesky(jnp.moveaxis(jnp.broadcast_to(covariance, (n, dim, dim)), 0, -1))
    return mean, factor


def gaussian_moments(law: Any, dim: int) -> tuple[Any, Any]:
    """Mean (..., d) and covariance (..., d, d) of a Gaussian law of `dim` coordinates; else None twice."""
    while isinstance(law, dist.Independent | dist.ExpandedDistribution):
        law = law.base_dist if isinstance(law, dist.Independent) else _expanded(law)
    if isinstance(law, dist.MultivariateNormal):
        return (law.mean, law.covariance_matrix) if law.event_shape == (dim,) else (None, None)
    if not isinstance(law, dist.Normal):
        return None, None
    normal: Any = law
    mean, scale = (jnp.broadcast_to(v, law.batch_shape) for v in (normal.loc, normal.scale))
    if law.batch_shape == () and dim == 1:
        mean, scale = mean[None], scale[None]
    if mean.shape[-1:] != (dim,):
        if dim == 1:
            mean, scale = mean[..., None], scale[..., None]
        else:
            return None, None
    return mean, jnp.eye(dim) * scale[..., None] ** 2


def _expanded(law: Any) -> Any:
    """The base of an expanded law, with its parameters broadcast."""
    base, shape = law.base_dist, law.batch_shape
    while isinstance(base, dist.ExpandedDistribution):
        base = base.base_dist
    if isinstance(base, dist.Normal):
        normal: Any = base
        return dist.Normal(jnp.broadcast_to(normal.loc, shape), jnp.broadcast_to(normal.scale, shape))
    return base
