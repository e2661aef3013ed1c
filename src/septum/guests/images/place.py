"""Where a member of a chain is, what it is, and whether a header may name it."""

from __future__ import annotations

import os
from errno import ENOENT
from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK

from septum.errors import ImageError
from septum.guests.images.model import Opener, Role
from septum.guests.images.names import is_of_the_process
from septum.guests.resource import Access, Kind, Sharing
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

_TYPES = ((S_ISDIR, "a directory"), (S_ISFIFO, "a FIFO"), (S_ISCHR, "a character device"), (S_ISSOCK, "a socket"))

_CONFINED = "a file that a header names lies beside the images of the command line, or where the user allowed it"

Key = tuple[int, int]
"""Device and inode, which tell hard links and names apart; for a block device its number."""


class Member(NamedTuple):
    """An image on the way.

    Attributes:
        path: as QEMU gets it.
        format: "" if QEMU probes.
        access: of QEMU.
        sharing: of the resource.
        kind: of the resource; `peer-socket` is not read.
        role: None for the top image.
        holder: path of the image that names it.
        ancestors: the images above it.
    """

    path: str
    format: str
    access: Access
    sharing: Sharing
    kind: Kind
    role: Role | None = None
    holder: str = ""
    ancestors: tuple[Key, ...] = ()

    def refuse(self, what: str, *, rule: str = "", remedy: str = "") -> ImageError:
        """The error to raise: this member can't be trusted."""
        role = self.role or "image"
        return ImageError(
            f"{role} {self.path!r}: {what}",
            target=self.path,
            holder=f"overlay {self.holder}" if self.holder else "",
            rule=rule or "every file that QEMU will open must be known before it starts",
            remedy=remedy or f"look at it with `qemu-img info -U --backing-chain '{self.holder or self.path}'`",
        )


class Places:
    """Finds members.

    Args:
        opener: how files are reached.
        allowed: directories and single objects that headers may name.
    """

    def __init__(self, opener: Opener, allowed: Collection[str]) -> None:
        self.opener = opener
        self._allowed = allowed
        self._directories: list[str] | None = None
        self._singles: set[Key] = set()

    def locate(self, member: Member) -> tuple[int, Key]:
        """A descriptor that names the member's file, for the caller to close, and its key.

        Raises:
            ImageError: it is missing, of a type that no image has, or not where a header may point.
        """
        if member.role and is_of_the_process(member.path):
            raise member.refuse("it means another file to QEMU than to septum", rule=_CONFINED)
        try:
            fd = self.opener.locate(member.path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            missing = isinstance(error, OSError) and error.errno == ENOENT
            remedy = f"put it back, or `qemu-img rebase -u` the overlay {member.holder!r}" if missing else ""
            raise member.refuse(f"it can't be opened: {reason}", remedy=remedy if member.holder else "") from error
        try:
            key = self._check(member, fd)
        except OSError as error:
            os.close(fd)
            raise member.refuse(f"where it really is can't be told: {error.strerror}") from error
        except ImageError:
            os.close(fd)
            raise
        return fd, key

    def _check(self, member: Member, fd: int) -> Key:
        state = os.fstat(fd)
        mode = state.st_mode
        usable = S_ISSOCK(mode) if member.kind == "peer-socket" else S_ISREG(mode) or S_ISBLK(mode)
        if not usable:
            found = next((name for test, name in _TYPES if test(mode)), "no socket")
            raise member.refuse(f"it is {found}", rule="images are regular files or block devices")
        key = _key(state)
        if member.role and not self._may_be_named(fd, key, by_directory=not S_ISBLK(mode)):
            raise member.refuse(
                f"it is {self.opener.real(fd)!r}, outside of the allowed directories",
                rule=f"{_CONFINED} (a guest can write headers: CVE-2024-4467, CVE-2024-32498)",
                remedy="if it is meant, allow this path or its directory by name; a block device only by its own name",
            )
        return key

    def _may_be_named(self, fd: int, key: Key, *, by_directory: bool) -> bool:
        if self._directories is None:
            self._directories = self._resolve()
        if key in self._singles:
            return True
        if not by_directory:
            return False
        real = self.opener.real(fd)
        return any(real.startswith(directory) for directory in self._directories)

    def _resolve(self) -> list[str]:
        """Real paths of the allowed directories, each with a slash at its end; sets the single objects aside."""
        directories = []
        for path in self._allowed:
            try:
                fd = self.opener.locate(path)
            except OSError:
                continue  # what isn't there allows nothing
            try:
                state = os.fstat(fd)
                if S_ISDIR(state.st_mode):
                    directories.append(self.opener.real(fd).rstrip("/") + "/")
                else:
                    self._singles.add(_key(state))
            finally:
                os.close(fd)
        return directories


def _key(state: os.stat_result) -> Key:
    return (-1, state.st_rdev) if S_ISBLK(state.st_mode) else (state.st_dev, state.st_ino)
