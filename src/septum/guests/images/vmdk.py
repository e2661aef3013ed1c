"""VMDK: extents, and the parent of a delta link (QEMU, block/vmdk.c)."""

from __future__ import annotations

from struct import unpack_from

from septum.guests.images.header import Header
from septum.guests.images.model import Link

_SPARSE = (b"COWD", b"KDMV")
_DESCRIPTOR_MAX = (1 << 20) - 1  # vmdk_read_desc
_PARENT_AREA = 20 * 512  # DESC_SIZE: the parent is looked for in this much only
_EMBEDDED = 0x200  # where a sparse image keeps its descriptor

_CREATE_TYPES = frozenset(
    (b"monolithicFlat", b"vmfs", b"vmfsSparse", b"seSparse", b"twoGbMaxExtentSparse", b"twoGbMaxExtentFlat")
)
_EXTENT_FORMATS = {b"FLAT": "raw", b"VMFS": "raw", b"SPARSE": "vmdk-extent", b"VMFSSPARSE": "vmdk-extent"}
_EXTENT_FORMATS[b"SESPARSE"] = "raw"  # a header of its own, that names nothing

# QEMU reads extent lines with sscanf: white space spans lines, digits may touch the next word, and after an unclosed
# quote the name still counts. Possessive, so that no byte is looked at twice.
_EXTENT = rb'[ \t\v\f\r]*+RW\s++([+-]?+\d++)\s*+(\S{1,10}+)\s*+"([^\n\r"]{1,511}+)'
_LINE = rb"(?m)^[ \t\v\f\r]*+RW\s"


def links(header: Header) -> list[Link]:
    """What the image names: extents, then its parent.

    Raises:
        ImageError: no VMDK that QEMU would open.
    """
    head = header.exactly(0, 4, "VMDK header")
    if head in _SPARSE:
        found = []
        descriptor = _descriptor_offset(header, head)
        if descriptor:
            found = _extents(header, _c_string(header.read(descriptor, _DESCRIPTOR_MAX)))
        return found + _parent(header, _c_string(header.read(_EMBEDDED, _PARENT_AREA)))
    text = _c_string(header.read(0, _DESCRIPTOR_MAX))
    return _extents(header, text) + _parent(header, text[:_PARENT_AREA])


def extent_links(header: Header) -> list[Link]:
    """What a sparse extent names: nothing. QEMU would follow a descriptor within an extent; no writer makes one.

    Raises:
        ImageError: no sparse extent, or one with a descriptor that QEMU would obey.
    """
    head = header.exactly(0, 4, "VMDK extent header")
    if head not in _SPARSE:
        raise header.refuse("named as a sparse VMDK extent, but it isn't one")
    if _descriptor_offset(header, head):
        raise header.refuse("a VMDK extent that names extents of its own")
    return []


def _descriptor_offset(header: Header, magic: bytes) -> int:
    """Where a sparse image has the descriptor that QEMU takes extents from; 0 if the image is its own only extent."""
    if magic != b"KDMV":
        return 0
    capacity, _, sector = unpack_from("<QQQ", header.exactly(12, 24, "VMDK header"))
    if capacity:
        return 0
    return int(sector << 9) & 0xFFFF_FFFF_FFFF_FFFF


def _extents(header: Header, text: bytes) -> list[Link]:
    kind, quote, _ = text.partition(b"createType")[2][2:].partition(b'"')
    if not quote or kind not in _CREATE_TYPES:
        raise header.refuse(
            "the VMDK descriptor has no known createType",
            rule="QEMU opens monolithicFlat, vmfs, vmfsSparse, seSparse, twoGbMaxExtentSparse and twoGbMaxExtentFlat",
        )
    import re

    found = {}
    matcher = re.compile(_EXTENT)
    for line in re.finditer(_LINE, text):
        extent = matcher.match(text, line.start())
        if extent is None:
            continue
        sectors, form, raw = extent.groups()
        if sectors.startswith(b"-") or not sectors.strip(b"+0") or form not in _EXTENT_FORMATS:
            continue
        name = header.text(raw, "extent name")
        found[name] = Link("extent", name, _EXTENT_FORMATS[form])
    return list(found.values())


def _parent(header: Header, text: bytes) -> list[Link]:
    _, hint, rest = text.partition(b"parentFileNameHint")
    if not hint:
        return []
    raw, quote, _ = rest[2:].partition(b'"')
    if not quote:
        raise header.refuse("the name of the VMDK's parent does not end")
    name = header.text(raw, "parent name")
    return [Link("backing file", name, "vmdk")] if name else []


def _c_string(data: bytes) -> bytes:
    return data.partition(b"\0")[0]
