"""The steps that give a guest's objects to the guest's own uid, and to nobody else's: the half of the `landlock`
driver that plain permission bits enforce.

Pure: everything comes from the confinement. The operations are those of `host.ops`.
"""

from __future__ import annotations

from septum.host import dac
from septum.host.driver import Confinement, Facts, Item, Step
from septum.host.ruleset import created, name_in
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

# Programs and modules of the platform: their modes fit already.
_LEFT_ALONE: Final = ("helper", "plugin")
_FOLDERS_TO_FILL: Final = ("memory", "tmpdir")


class _Grant(NamedTuple):
    facts: Facts
    perms: str
    shared: bool


def steps(guest: Confinement) -> list[Step]:
    """What has to change on the host so that the guest's uid reaches its objects.

    Without a uid of its own nothing changes owner; only the files are made that a Landlock rule needs to exist.
    """
    if guest.uid < 0:
        return [step for item in guest.items for step in made(guest, item)]
    found = _acls(guest)
    for item in guest.items:
        found += made(guest, item)
        if _owned(item):
            assert item.facts is not None
            found.append(_own(guest, item, item.facts))
    return found


def made(guest: Confinement, item: Item) -> Iterator[Step]:
    """Steps for what is not there before the guest runs: a file made for QEMU, a name removed after QEMU."""
    root = guest.uid >= 0
    path = created(item)
    if path:
        back = 0 if root else -1
        args = {"uid": guest.uid, "gid": guest.gid if root else -1, "mode": 0o600, "back_uid": back, "back_gid": back}
        yield Step("mkfile", "", path, "", args)
    kind = item.resource.kind
    if item.parent is None or kind not in ("socket", "pidfile") or (kind == "pidfile" and not path):
        return
    if not guest.run_dir or item.parent.path != guest.run_dir:
        yield Step("unlink", "", name_in(item.parent, item.resource), "", {"uid": guest.uid})


def _owned(item: Item) -> bool:
    resource, facts = item.resource, item.facts
    if facts is None or item.platform or resource.sharing == "shared":
        return False
    if resource.kind in ("socket", "peer-socket", "shared-device", *_LEFT_ALONE):
        return False
    return not (facts.type == "dir" and resource.kind in (*_FOLDERS_TO_FILL, "sysfs"))


def _own(guest: Confinement, item: Item, facts: Facts) -> Step:
    search = 0o110 if facts.type == "dir" else 0
    if item.resource.access == "rw":
        args = {"uid": guest.uid, "gid": guest.gid, "mode": 0o600 | search & 0o100}
    else:
        args = {"uid": -1, "gid": guest.gid, "mode": facts.mode & 0o700 | 0o040 | search & 0o010}
    return Step("own", facts.key, facts.path, "", args)


def _acls(guest: Confinement) -> list[Step]:
    """One entry for each object and grantee, with all that any item needs of it."""
    merged: dict[tuple[str, str, int], Step] = {}
    for grant in _grants(guest):
        tag, number = ("group", guest.realm_gid) if grant.shared and guest.realm_gid >= 0 else ("user", guest.uid)
        scope = f"{grant.facts.key}#{number}" if tag == "group" else ""
        place = (grant.facts.key, tag, number)
        there = merged[place].args["perms"] if place in merged else ""
        perms = "".join(letter for letter in "rwx" if letter in grant.perms + there)
        merged[place] = Step(
            "acl", grant.facts.key, grant.facts.path, scope, {"tag": tag, "id": number, "perms": perms}
        )
    return list(merged.values())


def _grants(guest: Confinement) -> Iterator[_Grant]:
    for item in guest.items:
        if item.platform:
            continue
        for folder in item.search:
            yield _Grant(folder, "x", True)
        kind, facts = item.resource.kind, item.facts
        if kind == "socket":
            if item.parent is not None and item.parent.path != guest.run_dir and not _open_to(guest, item.parent, "wx"):
                yield _Grant(item.parent, "wx", False)
            continue
        if facts is None or kind in _LEFT_ALONE:
            continue
        perms = _wanted(item, facts)
        private = kind == "peer-socket" or (facts.type == "dir" and kind in _FOLDERS_TO_FILL)
        shared = kind == "shared-device" or item.resource.sharing == "shared"
        if (private or shared) and not _open_to(guest, facts, perms):
            yield _Grant(facts, perms, shared)


def _wanted(item: Item, facts: Facts) -> str:
    if item.resource.kind == "peer-socket":
        return "rw"
    if facts.type == "dir" and item.resource.kind in _FOLDERS_TO_FILL:
        return "wx"
    return ("rw" if item.resource.access == "rw" else "r") + ("x" if facts.type == "dir" else "")


def _open_to(guest: Confinement, facts: Facts, perms: str) -> bool:
    """The mode and ACL let the guest do it already, for good.

    What the realm's group may do does not count: that is another guest's step, undone when no guest holds it any more.
    """
    gids = {guest.gid, *guest.groups}
    acl = dac.parse(bytes.fromhex(facts.acl))
    decision, _ = dac.decide(
        guest.uid, gids, dac.bits(perms), owner=facts.uid, group=facts.gid, mode=facts.mode, acl=acl
    )
    return decision
