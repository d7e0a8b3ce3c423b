"""What sections are made of: paragraphs, tables and pictures."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mjp.fitting import Fit

INTERVAL = (0.055, 0.945)  # ends of the 89% intervals that ArviZ's tables show
HALF = (0.25, 0.75)  # ends of the 50% intervals


class Missing(Exception):
    """A section cannot be made; the message says why, in words for the page."""


@dataclass(frozen=True)
class Paragraph:
    text: str
    style: str = ""
    kind: str = "paragraph"


@dataclass(frozen=True)
class Table:
    """A table; the rows whose numbers are in `marked` are set off."""

    header: list[str]
    rows: list[list[str]]
    caption: str = ""
    marked: frozenset[int] = frozenset()
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    source: str
    text: str
    caption: str = ""
    kind: str = "picture"


type Part = Paragraph | Table | Picture
type Maker = Callable[["Fit"], list[Part]]


@dataclass(frozen=True)
class Section:
    """A section of the page, or (with `reason`) one that is not there."""

    anchor: str
    title: str
    parts: list[Part] = field(default_factory=list)
    reason: str = ""


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Any, Any]:
    """A figure that pyplot does not know of, so that no notebook shows it, and its array of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        ax.spines[["right", "top"]].set_visible(False)
    return figure, axes


def picture(figure: Any, text: str, caption: str = "") -> Picture:
    """A figure as a picture inside the page; `text` describes it to those who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight", facecolor="white")
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/png;base64,{encoded}", text, caption[:1].upper() + caption[1:])


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def listed(items: list[str], most: int = 5) -> str:
    """Items in words: `a, b and 3 more`."""
    if len(items) > most:
        return ", ".join(items[:most]) + f" and {len(items) - most} more"
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else "".join(items)
