"""Events of a monitor, for those who wait for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from septum.errors import MonitorGone, MonitorOverflow, SeptumError

if TYPE_CHECKING:
    from types import TracebackType

BACKLOG: Final = 1024
"""Events that wait for one who reads them."""

BYTES: Final = 256 << 10
"""What all of them together may have been on the socket. A parsed value takes up to about 30 times as much."""


class Event(NamedTuple):
    """What happened to a guest, as QEMU tells it.

    Attributes:
        name: as in QEMU's QMP reference: ``DEVICE_DELETED``.
        data: whatever came with it.
        at: seconds since the epoch by QEMU's word; 0.0 if it gave none.
    """

    name: str
    data: Mapping[str, object]
    at: float


class Events:
    """An asynchronous iterator over the events that come from the moment on in which it was made.

    Iterating ends when the monitor is closed. Use it in a ``with``, or `close` it, when no more are wanted.

    Args:
        names: of events; none: all.
        target: the monitor's socket.
        forget: called by `close`.

    Raises, when what had come before was taken:
        MonitorOverflow: there were more than are kept. What follows is lost; look at the guest itself, and begin anew.
        MonitorError: the monitor is of no use any more.
    """

    def __init__(self, names: tuple[str, ...], target: str, forget: Callable[[Events], None]) -> None:
        self._names = names
        self._target = target
        self._forget = forget
        self._waiting: deque[tuple[Event, int]] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._over: SeptumError | None = None

    def put(self, event: Event, size: int) -> None:
        """Keeps an event, if it is wanted and there is room.

        Args:
            size: bytes it had on the socket.
        """
        if self._over or (self._names and event.name not in self._names):
            return
        if len(self._waiting) >= BACKLOG or self._size + size > BYTES:
            self.end(
                MonitorOverflow(
                    "events of the guest came faster than they were taken, and some were dropped",
                    target=self._target,
                    rule=f"{BACKLOG} events and {BYTES} bytes are kept",
                    remedy="ask the guest for its state, and begin to listen anew",
                )
            )
            return
        self._waiting.append((event, size))
        self._size += size
        self._news.set()

    def end(self, error: SeptumError) -> None:
        """No more events follow, for this reason."""
        self._over = self._over or error
        self._news.set()

    def close(self) -> None:
        """Stops listening."""
        self._forget(self)
        self._waiting.clear()
        self.end(MonitorGone("nobody listens any more", target=self._target))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._over is not None:
                if isinstance(self._over, MonitorGone):
                    raise StopAsyncIteration
                raise self._over
            self._news.clear()
            await self._news.wait()
        event, size = self._waiting.popleft()
        self._size -= size
        return event
