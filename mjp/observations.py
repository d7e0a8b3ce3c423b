"""What is seen of a state: exact, misclassified, or through any NumPyro distribution."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution, MultivariateNormal

from mjp._checks import (
    as_numbers,
    check_covariance,
    check_finite,
    check_hashable,
    check_labels,
    check_stochastic,
    is_concrete,
)
from mjp._signatures import required_arguments

type Likelihood = (
    Exactly
    | Misclassified
    | EachAgent
    | LocalEmissions
    | LinearGaussianObservation
    | Callable[[Any], Distribution]
)


class Exactly:
    """The state is seen without error.

    A value is a state's label, or the coordinates (d,) of a vector state; `None` or NaN is missing; a set
    of labels is a censored state, known only to be one of them.

    Args:
        entry: a state, or several, whose time of entry is exact (a death date): the process was in
            another, unknown state just before, and the likelihood of the interval is
            sum_k P[r, k] q[k, d] over k other than d (R package msm: `deathexact`).
        transitions: True when every row is an exact transition time, the state being constant in
            between (msm: `obstype = 2`); or the name of a panel column that says so row by row.
    """

    def __init__(self, entry: Hashable | Sequence[Hashable] | None = None, transitions: bool | str = False):
        self.entry = _as_states("entry", entry)
        if not isinstance(transitions, bool | str):
            raise TypeError(f"transitions must be True, False or the name of a column, got {transitions!r}")
        self.transitions = transitions

    def __repr__(self) -> str:
        return f"Exactly(entry={list(self.entry)}, transitions={self.transitions})"


class LinearGaussianObservation:
    """A state seen through y ~ N(L x + offset, covariance).

    A value is (k,); NaN entries are missing, and what is left of the covariance counts.

    Args:
        matrix: L, (k, d), or (m, k, d), one per observation.
        covariance: (k, k) or (m, k, k), positive definite; or a number or (k,), the variances; zero for
            an observation without error.
        offset: (k,), default 0.

    Raises:
        ValueError: shapes that do not fit, entries that are not finite, a covariance that is not
            symmetric and positive definite.
    """

    def __init__(self, matrix: Any, covariance: Any, offset: Any = None):
        self.matrix = jnp.asarray(as_numbers("matrix", matrix), jnp.result_type(float))
        if self.matrix.ndim not in (2, 3):
            raise ValueError(f"matrix must have shape (k, d) or (m, k, d), got {self.matrix.shape}")
        k = self.matrix.shape[-2]
        given = as_numbers("covariance", covariance)
        # a known covariance is traced too where the observation is declared inside of a transformation
        self.noiseless = is_concrete(given) and not np.any(np.asarray(given))
        covariance = jnp.asarray(given, jnp.result_type(float))
        if covariance.ndim < 2:
            covariance = jnp.eye(k) * jnp.broadcast_to(covariance, (k,))
        if covariance.shape[-2:] != (k, k) or covariance.ndim > 3:
            raise ValueError(f"covariance must have shape ({k}, {k}), got {covariance.shape}")
        check_covariance("covariance", covariance, definite=not self.noiseless)
        self.covariance = covariance
        self.offset = jnp.zeros(k) if offset is None else jnp.asarray(as_numbers("offset", offset))
        if self.offset.shape != (k,):
            raise ValueError(f"offset must have shape ({k},), got {self.offset.shape}")
        check_finite("matrix", self.matrix)
        check_finite("offset", self.offset)

    def __call__(self, x: Any) -> Distribution:
        """The law of an observation of the state x (d,), where all observations are alike."""
        return MultivariateNormal(self.matrix @ x + self.offset, self.covariance)

    def __repr__(self) -> str:
        k, d = self.matrix.shape[-2:]
        return f"LinearGaussianObservation({k} of {d} coordinates)"


class Misclassified:
    """The state is seen with errors: state j is recorded with probability matrix[i, j] in state i.

    A set of labels is a record that is known only to be one of them.

    Args:
        matrix: (K, K), rows (true states) summing to one; or (K, M) with `labels` for the M outcomes.
        entry: states that are seen without error and at their exact time of entry, as in `Exactly`.
        labels: the outcomes; default the states.
    """

    def __init__(
        self,
        matrix: Any,
        entry: Hashable | Sequence[Hashable] | None = None,
        labels: Sequence[Hashable] | None = None,
    ):
        if matrix is None:
            raise TypeError("matrix must be an array of shape (K, M), got None")
        given = as_numbers("matrix", matrix)
        self.matrix = jnp.asarray(given)
        if self.matrix.ndim != 2:
            raise ValueError(f"matrix must have shape (K, M), got {self.matrix.shape}")
        # which outcomes are possible in which state; a known matrix is traced too inside of transformations
        self.possible = np.asarray(given) > 0 if is_concrete(given) else np.ones(self.matrix.shape, bool)
        check_stochastic("matrix", self.matrix, "outcomes")
        self.entry = _as_states("entry", entry)
        self.labels = None if labels is None else check_labels("labels", labels)
        outcomes = self.matrix.shape[1]
        if self.labels is not None and len(self.labels) != outcomes:
            raise ValueError(f"labels must name {outcomes} outcomes, got {len(self.labels)}")
        self.transitions = False

    def __repr__(self) -> str:
        return f"Misclassified({self.matrix.shape[0]} states, entry={list(self.entry)})"


class EachAgent:
    """Every agent of `mjp.InteractingParticles` is seen on its own, by the same law of its state.

    A value is (n,), one number per agent in the order of the network's nodes; NaN is missing.

    Args:
        likelihood: function from the position of an agent's state among the states to a Distribution of
            one number.

    Raises:
        TypeError: not a function, or one that returns no Distribution of one number.
    """

    def __init__(self, likelihood: Callable[[Any], Distribution]):
        if not callable(likelihood) or isinstance(likelihood, Distribution | type):
            raise TypeError(
                "likelihood must be a function from an agent's state to a Distribution, got "
                f"{type(likelihood).__name__}"
            )
        if (required_arguments(likelihood) or 1) > 1:
            raise TypeError(
                "likelihood must take an agent's state alone; covariates are for likelihoods of the totals"
            )
        law = likelihood(np.zeros((), np.int32))
        if not isinstance(law, Distribution):
            raise TypeError(f"likelihood must return a Distribution, got {type(law).__name__}")
        if law.shape() != ():
            raise TypeError(f"likelihood must return a law of one number, got one of shape {law.shape()}")
        self.likelihood, self.discrete = likelihood, bool(law.is_discrete)

    def __repr__(self) -> str:
        return "EachAgent(...)"


class LocalEmissions:
    """Numbers that each depend on the states of a few agents, or chains of `mjp.FactorialChain`.

        pairs = [(0, 1), (1, 2), (2, 3)]
        chain.observe_each(mjp.LocalEmissions(lambda x: dist.Normal(x[0] + x[1], 0.5), pairs), values)

    A value is (F,), one number per scope; NaN is missing.

    Args:
        likelihood: function from the positions (s,) of the states of a scope's agents to a Distribution of
            one number; with `indexed`, of these and the number of the scope.
        scopes: (F, s) which agents each number depends on, by their positions.
        indexed: whether the likelihood takes the number of the scope too.

    Raises:
        TypeError: not a function, or one that returns no Distribution of one number.
        ValueError: scopes of different sizes, or that name an agent twice.
    """

    def __init__(self, likelihood: Callable[..., Distribution], scopes: Any, *, indexed: bool = False):
        if not callable(likelihood) or isinstance(likelihood, Distribution | type):
            raise TypeError(
                "likelihood must be a function from the states of a scope to a Distribution, got "
                f"{type(likelihood).__name__}"
            )
        if (required_arguments(likelihood) or 1) > 1 + indexed:
            raise TypeError(
                "likelihood must take the states of a scope, and with indexed=True its number; covariates "
                "are for likelihoods of the totals"
            )
        try:
            self.scopes = np.asarray(scopes)
        except ValueError:
            raise ValueError("scopes must all have the same number of agents") from None
        if self.scopes.ndim != 2 or self.scopes.size == 0 or self.scopes.dtype.kind not in "iu":
            raise ValueError(
                f"scopes must be positions of agents, shape (F, s), got shape {self.scopes.shape} of "
                f"{self.scopes.dtype}"
            )
        ordered = np.sort(self.scopes, axis=1)
        bad = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1) | (ordered[:, 0] < 0))
        if len(bad):
            raise ValueError(
                f"scopes: scope {int(bad[0])} must name different agents, got {self.scopes[bad[0]].tolist()}"
            )
        self.likelihood, self.indexed = likelihood, indexed
        law = self.law(np.zeros(self.scopes.shape[1], np.int32), 0)
        if not isinstance(law, Distribution):
            raise TypeError(f"likelihood must return a Distribution, got {type(law).__name__}")
        if law.shape() != ():
            raise TypeError(f"likelihood must return a law of one number, got one of shape {law.shape()}")
        self.discrete = bool(law.is_discrete)

    def law(self, states: Any, scope: Any) -> Distribution:
        """The law of the number of a scope whose agents are in these states."""
        return self.likelihood(states, scope) if self.indexed else self.likelihood(states)

    def __repr__(self) -> str:
        return f"LocalEmissions({len(self.scopes)} scopes of {self.scopes.shape[1]})"


def _as_states(name: str, value: Any) -> tuple:
    if value is None:
        return ()
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return check_labels(name, list(value))
    check_hashable(name, value)
    return (value,)


def is_missing(value: Any) -> bool:
    """Whether an observed label stands for a missing value."""
    return value is None or (isinstance(value, float | np.floating) and np.isnan(value))


def law_of(
    likelihood: Callable[[Any], Distribution],
    state: jax.ShapeDtypeStruct,
    view: Callable[[Any], Any] = lambda x: x,
) -> Distribution:
    """The law that a likelihood returns for a state; for vectors its parameters are abstract.

    Args:
        view: from a state to what the likelihood reads, `Process.view`.

    Raises:
        TypeError: the likelihood does not return a Distribution.
    """
    found: list[Any] = []

    def call(x: Any) -> None:
        found.append(likelihood(view(x)))

    if state.shape == ():  # a state that indexes a table, which may be one of NumPy
        call(np.zeros((), state.dtype))
    else:
        jax.eval_shape(call, state)
    if not isinstance(found[0], Distribution):
        raise TypeError(f"likelihood must return a Distribution, got {type(found[0]).__name__}")
    return found[0]
