"""Carrying out operations: each step is written down, then done; after a crash it is found, and finished or undone.

`checkpoint` is called between any two steps that matter, so that tests can end the process at each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from septum.errors import HostError, MonitorError, NotFound, SeptumError
from septum.ledger.records import Document
from septum.monitor import Event
from septum.realms import do_guests, do_images, of_guests, operations
from septum.realms.core import Core, put
from septum.realms.hands import Hands
from septum.realms.host import Launcher, Place
from septum.realms.lines import CONSOLE
from septum.realms.live import Live
from septum.realms.model import GuestView, Output
from septum.realms.turns import Turns

__all__ = ["Performer"]

_AT_ONCE: Final = 4  # operations of one realm at the same time
_AGAIN: Final = 1.0  # seconds until what failed for reasons of the host is tried again
_VERBS: Final[Mapping[str, Callable[[Hands, Document], Awaitable[None]]]] = {
    "guest.start": do_guests.start,
    "guest.stop": do_guests.stop,
    "guest.attach": do_guests.attach,
    "guest.detach": do_guests.detach,
    "guest.snapshot": do_images.snapshot,
    "snapshot.restore": do_images.restore,
    "snapshot.destroy": do_images.remove_snapshot,
    "image.create": do_images.make,
    "image.clone": do_images.make,
    "image.destroy": do_images.remove,
}


class Performer:
    """Carries out operations, and follows guests that run.

    Args:
        turns: works on the ledger.
        place: where things are on the host.
        launcher: starts guests.
        report: is told what an operator should know.
        checkpoint: see the module's text.
        port: is told uuid, realm and name of an orchestrator that is up, or was reset.
    """

    def __init__(
        self,
        turns: Turns[Core],
        place: Place,
        launcher: Launcher,
        report: Callable[[str], None],
        checkpoint: Callable[[str], None] = lambda _: None,
        port: Callable[[str, str, str], None] = lambda *_: None,
    ) -> None:
        self._report = report
        self._port = port
        self._names: dict[str, tuple[str, str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: set[str] = set()
        self._rooms: dict[str, asyncio.Semaphore] = {}
        self._hands = Hands(turns, place, launcher, Live(place, self._told, self._ended), checkpoint, report)

    def begin(self, realm: str, name: str) -> None:
        """Begins to carry out an operation that was accepted; once, however often it is called."""
        if name not in self._begun:
            self._begun.add(name)
            self._spawn(lambda: self._perform(realm, name), lambda: self._begun.discard(name))

    async def resume(self) -> None:
        """Takes up what a daemon before this one has left: its operations, and guests that run."""
        left = await self._hands.enter("", operations.unfinished)
        busy = {(one.realm, one.body["target"]) for one in left}
        guests = await self._hands.enter("", lambda core: core.ledger.documents("guest"))
        for guest in guests:
            self._names[guest.body["uuid"]] = (guest.realm, guest.id)
            # Not one after the other: an emulator that does not greet must not keep the others waiting.
            if guest.body["state"] == of_guests.STARTED and (guest.realm, guest.id) not in busy:
                self._spawn(partial(self._take_up, guest))
        for one in left:
            self.begin(one.realm, one.id)

    async def close(self) -> None:
        """Stops; operations that are under way are taken up by the next daemon, guests run on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hands.live.close()

    # What is done at once

    async def pause(self, guest: GuestView) -> GuestView:
        """Stops a guest's processors.

        Raises:
            HostError: its emulator does not answer.
        """
        await self._execute(guest, "stop")
        return await self._noted(guest, paused=True)

    async def go_on(self, guest: GuestView) -> GuestView:
        """Has a guest's processors run.

        Raises:
            HostError: its emulator does not answer.
        """
        await self._execute(guest, "cont")
        return await self._noted(guest, paused=False)

    async def reset(self, guest: GuestView) -> GuestView:
        """Resets a guest.

        Raises:
            HostError: its emulator does not answer.
        """
        await self._execute(guest, "system_reset")
        return guest

    async def console(self, guest: GuestView) -> Output:
        """What a guest has printed since it was read last.

        Raises:
            HostError: its emulator does not answer.
        """
        size = 64 << 10
        text = await self._execute(guest, "ringbuf-read", device=CONSOLE, size=size, format="utf8")
        return Output(text=str(text))

    async def _execute(self, guest: GuestView, command: str, **arguments: object) -> Any:
        await self._hands.live.open(guest.uuid)  # it may have come up again a moment ago
        return await self._hands.live.execute(guest.uuid, command, **arguments)

    async def _noted(self, guest: GuestView, *, paused: bool) -> GuestView:
        def look(core: Core) -> GuestView:
            _note_paused(core, guest.realm, guest.name, paused)
            return of_guests.view(core, core.document("guest", guest.realm, guest.name))

        return await self._hands.enter(guest.realm, look)

    # Operations

    async def _perform(self, realm: str, name: str) -> None:
        """Carries out an operation, or what is left of it: it may be called again after any failure."""
        operation = await self._hands.document("operation", realm, name)
        verb, target = operation.body["verb"], operation.body["target"]
        self._hands.checkpoint(f"{verb} accepted")
        guest = await self._hands.enter(realm, lambda core: core.ledger.document("guest", realm, target))
        if guest is not None:
            self._names[guest.body["uuid"]] = (realm, target)
        if operation.body["state"] not in operations.FINAL:
            async with self._rooms.setdefault(realm, asyncio.Semaphore(_AT_ONCE)):
                await _VERBS[verb](self._hands, operation)
        if guest is None:
            return
        if not self._hands.live.has(guest.body["uuid"]):
            # If its emulator ended meanwhile, `_ended` left it to whoever was at work on it.
            await self._settle(realm, target)
        elif verb == "guest.start":
            await self._up(guest)

    # Guests that run

    async def _told(self, uuid: str, event: Event) -> None:
        realm, name = self._names[uuid]
        if event.name in ("STOP", "RESUME"):
            await self._hands.enter(realm, lambda core: _note_paused(core, realm, name, event.name == "STOP"))
        elif event.name == "RESET" or event.data.get("open") is False:
            # Not when the guest opens its port: its first request may be on the way.
            self._port(uuid, realm, name)

    async def _ended(self, uuid: str) -> None:
        """Whichever way an emulator ended, its guest is stopped once all was put back."""
        self._spawn(partial(self._settle, *self._names[uuid]))

    async def _take_up(self, guest: Document) -> None:
        """A guest that a daemon before this one has started."""
        if await self._hands.live.open(guest.body["uuid"]):
            await self._up(guest)
        else:
            await self._settle(guest.realm, guest.id)

    async def _settle(self, realm: str, name: str) -> None:
        guest = await self._hands.enter(realm, partial(_unsettled, realm=realm, name=name))
        if guest is None:
            return  # whoever is at work on it sees to it
        await self._hands.gone(realm, guest.body["uuid"])

        def enter(core: Core) -> None:
            if _unsettled(core, realm, name) is not None:
                puts, spends = operations.guest_stopped(core, realm, name)
                core.commit("septum", realm, "guest.stopped", {"guest": name}, puts, spends)

        await self._hands.enter(realm, enter)

    async def _up(self, guest: Document) -> None:
        """Sees to a guest that is up: whether it was paused meanwhile, and its port."""
        uuid, realm, name = guest.body["uuid"], guest.realm, guest.id
        try:
            status = await self._hands.live.execute(uuid, "query-status")
        except (HostError, MonitorError):
            return  # it has just ended
        await self._hands.enter(realm, lambda core: _note_paused(core, realm, name, not status["running"]))
        if guest.body["config"].get("orchestrator"):
            self._port(uuid, realm, name)

    def _spawn(
        self, work: Callable[[], Coroutine[Any, Any, None]], finished: Callable[[], object] = lambda: None
    ) -> None:
        """Does work that has to be done: if the host or the ledger stands in the way, again and again."""

        async def persist() -> None:
            said = ""
            while True:
                try:
                    await work()
                    return
                except NotFound:
                    return  # what it was about is gone
                except SeptumError as error:
                    if str(error) != said:
                        said = str(error)
                        self._report(said)
                await asyncio.sleep(_AGAIN)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            finished()

        task = asyncio.create_task(persist())
        self._tasks.add(task)
        task.add_done_callback(ended)


def _unsettled(core: Core, realm: str, name: str) -> Document | None:
    """A guest that counts as started, and on which no operation is at work."""
    guest = core.ledger.document("guest", realm, name)
    busy = operations.at_work(core, realm, name)
    return None if guest is None or busy or guest.body["state"] != of_guests.STARTED else guest


def _note_paused(core: Core, realm: str, name: str, paused: bool) -> None:
    guest = core.ledger.document("guest", realm, name)
    if guest is None or guest.body["state"] != of_guests.STARTED or guest.body.get("paused", False) == paused:
        return
    entry = put("guest", realm, name, guest.version, {**guest.body, "paused": paused})
    core.commit("septum", realm, "guest.paused" if paused else "guest.resumed", {"guest": name}, [entry])
