"""VHDX: names no file that QEMU opens, but may have a parent ([MS-VHDX] 2.2.3 and 2.6; QEMU, block/vhdx.c)."""

from __future__ import annotations

from struct import unpack_from

from septum.guests.images.header import Header
from septum.guests.images.model import Link

_REGION_TABLE = 192 << 10  # QEMU reads the first of the two copies
_ENTRIES_MAX = 2047
_METADATA = bytes.fromhex("06a27c8b 9047 9a4b b8fe 575f050f886e")
_PARENT_LOCATOR = bytes.fromhex("2d5fd3a8 0bb3 4d45 abf7 d3d84834ab0c")


def links(header: Header) -> list[Link]:
    """Nothing: QEMU opens no VHDX that has a parent.

    Raises:
        ImageError: no VHDX, or one with a parent.
    """
    if header.read(0, 8) != b"vhdxfile":
        raise header.refuse("declared as vhdx, but it isn't one", remedy="declare the format that it has")
    for guid, offset, _ in _table(header, _REGION_TABLE, b"regi", 16, 8):
        if guid == _METADATA and any(
            entry[0] == _PARENT_LOCATOR for entry in _table(header, offset, b"metadata", 32, 10)
        ):
            raise header.refuse(
                "a differencing VHDX, which QEMU does not open",
                rule="a parent that can't be followed is refused",
                remedy="merge it with its parent, or convert it where both are known",
            )
    return []


def _table(header: Header, offset: int, magic: bytes, first: int, count_at: int) -> list[tuple[bytes, int, int]]:
    """Entries of a table: GUID, offset, length. Both kinds have entries of 32 bytes."""
    head = header.exactly(offset, first, "VHDX tables")
    (count,) = unpack_from("<I" if count_at == 8 else "<H", head, count_at)
    if not head.startswith(magic) or count > _ENTRIES_MAX:
        raise header.refuse("a damaged VHDX table")
    data = header.exactly(offset + first, count * 32, "VHDX tables")
    return [unpack_from("<16sQI", data, at) for at in range(0, len(data), 32)]
