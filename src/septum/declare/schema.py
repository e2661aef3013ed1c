"""Every table and key of a declaration: what the reader reads by, and what docs/declaration.md is held to."""

from typing import Any, Final, NamedTuple

from septum.declare.kinds import Address, Count, Ends, File, Flag, Folder, Name, Names, Reader, Size, Word, Words
from septum.declare.model import DIRECTIONS, NETWORKS

__all__ = ["MOST_REALMS", "MOST_SERVICES", "REQUIRED", "TABLES", "Key", "Shape", "Table"]

REQUIRED: Final = object()
"""Stands for the default of a key that has none."""
MOST_REALMS: Final = 4096
MOST_SERVICES: Final = 64
"""Of one realm. Each costs the policy's compiler, and no quota bounds them, as guests bound roles and channels uses."""
_MANY: Final = 1 << 20


class Key(NamedTuple):
    """A key of a table.

    Attributes:
        name: as it is written.
        kind: of its value.
        about: what it says, for the reference.
        default: its value where it is left out, or `REQUIRED`.
        shown: the default as the reference shows it.
    """

    name: str
    kind: Reader
    about: str
    default: Any = REQUIRED
    shown: str = ""


class Table(NamedTuple):
    """A table.

    Attributes:
        about: what it declares, for the reference.
        keys: in the reference's order.
        tables: names of tables in it: those of `Shape.parts`, or plain ones.
    """

    about: str
    keys: tuple[Key, ...] = ()
    tables: tuple[str, ...] = ()


class Shape(NamedTuple):
    """How tables of one name are written.

    Attributes:
        table: what each is.
        named: ``[role.NAME]``, one for each name; else ``[[offer]]``, if `listed`; else one plain table.
        listed: see `named`.
        most: of them in one file.
    """

    table: Table
    named: bool = False
    listed: bool = False
    most: int = 1


_DIRECTION: Final = Key("direction", Word(DIRECTIONS), "which way data goes", "both", '"both"')
_LIMITS: Final = (
    Key("message", Size(), "largest message, or write to a stream", 1 << 16, '"64 KiB"'),
    Key("rate", Count(1, 10_000_000), "messages or writes a second", 1000, "1000"),
    Key("bandwidth", Size(), "bytes a second", 1 << 24, '"16 MiB"'),
    Key("channels", Count(1, 65_536), "open at a time, from all guests of the role together", 1, "1"),
)
_PART: Final = ("role", "service", "image", "offer", "use")

TABLES: Final[dict[str, Shape]] = {
    "the platform's file": Shape(
        Table("what the platform's administrator writes", (), ("platform", "realm", "device"))
    ),
    "a realm's file": Shape(Table("what a realm writes: its own part, without its name", (), _PART)),
    "platform": Shape(
        Table(
            "what belongs to no realm: driver domains and their services",
            (Key("images", Folder(), "folder of images that platform guests share", "", "none"),),
            (*_PART, "deny"),
        )
    ),
    "realm": Shape(
        Table(
            "an owner; its part stands here, or in a file of its own",
            (
                Key("file", File(), "the realm's own file, relative to this one's folder", "", "none"),
                Key("images", Folder(), "folder of the realm's shared images", "", "none"),
            ),
            ("quota", *_PART),
        ),
        named=True,
        most=MOST_REALMS,
    ),
    "quota": Shape(
        Table(
            "the most that a realm may have",
            (
                Key("guests", Count(0, _MANY), "running at a time"),
                Key("memory", Size(), "of all its guests together"),
                Key("disk", Size(), "of all its guests and images together"),
                Key("channels", Count(0, _MANY), "that its guests open at a time", 0, "0"),
                Key("calls", Count(1, _MANY), "of the API, a second", 50, "50"),
                Key("events", Count(1, _MANY), "that wait to be fetched", 1000, "1000"),
            ),
        )
    ),
    "device": Shape(
        Table(
            "a device of the host and who owns it; one of pci, usb and path says which",
            (
                Key("pci", Address("pci"), "address on the PCI bus", "", "none"),
                Key("usb", Address("usb"), "port", "", "none"),
                Key("path", Address("path"), "node", "", "none"),
                Key(
                    "owner", Ends(whole=True), "realm or role whose guest may have it; the platform's: `platform/NAME`"
                ),
            ),
        ),
        named=True,
        most=4096,
    ),
    "deny": Shape(
        Table(
            "doors that stay closed whatever realms agree upon",
            (
                Key("role", Ends(whole=True, anything=True), "the using side"),
                Key("service", Ends(whole=True, anything=True), "the serving side"),
            ),
        ),
        listed=True,
        most=4096,
    ),
    "role": Shape(
        Table(
            "guests of one kind",
            (
                Key("guests", Count(1, 65_536), "of this role at a time", 1, "1"),
                Key("memory", Size(), "of each"),
                Key("disk", Size(), "of each", 0, "none"),
                Key("vcpus", Count(1, 1024), "of each", 1, "1"),
                Key("images", Names(), "shared images of the realm that they read", (), "[]"),
                Key("devices", Names(), "devices that its one guest has", (), "[]"),
                Key("networks", Words(NETWORKS), "kinds of network that they may have", (), "[]"),
                Key("orchestrator", Flag(), "its one guest acts for the realm", False, "false"),
            ),
        ),
        named=True,
        most=1024,
    ),
    "service": Shape(
        Table(
            "what guests of a role offer to others",
            (
                Key("role", Name(), "whose guests offer it"),
                Key("kind", Word(("message", "stream")), "whole messages, or a stream of bytes"),
            ),
        ),
        named=True,
        most=MOST_SERVICES,
    ),
    "image": Shape(
        Table(
            "content that guests of the realm share and only read",
            (
                Key("file", File(), "relative to the realm's folder of images"),
                Key("size", Size(), "at most"),
            ),
        ),
        named=True,
        most=1024,
    ),
    "offer": Shape(
        Table(
            "the serving half of a door to another realm",
            (
                Key("service", Name(), "which of its own services"),
                Key("to", Ends(whole=True), "realm or role that may use it"),
                _DIRECTION,
                *_LIMITS,
            ),
        ),
        listed=True,
        most=4096,
    ),
    "use": Shape(
        Table(
            "the using half of a door; within a realm the whole",
            (
                Key("role", Name(), "which of its own roles"),
                Key("service", Ends(own=True), "what it uses"),
                _DIRECTION,
                *_LIMITS,
            ),
        ),
        listed=True,
        most=4096,
    ),
}
