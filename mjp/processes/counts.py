"""Counts of species, read by name or by position."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array


class Counts:
    """A state of a reaction network, as propensities and likelihoods see it.

    `x["S"]` is the count of a species, `x[0]` that of the first one, and arithmetic works as on the array
    of all counts (d,). Propensities see numbers of JAX's float type, likelihoods integers.

    Args:
        values: one array per species, or an array whose first axis is that of the species.
        species: their names.
    """

    __slots__ = ("_species", "_values")

    def __init__(self, values: Sequence[Array] | Array, species: tuple[str, ...]):
        self._values, self._species = values, species

    def __getitem__(self, key: Any) -> Array:
        if isinstance(key, str):
            if key not in self._species:
                raise KeyError(f"unknown species {key!r}; the species are {list(self._species)}")
            return self._values[self._species.index(key)]
        if isinstance(key, int):
            return self._values[key]
        return self.array[key]

    def __getattr__(self, name: str) -> Any:
        # what is not defined here, such as `shape`, `dtype` or `sum`, is that of the array
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.array, name)

    def __iter__(self) -> Iterator[Array]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._species)

    @property
    def array(self) -> Array:
        """All counts, (d, ...)."""
        if isinstance(self._values, Sequence):
            return jnp.stack([jnp.asarray(value) for value in self._values])
        return jnp.asarray(self._values)

    def __jax_array__(self) -> Array:
        return self.array

    def __neg__(self) -> Array:
        return -self.array

    def __add__(self, other: Any) -> Array:
        return self.array + other

    def __sub__(self, other: Any) -> Array:
        return self.array - other

    def __mul__(self, other: Any) -> Array:
        return self.array * other

    def __truediv__(self, other: Any) -> Array:
        return self.array / other

    def __pow__(self, other: Any) -> Array:
        return self.array**other

    def __matmul__(self, other: Any) -> Array:
        return self.array @ other

    def __radd__(self, other: Any) -> Array:
        return other + self.array

    def __rsub__(self, other: Any) -> Array:
        return other - self.array

    def __rmul__(self, other: Any) -> Array:
        return other * self.array

    def __rtruediv__(self, other: Any) -> Array:
        return other / self.array

    def __rmatmul__(self, other: Any) -> Array:
        return other @ self.array

    def __repr__(self) -> str:
        return f"Counts({', '.join(f'{n}={v}' for n, v in zip(self._species, self._values, strict=True))})"
