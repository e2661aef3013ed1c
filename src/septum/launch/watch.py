"""The launcher's side of the watcher: make sure that one runs, and hand it a guest.

One watcher serves all guests of a ledger. Whoever gets ``watch.lock`` binds the socket and starts it; the listening
socket and the lock are inherited, so a launcher need not wait for the watcher to come up: what it sends waits in the
socket's queue, with a pidfd of the process that becomes QEMU.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socket
from array import array

from septum.errors import HostError
from septum.host import kernel
from septum.host.joining import apart, join
from septum.launch.state import SELINUXFS
from septum.lean import TYPE_CHECKING, suppress

if TYPE_CHECKING:
    from typing import Final

_PATIENCE: Final = 5.0  # seconds until a watcher that holds the lock must answer


def hand_over(folder: str, uuid: str) -> None:
    """Tells the watcher of this process, which is about to become the guest `uuid`. Starts a watcher if none runs.

    Raises:
        HostError: none could be started or reached.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        ensure(folder)
        try:
            _send(folder, uuid)
            return
        except OSError as error:
            # A watcher that is just ending, or one that has the lock and is not yet listening.
            if time.monotonic() > deadline:
                raise HostError(
                    "the watcher can't be reached",
                    errno=error.errno or 0,
                    target=os.path.join(folder, "watch.sock"),
                    rule=os.strerror(error.errno or 0),
                    remedy=f"see {os.path.join(folder, 'watch.log')}",
                ) from error
            time.sleep(0.002)


def ensure(folder: str) -> None:
    """Starts a watcher unless one runs."""
    path = os.path.join(folder, "watch.lock")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return
    try:
        _start(folder, lock)
    finally:
        os.close(lock)


def _address(directory: int) -> str:
    """The socket's address, short enough for sun_path (108 bytes) however long the folder's name is."""
    return f"/proc/self/fd/{directory}/watch.sock"


def _send(folder: str, uuid: str) -> None:
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        try:
            connection.connect(_address(directory))
            pidfd = os.pidfd_open(os.getpid())
            try:
                connection.sendmsg([uuid.encode()], [(SOL_SOCKET, SCM_RIGHTS, array("i", [pidfd]))])
            finally:
                os.close(pidfd)
        finally:
            connection.close()
    finally:
        os.close(directory)


def listen(folder: str) -> socket:
    """The watcher's socket, bound in the ledger's folder. Only for whoever holds ``watch.lock``."""
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
    try:
        with suppress(FileNotFoundError):
            os.unlink("watch.sock", dir_fd=directory)
        listener.bind(_address(directory))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener


def _start(folder: str, lock: int) -> None:
    try:
        listener = listen(folder)
        try:
            _spawn(folder, lock, listener.fileno())
        finally:
            listener.close()
    except OSError as error:
        raise HostError(
            "the watcher can't be started", errno=error.errno or 0, target=folder, rule=os.strerror(error.errno or 0)
        ) from error


def _spawn(folder: str, lock: int, listener: int) -> None:
    """Starts the watcher as nobody's child: QEMU must not find a child that it did not make."""
    log = os.open(
        os.path.join(folder, "watch.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    group = apart()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                try:
                    if group:
                        # Not by clone3 straight into it: a thread may be at work here, and only fork minds its locks.
                        join(group)
                    if os.path.isdir(SELINUXFS):
                        from septum.host.selinux_types import leave_launcher

                        leave_launcher()
                except HostError as error:
                    os.write(log, f"septum-watcher: {error}\n".encode())
                    os._exit(1)
                os.chdir("/")
                # Above all fixed places, then down to them; no higher, as a caller's limit may be low.
                high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 5) for fd in (null, null, log, lock, listener)]
                for place, fd in enumerate(high):
                    os.dup2(fd, place)
                kernel.close_range(5, 0xFFFFFFFF)
                root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
                code = (
                    f"import sys; sys.path.insert(0, {root!r}); "
                    f"from septum.launch.watcher import main; main({folder!r}, 3, 4)"
                )
                # Python finds its own library by argv[0]; `main` names the process.
                os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code])
        finally:
            os._exit(1)
    os.close(log)
    os.close(null)
    # A caller that ignores SIGCHLD has left that to the kernel, and there is no status to be had.
    with suppress(ChildProcessError):
        os.waitpid(child, 0)
