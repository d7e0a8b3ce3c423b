"""Reactions as text: "S + I -> 2 I"."""

import re
from collections.abc import Mapping
from typing import NamedTuple

_TERM = re.compile(r"(?:(?P<multiple>[0-9]+)\s*\*?\s*)?(?P<species>[^\W0-9]\w*)")
_NOTHING = ("", "0", "∅")


class Reaction(NamedTuple):
    """What a reaction takes and gives: multiples by species."""

    reactants: dict[str, int]
    products: dict[str, int]

    @property
    def species(self) -> list[str]:
        """All species named, in the order of the text."""
        return list(dict.fromkeys([*self.reactants, *self.products]))

    def __str__(self) -> str:
        return f"{_side_in_words(self.reactants)} -> {_side_in_words(self.products)}"


def parse_reaction(text: str) -> Reaction:
    """Read a reaction such as "S + I -> 2 I"; "0", "∅" or an empty side stand for nothing.

    A species is named by letters, digits and underscores, not starting with a digit; a positive integer
    before it is its multiple ("2 I", "2I" and "2*I" are the same, and so is "I + I").

    Raises:
        TypeError: `text` is not a string.
        ValueError: text that is not a reaction; the message quotes it and the part that cannot be read.
    """
    if not isinstance(text, str):
        raise TypeError(f"reactions: a reaction must be a string such as 'S + I -> 2 I', got {text!r}")
    sides = text.split("->")
    if len(sides) != 2 or sides[0].rstrip().endswith("<"):
        found = "none" if len(sides) < 2 else "'<->'" if len(sides) == 2 else str(len(sides) - 1)
        raise ValueError(f"reactions: {text!r} must have one arrow '->', got {found}")
    reaction = Reaction(_read_side(text, sides[0]), _read_side(text, sides[1]))
    if not reaction.species:
        raise ValueError(f"reactions: {text!r} names no species")
    return reaction


def _read_side(text: str, side: str) -> dict[str, int]:
    multiples: dict[str, int] = {}
    if side.strip() in _NOTHING:
        return multiples
    for term in side.split("+"):
        match = _TERM.fullmatch(term.strip())
        if match is None:
            raise ValueError(
                f"reactions: {text!r} has the term {term.strip()!r}; expected a species, or an integer and a "
                "species, such as '2 I'"
            )
        multiple = int(match["multiple"] or 1)
        if multiple == 0:
            raise ValueError(f"reactions: {text!r} has the multiple 0; expected a positive integer")
        multiples[match["species"]] = multiples.get(match["species"], 0) + multiple
    return multiples


def _side_in_words(multiples: Mapping[str, int]) -> str:
    terms = [name if multiple == 1 else f"{multiple} {name}" for name, multiple in multiples.items()]
    return " + ".join(terms) or "0"
