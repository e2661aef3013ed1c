"""Channels of messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from septum.errors import ChannelClosed, ChannelDenied
from septum.ivc.carriers.protocol import Incoming, Outgoing
from septum.ivc.ends import End
from septum.ivc.sending import SendingEnd, of_kind
from septum.ivc.states import State, require
from septum.ivc.terms import Kind

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Sender(SendingEnd):
    """The end of a channel that sends messages.

    Args:
        wire: what a carrier's `sender` returned.

    Every call raises `ChannelClosed` when the receiver has closed, `ChannelLost` when it is gone, `ChannelPoisoned`
    when it broke the rules, and `ChannelBusy` when another thread is in a call.
    """

    def __init__(self, wire: Outgoing) -> None:
        super().__init__(wire, Kind.MESSAGES)
        self._put = wire.half.put

    @require(State.OPEN)
    def send(self, data: ReadableBuffer, timeout: float | None = None) -> None:
        """Sends one message.

        Args:
            data: bytes, at most `limit`.
            timeout: seconds to wait for room; None: any time.

        Raises:
            ChannelDenied: the message is too long.
            ChannelTimeout: there was no room in time. Nothing was sent.
        """
        status = self._put(data, True)
        if status:
            need = memoryview(data).nbytes
            self._wait(self._attempts(lambda: self._put(data, True), status, need), timeout)

    @require(State.OPEN)
    def try_send(self, data: ReadableBuffer) -> bool:
        """Sends one message if there is room for it; False: there is none now, and `fileno` tells when to look again.

        Raises:
            ChannelDenied: the message is too long.
        """
        status = self._put(data, False)
        if status == 0:
            return True
        need = memoryview(data).nbytes
        return self._at_once(self._attempts(lambda: self._put(data, False), status, need)) is not None

    @require(State.OPEN)
    async def send_async(self, data: ReadableBuffer) -> None:
        """`send` for asyncio."""
        status = self._put(data, False)
        if status:
            need = memoryview(data).nbytes
            await self._wait_async(self._attempts(lambda: self._put(data, False), status, need))

    @require(State.OPEN)
    def send_many(self, messages: Iterable[ReadableBuffer], timeout: float | None = None) -> int:
        """Sends messages in order, at a fraction of what `send` takes for each.

        Args:
            messages: each at most `limit` bytes.
            timeout: seconds to wait for room, each time there is none.

        Returns:
            How many were sent: all, unless the time was over.

        Raises:
            ChannelDenied: a message is too long. Those before it were sent.
            ChannelTimeout: there was no room for even one in time.
        """
        todo = list(messages)
        return self._send_all(
            lambda at: self._sink.put_many(todo, at), lambda at: memoryview(todo[at]).nbytes, len(todo), timeout
        )


class Receiver(End):
    """The end of a channel that receives messages. Iterating over it ends when the sender has closed.

    Args:
        wire: what a carrier's `receiver` returned.

    Every call raises `ChannelClosed` when the sender has closed and all it sent was received, `ChannelLost` when it is
    gone (again: and all was received), `ChannelPoisoned` when it broke the rules, and `ChannelBusy` when another thread
    is in a call or a view is out.
    """

    def __init__(self, wire: Incoming) -> None:
        super().__init__(of_kind(wire.terms, Kind.MESSAGES), wire.half, wire.bell)
        self._source = wire.half
        self._get = wire.half.get

    @require(State.OPEN)
    def recv(self, timeout: float | None = None) -> bytes:
        """Receives one message.

        Args:
            timeout: seconds to wait for it; None: any time.

        Raises:
            ChannelTimeout: none came in time.
        """
        got = self._get(True)
        if isinstance(got, bytes):
            return got
        return self._wait(self._attempts(lambda: self._get(True), got), timeout)

    @require(State.OPEN)
    def try_recv(self) -> bytes | None:
        """Receives one message if there is one; None: there is none now, and `fileno` tells when to look again."""
        got = self._get(False)
        if isinstance(got, bytes):
            return got
        return self._at_once(self._attempts(lambda: self._get(False), got))

    @require(State.OPEN)
    async def recv_async(self) -> bytes:
        """`recv` for asyncio."""
        got = self._get(False)
        if isinstance(got, bytes):
            return got
        return await self._wait_async(self._attempts(lambda: self._get(False), got))

    @require(State.OPEN)
    def recv_many(self, most: int = 1024, timeout: float | None = None) -> list[bytes]:
        """Receives what is there: at least one message, after waiting for it if need be.

        Args:
            most: messages at once, at least 1. Together they are never more than the ring's size.
            timeout: seconds to wait for the first; None: any time.

        Raises:
            ChannelTimeout: none came in time.
        """
        got = self._source.get_many(most, True)
        if isinstance(got, list):
            return got
        return self._wait(self._attempts(lambda: self._source.get_many(most, True), got), timeout)

    @require(State.OPEN)
    def recv_into(self, buffer: WriteableBuffer, timeout: float | None = None) -> int:
        """Receives one message into a buffer of the caller's, which saves making one.

        Returns:
            The message's length.

        Raises:
            ChannelDenied: the buffer is too small. The message is still there.
            ChannelTimeout: none came in time.
        """
        got = self._source.get_into(buffer, True)
        if got >= 0:
            return got
        room = memoryview(buffer).nbytes
        return self._wait(self._attempts(lambda: self._source.get_into(buffer, True), got, room), timeout)

    @contextmanager
    @require(State.OPEN)
    def view(self, timeout: float | None = None) -> Iterator[memoryview]:
        """Shows the next message where it lies, without copying it; it is received when the ``with`` ends.

        **The sender can change it under your eyes, between any two looks.** Copy what you decide by, then decide; a
        length or an index that was checked in a view was not checked. Parts of a view that are kept beyond the
        ``with`` show whatever the sender writes next.

        Raises:
            ChannelTimeout: none came in time.
        """
        got = self._source.peek(True)
        if isinstance(got, int):
            got = self._wait(self._attempts(lambda: self._source.peek(True), got), timeout)
        try:
            with got:
                yield got
        finally:
            self._source.skip()

    def __iter__(self) -> Iterator[bytes]:
        try:
            while True:
                yield self.recv()
        except ChannelClosed:
            return

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield await self.recv_async()
        except ChannelClosed:
            return

    def _too_long(self, need: int) -> ChannelDenied:
        return ChannelDenied(
            f"the message does not fit into {need} bytes",
            target=self.terms.name,
            rule=f"a message can have up to {self.limit} bytes",
            remedy="receive it into a larger buffer",
        )
