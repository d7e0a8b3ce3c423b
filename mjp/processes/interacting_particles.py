"""Many finite-state agents on a network, each of which moves by the states of its neighbours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import check_finite, check_labels, check_mapping, is_concrete
from mjp.processes import local_rates, local_rules
from mjp.processes.contacts import Contacts, contacts_of
from mjp.processes.process import Process
from mjp.processes.rule_checks import check_rule, check_steps
from mjp.processes.state_counts import StateCounts, neighbours_of


class InteractingParticles(Process):
    r"""Agents on a network, each in one of K states, that step at the same time.

    Given the states before the step, agents move independently of each other, agent i by the numbers of
    its neighbours in each state: $\kappa(x, dy) = \prod_i \kappa_i(x_i, N_i(x); dy_i)$. An edge takes
    `steps` such steps (default one), each a fraction of its duration.

    The state of a node is the vector of the agents' states: labels where it is declared or observed,
    positions (n,) of the labels in what is simulated. Likelihoods that are functions see how many agents
    are in each state, `x["I"]`; for values by agent there are `mjp.Exactly`, `mjp.Misclassified` and
    `mjp.EachAgent`.

        contacts = networkx.karate_club_graph()
        flu = mjp.InteractingParticles.sir(contacts, infection=0.3, recovery=0.2)
        first = ["I"] + ["S"] * 33
        g = mjp.chain(flu, times=range(30), initial=first)
        g.observe_each(lambda x: dist.Binomial(x["I"], 0.5), reported)

    Args:
        network: a `networkx.Graph` of contacts, or a `DiGraph` in which an edge leads from the agent that
            influences to the one that is influenced; or several networks of the same agents by name, such as
            `{"household": ..., "school": ...}`, for contacts of several kinds.
        rule: function of the numbers of an agent's neighbours in each state (`neighbours["I"]`; of several
            networks `neighbours["household"]["I"]`) and of a mapping `at` (see `parameters`) to the
            probabilities of one step, as `{(from, to): probability}`, what is left being the probability to
            stay, or as a matrix (K, K).
        states: labels of the states.
        parameters: numbers that the rule reads as `at[name]`: one for all agents, or (n,), one each, in the
            order of the network's nodes. `at["duration"]` is the duration of the step; covariates of the
            chain are there too.
        weight: attribute of the network's edges; neighbours then count by it.

    Raises:
        TypeError: not a network, a rule that is not a function or returns something else.
        ValueError: labels that are not distinct, or that the rule's changes do not have; probabilities that
            are none; parameters of another shape; networks that do not have the same nodes.
    """

    jumps: ClassVar[bool] = False  # whether the rule gives rates
    default_steps: ClassVar[int] = 1  # of an edge
    _rules: ClassVar[Any] = local_rules

    contacts: Contacts = eqx.field(static=True)
    rule: Callable = eqx.field(static=True)
    states: tuple = eqx.field(static=True)
    parameters: dict[str, Any]
    covariates: tuple[str, ...] = eqx.field(static=True)
    influential: tuple[int, ...] = eqx.field(static=True)  # positions of states of which neighbours count
    changes: tuple[tuple, ...] | None = eqx.field(static=True)  # that the rule names; None for a matrix

    def __init__(
        self,
        network: Any,
        rule: Callable[[Mapping, Mapping], Any],
        states: Sequence,
        *,
        parameters: Mapping[str, Any] | None = None,
        weight: str | None = None,
    ):
        self.contacts = contacts_of(network, weight)
        if not callable(rule):
            raise TypeError(
                f"rule must be a function of neighbours and parameters, got {type(rule).__name__}"
            )
        check_mapping("parameters", parameters)
        self.rule, self.states = rule, check_labels("states", states)
        self.parameters = {name: checked_parameter(name, v, self.n) for name, v in (parameters or {}).items()}
        first = {name: jnp.reshape(jnp.asarray(v), -1)[0] for name, v in self.parameters.items()}
        self.covariates, self.influential, self.changes = check_rule(
            rule, self.states, self.contacts.kinds, first, "rate" if self.jumps else "probability"
        )
        if not self.covariates:
            self.check_probabilities({"duration": 1.0})

    @classmethod
    def sis(
        cls, network: Any, infection: Any, recovery: Any, *, external: Any = 0.0, weight: str | None = None
    ) -> "InteractingParticles":
        """Susceptible, infectious, and susceptible again; see `sirs`."""
        rates = {**_by_kind(network, infection), "recovery": recovery, "external": external}
        return cls(network, cls._rules.sis, ("S", "I"), parameters=checked_rates(rates), weight=weight)

    @classmethod
    def sir(
        cls, network: Any, infection: Any, recovery: Any, *, external: Any = 0.0, weight: str | None = None
    ) -> "InteractingParticles":
        """Susceptible, infectious, and immune for good; see `sirs`."""
        rates = {**_by_kind(network, infection), "recovery": recovery, "external": external}
        return cls(network, cls._rules.sir, ("S", "I", "R"), parameters=checked_rates(rates), weight=weight)

    @classmethod
    def sirs(
        cls,
        network: Any,
        infection: Any,
        recovery: Any,
        waning: Any,
        *,
        external: Any = 0.0,
        weight: str | None = None,
    ) -> "InteractingParticles":
        r"""An epidemic; the states are S, I and R.

        In a step of duration $\tau$ an agent with N infectious neighbours is infected with probability
        $1 - \exp(-(\lambda N + \epsilon)\tau)$, an infectious one recovers with $1 - \exp(-\mu\tau)$, and
        immunity is lost with $1 - \exp(-\nu\tau)$ (van der Meulen & Schauer, arXiv 2010.03509, where
        $\exp(-\epsilon\tau)$ is $\xi$).

        Args:
            infection, recovery, waning: the rates $\lambda$ (of each contact), $\mu$ and $\nu$, per unit of
                time; a number, or (n,), one per agent at risk. Where `network` names several networks,
                infection gives the rate in each, by the same names.
            external: the rate $\epsilon$ of infections from outside. Where it is positive, every path has
                positive probability, which samplers of paths like.
            weight: attribute of the network's edges that multiplies their rate of infection.

        Raises:
            ValueError: a rate that is negative or not finite; rates of infection that do not name the
                networks.
        """
        rates = {**_by_kind(network, infection), "recovery": recovery, "waning": waning, "external": external}
        return cls(network, cls._rules.sirs, ("S", "I", "R"), parameters=checked_rates(rates), weight=weight)

    @classmethod
    def voter(
        cls, network: Any, states: Sequence, *, listening: Any = 1.0, mutation: Any = 0.0
    ) -> "InteractingParticles":
        """Agents that take the opinion of a neighbour.

        Args:
            states: the opinions.
            listening: probability per step to take the opinion of a neighbour, drawn at random.
            mutation: probability per step to take an opinion drawn uniformly from all instead.

        Raises:
            ValueError: probabilities outside of [0, 1].
        """
        check_one_network(network)
        shares = _probabilities({"listening": listening, "mutation": mutation})
        return cls(network, cls._rules.voter, states, parameters=shares)

    @classmethod
    def ising(cls, network: Any, coupling: Any, field: Any = 0.0) -> "InteractingParticles":
        r"""Spins -1 and 1 by heat bath, all at once.

        The next spin is 1 with probability $1 / (1 + \exp(-2 (\beta \sum_j x_j + h)))$, the sum being over
        the neighbours' spins.

        Args:
            coupling: $\beta$; field: $h$; a number or (n,).
        """
        check_one_network(network)
        return cls(network, cls._rules.ising, (-1, 1), parameters={"coupling": coupling, "field": field})

    @property
    def n(self) -> int:
        """Number of agents."""
        return self.contacts.n

    @property
    def agents(self) -> tuple:
        """Names of the agents, the nodes of the network."""
        return self.contacts.agents

    @property
    def n_networks(self) -> int:
        """M, how many networks there are."""
        return max(len(self.contacts.kinds), 1)

    @property
    def n_states(self) -> int:
        return len(self.states)

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.n,), jnp.int32)

    @property
    def labels_shape(self) -> tuple[int, ...]:
        return (self.n,)

    def view(self, state: Array) -> StateCounts:
        """Numbers of agents (K,) by state."""
        totals = jnp.sum(jnp.asarray(state) == jnp.arange(self.n_states)[:, None], axis=-1)
        return StateCounts(totals, self.states)

    def probabilities(self, neighbours: Array, at: Mapping[str, Any]) -> list[list[Array]]:
        """Probabilities of one step.

        Args:
            neighbours: (M K, ...) numbers of neighbours by network and state; they need not be integers.
            at: by name, parameters and covariates with as many axes as `...`, those of length one shared.

        Returns:
            entry [a][b], each (...): probability that an agent in state a is in state b after the step.
        """
        return self._matrices(neighbours, at)

    def _matrices(self, neighbours: Array, at: Mapping[str, Any]) -> list[list[Array]]:
        """What the rule says for many agents, times, ... (...), as entries [a][b], each (...)."""
        axes = neighbours.ndim - 1
        values = {name: jnp.asarray(value) for name, value in at.items()}
        values = {name: v.reshape(*[1] * (axes - v.ndim), *v.shape) for name, v in values.items()}
        return [list(row) for row in self._over(neighbours, values)]

    def _over(self, neighbours: Array, at: dict[str, Array]) -> tuple[tuple[Array, ...], ...]:
        """The rule over all axes of `neighbours` but the first; what is shared is computed once."""
        if neighbours.ndim == 1:
            return self._step(neighbours, at)
        shared = {name: value[0] for name, value in at.items() if value.shape[0] == 1}
        own = {name: value for name, value in at.items() if name not in shared}
        along = lambda counts, own: self._over(counts, {**shared, **own})
        return jax.vmap(along, in_axes=(1, 0))(neighbours, own)

    def _step(self, neighbours: Array, at: Mapping[str, Any]) -> tuple[tuple[Array, ...], ...]:
        """The matrix of one agent, as rows of numbers."""
        k = self.n_states
        found = self.rule(neighbours_of(neighbours, self.states, self.contacts.kinds), at)
        if not isinstance(found, Mapping):
            return tuple(tuple(found[a, b] for b in range(k)) for a in range(k))
        zero = jnp.zeros((), neighbours.dtype)
        rows = [[zero] * k for _ in range(k)]
        for (a, b), p in found.items():
            rows[self.states.index(a)][self.states.index(b)] = jnp.asarray(p, neighbours.dtype)
        for a in range(k):
            rows[a][a] = 1.0 - sum((rows[a][b] for b in range(k) if b != a), zero)
        return tuple(tuple(row) for row in rows)

    def known_state(self, name: str, value: Any) -> np.ndarray:
        """Labels (n,) of the agents' states.

        Raises:
            ValueError: not one label per agent, or one that is not a state.
        """
        if isinstance(value, Mapping):
            unknown = [agent for agent in value if agent not in self.agents]
            missing = [agent for agent in self.agents if agent not in value]
            if unknown or missing:
                what = f"{unknown[0]!r} is not an agent" if unknown else f"agent {missing[0]!r} has no state"
                raise ValueError(f"{name}: {what}")
            value = [value[agent] for agent in self.agents]
        labels = self._row(name, value)
        bad = np.flatnonzero(self.encode(labels) < 0)
        if len(bad):
            label = labels[bad[0]].item() if isinstance(labels[bad[0]], np.generic) else labels[bad[0]]
            raise ValueError(
                f"{name}: agent {self.agents[bad[0]]!r} has the unknown state {label!r}; the states are "
                f"{list(self.states)}"
            )
        return labels

    def encode(self, labels: Any) -> np.ndarray:
        """Positions of labels, of any shape; -1 for what is not one."""
        labels = np.asarray(labels)
        codes = np.full(labels.shape, -1, dtype=np.int32)
        for position, state in enumerate(self.states):
            codes[np.asarray(labels == state, dtype=bool)] = position
        return codes

    def _row(self, name: str, value: Any) -> np.ndarray:
        if not is_concrete(value):
            raise TypeError(f"{name} must be known before compilation, or be a Distribution")
        row = np.empty(0, object) if np.ndim(value) != 1 else np.asarray(value)
        if row.shape != (self.n,):
            raise ValueError(
                f"{name} must have one state per agent, shape ({self.n},), got shape {np.shape(value)}"
            )
        return row

    def check_law(self, name: str, law: Any) -> None:
        """Raise unless agents start independently, each by a Categorical law of its own or of all."""
        base = getattr(law, "base_dist", law)
        probabilities = getattr(base, "probs", None)
        shape = (*law.batch_shape, *law.event_shape)
        if probabilities is None or "Categorical" not in type(base).__name__:
            raise ValueError(
                f"{name} must be a Categorical law of the agents' states, got {type(law).__name__}"
            )
        if probabilities.shape[-1] != self.n_states or shape not in ((), (1,), (self.n,)):
            raise ValueError(
                f"{name} must have probabilities of {self.n_states} states for all agents or for each, shape "
                f"({self.n}, {self.n_states}), got {probabilities.shape}"
            )

    def check_exact(self, name: str, values: Any) -> None:
        if not is_concrete(values):
            raise TypeError(f"{name}: states seen exactly must be known before compilation")

    def rows(self, values: Any) -> Any:
        """Values by agent with one row per time; None stands for a row without values."""
        if not isinstance(values, Sequence) or all(row is not None for row in values):
            return values
        missing = np.full(self.n, None, dtype=object)
        return np.stack([missing if row is None else np.asarray(row, dtype=object) for row in values])

    def check_probabilities(self, at: Mapping[str, Any]) -> None:
        """Raise ValueError for probabilities that are none, where they are known now.

        Args:
            at: covariates (), and "duration".
        """
        values = {**self.parameters, **at}
        check_steps(self.probabilities, values, self.states, self.agents, self.contacts.most())


def checked_parameter(name: str, value: Any, n: int) -> Any:
    if not isinstance(name, str) or name == "duration":
        raise ValueError(f"parameters: {name!r} cannot be a name; duration is that of the step")
    array = jnp.asarray(value, jnp.result_type(float)) if not is_concrete(value) else np.asarray(value, float)
    if array.shape not in ((), (n,)):
        raise ValueError(f"{name} must be one number or one per agent, shape ({n},), got shape {array.shape}")
    check_finite(name, array)
    return array


def check_one_network(network: Any) -> None:
    if isinstance(network, Mapping):
        raise TypeError(f"network must be one network for this rule, got several, {list(network)}")


def _by_kind(network: Any, infection: Any) -> dict[str, Any]:
    """The rate of infection, or those in several networks, by the name of the parameter."""
    if not isinstance(network, Mapping):
        if isinstance(infection, Mapping):
            raise TypeError("infection must be one rate where there is one network, got rates by name")
        return {"infection": infection}
    if not isinstance(infection, Mapping) or set(infection) != set(network):
        got = list(infection) if isinstance(infection, Mapping) else type(infection).__name__
        raise ValueError(f"infection must give a rate for each network, {list(network)}, got {got}")
    return {local_rates.infection_by(kind): infection[kind] for kind in network}


def checked_rates(rates: dict[str, Any]) -> dict[str, Any]:
    for name, value in rates.items():
        check_finite(name, value)
        if is_concrete(value) and np.any(np.asarray(value) < 0):
            raise ValueError(f"{name} must be >= 0, got {np.min(np.asarray(value)):g}")
    return rates


def _probabilities(shares: dict[str, Any]) -> dict[str, Any]:
    for name, value in shares.items():
        check_finite(name, value)
        outside = is_concrete(value) and (np.any(np.asarray(value) < 0) or np.any(np.asarray(value) > 1))
        if outside:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
    return shares
