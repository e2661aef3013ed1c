"""Server-sent events: what happens in a realm, to who follows it (WHATWG HTML, 9.2).

What waits for a slow reader waits in the ledger, whose backlog the realm's quota bounds; here is one portion for each
reader, and what the kernel takes. Who does not read for long is dropped, and who comes back says with Last-Event-ID
where he was. If the backlog has gone on without him, he is told: ``lost``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from septum.api.limits import Bounds
from septum.errors import Exhausted
from septum.ledger.records import Event
from septum.realms import Core, Turns

__all__ = ["Streams"]

_PORTION: Final = 100  # events
_SILENCE: Final = 15.0  # seconds after which a reader gets a sign of life


class Streams:
    """Readers of events.

    Args:
        turns: works on the ledger.
        bounds: of readers.
    """

    def __init__(self, turns: Turns[Core], bounds: Bounds) -> None:
        self._turns = turns
        self._bounds = bounds
        self._news: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    def poke(self) -> None:
        """The ledger has changed."""
        for waiting in self._news.values():
            for one in waiting:
                one.set()

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        self.poke()

    async def follow(
        self, realm: str, after: int, request: web.BaseRequest, may: Callable[[Core], None]
    ) -> web.StreamResponse:
        """Sends a realm's events until the reader goes, or is too slow.

        Args:
            realm: whose; that the caller may read them has been decided.
            after: number of the last event that the reader has; -1 to begin with the next one.
            request: of the reader.
            may: decides again, before each portion: a reader may have lost the right.

        Raises:
            Exhausted: the realm has too many readers.
        """
        waiting = self._news.setdefault(realm, set())
        if len(waiting) >= self._bounds.streams:
            raise Exhausted("too many follow this realm's events", target=realm, rule=f"{self._bounds.streams} readers")
        news = asyncio.Event()
        waiting.add(news)
        try:
            return await self._follow(realm, after, request, may, news)
        finally:
            waiting.discard(news)

    async def _follow(
        self, realm: str, after: int, request: web.BaseRequest, may: Callable[[Core], None], news: asyncio.Event
    ) -> web.StreamResponse:
        def portion(core: Core) -> list[Event]:
            may(core)
            return core.ledger.events(realm, after, _PORTION)

        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        response.force_close()
        await response.prepare(request)
        if after < 0:
            last = await self._turns.run(realm, lambda core: core.ledger.last_event(realm))
            after = last
        while not self._closed:
            news.clear()
            found = await self._turns.run(realm, portion)
            text = _lost(found[0].seq - after - 1) if found and found[0].seq > after + 1 else b""
            text += b"".join(map(_text, found))
            after = found[-1].seq if found else after
            if text:
                await self._send(response, text)
            if len(found) < _PORTION:
                try:
                    async with asyncio.timeout(_SILENCE):
                        await news.wait()
                except TimeoutError:
                    await self._send(response, b":\n\n")
        return response

    async def _send(self, response: web.StreamResponse, text: bytes) -> None:
        try:
            async with asyncio.timeout(self._bounds.arrival):
                await response.write(text)
        except TimeoutError:
            raise ConnectionResetError("a reader of events is too slow") from None


def _text(event: Event) -> bytes:
    data = msgspec.json.encode({"realm": event.realm, "time": event.time, "kind": event.kind, "fields": event.fields})
    return f"id: {event.seq}\nevent: {event.kind}\ndata: ".encode() + data + b"\n\n"


def _lost(count: int) -> bytes:
    return f'event: lost\ndata: {{"events":{count}}}\n\n'.encode()
