"""What QEMU would take an image for when nobody declares its format.

septum never *decides* by this: a guest writes the bytes, and so could turn its raw disk into an image that names any
file of the host (CVE-2008-2004, CVE-2010-2237, CVE-2011-2178). It is here to say what QEMU is going to do.
"""

from __future__ import annotations

from struct import unpack_from

from septum.lean import NamedTuple

PROBE_SIZE = 512
"""BLOCK_PROBE_BUF_SIZE: the bytes that QEMU looks at (include/block/block_int-common.h), padded with zeroes."""

_CLOOP = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"


class Probe(NamedTuple):
    """QEMU's guess.

    Attributes:
        format: what it picks; `raw` if nothing else fits.
        rivals: formats that fit as well. Which of them QEMU picks depends on the order its drivers were linked in,
            so that a chain can't be known.
    """

    format: str
    rivals: tuple[str, ...] = ()


def probe(head: bytes, path: str) -> Probe:
    """The format with the highest score of all ``*_probe`` functions (QEMU, block/*.c, `bdrv_probe_all`).

    Args:
        head: the first 512 bytes of the image, fewer if it is smaller.
        path: as QEMU gets it: one format goes by the name alone.
    """
    if not head:
        return Probe("raw")
    head = head[:PROBE_SIZE].ljust(PROBE_SIZE, b"\0")
    certain = [name for name, fits in _MAGIC.items() if fits(head)]
    faint = []
    if head.startswith(_CLOOP):
        faint.append("cloop")
    if path.endswith(".dmg"):
        faint.append("dmg")
    found = certain or faint or ["raw"]
    return Probe(found[0], tuple(found[1:]))


def _bochs(head: bytes) -> bool:
    words = [head[at : at + size].partition(b"\0")[0] for at, size in ((0, 32), (32, 16), (48, 16))]
    return words == [b"Bochs Virtual HD Image", b"Redolog", b"Growing"] and unpack_from("<I", head, 64)[0] in (
        0x10000,
        0x20000,
    )


def _parallels(head: bytes) -> bool:
    return head[:16] in (b"WithoutFreeSpace", b"WithouFreSpacExt") and unpack_from("<I", head, 16)[0] == 2


def _vmdk(head: bytes) -> bool:
    """A sparse magic, or a descriptor: comments and lines of blanks, then a version."""
    if head.startswith((b"COWD", b"KDMV")):
        return True
    rest = head
    while rest[:1] in (b"#", b" "):
        line, newline, rest = rest.partition(b"\n")
        if line.startswith(b" ") and (not newline or line.strip(b" ") not in (b"", b"\r")):
            return False
    line = rest.partition(b"\n")[0]
    return b"\n" in rest and line.removesuffix(b"\r") in (b"version=1", b"version=2", b"version=3")


_MAGIC = {
    "qcow2": lambda head: head.startswith(b"QFI\xfb") and unpack_from(">I", head, 4)[0] >= 2,
    "qcow": lambda head: head.startswith(b"QFI\xfb") and unpack_from(">I", head, 4)[0] == 1,
    "qed": lambda head: head.startswith(b"QED\0"),
    "vmdk": _vmdk,
    "vpc": lambda head: head.startswith(b"conectix"),
    "vhdx": lambda head: head.startswith(b"vhdxfile"),
    "vdi": lambda head: head[64:68] == b"\x7f\x10\xda\xbe",
    "luks": lambda head: head.startswith(b"LUKS\xba\xbe\0\1"),
    "parallels": _parallels,
    "bochs": _bochs,
}
"""Formats that are sure of themselves, score 100."""
