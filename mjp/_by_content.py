"""Equality by content for what compiled functions take as static, so that equal graphs share a program."""

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import fields
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import numpy as np

from mjp._checks import is_concrete


class ByContent:
    """A frozen dataclass (declared with `eq=False`) that equals another with the same content.

    Arrays count by shape, type and bytes; modules, containers and mappings by their parts. What is none of
    these and not hashable counts by identity, and so does what is not known before compilation. Content must
    not be changed.
    """

    @cached_property
    def _content(self) -> Hashable:
        return (type(self), *(content(getattr(self, field.name)) for field in fields(self)))  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ByContent) and self._content == other._content)

    def __hash__(self) -> int:
        return hash(self._content)


def content(value: Any) -> Hashable:
    """A hashable stand-in of a value: equal for equal content, see `ByContent`."""
    if not is_concrete(value):
        return ("identity", id(value))
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        if array.dtype == object:
            return ("array", array.shape, tuple(content(item) for item in array.reshape(-1)))
        return ("array", array.shape, array.dtype.str, hashlib.sha256(array.tobytes()).hexdigest())
    if isinstance(value, eqx.Module):
        return (type(value), *(content(getattr(value, field.name)) for field in fields(value)))
    if isinstance(value, Mapping):
        return (type(value), tuple((content(key), content(item)) for key, item in value.items()))
    if isinstance(value, tuple | list):
        return (type(value), tuple(content(item) for item in value))
    if isinstance(value, slice):
        return (slice, value.start, value.stop, value.step)
    try:
        hash(value)
    except TypeError:
        return ("identity", id(value))
    return (type(value), value)
