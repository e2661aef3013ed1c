"""Doors as a realm sees them: those of the declaration in force that it may know of. Opening one is a declaration's.

What another realm would like of this one is the other's own business until the door is open.
"""

from __future__ import annotations

from septum.enact import in_force
from septum.realms.caller import Caller
from septum.realms.core import Core
from septum.realms.model import DoorView

__all__ = ["listed", "of_realm"]


def listed(core: Core, caller: Caller, realm: str) -> list[DoorView]:
    """
    Raises:
        NotFound: the realm is not the caller's.
        DeclarationError: the declaration in force can't be read by this version.
    """
    core.permit(caller, (f"realm:{realm}", "getattr"))
    return of_realm(core, realm)


def of_realm(core: Core, realm: str) -> list[DoorView]:
    """The doors that touch a realm, in the declaration's order."""
    return [
        DoorView(
            role=f"{door.role.realm}/{door.role.name}",
            service=f"{door.service.realm}/{door.service.name}",
            direction=str(door.direction),
            state=str(door.state),
            reason=door.reason,
        )
        for door in in_force(core.ledger).declaration.doors
        if door.role.realm == realm or (door.service.realm == realm and (door.state == "open" or not door.role.name))
    ]
