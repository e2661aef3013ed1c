"""A declaration as policy: roles are types, services and doors too, and consent is the value of a boolean."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from septum.declare.model import Declaration, Direction, Door, End

__all__ = ["cil", "consents", "door_name", "process_type", "role_name", "service_name", "service_type"]

_WAYS: Final[Mapping[Direction, tuple[str, ...]]] = {
    "to-service": ("to_service",),
    "from-service": ("from_service",),
    "both": ("to_service", "from_service"),
}
_ONLY: Final[Mapping[Direction, tuple[str, ...]]] = {
    "to-service": ("only_to",),
    "from-service": ("only_from",),
    "both": (),
}


def role_name(role: End) -> str:
    """The block of a role; its types are in it, as ``septum_guest`` names them (docs/policy.md).

    No two ends have one name, and none has that of anything hand-written: declared names have neither the dot that
    stands between the parts nor capitals nor underscores, and hand-written ones no hyphen.
    """
    return f"septum_realm-{role.realm}.role-{role.name}"


def service_name(service: End) -> str:
    """The block of a service."""
    return f"septum_realm-{service.realm}.service-{service.name}"


def door_name(role: End, service: End) -> str:
    """The block of a door, in that of the role that uses it; ``.open`` is its boolean, ``.channel`` its type."""
    return f"{role_name(role)}.realm-{service.realm}.service-{service.name}"


def process_type(role: End) -> str:
    """The type of the emulators of a role's guests."""
    return f"{role_name(role)}.process"


def service_type(service: End) -> str:
    """The type of a service, as the target of questions about it."""
    return f"{service_name(service)}.object"


def consents(declaration: Declaration) -> dict[str, bool]:
    """The value of each boolean of `cil`: whether the door is open."""
    return {f"{door_name(door.role, door.service)}.open": door.state == "open" for door in _doors(declaration)}


def cil(declaration: Declaration) -> str:
    """The declaration as CIL, to be compiled together with septum's policy.

    Declarations that differ in consent only have equal texts: then the booleans of `consents` are all that has to be
    set. Each is false in the text, so that a policy that was just loaded has all doors closed.

    A door that has no types yet, since nobody offers what it names, has no rules and no boolean either.
    """
    lines = [_blocks(), "; What was declared."]
    realms: dict[str, list[str]] = {}
    from_role: dict[End, dict[str, list[str]]] = {}
    for door in _doors(declaration):
        to_realm = from_role.setdefault(door.role, {}).setdefault(door.service.realm, [])
        to_realm += _door(door, declaration)
    for end, role in sorted(declaration.roles.items()):
        inside = ["(blockinherit septum_guest)"]
        if role.orchestrator:
            inside.append("(typeattributeset septum_orchestrator_process process)")
        for realm, texts in from_role.get(end, {}).items():
            inside += _block(f"realm-{realm}", texts)
        realms.setdefault(end.realm, []).extend(_block(f"role-{end.name}", inside))
    for end, service in sorted(declaration.services.items()):
        server = process_type(End(end.realm, service.role))
        inside = ["(blockinherit septum_declared_service)", f"(typeattributeset server {server})"]
        realms.setdefault(end.realm, []).extend(_block(f"service-{end.name}", inside))
    for realm, texts in sorted(realms.items()):
        lines += _block(f"septum_realm-{realm}", texts)
    for door in _doors(declaration):
        lines += _memberships(door)
    return "\n".join(lines) + "\n"


def _doors(declaration: Declaration) -> Iterator[Door]:
    """Those that can be open, now or once the other half or the platform consents."""
    return (door for door in declaration.doors if door.role.name and door.service in declaration.services)


def _door(door: Door, declaration: Declaration) -> list[str]:
    server = End(door.service.realm, declaration.services[door.service].role)
    kinds = ["door", *_WAYS[door.direction]]
    if server != door.role:
        kinds += ["apart", *_ONLY[door.direction]]
    inside = [f"(blockinherit septum_declared_{kind})" for kind in kinds]
    inside += [
        f"(typeattributeset user {process_type(door.role)})",
        f"(typeattributeset server {process_type(server)})",
        f"(typeattributeset service {service_type(door.service)})",
    ]
    return list(_block(f"service-{door.service.name}", inside))


def _memberships(door: Door) -> Iterator[str]:
    yield f"(typeattributeset {service_name(door.service)}.users {process_type(door.role)})"
    if door.across:
        # What lets categories differ, for these classes only (constraints.cil); which two may meet is up to types.
        yield f"(typeattributeset septum_door_client {process_type(door.role)})"
        yield f"(typeattributeset septum_door_service {service_type(door.service)})"


def _block(name: str, inside: list[str]) -> list[str]:
    return [f"(block {name}", *(f"    {line}" for line in inside[:-1]), f"    {inside[-1]})"]


@cache
def _blocks() -> str:
    return (files(__package__) / "cil" / "doors.cil").read_text(encoding="utf-8")
