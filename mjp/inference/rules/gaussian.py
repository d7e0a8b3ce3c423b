"""Rules for processes with conditionally Gaussian steps: linearise, pull back, steer the innovations.

The linear auxiliary of a step at an anchor is the step's own first-order expansion there, by automatic
differentiation, so that a discretised process and its auxiliary share one scheme.
"""

from typing import NamedTuple

import jax
from jax import Array

from mjp._small_matrices import times
from mjp.inference.rules.registry import register
from mjp.processes.gaussian import GaussianProcess, Interval


class LinearSteps(NamedTuple):
    """Steps Φ x + β + G z of an auxiliary, (..., d, d), (..., d) and (..., d, r)."""

    matrix: Array
    offset: Array
    factor: Array


@register(GaussianProcess)
class GaussianRule:
    """Backward and guide for every process with conditionally Gaussian steps."""

    engine = "gaussian"

    def linearise(self, process: GaussianProcess, anchor: Array, at: Interval) -> LinearSteps:
        """The auxiliary of one step: its mean expanded, and its noise frozen, at the anchor (d,)."""
        mean, factor = process.step(anchor, at)
        matrix = jax.jacfwd(lambda x: process.step(x, at)[0])(anchor)
        return LinearSteps(matrix, mean - times(matrix, anchor), factor)
