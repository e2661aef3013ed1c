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


class Life(NamedTuple):
    """A guest as a list shows it: what is asked of a thousand at a time, without what takes long to read.

    Attributes:
        uuid, state, incarnation, level, pid: of the guest.
    """

    uuid: str
    state: State
    incarnation: int
    level: str
    pid: int


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


class Document(NamedTuple):
    """A row that outlives a guest's run: its definition, an image, an operation, a realm's settings.

    Attributes:
        kind: ``guest``, ``image``, …
        realm: its owner's name, "" for the platform's.
        id: unique among the documents of its kind and realm.
        version: another one after each change, never used again in this ledger.
        body: JSON.
    """

    kind: str
    realm: str
    id: str
    version: int
    body: Mapping[str, Any]


class Put(NamedTuple):
    """A change of one document, made only if it is still what the caller has seen.

    Attributes:
        kind, realm, id: of the document.
        expected: version that it must have, 0 if there must be none.
        body: what it becomes; None removes it with its claims.
        claims: (kind, key) that it has from now on, in place of those before; nobody else may have them.
    """

    kind: str
    realm: str
    id: str
    expected: int
    body: Mapping[str, Any] | None
    claims: tuple[tuple[str, str], ...] = ()


class Spend(NamedTuple):
    """What a change adds to what a realm has used up.

    Attributes:
        realm: whose.
        what: name of the sum.
        amount: to add; negative gives back.
        most: what the sum may be afterwards. Giving back is never refused.
    """

    realm: str
    what: str
    amount: int
    most: int


class Happening(NamedTuple):
    """Something that those who follow a realm's events are to be told.

    Attributes:
        realm: whose, "" for the platform's.
        kind: ``guest.started``, ….
        fields: JSON.
        keep: how many of this realm's events remain afterwards; older ones are removed.
    """

    realm: str
    kind: str
    fields: Mapping[str, Any]
    keep: int


class Event(NamedTuple):
    """A happening as it is kept.

    Attributes:
        realm: whose.
        seq: from 1 in each realm; removed ones leave no gap behind the oldest that is there.
        time: seconds since the epoch.
        kind, fields: of the happening.
    """

    realm: str
    seq: int
    time: float
    kind: str
    fields: Mapping[str, Any]


class Commit(NamedTuple):
    """What `Ledger.commit` does all at once, or not at all.

    Attributes:
        puts: changes of documents.
        unchanged: documents that must be as the caller has read them, though they are not changed.
        realm: a realm to enter, as `Ledger.add_realm` does.
        drop: a realm to take out: it has no guests and no documents any more, and its code and gid become free.
        spends: sums to move.
        happenings: events to keep.
        audit: (event, fields) for the audit chain.
    """

    puts: tuple[Put, ...] = ()
    unchanged: tuple[Document, ...] = ()
    realm: Realm | None = None
    drop: str = ""
    spends: tuple[Spend, ...] = ()
    happenings: tuple[Happening, ...] = ()
    audit: tuple[tuple[str, Mapping[str, Any]], ...] = ()
