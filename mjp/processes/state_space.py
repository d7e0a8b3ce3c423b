"""Nonlinear-Gaussian steps in discrete time."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import as_numbers, check_covariance
from mjp._small_matrices import semidefinite_cholesky
from mjp.processes.gaussian import GaussianProcess, Interval, abstractly, structure_of, with_covariates


class StateSpace(GaussianProcess):
    r"""Steps $x' \sim N(\mu(x), Q(x))$; an edge is one step.

    A mean that is affine in x, with a covariance that does not depend on it, is recognised and
    conditioned exactly.

    Args:
        mean: function of the state x (d,), or of (x, covariates), to (d,).
        covariance: (d, d), positive semi-definite; or a function like `mean` to such a matrix.
        factor: in place of `covariance`, a matrix (d, r) or function to one, with Q = factor factor';
            says that the noise has only r directions, and saves innovations.
        dim: number of coordinates; by default that of a constant covariance or factor.

    Raises:
        ValueError: shapes that do not fit. TypeError: arguments of the wrong kind.
    """

    mean: Callable = eqx.field(static=True)
    noise: Any
    noise_function: Callable | None = eqx.field(static=True)
    is_factor: bool = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    noise_dim: int = eqx.field(static=True)
    linear: bool = eqx.field(static=True)
    constant_noise: bool = eqx.field(static=True)
    continuous: bool = eqx.field(static=True, default=False, init=False)

    def __init__(self, mean: Callable, covariance: Any = None, *, factor: Any = None, dim: int | None = None):
        if not callable(mean):
            raise TypeError(f"mean must be a function of the state, got {type(mean).__name__}")
        if (covariance is None) == (factor is None):
            raise TypeError("give either covariance or factor")
        self.mean = with_covariates("mean", mean, 1)
        self.is_factor = covariance is None
        name, noise = ("factor", factor) if self.is_factor else ("covariance", covariance)
        if callable(noise):
            self.noise_function, self.noise = with_covariates(name, noise, 1), None
            if dim is None:
                raise TypeError(f"dim must be given where {name} is a function of the state")
            self.dim = dim
        else:
            self.noise_function, self.noise = None, as_numbers(name, noise)
            shape = np.shape(self.noise)
            self.dim = dim if dim is not None else (shape[0] if shape else 1)
            if not self.is_factor:
                check_covariance(name, self.noise)
        self.noise_dim = self.dim
        returned = abstractly(lambda c: jax.eval_shape(lambda x: self._noise(x, c), self._state()))
        wanted = f"({self.dim}, r)" if self.is_factor else f"({self.dim}, {self.dim})"
        fits = len(returned.shape) == 2 and returned.shape[0] == self.dim
        if not fits or not (self.is_factor or returned.shape[1] == self.dim):
            raise ValueError(f"{name} must have shape {wanted}, got {returned.shape}")
        self.noise_dim = returned.shape[1]
        found = abstractly(lambda c: jax.eval_shape(lambda x: jnp.asarray(self.mean(x, c)), self._state()))
        if found.shape != (self.dim,) and not (self.dim == 1 and found.shape == ()):
            raise ValueError(f"mean must return shape ({self.dim},), got {found.shape}")
        self.linear, self.constant_noise = structure_of(self.step, self.dim)

    def step(self, x: Array, at: Interval) -> tuple[Array, Array]:
        noise = self._noise(x, at.covariates)
        mean = jnp.asarray(self.mean(x, at.covariates)).reshape(self.dim)
        return mean, noise if self.is_factor else semidefinite_cholesky(noise)

    def _noise(self, x: Array, covariates: Any) -> Array:
        noise = jnp.asarray(self.noise if self.noise_function is None else self.noise_function(x, covariates))
        return noise.reshape(1, 1) if noise.ndim == 0 and self.dim == 1 else noise * jnp.ones(())

    def _state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))
