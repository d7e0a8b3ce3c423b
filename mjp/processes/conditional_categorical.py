"""States whose probabilities are functions of the states of one or several parents, of any family."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp._checks import check_count, check_labels
from mjp.processes.conditional_gaussian import check_state_or_vector
from mjp.processes.finite_states import FiniteStateProcess
from mjp.processes.process import Process


class ConditionalCategorical(FiniteStateProcess):
    """One of K states, with log-odds that depend on the parents; an edge is one step.

    Parents may be vectors (d,), states of finitely many, of which functions see the position, and the counts
    of reaction networks that reach few states, which functions see by name. Where all parents are of
    finitely many states, `mjp.ConditionalTable` says the same with exact conditioning.

        alarm = mjp.ConditionalCategorical(lambda x: jnp.array([0.0, x[0] - 2.0]), ["off", "on"])
        g.edge("temperature", "alarm", alarm)

    Args:
        logits: function of the parents' states, in the order in which the edge names them, to (K,) logs of
            probabilities, up to a constant.
        states: labels of the K states, or their number.

    Raises:
        TypeError: `logits` is not a function. ValueError: labels that are not distinct.
    """

    logits: Callable = eqx.field(static=True)
    states: tuple = eqx.field(static=True)

    def __init__(self, logits: Callable, states: Sequence | int):
        if not callable(logits):
            raise TypeError(f"logits must be a function of the parents' states, got {type(logits).__name__}")
        if isinstance(states, int):
            check_count("states", states)
        self.logits = logits
        self.states = tuple(range(states)) if isinstance(states, int) else check_labels("states", states)

    def log_probabilities(self, states: Sequence[Any]) -> Array:
        """Logs of the probabilities (K,) given the states of the parents.

        Raises:
            ValueError: `logits` returns another shape.
        """
        logits = jnp.asarray(self.logits(*states), jnp.result_type(float))
        if logits.shape != (self.n_states,):
            raise ValueError(f"logits must return shape ({self.n_states},), got {logits.shape}")
        return jax.nn.log_softmax(logits)

    def through(self, reading: Callable[[Callable], Callable]) -> "ConditionalCategorical":
        """The process whose function reads the states of the parents as `reading` makes them."""
        return ConditionalCategorical(reading(self.logits), self.states)

    def check_parents(self, edge: str, parents: Sequence[tuple[Hashable, Process | None]]) -> None:
        check_state_or_vector(self, edge, parents)
