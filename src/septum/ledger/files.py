"""The folder and the file of an SQLite ledger: private to the caller, made whole or not at all.

Nothing here opens an existing ledger's file: POSIX locks die with *any* descriptor of the file that the process closes,
and SQLite's locks are such.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from septum.errors import LedgerCorrupt, LedgerError
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["FILE", "Folder"]

FILE = "ledger.db"
_NEW = "ledger.db.new"
_BESIDE = ("-journal", "-wal", "-shm")


class Folder:
    """A ledger's folder, open. Use it in a ``with`` statement.

    Args:
        directory: its path.
        create: make it, with mode 0700, if it is missing.

    Raises:
        LedgerError: it is missing, a symbolic link, somebody else's, or open to others.
    """

    def __init__(self, directory: str, *, create: bool) -> None:
        self.path = os.path.abspath(directory)
        self.file = os.path.join(self.path, FILE)
        try:
            if create and not os.path.lexists(self.path):
                os.makedirs(self.path, 0o700, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _refused("the ledger's folder can't be opened", self.path, error) from error
        try:
            _check_private(os.fstat(self._fd), self.path, 0o700)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def found(self) -> bool:
        """Whether the ledger's file is there.

        Raises:
            LedgerError: it is no plain file of the caller's own, or open to others.
        """
        try:
            facts = os.stat(FILE, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _refused("the ledger can't be looked at", self.file, error) from error
        if not stat.S_ISREG(facts.st_mode):
            raise LedgerError(f"{self.file} is not a plain file", remedy="move it away")
        if facts.st_nlink != 1:
            # SQLite finds the log by the name it was opened by: under two names it would be two half ledgers.
            raise LedgerError(f"{self.file} has {facts.st_nlink} hard links", remedy="remove the other names")
        _check_private(facts, self.file, 0o600)
        return True

    def refuse_remains(self) -> None:
        """For a ledger that is to be made. Only under `lock`: without it, one might just have been made.

        Raises:
            LedgerCorrupt: what a ledger left behind says that it was there.
        """
        if self._has(FILE + "-wal"):
            raise LedgerCorrupt(
                f"{self.file} is gone, and its write-ahead log is still there",
                rule="no new ledger is made over the remains of another",
                remedy="put the file back from a backup, without the -wal and -shm files; then septum reconcile",
            )

    def lock(self, seconds: float) -> None:
        """Keeps others from making or upgrading this ledger, until the folder is closed.

        Raises:
            LedgerError: somebody has the lock for longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise LedgerError(
                        f"another process has been making or upgrading the ledger for {seconds:g} s",
                        target=self.path,
                        remedy="find it with: fuser -v " + self.path,
                    ) from error
                time.sleep(0.005)

    def new_file(self, name: str = _NEW) -> str:
        """An empty file with mode 0600, in place of what an interrupted attempt left; returns its path."""
        try:
            for leftover in (name, *(name + suffix for suffix in _BESIDE)):
                if self._has(leftover):
                    os.unlink(leftover, dir_fd=self._fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o600, dir_fd=self._fd))
        except OSError as error:
            raise _refused("a file of the ledger can't be made", os.path.join(self.path, name), error) from error
        return os.path.join(self.path, name)

    def publish(self, new: str, name: str = FILE) -> None:
        """Gives a finished `new_file` its name, durably. Only under `lock`, and where the name is free."""
        target = os.path.join(self.path, name)
        try:
            os.rename(new, target)
            os.fsync(self._fd)
        except OSError as error:
            raise _refused("a file of the ledger can't be put in place", target, error) from error

    def free_name(self, name: str) -> str:
        """The name, or with the first number after it that no file has."""
        number, candidate = 1, name
        while self._has(candidate):
            number, candidate = number + 1, f"{name}.{number}"
        return candidate

    def _has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


def _check_private(facts: os.stat_result, path: str, mode: int) -> None:
    me = os.geteuid()
    if facts.st_uid != me:
        raise LedgerError(
            f"{path} belongs to uid {facts.st_uid}, and this process has uid {me}",
            rule="a ledger belongs to the one who uses it: it decides who is kept apart from whom",
            remedy="run as that user, or name another folder",
        )
    if stat.S_IMODE(facts.st_mode) & 0o077:
        raise LedgerError(
            f"{path} is open to others: its mode is {stat.S_IMODE(facts.st_mode):04o}",
            rule="a ledger and its folder are for their owner only",
            remedy=f"make sure that nobody changed it; then chmod {mode:o} {path}",
        )


def _refused(what: str, path: str, error: OSError) -> LedgerError:
    return LedgerError(
        f"{what}: {error.strerror}",
        target=path,
        remedy="nothing was changed; make room on that file system" if error.errno == errno.ENOSPC else "",
    )
