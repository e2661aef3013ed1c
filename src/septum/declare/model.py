"""What a platform declares, as values. Sizes are in bytes, rates in units a second."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

__all__ = [
    "ANY",
    "DIRECTIONS",
    "NETWORKS",
    "PLATFORM",
    "Declaration",
    "Denial",
    "Device",
    "Direction",
    "Door",
    "End",
    "Image",
    "Kind",
    "Limits",
    "Offer",
    "Quota",
    "Realm",
    "Role",
    "Service",
    "State",
    "Use",
    "Where",
]

PLATFORM: Final = "platform"
"""Stands where a realm's name does, for what belongs to no realm: driver domains and their services."""
ANY: Final = "*"

Kind = Literal["message", "stream"]
Direction = Literal["to-service", "from-service", "both"]
"""Which way data goes through a door, by whoever uses it."""
DIRECTIONS: Final[tuple[Direction, ...]] = ("to-service", "from-service", "both")
State = Literal["open", "pending", "denied"]
"""``pending``: declared by one side only, or the two halves don't meet. ``denied``: by the platform."""
NETWORKS: Final = (
    "user", "tap", "bridge", "vhost-user", "vhost-vdpa", "socket", "stream", "dgram", "l2tpv3", "vde",
)  # fmt: skip
"""Kinds of network, by the names of QEMU's ``-netdev`` (NetClientDriver in qapi/net.json)."""


class Where(NamedTuple):
    """A place in a file; line and column from 1, in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class End(NamedTuple):
    """A side of a door.

    Attributes:
        realm: its name, `PLATFORM`, or in a `Denial` `ANY`.
        name: of a role or a service in it; "" for all of them.
    """

    realm: str
    name: str

    def __str__(self) -> str:
        return f"{self.realm}/{self.name}" if self.name else self.realm


class Quota(NamedTuple):
    """The most that a realm may have.

    Attributes:
        guests: running at a time.
        memory, disk: of all its guests and images together.
        channels: that its guests open at a time.
        calls: of the API, a second.
        events: that wait to be fetched.
        where: it is declared.
    """

    guests: int
    memory: int
    disk: int
    channels: int
    calls: int
    events: int
    where: Where


class Realm(NamedTuple):
    """An owner.

    Attributes:
        name: unique.
        quota: set by the platform.
        file: where the realm's part is, "" if in the platform's own file.
        images: folder that its shared images lie in, "" if it may have none.
        where: it is declared.
    """

    name: str
    quota: Quota
    file: str
    images: str
    where: Where


class Role(NamedTuple):
    """What guests of one kind are, in one realm.

    Attributes:
        realm, name: together unique.
        guests: of this role, at a time, at most.
        memory, disk, vcpus: of each guest, at most.
        images: names of the realm's shared images that they read.
        devices: names of devices that are handed to them.
        networks: kinds of network that they may have, see `NETWORKS`.
        orchestrator: the guest of this role acts for its realm.
        where: it is declared.
    """

    realm: str
    name: str
    guests: int
    memory: int
    disk: int
    vcpus: int
    images: tuple[str, ...]
    devices: tuple[str, ...]
    networks: tuple[str, ...]
    orchestrator: bool
    where: Where


class Image(NamedTuple):
    """Content that guests of one realm share, and only read.

    Attributes:
        realm, name: together unique.
        path: absolute.
        size: at most.
        where: it is declared.
    """

    realm: str
    name: str
    path: str
    size: int
    where: Where


class Device(NamedTuple):
    """A device of the host.

    Attributes:
        name: unique.
        bus: ``pci``, ``usb`` or ``path``.
        address: on that bus, or the path of a node.
        owner: the realm, or the role in it, whose guests may have it.
        where: it is declared.
    """

    name: str
    bus: str
    address: str
    owner: End
    where: Where


class Service(NamedTuple):
    """What guests of a role offer to others.

    Attributes:
        realm, name: together unique.
        role: of the guests that offer it.
        kind: whole messages, or a stream of bytes.
        where: it is declared.
    """

    realm: str
    name: str
    role: str
    kind: Kind
    where: Where


class Limits(NamedTuple):
    """What goes through a door at most; each half names its own, and the lesser holds.

    Attributes:
        message: bytes of a message; of a stream, of one write.
        rate: messages, or writes, a second.
        bandwidth: bytes a second.
        channels: at a time, from all guests of the using role together.
    """

    message: int
    rate: int
    bandwidth: int
    channels: int


class Offer(NamedTuple):
    """The half of a door that the serving realm declares.

    Attributes:
        service: realm and name of the service.
        to: the realm, or the role in it, that may use it.
        direction: that it allows.
        limits: that it sets.
        where: it is declared.
    """

    service: End
    to: End
    direction: Direction
    limits: Limits
    where: Where


class Use(NamedTuple):
    """The half of a door that the using realm declares; see `Offer`."""

    role: End
    service: End
    direction: Direction
    limits: Limits
    where: Where


class Denial(NamedTuple):
    """What the platform forbids, whatever realms agree upon.

    Attributes:
        role: the using side; its realm may be `ANY`.
        service: the serving side, likewise.
        where: it is declared.
    """

    role: End
    service: End
    where: Where


class Door(NamedTuple):
    """A directed permission for guests of a role to reach a service.

    Attributes:
        role: who uses it; without a name where only an offer to a whole realm is there.
        service: what is used.
        direction: that both halves allow.
        limits: the lesser of both halves'.
        state: see `State`.
        reason: why it is not open, "" if it is.
        where: the using half, or else the offering one.
    """

    role: End
    service: End
    direction: Direction
    limits: Limits
    state: State
    reason: str
    where: Where

    @property
    def across(self) -> bool:
        """Whether it leads from one realm to another."""
        return self.role.realm != self.service.realm


class Declaration(NamedTuple):
    """All of it, checked.

    Attributes:
        realms, devices: by name.
        roles, services, images: by realm and name; those of the platform under `PLATFORM`.
        offers, uses, denials: as they stand in the files.
        doors: that come of them, in a fixed order.
    """

    realms: Mapping[str, Realm]
    roles: Mapping[End, Role]
    services: Mapping[End, Service]
    images: Mapping[End, Image]
    devices: Mapping[str, Device]
    offers: tuple[Offer, ...]
    uses: tuple[Use, ...]
    denials: tuple[Denial, ...]
    doors: tuple[Door, ...]
