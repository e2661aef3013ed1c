"""Carrying out operations: each step is written down, then done; after a crash it is found, and finished or undone.

What tells a daemon that comes up whether a start of the one before got anywhere is the guest's monitor socket. It was
made by the daemon, and only the launcher and the emulator that it became inherit it: if nobody listens any more,
nothing of the guest runs, and nothing will. `checkpoint` is called between any two steps that matter, so that tests
can end the process at each.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from septum.errors import HostError, NotFound, SeptumError
from septum.launch.undo import survivors
from septum.ledger.records import Document
from septum.realms import host, operations
from septum.realms.core import Core, put
from septum.realms.host import Launcher, Place
from septum.realms.lines import Ends, line
from septum.realms.live import Live
from septum.realms.model import GuestConfig, Stop
from septum.realms.turns import Turns

__all__ = ["Performer"]

_GREETING: Final = 60.0  # seconds that a start may take
_ENDING: Final = 30.0  # seconds that the emulator may take to end when it is told to
_LOOK: Final = 0.01  # seconds between looks at the ledger, while a guest is put back
_AT_ONCE: Final = 8  # starts and copies at the same time
_SAID: Final = 2000  # characters of what a launcher printed that go into a failure


class Performer:
    """Carries out operations.

    Args:
        turns: works on the ledger.
        place: where things are on the host.
        launcher: starts guests.
        report: is told what an operator should know.
        checkpoint: see the module's text.
        port: is told uuid, realm and name of an orchestrator that is up.
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
        self._turns = turns
        self._place = place
        self._launcher = launcher
        self._report = report
        self._checkpoint = checkpoint
        self._port = port
        self.live = Live(place, self._told, self._ended)
        self._names: dict[str, tuple[str, str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: set[str] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._verbs: dict[str, Callable[[Document], Awaitable[None]]] = {
            "guest.start": self._start,
            "guest.stop": self._stop,
            "image.create": self._image,
            "image.clone": self._image,
            "image.destroy": self._remove,
        }

    def begin(self, realm: str, name: str) -> None:
        """Begins to carry out an operation that was accepted; once, however often it is called."""
        if name not in self._begun:
            self._begun.add(name)
            self._spawn(self._perform(realm, name))

    async def resume(self) -> None:
        """Takes up what a daemon before this one has left: its operations, and guests that run."""
        left = await self._turns.run("", operations.unfinished)
        busy = {(one.realm, one.body["target"]) for one in left}
        guests = await self._turns.run("", lambda core: core.ledger.documents("guest"))
        for guest in guests:
            self._names[guest.body["uuid"]] = (guest.realm, guest.id)
            if guest.body["state"] == "started":
                if await self.live.open(guest.body["uuid"]):
                    self._up(guest)
                elif (guest.realm, guest.id) not in busy:
                    self._spawn(self._settle(guest.realm, guest.id))
        for one in left:
            self.begin(one.realm, one.id)

    async def close(self) -> None:
        """Stops; operations that are under way are taken up by the next daemon, guests run on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.live.close()

    # Operations

    async def _perform(self, realm: str, name: str) -> None:
        operation = await self._turns.run(realm, lambda core: core.document("operation", realm, name))
        self._checkpoint(f"accepted {operation.body['verb']}")
        try:
            if operation.body["state"] not in operations.FINAL:
                async with self._room:
                    await self._verbs[operation.body["verb"]](operation)
        finally:
            self._begun.discard(name)
        self._checkpoint(f"finished {operation.body['verb']}")

    async def _step(self, operation: Document, step: str) -> Document:
        done = await self._turns.run(operation.realm, lambda core: operations.advance(core, operation, step))
        self._checkpoint(f"{operation.body['verb']} {step}")
        return done

    async def _start(self, operation: Document) -> None:
        realm, name = operation.realm, operation.body["target"]
        guest = await self._turns.run(realm, lambda core: core.document("guest", realm, name))
        uuid = guest.body["uuid"]
        self._names[uuid] = (realm, name)
        fresh = operation.body["state"] == "accepted"
        child: subprocess.Popen[bytes] | None = None
        try:
            if fresh:
                operation = await self._step(operation, "launch")
                child = await asyncio.to_thread(self._launch, guest)
                self._reap(child)
                self._checkpoint("guest.start launched")
            if not await asyncio.wait_for(self.live.open(uuid), _GREETING):
                raise HostError("the guest did not come up", target=f"{realm}/{name}", rule=self._said(uuid))
            self._checkpoint("guest.start greeted")
        except (TimeoutError, SeptumError) as error:
            if child is not None and child.poll() is None:
                child.kill()
            await self._gone(realm, uuid)
            told = error if isinstance(error, SeptumError) else HostError("the guest took too long", target=name)

            def undo(core: Core) -> None:
                operations.failed(core, operation, told, *operations.guest_stopped(core, realm, name))

            await self._turns.run(realm, undo)
            return
        last = operation
        await self._turns.run(
            realm, lambda core: operations.done(core, last, operations.guest_started(core, realm, name))
        )
        self._up(guest)
        if not self.live.has(uuid):
            # It ended between its greeting and this commit, and `_ended` found it not started yet.
            await self._settle(realm, name)

    def _launch(self, guest: Document) -> subprocess.Popen[bytes]:
        config = msgspec.convert(guest.body["config"], GuestConfig)
        uuid = guest.body["uuid"]
        names = [config.kernel, config.initrd, *(disk.image for disk in config.disks)]
        paths = {name: self._place.image(guest.realm, name) for name in names if name}
        writes = {disk.image for disk in config.disks if not disk.read_only}
        monitor = host.listen(self._place.monitor(uuid))
        port = host.listen(self._place.port(uuid)) if config.orchestrator else None
        try:
            ends = Ends(monitor.fileno(), port.fileno() if port else -1)
            return self._launcher.start(
                guest.realm,
                guest.id,
                line(self._place.program, guest.id, uuid, config, paths, ends),
                [path for name, path in paths.items() if name not in writes],
                [fd for fd in ends if fd >= 0],
                self._place.log(uuid),
            )
        finally:
            # Only the guest has them now: when it ends, nobody listens any more.
            monitor.close()
            if port:
                port.close()

    async def _stop(self, operation: Document) -> None:
        realm, name = operation.realm, operation.body["target"]
        guest = await self._turns.run(realm, lambda core: core.document("guest", realm, name))
        uuid = guest.body["uuid"]
        how = msgspec.convert(operation.body["arguments"], Stop)
        operation = await self._step(operation, "end")
        try:
            if await self.live.open(uuid):
                await self._end(uuid, how)
        except SeptumError as error:
            self._report(f"guest {realm}/{name}: {error.what}")
        try:
            await self._gone(realm, uuid)
        except HostError as error:
            told = error
            await self._turns.run(realm, lambda core: operations.failed(core, operation, told))
            return
        self._checkpoint("guest.stop gone")
        last = operation
        await self._turns.run(
            realm, lambda core: operations.done(core, last, *operations.guest_stopped(core, realm, name))
        )

    async def _end(self, uuid: str, how: Stop) -> None:
        """Has the emulator end: the guest is asked first, unless it is forced."""
        if not how.force and how.seconds:
            await self.live.execute(uuid, "system_powerdown")
            if await self._until(lambda: not self.live.has(uuid), how.seconds):
                return
        await self.live.execute(uuid, "quit")
        await self._until(lambda: not self.live.has(uuid), _ENDING)

    async def _image(self, operation: Document) -> None:
        realm, arguments = operation.realm, operation.body["arguments"]
        name, source = arguments["image"], arguments.get("source", "")
        operation = await self._step(operation, "copy")
        path = self._place.image(realm, name)
        try:
            size = await self._turns.run(realm, lambda core: core.document("image", realm, name).body["size"])
            origin = self._place.image(realm, source) if source else arguments.get("path", "")
            await asyncio.to_thread(host.copy, origin, path, size)
        except SeptumError as error:
            await asyncio.to_thread(host.remove, path)
            told = error

            def undo(core: Core) -> None:
                operations.failed(core, operation, told, *operations.image_gone(core, realm, name, source))

            await self._turns.run(realm, undo)
            return
        self._checkpoint(f"{operation.body['verb']} copied")
        last = operation
        await self._turns.run(
            realm, lambda core: operations.done(core, last, operations.image_ready(core, realm, name, source))
        )

    async def _remove(self, operation: Document) -> None:
        realm, name = operation.realm, operation.body["arguments"]["image"]
        operation = await self._step(operation, "remove")
        try:
            await asyncio.to_thread(host.remove, self._place.image(realm, name))
        except HostError as error:
            told = error
            await self._turns.run(realm, lambda core: operations.failed(core, operation, told))
            return
        self._checkpoint("image.destroy removed")
        await self._turns.run(
            realm, lambda core: operations.done(core, operation, *operations.image_gone(core, realm, name))
        )

    # Guests that run

    async def _told(self, uuid: str, event: str, data: Mapping[str, Any]) -> None:
        realm, name = self._names[uuid]
        if event in ("STOP", "RESUME"):
            await self._turns.run(realm, partial(_note_paused, realm=realm, name=name, paused=event == "STOP"))

    async def _ended(self, uuid: str) -> None:
        """Whichever way an emulator ended, its guest is stopped once all was put back."""
        self._spawn(self._settle(*self._names[uuid]))

    async def _settle(self, realm: str, name: str) -> None:
        def look(core: Core) -> Document | None:
            guest = core.ledger.document("guest", realm, name)
            busy = any(one.realm == realm and one.body["target"] == name for one in operations.unfinished(core))
            return None if guest is None or busy or guest.body["state"] != "started" else guest

        guest = await self._turns.run(realm, look)
        if guest is None:
            return  # whoever is at work on it sees to it
        try:
            await self._gone(realm, guest.body["uuid"])
        except HostError as error:
            self._report(f"guest {realm}/{name}: {error.what}")
            return

        def enter(core: Core) -> None:
            if look(core) is not None:
                puts, spends = operations.guest_stopped(core, realm, name)
                core.commit("septum", realm, "guest.stopped", {"guest": name}, puts, spends)

        await self._turns.run(realm, enter)

    async def _gone(self, realm: str, uuid: str) -> None:
        """Waits until nothing of the guest runs and all was put back, as far as it could be.

        Raises:
            HostError: something of it runs on.
        """

        def there(core: Core) -> bool:
            row = core.ledger.guest(uuid)
            return row is not None and (row.state != "stuck" or bool(survivors(row)))

        for _ in range(int(_ENDING / _LOOK)):
            if host.deserted(self._place.monitor(uuid)) and not await self._turns.run(realm, there):
                return
            await asyncio.sleep(_LOOK)
        raise HostError(
            "the guest does not end",
            target=uuid,
            rule="its label and images are free only when nothing of it runs",
            remedy="septum ps --all; septum reconcile",
        )

    def _up(self, guest: Document) -> None:
        if guest.body["config"].get("orchestrator"):
            self._port(guest.body["uuid"], guest.realm, guest.id)

    def _said(self, uuid: str) -> str:
        try:
            with open(self._place.log(uuid), encoding="utf-8", errors="replace") as file:
                return file.read(_SAID).strip()
        except OSError:
            return ""

    def _reap(self, child: subprocess.Popen[bytes]) -> None:
        """Takes the child's exit status once it has one; the watcher puts back what it leaves."""
        fd = os.pidfd_open(child.pid)
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            child.poll()

        loop.add_reader(fd, ended)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not condition():
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_LOOK)
        return True

    def _spawn(self, work: Any) -> None:
        async def guarded() -> None:
            try:
                await work
            except NotFound:
                pass  # what it was about is gone
            except SeptumError as error:
                self._report(str(error))

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _note_paused(core: Core, *, realm: str, name: str, paused: bool) -> None:
    guest = core.ledger.document("guest", realm, name)
    if guest is None or guest.body["state"] != "started" or guest.body.get("paused", False) == paused:
        return
    entry = put("guest", realm, name, guest.version, {**guest.body, "paused": paused})
    core.commit("septum", realm, "guest.paused" if paused else "guest.resumed", {"guest": name}, [entry])
