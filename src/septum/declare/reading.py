"""From a document to values, by the schema. What is wrong is noted and reading goes on, so that all of it is told."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from septum.declare.document import Document
from septum.declare.kinds import Wrong, is_name
from septum.declare.model import Where
from septum.declare.positions import Path
from septum.declare.schema import REQUIRED, TABLES, Key, Shape
from septum.errors import Fault

__all__ = ["Entry", "Reading", "found"]

_LONGEST_QUOTE: Final = 60
_LARGEST_QUOTE: Final = 10**20
_MOST_FAULTS: Final = 100
_MOST_COMPARED: Final = 256  # difflib takes some 20 µs for each
_MOST_LISTED: Final = 12


class Entry(NamedTuple):
    """One table that was read.

    Attributes:
        name: "" where it has none.
        path: to it.
        values: of all its keys, defaults included.
        where: it stands.
    """

    name: str
    path: Path
    values: Mapping[str, Any]
    where: Where


class Reading:
    """One document as it is being read.

    Attributes:
        document: that is read.
        faults: that were found so far.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults: list[Fault] = []

    def fault(self, where: Where, what: str, remedy: str = "") -> None:
        """Notes what is wrong. Of a file that is wrong throughout, the beginning is enough."""
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(Fault(*where, what, remedy))

    def unknown(self, where: Where, what: str, name: str, known: Sequence[str]) -> None:
        """Notes a name that is none of those known, with the nearest of them."""
        if len(self.faults) < _MOST_FAULTS:
            self.fault(where, what, _nearest(name, known))

    def at(self, path: Path) -> Any:
        """The value at a path, None if there is none or something on the way is no table."""
        value: Any = self.document.values
        for key in path:
            if isinstance(value, dict) and key in value:
                value = value[key]
            else:
                return None
        return value

    def top(self, name: str) -> None:
        """Checks the names at the top of a document that is `name` in `TABLES`."""
        self._keys((), self.document.values, TABLES[name], name)

    def entries(self, above: Path, name: str) -> list[Entry]:
        """All tables of one kind in the table at `above`."""
        shape = TABLES[name]
        path = (*above, name)
        value = self.at(path)
        if value is None:
            return []
        return [entry for entry in self._each(path, value, shape, name) if entry is not None]

    def _each(self, path: Path, value: Any, shape: Shape, name: str) -> Iterator[Entry | None]:
        if shape.listed:
            if not isinstance(value, list):
                what = f"expected a list of tables [[{name}]], found {found(value)}"
                self.fault(self.document.where(path), what)
                return
            places: list[tuple[str, Path, Any]] = [("", (*path, number), one) for number, one in enumerate(value)]
        elif not isinstance(value, dict):
            form = f"{name}.NAME" if shape.named else name
            self.fault(self.document.where(path), f"expected a table [{form}], found {found(value)}")
            return
        elif shape.named:
            places = [(key, (*path, key), one) for key, one in value.items()]
        else:
            places = [("", path, value)]
        for number, (key, place, one) in enumerate(places):
            if number == shape.most:
                self.fault(
                    self.document.where(place), f"there are more than {shape.most} of {name}, the most that are read"
                )
                return
            yield self._entry(key, place, one, shape, name)

    def _entry(self, key: str, path: Path, value: Any, shape: Shape, name: str) -> Entry | None:
        where = self.document.where(path)
        if shape.named and not is_name(key):
            kind = "a name of 24 small letters, digits and single hyphens at most, a letter first"
            self.fault(where, f"{name} has the name {found(key)}: expected {kind}")
            return None
        title = f"{name} {key}" if key else name
        if not isinstance(value, dict):
            self.fault(where, f"{title}: expected a table, found {found(value)}")
            return None
        return Entry(key, path, self._keys(path, value, shape, title), where)

    def _keys(self, path: Path, table: Mapping[str, Any], shape: Shape, title: str) -> dict[str, Any]:
        keys = {key.name: key for key in shape.table.keys}
        known = [*keys, *shape.table.tables]
        for name in table:
            if name not in known:
                self.unknown(self.document.where((*path, name)), f"{title} has no {found(name)}", name, known)
        return {name: self._value(path, table, key, title) for name, key in keys.items()}

    def _value(self, path: Path, table: Mapping[str, Any], key: Key, title: str) -> Any:
        if key.name not in table:
            if key.default is REQUIRED:
                self.fault(self.document.where(path), f"{title} lacks {key.name}: expected {key.kind.expected}")
                return key.kind.fallback
            return key.default
        value = table[key.name]
        try:
            return key.kind.read(value)
        except Wrong as wrong:
            place: Path = (*path, key.name)
            if wrong.item is not None:
                place, value = (*place, wrong.item), value[wrong.item]
            where = self.document.where(place, value=True)
            self.fault(where, f"{title}: {key.name}: expected {key.kind.expected}, found {found(value)}")
            return key.kind.fallback


def _nearest(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name[:_LONGEST_QUOTE], known[:_MOST_COMPARED], n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there is {', '.join(known)}" if 0 < len(known) <= _MOST_LISTED else ""


def found(value: Any) -> str:
    """A value as messages quote it: in one line, as in TOML, and not all of a long one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and abs(value) > _LARGEST_QUOTE:
        return "a number with too many digits"  # Python refuses to print some of these
    if not isinstance(value, str):
        return str(value)[:_LONGEST_QUOTE]
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in value[:_LONGEST_QUOTE])
    return f'"{shown}{"…" if len(value) > _LONGEST_QUOTE else ""}"'
