"""How operations go on and end, as changes of the ledger. An end and what it brings about are one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from septum.errors import SeptumError
from septum.ledger.records import Document, Put, Spend
from septum.realms import of_guests
from septum.realms.core import Core, busy, put
from septum.realms.model import GuestConfig

__all__ = [
    "FINAL",
    "advance",
    "at_work",
    "done",
    "failed",
    "guest_started",
    "guest_stopped",
    "image_gone",
    "image_ready",
    "unfinished",
]

FINAL: Final = ("done", "failed")


def unfinished(core: Core) -> list[Document]:
    """Operations that a daemon before this one has left."""
    return core.ledger.claimants("busy")


def at_work(core: Core, realm: str, target: str) -> bool:
    """Whether an operation works on an object."""
    return bool(core.ledger.claimants(*busy(realm, target)[0]))


def advance(core: Core, operation: Document, step: str) -> Document:
    """Writes down what is begun, before it is."""
    body = {**operation.body, "state": "running", "step": step}
    entry = Put("operation", operation.realm, operation.id, operation.version, body, _claims(operation))
    return core.commit(
        body["by"], operation.realm, "operation.step", {"operation": operation.id, "step": step}, [entry]
    )[0]


def done(core: Core, operation: Document, puts: Sequence[Put] = (), spends: Sequence[Spend] = ()) -> None:
    """It has succeeded; what it claims is free."""
    _end(core, operation, {"state": "done"}, puts, spends)


def failed(
    core: Core, operation: Document, error: SeptumError, puts: Sequence[Put] = (), spends: Sequence[Spend] = ()
) -> None:
    """It has not; what it changed was put back, which `puts` and `spends` enter."""
    failure = {
        "error": type(error).__name__,
        "what": error.what,
        "object": error.target,
        "holder": error.holder,
        "rule": error.rule,
        "remedy": error.remedy,
    }
    _end(core, operation, {"state": "failed", "failure": failure}, puts, spends)


def guest_started(core: Core, realm: str, name: str) -> list[Put]:
    """Changes for a guest whose emulator is up."""
    document = core.document("guest", realm, name)
    config = msgspec.convert(document.body["config"], GuestConfig)
    body = {**document.body, "state": of_guests.STARTED, "paused": config.paused}
    return [put("guest", realm, name, document.version, body)]


def guest_stopped(core: Core, realm: str, name: str) -> tuple[list[Put], list[Spend]]:
    """Changes for a guest of which nothing runs: its images and its share of the quota are free."""
    document = core.document("guest", realm, name)
    if document.body["state"] == of_guests.STOPPED:
        return [], []
    body = {**document.body, "state": of_guests.STOPPED, "charged": 0, "attached": [], "paused": False}
    used = [one for one in core.ledger.documents("image", realm) if name in one.body["users"]]
    puts = [put("guest", realm, name, document.version, body)]
    puts += of_guests.users(core, realm, name, [(one.id, "ro") for one in used], adding=False)
    had = [(one.id, "rw") for one in core.ledger.documents("device", realm) if name in one.body["users"]]
    puts += of_guests.users(core, realm, name, had, adding=False, kind="device")
    return puts, of_guests.charge(document)


def image_ready(core: Core, realm: str, name: str, source: str = "") -> list[Put]:
    """Changes for an image whose content is there.

    Args:
        source: image that it was copied from, "" for none.
    """
    document = core.document("image", realm, name)
    puts = [put("image", realm, name, document.version, {**document.body, "ready": True})]
    return puts + _released(core, realm, name, source)


def image_gone(core: Core, realm: str, name: str, source: str = "") -> tuple[list[Put], list[Spend]]:
    """Changes for an image that was removed, or could not be made."""
    document = core.document("image", realm, name)
    puts = [put("image", realm, name, document.version, None)]
    return puts + _released(core, realm, name, source), [Spend(realm, "disk", -document.body["size"], 0)]


def _released(core: Core, realm: str, name: str, source: str) -> list[Put]:
    return of_guests.users(core, realm, f"clone {name}", [(source, "ro")], adding=False) if source else []


def _end(
    core: Core, operation: Document, changes: Mapping[str, Any], puts: Sequence[Put], spends: Sequence[Spend]
) -> None:
    body = {**operation.body, **changes}
    entry = put("operation", operation.realm, operation.id, operation.version, body)
    fields = {"operation": operation.id, "target": body["target"], **changes}
    core.commit(body["by"], operation.realm, f"{body['verb']}.{body['state']}", fields, [entry, *puts], spends)


def _claims(operation: Document) -> tuple[tuple[str, str], ...]:
    return busy(operation.realm, operation.body["target"])
