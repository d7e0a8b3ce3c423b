"""Rules of finite-state Markov chains."""

import jax.numpy as jnp
import numpy as np

from mjp._checks import check_stochastic
from mjp.graph import Edges
from mjp.inference.rules.finite_states import SNAPSHOT, Kernels, distinct_covariates, over_covariates
from mjp.inference.rules.registry import register
from mjp.processes import MarkovChain


@register(MarkovChain)
class MarkovChainRule:
    """An edge is one step with the chain's transition matrix."""

    engine = "finite states"

    def kernels(self, process: MarkovChain, edges: Edges, arrival: np.ndarray) -> Kernels:
        if np.any(arrival != SNAPSHOT):
            raise ValueError("entry, transitions: exact times have no meaning in discrete time (MarkovChain)")
        if process.n_steps is not None:
            if "step" not in edges.covariates:
                raise ValueError("transition: one matrix per step needs a chain made by mjp.chain")
            return Kernels(jnp.asarray(process.transition), np.asarray(edges.covariates["step"]))
        rows, index = distinct_covariates(process, edges, process.covariates)
        matrices = over_covariates(process.matrix, rows)
        if process.function is not None:
            check_stochastic("transition", matrices)
        return Kernels(matrices, index)

    def pieces(self, process: MarkovChain) -> tuple[float, ...]:
        return ()
