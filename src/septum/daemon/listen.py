"""The daemon's own socket and its lock, where no service manager passes a socket."""

import fcntl
import os
import socket
import stat
from typing import Final

from septum.access import wire
from septum.access.client import LOCK
from septum.errors import Held, HostError, LedgerError

__all__ = ["bind", "lock"]

_BACKLOG: Final = 1024


def lock(folder: str, name: str = LOCK, program: str = "septumd") -> int:
    """Takes the lock of a state folder; returns the descriptor that holds it.

    Args:
        folder: the state folder.
        name: of the lock in it.
        program: of which there is one for each folder.

    Raises:
        Held: another septumd has it.
        HostError: the file can't be opened.
    """
    path = os.path.join(folder, name)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _refused("its lock can't be opened", path, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise Held(
            f"another {program} serves this state folder",
            target=folder,
            holder=f"pid {holder}" if holder else "",
            rule="one daemon for each state folder",
            remedy="stop that one first",
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def bind(path: str, mode: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Listens at a path. Only for whoever holds the lock: a socket of a daemon that is gone is replaced.

    Args:
        path: of the socket; its folder must be closed to others, so that nobody puts another one in its place.
        mode: of the socket's file: 0o600, or 0o666 to let guests ask.
        kind: of the socket.

    Raises:
        LedgerError: the folder is not safe.
        Held: something is there that isn't a socket of the caller's, or somebody listens there.
        HostError: the kernel refused.
    """
    folder, name = os.path.split(os.path.abspath(path))
    directory = -1
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    try:
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _check_folder(os.fstat(directory), folder)
        _clear(directory, name, path, kind)
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(wire.address(directory, name))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused("its socket can't be made", path, error) from error
    except BaseException:
        listener.close()
        raise
    finally:
        if directory >= 0:
            os.close(directory)
    return listener


def _check_folder(facts: os.stat_result, folder: str) -> None:
    if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o022:
        raise LedgerError(
            "the folder of the daemon's socket is not safe to use",
            target=folder,
            holder=f"uid {facts.st_uid}, mode {stat.S_IMODE(facts.st_mode):04o}",
            rule="it must be root's or the caller's, and nobody else may write to it",
            remedy="name another path with --socket",
        )


def _clear(directory: int, name: str, path: str, kind: socket.SocketKind) -> None:
    """Removes what a daemon that was killed has left."""
    try:
        facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode) or facts.st_uid != os.geteuid():
        raise Held(
            "something else is in the place of the daemon's socket",
            target=path,
            holder=f"uid {facts.st_uid}, mode {facts.st_mode:06o}",
            rule="only a socket of the caller's own is replaced",
            remedy="see what it is, and remove it or name another path with --socket",
        )
    with socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(wire.address(directory, name))
        except ConnectionRefusedError:
            os.unlink(name, dir_fd=directory)
            return
        except BlockingIOError:
            pass
    raise Held("somebody listens on the daemon's socket already", target=path, rule="one daemon for each socket")


def _refused(what: str, path: str, error: OSError) -> HostError:
    return HostError(
        f"septumd can't start: {what}", errno=error.errno or 0, target=path, rule=error.strerror or str(error)
    )
