"""A fit as an xarray.DataTree in the ArviZ schema."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mjp.graph import Graph
from mjp.numpyro_bridge import structure
from mjp.observations import Exactly, Misclassified, is_missing
from mjp.on_grid import node_times

if TYPE_CHECKING:
    import xarray

    from mjp.fitting.draws import PathDraws
    from mjp.fitting.mixed_draws import MixedPathDraws
    from mjp.fitting.vector_draws import VectorPathDraws

# NumPyro's names of the statistics, and ArviZ's
SAMPLE_STATS = {
    "diverging": "diverging",
    "num_steps": "n_steps",
    "accept_prob": "acceptance_rate",
    "energy": "energy",
    "adapt_state.step_size": "step_size",
    "jumped": "marginal_acceptance_rate",
    "particle_ess": "particle_ess",
    "renewed": "ancestors_renewed",
    "moved": "paths_moved",
    "overflow": "buffer_overflow",
    "overflow_share": "buffer_overflow_share",
}


def site_dims(model: Any, args: tuple, kwargs: dict) -> dict[str, list[str]]:
    """Names of the axes of every site: those of its plates, then `infer={"event_dims": [...]}`."""
    found = structure(model, args, kwargs, jax.random.key(0))
    dims: dict[str, list[str]] = {}
    for name, site in found.items():
        if site["type"] != "sample" or site["is_observed"]:
            continue
        shape = np.shape(site["value"])
        n_event = len(site["fn"].event_shape)
        plates = {frame.dim: frame.name for frame in site["cond_indep_stack"]}
        n_batch = len(shape) - n_event
        batch = [plates.get(axis - n_batch, f"{name}_dim_{axis}") for axis in range(n_batch)]
        given = list(site["infer"].get("event_dims", []))
        event = given or [f"{name}_dim_{n_batch + axis}" for axis in range(n_event)]
        dims[name] = batch + event
    return dims


def sample_stats(statistics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Statistics under ArviZ's names."""
    renamed = {new: statistics[old] for old, new in SAMPLE_STATS.items() if old in statistics}
    if "potential_energy" in statistics:
        renamed["lp"] = -statistics["potential_energy"]
    if "num_steps" in statistics:
        renamed["tree_depth"] = np.ceil(np.log2(statistics["num_steps"] + 1)).astype(int)
    return renamed


def component_dim(graph: Graph) -> tuple[str, list]:
    """Name and labels of the axis over a graph's independent components."""
    if graph.kind == "panel":
        return "subject", list(graph.panel.subjects)  # type: ignore[attr-defined]
    size = graph.batch_shape[0] if graph.batch_shape else 0
    return "series", list(range(size))


def node_coords(name: str, graph: Graph) -> tuple[str, dict[str, Any]]:
    """Name and coordinates of the axis over the nodes of a graph."""
    dim = f"{name}_node"
    if graph.kind == "panel":
        panel = graph.panel  # type: ignore[attr-defined]
        subjects = np.asarray(panel.subjects)
        subjects = subjects if subjects.ndim == 1 else np.asarray([str(s) for s in panel.subjects])
        subjects = subjects[panel.subject_of_row]
        return dim, {"subject_of_node": (dim, subjects), "time_of_node": (dim, panel.times)}
    if graph.kind == "chain" and not graph.batch_shape:
        return "time", {"time": node_times(graph)}
    if graph.kind == "chain":
        series = np.repeat(np.arange(graph.batch_shape[0]), graph.n_times)  # type: ignore[attr-defined]
        return dim, {"series_of_node": (dim, series), "time_of_node": (dim, node_times(graph))}
    return dim, {dim: np.asarray([str(node) for node in graph.names])}


def likelihood_dims(
    name: str, graph: Graph | None, shape: tuple[int, ...]
) -> tuple[list[str], dict[str, Any]]:
    """Axes of a pointwise log-likelihood, and their labels."""
    if graph is not None and len(shape) == 1:
        if graph.batch_shape == shape:
            dim, labels = component_dim(graph)
            return [dim], {dim: labels}
        dim, coords = node_coords(name, graph)
        return [dim], coords
    return [f"{name}_dim_{i}" for i in range(len(shape))], {}


def observed_codes(observed: Any, spaces: Sequence[tuple]) -> np.ndarray:
    """Observed values as numbers: positions of labels, -1 missing, -2 censored; other data as floats.

    Args:
        spaces: labels of the states of every node.
    """
    likelihood = observed.likelihood
    if not isinstance(likelihood, Exactly | Misclassified):
        values = np.asarray(observed.values)
        if values.dtype == object:
            values = np.asarray([np.nan if is_missing(v) else v for v in values], dtype=float)
        return values
    outcomes = likelihood.labels if isinstance(likelihood, Misclassified) else None
    codes = []
    for node, value in zip(observed.nodes.tolist(), observed.values, strict=True):
        labels = spaces[node] if outcomes is None else outcomes
        if is_missing(value):
            codes.append(-1)
        elif isinstance(value, set | frozenset):
            codes.append(-2)
        else:
            codes.append(labels.index(value))
    return np.asarray(codes)


def code_attributes(observed: Any, states: Sequence) -> dict[str, Any]:
    """What the numbers of `observed_codes` stand for; nothing where they are the data themselves."""
    if not isinstance(observed.likelihood, Exactly | Misclassified):
        return {}
    labels = getattr(observed.likelihood, "labels", None) or states
    note = "positions of labels; -1 missing, -2 one of several labels"
    return {"labels": [str(label) for label in labels], "note": note}


def observed_numbers(observed: Any, shape: tuple[int, ...], states: tuple = ()) -> np.ndarray:
    """Observed values (n, ...) of vector states as floats, NaN where missing; labels as their positions."""
    values, likelihood = observed.values, observed.likelihood
    if states and isinstance(likelihood, Exactly | Misclassified):
        labels = getattr(likelihood, "labels", None) or states
        numbers = np.full(shape, np.nan)
        if np.shape(values) == shape:
            for position, label in enumerate(labels):
                numbers[np.asarray(values == label, bool)] = position
        return numbers
    if isinstance(values, np.ndarray) and values.dtype == object:
        missing = np.full(shape[1:], np.nan)
        values = [missing if is_missing(v) else np.reshape(v, shape[1:]) for v in values]
    return np.asarray(values, dtype=float).reshape(shape)


def reshape_draws(values: np.ndarray, paths: "PathDraws | VectorPathDraws | MixedPathDraws") -> np.ndarray:
    """Split the leading axis of selected draws into chain and draw."""
    chains = len(np.unique(paths.chain))
    return values.reshape(chains, -1, *values.shape[1:])


def path_array(
    name: str,
    graph: Graph,
    values: np.ndarray,
    paths: "PathDraws | VectorPathDraws",
    times: np.ndarray | None,
    states: tuple,
) -> "xarray.DataArray":
    """States of posterior paths as a DataArray: at the nodes, or (with `times`) on a grid."""
    import xarray

    array = reshape_draws(values, paths)
    coords: dict[str, Any] = {"chain": np.unique(paths.chain), "draw": np.unique(paths.draw)}
    if times is None:
        dim, more = node_coords(name, graph)
        dims = ["chain", "draw", dim]
        coords |= more
    elif graph.batch_shape:
        dim, labels = component_dim(graph)
        dims, coords = ["chain", "draw", dim, "time"], {**coords, dim: labels, "time": times}
    else:
        dims, coords = ["chain", "draw", "time"], {**coords, "time": times}
    attrs = {
        "states": [str(state) for state in states],
        "note": "positions of states; -1 outside of the data",
    }
    return xarray.DataArray(array, dims=dims, coords=coords, name=name, attrs=attrs)


def vector_array(
    name: str,
    graph: Graph,
    values: np.ndarray,
    paths: "VectorPathDraws | MixedPathDraws",
    times: np.ndarray | None,
    coordinates: list,
) -> "xarray.DataArray":
    """Posterior paths of vector states as a DataArray: at the nodes, or (with `times`) on a grid."""
    import xarray

    coords: dict[str, Any] = {"chain": np.unique(paths.chain), "draw": np.unique(paths.draw)}
    dims = ["chain", "draw"]
    if times is None:
        dim, more = node_coords(name, graph)
        dims, coords = [*dims, dim], {**coords, **more}
    else:
        if graph.batch_shape:
            dim, labels = component_dim(graph)
            dims, coords = [*dims, dim], {**coords, dim: labels}
        dims, coords = [*dims, "time"], {**coords, "time": times}
    dims, coords = [*dims, "coordinate"], {**coords, "coordinate": coordinates}
    return xarray.DataArray(reshape_draws(values, paths), dims=dims, coords=coords, name=name)


def at_nodes(coords: dict[str, Any], nodes: np.ndarray) -> dict[str, Any]:
    """Coordinates of the axis over nodes at some of them."""
    return {
        name: (value[0], np.asarray(value[1])[nodes])
        if isinstance(value, tuple)
        else np.asarray(value)[nodes]
        for name, value in coords.items()
    }


def change_array(name: str, paths: "PathDraws", changes: np.ndarray, states: tuple) -> "xarray.DataArray":
    """Numbers of changes between states on all edges together, as a DataArray."""
    import xarray

    labels = [str(state) for state in states]
    return xarray.DataArray(
        reshape_draws(changes, paths),
        dims=["chain", "draw", f"{name}_from", f"{name}_to"],
        coords={
            "chain": np.unique(paths.chain),
            "draw": np.unique(paths.draw),
            f"{name}_from": labels,
            f"{name}_to": labels,
        },
        attrs={"states": labels},
    )
