"""Ports of orchestrators: each is a connection to a socket that one guest's emulator holds, and nobody else.

The bytes on a port are HTTP/1.1, from a guest that may end in the middle of a request. When it closes its end, which a
reset does too, the connection is dropped with all that was under way on it, and made anew: so both sides begin at the
beginning of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from septum.api.answer import Connection
from septum.api.front import Front
from septum.errors import HostError
from septum.realms import Place, connect

__all__ = ["Ports"]

_LOOK: Final = 0.05  # seconds


class Ports:
    """The ports of all orchestrators that run.

    Args:
        front: serves connections.
        place: where the sockets are.
        report: is told what an operator should know.
    """

    def __init__(self, front: Front, place: Place, report: Callable[[str], None]) -> None:
        self._front = front
        self._place = place
        self._report = report
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._connections: dict[str, Connection] = {}

    def serve(self, uuid: str, realm: str, name: str) -> None:
        """Serves a guest's port until the guest ends; if it is served already, from the beginning."""
        if uuid in self._tasks:
            if connection := self._connections.get(uuid):
                connection.drop()
            return
        task = asyncio.create_task(self._keep(uuid, realm, name))
        self._tasks[uuid] = task
        task.add_done_callback(lambda _: self._tasks.pop(uuid, None))

    async def close(self) -> None:
        """Lets go of all ports."""
        for task in list(self._tasks.values()):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep(self, uuid: str, realm: str, name: str) -> None:
        while True:
            try:
                sock = connect(self._place.port(uuid))
            except HostError:
                await asyncio.sleep(_LOOK)  # the emulator has not taken the connection before yet
                continue
            if sock is None:
                return
            connection = await self._front.serve(realm, sock, f"guest {realm}/{name}")
            connection.lasting = True
            self._connections[uuid] = connection
            while not connection.ended:
                await asyncio.sleep(_LOOK)
            del self._connections[uuid]
