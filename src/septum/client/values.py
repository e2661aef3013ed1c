"""What the API answers, as values. Members that this version does not know are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

__all__ = ["Device", "Door", "Event", "Evidence", "Guest", "Image", "Me", "Operation", "Realm", "Snapshot", "value"]


class Me(NamedTuple):
    """Who the caller is.

    Attributes:
        realm: that it acts for, "" for the platform.
        context: that decisions are taken about.
    """

    realm: str
    context: str


class Realm(NamedTuple):
    """A realm.

    Attributes:
        version: for changes.
        level: its code.
        quota, used: by name.
        delegates: uids of the host that act for it.
        enrolled: its orchestrator has made itself known.
        enrolment_key: only in the answer to the call that made it.
        platform_key: that evidence is signed by.
    """

    name: str
    version: int
    level: str
    quota: Mapping[str, int]
    used: Mapping[str, int]
    delegates: list[int]
    enrolled: bool
    enrolment_key: str = ""
    platform_key: str = ""


class Guest(NamedTuple):
    """A guest.

    Attributes:
        version: for changes.
        state: ``stopped``, ``starting``, ``running``, ``paused``, ``ending``, ``stuck``.
        level, pid: of its emulator.
        config: what it is made of.
        attached: images that were attached while it ran.
    """

    name: str
    realm: str
    uuid: str
    version: int
    state: str
    level: str
    pid: int
    incarnation: int
    config: Mapping[str, Any]
    attached: list[str]


class Image(NamedTuple):
    """An image.

    Attributes:
        version: for changes.
        size: bytes.
        ready: its content is there.
    """

    name: str
    realm: str
    version: int
    size: int
    ready: bool


class Device(NamedTuple):
    """A block device of the host that a realm has.

    Attributes:
        number: major and minor of its node.
        guest: that has it now, "" for none.
    """

    name: str
    realm: str
    version: int
    number: str
    guest: str


class Door(NamedTuple):
    """A declared way that begins or ends in a realm.

    Attributes:
        role, service: both ends, as REALM/NAME.
        direction: of the data.
        state: ``open``, ``pending`` or ``denied``.
        reason: why it is not open.
    """

    role: str
    service: str
    direction: str
    state: str
    reason: str


class Snapshot(NamedTuple):
    """Copies of a guest's disks at one moment.

    Attributes:
        images: that were copied.
        size: bytes of all of them.
    """

    name: str
    guest: str
    realm: str
    version: int
    images: list[str]
    size: int
    ready: bool


class Operation(NamedTuple):
    """A verb that takes its time.

    Attributes:
        state: ``accepted``, ``running``, ``done``, ``failed``.
        step: what was begun last.
        failure: why it failed.
    """

    id: str
    realm: str
    verb: str
    target: str
    state: str
    step: str
    created: float
    version: int
    failure: Mapping[str, str] | None = None


class Event(NamedTuple):
    """Something that happened in a realm.

    Attributes:
        seq: number, to go on from.
        time: seconds since the epoch.
        kind: ``guest.start.done``, …; ``lost`` where some were missed.
        fields: by name.
    """

    seq: int
    time: float
    kind: str
    fields: Mapping[str, Any]


class Evidence(NamedTuple):
    """A statement of the platform.

    Attributes:
        statement: JSON text.
        key, signature: base64.
    """

    statement: str
    key: str
    signature: str


V = TypeVar("V", Me, Realm, Guest, Image, Device, Door, Snapshot, Operation, Evidence)


def value(kind: type[V], answer: Mapping[str, Any]) -> V:
    """An answer's members as a value."""
    made: V = kind(**{name: answer[name] for name in kind._fields if name in answer})
    return made
