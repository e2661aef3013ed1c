"""What whoever sets a channel over memory up keeps of it, to be able to cut it.

Made before the grants leave: once an end has joined, its segment can't be mapped for writing any more, not even by who
made it, and neither written nor punched through a descriptor (mm/shmem.c: F_SEAL_FUTURE_WRITE refuses both). A mapping
that is older than the seal stays.
"""

import os
import socket
from contextlib import suppress
from typing import Final

from septum.ivc import _ring
from septum.ivc.carriers.memfd import MemfdGrant
from septum.ivc.terms import PAGE, length

_STATE: Final = slice(264, 268)  # docs/ring.md
_CUT: Final = (3).to_bytes(4, "little")
_ZEROS: Final = bytes(1 << 16)


class Kept:
    """The power to end a channel, for good and for both ends.

    Args:
        grants: of its two ends, none of which was used or sent yet.

    Raises:
        OSError: the kernel refused a mapping or a descriptor.
    """

    __slots__ = ("_line", "_segments")

    def __init__(self, grants: tuple[MemfdGrant, MemfdGrant]) -> None:
        self._segments = [_ring.Mapping(one.own, length(one.terms, one.role), True) for one in grants]
        self._line = socket.socket(fileno=os.dup(grants[0].line))

    def cut(self) -> None:
        """Both ends find out with their next look at the ring or the bell, and what was in the ring is zeros.

        An end that keeps to the protocol unmaps. Two that don't, and have the memory mapped, can go on to use it with
        each other until one of them ends: no seal, no punched hole and no label takes a mapping away.
        """
        views = [memoryview(segment) for segment in self._segments]
        for view in views:
            view[_STATE] = _CUT
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        for view in views:
            for start in range(PAGE, len(view), len(_ZEROS)):
                part = view[start : start + len(_ZEROS)]
                part[:] = _ZEROS[: len(part)]
        self.close()

    def close(self) -> None:
        """Lets go of a channel that its ends have closed, or go on with alone."""
        self._segments = []
        self._line.close()
