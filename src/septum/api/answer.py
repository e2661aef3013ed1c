"""A request → an answer: limits first, then what it says, then the verb, by the table of routes."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

import msgspec
from aiohttp import web

from septum.access.objects import of_orchestrator
from septum.api.events import Streams
from septum.api.limits import Bounds, Bucket
from septum.api.openapi import describe
from septum.api.problem import MEDIA_TYPE, body, status_of
from septum.api.routes import Call, Route, match
from septum.errors import SeptumError
from septum.launch.identity import SCHEME
from septum.realms import Caller, Core, Once, Performer, Turns, absent
from septum.realms.model import OperationView, RealmView

__all__ = ["Answerer", "Connection"]

_PENALTY: Final = 0.5  # seconds that a call too many waits for its refusal
_KEY: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_TAG: Final = re.compile(r'"([0-9]{1,18})"')


class Connection:
    """One connection.

    Args:
        realm: for which its caller acts, "" for the platform.
        peer: who it is, for the record.
        pidfd: of the process at the other end, -1 for none.
        label: its SELinux context, "" where SELinux is off.
        since: when it last had nothing to do, by the loop's clock.

    Attributes:
        transport: its bytes, once it is served.
        busy: a request is being answered.
        lasting: it may be silent for as long as it likes: there is one of its kind, and it belongs to a guest.
    """

    def __init__(self, realm: str, peer: str, since: float, pidfd: int = -1, label: str = "") -> None:
        self.realm = realm
        self.peer = peer
        self.label = label
        self.transport: asyncio.BaseTransport | None = None
        self.since = since
        self.busy = False
        self.lasting = False
        self._pidfd = pidfd

    @property
    def ended(self) -> bool:
        """Nothing more can be said on it."""
        return self.transport is not None and self.transport.is_closing()

    def drop(self) -> None:
        """Ends it at once, whatever is under way on it."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    def close(self) -> None:
        """Lets go of the process."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


class Answerer:
    """Answers requests.

    Args:
        turns: works on the ledger.
        performer: carries out operations.
        bounds: of requests.
        changed: is called when realms may have changed.
        report: is told of defects.
    """

    def __init__(
        self,
        turns: Turns[Core],
        performer: Performer,
        bounds: Bounds,
        changed: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        self._turns = turns
        self._performer = performer
        self._bounds = bounds
        self._changed = changed
        self._report = report
        self._streams = Streams(turns, bounds)
        self._description = msgspec.json.encode(describe())

    def close(self) -> None:
        """Ends what lasts."""
        self._streams.close()

    def poke(self) -> None:
        """The ledger has changed."""
        self._streams.poke()

    async def answer(
        self, connection: Connection, request: web.BaseRequest, bucket: Bucket | None
    ) -> web.StreamResponse:
        """The answer to one request; never raises but when the connection ends."""
        try:
            wait = bucket.take(asyncio.get_running_loop().time()) if bucket else 0.0
            if wait:
                # Answered at once, it would cost as much as what it asks for.
                await asyncio.sleep(min(wait, _PENALTY))
                refusal = SeptumError(
                    "this realm calls too often", rule=f"{bucket.rate:g} calls a second" if bucket else ""
                )
                return _problem(429, refusal, {"Retry-After": str(int(wait) + 1)}, close=True)
            return await self._answer(connection, request)
        except SeptumError as error:
            return _problem(status_of(error), error)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # a defect must not say more than that it is one
            self._report(f"a request failed: {error!r}")
            return _problem(503, SeptumError("it can't be done now"))

    async def _answer(self, connection: Connection, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path == "/openapi.json" and request.method == "GET":
            return web.Response(body=self._description, content_type="application/json")
        route, names, methods = match(request.method, path)
        if route is None:
            if methods:
                allowed = {"Allow": ", ".join(methods)}
                return _problem(405, SeptumError(f"{request.method} is not for this", target=path), allowed)
            raise absent()
        taken = await self._take(route, names, request)
        if isinstance(taken, web.Response):
            return taken
        parts, once, expected = taken

        def job(core: Core) -> Any:
            return route.job(core, Call(_caller(core, connection), names, parts, once, expected))

        result = await self._turns.run(connection.realm, job)
        if route.streams:
            after = int(found[0]) if (found := _NUMBER.fullmatch(request.headers.get("Last-Event-ID", ""))) else -1
            return await self._streams.follow(names["realm"], after, request, job)
        if route.act is not None:
            result = await route.act(self._performer, result)
        if isinstance(result, OperationView) and route.method != "GET":
            self._performer.begin(result.realm, result.id)
        if route.name.startswith("realm.") and route.method != "GET":
            self._changed()
        return _success(route, result)

    async def _take(
        self, route: Route, names: dict[str, str], request: web.BaseRequest
    ) -> web.Response | tuple[Any, Once | None, int]:
        """Body, idempotency key and version of a request, or the refusal."""
        raw = b""
        try:
            async with asyncio.timeout(self._bounds.arrival):
                raw = await request.read()
        except TimeoutError:
            return _problem(408, SeptumError("the request took too long to come"), close=True)
        except web.HTTPRequestEntityTooLarge:
            return _problem(413, SeptumError("the request is too large", rule=f"{self._bounds.body} bytes"), close=True)
        parts: Any = None
        if route.body is not None:
            if request.content_type != "application/json":
                return _problem(415, SeptumError("the body is not JSON", rule="Content-Type: application/json"))
            try:
                parts = _decoded(raw, route.body)
            except msgspec.ValidationError as error:
                return _problem(422, SeptumError(f"the body does not say what was expected: {error}"))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                return _problem(400, SeptumError(f"the body is no JSON: {error}"))
        elif raw:
            return _problem(400, SeptumError("this verb takes no body"))
        for name, text in request.rel_url.query.items():
            if name not in route.query or not _KEY.fullmatch(text):
                return _problem(400, SeptumError("this verb does not know such a query", target=name[:80]))
            names[name] = text
        once, key = None, request.headers.get("Idempotency-Key")
        if route.makes and key is not None:
            if not _KEY.fullmatch(key):
                return _problem(400, SeptumError("this is no idempotency key", rule="1 to 128 of A–Z a–z 0–9 . _ ~ -"))
            what = f"{route.name} {sorted(names.items())} ".encode() + raw
            once = Once(key, blake2b(what, digest_size=32).hexdigest())
        expected, tag = 0, request.headers.get("If-Match")
        if route.versioned:
            if tag is None and route.versioned == "must":
                return _problem(428, SeptumError("say which version is to be changed", rule="If-Match: the ETag"))
            found = _TAG.fullmatch(tag or '"0"')
            if found is None:
                return _problem(400, SeptumError("this is no version", rule='If-Match: "NUMBER"'))
            expected = int(found[1])
        return parts, once, expected


def _decoded(raw: bytes, kind: type) -> Any:
    """A body as a value. ``1.0`` is an integer in JSON Schema, so it is one here.

    Raises:
        msgspec.ValidationError: it does not say what was expected.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is no JSON.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        return msgspec.convert(_whole(msgspec.json.decode(raw)), kind)


def _whole(part: Any) -> Any:
    if isinstance(part, float) and part.is_integer():
        return int(part)
    if isinstance(part, list):
        return [_whole(one) for one in part]
    return {name: _whole(one) for name, one in part.items()} if isinstance(part, dict) else part


def _caller(core: Core, connection: Connection) -> Caller:
    context = connection.label or core.contexts.platform
    if connection.realm:
        context = of_orchestrator(core.ledger, core.contexts, SCHEME, connection.realm)
    return Caller(connection.realm, context, connection.peer)


def _success(route: Route, result: Any) -> web.Response:
    if route.answer is None:
        return web.Response(status=route.status)
    headers = {}
    if isinstance(result, OperationView):
        headers["Location"] = f"/v1/realms/{result.realm}/operations/{result.id}"
    elif isinstance(result, RealmView):
        headers["Location"] = f"/v1/realms/{result.name}"
    version = getattr(result, "version", 0)
    if version:
        headers["ETag"] = f'"{version}"'
    encoded = msgspec.json.encode(result)
    return web.Response(status=route.status, body=encoded, content_type="application/json", headers=headers)


def _problem(
    status: int, error: SeptumError, headers: dict[str, str] | None = None, *, close: bool = False
) -> web.Response:
    response = web.Response(
        status=status,
        body=msgspec.json.encode(body(status, error)),
        content_type=MEDIA_TYPE,
        headers=headers,
    )
    if close:
        response.force_close()
    return response
