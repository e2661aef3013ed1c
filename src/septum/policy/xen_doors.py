"""Roles of guests on Xen, and the doors between them, as CIL to be compiled together with the build ``xen``."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

_WAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "to-service": ("to_service",),
    "from-service": ("from_service",),
    "both": ("to_service", "from_service"),
}


class XenDoor(NamedTuple):
    """A way from one role's guests to another's. What it allows hangs on the boolean ``NAME.open``.

    Attributes:
        name: of its block; ``NAME_ends`` has the types of event channels between the two roles.
        user: block of the role whose guests use it.
        server: block of the role whose guests offer what is behind it; another role.
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
    ends: dict[tuple[str, str], str] = {}
    for door in doors:
        if (door.user, door.server) not in ends:
            lines += _meeting(door)
            ends[door.user, door.server] = f"{door.name}_ends.one_end"
            ends[door.server, door.user] = f"{door.name}_ends.other_end"
        kinds = ("septum_xen_door", *(f"septum_xen_door_{way}" for way in _WAYS[door.direction]))
        lines += [f"(block {door.name}", *(f"    (blockinherit {kind})" for kind in kinds)]
        for end, near, far in (("user", door.user, door.server), ("server", door.server, door.user)):
            lines += [f"    (typeattributeset {end} {near}.domain)"]
            lines += [f"    (typeattributeset {end}_channel {ends[near, far]})"]
        lines[-1] += ")"
    return "\n".join(lines) + "\n"


def _meeting(door: XenDoor) -> Iterator[str]:
    yield f"(block {door.name}_ends"
    yield "    (blockinherit septum_xen_meeting)"
    yield f"    (typeattributeset one {door.user}.domain)"
    yield f"    (typeattributeset other {door.server}.domain))"
    for near, far, end in ((door.user, door.server, "one_end"), (door.server, door.user, "other_end")):
        yield f"(typeattributeset {near}.peers {far}.domain)"
        yield f"(typeattributeset {near}.ends {door.name}_ends.{end})"
        yield f"(typeattributeset septum_door_domain {near}.domain)"
