"""Carrying out what was accepted about images and snapshots: making files, copying and removing them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from septum.errors import HostError, SeptumError
from septum.ledger.records import Document
from septum.realms import host, of_snapshots, operations
from septum.realms.hands import Hands

__all__ = ["make", "remove", "remove_snapshot", "restore", "snapshot"]

_PAUSES = "copy, then go on"


async def make(hands: Hands, operation: Document) -> None:
    """Makes an image's file. Begun a second time, it is made anew: nobody has it yet."""
    realm, arguments = operation.realm, operation.body["arguments"]
    name, source = arguments["image"], arguments.get("source", "")
    operation = await hands.step(operation, "copy")
    path = hands.place.image(realm, name)
    try:
        size = (await hands.document("image", realm, name)).body["size"]
        origin = hands.place.image(realm, source) if source else arguments.get("path", "")
        await asyncio.to_thread(host.copy, origin, path, size, hands.place.folders(realm))
    except SeptumError as error:
        await asyncio.to_thread(host.remove, path)
        await hands.failed(operation, error, lambda core: operations.image_gone(core, realm, name, source))
        return
    await hands.done(operation, lambda core: (operations.image_ready(core, realm, name, source), ()))


async def remove(hands: Hands, operation: Document) -> None:
    """Removes an image's file."""
    realm, name = operation.realm, operation.body["arguments"]["image"]
    operation = await hands.step(operation, "remove")
    try:
        await asyncio.to_thread(host.remove, hands.place.image(realm, name))
    except HostError as error:
        await hands.failed(operation, error, lambda core: (operations.image_ready(core, realm, name), ()))
        return
    await hands.done(operation, lambda core: operations.image_gone(core, realm, name))


async def snapshot(hands: Hands, operation: Document) -> None:
    """Copies a guest's disks at one moment: while they are copied its processors stand still.

    QEMU has written all that it held back when it has stopped the guest (do_vm_stop in softmmu/cpus.c flushes), so the
    copy is what a power cut at that moment would have left.
    """
    realm, name = operation.realm, operation.body["arguments"]["snapshot"]
    guest = await hands.document("guest", realm, operation.body["target"])
    uuid = guest.body["uuid"]
    pairs = await _files(hands, realm, name)
    try:
        alive = guest.body["state"] == "started" and await hands.live.open(uuid)
        if operation.body["state"] == "accepted":
            runs = alive and (await hands.live.execute(uuid, "query-status"))["running"]
            operation = await hands.step(operation, _PAUSES if runs else "copy")
        try:
            if alive:
                await hands.live.execute(uuid, "stop")
            hands.checkpoint("guest.snapshot paused")
            for source, target, size in pairs:
                await asyncio.to_thread(host.copy, source, target, size, hands.place.folders(realm, name))
        finally:
            if alive and operation.body["step"] == _PAUSES and hands.live.has(uuid):
                await hands.live.execute(uuid, "cont")
    except SeptumError as error:
        await asyncio.to_thread(_remove_all, [target for _, target, _ in pairs])
        await hands.failed(operation, error, lambda core: of_snapshots.gone(core, realm, name))
        return
    await hands.done(operation, lambda core: of_snapshots.ready(core, realm, name))


async def restore(hands: Hands, operation: Document) -> None:
    """Puts copies in the place of a guest's disks: of all of them, or of none."""
    realm, name = operation.realm, operation.body["arguments"]["snapshot"]
    pairs = await _files(hands, realm, name)
    operation = await hands.step(operation, "copy")
    fresh = {path: f"{path}.restored" for path, _, _ in pairs}
    try:
        for path, source, size in pairs:
            await asyncio.to_thread(host.copy, source, fresh[path], size)
            hands.checkpoint("snapshot.restore copied one")
    except SeptumError as error:
        await asyncio.to_thread(_remove_all, list(fresh.values()))
        await hands.failed(operation, error, lambda core: (of_snapshots.unused(core, realm, name), ()))
        return
    # From here on nothing is in the way: killed between two of them, the next daemon copies them all once more.
    for path, copied in fresh.items():
        host.replace(copied, path)
        hands.checkpoint("snapshot.restore put one back")
    await hands.done(operation, lambda core: (of_snapshots.unused(core, realm, name), ()))


async def remove_snapshot(hands: Hands, operation: Document) -> None:
    """Removes the copies."""
    realm, name = operation.realm, operation.body["arguments"]["snapshot"]
    pairs = await _files(hands, realm, name)
    operation = await hands.step(operation, "remove")
    await asyncio.to_thread(_remove_all, [target for _, target, _ in pairs])
    await hands.done(operation, lambda core: of_snapshots.gone(core, realm, name))


async def _files(hands: Hands, realm: str, name: str) -> list[tuple[str, str, int]]:
    """A snapshot's images: file, copy, bytes."""
    document = await hands.document("snapshot", realm, name)
    sizes: dict[str, int] = document.body["sizes"]
    return [
        (hands.place.image(realm, image), hands.place.snapshot(realm, name, image), size)
        for image, size in sizes.items()
    ]


def _remove_all(paths: Sequence[Any]) -> None:
    for path in paths:
        host.remove(path)
