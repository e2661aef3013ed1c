"""Which way information goes when a permission is used: a table, as nothing in a policy says so."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Final, Literal, NamedTuple

from septum.errors import SeptumError

__all__ = ["NOTHING", "Directions", "Way", "directions", "ways"]

Strength = Literal["data", "signal", "metadata"]
_STRENGTHS: Final[dict[str, Strength]] = {"": "data", "data": "data", "signal": "signal", "meta": "metadata"}
_LINE: Final = re.compile(
    r"(?:(?P<classes>[a-z0-9_,]+) +|\+ )(?P<way>[rwbn])(?:/(?P<strength>[a-z]+))?: (?P<names>[a-z0-9_ ]+)"
)


class Way(NamedTuple):
    """What one permission lets pass.

    Attributes:
        out: from the subject to the object.
        back: from the object to the subject.
        strength: how much: ``data``, that something happened (``signal``), names and sizes (``metadata``).
    """

    out: bool
    back: bool
    strength: Strength = "data"


NOTHING: Final = Way(False, False)


class Directions(NamedTuple):
    """What all permissions of an access vector let pass together.

    Attributes:
        out, back: permissions that let information pass to the object, and from it.
        unknown: permissions that the table does not have.
    """

    out: tuple[str, ...]
    back: tuple[str, ...]
    unknown: tuple[str, ...]


@cache
def ways() -> Mapping[tuple[str, str], Way]:
    """(class, permission) → what it lets pass; what is not in it is not known.

    Raises:
        SeptumError: the table is malformed.
    """
    table: dict[tuple[str, str], Way] = {}
    classes: list[str] = []
    text = (files(__package__) / "directions.txt").read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None or found["strength"] not in (None, *_STRENGTHS):
            raise SeptumError(f"directions.txt:{number} is malformed: {line[:80]!r}")
        if found["classes"]:
            classes = found["classes"].split(",")
        way = Way(found["way"] in "wb", found["way"] in "rb", _STRENGTHS[found["strength"] or ""])
        for name in found["names"].split():
            for one in classes:
                if table.setdefault((one, name), way) != way:
                    raise SeptumError(f"directions.txt:{number} says something else of {one} {name} than before")
    return table


def directions(tclass: str, permissions: Sequence[str], strengths: frozenset[str] = frozenset({"data"})) -> Directions:
    """Sorts permissions of a class by where information goes.

    Args:
        tclass: the class.
        permissions: of it.
        strengths: what counts; weaker ways count as none.
    """
    table = ways()
    out, back, unknown = [], [], []
    for name in permissions:
        way = table.get((tclass, name))
        if way is None:
            unknown.append(name)
        elif way.strength in strengths:
            if way.out:
                out.append(name)
            if way.back:
                back.append(name)
    return Directions(tuple(out), tuple(back), tuple(unknown))
