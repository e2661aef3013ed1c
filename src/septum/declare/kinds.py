"""Kinds of value: each says what it expects, and reads it or refuses it."""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from septum.declare.model import ANY, End

__all__ = [
    "ADDRESS_PATTERNS",
    "Address",
    "Count",
    "Ends",
    "File",
    "Flag",
    "Folder",
    "Name",
    "Names",
    "Reader",
    "Size",
    "Word",
    "Words",
    "Wrong",
    "is_name",
]

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST_NAME: Final = 24
_SIZE: Final = re.compile(r"([0-9]{1,12}) ?([KMGTP]iB|B)")
_UNITS: Final = {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40, "PiB": 50}
_MOST: Final = 1 << 60
_LONGEST_PATH: Final = 1024
_MOST_ITEMS: Final = 64
_NAME_WORDS: Final = f"a name of {_LONGEST_NAME} small letters, digits and single hyphens at most, a letter first"
ADDRESS_PATTERNS: Final = {
    "pci": (re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]"), 'a PCI address such as "0000:03:00.0"'),
    "usb": (re.compile(r"[0-9]{1,3}-[0-9]{1,3}(?:\.[0-9]{1,3}){0,6}"), 'a USB port such as "1-1.2"'),
    "path": (re.compile(r"/dev(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._:@+-]+)+"), 'a path below "/dev"'),
}


class Wrong(Exception):
    """The value is not what the kind expects.

    Args:
        item: number of the list element that is wrong, None for the value itself.
    """

    def __init__(self, item: int | None = None) -> None:
        super().__init__(item)
        self.item = item


class Reader(Protocol):
    """A kind of value."""

    @property
    def expected(self) -> str:
        """In words, with an article: ``a size such as "512 MiB"``."""

    @property
    def fallback(self) -> Any:
        """What reading goes on with after a value that was refused."""

    def read(self, value: Any) -> Any:
        """The value as septum uses it.

        Raises:
            Wrong: it isn't one of this kind.
        """


def is_name(value: object) -> bool:
    """Whether this may name a realm, role, service, image or device: safe in CIL, in paths and on a terminal."""
    return isinstance(value, str) and len(value) <= _LONGEST_NAME and _NAME.fullmatch(value) is not None


class Size(NamedTuple):
    """Bytes, as text with a unit."""

    expected: str = 'a size such as "512 MiB" (B, KiB, MiB, GiB, TiB, PiB)'
    fallback: int = 0

    def read(self, value: Any) -> int:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        size = int(match.group(1)) << _UNITS[match.group(2)] if match else 0
        if not 0 < size <= _MOST:
            raise Wrong
        return size


class Count(NamedTuple):
    """A whole number."""

    low: int
    high: int
    fallback: int = 0

    @property
    def expected(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def read(self, value: Any) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise Wrong
        return value


class Flag(NamedTuple):
    """Yes or no."""

    expected: str = "true or false"
    fallback: bool = False

    def read(self, value: Any) -> bool:
        if type(value) is not bool:
            raise Wrong
        return value


class Word(NamedTuple):
    """One of a few words."""

    choices: Sequence[str]

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)

    @property
    def fallback(self) -> str:
        return self.choices[0]

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise Wrong
        return value


class Words(NamedTuple):
    """A list of some of a few words, each once."""

    choices: Sequence[str]
    fallback: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        return "a list of different ones of " + ", ".join(f'"{choice}"' for choice in self.choices)

    def read(self, value: Any) -> tuple[str, ...]:
        return _distinct(value, lambda item: item in self.choices)


class Name(NamedTuple):
    """A name of something declared elsewhere."""

    expected: str = _NAME_WORDS
    fallback: str = ""

    def read(self, value: Any) -> str:
        if not is_name(value):
            raise Wrong
        return str(value)


class Names(NamedTuple):
    """A list of different names."""

    expected: str = f"a list of {_MOST_ITEMS} different names at most"
    fallback: tuple[str, ...] = ()

    def read(self, value: Any) -> tuple[str, ...]:
        return _distinct(value, is_name)


class Ends(NamedTuple):
    """A side of a door: ``"realm/name"``.

    Attributes:
        whole: ``"realm"`` alone is taken too, for all that it has.
        anything: and ``"*"``, for all realms.
        own: and ``"name"`` alone, for one of the realm that speaks; its realm is given as "".
    """

    whole: bool = False
    anything: bool = False
    own: bool = False

    @property
    def expected(self) -> str:
        forms = ['"realm/name"']
        forms += ['"realm"'] if self.whole else []
        forms += [f'"{ANY}"'] if self.anything else []
        forms += ['"name" for one of its own'] if self.own else []
        return " or ".join(forms)

    @property
    def fallback(self) -> End:
        return End("", "")

    def read(self, value: Any) -> End:
        if self.anything and value == ANY:
            return End(ANY, "")
        realm, slash, name = value.partition("/") if isinstance(value, str) else ("", "", "")
        if not is_name(realm) or (slash and not is_name(name)):
            raise Wrong
        if slash:
            return End(realm, name)
        if self.own:
            return End("", realm)
        if not self.whole:
            raise Wrong
        return End(realm, "")


class Folder(NamedTuple):
    """An absolute path of a folder, in its one spelling."""

    expected: str = 'the absolute path of a folder such as "/srv/acme", without ".", ".." or "//"'
    fallback: str = ""

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or not value.startswith("/"):
            raise Wrong
        _check_parts(value, value[1:])
        return value


class File(NamedTuple):
    """A path below a folder."""

    expected: str = 'a relative path such as "images/base.qcow2", without ".", ".." or "//"'
    fallback: str = ""

    def read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong
        _check_parts(value, value)
        return value


class Address(NamedTuple):
    """Where a device is, on one bus."""

    bus: str
    fallback: str = ""

    @property
    def expected(self) -> str:
        return ADDRESS_PATTERNS[self.bus][1]

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > _LONGEST_PATH:
            raise Wrong
        if not ADDRESS_PATTERNS[self.bus][0].fullmatch(value):
            raise Wrong
        return value


def _check_parts(path: str, relative: str) -> None:
    if len(path) > _LONGEST_PATH or not path.isprintable():
        raise Wrong
    if any(part in ("", ".", "..") for part in relative.split("/")):
        raise Wrong


def _distinct(value: Any, fits: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_ITEMS:
        raise Wrong
    for number, item in enumerate(value):
        if not isinstance(item, str) or not fits(item) or item in value[:number]:
            raise Wrong(number)
    return tuple(value)
