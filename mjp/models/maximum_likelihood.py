"""Maximum likelihood, to compare a model with software that reports it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Maximum(NamedTuple):
    """Where a log-likelihood is largest.

    Attributes:
        estimate: (n,) the parameters there.
        value: the log-likelihood there.
        gradient: largest absolute partial derivative that is left there.
    """

    estimate: np.ndarray
    value: float
    gradient: float


def maximise(log_likelihood: Callable[[Array], Array], start: Any, tolerance: float = 1e-5) -> Maximum:
    """Maximise a log-likelihood by BFGS, in float64 whatever JAX's default is.

    Args:
        log_likelihood: from unconstrained parameters (n,), such as log-rates, to a scalar.
        start: (n,) parameters to start from.
        tolerance: the search ends where no partial derivative is larger.

    Raises:
        RuntimeError: the search stopped at a point that is not stationary.
    """
    from scipy.optimize import minimize

    # -2 log L of a few thousand has no third decimal in float32, so that no line search would end.
    with jax.enable_x64(True):
        loss = jax.jit(jax.value_and_grad(lambda x: -log_likelihood(x)))

        def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = loss(jnp.asarray(x))
            return float(value), np.asarray(gradient)

        found = minimize(
            value_and_gradient,
            np.asarray(start, np.float64),
            jac=True,
            method="BFGS",
            options={"gtol": tolerance},
        )
    steepest = float(np.max(np.abs(found.jac)))
    # BFGS also stops where rounding hides any further gain, which is an optimum if the slope is small.
    if not steepest < 1000 * tolerance:
        raise RuntimeError(
            f"no maximum found: {found.message} The largest partial derivative left is {steepest:.3g}"
        )
    return Maximum(found.x, -float(found.fun), steepest)
