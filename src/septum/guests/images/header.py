"""Bounded reading of one image's header."""

from __future__ import annotations

import os

from septum.errors import ImageError

NAME_MAX = 1023
"""Longest name in a header: QEMU's limit in qcow and qcow2 (block/qcow2.c); its others allow no less."""


class Budget:
    """Bytes that all headers of one chain may still cost."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class Header:
    """One image, open for reading; the only way in which format modules see a file.

    Args:
        fd: to read from; the caller closes it.
        path: as QEMU gets it.
        holder: the overlay that names it, or "".
        budget: shared by the whole chain.

    Attributes:
        size: of the image in bytes, of a block device too.

    Raises:
        ImageError: the size can't be told.
    """

    __slots__ = ("_budget", "_fd", "holder", "path", "size")

    def __init__(self, fd: int, path: str, holder: str, budget: Budget) -> None:
        self._fd = fd
        self._budget = budget
        self.path = path
        self.holder = holder
        try:
            self.size = os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:
            raise self.refuse(f"its size can't be told: {error.strerror}") from error

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer at the end of the image, none beyond it.

        Raises:
            ImageError: the budget is used up, or the kernel refuses.
        """
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        self._budget.left -= length
        if self._budget.left < 0:
            raise self.refuse(
                "the headers of this chain are too large to read",
                rule="septum reads a bounded number of bytes for one chain, since a guest may have written them",
            )
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise self.refuse(f"the header can't be read: {error.strerror}", rule="its chain must be known") from error

    def exactly(self, offset: int, length: int, what: str) -> bytes:
        """Like `read`, but a shorter answer is refused: the header ends within `what`."""
        data = self.read(offset, length)
        if len(data) != length:
            raise self.refuse(f"the image ends within its {what}")
        return data

    def text(self, raw: bytes, what: str) -> str:
        """A name that the header holds, as text; "" if it is empty.

        Raises:
            ImageError: too long, or with bytes that no file name needs. QEMU reads a C string: after a NUL it would
                see another name than whoever looks at the length.
        """
        raw = raw.rstrip(b"\0")
        rule = "names in headers are UTF-8 without NUL and control characters, of at most 1023 bytes"
        if len(raw) > NAME_MAX:
            raise self.refuse(f"the {what} in the header has {len(raw)} bytes", rule=rule)
        try:
            name = raw.decode()
        except UnicodeDecodeError as error:
            raise self.refuse(f"the {what} in the header is not UTF-8: {raw[:80]!r}", rule=rule) from error
        if any(char < " " or "\x7f" <= char <= "\x9f" for char in name):
            raise self.refuse(f"the {what} in the header has control characters: {raw[:80]!r}", rule=rule)
        return name

    def refuse(self, what: str, *, rule: str = "", remedy: str = "") -> ImageError:
        """The error to raise: this image can't be trusted."""
        return ImageError(
            f"{self.path}: {what}",
            target=self.path,
            holder=f"overlay {self.holder}" if self.holder else "",
            rule=rule or "a header that septum does not understand hides the files that QEMU will open",
            remedy=remedy
            or f"look at it with `qemu-img info -U --backing-chain '{self.path}'`, then repair or remove it",
        )
