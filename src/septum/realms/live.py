"""Guests that run: a monitor of each, what it tells, and when it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from septum.errors import HostError, MonitorError, MonitorGone, MonitorOverflow
from septum.monitor import Event, Monitor
from septum.realms.host import Place

__all__ = ["Live"]

_ANSWER: Final = 60.0  # seconds that a launch may take until QEMU greets, and QEMU for a command
_AGAIN: Final = 1.0  # seconds until a monitor that was given up is tried again


class Live:
    """The monitors, by uuid of the guest.

    Args:
        place: where their sockets are.
        told: is called with a guest's uuid and each event that is wanted.
        ended: is called once nobody holds a guest's monitor any more.
    """

    def __init__(
        self, place: Place, told: Callable[[str, Event], Awaitable[None]], ended: Callable[[str], Awaitable[None]]
    ) -> None:
        self._place = place
        self._told = told
        self._ended = ended
        self._open: dict[str, Monitor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def open(self, uuid: str) -> bool:
        """Connects, and waits until the emulator greets; whether it did: otherwise nothing of the guest runs.

        A launcher that is not an emulator yet holds the listening socket as the emulator will, so the connection waits
        for it; when it ends before, the kernel resets the connection.

        Raises:
            MonitorError: somebody holds the socket, and does not greet as QEMU does.
        """
        async with self._locks.setdefault(uuid, asyncio.Lock()):
            return uuid in self._open or await self._connect(uuid)

    async def _connect(self, uuid: str) -> bool:
        folder, name = os.path.split(self._place.monitor(uuid))
        # sun_path has room for 108 bytes, however long the folder's path is.
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            monitor = await Monitor.connect(f"/proc/self/fd/{fd}/{name}", _ANSWER)
        except MonitorGone:
            return False
        finally:
            os.close(fd)
        self._open[uuid] = monitor
        self._tasks[uuid] = asyncio.create_task(self._follow(uuid, monitor))
        return True

    async def execute(self, uuid: str, command: str, **arguments: Any) -> Any:
        """One command.

        Raises:
            HostError: there is no connection.
            MonitorRefused: the emulator refused.
            MonitorError: it is gone, or does not answer as it should.
        """
        return await self._of(uuid).command(command, **arguments)

    async def add_descriptor(self, uuid: str, descriptor: int, opaque: str) -> int:
        """Hands a descriptor over, and closes it here; returns the number of QEMU's set that holds it.

        Args:
            opaque: by which it is found again (``query-fdsets``).

        Raises:
            HostError, MonitorError: as `execute`.
        """
        try:
            return (await self._of(uuid).add_fd(descriptor, opaque)).fdset
        finally:
            os.close(descriptor)

    def has(self, uuid: str) -> bool:
        """Whether there is a connection."""
        return uuid in self._open

    async def close(self) -> None:
        """Lets go of all guests; they run on."""
        for task in self._tasks.values():
            task.cancel()
        for monitor in self._open.values():
            await monitor.close()
        self._open.clear()

    def _of(self, uuid: str) -> Monitor:
        monitor = self._open.get(uuid)
        if monitor is None:
            raise HostError("the guest's emulator can't be reached", target=uuid, remedy="see whether it still runs")
        return monitor

    async def _follow(self, uuid: str, monitor: Monitor) -> None:
        """Hands on events until the connection ends; then connects again if the emulator is still there."""
        over = False
        while not over:
            try:
                with monitor.events("STOP", "RESUME", "RESET", "VSERPORT_CHANGE") as events:
                    async for event in events:
                        await self._told(uuid, event)
                over = True
            except MonitorOverflow:
                continue  # a guest that makes more noise than is heard loses the rest of it
            except MonitorError:
                over = True
        del self._open[uuid], self._tasks[uuid]
        await monitor.close()
        while True:
            with suppress(MonitorError):
                if not await self.open(uuid):
                    break
                return
            await asyncio.sleep(_AGAIN)
        self._locks.pop(uuid, None)
        await self._ended(uuid)
