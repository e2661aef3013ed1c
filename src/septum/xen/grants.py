"""Memory that one guest grants to another, through the kernel's ``gntalloc`` and ``gntdev``.

Structures and numbers are those of ``include/uapi/xen/gntalloc.h`` and ``gntdev.h`` in Linux. A grant says who may map
a page, and whether for writing; FLASK decides on top of that, when it is mapped. What is mapped stays so until who
mapped it lets go: neither the granter nor a policy takes it back.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

_ALLOC: Final = (24 << 16) | (ord("G") << 8) | 5  # IOCTL_GNTALLOC_ALLOC_GREF
_MAP: Final = (24 << 16) | (ord("G") << 8) | 0  # IOCTL_GNTDEV_MAP_GRANT_REF
_ALLOC_HEAD: Final = struct.Struct("<HHIQ")  # struct ioctl_gntalloc_alloc_gref without its references
_MAP_HEAD: Final = struct.Struct("<IIQ")  # struct ioctl_gntdev_map_grant_ref without its references
_WRITABLE: Final = 1  # GNTALLOC_FLAG_WRITABLE
_SMALLEST: Final = 24  # sizeof either struct, with one reference


class _Pages:
    def __init__(self, fd: int, memory: mmap.mmap) -> None:
        self._fd = fd
        self.memory = memory

    def close(self) -> None:
        """Lets go of the pages."""
        self.memory.close()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Grant(_Pages):
    """Pages of this guest that another one may map, until `close`.

    Attributes:
        memory: the pages.
        references: one for each; the other one needs them to map them.
    """

    references: tuple[int, ...]

    @classmethod
    def offer(cls, domid: int, pages: int = 1, *, writable: bool = False) -> Self:
        """Makes pages and grants them.

        Args:
            domid: to whom.
            pages: how many.
            writable: may the other one write to them.

        Raises:
            OSError: there is no gntalloc, or no room.
        """
        fd = os.open("/dev/xen/gntalloc", os.O_RDWR | os.O_CLOEXEC)
        try:
            head = _ALLOC_HEAD.pack(domid, _WRITABLE if writable else 0, pages, 0)
            request = bytearray(max(_SMALLEST, len(head) + 4 * pages))
            request[: len(head)] = head
            fcntl.ioctl(fd, _ALLOC, request)
            place = _ALLOC_HEAD.unpack_from(request)[3]
            memory = mmap.mmap(fd, pages * mmap.PAGESIZE, offset=place)
        except BaseException:
            os.close(fd)
            raise
        made = cls(fd, memory)
        made.references = struct.unpack_from(f"<{pages}I", request, _ALLOC_HEAD.size)
        return made


class Mapping(_Pages):
    """Pages of another guest that are mapped here, until `close`.

    Attributes:
        memory: the pages.
    """

    @classmethod
    def of(cls, domid: int, references: Sequence[int], *, writable: bool = False) -> Self:
        """Maps pages that another guest granted.

        Args:
            domid: whose they are.
            references: to the pages.
            writable: map them for writing; otherwise the hypervisor is asked for reading only.

        Raises:
            OSError: refused. The kernel says EINVAL for whatever reason; FLASK's is in the hypervisor's log.
        """
        fd = os.open("/dev/xen/gntdev", os.O_RDWR | os.O_CLOEXEC)
        try:
            request = bytearray(_MAP_HEAD.pack(len(references), 0, 0))
            for reference in references:
                request += struct.pack("<II", domid, reference)
            fcntl.ioctl(fd, _MAP, request)
            place = _MAP_HEAD.unpack_from(request)[2]
            access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
            return cls(fd, mmap.mmap(fd, len(references) * mmap.PAGESIZE, prot=access, offset=place))
        except BaseException:
            os.close(fd)
            raise
