"""A compiled policy against a declaration: each door as it is declared, nothing missing, and nothing more.

Asked of the policy for every role and every service, and for every role and each memory that a door has; and whether
anything passes from one realm to another but through doors. Labels are those of the scheme, which stand to one
another as any others that are allotted (`septum.analysis.proof`).
"""

from collections.abc import Iterator
from itertools import product
from typing import Final, NamedTuple

from septum.analysis.flows import Flows
from septum.analysis.goals import check, parse
from septum.analysis.snapshot import Instance, PolicyFile, Snapshot
from septum.declare import Declaration, Door, End, door_name, process_type, service_type
from septum.errors import LabelError
from septum.labels import Level, RealmScheme
from septum.sepol import Memo

__all__ = ["Deviation", "deviations"]

_APART: Final = parse("never realm:* -> realm:*")
_PLAYERS: Final = ("user", "server")
_WRITERS: Final = {
    "to_service": "user",
    "to_service_mark": "server",
    "from_service": "server",
    "from_service_mark": "user",
}
"""Who writes a door's memory; the other one reads it too (septum/declare/cil/doors.cil)."""


class Deviation(NamedTuple):
    """Where a policy is not what was declared.

    Attributes:
        kind: ``missing``: declared and not allowed; ``more``: allowed and not declared.
        what: in words.
        rule: that allows it, or what refuses it.
    """

    kind: str
    what: str
    rule: str


def deviations(declaration: Declaration, memo: Memo, scheme: RealmScheme | None = None) -> list[Deviation]:
    """All of them; none if the policy is the declaration's, with the consents that it has.

    Args:
        declaration: of the platform.
        memo: the compiled policy.
        scheme: how realms and guests are named; None for the default.
    """
    labels = _Labels(declaration, scheme or RealmScheme())
    found = list(_services(declaration, memo, labels))
    for door in declaration.doors:
        if door.role.name and door.service in declaration.services:
            found += _memory(door, declaration, memo, labels)
    return [*found, *_beside(declaration, memo, labels)]


class _Labels:
    """A level for each realm and a guest of each role."""

    def __init__(self, declaration: Declaration, scheme: RealmScheme) -> None:
        realms = sorted({end.realm for end in (*declaration.roles, *declaration.services)})
        self._codes = {realm: scheme.realm_code(number) for number, realm in enumerate(realms)}
        self._ranks = {role: number for number, role in enumerate(sorted(declaration.roles))}
        self._scheme = scheme

    def guest(self, role: End) -> str:
        level = Level(0, self._scheme.guest_categories(self._codes[role.realm], self._ranks[role]))
        return f"system_u:system_r:{process_type(role)}:{level}"

    def service(self, service: End) -> str:
        return f"system_u:object_r:{service_type(service)}:{Level(0, self._codes[service.realm])}"


def _services(declaration: Declaration, memo: Memo, labels: _Labels) -> Iterator[Deviation]:
    meant = {(door.role, door.service) for door in declaration.doors if door.state == "open"}
    for role, service in product(sorted(declaration.roles), sorted(declaration.services)):
        yield from _compared(
            memo,
            (labels.guest(role), labels.service(service), "septum_service"),
            "connect",
            (role, service) in meant,
            f"{role} reaches {service}",
        )


def _memory(door: Door, declaration: Declaration, memo: Memo, labels: _Labels) -> Iterator[Deviation]:
    players = {"user": door.role, "server": End(door.service.realm, declaration.services[door.service].role)}
    for role, (kind, writer) in product(sorted(declaration.roles), _WRITERS.items()):
        goes = door.state == "open" and door.direction in ("both", kind.removesuffix("_mark").replace("_", "-"))
        target = f"system_u:object_r:{door_name(door.role, door.service)}.{kind}:s0"
        for permission, those in (("write", {players[writer]}), ("read", {players[one] for one in _PLAYERS})):
            what = f"{role} may {permission} the door's {kind} ({door.role} to {door.service})"
            yield from _compared(memo, (labels.guest(role), target, "file"), permission, goes and role in those, what)


def _compared(
    memo: Memo, question: tuple[str, str, str], permission: str, meant: bool, what: str
) -> Iterator[Deviation]:
    try:
        found = memo.explain(*question, (permission,))
    except LabelError as error:
        if meant:
            yield Deviation("missing", what, error.what)
        return
    if found.allowed != meant:
        yield Deviation("missing" if meant else "more", what, found.rule)


def _beside(declaration: Declaration, memo: Memo, labels: _Labels) -> Iterator[Deviation]:
    """What passes from realm to realm without any door."""
    instances = []
    for role in sorted(declaration.roles):
        context = labels.guest(role)
        if not memo.policy.valid(context):
            continue
        image = context.replace("system_r", "object_r").replace(process_type(role), f"{process_type(role)[:-8]}.image")
        instances += [
            Instance(str(role), role.realm, "guest", "process", context),
            Instance(f"{role}'s image", role.realm, "object", "file", image),
        ]
    if len({one.realm for one in instances}) < 2:
        return
    snapshot = Snapshot("declared", {"selinux": PolicyFile("")}, tuple(instances))
    for result in check(Flows(snapshot, {"selinux": memo}), _APART):
        if result.verdict != "holds":
            hop = result.witness[0] if result.witness else None
            what = f"{hop.source} passes something to {hop.target}" if hop else ", ".join(result.unknown)
            yield Deviation("more", f"without a door: {what}", hop.edges[0].rule if hop else "of unknown direction")
