"""Checks of user input, before anything is compiled."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import core
from jax.tree_util import tree_leaves


def is_concrete(value: Any) -> bool:
    """Whether the numbers of `value` are known now, and not only when the program runs."""
    return not isinstance(value, core.Tracer)


def as_array(name: str, value: Any) -> np.ndarray:
    """Concrete numbers as an array of floats; raise ValueError for what is not numbers."""
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold numbers, in rows of equal length, got {value!r}") from None


def as_column(name: str, value: Any) -> Any:
    """One number per row as an array that keeps its type, since integers may be indices; it may be traced.

    Raises:
        ValueError: what is not numbers.
    """
    if not all(is_concrete(leaf) for leaf in tree_leaves(value)):
        return jnp.asarray(value)
    array = np.asarray(value)
    if array.dtype.kind in "US":
        raise ValueError(f"{name} must hold numbers, got {array.reshape(-1)[0].item()!r}")
    return array if array.dtype.kind in "biuf" else as_array(name, value)


def as_numbers(name: str, value: Any) -> Any:
    """A nested sequence as an array of floats, which may be traced; arrays stay as they are."""
    if not isinstance(value, Sequence):
        return value
    if not all(is_concrete(leaf) for leaf in tree_leaves(value)):
        return jnp.asarray(value)
    return as_array(name, value)


def check_count(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is None or a positive integer."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_particles(particles: Any) -> None:
    """Raise ValueError unless `particles` is an integer of at least two."""
    check_count("particles", particles)
    if particles < 2:
        raise ValueError(f"particles must be at least 2, got {particles}")


def check_mapping(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is None or a mapping."""
    if not isinstance(value, Mapping | None):
        raise TypeError(f"{name} must map names to values, got {type(value).__name__}")


def check_hashable(name: str, value: Any) -> None:
    """Raise TypeError for a name that cannot be one, such as a list."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"{name} must be hashable, such as a string or a number, got {value!r}") from None


def check_finite(name: str, value: Any) -> None:
    """Raise ValueError that names the first entry of a concrete array that is not finite."""
    if not is_concrete(value):
        return
    array = as_array(name, value)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise ValueError(f"{name} must be finite, got {array[where]} at index {where}")


def check_scalar(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is one number, finite if it is known now."""
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be one number, got shape {np.shape(value)}")
    if is_concrete(value) and not np.isfinite(as_array(name, value)):
        raise ValueError(f"{name} must be finite, got {value}")


def check_times(name: str, times: Any) -> np.ndarray:
    """Return strictly increasing finite times (n,) as float64, or raise ValueError."""
    array = as_array(name, times)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name} must be a one-dimensional sequence of times, got shape {array.shape}")
    check_finite(name, array)
    steps = np.diff(array)
    if np.any(steps <= 0):
        i = int(np.argmax(steps <= 0))
        raise ValueError(
            f"{name} must increase strictly, got {array[i]:g} followed by {array[i + 1]:g} at index {i + 1}"
        )
    return array


def check_stochastic(name: str, matrix: Any, columns: str = "columns") -> None:
    """Raise ValueError unless the last axis of a concrete array holds probabilities that sum to one."""
    if not is_concrete(matrix):
        return
    array = np.asarray(matrix, dtype=float)
    check_finite(name, array)
    if np.any(array < 0):
        where = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise ValueError(f"{name} must hold probabilities, got {array[where]:g} at index {where}")
    total = array.sum(axis=-1)
    bad = np.argwhere(np.abs(total - 1.0) > 1e-4)
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise ValueError(f"{name} must sum to 1 over its {columns}, got {total[where]:.6g} in row {where}")


def check_labels(name: str, labels: Any) -> tuple:
    """Return distinct hashable labels as a tuple, or raise."""
    if isinstance(labels, str) or not isinstance(labels, Sequence | np.ndarray | range):
        raise TypeError(f"{name} must be a sequence of labels, got {labels!r}")
    result = tuple(label.item() if isinstance(label, np.generic) else label for label in labels)
    for label in result:
        check_hashable(f"the label {label!r} in {name}", label)
    repeated = [label for i, label in enumerate(result) if label in result[:i]]
    if repeated:
        raise ValueError(f"{name} must be distinct, got {repeated[0]!r} twice")
    return result


def check_covariance(name: str, value: Any, definite: bool = False) -> None:
    """Raise ValueError unless a concrete matrix (..., d, d) is symmetric and positive (semi-)definite."""
    if value is None or not is_concrete(value):
        return
    check_finite(name, value)
    array = np.asarray(value, dtype=float)
    if array.ndim < 2:
        if np.any(array < 0):
            raise ValueError(f"{name} must be non-negative, got {array.min():g}")
        return
    scale = np.abs(array).max(initial=0.0)
    if not np.allclose(array, np.swapaxes(array, -1, -2), atol=1e-6 * scale, rtol=0.0):
        raise ValueError(f"{name} must be symmetric, got\n{array}")
    lowest = float(np.linalg.eigvalsh(array).min(initial=0.0))
    if definite and float(np.linalg.eigvalsh(array).min(initial=np.inf)) <= 0:
        raise ValueError(f"{name} must be positive definite, got the eigenvalue {lowest:.3g}")
    if lowest < -1e-6 * scale:
        raise ValueError(f"{name} must be positive semi-definite, got the eigenvalue {lowest:.3g}")
