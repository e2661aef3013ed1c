"""What the API takes and gives, and what the ledger keeps as documents: typed, immutable, without behaviour.

The OpenAPI description is made from these types, so a bound that stands here is a bound of the API.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

__all__ = [
    "Attachment",
    "Clone",
    "Delegates",
    "DeviceView",
    "Disk",
    "DoorView",
    "Enrolment",
    "Evidence",
    "Failure",
    "GuestConfig",
    "GuestView",
    "ImageView",
    "Me",
    "Name",
    "NewDevice",
    "NewGuest",
    "NewImage",
    "NewRealm",
    "NewSnapshot",
    "OperationView",
    "Output",
    "QuotaBody",
    "RealmView",
    "SnapshotView",
    "Stop",
]

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._\-]{0,62}$", max_length=63)]
"""Of a guest, image or realm: safe in paths, on command lines and on terminals."""

_NameOrNone = Annotated[str, Meta(pattern=r"^([A-Za-z0-9_][A-Za-z0-9._\-]{0,62})?$", max_length=63)]
_Line = Annotated[str, Meta(max_length=1024, pattern=r"^[\x20-\x7e]*$")]
_Number = Annotated[int, Meta(ge=0, le=2**53)]
_Text = Annotated[str, Meta(max_length=256)]

MIB = 1 << 20


class _Body(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller sends: a field that is not known is a mistake, not a wish."""


class QuotaBody(_Body, frozen=True):
    """The most that a realm may have.

    Attributes:
        guests: started at a time.
        memory: bytes, of all guests that are started.
        disk: bytes, of all its images and snapshots.
        channels: open at a time.
        calls: of the API, a second.
        events: that wait to be fetched.
    """

    guests: _Number = 64
    memory: _Number = 64 << 30
    disk: _Number = 1 << 40
    channels: _Number = 256
    calls: Annotated[int, Meta(ge=1, le=1 << 20)] = 200
    events: Annotated[int, Meta(ge=1, le=1 << 20)] = 10_000


class NewRealm(_Body, frozen=True):
    """A realm to be made."""

    name: Name
    quota: QuotaBody = QuotaBody()


class Delegates(_Body, frozen=True):
    """Users of the host who act for a realm, by uid, on the realm's socket."""

    uids: Annotated[list[Annotated[int, Meta(ge=1, le=2**32 - 2)]], Meta(max_length=64)] = []


class Disk(_Body, frozen=True):
    """An image in a guest."""

    image: Name
    read_only: bool = False


class GuestConfig(_Body, frozen=True):
    """What a guest is made of. It names only what belongs to its realm.

    Attributes:
        machine: QEMU's.
        memory: MiB.
        vcpus: number.
        kernel, initrd: images that are booted; "" for none.
        append: kernel command line.
        disks: in the order in which the guest sees them.
        devices: of the realm's, each for this guest alone; the guest sees them behind its disks.
        paused: it starts with its processors stopped.
        orchestrator: it acts for its realm, and gets the API on a port of its own.
        role: as it was declared, which doors are for; "" for none.
    """

    machine: Literal["q35", "pc", "microvm", "none"] = "q35"
    memory: Annotated[int, Meta(ge=1, le=16 << 20)] = 128
    vcpus: Annotated[int, Meta(ge=1, le=256)] = 1
    kernel: _NameOrNone = ""
    initrd: _NameOrNone = ""
    append: _Line = ""
    disks: Annotated[list[Disk], Meta(max_length=16)] = []
    devices: Annotated[list[Name], Meta(max_length=16)] = []
    paused: bool = False
    orchestrator: bool = False
    role: _NameOrNone = ""


class NewGuest(_Body, frozen=True):
    """A guest to be defined."""

    name: Name
    config: GuestConfig = GuestConfig()


class NewImage(_Body, frozen=True):
    """An image to be made.

    Attributes:
        size: bytes of an empty one.
        path: a file of the host to copy instead. Only the platform may name one.
    """

    name: Name
    size: _Number = 0
    path: _Line = ""


class NewDevice(_Body, frozen=True):
    """A device of the host that a realm gets.

    Attributes:
        path: of its block device node.
    """

    name: Name
    path: Annotated[str, Meta(max_length=1024, pattern=r"^/dev/[\x20-\x7e]*$")]


class Clone(_Body, frozen=True):
    """A copy to be made, under this name."""

    name: Name


class NewSnapshot(_Body, frozen=True):
    """Copies of all disks of a guest, under this name."""

    name: Name


class Attachment(_Body, frozen=True):
    """An image to attach to a guest that runs, or to take from it."""

    image: Name
    read_only: bool = False


class Stop(_Body, frozen=True):
    """How to stop a guest.

    Attributes:
        force: do not ask the guest.
        seconds: how long to wait for it otherwise, before it is forced.
    """

    force: bool = False
    seconds: Annotated[int, Meta(ge=0, le=600)] = 10


class Enrolment(_Body, frozen=True):
    """An orchestrator makes itself known, once.

    Attributes:
        key: that the platform got when it made the realm.
        public_key: the orchestrator's own, Ed25519, base64.
    """

    key: Annotated[str, Meta(max_length=128)]
    public_key: Annotated[str, Meta(max_length=128)]


class Me(Struct, frozen=True, kw_only=True):
    """Who the caller is, as the socket and the kernel say.

    Attributes:
        realm: that it acts for, "" for the platform.
        context: that decisions are taken about.
    """

    realm: str
    context: str


class RealmView(Struct, frozen=True, kw_only=True):
    """A realm.

    Attributes:
        level: its code, as the kernel prints it.
        used: of its quota.
        enrolled: its orchestrator has made itself known.
        enrolment_key: one that works once; only in the answer to the call that made the realm.
        platform_key: that evidence is signed by, Ed25519, base64.
    """

    name: str
    version: int
    level: str
    quota: QuotaBody
    used: dict[str, int]
    delegates: list[int]
    enrolled: bool
    enrolment_key: str = ""
    platform_key: str = ""


class GuestView(Struct, frozen=True, kw_only=True):
    """A guest.

    Attributes:
        state: ``stopped``, ``starting``, ``running``, ``paused``, ``ending``, or ``stuck``: something could not be put
            back, and the platform has to look.
        level, pid: of its emulator, "" and 0 when there is none.
        attached: images beside those of its configuration, until it stops.
    """

    name: str
    realm: str
    uuid: str
    version: int
    state: str
    level: str
    pid: int
    incarnation: int
    config: GuestConfig
    attached: list[str]


class DeviceView(Struct, frozen=True, kw_only=True):
    """A device of the host that a realm has.

    Attributes:
        number: major and minor of its node.
        guest: that has it now, "" for none.
    """

    name: str
    realm: str
    version: int
    number: str
    guest: str


class ImageView(Struct, frozen=True, kw_only=True):
    """An image.

    Attributes:
        size: bytes.
        ready: its content is there.
    """

    name: str
    realm: str
    version: int
    size: int
    ready: bool


class SnapshotView(Struct, frozen=True, kw_only=True):
    """Copies of a guest's disks at one moment.

    Attributes:
        images: copied, in the order of the guest's disks.
        size: bytes of all of them.
    """

    name: str
    guest: str
    realm: str
    version: int
    images: list[str]
    size: int
    ready: bool


class Evidence(Struct, frozen=True, kw_only=True):
    """A statement, and who makes it.

    Attributes:
        statement: JSON text: what is signed is these bytes.
        key: the platform's public key, Ed25519, base64.
        signature: over the statement, base64.
    """

    statement: str
    key: str
    signature: str


class Failure(Struct, frozen=True, kw_only=True):
    """Why an operation failed; the parts of `septum.errors.SeptumError`."""

    error: str
    what: str
    object: str = ""
    holder: str = ""
    rule: str = ""
    remedy: str = ""


class OperationView(Struct, frozen=True, kw_only=True):
    """A verb that takes its time.

    Attributes:
        verb: ``guest.start``, ….
        target: name of the object.
        state: where it is; ``done`` and ``failed`` are final.
        step: what was begun last.
        created: seconds since the epoch.
    """

    id: str
    realm: str
    verb: str
    target: str
    state: Literal["accepted", "running", "done", "failed"]
    step: str
    created: float
    version: int
    failure: Failure | None = None


class Output(Struct, frozen=True, kw_only=True):
    """What a guest has printed on its console since it was read last, at most 64 KiB."""

    text: str


class DoorView(Struct, frozen=True, kw_only=True):
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
