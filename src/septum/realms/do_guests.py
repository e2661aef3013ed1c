"""Carrying out what was accepted about guests: start, stop, attach, detach.

What tells a daemon that comes up whether a start of the one before got anywhere is the guest's monitor socket. It was
made by the daemon, and only the launcher and the emulator that it became inherit it: if nobody listens any more,
nothing of the guest runs, and nothing will.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from septum.errors import HostError, MonitorError, MonitorRefused, SeptumError
from septum.ledger.records import Document
from septum.realms import host, of_guests, operations
from septum.realms.core import Core, put
from septum.realms.hands import ENDING, Hands, until
from septum.realms.lines import BUSES, Ends, bus, device_id, drive_id, line
from septum.realms.model import Attachment, GuestConfig, Stop

__all__ = ["attach", "detach", "start", "stop"]

_LETTING_GO: Final = 10.0  # seconds that a guest may take to give up a disk
_SAID: Final = 2000  # characters of what a launcher printed that go into a failure


async def start(hands: Hands, operation: Document) -> None:
    """Starts a guest, or finds out what became of its start."""
    realm, name = operation.realm, operation.body["target"]
    guest = await hands.document("guest", realm, name)
    uuid = guest.body["uuid"]
    child: subprocess.Popen[bytes] | None = None
    try:
        if operation.body["state"] == "accepted":
            operation = await hands.step(operation, "launch")
            devices = await hands.enter(realm, lambda core: core.ledger.documents("device", realm))
            nodes = {one.id: str(one.body["path"]) for one in devices}
            for one in devices:
                if name in one.body["users"]:
                    host.check_device(one.body["path"], one.body["number"])
            child = await asyncio.to_thread(_launch, hands, guest, nodes)
            _reap(child)
            hands.checkpoint("guest.start launched")
        if not await hands.live.open(uuid):
            raise HostError("the guest did not come up", target=f"{realm}/{name}", rule=_said(hands, uuid))
        hands.checkpoint("guest.start greeted")
    except SeptumError as error:
        if child is not None and child.poll() is None:
            child.kill()
        await hands.gone(realm, uuid)
        await hands.failed(operation, error, lambda core: operations.guest_stopped(core, realm, name))
        return
    await hands.done(operation, lambda core: (operations.guest_started(core, realm, name), ()))


async def stop(hands: Hands, operation: Document) -> None:
    """Ends a guest, and waits until it was put back."""
    realm, name = operation.realm, operation.body["target"]
    guest = await hands.document("guest", realm, name)
    uuid = guest.body["uuid"]
    operation = await hands.step(operation, "end")
    try:
        if await hands.live.open(uuid):
            await _end(hands, uuid, msgspec.convert(operation.body["arguments"], Stop))
    except SeptumError as error:
        hands.report(f"guest {realm}/{name}: {error.what}")
    try:
        await hands.gone(realm, uuid)
    except HostError as error:
        await hands.failed(operation, error, lambda _: ((), ()))
        return
    await hands.done(operation, lambda core: operations.guest_stopped(core, realm, name))


async def attach(hands: Hands, operation: Document) -> None:
    """Gives a guest that runs an image. Each step looks first whether it was done: it may be the second time.

    The emulator gets a descriptor, and no path: its confinement stays as it is.
    """
    realm, name = operation.realm, operation.body["target"]
    what = msgspec.convert(operation.body["arguments"], Attachment)
    uuid = (await hands.document("guest", realm, name)).body["uuid"]
    operation = await hands.step(operation, "attach")
    try:
        await hands.live.open(uuid)
        await _add(hands, uuid, realm, what)
    except SeptumError as error:
        with suppress(HostError, MonitorError):
            await _take(hands, uuid, what.image)
        await hands.failed(operation, error, lambda core: (_without(core, realm, name, what.image), ()))
        return

    def enter(core: Core) -> tuple[Any, Any]:
        document = core.document("guest", realm, name)
        if document.body["state"] != of_guests.STARTED:
            return (), ()  # it has ended meanwhile, which took the image away
        body = {**document.body, "attached": [*document.body["attached"], what.image]}
        return [put("guest", realm, name, document.version, body)], ()

    await hands.done(operation, enter)


async def detach(hands: Hands, operation: Document) -> None:
    """Takes an image from a guest that runs, if the guest gives it up."""
    realm, name = operation.realm, operation.body["target"]
    image = msgspec.convert(operation.body["arguments"], Attachment).image
    uuid = (await hands.document("guest", realm, name)).body["uuid"]
    operation = await hands.step(operation, "detach")
    try:
        if await hands.live.open(uuid):
            await _take(hands, uuid, image)
    except SeptumError as error:
        await hands.failed(operation, error, lambda _: ((), ()))
        return
    await hands.done(operation, lambda core: (_without(core, realm, name, image), ()))


def _launch(hands: Hands, guest: Document, devices: Mapping[str, str]) -> subprocess.Popen[bytes]:
    config = msgspec.convert(guest.body["config"], GuestConfig)
    uuid, place = guest.body["uuid"], hands.place
    names = [config.kernel, config.initrd, *(disk.image for disk in config.disks)]
    paths = {name: place.image(guest.realm, name) for name in names if name}
    writes = {disk.image for disk in config.disks if not disk.read_only}
    monitor = host.listen(place.monitor(uuid))
    port = host.listen(place.port(uuid)) if config.orchestrator else None
    try:
        ends = Ends(monitor.fileno(), port.fileno() if port else -1)
        return hands.launcher.start(
            guest.realm,
            guest.id,
            line(place.program, guest.id, uuid, config, paths, ends, devices),
            [path for name, path in paths.items() if name not in writes],
            [fd for fd in ends if fd >= 0],
            place.log(uuid),
            orchestrator=config.orchestrator,
            role=config.role,
        )
    finally:
        # Only the guest has them now: when it ends, nobody listens any more.
        monitor.close()
        if port:
            port.close()


async def _end(hands: Hands, uuid: str, how: Stop) -> None:
    """Has the emulator end: the guest is asked first, unless it is forced."""
    if not how.force and how.seconds:
        await hands.live.execute(uuid, "system_powerdown")
        if await until(lambda: not hands.live.has(uuid), how.seconds):
            return
    await hands.live.execute(uuid, "quit")
    await until(lambda: not hands.live.has(uuid), ENDING)


async def _add(hands: Hands, uuid: str, realm: str, what: Attachment) -> None:
    node, live = drive_id(what.image), hands.live
    if node not in await _nodes(hands, uuid):
        path = hands.place.image(realm, what.image)
        fdset = await _fdset(hands, uuid, node)
        if fdset is None:
            flags = os.O_RDONLY if what.read_only else os.O_RDWR
            fdset = await live.add_descriptor(uuid, await asyncio.to_thread(host.open_image, path, flags), node)
        hands.checkpoint("guest.attach passed")
        file = {"driver": "file", "filename": f"/dev/fdset/{fdset}"}
        read_only = {"read-only": what.read_only, "auto-read-only": False}
        await live.execute(uuid, "blockdev-add", **{"driver": "raw", "node-name": node, "file": file, **read_only})
    hands.checkpoint("guest.attach added")
    devices = await _devices(hands, uuid)
    if device_id(what.image) not in devices:
        free = next((number for number in range(BUSES) if bus(number) not in devices.values()), None)
        if free is None:
            raise HostError("the guest has no slot left", target=uuid, rule=f"{BUSES} images while it runs")
        where = {"driver": "virtio-blk-pci", "drive": node, "id": device_id(what.image), "bus": bus(free)}
        await live.execute(uuid, "device_add", **where)


async def _take(hands: Hands, uuid: str, image: str) -> None:
    """Takes away as much of an image as there is.

    Raises:
        HostError: the guest does not give it up.
    """
    node, device = drive_id(image), device_id(image)
    if device in await _devices(hands, uuid):
        await hands.live.execute(uuid, "device_del", id=device)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LETTING_GO
    while device in await _devices(hands, uuid):
        if loop.time() > deadline:
            raise HostError("the guest does not give the image up", target=image, remedy="stop the guest")
        await asyncio.sleep(0.02)
    hands.checkpoint("guest.detach unplugged")
    while node in await _nodes(hands, uuid):
        try:
            await hands.live.execute(uuid, "blockdev-del", **{"node-name": node})
        except MonitorRefused:
            # The device goes a moment after its name.
            if loop.time() > deadline:
                raise
            await asyncio.sleep(0.02)
    fdset = await _fdset(hands, uuid, node)
    if fdset is not None:
        await hands.live.execute(uuid, "remove-fd", **{"fdset-id": fdset})


async def _nodes(hands: Hands, uuid: str) -> set[str]:
    found = await hands.live.execute(uuid, "query-named-block-nodes", flat=True)
    return {str(one["node-name"]) for one in found}


async def _devices(hands: Hands, uuid: str) -> dict[str, str]:
    """Devices with an id → their bus."""
    found = {}
    for one in await hands.live.execute(uuid, "qom-list", path="/machine/peripheral"):
        if str(one["name"]).startswith("hot-"):
            where = f"/machine/peripheral/{one['name']}"
            with suppress(MonitorRefused):  # it has gone since it was listed
                path = str(await hands.live.execute(uuid, "qom-get", path=where, property="parent_bus"))
                found[str(one["name"])] = path.rpartition("/")[2]
    return found


async def _fdset(hands: Hands, uuid: str, opaque: str) -> int | None:
    for one in await hands.live.execute(uuid, "query-fdsets"):
        if any(fd.get("opaque") == opaque for fd in one["fds"]):
            return int(one["fdset-id"])
    return None


def _without(core: Core, realm: str, name: str, image: str) -> list[Any]:
    """Changes for an image that a guest has not any more."""
    document = core.document("guest", realm, name)
    if document.body["state"] != of_guests.STARTED:
        return []  # it has ended meanwhile, which took the image away
    left = [one for one in document.body["attached"] if one != image]
    puts = [put("guest", realm, name, document.version, {**document.body, "attached": left})]
    return puts + of_guests.users(core, realm, name, [(image, "ro")], adding=False)


def _said(hands: Hands, uuid: str) -> str:
    try:
        with open(hands.place.log(uuid), encoding="utf-8", errors="replace") as file:
            return file.read(_SAID).strip()
    except OSError:
        return ""


def _reap(child: subprocess.Popen[bytes]) -> None:
    """Takes the child's exit status once it has one; the watcher puts back what it leaves."""
    fd = os.pidfd_open(child.pid)
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        child.poll()

    loop.add_reader(fd, ended)
