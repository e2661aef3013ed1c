"""Channels of bytes."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from septum.errors import ChannelClosed, ChannelDenied
from septum.ivc import _ring
from septum.ivc.carriers.protocol import Incoming, Outgoing
from septum.ivc.ends import End
from septum.ivc.sending import SendingEnd, of_kind
from septum.ivc.states import State, require
from septum.ivc.terms import Kind

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Writer(SendingEnd):
    """The end of a channel that sends bytes; errors are those of `Sender`.

    Args:
        wire: what a carrier's `sender` returned.
    """

    def __init__(self, wire: Outgoing) -> None:
        super().__init__(wire, Kind.BYTES)

    @require(State.OPEN)
    def write(self, data: ReadableBuffer, timeout: float | None = None) -> int:
        """Sends bytes.

        Args:
            data: any number of them.
            timeout: seconds to wait for room, each time there is none.

        Returns:
            How many were sent: all, unless the time was over.

        Raises:
            ChannelTimeout: there was no room for even one in time.
        """
        whole = memoryview(data).nbytes
        return self._send_all(lambda at: self._sink.write(data, at, True), lambda at: whole - at, whole, timeout)

    @require(State.OPEN)
    async def write_async(self, data: ReadableBuffer) -> None:
        """`write` for asyncio: all of it, or an error."""
        whole = memoryview(data).nbytes
        sent = 0

        def more() -> int:
            return self._sink.write(data, sent, False)

        while sent < whole:
            attempts: Generator[None, None, int] = self._attempts(more, _ring.AGAIN, whole - sent)
            sent += await self._wait_async(attempts)


class Reader(End):
    """The end of a channel that receives bytes; errors are those of `Receiver`.

    Args:
        wire: what a carrier's `receiver` returned.

    `read` returns no bytes for one reason only: the writer has closed, and all of it was read.
    """

    def __init__(self, wire: Incoming) -> None:
        super().__init__(of_kind(wire.terms, Kind.BYTES), wire.half, wire.bell)
        self._source = wire.half

    @require(State.OPEN)
    def read_into(self, buffer: WriteableBuffer, timeout: float | None = None) -> int:
        """Receives what is there, after waiting for it if need be.

        Returns:
            How many bytes of the buffer were filled, at least one.

        Raises:
            ChannelClosed: the writer has closed, and all was read.
            ChannelDenied: the buffer has no room.
            ChannelTimeout: nothing came in time.
        """
        self._need_room(memoryview(buffer).nbytes)
        got = self._source.read_into(buffer, True)
        if got >= 0:
            return got
        return self._wait(self._attempts(lambda: self._source.read_into(buffer, True), got), timeout)

    @require(State.OPEN, State.CLOSED)
    def read(self, most: int = 65536, timeout: float | None = None) -> bytes:
        """`read_into` a new object; b"" once the writer has closed and all was read."""
        buffer = bytearray(most)
        try:
            return bytes(memoryview(buffer)[: self.read_into(buffer, timeout)])
        except ChannelClosed:
            return b""

    @require(State.OPEN, State.CLOSED)
    async def read_async(self, most: int = 65536) -> bytes:
        """`read` for asyncio."""
        self._need_room(most)
        buffer = bytearray(most)
        got = self._source.read_into(buffer, False)
        try:
            if got < 0:
                got = await self._wait_async(self._attempts(lambda: self._source.read_into(buffer, False), got))
        except ChannelClosed:
            return b""
        return bytes(memoryview(buffer)[:got])

    def _need_room(self, room: int) -> None:
        if room < 1:
            raise ChannelDenied("nothing can be received into no room", target=self.terms.name)
