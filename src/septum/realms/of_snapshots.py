"""Verbs on snapshots: copies of all disks that a guest writes to, at one moment."""

from __future__ import annotations

import msgspec

from septum.errors import Changed, Denied, Held
from septum.ledger.records import Document, Put, Spend
from septum.realms.caller import Caller
from septum.realms.core import Core, Once, put
from septum.realms.model import GuestConfig, NewSnapshot, OperationView, SnapshotView

__all__ = ["create", "destroy", "get", "gone", "listed", "ready", "restore", "unused"]


def create(
    core: Core, caller: Caller, realm: str, guest: str, new: NewSnapshot, once: Once | None = None
) -> OperationView:
    """Accepts the copying of a guest's disks.

    Raises:
        NotFound: there is no such guest, or it is not the caller's.
        Denied: it writes to no disk.
        Held: there is such a snapshot, or the guest is being started or stopped.
        OverQuota: the realm may have no more room.
    """
    core.permit(caller, (f"guest:{realm}/{guest}", "snapshot"))
    if made := core.seen(realm, once):
        return core.operation(caller, realm, made)
    document = core.document("guest", realm, guest)
    if document.body["state"] == "starting":
        raise Held(f"guest {guest} is being started", target=f"{realm}/{guest}", remedy="wait for it")
    config = msgspec.convert(document.body["config"], GuestConfig)
    names = [disk.image for disk in config.disks if not disk.read_only]
    # Of those that were attached while it runs, the ledger knows which it writes to.
    images = {name: core.document("image", realm, name) for name in [*names, *document.body["attached"]]}
    sizes = {
        name: image.body["size"]
        for name, image in images.items()
        if name in names or image.body["users"].get(guest) == "rw"
    }
    if not sizes:
        raise Denied(f"guest {guest} writes to no disk", target=f"{realm}/{guest}", rule="a snapshot is of disks")
    total = sum(sizes.values())
    body = {"guest": guest, "sizes": sizes, "ready": False, "restoring": False}
    puts = [put("snapshot", realm, new.name, 0, body)]
    spends = [Spend(realm, "disk", total, core.quota(realm).disk)]
    return core.accept(caller, realm, "guest.snapshot", guest, {"snapshot": new.name}, puts, spends, once)


def listed(core: Core, caller: Caller, realm: str) -> list[SnapshotView]:
    """
    Raises:
        NotFound: the realm is not the caller's.
    """
    core.permit(caller, (f"guests:{realm}", "list"))
    return [_view(one) for one in core.ledger.documents("snapshot", realm)]


def get(core: Core, caller: Caller, realm: str, name: str) -> SnapshotView:
    """
    Raises:
        NotFound: there is none, or it is not the caller's.
    """
    core.permit(caller, (f"guests:{realm}", "getattr"))
    return _view(core.document("snapshot", realm, name))


def restore(core: Core, caller: Caller, realm: str, name: str, once: Once | None = None) -> OperationView:
    """Accepts that a guest's disks become what they were.

    Raises:
        NotFound: there is none, or it is not the caller's.
        Held: its guest, or another one, uses the disks.
    """
    core.permit(caller, (f"guests:{realm}", "snapshot"), (f"images:{realm}", "write"))
    if made := core.seen(realm, once):
        return core.operation(caller, realm, made)
    document = _whole(core.document("snapshot", realm, name))
    puts = [put("snapshot", realm, name, document.version, {**document.body, "restoring": True})]
    for image in document.body["sizes"]:
        found = core.document("image", realm, image)
        if found.body["users"] or not found.body["ready"]:
            raise Held(
                f"image {image} is in use",
                target=image,
                holder=next(iter(found.body["users"]), "its own operation"),
                rule="a disk is put back while no guest has it",
                remedy="stop that guest first",
            )
        if found.body["size"] != document.body["sizes"][image]:
            raise Held(f"image {image} is not the one that was copied", target=image)
        # Nobody begins to use it before it is whole again.
        puts.append(put("image", realm, image, found.version, {**found.body, "ready": False}))
    target = document.body["guest"]
    return core.accept(caller, realm, "snapshot.restore", target, {"snapshot": name}, puts, once=once)


def destroy(core: Core, caller: Caller, realm: str, name: str, expected: int) -> OperationView:
    """Accepts the removal of a snapshot.

    Raises:
        NotFound: there is none, or it is not the caller's.
        Changed: it is not at version `expected`.
        Held: it is being made, or restored.
    """
    core.permit(caller, (f"guests:{realm}", "snapshot"), (f"images:{realm}", "delete"))
    document = _whole(core.document("snapshot", realm, name))
    if expected and expected != document.version:
        raise Changed(f"snapshot {name} was changed meanwhile", target=name, remedy="read it again")
    puts = [put("snapshot", realm, name, document.version, {**document.body, "ready": False})]
    return core.accept(caller, realm, "snapshot.destroy", f"snapshot {name}", {"snapshot": name}, puts)


def ready(core: Core, realm: str, name: str) -> tuple[list[Put], list[Spend]]:
    """Changes for a snapshot whose copies are there."""
    document = core.document("snapshot", realm, name)
    return [put("snapshot", realm, name, document.version, {**document.body, "ready": True})], []


def unused(core: Core, realm: str, name: str) -> list[Put]:
    """Changes for a snapshot, and the disks that were restored from it."""
    document = core.document("snapshot", realm, name)
    puts = [put("snapshot", realm, name, document.version, {**document.body, "restoring": False})]
    for image in document.body["sizes"]:
        found = core.document("image", realm, image)
        puts.append(put("image", realm, image, found.version, {**found.body, "ready": True}))
    return puts


def gone(core: Core, realm: str, name: str) -> tuple[list[Put], list[Spend]]:
    """Changes for a snapshot that was removed, or could not be made."""
    document = core.document("snapshot", realm, name)
    total = sum(document.body["sizes"].values())
    return [put("snapshot", realm, name, document.version, None)], [Spend(realm, "disk", -total, 0)]


def _whole(document: Document) -> Document:
    if not document.body["ready"] or document.body["restoring"]:
        raise Held(f"snapshot {document.id} is at work", target=document.id, remedy="wait for its operation")
    return document


def _view(document: Document) -> SnapshotView:
    sizes = document.body["sizes"]
    return SnapshotView(
        name=document.id,
        guest=document.body["guest"],
        realm=document.realm,
        version=document.version,
        images=list(sizes),
        size=sum(sizes.values()),
        ready=document.body["ready"],
    )
