"""Guests that run: a QMP connection to each, what it tells, and when it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from qemu.qmp import QMPClient, QMPError
from qemu.qmp.qmp_client import ExecuteError

from septum.errors import Denied, HostError
from septum.realms import host
from septum.realms.host import Place

__all__ = ["Live"]

_ANSWER: Final = 30.0  # seconds that an emulator may take for a command


class Live:
    """The connections, by uuid of the guest.

    Args:
        place: where their sockets are.
        told: is called with uuid, name and data of each event.
        ended: is called once a connection has ended, by whichever side.
    """

    def __init__(
        self,
        place: Place,
        told: Callable[[str, str, Mapping[str, Any]], Awaitable[None]],
        ended: Callable[[str], Awaitable[None]],
    ) -> None:
        self._place = place
        self._told = told
        self._ended = ended
        self._open: dict[str, QMPClient] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def open(self, uuid: str) -> bool:
        """Connects, and waits until the emulator greets; whether it did: otherwise nothing of the guest runs.

        A launcher that is not an emulator yet holds the listening socket as the emulator will, so the connection waits
        for it; when it ends before, the kernel resets the connection.
        """
        if uuid in self._open:
            return True
        connection = host.connect(self._place.monitor(uuid))
        if connection is None:
            return False
        client = QMPClient(uuid)
        try:
            await client.connect(connection)
        except (QMPError, OSError):
            connection.close()
            return False
        self._open[uuid] = client
        self._tasks[uuid] = asyncio.create_task(self._follow(uuid, client))
        return True

    async def execute(self, uuid: str, command: str, **arguments: Any) -> Any:
        """One command.

        Raises:
            HostError: the emulator is gone, or does not answer.
            Denied: it refused.
        """
        client = self._open.get(uuid)
        if client is None:
            raise HostError("the guest's emulator can't be reached", target=uuid, remedy="see whether it still runs")
        try:
            return await asyncio.wait_for(client.execute(command, arguments or None), _ANSWER)
        except ExecuteError as error:
            raise Denied(f"QEMU refuses {command}: {error}", target=uuid) from error
        except (TimeoutError, QMPError, OSError) as error:
            raise HostError(f"QEMU does not answer {command}: {error!r}", target=uuid) from error

    async def add_descriptor(self, uuid: str, descriptor: int, opaque: str) -> int:
        """Hands a descriptor over, and closes it here; returns the number of QEMU's set that holds it.

        Args:
            opaque: by which it is found again (``query-fdsets``).

        Raises:
            HostError: the emulator is gone, or does not answer.
            Denied: it refused.
        """
        try:
            client = self._open.get(uuid)
            if client is not None:
                client.send_fd_scm(descriptor)
            answer = await self.execute(uuid, "add-fd", opaque=opaque)
        finally:
            os.close(descriptor)
        return int(answer["fdset-id"])

    def has(self, uuid: str) -> bool:
        """Whether there is a connection."""
        return uuid in self._open

    async def close(self) -> None:
        """Lets go of all guests; they run on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        for client in self._open.values():
            with suppress(QMPError, OSError):
                await client.disconnect()
        self._open.clear()

    async def _follow(self, uuid: str, client: QMPClient) -> None:
        """Hands on events until the connection ends."""
        events = asyncio.create_task(self._hand_on(uuid, client))
        try:
            while client.runstate.name == "RUNNING":
                await client.runstate_changed()
            with suppress(QMPError, OSError, EOFError):
                await client.disconnect()
        finally:
            events.cancel()
        self._open.pop(uuid, None)
        self._tasks.pop(uuid, None)
        await self._ended(uuid)

    async def _hand_on(self, uuid: str, client: QMPClient) -> None:
        async for event in client.events:
            data = event.get("data")
            await self._told(uuid, str(event["event"]), data if isinstance(data, dict) else {})
