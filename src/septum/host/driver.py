"""The seam between septum and what enforces: the Protocol of a driver, and the data that crosses it.

A driver never decides *whether*; it turns a guest's `Confinement` into reversible `Step`s on objects, done before the
guest runs and undone after it, and into irrevocable `Entry` actions on the process that is about to become QEMU.
"""

from __future__ import annotations

from septum.guests.resource import Resource
from septum.labels import CategorySet
from septum.lean import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal

if TYPE_CHECKING:
    Outcome = Literal[
        "restored",  # it was as septum had left it, and is now as it was before
        "untouched",  # it was still, or again, as before
        "foreign",  # somebody else changed it meanwhile: left alone, reported
        "gone",  # the object is no more
    ]
else:
    Outcome = str


class Facts(NamedTuple):
    """What the host says of one object, read through a descriptor.

    Attributes:
        key: names the object itself and not its path: file handle and generation where the file system has them.
        path: the real path that led to it, free of symlinks.
        type: `file`, `dir`, `block`, `char`, `socket` or `fifo`.
        dev: st_dev.
        ino: st_ino.
        nlink: hard links.
        uid: owner.
        gid: group.
        mode: permission bits, 12 of them.
        acl: the raw ``system.posix_acl_access`` in hex, or "".
        context: SELinux context, or "" where there is none.
    """

    key: str
    path: str
    type: str
    dev: int
    ino: int
    nlink: int
    uid: int
    gid: int
    mode: int
    acl: str
    context: str


class Item(NamedTuple):
    """A resource and what was found at its path; `facts` is None if nothing is there (or nothing was looked at).

    Attributes:
        resource: as the command line names it.
        facts: of the object itself.
        parent: of the directory that holds it, or None if that is missing too.
        search: directories on the way that the guest's uid may not search, outermost first.
        platform: content of the platform (QEMU's own firmware and libraries): never changed, only allowed.
    """

    resource: Resource
    facts: Facts | None
    parent: Facts | None = None
    search: tuple[Facts, ...] = ()
    platform: bool = False


class Confinement(NamedTuple):
    """One guest, as far as drivers are concerned.

    Attributes:
        uuid: of the guest.
        name: of the guest.
        realm: its owner.
        level: MLS level with realm and guest code, ``s0:c3,c300,c700``.
        realm_level: level with the realm code alone.
        uid: of the guest's own; -1 where the process keeps its caller's.
        gid: likewise.
        realm_gid: group of all guests of the realm; -1 if there is none.
        groups: further groups that open shared devices.
        binary: real path of QEMU.
        items: its resources.
        network: it keeps the host's network.
        connects: it may open connections.
        executes: it may run other programs.
        daemonize: it leaves its caller.
        memlock: it locks memory.
        run_dir: a folder of the guest's own, or "".
        types: name of the set of SELinux types that it was started with, or "" (`host.selinux_types`).
    """

    uuid: str
    name: str
    realm: str
    level: str
    realm_level: str
    uid: int
    gid: int
    realm_gid: int
    groups: tuple[int, ...]
    binary: str
    items: tuple[Item, ...]
    network: bool
    connects: bool
    executes: bool
    daemonize: bool
    memlock: bool
    run_dir: str
    types: str = ""


class Step(NamedTuple):
    """One reversible change of the host, as data: it can be journaled, shown, applied and undone by another process.

    Attributes:
        op: names the operation, ``own`` or ``context``.
        key: `Facts.key` of the object, or "" for what isn't a file system object or does not exist yet.
        path: where it was found.
        scope: "" if it belongs to the guest, else the key of the shared hold it belongs to.
        args: what to set; JSON.
    """

    op: str
    key: str
    path: str
    scope: str
    args: Mapping[str, Any]


class Operation(Protocol):
    """How one kind of step is done. Stateless: everything is in the step and the captured original."""

    def describe(self, step: Step) -> str:
        """One line for people."""

    def capture(self, step: Step) -> Mapping[str, Any]:
        """The original state, as JSON. Changes nothing.

        Raises:
            HostError: the object can't be read, or is not the one of the step any more.
        """

    def apply(self, step: Step, original: Mapping[str, Any]) -> None:
        """Set it, read it back and compare.

        Raises:
            HostError: the kernel refused, or what was read back differs.
        """

    def undo(self, step: Step, original: Mapping[str, Any]) -> Outcome:
        """Put the original back and verify. Doing it twice, or where nothing was applied, does no harm.

        Raises:
            HostError: the kernel refused; the step stays in the journal.
        """


class Entry(NamedTuple):
    """One irrevocable action on the process that becomes QEMU.

    Attributes:
        phase: order among all drivers: 10 cgroup, 20 namespaces, 30 open what later phases write to, 40 Landlock,
            50 uid and gid, 60 seccomp, 70 exec context.
        what: one line for people.
        act: does it; raises HostError.
    """

    phase: int
    what: str
    act: Callable[[], None]


class Availability(NamedTuple):
    """Whether a driver works here.

    Attributes:
        works: it can be used.
        reason: why not, or "".
        details: facts for `doctor`: versions, modes.
        weaker: what it can't do here that it can elsewhere; one sentence each.
    """

    works: bool
    reason: str
    details: Mapping[str, str]
    weaker: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """One mechanism's word on one access.

    Attributes:
        mechanism: `selinux`, `landlock`, `dac`…
        allowed: None if it can't be told.
        rule: the rule, label or mode that decided.
    """

    mechanism: str
    allowed: bool | None
    rule: str


class Driver(Protocol):
    """One way of enforcing. Drivers stack: each must hold by itself, and must not undo what another did."""

    name: str

    def probe(self) -> Availability:
        """Whether it works on this host, for this process. Changes nothing."""

    def operations(self) -> Mapping[str, Operation]:
        """The kinds of steps it knows, by `Step.op`."""

    def steps(self, guest: Confinement) -> list[Step]:
        """What has to change on the host for this guest. Pure: the facts are in the confinement."""

    def foreign(self) -> list[CategorySet]:
        """Category sets of guests and containers on this host that no ledger of ours knows."""

    def entries(self, guest: Confinement) -> list[Entry]:
        """What the process does to itself before exec."""

    def explain(self, guest: Confinement, facts: Facts, access: str) -> Verdict:
        """Whether the guest's process may read (`ro`) or write (`rw`) the object."""
