"""From resources to items: what is at each path, and the refusals that follow from it.

Nothing is changed here. The rules are those a hostile owner would try first: somebody else's file by hard link or
symlink, the host's own files, a name that is no image at all.
"""

from __future__ import annotations

import os

from septum.errors import ArgvError, Denied, SeptumError
from septum.guests.resource import Resource
from septum.host import dac
from septum.host.credentials import GUEST_UIDS
from septum.host.driver import Facts, Item
from septum.host.objects import Found, Gone, look
from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from typing import Final

# What stays as it is on any Linux host: read by everybody, written by the distribution.
PLATFORM: Final = ("/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/nix/store/", "/proc/", "/sys/")
# Folders in which nothing is ever given to a guest for writing, and no image is taken from.
_SYSTEM: Final = ("/boot/", "/etc/", "/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/proc/", "/sys/", "/nix/store/")
# Folders whose content may be handed to a guest, but which themselves may not.
_ROOTS: Final = frozenset(
    "/ /bin /boot /dev /etc /home /lib /lib64 /media /mnt /nix /opt /proc /root /run /sbin /srv /sys /tmp /usr /var "
    "/var/cache /var/lib /var/log /var/run /var/spool /var/tmp".split()
)
_NEVER: Final = frozenset(
    "/etc/shadow /etc/shadow- /etc/gshadow /etc/gshadow- /etc/sudoers /etc/passwd /etc/group /dev/mem /dev/kmem "
    "/dev/port /proc/kcore /etc/machine-id".split()
)
_BYTES: Final = frozenset({"image", "backing", "firmware", "kernel", "initrd", "dtb", "blob"})
_TREES: Final = frozenset({"directory", "memory", "secret", "tmpdir", "config"})
_UNCHANGED: Final = frozenset({"shared-device", "helper", "plugin", "sysfs", "tmpdir"})
# What serves many guests at once: nodes, huge pages, sockets of services that QEMU connects to.
_SHARED_BY_NATURE: Final = _UNCHANGED | {"memory", "peer-socket"}
# Stands for a uid that owns nothing and is in no group, as every guest's is before anything was given to it.
_NOBODY: Final = 0x7FFFFFFE


class Allowed(NamedTuple):
    """What the user allows by name, against the rules.

    Attributes:
        paths: real paths that may be used although a rule forbids them.
        shared: real paths that several guests of one realm may use.
        platform: real paths of content that is nobody's: many realms may read it, and it is left as it is.
        adopted: real paths of images that belonged to another realm.
        forbidden: folders of septum's own, never given to any guest.
    """

    paths: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    platform: frozenset[str] = frozenset()
    adopted: frozenset[str] = frozenset()
    forbidden: tuple[str, ...] = ()


def inspect(
    resources: Iterable[Resource],
    allowed: Allowed,
    problems: list[SeptumError] | None = None,
    *,
    finder: Callable[[str], Found] = look,
) -> tuple[Item, ...]:
    """Looks at each resource, and refuses what may not be used.

    Args:
        resources: of one command line, chains included.
        allowed: exceptions by name.
        problems: takes refusals, so that a plan can show all of them; without it the first one is raised.
        finder: looks at a path; a parameter so that tests can do without a disk.

    Returns:
        One item for each object: two names of one object become one item, with the stronger access.

    Raises:
        ArgvError: it does not exist, or is of the wrong type.
        Denied: a rule forbids it.
    """
    items: dict[str, Item] = {}
    for resource in resources:
        try:
            item = _item(resource, allowed, finder)
        except SeptumError as error:
            if problems is None:
                raise
            problems.append(error)
            item = Item(resource, None)
        key = item.facts.key if item.facts else resource.path
        items[key] = _stronger(items[key], item) if key in items else item
    return tuple(items.values())


def assume(resources: Iterable[Resource]) -> tuple[Item, ...]:
    """Items of a command line whose files are not looked at, for a plan on another machine."""
    return tuple(
        Item(resource, None, platform=resource.access == "ro" and _below(resource.path, PLATFORM))
        for resource in resources
    )


def _item(resource: Resource, allowed: Allowed, finder: Callable[[str], Found]) -> Item:
    try:
        found = finder(resource.path)
    except Gone as error:
        if resource.kind in ("sysfs", "config") or resource.path == "/dev/kvm":
            return Item(resource, None)
        raise _missing(resource, "a folder on the way does not exist") from error
    facts = found.facts
    search = tuple(
        step
        for step in found.way
        if not dac.decide(
            _NOBODY,
            (),
            dac.EXECUTE,
            owner=step.uid,
            group=step.gid,
            mode=step.mode,
            acl=dac.parse(bytes.fromhex(step.acl)),
        )[0]
    )
    if facts is None:
        if not resource.creates:
            if resource.kind in ("shared-device", "sysfs", "helper", "config", "tmpdir"):
                return Item(resource, None, found.parent, search)
            raise _missing(resource, "there is no such file")
        real = os.path.join(found.parent.path, found.name)
        _refuse_place(resource, real, allowed)
        if found.name != os.path.basename(resource.path):
            resource = resource._replace(path=real)  # a symlink that leads to no file yet
        return Item(resource, None, found.parent, search)
    _refuse_type(resource, facts)
    if resource.kind == "peer-socket" and facts.uid in GUEST_UIDS:
        _refuse_guests_socket(resource, facts, allowed)
    platform = resource.kind not in _UNCHANGED and _is_platform(resource, facts, allowed)
    if not platform and resource.kind not in _UNCHANGED:
        _refuse_place(resource, facts.path, allowed)
        _refuse_links(resource, facts, allowed)
    if resource.kind in ("helper", "plugin"):
        _refuse_program(resource, facts, allowed)
    if facts.path in allowed.shared:
        resource = resource._replace(sharing="shared")
    elif resource.access == "rw" and resource.sharing == "shared" and resource.kind not in _SHARED_BY_NATURE:
        raise Denied(
            f"{resource.option} asks for an image that several guests write",
            target=facts.path,
            rule="shared read-write is refused unless it is asked for by name",
            remedy=f"--share {facts.path}",
        )
    return Item(resource, facts, found.parent, search, platform)


def _missing(resource: Resource, why: str) -> ArgvError:
    return ArgvError(
        f"{resource.option} names {resource.path}, and {why}",
        target=resource.path,
        remedy="make it, or correct the command line",
    )


def _refuse_type(resource: Resource, facts: Facts) -> None:
    """An image is bytes: reading from a FIFO or a tty would hang, and a socket means something else was meant."""
    wrong = (
        (resource.kind in _BYTES and facts.type not in ("file", "block", "char"))
        or (facts.type == "dir" and resource.kind not in _TREES)
        or (resource.kind == "directory" and facts.type not in ("dir", "file"))
        or (resource.kind in ("socket", "peer-socket") and facts.type not in ("socket",))
    )
    if wrong:
        raise ArgvError(
            f"{resource.option} needs {'a file' if resource.kind in _BYTES else 'another kind of object'}, and "
            f"{facts.path} is a {facts.type}",
            target=facts.path,
            remedy="correct the command line",
        )


def _is_platform(resource: Resource, facts: Facts, allowed: Allowed) -> bool:
    """Read-only content that root keeps and everybody may read needs no label of a guest's."""
    return (
        resource.access == "ro"
        and (_below(facts.path, PLATFORM) or facts.path in allowed.platform)
        and facts.uid == 0
        and facts.mode & 0o022 == 0
        and facts.mode & 0o004 == 0o004
    )


def _refuse_place(resource: Resource, path: str, allowed: Allowed) -> None:
    for folder in allowed.forbidden:
        if path == folder or path.startswith(folder + "/"):
            raise Denied(
                f"{resource.option} names a file of septum's own", target=path, rule="a guest never gets the ledger"
            )
    if path in allowed.paths:
        return
    by = ""
    if path in _NEVER or path in _ROOTS:
        by = "it is the host's own"
    elif resource.access == "rw" and _below(path, _SYSTEM):
        by = "a guest writes nothing below a system folder"
    elif resource.kind in ("image", "backing") and _below(path, ("/etc/", "/proc/", "/sys/")):
        by = "no image lies below a system folder"
    if by:
        raise Denied(
            f"{resource.option} names {path}", target=path, rule=by, remedy=f"if that is meant: --allow-path {path}"
        )


def _refuse_program(resource: Resource, facts: Facts, allowed: Allowed) -> None:
    """A program or plugin is readable to the guest as it is, so nothing may pass for one that is no such thing."""
    sound = facts.uid in (0, os.geteuid()) and facts.mode & 0o022 == 0
    program = _below(facts.path, PLATFORM) or (resource.kind == "helper" and facts.mode & 0o111)
    if not (sound and program) and facts.path not in allowed.paths:
        raise Denied(
            f"{resource.option} names {facts.path} as a {resource.kind}",
            target=facts.path,
            rule="what QEMU executes or loads belongs to root, nobody else may write it, and it is a program",
            remedy=f"install it below /usr, or if that is meant: --allow-path {facts.path}",
        )


def _refuse_links(resource: Resource, facts: Facts, allowed: Allowed) -> None:
    if facts.type == "file" and facts.nlink > 1 and facts.path not in allowed.paths:
        raise Denied(
            f"{resource.option} names a file that has {facts.nlink} names",
            target=facts.path,
            rule="what is done to one name is done to all of them, and the others may be somebody else's",
            remedy=f"copy it, or if that is meant: --allow-path {facts.path}",
        )


def _refuse_guests_socket(resource: Resource, facts: Facts, allowed: Allowed) -> None:
    """Such as another guest's monitor. Permission bits keep guests from it, and the launcher must not open them."""
    if facts.path not in allowed.paths | allowed.shared:
        raise Denied(
            f"{resource.option} names a socket of another guest",
            target=facts.path,
            holder=f"uid {facts.uid}",
            rule="guests meet only where that was declared",
            remedy=f"if that is meant: --allow-path {facts.path}",
        )


def _stronger(one: Item, other: Item) -> Item:
    strong, weak = (one, other) if one.resource.access == "rw" or other.resource.access == "ro" else (other, one)
    exclusive = "exclusive" in (one.resource.sharing, other.resource.sharing)
    resource = strong.resource._replace(sharing="exclusive" if exclusive else "shared")
    return strong._replace(resource=resource, platform=strong.platform and weak.platform)


def _below(path: str, folders: Collection[str] | Sequence[str]) -> bool:
    return any(path.startswith(folder) for folder in folders)
