"""VHD, which QEMU calls vpc: names no file that QEMU opens, but may have a parent (Microsoft's VHD format, 1.0)."""

from __future__ import annotations

from struct import unpack_from

from septum.guests.images.header import Header
from septum.guests.images.model import Link

_DIFFERENCING = 4


def links(header: Header) -> list[Link]:
    """Nothing: QEMU has no code for parents, and would show zeroes where the parent has data.

    Raises:
        ImageError: no VHD, or one with a parent.
    """
    footer = header.read(0, 512)
    if not footer.startswith(b"conectix"):
        footer = header.read(max(header.size - 512, 0), 512)
    if not footer.startswith(b"conectix") or len(footer) < 64:
        raise header.refuse("declared as vpc, but it isn't one", remedy="declare the format that it has")
    if unpack_from(">I", footer, 60)[0] == _DIFFERENCING:
        raise header.refuse(
            "a differencing VHD, whose parent QEMU does not read",
            rule="a parent that can't be followed is refused",
            remedy="merge it with its parent, or convert it where both are known",
        )
    return []
