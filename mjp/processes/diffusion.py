"""Diffusions: stochastic differential equations, and the steps that discretise them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp._checks import as_numbers, check_count
from mjp.processes.charts import Chart, chart_of
from mjp.processes.gaussian import (
    GaussianProcess,
    Interval,
    abstractly,
    check_drift,
    structure_of,
    with_covariates,
)
from mjp.processes.schemes import SCHEMES

_CONVENTIONS = {"ito": 0.0, "stratonovich": 0.5}


class Diffusion(GaussianProcess):
    r"""The solution of $dX = b(t, X) dt + \sigma(t, X) \circ_\alpha dW$.

    An edge is cut into steps, and the discretised process is the model: what is inferred is exact for
    it. A discretised diffusion that is linear with constant noise is recognised and conditioned exactly.

    Args:
        drift: function of (t, x), or (t, x, covariates), to (dim,).
        dispersion: function like `drift`, or a constant, to (dim, r), rank-deficient allowed; (dim,) is
            the diagonal of a (dim, dim) matrix.
        dim: number of coordinates.
        convention: "ito", "stratonovich", or the number α of the point in a step at which the
            dispersion is evaluated (0 Itô, ½ Stratonovich, 1 Hänggi–Klimontovich). The Itô drift is
            $b_i + \alpha \sum_{jk} \sigma_{kj} \partial_k \sigma_{ij}$, by automatic differentiation.
        scheme: "euler" (Euler–Maruyama), or "local linearisation" (Ozaki 1992; Biscay et al. 1996): the
            exact transition of the diffusion linearised at the start of the step, whose covariance has
            full rank in hypo-elliptic models too, and which is exact for linear ones.
        support: "real", "positive", or a pair of bounds, for all coordinates, or a list with one per
            coordinate. Steps are then taken by the logarithm or the logit of the bounded coordinates, by
            Itô's formula, so that paths never leave the support; drift, dispersion, first states and
            observations are those of the state itself. Near a bound the drift of the logarithm may be so
            steep that Euler's steps run away; those by local linearisation do not.

    Raises:
        ValueError: an unknown convention, scheme or support, functions that return the wrong shape.
        TypeError: a drift that is not a function, or takes the wrong number of arguments.
    """

    drift_function: Callable = eqx.field(static=True)
    dispersion_function: Callable | None = eqx.field(static=True)
    dispersion_value: Any
    alpha: float = eqx.field(static=True)
    scheme: str = eqx.field(static=True)
    bounded: Chart | None = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    noise_dim: int = eqx.field(static=True)
    linear: bool = eqx.field(static=True)
    constant_noise: bool = eqx.field(static=True)
    continuous: bool = eqx.field(static=True, default=True, init=False)

    def __init__(
        self,
        drift: Callable,
        dispersion: Any,
        dim: int = 1,
        convention: str | float = "ito",
        *,
        scheme: str = "euler",
        support: Any = "real",
    ):
        check_count("dim", dim)
        if not callable(drift):
            raise TypeError(f"drift must be a function of (t, x), got {type(drift).__name__}")
        if isinstance(convention, str) and convention not in _CONVENTIONS:
            raise ValueError(f"convention must be 'ito', 'stratonovich' or a number, got {convention!r}")
        if scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {sorted(SCHEMES)}, got {scheme!r}")
        self.dim, self.scheme, self.bounded = dim, scheme, chart_of(support, dim)
        self.alpha = _CONVENTIONS[convention] if isinstance(convention, str) else float(convention)
        self.drift_function = with_covariates("drift", drift, 2)
        if callable(dispersion):
            self.dispersion_function = with_covariates("dispersion", dispersion, 2)
            self.dispersion_value = None
        else:
            self.dispersion_function = None
            self.dispersion_value = as_numbers("dispersion", dispersion)
        self.noise_dim = dim
        state, time = jax.ShapeDtypeStruct((dim,), jnp.result_type(float)), jnp.ones(())
        check_drift(self.drift_function, dim)
        sigma = abstractly(lambda c: jax.eval_shape(lambda x: self.dispersion(time, x, c), state))
        if len(sigma.shape) != 2 or sigma.shape[0] != dim:
            raise ValueError(f"dispersion must return shape ({dim},) or ({dim}, r), got {sigma.shape}")
        at = lambda c: Interval(time, time, c)
        _, factor = abstractly(lambda c: jax.eval_shape(lambda x: self.step(x, at(c)), state))
        self.noise_dim = factor.shape[1]
        self.linear, self.constant_noise = structure_of(self.step, dim)

    @property
    def chart(self) -> Chart | None:
        return self.bounded

    def drift(self, time: Any, x: Array, covariates: Any) -> Array:
        """Itô drift (dim,), the correction of the convention included."""
        drift = jnp.asarray(self.drift_function(time, x, covariates)).reshape(self.dim)
        if self.alpha == 0.0:
            return drift
        sigma = self.dispersion(time, x, covariates)
        slope = jax.jacfwd(lambda x: self.dispersion(time, x, covariates))(x)
        return drift + self.alpha * jnp.einsum("kj,ijk->i", sigma, slope)

    def dispersion(self, time: Any, x: Array, covariates: Any) -> Array:
        """Dispersion (dim, r)."""
        if self.dispersion_function is None:
            sigma = jnp.asarray(self.dispersion_value, jnp.result_type(self.dispersion_value, float))
        else:
            sigma = jnp.asarray(self.dispersion_function(time, x, covariates))
        if sigma.ndim == 0:
            sigma = sigma[None] if self.dim == 1 else sigma
        return jnp.diag(sigma) if sigma.ndim == 1 else sigma

    def step(self, x: Array, at: Interval) -> tuple[Array, Array]:
        coefficients = self if self.chart is None else Charted(self, self.chart)
        return SCHEMES[self.scheme](coefficients, x, at)


class Charted(NamedTuple):
    r"""Coefficients of a diffusion in the coordinates of a chart, by Itô's formula.

    With $x_i = T_i(y_i)$ and $s_i = (\sigma \sigma')_{ii}$,
    $dY_i = (b_i - \tfrac12 T_i'' s_i / T_i'^2) / T_i' dt + \sigma_i / T_i' dW$.
    """

    process: Diffusion
    chart: Chart

    def drift(self, time: Any, y: Array, covariates: Any) -> Array:
        first, second = self.chart.slopes(y)
        x = self.chart.state(y)
        square = jnp.sum(self.process.dispersion(time, x, covariates) ** 2, axis=1)
        return (self.process.drift(time, x, covariates) - 0.5 * second * square / first**2) / first

    def dispersion(self, time: Any, y: Array, covariates: Any) -> Array:
        first, _ = self.chart.slopes(y)
        return self.process.dispersion(time, self.chart.state(y), covariates) / first[:, None]
