"""Charts: smooth maps between the support of a state's coordinates and the real line."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


@dataclass(frozen=True)
class Chart:
    r"""Coordinates $y$ on the real line of a state $x$ with bounds: $x_i = \ell_i + e^{y_i}$ above a lower
    bound, $u_i - e^{y_i}$ below an upper one, $\ell_i + (u_i - \ell_i) / (1 + e^{-y_i})$ between two.

    Attributes:
        bounds: lower and upper bound of each coordinate, infinite where there is none.
    """

    bounds: tuple[tuple[float, float], ...]

    def state(self, y: Array) -> Array:
        """The states (..., d) at y (..., d)."""
        columns = [_inside(y[..., i], *bound) for i, bound in enumerate(self.bounds)]
        return jnp.stack(columns, axis=-1)

    def coordinates(self, x: Array) -> Array:
        """The coordinates y (..., d) of states x (..., d); not finite outside of the support."""
        columns = [_outside(x[..., i], *bound) for i, bound in enumerate(self.bounds)]
        return jnp.stack(columns, axis=-1)

    def slopes(self, y: Array) -> tuple[Array, Array]:
        """First and second derivatives (d,) of each x_i in y_i, at y (d,)."""
        found = []
        for i, bound in enumerate(self.bounds):
            along = lambda t, bound=bound: _inside(t, *bound)
            found.append((jax.grad(along)(y[i]), jax.grad(jax.grad(along))(y[i])))
        first, second = zip(*found, strict=True)
        return jnp.stack(first), jnp.stack(second)

    def contains(self, x: Any) -> bool:
        """Whether a known state (d,) lies in the support."""
        return all(low < float(value) < high for value, (low, high) in zip(x, self.bounds, strict=True))

    def __str__(self) -> str:
        return ", ".join(f"({low:g}, {high:g})" for low, high in self.bounds)


def chart_of(support: Any, dim: int) -> Chart | None:
    """The chart of a support as users write it; None where nothing is bounded.

    Args:
        support: "real", "positive", or a pair of bounds; or a list with one of these per coordinate.

    Raises:
        ValueError: an unknown word, bounds that are not increasing, a list of another length.
    """
    if isinstance(support, list):
        if len(support) != dim:
            raise ValueError(f"support must have one entry per coordinate ({dim}), got {len(support)}")
        bounds = tuple(_bounds(own) for own in support)
    else:
        bounds = (_bounds(support),) * dim
    return None if all(math.isinf(low) and math.isinf(high) for low, high in bounds) else Chart(bounds)


def _bounds(support: Any) -> tuple[float, float]:
    words = {"real": (-math.inf, math.inf), "positive": (0.0, math.inf)}
    if isinstance(support, str) and support in words:
        return words[support]
    if isinstance(support, Sequence) and not isinstance(support, str) and len(support) == 2:
        low, high = float(support[0]), float(support[1])
        if low < high:
            return low, high
    raise ValueError(
        "support must be 'real', 'positive', a pair of increasing bounds, or a list of these, got "
        f"{support!r}"
    )


def _inside(y: Array, low: float, high: float) -> Array:
    if math.isinf(low) and math.isinf(high):
        return y
    if math.isinf(high):
        return low + jnp.exp(y)
    if math.isinf(low):
        return high - jnp.exp(y)
    return low + (high - low) * jax.nn.sigmoid(y)


def _outside(x: Array, low: float, high: float) -> Array:
    if math.isinf(low) and math.isinf(high):
        return x
    if math.isinf(high):
        return jnp.log(x - low)
    if math.isinf(low):
        return jnp.log(high - x)
    return jnp.log(x - low) - jnp.log(high - x)
