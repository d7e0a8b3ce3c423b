"""Gamma processes: increasing paths with independent Gamma increments."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import check_finite, check_scalar, is_concrete
from mjp.processes.gaussian import abstractly, with_covariates
from mjp.processes.process import Process


class GammaProcess(Process):
    r"""An increasing process: $X_t - X_s \sim \mathrm{Gamma}(A(t) - A(s), \beta)$, independent over time.

    The model of wear, crack growth and other degradation (van Noortwijk 2009). Mean $(A(t) - A(s)) / \beta$,
    variance $(A(t) - A(s)) / \beta^2$. The state has shape (1,), as that of a diffusion of one coordinate. In
    graphs that mix families, where other nodes depend on it, it is seen with noise.

    Args:
        shape: a number a > 0, for $A(t) = a t$; or the increasing function A of t, or of (t, covariates).
        rate: $\beta$, a number > 0, in one over the unit of the state; or a positive function of t, or of
            (t, covariates), taken at the start of every step. With a number, the law of a path does not
            depend on the number of steps.

    Raises:
        ValueError: numbers that are not positive and finite, functions that do not return one number.
        TypeError: functions of another number of arguments.

    Example:
        >>> wear = mjp.GammaProcess(shape=lambda t: 2.0 * t**1.5, rate=4.0)
        >>> graph = mjp.chain(wear, times, initial=0.0).observe_each(lambda x: dist.Normal(x[0], 0.1), y)
    """

    shape: Any
    rate: Any
    shape_function: Callable | None = eqx.field(static=True)
    rate_function: Callable | None = eqx.field(static=True)
    dim: int = eqx.field(static=True, default=1, init=False)
    continuous: bool = eqx.field(static=True, default=True, init=False)

    def __init__(self, shape: Any, rate: Any):
        self.shape, self.shape_function = _number_or_function("shape", shape)
        self.rate, self.rate_function = _number_or_function("rate", rate)

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1,), jnp.result_type(float))

    @property
    def constant_rate(self) -> bool:
        """Whether the rate is one number, so that sums of increments are Gamma again."""
        return self.rate_function is None

    def increments(self, times: Array, covariates: Mapping[str, Any]) -> tuple[Array, Array]:
        """Shapes and rates (n,) of the increments between times (n + 1,) along one edge."""
        dtype = jnp.result_type(float)
        if self.shape_function is None:
            shapes = self.shape * jnp.diff(times)
        else:
            function = self.shape_function
            at = jax.vmap(lambda t: jnp.asarray(function(t, covariates), dtype).reshape(()))
            shapes = jnp.diff(at(times))
        if self.rate_function is None:
            rates = jnp.broadcast_to(jnp.asarray(self.rate, dtype), shapes.shape)
        else:
            function_of_time = self.rate_function
            of = jax.vmap(lambda t: jnp.asarray(function_of_time(t, covariates), dtype).reshape(()))
            rates = of(times[:-1])
        return shapes, rates

    def known_state(self, name: str, value: Any) -> Any:
        value = jnp.asarray(_numbers(name, value), jnp.result_type(float))
        if value.size != 1:
            raise ValueError(f"{name} must be one number, got shape {value.shape}")
        check_finite(name, value)
        return value.reshape(1)

    def check_law(self, name: str, law: Any) -> None:
        raise ValueError(
            f"{name} must be a known value for a Gamma process, got {type(law).__name__}; sample it as a "
            "parameter of the NumPyro model, or reach it by an edge from a known value"
        )


def _numbers(name: str, value: Any) -> Any:
    if not is_concrete(value):
        return value
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be one number, got {value!r}") from None


def _number_or_function(name: str, value: Any) -> tuple[Any, Callable | None]:
    if callable(value):
        function = with_covariates(name, value, 1)
        returned = abstractly(lambda c: jax.eval_shape(lambda t: jnp.asarray(function(t, c)), jnp.ones(())))
        if returned.shape not in ((), (1,)):
            raise ValueError(f"{name} must return one number, got shape {returned.shape}")
        return None, function
    value = _numbers(name, value)
    check_scalar(name, value)
    if is_concrete(value) and not value > 0:
        raise ValueError(f"{name} must be positive, got {value:g}")
    return value, None
