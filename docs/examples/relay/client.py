"""A realm's guest that uses the relay: a disk in another guest."""

import struct
from types import TracebackType
from typing import Self

from septum.guest import channel
from septum.ivc import Receiver, Role, Sender

REQUEST = struct.Struct("<BxxxIQ")


class Disk:
    """The realm's store.

    Args:
        realm: as in the names of the channels.
        timeout: seconds to wait for the host, and for the relay.
    """

    def __init__(self, realm: str, timeout: float = 60) -> None:
        requests = channel(f"{realm}.requests", timeout, Role.PRODUCER)
        replies = channel(f"{realm}.replies", timeout, Role.CONSUMER)
        assert isinstance(requests, Sender)
        assert isinstance(replies, Receiver)
        self._requests, self._replies, self._timeout = requests, replies, timeout

    def read(self, offset: int, length: int) -> bytes:
        """Reads."""
        return self.ask(REQUEST.pack(0, length, offset))

    def write(self, offset: int, data: bytes) -> None:
        """Writes."""
        self.ask(REQUEST.pack(1, len(data), offset) + data)

    def ask(self, request: bytes) -> bytes:
        """Sends a request as it is.

        Raises:
            PermissionError: the relay refuses it.
        """
        self._requests.send(request, self._timeout)
        reply = self._replies.recv(self._timeout)
        if reply[:1] != b"\0":
            raise PermissionError("the relay refuses it")
        return reply[1:]

    def close(self) -> None:
        """Ends both channels."""
        self._requests.close()
        self._replies.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
