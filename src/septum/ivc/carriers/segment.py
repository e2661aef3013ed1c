"""The memory of one writer, on its way into two guests: who may map it, and when no longer."""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress
from enum import Enum
from typing import Final, Self

from septum.errors import ChannelDenied, HostError
from septum.ivc.carriers.memfd import memory
from septum.ivc.terms import Role, Terms, check, length, span

_F_SEAL_FUTURE_WRITE: Final = 0x0010  # include/uapi/linux/fcntl.h
_F_SEAL_EXEC: Final = 0x0020  # the same, from Linux 6.3 on: MFD_NOEXEC_SEAL sets it
_ALL: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL | _F_SEAL_FUTURE_WRITE


class Access(Enum):
    """What a guest may do with a segment."""

    OWN = "own"
    """Write it: one guest, once, before `Segment.seal`."""
    PEER = "peer"
    """Read it: after `Segment.seal`."""


class Segment:
    """A memfd that can't change its size, and that nobody can map for writing any more once it is sealed.

    F_SEAL_FUTURE_WRITE also keeps everybody from punching holes (mm/shmem.c, shmem_fallocate), so the memory can't be
    taken back under those who have it mapped: it is there, and charged, until the last of them is gone.

    Args:
        terms: of the channel.
        role: who writes it.
        context: its SELinux label, which is there before any guest can have a descriptor; "": the kernel's choice.

    Raises:
        ChannelDenied: terms that can't be.
        HostError: the kernel refused a step.
    """

    def __init__(self, terms: Terms, role: Role, context: str = "") -> None:
        self.terms = check(terms)
        self.role = role
        self.size = span(length(terms, role))
        self.sealed = False
        opened: list[int] = []
        try:
            self._fd = memory(terms, role, self.size, opened)
            if context:
                os.setxattr(self._fd, "security.selinux", context.encode() + b"\0")
            self._whole = mmap.mmap(self._fd, length(terms, role))
        except OSError as error:
            for fd in opened:
                os.close(fd)
            raise self._refused("can't be made", error) from error
        found = os.fstat(self._fd)
        self.inode = (found.st_dev, found.st_ino)

    def fileno(self) -> int:
        """The descriptor for reading and writing; of no use for that once it is sealed."""
        return self._fd

    def readable(self) -> int:
        """A new descriptor that was opened read-only, for `Access.PEER`; the caller's to close.

        Raises:
            ChannelDenied: somebody could still map it for writing.
        """
        if not self.sealed:
            raise self._denied("its reader gets it after its writer has mapped it, and it was sealed")
        try:
            return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused("can't be opened", error) from error

    def lend(self, uid: int) -> None:
        """Lets the process of a writer open it anew through /proc, as QEMU does with what it gets by ``add-fd``.

        Args:
            uid: of its QEMU; -1: this process's own.

        Raises:
            ChannelDenied: it was sealed: a segment has one writer, once.
        """
        if self.sealed:
            raise self._denied("a segment has one writer, once; a new channel has new ones")
        try:
            os.fchmod(self._fd, 0o600)
            if uid >= 0:
                os.fchown(self._fd, uid, -1)
        except OSError as error:
            raise self._refused("can't be given to the guest's uid", error) from error

    def seal(self) -> None:
        """From now on nobody can map it for writing, or write to it by a descriptor. A second call does nothing.

        Raises:
            ChannelDenied: its writer has sealed it otherwise, to prevent that. The channel must not be used.
        """
        if self.sealed:
            return
        self.sealed = True
        with suppress(PermissionError):  # its writer has sealed it: with the same seals, or not
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL)
        if fcntl.fcntl(self._fd, fcntl.F_GET_SEALS) & ~_F_SEAL_EXEC != _ALL:
            raise self._denied("its writer has put seals on it of its own")
        try:
            os.fchown(self._fd, os.geteuid(), -1)
            os.fchmod(self._fd, 0o444)
        except OSError as error:
            raise self._refused("can't be taken from the guest's uid", error) from error

    def scrub(self) -> None:
        """Overwrites all that was ever in it with zeros. Its writer, if it still has it, can write again."""
        self._whole[:] = bytes(len(self._whole))

    def holders(self, pids: list[int]) -> list[int]:
        """Those of some processes that have it mapped or open, by the kernel's word and not by QEMU's.

        A process that is gone, or that this one may not look at, is none.
        """
        return [pid for pid in pids if pid in _mapping(pids, self.inode) or _holds(pid, self.inode)]

    def close(self) -> None:
        """Lets go of it. Whoever has it mapped keeps it."""
        if self._fd >= 0:
            self._whole.close()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _denied(self, rule: str) -> ChannelDenied:
        return ChannelDenied(
            f"the {self.role.name.lower()}'s memory can't be used",
            target=self.terms.name,
            rule=rule,
            remedy="have the channel set up anew",
        )

    def _refused(self, what: str, error: OSError) -> HostError:
        number = error.errno or 0
        return HostError(
            f"the {self.role.name.lower()}'s memory {what}: {os.strerror(number)}",
            errno=number,
            target=self.terms.name,
        )


def _mapping(pids: list[int], inode: tuple[int, int]) -> set[int]:
    wanted = f" {os.major(inode[0]):02x}:{os.minor(inode[0]):02x} {inode[1]} "
    found = set()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/maps") as maps:
                if any(wanted in line for line in maps):
                    found.add(pid)
        except OSError:
            continue
    return found


def _holds(pid: int, inode: tuple[int, int]) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            found = os.stat(f"{folder}/{name}")
            if (found.st_dev, found.st_ino) == inode:
                return True
    except OSError:
        return False
    return False
