"""What the nodes of a graph that mixes families are: labelled states, or vectors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from mjp.graph import Edges, Graph
from mjp.inference.joint_factors import Rows, Space
from mjp.processes import ConditionalCategorical, ConditionalGaussian, GammaProcess, GaussianProcess
from mjp.processes.finite_states import FiniteStateProcess


def labels_of(graph: Graph, split: list[Edges], others: list[Edges], final: np.ndarray) -> list[tuple | int]:
    """Labels of the states of each node, or the number of its coordinates."""
    found: list[Any] = [None] * len(final)

    def put(node: int, label: Any, process: Any) -> None:
        if found[node] is not None and found[node] != label:
            words = lambda l: f"the states {list(l)}" if isinstance(l, tuple) else f"a vector of {l}"
            raise ValueError(
                f"parent: {graph.describe_node(int(final[node]))} is {words(found[node])}, where "
                f"{type(process).__name__} needs {words(label)}"
            )
        found[node] = label

    for batch in (*split, *others):
        process: Any = batch.process
        for child in batch.children.tolist():
            put(child, process.states if isinstance(process, FiniteStateProcess) else process.dim, process)
    for batch in others:
        if isinstance(batch.process, GaussianProcess | GammaProcess):
            for parent in batch.parents.tolist():
                put(parent, batch.process.dim, batch.process)
    for named in (True, False):  # labels count for more than numbers
        for batch in split:
            process = batch.process
            for axis, (size, labels) in enumerate(process.parent_states):
                for parent in batch.every_parent[:, axis].tolist():
                    if labels is not None and named:
                        put(parent, labels, process)
                    elif labels is None and not named:
                        whole = found[parent]
                        fits = whole is None or (isinstance(whole, tuple) and len(whole) == size)
                        put(parent, whole if fits and whole is not None else tuple(range(size)), process)
    for batch in graph.roots:
        for i, node in enumerate(batch.nodes.tolist()):
            if found[node] is None:
                value = batch.initial if isinstance(batch.initial, dist.Distribution) else batch.initial[i]
                found[node] = _of_value(graph, node, value)
    for node, label in enumerate(found):
        if label is None:
            raise ValueError(
                f"{graph.describe_node(int(final[node]))} has no edges, so that its states are unknown"
            )
    return found


def _of_value(graph: Graph, node: int, value: Any) -> tuple | int:
    """The space of a root that only its value, or law, tells of."""
    if isinstance(value, dist.Distribution):
        if value.has_enumerate_support and not value.event_shape and not value.batch_shape:
            return tuple(range(len(value.enumerate_support(expand=False).reshape(-1))))
        return int(np.prod(value.batch_shape + value.event_shape))
    array = np.shape(value)
    number = isinstance(value, float | np.floating) or (
        hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)
    )
    if len(array) == 1 or (array == () and number):
        return int(np.prod(array))
    raise ValueError(
        f"initial: what states {graph.describe_node(node)} has is not known from {value!r}; give a vector, "
        "or a Categorical law"
    )


def any_parents(edges: Edges) -> bool:
    return isinstance(edges.process, ConditionalCategorical | ConditionalGaussian)


def of_parents(spaces: list[Space], where: Rows) -> tuple[Space, ...]:
    return tuple(spaces[parent] for parent in where.parents[0])


def abstract_state(space: Space) -> jax.ShapeDtypeStruct:
    if space.finite:
        return jax.ShapeDtypeStruct((), jnp.int32)
    return jax.ShapeDtypeStruct((space.size,), jnp.result_type(float))


def space_of(label: tuple | int) -> Space:
    """The space of a node with these labels, or this number of coordinates."""
    return Space(True, len(label)) if isinstance(label, tuple) else Space(False, label)
