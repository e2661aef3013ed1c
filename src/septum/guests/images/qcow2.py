"""qcow2: backing file, external data file (QEMU's docs/interop/qcow2.txt, block/qcow2.c)."""

from __future__ import annotations

from struct import unpack_from

from septum.guests.images.header import NAME_MAX, Header
from septum.guests.images.model import Link

_MAGIC = 0x514649FB
_FIRST_READ = 4096  # the fields, the extensions and the backing name of nearly every image

_INCOMPAT_DATA_FILE = 1 << 2
_INCOMPAT_KNOWN = 0x1F  # dirty, corrupt, data file, compression type, extended L2

_EXT_END = 0
_EXT_BACKING_FORMAT = 0xE2792ACA
_EXT_DATA_FILE = 0x44415441
_BACKING_FORMAT_MAX = 15


def links(header: Header) -> list[Link]:
    """What the header names.

    Raises:
        ImageError: no qcow2 that QEMU would open, or one with a feature that septum does not know.
    """
    data = header.read(0, _FIRST_READ)
    if len(data) < 72:
        raise header.refuse("the image ends within its qcow2 header")
    magic, version, backing_offset, backing_size, cluster_bits = unpack_from(">IIQII", data)
    if magic != _MAGIC:
        raise header.refuse("declared as qcow2, but it isn't one", remedy="declare the format that it has")
    if version not in (2, 3):
        raise header.refuse(f"qcow2 version {version} is unknown")
    if not 9 <= cluster_bits <= 21:
        raise header.refuse(f"a cluster size of 2^{cluster_bits} bytes is out of range")
    cluster = 1 << cluster_bits

    incompatible, header_length = 0, 72
    if version == 3:
        if len(data) < 104:
            raise header.refuse("the image ends within its qcow2 header")
        (incompatible,) = unpack_from(">Q", data, 72)
        (header_length,) = unpack_from(">I", data, 100)
        if not 104 <= header_length <= cluster:
            raise header.refuse(f"a header length of {header_length} is out of range")
        if incompatible & ~_INCOMPAT_KNOWN:
            raise header.refuse(f"unknown incompatible features {incompatible & ~_INCOMPAT_KNOWN:#x}")
    if backing_offset > cluster:
        raise header.refuse("the backing file name lies outside of the first cluster")

    backing_format, data_file = _extensions(header, data, header_length, backing_offset or cluster)
    found = []
    if backing_offset:
        if backing_size > min(NAME_MAX, cluster - backing_offset):
            raise header.refuse(f"a backing file name of {backing_size} bytes is too long")
        name = header.text(_slice(header, data, backing_offset, backing_size, "backing file name"), "backing file name")
        if name:
            found.append(Link("backing file", name, backing_format))
    if incompatible & _INCOMPAT_DATA_FILE:
        if not data_file:
            raise header.refuse("it needs an external data file and names none")
        found.append(Link("data file", data_file, "raw"))
    return found


def _extensions(header: Header, data: bytes, start: int, end: int) -> tuple[str, str]:
    """Backing format and data file. As in QEMU the last of several counts, and the area may end without an end mark."""
    backing_format = data_file = ""
    while start < end:
        kind, size = unpack_from(">II", _slice(header, data, start, 8, "header extensions"))
        start += 8
        if kind == _EXT_END:
            break
        if size > end - start:
            raise header.refuse(f"a header extension of {size} bytes reaches beyond the header")
        if kind == _EXT_BACKING_FORMAT:
            if size > _BACKING_FORMAT_MAX:
                raise header.refuse(f"a backing format of {size} bytes is too long")
            backing_format = header.text(_slice(header, data, start, size, "backing format"), "backing format")
        elif kind == _EXT_DATA_FILE:
            if size > NAME_MAX:
                raise header.refuse(f"a data file name of {size} bytes is too long")
            data_file = header.text(_slice(header, data, start, size, "data file name"), "data file name")
        start += (size + 7) & ~7
    return backing_format, data_file


def _slice(header: Header, data: bytes, offset: int, length: int, what: str) -> bytes:
    """From what was read already, else from the image."""
    if offset + length <= len(data):
        return data[offset : offset + length]
    return header.exactly(offset, length, what)
