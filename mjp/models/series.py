"""Measurements along time, read from a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from mjp.models.tables import read_table


@dataclass(frozen=True, eq=False)
class Series:
    """Measurements at increasing times.

    Attributes:
        times: (n,).
        values: (n,) or (n, k), NaN where missing; None for none at all, to simulate.
    """

    times: np.ndarray
    values: np.ndarray | None


def read_series(name: str, path: str | PathLike | None, time: str, columns: Sequence[str]) -> Series:
    """A series whose values are the columns of a table: (n,) for one column, else (n, k).

    Args:
        name: file in mjp/models/data, read where `path` is None.
        time: name of the column of times.

    Raises:
        ValueError: a column is absent, or a time occurs twice.
    """
    frame = read_table(name, path, [time, *columns]).sort_values(time)
    times = frame[time].to_numpy(float)
    twice = np.flatnonzero(np.diff(times) <= 0)
    if len(twice):
        raise ValueError(f"path: the {time} {times[twice[0]]:g} occurs twice; expected one row for each")
    values = frame[list(columns)].to_numpy(float)
    return Series(times, values[:, 0] if len(columns) == 1 else values)


def series_table(columns: Sequence[str], times: Any, values: Any) -> Mapping[str, np.ndarray]:
    """The columns of a table that `read_series` reads: times, then values (n,) or (n, k)."""
    values = np.asarray(values)
    return dict(zip(columns, [np.asarray(times), *values.reshape(len(values), -1).T], strict=True))
