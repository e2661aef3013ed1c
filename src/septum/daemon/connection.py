"""One client's connection: its bytes, and how many there may be of them."""

import fcntl
import socket
import sys
import termios
from typing import Final

from septum.access import Asker, wire
from septum.daemon.peer import Peer
from septum.errors import MessageError

__all__ = ["PORTION", "Connection"]

PORTION: Final = 1 << 16
"""Bytes that are read at once."""


class Connection:
    """A client.

    Args:
        sock: its socket, accepted and non-blocking.
        peer: what the kernel says of it.
        asker: who that is here.
        now: a monotonic time, in seconds.

    Attributes:
        token: what the asker's context depended on when it was looked up.
        greeted: it has said hello.
        parked: it waits for a reload; nothing else of it is answered until then.
        limited: it has no right to ask about others, so there is a rate to what it may ask.
        resume: no message of it is answered before that time.
        ended: it sends nothing more.
        closing: it is closed as soon as what it was sent is out.
        active: when bytes last came or went.
        begun: since when a message of it is incomplete, 0.0 if none is.
    """

    __slots__ = (
        "_in", "_out", "active", "asker", "begun", "closing", "ended", "events", "greeted", "limited", "parked", "peer",
        "resume", "sock", "token",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, peer: Peer, asker: Asker, now: float) -> None:
        self.sock = sock
        self.peer = peer
        self.asker = asker
        self.token: object = None
        self.limited = True
        self.greeted = self.parked = self.ended = self.closing = False
        self.resume = self.begun = 0.0
        self.active = now
        self.events = 0
        self._in = bytearray()
        self._out = bytearray()

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory."""
        return len(self._in) + len(self._out)

    @property
    def sending(self) -> bool:
        """It has not taken all that it was answered."""
        return bool(self._out)

    def receive(self, now: float, most: int = PORTION) -> int:
        """Takes what has come, `most` bytes at most; returns how many.

        Raises:
            MessageError: a message is longer than it may be.
            OSError: the connection broke.
        """
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return 0
        if not data:
            self.ended = True
            return 0
        self.active = now
        self._in += data
        self._check(now)
        return len(data)

    def pending(self) -> int:
        """Bytes that have come and were not taken yet (unix(7): SIOCINQ)."""
        answer = fcntl.ioctl(self.sock.fileno(), termios.FIONREAD, b"\0" * 4)
        return int.from_bytes(answer, sys.byteorder)

    def message(self, now: float) -> bytes | None:
        """The next whole message, taken out; None if there is none.

        Raises:
            MessageError: the one after it is longer than it may be.
        """
        waiting = self._in
        if len(waiting) < 4:
            return None
        end = 4 + wire.LENGTH.unpack_from(waiting)[0]
        if len(waiting) < end:
            return None
        body = bytes(waiting[4:end])
        del waiting[:end]
        self.begun = 0.0
        self._check(now)
        return body

    def whole(self) -> bool:
        """Whether a whole message waits."""
        return len(self._in) >= 4 and len(self._in) >= 4 + wire.LENGTH.unpack_from(self._in)[0]

    def send(self, body: bytes) -> None:
        """Sends a message, as far as the client takes it; the rest waits for `flush`.

        Raises:
            OSError: the connection broke.
        """
        data = wire.frame(body)
        if self._out:
            self._out += data
            return
        try:
            done = self.sock.send(data)
        except BlockingIOError:
            done = 0
        if done < len(data):
            self._out += data[done:]

    def flush(self, now: float) -> None:
        """Sends more of what waits.

        Raises:
            OSError: the connection broke.
        """
        try:
            done = self.sock.send(self._out)
        except BlockingIOError:
            return
        if done:
            self.active = now
        del self._out[:done]

    def _check(self, now: float) -> None:
        if not self._in:
            return
        if len(self._in) >= 4:
            length = wire.LENGTH.unpack_from(self._in)[0]
            if length > wire.MOST_FRAME:
                raise MessageError(f"a message of {length} bytes", rule=f"at most {wire.MOST_FRAME}")
            if len(self._in) >= 4 + length:
                return
        self.begun = self.begun or now
