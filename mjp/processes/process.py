"""What every process family has in common."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class Process(eqx.Module):
    """A Markov kernel that an edge of a graph carries: a forward description and nothing else.

    How a process is conditioned is registered on its type in `mjp.inference.rules`.
    """


class CovariateRecord(Mapping):
    """Stand-in for a row of covariates that remembers which ones a function reads."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __getitem__(self, name: str) -> jax.Array:
        if name not in self.read:
            self.read.append(name)
        return jnp.ones(())

    def __iter__(self):
        return iter(self.read)

    def __len__(self) -> int:
        return len(self.read)


def covariates_read(function: Callable[[Mapping], Any]) -> tuple[tuple[str, ...], Any]:
    """Names of the covariates that `function` reads, and the structure that it returns."""
    record = CovariateRecord()
    keys: list[Any] = []

    def call() -> Any:
        value = function(record)
        if isinstance(value, dict):
            keys.extend(value)
            return list(value.values())
        return value

    shape = jax.eval_shape(call)
    return tuple(record.read), dict(zip(keys, shape, strict=True)) if keys else shape
