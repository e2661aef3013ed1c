"""What will be done for one guest, as data: resolved without an identity first, then bound to a label and a uid.

Nothing here changes anything; `septum plan` stops after this, `septum run` goes on with the very same value.
"""

from __future__ import annotations

import os

from septum.errors import ArgvError, Denied, SeptumError
from septum.guests import ThisHost, parse, read_file
from septum.guests.resource import CommandLine, Resource
from septum.host.driver import Confinement, Driver, Item, Step
from septum.launch.inspect import Allowed, assume, inspect
from septum.launch.process import find_program
from septum.lean import TYPE_CHECKING, NamedTuple
from septum.ledger.records import Hold

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from typing import Any, Final, TypeAlias

_GROUP_RW: Final = 0o060


class Request(NamedTuple):
    """What the user asked for.

    Attributes:
        argv: of QEMU, argv[0] included.
        realm: the owner's name.
        name: of the guest; "" takes that of the command line.
        role: of the guest, as it was declared; "" for none.
        drivers: `auto`, or names joined by commas.
        unconfined: run even if no driver works.
        allowed: exceptions from the rules, by path.
        allow_unknown: values of options that no table explains and that may pass all the same; `*` for all.
        allow_probe: images without a declared format may be opened the way QEMU would guess.
        probe: look at the files; without it the plan is made from the command line alone.
        path: PATH, for finding QEMU.
        skip: real path of a file that is not QEMU though it has its name.
        tmpdir: TMPDIR as QEMU will see it.
    """

    argv: tuple[str, ...]
    realm: str = "default"
    name: str = ""
    role: str = ""
    drivers: str = "auto"
    unconfined: bool = False
    allowed: Allowed = Allowed()
    allow_unknown: frozenset[str] = frozenset()
    allow_probe: bool = False
    probe: bool = True
    path: str = os.defpath
    skip: str = ""
    tmpdir: str = "/var/tmp"


class Subject(NamedTuple):
    """A command line, resolved on this host, without an identity yet.

    Attributes:
        command: as parsed.
        program: path of QEMU as it will be executed; the name as given if it was not looked for.
        items: all resources, chains included.
        name: of the guest, "" if neither the user nor the command line names it.
        uuid: of ``-uuid``, or "".
        warnings: what is weaker than it could be; one sentence each.
    """

    command: CommandLine
    program: str
    items: tuple[Item, ...]
    name: str
    uuid: str
    warnings: tuple[str, ...]


class Identity(NamedTuple):
    """What the ledger has given to a guest."""

    uuid: str
    name: str
    realm: str
    level: str
    realm_level: str
    uid: int
    realm_gid: int


Problems: TypeAlias = "list[SeptumError] | None"
Chains: TypeAlias = "Callable[[Sequence[Resource], Request, Problems], tuple[list[Resource], list[str]]]"


def resolve(request: Request, *, cwd: str, chains: Chains, problems: Problems = None) -> Subject:
    """Understands a command line and looks at everything it names.

    Args:
        request: what was asked.
        cwd: the folder that relative paths start from.
        chains: adds the members of image chains; returns all resources, and warnings.
        problems: takes what would be refused, so that a plan can show all of it; without it the first is raised.

    Raises:
        ArgvError, ImageError, Denied: it can't or may not be run as it is.
    """
    program = request.argv[0]
    if request.probe:
        try:
            program = find_program(request.argv[0], request.path, request.skip)
        except SeptumError as error:
            if problems is None:
                raise
            problems.append(error)
    command = (
        parse(request.argv, cwd=cwd, read_file=read_file, host=ThisHost(), tmpdir=request.tmpdir)
        if request.probe
        else parse(request.argv, cwd=cwd, tmpdir=request.tmpdir)
    )
    if problems is None:
        _refuse_unknown(command, request)
    warnings: list[str] = []
    if not request.probe:
        items = assume(command.resources)
    else:
        resources, warnings = chains(command.resources, request, problems)
        items = inspect(resources, request.allowed, problems)
    uuid = _uuid(command.uuid)
    return Subject(command, program, items, request.name or command.name, uuid, tuple(warnings))


def _uuid(text: str) -> str:
    """The argument of ``-uuid`` in the one form that the ledger compares, and that is safe as a directory's name."""
    lower = text.lower()
    if text and ([*map(len, lower.split("-"))] != [8, 4, 4, 4, 12] or set(lower) - set("-0123456789abcdef")):
        raise ArgvError(
            f"-uuid needs a UUID, and {text} is none",
            target="-uuid",
            rule="8-4-4-4-12 hexadecimal digits, as QEMU takes it",
            remedy="correct the command line",
        )
    return lower


def confine(subject: Subject, identity: Identity, *, run_dir: str = "") -> Confinement:
    """Binds a command line to an identity."""
    command = subject.command
    if identity.uid >= 0 and (command.runas or command.chroot):
        option = "-runas" if command.runas else "-chroot"
        raise Denied(
            f"{option} needs root inside QEMU, and septum gives each guest a uid of its own before QEMU starts",
            target=option,
            rule="one uid for each guest",
            remedy=f"take {option} away, or use --driver selinux",
        )
    return Confinement(
        uuid=identity.uuid,
        name=identity.name,
        realm=identity.realm,
        level=identity.level,
        realm_level=identity.realm_level,
        uid=identity.uid,
        gid=identity.uid,
        realm_gid=identity.realm_gid,
        groups=_device_groups(subject.items) if identity.uid >= 0 else (),
        binary=os.path.realpath(subject.program),
        items=subject.items,
        network=bool(command.network),
        connects=bool(command.connects or command.network),
        executes=bool(command.executes),
        daemonize=command.daemonize,
        memlock=command.memlock,
        run_dir=run_dir,
    )


def needs_root(command: CommandLine) -> str:
    """What on the command line QEMU will not manage under a uid of its own; "" if there is nothing.

    A tap device that is there already and has no owner may be opened by anybody (drivers/net/tun.c `tun_not_capable`);
    making one, or running a script that configures it, takes CAP_NET_ADMIN.
    """
    script = next((resource.option for resource in command.resources if "tap,script=" in resource.option), "")
    if not script:
        return ""
    return f"{script}: QEMU runs as a uid of its own and can't set up a tap; make it beforehand and say script=no"


def steps_of(drivers: Iterable[Driver], guest: Confinement) -> tuple[Step, ...]:
    """All drivers' steps, in order. What several of them want is done once; a file
    that several want made is made with what all of them say."""
    steps: list[Step] = []
    made: dict[str, int] = {}
    for driver in drivers:
        for step in driver.steps(guest):
            if step.op == "mkfile" and step.path in made:
                there = steps[made[step.path]]
                steps[made[step.path]] = there._replace(args={**there.args, **step.args})
                continue
            if step in steps:
                continue
            if step.op == "mkfile":
                made[step.path] = len(steps)
                step = step._replace(args={**_MKFILE_DEFAULTS, **step.args})
            steps.append(step)
    return tuple(steps)


_MKFILE_DEFAULTS: Final[Mapping[str, Any]] = {
    "uid": -1,
    "gid": -1,
    "mode": 0o600,
    "context": "",
    "back_uid": os.geteuid(),
    "back_gid": os.getegid(),
}


def holds_of(items: Iterable[Item], steps: Iterable[Step], adopted: Container[str] = ()) -> tuple[Hold, ...]:
    """The claims on objects: one for each item that is the guest's or the realm's, one for each shared step.

    Args:
        items: of the guest.
        steps: what will be done for it.
        adopted: real paths of images that may come over from another realm.
    """
    holds: dict[str, Hold] = {}
    for item in items:
        resource = item.resource
        if item.platform or resource.kind in ("shared-device", "helper", "plugin", "sysfs", "tmpdir"):
            continue
        if resource.kind == "memory" and item.facts is not None and item.facts.type == "dir":
            continue
        if resource.kind == "peer-socket":
            continue
        exclusive = resource.sharing == "exclusive"
        if item.parent is not None:
            # Also of what is there already: it may be a log or a socket that a running guest has made since it claimed
            # the name, when there was no object yet.
            name = os.path.basename(item.facts.path if item.facts is not None else resource.path)
            key, path = f"n:{item.parent.key}/{name}", os.path.join(item.parent.path, name)
            holds[key] = Hold(key, path, exclusive or (key in holds and holds[key].exclusive), resource.access)
        if item.facts is None:
            continue
        key, path = item.facts.key, item.facts.path
        # Only a file handle names an object for good; an inode or device number is soon another object's.
        lasting = key.startswith("h:") and resource.kind in ("image", "backing") and resource.access == "rw"
        holds[key] = Hold(key, path, exclusive, resource.access, lasting, path in adopted)
    for step in steps:
        if step.scope and step.scope not in holds:
            holds[step.scope] = Hold(step.scope, step.path, False, "ro")
    return tuple(holds.values())


def _refuse_unknown(command: CommandLine, request: Request) -> None:
    if "*" in request.allow_unknown:
        return
    for unknown in command.unknown:
        if unknown.value not in request.allow_unknown and unknown.option not in request.allow_unknown:
            part = f": {unknown.value}" if unknown.value else ""
            raise ArgvError(
                f"{unknown.option} may name a host object that septum does not see{part}",
                target=unknown.option,
                rule=unknown.why,
                remedy=f"if it is harmless: --allow-unknown {unknown.value or unknown.option}",
            )


def _device_groups(items: Iterable[Item]) -> tuple[int, ...]:
    """Groups that open the shared devices, where the host has given such a device to a group of its own (kvm)."""
    return tuple(
        sorted(
            {
                item.facts.gid
                for item in items
                if item.resource.kind == "shared-device"
                and item.facts is not None
                and item.facts.gid != 0
                and item.facts.mode & _GROUP_RW == _GROUP_RW
                and item.facts.mode & 0o006 != 0o006
            }
        )
    )
