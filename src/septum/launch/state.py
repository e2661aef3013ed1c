"""Where a ledger's folder is, and the two locks in it.

``watch.lock`` is held by the one watcher for as long as it lives; ``undo.lock`` by whoever puts things back at the
moment, so that watcher, `reconcile` and a failed launch don't do the same work at once.
"""

from __future__ import annotations

import fcntl
import os
import stat

from septum.errors import HostError, LedgerError
from septum.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Final

SYSTEM_FOLDER: Final = "/var/lib/septum"
SELINUXFS: Final = "/sys/fs/selinux"
"""There only where SELinux runs; asked for before anything of SELinux is loaded, as a start pays for each module."""


def folder(given: str, environment: Mapping[str, str]) -> str:
    """The ledger's folder: `--state`, SEPTUM_STATE, the system's folder for root, the XDG state folder for others."""
    if given or environment.get("SEPTUM_STATE"):
        return os.path.abspath(given or environment["SEPTUM_STATE"])
    if os.geteuid() == 0:
        return SYSTEM_FOLDER
    home = environment.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):
        home = os.path.join(environment.get("HOME", "/nonexistent"), ".local", "state")
    return os.path.join(home, "septum")


def make(path: str) -> None:
    """Makes the folder with mode 0700, or checks that nobody else could have prepared it.

    Raises:
        HostError: it can't be made.
        LedgerError: it is there, but belongs to somebody else, or others may write to it.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise HostError(
            "the ledger's folder can't be made",
            errno=error.errno or 0,
            target=path,
            rule=os.strerror(error.errno or 0),
            remedy="name another one with --state or SEPTUM_STATE",
        ) from error
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise LedgerError(
            "the ledger's folder is not safe to use",
            target=path,
            holder=f"uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}",
            rule="it must be a directory of the caller's own with mode 0700",
            remedy="name another one with --state or SEPTUM_STATE",
        )


class undoing:  # noqa: N801 (used like a function)
    """Holds ``undo.lock`` of the ledger in `path`."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = os.path.join(path, "undo.lock")

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
