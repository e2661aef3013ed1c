"""What both ends of a channel agreed on before they see its memory, and how that is written into it."""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from septum.errors import ChannelDenied

PAGE: Final = 4096
"""Bytes of each segment that come before the producer's data."""

SIZE_MIN: Final = 1 << 12
SIZE_MAX: Final = 1 << 30

_HEADER: Final = struct.Struct("<8sIHHQQ")  # docs/ring.md
_VERSION: Final = 1


class Kind(IntEnum):
    """What a channel carries."""

    MESSAGES = 1
    BYTES = 2


class Role(IntEnum):
    """Who writes a segment."""

    PRODUCER = 1
    CONSUMER = 2


class Terms(NamedTuple):
    """One channel in one direction, as whoever sets it up has decided it.

    Attributes:
        name: for messages to people.
        generation: that no other use of the same memory or name has.
        kind: messages keep their bounds, bytes don't.
        size: bytes of the ring, a power of two; a message may be a quarter of it less 16 bytes.
    """

    name: str
    generation: int
    kind: Kind = Kind.MESSAGES
    size: int = 1 << 18


def check(terms: Terms) -> Terms:
    """The same terms, if a channel can have them.

    Raises:
        ChannelDenied: it can't.
    """
    if not SIZE_MIN <= terms.size <= SIZE_MAX or terms.size & (terms.size - 1):
        raise ChannelDenied(
            f"a ring of {terms.size} bytes can't be",
            target=terms.name,
            rule=f"a ring's size is a power of two from {SIZE_MIN} to {SIZE_MAX}",
        )
    if not 0 <= terms.generation < 1 << 64:
        raise ChannelDenied(f"{terms.generation} is no generation", target=terms.name, rule="it has 64 bits")
    return terms


def length(terms: Terms, role: Role) -> int:
    """Bytes of the segment that this end writes."""
    return PAGE + (terms.size if role is Role.PRODUCER else 0)


def span(size: int) -> int:
    """The power of two that holds so many bytes: what a PCI BAR, and so the file behind it, has to be."""
    return 1 << (size - 1).bit_length()


def header(terms: Terms, role: Role) -> bytes:
    """The first bytes of the segment that this end writes; the rest of a fresh one is zeros."""
    return _HEADER.pack(b"SEPTRING", _VERSION, role, terms.kind, terms.generation, terms.size)
