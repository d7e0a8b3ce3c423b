"""What every process family has in common."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class Process(eqx.Module):
    """A Markov kernel that an edge of a graph carries: a forward description and nothing else.

    How a process is conditioned is registered on its type in `mjp.inference.rules`.
    """

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        """Shape and type of a state, as likelihoods see it."""
        return jax.ShapeDtypeStruct((), jnp.int32)

    @property
    def labels_shape(self) -> tuple[int, ...]:
        """Shape of the labels in one state: (n,) for n agents."""
        return ()

    def view(self, state: jax.Array) -> Any:
        """A state in the form that likelihoods see."""
        return state

    def known_state(self, name: str, value: Any) -> Any:
        """A root's value in the form that a graph keeps; raises for what cannot be one.

        Args:
            name: of the argument, for messages.
        """
        return value

    def check_parents(self, edge: str, parents: Sequence[tuple[Hashable, "Process | None"]]) -> None:
        """Raise for parents that an edge with this process cannot have.

        Args:
            edge: words for it, for messages.
            parents: names, and the process of the edge that leads to each; None for roots.
        """
        if len(parents) != 1:
            names = tuple(name for name, _ in parents)
            raise ValueError(f"parent: {type(self).__name__} takes one parent, got {len(parents)}: {names!r}")

    def check_law(self, name: str, law: Any) -> None:
        """Raise ValueError for a root's Distribution that cannot be one of states."""

    def check_exact(self, name: str, values: Any) -> None:
        """Raise ValueError for values, seen without error, that cannot be states; NaN is missing."""

    def rows(self, values: Any) -> Any:
        """Labels observed along a chain, one row per time, as an array where rows may be missing."""
        return values


class CovariateRecord(Mapping):
    """Stand-in for a row of covariates that remembers which ones a function reads.

    Args:
        value: what every covariate is; whether it is an integer matters to functions that index by it.
    """

    def __init__(self, value: int | float) -> None:
        self.value = value
        self.read: list[str] = []

    def __getitem__(self, name: str) -> jax.Array:
        if name not in self.read:
            self.read.append(name)
        return jnp.asarray(self.value)

    def __iter__(self):
        return iter(self.read)

    def __len__(self) -> int:
        return len(self.read)


def covariates_read(function: Callable[[Mapping], Any]) -> tuple[tuple[str, ...], Any]:
    """Names of the covariates that `function` reads, and the structure that it returns."""
    try:
        return _probe(function, CovariateRecord(1.0))
    except TypeError:  # a function that indexes by a covariate, such as `subject`
        return _probe(function, CovariateRecord(0))


def _probe(function: Callable[[Mapping], Any], record: CovariateRecord) -> tuple[tuple[str, ...], Any]:
    keys: list[Any] = []

    def call() -> Any:
        value = function(record)
        if isinstance(value, Mapping):
            keys.extend(value)
            return list(value.values())
        return value

    shape = jax.eval_shape(call)
    return tuple(record.read), dict(zip(keys, shape, strict=True)) if keys else shape


def is_vector(graph: Any) -> bool:
    """Whether the states of a graph are vectors of coordinates, and not labels."""
    return bool(graph.edges) and graph.edges[0].process.state.shape != ()
