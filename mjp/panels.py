"""Longitudinal data: many subjects, each seen at its own times."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from numbers import Real
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas

RESERVED = ("subject", "time", "state")  # the other columns of `Panel.to_frame`
FINITE = "expected a finite number, a label, or NaN for missing"


@dataclass(frozen=True, eq=False, repr=False)
class Panel:
    """Ragged longitudinal data; rows are sorted by subject (in order of first appearance), then by time.

    Make one with `Panel.from_frame` or `Panel.from_arrays`, which validate; the constructor does not.
    The arrays are read-only, and a panel is compared and hashed by identity.

    Attributes:
        subjects: labels of the subjects.
        offsets: (n_subjects + 1,) integers; subject `i` owns the rows `offsets[i]:offsets[i + 1]`.
        times: (n_rows,) floats, strictly increasing within a subject, in the unit of the data.
        states: (n_rows,) what was seen. Labels are kept in an object array: whole numbers are Python ints, a
            censored state is the frozenset of the labels it may be, and missing is None. Real-valued
            measurements are kept as floats, and missing is NaN.
        covariates: (n_rows,) numbers by name, without NaN; a value holds from its row to the subject's next.
        levels: for every covariate that was not numeric, the labels that its integer codes stand for.
        n_dropped: number of rows left out by `drop_missing`.
    """

    subjects: tuple
    offsets: np.ndarray
    times: np.ndarray
    states: np.ndarray
    covariates: dict[str, np.ndarray] = field(default_factory=dict)
    levels: dict[str, tuple] = field(default_factory=dict)
    n_dropped: int = 0

    def __post_init__(self):
        for array in (self.offsets, self.times, self.states, *self.covariates.values()):
            array.setflags(write=False)

    @classmethod
    def from_frame(
        cls,
        frame: pandas.DataFrame,
        subject: Hashable,
        time: Hashable,
        state: Hashable,
        covariates: Iterable[str] = (),
        *,
        drop_missing: bool = False,
    ) -> Panel:
        """Read a pandas frame with one row per visit, in any order.

        Args:
            frame: the data.
            subject, time, state: names of columns, read as in `Panel.from_arrays`.
            covariates: list of names of columns. Levels of a categorical column keep their order.
            drop_missing: leave out every row in which some covariate is missing, but the last of a subject
                that has others, where it is not used. What was observed on rows that are left out is lost;
                `frame.groupby(subject)[covariates].ffill()` carries covariates forward instead.

        Raises:
            TypeError: `frame` is not a DataFrame, `covariates` is a string, or a column has a wrong type.
            ValueError: a column is absent or used twice, the frame is empty, or a value is not valid; the
                message names the subject and time, and the row by position in the frame, counted from 0.
        """
        import pandas

        if not isinstance(frame, pandas.DataFrame):
            raise TypeError(f"frame: expected a pandas DataFrame, got {type(frame).__name__}")
        if isinstance(covariates, str):
            raise TypeError(f"covariates: expected a list of columns, got a string; write [{covariates!r}]")
        covariates = list(covariates)
        uses = [("subject", subject), ("time", time), ("state", state)]
        uses += [("covariates", covariate) for covariate in covariates]
        used: dict[Hashable, str] = {}
        for argument, column in uses:
            if not isinstance(column, Hashable):
                raise TypeError(f"{argument}: expected the name of a column, got {column!r}")
            if column not in frame.columns:
                present = ", ".join(map(repr, frame.columns))
                raise ValueError(f"{argument}: the frame has no column {column!r}; its columns are {present}")
            if column in used:
                taken = f"column {column!r} is already used as {used[column]}"
                raise ValueError(f"{argument}: {taken}; expected distinct columns")
            if (count := list(frame.columns).count(column)) > 1:
                raise ValueError(f"{argument}: the frame has {count} columns named {column!r}; expected one")
            used[column] = argument
        named = {str(covariate): frame[covariate] for covariate in covariates}
        return cls.from_arrays(frame[subject], frame[time], frame[state], named, drop_missing=drop_missing)

    @classmethod
    def from_arrays(
        cls,
        subject: Iterable,
        time: Iterable,
        state: Iterable,
        covariates: Mapping[str, Iterable] | None = None,
        *,
        drop_missing: bool = False,
    ) -> Panel:
        """Build a panel from columns of equal length, rows in any order.

        A covariate may be missing on a subject's last row, where it is never used: the previous value is
        carried forward there (0 if the subject has no other row). Anywhere else a missing one is an error.

        Args:
            subject: (rows,) labels.
            time: (rows,) finite numbers, distinct within a subject.
            state: (rows,) labels or real numbers; None or NaN is missing; a set, list or tuple of labels is
                a censored state. Whole numbers are labels unless some value of the column has a fraction.
            covariates: (rows,) columns by name: finite numbers, or strings or bools, which are coded to
                integers in sorted order.
            drop_missing: leave out every row in which some covariate is missing, but the last of a subject
                that has others, where it is not used. What was observed on rows that are left out is lost;
                `frame.groupby(subject)[covariates].ffill()` carries covariates forward instead.

        Raises:
            TypeError: a column is not a sequence, or holds values of a wrong type (a date as time, say).
            ValueError: lengths differ, there is no row, or a value is not valid; the message names the
                subject and time, and the row by its position, counted from 0.
        """
        if not isinstance(covariates, Mapping | None):
            raise TypeError(f"covariates: expected columns by name (a dict), got {type(covariates).__name__}")
        covariates = covariates or {}
        for name in covariates:
            if name in RESERVED:
                raise ValueError(
                    f"covariates: the name {name!r} is taken by the panel; expected another name"
                )
        labels = _subjects(_column(subject, "subject"))
        n_rows = len(labels)
        if n_rows == 0:
            raise ValueError("subject: there are no rows; expected at least one")
        instants, observed = _column(time, "time"), _column(state, "state")
        columns = {name: _column(values, f"covariate {name!r}") for name, values in covariates.items()}
        named = {"time": instants, "state": observed, **{f"covariate {n!r}": c for n, c in columns.items()}}
        for name, column in named.items():
            if len(column) != n_rows:
                raise ValueError(
                    f"{name}: got {len(column)} values, expected {n_rows}, as many as subject has"
                )

        times = _times(instants, labels)
        coded, levels = {}, {}
        for name, column in columns.items():
            coded[name], level = _coded(column, name, getattr(covariates[name], "dtype", None))
            if level is not None:
                levels[name] = level

        def where(row: int) -> str:
            return f"subject {labels[row]} at time {times[row]:.6g} (row {row})"

        rows = np.arange(n_rows)
        if drop_missing and coded:
            missing = np.any([np.isnan(values) for values in coded.values()], axis=0)
            if missing.all():
                raise ValueError(f"drop_missing: no row is left; every row misses one of {', '.join(coded)}")
            with_rows = {labels[row] for row in np.flatnonzero(~missing).tolist()}
            rows = np.flatnonzero(~missing | (_is_last(labels, times) & [own in with_rows for own in labels]))

        index = defaultdict[Hashable, int](
            count().__next__
        )  # a label met for the first time gets the next code
        kept = labels if len(rows) == n_rows else [labels[row] for row in rows]
        code = np.fromiter(map(index.__getitem__, kept), np.int64, len(rows))
        order = np.lexsort((times[rows], code))
        rows, code = rows[order], code[order]
        first = np.diff(code, prepend=-1) != 0
        last = np.append(first[1:], True)

        clash = np.flatnonzero(~first[1:] & (np.diff(times[rows]) == 0))
        if len(clash):
            one, two = sorted(rows[clash[0] : clash[0] + 2])
            raise ValueError(
                f"time: subject {labels[one]} has time {times[one]:.6g} twice, in rows {one} and {two}; "
                "expected distinct times within a subject"
            )
        return cls(
            subjects=tuple(index),
            offsets=np.append(np.flatnonzero(first), len(rows)),
            times=times[rows],
            states=_states(observed[rows], lambda i: where(rows[i])),
            covariates={
                name: _carried(values[rows], first, last, name in levels, name, lambda i: where(rows[i]))
                for name, values in coded.items()
            },
            levels=levels,
            n_dropped=n_rows - len(rows),
        )

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.subjects)

    @property
    def n_rows(self) -> int:
        """Number of rows, all subjects together."""
        return len(self.times)

    @property
    def lengths(self) -> np.ndarray:
        """(n_subjects,) number of rows of every subject."""
        return np.diff(self.offsets)

    @property
    def subject_of_row(self) -> np.ndarray:
        """(n_rows,) position of the row's subject in `subjects`."""
        return np.repeat(np.arange(self.n_subjects), self.lengths)

    @property
    def is_first(self) -> np.ndarray:
        """(n_rows,) whether the row is its subject's first."""
        mask = np.zeros(self.n_rows, bool)
        mask[self.offsets[:-1]] = True
        return mask

    @property
    def is_last(self) -> np.ndarray:
        """(n_rows,) whether the row is its subject's last."""
        mask = np.zeros(self.n_rows, bool)
        mask[self.offsets[1:] - 1] = True
        return mask

    @cached_property
    def _index(self) -> dict[Hashable, int]:
        return {label: i for i, label in enumerate(self.subjects)}

    def _position(self, label: Hashable) -> int:
        try:
            return self._index[label]
        except (KeyError, TypeError):
            some = ", ".join(map(repr, self.subjects[:5])) + (", ..." if self.n_subjects > 5 else "")
            raise ValueError(f"subject: {label!r} is not in the panel; expected one of {some}") from None

    def subject_slice(self, label: Hashable) -> slice:
        """Rows of one subject. Raises ValueError if `label` is not among `subjects`."""
        i = self._position(label)
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))

    def describe_row(self, i: int) -> str:
        """Row `i` in words, for messages: `subject 100103 at time 2.04`."""
        owner = int(np.searchsorted(self.offsets, range(self.n_rows)[i], side="right")) - 1
        return f"subject {self.subjects[owner]} at time {self.times[i]:.6g}"

    def subset(self, subjects: Iterable[Hashable]) -> Panel:
        """The panel of these subjects only, in the order given; codes of covariates are kept.

        Raises:
            TypeError: `subjects` is a string.
            ValueError: it is empty, repeats a subject, or names one that is not in the panel.
        """
        if isinstance(subjects, str):
            raise TypeError(f"subjects: expected a list of labels, got a string; write [{subjects!r}]")
        positions = [self._position(label) for label in subjects]
        if not positions:
            raise ValueError("subjects: got none, expected at least one label")
        if len(set(positions)) < len(positions):
            twice = next(p for k, p in enumerate(positions) if p in positions[:k])
            raise ValueError(f"subjects: {self.subjects[twice]!r} is named twice; expected distinct labels")
        rows = np.concatenate([np.arange(self.offsets[i], self.offsets[i + 1]) for i in positions])
        return replace(
            self,
            subjects=tuple(self.subjects[i] for i in positions),
            offsets=np.append(0, np.cumsum(self.lengths[positions])),
            times=self.times[rows],
            states=self.states[rows],
            covariates={name: values[rows] for name, values in self.covariates.items()},
            n_dropped=0,
        )

    def with_states(self, states: Iterable) -> Panel:
        """The same visits with other observations, (n_rows,) in the order of the panel's rows.

        Values are read as in `Panel.from_arrays`, except that whole numbers stay floats in a panel of
        measurements.

        Raises:
            TypeError: a value is neither a label, a number nor a set of labels.
            ValueError: there is not one value per row, or a value is infinite or an empty set.
        """
        column = _column(states, "states")
        if len(column) != self.n_rows:
            raise ValueError(f"states: got {len(column)} values, expected {self.n_rows}, one per row")
        new = _states(column, self.describe_row)
        if self.states.dtype.kind == "f" and set(map(type, new)) <= {int, NoneType}:
            new = _reals(new)
        return replace(self, states=new)

    def without_states(self) -> Panel:
        """The same visits with every state missing: a design to simulate from."""
        missing = np.nan if self.states.dtype.kind == "f" else None
        return replace(self, states=np.full(self.n_rows, missing, self.states.dtype))

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, (n_rows, 3 + number of covariates), that `Panel.from_frame` reads back.

        Columns are "subject", "time", "state" and the covariates, coded ones as bools or categoricals.
        """
        import pandas

        def decoded(name: str, values: np.ndarray):
            if name not in self.levels:
                return values
            if self.levels[name] == (False, True):
                return values.astype(bool)
            return pandas.Categorical.from_codes(values, categories=list(self.levels[name]))  # pyright: ignore

        subjects = np.fromiter(self.subjects, object, self.n_subjects)[self.subject_of_row]
        columns = {"subject": subjects, "time": self.times, "state": self.states}
        columns |= {name: decoded(name, values) for name, values in self.covariates.items()}
        return pandas.DataFrame(columns).infer_objects()

    def __repr__(self) -> str:
        parts = [f"{self.n_subjects} subjects", f"{self.n_rows} rows"]
        parts.append(f"times {_brief(self.times.min())} to {_brief(self.times.max())}")
        if self.covariates:
            parts.append("covariates: " + ", ".join(self.covariates))
        if self.n_dropped:
            parts.append(f"{self.n_dropped} rows dropped")
        return f"Panel({', '.join(parts)})"


def _brief(number: float) -> str:
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def _is_missing_kind(kind: type) -> bool:
    # pandas' NA and NaT are known by name, so that pandas need not be imported.
    return kind is NoneType or issubclass(kind, float | np.floating) or kind.__name__ in ("NAType", "NaTType")


def _is_missing(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return _is_missing_kind(type(value))


def _objects(values: Iterable) -> np.ndarray:
    """Object array of one cell per value; unlike `np.array`, it leaves cells that are lists alone."""
    return np.fromiter(values, object)


def _column(values: Any, name: str) -> np.ndarray:
    """(rows,) array: numbers, bools and dates in their own dtype, others as objects with None for missing."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a sequence with one value per row, got {values!r}")
    dtype = getattr(values, "dtype", None)
    if dtype is None:
        array = _objects(values)
        if set(map(type, array)) in ({bool}, {int}, {float}, {int, float}):
            array = np.array(array.tolist())
    else:
        # A pandas extension dtype (string, categorical, nullable integer) becomes objects.
        array = np.asarray(values, dtype=None if isinstance(dtype, np.dtype) else object)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one value per row, shape (rows,), got shape {array.shape}")
    if array.dtype.kind in "biufMm":
        return array
    array = array.astype(object)
    if any(map(_is_missing_kind, set(map(type, array)))):
        array = _objects(None if _is_missing(value) else value for value in array)
    return array


def _subjects(column: np.ndarray) -> list:
    """Labels of the subjects, one per row; whole floats, which pandas makes of ints, become ints again."""
    if column.dtype.kind == "f":
        if len(bad := np.flatnonzero(np.isnan(column))):
            raise ValueError(f"subject: row {bad[0]} is missing; expected a label in every row")
        if np.all(np.isfinite(column)) and np.all(column == np.round(column)):
            column = column.astype(np.int64)
    labels = column.tolist()
    if column.dtype.kind == "O":
        for row, label in enumerate(labels):
            if label is None:
                raise ValueError(f"subject: row {row} is missing; expected a label in every row")
            try:
                hash(label)
            except TypeError:
                raise TypeError(
                    f"subject: row {row} holds {label!r}; expected a hashable label, such as a string"
                ) from None
    return labels


def _times(column: np.ndarray, labels: list) -> np.ndarray:
    """(rows,) finite floats."""
    kind = column.dtype.kind
    if kind in "Mm" or any(isinstance(t, datetime.date | datetime.timedelta) for t in column[:1]):
        raise TypeError(
            "time: got dates or durations, expected numbers; convert them, e.g. to days since the first "
            "visit by (date - date.min()).dt.days, or to years by dividing that by 365.25"
        )
    if kind == "O":
        for row, value in enumerate(column):
            if not isinstance(value, Real | None) or isinstance(value, bool):
                raise TypeError(f"time: subject {labels[row]}, row {row} is {value!r}; expected a number")
        column = _reals(column)
    elif kind == "b":
        raise TypeError("time: got bools, expected numbers")
    times = column.astype(np.float64)
    if len(bad := np.flatnonzero(~np.isfinite(times))):
        row = bad[0]
        raise ValueError(f"time: subject {labels[row]}, row {row} is {times[row]}; expected a finite number")
    return times


def _reals(column: np.ndarray) -> np.ndarray:
    """Floats of an object array of numbers, with NaN for None."""
    return np.array([np.nan if value is None else value for value in column], np.float64)


def _label(value: Any) -> Any:
    """One state as a plain Python value: a label, a finite float, a frozenset of labels, or None."""
    if type(value) in (str, int, NoneType):  # most cells; the checks below are slower
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, set | frozenset | list | tuple):
        if not value:
            raise ValueError("an empty set of states; expected at least one label")
        if any(_is_missing(member) for member in value):
            raise ValueError(f"{value!r}; expected labels only, or None for a missing state")
        return frozenset(_label(member) for member in value)
    if isinstance(value, float):
        if np.isinf(value):
            raise ValueError(f"{value}; {FINITE}")
        return int(value) if value.is_integer() else value
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"{value!r}; expected a label, a number, or a set of labels") from None
    return value


def _states(column: np.ndarray, where: Callable[[int], str]) -> np.ndarray:
    """(rows,) object array of labels, or floats if every value is a number and some has a fraction."""
    kind = column.dtype.kind
    if kind in "biu":
        return column.astype(object)
    if kind == "f":
        if len(bad := np.flatnonzero(np.isinf(column))):
            raise ValueError(f"state: {where(bad[0])} is {column[bad[0]]}; {FINITE}")
        present = ~np.isnan(column)
        seen = column[present]
        if np.any(seen != np.round(seen)) or np.any(np.abs(seen) >= 2.0**53):
            return column.astype(np.float64)
        states = np.full(len(column), None, object)
        states[present] = seen.astype(np.int64)
        return states
    if kind in "Mm":
        raise TypeError("state: got dates or durations, expected labels or numbers")
    if set(map(type, column)) <= {str, NoneType}:
        return column
    states = _objects(_label_at(value, where, i) for i, value in enumerate(column))
    kinds = set(map(type, states))
    if float not in kinds:
        return states
    if kinds <= {int, float, NoneType}:
        return _reals(states)
    i = next(i for i, value in enumerate(states) if type(value) not in (int, float, NoneType))
    raise TypeError(
        f"state: {where(i)} is {states[i]!r}, while other rows hold real numbers; "
        "expected only labels or only numbers"
    )


def _label_at(value: Any, where: Callable[[int], str], i: int) -> Any:
    try:
        return _label(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"state: {where(i)} is {error}") from None


def _coded(column: np.ndarray, name: str, dtype: Any) -> tuple[np.ndarray, tuple | None]:
    """Floats with NaN for missing, and the labels they stand for (None if the column is numeric)."""
    if column.dtype.kind in "iuf":
        return column.astype(np.float64), None
    if column.dtype.kind == "b":
        return column.astype(np.float64), (False, True)
    kinds = {kind for kind in set(map(type, column)) if kind is not NoneType}
    if (categories := getattr(dtype, "categories", None)) is not None:
        levels = tuple(categories.tolist())
    elif kinds and kinds <= {bool, np.bool}:
        levels = (False, True)
    elif kinds and kinds <= {str, np.str_}:
        levels = tuple(sorted({str(value) for value in column if value is not None}))
    elif all(issubclass(kind, Real) and kind is not bool for kind in kinds):
        return _reals(column), None
    else:
        got = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"covariate {name!r}: got values of type {got}; expected numbers, strings or bools")
    code = {None: np.nan, **{level: i for i, level in enumerate(levels)}}
    return np.fromiter(map(code.__getitem__, column), np.float64, len(column)), levels


def _is_last(labels: list, times: np.ndarray) -> np.ndarray:
    """Whether each row is the last of its subject."""
    last: dict[Hashable, int] = {}
    for row, label in enumerate(labels):
        if label not in last or times[row] > times[last[label]]:
            last[label] = row
    found = np.zeros(len(times), dtype=bool)
    found[list(last.values())] = True
    return found


def _carried(
    values: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    integers: bool,
    name: str,
    where: Callable[[int], str],
) -> np.ndarray:
    """A covariate without NaN: where it is missing on a subject's last row, the previous value."""
    missing = np.isnan(values)
    if len(bad := np.flatnonzero(missing & ~last)):
        raise ValueError(
            f"covariate {name!r}: {where(bad[0])} is missing (the first of {len(bad)}); expected a value on "
            "every row but a subject's last; fill them in (frame.groupby(subject).ffill() carries the last "
            "value forward), or leave such rows out with drop_missing=True"
        )
    if len(bad := np.flatnonzero(np.isinf(values))):
        raise ValueError(f"covariate {name!r}: {where(bad[0])} is {values[bad[0]]}; expected a finite number")
    values = np.where(missing, np.where(first, 0.0, np.roll(values, 1)), values)
    return values.astype(np.int64) if integers else values
