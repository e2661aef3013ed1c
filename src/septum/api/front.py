"""Sockets: who may connect, and what becomes of a connection. What is said on it, `septum.api.answer` does.

Each connection is accepted here, not by aiohttp, so that the kernel is asked who the peer is before a byte is read, and
one realm's connections are counted before any is served. A socket's place says for whom its callers act; the kernel
says whether they may.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from septum.api.answer import Answerer, Connection
from septum.api.limits import Bounds, Bucket
from septum.daemon.peer import Peer, identify
from septum.errors import Denied, Exhausted, SeptumError

__all__ = ["Bounds", "Front"]

_BACKLOG_PAUSE: Final = (
    0.05  # seconds before a realm's accepting goes on when it has too many, or descriptors are short
)
_SWEEP: Final = 1.0  # seconds


class Front:
    """All connections of the API.

    Args:
        answerer: answers requests.
        bounds: for each realm.
        report: is told what an operator should know.
    """

    def __init__(self, answerer: Answerer, bounds: Bounds, report: Callable[[str], None]) -> None:
        self._answerer = answerer
        self._bounds = bounds
        self._report = report
        self._accepting: dict[str, tuple[socket.socket, asyncio.Task[None]]] = {}
        self._connections: dict[object, Connection] = {}
        self._buckets: dict[str, Bucket] = {}
        self._delegates: dict[str, frozenset[int]] = {}
        self._sweeper = asyncio.create_task(self._sweep())
        self._server = web.Server(
            self._handle,
            request_factory=self._request,
            access_log=None,
            keepalive_timeout=bounds.arrival,
            max_line_size=bounds.header,
            max_field_size=bounds.header,
            max_headers=64,
            lingering_time=1.0,
        )

    def listen(self, realm: str, listener: socket.socket) -> None:
        """Serves a realm ("" for the platform) on a listening socket."""
        listener.setblocking(False)
        task = asyncio.create_task(self._accept(realm, listener))
        self._accepting[realm] = (listener, task)

    def allow(self, realm: str, delegates: frozenset[int], rate: float) -> None:
        """Says which users act for a realm, and how many calls a second it has."""
        self._delegates[realm] = delegates
        self._buckets.setdefault(realm, Bucket(rate)).rate = rate

    def realms(self) -> set[str]:
        """Those that are served, the platform among them."""
        return set(self._accepting)

    def forget(self, realm: str) -> None:
        """Serves a realm no more."""
        listener, task = self._accepting.pop(realm)
        task.cancel()
        listener.close()
        self._delegates.pop(realm, None)
        self._buckets.pop(realm, None)
        for connection in list(self._connections.values()):
            if connection.realm == realm:
                connection.drop()

    async def serve(self, realm: str, sock: socket.socket, peer: str, pidfd: int = -1, label: str = "") -> Connection:
        """Serves one connection whose other end is known; returns when it is set up."""
        loop = asyncio.get_running_loop()
        protocol = self._server()
        # Entered before it is served: its first request may come at once.
        connection = self._connections[protocol] = Connection(realm, peer, loop.time(), pidfd, label)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
        connection.transport = transport
        if pidfd >= 0:
            # Who connected has been asked who he is; whoever has a copy of the socket has not.
            loop.add_reader(pidfd, connection.drop)
        return connection

    async def close(self) -> None:
        """Ends all connections, those of event readers too."""
        self._sweeper.cancel()
        for realm in list(self._accepting):
            self.forget(realm)
        self._answerer.close()
        await self._server.shutdown(2.0)
        for connection in self._connections.values():
            connection.close()

    async def _accept(self, realm: str, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._report(f"a connection can't be accepted: {error.strerror}")
                await asyncio.sleep(_BACKLOG_PAUSE)
                continue
            try:
                peer = self._admit(realm, sock)
            except Exhausted:
                sock.close()
                await asyncio.sleep(_BACKLOG_PAUSE)
                continue
            except SeptumError:
                sock.close()
                continue
            await self.serve(realm, sock, f"uid {peer.uid}, pid {peer.pid}", peer.pidfd, peer.label)

    def _admit(self, realm: str, sock: socket.socket) -> Peer:
        """
        Raises:
            Denied: the peer may not act for this realm.
            Exhausted: the realm has too many connections.
        """
        if sum(one.realm == realm for one in self._connections.values()) >= self._bounds.connections:
            raise Exhausted("too many connections", target=realm)
        peer = identify(sock)
        if peer.uid not in (0, os.geteuid()) and peer.uid not in self._delegates.get(realm, frozenset()):
            if peer.pidfd >= 0:
                os.close(peer.pidfd)
            raise Denied("this process does not act for the realm", target=f"uid {peer.uid}")
        return peer

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=self._bounds.body)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = self._connections[request.protocol]
        connection.busy = True
        try:
            return await self._answerer.answer(connection, request, self._buckets.get(connection.realm))
        finally:
            connection.busy = False
            connection.since = asyncio.get_running_loop().time()

    async def _sweep(self) -> None:
        """Drops connections on which no request comes, or only a part of one."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP)
            for protocol, connection in list(self._connections.items()):
                late = not connection.busy and loop.time() - connection.since > self._bounds.arrival
                if late and not connection.lasting:
                    connection.drop()
                if connection.ended and not connection.busy:
                    del self._connections[protocol]
                    with suppress(OSError):
                        connection.close()
