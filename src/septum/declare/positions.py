"""Where things stand in a TOML text: an index beside tomllib, which gives the values and no positions.

tomllib alone decides what the text means. This scanner walks the same grammar (toml.io/en/v1.0.0) only as far as
finding where keys and values begin and end. It runs first, since it is also what bounds the work: tomllib's takes time
that is quadratic in the parts of a dotted key, and recurses into arrays.
"""

import re
import tomllib
from typing import Final, NamedTuple

__all__ = ["DEEPEST", "MOST_KEYS", "Path", "Puzzled", "Refused", "Span", "scan"]

Path = tuple[str | int, ...]
"""Keys, and numbers of array elements, from the top of the document."""

DEEPEST: Final = 8
"""Parts of a dotted key, and arrays or inline tables in one another, that are read."""
MOST_KEYS: Final = 20_000

# Alternatives exclude one another, so that no match is looked for twice. Possessive quantifiers would say so, and
# CPython's match wrongly before 3.11.5 (gh-106052).
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_BASIC: Final = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_LITERAL: Final = re.compile(r"'[^'\n]*'")
_LONG_BASIC: Final = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""(?:"{0,2})', re.DOTALL)
_LONG_LITERAL: Final = re.compile(r"'''(?:[^']|'(?!''))*'''(?:'{0,2})", re.DOTALL)
_SCALAR: Final = re.compile(r"[^,\]}#\n]*[^,\]}#\n \t]")
_SPACE: Final = re.compile(r"[ \t]*")
_GAP: Final = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_LINE_END: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")


class Span(NamedTuple):
    """Offsets in the text, in characters.

    Attributes:
        key: where the last part of the key begins; of an array's element, where the element does.
        value: where the value begins; of a table with a header, where the header does.
        end: behind the value.
    """

    key: int
    value: int
    end: int


class Puzzled(Exception):
    """This is no TOML: tomllib will say why, given the text up to the end of the line of `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


class Refused(Exception):
    """This may be TOML, and it is more than is read."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(why)
        self.offset = offset
        self.why = why


class _Key(NamedTuple):
    name: str
    start: int
    end: int


def scan(text: str) -> dict[Path, Span]:
    """The place of every key, table and array element.

    Args:
        text: with line feeds only, as tomllib makes it of CR LF.

    Raises:
        Puzzled: it is no TOML.
        Refused: it has too many keys or goes too deep.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.spans


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.spans: dict[Path, Span] = {}
        self.lengths: dict[Path, int] = {}  # of arrays of tables

    def document(self) -> None:
        table: Path = ()
        while True:
            self.at = _end(_GAP.match(self.text, self.at))
            if self.at == len(self.text):
                return
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            end = _LINE_END.match(self.text, self.at)
            if end is None:
                raise Puzzled(self.at)
            self.at = end.end()

    def header(self) -> Path:
        start = self.at
        brackets = 2 if self.text.startswith("[[", start) else 1
        self.at += brackets
        self.space()
        keys = self.keys()
        if not self.text.startswith("]" * brackets, self.at):
            raise Puzzled(self.at)
        self.at += brackets
        path = self.enter((), keys[:-1])
        path = (*path, keys[-1].name)
        span = Span(keys[-1].start, start, self.at)
        if brackets == 1:
            self.note(path, span)
            return path
        self.spans.setdefault(path, span)
        number = self.lengths.get(path, 0)
        self.lengths[path] = number + 1
        path = (*path, number)
        self.note(path, span)
        return path

    def pair(self, table: Path) -> None:
        keys = self.keys()
        if not self.text.startswith("=", self.at):
            raise Puzzled(self.at)
        self.at += 1
        self.space()
        path = (*self.enter(table, keys[:-1]), keys[-1].name)
        self.value(path, keys[-1].start)

    def enter(self, path: Path, keys: list[_Key]) -> Path:
        """Goes down through tables, and in an array of tables to the last one."""
        for key in keys:
            path = (*path, key.name)
            if path not in self.spans:
                self.note(path, Span(key.start, key.start, key.end))
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        return path

    def keys(self) -> list[_Key]:
        found = [self.key()]
        while self.text.startswith(".", self.at):
            if len(found) == DEEPEST:
                raise Refused(self.at, f"a key has more than {DEEPEST} parts")
            self.at += 1
            self.space()
            found.append(self.key())
        return found

    def key(self) -> _Key:
        start = self.at
        for pattern in (_BARE, _BASIC, _LITERAL):
            match = pattern.match(self.text, start)
            if match is not None:
                break
        else:
            raise Puzzled(start)
        name = match.group()
        if pattern is not _BARE:
            try:
                name = tomllib.loads(f"key={name}")["key"]
            except tomllib.TOMLDecodeError:
                raise Puzzled(start) from None
        self.at = match.end()
        self.space()
        return _Key(name, start, match.end())

    def value(self, path: Path, key: int, depth: int = 0) -> None:
        start = self.at
        self.note(path, Span(key, start, start))
        if self.text.startswith("[", start):
            self.array(path, depth + 1)
        elif self.text.startswith("{", start):
            self.inline(path, depth + 1)
        else:
            self.scalar()
        self.spans[path] = Span(key, start, self.at)

    def array(self, path: Path, depth: int) -> None:
        self.check_depth(depth)
        self.at += 1
        number = 0
        while True:
            self.at = _end(_GAP.match(self.text, self.at))
            if self.text.startswith("]", self.at):
                break
            self.value((*path, number), self.at, depth)
            number += 1
            self.at = _end(_GAP.match(self.text, self.at))
            if self.text.startswith(",", self.at):
                self.at += 1
            elif not self.text.startswith("]", self.at):
                raise Puzzled(self.at)
        self.at += 1

    def inline(self, path: Path, depth: int) -> None:
        self.check_depth(depth)
        self.at += 1
        self.space()
        while not self.text.startswith("}", self.at):
            keys = self.keys()
            if not self.text.startswith("=", self.at):
                raise Puzzled(self.at)
            self.at += 1
            self.space()
            self.value((*self.enter(path, keys[:-1]), keys[-1].name), keys[-1].start, depth)
            self.space()
            if self.text.startswith(",", self.at):
                self.at += 1
                self.space()
            elif not self.text.startswith("}", self.at):
                raise Puzzled(self.at)
        self.at += 1

    def scalar(self) -> None:
        for opening, pattern in (
            ('"""', _LONG_BASIC),
            ("'''", _LONG_LITERAL),
            ('"', _BASIC),
            ("'", _LITERAL),
            ("", _SCALAR),
        ):
            if self.text.startswith(opening, self.at):
                match = pattern.match(self.text, self.at)
                if match is None:
                    raise Puzzled(self.at)
                self.at = match.end()
                return

    def note(self, path: Path, span: Span) -> None:
        self.spans[path] = span
        if len(self.spans) > MOST_KEYS:
            raise Refused(span.key, f"there are more than {MOST_KEYS} keys and values")

    def check_depth(self, depth: int) -> None:
        if depth > DEEPEST:
            raise Refused(self.at, f"arrays or tables lie more than {DEEPEST} deep in one another")

    def space(self) -> None:
        self.at = _end(_SPACE.match(self.text, self.at))


def _end(match: re.Match[str] | None) -> int:
    if match is None:
        raise AssertionError("a pattern that matches nothing too")
    return match.end()
