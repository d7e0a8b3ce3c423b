"""Likelihoods that read covariates beside the state: what they read, and where it comes from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mjp._checks import is_concrete
from mjp._signatures import required_arguments
from mjp._table_checks import check_covariate_tables
from mjp.observations import (
    EachAgent,
    Exactly,
    LinearGaussianObservation,
    LocalEmissions,
    Misclassified,
    law_of,
)
from mjp.processes import Process


class UnknownCovariate(ValueError, KeyError):
    """A likelihood reads a covariate that is not given."""

    __str__ = ValueError.__str__


class CovariateRow(Mapping):
    """The covariates of one observation; it remembers which ones were read."""

    def __init__(self, values: Mapping[str, Any]):
        self._values = values
        self.read: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise UnknownCovariate(
                f"likelihood: it reads the covariate {name!r}, which its observations do not have; they have "
                f"{sorted(self._values)}"
            )
        if name not in self.read:
            self.read.append(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def reads_covariates(likelihood: Any) -> bool:
    """Whether a likelihood is a function of the state and of covariates.

    Raises:
        TypeError: a function of more arguments.
    """
    if isinstance(
        likelihood, Exactly | Misclassified | EachAgent | LocalEmissions | LinearGaussianObservation
    ):
        return False
    n = required_arguments(likelihood)
    if n is not None and n > 2:
        raise TypeError(
            "likelihood must take the state, or the state and a mapping of covariates, got a function of "
            f"{n} arguments"
        )
    return n == 2


def check_no_covariates(given: Mapping[str, Any]) -> None:
    """Raise ValueError for covariates of a likelihood that takes the state alone."""
    if given:
        raise ValueError(
            f"covariates: {sorted(given)} are given, but the likelihood takes the state alone; write "
            "lambda x, c: ... and read c[name]"
        )


def at_covariates(likelihood: Any, own: Mapping[str, Any] | None) -> Any:
    """A likelihood as a function of the state alone, at the covariates of one observation if it has any."""
    if own is None:
        return likelihood
    row = own if isinstance(own, CovariateRow) else CovariateRow(own)
    return lambda state: likelihood(state, row)


def covariates_of(
    likelihood: Any,
    process: Process,
    given: Mapping[str, Any],
    offered: Mapping[str, Any],
    describe: Callable[[int], str],
) -> tuple[dict[str, Any] | None, Any]:
    """The covariates that a likelihood reads, and itself as a function of the state at the first of them.

    Args:
        given: by name, (n, ...) each, by the user for this likelihood.
        offered: what is there besides.
        describe: words for each of the n observations.

    Raises:
        ValueError: covariates for a likelihood that reads none, one that is not there, values that are not
            finite.
    """
    if not reads_covariates(likelihood):
        check_no_covariates(given)
        return None, likelihood
    columns = {**offered, **given}
    row = CovariateRow({name: values[0] for name, values in columns.items() if len(values)})
    at_first = at_covariates(likelihood, row)
    law_of(at_first, process.state, process.view)
    for name in row.read:
        bad = np.flatnonzero(~np.isfinite(columns[name])) if is_concrete(columns[name]) else []
        if len(bad):
            where, value = describe(int(bad[0])), columns[name][bad[0]]
            raise ValueError(
                f"covariate {name!r} of the observation of {where} must be finite, also where nothing was "
                f"seen, got {value}"
            )
    found = {name: columns[name] for name in columns if name in row.read}
    state = process.view(jnp.zeros(process.state.shape, process.state.dtype))
    check_covariate_tables("likelihood", lambda c: at_covariates(likelihood, c)(state), found)
    return found, at_first


def take_rows(covariates: Mapping[str, Any] | None, rows: np.ndarray) -> dict[str, Any] | None:
    """The covariates of some observations."""
    return None if covariates is None else {name: values[rows] for name, values in covariates.items()}


def joined_rows(parts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The covariates of several batches of observations through one likelihood, one after the other."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    names = [name for name in known[0] if all(name in part for part in known)]
    together = {name: [part[name] for part in known] for name in names}
    join = lambda columns: (np if all(map(is_concrete, columns)) else jnp).concatenate(columns)
    return {name: join(columns) for name, columns in together.items()}


def first_row(covariates: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The covariates of the first observation."""
    return None if covariates is None else {name: values[0] for name, values in covariates.items()}
