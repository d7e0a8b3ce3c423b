"""Diffusions with linear drift and constant dispersion, by their exact transitions."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from mjp._small_matrices import semidefinite_cholesky
from mjp.processes.gaussian import GaussianProcess, Interval
from mjp.processes.linear_gaussian import Part
from mjp.processes.linear_transition import linear_transition


class LinearDiffusion(GaussianProcess):
    r"""The solution of $dX = (B X + \beta) dt + \sigma dW$: Brownian motion, Ornstein–Uhlenbeck, and more.

    Transitions are exact at any duration (|B| times the duration up to about 500), so that steps within
    an edge only say where its path is drawn.

    Args:
        matrix: B (d, d); or a number for d = 1; or a function of the edge's covariates to such a matrix.
        offset: β (d,), in the same forms; default 0.
        dispersion: σ (d, r), in the same forms.

    Raises:
        ValueError: shapes that do not fit, or entries that are not finite.
    """

    matrix: Part
    offset: Part
    dispersion: Part
    dim: int = eqx.field(static=True)
    noise_dim: int = eqx.field(static=True)
    linear: bool = eqx.field(static=True, default=True, init=False)
    constant_noise: bool = eqx.field(static=True, default=True, init=False)
    continuous: bool = eqx.field(static=True, default=True, init=False)

    def __init__(self, matrix: Any, offset: Any = None, dispersion: Any = None):
        if dispersion is None:
            raise TypeError("dispersion must be given: an array (d, r), or a number for d = 1")
        self.matrix, self.dispersion = Part.of("matrix", matrix), Part.of("dispersion", dispersion)
        self.offset = Part.of("offset", 0.0 if offset is None else offset)
        shape = self.matrix.shape
        self.dim = self.noise_dim = shape[-1] if shape else 1
        if shape not in ((self.dim, self.dim), ()):
            raise ValueError(f"matrix must have shape (d, d), got {shape}")
        if self.offset.shape not in ((self.dim,), ()):
            raise ValueError(f"offset must have shape ({self.dim},), got {self.offset.shape}")
        sigma = self.dispersion.shape
        if not (sigma == () and self.dim == 1) and (len(sigma) != 2 or sigma[0] != self.dim):
            raise ValueError(f"dispersion must have shape ({self.dim}, r), got {sigma}")

    def step(self, x: Array, at: Interval) -> tuple[Array, Array]:
        matrix = self.matrix.at(at.covariates).reshape(self.dim, self.dim)
        offset = jnp.broadcast_to(self.offset.at(at.covariates), (self.dim,))
        sigma = self.dispersion.at(at.covariates).reshape(self.dim, -1)
        phi, shift, covariance = linear_transition(matrix, offset, sigma @ sigma.T, at.duration)
        return phi @ x + shift, semidefinite_cholesky(covariance)
