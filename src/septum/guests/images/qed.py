"""QED: backing file (QEMU's docs/interop/qed_spec.txt, block/qed.c)."""

from __future__ import annotations

from struct import unpack_from

from septum.guests.images.header import NAME_MAX, Header
from septum.guests.images.model import Link

_BACKING_FILE = 1
_NEED_CHECK = 2
_BACKING_FORMAT_NO_PROBE = 4


def links(header: Header) -> list[Link]:
    """What the header names.

    Raises:
        ImageError: no QED that QEMU would open, or one with a feature that septum does not know.
    """
    data = header.exactly(0, 64, "QED header")
    magic, cluster_size, _, header_size, features = unpack_from("<4sIIIQ", data)
    if magic != b"QED\0":
        raise header.refuse("declared as qed, but it isn't one", remedy="declare the format that it has")
    if features & ~(_BACKING_FILE | _NEED_CHECK | _BACKING_FORMAT_NO_PROBE):
        raise header.refuse(f"unknown features {features:#x}")
    if not features & _BACKING_FILE:
        return []
    offset, size = unpack_from("<II", data, 56)
    if offset + size > cluster_size * header_size:
        raise header.refuse("the backing file name lies outside of the header")
    if size > NAME_MAX:
        raise header.refuse(f"a backing file name of {size} bytes is too long")
    name = header.text(header.exactly(offset, size, "backing file name"), "backing file name")
    declared = "raw" if features & _BACKING_FORMAT_NO_PROBE else ""
    return [Link("backing file", name, declared)] if name else []
