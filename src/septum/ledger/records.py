"""The rows of a ledger, as values."""

from __future__ import annotations

from septum.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

if TYPE_CHECKING:
    State = Literal[
        "admitted",  # it has its identity; nothing on the host has changed
        "starting",  # the journal is written; steps are being applied
        "running",  # confined; `pid` and `started` name the process
        "ending",  # gone, or never came up; its steps are being undone
        "stuck",  # an undo failed or met a foreign change: a person has to look
    ]
else:
    State = str


class Realm(NamedTuple):
    """An owner.

    Attributes:
        name: unique.
        categories: the realm's code, sorted.
        gid: group of all its guests, -1 where none could be allotted.
    """

    name: str
    categories: tuple[int, ...]
    gid: int


class Guest(NamedTuple):
    """One incarnation of a guest.

    Attributes:
        uuid: of the guest; together with `incarnation` it is never used again.
        incarnation: counts the starts of this uuid, from 1.
        name: unique in its realm while the guest is in the ledger.
        realm: its owner's name.
        state: see `State`.
        categories: realm code and guest code together, sorted.
        level: the same as the kernel prints it.
        uid: of its own, or -1.
        drivers: what enforces, strongest first.
        boot_id: of the boot in which it was started.
        pid: of QEMU; before `running` of the launcher, which becomes QEMU.
        started: start time of `pid` in clock ticks since boot (field 22 of /proc/PID/stat).
        since: seconds since the epoch.
        argv: of QEMU.
        details: what drivers and `explain` need later: the confinement, cgroup, notes; JSON.
    """

    uuid: str
    incarnation: int
    name: str
    realm: str
    state: State
    categories: tuple[int, ...]
    level: str
    uid: int
    drivers: tuple[str, ...]
    boot_id: str
    pid: int
    started: int
    since: float
    argv: tuple[str, ...]
    details: Mapping[str, Any]


class Bearer(NamedTuple):
    """Who bears a label, as far as a decision needs it.

    Attributes:
        uuid, incarnation, realm, name, level: of the guest.
    """

    uuid: str
    incarnation: int
    realm: str
    name: str
    level: str


class Hold(NamedTuple):
    """A guest's claim on an object.

    Attributes:
        key: of the object (`host.driver.Facts.key`), or any other name for what is held.
        path: for people.
        exclusive: nobody else may hold it; shared holders must be of one realm.
        access: `ro` or `rw`.
        lasting: from now on the object belongs to the guest's realm, also when the guest is gone.
        adopted: a person says that it may come over from another realm.
    """

    key: str
    path: str
    exclusive: bool
    access: str
    lasting: bool = False
    adopted: bool = False


class Entry(NamedTuple):
    """A step in the journal.

    Attributes:
        id: grows; undo runs from the highest down.
        owner: uuid of the guest, or the key of the shared object that the step belongs to.
        op, key, path, args: of the step.
        original: what was there before.
        outcome: "" while it is in force; else what the undo came to.
    """

    id: int
    owner: str
    op: str
    key: str
    path: str
    args: Mapping[str, Any]
    original: Mapping[str, Any]
    outcome: str


class Channel(NamedTuple):
    """A live channel: one direction, two ends. A row that is in the ledger is one, and there is none beside them.

    Attributes:
        id: also its generation: from 1, and never used again in this ledger.
        link: that it belongs to, a random name; the two directions of a duplex one have it in common.
        service: ``realm/name`` of what is reached.
        way: ``to-service`` or ``from-service``.
        source, source_incarnation, source_realm: the guest that reaches the service, by uuid; "" and 0 for a process of
            the platform's.
        target, target_incarnation, target_realm: the one that offers it.
        kind: ``messages`` or ``bytes``.
        size: bytes of the ring.
        label: whole context of its memory.
        seqno: of the policy under which it was decided.
        carrier: that brings it to its ends.
        state: ``granted`` until both ends have joined, ``active``, then perhaps ``draining``.
    """

    id: int
    link: str
    service: str
    way: str
    source: str
    source_incarnation: int
    source_realm: str
    target: str
    target_incarnation: int
    target_realm: str
    kind: str
    size: int
    label: str
    seqno: int
    carrier: str
    state: str


class AuditRecord(NamedTuple):
    """One link of the audit chain.

    Attributes:
        seq: from 1, without gaps.
        time: seconds since the epoch.
        event: what happened, `guest.start`.
        fields: JSON.
        previous: hash of the record before, 64 hex digits; zeros for the first.
        digest: BLAKE2b-256 over seq, time, event, fields and previous.
    """

    seq: int
    time: float
    event: str
    fields: Mapping[str, Any]
    previous: str
    digest: str
