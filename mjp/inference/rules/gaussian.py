"""Rules for processes with conditionally Gaussian steps: linearise, pull back, steer the innovations.

The linear auxiliary of a step at an anchor is the step's own first-order expansion there, by automatic
differentiation, so that a discretised process and its auxiliary share one scheme.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from mjp._small_matrices import identity, times
from mjp.inference.rules.registry import register
from mjp.processes.gaussian import GaussianProcess, Interval

_WRITTEN_OUT = 6  # coordinates

type Step = Callable[[Array, Interval], tuple[Array, Array]]


class LinearSteps(NamedTuple):
    """Steps Φ x + β + G z of an auxiliary, (d, d, ...), (d, ...) and (d, r, ...)."""

    matrix: Array
    offset: Array
    factor: Array


@register(GaussianProcess)
class GaussianRule:
    """Backward and guide for every process with conditionally Gaussian steps."""

    engine = "gaussian"

    def linearise(self, process: GaussianProcess, step: Step, anchor: Array, at: Interval) -> LinearSteps:
        """The auxiliary of steps: their means expanded, and their noise frozen, at anchors (d, ...).

        Args:
            step: that of the process, for states (d, ...) with the batch last.
        """
        mean, factor = step(anchor, at)
        along = lambda v: jax.jvp(lambda x: step(x, at)[0], (anchor,), (v,))[1]
        dim = len(anchor)
        unit = identity(dim, anchor[None])
        axes = [jnp.broadcast_to(unit[i], anchor.shape) for i in range(dim)]
        # derivatives along the axes one by one keep the batch last, which a Jacobian does not
        small = dim <= _WRITTEN_OUT
        matrix = (
            jnp.stack([along(v) for v in axes], axis=1) if small else jax.vmap(along, 0, 1)(jnp.stack(axes))
        )
        return LinearSteps(matrix, mean - times(matrix, anchor), factor)
