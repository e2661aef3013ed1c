"""Verbs on devices: block devices of the host that the platform gives to a realm, and takes back."""

from __future__ import annotations

from septum.errors import Changed, Denied, Held, HostError
from septum.ledger.records import Document, Put
from septum.realms.caller import Caller
from septum.realms.core import Core
from septum.realms.host import device_number
from septum.realms.model import DeviceView, NewDevice

__all__ = ["assign", "get", "listed", "release"]


def assign(core: Core, caller: Caller, realm: str, new: NewDevice) -> DeviceView:
    """Gives a device to a realm. It is claimed by its number: no other name of it is left for another realm.

    Raises:
        NotFound: the caller may not.
        Held: it belongs to a realm already, or the realm has a device of this name.
        Denied: it is no block device.
    """
    core.permit(caller, (f"devices:{realm}", "assign"))
    try:
        number = device_number(new.path)
    except HostError as error:
        raise Denied(error.what, target=new.path) from error
    if not number:
        raise Denied("this is no block device", target=new.path, rule="only block devices can be given to realms")
    body = {"path": new.path, "number": number, "users": {}, "ready": True}
    entry = Put("device", realm, new.name, 0, body, (("device", number),))
    made = core.commit(caller.peer, realm, "device.assign", {"device": new.name, "number": number}, [entry])
    return _view(made[0])


def listed(core: Core, caller: Caller, realm: str) -> list[DeviceView]:
    """
    Raises:
        NotFound: the realm is not the caller's.
    """
    core.permit(caller, (f"devices:{realm}", "list"))
    return [_view(one) for one in core.ledger.documents("device", realm)]


def get(core: Core, caller: Caller, realm: str, name: str) -> DeviceView:
    """
    Raises:
        NotFound: there is none, or it is not the caller's.
    """
    core.permit(caller, (f"device:{realm}/{name}", "list"))
    return _view(core.document("device", realm, name))


def release(core: Core, caller: Caller, realm: str, name: str, expected: int) -> None:
    """Takes a device from a realm; its content stays what it is.

    Raises:
        NotFound: there is none, or it is not the caller's.
        Changed: it is not at version `expected`.
        Held: a guest has it.
    """
    core.permit(caller, (f"device:{realm}/{name}", "release"))
    document = core.document("device", realm, name)
    if expected and expected != document.version:
        raise Changed(f"device {name} was changed meanwhile", target=name, remedy="read it again")
    if document.body["users"]:
        raise Held(
            f"device {name} is in use", target=name, holder=next(iter(document.body["users"])), remedy="stop that guest"
        )
    entry = Put("device", realm, name, document.version, None)
    core.commit(caller.peer, realm, "device.release", {"device": name}, [entry])


def _view(document: Document) -> DeviceView:
    return DeviceView(
        name=document.id,
        realm=document.realm,
        version=document.version,
        number=document.body["number"],
        guest=next(iter(document.body["users"]), ""),
    )
