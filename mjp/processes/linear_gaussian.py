"""Linear-Gaussian steps in discrete time."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import as_numbers, check_covariance, check_finite, is_concrete
from mjp._small_matrices import semidefinite_cholesky
from mjp.processes.gaussian import GaussianProcess, Interval, abstractly


class LinearGaussian(GaussianProcess):
    r"""Steps $x' \sim N(\Phi x + \beta, Q)$; an edge is one step, and conditioning is exact.

    Args:
        matrix: $\Phi$, (d, d); or a number for d = 1; or (n, d, d), one matrix per step of a chain; or a
            function of the step's covariates (a mapping from names to scalars).
        offset: $\beta$, (d,), in the same forms; default 0.
        covariance: Q, (d, d), positive semi-definite (zero is allowed), in the same forms.

    Raises:
        ValueError: shapes that do not fit, entries that are not finite, a covariance that is not
            symmetric or has a negative eigenvalue.
    """

    matrix: Any
    offset: Any
    covariance: Any
    dim: int = eqx.field(static=True)
    noise_dim: int = eqx.field(static=True)
    linear: bool = eqx.field(static=True, default=True, init=False)
    constant_noise: bool = eqx.field(static=True, default=True, init=False)
    continuous: bool = eqx.field(static=True, default=False, init=False)

    def __init__(self, matrix: Any, offset: Any = None, covariance: Any = None):
        if covariance is None:
            raise TypeError("covariance must be given: an array (d, d), zero for a deterministic step")
        parts = {"matrix": matrix, "offset": 0.0 if offset is None else offset, "covariance": covariance}
        parts = {name: Part.of(name, value) for name, value in parts.items()}
        shape = parts["matrix"].shape
        self.dim = self.noise_dim = shape[-1] if shape else 1
        for name, wanted in (("matrix", 2), ("offset", 1), ("covariance", 2)):
            found = parts[name].shape
            if found not in ((self.dim,) * wanted, ()) or (found == () and self.dim > 1 and name != "offset"):
                raise ValueError(
                    f"{name} must have shape {(self.dim,) * wanted} (d = {self.dim} from matrix), "
                    f"or one such array per step, got {found}"
                )
        check_covariance("covariance", parts["covariance"].value)
        self.matrix, self.offset, self.covariance = parts["matrix"], parts["offset"], parts["covariance"]

    def step(self, x: Array, at: Interval) -> tuple[Array, Array]:
        square = (self.dim, self.dim)
        matrix = self.matrix.at(at.covariates).reshape(square)
        offset = jnp.broadcast_to(self.offset.at(at.covariates), (self.dim,))
        covariance = self.covariance.at(at.covariates).reshape(square)
        return matrix @ x + offset, semidefinite_cholesky(covariance)

    @property
    def n_steps(self) -> int | None:
        """Number of steps that step-dependent arrays describe."""
        lengths = {part.n_steps for part in (self.matrix, self.offset, self.covariance)} - {None}
        if len(lengths) > 1:
            raise ValueError(f"matrix, offset and covariance describe {sorted(lengths)} steps")
        return lengths.pop() if lengths else None


class Part(eqx.Module):
    """A constant array, one array per step, or a function of covariates."""

    value: Any
    function: Callable | None = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    n_steps: int | None = eqx.field(static=True)

    @classmethod
    def of(cls, name: str, value: Any) -> "Part":
        if callable(value):
            returned = abstractly(lambda c: jax.eval_shape(lambda: jnp.asarray(value(c))))
            return cls(None, value, returned.shape, None)
        value = as_numbers(name, value)
        value = np.asarray(value, float) if is_concrete(value) and not isinstance(value, Array) else value
        check_finite(name, value)
        shape, wanted = np.shape(value), 1 if name == "offset" else 2
        if len(shape) == wanted + 1:
            return cls(value, None, shape[1:], shape[0])
        return cls(value, None, shape, None)

    def at(self, covariates: Any) -> Array:
        if self.function is not None:
            return jnp.asarray(self.function(covariates))
        value = jnp.asarray(self.value, jnp.result_type(self.value, float))
        return value if self.n_steps is None else value[covariates["step"]]
