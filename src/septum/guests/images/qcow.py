"""qcow, version 1: backing file, always of an unknown format (QEMU, block/qcow.c)."""

from __future__ import annotations

from struct import unpack_from

from septum.guests.images.header import NAME_MAX, Header
from septum.guests.images.model import Link


def links(header: Header) -> list[Link]:
    """What the header names.

    Raises:
        ImageError: no qcow that QEMU would open.
    """
    data = header.exactly(0, 48, "qcow header")
    magic, version, offset, size = unpack_from(">4sIQI", data)
    if magic != b"QFI\xfb" or version != 1:
        raise header.refuse("declared as qcow, but it isn't one", remedy="declare the format that it has")
    if not offset:
        return []
    if size > NAME_MAX:
        raise header.refuse(f"a backing file name of {size} bytes is too long")
    name = header.text(header.exactly(offset, size, "backing file name"), "backing file name")
    return [Link("backing file", name, "")] if name else []
