"""Finite-state Markov chains in discrete time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import as_numbers, check_labels, check_stochastic
from mjp.processes.finite_states import FiniteStateProcess
from mjp.processes.process import covariates_read


class MarkovChain(FiniteStateProcess):
    """A Markov chain on K states; an edge is one step.

    Args:
        transition: the matrix (K, K) with rows summing to one; or (n, K, K), one matrix per step of a
            chain; or a function from the step's covariates (a mapping from names to scalars) to a
            matrix. On a chain the covariates `step` and `series` are always there.
        states: labels of the states, default 0 … K-1.

    Raises:
        ValueError: a matrix that is not square, has negative entries or rows that do not sum to one;
            labels that do not match it.
    """

    transition: Array | np.ndarray | None
    function: Callable[[Mapping], Any] | None = eqx.field(static=True)
    covariates: tuple[str, ...] = eqx.field(static=True)
    states: tuple = eqx.field(static=True)

    def __init__(self, transition: Any, states: Sequence | None = None):
        if callable(transition):
            self.function, self.transition = transition, None
            self.covariates, returned = covariates_read(transition)
            shape = getattr(returned, "shape", None)
            if shape is None:
                raise TypeError("transition must return a matrix (K, K) from a step's covariates")
        else:
            transition = as_numbers("transition", transition)
            self.function, self.transition, self.covariates = None, transition, ()
            shape = np.shape(transition)
        if len(shape) not in (2, 3) or (callable(transition) and len(shape) == 3) or shape[-1] != shape[-2]:
            raise ValueError(f"transition must have shape (K, K) or (n, K, K), got {tuple(shape)}")
        if self.transition is not None:
            check_stochastic("transition", self.transition)
        self.states = check_labels("states", range(shape[-1]) if states is None else states)
        if len(self.states) != shape[-1]:
            raise ValueError(
                f"states must name the {shape[-1]} states of transition, got {len(self.states)} labels"
            )

    @property
    def n_steps(self) -> int | None:
        """Number of steps that a step-dependent chain describes."""
        if self.transition is not None and np.ndim(self.transition) == 3:
            return self.transition.shape[0]
        return None

    def matrix(self, covariates: Mapping) -> Array:
        """The transition matrix (K, K) of one step with the given covariates."""
        return jnp.asarray(self.transition if self.function is None else self.function(covariates))
