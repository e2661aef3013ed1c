"""A declaration as JSON and as tables for people."""

from typing import Any, NamedTuple

from septum.declare.model import Declaration, Door, End, Limits, Quota, Role, Where
from septum.declare.quota import size_text

__all__ = ["Section", "as_json", "as_sections", "plain"]


class Section(NamedTuple):
    """A table for people."""

    head: tuple[str, ...]
    rows: list[tuple[object, ...]]


def as_json(declaration: Declaration) -> dict[str, Any]:
    """All of it, of JSON's types: tuples become lists, sides of doors and places strings."""
    return {
        "realms": {name: plain(realm) for name, realm in declaration.realms.items()},
        "roles": {str(end): plain(role) for end, role in declaration.roles.items()},
        "services": {str(end): plain(service) for end, service in declaration.services.items()},
        "images": {str(end): plain(image) for end, image in declaration.images.items()},
        "devices": {name: plain(device) for name, device in declaration.devices.items()},
        "denials": [plain(denial) for denial in declaration.denials],
        "doors": [plain(door) for door in declaration.doors],
    }


def as_sections(declaration: Declaration) -> list[Section]:
    """Realms, roles, services, devices and doors."""
    return [
        Section(
            ("REALM", "GUESTS", "MEMORY", "DISK", "CHANNELS", "CALLS/S", "EVENTS", "DECLARED"),
            [(realm.name, *_quota(realm.quota), realm.file or realm.where) for realm in declaration.realms.values()],
        ),
        Section(
            ("ROLE", "GUESTS", "MEMORY", "DISK", "VCPUS", "HAS"),
            [(end, *_role(role)) for end, role in declaration.roles.items()],
        ),
        Section(
            ("SERVICE", "KIND", "BY"),
            [(end, service.kind, service.role) for end, service in declaration.services.items()],
        ),
        Section(
            ("DEVICE", "AT", "OWNER"),
            [(device.name, f"{device.bus} {device.address}", device.owner) for device in declaration.devices.values()],
        ),
        Section(
            ("DOOR FROM", "TO", "DATA", "LIMITS", "STATE"),
            [
                (door.role, door.service, door.direction, _limits(door.limits), _state(door))
                for door in declaration.doors
            ],
        ),
    ]


def _quota(quota: Quota) -> tuple[object, ...]:
    return (quota.guests, size_text(quota.memory), size_text(quota.disk), quota.channels, quota.calls, quota.events)


def _role(role: Role) -> tuple[object, ...]:
    has = [*role.images, *role.devices, *role.networks, *(["orchestrator"] if role.orchestrator else [])]
    return (role.guests, size_text(role.memory), size_text(role.disk), role.vcpus, ", ".join(has) or "-")


def _limits(limits: Limits) -> str:
    return f"{limits.channels} × {size_text(limits.message)}, {limits.rate}/s, {size_text(limits.bandwidth)}/s"


def _state(door: Door) -> str:
    return f"{door.state}: {door.reason}" if door.reason else door.state


def plain(value: Any) -> Any:
    """A value of a declaration, of JSON's types."""
    if isinstance(value, End | Where):
        return str(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(one) for name, one in value._asdict().items()}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value
