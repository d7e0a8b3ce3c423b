"""Graphs whose states have bounds, in the coordinates in which their processes take steps."""

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._checks import is_concrete
from mjp.graph import Graph, Observations, Roots
from mjp.inference.pinning import exact_values, is_exact_observation
from mjp.observations import LinearGaussianObservation
from mjp.processes.charts import Chart


class Unbounded(NamedTuple):
    """A graph in the coordinates of a chart.

    Attributes:
        chart: None where states have no bounds.
        log_jacobian: what densities of exact observations gain at each node, (n_nodes,); None without them.
    """

    graph: Graph
    chart: Chart | None
    log_jacobian: Array | None


def unbounded(graph: Graph, dim: int, *, observed: bool) -> Unbounded:
    """First states and observations of a graph in the coordinates of its processes' chart.

    Raises:
        ValueError: processes with different supports, a first state or an exact observation outside of the
            support, a first law that is not log-normal, an exact observation that mixes coordinates, matrices
            per observation.
    """
    processes: list[Any] = [edges.process for edges in graph.edges]
    chart: Chart | None = processes[0].chart
    for process in processes:
        if process.chart != chart:
            raise ValueError(f"support: all edges need the same, got {chart} and {process.chart}")
    if chart is None:
        return Unbounded(graph, None, None)
    inside = copy.copy(graph)
    inside.roots = [_roots(graph, roots, chart) for roots in graph.roots]
    found = [_observations(graph, own, chart, dim) for own in graph.observations] if observed else []
    inside.observations = [own for own, _ in found]
    gained = [term for _, term in found if term is not None]
    return Unbounded(inside, chart, sum(gained[1:], gained[0]) if gained else None)


def _roots(graph: Graph, roots: Roots, chart: Chart) -> Roots:
    dim = len(chart.bounds)
    if isinstance(roots.initial, dist.Distribution):
        return replace(roots, initial=_law(roots.initial, chart))
    values = []
    for node, value in zip(roots.nodes.tolist(), roots.initial, strict=True):
        value = jnp.asarray(value, jnp.result_type(float))
        if value.size == dim:  # other sizes are refused where the roots are evaluated
            value = value.reshape(dim)
            if is_concrete(value) and not chart.contains(np.asarray(value)):
                raise ValueError(
                    f"initial: the state {np.asarray(value)} at {graph.describe_node(node)} is outside of "
                    f"the support {chart}"
                )
            value = chart.coordinates(value)
        values.append(value)
    return replace(roots, initial=values)


def _law(law: Any, chart: Chart) -> Any:
    """The normal law of the coordinates of a log-normal state."""
    inner = law
    while isinstance(inner, dist.Independent | dist.ExpandedDistribution):
        inner = inner.base_dist
    if isinstance(inner, dist.LogNormal) and chart.bounds == ((0.0, np.inf),) * len(chart.bounds):
        shape = law.batch_shape + law.event_shape
        normal = dist.Normal(jnp.broadcast_to(inner.loc, shape), jnp.broadcast_to(inner.scale, shape))
        return normal.to_event(len(law.event_shape))
    raise ValueError(
        f"initial must be a value, or a LogNormal law where the support is positive, got "
        f"{type(inner).__name__} for the support {chart}"
    )


def _observations(
    graph: Graph, observed: Observations, chart: Chart, dim: int
) -> tuple[Observations, Array | None]:
    likelihood: Any = observed.likelihood
    if not is_exact_observation(likelihood):
        linear = isinstance(likelihood, LinearGaussianObservation)
        if linear and max(likelihood.matrix.ndim, likelihood.covariance.ndim) > 2:
            raise ValueError(
                "matrix and covariance must be the same for all observations of states with bounds"
            )
        return replace(observed, likelihood=lambda x, *own: likelihood(chart.state(x), *own)), None
    alone = copy.copy(graph)
    alone.observations = [observed]
    pins = exact_values(alone, dim)
    if not pins:
        return observed, None
    pin = pins[0]
    which = np.argmax(np.asarray(pin.look), axis=1)
    if not np.array_equal(np.asarray(pin.look), np.eye(dim)[which]):
        raise ValueError("matrix of an exact observation of states with bounds must select coordinates")
    seen = Chart(tuple(chart.bounds[i] for i in which))
    if is_concrete(pin.values):
        for node, value in zip(pin.nodes, np.asarray(pin.values), strict=True):
            if not seen.contains(value):
                raise ValueError(
                    f"values: the state {value} at {graph.describe_node(int(node))} is outside of the "
                    f"support {seen}"
                )
    values = seen.coordinates(pin.values)
    slopes = jax.vmap(lambda value: seen.slopes(value)[0])(values)
    terms = jnp.zeros(graph.n_nodes, values.dtype).at[pin.nodes].add(-jnp.sum(jnp.log(jnp.abs(slopes)), 1))
    return Observations(LinearGaussianObservation(pin.look, 0.0), pin.nodes, values), terms
