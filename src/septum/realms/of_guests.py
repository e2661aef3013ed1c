"""Verbs on guests: what is decided and written down. What is done to the host, `septum.realms.perform` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from septum.errors import Changed, Denied, Held, NotFound
from septum.launch.identity import new_uuid
from septum.launch.undo import survivors
from septum.ledger.records import Document, Guest, Life, Put, Spend
from septum.realms.caller import Caller
from septum.realms.core import Core, Once, put
from septum.realms.model import MIB, Attachment, GuestConfig, GuestView, NewGuest, OperationView, Stop

__all__ = [
    "attach",
    "charge",
    "claims_of",
    "configure",
    "create",
    "destroy",
    "detach",
    "get",
    "listed",
    "start",
    "stop",
    "users",
    "view",
]

STOPPED, STARTING, STARTED = "stopped", "starting", "started"


def create(core: Core, caller: Caller, realm: str, new: NewGuest, once: Once | None = None) -> GuestView:
    """Defines a guest; nothing runs.

    Raises:
        NotFound: the caller may not, or an image that the guest names is not there.
        Held: there is such a guest.
    """
    core.permit(caller, (f"guests:{realm}", "create"))
    if made := core.seen(realm, once):
        return view(core, core.document("guest", realm, made))
    _check(core, realm, new.config)
    body = {
        "uuid": new_uuid(),
        "config": msgspec.to_builtins(new.config),
        "state": STOPPED,
        "charged": 0,
        "attached": [],
    }
    keys, spends = core.remember(realm, once, new.name)
    puts = [put("guest", realm, new.name, 0, body), *keys]
    return view(core, core.commit(caller.peer, realm, "guest.create", {"guest": new.name}, puts, spends)[0])


def listed(core: Core, caller: Caller, realm: str) -> list[GuestView]:
    """
    Raises:
        NotFound: the realm is not the caller's.
    """
    core.permit(caller, (f"guests:{realm}", "list"))
    lives = {life.uuid: life for life in core.ledger.lives(realm)}
    return [_view(one, lives.get(one.body["uuid"])) for one in core.ledger.documents("guest", realm)]


def get(core: Core, caller: Caller, realm: str, name: str) -> GuestView:
    """
    Raises:
        NotFound: there is none, or it is not the caller's.
    """
    core.permit(caller, (f"guest:{realm}/{name}", "getattr"))
    return view(core, core.document("guest", realm, name))


def configure(core: Core, caller: Caller, realm: str, name: str, config: GuestConfig, expected: int) -> GuestView:
    """What a guest is made of, from its next start on.

    Raises:
        NotFound: there is none, it is not the caller's, or an image that it names is not there.
        Changed: the guest is not at version `expected`.
    """
    core.permit(caller, (f"guest:{realm}/{name}", "set_config"))
    document = core.document("guest", realm, name)
    _check(core, realm, config)
    body = {**document.body, "config": msgspec.to_builtins(config)}
    puts = [put("guest", realm, name, expected, body)]
    return view(core, core.commit(caller.peer, realm, "guest.set_config", {"guest": name}, puts)[0])


def destroy(core: Core, caller: Caller, realm: str, name: str, expected: int) -> None:
    """Forgets a guest that is stopped. Its images stay.

    Raises:
        NotFound: there is none, or it is not the caller's.
        Changed: the guest is not at version `expected`.
        Held: it runs.
    """
    core.permit(caller, (f"guest:{realm}/{name}", "destroy"))
    document = core.document("guest", realm, name)
    _stopped(core, document)
    if expected and expected != document.version:
        raise Changed(f"guest {name} was changed meanwhile", target=f"{realm}/{name}", remedy="read it again")
    core.commit(
        caller.peer, realm, "guest.destroy", {"guest": name}, [put("guest", realm, name, document.version, None)]
    )


def start(core: Core, caller: Caller, realm: str, name: str, once: Once | None = None) -> OperationView:
    """Accepts the start of a guest: its share of the quota is taken, its images are its own from here on.

    Raises:
        NotFound: there is none, or it is not the caller's.
        Held: it is started, or somebody else uses one of its images.
        OverQuota: the realm may have no more.
    """
    core.permit(caller, (f"guest:{realm}/{name}", "start"))
    if made := core.seen(realm, once):
        return core.operation(caller, realm, made)
    document = core.document("guest", realm, name)
    _stopped(core, document)
    config = msgspec.convert(document.body["config"], GuestConfig)
    quota = core.quota(realm)
    memory = config.memory * MIB
    body = {**document.body, "state": STARTING, "charged": memory}
    puts = [
        put("guest", realm, name, document.version, body),
        *users(core, realm, name, _images(config), adding=True),
        *users(core, realm, name, [(device, "rw") for device in config.devices], adding=True, kind="device"),
    ]
    spends = [Spend(realm, "guests", 1, quota.guests), Spend(realm, "memory", memory, quota.memory)]
    return core.accept(caller, realm, "guest.start", name, {}, puts, spends, once)


def stop(core: Core, caller: Caller, realm: str, name: str, how: Stop, once: Once | None = None) -> OperationView:
    """Accepts the stop of a guest.

    Raises:
        NotFound: there is none, or it is not the caller's.
        Held: it is not started.
    """
    core.permit(caller, (f"guest:{realm}/{name}", "stop"))
    if made := core.seen(realm, once):
        return core.operation(caller, realm, made)
    _started(core.document("guest", realm, name))
    return core.accept(caller, realm, "guest.stop", name, msgspec.to_builtins(how), once=once)


def attach(core: Core, caller: Caller, realm: str, name: str, what: Attachment) -> OperationView:
    """Accepts the attaching of an image to a guest that runs.

    Raises:
        NotFound: guest or image is not there, or not the caller's.
        Held: the guest does not run, or has the image, or somebody else uses it.
    """
    core.permit(caller, (f"guest:{realm}/{name}", "attach"), (f"image:{realm}/{what.image}", "attach"))
    _started(core.document("guest", realm, name))
    puts = users(core, realm, name, [(what.image, "ro" if what.read_only else "rw")], adding=True)
    return core.accept(caller, realm, "guest.attach", name, msgspec.to_builtins(what), puts)


def detach(core: Core, caller: Caller, realm: str, name: str, what: Attachment) -> OperationView:
    """Accepts the taking away of an image that was attached while the guest ran.

    Raises:
        NotFound: guest or image is not there, or not the caller's.
        Held: the guest has no such image attached.
    """
    core.permit(caller, (f"guest:{realm}/{name}", "detach"), (f"image:{realm}/{what.image}", "attach"))
    document = _started(core.document("guest", realm, name))
    if what.image not in document.body["attached"]:
        raise Held(
            f"{what.image} was not attached to {name} while it ran",
            target=f"{realm}/{name}",
            rule="images of the configuration stay until the guest stops",
        )
    return core.accept(caller, realm, "guest.detach", name, msgspec.to_builtins(what))


def reach(core: Core, caller: Caller, realm: str, name: str, permission: str) -> GuestView:
    """A guest that runs, for what is done to it at once.

    Args:
        permission: ``pause``, ``reset``, ``console``, ``start``.

    Raises:
        NotFound: there is none, or it is not the caller's.
        Held: it does not run.
    """
    core.permit(caller, (f"guest:{realm}/{name}", permission))
    document = _started(core.document("guest", realm, name))
    core.ledger.audit(f"guest.{permission}", {"by": caller.peer, "in": realm, "guest": name})
    return view(core, document)


def users(
    core: Core, realm: str, guest: str, images: Iterable[tuple[str, str]], *, adding: bool, kind: str = "image"
) -> list[Put]:
    """Changes of the images, or devices, that a guest begins or ends to use.

    Args:
        guest: its name.
        images: (name, ``ro`` or ``rw``).
        adding: it begins to.
        kind: ``image`` or ``device``.

    Raises:
        NotFound: there is no such thing.
        Held: another guest uses it, and one of the two writes to it; or its content is not there yet.
    """
    wanted: dict[str, str] = {}
    for name, mode in images:
        wanted[name] = "rw" if "rw" in (mode, wanted.get(name)) else "ro"
    puts = []
    for name, mode in wanted.items():
        document = core.ledger.document(kind, realm, name)
        if document is None:
            if adding:
                raise NotFound(f"there is no {kind} {name}", target=name, remedy="name one that the realm has")
            continue
        used: dict[str, str] = dict(document.body["users"])
        if adding:
            _usable(document, guest, mode, used)
            used[guest] = mode
        else:
            used.pop(guest, None)
        changed = {**document.body, "users": used}
        puts.append(Put(kind, realm, name, document.version, changed, claims_of(document)))
    return puts


def claims_of(document: Document) -> tuple[tuple[str, str], ...]:
    """What a document of this kind claims for as long as it is there."""
    return (("device", document.body["number"]),) if document.kind == "device" else ()


def charge(document: Document) -> list[Spend]:
    """Gives back what a guest that is stopped has of its realm's quota."""
    memory = document.body["charged"]
    return [Spend(document.realm, "guests", -1, 0), Spend(document.realm, "memory", -memory, 0)]


def view(core: Core, document: Document) -> GuestView:
    """A guest as callers see it."""
    return _view(document, core.ledger.guest(document.body["uuid"]))


def _view(document: Document, row: Guest | Life | None) -> GuestView:
    body = document.body
    return GuestView(
        name=document.id,
        realm=document.realm,
        uuid=body["uuid"],
        version=document.version,
        state=_state(body["state"], row, body),
        level=row.level if row else "",
        pid=row.pid if row and row.state == "running" else 0,
        incarnation=row.incarnation if row else 0,
        config=msgspec.convert(body["config"], GuestConfig),
        attached=list(body["attached"]),
    )


def _state(state: str, row: Guest | Life | None, body: Mapping[str, Any]) -> str:
    if row is not None and row.state == "stuck":
        return "stuck"
    if state == STARTED and row is not None and row.state == "running":
        return "paused" if body.get("paused") else "running"
    return {STARTING: "starting", STARTED: "ending"}.get(state, "ending" if row is not None else "stopped")


def _images(config: GuestConfig) -> list[tuple[str, str]]:
    boot = [(name, "ro") for name in (config.kernel, config.initrd) if name]
    return boot + [(disk.image, "ro" if disk.read_only else "rw") for disk in config.disks]


def _check(core: Core, realm: str, config: GuestConfig) -> None:
    """Images must be there, and be the realm's: they are looked for nowhere else."""
    names = [name for name, _ in _images(config)]
    disks = [disk.image for disk in config.disks]
    if len(set(disks)) != len(disks):
        raise Denied("an image is in the guest twice", rule="each disk is an image of its own")
    for name in names:
        core.document("image", realm, name)
    for name in config.devices:
        core.document("device", realm, name)
    if len(set(config.devices)) != len(config.devices):
        raise Denied("a device is in the guest twice", rule="each is a disk of its own")
    if config.initrd and not config.kernel:
        raise Denied("an initrd needs a kernel", rule="both are loaded by QEMU, or none is")
    if config.orchestrator and config.machine in ("none", "microvm"):
        raise Denied(f"a guest with machine {config.machine} can't be an orchestrator", rule="its port is a PCI device")


def _stopped(core: Core, document: Document) -> None:
    row = core.ledger.guest(document.body["uuid"])
    if document.body["state"] != STOPPED or (row is not None and survivors(row)):
        raise Held(
            f"guest {document.id} is started",
            target=f"{document.realm}/{document.id}",
            rule="a guest runs once at a time",
            remedy="stop it first",
        )


def _started(document: Document) -> Document:
    if document.body["state"] != STARTED:
        raise Held(
            f"guest {document.id} does not run",
            target=f"{document.realm}/{document.id}",
            rule="only a guest that runs can be asked for this",
            remedy="start it first",
        )
    return document


def _usable(document: Document, guest: str, mode: str, used: Mapping[str, str]) -> None:
    if not document.body["ready"]:
        raise Held(f"image {document.id} is not ready yet", target=document.id, remedy="wait for its operation")
    others: Sequence[str] = [name for name, has in used.items() if name != guest and "rw" in (has, mode)]
    if guest in used:
        others = [guest]
    if others:
        raise Held(
            f"{document.kind} {document.id} is in use",
            target=document.id,
            holder=f"guest {others[0]}",
            rule="what is written to is in one guest",
            remedy="stop that guest first",
        )
