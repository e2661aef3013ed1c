"""What systemd and a daemon say to each other: sockets that were passed, and notices of the daemon's state.

Both protocols are plain (sd_listen_fds(3), sd_notify(3)); no library is needed. Without systemd both do nothing.
"""

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

from septum.errors import UsageError

__all__ = ["Notifier", "passed_sockets"]

_FIRST: Final = 3  # SD_LISTEN_FDS_START
_SO_ACCEPTCONN: Final = 30  # include/uapi/asm-generic/socket.h


def passed_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that this process was started with; the variables are taken out, so that children don't
    take them for theirs.

    Raises:
        UsageError: what was passed isn't a listening unix stream socket.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for fd in range(_FIRST, _FIRST + int(count)):
        os.set_inheritable(fd, False)
        try:
            one = socket.socket(fileno=fd)
            fits = one.family == socket.AF_UNIX and one.type == socket.SOCK_STREAM
            listens = fits and bool(one.getsockopt(socket.SOL_SOCKET, _SO_ACCEPTCONN))
        except OSError:
            listens = False
        if not listens:
            raise UsageError(
                f"descriptor {fd} was passed by the service manager and is no listening unix stream socket",
                rule="LISTEN_FDS names sockets of the kind ListenStream=/path",
            )
        found.append(one)
    return found


class Notifier:
    """Tells the service manager.

    Args:
        environment: with NOTIFY_SOCKET and WATCHDOG_USEC where there is one; both are taken out.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        path = environment.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        usec, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        mine = usec.isdecimal() and pid in ("", str(os.getpid()))
        self._every = int(usec) / 2_000_000 if mine else 0.0
        self._last = time.monotonic()

    def ready(self, status: str) -> None:
        """It serves."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """It loads its policy anew; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It takes no more questions."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Its loop goes round; sent as often as the watchdog needs it."""
        now = time.monotonic()
        if self._every and now - self._last >= self._every:
            self._last = now
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto(text.encode(), self._address)
        except OSError:
            return  # systemd is restarting; what it misses it asks for by its own time-outs
