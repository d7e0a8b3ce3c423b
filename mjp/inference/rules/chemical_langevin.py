"""Rules of the chemical Langevin equation."""

from typing import Any

import jax
from jax import Array

from mjp._small_matrices import semidefinite_cholesky
from mjp.inference.rules.gaussian import GaussianRule, LinearSteps, Step
from mjp.inference.rules.registry import register
from mjp.processes.chemical_langevin import ChemicalLangevin
from mjp.processes.gaussian import Interval


@register(ChemicalLangevin)
class ChemicalLangevinRule(GaussianRule):
    """As for every Gaussian process, but linearised before the equation is solved, not after.

    The derivative of the solution would hold second derivatives of the propensities; that of the equation
    itself is the linear noise approximation.
    """

    def linearise(self, process: Any, step: Step, anchor: Array, at: Interval) -> LinearSteps:
        transition = process.linear_transition
        for _ in range(anchor.ndim - 1):
            transition = jax.vmap(transition, in_axes=-1, out_axes=-1)
        matrix, offset, covariance = transition(anchor, at)
        return LinearSteps(matrix, offset, semidefinite_cholesky(covariance))
