"""Roles of guests on Xen, and the doors between them, as CIL to be compiled together with the build ``xen``."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

_WAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "to-service": ("to_service",),
    "from-service": ("from_service",),
    "both": ("to_service", "from_service"),
}


class XenDoor(NamedTuple):
    """A way from one role's guests to another's. What it allows hangs on the boolean ``NAME.open``.

    Attributes:
        name: of its block.
        user: block of the role whose guests use it.
        server: block of the role whose guests offer what is behind it.
        direction: which way data goes; signals always go both ways.
    """

    name: str
    user: str
    server: str
    direction: Literal["to-service", "from-service", "both"]


def xen_role_cil(roles: Iterable[str], doors: Iterable[XenDoor] = ()) -> str:
    """Blocks for roles and doors. Each role gets a type ``ROLE.domain`` for its guests.

    Args:
        roles: names of the roles' blocks.
        doors: between roles that are among `roles`, or in the policy already.
    """
    lines = [f"(block {role} (blockinherit septum_guest))" for role in roles]
    for door in doors:
        kinds = ("septum_xen_door", *(f"septum_xen_door_{way}" for way in _WAYS[door.direction]))
        ends = {"user": door.user, "server": door.server}
        lines += [f"(block {door.name}", *(f"    (blockinherit {kind})" for kind in kinds)]
        for end, role in ends.items():
            lines += [f"    (typeattributeset {end} {role}.domain)"]
            lines += [f"    (typeattributeset {end}_channel {role}.channel)"]
        lines[-1] += ")"
        for near, far in ((door.user, door.server), (door.server, door.user)):
            lines += [f"(typeattributeset {near}.peers {far}.domain)"]
            lines += [f"(typeattributeset septum_door_domain {near}.domain)"]
            lines += [f"(typeattributeset septum_door_channel {near}.channel)"]
    return "\n".join(lines) + "\n"
