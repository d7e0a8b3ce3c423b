"""Many finite-state agents on a network, each of which jumps at rates that depend on its neighbours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import networkx as nx
import numpy as np
from jax import Array

from mjp._checks import is_concrete
from mjp.processes import local_rates
from mjp.processes.interacting_particles import (
    InteractingParticles,
    check_one_network,
    checked_parameter,
    checked_rates,
)
from mjp.processes.rule_checks import check_rates
from mjp.processes.small_exponential import exponential


class InteractingJumps(InteractingParticles):
    r"""Agents on a network, each in one of K states, that jump one at a time, in continuous time.

    Agent i changes from state a to b at rate $q_i(a, b; N_i(x))$, which the numbers of its neighbours in
    each state determine. What `InteractingParticles` is to `MarkovChain`, this is to `MarkovJump`; states,
    observations, networks and parameters are declared alike.

        flu = mjp.InteractingJumps.sir(contacts, infection=0.3, recovery=0.2)
        g = mjp.chain(flu, times=[0.0, 7.0, 14.0], initial=first)
        g.observe_each(mjp.Exactly(), seen)

    An edge may have any duration; its `steps` (default 8) are those in which guides take the neighbours for
    constant, and change no law.

    Args:
        network, states, parameters, weight: as for `InteractingParticles`.
        rule: function of the numbers of an agent's neighbours in each state and of the mapping `at` to
            rates per unit of time, as `{(from, to): rate}` or as a matrix (K, K), whose diagonal is not read.
        bound: the largest rate at which an agent leaves any state, one number or (n,); by default the largest
            where all neighbours are in one state, or none are there. A path on which an agent exceeds it is
            not drawn, and counted in `overflow`.

    Raises:
        TypeError, ValueError: as for `InteractingParticles`; rates that are negative or not finite; a bound
            that is not positive.
    """

    jumps: ClassVar[bool] = True
    default_steps: ClassVar[int] = 8
    _rules: ClassVar[Any] = local_rates

    bound: Any

    def __init__(
        self,
        network: Any,
        rule: Callable[[Mapping, Mapping], Any],
        states: Sequence,
        *,
        parameters: Mapping[str, Any] | None = None,
        weight: str | None = None,
        bound: Any = None,
    ):
        super().__init__(network, rule, states, parameters=parameters, weight=weight)
        self.bound = None if bound is None else checked_parameter("bound", bound, self.n)
        if is_concrete(self.bound) and bound is not None and np.any(self.bound <= 0):
            raise ValueError(f"bound must be > 0, got {np.min(self.bound):g}")

    @classmethod
    def voter(
        cls, network: Any, states: Sequence, *, listening: Any = 1.0, mutation: Any = 0.0
    ) -> "InteractingJumps":
        """Agents that take the opinion of a neighbour.

        Args:
            states: the opinions.
            listening: rate at which an agent takes the opinion of a neighbour, drawn at random.
            mutation: rate at which it takes an opinion drawn uniformly from all.

        Raises:
            ValueError: a rate that is negative or not finite.
        """
        check_one_network(network)
        rates = checked_rates({"listening": listening, "mutation": mutation})
        return cls(network, local_rates.voter, states, parameters=rates)

    @classmethod
    def ising(cls, network: Any, coupling: Any, field: Any = 0.0) -> "InteractingJumps":
        r"""Spins -1 and 1, each drawn anew at unit rate by heat bath (Glauber dynamics).

        The new spin is 1 with probability $1 / (1 + \exp(-2 (\beta \sum_j x_j + h)))$.

        Args:
            coupling: $\beta$; field: $h$; a number or (n,).
        """
        check_one_network(network)
        values = {"coupling": coupling, "field": field}
        return cls(network, local_rates.ising, (-1, 1), parameters=values, bound=1.0)

    def rates(self, neighbours: Array, at: Mapping[str, Any]) -> list[list[Array]]:
        """Rates of change; the diagonal is minus the rate at which a state is left.

        Args:
            neighbours: (M K, ...) numbers of neighbours by network and state; they need not be integers.
            at: by name, parameters and covariates with as many axes as `...`, those of length one shared.

        Returns:
            entry [a][b], each (...).
        """
        return self._matrices(neighbours, at)

    def probabilities(self, neighbours: Array, at: Mapping[str, Any]) -> list[list[Array]]:
        """Transition probabilities over `at["duration"]` while the neighbours stay as they are."""
        rates = self.rates(neighbours, at)
        return exponential([[rate * at["duration"] for rate in row] for row in rates])

    def _step(self, neighbours: Array, at: Mapping[str, Any]) -> tuple[tuple[Array, ...], ...]:
        """The generator of one agent, as rows of numbers."""
        rows = [list(row) for row in super()._step(neighbours, at)]
        for a, row in enumerate(rows):
            row[a] = -sum((rate for b, rate in enumerate(row) if b != a), jnp.zeros_like(row[a]))
        return tuple(tuple(row) for row in rows)

    def check_probabilities(self, at: Mapping[str, Any]) -> None:
        """Raise ValueError for rates that are none, where they are known now; see the base class."""
        check_rates(self.rates, {**self.parameters, **at}, self.states, self.agents, self.contacts.most())

    @property
    def most_jumps(self) -> int | None:
        """The largest number of jumps of an agent, where no state is reached twice; else None."""
        if self.changes is None:
            return None
        changes = nx.DiGraph(list(self.changes))
        return nx.dag_longest_path_length(changes) if nx.is_directed_acyclic_graph(changes) else None
