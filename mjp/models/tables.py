"""Reading the tables that come with the models, or a user's tables of the same columns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from importlib.resources import files
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def read_table(name: str, path: str | PathLike | None, columns: Iterable[str]) -> pandas.DataFrame:
    """A CSV table with a header row.

    Args:
        name: file in mjp/models/data, read where `path` is None.
        path: the user's own file.
        columns: names of columns that the table must have; it may have others.

    Raises:
        ValueError: a column is absent.
    """
    import pandas  # slow to import, and only needed to read

    if path is None:
        with (files("mjp.models") / "data" / name).open(encoding="utf-8") as file:
            return pandas.read_csv(file)
    frame = pandas.read_csv(fspath(path))
    for column in columns:
        if column not in frame.columns:
            present = ", ".join(map(repr, frame.columns))
            raise ValueError(f"path: {fspath(path)} has no column {column!r}; its columns are {present}")
    return frame


def read_text(name: str, path: str | PathLike | None) -> str:
    """The text of a file in mjp/models/data, or of the user's own file at `path`."""
    if path is None:
        return (files("mjp.models") / "data" / name).read_text(encoding="utf-8")
    return Path(path).read_text(encoding="utf-8")


def in_dates(frame: pandas.DataFrame, column: str, example: str) -> pandas.Series:
    """A column of dates such as `example`, year-month-day; missing values stay missing.

    Raises:
        ValueError: a date cannot be read.
    """
    import pandas

    try:
        return pandas.Series(pandas.to_datetime(frame[column], format="%Y-%m-%d"))
    except ValueError as error:
        raise ValueError(f"path: the column {column!r} must hold dates such as {example}; {error}") from None


def in_words(column: Iterable[Hashable], words: dict) -> list[str | None]:
    """Codes of states as words; what is a word already stays, and missing values become None.

    Raises:
        ValueError: a value is neither a code nor a word.
    """
    # In a table that mixes codes and words pandas reads the codes as text.
    known = (
        words | {str(code): word for code, word in words.items()} | {word: word for word in words.values()}
    )
    named = []
    for row, value in enumerate(column):
        if value is None or value != value:  # NaN is unequal to itself
            named.append(None)
        elif value in known:
            named.append(known[value])
        else:
            expected = ", ".join(f"{code} ({word})" for code, word in words.items())
            raise ValueError(f"path: row {row} holds the state {value!r}; expected one of {expected}")
    return named


def arrows(transitions: Iterable[tuple[str, str]]) -> list[str]:
    """Labels of transitions for tables and plots: `well -> mild`."""
    return [f"{source} -> {target}" for source, target in transitions]
