"""A bell over a socket pair, which also tells when the other end is gone.

Not an eventfd: both ends of one share its open file description, so the other end can take O_NONBLOCK away with
F_SETFL and fill or empty the counter, and whoever rings or clears it then waits in the kernel for ever. The ends of a
socket pair have a description each, MSG_DONTWAIT is of the call, and the end of the other process is a hang-up
(docs/decisions/0022-bell-is-a-socket-pair.md).
"""

import socket
from contextlib import suppress

_AT_ONCE = 4096  # rings that one look takes; more make the next look come at once
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class LineBell:
    """One end of a socket pair.

    Args:
        line: the socket; the bell owns it from now on.
    """

    __slots__ = ("_line", "_send")

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._send = line.send

    def fileno(self) -> int:
        return self._line.fileno()

    def ring(self) -> None:
        # Full of rings that were not taken: the other end has enough to wake up for. Gone: it needs no ring.
        with suppress(OSError):
            self._send(b"\0", _FLAGS)

    def clear(self) -> int:
        try:
            return len(self._line.recv(_AT_ONCE, _FLAGS)) or -1
        except BlockingIOError:
            return 0
        except OSError:
            return -1

    def close(self) -> None:
        self._line.close()
