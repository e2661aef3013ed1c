"""The frames of a channel over a socket: those of the ring (docs/ring.md), and a few that stand for what a ring says in
its first page. Pure.

| type | who sends it | its sequence field |
|---|---|---|
| 1 data | producer | number of the frame |
| 3 read | consumer | bytes that it has read, counted as a ring counts them |
| 4 done | either | 0: it sends or receives no more |
| 5 broken | either | 0: the other end broke the rules |
| 6 tell | producer | 0: it waits for room |
| 7 more | consumer | 0: it waits for the rest of a frame |

Only data has a payload. Since what was read is counted in sizes of frames, a producer never has more than a ring on its
way.
"""

import struct
from typing import Final, NamedTuple

from septum.ivc import _ring

__all__ = [
    "BACK",
    "BROKEN",
    "DATA",
    "DONE",
    "FAR",
    "HEADER",
    "LENGTH",
    "MORE",
    "ODD",
    "PEER_BROKE",
    "READ",
    "SEQUENCE",
    "STATE",
    "TELL",
    "TYPE",
    "Frame",
    "control",
    "limit_of",
    "parse",
    "size_of",
]

HEADER: Final = struct.Struct("<IHHQ")
DATA, READ, DONE, BROKEN, TELL, MORE = 1, 3, 4, 5, 6, 7
_BARE: Final = frozenset({READ, DONE, BROKEN, TELL, MORE})

BACK, FAR, ODD, LENGTH, TYPE, SEQUENCE, STATE, PEER_BROKE = 1, 2, 3, 4, 6, 8, 9, 10
"""Faults, by the numbers of `enum ring_fault` in ring.h."""

assert _ring.FLOOD == PEER_BROKE + 1


class Frame(NamedTuple):
    """A header that was checked as far as it can be alone.

    Attributes:
        kind: its type.
        length: of the payload.
        sequence: see the module's text.
    """

    kind: int
    length: int
    sequence: int


def size_of(length: int) -> int:
    """Bytes that a frame with such a payload takes in a ring."""
    return HEADER.size + (length + 15) // 16 * 16


def limit_of(size: int) -> int:
    """The longest payload on a channel of this size."""
    return size // 4 - HEADER.size


def control(kind: int, sequence: int = 0) -> bytes:
    """A frame without a payload."""
    return HEADER.pack(0, kind, 0, sequence)


def parse(data: bytes | bytearray | memoryview, at: int, limit: int) -> Frame | int:
    """A header.

    Args:
        data: has all of it.
        at: where it begins.
        limit: of a payload's length.

    Returns:
        The frame, or the fault.
    """
    length, kind, flags, sequence = HEADER.unpack_from(data, at)
    if flags or (kind != DATA and kind not in _BARE):
        return TYPE
    if length > limit or (length and kind != DATA):
        return LENGTH
    return Frame(kind, length, sequence)
